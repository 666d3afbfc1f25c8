"""Databases: Postgres and SQLite, through DuckDB's scanners.

What differs between databases (the catalog, how a column is read without loss) lies in `postgres` and
`sqlite`; cursors and stream lists are the same for all and lie here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connector import Extract, PartColumn, Reading, StreamPlan, is_numeric, plan_stream
from smoll.connectors import postgres, sqlite
from smoll.errors import LoadError
from smoll.model import StreamRef, literal, quote
from smoll.project import EVERY

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import SqlSource


_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


def _dialect(source: SqlSource) -> Any:
    return sqlite if source.url.get_secret_value().startswith("sqlite") else postgres


def discover(
    name: str, source: SqlSource, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
) -> tuple[StreamPlan, ...]:
    """Return the named streams; where ``"*"`` is among them, every other table of the database too.

    Where the database cannot be reached, the tables of earlier runs are taken: a run that loads nothing from it
    goes on, one that does says why it cannot.
    """
    chosen = {stream: options for stream, options in source.streams.items() if stream != EVERY}
    if EVERY in source.streams:
        try:
            with attach(name, source, root, connection):
                tables = _tables(name, source, connection)
        except LoadError:
            if not known:
                raise
            tables = known
        chosen |= {table: source.streams[EVERY] for table in tables if table not in chosen}
    return tuple(
        plan_stream(source, StreamRef(name, stream), options, by_cursor=options.cursor is not None)
        for stream, options in chosen.items()
    )


def _tables(name: str, source: SqlSource, connection: DuckDBPyConnection) -> Sequence[str]:
    import duckdb

    dialect = _dialect(source)
    try:
        found: Sequence[str] = dialect.tables(alias(name), source, connection)
    except duckdb.Error as error:
        text = str(error).splitlines()[0]
        raise LoadError(f"{name}: cannot list the tables of {dialect.describe(source)}: {text}") from error
    return found


@contextmanager
def attach(name: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> Iterator[None]:
    """Attach the database read-only, under `alias`, for the length of the block.

    Raises
    ------
    LoadError
        The server is down, the password is wrong, the file is missing. The URL is not in the message.
    """
    import duckdb

    dialect = _dialect(source)
    try:
        dialect.attach(alias(name), source, root, connection)
    except duckdb.Error as error:
        secret = source.url.get_secret_value()
        text = str(error).replace(secret, "the url").splitlines()[0]
        text = text.split("failed: ", 1)[-1] if "failed: " in text else text
        raise LoadError(
            f"{name}: cannot connect to {dialect.describe(source)}: {text}",
            hint="Check that it is running and reachable, and the user and password in `url`.",
        ) from error
    try:
        yield
    finally:
        connection.execute(f"DETACH DATABASE IF EXISTS {quote(alias(name))}")


def alias(name: str) -> str:
    """The name under which a source's database is attached."""
    return f"__source_{name}"


def check(name: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> str:
    """Connect, and find every named table."""
    with attach(name, source, root, connection):
        tables = set(_tables(name, source, connection))
    missing = [stream for stream in source.streams if stream != EVERY and stream not in tables]
    if missing:
        raise _no_table(StreamRef(name, missing[0]), source)
    return f"connected to {_dialect(source).describe(source)}, {len(tables)} tables"


def extract(plan: StreamPlan, source: SqlSource, reading: Reading) -> Extract:
    """Return one part: the whole table, or the rows at and beyond the cursor of the last load.

    Rows equal to the cursor are read again, because others with the same value may have come since; the load
    does not double them.
    """
    import duckdb

    dialect, connection = _dialect(source), reading.connection
    try:
        columns = dialect.columns(plan.ref.stream, source, alias(plan.ref.source), connection)
        if not columns:
            raise _no_table(plan.ref, source)
        columns, bounds = _bounds(plan, columns, reading, dialect)
        part = dialect.part(plan.ref.stream, columns, bounds.where, source, alias(plan.ref.source), connection)
    except duckdb.Error as error:
        raise _explain(plan, source, error) from error
    part = replace(
        part, label=str(plan.ref), records=lambda: partial(_count, plan, dialect, bounds.where, source, connection)
    )
    complete = not bounds.where
    keys = None
    if plan.deletes != "ignore" and not complete:
        by_name = {column.name: column for column in columns}
        keys = dialect.part(
            plan.ref.stream,
            tuple(by_name[key] for key in plan.key if key in by_name),
            "",
            source,
            alias(plan.ref.source),
            connection,
        )
    return Extract(
        parts=(part,),
        explain=lambda error: _explain(plan, source, error),
        complete=complete,
        keys=keys,
        since=bounds.since,
    )


def _count(plan: StreamPlan, dialect: Any, where: str, source: SqlSource, connection: DuckDBPyConnection) -> int:
    """Ask the database itself how many rows it has, in the snapshot that is read."""
    return int(dialect.count(plan.ref.stream, where, source, alias(plan.ref.source), connection))


def _explain(plan: StreamPlan, source: SqlSource, error: Exception) -> LoadError:
    return LoadError(f"{plan.ref}: cannot read {_dialect(source).describe(source)}: {str(error).splitlines()[0]}")


@dataclass(frozen=True)
class _Bounds:
    """Which rows are read: a WHERE clause that both databases understand, and the lowest cursor value in it."""

    where: str = ""
    since: str | None = None


def _bounds(
    plan: StreamPlan,
    columns: tuple[PartColumn, ...],
    reading: Reading,
    dialect: Any,
) -> tuple[tuple[PartColumn, ...], _Bounds]:
    if plan.cursor is None:
        return columns, _Bounds()
    found = next((column for column in columns if column.name == plan.cursor), None)
    if found is None:
        raise LoadError(
            f"{plan.ref}: the cursor column {plan.cursor!r} is not in the table.",
            hint=f"Its columns: {', '.join(column.name for column in columns)}.",
        )
    column = dialect.cursor_column(plan, found, alias(plan.ref.source), reading.connection)
    columns = tuple(column if other is found else other for other in columns)
    is_number = _check_lag(plan, column)
    name = quote(column.name)
    if reading.since is not None or reading.until is not None:
        limits = [(">=", reading.since), ("<", reading.until)]
        clauses = [
            f"{name} {sign} {dialect.cursor_literal(column, _checked(plan, column, limit, reading.connection))}"
            for sign, limit in limits
            if limit is not None
        ]
        return columns, _Bounds(f" WHERE {' AND '.join(clauses)}", reading.since)
    if reading.state.get("cursor") is None:
        return columns, _Bounds()
    since = _lowered(plan, column, str(reading.state["cursor"]), reading.connection, is_number)
    return columns, _Bounds(f" WHERE {name} >= {dialect.cursor_literal(column, since)} OR {name} IS NULL", since)


def _checked(plan: StreamPlan, column: PartColumn, value: str, connection: DuckDBPyConnection) -> str:
    """A limit that the user gave, if it can be a value of the cursor.

    A time without a zone is UTC, as the load takes it; the database would take it in a zone of its own.
    """
    import duckdb

    if column.type in _TIMES:
        try:
            row = connection.execute(f"SELECT CAST({literal(value)} AS {column.type})::VARCHAR").fetchone()
        except duckdb.ConversionException as error:
            raise LoadError(f"{plan.ref}: {value!r} is no {column.type}, and the cursor {column.name!r} is.") from error
        return str(row[0]) if row else value
    is_number = column.type is None or is_numeric(column.type)
    try:
        if is_number and column.among != ("VARCHAR",):
            return str(Decimal(value))
    except ArithmeticError as error:
        raise LoadError(f"{plan.ref}: {value!r} is no number, and the cursor {column.name!r} is one.") from error
    return value


def _check_lag(plan: StreamPlan, column: PartColumn) -> bool:
    """Whether the cursor is one of numbers. Raises LoadError where the ``lag`` does not fit it.

    It is asked at the first load, too: an error that waits for the second one comes at night.
    """
    lag = plan.options.lag
    is_text = column.among == ("VARCHAR",) if column.type is None else column.type == "VARCHAR"
    is_number = not is_text and (column.type is None or is_numeric(column.type))
    if lag is not None and (is_number != lag.isdigit() or is_text):
        kind = "a number" if is_number else "a text" if is_text else "a time"
        raise LoadError(
            f"{plan.ref}: the lag {lag!r} does not fit the cursor {column.name!r}, which is {kind}.",
            hint="A cursor of numbers has a lag like 1000, one of times a lag like 2 days, one of texts none.",
        )
    return is_number


def _lowered(plan: StreamPlan, column: PartColumn, value: str, connection: DuckDBPyConnection, is_number: bool) -> str:
    """The cursor's value less the stream's ``lag``, as text."""
    lag = plan.options.lag
    if lag is None:
        return value
    if is_number:
        return str(Decimal(value) - Decimal(lag))
    time = "TIMESTAMP" if column.type == "DATE" else str(column.type)
    sql = f"SELECT CAST(CAST({literal(value)} AS {time}) - INTERVAL {literal(lag)} AS VARCHAR)"
    row = connection.execute(sql).fetchone()
    return str(row[0]) if row else value


def _no_table(ref: StreamRef, source: SqlSource) -> LoadError:
    return LoadError(
        f"{ref}: there is no table {ref.stream!r} in {_dialect(source).describe(source)}.",
        hint='Check the name in smoll.yml; `"*"` loads every table there is.',
    )
