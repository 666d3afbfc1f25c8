"""Query results on stdout: a table for people, exact CSV or JSON for machines.

DuckDB itself turns values into text: Python's types would lose nanoseconds, months of an interval and
years beyond 9999. Whole output lines come out of the engine, in batches, so memory stays flat.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from smoll.cli.output import VISIBLE, console, labelled
from smoll.errors import SmollError, UsageError
from smoll.model import literal

ROWS_IN_A_TABLE = 100
_ROWS_IN_A_BATCH = 10_000
_WRONG_QUERY = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
_NUMBERS = {"float", "double", "decimal"} | {
    sign + size for sign in ("", "u") for size in ("tinyint", "smallint", "integer", "bigint", "hugeint")
}


def answer(connection: duckdb.DuckDBPyConnection, query: str, style: str) -> None:
    """Run `query` and print what its last statement gives.

    Parameters
    ----------
    connection
        Where to run it.
    query
        One or more SQL statements.
    style
        ``table``, ``csv`` or ``json``.

    Raises
    ------
    UsageError
        The query does not parse, or names what is not there.
    SmollError
        DuckDB could not finish it.
    """
    if not query.strip():
        raise UsageError("The query is empty.", hint='For example: smoll sql "SHOW ALL TABLES"')
    try:
        relation = connection.sql(query)
        if relation is not None:  # None: the last statement gives no rows (SET, for example)
            {"table": _print_table, "csv": _print_csv, "json": _print_json}[style](connection, relation)
    except RuntimeError as error:
        # How DuckDB's client passes on a Ctrl-C that came while it was computing.
        if str(error) != "Query interrupted":
            raise
        connection.interrupt()  # or its threads compute on, and closing waits for them
        raise KeyboardInterrupt from error
    except _WRONG_QUERY as error:
        raise UsageError(str(error), hint='`smoll sql "SHOW ALL TABLES"` lists what is there.') from error
    except duckdb.Error as error:
        raise SmollError(f"DuckDB could not answer: {error}") from error


def _cursor(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> Any:
    """Give something to fetch the rows from in batches: the relation itself, until DuckDB 2.0 took that away."""
    return relation if hasattr(relation, "fetchmany") else connection.execute(relation.sql_query())


def _batches(
    connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, line: str
) -> Iterator[list[str]]:
    """Evaluate the SQL expression `line` for every row. Columns go by position, as names may repeat."""
    lines = _cursor(connection, relation.project(line))  # streams: in memory is a batch, not the result
    while batch := lines.fetchmany(_ROWS_IN_A_BATCH):
        yield [text for (text,) in batch]


def _print_csv(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> None:
    """RFC 4180 with plain line ends. NULL is nothing at all, an empty text is ``""``."""
    sys.stdout.write(",".join(_csv_field(name) for name in relation.columns) + "\n")
    fields = (f"#{n}::VARCHAR" for n, _ in enumerate(relation.columns, 1))
    quoted = (
        f"""CASE WHEN {f} IS NULL THEN '' WHEN {f} = '' OR regexp_matches({f}, '[",\\r\\n]') """
        f"""THEN '"' || replace({f}, '"', '""') || '"' ELSE {f} END"""
        for f in fields
    )
    for batch in _batches(connection, relation, " || ',' || ".join(quoted)):
        sys.stdout.write("\n".join([*batch, ""]))


def _csv_field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if text == "" or set(text) & set('",\r\n') else text


def _print_json(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> None:
    """Print an array of objects, one a line. Numbers keep all digits; NaN and infinity become text."""
    members = (
        literal(json.dumps(name) + ": ") + " || " + _json_value(position, kind.id)
        for position, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True), 1)
    )
    before = "[\n"
    for batch in _batches(connection, relation, "'{' || " + " || ', ' || ".join(members) + " || '}'"):
        sys.stdout.write(before + ",\n".join(batch))
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


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


def _print_table(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> None:
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
