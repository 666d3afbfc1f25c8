"""Runs that somebody begins on Dagster's page: the whole project, a part, two at once, with a failing check, ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import smoll
from graph_support import FILES, MODELS, TESTS, YML
from support import released, write, write_project
from up.launching import Gate, Page, facts, page_of
from up.running import wait_until
from web_server import serve

ASSETS = {
    "shop/orders", "shop/customers", "web/visits", "stg_orders", "stg_customers", "revenue", "page_views",
    "tests/release",
}  # fmt: skip
CHECKS = {
    "unique_stg_orders_id", "not_null_stg_orders_amount", "relationships_revenue_customer__id__ref_stg_customers_",
    "no_negative_amount",
}  # fmt: skip
VISITS = ["web/visits"]


@dataclass(frozen=True)
class Served:
    """The project, its page, and the gate before the file of its stream ``web.visits``."""

    root: Path
    page: Page
    gate: Gate

    def open(self) -> smoll.Project:
        return smoll.open_project(self.root)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("runs") / 'it\'s a "project"'
    root.mkdir()
    gate = Gate()
    with serve() as web:
        visits = web.put("/visits.csv", FILES["data/visits.csv"], fault=gate)
        files = {name: text for name, text in FILES.items() if "visits" not in name}
        write_project(root, YML.replace("data/visits.csv", f'"{visits}"'), files, MODELS, TESTS)
        with page_of(root) as page:
            yield Served(root, page, gate)


def test_the_whole_project(served: Served) -> None:
    page = served.page
    run = page.launch(job="tests")
    assert page.end_of(run) == "SUCCESS", page.log(run)
    assert set(page.materialized(run)) == ASSETS
    assert page.checked(run) == dict.fromkeys(CHECKS, True)
    assert served.open().release().manifest.number == 1
    assert released(served.open(), "select * from main.revenue order by customer") == [(1, 30), (2, 5)]
    orders = page.asset("stg_orders")
    (made,) = orders["materializations"]
    columns = {column["name"]: column["description"] for column in facts(made)["dagster/column_schema"]["columns"]}
    assert made["runId"] == run and columns["id"] == "The order."
    assert {check["name"]: check["last"]["status"] for check in orders["checks"]["checks"]} == dict.fromkeys(
        CHECKS - {"relationships_revenue_customer__id__ref_stg_customers_"}, "SUCCEEDED"
    )
    (made,) = page.asset("revenue")["materializations"]
    assert facts(made)["dagster/row_count"] == 2 and facts(made)["smoll/run"] == 1


def test_what_is_selected_and_nothing_else(served: Served) -> None:
    page = served.page
    run = page.launch(["shop/orders", "stg_orders"])
    assert page.end_of(run) == "SUCCESS", page.log(run)
    assert page.materialized(run) == ["shop/orders", "stg_orders"]
    last = served.open().runs(1)[0]
    assert [str(stream.ref) for stream in last.streams] == ["shop.orders"]
    assert [node.name for node in last.nodes] == ["stg_orders"]
    assert last.origin == f"dagster:{run}" and last.release.number is None


def test_runs_wait_for_each_other(served: Served) -> None:
    """One of Dagster's in the queue; one in a shell, and one of Dagster's that meets it, each saying for whom."""
    page, gate = served.page, served.gate
    with gate.shut():
        first = page.launch(VISITS)
        gate.wait_for_somebody()
        second = page.launch(VISITS)
        with _shell(served.root) as shell:
            said = shell.stderr.readline() if shell.stderr else ""
            assert said.startswith("waiting: ") and f"(Dagster run {first[:8]} (1 asset))" in said, said
            wait_until(lambda: page.status(second) == "QUEUED")
            gate.let_one_through()
            assert page.end_of(first) == "SUCCESS", page.log(first)
            gate.wait_for_somebody()
            wait_until(lambda: f"pid {shell.pid}" in page.log(second), 60)
            assert page.status(second) == "STARTED"
            gate.let_one_through()
            shell.communicate(timeout=60)
        assert shell.returncode == 0
        gate.let_one_through()
        assert page.end_of(second) == "SUCCESS", page.log(second)
    assert [entry.origin for entry in served.open().runs(3)] == [f"dagster:{second}", "", f"dagster:{first}"]


def test_a_run_that_is_terminated(served: Served) -> None:
    page = served.page
    with served.gate.shut():
        run = page.launch(VISITS)
        served.gate.wait_for_somebody()
        asked = time.monotonic()
        page.terminate(run)
        assert page.end_of(run) == "CANCELED", page.log(run)
        assert time.monotonic() - asked < 15
        wait_until(lambda: served.open().status().running is None, 5)
    assert served.open().runs(1)[0].status == "interrupted"
    after = page.launch(VISITS)
    assert page.end_of(after) == "SUCCESS", page.log(after)


def test_a_failing_check_and_a_second_try(served: Served) -> None:
    """The second try begins where the first has failed, and is the last."""
    page, before = served.page, served.open().release().manifest.number
    write(served.root, {"data/orders.csv": "id,customer,amount\n1,1,10\n1,1,20\n"})
    first = page.launch(job="tests", tags={"dagster/max_retries": "1"})
    assert page.end_of(first) == "FAILURE"
    assert page.checked(first)["unique_stg_orders_id"] is False
    assert "tests/release" not in page.materialized(first)
    wait_until(lambda: page.runs(dagster__parent_run_id=first), 30)
    (second,) = page.runs(dagster__parent_run_id=first)
    assert page.end_of(second) == "FAILURE"
    assert set(page.run(second)["steps"]) == {"tests_build", "tests__release"}
    assert "shop/orders" in page.materialized(first) and "shop/orders" not in page.materialized(second)
    checks = {check["name"]: check["last"]["status"] for check in page.asset("stg_orders")["checks"]["checks"]}
    assert checks["unique_stg_orders_id"] == "FAILED" and checks["no_negative_amount"] == "SUCCEEDED"
    assert served.open().release().manifest.number == before
    assert page.run(second)["tags"]["dagster/will_retry"] == "false"


@contextmanager
def _shell(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A `smoll run`, ended with the block."""
    command = [sys.executable, "-m", "smoll", "--project", str(root), "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
