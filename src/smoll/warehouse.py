"""The working warehouse: one DuckDB file, ``.smoll/warehouse.duckdb``, with one owner at a time.

Everything that opens a DuckDB file in smoll comes through here. Settings are made by SET after connecting:
two connections of one process to one file must have been opened with equal settings, and dbt opens it too.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.errors import LoadError, ReleaseError, StateError
from smoll.model import Column, TableRef, literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

INTERNAL_SCHEMA = "_smoll"
_PYTHON_SHARE = 300 * 1024**2
"""What Python, dbt and DuckDB's own overshoot need beside DuckDB's limit; measured, see benchmarks/README.md."""
_SMALLEST_LIMIT = 128 * 1024**2


@dataclass(frozen=True)
class Settings:
    """What DuckDB may use. ``memory`` is DuckDB's own share in bytes; `engine_settings` computes it."""

    memory: int
    threads: int
    temp: Path

    def as_dict(self) -> dict[str, str]:
        """The settings by DuckDB's names. Extensions and spilled data stay inside the project's folder."""
        return {
            "memory_limit": f"{self.memory // 1024}KiB",
            "threads": str(self.threads),
            "temp_directory": str(self.temp),
            "extension_directory": str(self.temp.parent / "extensions"),
        }


def engine_settings(budget: int | None, threads: int | None, temp: Path) -> Settings:
    """Share out the project's memory: DuckDB gets the budget less what Python and dbt need.

    Parameters
    ----------
    budget
        Bytes for the whole process tree (``resources.memory``); None for half of what the machine has.
    threads
        DuckDB's threads; None for as many as this process may use.
    temp
        Where DuckDB spills what does not fit.
    """
    total = budget if budget is not None else machine_memory() // 2
    share = max(total - _PYTHON_SHARE, _SMALLEST_LIMIT)
    return Settings(share, threads or available_cpus(), temp)


def available_cpus() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its container's where that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return min(physical, int(limit))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return physical


@contextmanager
def open_warehouse(path: Path, settings: Settings) -> Iterator[DuckDBPyConnection]:
    """Open the working warehouse and close it again.

    Raises
    ------
    StateError
        The file is damaged, not writable, or another process holds it; or what was done with it failed with an
        error of DuckDB's that nobody explained better.
    """
    import duckdb

    connection = _connect(path)
    try:
        for name, value in settings.as_dict().items():
            connection.execute(f"SET GLOBAL {name} = {literal(value)}")
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        yield connection
    except duckdb.Error as error:
        raise _failed_inside(path, error) from error
    finally:
        connection.close()


def _connect(path: Path) -> DuckDBPyConnection:
    import duckdb

    try:
        return duckdb.connect(str(path))
    except duckdb.Error as error:
        raise _cannot_open(path, error) from error


def _cannot_open(path: Path, error: Exception) -> StateError:
    text = str(error)
    if "file handle conflict" in text or "different configuration" in text:
        return StateError(
            f"This process has the working warehouse {path} open already.",
            hint="Close the connection that `connect(raw=True)` or another library gave you, then run again.",
        )
    if "Conflicting lock" in text or "lock on file" in text:
        return StateError(
            f"Another process has the working warehouse open: {text.splitlines()[0]}",
            hint="Close it (a BI tool or a shell should read .smoll/releases/current instead), then run again.",
        )
    if any(words in text for words in ("Permission denied", "Read-only", "No space", "Could not write")):
        return StateError(
            f"Cannot write the working warehouse {path}: {text.splitlines()[0]}",
            hint="Make the folder writable or free some space.",
        )
    return StateError(
        f"The working warehouse {path} cannot be read: {text.splitlines()[0]}",
        hint=f"Move it away (mv '{path}' '{path}.damaged') and run `smoll run`: it is loaded and built anew. "
        "The current release is not touched.",
    )


def _failed_inside(path: Path, error: Exception) -> StateError:
    """Explain an error that nobody explained better. Only what speaks of the file itself is damage to it."""
    text = str(error)
    if str(path) in text or any(word in text for word in _DAMAGE):
        return _cannot_open(path, error)
    return StateError(f"DuckDB could not go on: {text.splitlines()[0]}", hint="The run's log in .smoll/logs has more.")


_DAMAGE = ("Corrupt", "checksum", "invalidated", "Serialization Error", "No space", "Could not write", "Could not read")


def identify(connection: DuckDBPyConnection) -> tuple[str, int]:
    """Return the warehouse's identity and the last run that opened it; a new warehouse gets its identity here."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {INTERNAL_SCHEMA}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {INTERNAL_SCHEMA}.warehouse (id VARCHAR, run BIGINT)")
    row = connection.execute(f"SELECT id, run FROM {INTERNAL_SCHEMA}.warehouse").fetchone()
    if row:
        return str(row[0]), int(row[1])
    identity = uuid.uuid4().hex
    connection.execute(f"INSERT INTO {INTERNAL_SCHEMA}.warehouse VALUES (?, 0)", [identity])
    return identity, 0


def set_run(connection: DuckDBPyConnection, run: int) -> None:
    """Write into the warehouse that `run` has opened it."""
    connection.execute(f"UPDATE {INTERNAL_SCHEMA}.warehouse SET run = ?", [run])


def columns_of(connection: DuckDBPyConnection, table: TableRef) -> tuple[Column, ...]:
    """The columns of a table or view of the warehouse, in order; empty where there is none of that name."""
    import duckdb

    try:  # not duckdb_columns(): that reads the catalog of every attached database, a source's too
        rows = connection.execute(f"DESCRIBE {table.sql}").fetchall()
    except duckdb.CatalogException:
        return ()
    return tuple(Column(row[0], row[1]) for row in rows)


def end_aborted(connection: DuckDBPyConnection) -> None:
    """Begin the transaction anew that an error has aborted, if there is one: what it wrote is gone."""
    import duckdb

    with suppress(duckdb.TransactionException):
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")


def views_of(connection: DuckDBPyConnection) -> frozenset[str]:
    """The views of the warehouse, as ``schema.name`` in lower case."""
    rows = connection.execute(
        """SELECT lower(schema_name || '.' || view_name) FROM duckdb_views()
        WHERE NOT internal AND database_name = current_database()"""
    ).fetchall()
    return frozenset(row[0] for row in rows)


def load_extension(connection: DuckDBPyConnection, name: str, extra: str) -> None:
    """Load a DuckDB extension from its Python package, or let DuckDB install it.

    Parameters
    ----------
    name
        DuckDB's name of the extension (``postgres_scanner``).
    extra
        The extra of smoll that brings its package, for the message.

    Raises
    ------
    LoadError
        The package is not installed and DuckDB cannot fetch the extension either.
    """
    import duckdb

    packaged = _packaged_extension(name, duckdb.__version__)
    try:
        if packaged:
            connection.execute(f"LOAD {literal(str(packaged))}")
        else:
            connection.execute(f"INSTALL {quote(name)}")
            connection.execute(f"LOAD {quote(name)}")
    except duckdb.Error as error:
        raise LoadError(
            f"DuckDB's extension {name} cannot be loaded: {str(error).splitlines()[0]}",
            hint=f"Install it with: pip install 'smoll[{extra}]'",
        ) from error


def _packaged_extension(name: str, version: str) -> Path | None:
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = folder / "extensions" / f"v{version}" / f"{name}.duckdb_extension"
    return path if path.exists() else None


def attach_reader(connection: DuckDBPyConnection, path: Path, name: str) -> None:
    """Attach a DuckDB file read-only under the database name `name`. Raises ReleaseError where it cannot be opened."""
    import duckdb

    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {quote(name)} (READ_ONLY)")
    except duckdb.Error as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: Path, error: Exception) -> ReleaseError:
    return ReleaseError(
        f"Cannot open {path} for reading: {str(error).splitlines()[0]}",
        hint="If a run is writing it, wait for the run to end; `smoll status` says who.",
    )


def connect_reader(path: Path, name: str, settings: Settings | None = None) -> DuckDBPyConnection:
    """Connect to a DuckDB file read-only and sandboxed, as ``smoll sql`` and dashboards do.

    The connection sees the file under the database name `name` and nothing else: no other file, no network,
    no extension, and no setting can be changed. `read_only` alone is no sandbox: ``read_text('/any/file')`` and
    ``COPY ... TO`` work on a read-only connection.

    Raises
    ------
    ReleaseError
        The file is missing or cannot be opened.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    try:
        if settings:
            limits = settings.as_dict()
            for key in ("memory_limit", "threads"):
                connection.execute(f"SET {key} = {literal(limits[key])}")
        attach_reader(connection, path, name)
        connection.execute(f"USE {quote(name)}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except ReleaseError:
        connection.close()
        raise
    except duckdb.Error as error:
        connection.close()
        raise _cannot_read(path, error) from error
    return connection
