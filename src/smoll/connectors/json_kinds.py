"""Which column a key of JSON becomes, by the kinds of its values in the words of DuckDB's json_type."""

from __future__ import annotations

from collections.abc import Mapping, Set

from smoll.connector import SCALARS, PartColumn

NUMBER_KINDS = frozenset({"UBIGINT", "BIGINT", "HUGEINT", "UHUGEINT", "DOUBLE"})

NUMBERS = ("BIGINT", "DOUBLE", "DECIMAL", "VARCHAR")
_DATES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR")


def columns_of(found: Mapping[str, Set[str]], quoted: Set[str]) -> tuple[PartColumn, ...]:
    """The columns of all keys; the numbers of the `quoted` ones were made texts."""
    return tuple(
        PartColumn(key, None, NUMBERS) if key in quoted and kinds == {"VARCHAR"} else column_of(key, kinds)
        for key, kinds in found.items()
    )


def column_of(key: str, kinds: Set[str]) -> PartColumn:
    """Nested values, and keys whose values are of several kinds, stay JSON."""
    if not kinds:
        return PartColumn(key, None, SCALARS)
    if kinds <= NUMBER_KINDS:
        return PartColumn(key, None, NUMBERS)
    if kinds == {"BOOLEAN"}:
        return PartColumn(key, None, ("BOOLEAN", "VARCHAR"))
    return PartColumn(key, None, _DATES) if kinds == {"VARCHAR"} else PartColumn(key, "JSON")


def merge_kinds(kinds: Mapping[str, Set[str]], others: Mapping[str, Set[str]]) -> dict[str, Set[str]]:
    """The kinds that either has, the keys of the first one first."""
    return {key: kinds.get(key, frozenset()) | others.get(key, frozenset()) for key in [*kinds, *others]}


def number_text(text: str) -> str:
    """SQL: the text of a number of JSON as DuckDB's reader makes it of a double; JSON has other exponents."""
    number = f"TRY_CAST({text} AS DOUBLE)"
    is_double = f"(contains({text}, '.') OR contains(lower({text}), 'e')) AND isfinite({number})"
    return f"CASE WHEN {is_double} THEN CAST({number} AS VARCHAR) ELSE {text} END"
