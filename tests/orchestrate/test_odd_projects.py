"""Projects and selections that are legal and odd: nothing is lost, named twice, or done in the wrong order."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

import smoll
from graph_support import FILES, MODELS, YML, checked, define, failures, last_run, materialized, metadata, run
from smoll.publish import released_nodes
from smoll.run import open_run
from smoll.warehouse import open_warehouse
from support import MakeProject, raw, released, write

ORDERS = "data/orders.csv"


def names(defs: dg.Definitions) -> set[str]:
    return {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}


def steps(result: dg.ExecuteInProcessResult) -> list[str]:
    return [str(event.step_key) for event in result.all_events if event.is_step_start]


def test_the_steps_keep_their_order_where_nothing_links_them(make_project: MakeProject) -> None:
    """A selection without what lies between them."""
    yml = YML + 'schedules: {part: {cron: "0 0 * * *", select: "source:shop stg_customers revenue"}}\n'
    models = {name: text for name, text in MODELS.items() if name != "schema.yml"}
    project = make_project(yml, FILES, models)
    assert run(define(project)).success
    write(project.config.root, {ORDERS: "id,customer,amount\n1,1,11\n"})
    result = run(define(project), job="part")
    assert result.success, failures(result)
    assert steps(result) == ["tests_load", "tests_build", "tests__release"]
    assert released(project, "select * from main.revenue") == [(1, 11)]


def test_a_check_before_a_load_of_the_same_run_does_not_count(make_project: MakeProject) -> None:
    """Whatever the order in which an orchestrator asks for the steps."""
    test = "select * from {{ source('shop', 'orders') }} where amount < 0"
    project = make_project(YML, FILES, {"marts/m": "select * from {{ source('shop', 'orders') }}"}, {"test": test})
    assert project.run().status == "ok"
    write(project.config.root, {ORDERS: "id,customer,amount\n1,1,-11\n"})
    with open_run(project.config, "", "test", wait=True, on_event=None) as steps:
        with open_warehouse(steps.layout.warehouse, steps.settings) as warehouse:
            jobs = steps.find_jobs(warehouse)
        dbt = steps.parse(jobs)
        assert dbt is not None
        assert steps.attempt(lambda run: run.build(dbt, dbt.everything())) and [
            check.status for check in steps.checks
        ] == ["pass"]
        with open_warehouse(steps.layout.warehouse, steps.settings) as warehouse:
            steps.load(warehouse, jobs)
        steps.publish(dbt, released_nodes(project.config, dbt))
    reasons = [refusal.reason for refusal in steps.release.refusals]
    assert reasons == ["has not run since run 2, which changed shop.orders"]


def test_an_asset_before_the_load_hides_no_stream(make_project: MakeProject) -> None:
    asset = (
        "import dagster as dg, pandas as pd\n\n@dg.asset(io_manager_key='warehouse')\n"
        "def aaa() -> pd.DataFrame:\n    return pd.DataFrame({'a': [1]})\n"
    )
    project = make_project(YML, {**FILES, "assets/gen.py": asset}, MODELS)
    result = run(define(project))
    assert result.success, failures(result)
    assert {"aaa", "shop/orders", "shop/customers", "web/visits", "tests/release"} <= set(materialized(result))
    (project.config.root / ORDERS).unlink()
    result = run(define(project))
    assert not result.success and "shop.orders" in failures(result)


def test_an_asset_that_raises_is_no_good_run(make_project: MakeProject) -> None:
    asset = (
        "import dagster as dg\n\n@dg.asset(io_manager_key='warehouse', deps=['revenue'])\n"
        "def bad():\n    raise ValueError('no')\n"
    )
    project = make_project(YML, {**FILES, "assets/bad.py": asset}, MODELS)
    assert not run(define(project)).success
    assert last_run(project).status == "failed" and "bad" in last_run(project).error


def test_a_project_that_loads_nothing(make_project: MakeProject) -> None:
    project = make_project("sources: {}\n", {}, {"m": "select 1 as a"})
    result = run(define(project))
    assert result.success, failures(result)
    assert released(project, "select * from main.m") == [(1,)]


def test_tables_that_a_database_gets_and_loses(make_project: MakeProject, tmp_path: Path) -> None:
    """A source with "*" is asked whenever Dagster loads the project; away, it is as it was."""
    database = tmp_path / "shop.db"

    def execute(sql: str) -> None:
        with closing(sqlite3.connect(database)) as db:
            db.executescript(sql)

    execute("CREATE TABLE one (a INTEGER); INSERT INTO one VALUES (1)")
    project = make_project(f'sources: {{db: {{kind: sql, url: "sqlite:///{database}", streams: {{"*": {{}}}}}}}}\n')
    assert run(define(project)).success
    execute("CREATE TABLE two (a INTEGER); INSERT INTO two VALUES (2)")
    defs = define(project)
    assert names(defs) == {"db/one", "db/two"} and run(defs).success
    assert raw(project, "select a from raw_db.two") == [(2,)]
    execute("DROP TABLE one")
    defs = define(project)
    assert names(defs) == {"db/two"} and run(defs).success
    database.rename(tmp_path / "away.db")
    assert names(define(project)) == {"db/two"}


def test_two_streams_with_days_of_their_own(make_project: MakeProject, tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    with closing(sqlite3.connect(database)) as db:
        db.executescript("CREATE TABLE a (d DATE); CREATE TABLE b (d DATE); INSERT INTO b VALUES ('2026-03-02')")
    streams = (
        "a: {mode: append, cursor: d, daily_from: 2026-01-01}, b: {mode: append, cursor: d, daily_from: 2026-03-01}"
    )
    project = make_project(f'sources: {{db: {{kind: sql, url: "sqlite:///{database}", streams: {{{streams}}}}}}}\n')
    result = run(define(project), job="tests", partition_key="2026-03-02")
    assert result.success, failures(result)
    assert raw(project, "select count(*) from raw_db.b") == [(1,)]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ({"type": "select 1 as a"}, {"type_"}),
        ({"a-b": "select 1 as a", "a_b": "select 2 as a"}, {"a_b", "t/a_b"}),
        ({"größe": "select 1 as a"}, {"gr__e"}),
        ({"orders": "{{ config(schema='shop') }} select * from {{ source('shop', 'orders') }}"}, {"t/shop/orders"}),
        ({"m": "{{ config(meta={'dagster': {'asset_key': 'a/b'}}) }} select 1 as a"}, {"a/b"}),
        ({"m": "{{ config(meta={'owner': 42}) }} select 1 as a"}, {"m"}),
        ({"m": "{{ config(meta={'owner': {'email': 'a@b.org'}}) }} select 1 as a"}, {"m"}),
        ({"d_v1": "select 1 as a", "d_v2": "select 2 as a", "d.yml": "models: [{name: d, versions: [{v: 1}, {v: 2}]}]"},
         {"d_v1", "d_v2"}),
    ],
)  # fmt: skip
def test_odd_names(make_project: MakeProject, models: dict[str, str], expected: set[str]) -> None:
    project = make_project(YML.split("release")[0], FILES, models)
    streams = {"shop/orders", "shop/customers", "web/visits"}
    expected = {name.replace("t/", "tests/", 1) if name.startswith("t/") else name for name in expected}
    defs = define(project)
    assert names(defs) == {*streams, *expected, "tests/release"}
    result = run(defs)
    assert result.success, failures(result)
    assert set(materialized(result)) == {*streams, *expected, "tests/release"}


def test_odd_streams(make_project: MakeProject) -> None:
    names_ = ("Order Details", "größe", "order-items", "order_items")
    streams = ", ".join(f'"{name}": {{path: data/orders.csv, table: t{place}}}' for place, name in enumerate(names_))
    project = make_project(f"sources: {{s: {{kind: files, streams: {{{streams}}}}}}}\n", FILES)
    defs = define(project)
    assert names(defs) == {"s/Order_Details", "s/gr__e", "s/order_items", "streams/s/order_items"}
    assert run(defs).success
    assert len(last_run(project).streams) == 4


def test_what_dbt_reads_is_looked_at(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of any name, links to packages, variables."""
    project = make_project("sources: {}\n", {}, {"m": "select 1 as a"})
    root = project.config.root
    assert names(define(project)) == {"m", "tests/release"}
    write(root, {"transform/models/logs/n.sql": "select 2 as a"})
    assert names(define(project)) == {"m", "n", "tests/release"}
    odd = "{{ config(enabled=env_var('WITH_N', 'yes') == 'yes') }} select 2 as a"
    write(root, {"transform/models/logs/n.sql": odd})
    assert names(define(project)) == {"m", "n", "tests/release"}
    monkeypatch.setenv("WITH_N", "no")
    assert names(define(project)) == {"m", "tests/release"}


def test_a_materialization_that_leaves_no_table(make_project: MakeProject) -> None:
    macro = (
        "{% materialization noop, default %}{% call statement('main') %}select 1{% endcall %}"
        "{{ return({'relations': []}) }}{% endmaterialization %}"
    )
    models = {"n": "{{ config(materialized='noop') }} select 1 as a", "m": "select 1 as a"}
    yml = 'sources: {}\nrelease: {select: "m"}\n'
    project = make_project(yml, {"transform/macros/noop.sql": macro}, models)
    result = run(define(project))
    assert result.success, failures(result)
    assert "dagster/row_count" not in metadata(result, "n")


def test_a_schedule_of_tests(make_project: MakeProject) -> None:
    yml = YML + (
        'schedules:\n  check: {cron: "0 0 * * *", select: "test_type:singular"}\n'
        '  build: {cron: "0 0 * * *", exclude: "resource_type:test resource_type:source"}\n'
    )
    project = make_project(yml, FILES, MODELS, {"positive": "select * from {{ ref('stg_orders') }} where amount < 0"})
    assert run(define(project)).success
    result = run(define(project), job="check")
    assert result.success and checked(result) == {"positive": True} and materialized(result) == ["tests/release"]
    result = run(define(project), job="build")
    assert checked(result) == {} and "revenue" in materialized(result)
    assert not result.success and "positive" in failures(result)  # the release wants them


def test_nothing_secret_in_a_tick(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER_TOKEN", "hunter2secret")
    yml = (
        'sources: {s: {kind: files, streams: {t: "data/${FOLDER_TOKEN}/*.csv"}}}\n'
        "sensors: {arrivals: {files: s, every: 1 minute}}\n"
    )
    project: smoll.Project = make_project(yml)
    defs, instance, cursor = define(project), dg.DagsterInstance.ephemeral(), None
    said = []
    for files in ({}, {"data/hunter2secret/a.csv": "a\n1\n"}, {}, {}):
        write(project.config.root, files)
        with dg.build_sensor_context(
            instance, cursor=cursor, definitions=defs, sensor_name="arrivals_sensor"
        ) as context:
            data = defs.resolve_sensor_def("arrivals_sensor").evaluate_tick(context)
        cursor = data.cursor
        said.append((len(data.run_requests or ()), data.skip_message or ""))
    assert [number for number, _ in said] == [0, 0, 1, 0], "the first file of all is a new one"
    assert "No file matches" in said[0][1] and "hunter2" not in str(said)
