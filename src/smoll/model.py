"""Frozen values that the parts of smoll hand to each other. No behaviour, no input or output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

NOT_AS_WRITTEN = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What may come of reading a file of state that is damaged, or was edited by hand."""


def quote(identifier: str) -> str:
    """Quote one SQL identifier. The only way a name gets into SQL text."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote one SQL string.

    What every run asks has no bound parameters: DuckDB imports pandas, where it is installed, to look at the first one.
    """
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """Quote SQL strings as one list."""
    return f"[{', '.join(map(literal, texts))}]::VARCHAR[]"


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
class FailingRows:
    """Some of the rows on which a check has failed, in run ``run``. Values are text, cut; None is NULL.

    Columns marked ``pii`` are never among them; ``pii`` are those that any table of the project had then. Without rows,
    ``note`` says why there are none.
    """

    run: int
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    note: str = ""
    pii: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownCheck:
    """A check of the project, and what it said last. ``run`` is None where it has not run since it could change.

    ``kind`` is that of smoll's own checks, or ``test`` and ``unit_test`` of dbt's. ``table`` is what it belongs to.
    """

    id: str
    name: str
    kind: str
    table: str
    severity: Literal["error", "warn"]
    description: str
    path: str
    status: CheckStatus | None = None
    run: int | None = None
    failures: int = 0
    message: str = ""
    failing: FailingRows | None = None


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
    """One table of a release. ``hash`` is over its rows, without load metadata (docs/releases.md).

    ``bytes`` is its part of the release's file. It depends on what else is in that, so tables are equal whatever it is.
    """

    ref: TableRef
    id: str
    rows: int
    hash: str
    columns: tuple[Column, ...]
    bytes: int = field(default=0, compare=False)


@dataclass(frozen=True)
class StoredFile:
    """A file beside the manifest of a release, by name and SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True)
class ReleaseManifest:
    """The content of ``releases/<n>/manifest.json``.

    ``breaking`` is what it took away from readers of the release before, and somebody allowed. ``config_hash`` is the
    SHA-256 of ``smoll.yml``, ``dbt_manifest_hash`` one of the dbt project. ``profile`` says what its tables look like,
    ``pages_hash`` changes with what its portal says of them: dashboards and descriptions.
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
    config_hash: str = ""
    dbt_manifest_hash: str = ""
    profile: StoredFile | None = None
    pages_hash: str = ""


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


CopyKind = Literal["reflink", "copy", "empty"]


@dataclass(frozen=True)
class UndoCopy:
    """The working warehouse as it was before `run`. ``bytes`` are those of its files.

    A ``reflink`` shares its blocks with the warehouse, as far as that has not changed since; a ``copy`` does not.
    ``empty``: there was no warehouse yet. ``path`` is relative to the project's folder.
    """

    run: int
    created: datetime
    bytes: int
    kind: CopyKind
    path: str


@dataclass(frozen=True)
class RowsChange:
    """The rows of a table of the warehouse, now and once it is undone; None: there is no such table."""

    table: TableRef
    now: int | None
    then: int | None


@dataclass(frozen=True)
class CursorChange:
    """From where a stream goes on, in words, now and once it is undone; "" where it goes on from no cursor."""

    ref: StreamRef
    now: str
    then: str


@dataclass(frozen=True)
class Undo:
    """What an undo does, or has done (``done``): the warehouse is as in `copy`, before ``runs`` (the newest first).

    ``tables`` are those whose number of rows differs, ``cursors`` the streams that go on from elsewhere. ``release`` is
    what readers see, where a run that is undone made it; ``earlier`` is the newest one before that is kept. ``note`` is
    what a person should know.
    """

    copy: UndoCopy
    runs: tuple[RunResult, ...]
    tables: tuple[RowsChange, ...] = ()
    cursors: tuple[CursorChange, ...] = ()
    release: int | None = None
    earlier: int | None = None
    note: str = ""
    done: bool = False


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
    """What is different between two releases, or between one and what the next one would be.

    ``refused_by`` is the last run, where it refused to release what the next release would be.
    """

    before: str
    after: str
    tables: tuple[TableDiff, ...]
    refused_by: int | None = None

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

    ``origin`` is the orchestrator's run that it was part of, as ``dagster:<id>``; "" without. ``undone`` is when
    `smoll undo` took back what it did to the warehouse.
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
    undone: datetime | None = None

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


@dataclass(frozen=True)
class BackupPart:
    """What a backup holds of one kind: so many files, of so many bytes."""

    name: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Backup:
    """A backup that was written. ``notes``: what is not in it, and why."""

    place: str
    project: str
    created: datetime
    bytes: int
    seconds: float
    encrypted: bool
    parts: tuple[BackupPart, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restored:
    """A project that came back from a backup. ``notes``: what was not in it, and why."""

    root: Path
    project: str
    created: datetime
    files: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


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


def known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the dataclass `kind` has a field for, of what was stored of it: a newer smoll may have stored more."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in data.items() if name in names}


def verified(value: T) -> T:
    """Give a dataclass back whose fields, and theirs, are all of their types. Raises TypeError where one is not."""
    for name, kind in get_type_hints(type(value)).items():
        if not _fits(getattr(value, name), kind):
            raise TypeError(f"`{name}` is not what it should be")
    return value


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, inner[1]) for item in value.values())
    if kind is Any or origin is Literal:
        return kind is Any or value in inner
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if kind is datetime:
        return isinstance(value, datetime) and value.tzinfo is not None
    if dataclasses.is_dataclass(kind):
        return isinstance(value, kind) and verified(value) is value  # type: ignore[arg-type]
    return isinstance(value, kind)


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
