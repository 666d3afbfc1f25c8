"""Databases by SQLAlchemy: any that DuckDB has no scanner for, and the others where the scanner cannot be loaded.

Rows are fetched in batches, by a cursor of the server where there is one, and written to the stream's scratch folder as
lines of JSON, because a load may scan them more than once. Of Postgres, MySQL and SQLite every value comes as the
text that `smoll.connectors.postgres` and its neighbours ask for, so the types are those of the scanner; of any other
database it comes as its driver has it, and is written with the kind that it has (`line_writer`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from smoll.connector import Part, PartColumn, Reading, StreamPlan
from smoll.connectors import line_reader
from smoll.connectors.database import Column, Database, Dialect, Relation, select
from smoll.connectors.line_writer import Table, Unwritable
from smoll.errors import Interrupted, LoadError
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from sqlalchemy import Connection

    from smoll.project import SqlSource

EXTENSION = ("", "sqlalchemy")
QUERY = ""
DRIVERS: tuple[str, ...] = ()
SETUP: tuple[str, ...] = ()
SNAPSHOT = False
_BATCH = 500
_SNAPSHOTS = {
    "postgresql": "REPEATABLE READ",
    "mysql": "REPEATABLE READ",
    "mariadb": "REPEATABLE READ",
    "oracle": "SERIALIZABLE",
    "sqlite": None,
}
"""Databases whose transactions see one moment, with the isolation level that gives it."""
_MODULES = {"pysqlite": "sqlite3", "MySQLdb": "MySQLdb"}
_NAMES = {"postgres": "postgresql", "mysql": "mysql", "sqlite": "sqlite"}
_DRIVER_NAMES = {"MySQLdb": "mysqldb", "mariadb": "mariadbconnector"}
_PYTHON_TYPES: dict[type, str] = {
    bool: "BOOLEAN",
    int: "BIGINT",
    float: "DOUBLE",
    Decimal: "DECIMAL",
    datetime: "TIMESTAMP",
    date: "DATE",
    str: "VARCHAR",
    bytes: "BLOB",
}


@dataclass
class Connected:
    """A database that SQLAlchemy is connected to."""

    source: SqlSource
    connection: DuckDBPyConnection
    session: Connection
    texts: bool
    snapshot: bool
    alias: str = ""

    def begin(self) -> None:
        """End the transaction, if there is one; the next statement begins another."""
        self.session.rollback()
        if self.session.dialect.name == "sqlite":  # its driver begins one only before it writes
            self.session.exec_driver_sql("BEGIN")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """See `Database`."""
        return [tuple(row) for row in self.session.execute(_text(sql))]

    def describe(self, relation: Relation) -> list[tuple[str, str]]:
        """See `Database`."""
        result = self.session.execute(_text(f"SELECT * FROM {relation.sql} WHERE 1 = 0"))
        found = [(column[0], str(column[1])) for column in result.cursor.description]
        result.close()
        return found

    def part(self, sql: str, columns: Sequence[Column], label: str, reading: Reading) -> Part:
        """See `Database`. The rows are fetched here and now."""
        table = self.spool(sql, len(columns), reading)
        described = [PartColumn(f"c{number}", None) for number in range(len(columns))]
        listed = ", ".join(
            f"{column.value.format(f'c{number}')} AS {quote(column.name)}" for number, column in enumerate(columns)
        )
        scan = line_reader.scan(str(table.path), table.longest, described)
        return Part(
            f"SELECT {listed} FROM ({scan})",
            tuple(column.part for column in columns),
            label,
            records=lambda: lambda: table.rows,
        )

    def spool(self, sql: str, width: int, reading: Reading) -> Table:
        """Write the rows of a SELECT to a file, the columns as ``c0``, ``c1``, ... Raises Interrupted."""
        number = sum(1 for _ in reading.scratch.iterdir())
        path = reading.scratch / f"rows{number}.ndjson"
        names = [f"c{number}" for number in range(width)]
        with path.open("wb") as file:
            table = Table(path, file, columns={name: set() for name in names})
            options = {"stream_results": True, "yield_per": _BATCH, "max_row_buffer": _BATCH}
            with self.session.execute(_text(sql), execution_options=options) as result:
                for rows in result.partitions(_BATCH):
                    if reading.stopped():
                        raise Interrupted("interrupted; its table is as it was before.")
                    for row in rows:
                        table.write(dict(zip(names, row, strict=True)))
                    reading.progress(table.size, None)
        return table

    def is_own(self, error: Exception) -> bool:
        """See `Database`."""
        from sqlalchemy.exc import SQLAlchemyError

        return isinstance(error, (SQLAlchemyError, Unwritable))

    def explain(self, error: Exception) -> str:
        """See `Database`."""
        return told(self.source, error)


def told(source: SqlSource, error: BaseException) -> str:
    """What an error of the driver says, in one line and without a secret."""
    return clean(source, getattr(error, "orig", None) or error)


def clean(source: SqlSource, error: BaseException) -> str:
    """The first line of an error, without the URL or its password."""
    url = source.url.get_secret_value()
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        password = ""
    for secret in filter(None, [url, password, unquote(password)]):
        text = text.replace(secret, "***")
    return text


def _text(sql: str) -> Any:
    """A statement that is given to the driver as it stands: SQLAlchemy takes ``:name`` for a parameter."""
    from sqlalchemy import text

    return text(sql.replace(":", r"\:"))


def driver_for(scanner: str, dialect: Dialect) -> str | None:
    """The name in a URL of SQLAlchemy, with a driver that is installed; None where there is none."""
    if find_spec("sqlalchemy") is None:
        return None
    found = next((each for each in dialect.DRIVERS if find_spec(_MODULES.get(each, each)) is not None), None)
    return f"{_NAMES[scanner]}+{_DRIVER_NAMES.get(found, found)}" if found else None


def connect(
    source: SqlSource, root: Path, connection: DuckDBPyConnection, driver: str | None, dialect: Dialect
) -> Connected:
    """Connect by SQLAlchemy.

    Parameters
    ----------
    driver
        What to put before ``://`` in the URL, for one that is no URL of SQLAlchemy; None for one that is.
    dialect
        The module of the database: that of one that DuckDB knows has all values come as texts.

    Raises
    ------
    LoadError
        SQLAlchemy or the driver is not installed, or the URL is none.
    sqlalchemy.exc.SQLAlchemyError
        The database cannot be reached.
    """
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
        from sqlalchemy.pool import NullPool
    except ImportError as error:
        raise LoadError(
            "SQLAlchemy is not installed, which this database is read by.",
            hint="Install it with: pip install 'smoll[sqlalchemy]', and the driver that the URL names.",
        ) from error
    text = source.url.get_secret_value()
    try:
        url = sqlalchemy.make_url(f"{driver}://{text.partition('://')[2]}" if driver else text)
        if url.get_backend_name() == "sqlite" and url.database:
            url = url.set(database=str(root / url.database))
        engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        what = text.partition("://")[0]
        raise LoadError(
            f"SQLAlchemy cannot use a URL that begins with {what}://: {clean(source, error)}",
            hint="Install the driver that the URL names; for SQLAlchemy's own names of drivers see its documentation.",
        ) from error
    session = engine.connect()
    level = _SNAPSHOTS.get(session.dialect.name)
    if level:
        session = session.execution_options(isolation_level=level)
    for statement in dialect.SETUP:
        session.exec_driver_sql(statement)
    session.commit()
    texts = dialect is not sys.modules[__name__]
    found = Connected(source, connection, session, texts, snapshot=session.dialect.name in _SNAPSHOTS)
    found.begin()
    return found


# --- any database -----------------------------------------------------------------------------------------------------


def attach(alias: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> None:
    """Never called: DuckDB has no scanner for it."""
    raise NotImplementedError


def place(source: SqlSource, root: Path) -> str:
    """The database without user and password, for messages."""
    text = source.url.get_secret_value()
    scheme = text.partition("://")[0]
    try:
        url = urlsplit(text)
        where = f"{url.hostname or ''}{f':{url.port}' if url.port else ''}{url.path}"
    except ValueError:
        where = ""
    schema = f" (schema {source.source_schema})" if _schema(source) else ""
    return f"the database {scheme}://{where}{schema}"


def tables(database: Database) -> list[str]:
    """Tables and views."""
    inspector, schema = _inspector(database), _schema(database.source)
    return sorted({*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema)})


def table_sql(table: str, database: Database) -> str:
    """A table of the source's schema, or of the user's own."""
    schema = _schema(database.source)
    return ".".join(identifier(name, database) for name in filter(None, [schema, table]))


def identifier(name: str, database: Database) -> str:
    """A name, quoted as the database does."""
    assert isinstance(database, Connected)
    preparer = database.session.dialect.identifier_preparer
    quoted = str(preparer.quote_identifier(name))
    # It doubles a percent sign for drivers that take one for a parameter; `_text` does that, too.
    return quoted.replace("%%", "%") if getattr(preparer, "_double_percents", False) else quoted


def columns(relation: Relation, database: Database) -> list[Column]:
    """The columns, with the types that they have as long as no value says otherwise."""
    from sqlalchemy import Text, cast, literal_column
    from sqlalchemy.exc import NoSuchTableError
    from sqlalchemy.types import JSON

    assert isinstance(database, Connected)
    if relation.is_query:
        return [_column(name, None, identifier(name, database)) for name, _ in database.describe(relation)]
    try:
        found = _inspector(database).get_columns(relation.name, schema=_schema(database.source))
    except NoSuchTableError:
        return []
    described = []
    for each in found:
        read = identifier(each["name"], database)
        if isinstance(each["type"], JSON):  # a driver would make floats of its numbers
            as_text = cast(literal_column(read), Text())
            read = str(as_text.compile(dialect=database.session.dialect))
        described.append(_column(each["name"], each["type"], read))
    return described


def _column(name: str, kind: Any, read: str) -> Column:
    declared = "JSON" if type(kind).__name__.upper() in ("JSON", "JSONB") else _declared(kind)
    return Column(PartColumn(name, None, declared=declared), read)


def _declared(kind: Any) -> str:
    """The type in DuckDB of a type of SQLAlchemy's, for a column that has no value yet; "" where it has none."""
    try:
        found = _PYTHON_TYPES.get(kind.python_type, "")
    except (AttributeError, NotImplementedError):
        return ""
    if found == "TIMESTAMP" and getattr(kind, "timezone", False):
        return "TIMESTAMP WITH TIME ZONE"
    if found == "DECIMAL":
        precision, scale = getattr(kind, "precision", None), getattr(kind, "scale", None)
        return f"DECIMAL({precision},{scale or 0})" if precision and precision <= 38 else "DECIMAL(18,3)"
    return found


def primary_key(table: str, database: Database) -> tuple[str, ...]:
    """The columns of the primary key."""
    found = _inspector(database).get_pk_constraint(table, schema=_schema(database.source))
    return tuple(found.get("constrained_columns") or ())


def part(relation: Relation, columns: Sequence[Column], where: str, database: Database, reading: Reading) -> Part:
    """The rows as the driver gives them, each value of the kind that it has."""
    assert isinstance(database, Connected)
    sql = select(columns, relation, where, database, sys.modules[__name__])
    table = database.spool(sql, len(columns), reading)
    described = []
    for number, column in enumerate(columns):
        kinds, declared = table.columns[f"c{number}"] - {"null"}, column.part.declared
        if not kinds and declared:
            described.append(PartColumn(f"c{number}", declared))
            continue
        # A text is a text, unless the column is one of moments and the driver has no form for them.
        is_moment = declared in ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
        hint = "json" if declared == "JSON" else "text" if "str" in kinds and not is_moment else ""
        described.append(line_reader.column(f"c{number}", kinds, hint=hint))
    scan = line_reader.scan(str(table.path), table.longest, described)
    values = [
        f"{_value(own, table.columns[own.name])} AS {quote(column.name)}"
        for own, column in zip(described, columns, strict=True)
    ]
    named = tuple(
        PartColumn(column.name, own.type, own.among, declared=column.part.declared)
        for own, column in zip(described, columns, strict=True)
    )
    return Part(f"SELECT {', '.join(values)} FROM ({scan})", named, relation.name, records=lambda: lambda: table.rows)


def _value(column: PartColumn, kinds: set[str]) -> str:
    if column.type == "JSON" and "str" in kinds:  # JSON that came as a text
        return f"CAST({quote(column.name)} ->> '$' AS JSON)"
    if kinds <= {"null"} and column.type:
        return f"CAST(NULL AS {column.type})"
    return line_reader.value(column)


def cursor_column(plan: StreamPlan, column: Column, relation: Relation, database: Database) -> Column:
    """The column with the type of one of its values. A text cursor is refused: the order may be another in DuckDB."""
    where = f" WHERE {column.read} IS NOT NULL"
    assert isinstance(database, Connected)
    with database.session.execute(_text(f"SELECT {column.read} FROM {relation.sql}{where}")) as result:
        row = result.fetchone()
    kind = _kind_of(row[0]) if row else column.part.declared
    if kind in ("VARCHAR", "JSON", "BLOB", "BOOLEAN"):
        raise LoadError(
            f"{plan.ref}: the cursor {column.name!r} is a column of type {kind}.",
            hint="A cursor must be a number, a date or a timestamp.",
        )
    return Column(PartColumn(column.name, kind or None, declared=column.part.declared), column.read)


def _kind_of(value: Any) -> str:
    found = next((kind for python, kind in _PYTHON_TYPES.items() if isinstance(value, python)), "VARCHAR")
    return "TIMESTAMP WITH TIME ZONE" if isinstance(value, datetime) and value.tzinfo else found


def cursor_literal(column: PartColumn, value: str, database: Database) -> str:
    """The stored cursor as the database writes such a value."""
    from sqlalchemy import DateTime
    from sqlalchemy import literal as bound

    assert isinstance(database, Connected)
    kind = column.type or ""
    if kind in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE"):
        moment = date.fromisoformat(value) if kind == "DATE" else datetime.fromisoformat(value)
        if kind == "TIMESTAMP WITH TIME ZONE":
            return literal(value)
        typed = bound(moment, DateTime()) if kind == "TIMESTAMP" else bound(moment)
        return str(typed.compile(dialect=database.session.dialect, compile_kwargs={"literal_binds": True}))
    return str(Decimal(value))


def _inspector(database: Database) -> Any:
    import sqlalchemy

    assert isinstance(database, Connected)
    return sqlalchemy.inspect(database.session)


def _schema(source: SqlSource) -> str | None:
    return source.source_schema if "source_schema" in source.model_fields_set else None
