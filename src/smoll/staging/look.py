"""What a loaded table looks like: rows, NULLs, how many different values. Read-only, bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoll.model import Column, TableRef, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COLUMNS_AT_ONCE = 10  # each is a hash table of all its values
# Beyond that, DuckDB's estimate has to do; it errs by a fifth, and needs no memory.
_MOST_ROWS_EXACT = 2_000_000
_MOST_VALUES = 12
_FEWEST_ROWS = 100
_LONGEST_VALUE = 60


@dataclass(frozen=True)
class Seen:
    """One column. ``filled`` rows have a value; ``values`` are all there are, where they are few.

    ``different`` is how many different values it has, an estimate unless ``exact``.
    """

    name: str
    type: str
    filled: int
    different: int
    exact: bool
    values: tuple[str, ...] = ()


def look(connection: DuckDBPyConnection, table: TableRef, columns: Sequence[Column]) -> tuple[int, tuple[Seen, ...]]:
    """Return the rows of a table, and each of `columns` as seen in them."""
    (rows,) = connection.execute(f"SELECT count(*) FROM {table.sql}").fetchone() or (0,)
    batches = [columns[start : start + _COLUMNS_AT_ONCE] for start in range(0, len(columns), _COLUMNS_AT_ONCE)]
    seen = [column for batch in batches for column in _count(connection, table, batch, exact=rows <= _MOST_ROWS_EXACT)]
    return int(rows), tuple(seen)


def _count(
    connection: DuckDBPyConnection, table: TableRef, columns: Sequence[Column], *, exact: bool
) -> Iterator[Seen]:
    import duckdb

    different = "count(DISTINCT {})" if exact else "approx_count_distinct({})"
    counts = [f"count({quote(c.name)}), {different.format(quote(c.name))}" for c in columns]
    try:
        row = connection.execute(f"SELECT {', '.join(counts)} FROM {table.sql}").fetchone() or ()
    except duckdb.OutOfMemoryException:
        if not exact:
            raise
        yield from _count(connection, table, columns, exact=False)
        return
    for position, column in enumerate(columns):
        filled, number = row[2 * position], row[2 * position + 1]
        few = column.type == "VARCHAR" and filled >= _FEWEST_ROWS and number <= _MOST_VALUES * (1 if exact else 2)
        values = _values(connection, table, column.name) if few else ()
        yield Seen(column.name, column.type, filled, len(values) or number, exact or bool(values), values)


def _values(connection: DuckDBPyConnection, table: TableRef, column: str) -> tuple[str, ...]:
    """All values of a text column, sorted; () where there are many, or one is no word of a short list."""
    name = quote(column)
    sql = f"SELECT DISTINCT {name} FROM {table.sql} WHERE {name} IS NOT NULL LIMIT {_MOST_VALUES + 1}"
    values = sorted(row[0] for row in connection.execute(sql).fetchall())
    return tuple(values) if len(values) <= _MOST_VALUES and all(map(_is_word, values)) else ()


def _is_word(value: str) -> bool:
    """False for what looks like an id or free text, and for braces, which dbt would take for a template."""
    digits = sum(character.isdigit() for character in value)
    return value.isprintable() and len(value) <= _LONGEST_VALUE and digits < 6 and not set(value) & {"{", "}"}


def is_unique(connection: DuckDBPyConnection, table: TableRef, column: str) -> bool:
    """True where no two rows have the same value; False also where memory does not suffice to tell."""
    import duckdb

    name = quote(column)
    try:
        row = connection.execute(f"SELECT count(DISTINCT {name}) = count(*) FROM {table.sql}").fetchone()
    except duckdb.OutOfMemoryException:
        return False
    return bool(row and row[0])
