"""The staged rows of a load: a temporary table in the order read, for the modes that compare before they write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from smoll.connector import Extract, Part, StreamPlan
from smoll.load.columns import Shape
from smoll.load.rows import key_rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STAGE = "__smoll_stage"
_SEEN = "__smoll_seen"
_PLACE = "__smoll_place"

RowsOf = Callable[[Part], str]
"""Gives the SELECT of a part's rows, as the table has them."""


def stage(connection: DuckDBPyConnection, parts: Sequence[Part], rows: RowsOf) -> int:
    """Read all parts into `STAGE`, in order. Returns the number of rows."""
    connection.execute(f"DROP TABLE IF EXISTS {STAGE}")
    count = 0
    for part in parts:
        if count == 0:
            row = connection.execute(f"CREATE OR REPLACE TEMP TABLE {STAGE} AS {rows(part)}").fetchone()
        else:
            row = connection.execute(f"INSERT INTO {STAGE} BY NAME {rows(part)}").fetchone()
        count += int(row[0]) if row else 0
    return count


def match(plan: StreamPlan, shape: Shape, one: str, other: str) -> str:
    """SQL: the rows of two aliases have the same key. A key is never NULL."""
    keys = [shape.quoted(name) for name in plan.key]
    return " AND ".join(f"{one}.{key} = {other}.{key}" for key in keys)


def keep_last(connection: DuckDBPyConnection, plan: StreamPlan, shape: Shape) -> None:
    """Of several staged rows of one key keep the last: the highest by cursor, without one the last one read."""
    keys = ", ".join(shape.quoted(name) for name in plan.key)
    twice = f"SELECT count(*) FROM (SELECT 1 FROM {STAGE} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1)"
    row = connection.execute(twice).fetchone()
    if not row or not row[0]:
        return
    # Not by DuckDB's rowid: a source may have a column of that name, which hides it.
    order = f"{shape.quoted(plan.cursor)} DESC NULLS LAST, {_PLACE} DESC" if plan.cursor else f"{_PLACE} DESC"
    placed = f"SELECT *, row_number() OVER () AS {_PLACE} FROM {STAGE}"
    last = f"SELECT {_PLACE} FROM ({placed}) QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
    kept = f"SELECT * EXCLUDE ({_PLACE}) FROM ({placed}) WHERE {_PLACE} IN ({last})"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {STAGE} AS {kept}")


def drop_older(connection: DuckDBPyConnection, plan: StreamPlan, shape: Shape, where: str) -> None:
    """Leave out staged rows that are older, by the cursor, than the table's row of that key.

    Files may come late. A database has no late rows: what it says now is so, also where it took the cursor's value
    away. `where` limits the rows of the table, whose alias is ``t``.
    """
    if not plan.cursor or plan.by_cursor or not plan.has_files:
        return
    cursor = shape.quoted(plan.cursor)
    older = f"t.{cursor} > s.{cursor} OR (s.{cursor} IS NULL AND t.{cursor} IS NOT NULL)"
    connection.execute(
        f"DELETE FROM {STAGE} s USING {plan.table.sql} t WHERE {match(plan, shape, 't', 's')} AND ({older}) AND {where}"
    )


def note_seen(connection: DuckDBPyConnection, plan: StreamPlan, extract: Extract, shape: Shape) -> None:
    """Remember the keys that the source has. Call before any staged row is left out."""
    keys = ", ".join(shape.quoted(name) for name in plan.key)
    source = key_rows(plan, shape, extract.keys) if extract.keys else f"SELECT {keys} FROM {STAGE}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_SEEN} AS SELECT DISTINCT {keys} FROM ({source})")


def unseen(plan: StreamPlan, shape: Shape) -> str:
    """SQL: a row of the table, with the alias ``t``, is gone in the source: its key was not noted by `note_seen`."""
    return f"NOT EXISTS (SELECT 1 FROM {_SEEN} s WHERE {match(plan, shape, 't', 's')})"


def finds_deletes(plan: StreamPlan, extract: Extract) -> bool:
    """True where this load can tell which rows are gone, and is to follow."""
    return plan.deletes != "ignore" and (extract.complete or extract.keys is not None)


def drop_stage(connection: DuckDBPyConnection) -> None:
    """Free the memory at once."""
    connection.execute(f"DROP TABLE IF EXISTS {STAGE}; DROP TABLE IF EXISTS {_SEEN}")
