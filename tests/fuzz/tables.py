"""Random tables (hypothesis): texts as people and programs write them, and typed values for typed formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

TRICKY = (
    "007", "+7", " 7", "7 ", "-0", "0", "00", "1e5", "1E5", "1e400", "1e-400", "5e-324", "1.", ".5", "1.50", "-.5",
    "0x1F", "1_000", "1,000", "NaN", "nan", "inf", "-Infinity", "true", "TRUE", "True", "t", "yes", "no", "f",
    "NULL", "null", "NA", "None", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "9007199254740993", "1" * 38, "1" * 39, "0." + "1" * 38, "0." + "1" * 39, "0.1", "0.30000000000000004",
    "1.7976931348623157e308", "2024-02-29", "2023-02-29", "0001-01-01", "9999-12-31", "10000-01-01", "-0001-01-01",
    "2024-1-1", "2024-01-01 24:00:00", "2024-01-01 23:59:60", "2024-01-01 10:00", "2024-01-01T10:00:00",
    "2024-01-01 10:00:00.123456", "2024-01-01 10:00:00.1234567", "2024-01-01T10:00:00Z", "2024-01-01 10:00:00+02",
    "2024-01-01 10:00:00+05:30", "2024-01-01 10:00:00-0430", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00", "epoch", "today", "infinity", "-infinity",
    "12:30:00", "P1D", "1 day", "{}", "[]", '{"a": 1}', '"', "''", "a\nb", "a\r\nb", "\r", "a,b;c|d\te", "\ufeff",
    "é", "😀", "\u2028", "\x1a", "\x7f", "\u00a0", "#", "\\", "\\N", "\\x41", "%", "$1", "0,5", "1.5e", "e5", "--1",
    "1-", "٣",
)  # fmt: skip
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-100, 100)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
DATES = st.dates()
MOMENTS = st.datetimes()
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
ZONED = st.datetimes(timezones=OFFSETS)


def decimals(places: int = 38) -> st.SearchStrategy[Decimal]:
    """Decimals of up to `places` digits in all."""
    digits = st.integers(-(10**places) + 1, 10**places - 1)
    return st.builds(lambda whole, scale: Decimal(f"{whole}e-{scale}"), digits, st.integers(0, places))


def plain(number: Decimal) -> str:
    """The number without an exponent."""
    return f"{number:f}"


@st.composite
def zoned_texts(draw: st.DrawFn) -> str:
    moment = draw(ZONED)
    minutes = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    zone = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    return f"{moment.replace(tzinfo=None).isoformat(draw(st.sampled_from(' T')))}{zone}"


KINDS: dict[str, st.SearchStrategy[str]] = {
    "whole": INT64.map(str),
    "large": st.integers(-(2**127), 2**127 - 1).map(str),
    "double": DOUBLES.map(repr),
    "price": decimals(12).map(plain),
    "decimal": decimals().map(plain),
    "boolean": st.sampled_from(("true", "false", "TRUE", "False")),
    "date": DATES.map(date.isoformat),
    "moment": MOMENTS.map(lambda moment: moment.isoformat(" ")),
    "zoned": zoned_texts(),
    "tricky": st.sampled_from(TRICKY),
    "word": WORDS,
    "anything": st.sampled_from(TRICKY) | WORDS | INT64.map(str) | DOUBLES.map(repr),
}


@dataclass(frozen=True)
class TextTable:
    """Columns of text. None is NULL. ``rows`` in the order of ``names``."""

    names: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def text_tables(most: int = 12) -> st.SearchStrategy[TextTable]:
    """Tables of one to four columns, most of whose values are of one kind each."""

    @st.composite
    def tables(draw: st.DrawFn) -> TextTable:
        columns = draw(st.lists(column_values(), min_size=1, max_size=4))
        rows = draw(st.lists(st.tuples(*columns), min_size=1, max_size=most))
        return TextTable(tuple(f"c{number}" for number in range(len(columns))), tuple(rows))

    return tables()


@st.composite
def column_values(draw: st.DrawFn) -> Any:
    """A strategy for the values of one column: of one kind, some missing, and some of another kind."""
    kind = KINDS[draw(st.sampled_from(list(KINDS)))]
    other = KINDS[draw(st.sampled_from(list(KINDS)))]
    return draw(st.sampled_from((kind, kind | st.none(), kind | st.just(""), kind | other, kind | other | st.none())))


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written."""

    delimiter: str
    quote_all: bool
    end: str
    bom: bool
    last_end: bool
    packing: str


DIALECTS = st.builds(
    Dialect,
    st.sampled_from(",;\t|~"),
    st.booleans(),
    st.sampled_from(("\n", "\r\n", "\r")),
    st.booleans(),
    st.booleans(),
    st.sampled_from(("", "", ".gz", ".zst")),
)


def csv_text(table: TextTable, dialect: Dialect) -> str:
    """The table in CSV. NULL is an empty value without quotes, so an empty text always has them."""

    def shown(value: str | None) -> str:
        if value is None:
            return ""
        odd = any(char in value for char in (dialect.delimiter, '"', "\n", "\r")) or value.strip(" ") != value
        if dialect.quote_all or odd or value == "":
            return '"' + value.replace('"', '""') + '"'
        return value

    lines = [dialect.delimiter.join(map(shown, row)) for row in (table.names, *table.rows)]
    last = dialect.end if dialect.last_end or lines[-1] == "" else ""
    return ("\ufeff" if dialect.bom else "") + dialect.end.join(lines) + last


TYPED: dict[str, st.SearchStrategy[Any]] = {
    "BOOLEAN": st.booleans(),
    "TINYINT": st.integers(-(2**7), 2**7 - 1),
    "SMALLINT": st.integers(-(2**15), 2**15 - 1),
    "INTEGER": st.integers(-(2**31), 2**31 - 1),
    "BIGINT": INT64,
    "UBIGINT": st.integers(0, 2**64 - 1),
    "DOUBLE": st.floats() | st.sampled_from((-0.0, 5e-324, float("nan"), float("inf"), float("-inf"))),
    "DECIMAL(38,10)": st.integers(-(10**38) + 1, 10**38 - 1).map(lambda digits: Decimal(f"{digits}e-10")),
    "DECIMAL(18,2)": st.integers(-(10**18) + 1, 10**18 - 1).map(lambda digits: Decimal(f"{digits}e-2")),
    "VARCHAR": WORDS | st.sampled_from(TRICKY) | st.just(""),
    "DATE": DATES,
    "TIMESTAMP": MOMENTS,
    "TIMESTAMP WITH TIME ZONE": st.datetimes(timezones=st.just(UTC)),
}
"""Values of the types that Parquet holds, by DuckDB's name of the type."""


@dataclass(frozen=True)
class TypedTable:
    """Columns ``c0``, ``c1`` ... of types, and rows of Python values."""

    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@st.composite
def typed_tables(draw: st.DrawFn) -> TypedTable:
    types = draw(st.lists(st.sampled_from(list(TYPED)), min_size=1, max_size=6))
    rows = draw(st.lists(st.tuples(*(TYPED[kind] | st.none() for kind in types)), min_size=1, max_size=12))
    return TypedTable(tuple(types), tuple(rows))


JSON_NUMBERS = INT64 | st.integers(-(2**127), 2**127 - 1) | DOUBLES
JSON_SCALARS = st.none() | st.booleans() | JSON_NUMBERS | WORDS | st.sampled_from(TRICKY)
JSON_VALUES = st.recursive(
    JSON_SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcxyz"), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def json_tables(draw: st.DrawFn) -> Sequence[dict[str, Any]]:
    """Records of JSON: for each key values of one kind, or of any; keys may be missing."""
    kinds = (st.booleans(), INT64, DOUBLES, JSON_NUMBERS, WORDS, st.sampled_from(TRICKY), JSON_SCALARS, JSON_VALUES)
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    keys = {f"c{number}": kind | st.none() for number, kind in enumerate(chosen)}
    record = st.fixed_dictionaries({}, optional=keys)
    first = st.fixed_dictionaries({"id": INT64}, optional=keys)
    return [draw(first), *draw(st.lists(record, max_size=10))]
