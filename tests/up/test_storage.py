"""Dagster's storage with kept connections: the same files, far fewer openings, and the web page hears of events."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events.log import EventLogEntry
from sqlalchemy import event
from sqlalchemy.engine import Engine

import smoll
from smoll.up.instance import write_instance
from smoll.up.storage import KeptSqliteStorage

PLAIN = "telemetry: {enabled: false}\n"
KEPT = f"{PLAIN}storage: {{custom: {{module: smoll.up.storage, class: KeptSqliteStorage, config: {{base_dir: %s}}}}}}\n"


@dg.multi_asset(
    specs=[dg.AssetSpec(f"asset_{number}") for number in range(10)],
    check_specs=[dg.AssetCheckSpec("check", asset=f"asset_{number}") for number in range(10)],
)
def many() -> object:
    for number in range(10):
        yield dg.MaterializeResult(asset_key=f"asset_{number}")
        yield dg.AssetCheckResult(asset_key=f"asset_{number}", check_name="check", passed=number != 3)


def open_instance(home: Path, configuration: str) -> dg.DagsterInstance:
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(configuration.replace("%s", str(home)), encoding="utf-8")
    return dg.DagsterInstance.from_config(str(home))


def run(instance: dg.DagsterInstance) -> str:
    defs = dg.Definitions(assets=[many], executor=dg.in_process_executor)
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, raise_on_error=False)
    return result.run_id


def seen(instance: dg.DagsterInstance, run_id: str) -> tuple[object, ...]:
    """What the storage says of a run and of an asset: each from another file."""
    found = instance.get_run_by_id(run_id)
    newest = instance.get_latest_materialization_event(dg.AssetKey("asset_3"))
    assert found is not None and newest is not None
    kinds = [log.dagster_event_type for log in instance.all_logs(run_id)]
    return found.status, newest.run_id, kinds, instance.get_runs_count(), len(instance.get_asset_keys())


@pytest.mark.parametrize(("before", "after"), [(PLAIN, KEPT), (KEPT, PLAIN)])
def test_the_files_are_dagsters_own(tmp_path: Path, before: str, after: str) -> None:
    """What one has written, the other reads, and goes on with."""
    with open_instance(tmp_path / "home", before) as first:
        one = run(first)
        known = seen(first, one)
    assert not list((tmp_path / "home" / "history").rglob("*-wal"))  # closed, and nothing beside the files
    with open_instance(tmp_path / "home", after) as second:
        assert (type(second.run_storage).__module__ == KeptSqliteStorage.__module__) is (after == KEPT)
        assert seen(second, one) == known
        assert seen(second, run(second))[3] == 2


def test_few_openings(tmp_path: Path) -> None:
    opened: list[str] = []

    def note(connection: object, record: object) -> None:
        opened.append("")

    event.listen(Engine, "connect", note)
    try:
        with open_instance(tmp_path, KEPT) as instance:
            run(instance)
            count = len(opened)
            run(instance)
            assert len(opened) - count <= 3  # the file of the new run
    finally:
        event.remove(Engine, "connect", note)


def test_threads_and_processes(tmp_path: Path) -> None:
    """Two instances over the same files, as webserver and run are, and several threads."""
    with open_instance(tmp_path, KEPT) as one, open_instance(tmp_path, KEPT) as other:
        job = dg.Definitions(assets=[many]).resolve_implicit_global_asset_job_def()
        runs = [one.create_run_for_job(job) for _ in range(3)]

        def work(instance: dg.DagsterInstance, name: str) -> None:
            for number in range(20):
                instance.report_engine_event(f"{name} {number}", runs[number % 3])
                instance.report_runless_asset_event(dg.AssetMaterialization("asset_3"))
                instance.run_storage.set_cursor_values({f"{name} {number}": "seen"})

        workers = [(one, "a"), (one, "b"), (other, "c"), (other, "d")]
        with ThreadPoolExecutor(4) as pool:
            assert [done.result(60) for done in [pool.submit(work, *each) for each in workers]] == [None] * 4
        said = [log.message for run in runs for log in one.all_logs(run.run_id)]
        names = {f"{name} {number}" for _, name in workers for number in range(20)}
        assert names <= set(said)
        assert len(one.fetch_materializations(dg.AssetKey("asset_3"), limit=100).records) == 80
        assert set(other.run_storage.get_cursor_values(names)) == names


def test_the_web_page_hears_of_events(tmp_path: Path) -> None:
    """It waits for a change of the run's file."""
    with open_instance(tmp_path, KEPT) as web, open_instance(tmp_path, KEPT) as worker:
        first = worker.create_run_for_job(dg.Definitions(assets=[many]).resolve_implicit_global_asset_job_def())
        heard: list[str] = []
        enough = threading.Event()

        def hear(entry: EventLogEntry, cursor: str) -> None:
            heard.append(entry.message)
            if entry.message == "3":
                enough.set()

        web.watch_event_logs(first.run_id, None, hear)
        for number in range(4):
            worker.report_engine_event(str(number), first)
        assert enough.wait(20)
        web.end_watch_event_logs(first.run_id, hear)
        assert heard[-4:] == ["0", "1", "2", "3"]


def test_the_history_comes_back_from_a_backup_that_was_made_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "smoll.yml").write_text("name: history\n")
    home = tmp_path / "project" / ".smoll" / "dagster"
    home.mkdir(parents=True)
    write_instance(home, 30, in_postgres=False)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        one = run(instance)
        known = seen(instance, one)
        assert list(home.rglob("*-wal"))  # nothing is closed
        made = smoll.open_project(tmp_path / "project").backup(tmp_path / "b.tar.zst")
        run(instance)
    shutil.rmtree(tmp_path / "project")
    home = smoll.restore(made.place, tmp_path / "other").root / ".smoll" / "dagster"
    write_instance(home, 30, in_postgres=False)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert seen(instance, one) == known
        assert seen(instance, run(instance))[3] == 2
    assert not (tmp_path / "project").exists()
