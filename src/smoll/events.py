"""The typed events of a run. Progress bars, ``--json`` and the ledger listen; the run knows none of them.

Every listener is a plain function ``(Event) -> None``. Events come one at a time, whatever thread they
were born in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smoll.model import CheckResult, Holder, NodeResult, ReleaseOutcome, RunResult, StreamRef, StreamResult


@dataclass(frozen=True)
class LockWaiting:
    """Another run holds the project; this one waits for it."""

    holder: Holder


@dataclass(frozen=True)
class RunStarted:
    """The lock is held and the run has its number."""

    run: int
    select: str


@dataclass(frozen=True)
class Recovered:
    """What an earlier, killed run left behind was found and put in order."""

    message: str


@dataclass(frozen=True)
class StreamStarted:
    """A stream is being read."""

    ref: StreamRef


@dataclass(frozen=True)
class StreamProgress:
    """A stream is still being read, ``seconds`` after it began. None: unknown.

    While it is fetched, ``bytes_done`` of ``bytes_total`` are here. While it is scanned, ``fraction`` (0 to 1) is how
    far the scan is, and ``rows`` an estimate.
    """

    ref: StreamRef
    rows: int | None
    fraction: float | None
    seconds: float
    bytes_done: int | None = None
    bytes_total: int | None = None


@dataclass(frozen=True)
class StreamFinished:
    """A stream is committed, unchanged, or failed."""

    result: StreamResult


@dataclass(frozen=True)
class ParseStarted:
    """dbt is being imported and reads the project: seconds in which nothing else may happen."""


@dataclass(frozen=True)
class TransformStarted:
    """dbt knows what it will do: so many models, seeds and snapshots, and so many checks."""

    nodes: int
    checks: int


@dataclass(frozen=True)
class NodeStarted:
    """dbt has begun one model, seed, snapshot or test."""

    id: str
    name: str
    kind: str


@dataclass(frozen=True)
class NodeFinished:
    """One model, seed or snapshot was built, failed, or was skipped."""

    result: NodeResult


@dataclass(frozen=True)
class CheckFinished:
    """One check has said what it found."""

    result: CheckResult


@dataclass(frozen=True)
class ReleaseStarted:
    """All checks allow a release; its tables are being hashed and copied."""

    tables: int


@dataclass(frozen=True)
class ProfileStarted:
    """A table of the release is being profiled: it was not in the release before as it is now."""

    table: str
    rows: int


@dataclass(frozen=True)
class PortalStarted:
    """The pages of the release are being written."""

    release: int


@dataclass(frozen=True)
class ReleaseFinished:
    """The release is published, staged, unchanged or refused."""

    outcome: ReleaseOutcome


@dataclass(frozen=True)
class Message:
    """Something a person should read that fits no other event."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class CopyProgress:
    """A backup is being written or read: so many of its bytes, in so many seconds. ``total`` is None where unknown."""

    done: int
    total: int | None
    seconds: float


@dataclass(frozen=True)
class RunFinished:
    """The last event of every run."""

    result: RunResult


Event = (
    LockWaiting
    | RunStarted
    | Recovered
    | StreamStarted
    | StreamProgress
    | StreamFinished
    | ParseStarted
    | TransformStarted
    | NodeStarted
    | NodeFinished
    | CheckFinished
    | ReleaseStarted
    | ProfileStarted
    | PortalStarted
    | ReleaseFinished
    | Message
    | CopyProgress
    | RunFinished
)
Listener = Callable[[Event], None]
