"""How Postgres is read: with its own SQL, so that what DuckDB's scanner would round is cast on the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from smoll.connector import Part, PartColumn, StreamPlan
from smoll.errors import LoadError
from smoll.model import literal, quote
from smoll.warehouse import load_extension

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import SqlSource

_CONNECT_SECONDS = 10
_DUCKDB_NAMES = {
    "boolean": "BOOLEAN",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "text": "VARCHAR",
    "character varying": "VARCHAR",
    "character": "VARCHAR",
    "date": "DATE",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    "time without time zone": "TIME",
    "interval": "INTERVAL",
    "uuid": "UUID",
    "bytea": "BLOB",
}
"""Types that the scanner hands over exactly. Arrays and json go as JSON, the rest as text."""

_CATALOG = """
SELECT a.attname AS name, format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), NULL) AS kind,
  CASE WHEN a.atttypid = 1700 AND a.atttypmod >= 4 THEN (a.atttypmod - 4) >> 16 END AS precision,
  CASE WHEN a.atttypid = 1700 AND a.atttypmod >= 4 THEN (a.atttypmod - 4) & 65535 END AS scale
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = {schema} AND c.relname = {table} AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
ORDER BY a.attnum"""

_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relkind IN ('r', 'v', 'm', 'p', 'f') AND NOT c.relispartition
ORDER BY c.relname"""


def attach(alias: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> None:
    """Attach the database read-only. One DuckDB transaction then sees one snapshot of it."""
    load_extension(connection, "postgres_scanner", "postgres")
    url = source.url.get_secret_value()
    if "connect_timeout" not in url:
        url += f"{'&' if '?' in url else '?'}connect_timeout={_CONNECT_SECONDS}"
    connection.execute(f"ATTACH {literal(url)} AS {quote(alias)} (TYPE postgres, READ_ONLY)")


def describe(source: SqlSource) -> str:
    """The database without user and password, for messages."""
    url = urlsplit(source.url.get_secret_value())
    place = f"{url.hostname or 'localhost'}:{url.port or 5432}{url.path}"
    return f"the Postgres database {place} (schema {source.source_schema})"


def tables(alias: str, source: SqlSource, connection: DuckDBPyConnection) -> list[str]:
    """Tables, views and partitioned tables of the source's schema; partitions come with their parent."""
    sql = _TABLES.format(schema=literal(source.source_schema))
    return [row[0] for row in _query(alias, sql, connection)]


def columns(table: str, source: SqlSource, alias: str, connection: DuckDBPyConnection) -> tuple[PartColumn, ...]:
    """A table's columns as they will be read; empty where there is no such table."""
    sql = _CATALOG.format(schema=literal(source.source_schema), table=literal(table))
    return tuple(_column(*row) for row in _query(alias, sql, connection))


def part(
    table: str,
    columns: tuple[PartColumn, ...],
    where: str,
    source: SqlSource,
    alias: str,
    connection: DuckDBPyConnection,
) -> Part:
    """One SELECT, run by Postgres itself. `where` is SQL that both databases understand."""
    names = ", ".join(_read_sql(column) for column in columns)
    sql = f"SELECT {names} FROM {quote(source.source_schema)}.{quote(table)}{where}"
    return Part(f"SELECT * FROM postgres_query({literal(alias)}, {literal(sql)})", columns, table)


def count(table: str, where: str, source: SqlSource, alias: str, connection: DuckDBPyConnection) -> int:
    """How many rows Postgres has, in the snapshot of the transaction."""
    sql = f"SELECT count(*) FROM {quote(source.source_schema)}.{quote(table)}{where}"
    row = connection.execute(f"SELECT * FROM postgres_query({literal(alias)}, {literal(sql)})").fetchone()
    return int(row[0]) if row else 0


def cursor_column(plan: StreamPlan, column: PartColumn, alias: str, connection: DuckDBPyConnection) -> PartColumn:
    """A text cursor is refused: Postgres may order text otherwise than DuckDB, and rows would be lost."""
    if column.type in ("VARCHAR", "JSON", "BLOB", "BOOLEAN"):
        raise LoadError(
            f"{plan.ref}: the cursor {column.name!r} is a column of type {column.type}.",
            hint="A cursor must be a number, a date or a timestamp.",
        )
    return column


def cursor_literal(column: PartColumn, value: str) -> str:
    """The stored cursor as SQL: Postgres gives the text the column's own type."""
    return literal(value)


def _column(name: str, kind: str, precision: int | None, scale: int | None) -> PartColumn:
    if kind == "numeric":
        if precision is not None and scale is not None and precision <= 38 and 0 <= scale <= precision:
            return PartColumn(name, f"DECIMAL({precision},{scale})")
        return PartColumn(name, None, ("DECIMAL", "VARCHAR"))
    if kind in _DUCKDB_NAMES:
        return PartColumn(name, _DUCKDB_NAMES[kind])
    if kind in ("json", "jsonb") or kind.endswith("[]"):
        return PartColumn(name, "JSON")
    return PartColumn(name, "VARCHAR")


def _read_sql(column: PartColumn) -> str:
    """Server-side SQL of one column. Arrays become JSON, whatever their dimensions; what has no DuckDB type, text."""
    name = quote(column.name)
    if column.type == "JSON":
        return f"to_json({name})::text AS {name}"
    if column.type is None or column.type == "VARCHAR":
        return f"{name}::text AS {name}"
    return name


def _query(alias: str, sql: str, connection: DuckDBPyConnection) -> list[tuple[str, str, int | None, int | None]]:
    statement = f"SELECT * FROM postgres_query({literal(alias)}, {literal(sql)})"
    return connection.execute(statement).fetchall()
