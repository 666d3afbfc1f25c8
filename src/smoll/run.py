"""One run: load, build, check, release. The only place that knows the order of the steps.

It knows no orchestrator and no screen: whoever wants to see something listens to its events.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from smoll.checks import Surroundings, rows_of_query, run_checks, skipped
from smoll.errors import Interrupted, SmollError, StateError, UsageError, disk_error
from smoll.events import (
    CheckFinished,
    Event,
    Listener,
    LockWaiting,
    Message,
    Recovered,
    ReleaseFinished,
    RunFinished,
    RunStarted,
    StreamFinished,
    TransformStarted,
)
from smoll.interrupts import interruptible, noticing_interrupts, stop_if
from smoll.lineage import with_personal
from smoll.load import Job, load_sources
from smoll.model import (
    CheckResult,
    FailingRows,
    NodeResult,
    ReleaseOutcome,
    RunResult,
    RunStatus,
    StreamRef,
    StreamResult,
    TableRef,
    map_texts,
)
from smoll.plan import brings_tables, find_jobs, match_streams, open_transform, parse_reload
from smoll.portal import prepare_scripts
from smoll.profiles import history
from smoll.publish import ignored_columns, publish, released_nodes
from smoll.release import clean, rows_released
from smoll.state.copies import Limits, clean_copies, finish_undo, highest_copy, keep_copy, limits_of
from smoll.state.layout import Layout
from smoll.state.ledger import Ledger, open_ledger
from smoll.state.lock import project_lock
from smoll.state.log import RunLog, open_log
from smoll.transform import HOOK
from smoll.warehouse import Settings, engine_settings, identify, open_warehouse, set_run, upgrade_warehouse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig
    from smoll.transform import Dbt, Graph, GraphNode, OwnCheck


@dataclass(frozen=True)
class Request:
    """What the caller wants of a run; ``select`` and ``exclude`` in dbt's syntax, ``reload`` as SOURCE[.STREAM].

    ``since`` and ``until`` limit the reload to a range of the cursor. ``allow_breaking``: release even where readers of
    the current release would miss something.
    """

    select: str = ""
    exclude: str = ""
    full_refresh: bool = False
    reload: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    allow_breaking: bool = False

    @property
    def span(self) -> tuple[str | None, str | None] | None:
        """The range of the cursor that is to be loaded again; None for everything."""
        return None if self.since is None and self.until is None else (self.since, self.until)

    def __str__(self) -> str:
        parts = [f"--select {self.select}" if self.select else "", f"--exclude {self.exclude}" if self.exclude else ""]
        parts += ["--full-refresh" if self.full_refresh else "", *(f"--reload {name}" for name in self.reload)]
        parts += [f"--from {self.since}" if self.since is not None else ""]
        parts += [f"--to {self.until}" if self.until is not None else ""]
        parts += ["--allow-breaking" if self.allow_breaking else ""]
        return " ".join(part for part in parts if part)


@dataclass
class Run:
    """One run under the project's lock: its steps, and what they have come to so far. `open_run` makes it.

    Complete or not, it becomes the `RunResult`. ``origin`` names the orchestrator's run that this one is, as
    ``dagster:<id>``. ``interrupted`` is set once somebody wants it to stop. ``record`` is there once it has ended.
    """

    number: int
    config: ProjectConfig
    layout: Layout
    settings: Settings
    ledger: Ledger
    log: RunLog
    emit: Listener
    what: str
    origin: str = ""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    begun: float = field(default_factory=time.monotonic)
    streams: tuple[StreamResult, ...] = ()
    nodes: tuple[NodeResult, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    release: ReleaseOutcome = field(default_factory=lambda: ReleaseOutcome("none"))
    error: BaseException | None = None
    interrupted: threading.Event = field(default_factory=threading.Event)
    record: RunResult | None = None

    def attempt(self, work: Callable[[Run], None], *, take_over: bool = False) -> bool:
        """Do one or more steps, and note it where they fail. True where nothing has failed so far.

        Foreign exceptions pass: they are bugs, with a log of their own.

        Parameters
        ----------
        take_over
            Notice Ctrl-C and SIGTERM even where this process handles them in a way of its own.
        """
        with noticing_interrupts(take_over=take_over) as self.interrupted:
            try:
                work(self)
            except (KeyboardInterrupt, SmollError) as error:
                self.error = error
            except BaseException as error:
                self.error = Interrupted("The run was interrupted.") if self.interrupted.is_set() else disk_error(error)
                if self.error is None:
                    self.error = error
                    raise
        return self.status == "ok"

    @property
    def status(self) -> RunStatus:
        """How it stands."""
        if isinstance(self.error, (KeyboardInterrupt, Interrupted)):
            return "interrupted"
        if (
            self.error is not None
            or any(stream.status == "failed" for stream in self.streams)
            or any(node.status == "error" for node in self.nodes)
            or any(_blocks(check) for check in self.checks)
        ):
            return "failed"
        return "refused" if self.release.status == "refused" else "ok"

    def find_jobs(self, warehouse: DuckDBPyConnection) -> list[Job]:
        """The streams of every source."""
        return find_jobs(self.config, warehouse, self.ledger.streams(), lambda line: self.emit(Message(line)))

    def parse(self, jobs: Sequence[Job]) -> Dbt | None:
        """Parse the dbt project over these streams; None where there is none."""
        return open_transform(
            self.config,
            self.layout,
            self.settings,
            jobs,
            self.log.line,
            self.emit,
            known=self.ledger.streams(),
        )

    def load(
        self,
        warehouse: DuckDBPyConnection,
        jobs: Sequence[Job],
        reload: frozenset[StreamRef] = frozenset(),
        span: tuple[str | None, str | None] | None = None,
    ) -> tuple[StreamResult, ...]:
        """Load, and take note of each stream as it finishes: an interrupted run knows what it had committed.

        Returns what became of each, in the order of the project file.
        """
        before = self.streams

        def touched(table: TableRef) -> None:
            self.ledger.begin_load(self.number, table)

        def listen(event: Event) -> None:
            if isinstance(event, StreamFinished):
                self.note(event.result)
            else:
                self.emit(event)

        order = [plan.ref for job in jobs for plan in job.plans]
        try:
            load_sources(
                warehouse,
                jobs,
                self.config.root,
                self.layout.tmp,
                self.number,
                reload=reload,
                span=span,
                before_commit=touched,
                emit=_one_at_a_time(listen),
                log=self.log.line,
            )
        finally:  # sources finish in any order
            loaded = sorted(self.streams[len(before) :], key=lambda result: _place(result.ref, order))
            self.streams = (*before, *loaded)
        return tuple(loaded)

    def note(self, result: StreamResult) -> None:
        """Take note of a table that was written, or was not, and tell of it.

        The ledger must have heard of it before the commit, by `Ledger.begin_load`.
        """
        self.emit(StreamFinished(result))
        self.streams = (*self.streams, result)
        self.ledger.finish_load(self.number, result)

    def build(
        self,
        dbt: Dbt,
        ids: frozenset[str],
        named: tuple[str, str] | None = None,
        *,
        full_refresh: bool = False,
    ) -> None:
        """Build and check these nodes and tests.

        The ledger is told before what dbt may change, and afterwards what it did.

        Parameters
        ----------
        named
            The selection and the exclusion that named them, so that dbt takes them by these.
        """
        nodes = dbt.graph.nodes
        built = [id for id in ids if id in nodes and nodes[id].is_built]
        checks = [id for id in ids if id in nodes and nodes[id].is_check]
        self.ledger.forget_rows(dbt.graph.personal(nodes))
        self.ledger.begin_transform(self.number, built, checks)
        self.emit(TransformStarted(len(built), len(checks)))
        if not built and not checks:
            return
        exact = ids if named is None else None
        found: tuple[NodeResult, ...] = ()
        said: tuple[CheckResult, ...] = ()
        if built or any(id not in dbt.own for id in checks):
            results = dbt.build(*(named or ("", "")), full_refresh, self.interrupted, self.emit, exact)
            found, said = map_texts(results, self.config.redact)
        for table in _missed(dbt.graph, [*found, *said], [state.table for state in self.ledger.streams()]):
            text = f"{table} is not there, and no source loads it."
            self.emit(Message(f"{text} If it is the table of an asset, materialize that in Dagster first.", "warning"))
        blind = frozenset(id for id in checks if not nodes[id].parents and id not in dbt.own)
        if blind and built:  # dbt runs a test that names no model first, over what the models were before
            _, again = dbt.build("", "", False, self.interrupted, self.emit, blind)
            after = {check.id: check for check in map_texts(again, self.config.redact)}
            said = tuple(after.get(check.id, check) for check in said)
        self.nodes, self.checks = (*self.nodes, *found), (*self.checks, *said)
        definitions = {check.id: check.definition for check in dbt.graph.checks()}
        self.ledger.finish_transform(self.number, found, said, definitions)
        own = [dbt.own[id] for id in dbt.own if id in ids]
        missing = {node.id for node in found if node.status != "success"}
        failed = [check for check in said if check.status in ("fail", "warn") and dbt.compiled(check.id)]
        if own or failed:
            self.checks = (*self.checks, *self._check(dbt, own, missing, failed))

    def _check(
        self, dbt: Dbt, own: Sequence[OwnCheck], missing: Set[str], failed: Sequence[CheckResult]
    ) -> tuple[CheckResult, ...]:
        """Run checks of smoll's own, and keep some of the rows on which they, or tests of dbt's, have failed.

        Parameters
        ----------
        missing
            The nodes that were not built: what looks at them is skipped.
        failed
            Tests that have failed.
        """
        config, found = self.config, list[CheckResult]()
        failing: dict[str, FailingRows] = {}
        for check in own:
            if not missing.isdisjoint(check.node.parents):
                found.append(skipped(check))
                self.emit(CheckFinished(found[-1]))
        due = [check for check in own if missing.isdisjoint(check.node.parents)]

        def work() -> None:
            around = Surroundings(
                graph=graph,
                run=self.number,
                streams=self.ledger.streams(),
                rows_released=partial(rows_released, self.layout),
                profiles=lambda table: [past.profile for past in history(self.ledger, table)],
                ignored=lambda node: ignored_columns(config, graph, node),
                redact=config.redact,
            )
            for result, rows in run_checks(warehouse, due, around, self.emit):
                found.append(map_texts(result, config.redact))
                if rows is not None:
                    failing[result.id] = rows
            for test in failed:
                failing[test.id] = rows_of_query(warehouse, dbt.compiled(test.id), graph, self.number, config.redact)

        with open_warehouse(self.layout.warehouse, self.settings) as warehouse:
            for statement in dbt.session:
                warehouse.execute(statement)
            graph = with_personal(dbt, self.layout.column_lineage, warehouse).graph
            interruptible(warehouse, work)
        definitions = {check.node.id: check.node.definition for check in own}
        pii = tuple(sorted(graph.personal(graph.nodes)))
        kept = {id: replace(rows, pii=pii) for id, rows in failing.items()}
        self.ledger.finish_transform(self.number, (), found, definitions, kept)
        return tuple(found)

    def publish(self, dbt: Dbt, released: Sequence[GraphNode], *, allow_breaking: bool = False) -> None:
        """Release what the warehouse holds now, if every check allows it."""
        about = self.config, self.layout, self.settings, self.ledger, dbt, released, self.number, self.emit
        self.release = publish(*about, allow_breaking=allow_breaking)
        self.emit(ReleaseFinished(self.release))

    def result(self) -> RunResult:
        """What it has come to, with no secret in it."""
        said = "" if self.error is None or self.status == "interrupted" else str(self.error)
        result = RunResult(
            run=self.number,
            status=self.status,
            started=self.started,
            seconds=round(time.monotonic() - self.begun, 3),
            select=self.what,
            streams=self.streams,
            nodes=self.nodes,
            checks=self.checks,
            release=self.release,
            error=said,
            origin=self.origin,
        )
        redacted: RunResult = map_texts(result, self.config.redact)
        return redacted


@contextmanager
def open_run(
    config: ProjectConfig, what: str, command: str, *, wait: bool, on_event: Listener | None, origin: str = ""
) -> Iterator[Run]:
    """Hold the project as long as the block lasts, and write down what was done in it, however it ends.

    Parameters
    ----------
    what
        What the run is about, for lists of runs.
    command
        What others read who wait for the project.
    wait
        Wait for another run of the project (True) or raise LockedError (False).
    on_event
        Called with every event, one at a time.

    Raises
    ------
    LockedError, StateError
        The project is taken, or its state cannot be read or written. Nothing was changed.
    """
    layout = Layout(config.root)
    layout.prepare()
    emit = _one_at_a_time(on_event)
    with (
        project_lock(layout.lock, command, wait=wait, on_wait=lambda holder: emit(LockWaiting(holder))),
        open_ledger(layout.ledger, create=True) as ledger,
    ):
        assert ledger is not None
        settings = engine_settings(config.resources, layout.tmp)
        recovered = _recover(layout, ledger)
        number, renewed, uncopied = _take_number(layout, settings, ledger, limits_of(config))
        with open_log(layout.logs, number, config.redact) as log:
            listener = _redacting(config.redact, _both(log.event, emit))
            run = Run(number, config, layout, settings, ledger, log, listener, what, origin)
            ledger.start_run(number, what)
            listener(RunStarted(number, what))
            for message in [*recovered, *renewed]:
                listener(Recovered(message))
            if uncopied:
                listener(Message(f"`smoll undo` will not go back to before this run: {uncopied}."))
            try:
                yield run
            finally:
                run.record = _finish(run)
                listener(RunFinished(run.record))


def _finish(run: Run) -> RunResult:
    """Write down what the run has come to. Where the disk refuses that, it is still told what was done."""
    record = run.result()
    try:
        run.ledger.finish_run(record)
    except StateError as error:
        run.error = run.error or error
        record = run.result()
    return record


def run_project(config: ProjectConfig, request: Request, *, wait: bool, on_event: Listener | None) -> RunResult:
    """Run the project once.

    Parameters
    ----------
    wait
        Wait for another run of the project (True) or raise LockedError (False).
    on_event
        Called with every event, one at a time.

    Returns
    -------
    RunResult
        Also where a load, a model or a check failed, where the release was refused, and after Ctrl-C.

    Raises
    ------
    UsageError
        The selection or a reload names nothing.
    LockedError, StateError
        The project is taken, or its state cannot be read or written. Nothing was changed.
    """
    command = f"smoll run {request}".strip()
    with open_run(config, str(request), command, wait=wait, on_event=on_event) as run:
        prepare_scripts(run.layout)
        run.attempt(lambda run: _load_build_release(run, request))
    if isinstance(run.error, UsageError):
        raise UsageError(config.redact(run.error.message), hint=config.redact(run.error.hint)) from run.error
    assert run.record is not None
    return run.record


def _load_build_release(run: Run, request: Request) -> None:
    with open_warehouse(run.layout.warehouse, run.settings) as warehouse:
        jobs = run.find_jobs(warehouse)
        reload = parse_reload(jobs, request.reload, ranged=request.span is not None)
        dbt, chosen = _parse_and_load(run, warehouse, jobs, reload, request)
    stop_if(run.interrupted)
    if any(stream.status == "failed" for stream in run.streams):
        return
    if dbt is None:
        run.emit(Message(f"There is no dbt project in {run.config.transform}, so nothing was built or released."))
        if run.config.checks:
            run.emit(Message("The checks in smoll.yml were not run: they need a dbt project.", "warning"))
        return
    released = released_nodes(run.config, dbt)  # a mistake in `release.select` is told before anything is built
    ids = dbt.everything() if chosen is None else chosen
    run.build(dbt, ids, (request.select, request.exclude), full_refresh=request.full_refresh)
    stop_if(run.interrupted)
    if not any(node.kind == HOOK for node in run.nodes):
        run.publish(dbt, released, allow_breaking=request.allow_breaking)


def _blocks(check: CheckResult) -> bool:
    return check.status == "error" or (check.status == "fail" and check.severity == "error")


def _missed(graph: Graph, results: Sequence[NodeResult | CheckResult], known: Sequence[TableRef]) -> Sequence[TableRef]:
    """The tables that a model or a check has not found, and that were never loaded."""
    loaded = {str(table).lower() for table in known}
    broken = [result for result in results if result.status == "error" and "does not exist" in result.message]
    missed = {
        graph.nodes[id].table: None
        for result in broken
        for id in graph.nodes[result.id].parents
        if graph.nodes[id].kind == "source" and str(graph.nodes[id].table) in result.message.replace('"', "")
    }
    return [table for table in missed if table and str(table).lower() not in loaded]


def _parse_and_load(
    run: Run, warehouse: DuckDBPyConnection, jobs: Sequence[Job], reload: frozenset[StreamRef], request: Request
) -> tuple[Dbt | None, frozenset[str] | None]:
    """Parse the dbt project and load; return the project and the chosen dbt ids (None: all).

    A selection must be known before anything is loaded. Without one, dbt is imported and parses (seconds of
    Python) while DuckDB loads.
    """
    if request.select or request.exclude:
        dbt = run.parse(jobs)
        chosen = dbt.select(request.select, request.exclude) if dbt else frozenset()
        if dbt and not chosen:
            raise UsageError(f"{request}: this names nothing in the dbt project.", hint="`dbt ls` shows what there is.")
        wanted = match_streams(dbt, jobs, chosen) | reload
        run.load(warehouse, only(jobs, wanted), reload, request.span)
        return dbt, chosen
    if any(brings_tables(job) for job in jobs):  # dbt must know the tables that come with this load
        run.load(warehouse, jobs, reload, request.span)
        return run.parse(jobs), None
    with ThreadPoolExecutor(1, "parse") as pool:
        parsing = pool.submit(run.parse, jobs)
        run.load(warehouse, jobs, reload, request.span)
        return parsing.result(), None


def _place(ref: StreamRef, order: Sequence[StreamRef]) -> tuple[int, str]:
    """Where a stream stands among those of the project file; a table that came with one, right behind it."""
    if ref in order:
        return order.index(ref), ""
    with_it = [other for other in order if other.source == ref.source and ref.stream.startswith(f"{other.stream}__")]
    return (order.index(max(with_it, key=lambda other: len(other.stream))) if with_it else len(order)), ref.stream


def _recover(layout: Layout, ledger: Ledger) -> list[str]:
    """Put in order what a killed run left behind, and say so."""
    said = [ledger.upgraded] if ledger.upgraded else []
    undone = finish_undo(layout, ledger)
    said += [f"The warehouse is as before run {undone}: an undo was cut short, and is complete now."] if undone else []
    said += [f"Run {run} was killed; what it had committed is kept." for run in ledger.mark_killed()]
    said += [f"Removed the unfinished release {name}." for name in clean(layout)]
    layout.clean_tmp()
    clean_copies(layout)
    return said


def _take_number(layout: Layout, settings: Settings, ledger: Ledger, limits: Limits) -> tuple[int, list[str], str]:
    """Number the run, in ledger and warehouse, and find out whether both speak of the same tables.

    In between a copy is kept of how they are; the last value returned says why there is none, where that is news.

    Where one of them is another file than at the last run (lost, or restored from a copy), everything the ledger
    knows of tables and checks is worthless: all is built and checked anew.
    """
    known, known_runs = ledger.warehouse()
    is_new = not layout.warehouse.exists()
    with open_warehouse(layout.warehouse, settings) as warehouse:
        said = upgrade_warehouse(warehouse, layout.backups)
        identity, last_run = identify(warehouse)
    run = max(ledger.next_run(), last_run + 1, highest_copy(layout) + 1)
    if known and (identity != known or last_run not in known_runs):
        ledger.forget_state()
        said.append("The warehouse is not the one of the last run: every model and check counts as not run.")
    uncopied = keep_copy(layout, ledger, run, None if is_new else (identity, last_run), limits)
    with open_warehouse(layout.warehouse, settings) as warehouse:
        ledger.announce_run(run)  # killed between these, the ledger still knows the warehouse by either number
        set_run(warehouse, run)
        ledger.set_warehouse(identity, run)
    return run, said, uncopied


def only(jobs: Sequence[Job], chosen: frozenset[StreamRef]) -> list[Job]:
    """The jobs with the chosen streams alone."""
    kept = [replace(job, plans=tuple(plan for plan in job.plans if plan.ref in chosen)) for job in jobs]
    return [job for job in kept if job.plans]


def _one_at_a_time(listener: Listener | None) -> Listener:
    lock = threading.Lock()

    def emit(event: Event) -> None:
        if listener:
            with lock:
                listener(event)

    return emit


def _redacting(redact: Callable[[str], str], listener: Listener) -> Listener:
    def emit(event: Event) -> None:
        listener(map_texts(event, redact))

    return emit


def _both(first: Listener, second: Listener) -> Listener:
    def emit(event: Event) -> None:
        first(event)
        second(event)

    return emit
