"""How SQLite is read. A column's declared type binds nothing there, so its values are asked first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import Part, PartColumn, Reading, StreamPlan
from smoll.connectors.database import Column, Database, Relation, scan_table, select
from smoll.errors import LoadError
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import SqlSource

EXTENSION = ("sqlite_scanner", "sqlite")
QUERY = "sqlite_query({}, {})"
DRIVERS = ("pysqlite",)
SETUP: tuple[str, ...] = ()
SNAPSHOT = False  # the scanner opens the file once more for each scan, outside of its transaction
_EXACT_IN_DOUBLE = 2**53
_NUMBERS = ("BIGINT", "DOUBLE", "DECIMAL", "VARCHAR")
_TEXT = ("VARCHAR",)
_DATES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR")
_STORED = {"BIGINT": {"integer", "big"}, "DOUBLE": {"real", "integer"}, "VARCHAR": {"text"}, "BLOB": {"blob"}}
"""What the values of a column may be for DuckDB's scanner to read it, by the type the scanner gives it."""


def attach(alias: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> None:
    """Attach the file read-only."""
    connection.execute(f"ATTACH {literal(str(path_of(source, root)))} AS {quote(alias)} (TYPE sqlite, READ_ONLY)")


def place(source: SqlSource, root: Path) -> str:
    """The database, for messages. Raises LoadError where there is no such file."""
    path = path_of(source, root)
    if not path.is_file():
        raise LoadError(f"There is no SQLite file {path}.", hint="Check `url` in smoll.yml.")
    return f"the SQLite file {_file(source)}"


def tables(database: Database) -> list[str]:
    """Tables and views of the file."""
    sql = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    return [row[0] for row in database.rows(f"{sql} ORDER BY name")]


def table_sql(table: str, database: Database) -> str:
    """A table of the file."""
    return quote(table)


def identifier(name: str, database: Database) -> str:
    """A name, quoted."""
    return quote(name)


def columns(relation: Relation, database: Database) -> list[Column]:
    """A table's columns; as text with the types it may take where the scanner's type does not fit its values."""
    scanned = {} if relation.is_query or database.texts or relation.where else _scanned(relation.name, database)
    declared = scanned or _declared(relation, database)
    if not declared:
        return []
    stored = _stored(relation, list(declared), database)
    if scanned and all(_STORED.get(kind, set()) >= stored[name] for name, kind in declared.items()):
        return [Column(PartColumn(name, kind), quote(name), scanned=True) for name, kind in declared.items()]
    return [
        _as_text(PartColumn(name, "BLOB") if kind == "BLOB" and stored[name] <= {"blob"} else part)
        for name, kind in declared.items()
        for part in [PartColumn(name, None, _among(kind, stored[name]))]
    ]


def primary_key(table: str, database: Database) -> tuple[str, ...]:
    """The columns of the primary key."""
    sql = f"SELECT name FROM pragma_table_info({literal(table)}) WHERE pk > 0 ORDER BY pk"
    return tuple(row[0] for row in database.rows(sql))


def part(relation: Relation, columns: Sequence[Column], where: str, database: Database, reading: Reading) -> Part:
    """DuckDB's scan where every type fits; else SQLite's own text of every value."""
    if all(column.scanned for column in columns):
        return scan_table(columns, "", relation.name, where, database)
    texts = [_as_text(column.part) if column.scanned else column for column in columns]
    sql = select(texts, relation, where, database, sys.modules[__name__])
    return database.part(sql, texts, relation.name, reading)


def _as_text(part: PartColumn) -> Column:
    """The column by SQLite's own text of its values."""
    value = "unhex({0})" if part.type == "BLOB" else f"CAST({{0}} AS {part.type})" if part.type else "{0}"
    return Column(part, _text_sql(part.name), value)


def cursor_column(plan: StreamPlan, column: Column, relation: Relation, database: Database) -> Column:
    """A cursor of texts stays text, as SQLite compares it: dates in several spellings have no other order there.

    Texts beside numbers are refused: SQLite puts every text behind every number, so later numbers would be lost.
    """
    part = column.part
    if part.type == "BLOB" or (part.type is None and part.among != _NUMBERS):
        kinds = _stored(relation, [column.name], database)[column.name]
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
        return Column(PartColumn(column.name, None, _TEXT), _text_sql(column.name))
    return column


def cursor_literal(column: PartColumn, value: str, database: Database) -> str:
    """The stored cursor as SQL. A number must not be quoted: beside an untyped column it would compare as text."""
    return str(Decimal(value)) if column.among == _NUMBERS or column.type in ("BIGINT", "DOUBLE") else literal(value)


def path_of(source: SqlSource, root: Path) -> Path:
    """The file."""
    return root / _file(source)


def _file(source: SqlSource) -> str:
    return source.url.get_secret_value().partition(":///")[2]


def _scanned(table: str, database: Database) -> dict[str, str]:
    """A table's columns with the types that DuckDB's scanner gives them; {} where there is no table of the name.

    Not from duckdb_columns(): that reads the catalogs of all attached databases, and while other threads load from
    theirs it crashes the process (github.com/duckdb/duckdb-sqlite/issues/176).
    """
    if not database.rows(f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = {literal(table)}"):
        return {}
    rows = database.connection.execute(f"DESCRIBE {quote(database.alias)}.{quote(table)}").fetchall()
    return {row[0]: row[1] for row in rows}


def _declared(relation: Relation, database: Database) -> dict[str, str]:
    """The columns of a view or a query, with their declared types; of a view DuckDB's catalog knows none."""
    if relation.is_query:
        return {name: "" for name, _ in database.describe(relation)}
    sql = f"SELECT name, upper(type) AS type FROM pragma_table_info({literal(relation.name)}) ORDER BY cid"
    return {row[0]: row[1] for row in database.rows(sql)}


def _stored(relation: Relation, names: Sequence[str], database: Database) -> dict[str, set[str]]:
    """The kinds of values that each column holds, NULL aside; integers beyond 2^53 count as ``big``."""
    kinds = ", ".join(
        f"group_concat(DISTINCT CASE WHEN typeof({quote(n)}) = 'integer' AND abs({quote(n)} / 2) >= "
        f"{_EXACT_IN_DOUBLE // 2} THEN 'integer,big' ELSE typeof({quote(n)}) END) AS k{number}"
        for number, n in enumerate(names)
    )
    where = f" WHERE ({relation.where}\n)" if relation.where else ""
    rows = database.rows(f"SELECT {kinds} FROM {relation.sql}{where}")
    found = [set(str(text).split(",")) - {"null", "None"} for text in rows[0]]
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
        f"ELSE CAST({column} AS TEXT) END"
    )
