"""How Postgres is read: with its own SQL, so that what DuckDB's scanner would round is cast on the server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from smoll.connector import Part, PartColumn, Reading, StreamPlan
from smoll.connectors.database import Column, Database, Relation, scan_table, select
from smoll.errors import LoadError
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import SqlSource

EXTENSION = ("postgres_scanner", "postgres")
QUERY = "postgres_query({}, {})"
DRIVERS = ("psycopg", "psycopg2", "pg8000")
SETUP = (
    "SET datestyle = 'ISO'",
    "SET intervalstyle = 'postgres'",
    "SET TIME ZONE 'UTC'",
    "SET extra_float_digits = 1",
)
SNAPSHOT = True
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

_SCANNED = {*_DUCKDB_NAMES, "numeric"} - {"character", "interval"}
_MANY_PAGES = 1000
"""From so many pages on (8 MB) a table is scanned as a whole: the scanner reads the catalog of the schema for that."""
_LATEST = "{0} > '294247-01-01' AND isfinite({0})"
_ODD = {
    "DECIMAL": "{0} = 'NaN'",
    "TIMESTAMP": _LATEST,
    "TIMESTAMP WITH TIME ZONE": _LATEST,
    "INTERVAL": "NOT isfinite({0})",
}
"""Values that DuckDB's type cannot hold; its scanner makes 0 of NaN, and a time before Christ of a late one."""
_MOMENTS = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
_BEFORE_CHRIST = "^([0-9-]+)(.*) BC$"
"""Postgres ends a moment with BC, DuckDB puts (BC) behind the day."""

_CATALOG = """
SELECT a.attname::text AS name, format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), NULL) AS kind,
  CASE WHEN a.atttypid = 1700 AND a.atttypmod >= 4 THEN (a.atttypmod - 4) >> 16 END AS precision,
  CASE WHEN a.atttypid = 1700 AND a.atttypmod >= 4 THEN (a.atttypmod - 4) & 65535 END AS scale,
  c.relkind = 'r' AND NOT c.relhassubclass AND c.relpages > {pages} AND t.typbasetype = 0 AS scanned
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = {schema} AND c.relname = {table} AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
ORDER BY a.attnum"""

_TABLES = """
SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relkind IN ('r', 'v', 'm', 'p', 'f') AND NOT c.relispartition
ORDER BY c.relname"""

_PRIMARY_KEY = """
SELECT a.attname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY k(number, place) ON true
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
WHERE n.nspname = {schema} AND c.relname = {table} AND i.indisprimary
ORDER BY k.place"""


def attach(alias: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> None:
    """Attach the database read-only. One DuckDB transaction then sees one snapshot of it."""
    url = source.url.get_secret_value()
    if "connect_timeout" not in url:
        url += f"{'&' if '?' in url else '?'}connect_timeout={_CONNECT_SECONDS}"
    connection.execute(
        f"ATTACH {literal(url)} AS {quote(alias)} (TYPE postgres, READ_ONLY, SCHEMA {literal(source.source_schema)})"
    )


def place(source: SqlSource, root: Path) -> str:
    """The database without user and password, for messages."""
    url = urlsplit(source.url.get_secret_value())
    where = f"{url.hostname or 'localhost'}:{url.port or 5432}{url.path}"
    return f"the Postgres database {where} (schema {source.source_schema})"


def tables(database: Database) -> list[str]:
    """Tables, views and partitioned tables of the source's schema; partitions come with their parent."""
    return [row[0] for row in database.rows(_TABLES.format(schema=literal(database.source.source_schema)))]


def table_sql(table: str, database: Database) -> str:
    """A table of the source's schema."""
    return f"{quote(database.source.source_schema)}.{quote(table)}"


def identifier(name: str, database: Database) -> str:
    """A name, quoted."""
    return quote(name)


def columns(relation: Relation, database: Database) -> list[Column]:
    """The columns of a table, from the catalog; those of a query, from the types that Postgres gives it."""
    if relation.is_query:
        return [_column(name, kind, None, None, database) for name, kind in _query_types(relation, database)]
    names = {"schema": literal(database.source.source_schema), "table": literal(relation.name)}
    rows = database.rows(_CATALOG.format(**names, pages=_MANY_PAGES))
    found = [(_column(row[0], row[1], row[2], row[3], database), row[1] in _SCANNED and row[4]) for row in rows]
    return [replace(column, scanned=scanned and column.part.type is not None) for column, scanned in found]


def primary_key(table: str, database: Database) -> tuple[str, ...]:
    """The columns of the primary key."""
    sql = _PRIMARY_KEY.format(schema=literal(database.source.source_schema), table=literal(table))
    return tuple(row[0] for row in database.rows(sql))


def part(relation: Relation, columns: Sequence[Column], where: str, database: Database, reading: Reading) -> Part:
    """One SELECT, run by Postgres itself; a large table as a whole is read by several threads, in one snapshot."""
    if not where and not database.texts and all(column.scanned for column in columns):
        return scan_table(columns, database.source.source_schema, relation.name, where, database)
    sql = select(columns, relation, where, database, sys.modules[__name__])
    return database.part(sql, columns, relation.name, reading)


def cursor_column(plan: StreamPlan, column: Column, relation: Relation, database: Database) -> Column:
    """A text cursor is refused: Postgres may order text otherwise than DuckDB, and rows would be lost."""
    if column.part.type in ("VARCHAR", "JSON", "BLOB", "BOOLEAN"):
        raise LoadError(
            f"{plan.ref}: the cursor {column.name!r} is a column of type {column.part.type}.",
            hint="A cursor must be a number, a date or a timestamp.",
        )
    return column


def cursor_literal(column: PartColumn, value: str, database: Database) -> str:
    """The stored cursor as SQL: Postgres gives the text the column's own type."""
    return literal(value)


def _query_types(relation: Relation, database: Database) -> list[tuple[str, str]]:
    """The columns of a query with their types. Postgres is asked by a join that finds no row, so it runs nothing."""
    names = [name for name, _ in database.describe(relation)]
    if not names:
        return []
    asked = ", ".join(f"pg_typeof(q.{quote(name)})::oid::bigint AS {quote(name)}" for name in names)
    oids = database.rows(f"SELECT {asked} FROM (SELECT 1) AS one LEFT JOIN {relation.sql} ON false")[0]
    listed = ", ".join(str(int(oid)) for oid in oids)
    sql = (
        "SELECT t.oid::bigint AS oid, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) AS kind "
        f"FROM pg_type t WHERE t.oid IN ({listed})"
    )
    kinds = {int(row[0]): row[1] for row in database.rows(sql)}
    return [(name, kinds[int(oid)]) for name, oid in zip(names, oids, strict=True)]


def _column(name: str, kind: str, precision: int | None, scale: int | None, database: Database) -> Column:
    """How a column is read. Arrays become JSON, whatever their dimensions; what has no type in DuckDB becomes text."""
    part, own = _part_column(name, kind, precision, scale), quote(name)
    if part.type == "JSON":
        return Column(part, f"to_json({own})::text")
    if part.type is None or part.type == "VARCHAR":
        return Column(part, f"{own}::text")
    odd, among = _ODD.get(part.type.split("(")[0], ""), (part.type.split("(")[0], "VARCHAR")
    otherwise = Column(PartColumn(name, None, among), f"{own}::text") if odd else None
    if not database.texts:
        return Column(part, own, "{0}", odd.format(own), otherwise)
    if part.type == "BLOB":
        return Column(part, f"encode({own}, 'hex')", "unhex({0})")
    value = f"regexp_replace({{0}}, '{_BEFORE_CHRIST}', '\\1 (BC)\\2')" if part.type in _MOMENTS else "{0}"
    return Column(part, f"{own}::text", f"CAST({value} AS {part.type})", odd.format(own), otherwise)


def _part_column(name: str, kind: str, precision: int | None, scale: int | None) -> PartColumn:
    if kind == "numeric":
        if precision is not None and scale is not None and precision <= 38 and 0 <= scale <= precision:
            return PartColumn(name, f"DECIMAL({precision},{scale})")
        return PartColumn(name, None, ("DECIMAL", "VARCHAR"))
    if kind in _DUCKDB_NAMES:
        return PartColumn(name, _DUCKDB_NAMES[kind])
    if kind in ("json", "jsonb") or kind.endswith("[]"):
        return PartColumn(name, "JSON")
    return PartColumn(name, "VARCHAR")
