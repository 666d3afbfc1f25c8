"""Mode ``merge``: a row replaces the row of the same key; rows that are gone in the source go, or are marked."""

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
from smoll.load.table import LoadContext, count_live, insert, mark_deleted
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def merge(
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
    """Merge the rows of the parts. Returns the rows read and the rows written.

    Deduplicate, delete and insert: DuckDB's MERGE INTO inserts both rows of a duplicate key, and is nine times
    slower at 10 million rows into 10 million.
    """
    read = stage(connection, parts, rows)
    deletes = finds_deletes(plan, extract) and (extract.settled or not rejects)
    if deletes:
        note_seen(connection, plan, extract, shape)
    keep_last(connection, plan, shape)
    drop_older(connection, plan, shape, "true")
    if deletes:
        before = count_live(connection, plan, context)
        gone = unseen(plan, shape)
        if rejects:  # a key that was not read may stand in a rejected row; but the rows of a file that is gone go
            gone += f" AND t.{quote(context.source.metadata.file)} IN ({', '.join(map(literal, extract.gone))})"
        removed = mark_deleted(connection, plan, context, gone, [])
        refuse_shrink(plan, before, before - removed)
    connection.execute(f"DELETE FROM {plan.table.sql} t USING {STAGE} s WHERE {match(plan, shape, 't', 's')}")
    written = insert(connection, plan.table.sql, f"SELECT * FROM {STAGE}")
    drop_stage(connection)
    return read, written
