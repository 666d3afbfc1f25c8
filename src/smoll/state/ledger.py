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
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smoll.errors import StateError, UsageError, disk_hint
from smoll.model import (
    NOT_AS_WRITTEN,
    CheckResult,
    FailingRows,
    NodeResult,
    Refusal,
    ReleaseOutcome,
    RunResult,
    StreamRef,
    StreamResult,
    StreamState,
    TableRef,
    known,
    to_json,
    verified,
)
from smoll.state.layout import fsync_path

_KEPT_COPIES = 3
_STAMP = "%Y%m%dT%H%M%SZ"
_TOO_HIGH = 2**63
"""For SQLite."""
_UNDOABLE = ("nodes", "checks", "streams", "failing_rows")
"""The tables that speak of the warehouse as it is now."""
_RUNS = "SELECT runs.*, undone.at FROM runs LEFT JOIN undone USING (run)"


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


_PROFILES = 200
"""So many profiles of each table are kept."""
_UNFINISHED = "the run ended before that"
_SKIPPED = "something that it is built from failed"
WAITING = (_UNFINISHED, _SKIPPED)
"""Errors of a `NodeRecord` that say nothing against the node itself."""


class Ledger:
    """The project's memory of runs and checks. Open it with `open_ledger`.

    ``upgraded`` says so where an older smoll had written it, for people.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, upgraded: str = "") -> None:
        self._db = connection
        self._path = path
        self._lock = threading.Lock()
        self.upgraded = upgraded

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
        rows = self._all(f"{_RUNS} ORDER BY run DESC LIMIT ?", (limit,))
        with self._sound():
            return tuple(verified(_run_from_row(*row)) for row in rows)

    def runs_after(self, run: int, limit: int) -> tuple[RunResult, ...]:
        """The runs behind one, the oldest first, up to the first that has not ended."""
        rows = self._all(f"{_RUNS} WHERE run > ? ORDER BY run LIMIT ?", (run, limit))
        with self._sound():
            return tuple(
                verified(_run_from_row(*row)) for row in itertools.takewhile(lambda row: row[1] != "running", rows)
            )

    def run_record(self, run: int) -> RunResult:
        """One run. Raises UsageError where there is none of this number."""
        rows = self._all(f"{_RUNS} WHERE run = ?", (run,)) if abs(run) < _TOO_HIGH else []
        if not rows:
            raise UsageError(f"There is no run {run}.", hint="`smoll runs` lists them.")
        with self._sound():
            return verified(_run_from_row(*rows[0]))

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
            for check in checks:
                db.execute("DELETE FROM checks WHERE id = ?", (check,))
                db.execute("DELETE FROM failing_rows WHERE id = ?", (check,))

    def finish_transform(
        self,
        run: int,
        nodes: Iterable[NodeResult],
        checks: Iterable[CheckResult],
        definitions: Mapping[str, str],
        failing: Mapping[str, FailingRows] | None = None,
    ) -> None:
        """Record what dbt did, and what the checks said.

        Parameters
        ----------
        definitions
            Maps a check's id to the hash of what it is now.
        failing
            Some of the rows on which checks have failed, by the check's id.
        """
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
            for id, rows in (failing or {}).items():
                text = json.dumps(to_json(rows), ensure_ascii=False)
                db.execute("INSERT OR REPLACE INTO failing_rows VALUES (?, ?, ?)", (id, run, text))

    def forget_rows(self, pii: Set[str]) -> None:
        """Forget the failing rows that were kept before all of these columns were marked as personal."""
        late = [(id,) for id, rows in self.failing_rows().items() if not pii <= set(rows.pii)]
        if late:
            with self._write() as db:
                db.executemany("DELETE FROM failing_rows WHERE id = ?", late)

    def failing_rows(self) -> dict[str, FailingRows]:
        """Some of the rows on which checks have failed, by the check's id; of those that passed since, none."""
        rows = self._all("SELECT id, content FROM failing_rows")
        with self._sound():
            return {row[0]: _failing(json.loads(row[1])) for row in rows}

    def nodes(self) -> dict[str, NodeRecord]:
        rows = self._all("SELECT id, touched, error, moment FROM nodes")
        return {row[0]: NodeRecord(*row[1:]) for row in rows}

    def checks(self) -> dict[str, CheckRecord]:
        rows = self._all("SELECT id, run, definition, result, moment FROM checks")
        with self._sound():
            return {row[0]: CheckRecord(row[1], row[2], _check(json.loads(row[3])), row[4]) for row in rows}

    def streams(self) -> tuple[StreamState, ...]:
        rows = self._all("SELECT * FROM streams ORDER BY source, stream")
        with self._sound():
            states = [(r, _time(r[5]) if r[5] else None) for r in rows]
            return tuple(
                verified(StreamState(StreamRef(*r[:2]), TableRef(*r[2:4]), r[4], loaded, r[6], r[7]))
                for r, loaded in states
            )

    # --- what tables looked like

    def record_profiles(self, release: int, created: str, entries: Iterable[tuple[str, str, str]]) -> None:
        """Keep the profiles of a release, made at a time in ISO 8601: table, hash of its rows, profile as JSON.

        A table that is as it was in its last profile adds none. Only the newest profiles of each table are kept.
        """
        with self._write() as db:
            for table, hash, profile in entries:
                newest = "SELECT hash FROM profiles WHERE table_name = ? AND created <= ? ORDER BY created DESC LIMIT 1"
                if db.execute(newest, (table, created)).fetchone() == (hash,):
                    continue
                db.execute(
                    "INSERT OR REPLACE INTO profiles VALUES (?, ?, ?, ?, ?)", (table, release, created, hash, profile)
                )
                db.execute(
                    """DELETE FROM profiles WHERE table_name = ? AND release NOT IN
                    (SELECT release FROM profiles WHERE table_name = ? ORDER BY created DESC LIMIT ?)""",
                    (table, table, _PROFILES),
                )
            db.execute("INSERT OR REPLACE INTO meta VALUES ('profiled', ?)", (f"{release} {created}",))

    def replace_profiles(self, table: str, profiles: Iterable[tuple[int, str]]) -> None:
        """Put other texts in the place of profiles of a table: release, profile as JSON."""
        with self._write() as db:
            update = "UPDATE profiles SET profile = ? WHERE lower(table_name) = lower(?) AND release = ?"
            db.executemany(update, [(text, table, release) for release, text in profiles])

    def profiled(self) -> tuple[int, str]:
        """The last release whose profiles were kept, and when it was made; 0 before the first."""
        rows = self._all("SELECT value FROM meta WHERE key = 'profiled'")
        release, _, created = str(rows[0][0] if rows else "0 ").partition(" ")
        return int(release), created

    def profiled_tables(self) -> tuple[str, ...]:
        """The tables of which a profile is kept, by name."""
        return tuple(str(row[0]) for row in self._all("SELECT DISTINCT table_name FROM profiles ORDER BY 1"))

    def profiles(self, table: str, limit: int) -> list[tuple[int, str, str, str]]:
        """The newest profiles of a table, the oldest first: release, time, hash, JSON."""
        rows = self._all(
            """SELECT release, created, hash, profile FROM profiles WHERE lower(table_name) = lower(?)
            ORDER BY created DESC LIMIT ?""",
            (table, limit),
        )
        return [(int(row[0]), str(row[1]), str(row[2]), str(row[3])) for row in reversed(rows)]

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
            for table in ("nodes", "checks", "streams", "failing_rows"):
                db.execute(f"DELETE FROM {table}")

    # --- going back

    def memory(self) -> dict[str, dict[str, Any]]:
        """All that is known of the warehouse as it is now, for `go_back`: columns and rows of each table."""
        with self._lock:
            cursors = {table: self._db.execute(f"SELECT * FROM {table}") for table in _UNDOABLE}
            return {
                table: {"columns": [column[0] for column in cursor.description], "rows": cursor.fetchall()}
                for table, cursor in cursors.items()
            }

    def go_back(self, run: int, warehouse: tuple[str, int] | None, memory: Mapping[str, Mapping[str, Any]]) -> None:
        """Know again what was in `memory` before `run`, and mark it and all runs after it as undone.

        Parameters
        ----------
        warehouse
            The identity of the warehouse then, and the last run that had opened it; None where there was none.
        """
        with self._write() as db:
            for table in _UNDOABLE:
                db.execute(f"DELETE FROM {table}")
                there = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
                columns = memory.get(table, {}).get("columns", [])
                places = [place for place, column in enumerate(columns) if column in there]
                if not places:  # this smoll is newer than the copy
                    continue
                names = ", ".join(columns[place] for place in places)
                db.executemany(
                    f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(places))})",
                    [[row[place] for place in places] for row in memory[table]["rows"]],
                )
            db.execute("DELETE FROM meta WHERE key LIKE 'warehouse%'")
            if warehouse:
                pairs = [("warehouse", warehouse[0]), ("warehouse_run", str(warehouse[1]))]
                db.executemany("INSERT INTO meta VALUES (?, ?)", pairs)
            at = datetime.now(UTC).isoformat()
            db.execute("INSERT OR IGNORE INTO undone SELECT run, ? FROM runs WHERE run >= ?", (at, run))

    # --- plumbing

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """SQLite gives back what stands in the file: a disk may have changed a text, and nobody has noticed."""
        try:
            yield
        except NOT_AS_WRITTEN as error:
            raise _damaged(self._path, error) from error

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

    An older ledger is brought to this version, once: with `create`, which only the holder of the project's lock may ask
    for, in its file, after a copy of it was made. Others get a copy in memory, and the file stays as it is.

    Raises
    ------
    StateError
        The file is damaged, not writable, or was written by a newer smoll.
    """
    opened = _open(path, create) if create or path.exists() else None
    if opened is None:
        yield None
        return
    db, said = opened
    with closing(db):
        yield Ledger(db, path, said)


def _open(path: Path, create: bool) -> tuple[sqlite3.Connection, str] | None:
    """Connect, at this version, and say where that had to be changed; None for a reader who comes too early."""
    db = None
    try:
        # One connection serves the load threads too; the ledger's own lock keeps their writes apart.
        db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        version = _version(db)
        if version > VERSION:
            raise _newer(path)
        if version == VERSION:
            return db, ""
        if create:
            return db, _upgrade(db, path, version)
        if version == 0:
            db.close()
            return None  # another process is making it just now
        return _upgraded_copy(db, version), ""
    except (sqlite3.Error, TypeError, ValueError) as error:
        if db is not None:
            db.close()
        raise _damaged(path, error) from error
    except StateError:
        if db is not None:
            db.close()
        raise


def refuse_newer(path: Path) -> None:
    """Raise StateError where the ledger was written by a newer smoll. A missing or damaged one says nothing here."""
    with suppress(sqlite3.Error, TypeError, ValueError):
        if path.exists():
            with closing(sqlite3.connect(path, timeout=30)) as db:
                if _version(db) > VERSION:
                    raise _newer(path)


def _newer(path: Path) -> StateError:
    return StateError(f"{path} was written by a newer smoll.", hint="Upgrade smoll, then run it again.")


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database that others may be writing, as it is at one moment, and sync it to disk.

    Raises sqlite3.Error where it cannot be read, or the copy cannot be written.
    """
    with closing(sqlite3.connect(source, timeout=30)) as db, closing(sqlite3.connect(target)) as copy:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, wherever it is taken
    fsync_path(target)


# --- versions: the ledger's tables, one step after the other. A new step goes to the end, and none is changed again.


def _first(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    db.execute(
        """CREATE TABLE runs (
        run INTEGER PRIMARY KEY, status TEXT NOT NULL, started TEXT NOT NULL, selection TEXT NOT NULL, result TEXT)"""
    )
    db.execute(
        """CREATE TABLE streams (
        source TEXT, stream TEXT, schema_name TEXT, table_name TEXT, total INTEGER, loaded TEXT, run INTEGER,
        status TEXT, PRIMARY KEY (source, stream))"""
    )
    db.execute("CREATE TABLE nodes (id TEXT PRIMARY KEY, touched INTEGER NOT NULL, error TEXT NOT NULL DEFAULT '')")
    db.execute(
        """CREATE TABLE checks (
        id TEXT PRIMARY KEY, run INTEGER NOT NULL, status TEXT NOT NULL, definition TEXT NOT NULL, result TEXT NOT NULL)
        """
    )


def _second(db: sqlite3.Connection) -> None:
    """Order what happens by moments, which later ledgers of version 1 have already; failing rows, profiles, undo."""
    for table, run in (("nodes", "touched"), ("checks", "run")):
        if "moment" not in [row[1] for row in db.execute(f"PRAGMA table_info({table})")]:
            db.execute(f"ALTER TABLE {table} ADD COLUMN moment INTEGER NOT NULL DEFAULT 0")
            db.execute(f"UPDATE {table} SET moment = {run}")
    db.execute(
        "CREATE TABLE IF NOT EXISTS failing_rows (id TEXT PRIMARY KEY, run INTEGER NOT NULL, content TEXT NOT NULL)"
    )
    db.execute(
        """CREATE TABLE IF NOT EXISTS profiles (
        table_name TEXT, release INTEGER, created TEXT NOT NULL, hash TEXT NOT NULL, profile TEXT NOT NULL,
        PRIMARY KEY (table_name, release))"""
    )
    db.execute("CREATE TABLE IF NOT EXISTS undone (run INTEGER PRIMARY KEY, at TEXT NOT NULL)")


_STEPS = (_first, _second)
VERSION = len(_STEPS)
"""Of the ledger's tables, as this smoll reads and writes them."""


def _version(db: sqlite3.Connection) -> int:
    """The version of a ledger; 0 where it is empty."""
    if not db.execute("SELECT 1 FROM sqlite_master").fetchall():
        return 0
    (version,) = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    return int(version)


def _upgrade(db: sqlite3.Connection, path: Path, version: int) -> str:
    """Bring the ledger to this version in one transaction, after a copy of it was made. Says so, unless it is new."""
    said = ""
    if version:
        copy = _keep_copy(path, version)
        said = f"The ledger was of version {version} and is of version {VERSION} now; the old one is {copy}."
    _take_steps(db, version)
    return said


def _take_steps(db: sqlite3.Connection, version: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    for step in _STEPS[version:]:
        step(db)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (str(VERSION),))
    db.execute("COMMIT")


def _upgraded_copy(db: sqlite3.Connection, version: int) -> sqlite3.Connection:
    """For those who only read: the ledger as it would be, in memory."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with closing(db):
        db.backup(copy)
    _take_steps(copy, version)
    return copy


def _keep_copy(path: Path, version: int) -> Path:
    """Copy the ledger to ``backups/ledger-v1-<time>.sqlite`` beside it; the newest copies stay. Returns the copy."""
    folder = path.parent / "backups"
    target = folder / f"{path.stem}-v{version}-{datetime.now(UTC).strftime(_STAMP)}.sqlite"
    staged = folder / f".{path.stem}.tmp"
    try:
        folder.mkdir(exist_ok=True)
        staged.unlink(missing_ok=True)
        copy_database(path, staged)
        staged.replace(target)
        fsync_path(folder)
        copies = sorted(folder.glob(f"{path.stem}-v*.sqlite"), key=lambda each: each.name.rpartition("-")[2])
        for old in copies[:-_KEPT_COPIES]:
            old.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise StateError(
            f"The ledger is of an older version and cannot be copied to {folder} before it is changed: {error}.",
            hint="Make the folder writable or free some space. The ledger is as it was.",
        ) from error
    return target


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
    if hint := disk_hint(text):
        return StateError(f"Cannot write {path}: {text}.", hint=hint)
    return StateError(
        f"The ledger {path} cannot be read: {text}.",
        hint=f"Move it away (mv '{path}' '{path}.damaged') and run `smoll run`: everything is built and checked anew.",
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _run_from_row(run: int, status: Any, started: str, selection: str, result: str | None, at: str | None) -> RunResult:
    undone = _time(at) if at else None
    if result is None:
        return RunResult(run, status, _time(started), 0.0, selection, undone=undone)
    data = json.loads(result)
    release = dict(data.pop("release"))
    release["refusals"] = tuple(Refusal(**known(Refusal, refusal)) for refusal in release["refusals"])
    release["tables"] = tuple(release["tables"])
    return RunResult(
        **{key: data[key] for key in ("run", "status", "seconds", "select", "error")},
        started=_time(data["started"]),
        streams=tuple(_stream(item) for item in data["streams"]),
        nodes=tuple(NodeResult(**known(NodeResult, item)) for item in data["nodes"]),
        checks=tuple(_check(item) for item in data["checks"]),
        release=ReleaseOutcome(**known(ReleaseOutcome, release)),
        origin=data.get("origin", ""),
        undone=undone,
    )


def _check(data: dict[str, Any]) -> CheckResult:
    return CheckResult(**{**known(CheckResult, data), "nodes": tuple(data["nodes"])})


def _failing(data: dict[str, Any]) -> FailingRows:
    rows = tuple(tuple(row) for row in data["rows"])
    return FailingRows(data["run"], tuple(data["columns"]), rows, data["note"], tuple(data.get("pii", ())))


def _stream(data: dict[str, Any]) -> StreamResult:
    source, stream = data["ref"].split(".", 1)
    schema, name = data["table"].split(".", 1)
    fixed = {"ref": StreamRef(source, stream), "table": TableRef(schema, name), "notes": tuple(data["notes"])}
    return StreamResult(**{**known(StreamResult, data), **fixed})
