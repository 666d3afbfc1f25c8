"""Random sequences of everything that people and accidents do to a project, beside a simple reference."""

from __future__ import annotations

import atexit
import copy
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import smoll
from smoll.errors import UsageError
from smoll.model import RunResult
from support import write, write_project
from torture.killing import kill_at
from torture.reference import EVERYTHING, EXCLUSIONS, KEEP, RELEASED, SELECTIONS, Content, Expected, Reference

SMOLL_YML = f"""\
name: model
release: {{keep: {KEEP}}}
undo: {{keep: {KEEP}}}
sources:
  shop: {{kind: files, streams: {{items: data/items.csv}}}}
  log: {{kind: sql, url: "sqlite:///data/log.db", streams: {{events: {{mode: append, cursor: n}}}}}}
"""
MART = "{{ config(materialized='table') }} select id, amount from {{ ref('stg_items') }}"
MODELS = {
    "staging/stg_items": "{{ config(materialized='view') }} select * from {{ source('shop', 'items') }}",
    "marts/items_mart": MART,
    "marts/history": """\
{{ config(materialized='table') }}
select id, amount, (dbt_valid_to is null)::int as is_current from {{ ref('snap_items') }}
""",
    "marts/events_total": """\
{{ config(materialized='incremental') }}
select n, amount from {{ source('log', 'events') }}
{% if is_incremental() %} where n > (select max(n) from {{ this }}) {% endif %}
""",
}
SNAPSHOT = """\
snapshots:
  - name: snap_items
    relation: ref('stg_items')
    config: {unique_key: id, strategy: check, check_cols: [amount]}
"""
CHECKS = {
    "ids_positive": "select id from {{{{ ref('stg_items') }}}} where id < {}",
    "items_good": "select id from {{{{ ref('items_mart') }}}} where amount < {}",
    "events_good": "select n from {{{{ ref('events_total') }}}} where amount < {}",
}
WARNING = "{{ config(severity='warn') }} select id from {{ ref('items_mart') }} where amount > 20"
RAW = {
    "items": "select id, amount from raw_shop.items",
    "events": "select n, amount from raw_log.events",
    **{name: f"select * from main.{name}" for name in RELEASED},
}
AMOUNTS = st.sampled_from([1, 7, 20, 30, 40])
BAD = -10


def _write_items(root: Path, items: dict[int, int]) -> None:
    write(root, {"data/items.csv": "id,amount\n" + "".join(f"{id},{amount}\n" for id, amount in items.items())})


def _execute(root: Path, *statements: str) -> None:
    with closing(sqlite3.connect(root / "data/log.db")) as db, db:
        for statement in statements:
            db.execute(statement)


@cache
def _prepared() -> tuple[Path, Reference]:
    """A project after its first run, and the reference of it."""
    reference = Reference()
    folder = Path(tempfile.mkdtemp(prefix="smoll-model-"))
    atexit.register(shutil.rmtree, folder)
    root = folder / "project"
    root.mkdir()
    tests = {name: text.format(reference.limits[name]) for name, text in CHECKS.items()}
    write_project(root, SMOLL_YML, {}, MODELS, {**tests, "items_small": WARNING})
    write(root, {"transform/snapshots/snap.yml": SNAPSHOT})
    _write_items(root, reference.items)
    values = ", ".join(map(str, reference.events.items()))
    _execute(root, "create table events (n integer, amount integer)", f"insert into events values {values}")
    reference.releases = {0: {}}
    expected = reference.run()
    del reference.releases[0]
    _compare(smoll.open_project(root).run(), expected)
    return root, reference


def _compare(result: RunResult, expected: Expected) -> None:
    found = (result.status, result.release.status, _refused(result))
    assert found == (expected.status, expected.release, expected.refused), result
    if expected.number is not None:
        assert result.release.number == expected.number


def _refused(result: RunResult) -> frozenset[str]:
    return frozenset(refusal.subject for refusal in result.release.refusals)


class Machine(RuleBasedStateMachine):
    """Each rule does one thing to the project, and to the reference; after each, both must agree."""

    def __init__(self) -> None:
        super().__init__()
        prepared, reference = _prepared()
        self.folder = Path(tempfile.mkdtemp(prefix="smoll-model-"))
        self.root = Path(shutil.copytree(prepared, self.folder / "project", symlinks=True))
        self.reference = copy.deepcopy(reference)
        self.seen: dict[int, Content] = {}
        self.seen_raw: tuple[int, int] = (0, 0)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @property
    def project(self) -> smoll.Project:
        return smoll.open_project(self.root)

    # --- what the world does

    @rule(id=st.sampled_from([1, 2, 3]), amount=AMOUNTS)
    def items_change(self, id: int, amount: int) -> None:
        self._items({id: amount})

    @rule(id=st.sampled_from([1, 2, 3]))
    def an_item_goes_bad(self, id: int) -> None:
        self._items({id: BAD})

    @rule()
    def an_id_goes_bad(self) -> None:
        self._items({0: 1})

    @rule()
    def the_items_are_mended(self) -> None:
        good = {id: amount if amount >= 0 else 2 for id, amount in self.reference.items.items() if id > 0}
        self.reference.items = {}
        self._items(good)

    def _items(self, items: dict[int, int]) -> None:
        self.reference.items = {**self.reference.items, **items}
        self.reference.items_file += 1
        self.reference.file_is_there = True
        _write_items(self.root, self.reference.items)

    @precondition(lambda self: self.reference.file_is_there)
    @rule()
    def the_file_is_lost(self) -> None:
        self.reference.file_is_there = False
        (self.root / "data/items.csv").unlink()

    @rule(amount=AMOUNTS | st.just(BAD))
    def an_event_happens(self, amount: int) -> None:
        n = max(self.reference.events) + 1
        self.reference.events[n] = amount
        _execute(self.root, f"insert into events values ({n}, {amount})")

    @rule()
    def the_events_are_mended(self) -> None:
        """In the source alone. The newest that was loaded stays, now or in what an undo may bring back.

        A load reads from it on, and would see the change.
        """
        houses = (self.reference.warehouse, *self.reference.before.values())
        loaded = {max(house.events, default=0) for house in houses}
        for n, amount in self.reference.events.items():
            if amount < 0 and n not in loaded:
                self.reference.events[n] = 3
        kept = ", ".join(map(str, loaded))
        _execute(self.root, f"update events set amount = 3 where amount < 0 and n not in ({kept})")

    # --- what people do to the project's files

    @rule()
    def the_model_breaks_or_is_mended(self) -> None:
        self.reference.broken = not self.reference.broken
        text = MART.replace("amount", "no_such_column") if self.reference.broken else MART
        write(self.root, {"transform/models/marts/items_mart.sql": text})

    @rule(check=st.sampled_from(["items_good", "events_good"]))
    def a_check_is_edited(self, check: str) -> None:
        limit = -50 if self.reference.limits[check] == 0 else 0
        self.reference.limits[check] = limit
        write(self.root, {f"transform/tests/{check}.sql": CHECKS[check].format(limit)})

    # --- commands

    @rule()
    def run(self) -> None:
        self._run()

    @rule(select=st.sampled_from(sorted(SELECTIONS)))
    def run_selected(self, select: str) -> None:
        self._run(select)

    @rule(exclude=st.sampled_from(sorted(EXCLUSIONS)))
    def run_excluding(self, exclude: str) -> None:
        self._run(exclude=exclude)

    @rule(select=st.sampled_from(["", "source:log+", "events_total"]))
    def run_full_refresh(self, select: str) -> None:
        self._run(select, full_refresh=True)

    @rule(select=st.sampled_from(["", "events_total", "source:log+"]), stream=st.sampled_from(["items", "events"]))
    def run_reload(self, select: str, stream: str) -> None:
        self._run(select, reload=(stream,))

    @rule(amount=AMOUNTS)
    def a_good_day(self, amount: int) -> None:
        """Everything is mended, something new comes, and all is loaded and built anew."""
        if self.reference.broken:
            self.the_model_breaks_or_is_mended()
        self.the_items_are_mended()
        self.an_event_happens(amount)
        self.the_events_are_mended()
        self._run(full_refresh=True, reload=("items", "events"))

    def _run(
        self, select: str = "", exclude: str = "", *, full_refresh: bool = False, reload: tuple[str, ...] = ()
    ) -> None:
        chosen = SELECTIONS[select] if select else EXCLUSIONS[exclude] if exclude else EVERYTHING
        before = copy.deepcopy(self.reference.warehouse)
        expected = self.reference.run(chosen, full_refresh=full_refresh, reload=reload)
        names = [{"items": "shop.items", "events": "log.events"}[stream] for stream in reload]
        result = self.project.run(select, exclude, full_refresh=full_refresh, reload=names)
        self.reference.remember(result.run, before)
        _compare(result, expected)

    @precondition(lambda self: self.reference.file_is_there)
    @rule(step=st.integers(1, 60))
    def a_run_is_killed_and_the_next_one_mends_it(self, step: int) -> None:
        before = copy.deepcopy(self.reference)
        expected = self.reference.run()
        kill_at([(self.root, -step)])
        current = self._current()
        assert current in (before.current, self.reference.current)
        assert self._released(current) == {**before.releases, **self.reference.releases}[current]
        result = self.project.run()
        assert (result.status, _refused(result)) == (expected.status, expected.refused), result
        assert result.release.status in (expected.release, "unchanged"), result
        self.reference.before = {}
        for number in before.releases:  # the run that removes releases may have been the one that was killed
            if number not in self.reference.releases and (self._folder(number)).is_dir():
                self.reference.releases[number] = before.releases[number]

    @rule(back=st.integers(0, 4))
    def rollback(self, back: int) -> None:
        reference = self.reference
        earlier = sorted(number for number in reference.releases if number < reference.current)
        if back == 0 and not earlier:
            with pytest.raises(UsageError, match="no earlier release"):
                self.project.rollback()
            return
        numbers = sorted(reference.releases)
        number = earlier[-1] if back == 0 else numbers[back % len(numbers)]
        self.project.rollback(None if back == 0 else number)
        reference.rollback(number)

    @rule()
    def resume(self) -> None:
        self.project.resume()
        self.reference.resume()

    @rule(which=st.integers(0, 9))
    def pin_or_unpin(self, which: int) -> None:
        numbers = sorted(self.reference.releases)
        number = numbers[which % len(numbers)]
        if number in self.reference.pinned:
            self.project.unpin(number)
        else:
            self.project.pin(number)
        self.reference.pinned ^= {number}

    @rule()
    def collect_garbage(self) -> None:
        self.project.gc()
        self.reference.collect()

    @precondition(lambda self: self.reference.before)
    @rule(back=st.integers(0, 3))
    def undo(self, back: int) -> None:
        copies = [kept.run for kept in self.project.undo_copies() if kept.run in self.reference.before]
        assert copies[:1] == sorted(self.reference.before)[-1:]
        run = copies[back % len(copies)]
        self.project.undo(run)
        self.reference.undo(run)

    # --- what must hold

    @invariant()
    def readers_see_what_the_reference_says(self) -> None:
        reference, status = self.reference, self.project.status()
        assert self._current() == reference.current
        assert (status.hold is not None) == reference.hold
        assert status.running is None
        with self.project.connect() as connection:
            assert _read(connection) == reference.releases[reference.current]

    @invariant()
    def every_release_is_one_state_that_was_checked(self) -> None:
        entries = {entry.manifest.number: entry for entry in self.project.releases()}
        assert set(entries) == set(self.reference.releases)
        assert {number for number, entry in entries.items() if entry.pinned} == self.reference.pinned
        for number in set(entries) - set(self.seen):
            content = self.seen[number] = self._released(number)
            assert content == self.reference.releases[number]
            assert all(content != other for one, other in self.seen.items() if one == number - 1), "published twice"
            limits = self.reference.proved[number]
            assert min(row[1] for row in content["items_mart"]) >= limits["items_good"]
            assert min(row[1] for row in content["events_total"]) >= limits["events_good"]
            assert min(row[0] for row in content["items_mart"]) >= limits["ids_positive"]
            assert {table.ref.name: table.rows for table in entries[number].manifest.tables} == {
                name: len(rows) for name, rows in content.items()
            }

    @invariant()
    def the_working_warehouse_holds_what_the_reference_says(self) -> None:
        stat = (self.root / ".smoll/warehouse.duckdb").stat()
        if (stat.st_mtime_ns, stat.st_ino) == self.seen_raw:
            return
        self.seen_raw = (stat.st_mtime_ns, stat.st_ino)
        with self.project.connect(raw=True) as connection:
            found = {name: sorted(connection.execute(sql).fetchall()) for name, sql in RAW.items()}
        house = self.reference.warehouse
        raw = {"items": sorted(house.items.items()), "events": sorted(house.events.items())}
        assert found == {**raw, **house.content()}

    def _current(self) -> int:
        return int((self.root / ".smoll/releases/current").readlink().name)

    def _folder(self, number: int) -> Path:
        return self.root / ".smoll/releases" / str(number)

    def _released(self, number: int) -> Content:
        with duckdb.connect(str(self._folder(number) / "warehouse.duckdb"), read_only=True) as connection:
            return _read(connection)


def _read(connection: duckdb.DuckDBPyConnection) -> Content:
    return {name: sorted(connection.execute(f"select * from main.{name}").fetchall()) for name in RELEASED}


def _drive(examples: int, steps: int, number: int) -> None:
    """Let it run; the same number gives the same sequences."""
    plan = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    run_state_machine_as_test(seed(number)(Machine), settings=plan)


TELLING: tuple[tuple[str, dict[str, object]], ...] = (
    ("items_change", {"id": 1, "amount": 40}),
    ("run_selected", {"select": "source:shop"}),  # what the view's check looks at has changed
    ("run_selected", {"select": "events_total"}),  # and nobody may publish around it
    ("run", {}),
    ("a_check_is_edited", {"check": "items_good"}),
    ("run_selected", {"select": "events_total"}),  # another check than the one that ran
    ("an_item_goes_bad", {"id": 2}),
    ("an_event_happens", {"amount": BAD}),
    ("rollback", {"back": 0}),
    ("run", {}),  # one check allows it now, the other does not
    ("undo", {"back": 0}),
    ("the_events_are_mended", {}),
    ("run", {}),  # staged under the hold
    ("the_model_breaks_or_is_mended", {}),
    ("run", {}),
    ("resume", {}),
    ("a_good_day", {"amount": 7}),
)
"""Every step here is one that a careless rule of refusal would get wrong."""


def test_a_sequence_in_which_every_careless_rule_shows() -> None:
    machine = Machine()
    for name, values in TELLING:
        getattr(machine, name)(**values)
        machine.readers_see_what_the_reference_says()
        machine.every_release_is_one_state_that_was_checked()
        machine.the_working_warehouse_holds_what_the_reference_says()
    assert len(machine.seen) >= 4
    machine.teardown()


def test_smoll_and_a_simple_reference_agree_whatever_happens() -> None:
    _drive(4, 20, 1)


@pytest.mark.torture
@pytest.mark.parametrize("number", range(100, 110))
def test_they_agree_for_long(number: int) -> None:
    _drive(20, 40, number)
