"""``smoll check``: would a run work? Sources are reached and dbt parses; nothing is loaded, built or released."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from smoll import dashboards
from smoll.connectors import connector_for
from smoll.errors import Problem, ReleaseError, SmollError, UsageError
from smoll.events import Event, Message
from smoll.interrupts import interruptible
from smoll.load.columns import fixed_type
from smoll.model import Finding, StreamRef, TableRef
from smoll.plan import find_jobs, open_transform
from smoll.project import FILE
from smoll.publish import released_nodes
from smoll.release import current_release
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger
from smoll.state.lock import current_holder
from smoll.transform import sources_file
from smoll.warehouse import Settings, columns_of, connect_tables, engine_settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig
    from smoll.transform import Dbt, GraphNode


_DASHBOARDS = "dashboards"


def examine_project(config: ProjectConfig) -> tuple[Finding, ...]:
    """Look at everything a run needs. Every finding stands for itself; one error does not hide the others."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        findings = [
            Finding(
                "smoll.yml",
                "ok",
                f"{config.name}: {len(config.sources)} source{'' if len(config.sources) == 1 else 's'}",
            ),
            *_sources(config, connection),
        ]
        if all(finding.level == "ok" for finding in findings):
            findings += _dbt(config, connection)
        if not any(finding.topic == _DASHBOARDS for finding in findings):
            findings += _pages(config)
    return (*findings, *_schedules(config), *_sensors(config))


def _sources(config: ProjectConfig, connection: DuckDBPyConnection) -> Iterator[Finding]:
    for name, source in config.sources.items():
        topic = f"source {name}"
        try:
            for stream, options in source.streams.items():
                for column, kind in options.columns.items():
                    fixed_type(connection, StreamRef(name, stream), column, kind)
            said = connector_for(source.kind).check(name, source, config.root, connection)
            yield Finding(topic, "ok", said)
        except SmollError as error:
            yield Finding(topic, "error", config.redact(error.message), config.redact(error.hint))


def _dbt(config: ProjectConfig, connection: DuckDBPyConnection) -> Iterator[Finding]:
    if not (config.transform_dir / "dbt_project.yml").is_file():
        yield Finding("dbt", "note", f"there is no dbt project in {config.transform}")
        if config.checks:
            hint = f"Make one in {config.transform}, or remove `checks` on {config.locate('checks')}."
            yield Finding("checks", "error", "they need a dbt project: a release is made of its models.", hint)
        return
    layout = Layout(config.root)
    settings = engine_settings(config.resources, layout.tmp)
    notes: list[Event] = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="smoll-check-") as work,
            _as_before(sources_file(config.transform_dir), layout),
        ):
            with open_ledger(layout.ledger) as ledger:
                known = ledger.streams() if ledger else ()
            jobs = find_jobs(config, connection)
            quiet = notes.append
            dbt = open_transform(config, layout, settings, jobs, lambda line: None, quiet, Path(work), known)
            released = released_nodes(config, dbt) if dbt else []
            wrong = list(_selections(config, dbt)) if dbt else []
    except SmollError as error:
        yield Finding("dbt", "error", config.redact(error.message), config.redact(error.hint))
        return
    yield from (Finding("dbt", "note", note.text) for note in notes if isinstance(note, Message))
    nodes = dbt.graph.nodes.values() if dbt else ()
    built, checks = sum(node.is_built for node in nodes), sum(node.is_check for node in nodes)
    yield Finding(
        "dbt", "ok", f"{built} models, seeds and snapshots, {checks} checks, {len(released)} tables to release",
        "`smoll checks` lists what each check said last." if checks else "",
    )  # fmt: skip
    yield from wrong
    if dbt:
        yield from _dashboards(config, layout, settings, dbt, released)


def _pages(config: ProjectConfig) -> Iterator[Finding]:
    """The dashboards as far as they can be seen without knowing what would be released."""
    pages, problems = dashboards.read_pages(config.root)
    yield from (_problem(config, problem) for problem in problems)
    if pages and not problems:
        yield Finding(_DASHBOARDS, "note", f"{_count(pages)}; their queries are looked at when the rest is well")


def _dashboards(
    config: ProjectConfig, layout: Layout, settings: Settings, dbt: Dbt, released: Sequence[GraphNode]
) -> Iterator[Finding]:
    """Run the queries of the dashboards on what is built, which is what the next release would be made of."""
    if not dashboards.read_pages(config.root)[0]:
        yield from _pages(config)
        return
    tables = [node.table for node in released if node.table]
    pages: list[dashboards.Fragment] = []
    connection, where = _what_is_built(layout, tables, settings)
    with connection:
        there = {str(table) for table in tables if columns_of(connection, table)}
        personal = {str(node.table).lower(): dbt.graph.personal([node.id]) for node in released}
        later = {str(table).lower() for table in tables if str(table) not in there}
        problems, warnings = interruptible(
            connection,
            lambda: dashboards.build(
                config.root, connection, None, layout, pages.append, personal=personal, later=later
            ),
        )
    yield from (_problem(config, problem) for problem in problems)
    yield from (_problem(config, problem, "note") for problem in warnings)
    if not problems:
        yield Finding(_DASHBOARDS, "ok", f"{_count(pages)}{where}")


def _what_is_built(layout: Layout, tables: Sequence[TableRef], settings: Settings) -> tuple[DuckDBPyConnection, str]:
    """The working warehouse; what readers see, where a run or another program holds it; else nothing at all."""
    paths = [(layout.warehouse, ""), (layout.current / "warehouse.duckdb", ", held against the current release")]
    for path, said in paths:
        with suppress(ReleaseError):
            if path.is_file():
                return connect_tables(path.resolve(), tables, settings), said
    return connect_tables(None, tables, settings), ", looked at again by the release, as nothing is built yet"


def _count(pages: Sequence[object]) -> str:
    return f"{len(pages)} page{'' if len(pages) == 1 else 's'}"


def _problem(config: ProjectConfig, problem: Problem, level: Literal["note", "error"] = "error") -> Finding:
    said = f"{problem.file}:{problem.line}: {problem.message}"
    return Finding(_DASHBOARDS, level, config.redact(said), config.redact(problem.hint))


def _selections(config: ProjectConfig, dbt: Dbt) -> Iterator[Finding]:
    """Schedules and sensors whose selection dbt does not understand, or that names nothing."""
    for section, triggers in (("schedules", config.schedules), ("sensors", config.sensors)):
        for name, trigger in triggers.items():
            if not trigger.select and not trigger.exclude:
                continue
            try:
                chosen = dbt.select(trigger.selection, trigger.exclude or "")
                said = "" if chosen else "its selection names nothing in the dbt project."
            except UsageError as error:
                said = error.message
            if said:
                yield Finding(
                    f"{section.removesuffix('s')} {name}",
                    "error",
                    config.redact(said),
                    f"Mend `{'select' if trigger.select else 'exclude'}` on {config.locate(section, name)}.",
                )


def _schedules(config: ProjectConfig) -> Iterator[Finding]:
    now = datetime.now(UTC)
    for name, schedule in config.schedules.items():
        tick = schedule.next_tick(now)
        said = f"{schedule.cron}, next on {tick:%a %Y-%m-%d} at {tick:%H:%M} {schedule.timezone}"
        yield Finding(f"schedule {name}", "ok", said)


def _sensors(config: ProjectConfig) -> Iterator[Finding]:
    for name, sensor in config.sensors.items():
        topic, root = f"sensor {name}", sensor.release_root(config.root)
        try:
            said = _look_at_project(root, config.root) if root else f"looks at the files of {sensor.files}"
            yield Finding(topic, "ok", f"{said}, every {sensor.every}")
        except SmollError as error:
            hint = error.hint or f"Mend `release` on {config.locate('sensors', name, 'release')}."
            yield Finding(topic, "error", config.redact(error.message), hint)


def _look_at_project(root: Path, own: Path) -> str:
    """What is to be said of another project. Raises UsageError where it is none, or this one itself."""
    if not (root / FILE).is_file():
        raise UsageError(f"{root} is no project of smoll: there is no {FILE}.")
    if root == own:
        raise UsageError("A project that waits for its own releases would run without end.")
    number = current_release(Layout(root))
    newest = f"whose release is {number} now" if number else "which has no release yet"
    return f"looks at {root}, {newest}"


@contextmanager
def _as_before(file: Path, layout: Layout) -> Iterator[None]:
    """Put the generated file back afterwards, unless a run that is going on needs it."""
    before = file.read_bytes() if file.is_file() else None
    try:
        yield
    finally:
        if current_holder(layout.lock) is None and before is None:
            file.unlink(missing_ok=True)
        elif current_holder(layout.lock) is None and before is not None:
            file.write_bytes(before)
