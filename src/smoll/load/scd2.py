"""Mode ``scd2`` (slowly changing dimension, type 2): every version of a row, with the time in which it was valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smoll.connector import Extract, Part, StreamPlan
from smoll.load.columns import Shape
from smoll.load.guard import refuse_shrink
from smoll.load.stage import (
    STAGE,
    RowsOf,
    drop_older,
    drop_stage,
    finds_deletes,
    keep_last,
    match,
    note_seen,
    stage,
    unseen,
)
from smoll.load.table import LoadContext, insert
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def write_versions(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    extract: Extract,
    parts: Sequence[Part],
    shape: Shape,
    rows: RowsOf,
    *,
    rejects: bool,
) -> tuple[int, int]:
    """Close the versions that changed or are gone, and add the new ones. Returns the rows read and the rows added.

    A version is the same as the current one where all columns that the source has now are equal. A key whose last
    version was closed and that is back gets a new version.
    """
    names = context.source.metadata
    current, valid_from, valid_to = quote(names.current), quote(names.valid_from), quote(names.valid_to)
    table, same_key = plan.table.sql, match(plan, shape, "t", "s")
    read = stage(connection, parts, rows)
    deletes = finds_deletes(plan, extract) and not rejects
    if deletes:
        note_seen(connection, plan, extract, shape)
    keep_last(connection, plan, shape)
    drop_older(connection, plan, shape, f"t.{current}")
    equal = " AND ".join(f"t.{quote(name)} IS NOT DISTINCT FROM s.{quote(name)}" for name in shape.brought)
    connection.execute(f"DELETE FROM {STAGE} s USING {table} t WHERE t.{current} AND {same_key} AND {equal}")
    moment = _moment(connection, plan, context)
    close = f"UPDATE {table} t SET {valid_to} = {moment}, {current} = false"
    if deletes:
        before = _count(connection, f"SELECT count(*) FROM {table} WHERE {current}")
        gone = f"t.{current} AND {unseen(plan, shape)}"
        closed = _count(connection, f"{close} WHERE {gone}")
        refuse_shrink(plan, before, before - closed)
    connection.execute(f"{close} FROM {STAGE} s WHERE t.{current} AND {same_key}")
    added = f"{moment} AS {valid_from}, CAST(NULL AS TIMESTAMP) AS {valid_to}, true AS {current}"
    written = insert(connection, table, f"SELECT *, {added} FROM {STAGE}")
    drop_stage(connection)
    return read, written


def _moment(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext) -> str:
    """When the versions of this load begin: its start, and never before a time that the table has already.

    A clock that was set back would else make versions that end before they begin.
    """
    names = context.source.metadata
    row = connection.execute(
        f"""SELECT CAST(greatest({context.moment}, max({quote(names.valid_from)}), max({quote(names.valid_to)}))
        AS VARCHAR) FROM {plan.table.sql}"""
    ).fetchone()
    return f"TIMESTAMP {literal(str(row[0]))}" if row and row[0] else context.moment


def _count(connection: DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0
