"""The books of the loads: which rows were rejected and why, and the state from which each stream goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from smoll.connector import apply_naming
from smoll.errors import StateError, UsageError
from smoll.events import Listener, LockWaiting
from smoll.load.rejects import rejected_table
from smoll.load.types import is_number, misfits
from smoll.model import Holder, StreamRef, TableRef, literal, quote
from smoll.state.copies import complete_undo
from smoll.state.layout import Layout
from smoll.state.lock import project_lock
from smoll.warehouse import (
    INTERNAL_SCHEMA,
    Settings,
    columns_of,
    engine_settings,
    open_warehouse,
    reading,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig

_COLUMNS = ("load", "loaded_at", "file", "line", "column", "reason", "raw")
_NO_FILE = "''"
_LOADS, _STATE = TableRef(INTERNAL_SCHEMA, "loads"), TableRef(INTERNAL_SCHEMA, "state")


@dataclass(frozen=True)
class RejectCount:
    """The rejected rows of one stream. ``load`` is the newest run that rejected any, ``reason`` the commonest one."""

    ref: StreamRef
    table: TableRef
    rows: int
    load: int
    reason: str


@dataclass(frozen=True)
class Reject:
    """One rejected row. ``file`` is "" where rows come from no file; ``raw`` is its text as the source has it."""

    load: int
    loaded_at: datetime
    file: str
    line: int | None
    column: str | None
    reason: str | None
    raw: str | None


@dataclass(frozen=True)
class StoredState:
    """From where a stream goes on. ``run`` wrote it; ``column`` and ``cursor`` are None where it has no cursor."""

    ref: StreamRef
    table: TableRef
    mode: str
    run: int
    column: str | None
    cursor: str | None
    files: int
    state: Mapping[str, Any]


# --- rejected rows


def count_rejects(config: ProjectConfig, source: str = "") -> tuple[RejectCount, ...]:
    """The streams with rejected rows, by name; of one source where it is named.

    Raises
    ------
    ReleaseError
        A run holds the warehouse.
    UsageError
        There is no such source.
    """
    with _reading(config) as warehouse:
        tables = _tables(warehouse)
        _refuse_unknown(source, tables)
        found = (_count(warehouse, ref, table) for ref, table in tables.items() if source in ("", ref.source))
        return tuple(count for count in found if count)


def _count(connection: DuckDBPyConnection | None, ref: StreamRef, table: TableRef) -> RejectCount | None:
    if connection is None or not (columns := _rejected_columns(connection, table)):
        return None
    row = connection.execute(
        f"SELECT count(*), max({columns['load']}), mode({columns['reason']}) FROM {rejected_table(table).sql}"
    ).fetchone()
    return RejectCount(ref, rejected_table(table), row[0], row[1], row[2] or "") if row and row[0] else None


def read_rejects(
    config: ProjectConfig, stream: str, limit: int | None, load: int | None, longest: int | None = None
) -> tuple[Reject, ...]:
    """The rejected rows of SOURCE.STREAM, as `smoll.api.Project.rejects` gives them.

    Raises
    ------
    ReleaseError
        A run holds the warehouse.
    UsageError
        There is no such stream.
    """
    with _reading(config) as warehouse:
        tables = _tables(warehouse)
        _refuse_unknown(stream, tables)
        table = next((table for ref, table in tables.items() if str(ref) == stream), None)
        if warehouse is None or table is None:
            raise UsageError(f"{stream} is no stream.", hint="Write SOURCE.STREAM; `smoll rejects` lists them.")
        columns = _rejected_columns(warehouse, table)
        if not columns:
            return ()
        where = f"WHERE {columns['load']} = {int(load)}" if load is not None else ""
        order = ", ".join(columns[name] for name in ("file", "line", "column") if columns[name] != _NO_FILE)
        raw = columns["raw"] if longest is None else f"left({columns['raw']}, {int(longest)})"
        selected = [raw if name == "raw" else column for name, column in columns.items()]
        most = f"LIMIT {int(limit)}" if limit is not None else ""
        rows = warehouse.execute(
            f"""SELECT {", ".join(selected)} FROM {rejected_table(table).sql} {where}
            ORDER BY {columns["load"]} DESC, {order} {most}"""
        ).fetchall()
        return tuple(Reject(*row) for row in rows)


def _rejected_columns(connection: DuckDBPyConnection, table: TableRef) -> dict[str, str]:
    """The columns of a table of rejected rows, as SQL; {} where there is none. The names of some can be configured."""
    names = [quote(column.name) for column in columns_of(connection, rejected_table(table))]
    if len(names) < len(_COLUMNS) - 1:
        return {}
    file = [] if len(names) >= len(_COLUMNS) else [_NO_FILE]
    return dict(zip(_COLUMNS, [*names[:2], *file, *names[2:]], strict=False))


def _tables(connection: DuckDBPyConnection | None) -> dict[StreamRef, TableRef]:
    """The table of every stream that was ever loaded, by the streams' names."""
    if connection is None or not columns_of(connection, _LOADS):
        return {}
    rows = connection.execute(
        f"""SELECT source, stream, arg_max(schema_name, run), arg_max(table_name, run) FROM {_LOADS.sql}
        GROUP BY source, stream ORDER BY source, stream"""
    ).fetchall()
    return {StreamRef(row[0], row[1]): TableRef(row[2], row[3]) for row in rows}


@contextmanager
def _reading(config: ProjectConfig) -> Iterator[DuckDBPyConnection | None]:
    """The working warehouse, read-only; None where there is none yet."""
    layout = Layout(config.root)
    if not layout.warehouse.is_file():
        yield None
        return
    with reading(layout.warehouse, "warehouse", _settings(config)) as connection:
        yield connection


def _settings(config: ProjectConfig) -> Settings:
    return engine_settings(config.resources, Layout(config.root).tmp)


def _refuse_unknown(name: str, known: Sequence[StreamRef] | Mapping[StreamRef, Any]) -> None:
    """Raise UsageError where `name` (SOURCE, SOURCE.STREAM or nothing) is not among the streams that were loaded."""
    if name and not any(name in (ref.source, str(ref)) for ref in known):
        there = ", ".join(str(ref) for ref in known)
        raise UsageError(
            f"{name}: nothing of this name was ever loaded.",
            hint=f"There are: {there}." if there else "Nothing was loaded yet; `smoll run` first.",
        )


# --- state


def read_states(config: ProjectConfig, name: str = "") -> tuple[StoredState, ...]:
    """The stored state of every stream, or of SOURCE, or of SOURCE.STREAM.

    Raises
    ------
    ReleaseError
        A run holds the warehouse.
    UsageError
        Nothing of this name has a state.
    StateError
        What is stored is no JSON object.
    """
    with _reading(config) as warehouse:
        return _states(warehouse, name)


def _states(connection: DuckDBPyConnection | None, name: str) -> tuple[StoredState, ...]:
    rows: list[Any] = []
    if connection is not None and columns_of(connection, _STATE):
        rows = connection.execute(
            f"SELECT source, stream, schema_name, table_name, mode, run, state FROM {_STATE.sql} ORDER BY ALL"
        ).fetchall()
    known = [StreamRef(row[0], row[1]) for row in rows]
    if name and not any(name in (ref.source, str(ref)) for ref in known):
        raise UsageError(
            f"{name}: there is no stored state of this name, so the next run loads it from nothing.",
            hint=f"There are: {', '.join(map(str, known))}." if known else "Nothing was loaded yet.",
        )
    return tuple(_stored(row) for row, ref in zip(rows, known, strict=True) if name in ("", ref.source, str(ref)))


def _stored(row: Sequence[Any]) -> StoredState:
    ref = StreamRef(row[0], row[1])
    try:
        state = json.loads(row[6] or "")
    except ValueError:
        state = None
    if not isinstance(state, dict):
        raise StateError(f"{ref}: the stored state is damaged.", hint=f"Load it anew: smoll run --reload {ref}")
    files = state.get("files")
    return StoredState(
        ref=ref,
        table=TableRef(row[2], row[3]),
        mode=row[4],
        run=row[5],
        column=state.get("column"),
        cursor=state.get("cursor"),
        files=len(files) if isinstance(files, dict) else 0,
        state=state,
    )


def set_cursor(
    config: ProjectConfig, stream: str, value: str, *, wait: bool = True, on_event: Listener | None = None
) -> tuple[StoredState, StoredState]:
    """Let the next run of SOURCE.STREAM read from the cursor `value` on. Returns the state before and after.

    Rows at and beyond it that the table has already are not added again.

    Raises
    ------
    UsageError
        The stream has no state or no cursor, or the value is none of the column's type.
    LockedError
        A run holds the project and `wait` is False.
    """
    with _writing(config, f"smoll state set {stream}", wait, on_event) as warehouse:
        before = _one(warehouse, stream)
        if before.column is None:
            files = " It goes on by its files." if before.files else ""
            raise UsageError(
                f"{stream} has no cursor that could be set.{files}",
                hint=f"`smoll state show {stream} --json` shows its state; --json-state sets it, "
                f"`smoll state reset {stream}` forgets it.",
            )
        cursor = _normalised(warehouse, config, before, before.column, value)
        return before, _store(warehouse, before, {**before.state, "cursor": cursor})


def set_state(
    config: ProjectConfig, stream: str, text: str, *, wait: bool = True, on_event: Listener | None = None
) -> tuple[StoredState, StoredState]:
    """Replace the whole state of SOURCE.STREAM by the JSON object in `text`. Returns the state before and after.

    Raises
    ------
    UsageError
        The text is no such state, or the stream has none.
    LockedError
        A run holds the project and `wait` is False.
    """
    state = _parse(text)
    with _writing(config, f"smoll state set {stream}", wait, on_event) as warehouse:
        before = _one(warehouse, stream)
        if before.column is not None and state.get("column") != before.column:
            raise UsageError(
                f"{stream}: the state must name the cursor's column: {json.dumps({'column': before.column})}.",
                hint=f"`smoll state show {stream} --json` shows a state to start from.",
            )
        if before.column is not None and "cursor" in state:
            state["cursor"] = _normalised(warehouse, config, before, before.column, state["cursor"])
        return before, _store(warehouse, before, state)


def reset_state(
    config: ProjectConfig, name: str, *, wait: bool = True, on_event: Listener | None = None
) -> tuple[StoredState, ...]:
    """Forget the state of SOURCE or SOURCE.STREAM: the next run loads it as if it were the first.

    The tables stay as they are until then. Returns what was forgotten.

    Raises
    ------
    UsageError
        Nothing of this name has a state.
    LockedError
        A run holds the project and `wait` is False.
    """
    with _writing(config, f"smoll state reset {name}", wait, on_event) as warehouse:
        forgotten = _states(warehouse, name)
        for stored in forgotten:
            _delete(warehouse, stored.ref)
        return forgotten


@contextmanager
def _writing(
    config: ProjectConfig, command: str, wait: bool, on_event: Listener | None
) -> Iterator[DuckDBPyConnection]:
    """The working warehouse in a transaction, under the project's lock."""
    layout = Layout(config.root)
    if not layout.warehouse.is_file():
        raise UsageError("There is no state: nothing was loaded yet.", hint="`smoll run` first.")

    def tell(holder: Holder) -> None:
        if on_event:
            on_event(LockWaiting(holder))

    with project_lock(layout.lock, command, wait=wait, on_wait=tell):
        complete_undo(layout)
        with open_warehouse(layout.warehouse, _settings(config)) as warehouse:
            warehouse.execute("BEGIN")
            yield warehouse
            warehouse.execute("COMMIT")


def _one(connection: DuckDBPyConnection, stream: str) -> StoredState:
    if "." not in stream:
        raise UsageError(f"{stream} is no stream.", hint="Write SOURCE.STREAM; `smoll state show` lists them.")
    return _states(connection, stream)[0]


def _normalised(
    connection: DuckDBPyConnection, config: ProjectConfig, stored: StoredState, column: str, value: str
) -> str:
    """The value as the loads write it: as DuckDB prints it in the type of the cursor's column."""
    source = config.sources.get(stored.ref.source)
    name = (apply_naming(source, column) if source else column).lower()
    kind = next((found.type for found in columns_of(connection, stored.table) if found.name.lower() == name), None)
    if kind is None:
        raise UsageError(
            f"{stored.ref}: the table {stored.table} has no column {name!r}.",
            hint=f"Load it anew: smoll run --reload {stored.ref}",
        )
    refused = misfits("v", "VARCHAR", kind) if is_number(kind) else "false"
    row = connection.execute(
        f"SELECT TRY_CAST(v AS {kind})::VARCHAR, {refused} FROM (SELECT {literal(value)} AS v)"
    ).fetchone()
    if row is None or row[0] is None or row[1] or not value.strip():
        raise UsageError(
            f"{stored.ref}: {value!r} is no value of the cursor {column}, which is {kind}.",
            hint=f"It is {stored.cursor!r} now." if stored.cursor is not None else "",
        )
    return str(row[0])


def _parse(text: str) -> dict[str, Any]:
    try:
        state = json.loads(text)
        if not isinstance(state, dict):
            raise ValueError("it is no JSON object")
        if not state:
            raise ValueError("it is empty, which is what `smoll state reset` is for")
        if not isinstance(state.get("cursor", ""), str):
            raise ValueError("`cursor` is no text")
        files = state.get("files", {})
        if not isinstance(files, dict) or not all(isinstance(print_, list) for print_ in files.values()):
            raise ValueError("`files` does not map each file to a list")
    except ValueError as error:
        raise UsageError(
            f"This is no state: {error}.", hint="`smoll state show STREAM --json` shows one to start from."
        ) from error
    return state


def _store(connection: DuckDBPyConnection, before: StoredState, state: Mapping[str, Any]) -> StoredState:
    names = [before.ref.source, before.ref.stream]
    table = [before.table.schema, before.table.name, before.mode]
    row = [*names, *table, before.run, json.dumps(state)]
    connection.execute(f"UPDATE {_STATE.sql} SET state = ? WHERE source = ? AND stream = ?", [row[-1], *names])
    return _stored(row)


def _delete(connection: DuckDBPyConnection, ref: StreamRef) -> None:
    connection.execute(f"DELETE FROM {_STATE.sql} WHERE source = ? AND stream = ?", [ref.source, ref.stream])
