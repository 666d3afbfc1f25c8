"""``smoll check``: would a run work? Sources are reached and dbt parses; nothing is loaded, built or released."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connectors import connector_for
from smoll.errors import SmollError, UsageError
from smoll.events import Event, Message
from smoll.load.columns import fixed_type
from smoll.model import Finding, StreamRef
from smoll.plan import find_jobs, open_transform
from smoll.project import FILE
from smoll.publish import released_nodes
from smoll.release import current_release
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger
from smoll.state.lock import current_holder
from smoll.transform import sources_file
from smoll.warehouse import engine_settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig
    from smoll.transform import Dbt


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
        return
    layout = Layout(config.root)
    settings = engine_settings(config.resources.memory, config.resources.threads, layout.tmp)
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
        "dbt", "ok", f"{built} models, seeds and snapshots, {checks} checks, {len(released)} tables to release"
    )
    yield from wrong


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
