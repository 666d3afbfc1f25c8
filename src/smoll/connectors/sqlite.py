"""How SQLite is read. A column's declared type binds nothing there, so its values are asked first."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import Part, PartColumn, StreamPlan
from smoll.errors import LoadError
from smoll.model import literal, quote
from smoll.warehouse import load_extension

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import SqlSource

_EXACT_IN_DOUBLE = 2**53
_NUMBERS = ("BIGINT", "DOUBLE", "DECIMAL", "VARCHAR")
_TEXT = ("VARCHAR",)
_DATES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR")
_STORED = {"BIGINT": {"integer", "big"}, "DOUBLE": {"real", "integer"}, "VARCHAR": {"text"}, "BLOB": {"blob"}}
"""What the values of a column may be for DuckDB's scanner to read it, by the type the scanner gives it."""


def attach(alias: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> None:
    """Attach the file read-only."""
    path = _path(source, root)
    if not path.is_file():
        raise LoadError(f"There is no SQLite file {path}.", hint="Check `url` in smoll.yml.")
    load_extension(connection, "sqlite_scanner", "sqlite")
    connection.execute(f"ATTACH {literal(str(path))} AS {quote(alias)} (TYPE sqlite, READ_ONLY)")


def describe(source: SqlSource) -> str:
    """The database, for messages."""
    return f"the SQLite file {source.url.get_secret_value().removeprefix('sqlite:///')}"


def tables(alias: str, source: SqlSource, connection: DuckDBPyConnection) -> list[str]:
    """Tables and views of the file."""
    sql = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    statement = f"SELECT * FROM sqlite_query({literal(alias)}, {literal(sql + ' ORDER BY name')})"
    return [row[0] for row in connection.execute(statement).fetchall()]


def columns(table: str, source: SqlSource, alias: str, connection: DuckDBPyConnection) -> tuple[PartColumn, ...]:
    """A table's columns; as text with the types it may take where the scanner's type does not fit its values."""
    declared = _declared(table, alias, connection)
    scanned = bool(declared)
    declared = declared or _declared_in_view(table, alias, connection)
    if not declared:
        return ()
    stored = _stored(table, list(declared), alias, connection)
    if scanned and all(_STORED.get(kind, set()) >= stored[name] for name, kind in declared.items()):
        return tuple(PartColumn(name, kind) for name, kind in declared.items())
    return tuple(PartColumn(name, None, _among(kind, stored[name])) for name, kind in declared.items())


def part(
    table: str,
    columns: tuple[PartColumn, ...],
    where: str,
    source: SqlSource,
    alias: str,
    connection: DuckDBPyConnection,
) -> Part:
    """DuckDB's scan where every type fits; else SQLite's own text of every value."""
    names = ", ".join(quote(column.name) for column in columns)
    if all(column.type for column in columns):
        return Part(f"SELECT {names} FROM {quote(alias)}.{quote(table)}{where}", columns, table)
    texts = ", ".join(_text_sql(column.name) for column in columns)
    sql = f"SELECT {texts} FROM {quote(table)}{where}"
    return Part(f"SELECT {names} FROM sqlite_query({literal(alias)}, {literal(sql)})", columns, table)


def count(table: str, where: str, source: SqlSource, alias: str, connection: DuckDBPyConnection) -> int:
    """How many rows SQLite counts."""
    sql = f"SELECT count(*) FROM {quote(table)}{where}"
    row = connection.execute(f"SELECT * FROM sqlite_query({literal(alias)}, {literal(sql)})").fetchone()
    return int(row[0]) if row else 0


def cursor_column(plan: StreamPlan, column: PartColumn, alias: str, connection: DuckDBPyConnection) -> PartColumn:
    """A cursor of texts stays text, as SQLite compares it: dates in several spellings have no other order there.

    Texts beside numbers are refused: SQLite puts every text behind every number, so later numbers would be lost.
    """
    if column.type == "BLOB" or (column.type is None and column.among != _NUMBERS):
        kinds = _stored(plan.ref.stream, [column.name], alias, connection)[column.name]
        if not kinds <= {"text"}:
            raise LoadError(
                f"{plan.ref}: the cursor {column.name!r} holds values of the kinds {', '.join(sorted(kinds))}.",
                hint="A cursor must hold numbers only, or texts only.",
            )
        if column.name in plan.columns:
            raise LoadError(
                f"{plan.ref}: the cursor {column.name!r} holds text, so it cannot be given a type.",
                hint="Remove it from `columns` and cast it in a model.",
            )
        return PartColumn(column.name, None, _TEXT)
    return column


def cursor_literal(column: PartColumn, value: str) -> str:
    """The stored cursor as SQL. A number must not be quoted: beside an untyped column it would compare as text."""
    return str(Decimal(value)) if column.among == _NUMBERS or column.type in ("BIGINT", "DOUBLE") else literal(value)


def _path(source: SqlSource, root: Path) -> Path:
    return root / source.url.get_secret_value().removeprefix("sqlite:///")


def _declared(table: str, alias: str, connection: DuckDBPyConnection) -> dict[str, str]:
    """A table's columns with the types that DuckDB's scanner gives them; {} where there is no table of the name.

    Not from duckdb_columns(): that reads the catalogs of all attached databases, and while other threads load from
    theirs it crashes the process (github.com/duckdb/duckdb-sqlite/issues/176).
    """
    sql = f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = {literal(table)}"
    if not connection.execute(f"SELECT * FROM sqlite_query({literal(alias)}, {literal(sql)})").fetchall():
        return {}
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {quote(alias)}.{quote(table)}").fetchall()}


def _declared_in_view(view: str, alias: str, connection: DuckDBPyConnection) -> dict[str, str]:
    """A view's columns; DuckDB's catalog knows none, and its scanner reads none."""
    sql = f"SELECT name, upper(type) FROM pragma_table_info({literal(view)}) ORDER BY cid"
    return dict(connection.execute(f"SELECT * FROM sqlite_query({literal(alias)}, {literal(sql)})").fetchall())


def _stored(table: str, names: Sequence[str], alias: str, connection: DuckDBPyConnection) -> dict[str, set[str]]:
    """The kinds of values that each column holds, NULL aside; integers beyond 2^53 count as ``big``."""
    kinds = ", ".join(
        f"group_concat(DISTINCT CASE WHEN typeof({quote(n)}) = 'integer' AND abs({quote(n)} / 2) >= "
        f"{_EXACT_IN_DOUBLE // 2} THEN 'integer,big' ELSE typeof({quote(n)}) END)"
        for n in names
    )
    sql = f"SELECT {kinds} FROM {quote(table)}"
    row = connection.execute(f"SELECT * FROM sqlite_query({literal(alias)}, {literal(sql)})").fetchone()
    found = [set(str(text).split(",")) - {"null", "None"} for text in row or ()]
    return dict(zip(names, found, strict=True))


def _among(declared: str, stored: set[str]) -> tuple[str, ...]:
    if stored <= {"integer", "real", "big"}:
        return _NUMBERS
    if stored == {"text"}:
        return _DATES if declared in ("DATE", "TIMESTAMP", "DATETIME") else _TEXT
    return _TEXT


def _text_sql(name: str) -> str:
    """A value's exact text: 17 digits for a real (SQLite's own cast to text keeps 15), hex for a blob."""
    column = quote(name)
    return (
        f"CASE typeof({column}) WHEN 'real' THEN printf('%!.17g', {column}) WHEN 'blob' THEN hex({column}) "
        f"ELSE CAST({column} AS TEXT) END AS {column}"
    )
