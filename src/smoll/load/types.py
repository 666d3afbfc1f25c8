"""Exact types: the narrowest type that holds every value of a text column, and casts that never change a value.

DuckDB's own casts are generous (``'1.5'`` becomes 2 as BIGINT, ``'007'`` becomes 7), and its sniffer decides by a
sample. Here a value fits a type only if nothing of it is lost, and the type is the first of a fixed order that
fits all values. So a guess from a sample is safe: if the strict cast of all values to the guess succeeds, then a
look at all values would have chosen the same type, because an earlier type that holds all values would have
held the sample too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from smoll.connector import PartColumn
from smoll.model import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NUMBER = "-?([0-9]|[1-9][0-9]+)?([.][0-9]+)?([eE][+-]?[0-9]+)?"
_PLAIN = "-?([0-9]|[1-9][0-9]+)?([.][0-9]+)?"
_NOT_FINITE = "['NaN', 'nan', 'Infinity', '-Infinity', 'inf', '-inf', 'Inf', '-Inf']"
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = "[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?"
_ZONE = " ?(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)"
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s?(\d+)\)")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED = {"UTINYINT": "SMALLINT", "USMALLINT": "INTEGER", "UINTEGER": "BIGINT", "UBIGINT": "HUGEINT"}
_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}
_EXACT_IN_DOUBLE = 2**53
_ALWAYS_EXACT_IN_DOUBLE = ("TINYINT", "SMALLINT", "INTEGER")
_LONGEST = 1000
"""No text of so many characters is of a type but text."""
_COLUMNS_AT_ONCE = 50
"""DuckDB plans a SELECT in the square of its expressions: 500 columns at once take 12 s, 50 at once 2 s in all."""


def exact_cast(value: str, own: str, kind: str) -> str:
    """Return SQL that turns `value` (an SQL expression of the type `own`) into `kind`, or fails. NULL stays NULL.

    An empty text is NULL in any type but text: it can mean nothing else there.
    """
    cast = try_cast(value, own, kind)
    condition = fits(value, cast, own, kind)
    return f"CASE WHEN {condition} THEN {cast} ELSE error('{MISFIT}') END" if condition else cast


MISFIT = "smoll: a value does not fit its type"
"""The text of the error that a strict load raises inside DuckDB."""


def try_cast(value: str, own: str, kind: str) -> str:
    """SQL that turns `value`, of the type `own`, into `kind`; NULL where DuckDB cannot. `fits` says if it may."""
    if own == kind:
        return value
    if _is_scalar_of_json(own, kind):
        return try_cast(f"({value} ->> '$')", "VARCHAR", kind)
    if own == "VARCHAR" and kind == "DECIMAL(38,0)":  # the direct cast takes 200 times as long in DuckDB 1.5
        return f"TRY_CAST(TRY_CAST({value} AS HUGEINT) AS {kind})"
    return f"CAST({value} AS {kind})" if _holds(kind, own) else f"TRY_CAST({value} AS {kind})"


def fits(value: str, cast: str, own: str, kind: str) -> str:
    """SQL that is true where `value`, of the type `own`, is exactly `cast`, its `try_cast` to `kind`. Never NULL.

    A text fits by the rules of this module, a value of another type if the cast goes back to it unchanged.
    "" where any value fits.
    """
    if _holds(kind, own):
        return ""
    if _is_scalar_of_json(own, kind):
        return fits(f"({value} ->> '$')", cast, "VARCHAR", kind)
    if own == "JSON" and _is_nested(kind):
        return f"({cast} IS NOT NULL OR coalesce(CAST({value} AS VARCHAR), 'null') = 'null')"
    if own != "VARCHAR":
        return f"(TRY_CAST({cast} AS {own}) IS NOT DISTINCT FROM {value})"
    if is_integer(kind):  # refuses 007, +7, 7.0 and blanks; far cheaper than a pattern
        return f"(CAST({cast} AS VARCHAR) IS NOT DISTINCT FROM {value} OR {value} = '')"
    return f"({value} IS NULL OR coalesce({_fits(value, cast, kind)}, false) OR {value} = '')"


def misfits(value: str, own: str, kind: str) -> str:
    """Return an SQL condition that is true where `value`, of the type `own`, does not fit `kind`, never NULL.

    "false" where any value fits.
    """
    condition = fits(value, try_cast(value, own, kind), own, kind)
    return f"(NOT {condition})" if condition else "false"


def _is_scalar_of_json(own: str, kind: str) -> bool:
    """True where a value of JSON becomes a plain one: then a word of it is the word, without its quotes."""
    return own == "JSON" and kind != "JSON" and not _is_nested(kind)


def _holds(kind: str, own: str) -> bool:
    """True where `kind` holds every value of the type `own`."""
    return widen(own, kind, largest=_EXACT_IN_DOUBLE + 1) == kind


def _is_nested(kind: str) -> bool:
    return "[" in kind or ("(" in kind and not _DECIMAL.fullmatch(kind))


def is_integer(kind: str) -> bool:
    """True for the types of whole numbers."""
    return kind in _INTEGERS or kind in _UNSIGNED


def is_number(kind: str) -> bool:
    """True for the types of numbers, whole or not."""
    return is_integer(kind) or kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL")


def _fits(value: str, cast: str, kind: str) -> str:
    """SQL: the text holds a value of the type, and the type, to which it is `cast`, holds all of the text."""
    if kind == "DOUBLE":
        # 15 digits always survive, unless the value is so small that a double has fewer; more digits do where some
        # usual way of printing the double gives the same text back. A CASE looks no further than it must; an OR does.
        short = f"length({value}) <= 15 AND (abs({cast}) > 1e-300 OR NOT {value} ILIKE '%e%')"
        # DuckDB makes a join of a long IN, and of a scan below it tells no progress.
        return (
            f"CASE WHEN {cast} IS NULL THEN false WHEN NOT isfinite({cast}) THEN list_contains({_NOT_FINITE}, {value}) "
            f"WHEN NOT {_matches(value, _NUMBER)} THEN false WHEN {short} THEN true "
            f"WHEN CAST({cast} AS VARCHAR) = {value} THEN true ELSE printf('%.17g', {cast}) = {value} END"
        )
    if decimal := _DECIMAL.fullmatch(kind):
        scale = int(decimal[2])
        fraction = f"([.][0-9]{{1,{scale}}})?" if scale else ""
        return _if_matches(value, "-?([0-9]|[1-9][0-9]+)?" + fraction, f"{cast} IS NOT NULL")
    if kind == "BOOLEAN":
        return f"(lower({value}) IN ('true', 'false'))"
    if kind in _PATTERNS:
        return _if_matches(value, _PATTERNS[kind], f"{cast} IS NOT NULL")
    return f"({cast} IS NOT NULL)"


_PATTERNS = {
    "DATE": _DAY,
    "TIME": "[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?",
    "TIMESTAMP": f"{_DAY}({_CLOCK})?",
    "TIMESTAMP WITH TIME ZONE": _DAY + _CLOCK + _ZONE,
}


def _matches(value: str, pattern: str) -> str:
    return f"regexp_full_match({value}, '{pattern}')"


def _if_matches(value: str, pattern: str, condition: str) -> str:
    """SQL: a text of the pattern meets the condition. Unlike with AND, it is not asked of any other text."""
    return f"CASE WHEN {_matches(value, pattern)} THEN {condition} ELSE false END"


def infer(connection: DuckDBPyConnection, rows: str, columns: Sequence[PartColumn]) -> dict[str, str | None]:
    """Find the type of each text column, looking at every row of `rows`.

    Parameters
    ----------
    rows
        A SELECT that yields the columns as text.
    columns
        The columns to type. Their order of candidates is `PartColumn.among`.

    Returns
    -------
    dict
        The type by column name; None where no row has a value.
    """
    kinds = list(dict.fromkeys(kind for column in columns for kind in column.among))
    checks = ", ".join(f"bool_or({_candidate_misfits('value', kind)})" for kind in kinds)
    listed = ", ".join(f"left({quote(column.name)}, {_LONGEST}) AS {quote(column.name)}" for column in columns)
    # One row for each value: the expressions are then as many as the types, and not times the columns, which DuckDB
    # would plan in the square of their number.
    found = connection.execute(
        f"""SELECT name, {checks}
        FROM (UNPIVOT (SELECT {listed} FROM ({rows})) ON COLUMNS(*) INTO NAME name VALUE value)
        WHERE value <> '' GROUP BY name"""
    ).fetchall()
    missed = {name: dict(zip(kinds, answers, strict=True)) for name, *answers in found}
    fitting = {
        column.name: [kind for kind in column.among if not missed[column.name][kind]]
        for column in columns
        if column.name in missed
    }
    sizes = _sizes(connection, rows, [name for name, choice in fitting.items() if choice[:1] == ["DECIMAL"]])
    chosen = {name: _choose(choice, sizes.get(name)) for name, choice in fitting.items()}
    return {column.name: chosen.get(column.name) for column in columns}


def confirm(connection: DuckDBPyConnection, rows: str, guesses: Mapping[str, str]) -> set[str]:
    """Return the columns of text whose guessed type does not hold every value of `rows`.

    One question for each column, where `infer` asks one for each candidate.
    """
    questions = {name: [f"bool_or({misfits(quote(name), 'VARCHAR', kind)})"] for name, kind in guesses.items()}
    return {name for name, answer in _ask(connection, rows, questions).items() if answer[0]}


def _ask(
    connection: DuckDBPyConnection, rows: str, questions: Mapping[str, Sequence[str]]
) -> dict[str, tuple[object, ...]]:
    """The answers to some aggregates of each column, over all rows."""
    found: dict[str, tuple[object, ...]] = {}
    names = list(questions)
    for start in range(0, len(names), _COLUMNS_AT_ONCE):
        batch = names[start : start + _COLUMNS_AT_ONCE]
        listed = ", ".join(question for name in batch for question in questions[name])
        row = connection.execute(f"SELECT {listed} FROM ({rows})").fetchone() or ()
        position = 0
        for name in batch:
            found[name] = tuple(row[position : position + len(questions[name])])
            position += len(questions[name])
    return found


def _sizes(connection: DuckDBPyConnection, rows: str, names: Sequence[str]) -> dict[str, str | None]:
    """The decimal that holds every value of each column; None where there is none."""
    if not names:
        return {}
    whole = "max(length(regexp_extract({0}, '^-?0*([0-9]*)', 1)))"
    fraction = "max(length(regexp_extract({0}, '[.]([0-9]+)$', 1)))"
    questions = {name: [whole.format(quote(name)), fraction.format(quote(name))] for name in names}
    found = _ask(connection, rows, questions)
    return {name: decimal_type(int(str(found[name][0] or 0)), int(str(found[name][1] or 0))) for name in names}


def _candidate_misfits(name: str, kind: str) -> str:
    if kind != "DECIMAL":
        return misfits(name, "VARCHAR", kind)
    return f"(NOT {_if_matches(name, _PLAIN, f'TRY_CAST({name} AS DOUBLE) IS NOT NULL')})"


def _choose(fitting: Sequence[str], decimal: str | None) -> str:
    """The first type that fits, where DECIMAL stands for the one of the values' size."""
    sized = [decimal if kind == "DECIMAL" else kind for kind in fitting]
    return next((kind for kind in sized if kind), "VARCHAR")


def decimal_type(whole: int, fraction: int) -> str | None:
    """The decimal for so many digits before and after the point; None beyond 38. Two sizes, so that it seldom grows."""
    digits = whole + fraction
    if digits > 38:
        return None
    return f"DECIMAL({18 if digits <= 18 else 38},{fraction})"


def widen(stored: str, new: str, *, largest: int = 0) -> str | None:
    """Return the narrowest type that holds both types exactly, "VARCHAR" at last.

    Parameters
    ----------
    stored, new
        Types in DuckDB's spelling.
    largest
        The largest absolute integer among the values; decides whether whole numbers fit a DOUBLE.

    Returns
    -------
    str or None
        None where a nested or binary type is involved: no text of it is exact.
    """
    if stored == new:
        return stored
    for one, other in ((stored, new), (new, stored)):
        wider = _wider(one, other, largest)
        if wider:
            return wider
    if any(_is_nested(kind) or kind == "BLOB" for kind in (stored, new)):
        return None
    return "VARCHAR"


def _wider(one: str, other: str, largest: int) -> str | None:
    """The common type where `one` is the lesser of the two; None where it is not, or there is none."""
    if other == "JSON" and (is_number(one) or one == "BOOLEAN"):
        return "JSON"
    if one in _UNSIGNED:
        return widen(_UNSIGNED[one], other, largest=largest) if other != "VARCHAR" else "VARCHAR"
    if one in _INTEGERS and other in _INTEGERS:
        return max(one, other, key=_INTEGERS.index)
    if one in _INTEGERS and other in ("DOUBLE", "FLOAT"):
        return "DOUBLE" if one in _ALWAYS_EXACT_IN_DOUBLE or largest <= _EXACT_IN_DOUBLE else None
    if one in _DIGITS and (decimal := _DECIMAL.fullmatch(other)):
        return _join_decimals(_DIGITS[one], 0, int(decimal[1]) - int(decimal[2]), int(decimal[2]))
    if (first := _DECIMAL.fullmatch(one)) and (second := _DECIMAL.fullmatch(other)):
        return _join_decimals(
            int(first[1]) - int(first[2]), int(first[2]), int(second[1]) - int(second[2]), int(second[2])
        )
    return {("FLOAT", "DOUBLE"): "DOUBLE", ("DATE", "TIMESTAMP"): "TIMESTAMP"}.get((one, other))


def _join_decimals(whole: int, fraction: int, other_whole: int, other_fraction: int) -> str | None:
    scale = max(fraction, other_fraction)
    digits = max(whole, other_whole) + scale
    return f"DECIMAL({18 if digits <= 18 else 38},{scale})" if digits <= 38 else None
