"""What begins without anybody on the page: schedules, sensors, backfills; and runs in a shell, which the page shows.

All of them are set off at the beginning, since each takes its time: a minute comes when it comes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import smoll
from graph_support import FILES, MODELS, TESTS, YML
from support import raw, released, write, write_project
from up.launching import Page, facts, page_of
from up.running import wait_until

TILL = """\
  till:
    kind: sql
    url: sqlite:///till.db
    streams: {sale: {mode: merge, key: id, cursor: sold_on, daily_from: 2026-01-01}}
"""
TRIGGERS = """
schedules: {minutely: {cron: "* * * * *", timezone: Europe/Amsterdam, select: "source:shop+", retries: 2}}
sensors: {arrivals: {files: web, every: 10 seconds}}
"""
DAYS = ["2026-01-02", "2026-01-03", "2026-01-04"]


@dataclass(frozen=True)
class Begun:
    """The project, its page, and what was begun on it: a run in a shell, and a backfill."""

    root: Path
    page: Page
    outside: int
    backfill: str

    def open(self) -> smoll.Project:
        return smoll.open_project(self.root)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    root = tmp_path_factory.mktemp("triggers") / "project"
    root.mkdir()
    yml = YML.replace("data/visits.csv", "data/visits*.csv").replace("release:", f"{TILL}release:") + TRIGGERS
    write_project(root, yml, FILES, MODELS, TESTS)
    with sqlite3.connect(root / "till.db") as till:
        till.execute("CREATE TABLE sale (id integer PRIMARY KEY, sold_on text, amount integer)")
        till.executemany("INSERT INTO sale VALUES (?, ?, 1)", [(i, f"2026-01-0{1 + i // 2}") for i in range(12)])
    with page_of(root) as page:
        outside = smoll.open_project(root).run()
        assert outside.status == "ok"
        with sqlite3.connect(root / "till.db") as till:
            till.execute("UPDATE sale SET amount = 5")
        backfill = page.backfill(["till/sale"], DAYS)
        wait_until(lambda: page.ticks("arrivals_sensor")[-1]["status"] == "SKIPPED")  # it has looked a first time
        write(root, {"data/visits-2.csv": "customer,page\n2,c\n"})
        yield Begun(root, page, outside.run, backfill)


def test_a_sensor_of_files_fires(begun: Begun) -> None:
    page = begun.page
    wait_until(lambda: page.runs(dagster__sensor_name="arrivals_sensor"), 60)
    (run,) = page.runs(dagster__sensor_name="arrivals_sensor")
    assert page.end_of(run) == "SUCCESS", page.log(run)
    assert set(page.materialized(run)) == {"web/visits", "page_views", "tests/release"}
    assert released(begun.open(), "select * from main.page_views order by page") == [("a", 1), ("b", 1), ("c", 1)]
    assert begun.open().release().manifest.number > 1


def test_days_of_a_stream_are_loaded_again(begun: Begun) -> None:
    page = begun.page
    wait_until(lambda: page.runs(dagster__backfill=begun.backfill), 60)
    (run,) = page.runs(dagster__backfill=begun.backfill)
    assert page.end_of(run) == "SUCCESS", page.log(run)
    assert page.materialized(run) == ["till/sale"] * len(DAYS)
    sales = raw(begun.open(), "select sold_on, count(*), sum(amount) from raw_till.sale group by 1 order by 1")
    assert [tuple(row) for row in sales] == [
        ("2026-01-01", 2, 2), *((day, 2, 10) for day in DAYS), ("2026-01-05", 2, 2), ("2026-01-06", 2, 2)
    ]  # fmt: skip
    assert page.asset("till/sale")["days"]["ranges"] == [
        {"status": "MATERIALIZED", "startKey": DAYS[0], "endKey": DAYS[-1]}
    ]


def test_a_schedule_ticks(begun: Begun) -> None:
    page = begun.page
    wait_until(lambda: page.runs(dagster__schedule_name="minutely_schedule"), 75)
    run = page.runs(dagster__schedule_name="minutely_schedule")[-1]
    assert page.end_of(run) == "SUCCESS", page.log(run)
    assert page.run(run)["tags"]["dagster/max_retries"] == "2"
    assert set(page.materialized(run)) == {
        "shop/orders", "shop/customers", "stg_orders", "stg_customers", "revenue", "tests/release"
    }  # fmt: skip


def test_a_backfill_says_that_it_has_ended(begun: Begun) -> None:
    wait_until(lambda: begun.page.backfill_status(begun.backfill) == "COMPLETED_SUCCESS", 60)


@pytest.mark.parametrize(("asset", "rows"), [("shop/orders", 3), ("web/visits", 2)])
def test_a_run_in_a_shell_is_shown_once(begun: Begun, asset: str, rows: int) -> None:
    wait_until(lambda: begun.outside in _runs(begun.page, asset), 60)
    assert len(set(_runs(begun.page, asset))) == len(_runs(begun.page, asset))
    (told,) = [one for one in _events(begun.page, asset) if one["smoll/run"] == begun.outside]
    assert told["smoll/outside"] == "smoll run" and told["dagster/row_count"] == rows


def _events(page: Page, asset: str) -> list[dict[str, Any]]:
    """What the asset's page shows; an observation is a run that was told after one of Dagster's."""
    shown = page.asset(asset)
    return [facts(one) for one in [*shown["materializations"], *shown["observations"]]]


def _runs(page: Page, asset: str) -> list[int]:
    return [event["smoll/run"] for event in _events(page, asset)]
