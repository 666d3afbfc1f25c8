"""Schedules, sensors, partitions, the history of runs outside, and components, through Dagster's own interface."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import smoll
import smoll.dagster
from graph_support import (
    FILES,
    MODELS,
    TESTS,
    YML,
    dagster_home,
    define,
    failures,
    last_run,
    materialized,
    run,
)
from support import MakeProject, Postgres, raw, reopen, write

TRIGGERS = """
schedules:
  hourly: "0 * * * *"
  nightly: {cron: "30 2 * * *", timezone: Europe/Amsterdam, select: "source:shop+", exclude: stg_customers, retries: 2}
sensors:
  arrivals: {files: web, every: 1 minute}
  orders: {files: shop, exclude: stg_customers+}
  upstream: {release: ../upstream, select: revenue, every: 30 seconds}
"""


def keys_of(defs: dg.Definitions, job: str) -> set[str]:
    steps = defs.resolve_job_def(job).asset_layer.data
    return {key.to_user_string() for step in steps for key in step.assets_def.keys}


def tick(defs: dg.Definitions, name: str, instance: dg.DagsterInstance, cursor: str | None) -> tuple[Any, str | None]:
    """What a sensor says at a tick, and its cursor after it."""
    sensor = defs.resolve_sensor_def(name)
    with dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs, sensor_name=name) as context:
        data = sensor.evaluate_tick(context)
    return data, data.cursor


def test_schedules(make_project: MakeProject) -> None:
    models = {name: text for name, text in MODELS.items() if name != "schema.yml"}
    project = make_project(YML + TRIGGERS, FILES, models)
    defs = define(project)
    nightly, hourly = defs.resolve_schedule_def("nightly_schedule"), defs.resolve_schedule_def("hourly_schedule")
    assert nightly.cron_schedule == "30 2 * * *" and nightly.execution_timezone == "Europe/Amsterdam"
    assert hourly.execution_timezone == "UTC" and hourly.default_status == dg.DefaultScheduleStatus.RUNNING
    assert keys_of(defs, "nightly") == {"shop/orders", "shop/customers", "stg_orders", "revenue", "tests/release"}
    assert keys_of(defs, "hourly") == keys_of(defs, "tests")
    job = defs.resolve_job_def("nightly")
    assert job.tags["dagster/max_retries"] == "2"
    assert run(defs).success
    with dg.build_schedule_context(scheduled_execution_time=datetime(2026, 1, 5, 2, 30, tzinfo=UTC)) as context:
        data = nightly.evaluate_tick(context)
    assert len(data.run_requests or ()) == 1
    result = run(defs, job="nightly")
    assert result.success, failures(result)
    assert {str(stream.ref) for stream in last_run(project).streams} == {"shop.orders", "shop.customers"}


def test_a_selection_that_names_nothing_dbt_knows(make_project: MakeProject) -> None:
    yml = YML + 'schedules: {nightly: {cron: "0 3 * * *", select: "state:modified"}}\n'
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"smoll.yml:9.*selection"):
        define(make_project(yml, FILES, MODELS))


def test_a_sensor_of_files_waits_until_they_are_complete(make_project: MakeProject) -> None:
    project = make_project(YML + TRIGGERS, FILES, MODELS)
    defs, instance = define(project), dg.DagsterInstance.ephemeral()
    assert keys_of(defs, "arrivals") == {"web/visits", "page_views", "tests/release"}
    assert keys_of(defs, "orders") == {"shop/orders", "shop/customers", "stg_orders", "revenue", "tests/release"}
    data, cursor = tick(defs, "arrivals_sensor", instance, None)
    assert not data.run_requests and "to begin with" in str(data.skip_message)
    data, cursor = tick(defs, "arrivals_sensor", instance, cursor)
    assert not data.run_requests
    write(project.config.root, {"data/visits.csv": "customer,page\n1,a\n"})
    data, cursor = tick(defs, "arrivals_sensor", instance, cursor)
    assert not data.run_requests and "whether they are complete" in str(data.skip_message)
    write(project.config.root, {"data/visits.csv": "customer,page\n1,a\n2,c\n"})  # it was not
    data, cursor = tick(defs, "arrivals_sensor", instance, cursor)
    assert not data.run_requests
    data, cursor = tick(defs, "arrivals_sensor", instance, cursor)
    assert len(data.run_requests or ()) == 1
    data, cursor = tick(defs, "arrivals_sensor", instance, cursor)
    assert not data.run_requests
    (project.config.root / "data/visits.csv").unlink()
    data, _ = tick(defs, "arrivals_sensor", instance, cursor)
    assert not data.run_requests and "There is no file data/visits.csv" in str(data.skip_message)


def test_a_sensor_of_releases(make_project: MakeProject) -> None:
    other = make_project(YML, FILES, MODELS)
    project = make_project(
        YML
        + TRIGGERS.replace("../upstream", f"../{other.config.root.name}".replace('"', '\\"'))
        .replace("release: ..", 'release: "..')
        .replace(", select: revenue", '", select: revenue'),
        FILES,
        MODELS,
    )
    defs, instance = define(project), dg.DagsterInstance.ephemeral()
    data, cursor = tick(defs, "upstream_sensor", instance, None)
    assert not data.run_requests and "no release yet" in str(data.skip_message)
    assert other.run().release.number == 1
    data, cursor = tick(defs, "upstream_sensor", instance, cursor)
    assert len(data.run_requests or ()) == 1  # the first release of all is a new one
    data, cursor = tick(defs, "upstream_sensor", instance, cursor)
    assert not data.run_requests
    write(other.config.root, {"data/orders.csv": "id,customer,amount\n9,1,1\n"})
    assert other.run().release.number == 2
    data, cursor = tick(defs, "upstream_sensor", instance, cursor)
    assert len(data.run_requests or ()) == 1


def test_runs_outside_are_told_once(make_project: MakeProject) -> None:
    """With their real time, their rows and their checks; runs of Dagster's own are not told again."""
    project = make_project(YML, FILES, MODELS, TESTS)
    defs, instance = define(project), dg.DagsterInstance.ephemeral()
    outside = project.run()
    assert outside.status == "ok"
    data, cursor = tick(defs, "smoll_history", instance, None)
    for event in data.asset_events:
        instance.report_runless_asset_event(event)
    told = [event for event in data.asset_events if isinstance(event, dg.AssetMaterialization)]
    assert {event.asset_key.to_user_string() for event in told} == {
        "shop/orders", "shop/customers", "web/visits", "stg_orders", "stg_customers", "revenue", "page_views",
        "tests/release",
    }  # fmt: skip
    orders = next(event for event in told if event.asset_key.to_user_string() == "shop/orders")
    assert orders.metadata["dagster/row_count"].value == 3
    assert orders.metadata["smoll/started"].value == pytest.approx(outside.started.timestamp(), abs=0.001)
    checks = [event for event in data.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    assert len(checks) == 4 and all(check.passed for check in checks)
    data, again = tick(defs, "smoll_history", instance, cursor)
    assert data.asset_events == [] and again == cursor == "1"
    data, _ = tick(defs, "smoll_history", instance, None)  # the daemon was killed before it kept the cursor
    assert data.asset_events == []
    inside = run(defs, instance=instance)
    assert inside.success
    data, cursor = tick(defs, "smoll_history", instance, cursor)
    assert data.asset_events == [] and cursor == "2"


def test_a_run_outside_that_is_told_late_does_not_look_like_the_newest(make_project: MakeProject) -> None:
    """Dagster has run since: what was outside is an observation of what Dagster's own run has made anew."""
    project = make_project(YML, FILES, MODELS, TESTS)
    defs, instance = define(project), dg.DagsterInstance.ephemeral()
    assert project.run().status == "ok"
    write(project.config.root, {"data/orders.csv": "id,customer,amount\n1,1,10\n"})
    assert run(defs, ["shop/orders", "stg_orders"], instance=instance).success
    for _ in range(2):  # the daemon was killed before it kept the cursor
        data, _ = tick(defs, "smoll_history", instance, None)
        for event in data.asset_events:
            instance.report_runless_asset_event(event)
    orders, visits = dg.AssetKey(["shop", "orders"]), dg.AssetKey(["web", "visits"])

    def runs(records: Any) -> list[Any]:
        events = [record.asset_materialization or record.asset_observation for record in records.records]
        return [event.metadata["smoll/run"].value for event in events]

    assert runs(instance.fetch_materializations(orders, limit=10)) == [2]
    assert runs(instance.fetch_observations(orders, limit=10)) == [1]
    assert runs(instance.fetch_materializations(visits, limit=10)) == [1]
    assert runs(instance.fetch_observations(visits, limit=10)) == []
    check = dg.AssetCheckKey(dg.AssetKey("stg_orders"), "unique_stg_orders_id")
    (record,) = instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
    assert record.evaluation and record.evaluation.metadata["smoll/run"].value == 2


def test_a_run_outside_and_one_in_dagster_wait_for_each_other(make_project: MakeProject) -> None:
    """The second waits, and says for whom."""
    slow = {**MODELS, "marts/revenue": "{{ config(materialized='table') }} select 1 as customer, count(*) as total "
            "from range(15000) a, range(15000) b where (a.range * b.range) % 7 = 3"}  # fmt: skip
    project = make_project(YML, FILES, slow)
    root = project.config.root
    assert define(project)
    command = [sys.executable, "-m", "smoll", "--project", str(root), "run", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as outside:
        while reopen(project).status().running is None:
            time.sleep(0.01)
        with dagster_home(root) as instance:
            result = run(define(project), instance=instance)
            logs = [record.user_message for record in instance.all_logs(result.run_id)]
        assert outside.wait(60) == 0
    assert result.success
    assert any(
        "Waiting for the project" in line and f"pid {outside.pid}" in line and "smoll run" in line for line in logs
    )
    assert [entry.run for entry in reopen(project).runs()] == [2, 1]


def test_days_are_loaded_again(make_project: MakeProject, postgres: Postgres) -> None:
    """A stream with daily_from has a partition for each day: a backfill loads them again, and nothing else."""
    postgres.execute(
        "CREATE TABLE sale (id int, at timestamp, v int); INSERT INTO sale SELECT i, timestamp '2026-01-01' + "
        "interval '12 hours' * i, 1 FROM generate_series(0, 9) i"
    )
    yml = (
        f'sources:\n  shop: {{kind: sql, url: "{postgres.url}", streams: {{sale: {{mode: append, cursor: at, '
        "daily_from: 2026-01-01}}}\n  web: {kind: files, streams: {visits: data/visits.csv}}\n"
    )
    project = make_project(
        yml, FILES, {"daily": "select \"at\"::date as day, sum(v) as v from {{ source('shop', 'sale') }} group by 1"}
    )
    defs, instance = define(project), dg.DagsterInstance.ephemeral()
    everyday = run(defs, instance=instance)  # without a partition: by the cursor, as always
    assert everyday.success, failures(everyday)
    postgres.execute("UPDATE sale SET v = 5 WHERE at::date IN ('2026-01-02', '2026-01-03', '2026-01-04')")
    again = run(defs, ["shop/sale"], instance=instance, partition_key="2026-01-02")
    assert again.success, failures(again)
    days = 'select "at"::date::varchar, sum(v) from raw_shop.sale group by 1 order by 1'
    assert [tuple(row) for row in raw(project, days)][:4] == [
        ("2026-01-01", 2), ("2026-01-02", 10), ("2026-01-03", 2), ("2026-01-04", 2)
    ]  # fmt: skip
    spec = next(spec for spec in defs.resolve_all_asset_specs() if spec.key == dg.AssetKey(["shop", "sale"]))
    assert isinstance(spec.partitions_def, dg.DailyPartitionsDefinition)
    assert instance.get_materialized_partitions(spec.key) == {"2026-01-02"}
    tags = {"dagster/asset_partition_range_start": "2026-01-03", "dagster/asset_partition_range_end": "2026-01-04"}
    two = run(defs, ["shop/sale"], instance=instance, tags=tags)
    assert two.success, failures(two)
    assert [tuple(row) for row in raw(project, days)][:4] == [
        ("2026-01-01", 2), ("2026-01-02", 10), ("2026-01-03", 10), ("2026-01-04", 10)
    ]  # fmt: skip
    assert instance.get_materialized_partitions(spec.key) == {"2026-01-02", "2026-01-03", "2026-01-04"}
    postgres.execute("INSERT INTO sale VALUES (10, '2026-02-01', 7)")
    assert run(defs, ["shop/sale"], instance=instance).success
    assert raw(project, 'select count(*), max("at")::date::varchar from raw_shop.sale') == [(11, "2026-02-01")]


def test_a_component(make_project: MakeProject, tmp_path: Path) -> None:
    """A project in a ``dg`` project: it stays where it is."""
    project = make_project(YML, FILES, MODELS)
    from dagster.components.testing import create_defs_folder_sandbox

    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=smoll.dagster.ProjectComponent,
            defs_yaml_contents={
                "type": "smoll.dagster.ProjectComponent",
                "attributes": {"project": str(project.config.root)},
            },
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, smoll.dagster.ProjectComponent)
            result = run(defs)
    assert result.success and "revenue" in materialized(result)
    shutil.rmtree(tmp_path / "sandbox", ignore_errors=True)


def test_dg_finds_the_component() -> None:
    from importlib.metadata import entry_points

    (found,) = [point for point in entry_points(group="dagster_dg_cli.registry_modules") if point.name == "smoll"]
    assert found.load().ProjectComponent is smoll.dagster.ProjectComponent


def test_an_interrupt_ends_the_run_and_keeps_what_was_there(make_project: MakeProject) -> None:
    """As Dagster's own run worker does it: `dagster api execute_run`, ended by SIGTERM."""
    slow = {**MODELS, "marts/revenue": "{{ config(materialized='table') }} select 1 as customer, count(*) as total "
            "from range(600000) a, range(600000) b where (a.range * b.range) % 7 = 3"}  # fmt: skip
    project = make_project(YML, FILES, slow)
    root = project.config.root
    write(root, {"definitions.py": "import smoll.dagster\ndefs = smoll.dagster.definitions(__file__)\n"})
    assert define(project)
    with dagster_home(root) as instance:
        command = ["dagster", "job", "execute", "-f", str(root / "definitions.py"), "-d", str(root), "-j", "tests"]
        with subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:]], stderr=subprocess.DEVNULL
        ) as child:
            while not instance.get_runs() or "stg_orders: success" not in str(
                [record.user_message for record in instance.all_logs(instance.get_runs()[0].run_id)]
            ):
                assert child.poll() is None
                time.sleep(0.1)
            time.sleep(1)
            child.terminate()
            child.wait(20)
    assert reopen(project).status().running is None
    assert reopen(project).runs(1)[0].status == "interrupted"
