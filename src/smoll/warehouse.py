"""The working warehouse: one DuckDB file, ``.smoll/warehouse.duckdb``, with one owner at a time.

Everything that opens a DuckDB file in smoll comes through here. Settings are made by SET after connecting:
two connections of one process to one file must have been opened with equal settings, and dbt opens it too.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.errors import BusyError, LoadError, ReleaseError, StateError, disk_hint
from smoll.model import Column, TableRef, literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project.config import Resources

INTERNAL_SCHEMA = "_smoll"
VERSION = 2
"""Of smoll's own tables in the warehouse. Not the ledger's: one of both may come back from an older copy."""
PYTHON_SHARE = 300 * 1024**2
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

    def part(self, parts: int) -> Settings:
        """The same with one part in `parts` of the memory."""
        return replace(self, memory=max(self.memory // parts, _SMALLEST_LIMIT))


def engine_settings(resources: Resources, temp: Path) -> Settings:
    """Share out the project's memory: DuckDB gets the budget less what Python and dbt need.

    Parameters
    ----------
    resources
        ``memory``: bytes for the whole process tree; None for half of what the machine has. ``threads``: DuckDB's; None
        for as many as this process may use.
    temp
        Where DuckDB spills what does not fit.
    """
    total = resources.memory if resources.memory is not None else machine_memory() // 2
    share = max(total - PYTHON_SHARE, _SMALLEST_LIMIT)
    return Settings(share, resources.threads or available_cpus(), temp)


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
def lending_memory(warehouse: DuckDBPyConnection, settings: Settings, kept: int) -> Iterator[None]:
    """Keep the working warehouse at one part in `kept` of its memory, as long as others need the rest of it.

    Each DuckDB fills what it may use with what it has read, whatever others of the same process need.
    """
    import duckdb

    with suppress(duckdb.OutOfMemoryException):  # what is in use cannot be given back
        warehouse.execute(f"SET GLOBAL memory_limit = {literal(settings.part(kept).as_dict()['memory_limit'])}")
    try:
        yield
    finally:
        warehouse.execute(f"SET GLOBAL memory_limit = {literal(settings.as_dict()['memory_limit'])}")


@contextmanager
def open_warehouse(path: Path, settings: Settings) -> Iterator[DuckDBPyConnection]:
    """Open the working warehouse and close it again.

    Raises
    ------
    StateError
        The file is damaged, not writable, was written by a newer smoll, or another process holds it (BusyError); or
        what was done with it failed with an error of DuckDB's that nobody explained better.
    """
    import duckdb

    connection = _connect(path)
    try:
        for name, value in settings.as_dict().items():
            connection.execute(f"SET GLOBAL {name} = {literal(value)}")
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        if _version(connection) > VERSION:
            raise StateError(f"{path} was written by a newer smoll.", hint="Upgrade smoll, then run it again.")
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
        return BusyError(
            f"This process has the working warehouse {path} open already.",
            hint="Close the connection that `connect(raw=True)` or another library gave you, then run again.",
        )
    if "Conflicting lock" in text or "lock on file" in text:
        return BusyError(
            f"Another process has the working warehouse open: {text.splitlines()[0]}",
            hint="Close it (a BI tool or a shell should read .smoll/releases/current instead), then run again.",
        )
    if is_disk_trouble(error) or any(words in text for words in ("Permission denied", "Read-only", "Input/output")):
        hint = disk_hint(text) or "Make the folder writable or free some space, then run again."
        return StateError(f"Cannot write the working warehouse {path}: {reason_of(error)}", hint=hint)
    return StateError(f"The working warehouse {path} cannot be read: {text.splitlines()[0]}", hint=_way_out(path))


def _way_out(path: Path) -> str:
    """What helps where the file is damaged: the working warehouse, or that of a release."""
    if path.parent.name != ".smoll":
        return "`smoll rollback` shows readers an earlier release. Remove its folder, and `smoll run` makes it anew."
    return (
        "`smoll undo` brings back the copy from before the last run, if one is kept (`smoll undo --list`). If none is, "
        f"move it away (mv '{path}' '{path}.damaged') and run `smoll run`: it is loaded and built anew. "
        "The current release is not touched."
    )


def _failed_inside(path: Path, error: Exception) -> StateError:
    """Explain an error that nobody explained better. Only what speaks of the file itself is damage to it."""
    text = str(error)
    if str(path) in text or is_disk_trouble(error) or _is_damage(error):
        return _cannot_open(path, error)
    return StateError(f"DuckDB could not go on: {text.splitlines()[0]}", hint="The run's log in .smoll/logs has more.")


def _is_damage(error: Exception) -> bool:
    words = ("Corrupt", "checksum", "Serialization Error", "Could not read", "not a valid DuckDB")
    return any(each in str(error) for each in words)


def is_disk_trouble(error: BaseException) -> bool:
    """True where DuckDB could not write, or has stopped working on a file because of that. The file itself is sound."""
    return any(word in str(error) for word in ("No space left", "Could not write", "fsync failed", "invalidated"))


def reason_of(error: Exception) -> str:
    """The first line of an error of DuckDB's; where it only says that another came before, that of the other one."""
    lines = str(error).splitlines()
    before = [line.removeprefix(_ORIGINAL).strip('" ') for line in lines if line.startswith(_ORIGINAL)]
    return before[0] if before else lines[0]


_ORIGINAL = "Original error: "


def _version(connection: DuckDBPyConnection) -> int:
    """The version of smoll's own tables; the current one where there are none."""
    names = [column.name for column in columns_of(connection, TableRef(INTERNAL_SCHEMA, "warehouse"))]
    if not names:
        return VERSION
    if "version" not in names:
        return 1
    row = connection.execute(f"SELECT version FROM {INTERNAL_SCHEMA}.warehouse").fetchone()
    return int(row[0]) if row else VERSION


def upgrade_warehouse(connection: DuckDBPyConnection, backups: Path) -> list[str]:
    """Bring smoll's own tables to this version in one transaction, and say so.

    They alone are changed, and copied before to ``warehouse-v1-<time>.duckdb`` in `backups`.
    """
    version = _version(connection)
    if version >= VERSION:
        return []
    copy = _copy_own_tables(connection, backups, version)
    connection.execute("BEGIN")
    for column in ("rows_read", "rows_rejected"):
        connection.execute(f"ALTER TABLE IF EXISTS {INTERNAL_SCHEMA}.loads ADD COLUMN IF NOT EXISTS {column} BIGINT")
    connection.execute(f"ALTER TABLE {INTERNAL_SCHEMA}.warehouse ADD COLUMN version INTEGER")
    connection.execute(f"UPDATE {INTERNAL_SCHEMA}.warehouse SET version = {VERSION}")
    connection.execute("COMMIT")
    return [f"The warehouse was of version {version} and is of version {VERSION} now; what was changed is in {copy}."]


def _copy_own_tables(connection: DuckDBPyConnection, backups: Path, version: int) -> Path:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy, staged = backups / f"warehouse-v{version}-{moment}.duckdb", backups / ".warehouse.duckdb"
    backups.mkdir(exist_ok=True)
    for left in (staged, staged.with_name(f"{staged.name}.wal")):  # by a process that was killed
        left.unlink(missing_ok=True)
    connection.execute(f"ATTACH {literal(str(staged))} AS smoll_copy")
    own = f"database_name = current_database() AND schema_name = {literal(INTERNAL_SCHEMA)}"
    for (name,) in connection.execute(f"SELECT table_name FROM duckdb_tables() WHERE {own}").fetchall():
        connection.execute(f"CREATE TABLE smoll_copy.{quote(name)} AS FROM {TableRef(INTERNAL_SCHEMA, name).sql}")
    connection.execute("DETACH smoll_copy")
    staged.replace(copy)
    return copy


def identify(connection: DuckDBPyConnection) -> tuple[str, int]:
    """Return the warehouse's identity and the last run that opened it; a new warehouse gets its identity here."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {INTERNAL_SCHEMA}")
    columns = "id VARCHAR, run BIGINT, version INTEGER"
    connection.execute(f"CREATE TABLE IF NOT EXISTS {INTERNAL_SCHEMA}.warehouse ({columns})")
    row = connection.execute(f"SELECT id, run FROM {INTERNAL_SCHEMA}.warehouse").fetchone()
    if row:
        return str(row[0]), int(row[1])
    identity = uuid.uuid4().hex
    connection.execute(f"INSERT INTO {INTERNAL_SCHEMA}.warehouse VALUES ({literal(identity)}, 0, {VERSION})")
    return identity, 0


def set_run(connection: DuckDBPyConnection, run: int) -> None:
    """Write into the warehouse that `run` has opened it."""
    connection.execute(f"UPDATE {INTERNAL_SCHEMA}.warehouse SET run = {run:d}")


def columns_of(connection: DuckDBPyConnection, table: TableRef, relation: str = "") -> tuple[Column, ...]:
    """The columns of a table or view of the warehouse, in order; empty where there is none of that name.

    `relation` is SQL that names the table, where that is not its own name.
    """
    import duckdb

    try:  # not duckdb_columns(): that reads the catalog of every attached database, a source's too
        rows = connection.execute(f"DESCRIBE {relation or table.sql}").fetchall()
    except duckdb.CatalogException:
        return ()
    return tuple(Column(row[0], row[1]) for row in rows)


def columns_of_all(connection: DuckDBPyConnection) -> dict[str, tuple[Column, ...]]:
    """The columns of every table and view of the warehouse, in order, by ``schema.name`` in lower case.

    In one query: to describe views over views one by one takes long.
    """
    rows = connection.execute(
        """SELECT lower(schema_name || '.' || table_name), column_name, data_type FROM duckdb_columns()
        WHERE NOT internal AND database_name = current_database() ORDER BY 1, column_index"""
    ).fetchall()
    of_table = itertools.groupby(rows, key=lambda row: str(row[0]))
    return {table: tuple(Column(name, type) for _, name, type in found) for table, found in of_table}


def syntax_tree(connection: DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """What DuckDB's parser makes of a query (``json_serialize_sql``); with ``error`` where it makes nothing of it.

    The query is no bound parameter: to look at the first one DuckDB imports pandas, where it is installed.

    Raises
    ------
    RecursionError
        The tree is deeper than Python reads JSON.
    """
    row = connection.execute(f"SELECT json_serialize_sql({literal(sql)})").fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    return tree


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
    hint = "If a run is writing it, wait for the run to end; `smoll status` says who."
    said = str(error).splitlines()[0]
    return ReleaseError(f"Cannot read {path}: {said}", hint=_way_out(path) if _is_damage(error) else hint)


@contextmanager
def reading(path: Path, name: str, settings: Settings | None = None) -> Iterator[DuckDBPyConnection]:
    """Connect as `connect_reader` does, for as long as the block lasts.

    Raises
    ------
    ReleaseError
        The file is missing, cannot be opened or, as it turns out in the block, is damaged.
    """
    import duckdb

    with connect_reader(path, name, settings) as connection:
        try:
            yield connection
        except duckdb.Error as error:
            if _is_damage(error):
                raise _cannot_read(path, error) from error
            raise


def connect_tables(path: Path | None, tables: Iterable[TableRef], settings: Settings) -> DuckDBPyConnection:
    """Connect as `connect_reader` does, to see these tables of a DuckDB file alone, under their own names.

    Those that it does not have are not there; without a file none is.

    Raises
    ------
    ReleaseError
        The file cannot be opened.
    """
    import duckdb

    if path is None:
        connection = duckdb.connect(":memory:", config={"enable_external_access": "false"})
        connection.execute("SET lock_configuration = true")
        return connection
    connection = connect_reader(path, "warehouse", settings)
    connection.execute("USE memory")
    for table in tables:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
        with suppress(duckdb.Error):  # it is not there, or a view that cannot be read
            connection.execute(f"CREATE VIEW {table.sql} AS FROM warehouse.{table.sql}")
    return connection


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
        connection.execute("SET GLOBAL TimeZone = 'UTC'")  # of its cursors, too
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_external_access = false")
        # That alone leaves the attached file open to more: detached, it could be attached again for writing.
        connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
        connection.execute("SET lock_configuration = true")
    except ReleaseError:
        connection.close()
        raise
    except duckdb.Error as error:
        connection.close()
        raise _cannot_read(path, error) from error
    return connection
