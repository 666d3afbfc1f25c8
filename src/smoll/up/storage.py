"""Dagster's SQLite storage with its connections kept open.

Dagster (1.13) opens the file anew for each of a run's events, hundreds of them, and when the last connection is closed
SQLite writes the whole log through to the disk, deletes it, and begins another one with the next event. A card in a
Raspberry Pi takes tens of milliseconds for each of these writes, and does not like them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

_BUSY_SECONDS = 30


class KeptSqliteStorage(DagsterSqliteStorage):
    """Runs, events and schedules in the files that Dagster's own storage makes and reads."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]  # its own opens the files
        self.base_dir = base_dir
        self._inst_data = inst_data
        home = Path(base_dir)
        self._run_storage = _Runs.from_local(str(home / "history"))
        self._event_log_storage = _Events(str(home / "history" / "runs"))
        self._schedule_storage = _Schedules.from_local(str(home / "schedules"))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> KeptSqliteStorage:
        return cls(inst_data=inst_data, **config_value)


class _Kept:
    """The connections of a storage with one file."""

    _conn_string: str
    _engine: Engine | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        self._engine = self._engine or _engine(self._conn_string)
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        if self._engine:
            self._engine.dispose()


class _Runs(_Kept, SqliteRunStorage):
    pass


class _Schedules(_Kept, SqliteScheduleStorage):
    pass


class _Events(SqliteEventLogStorage):
    """Keeps the index, and of the runs, each with a file of its own, the one that was asked for last."""

    def __init__(self, base_dir: str) -> None:
        self._engines: dict[str, Engine] = {}
        self._tables: set[str] = set()
        super().__init__(base_dir)

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; asked for each event of a check."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(event)
        with suppress(OSError):
            os.utime(self.path_for_shard(event.run_id))  # the web page watches this file, not the log beside it

    def dispose(self) -> None:
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engines.get(shard) or self._open(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _open(self, shard: str) -> Engine:
        for other in [name for name in self._engines if INDEX_SHARD_NAME not in (name, shard)]:
            self._engines.pop(other).dispose()
        self._engines[shard] = engine = _engine(self.conn_string_for_shard(shard))
        return engine


def _engine(url: str) -> Engine:
    """One connection that is kept, and more while several threads want one."""
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=-1,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        # With a log (WAL) nothing breaks without a write-through of each event; a loss of power may cost the last ones.
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine
