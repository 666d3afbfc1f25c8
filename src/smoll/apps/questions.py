"""The SQL of Explore: what was chosen on the page becomes a query with bound values.

Names come from the release's own catalog and are quoted, values are bound. Nothing of Streamlit is known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smoll.model import literal, quote

AGGREGATES = {
    "sum": "sum({})",
    "average": "avg({})",
    "median": "median({})",
    "least": "min({})",
    "most": "max({})",
    "different values": "count(DISTINCT {})",
}
"""Of a column; beside them there is the count of rows."""
COUNT = "rows"
BUCKETS = ("year", "quarter", "month", "week", "day", "hour")
_NUMBERS = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|FLOAT|DOUBLE|DECIMAL\b.*")
_TIMES = re.compile(r"DATE|TIMESTAMP\b.*")
_EXACT_IN_ARROW = re.compile(
    r"U?(TINYINT|SMALLINT|INTEGER|BIGINT)|FLOAT|DOUBLE|DECIMAL\b.*|BOOLEAN|DATE|TIME|TIMESTAMP\b.*|VARCHAR|BLOB"
)
_HUGE = re.compile(r"U?HUGEINT")
_CUT = 500
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class Column:
    """A column of a released table, with its type in DuckDB's words."""

    name: str
    type: str
    description: str = ""

    @property
    def sql(self) -> str:
        return quote(self.name)

    @property
    def kind(self) -> str:
        """``number``, ``time``, ``flag`` or ``text``, which is whatever else there is, written out."""
        if _NUMBERS.fullmatch(self.type):
            return "number"
        if _TIMES.fullmatch(self.type):
            return "time"
        return "flag" if self.type == "BOOLEAN" else "text"

    @property
    def text(self) -> str:
        """The value written out."""
        return self.sql if self.type == "VARCHAR" else f"{self.sql}::VARCHAR"

    @property
    def shown(self) -> str:
        """The value as a page can show it: exact where that is possible, a text that is cut otherwise."""
        if _HUGE.fullmatch(self.type):  # what sums of whole numbers are
            return f"{self.sql}::DOUBLE AS {self.sql}"
        if _EXACT_IN_ARROW.fullmatch(self.type) and self.type not in ("VARCHAR", "BLOB"):
            return self.sql
        cut = f"left({self.text}, {_CUT})"
        return f"CASE WHEN length({self.text}) > {_CUT} THEN {cut} || '…' ELSE {self.text} END AS {self.sql}"

    @property
    def in_parquet(self) -> str:
        """The value as Parquet has it, as DuckDB itself writes it: types that it lacks as numbers or text."""
        if _HUGE.fullmatch(self.type):
            return f"{self.sql}::DOUBLE AS {self.sql}"
        return self.sql if _EXACT_IN_ARROW.fullmatch(self.type) else f"{self.text} AS {self.sql}"

    @property
    def in_csv(self) -> str:
        """The value as CSV has it."""
        is_plain = _EXACT_IN_ARROW.fullmatch(self.type) and self.type != "BLOB"
        return self.sql if is_plain else f"{self.text} AS {self.sql}"


@dataclass(frozen=True)
class Question:
    """A query and the values for its question marks."""

    sql: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Filter:
    """A condition on one column. Rows without a value miss every one but ``among`` with None in it."""

    column: Column
    low: Any = None
    high: Any = None
    among: tuple[str | None, ...] = ()
    contains: str = ""

    def condition(self) -> Question:
        """The condition; "" where it lets everything through."""
        parts: list[str] = []
        values: list[Any] = []
        if self.low is not None:
            parts.append(f"{self.column.sql} >= ?")
            values.append(self.low)
        if self.high is not None:
            # A day as the upper end means all of it.
            after = f"?::DATE + 1 > {self.column.sql}" if self.column.kind == "time" else f"{self.column.sql} <= ?"
            parts.append(after)
            values.append(self.high)
        if self.among:
            known = [value for value in self.among if value is not None]
            either = [f"{self.column.text} IN ({', '.join('?' * len(known))})"] if known else []
            either += [f"{self.column.sql} IS NULL"] if None in self.among else []
            parts.append(f"({' OR '.join(either)})")
            values += known
        if self.contains:
            parts.append(f"contains(lower({self.column.text}), lower(?))")
            values.append(self.contains)
        return Question(" AND ".join(parts), tuple(values))


@dataclass(frozen=True)
class Rows:
    """Rows of a table that pass filters. ``table`` is SQL that names it."""

    table: str
    filters: tuple[Filter, ...] = ()

    def select(self, what: str, after: str = "", values: Sequence[Any] = ()) -> Question:
        """``SELECT what FROM`` them; the values of `what` come before those of the filters."""
        conditions = [condition for each in self.filters if (condition := each.condition()).sql]
        where = f" WHERE {' AND '.join(each.sql for each in conditions)}" if conditions else ""
        bound = [value for each in conditions for value in each.values]
        return Question(f"SELECT {what} FROM {self.table}{where}{after}", (*values, *bound))


def page_of(
    rows: Rows, columns: Sequence[Column], limit: int, sort: Column | None = None, down: bool = False
) -> Question:
    """The first rows, by a column where one is given."""
    order = f" ORDER BY {sort.sql} {'DESC' if down else 'ASC'} NULLS LAST" if sort else ""
    return rows.select(", ".join(column.shown for column in columns), f"{order} LIMIT {limit}")


def ends_of(rows: Rows, column: Column) -> Question:
    """The least and the most value of a number or time, written out; infinite ones left out."""
    has_infinite = column.type in ("FLOAT", "DOUBLE") or column.kind == "time"
    finite = f" FILTER (isfinite({column.sql}))" if has_infinite else ""
    return rows.select(f"min({column.sql}){finite}::VARCHAR AS low, max({column.sql}){finite}::VARCHAR AS high")


def top_values(rows: Rows, column: Column, limit: int) -> Question:
    """The most frequent values, written out and short enough to choose from."""
    short = f"CASE WHEN length({column.text}) <= {_CUT} THEN {column.text} END"
    chosen = rows.select(f"{short} AS value, {column.sql} IS NULL AS missing")
    counted = f"SELECT value, count(*) AS n FROM ({chosen.sql}) WHERE missing OR value IS NOT NULL GROUP BY value"
    return Question(f"{counted} ORDER BY n DESC, value LIMIT {limit}", chosen.values)


@dataclass(frozen=True)
class Measure:
    """What is computed of each group: how many rows, or an aggregate of a column."""

    column: Column | None = None
    aggregate: str = COUNT

    @property
    def sql(self) -> str:
        return "count(*)" if self.column is None else AGGREGATES[self.aggregate].format(self.column.sql)

    @property
    def title(self) -> str:
        return COUNT if self.column is None else f"{self.aggregate} of {self.column.name}"

    @property
    def adds_up(self) -> bool:
        """Whether the values of groups can be put together to that of all of them."""
        return self.column is None or self.aggregate == "sum"


@dataclass(frozen=True)
class Axis:
    """By what rows are grouped: a column as it is, a time cut down to ``bucket``, a number in steps of ``step``."""

    column: Column
    bucket: str = ""
    step: float = 0.0

    @property
    def sql(self) -> str:
        if self.bucket:
            assert self.bucket in BUCKETS
            # Of a DATE, date_trunc fails for a whole column with an infinite one in it, whatever stands around it.
            moment = f"TRY_CAST({self.column.sql} AS TIMESTAMP)" if self.column.type == "DATE" else self.column.sql
            cut = f"TRY(date_trunc({literal(self.bucket)}, {moment}))"
            return f"CASE WHEN isfinite({self.column.sql}) THEN {cut} END"
        if self.step:
            return f"floor({self.column.sql}::DOUBLE / {self.step!r}) * {self.step!r}"
        return f"{self.column.sql}::DOUBLE" if self.column.kind == "number" else self.column.sql

    @property
    def is_text(self) -> bool:
        return self.column.kind in ("text", "flag")


OTHERS, EMPTY = "(others)", "(empty)"


def chart_of(rows: Rows, x: Axis, y: Measure, colour: Column | None, most: int, colours: int, limit: int) -> Question:
    """Groups for a chart, as the columns ``x``, ``y`` and ``colour``: all of it is computed in DuckDB.

    Of texts on the axis the `most` weightiest stay, the others are left out; colours but `colours` are "(others)".
    """
    what = [f"{x.column.text if x.is_text else x.sql} AS x", f"{colour.text if colour else 'NULL'} AS colour"]
    what += [f"{y.column.sql} AS v"] if y.column else []
    chosen = rows.select(", ".join(what))
    measure = "count(*)" if y.column is None else AGGREGATES[y.aggregate].format("v")
    tables = [f"chosen AS ({chosen.sql})"]
    shown_x = "x"
    if x.is_text:
        weight = measure if y.adds_up else "count(*)"
        tables.append(f"tops AS (SELECT x FROM chosen GROUP BY x ORDER BY {weight} DESC NULLS LAST, x LIMIT {most})")
        shown_x = f"CASE WHEN x IS NULL THEN {literal(EMPTY)} ELSE left(x, 200) END"
    shown_colour = "colour"
    if colour:
        tables.append(
            f"hues AS (SELECT colour FROM chosen GROUP BY colour ORDER BY count(*) DESC, colour LIMIT {colours})"
        )
        shown_colour = (
            f"CASE WHEN colour IS NULL THEN {literal(EMPTY)} WHEN colour IN (FROM hues) THEN left(colour, 200) "
            f"ELSE {literal(OTHERS)} END"
        )
    known = " WHERE x IS NULL OR x IN (FROM tops)" if x.is_text else " WHERE x IS NOT NULL"
    order = "y DESC NULLS LAST, x" if x.is_text else "x"
    return Question(
        f"WITH {', '.join(tables)} SELECT {shown_x} AS x, {shown_colour} AS colour, ({measure})::DOUBLE AS y "
        f"FROM chosen{known} GROUP BY ALL ORDER BY {order} LIMIT {limit}",
        chosen.values,
    )


def points_of(rows: Rows, x: Column, y: Column, colour: Column | None, limit: int) -> Question:
    """A sample of rows for a chart of points, always the same one."""
    hue = f"left({colour.text}, 200)" if colour else "NULL"
    chosen = rows.select(f"{x.sql}::DOUBLE AS x, {y.sql}::DOUBLE AS y, {hue} AS colour")
    return Question(f"FROM ({chosen.sql}) USING SAMPLE reservoir({limit} ROWS) REPEATABLE (1)", chosen.values)


def pivot_of(
    rows: Rows, down: Sequence[Column], across: Column | None, over: Sequence[str | None], y: Measure, limit: int
) -> Question:
    """A table with a row for each group of `down`, and a column for each value in `over` of `across`."""
    names = [column.shown if column.shown != column.sql else f"{column.sql} AS {column.sql}" for column in down]
    values: list[Any] = []
    cells = []
    taken = {column.name.lower() for column in down} | {"total"}
    for value in over if across else ():
        assert across
        title = _free(EMPTY if value is None else value or "''", taken)
        cells.append(f"{y.sql} FILTER ({across.text} IS NOT DISTINCT FROM ?::VARCHAR) AS {quote(title)}")
        values.append(value)
    total = [f"{y.sql} AS {quote('total')}"]
    after = f" GROUP BY {', '.join(column.sql for column in down)}" if down else ""
    last = f" ORDER BY {', '.join(str(n) for n in range(1, len(down) + 1))} LIMIT {limit}" if down else ""
    return rows.select(", ".join([*names, *cells, *total]), after + last, values)


def _free(title: str, taken: set[str]) -> str:
    """A column's title that no other has; DuckDB does not tell upper case from lower."""
    number, found = 1, title[:100]
    while found.lower() in taken:
        number += 1
        found = f"{title[:100]} ({number})"
    taken.add(found.lower())
    return found


def projected(question: Question, columns: Sequence[Column], what: str) -> Question:
    """A query's columns by position, since names may repeat: ``shown``, ``in_a_file`` or ``text`` of each."""
    taken: set[str] = set()
    names = [_free(column.name, taken) for column in columns]
    renamed = [Column(name, column.type) for name, column in zip(names, columns, strict=True)]
    inner = f"(FROM ({question.sql}\n)) AS answer({', '.join(column.sql for column in renamed)})"
    given = [
        f"{getattr(column, what)} AS {column.sql}" if what == "text" else getattr(column, what) for column in renamed
    ]
    return Question(f"SELECT {', '.join(given)} FROM {inner}", question.values)
