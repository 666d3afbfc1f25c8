"""A source that got another name: its tables and its state move to the new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smoll.connector import StreamPlan
from smoll.errors import LoadError
from smoll.load.rejects import rejected_table
from smoll.model import TableRef
from smoll.warehouse import INTERNAL_SCHEMA, columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def move_source(connection: DuckDBPyConnection, name: str, was: str, plans: Sequence[StreamPlan]) -> list[str]:
    """Move the streams that were loaded under the source's former name, in one transaction. Returns what to tell.

    A stream that the new name has state of already is left alone, so that it is safe to leave `was` in smoll.yml.

    Raises
    ------
    LoadError
        The table of the new name is there already, and another one.
    """
    moved = []
    connection.execute("BEGIN")
    try:
        for plan in plans:
            if _state_table(connection, name, plan.ref.stream) is None:
                old = _state_table(connection, was, plan.ref.stream)
                if old is not None:
                    _move(connection, plan, was, old)
                    moved.append(plan.ref.stream)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return [f"The source {was} is {name} now: {', '.join(moved)} moved with its state."] if moved else []


def _state_table(connection: DuckDBPyConnection, source: str, stream: str) -> TableRef | None:
    row = connection.execute(
        f"SELECT schema_name, table_name FROM {INTERNAL_SCHEMA}.state WHERE source = ? AND stream = ?",
        [source, stream],
    ).fetchone()
    return TableRef(row[0], row[1]) if row else None


def _move(connection: DuckDBPyConnection, plan: StreamPlan, was: str, old: TableRef) -> None:
    if old != plan.table:
        for source, target in ((old, plan.table), (rejected_table(old), rejected_table(plan.table))):
            if not columns_of(connection, source):
                continue
            if columns_of(connection, target):
                raise LoadError(
                    f"{plan.ref} was {was}.{plan.ref.stream}, but the table {target} is there already.",
                    hint=f"Remove one of {source} and {target}, or remove `was` from smoll.yml.",
                )
            connection.execute(f"CREATE TABLE {target.sql} AS FROM {source.sql}")
            connection.execute(f"DROP TABLE {source.sql}")
    for table in ("state", "loads"):
        connection.execute(
            f"""UPDATE {INTERNAL_SCHEMA}.{table} SET source = ?, schema_name = ?, table_name = ?
            WHERE source = ? AND stream = ?""",
            [plan.ref.source, plan.table.schema, plan.table.name, was, plan.ref.stream],
        )
