"""dbt in this process. One `Dbt` at a time: two runners in one process break each other."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from smoll.errors import Interrupted, StateError, TransformError, UsageError, disk_hint
from smoll.events import CheckFinished, Event, Listener, NodeFinished, NodeStarted
from smoll.model import CheckResult, NodeResult
from smoll.state.layout import write_atomically
from smoll.transform.declared import OwnCheck
from smoll.transform.docs import docs_manifest
from smoll.transform.graph import Graph, GraphNode, manifest_hash, read_declared, read_manifest
from smoll.transform.personal import without_values
from smoll.transform.profile import TARGET, Profile

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult

_QUIET = (
    "--no-send-anonymous-usage-stats",
    "--no-version-check",
    "--no-use-colors",
    "--no-use-colors-file",
    "--quiet",
    "--no-print",
    "--log-level=none",
    "--log-level-file=none",
)
_CANCEL_SECONDS = 0.2
_MARK = "_smoll_chosen"
HOOK = "operation"
"""dbt's resource type of a hook."""
_PASSED = {"pass": "pass", "success": "pass", "warn": "warn", "fail": "fail", "error": "error"}


@dataclass(frozen=True)
class Dbt:
    """A parsed dbt project: its graph, and what can be asked of it.

    ``session`` is SQL that gives a connection the settings and extensions under which dbt works. ``declared`` is what
    stands in ``meta`` for smoll, as `read_declared` gives it; ``own`` are all of them by id, which
    dbt knows nothing of.
    """

    graph: Graph
    session: tuple[str, ...]
    _manifest: Any
    _call: _Call
    _has_selectors: bool
    _target: Path
    declared: tuple[tuple[str, str, Any], ...] = ()
    own: Mapping[str, OwnCheck] = field(default_factory=dict)

    def with_checks(self, checks: Sequence[OwnCheck]) -> Dbt:
        """The project with these checks of smoll's own in its graph."""
        nodes = {**self.graph.nodes, **{check.node.id: check.node for check in checks}}
        graph = replace(self.graph, nodes=nodes)
        return replace(self, graph=graph, own={check.node.id: check for check in checks})

    def everything(self) -> frozenset[str]:
        """What dbt takes without a selection: all, or what a default selector in ``selectors.yml`` names."""
        return self.select("") if self._has_selectors else frozenset(self.graph.nodes)

    def select(self, select: str, exclude: str = "") -> frozenset[str]:
        """The ids that a selection in dbt's syntax names: models, seeds, snapshots, tests and sources.

        A check of smoll's own is named where a table that it looks at is, as dbt has it with tests; one that names no
        table may look at any.

        Raises
        ------
        UsageError
            dbt does not understand the selection.
        """
        command = ["ls", "--output=json", "--output-keys=unique_id", *_selection(select, exclude)]
        result = self._call(command, self._manifest)
        if not result.success:
            raise UsageError(f"dbt does not understand the selection: {_plain(str(result.exception))}")
        named = frozenset(json.loads(line)["unique_id"] for line in result.result or ())
        parents = {id: set(check.node.parents) for id, check in self.own.items()}
        return named | {id for id, above in parents.items() if named and (not above or above & named)}

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the environment that the project has read while it was parsed."""
        return tuple(sorted(self._manifest.env_vars))

    @property
    def hash(self) -> str:
        """A SHA-256 of what the project says: the same however often it is parsed, and wherever it lies."""
        return manifest_hash(self._manifest)

    def compiled(self, id: str) -> str:
        """The SQL of a model, snapshot or test as it was built or run last, be it by another process; "" without."""
        node = self._manifest.nodes.get(id)
        if node is None:
            return ""
        if getattr(node, "compiled_code", None):
            return str(node.compiled_code)
        written = self._target / "compiled" / node.package_name / node.original_file_path
        with contextlib.suppress(OSError, ValueError):
            return written.read_text(encoding="utf-8") if written.suffix == ".sql" else ""
        return ""

    def docs(self) -> dict[str, Any]:
        """The manifest as dbt's documentation page reads it."""
        return docs_manifest(self._manifest)

    def raw(self, id: str) -> str:
        """The code of a model, snapshot or test as it is written; "" without."""
        return str(getattr(self._manifest.nodes.get(id), "raw_code", None) or "")

    def build(
        self,
        select: str,
        exclude: str,
        full_refresh: bool,
        interrupted: threading.Event,
        emit: Listener,
        ids: Set[str] | None = None,
    ) -> tuple[tuple[NodeResult, ...], tuple[CheckResult, ...]]:
        """Build the selected models, seeds and snapshots and run their tests, as ``dbt build`` does.

        Parameters
        ----------
        ids
            Exactly these nodes and tests, instead of a selection.
        interrupted
            Once it is set, every query is cancelled.

        Raises
        ------
        TransformError
            dbt itself failed. A model, test or hook that fails is a result, not an error.
        Interrupted
            dbt was asked to stop; what it had built stays.
        """
        chosen = _selection(select, exclude) if ids is None else [f"--select=tag:{_MARK}", "--indirect-selection=empty"]
        personal = bool(self.graph.personal(self.graph.nodes))
        command = ["build", *chosen, *(["--full-refresh"] if full_refresh else [])]
        command += ["--no-write-json"] if personal else []  # run_results.json holds errors as the engine says them
        try:
            with (
                _marked(self._manifest, ids or ()),
                _cancelling(interrupted),
                _prints_to(self._call.log) as stdout,
            ):
                translator = _Translator(self.graph, emit, stdout)
                result = self._call(command, self._manifest, translator, quiet=personal)
        finally:
            _close_connections()
        if result.result is None:
            raise _failure("dbt could not build the project", result.exception)
        return _results(self.graph, result.result.results, translator.seconds)


@contextlib.contextmanager
def _marked(manifest: Any, ids: Collection[str]) -> Iterator[None]:
    """Give nodes a tag for a while: no selection of dbt's names single ones, as names and paths have others below."""
    nodes = [manifest.nodes[id] for id in ids if id in manifest.nodes]
    tests = [manifest.unit_tests[id].config for id in ids if id in manifest.unit_tests]
    before = [(one, one.tags) for one in (*nodes, *tests)]
    for one, tags in before:
        one.tags = [*([tags] if isinstance(tags, str) else tags), _MARK]
    try:
        yield
    finally:
        for one, tags in before:
            one.tags = tags


def open_dbt(
    folder: Path, work: Path, profile: Profile, environment: Mapping[str, str], log: Callable[[str], None]
) -> Dbt:
    """Parse the dbt project in `folder`.

    Parameters
    ----------
    work
        Folder for the generated profile and dbt's target.
    environment
        Variables for ``env_var()``, beside this process's own, which win.
    log
        Takes dbt's log, line by line.

    Raises
    ------
    TransformError
        The project cannot be parsed, or its packages are not installed. The message is dbt's.
    """
    _write_profile(work, profile)
    arguments = (
        f"--project-dir={folder}",
        f"--profiles-dir={work}",
        f"--target={TARGET}",
        f"--target-path={work / 'target'}",
        f"--log-path={work}",
        *_QUIET,
    )
    call = _Call(arguments, environment, log)
    with _without_garbage_collection():
        result = call(["parse", "--no-write-json"])  # the build writes what dbt has for others; smoll reads none of it
    if not result.success or result.result is None:
        raise _failure("dbt cannot parse the project", result.exception)
    if "'" in str(folder):
        _load_seeds_without_path(result.result)
    has_selectors = (folder / "selectors.yml").is_file()
    found = read_declared(result.result)
    return Dbt(
        read_manifest(result.result), profile.session, result.result, call, has_selectors, work / "target", found
    )


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Let dbt be imported and parse without it: what both make stays, and to search it costs a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        _freeze_once()
        if enabled:
            gc.enable()


@cache
def _freeze_once() -> None:
    """Spare the collector what is there. Once: a second freeze would keep the first project for ever."""
    gc.freeze()


def _load_seeds_without_path(manifest: Any) -> None:
    """Let dbt-duckdb bind a seed's rows; its fast way (1.11) writes the path into SQL and forgets to quote it."""
    for node in manifest.nodes.values():
        if node.resource_type == "seed":
            node.config["fast"] = False


def _write_profile(work: Path, profile: Profile) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
        write_atomically(work / "profiles.yml", json.dumps(profile.content, indent=2) + "\n")
    except OSError as error:
        raise StateError(f"Cannot write to {work}: {error.strerror}.", hint=disk_hint(error)) from error


def _selection(select: str, exclude: str) -> list[str]:
    """One option each, with ``=``, so that no selection is taken for an option of dbt's."""
    return [f"--{name}={text}" for name, text in (("select", select), ("exclude", exclude)) if text.strip()]


@dataclass(frozen=True)
class _Call:
    """Runs a dbt command with what all commands of this project share."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Callable[[str], None]

    def __call__(
        self,
        command: Sequence[str],
        manifest: Any = None,
        listener: Callable[[Any], None] | None = None,
        *,
        quiet: bool = False,
    ) -> dbtRunnerResult:
        """Run it. With `quiet`, errors are not logged as dbt says them: they may quote personal values."""
        from dbt.cli.main import dbtRunner

        def on_event(event: Any) -> None:
            if event.info.level != "debug":
                said = event.info.name if quiet and event.info.level == "error" else event.info.msg
                self.log(f"{event.info.level}: {said}")
            if listener:
                listener(event)

        with _environment(self.environment):
            result = dbtRunner(manifest=manifest, callbacks=[on_event]).invoke([*command, *self.arguments])
        if isinstance(result.exception, KeyboardInterrupt):
            raise Interrupted("dbt was interrupted.")
        return result


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Add variables to this process's environment for a while; those that it has win.

    They must not stay: the next project of this process has others.
    """
    added = {"DO_NOT_TRACK": "1", **variables}
    added = {name: value for name, value in added.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _prints_to(log: Callable[[str], None]) -> Iterator[TextIO]:
    """Send what Python models print to the log, as stdout is for data. Gives the stdout that was there before."""
    buffer, stdout = io.StringIO(), sys.stdout
    with contextlib.redirect_stdout(buffer):
        yield stdout
    for line in buffer.getvalue().splitlines():
        log(line)


@contextlib.contextmanager
def _cancelling(interrupted: threading.Event) -> Iterator[None]:
    """Cancel dbt's queries, again and again, once `interrupted` is set.

    dbt does so itself, but once only: a thread that is between two statements just then begins the next one, and
    dbt waits for its end.
    """
    from dbt.adapters.factory import FACTORY

    done = threading.Event()

    def cancel() -> None:
        while not done.wait(_CANCEL_SECONDS):
            if interrupted.is_set():
                managers = [adapter.connections for adapter in FACTORY.adapters.values()]
                for manager, connection in [(m, c) for m in managers for c in list(m.thread_connections.values())]:
                    if connection.state == "open":
                        with contextlib.suppress(Exception):  # it may be closing just now
                            manager.cancel(connection)

    thread = threading.Thread(target=cancel, name="cancel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _close_connections() -> None:
    """Close the warehouse: dbt keeps the file open after it is done, and smoll opens it next.

    dbt-duckdb 1.11 keeps one environment per process in ``DuckDBConnectionManager._ENV``.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.adapters.factory import cleanup_connections

    cleanup_connections()
    environment = DuckDBConnectionManager._ENV
    if environment is not None:
        environment.close()
    DuckDBConnectionManager.close_all_connections()


class _Translator:
    """Turns dbt's own events into smoll's, while dbt runs.

    ``seconds`` is how long each node took. dbt says so, too, but by a clock that may be set meanwhile.
    """

    def __init__(self, graph: Graph, emit: Listener, stdout: TextIO) -> None:
        self._graph = graph
        self._emit = emit
        self._stdout = stdout
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, event: Any) -> None:
        """Take an event from any of dbt's threads. What a listener prints is for the caller, not for the log."""
        with self._lock, contextlib.redirect_stdout(self._stdout):
            self._translate(event)

    def _translate(self, event: Any) -> None:
        if event.info.name not in ("NodeStart", "NodeFinished"):
            return
        node = self._graph.nodes.get(event.data.node_info.unique_id)
        if node is None:
            return
        if event.info.name == "NodeStart":
            self._begun[node.id] = time.monotonic()
            self._emit(NodeStarted(node.id, node.name, node.kind))
            return
        result = event.data.run_result
        now = time.monotonic()
        seconds = self.seconds[node.id] = now - self._begun.get(node.id, now)
        said = _said(self._graph, node, result.message)
        self._emit(_finished(node, str(result.status), seconds, said, int(result.num_failures or 0)))


def _finished(node: GraphNode, status: str, seconds: float, message: str | None, failures: int) -> Event:
    if node.is_check:
        return CheckFinished(_check(node, status, seconds, message, failures))
    return NodeFinished(_built(node, status, seconds, message))


def _results(
    graph: Graph, results: Sequence[Any], seconds: Mapping[str, float]
) -> tuple[tuple[NodeResult, ...], tuple[CheckResult, ...]]:
    nodes: list[NodeResult] = []
    checks: list[CheckResult] = []
    for result in results:
        node = graph.nodes.get(result.node.unique_id)
        if node is None:
            nodes += _hook(result)
            continue
        arguments = (node, str(result.status), seconds.get(node.id, 0.0), _said(graph, node, result.message))
        if node.is_check:
            checks.append(_check(*arguments, int(result.failures or 0)))
        else:
            nodes.append(_built(*arguments))
    return tuple(nodes), tuple(checks)


def _said(graph: Graph, node: GraphNode, message: str | None) -> str | None:
    """What dbt says, without values where some of them may be personal."""
    short = without_values(message or "")
    return short if short != message and graph.personal([node.id]) else message


def _hook(result: Any) -> Iterator[NodeResult]:
    """An on-run-start or on-run-end hook is no node of the graph, and yet dbt fails where it fails."""
    hook = result.node
    if hook.resource_type == "operation" and str(result.status) in ("error", "fail"):
        yield NodeResult(hook.unique_id, hook.name, HOOK, "error", message=_plain(result.message))


def _built(node: GraphNode, status: str, seconds: float, message: str | None) -> NodeResult:
    outcome: Literal["success", "error", "skipped"] = "success"
    if status in ("error", "fail", "partial success"):
        outcome = "error"
    elif status in ("skipped", "no-op"):
        outcome = "skipped"
    said = _plain(message) if outcome == "error" else ""
    return NodeResult(node.id, node.name, node.kind, outcome, round(seconds, 3), said)


def _check(node: GraphNode, status: str, seconds: float, message: str | None, failures: int) -> CheckResult:
    outcome: Any = _PASSED.get(status, "skipped")
    said = _plain(message) if outcome not in ("pass", "skipped") else ""
    return CheckResult(node.id, node.name, outcome, node.severity, failures, round(seconds, 3), said, node.parents)


def _plain(message: str | None) -> str:
    return " ".join(line.strip() for line in (message or "").splitlines() if line.strip())


def _failure(what: str, exception: BaseException | None) -> TransformError:
    text = str(exception) if exception else "dbt gave no reason; see the log."
    hint = disk_hint(text)
    if "dbt deps" in text:
        hint = "Install the project's packages with `dbt deps`, then run again."
    return TransformError(f"{what}: {text.strip()}", hint=hint)
