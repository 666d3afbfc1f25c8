"""What a project consists of, before anything runs: its streams, dbt's graph over them, and what selections name.

Orchestrators and catalogs ask for it each time they start, so the answer is kept: importing dbt and parsing a project
takes seconds, and a process that has done so stays large. A stale answer is made anew in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from smoll.errors import SmollError, StateError, TransformError, disk_hint
from smoll.load import Job
from smoll.model import NOT_AS_WRITTEN, StreamRef, TableRef
from smoll.plan import find_jobs, match_streams, open_transform
from smoll.project import FILE, ProjectConfig, SqlSource, Trigger, load_config
from smoll.project.sql import is_pattern
from smoll.publish import released_nodes
from smoll.state.layout import Layout, write_atomically
from smoll.state.ledger import open_ledger
from smoll.transform import Dbt, Exposure, Graph, GraphNode, sources_file
from smoll.warehouse import engine_settings

_VERSION = 5
_NOT_READ = {"target", "logs", ".git", "__pycache__", ".venv"}


@dataclass(frozen=True)
class StreamInfo:
    """A stream as it is planned. ``daily_from``: its days since then can be loaded again one by one."""

    ref: StreamRef
    table: TableRef
    kind: str
    mode: str
    key: tuple[str, ...] = ()
    cursor: str | None = None
    daily_from: date | None = None


@dataclass(frozen=True)
class Selection:
    """What a selection names: streams, and dbt ids."""

    streams: frozenset[StreamRef] = frozenset()
    ids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Description:
    """A whole project. ``released`` are the dbt ids of what a release holds; ``selections`` belong to the schedules and
    sensors by name, without those that take everything.
    """

    streams: tuple[StreamInfo, ...]
    graph: Graph
    released: tuple[str, ...]
    selections: Mapping[str, Selection] = field(default_factory=dict)


def describe(config: ProjectConfig) -> Description:
    """Describe the project as it is now.

    Raises
    ------
    SmollError
        A source that must be asked cannot be reached and was never loaded, or dbt cannot parse its project.
    """
    key, asked = _key(config), _ask_sources(config)
    known = _read(config, key, asked)
    if known is None and "dbt" not in sys.modules:
        _ask_elsewhere(config)
        known = _read(config, key, asked)
    if known is None:  # dbt is here already, or the project changes while we look
        known, variables = _describe(config)
        _write(config, key, asked, variables, known)
    return known


def _describe(config: ProjectConfig) -> tuple[Description, tuple[str, ...]]:
    """Describe the project in this process; and the variables of the environment that dbt has read."""
    import duckdb

    layout = Layout(config.root)
    layout.prepare()
    with open_ledger(layout.ledger) as ledger:
        known = ledger.streams() if ledger else ()
    with duckdb.connect(":memory:") as connection:
        jobs = find_jobs(config, connection, known)
    settings = engine_settings(config.resources, layout.tmp)
    work = _path(config).parent / "dbt"
    dbt = open_transform(config, layout, settings, jobs, lambda line: None, lambda event: None, work, known)
    description = Description(
        streams=tuple(_streams(jobs)),
        graph=dbt.graph if dbt else Graph({}),
        released=tuple(node.id for node in released_nodes(config, dbt)) if dbt else (),
        selections=dict(_selections(config, jobs, dbt)),
    )
    return description, dbt.variables if dbt else ()


def _streams(jobs: Sequence[Job]) -> Iterator[StreamInfo]:
    for job in jobs:
        for plan in job.plans:
            days = getattr(plan.options, "daily_from", None)
            yield StreamInfo(plan.ref, plan.table, job.source.kind, plan.mode, plan.key, plan.cursor, days)


def _selections(config: ProjectConfig, jobs: Sequence[Job], dbt: Dbt | None) -> Iterator[tuple[str, Selection]]:
    for section in ("schedules", "sensors"):
        for name, item in getattr(config, section).items():
            try:
                found = _selected(item, jobs, dbt)
            except SmollError as error:
                where = config.locate(section, name)
                raise TransformError(f"{where}: {error.message}", hint=error.hint) from error
            if found is not None:
                yield name, found


def _selected(item: Trigger, jobs: Sequence[Job], dbt: Dbt | None) -> Selection | None:
    """What a schedule or sensor names; None for everything."""
    source = getattr(item, "files", None)
    if source is None or item.select:
        if not item.select and not item.exclude:
            return None
        ids = dbt.select(item.select or "", item.exclude or "") if dbt else frozenset()
        return Selection(match_streams(dbt, jobs, ids), ids)
    streams = frozenset(plan.ref for job in jobs for plan in job.plans if job.name == source)
    ids = _below(dbt, jobs, streams)
    if dbt is None or not item.exclude:
        return Selection(streams, ids)
    left_out = dbt.select(item.exclude)
    return Selection(streams - match_streams(dbt, jobs, left_out), ids - left_out)


def _below(dbt: Dbt | None, jobs: Sequence[Job], streams: frozenset[StreamRef]) -> frozenset[str]:
    """What is built from the streams."""
    if dbt is None:
        return frozenset()
    nodes = dbt.graph.nodes
    sources = [id for id in nodes if nodes[id].kind == "source" and match_streams(dbt, jobs, frozenset([id])) & streams]
    return dbt.graph.descendants(sources)


# --- the answer that is kept ----------------------------------------------------------------------------------------


def _path(config: ProjectConfig) -> Path:
    return Layout(config.root).state / "description" / "description.json"


def _key(config: ProjectConfig) -> str:
    """Changes with all that the answer depends on, save what a database would say now, and dbt's variables."""
    layout = Layout(config.root)
    with open_ledger(layout.ledger) as ledger:
        known = [state.ref for state in ledger.streams() if state.ref.source in config.sources] if ledger else []
    named = {StreamRef(name, stream) for name, source in config.sources.items() for stream in source.streams}
    found = sorted(str(ref) for ref in known if ref not in named)  # by "*", or with another stream
    folder = config.transform_dir
    own = sources_file(folder) if (folder / "dbt_project.yml").is_file() else None
    beside = [config.root / ".env", *config.root.glob("*.py"), *_catalogs(layout)]
    files = [_mark(path) for path in [*_files(folder), *beside] if path != own]
    versions = [_VERSION, version("smoll"), version("dbt-core"), sys.version]
    parts = [versions, repr(config), (config.root / FILE).read_text(encoding="utf-8"), found, sorted(files)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _catalogs(layout: Layout) -> Iterator[Path]:
    """What connectors have said of their streams."""
    for pattern in ("*/cache/catalog-*.json", "*/*/cache/catalog-*.json"):
        yield from layout.connectors.glob(pattern)


def _ask_sources(config: ProjectConfig) -> list[str] | None:
    """The streams of databases that are asked for them, as these say now; None where one does not answer."""
    asked = {
        name: source
        for name, source in config.sources.items()
        if isinstance(source, SqlSource) and any(map(is_pattern, source.streams))
    }
    if not asked:
        return []
    import duckdb

    try:
        with duckdb.connect(":memory:") as connection:
            jobs = find_jobs(config.model_copy(update={"sources": asked}), connection)
    except SmollError:
        return None
    return [str(stream) for stream in _streams(jobs)]


def _files(folder: Path) -> Iterator[Path]:
    """The files of the dbt project, and of local packages, which dbt links into it."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name not in _NOT_READ]
        if (real := os.path.realpath(place)) in seen:
            folders[:] = []
            continue
        seen.add(real)
        yield from (Path(place) / name for name in names)


def _values(variables: Iterable[str], config: ProjectConfig) -> str:
    """A hash of the values that variables have for dbt."""
    values = [os.environ.get(name, config.dotenv.get(name)) for name in sorted(variables)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _mark(path: Path) -> list[Any]:
    try:
        stat = path.stat()
    except OSError:
        return [str(path), 0, 0]
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _ask_elsewhere(config: ProjectConfig) -> None:
    command = [sys.executable, "-m", "smoll.describe", str(config.root)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise TransformError(f"The project cannot be described: {config.redact(last)}.") from None
    if "error" in answer:
        raise TransformError(answer["error"], hint=answer["hint"])


def _main(root: Path) -> None:
    """Describe the project in `root`, keep the answer, and say on stdout how it went."""
    import contextlib

    said: dict[str, str] = {}
    try:
        config = load_config(root)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                key, asked = _key(config), _ask_sources(config)
                description, variables = _describe(config)
                _write(config, key, asked, variables, description)
        except SmollError as error:
            said = {"error": config.redact(error.message), "hint": config.redact(error.hint)}
    except SmollError as error:
        said = {"error": error.message, "hint": error.hint}
    print(json.dumps(said))


def _write(
    config: ProjectConfig, key: str, asked: list[str] | None, variables: Sequence[str], description: Description
) -> None:
    path = _path(config)
    content = {
        "key": key,
        "asked": asked,
        "variables": variables,
        "values": _values(variables, config),
        "streams": [asdict(stream) for stream in description.streams],
        "nodes": [asdict(node) for node in description.graph.nodes.values()],
        "exposures": [asdict(exposure) for exposure in description.graph.exposures],
        "released": description.released,
        "selections": {
            name: {"streams": [asdict(ref) for ref in sorted(one.streams)], "ids": sorted(one.ids)}
            for name, one in description.selections.items()
        },
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content, default=str))
    except OSError as error:
        hint = disk_hint(error) or f"Remove {path.parent}: it is made anew."
        raise StateError(f"Cannot write {path}: {error.strerror}.", hint=hint) from error


def _read(config: ProjectConfig, key: str, asked: list[str] | None) -> Description | None:
    """The answer that is kept, if it still holds. Where a database does not answer, it said the same as before."""
    try:
        found = json.loads(_path(config).read_text(encoding="utf-8"))
        if found["key"] != key or found["values"] != _values(found["variables"], config):
            return None
        if asked is not None and asked != found["asked"]:
            return None
        nodes = [_node(each) for each in found["nodes"]]
        return Description(
            streams=tuple(_stream(each) for each in found["streams"]),
            graph=Graph({node.id: node for node in nodes}, tuple(_exposure(each) for each in found["exposures"])),
            released=tuple(found["released"]),
            selections={
                name: Selection(frozenset(StreamRef(**ref) for ref in one["streams"]), frozenset(one["ids"]))
                for name, one in found["selections"].items()
            },
        )
    except NOT_AS_WRITTEN:
        return None


def _stream(found: dict[str, Any]) -> StreamInfo:
    days = date.fromisoformat(found["daily_from"]) if found["daily_from"] else None
    about = {"ref": StreamRef(**found["ref"]), "table": TableRef(**found["table"]), "key": tuple(found["key"])}
    return StreamInfo(**{**found, **about, "daily_from": days})


def _node(found: dict[str, Any]) -> GraphNode:
    table = TableRef(**found["table"]) if found["table"] else None
    lists = {name: tuple(found[name]) for name in ("parents", "clocks", "key", "pii", "owners", "tags", "freshness")}
    return GraphNode(**{**found, **lists, "table": table, "columns": tuple(map(tuple, found["columns"]))})


def _exposure(found: dict[str, Any]) -> Exposure:
    return Exposure(**{**found, **{name: tuple(found[name]) for name in ("parents", "owners", "tags")}})


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
