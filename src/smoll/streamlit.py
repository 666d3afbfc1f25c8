"""What an app of Streamlit reads: the current release, by ``smoll.streamlit.connection()``.

>>> import streamlit as st
>>> import smoll.streamlit
>>> release = smoll.streamlit.connection()                                           # doctest: +SKIP
>>> st.bar_chart(release.query("FROM marts.delays_by_hour"), x="hour", y="delay")    # doctest: +SKIP

Nothing of Streamlit is imported here, so this works in a test and a notebook, too.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from smoll.api import open_project
from smoll.errors import SmollError, UsageError
from smoll.project import find_root
from smoll.state.layout import Layout

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

__all__ = ["Connection", "connection"]

MOST_ROWS, MOST_SECONDS = 100_000, 60.0
_INSIST_SECONDS = 0.2
_T = TypeVar("_T")
_kept: dict[Path, Connection] = {}
"""For each project, the connection to the newest release. What takes its place drops it: DuckDB closes a file when the
last one who reads it has let go."""
_lock = threading.Lock()


def connection(path: str | Path | None = None) -> Connection:
    """Connect to the release that is current now. Call it on each run of the script; it costs microseconds.

    All sessions share one open file, until a newer release is current. Whoever has begun to read the older one goes on
    reading it, and the next run of the script sees the new one.

    Parameters
    ----------
    path
        The project's folder, or one below it. Default: that of `smoll up`, else where the calling script lies.

    Raises
    ------
    UsageError
        There is no project.
    ReleaseError
        Nothing has been released yet.
    """
    root = _root(path, sys._getframe(1).f_globals.get("__file__"))
    with _lock:
        now = _identify(os.path.realpath(Layout(root).current / "warehouse.duckdb"))
        known = _kept.get(root)
        if known is None or known.file != now:
            known = _kept[root] = _connect(root)
        return known


@dataclass(frozen=True)
class Connection:
    """A release that is open for reading: no other file, no network, no setting can be reached from its SQL.

    ``release``: its number. ``file``: which file it is, a key for what is cached: no two releases share it.
    """

    release: int
    file: tuple[str, int, int]
    _connection: DuckDBPyConnection = field(repr=False)

    def query(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        max_rows: int = MOST_ROWS,
        timeout: float = MOST_SECONDS,
    ) -> pd.DataFrame:
        """Ask one question. Returns a data frame of pandas.

        Parameters
        ----------
        sql
            One query, such as SELECT, FROM, PIVOT or SUMMARIZE.
        params
            The values for ``?`` and ``$1`` in it, or by name for ``$name``. Values of visitors belong here.
        max_rows
            How many rows are expected at most.
        timeout
            Seconds after which it is ended.

        Raises
        ------
        UsageError
            It is not one query, or gives more rows.
        SmollError
            It took longer.
        duckdb.Error
            DuckDB cannot answer it.
        """
        return self._ask(sql, params, max_rows, timeout, lambda found: found.df())

    def arrow(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        max_rows: int = MOST_ROWS,
        timeout: float = MOST_SECONDS,
    ) -> pa.Table:
        """Ask one question, as `query` does. Returns a table of Arrow, with exact types."""
        return self._ask(sql, params, max_rows, timeout, lambda found: found.arrow().read_all())

    def cursor(self) -> DuckDBPyConnection:
        """A connection of DuckDB's to the release, for one thread; for what `query` does not do. Close it."""
        cursor = self._connection.cursor()
        cursor.execute("USE release")  # a cursor does not inherit it
        return cursor

    @contextmanager
    def reading(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None, *, timeout: float = MOST_SECONDS
    ) -> Iterator[DuckDBPyRelation]:
        """Read an answer in parts: gives DuckDB's relation, which must be read within the block. Raises as `query`."""
        import duckdb

        wrapped = _wrapped(sql)
        with self.cursor() as cursor:
            ended = threading.Event()
            done = threading.Event()

            def watch() -> None:
                if not done.wait(timeout):
                    ended.set()
                    while not done.wait(_INSIST_SECONDS):  # DuckDB forgets it where it had not begun
                        cursor.interrupt()

            watcher = threading.Thread(target=watch, name="smoll-timeout", daemon=True)
            watcher.start()
            try:
                yield cursor.sql(wrapped, params=params)
            except duckdb.InterruptException as error:
                if not ended.is_set():
                    raise
                raise SmollError(
                    f"The query was ended after {timeout:g} seconds.", hint="Ask for less, or give a longer `timeout`."
                ) from error
            finally:
                done.set()
                watcher.join()

    def _ask(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None,
        max_rows: int,
        timeout: float,
        fetch: Callable[[DuckDBPyRelation], _T],
    ) -> _T:
        with self.reading(sql, params, timeout=timeout) as relation:
            found = fetch(relation.limit(max_rows + 1))
        if len(found) > max_rows:  # type: ignore[arg-type]
            raise UsageError(
                f"The query gives more than {max_rows:,} rows.", hint="Aggregate or filter in SQL, or give `max_rows`."
            )
        return found


def _wrapped(sql: str) -> str:
    """Put a query into parentheses, where nothing else is one; what closes them is several statements.

    A PIVOT without values is two statements to DuckDB, both without a text: the first one makes a type.
    """
    import duckdb

    wrapped = f"FROM ({sql.strip().removesuffix(';')}\n)"  # a line end, as a comment may stand last
    hint = "A query begins with SELECT, FROM, WITH, PIVOT, DESCRIBE or SUMMARIZE."
    try:
        statements = duckdb.extract_statements(wrapped)
    except duckdb.Error as error:
        raise UsageError(f"This is not one query. {error}", hint=hint) from error
    kinds = [statement.type.name for statement in statements]
    is_pivot = kinds == ["CREATE", "SELECT"] and not any(statement.query for statement in statements)
    if kinds != ["SELECT"] and not is_pivot:
        raise UsageError("These are several queries. One can be asked at a time.", hint=hint)
    return wrapped


def _root(path: str | Path | None, file: str | None) -> Path:
    if path is not None:
        return find_root(Path(path))
    if here := os.environ.get("SMOLL_PROJECT"):
        return find_root(Path(here))
    if file is not None:
        try:
            return find_root(Path(file).resolve().parent)
        except UsageError:
            pass
    return find_root()


def _identify(path: str) -> tuple[str, int, int] | None:
    """What tells a file from any other that was or will be in its place; None where there is none."""
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    return path, facts.st_ino, facts.st_mtime_ns


def _connect(root: Path) -> Connection:
    made = open_project(root).connect()
    row = made.execute("SELECT path FROM duckdb_databases() WHERE database_name = 'release'").fetchone()
    assert row
    return Connection(int(Path(row[0]).parent.name), _identify(row[0]) or (row[0], 0, 0), made)
