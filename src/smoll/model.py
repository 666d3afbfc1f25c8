"""Frozen values that the parts of smoll hand to each other. No behaviour, no input or output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal


def quote(identifier: str) -> str:
    """Quote one SQL identifier. The only way a name gets into SQL text."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote one SQL string. For the places where an engine takes no bound parameter."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, order=True)
class TableRef:
    """A table of the warehouse, by schema and name."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """The quoted name, ready for SQL text."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Column:
    """A column's name and its type in DuckDB's spelling (``BIGINT``, ``DECIMAL(18,2)``)."""

    name: str
    type: str


@dataclass(frozen=True, order=True)
class StreamRef:
    """One stream of one source, by the names of ``smoll.yml``; written ``source.stream``."""

    source: str
    stream: str

    def __str__(self) -> str:
        return f"{self.source}.{self.stream}"


StreamStatus = Literal["loaded", "unchanged", "failed", "skipped"]
NodeStatus = Literal["success", "error", "skipped"]
CheckStatus = Literal["pass", "warn", "fail", "error", "skipped"]
ReleaseStatus = Literal["published", "staged", "unchanged", "refused", "none"]
RunStatus = Literal["ok", "failed", "refused", "interrupted", "running", "killed"]


@dataclass(frozen=True)
class StreamResult:
    """What happened to one stream in one run.

    ``read`` are the records that the source gave in this run, ``rejected`` those of them that went to the table of
    rejected rows, ``rows`` the rows written, ``total`` the rows of the table afterwards. ``cursor`` says from where the
    next run goes on, in words. ``notes`` are what a person should know (a column appeared, a type was widened),
    ``error`` is why it failed.
    """

    ref: StreamRef
    table: TableRef
    status: StreamStatus
    mode: str = "replace"
    rows: int = 0
    total: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str = ""
    read: int = 0
    rejected: int = 0
    cursor: str = ""

    @property
    def rate(self) -> float:
        """Records read in a second."""
        return self.read / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class NodeResult:
    """What happened to one model, seed or snapshot. ``kind`` is dbt's resource type."""

    id: str
    name: str
    kind: str
    status: NodeStatus
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class CheckResult:
    """What one check said. ``nodes`` are the dbt ids of what it looks at."""

    id: str
    name: str
    status: CheckStatus
    severity: Literal["error", "warn"] = "error"
    failures: int = 0
    seconds: float = 0.0
    message: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """One reason why nothing was released, and the command that mends it.

    ``stale``: nothing is known to be wrong, something has only not been built or checked yet; often because of
    another refusal.
    """

    subject: str
    reason: str
    remedy: str = ""
    stale: bool = False


@dataclass(frozen=True)
class ReleaseOutcome:
    """What became of the release at the end of a run.

    ``published``: ``current`` is now `number`. ``staged``: built, but a hold keeps ``current`` where it
    is. ``unchanged``: equal to the newest release, so none was made. ``refused``: see `refusals`.
    ``none``: nothing to release (no dbt project, or the run failed before). ``tables`` are the names of what is
    in it, written ``schema.table``.
    """

    status: ReleaseStatus
    number: int | None = None
    path: str = ""
    tables: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class ReleasedTable:
    """One table of a release. ``hash`` is over its rows, without load metadata (docs/releases.md)."""

    ref: TableRef
    id: str
    rows: int
    hash: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class ReleaseManifest:
    """The content of ``releases/<n>/manifest.json``.

    ``breaking`` is what it took away from readers of the release before, and somebody allowed.
    """

    number: int
    project: str
    run: int
    created: datetime
    tables: tuple[ReleasedTable, ...]
    checks: tuple[CheckResult, ...] = ()
    cursors: dict[str, Any] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    bytes: int = 0
    breaking: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReleaseEntry:
    """One release as a list shows it. ``current`` is what readers see, ``held`` is staged under a hold, ``pinned``
    stays for ever.
    """

    manifest: ReleaseManifest
    path: str
    current: bool
    held: bool
    pinned: bool = False


@dataclass(frozen=True)
class Pin:
    """Why a release stays for ever."""

    release: int
    since: datetime
    reason: str


@dataclass(frozen=True)
class Removal:
    """Something that `smoll gc` has removed, or would remove. ``path`` is relative to the project's folder."""

    path: str
    bytes: int
    reason: str


@dataclass(frozen=True)
class ColumnDiff:
    """A column that came, went, or has another type. ``before`` and ``after`` are DuckDB types, "" where it is not."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class RowDiff:
    """One row of a sample: its key, and each value that is shown, before and after (None: NULL, or not there)."""

    what: Literal["added", "removed", "changed"]
    key: dict[str, str | None]
    values: dict[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class TableDiff:
    """What became of one table.

    ``key`` are the columns by which rows were matched; without one, rows are only added or removed. ``columns`` are
    changes of its schema, ``values`` says for how many of the changed rows each column differs, most first. ``note`` is
    what a person should know of the comparison.
    """

    ref: TableRef
    status: Literal["added", "removed", "changed", "equal", "unknown"]
    rows_before: int = 0
    rows_after: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    key: tuple[str, ...] = ()
    columns: tuple[ColumnDiff, ...] = ()
    values: dict[str, int] = field(default_factory=dict)
    samples: tuple[RowDiff, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Diff:
    """What is different between two releases, or between one and what the next one would be."""

    before: str
    after: str
    tables: tuple[TableDiff, ...]

    @property
    def is_equal(self) -> bool:
        return all(table.status == "equal" for table in self.tables)


@dataclass(frozen=True)
class Hold:
    """Why ``current`` does not move: set by a rollback, ended by ``smoll release resume``."""

    since: datetime
    release: int
    reason: str


@dataclass(frozen=True)
class RunResult:
    """What one run did. `RunResult.exit_code` is the exit code of ``smoll run``.

    ``origin`` is the orchestrator's run that it was part of, as ``dagster:<id>``; "" without.
    """

    run: int
    status: RunStatus
    started: datetime
    seconds: float
    select: str = ""
    streams: tuple[StreamResult, ...] = ()
    nodes: tuple[NodeResult, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    release: ReleaseOutcome = ReleaseOutcome("none")
    error: str = ""
    origin: str = ""

    @property
    def exit_code(self) -> int:
        """0 all well, 130 interrupted, 1 anything else."""
        return {"ok": 0, "interrupted": 130}.get(self.status, 1)


@dataclass(frozen=True)
class Holder:
    """Who holds the project's lock."""

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host} ({self.command}), since {self.since}"


@dataclass(frozen=True)
class StreamState:
    """What the ledger knows of one stream: its table, its rows and when it was last loaded."""

    ref: StreamRef
    table: TableRef
    rows: int
    loaded: datetime | None
    run: int
    status: StreamStatus


@dataclass(frozen=True)
class Status:
    """Answers at a glance: what do readers see, what happened last, is something going on."""

    project: str
    root: Path
    current: ReleaseEntry | None
    hold: Hold | None
    last_run: RunResult | None
    running: Holder | None
    streams: tuple[StreamState, ...]


@dataclass(frozen=True)
class Finding:
    """One line of ``smoll doctor`` or ``smoll check``: what was looked at and whether it is well."""

    topic: str
    level: Literal["ok", "note", "error"]
    message: str
    hint: str = ""


_FREE_TEXTS = {"message", "error", "notes", "reason", "text"}
"""Fields that may quote somebody else's words: an error of an engine, a line of a file."""


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a copy of a value of this module (or an event) with `change` applied to every free text in it.

    Names and references stay as they are.
    """
    if isinstance(value, tuple):
        return tuple(map_texts(item, change) for item in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    changed = {
        name: _change(item, change) if name in _FREE_TEXTS else map_texts(item, change) for name, item in fields.items()
    }
    return dataclasses.replace(value, **changed)


def _change(text: Any, change: Callable[[str], str]) -> Any:
    return tuple(change(line) for line in text) if isinstance(text, tuple) else change(text)


def to_json(value: Any) -> Any:
    """Turn the values of this module into what ``json.dumps`` takes.

    Datetimes become ISO 8601 text, paths and references become text, dataclasses become objects.
    """
    if isinstance(value, (TableRef, StreamRef, Path)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value
