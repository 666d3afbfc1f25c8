"""``smoll undo``: the working warehouse as it was before a run: raw tables, models, snapshots and cursors.

Releases stay, and so does what readers see. `smoll.state.copies` has the copies and the steps of going back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.errors import BusyError, ReleaseError, StateError, UsageError
from smoll.events import Listener, LockWaiting, Recovered
from smoll.model import CursorChange, RowsChange, RunResult, StreamRef, TableRef, Undo, UndoCopy
from smoll.release import current_release, newest_release, read_manifest
from smoll.release.store import numbers
from smoll.state.copies import begin_undo, clean_copies, copies, file_of, finish_undo, limits_of, why_no_copy
from smoll.state.layout import Layout
from smoll.state.ledger import Ledger, open_ledger
from smoll.state.lock import project_lock
from smoll.state.position import position
from smoll.warehouse import INTERNAL_SCHEMA, Settings, columns_of, engine_settings, open_warehouse, reading

if TYPE_CHECKING:
    from smoll.project import ProjectConfig

_EVERY = 1_000_000_000
_STATE = TableRef(INTERNAL_SCHEMA, "state")


@dataclass(frozen=True)
class _Content:
    """What a warehouse holds: the rows of each table, and the state of each stream."""

    rows: Mapping[TableRef, int]
    states: Mapping[StreamRef, str]


def undo_run(
    config: ProjectConfig,
    run: int | None,
    *,
    dry_run: bool,
    latest: int | None,
    wait: bool,
    on_event: Listener | None,
) -> Undo:
    """Let the working warehouse be as it was before `run` (by default the last one), whatever came after.

    Parameters
    ----------
    dry_run
        Only say what would happen.
    latest
        The last run that the caller knows of: nothing is undone where there is a newer one.
    wait
        Wait for a run that holds the project (True) or raise LockedError (False).

    Raises
    ------
    UsageError
        There is no such run, it is undone already, or no copy of the time before it was kept.
    LockedError
        A run holds the project and `wait` is False.
    BusyError
        Another program has the working warehouse open.
    StateError
        The copy is damaged, or the state cannot be written.
    """
    layout = Layout(config.root)
    tell = on_event or (lambda event: None)
    layout.prepare()
    with (
        project_lock(layout.lock, "smoll undo", wait=wait, on_wait=lambda holder: tell(LockWaiting(holder))),
        open_ledger(layout.ledger, create=True) as ledger,
    ):
        assert ledger is not None
        completed = finish_undo(layout, ledger)
        if completed:
            tell(Recovered(f"The warehouse is as before run {completed}: an undo was cut short, and is complete now."))
        ledger.mark_killed()
        clean_copies(layout)
        undone = tuple(reversed(ledger.runs_after(_target(ledger, run, latest) - 1, _EVERY)))
        plan = _plan(config, layout, undone)
        if dry_run:
            return plan
        begin_undo(layout, plan.copy.run)
        finish_undo(layout, ledger)
    return replace(plan, done=True)


def undo_copies(config: ProjectConfig) -> tuple[UndoCopy, ...]:
    """The copies that `smoll undo` can go back to, the newest first."""
    return copies(Layout(config.root))


def _target(ledger: Ledger, run: int | None, latest: int | None) -> int:
    """The run to undo, which has run and is not undone."""
    there = [record.run for record in ledger.runs(_EVERY) if record.undone is None]
    if not there:
        raise UsageError("There is no run to undo.", hint="`smoll runs` lists what has happened.")
    if latest is not None and there[0] != latest:
        raise UsageError(f"Run {there[0]} was made meanwhile; nothing was undone.", hint="Look again: smoll undo")
    if run is None:
        return there[0]
    if ledger.run_record(run).undone is not None:
        raise UsageError(f"Run {run} is undone already.", hint="`smoll run` loads and builds anew.")
    return run


def _plan(config: ProjectConfig, layout: Layout, undone: tuple[RunResult, ...]) -> Undo:
    run = undone[-1].run
    copy = next((copy for copy in copies(layout) if copy.run == run), None)
    if copy is None:
        raise UsageError(
            f"There is no copy of the warehouse from before run {run}: {why_no_copy(layout, run, limits_of(config))}.",
            hint=_instead(layout, undone[0].run),
        )
    now, then, note = _contents(config, layout, copy)
    release = _release_of(layout, run)
    return Undo(
        copy=copy,
        runs=tuple(record for record in undone if record.undone is None),
        tables=tuple(_rows(now, then)),
        cursors=tuple(_cursors(now, then)),
        release=release,
        earlier=_earlier(layout, run) if release else None,
        note=" ".join(filter(None, (note, _waiting(layout, run)))),
    )


def _instead(layout: Layout, last: int) -> str:
    newest = next(iter(copies(layout)), None)
    if newest:
        runs = last - newest.run + 1
        return f"`smoll undo {newest.run}` goes back {'one run' if runs == 1 else f'{runs} runs'}, `--list` lists all."
    return "Mend the data and `smoll run`; `smoll run --reload SOURCE` and `--full-refresh` build anew what was loaded."


# --- what changes


def _contents(config: ProjectConfig, layout: Layout, copy: UndoCopy) -> tuple[_Content, _Content, str]:
    """What is in the warehouse, and in the copy; and what a person should know of the first.

    Raises StateError where the copy cannot be read, BusyError where another program has the warehouse open.
    """
    settings = engine_settings(config.resources, layout.tmp)
    empty, now, note = _Content({}, {}), _Content({}, {}), ""
    try:
        if layout.warehouse.exists():
            with open_warehouse(layout.warehouse, settings):
                pass  # nobody else has it, and what a killed run left in its log is in it now
            now = _content(layout.warehouse, settings)
    except BusyError:
        raise
    except (StateError, ReleaseError) as error:
        note = f"What is in the warehouse now cannot be read: {error.message}"
    path = file_of(layout, copy)
    try:
        then = _content(path, settings) if path else empty
    except (StateError, ReleaseError) as error:
        raise StateError(
            f"The copy of the warehouse from before run {copy.run} cannot be read: {error.message}",
            hint="`smoll undo --list` lists the others.",
        ) from error
    return now, then, note


def _content(path: Path, settings: Settings) -> _Content:
    import duckdb

    try:
        with reading(path, "warehouse", settings) as connection:
            tables = [
                TableRef(*row)
                for row in connection.execute(
                    """SELECT schema_name, table_name FROM duckdb_tables()
                    WHERE NOT internal AND NOT temporary AND database_name = 'warehouse' ORDER BY ALL"""
                ).fetchall()
                if row[0] != INTERNAL_SCHEMA
            ]
            counts = [connection.execute(f"SELECT count(*) FROM {table.sql}").fetchone() for table in tables]
            rows = {table: int(count[0]) if count else 0 for table, count in zip(tables, counts, strict=True)}
            states = []
            if columns_of(connection, _STATE):
                states = connection.execute(f"SELECT source, stream, state FROM {_STATE.sql}").fetchall()
    except duckdb.Error as error:
        raise StateError(f"{path}: {str(error).splitlines()[0]}") from error
    return _Content(rows, {StreamRef(row[0], row[1]): row[2] or "" for row in states})


def _rows(now: _Content, then: _Content) -> Iterator[RowsChange]:
    for table in sorted({*now.rows, *then.rows}):
        if now.rows.get(table) != then.rows.get(table):
            yield RowsChange(table, now.rows.get(table), then.rows.get(table))


def _cursors(now: _Content, then: _Content) -> Iterator[CursorChange]:
    for ref in sorted({*now.states, *then.states}):
        places = _position(now.states.get(ref)), _position(then.states.get(ref))
        if places[0] != places[1]:
            yield CursorChange(ref, *places)


def _position(text: str | None) -> str:
    state: Any = None
    with suppress(ValueError):
        state = json.loads(text or "")
    return position(state) if isinstance(state, dict) else ""


def _release_of(layout: Layout, run: int) -> int | None:
    """The release that readers see, where this run or a later one made it."""
    with suppress(ReleaseError, UsageError):
        current = current_release(layout)
        if current is not None and read_manifest(layout, current).run >= run:
            return current
    return None


def _waiting(layout: Layout, run: int) -> str:
    """What to know of the release that the end of a hold publishes, where this run or a later one made it."""
    with suppress(ReleaseError, UsageError):
        newest, current = newest_release(layout), current_release(layout)
        if newest is not None and newest != current and read_manifest(layout, newest).run >= run:
            return (
                f"An undone run made release {newest}, which is the newest: `smoll release resume` would publish it, "
                "until a run has made another one."
            )
    return ""


def _earlier(layout: Layout, run: int) -> int | None:
    """The newest release that is older than this run."""
    for number in reversed(numbers(layout)):
        with suppress(ReleaseError, UsageError):
            if read_manifest(layout, number).run < run:
                return number
    return None
