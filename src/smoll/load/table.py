"""The target side of a load: the table's columns, its metadata columns, and the state beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from smoll.connector import StreamPlan, apply_naming
from smoll.errors import LoadError
from smoll.model import Column, StreamResult, TableRef, literal, quote
from smoll.warehouse import INTERNAL_SCHEMA, columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import Source

_STATE_TABLES = f"""
CREATE SCHEMA IF NOT EXISTS {INTERNAL_SCHEMA};
CREATE TABLE IF NOT EXISTS {INTERNAL_SCHEMA}.loads (
  run BIGINT, source VARCHAR, stream VARCHAR, schema_name VARCHAR, table_name VARCHAR, mode VARCHAR,
  rows_written BIGINT, rows_total BIGINT, started TIMESTAMP, finished TIMESTAMP,
  rows_read BIGINT, rows_rejected BIGINT);
CREATE TABLE IF NOT EXISTS {INTERNAL_SCHEMA}.state (
  source VARCHAR, stream VARCHAR, schema_name VARCHAR, table_name VARCHAR, mode VARCHAR, state VARCHAR, run BIGINT);
"""


@dataclass(frozen=True)
class LoadContext:
    """What a load needs beside its stream. ``started`` is in UTC and becomes ``_smoll_loaded_at``.

    ``span`` is a range of the cursor that is to be loaded again, from (inclusive) and up to (exclusive), as text;
    None where the load goes on from its state.
    """

    run: int
    started: datetime
    source: Source
    span: tuple[str | None, str | None] | None = None

    @property
    def moment(self) -> str:
        """SQL: when the load began, in UTC."""
        return f"TIMESTAMP {literal(self.started.strftime('%Y-%m-%d %H:%M:%S.%f'))}"


def prepare_schemas(connection: DuckDBPyConnection, plans: Sequence[StreamPlan]) -> None:
    """Create the schemas and the state tables, before any transaction: concurrent CREATE SCHEMA conflict."""
    connection.execute(_STATE_TABLES)
    for schema in sorted({plan.table.schema for plan in plans}):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")


def read_state(connection: DuckDBPyConnection, plan: StreamPlan) -> dict[str, Any]:
    """The state of the stream's last load; {} where there is none, or it had another table, mode, key or cursor.

    Raises LoadError where the stored state is none that smoll wrote.
    """
    row = connection.execute(
        f"SELECT schema_name, table_name, mode, state FROM {INTERNAL_SCHEMA}.state WHERE {_is_of(plan)}"
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
    same = state.get("column", plan.cursor) == plan.cursor and state.get("key", list(plan.key)) == list(plan.key)
    return state if same else {}


def write_state(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    state: Mapping[str, Any],
    result: StreamResult,
) -> None:
    """Store state and load record. Call inside the transaction of the data they cover."""
    texts = [plan.ref.source, plan.ref.stream, plan.table.schema, plan.table.name, plan.mode]
    names = ", ".join(map(literal, texts))
    connection.execute(f"DELETE FROM {INTERNAL_SCHEMA}.state WHERE {_is_of(plan)}")
    connection.execute(
        f"INSERT INTO {INTERNAL_SCHEMA}.state VALUES ({names}, {literal(json.dumps(state))}, {context.run:d})"
    )
    connection.execute(
        f"""INSERT INTO {INTERNAL_SCHEMA}.loads BY POSITION
        VALUES ({context.run:d}, {names}, {result.rows:d}, {result.total:d}, {context.moment},
          greatest({context.moment}, now() AT TIME ZONE 'UTC'), {result.read:d}, {result.rejected:d})"""
    )


def _is_of(plan: StreamPlan) -> str:
    return f"source = {literal(plan.ref.source)} AND stream = {literal(plan.ref.stream)}"


def stored_columns(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext) -> dict[str, str]:
    """The data columns of the target table by name, without the metadata columns; {} where it has no rows.

    A table without rows binds nothing: its types were guesses about values that nobody has seen.
    """
    found = columns_of(connection, plan.table)
    if not found or connection.execute(f"SELECT 1 FROM {plan.table.sql} LIMIT 1").fetchone() is None:
        return {}
    reserved = {column.name.lower() for column in added_columns(plan, context.source)}
    return {column.name: column.type for column in found if column.name.lower() not in reserved}


def has_metadata(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext) -> bool:
    """True where the target is a table that smoll loaded, with the metadata columns as they are named now."""
    found = {column.name.lower() for column in columns_of(connection, plan.table)}
    return {column.name.lower() for column in added_columns(plan, context.source)} <= found


def count_rows(connection: DuckDBPyConnection, table: TableRef) -> int:
    """Rows of a table; 0 where there is none. DuckDB answers from its statistics."""
    import duckdb

    try:
        row = connection.execute(f"SELECT count(*) FROM {table.sql}").fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0]) if row else 0


def count_live(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext) -> int:
    """Rows of the stream's table that are not marked as deleted."""
    name = context.source.metadata.deleted_at
    if name.lower() not in {column.name.lower() for column in columns_of(connection, plan.table)}:
        return count_rows(connection, plan.table)
    sql = f"SELECT count(*) FROM {plan.table.sql} WHERE {quote(name)} IS NULL"
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0


def insert(connection: DuckDBPyConnection, table: str, select: str) -> int:
    """Add rows by the names of their columns: an altered table has its new columns behind the metadata columns."""
    row = connection.execute(f"INSERT INTO {table} BY NAME {select}").fetchone()
    return int(row[0]) if row else 0


def mark_deleted(
    connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, where: str, parameters: Sequence[object]
) -> int:
    """Delete rows of the stream's table (alias ``t``), or mark them under ``deletes: soft``. Returns how many."""
    if plan.deletes == "soft":
        column = quote(context.source.metadata.deleted_at)
        sql = f"UPDATE {plan.table.sql} t SET {column} = {context.moment} WHERE t.{column} IS NULL AND {where}"
    else:
        sql = f"DELETE FROM {plan.table.sql} t WHERE {where}"
    row = connection.execute(sql, list(parameters)).fetchone()
    return int(row[0]) if row else 0


def added_columns(plan: StreamPlan, source: Source) -> tuple[Column, ...]:
    """The columns that smoll adds to the stream's rows."""
    names = source.metadata
    added = [Column(names.load_id, "BIGINT"), Column(names.loaded_at, "TIMESTAMP")]
    if plan.has_files:
        added.append(Column(names.file, "VARCHAR"))
    if plan.deletes == "soft":
        added.append(Column(names.deleted_at, "TIMESTAMP"))
    if plan.mode == "scd2":
        added += [
            Column(names.valid_from, "TIMESTAMP"),
            Column(names.valid_to, "TIMESTAMP"),
            Column(names.current, "BOOLEAN"),
        ]
    return tuple(added)


def target_names(plan: StreamPlan, columns: Sequence[str], context: LoadContext) -> dict[str, str]:
    """Map each column of the source, in lower case, to its name in the table. Raises LoadError where two are one."""
    names: dict[str, str] = {}
    added = added_columns(plan, context.source)
    taken = {column.name.lower(): "a column that smoll adds" for column in added}
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
