"""What a database is to the `sql` connector, however it is reached: by a scanner of DuckDB, or by SQLAlchemy.

`smoll.connectors.postgres`, `mysql` and `sqlite` write the SQL of their databases; a `Database` has it run there. So
what is read, and with which types, is the same by either way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from smoll.connector import Part, PartColumn, Reading, StreamPlan
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import SqlSource


_QUERY_IN_ERROR = re.compile(r'(Binder|IO|Invalid Input) Error: Failed to \w+ (\w+ )*query ".*": ', re.DOTALL)


@dataclass(frozen=True)
class Relation:
    """What a stream reads: a table of the database, or a query.

    ``sql`` stands behind FROM, ``where`` is the user's own condition, and ``name`` the table's name.
    """

    name: str
    sql: str
    where: str = ""
    is_query: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the database.

    ``part`` is how the load gets it, ``read`` the database's SQL for it, and ``value`` DuckDB's SQL that makes the
    part's type of what comes, with ``{0}`` for that. ``odd`` is the database's SQL, true for a value that does not
    come so unchanged (NaN in a decimal, say); where there is one, the column is read as `otherwise`. ``scanned``: the
    scanner reads it as well from the table itself, which is faster, as several threads do it.
    """

    part: PartColumn
    read: str
    value: str = "{0}"
    odd: str = ""
    otherwise: Column | None = None
    scanned: bool = False

    @property
    def name(self) -> str:
        """The column's name in the database."""
        return self.part.name


class Database(Protocol):
    """A database that can be asked.

    Parameters
    ----------
    connection
        DuckDB's connection, which the load works on.
    alias
        The name under which the database is attached to it, where it is.
    texts
        Values come as texts only, so every column must be read as one.
    snapshot
        All that is read in one transaction of the connection is of one moment.
    """

    source: SqlSource
    connection: DuckDBPyConnection
    alias: str
    texts: bool
    snapshot: bool

    def begin(self) -> None:
        """Let what is read from now on be of a new snapshot, where that is for this side to say."""
        ...

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Have the database run a SELECT, and return its rows."""
        ...

    def describe(self, relation: Relation) -> list[tuple[str, str]]:
        """The names of a query's columns, each with its type: DuckDB's where it is attached, else the driver's own."""
        ...

    def part(self, sql: str, columns: Sequence[Column], label: str, reading: Reading) -> Part:
        """The part that yields the rows of the database's SELECT `sql`, whose columns are `columns`."""
        ...

    def is_own(self, error: Exception) -> bool:
        """True where the error is one of reading the database."""
        ...

    def explain(self, error: Exception) -> str:
        """What such an error says, in one line and without a secret."""
        ...


class Dialect(Protocol):
    """The functions of the module of a kind of database. ``SETUP`` are the statements that a session begins with."""

    EXTENSION: tuple[str, str]
    QUERY: str
    DRIVERS: tuple[str, ...]
    SETUP: tuple[str, ...]
    SNAPSHOT: bool

    def attach(self, alias: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> None:
        """Attach the database to DuckDB, read-only. The extension is loaded."""
        ...

    def place(self, source: SqlSource, root: Path) -> str:
        """The database without user and password, for messages. Raises LoadError where it cannot be there."""
        ...

    def tables(self, database: Database) -> list[str]:
        """The names of its tables and views."""
        ...

    def table_sql(self, table: str, database: Database) -> str:
        """SQL of the database: a table, behind FROM."""
        ...

    def identifier(self, name: str, database: Database) -> str:
        """SQL of the database: a name."""
        ...

    def columns(self, relation: Relation, database: Database) -> list[Column]:
        """The columns as they will be read; empty where there is none."""
        ...

    def primary_key(self, table: str, database: Database) -> tuple[str, ...]:
        """The columns of the table's primary key, in its order; empty where it has none."""
        ...

    def part(
        self, relation: Relation, columns: Sequence[Column], where: str, database: Database, reading: Reading
    ) -> Part:
        """What yields those columns of the rows that `where` (SQL of the database, or "") chooses."""
        ...

    def cursor_column(self, plan: StreamPlan, column: Column, relation: Relation, database: Database) -> Column:
        """The column as a cursor. Raises LoadError where its values have no order that both sides agree about."""
        ...

    def cursor_literal(self, column: PartColumn, value: str, database: Database) -> str:
        """SQL of the database: a value of the cursor."""
        ...


@dataclass
class Scanned:
    """A database that is attached to DuckDB; ``query`` is the scanner's function that has it run a SELECT."""

    source: SqlSource
    connection: DuckDBPyConnection
    alias: str
    query: str
    snapshot: bool
    texts: bool = False

    def begin(self) -> None:
        """The transaction of DuckDB is that of the database, too."""

    def scan(self, sql: str) -> str:
        """SQL of DuckDB that has the database run a SELECT."""
        return f"SELECT * FROM {self.query.format(literal(self.alias), literal(sql))}"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """See `Database`."""
        return self.connection.execute(self.scan(sql)).fetchall()

    def describe(self, relation: Relation) -> list[tuple[str, str]]:
        """See `Database`."""
        sql = f"SELECT * FROM {relation.sql} LIMIT 0"
        return [(row[0], row[1]) for row in self.connection.execute(f"DESCRIBE {self.scan(sql)}").fetchall()]

    def part(self, sql: str, columns: Sequence[Column], label: str, reading: Reading) -> Part:
        """See `Database`."""
        parts = tuple(column.part for column in columns)
        if all(column.value == "{0}" for column in columns):
            return Part(self.scan(sql), parts, label)
        listed = ", ".join(f"{column.value.format(quote(column.name))} AS {quote(column.name)}" for column in columns)
        return Part(f"SELECT {listed} FROM ({self.scan(sql)})", parts, label)

    def is_own(self, error: Exception) -> bool:
        """See `Database`."""
        import duckdb

        return isinstance(error, duckdb.Error) and not isinstance(error, duckdb.InterruptException)

    def explain(self, error: Exception) -> str:
        """See `Database`."""
        text = _QUERY_IN_ERROR.sub("", str(error)).strip().splitlines()[0]
        return text.replace(self.alias, self.alias.removeprefix("__source_").rpartition("_")[0])


def scan_table(columns: Sequence[Column], schema: str, table: str, where: str, database: Database) -> Part:
    """What has DuckDB's scanner read a table by itself; `where` is SQL that both understand."""
    names = ", ".join(quote(column.name) for column in columns)
    place = ".".join(quote(name) for name in (database.alias, schema, table) if name)
    return Part(f"SELECT {names} FROM {place}{where}", tuple(column.part for column in columns), table)


def select(columns: Sequence[Column], relation: Relation, where: str, database: Database, dialect: Dialect) -> str:
    """The database's own SELECT of some columns."""
    names = [f"{column.read} AS {dialect.identifier(column.name, database)}" for column in columns]
    return f"SELECT {', '.join(names)} FROM {relation.sql}{where}"
