"""What the portal shows, as plain values. `smoll.portal.gather` finds them out, the templates lay them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from smoll.model import CheckStatus, FailingRows, ReleaseManifest, RunStatus, StreamRef, StreamStatus, TableRef
from smoll.profiles import ColumnProfile

Kind = Literal["table", "source", "model", "seed", "snapshot"]
"""``table``: what is released. All others are what that is built from."""


@dataclass(frozen=True)
class CheckFacts:
    """A check, what it said last, and in the releases before: number and status, the oldest first.

    ``entry`` is the id of what it belongs to in the catalog, "" where that is nothing. ``slug`` names it in a page.
    """

    id: str
    name: str
    kind: str
    entry: str
    column: str
    severity: str
    description: str
    slug: str
    status: CheckStatus | None = None
    run: int | None = None
    failures: int = 0
    message: str = ""
    history: tuple[tuple[int, CheckStatus], ...] = ()
    failing: FailingRows | None = None

    @property
    def tone(self) -> Literal["good", "warn", "bad", "none"]:
        """How bad it is: a check of severity ``warn`` that fails is a warning."""
        return tone(self.status, self.severity)


@dataclass(frozen=True)
class ColumnFacts:
    """A column of a table. ``hidden``: no value of it is shown anywhere, as it is personal."""

    name: str
    type: str
    description: str = ""
    checks: tuple[CheckFacts, ...] = ()
    hidden: bool = False
    profile: ColumnProfile | None = None


@dataclass(frozen=True)
class Sample:
    """Some rows as text, cut; None is NULL. ``note`` says what is left out."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class StreamFacts:
    """How a source table is loaded. ``loaded`` is when its rows last came, ``warn`` and ``stale`` the seconds after
    which they are old.
    """

    ref: StreamRef
    mode: str = ""
    loaded: datetime | None = None
    status: StreamStatus | None = None
    run: int | None = None
    cursor: str = ""
    rejected: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    warn: float | None = None
    stale: float | None = None


@dataclass(frozen=True)
class Entry:
    """A table in the catalog: a released one, or what such are built from. ``id`` is dbt's, ``slug`` its page."""

    id: str
    kind: Kind
    name: str
    slug: str
    table: TableRef | None = None
    description: str = ""
    owners: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    group: str = ""
    path: str = ""
    materialized: str = ""
    key: tuple[str, ...] = ()
    columns: tuple[ColumnFacts, ...] = ()
    rows: int | None = None
    bytes: int = 0
    sampled: int = 0
    checks: tuple[CheckFacts, ...] = ()
    sample: Sample | None = None
    raw_sql: str = ""
    sql: str = ""
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    stream: StreamFacts | None = None
    history: tuple[tuple[int, datetime, int], ...] = ()
    """Release, time and rows, the oldest first."""

    @property
    def href(self) -> str:
        """Its page, from the site's own folder."""
        return f"catalog/{self.slug}.html"

    @property
    def tone(self) -> Literal["good", "warn", "bad", "none"]:
        """The worst that a check on it says."""
        return worst(check.tone for check in self.checks)


@dataclass(frozen=True)
class TableChange:
    """What became of a released table since the release before; None: it is not there."""

    name: str
    entry: str
    before: int | None
    after: int | None
    is_changed: bool = True
    columns: tuple[str, ...] = ()
    """What changed about its columns, in words."""


@dataclass(frozen=True)
class RunFacts:
    """One run, for the chart of runs."""

    run: int
    status: RunStatus
    started: datetime
    seconds: float
    release: int | None


@dataclass(frozen=True)
class ReleaseFacts:
    """A release that is kept, and how many of its checks said what, by tone."""

    number: int
    created: datetime
    tones: Mapping[str, int]


@dataclass(frozen=True)
class Facts:
    """All that the portal knows.

    ``seconds`` is how long the run took up to the portal, ``previous`` the release before. ``releases`` are those that
    are kept, the oldest first.
    """

    project: str
    release: ReleaseManifest
    entries: Mapping[str, Entry]
    checks: tuple[CheckFacts, ...]
    seconds: float | None = None
    previous: int | None = None
    previous_created: datetime | None = None
    changes: tuple[TableChange, ...] = ()
    broke: tuple[CheckFacts, ...] = ()
    mended: tuple[CheckFacts, ...] = ()
    runs: Sequence[RunFacts] = ()
    releases: tuple[ReleaseFacts, ...] = ()

    def of_kind(self, *kinds: Kind) -> list[Entry]:
        """The entries of these kinds, by name."""
        found = (entry for entry in self.entries.values() if entry.kind in kinds)
        return sorted(found, key=lambda entry: entry.name.lower())

    def urls(self) -> dict[str, str]:
        """The page of each dbt id that has one, from the site's own folder."""
        return {id: entry.href for id, entry in self.entries.items()}


_TONES: Mapping[str, Literal["good", "warn", "bad", "none"]] = {
    "pass": "good",
    "warn": "warn",
    "fail": "bad",
    "error": "bad",
    "skipped": "none",
}


def tone(status: CheckStatus | None, severity: str) -> Literal["good", "warn", "bad", "none"]:
    """What a status comes to."""
    found = _TONES[status] if status else "none"
    return "warn" if found == "bad" and severity == "warn" else found


def worst(tones: object) -> Literal["good", "warn", "bad", "none"]:
    """The worst of several; ``none`` where there is none."""
    there = set(tones)  # type: ignore[call-overload]
    for each in ("bad", "warn", "good"):
        if each in there:
            return each
    return "none"
