"""The ledger: every run, and for every table and check what is known of it since when.

One SQLite file, ``.smoll/ledger.sqlite``. It lies beside the warehouse rather than in it, so that
``smoll runs`` and ``smoll status`` answer while a run holds the warehouse.

A run first writes what it is *about to* change (`begin_loads`, `begin_transform`), durably, and only then
changes it. So a run killed anywhere leaves "changed, not checked" behind, which a release refuses; it can
never leave a changed table with an old "passed".
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smoll.errors import StateError, UsageError
from smoll.model import (
    CheckResult,
    NodeResult,
    Refusal,
    ReleaseOutcome,
    RunResult,
    StreamRef,
    StreamResult,
    StreamState,
    TableRef,
    to_json,
)

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
  run INTEGER PRIMARY KEY, status TEXT NOT NULL, started TEXT NOT NULL, selection TEXT NOT NULL, result TEXT);
CREATE TABLE IF NOT EXISTS streams (
  source TEXT, stream TEXT, schema_name TEXT, table_name TEXT, total INTEGER, loaded TEXT, run INTEGER,
  status TEXT, PRIMARY KEY (source, stream));
CREATE TABLE IF NOT EXISTS nodes (
  id TEXT PRIMARY KEY, touched INTEGER NOT NULL, error TEXT NOT NULL DEFAULT '', moment INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS checks (
  id TEXT PRIMARY KEY, run INTEGER NOT NULL, status TEXT NOT NULL, definition TEXT NOT NULL, result TEXT NOT NULL,
  moment INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True)
class NodeRecord:
    """``touched``: the last run that changed, or may have changed, the node. ``error``: why it was not built then.

    ``moment`` is when, in the order of all that is known.
    """

    touched: int
    error: str
    moment: int


@dataclass(frozen=True)
class CheckRecord:
    """The last answer of a check, the run that asked, a hash of what the check was then, and when it answered."""

    run: int
    definition: str
    result: CheckResult
    moment: int


def table_key(table: TableRef) -> str:
    """The ledger's id of a raw table. Raw tables have no dbt id of their own: several sources may name one."""
    return f"table:{table}".lower()


_UNFINISHED = "the run ended before that"
_SKIPPED = "something that it is built from failed"
WAITING = (_UNFINISHED, _SKIPPED)
"""Errors of a `NodeRecord` that say nothing against the node itself."""


class Ledger:
    """The project's memory of runs and checks. Open it with `open_ledger`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path
        self._lock = threading.Lock()

    # --- runs

    def next_run(self) -> int:
        """The number after the highest one used."""
        (highest,) = self._one("SELECT coalesce(max(run), 0) FROM runs")
        return int(highest) + 1

    def start_run(self, run: int, selection: str) -> None:
        with self._write() as db:
            started = datetime.now(UTC).isoformat()
            db.execute("INSERT INTO runs VALUES (?, 'running', ?, ?, NULL)", (run, started, selection))

    def finish_run(self, result: RunResult) -> None:
        with self._write() as db:
            text = json.dumps(to_json(result))
            db.execute("UPDATE runs SET status = ?, result = ? WHERE run = ?", (result.status, text, result.run))

    def mark_killed(self) -> tuple[int, ...]:
        """Call with the lock held: a run that still says "running" cannot be. Returns their numbers."""
        with self._write() as db:
            rows = db.execute("UPDATE runs SET status = 'killed' WHERE status = 'running' RETURNING run")
            return tuple(sorted(row[0] for row in rows))

    def runs(self, limit: int) -> tuple[RunResult, ...]:
        """The newest runs first."""
        rows = self._all("SELECT * FROM runs ORDER BY run DESC LIMIT ?", (limit,))
        return tuple(_run_from_row(*row) for row in rows)

    def runs_after(self, run: int, limit: int) -> tuple[RunResult, ...]:
        """The runs behind one, the oldest first, up to the first that has not ended."""
        rows = self._all("SELECT * FROM runs WHERE run > ? ORDER BY run LIMIT ?", (run, limit))
        return tuple(_run_from_row(*row) for row in itertools.takewhile(lambda row: row[1] != "running", rows))

    def run_record(self, run: int) -> RunResult:
        """One run. Raises UsageError where there is none of this number."""
        rows = self._all("SELECT * FROM runs WHERE run = ?", (run,))
        if not rows:
            raise UsageError(f"There is no run {run}.", hint="`smoll runs` lists them.")
        return _run_from_row(*rows[0])

    # --- what may have changed, and what the checks said

    def begin_load(self, run: int, table: TableRef) -> None:
        """Note, durably and before the commit, that a raw table is about to change."""
        with self._write() as db:
            _touch(db, run, [table_key(table)])

    def finish_load(self, run: int, result: StreamResult) -> None:
        loaded = None if result.status == "failed" else datetime.now(UTC).isoformat()
        with self._write() as db:
            db.execute(
                """INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET schema_name = excluded.schema_name, table_name = excluded.table_name,
                  total = CASE WHEN excluded.status = 'failed' THEN total ELSE excluded.total END,
                  loaded = coalesce(CASE WHEN excluded.status = 'loaded' THEN excluded.loaded END, loaded,
                    excluded.loaded), run = excluded.run, status = excluded.status""",
                (
                    *(result.ref.source, result.ref.stream, result.table.schema, result.table.name),
                    *(result.total, loaded, run, result.status),
                ),
            )

    def begin_transform(self, run: int, nodes: Iterable[str], checks: Iterable[str]) -> None:
        """Note, durably and before dbt starts, what it may change; forget what the checks to be run once said.

        Until `finish_transform` says otherwise, the nodes count as not built.
        """
        with self._write() as db:
            _touch(db, run, nodes, _UNFINISHED)
            db.executemany("DELETE FROM checks WHERE id = ?", [(check,) for check in checks])

    def finish_transform(
        self,
        run: int,
        nodes: Iterable[NodeResult],
        checks: Iterable[CheckResult],
        definitions: Mapping[str, str],
    ) -> None:
        """Record what dbt did. `definitions` maps a check's id to the hash of what it is now."""
        with self._write() as db:
            moment = _next_moment(db)
            db.executemany(
                "UPDATE nodes SET error = ? WHERE id = ?",
                [(_error_of(node), node.id) for node in nodes],
            )
            db.executemany(
                "INSERT OR REPLACE INTO checks VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (c.id, run, c.status, definitions.get(c.id, ""), json.dumps(to_json(c)), moment)
                    for c in checks
                    if c.status != "skipped"
                ],
            )

    def nodes(self) -> dict[str, NodeRecord]:
        rows = self._all("SELECT id, touched, error, moment FROM nodes")
        return {row[0]: NodeRecord(*row[1:]) for row in rows}

    def checks(self) -> dict[str, CheckRecord]:
        rows = self._all("SELECT id, run, definition, result, moment FROM checks")
        return {row[0]: CheckRecord(row[1], row[2], _check(json.loads(row[3])), row[4]) for row in rows}

    def streams(self) -> tuple[StreamState, ...]:
        rows = self._all("SELECT * FROM streams ORDER BY source, stream")
        return tuple(
            StreamState(StreamRef(r[0], r[1]), TableRef(r[2], r[3]), r[4], _time(r[5]) if r[5] else None, r[6], r[7])
            for r in rows
        )

    # --- which warehouse all this is about

    def warehouse(self) -> tuple[str, set[int]]:
        """The identity of the warehouse that the ledger speaks of, and the runs that may have opened it last."""
        rows = dict(self._all("SELECT key, value FROM meta WHERE key LIKE 'warehouse%'"))
        runs = {int(rows[key]) for key in ("warehouse_run", "warehouse_next") if key in rows}
        return str(rows.get("warehouse", "")), runs

    def announce_run(self, run: int) -> None:
        """Note that `run` is about to write its number into the warehouse."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('warehouse_next', ?)", (str(run),))

    def set_warehouse(self, identity: str, run: int) -> None:
        with self._write() as db:
            pairs = [("warehouse", identity), ("warehouse_run", str(run))]
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs)

    def forget_state(self) -> None:
        """The warehouse is another one than before: nothing known of tables and checks holds any more."""
        with self._write() as db:
            for table in ("nodes", "checks", "streams"):
                db.execute(f"DELETE FROM {table}")

    # --- plumbing

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
        except sqlite3.Error as error:
            raise _damaged(self._path, error) from error

    def _all(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise _damaged(self._path, error) from error

    def _one(self, sql: str) -> Any:
        return self._all(sql)[0]


@contextmanager
def open_ledger(path: Path, *, create: bool = False) -> Iterator[Ledger | None]:
    """Open the ledger; None where there is none yet and `create` is False.

    Raises
    ------
    StateError
        The file is damaged, not writable, or was written by a newer smoll.
    """
    if not create and not path.exists():
        yield None
        return
    try:
        # One connection serves the load threads too; the ledger's own lock keeps their writes apart.
        db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        if create:
            db.executescript(_SCHEMA)
            _add_moments(db)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (str(VERSION),))
        (version,) = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    except (sqlite3.Error, TypeError) as error:
        if not create and _is_new(path):
            yield None
            return
        raise _damaged(path, error) from error
    try:
        if int(version) > VERSION:
            raise StateError(f"{path} was written by a newer smoll.", hint="Upgrade smoll, then run again.")
        yield Ledger(db, path)
    finally:
        db.close()


def _is_new(path: Path) -> bool:
    """True for a ledger that another process is making just now: it has not said anything yet."""
    try:
        with closing(sqlite3.connect(path, timeout=30)) as db:
            return not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'checks'").fetchall()
    except sqlite3.Error:
        return False


def _add_moments(db: sqlite3.Connection) -> None:
    """Order what an earlier version wrote by its runs."""
    for table, run in (("nodes", "touched"), ("checks", "run")):
        if "moment" not in [row[1] for row in db.execute(f"PRAGMA table_info({table})")]:
            db.execute(f"ALTER TABLE {table} ADD COLUMN moment INTEGER NOT NULL DEFAULT 0")
            db.execute(f"UPDATE {table} SET moment = {run}")


def _touch(db: sqlite3.Connection, run: int, ids: Iterable[str], error: str = "") -> None:
    moment = _next_moment(db)
    db.executemany("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?)", [(node, run, error, moment) for node in ids])


def _next_moment(db: sqlite3.Connection) -> int:
    """Later than all that is known: a number that orders what happens, within a run, too."""
    both = "SELECT moment FROM nodes UNION ALL SELECT moment FROM checks"
    (moment,) = db.execute(f"SELECT max(moment) FROM ({both})").fetchone()
    return int(moment or 0) + 1


def _error_of(node: NodeResult) -> str:
    if node.status == "skipped":
        return _SKIPPED
    return node.message or "it failed" if node.status == "error" else ""


def _damaged(path: Path, error: Exception) -> StateError:
    text = str(error)
    if "readonly" in text or "unable to open" in text or "full" in text:
        return StateError(f"Cannot write {path}: {text}.", hint="Make the folder writable or free some space.")
    return StateError(
        f"The ledger {path} cannot be read: {text}.",
        hint=f"Move it away (mv '{path}' '{path}.damaged') and run `smoll run`: everything is built and checked anew.",
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _run_from_row(run: int, status: Any, started: str, selection: str, result: str | None) -> RunResult:
    if result is None:
        return RunResult(run, status, _time(started), 0.0, selection)
    data = json.loads(result)
    release = dict(data.pop("release"))
    release["refusals"] = tuple(Refusal(**refusal) for refusal in release["refusals"])
    release["tables"] = tuple(release["tables"])
    return RunResult(
        **{key: data[key] for key in ("run", "status", "seconds", "select", "error")},
        started=_time(data["started"]),
        streams=tuple(_stream(item) for item in data["streams"]),
        nodes=tuple(NodeResult(**item) for item in data["nodes"]),
        checks=tuple(_check(item) for item in data["checks"]),
        release=ReleaseOutcome(**release),
        origin=data.get("origin", ""),
    )


def _check(data: dict[str, Any]) -> CheckResult:
    return CheckResult(**{**data, "nodes": tuple(data["nodes"])})


def _stream(data: dict[str, Any]) -> StreamResult:
    source, stream = data["ref"].split(".", 1)
    schema, name = data["table"].split(".", 1)
    fixed = {"ref": StreamRef(source, stream), "table": TableRef(schema, name), "notes": tuple(data["notes"])}
    return StreamResult(**{**data, **fixed})
