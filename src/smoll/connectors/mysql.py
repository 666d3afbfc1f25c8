"""How MySQL and MariaDB are read: with their own SQL, so that what DuckDB's scanner would change comes as text.

The scanner runs each SELECT in a transaction of its own (its ``mysql_query`` takes any free connection), so what is
read is of one moment for each stream, and not for all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from smoll.connector import Part, PartColumn, Reading, StreamPlan
from smoll.connectors.database import Column, Database, Relation, select
from smoll.errors import LoadError
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import SqlSource

EXTENSION = ("mysql_scanner", "mysql")
QUERY = "mysql_query({}, {}, stream_results := true)"
DRIVERS = ("pymysql", "MySQLdb", "mariadb")
SETUP = ("SET time_zone = '+00:00'",)
SNAPSHOT = False
_SETTINGS = {
    "mysql_session_time_zone": "'+00:00'",  # a TIMESTAMP comes in the time of the session
    "mysql_tinyint1_as_boolean": "false",  # it may hold 2
    "mysql_query_timeout_enabled": "false",
}
_OPTIONS = ("ssl_mode", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_cipher", "ssl_crl", "ssl_crlpath", "ssl_key")
_WHOLE = {"tinyint": "TINYINT", "smallint": "SMALLINT", "mediumint": "INTEGER", "int": "INTEGER", "bigint": "BIGINT"}
_BYTES = ("blob", "tinyblob", "mediumblob", "longblob", "binary", "varbinary")
_SHAPES = (
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geomcollection",
    "geometrycollection",
)
_CODES = {
    **dict.fromkeys(("1", "2", "3", "8", "9", "13"), ""),
    **dict.fromkeys(("0", "246"), "DECIMAL"),
    **dict.fromkeys(("7", "12"), "TIMESTAMP"),
    **{"4": "FLOAT", "5": "DOUBLE", "10": "DATE", "11": "VARCHAR", "16": "BLOB"},
}
"""The protocol's numbers of types (dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html)."""
_MOMENTS = {"date": "DATE", "datetime": "TIMESTAMP", "timestamp": "TIMESTAMP WITH TIME ZONE"}

_CATALOG = """
SELECT CAST(column_name AS CHAR) AS name, CAST(data_type AS CHAR) AS kind, CAST(column_type AS CHAR) AS whole,
  CAST(numeric_precision AS SIGNED) AS digits, CAST(numeric_scale AS SIGNED) AS scale
FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = {table}
ORDER BY ordinal_position"""

_JSON = """
SELECT CAST(constraint_name AS CHAR) FROM information_schema.check_constraints
WHERE constraint_schema = DATABASE() AND table_name = {table} AND level = 'Column'
AND check_clause = concat('json_valid(`', replace(constraint_name, '`', '``'), '`)')"""

_TABLES = """
SELECT CAST(table_name AS CHAR) AS name FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED') ORDER BY table_name"""

_PRIMARY_KEY = """
SELECT CAST(column_name AS CHAR) AS name FROM information_schema.key_column_usage
WHERE table_schema = DATABASE() AND table_name = {table} AND constraint_name = 'PRIMARY' ORDER BY ordinal_position"""


def attach(alias: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> None:
    """Attach the database read-only. What it takes to connect goes by a secret of DuckDB's, which is gone after it."""
    url = urlsplit(source.url.get_secret_value())
    more = dict(parse_qsl(url.query))
    given = {
        "host": url.hostname or "localhost",
        "port": url.port or 3306,
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "database": unquote(url.path[1:]),
        "socket": more.pop("unix_socket", more.pop("socket", "")),
        **more,
    }
    unknown = [name for name in more if name not in _OPTIONS]
    if unknown:
        raise LoadError(
            f"The URL of the database has a parameter {unknown[0]!r}, which is unknown.",
            hint=f"There are: socket, {', '.join(_OPTIONS)}.",
        )
    for name, value in _SETTINGS.items():
        connection.execute(f"SET GLOBAL {name} = {value}")
    options = ", ".join(f"{name} {literal(str(value))}" for name, value in given.items() if value)
    connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET {quote(alias)} (TYPE mysql, {options})")
    try:
        connection.execute(f"ATTACH '' AS {quote(alias)} (TYPE mysql, READ_ONLY, SECRET {quote(alias)})")
    finally:
        connection.execute(f"DROP TEMPORARY SECRET IF EXISTS {quote(alias)}")


def place(source: SqlSource, root: Path) -> str:
    """The database without user and password, for messages."""
    url = urlsplit(source.url.get_secret_value())
    return f"the MySQL database {url.hostname or 'localhost'}:{url.port or 3306}{url.path}"


def tables(database: Database) -> list[str]:
    """Tables and views of the database that the URL names."""
    return [row[0] for row in database.rows(_TABLES)]


def table_sql(table: str, database: Database) -> str:
    """A table of the database that the URL names."""
    return identifier(table, database)


def identifier(name: str, database: Database) -> str:
    """A name, quoted."""
    return f"`{name.replace('`', '``')}`"


def columns(relation: Relation, database: Database) -> list[Column]:
    """The columns of a table, from the catalog; those of a query, by the types that it would come with."""
    if relation.is_query:
        return [_query_column(name, kind, database) for name, kind in _query_types(relation, database)]
    found = database.rows(_CATALOG.format(table=_text(relation.name)))
    texts = any(row[1] == "longtext" for row in found)
    maria = texts and "MariaDB" in str(database.rows("SELECT CAST(VERSION() AS CHAR)")[0][0])
    json = {row[0] for row in database.rows(_JSON.format(table=_text(relation.name)))} if maria else set()
    return [_column(row[0], "json" if row[0] in json else row[1], row[2], row[3], row[4], database) for row in found]


def primary_key(table: str, database: Database) -> tuple[str, ...]:
    """The columns of the primary key."""
    return tuple(row[0] for row in database.rows(_PRIMARY_KEY.format(table=_text(table))))


def part(relation: Relation, columns: Sequence[Column], where: str, database: Database, reading: Reading) -> Part:
    """One SELECT, run by the server itself."""
    sql = select(columns, relation, where, database, sys.modules[__name__])
    return database.part(sql, columns, relation.name, reading)


def cursor_column(plan: StreamPlan, column: Column, relation: Relation, database: Database) -> Column:
    """A text cursor is refused: the server orders text by a collation, and rows would be lost."""
    if column.part.type in ("VARCHAR", "JSON", "BLOB", "BOOLEAN"):
        raise LoadError(
            f"{plan.ref}: the cursor {column.name!r} is a column of type {column.part.type}.",
            hint="A cursor must be a number, a date or a timestamp.",
        )
    kind = column.part.declared
    if kind in _MOMENTS.values():  # a zero date has no place among the others: the cast refuses it
        return Column(PartColumn(column.name, kind), column.read, f"CAST({column.value} AS {kind})")
    return column


def cursor_literal(column: PartColumn, value: str, database: Database) -> str:
    """The stored cursor as SQL. A number must not be quoted: the server would compare both as doubles."""
    kind = column.declared or column.type or "DECIMAL"
    if kind == "TIMESTAMP WITH TIME ZONE":  # the session's time is UTC, and so is the stored one
        return _text(value.removesuffix("+00"))
    return _text(value) if kind in ("DATE", "TIMESTAMP") else str(Decimal(value))


def _text(value: str) -> str:
    """A text as SQL of the server, to which a backslash may mean something."""
    escaped = value.replace("'", "''")
    return f"'{escaped}'" if "\\" not in value else f"CONVERT(0x{value.encode().hex()} USING utf8mb4)"


def _column(name: str, kind: str, whole: str, digits: int | None, scale: int | None, database: Database) -> Column:
    """How a column is read, by its type in the catalog."""
    own, unsigned = identifier(name, database), "unsigned" in whole
    text = f"CAST({own} AS CHAR)"
    if kind in _WHOLE:
        return _typed(name, f"U{_WHOLE[kind]}" if unsigned else _WHOLE[kind], own, text, database)
    if kind == "decimal":
        exact = f"DECIMAL({digits},{scale})"
        fits = digits is not None and digits <= 38
        # The scanner takes 7 times as long for a decimal as DuckDB does for its text, and one digit from the unsigned.
        return Column(
            PartColumn(name, exact if fits else None, ("DECIMAL", "VARCHAR")),
            text,
            f"CAST({{0}} AS {exact})" if fits else "{0}",
        )
    if kind in ("float", "double"):
        return _typed(name, "FLOAT" if kind == "float" else "DOUBLE", own, f"CAST({own} + 0e0 AS CHAR)", database)
    if kind == "bit":
        as_number = f"CAST({own} AS UNSIGNED)"
        if whole == "bit(1)":
            return Column(PartColumn(name, "BOOLEAN"), as_number, "CAST(CAST({0} AS INTEGER) AS BOOLEAN)")
        return _typed(name, "UBIGINT", as_number, f"CAST({as_number} AS CHAR)", database)
    if kind == "year":
        return Column(PartColumn(name, "SMALLINT"), f"CAST({own} AS SIGNED)", "CAST({0} AS SMALLINT)")
    if moment := _MOMENTS.get(kind):  # a zero date has no other form than text
        part = PartColumn(name, None, (moment, "VARCHAR"), declared=moment)
        return Column(part, text, "{0} || '+00'" if kind == "timestamp" else "{0}")
    if kind == "json":
        return Column(PartColumn(name, "JSON"), text)
    if kind in _BYTES or kind in _SHAPES:
        part = PartColumn(name, "BLOB")
        return Column(part, f"HEX({own})", "unhex({0})") if database.texts else Column(part, own)
    if kind == "uuid":
        return Column(PartColumn(name, "UUID"), text, "CAST({0} AS UUID)")
    return Column(PartColumn(name, "VARCHAR"), text)


def _query_types(relation: Relation, database: Database) -> list[tuple[str, str]]:
    """The columns of a query, with the types that the scanner would give them; "" for whole numbers of any size.

    A driver gives a number for the type, and the same for bytes as for texts, so the server is asked which they are.
    """
    found = database.describe(relation)
    if not database.texts or not found:
        return found
    names = ", ".join(f"CHARSET(q.{identifier(name, database)})" for name, _ in found)
    charsets = database.rows(f"SELECT {names} FROM (SELECT 1) one LEFT JOIN {relation.sql} ON false")[0]
    return [
        (name, _CODES.get(code, "BLOB" if charset == "binary" else "VARCHAR"))
        for (name, code), charset in zip(found, charsets, strict=True)
    ]


def _query_column(name: str, kind: str, database: Database) -> Column:
    """How a column of a query is read, by the type that the scanner gives it.

    It gives a decimal of more than 38 digits the type DOUBLE: such a column comes as text, and becomes what holds every
    digit of it.
    """
    own = identifier(name, database)
    text = f"CAST({own} AS CHAR)"
    if kind.startswith("DECIMAL"):
        declared = kind if "(" in kind else ""
        return Column(PartColumn(name, None, ("DECIMAL", "VARCHAR"), declared=declared), text)
    if kind == "DOUBLE":
        return Column(PartColumn(name, None, ("DOUBLE", "DECIMAL", "VARCHAR"), declared=kind), text)
    if kind == "":
        return Column(PartColumn(name, None, ("BIGINT", "DECIMAL", "VARCHAR"), declared="BIGINT"), text)
    if kind in ("DATE", "TIMESTAMP"):  # a TIMESTAMP of the server, and a DATETIME, look alike here
        return Column(PartColumn(name, None, (kind, "VARCHAR"), declared=kind), text)
    if kind == "BOOLEAN":
        return Column(PartColumn(name, kind), f"CAST({own} AS UNSIGNED)", "CAST(CAST({0} AS INTEGER) AS BOOLEAN)")
    if kind == "BLOB" and database.texts:
        return Column(PartColumn(name, kind), f"HEX({own})", "unhex({0})")
    if kind == "FLOAT":
        return _typed(name, kind, own, f"CAST({own} + 0e0 AS CHAR)", database)
    return Column(PartColumn(name, kind), text if kind == "VARCHAR" else own)


def _typed(name: str, kind: str, own: str, text: str, database: Database) -> Column:
    """A column of a type that the scanner hands over exactly."""
    if database.texts:
        return Column(PartColumn(name, kind), text, f"CAST({{0}} AS {kind})")
    return Column(PartColumn(name, kind), own)
