"""Query results: a table for people, exact CSV, JSON or Parquet for machines.

DuckDB itself turns values into text: Python's types would lose nanoseconds, months of an interval and
years beyond 9999. Whole output lines come out of the engine, in batches, so memory stays flat.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import duckdb
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from smoll.cli.answering import lacks_memory, out_of_memory
from smoll.cli.output import VISIBLE, console, labelled
from smoll.cli.parquet import LINE_BEGINS, write_parquet
from smoll.errors import SmollError, UsageError
from smoll.interrupts import interruptible
from smoll.model import literal

ROWS_IN_A_TABLE = 100
_ROWS_IN_A_BATCH = 10_000
_CELLS_IN_A_BATCH = 100_000
"""A row may have thousands of columns."""
_SECONDS_TO_END = 1.0
"""What DuckDB does not end within this time of a Ctrl-C, it does not hear of: a value of a billion characters, say."""
_WRONG_QUERY = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
_PLACE = "\n\nLINE "
_NUMBERS = {"float", "double", "decimal"} | {
    sign + size for sign in ("", "u") for size in ("tinyint", "smallint", "integer", "bigint", "hugeint")
}


def answer(connection: duckdb.DuckDBPyConnection, query: str, style: str, output: Path | None = None) -> int | None:
    """Run `query` and print what its last statement gives. Ctrl-C ends it, whatever DuckDB is doing.

    Parameters
    ----------
    connection
        Where to run it.
    query
        One or more SQL statements.
    style
        ``table``, ``csv``, ``json`` or ``parquet``.
    output
        Write into this file, not to stdout.

    Returns
    -------
    int or None
        How many rows were printed; None where the last statement gives none (SET, for example).

    Raises
    ------
    UsageError
        The query does not parse, or names what is not there.
    SmollError
        DuckDB could not finish it.
    """
    if not query.strip():
        raise UsageError("The query is empty.", hint='For example: smoll sql "SHOW ALL TABLES"')
    # To end the process loses nothing: it only reads, in a process of its own.
    return interruptible(connection, lambda: _answer(connection, query, style, output), patience=_SECONDS_TO_END)


def _answer(connection: duckdb.DuckDBPyConnection, query: str, style: str, output: Path | None) -> int | None:
    try:
        relation = connection.sql(query)
        if relation is None:
            return None
        if style == "parquet":
            return _write_parquet(connection, relation, output)
        if style == "table":
            return _print_table(connection, relation)
        printed = {"csv": _print_csv, "json": _print_json}[style]
        if output is None:
            return printed(connection, relation, sys.stdout)
        with output.open("w", encoding="utf-8", newline="\n") as file:
            return printed(connection, relation, file)
    except _WRONG_QUERY as error:
        message = _located(connection, query, error)
        raise UsageError(message, hint='`smoll sql "SHOW ALL TABLES"` lists what is there.') from error
    except duckdb.Error as error:
        if lacks_memory(error):
            raise out_of_memory() from error
        what = str(error).partition(_PLACE)[0]  # the place is one in SQL that DuckDB made of the query
        raise SmollError(f"DuckDB could not answer: {what}") from error


def _located(connection: duckdb.DuckDBPyConnection, query: str, error: duckdb.Error) -> str:
    """The error with the line and a mark under the place, which DuckDB leaves out where it binds without running."""
    with suppress(duckdb.Error):
        if _PLACE not in str(error) and len(connection.extract_statements(query)) == 1:
            try:
                connection.execute(f"EXPLAIN\n{query}")
            except _WRONG_QUERY as again:
                before, place, after = str(again).partition(_PLACE)
                number, colon, rest = after.partition(":")
                if place and before.splitlines()[:1] == str(error).splitlines()[:1]:
                    return f"{before}{place}{int(number) - 1}{colon}{rest}"
    return str(error)


def _cursor(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> Any:
    """Give something to fetch the rows from in batches: the relation itself, until DuckDB 2.0 took that away."""
    return relation if hasattr(relation, "fetchmany") else connection.execute(relation.sql_query())


def _batches(
    connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, line: str
) -> Iterator[list[str]]:
    """Evaluate the SQL expression `line` for every row. Columns go by position, as names may repeat."""
    lines = _cursor(connection, relation.project(line))  # streams: in memory is a batch, not the result
    rows = max(1, min(_ROWS_IN_A_BATCH, _CELLS_IN_A_BATCH // len(relation.columns)))
    while batch := lines.fetchmany(rows):
        yield [text for (text,) in batch]


def _write_parquet(
    connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, output: Path | None
) -> int:
    columns = list(zip(relation.columns, relation.types, strict=True))
    line = _csv_line(relation, f"{LINE_BEGINS},")
    sys.stdout.flush()
    return write_parquet(columns, _batches(connection, relation, line), str(output or "/dev/stdout"))


def _csv_line(relation: duckdb.DuckDBPyRelation, begins: str = "") -> str:
    """RFC 4180. NULL is nothing at all, an empty text is ``""``."""
    fields = (f"#{n}::VARCHAR" for n, _ in enumerate(relation.columns, 1))
    cells = (
        f"""CASE WHEN {f} IS NULL THEN '' WHEN {f} = '' OR regexp_matches({f}, '[",\\r\\n]') """
        f"""THEN '"' || replace({f}, '"', '""') || '"' ELSE {f} END"""
        for f in fields
    )
    return _joined(begins, ",", cells)


def _joined(begins: str, between: str, cells: Iterable[str], ends: str = "") -> str:
    """SQL of one text. With ``||`` each of the columns would hold a copy of all before it."""
    parts = f", {literal(between)}, ".join(cells)
    return f"concat({literal(begins)}, {parts}, {literal(ends)})"


def _print_csv(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, out: TextIO) -> int:
    """Print a line for the names and one for each row, with plain line ends."""
    rows = 0
    out.write(",".join(_csv_field(name) for name in relation.columns) + "\n")
    for batch in _batches(connection, relation, _csv_line(relation)):
        out.write("\n".join([*batch, ""]))
        rows += len(batch)
    return rows


def _csv_field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if text == "" or set(text) & set('",\r\n') else text


def _print_json(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, out: TextIO) -> int:
    """Print an array of objects, one a line. Numbers keep all digits; NaN and infinity become text."""
    members = (
        literal(json.dumps(name) + ": ") + ", " + _json_value(position, kind.id)
        for position, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True), 1)
    )
    rows = 0
    for batch in _batches(connection, relation, _joined("{", ", ", members, "}")):
        out.write((",\n" if rows else "[\n") + ",\n".join(batch))
        rows += len(batch)
    out.write("\n]\n" if rows else "[]\n")
    return rows


def _json_value(position: int, kind: str) -> str:
    value = f"#{position}"
    if kind in ("float", "double"):
        # JSON has no NaN; DuckDB would write one.
        text = f"CASE WHEN isfinite({value}) THEN {value}::VARCHAR ELSE '\"' || {value}::VARCHAR || '\"' END"
    elif kind == "decimal":
        # DuckDB leaves out the zero before the point where a type has no whole digits; JSON wants it.
        text = f"regexp_replace({value}::VARCHAR, '^(-?)[.]', '\\10.')"
    else:
        text = f"to_json({value})::VARCHAR"
    return f"coalesce({text}, 'null')"


def _print_table(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> int:
    texts = relation.project(", ".join(f"#{n}::VARCHAR" for n, _ in enumerate(relation.columns, 1)))
    rows = _cursor(connection, texts).fetchmany(ROWS_IN_A_TABLE + 1)
    numbers = [kind.id in _NUMBERS for kind in relation.types]
    output = console()
    shown = rows[:ROWS_IN_A_TABLE]
    table = _table(relation.columns, numbers, shown)
    if _fits(output, table):
        output.print(table)
    else:
        for number, row in enumerate(shown, 1):
            cells = zip(relation.columns, map(_cell, row), strict=True)
            output.print(Text(f"row {number}", "dim"), labelled(cells))
    if len(rows) > ROWS_IN_A_TABLE:
        more = f"These are the first {ROWS_IN_A_TABLE} rows; --format csv or json gives all."
        print(more, file=sys.stderr)
    return len(shown)


def _table(columns: Sequence[str], numbers: Sequence[bool], rows: Sequence[tuple[str | None, ...]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, is_number in zip(columns, numbers, strict=True):
        justify: JustifyMethod = "right" if is_number else "left"
        table.add_column(Text(name.translate(VISIBLE)), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: str | None) -> Text:
    return Text("NULL", "dim italic") if value is None else Text(value.translate(VISIBLE))


def _fits(output: Console, table: Table) -> bool:
    """Whether the table is narrow enough. One that is not is printed row by row, so that nothing is cut."""
    return output.measure(table, options=output.options.update(width=10_000)).maximum <= output.width
