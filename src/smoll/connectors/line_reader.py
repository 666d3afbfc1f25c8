"""Reading what `line_writer` wrote: every value as its own text, and the types that a column may have."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from smoll.connector import SCALARS, PartColumn
from smoll.model import literal, quote

DATES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR")
_NUMBERS = ("BIGINT", "DOUBLE", "DECIMAL", "VARCHAR")
_TEXT = ("VARCHAR",)


def scan(path: str, longest: int, columns: Sequence[PartColumn]) -> str:
    """The lines of JSON, every value that is not nested as its own text: DuckDB changes no digit of it."""
    kinds = {column.name: "JSON" if column.type == "JSON" else "VARCHAR" for column in columns}
    declared = ", ".join(f"{literal(name)}: '{kind}'" for name, kind in kinds.items())
    # DuckDB's buffers are as large as the largest object may be, so it gets no more than it needs.
    largest = max(longest + 1024, 1 << 20)
    return (
        f"SELECT * FROM read_json({literal(path)}, format = 'newline_delimited', records = true, "
        f"columns = {{{declared}}}, maximum_object_size = {largest}, hive_partitioning = false)"
    )


def column(name: str, kinds: Collection[str], first: tuple[str, ...] = (), *, hint: str = "") -> PartColumn:
    """How a column is handed over: typed where every value has one and the same exact type, else as text.

    Parameters
    ----------
    kinds
        The kinds of its values, "null" aside.
    first
        Types to try before those that the kinds ask for.
    hint
        ``json`` or ``text`` where the source says that it is that, whatever it looks like.
    """
    found = set(kinds)
    if "nested" in found or hint == "json":
        return PartColumn(name, "JSON")
    if found == {"bytes"}:
        return PartColumn(name, "BLOB")
    if "float" in found and found <= {"int", "float"}:
        return PartColumn(name, "DOUBLE")
    if hint == "text":
        return PartColumn(name, None, _TEXT)
    if not found:
        return PartColumn(name, None, SCALARS)
    if found <= {"int", "big"}:
        among: tuple[str, ...] = ("BIGINT", "DECIMAL", "VARCHAR")
    elif found <= {"int", "big", "float"}:
        among = _NUMBERS
    elif found <= {"decimal", "int", "big"}:
        among = ("DECIMAL", "VARCHAR")
    elif found <= {"str", "datetime", "date"}:
        among = DATES
    elif len(found) == 1:
        among = {"bool": ("BOOLEAN", "VARCHAR"), "time": ("TIME", "VARCHAR")}.get(next(iter(found)), _TEXT)
    else:
        among = _TEXT
    return PartColumn(name, None, tuple(dict.fromkeys((*first, *among))))


def value(column: PartColumn) -> str:
    """SQL: the column's value in the type that it is handed over in."""
    name = quote(column.name)
    if column.type == "BLOB":
        return f"from_base64({name})"
    return f"CAST({name} AS DOUBLE)" if column.type == "DOUBLE" else name
