"""Databases: Postgres, MySQL and SQLite by DuckDB's scanners, those and any other by SQLAlchemy.

What differs between databases (the catalog, how a column is read without loss) lies in `postgres`, `mysql`, `sqlite`
and `any_database`, the way to them in `database`; cursors and lists of streams are the same for all and lie here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from smoll.connector import Extract, Part, PartColumn, Reading, StreamPlan, is_numeric, plan_stream
from smoll.connectors import any_database, mysql, postgres, sqlite
from smoll.connectors.any_database import driver_for
from smoll.connectors.database import Column, Database, Dialect, Relation, Scanned
from smoll.errors import LoadError
from smoll.model import StreamRef, literal, quote
from smoll.project.common import EVERY, KEYED
from smoll.project.sql import is_pattern
from smoll.warehouse import load_extension

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import SqlSource, SqlStream


_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
DIALECTS = {
    "postgres": cast(Dialect, postgres),
    "mysql": cast(Dialect, mysql),
    "sqlite": cast(Dialect, sqlite),
}
"""The databases that DuckDB has a scanner for."""
_numbers = itertools.count(1)
_BY_SQLALCHEMY = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}


@dataclass(frozen=True)
class _Open:
    """A database that is connected, as long as the ``with`` block of `attach` lasts."""

    dialect: Dialect
    database: Database
    place: str
    close: Callable[[], None]
    notes: tuple[str, ...] = ()
    tables: list[str] = field(default_factory=list)


_opened: dict[tuple[int, str], _Open] = {}
"""By DuckDB's connection, which one thread uses, and the source's name."""


def discover(
    name: str, source: SqlSource, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
) -> tuple[StreamPlan, ...]:
    """Return the named streams, and for ``"*"`` and patterns the tables of the database that they stand for.

    The catalog is asked for those, and for the primary keys of streams that are merged and have no `key`. Where the
    database cannot be reached, the tables of earlier runs are taken: a run that loads nothing from it goes on, one
    that does says why it cannot.
    """
    chosen = {stream: options for stream, options in source.streams.items() if not is_pattern(stream)}
    keyless = any(options.mode in KEYED and not options.key for options in source.streams.values())
    keys: dict[str, tuple[str, ...]] = {}
    if keyless or len(chosen) < len(source.streams):
        try:
            with attach(name, source, root, connection):
                chosen = _chosen(source, _tables(name, connection))
                keys = _primary_keys(name, chosen, connection)
        except LoadError:
            if not known:
                raise
            chosen = _chosen(source, known)
    return tuple(
        replace(
            plan_stream(source, StreamRef(name, stream), options, by_cursor=options.cursor is not None),
            key=options.key or keys.get(stream, ()),
        )
        for stream, options in chosen.items()
    )


def _chosen(source: SqlSource, tables: Sequence[str]) -> dict[str, SqlStream]:
    """The named streams, and the tables that a pattern stands for. A table that is called like a pattern is named."""
    there = set(tables)
    chosen = {name: options for name, options in source.streams.items() if not is_pattern(name) or name in there}
    for table in tables:
        options = source.options_of(table)
        if options is not None and table not in chosen:
            chosen[table] = options
    return chosen


def _primary_keys(
    name: str, chosen: Mapping[str, SqlStream], connection: DuckDBPyConnection
) -> dict[str, tuple[str, ...]]:
    """The primary keys of the streams that need one and name none."""
    opened = _opened[id(connection), name]
    keyless = [stream for stream, each in chosen.items() if each.mode in KEYED and not each.key and not each.query]
    with _explaining(name, opened, "cannot read the catalog of"):
        return {stream: opened.dialect.primary_key(stream, opened.database) for stream in keyless}


def _tables(name: str, connection: DuckDBPyConnection) -> Sequence[str]:
    opened = _opened[id(connection), name]
    if not opened.tables:
        with _explaining(name, opened, "cannot list the tables of"):
            opened.tables.extend(opened.dialect.tables(opened.database))
    return opened.tables


@contextmanager
def attach(name: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> Iterator[None]:
    """Connect to the database, read-only, for the length of the block.

    Raises
    ------
    LoadError
        The server is down, the password is wrong, the file is missing. The URL is not in the message.
    """
    opened = _open(name, source, root, connection)
    _opened[id(connection), name] = opened
    try:
        yield
    finally:
        del _opened[id(connection), name]
        opened.close()


def _open(name: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> _Open:
    kind = source.scanner
    if kind is None:
        backend = source.url.get_secret_value().partition("+")[0]
        known = _BY_SQLALCHEMY.get(backend)
        dialect = DIALECTS[known] if known else cast(Dialect, any_database)
        notes = (f"read by SQLAlchemy, as its URL says; by {backend}:// it is faster",) if known else ()
        return _connect(name, source, root, connection, dialect, None, notes)
    dialect = DIALECTS[kind]
    try:
        load_extension(connection, *dialect.EXTENSION)
    except LoadError as error:
        driver = driver_for(kind, dialect)
        if driver is None:
            drivers = " or ".join(dialect.DRIVERS)
            hint = f"{error.hint} Or, slower: pip install 'smoll[sqlalchemy]', and the driver {drivers}."
            raise LoadError(f"{name}: {error.message}", hint=hint) from error
        slower = f"DuckDB's extension is missing, so it was read by SQLAlchemy, slower; {error.hint}"
        return _connect(name, source, root, connection, dialect, driver, (slower,))
    return _attach(name, source, root, connection, dialect)


def _attach(name: str, source: SqlSource, root: Path, connection: DuckDBPyConnection, dialect: Dialect) -> _Open:
    """Attach the database to DuckDB: under a name for each connection, since several load side by side."""
    import duckdb

    alias = f"__source_{name}_{next(_numbers)}"
    place = dialect.place(source, root)
    try:
        dialect.attach(alias, source, root, connection)
    except duckdb.Error as error:
        text = any_database.clean(source, error)
        for noise in ("failed: ", 'with parameters "": '):
            text = text.split(noise, 1)[-1]
        raise _unreachable(name, place, text) from error
    database = Scanned(source, connection, alias, dialect.QUERY, dialect.SNAPSHOT)
    return _Open(dialect, database, place, lambda: _detach(connection, alias))


def _detach(connection: DuckDBPyConnection, alias: str) -> None:
    connection.execute(f"DETACH DATABASE IF EXISTS {quote(alias)}")


def _connect(
    name: str,
    source: SqlSource,
    root: Path,
    connection: DuckDBPyConnection,
    dialect: Dialect,
    driver: str | None,
    notes: tuple[str, ...],
) -> _Open:
    place = dialect.place(source, root)
    try:
        database = any_database.connect(source, root, connection, driver, dialect)
    except LoadError as error:
        raise LoadError(f"{name}: {error.message}", hint=error.hint) from error
    except Exception as error:  # of whatever driver
        raise _unreachable(name, place, any_database.told(source, error)) from error
    return _Open(dialect, database, place, database.session.close, notes)


def _unreachable(name: str, place: str, text: str) -> LoadError:
    return LoadError(
        f"{name}: cannot connect to {place}: {text}",
        hint="Check that it is running and reachable, and the user and password in `url`.",
    )


@contextmanager
def _explaining(what: object, opened: _Open, failed: str) -> Iterator[None]:
    """Turn an error of the database into one for people."""
    try:
        yield
    except Exception as error:
        if not opened.database.is_own(error):
            raise
        raise LoadError(f"{what}: {failed} {opened.place}: {opened.database.explain(error)}") from error


def check(name: str, source: SqlSource, root: Path, connection: DuckDBPyConnection) -> str:
    """Connect, find every named table, have the queries prepared, and look for the keys that merging needs."""
    with attach(name, source, root, connection):
        opened, tables = _opened[id(connection), name], _tables(name, connection)
        chosen = _chosen(source, tables)
        for stream, options in chosen.items():
            ref = StreamRef(name, stream)
            if options.query is not None:
                _columns(ref, options, opened)
            elif stream not in tables:
                raise _no_table(ref, opened.place)
        for pattern in source.streams:
            if is_pattern(pattern) and pattern != EVERY and not any(fnmatchcase(table, pattern) for table in tables):
                raise LoadError(
                    f"{name}: no table of {opened.place} fits {pattern!r}.", hint="Mend it in smoll.yml, or remove it."
                )
        keys = _primary_keys(name, chosen, connection)
        for stream, key in keys.items():
            if not key:
                raise _no_key(StreamRef(name, stream), chosen[stream].mode)
    told = "; ".join(f"{stream} is merged by {', '.join(key)}" for stream, key in keys.items())
    return f"connected to {opened.place}, {len(tables)} tables{f'; {told}' if told else ''}"


# --- reading ----------------------------------------------------------------------------------------------------------


def is_snapshot(name: str, source: SqlSource, connection: DuckDBPyConnection) -> bool:
    """Whether all streams of the source are read from one snapshot, and so loaded together. It is attached."""
    return source.snapshot and _opened[id(connection), name].database.snapshot


def is_parallel(source: SqlSource) -> bool:
    """Whether streams of the source may be loaded side by side."""
    return not source.snapshot


def extract_all(
    plans: Sequence[StreamPlan], source: SqlSource, readings: Mapping[StreamRef, Reading]
) -> Mapping[StreamRef, tuple[StreamPlan, Extract]]:
    """Extract several streams from one snapshot, in sequence."""
    reading = readings[plans[0].ref]
    opened = _opened[id(reading.connection), plans[0].ref.source]
    with _explaining(plans[0].ref.source, opened, "cannot read"):
        opened.database.begin()
    found = {plan.ref: (plan, _extract(plan, opened, readings[plan.ref])) for plan in plans}
    if opened.notes:
        first = plans[0].ref
        found[first] = (plans[0], replace(found[first][1], notes=(*found[first][1].notes, *opened.notes)))
    return found


def extract(plan: StreamPlan, source: SqlSource, reading: Reading) -> Extract:
    """Return one part: the whole table, or the rows at and beyond the cursor of the last load.

    Rows equal to the cursor are read again, because others with the same value may have come since; the load
    does not double them.
    """
    opened = _opened[id(reading.connection), plan.ref.source]
    with _explaining(plan.ref, opened, "cannot read"):
        opened.database.begin()
    found = _extract(plan, opened, reading)
    return replace(found, notes=(*found.notes, *opened.notes))


def _extract(plan: StreamPlan, opened: _Open, reading: Reading) -> Extract:
    with _explaining(plan.ref, opened, "cannot read"):
        return _extract_part(plan, opened, reading)


def _extract_part(plan: StreamPlan, opened: _Open, reading: Reading) -> Extract:
    dialect, database, options = opened.dialect, opened.database, plan.options
    if plan.mode in KEYED and not plan.key:
        if dialect.primary_key(plan.ref.stream, database):
            raise LoadError(
                f"{plan.ref}: {opened.place} was away when this run began, so the table's key was not known.",
                hint="It is back: run again.",
            )
        raise _no_key(plan.ref, plan.mode)
    relation, columns = _columns(plan.ref, options, opened)
    if not columns:
        return Extract((), lambda error: _explain(plan, opened, error), notes=("the table has no columns",))
    columns, bounds = _bounds(plan, _selected(plan, columns), relation, reading, opened)
    where = _where(relation, bounds.condition)

    def counted(columns: Sequence[Column]) -> _Counted:
        odd = " OR ".join(f"({column.odd})" for column in columns if column.odd)
        return _Counted(plan.ref, relation, where, odd, database)

    def part_of(columns: Sequence[Column]) -> Part:
        part = replace(dialect.part(relation, columns, where, database, reading), label=str(plan.ref))
        return counted(columns).witness(part)

    def describe() -> Part:
        """Where values do not come unchanged they are read as texts; any other failure is none of their reading."""
        is_odd = counted(columns).ask()[1] > 0
        return part_of([column.otherwise or column for column in columns] if is_odd else columns)

    part = part_of(columns)
    if any(column.otherwise for column in columns):
        part = replace(part, describe=describe)
    keys = None
    if plan.deletes != "ignore" and bounds.condition:
        own = [column for column in columns if column.name in plan.key]
        keys = replace(dialect.part(relation, own, _where(relation, ""), database, reading), label=str(plan.ref))
    return Extract(
        parts=(part,),
        explain=lambda error: _explain(plan, opened, error),
        complete=not bounds.condition,
        keys=keys,
        since=bounds.since,
    )


def _columns(ref: StreamRef, options: SqlStream, opened: _Open) -> tuple[Relation, list[Column]]:
    """What the stream reads, and all the columns of it. Raises LoadError where there is no such table."""
    dialect, database = opened.dialect, opened.database
    if options.query is not None:
        query = f"({options.query.strip().rstrip(';')}\n) {dialect.identifier('q', database)}"
        relation = Relation(ref.stream, query, options.where or "", is_query=True)
    else:
        relation = Relation(ref.stream, dialect.table_sql(ref.stream, database), options.where or "")
    with _explaining(ref, opened, "cannot read"):
        columns = dialect.columns(relation, database)
        if not columns and not relation.is_query and ref.stream not in dialect.tables(database):
            raise _no_table(ref, opened.place)
    return relation, columns


def _selected(plan: StreamPlan, columns: Sequence[Column]) -> list[Column]:
    """The columns that the options choose, and in any case key and cursor."""
    options, kept = plan.options, {*plan.key, plan.cursor}

    def is_chosen(name: str) -> bool:
        wanted = not options.select or any(fnmatchcase(name, each) for each in options.select)
        return name in kept or (wanted and not any(fnmatchcase(name, each) for each in options.exclude))

    names = [column.name for column in columns]
    for each in (*options.select, *options.exclude):
        if not any(fnmatchcase(name, each) for name in names) and not is_pattern(each):
            raise LoadError(
                f"{plan.ref}: there is no column {each!r}, which smoll.yml names.",
                hint=f"The columns: {', '.join(names[:30])}.",
            )
    found = [column for column in columns if is_chosen(column.name)]
    if not found:
        raise LoadError(
            f"{plan.ref}: `select` and `exclude` leave no column.", hint=f"The columns: {', '.join(names[:30])}."
        )
    return found


def _where(relation: Relation, condition: str) -> str:
    """SQL of the database: the user's own condition, which may end in a comment, and that of the cursor."""
    conditions = [f"({relation.where}\n)" if relation.where else "", f"({condition})" if condition else ""]
    return f" WHERE {' AND '.join(filter(None, conditions))}" if any(conditions) else ""


@dataclass(frozen=True)
class _Counted:
    """The rows of a part as the database itself counts them; ``odd`` is true for those that do not come unchanged."""

    ref: StreamRef
    relation: Relation
    where: str
    odd: str
    database: Database

    def count(self) -> int:
        """How many rows there are now, or in the snapshot that is read. Raises LoadError where one of them is odd."""
        count, found = self.ask()
        if found:
            raise LoadError(f"{self.ref}: {found} rows hold a value that the type of its column in DuckDB cannot.")
        return count

    def ask(self) -> tuple[int, int]:
        """How many rows there are, and how many of them are odd."""
        odd = f"count(CASE WHEN {self.odd} THEN 1 END)" if self.odd else "0"
        sql = f"SELECT count(*) AS n, {odd} AS odd FROM {self.relation.sql}{self.where}"
        count, found = self.database.rows(sql)[0]
        return int(count), int(found)  # SQLite's come as texts

    def witness(self, part: Part) -> Part:
        """The part with the count of its rows: in the same snapshot, or before and after where there is none."""
        if part.records is not None:  # all of it was read at once
            read, there = part.records()(), self._count_rows() if self.database.snapshot else None
            if there not in (None, read):
                text = f"{self.ref}: the database has {there:,} records, and {read:,} were read."
                raise LoadError(text, hint="Run again.")
            return part
        return replace(part, records=self._in_snapshot if self.database.snapshot else self._around)

    def _count_rows(self) -> int:
        return replace(self, odd="").count()

    def _in_snapshot(self) -> Callable[[], int | None]:
        return self.count

    def _around(self) -> Callable[[], int | None]:
        return partial(self._unchanged, self.count())

    def _unchanged(self, before: int) -> int | None:
        """The count, if it is the same after the scan: there is no snapshot, and who knows when a row came or went."""
        return before if self.count() == before else None


def _explain(plan: StreamPlan, opened: _Open, error: Exception) -> LoadError:
    return LoadError(f"{plan.ref}: cannot read {opened.place}: {opened.database.explain(error)}")


@dataclass(frozen=True)
class _Bounds:
    """Which rows are read: a condition in the SQL of the database, and the lowest cursor value in it."""

    condition: str = ""
    since: str | None = None


def _bounds(
    plan: StreamPlan, columns: list[Column], relation: Relation, reading: Reading, opened: _Open
) -> tuple[list[Column], _Bounds]:
    if plan.cursor is None:
        return columns, _Bounds()
    found = next((column for column in columns if column.name == plan.cursor), None)
    if found is None:
        raise LoadError(
            f"{plan.ref}: the cursor column {plan.cursor!r} is not in the table.",
            hint=f"Its columns: {', '.join(column.name for column in columns)}.",
        )
    dialect, database = opened.dialect, opened.database
    cursor = dialect.cursor_column(plan, found, relation, database)
    columns = [cursor if other is found else other for other in columns]
    column = cursor.part
    is_number = _check_lag(plan, column)
    name = dialect.identifier(column.name, database)

    def value(text: str) -> str:
        return dialect.cursor_literal(column, text, database)

    if reading.since is not None or reading.until is not None:
        limits = [(">=", reading.since), ("<", reading.until)]
        clauses = [
            f"{name} {sign} {value(_checked(plan, column, limit, reading.connection))}"
            for sign, limit in limits
            if limit is not None
        ]
        return columns, _Bounds(" AND ".join(clauses), reading.since)
    if reading.state.get("cursor") is None:
        return columns, _Bounds()
    since = _lowered(plan, column, str(reading.state["cursor"]), reading.connection, is_number)
    return columns, _Bounds(f"{name} >= {value(since)} OR {name} IS NULL", since)


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


def _no_table(ref: StreamRef, place: str) -> LoadError:
    return LoadError(
        f"{ref}: there is no table {ref.stream!r} in {place}.",
        hint='Check the name in smoll.yml; `"*"` loads every table there is.',
    )


def _no_key(ref: StreamRef, mode: str) -> LoadError:
    return LoadError(
        f"{ref}: mode {mode} needs a key, and the table has no primary key.",
        hint="Set `key` to the column or columns that tell its rows apart, or another `mode`.",
    )
