"""The target side of a load: the table's columns, its metadata columns, and the state beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from smoll.connector import StreamPlan, apply_naming
from smoll.errors import LoadError
from smoll.model import Column, quote
from smoll.warehouse import INTERNAL_SCHEMA, columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import Source

_STATE_TABLES = f"""
CREATE SCHEMA IF NOT EXISTS {INTERNAL_SCHEMA};
CREATE TABLE IF NOT EXISTS {INTERNAL_SCHEMA}.loads (
  run BIGINT, source VARCHAR, stream VARCHAR, schema_name VARCHAR, table_name VARCHAR, mode VARCHAR,
  rows_written BIGINT, rows_total BIGINT, started TIMESTAMP, finished TIMESTAMP);
CREATE TABLE IF NOT EXISTS {INTERNAL_SCHEMA}.state (
  source VARCHAR, stream VARCHAR, schema_name VARCHAR, table_name VARCHAR, mode VARCHAR, state VARCHAR, run BIGINT);
"""


@dataclass(frozen=True)
class LoadContext:
    """What a load needs beside its stream. ``started`` is in UTC and becomes ``_smoll_loaded_at``."""

    run: int
    started: datetime
    source: Source


def prepare_schemas(connection: DuckDBPyConnection, plans: Sequence[StreamPlan]) -> None:
    """Create the schemas and the state tables, before any transaction: concurrent CREATE SCHEMA conflict."""
    connection.execute(_STATE_TABLES)
    for schema in sorted({plan.table.schema for plan in plans}):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")


def read_state(connection: DuckDBPyConnection, plan: StreamPlan) -> dict[str, Any]:
    """The state of the stream's last load; {} where there is none, or it had another table, mode or cursor.

    Raises LoadError where the stored state is none that smoll wrote.
    """
    row = connection.execute(
        f"SELECT schema_name, table_name, mode, state FROM {INTERNAL_SCHEMA}.state WHERE source = ? AND stream = ?",
        [plan.ref.source, plan.ref.stream],
    ).fetchone()
    if row is None or not columns_of(connection, plan.table):
        return {}
    if (row[0], row[1]) != (plan.table.schema, plan.table.name) or row[2] != plan.mode:
        return {}
    try:
        state = json.loads(row[3] or "")
        if not isinstance(state, dict) or not isinstance(state.get("files", {}), dict):
            raise ValueError("not an object")
        if not isinstance(state.get("cursor", ""), str):
            raise ValueError("the cursor is no text")
    except ValueError as error:
        raise LoadError(
            f"{plan.ref}: the stored state is damaged ({error}).",
            hint=f"Load the stream anew: smoll run --reload {plan.ref}",
        ) from error
    return state if state.get("column", plan.cursor) == plan.cursor else {}


def write_state(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    state: Mapping[str, Any],
    rows: int,
    total: int,
) -> None:
    """Store state and load record. Call inside the transaction of the data they cover."""
    names = [plan.ref.source, plan.ref.stream]
    table = [plan.table.schema, plan.table.name, plan.mode]
    connection.execute(f"DELETE FROM {INTERNAL_SCHEMA}.state WHERE source = ? AND stream = ?", names)
    connection.execute(
        f"INSERT INTO {INTERNAL_SCHEMA}.state VALUES (?, ?, ?, ?, ?, ?, ?)",
        [*names, *table, json.dumps(state), context.run],
    )
    connection.execute(
        f"""INSERT INTO {INTERNAL_SCHEMA}.loads
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, now() AT TIME ZONE 'UTC')""",
        [context.run, *names, *table, rows, total, context.started],
    )


def stored_columns(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext) -> dict[str, str]:
    """The data columns of the target table by name, without the metadata columns; {} where it has no rows.

    A table without rows binds nothing: its types were guesses about values that nobody has seen.
    """
    found = columns_of(connection, plan.table)
    if not found or connection.execute(f"SELECT 1 FROM {plan.table.sql} LIMIT 1").fetchone() is None:
        return {}
    reserved = {name.lower() for name in metadata_names(context.source)}
    return {column.name: column.type for column in found if column.name.lower() not in reserved}


def has_metadata(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext) -> bool:
    """True where the target is a table that smoll loaded, with the metadata columns as they are named now."""
    found = {column.name.lower() for column in columns_of(connection, plan.table)}
    return {column.name.lower() for column in table_columns({}, context, plan.has_files)} <= found


def metadata_names(source: Source) -> tuple[str, ...]:
    """The names of the columns that smoll adds, as the source has them set."""
    names = source.metadata
    return (names.load_id, names.loaded_at, names.file)


def target_names(plan: StreamPlan, columns: Sequence[str], context: LoadContext) -> dict[str, str]:
    """Map each column of the source, in lower case, to its name in the table. Raises LoadError where two are one."""
    names: dict[str, str] = {}
    taken = {name.lower(): "a column that smoll adds" for name in metadata_names(context.source)}
    for column in columns:
        name = apply_naming(context.source, column)
        if name.lower() in taken:
            raise LoadError(
                f"{plan.ref}: column {column!r} would have the same name as {taken[name.lower()]}.",
                hint="Rename it in the source, or set `naming` or `metadata` on the source.",
            )
        taken[name.lower()] = f"{column!r}"
        names[column.lower()] = name
    return names


def table_columns(columns: Mapping[str, str], context: LoadContext, with_file: bool) -> tuple[Column, ...]:
    """The columns of a new table: the data, then what smoll adds."""
    names = context.source.metadata
    added = [Column(names.load_id, "BIGINT"), Column(names.loaded_at, "TIMESTAMP")]
    if with_file:
        added.append(Column(names.file, "VARCHAR"))
    return (*(Column(name, kind) for name, kind in columns.items()), *added)
