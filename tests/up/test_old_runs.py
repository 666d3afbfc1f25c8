"""Old runs go, with all that they left; what assets are known by stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import dagster as dg
import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from smoll.up.instance import STORAGE_VARIABLE, storage_url, write_instance
from smoll.up.runs import cancel_runs, close_lost_runs, purge_runs
from support import Postgres


@dg.asset
def whole() -> int:
    print("a word from the run")
    return 1


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["monday", "tuesday"]))
def in_parts() -> int:
    return 2


@dg.op
def work() -> None:
    print("a word from the run")


@dg.job(executor_def=dg.in_process_executor)
def plain() -> None:
    work()


@pytest.fixture(params=["sqlite", "postgres"])
def instance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    if request.param == "postgres":
        database: Postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv(STORAGE_VARIABLE, storage_url(database.url))
    write_instance(tmp_path, 90, request.param == "postgres")
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def test_old_runs_go_and_the_newest_of_each_asset_stays(instance: DagsterInstance) -> None:
    job = plain.execute_in_process(instance=instance)
    first, second = (dg.materialize([whole], instance=instance) for _ in range(2))
    monday, monday_again, tuesday = (
        dg.materialize([in_parts], instance=instance, partition_key=key) for key in ("monday", "monday", "tuesday")
    )
    storage = Path(instance.storage_directory())
    assert purge_runs(instance, datetime.now(UTC) - timedelta(days=1)) == 0
    assert purge_runs(instance, soon()) == 3
    for gone in (job, first, monday):
        assert instance.get_run_by_id(gone.run_id) is None
        assert not (storage / gone.run_id).exists()
    for kept in (second, monday_again, tuesday):
        assert instance.get_run_by_id(kept.run_id) is not None
        assert instance.all_logs(kept.run_id)
    newest = instance.get_latest_materialization_event(AssetKey("whole"))
    assert newest is not None and newest.run_id == second.run_id
    known = instance.fetch_materializations(AssetKey("whole"), limit=10).records
    assert [record.run_id for record in known] == [second.run_id]
    assert instance.get_materialized_partitions(AssetKey("in_parts")) == {"monday", "tuesday"}
    assert purge_runs(instance, soon()) == 0


def test_in_sqlite_their_files_go_too(tmp_path: Path) -> None:
    write_instance(tmp_path, 90, in_postgres=False)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        run = plain.execute_in_process(instance=instance)
        files = tmp_path / "history" / "runs"
        assert list(files.glob(f"{run.run_id}*"))
        purge_runs(instance, soon())
        assert not list(files.glob(f"{run.run_id}*"))


def test_lost_runs_are_closed_and_those_of_others_are_not(instance: DagsterInstance) -> None:
    def begin(status: DagsterRunStatus, tags: dict[str, str]) -> str:
        run = instance.create_run_for_job(plain, status=DagsterRunStatus.NOT_STARTED, tags=tags)
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, run.job_name)
        instance.report_dagster_event(event, run.run_id)
        if status == DagsterRunStatus.STARTED:
            event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name)
            instance.report_dagster_event(event, run.run_id)
        return run.run_id

    served = {GRPC_INFO_TAG: "{}"}
    lost = [begin(DagsterRunStatus.STARTED, served), begin(DagsterRunStatus.STARTING, served)]
    now = datetime.now(UTC).timestamp()
    present, own = begin(DagsterRunStatus.STARTED, served), begin(DagsterRunStatus.STARTED, {})

    def status(run: str) -> DagsterRunStatus:
        found = instance.get_run_by_id(run)
        assert found
        return found.status

    assert close_lost_runs(instance, now) == 2
    assert [status(run) for run in lost] == [DagsterRunStatus.FAILURE] * 2
    assert [status(run) for run in (present, own)] == [DagsterRunStatus.STARTED] * 2
    later = begin(DagsterRunStatus.STARTED, served)
    assert close_lost_runs(instance, inf) == 2  # before any code server runs: whatever the clock says
    assert [status(run) for run in (present, later, own)] == [*[DagsterRunStatus.FAILURE] * 2, DagsterRunStatus.STARTED]
    present = begin(DagsterRunStatus.STARTED, served)
    cancel_runs(instance, seconds=0.5)  # it cannot be reached: its process is killed, and Dagster told
    assert [status(run) for run in (present, own)] == [DagsterRunStatus.CANCELED, DagsterRunStatus.STARTED]
