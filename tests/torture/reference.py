"""What a small project must hold after any sequence of commands, in plain Python: dictionaries, lists, and a clock.

Written from the promises of docs/releases.md, not from the code: what each table holds, which answers of checks
still speak of it, and so what may be released. `test_model` drives smoll and this side by side.

The project: items (a file, replaced) -> stg_items, a view -> items_mart, a table; snap_items, a snapshot of stg_items
-> history, a table. Events (a database, appended by a cursor) -> events_total, incremental.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

KEEP = 3
"""So many releases, and so many copies of the warehouse for `smoll undo`."""
NODES = {
    "stg_items": (),
    "items_mart": ("stg_items",),
    "snap_items": ("stg_items",),
    "history": ("snap_items",),
    "events_total": (),
}
"""Each model to what it is built from, in the order of building."""
RELEASED = ("events_total", "history", "items_mart")
CHECKS = {"ids_positive": "stg_items", "items_good": "items_mart", "events_good": "events_total"}
"""Each check of severity error to the model that it looks at."""
EVERYTHING = ("items", "events", *NODES)
SELECTIONS = {
    "items_mart": ("items_mart",),
    "+items_mart": ("items", "stg_items", "items_mart"),
    "source:shop": ("items",),
    "source:shop+": ("items", "stg_items", "items_mart", "snap_items", "history"),
    "source:log": ("events",),
    "source:log+": ("events", "events_total"),
    "events_total": ("events_total",),
    "stg_items": ("stg_items",),
    "snap_items history": ("snap_items", "history"),
}
EXCLUSIONS = {
    "events_total": tuple(name for name in EVERYTHING if name != "events_total"),
    "stg_items+": ("items", "events", "events_total"),
    "source:log+": SELECTIONS["source:shop+"],
}
Rows = list[tuple[int, ...]]
Content = dict[str, Rows]


@dataclass
class Answer:
    """What a check said, when, and of which smallest value it was asked."""

    passed: bool
    limit: int
    time: int


@dataclass
class Warehouse:
    """The working warehouse, and what is known of it. ``items`` and ``events`` are the raw tables."""

    items: dict[int, int] = field(default_factory=dict)
    items_file: int = -1
    events: dict[int, int] = field(default_factory=dict)
    mart: dict[int, int] = field(default_factory=dict)
    totals: dict[int, int] = field(default_factory=dict)
    snapshot: dict[int, list[int]] = field(default_factory=dict)
    history: Rows = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    answers: dict[str, Answer] = field(default_factory=dict)

    def content(self) -> Content:
        """What would be released."""
        return {
            "events_total": sorted(self.totals.items()),
            "history": sorted(self.history),
            "items_mart": sorted(self.mart.items()),
        }


@dataclass
class Expected:
    """How a run must end. ``refused`` are the subjects of the refusal."""

    status: str
    release: str
    number: int | None = None
    refused: frozenset[str] = frozenset()


@dataclass
class Reference:
    """The world: what the sources and the project's files say, the warehouse, and the releases."""

    items: dict[int, int] = field(default_factory=lambda: {1: 10, 2: 20, 3: 30})
    items_file: int = 0
    file_is_there: bool = True
    events: dict[int, int] = field(default_factory=lambda: {1: 5, 2: 6})
    broken: bool = False
    limits: dict[str, int] = field(default_factory=lambda: {"ids_positive": 1, "items_good": 0, "events_good": 0})
    warehouse: Warehouse = field(default_factory=Warehouse)
    before: dict[int, Warehouse] = field(default_factory=dict)
    releases: dict[int, Content] = field(default_factory=dict)
    proved: dict[int, dict[str, int]] = field(default_factory=dict)
    current: int = 0
    hold: bool = False
    pinned: set[int] = field(default_factory=set)
    clock: int = 0

    def run(
        self, chosen: tuple[str, ...] = EVERYTHING, *, full_refresh: bool = False, reload: tuple[str, ...] = ()
    ) -> Expected:
        """One run of the chosen streams and models."""
        if not self._load(chosen, reload):
            return Expected("failed", "none")
        well = self._build([name for name in NODES if name in chosen], full_refresh=full_refresh)
        refused = self.refusals()
        if refused:
            return Expected("refused" if well else "failed", "refused", refused=refused)
        release, number = self._release()
        return Expected("ok" if well else "failed", release, number)

    def _load(self, chosen: tuple[str, ...], reload: tuple[str, ...]) -> bool:
        house = self.warehouse
        self.clock += 1
        if "events" in reload:
            house.events = {}
        if "events" in (*chosen, *reload):
            cursor = max(house.events, default=0)
            house.events |= {n: amount for n, amount in self.events.items() if n > cursor}
        if "items" in (*chosen, *reload):
            if not self.file_is_there:
                return False
            if house.items_file != self.items_file or "items" in reload:
                house.items, house.items_file = dict(self.items), self.items_file
                house.changed["items"] = self.clock
        return True

    def _build(self, chosen: list[str], *, full_refresh: bool) -> bool:
        """Build, check, and leave out what is built from what failed. True where all went well."""
        house = self.warehouse
        self.clock += 1
        checks = [check for check, node in CHECKS.items() if node in chosen]
        for check in checks:
            house.answers.pop(check, None)
        bad: set[str] = set()
        for node in chosen:
            house.changed[node] = self.clock
            house.failed.discard(node)
            if bad.intersection(NODES[node]) or (node == "items_mart" and self.broken):
                bad.add(node)
                house.failed.add(node)
                continue
            self._fill(node, full_refresh)
            for check in checks:
                if CHECKS[check] == node:
                    passed = min(self._looked_at(check)) >= self.limits[check]
                    house.answers[check] = Answer(passed, self.limits[check], self.clock + 1)
                    if not passed:
                        bad.add(node)
        self.clock += 1
        return not bad

    def _fill(self, node: str, full_refresh: bool) -> None:
        house = self.warehouse
        if node == "items_mart":
            house.mart = dict(house.items)
        elif node == "snap_items":
            for id, amount in house.items.items():
                versions = house.snapshot.setdefault(id, [])
                if versions[-1:] != [amount]:
                    versions.append(amount)
        elif node == "history":
            house.history = [
                (id, amount, int(number == len(versions)))
                for id, versions in house.snapshot.items()
                for number, amount in enumerate(versions, 1)
            ]
        elif node == "events_total":
            house.totals = {} if full_refresh else house.totals
            last = max(house.totals, default=0)
            house.totals = house.totals | {n: amount for n, amount in house.events.items() if n > last}

    def _looked_at(self, check: str) -> list[int]:
        house = self.warehouse
        return {
            "ids_positive": list(house.items),
            "items_good": list(house.mart.values()),
            "events_good": list(house.totals.values()),
        }[check]

    def refusals(self) -> frozenset[str]:
        """Every model that is not as it should be, and every check that does not speak well of what is there now."""
        house = self.warehouse
        stale = set()
        for check, node in CHECKS.items():
            answer = house.answers.get(check)
            since = max(house.changed[node], house.changed["items"] if node == "stg_items" else 0)
            if answer is None or not answer.passed or answer.limit != self.limits[check] or answer.time < since:
                stale.add(check)
        return frozenset(house.failed | stale)

    def _release(self) -> tuple[str, int]:
        content, newest = self.warehouse.content(), max(self.releases)
        if self.releases[newest] == content:
            if newest == self.current or self.hold:
                return "unchanged", newest
            self.current = newest
            return "published", newest
        number = self.next_number()
        self.releases[number] = copy.deepcopy(content)
        self.proved[number] = dict(self.limits)
        if not self.hold:
            self.current = number
        self.collect()
        return "staged" if self.hold else "published", number

    def next_number(self) -> int:
        """The number after the highest that there is."""
        return max(*self.releases, self.current) + 1

    def collect(self) -> None:
        """Only so many releases stay: the newest, the pinned, what readers see, and what is newer than that."""
        free = sorted(set(self.releases) - self.pinned, reverse=True)
        for number in free[KEEP:]:
            if number < self.current:
                del self.releases[number]

    def rollback(self, number: int) -> None:
        """Readers see this one, and stay on it."""
        self.current, self.hold = number, True

    def resume(self) -> None:
        """Readers see the newest again."""
        self.current, self.hold = max(self.releases), False

    def remember(self, run: int, before: Warehouse) -> None:
        """Keep what the warehouse was before a run, and before as many others as are kept."""
        self.before[run] = before
        self.before = dict(sorted(self.before.items())[-KEEP:])

    def undo(self, run: int) -> None:
        """The warehouse is what it was before the run; releases, and what readers see, stay."""
        self.warehouse = copy.deepcopy(self.before[run])
        self.before = {number: house for number, house in self.before.items() if number < run}
