"""Bad rows: rows that fit no permitted type, records that cannot be read at all, and where they go.

Under ``on_bad_row: fail`` the first of them fails the load, with file and line. Under ``quarantine`` each becomes
one row of ``<table>__rejected``, written in the transaction of the good rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import FILE_COLUMN, Damage, Extract, Part, StreamPlan
from smoll.errors import LoadError
from smoll.load.columns import Shape
from smoll.load.rows import RECORD, bad_rows
from smoll.load.table import LoadContext
from smoll.model import TableRef, literal, literals, quote
from smoll.warehouse import columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_BAD = "__smoll_bad"
_STARTS = "__smoll_starts"


def rejected_table(table: TableRef) -> TableRef:
    """The table that holds the rejected rows of a table."""
    return TableRef(table.schema, f"{table.name}__rejected")


def prepare_rejected(
    connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, extract: Extract, *, anew: bool
) -> None:
    """Take out the rejected rows that this load reads again, and make their table where rows may be rejected.

    Parameters
    ----------
    anew
        The stream's table is built anew: nothing rejected before counts any more.
    """
    table, names = rejected_table(plan.table), context.source.metadata
    again = [*extract.replaces, *(extract.gone if plan.deletes != "ignore" else ())]
    if anew or extract.complete:
        connection.execute(f"DROP TABLE IF EXISTS {table.sql}")
    elif again and columns_of(connection, table):
        connection.execute(f"DELETE FROM {table.sql} WHERE {quote(names.file)} IN (SELECT unnest({literals(again)}))")
    if plan.options.on_bad_row == "quarantine":
        columns = [f"{quote(names.load_id)} BIGINT", f"{quote(names.loaded_at)} TIMESTAMP"]
        columns += [f"{quote(names.file)} VARCHAR"] if plan.has_files else []
        columns += ["line BIGINT", "column_name VARCHAR", "reason VARCHAR", "raw VARCHAR"]
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table.sql} ({', '.join(columns)})")


def refuse_bad_rows(
    connection: DuckDBPyConnection, plan: StreamPlan, shape: Shape, parts: Sequence[Part], *, frozen: bool = False
) -> None:
    """Raise LoadError for the first row that does not fit, if there is one; with `frozen` a frozen column's type."""
    for part in parts:
        sql = bad_rows(plan, shape, part, frozen=frozen)
        if sql is None:
            continue
        row = connection.execute(
            f"""SELECT count(*), min({RECORD}), arg_min(file, {RECORD}), arg_min(column_name, {RECORD}),
            arg_min(reason, {RECORD}) FROM ({sql})"""
        ).fetchone()
        if row and row[0]:
            count, record, file, column, reason = row
            place = _place(connection, part, file, record) if file else f"record {record}"
            rest = count - 1
            more = f" ({'1 more row does' if rest == 1 else f'{rest:,} more rows do'} not fit.)" if rest else ""
            raise LoadError(f"{plan.ref}: {place}, column {column!r}: {reason}.{more}", hint=_hint(plan, column))


def _place(connection: DuckDBPyConnection, part: Part, file: str, record: int) -> str:
    record -= _starts(connection, part).get(file, 0)
    if part.locate is None:
        return f"{file}, record {record}"
    line = next((line for line, _ in part.locate(file, [record])), record)
    return f"{file}, line {line}"


def _hint(plan: StreamPlan, column: str) -> str:
    if column in plan.columns:
        return "Mend the row, remove the column from `columns` in smoll.yml, or set `on_bad_row: quarantine`."
    if column in plan.key:
        return "Mend the row, choose another `key`, or set `on_bad_row: quarantine`."
    follow = f"To let the types follow: `contract: evolve`, or smoll run --reload {plan.ref}."
    return follow if plan.options.contract == "freeze" else f"Mend the row, or set `on_bad_row: quarantine`. {follow}"


def reject_bad_rows(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    shape: Shape,
    parts: Sequence[Part],
    scratch: Path,
) -> int:
    """Write the rows that do not fit into the stream's table of rejected rows. Returns how many."""
    count = 0
    for part in parts:
        sql = bad_rows(plan, shape, part)
        if sql is None:
            continue
        row = connection.execute(f"CREATE OR REPLACE TEMP TABLE {_BAD} AS {sql}").fetchone()
        if row and row[0]:
            count += int(row[0])
            _reject(connection, plan, context, part, scratch)
    connection.execute(f"DROP TABLE IF EXISTS {_BAD}")
    return count


def reject_damage(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, damage: Damage) -> None:
    """Write the records that could not be read into the stream's table of rejected rows."""
    _insert(connection, plan, context, damage.rejected)


def _reject(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, part: Part, scratch: Path) -> None:
    starts = _starts(connection, part)
    start = f"coalesce(MAP {{{', '.join(f'{literal(name)}: {at}' for name, at in starts.items())}}}[file], 0)"
    record = f"{RECORD} - {start}" if starts else RECORD
    if part.locate is None:
        _insert(connection, plan, context, f"SELECT file, {record} AS line, column_name, reason, raw FROM {_BAD}")
        return
    located = scratch / "located.ndjson"
    longest = _write_located(connection, part, starts, located)
    read = (
        f"read_json({literal(str(located))}, format = 'newline_delimited', maximum_object_size = {longest + 1024}, "
        "columns = {record: 'BIGINT', line: 'BIGINT', raw: 'VARCHAR'})"
    )
    _insert(
        connection,
        plan,
        context,
        f"SELECT file, l.line, column_name, reason, l.raw FROM {_BAD} LEFT JOIN {read} l ON l.record = {RECORD}",
    )
    located.unlink()


def _write_located(connection: DuckDBPyConnection, part: Part, starts: dict[str, int], target: Path) -> int:
    """Write line and raw text of every bad record as JSON. Returns the length of the longest line written."""
    assert part.locate is not None
    longest = 0
    files = [row[0] for row in connection.execute(f"SELECT DISTINCT file FROM {_BAD} ORDER BY file").fetchall()]
    with target.open("w", encoding="utf-8") as output:
        for file in files:
            start = starts.get(file, 0)
            places = part.locate(file, _numbers(connection, file, start))
            for record, (line, raw) in zip(_numbers(connection, file, start), places, strict=False):
                text = json.dumps({"record": record + start, "line": line, "raw": raw}, ensure_ascii=False) + "\n"
                longest = max(longest, len(text.encode()))
                output.write(text)
    return longest


def _numbers(connection: DuckDBPyConnection, file: str, start: int) -> list[int]:
    sql = f"SELECT {RECORD} - ? FROM {_BAD} WHERE file = ? ORDER BY {RECORD}"
    return [row[0] for row in connection.execute(sql, [start, file]).fetchall()]


def _starts(connection: DuckDBPyConnection, part: Part) -> dict[str, int]:
    """How many records of the part stand before each file's first."""
    if len(part.files) < 2:
        return {}
    numbered = f"SELECT {quote(FILE_COLUMN)} AS file, row_number() OVER () AS record FROM ({part.sql})"
    return dict(connection.execute(f"SELECT file, min(record) - 1 FROM ({numbered}) GROUP BY file").fetchall())


def _insert(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, rows: str) -> None:
    """Add rejected rows. One that a cursor made to be read again is there once, as of its newest load."""
    table, names = rejected_table(plan.table), context.source.metadata
    if plan.by_cursor:
        again = f"raw IN (SELECT raw FROM ({rows})) AND {quote(names.load_id)} <> {context.run}"
        connection.execute(f"DELETE FROM {table.sql} WHERE {again}")
    file = f"file AS {quote(names.file)}, " if plan.has_files else ""
    connection.execute(
        f"""INSERT INTO {table.sql} BY NAME SELECT CAST({context.run} AS BIGINT) AS {quote(names.load_id)},
        {context.moment} AS {quote(names.loaded_at)}, {file}line, column_name, reason, raw FROM ({rows})"""
    )


def refuse_too_many(
    connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, rejected: int, read: int
) -> None:
    """Raise LoadError where more rows were rejected than ``max_rejects`` allows."""
    limit = plan.options.max_rejects
    if limit is None or rejected <= limit.of(read):
        return
    file = f"{quote(context.source.metadata.file)}, " if plan.has_files else "'', "
    load_id = quote(context.source.metadata.load_id)
    row = connection.execute(
        f"""SELECT {file}line, column_name, reason FROM {rejected_table(plan.table).sql}
        WHERE {load_id} = ? ORDER BY ALL LIMIT 1""",
        [context.run],
    ).fetchone()
    where, line, column, reason = row or ("", "", "", "")
    place = ", ".join(str(text) for text in (where, f"line {line}", f"column {column!r}" if column else "") if text)
    raise LoadError(
        f"{plan.ref}: {rejected:,} of {read:,} rows would be rejected, more than `max_rejects` ({limit}) allows. "
        f"The first: {place}: {reason}.",
        hint="Nothing was loaded. Mend the rows, or raise `max_rejects` in smoll.yml.",
    )
