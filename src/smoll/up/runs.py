"""What becomes of Dagster's runs when their processes end, and when they are old. For processes that have Dagster.

A run is a process below the code server. When it dies alone, the code server says so. When both die nobody does: the
run would be running for ever, and the next one would wait for it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

CANCEL_SECONDS = 4.0
"""For runs to end themselves when all is stopped. What is still there then is killed."""
_LOST = "The run's process ended with the code server, or with `smoll up`."
_STOPPED = "`smoll up` was stopped."
_BATCH = 100


def cancel_runs(instance: DagsterInstance, seconds: float = CANCEL_SECONDS) -> None:
    """Ask what runs to cancel itself, wait for it a while, and leave none that looks as if it ran.

    What waits in the queue stays there.
    """
    running = list(_in_progress(instance))
    for run in running:
        try:
            instance.run_launcher.terminate(run.run_id)
        except Exception as error:  # whatever it is: the run is closed below, and its process killed
            print(f"Run {run.run_id} could not be asked to end: {error}", file=sys.stderr)
    end = time.monotonic() + seconds
    while any(_in_progress(instance)) and time.monotonic() < end:
        time.sleep(0.1)
    for run in _in_progress(instance):
        instance.report_run_canceled(run, message=f"{_STOPPED} The run did not end in time.")


def close_lost_runs(instance: DagsterInstance, before: float) -> int:
    """Call the runs failed that a code server was given before a time, that of the present one's start.

    Returns how many. Dagster tries them again where their tags say so.
    """
    lost = [run for run in _in_progress(instance) if (instance.get_run_stats(run.run_id).launch_time or 0) < before]
    for run in lost:
        instance.report_run_failed(run, message=_LOST)
    return len(lost)


def purge_runs(instance: DagsterInstance, before: datetime) -> int:
    """Remove runs that ended before a time, with their events, logs and intermediate files. Returns how many.

    A run with the newest event of an asset, or of a partition of one, stays however old it is: without it the asset
    would look as if it had never been built.
    """
    from dagster import RunsFilter
    from dagster._core.storage.dagster_run import FINISHED_STATUSES

    old = instance.get_run_ids(RunsFilter(statuses=list(FINISHED_STATUSES), updated_before=before))
    needed = set(_newest_of_assets(instance)) if old else set()
    doomed = [run for run in old if run not in needed]
    for run in doomed:
        _remove(instance, run)
    return len(doomed)


def _in_progress(instance: DagsterInstance) -> Iterator[DagsterRun]:
    """The runs that a code server was given, and that have not ended. Not those of somebody's own process."""
    from dagster import DagsterRunStatus, RunsFilter
    from dagster._core.storage.tags import GRPC_INFO_TAG

    working = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    return (run for run in instance.get_runs(RunsFilter(statuses=working)) if GRPC_INFO_TAG in run.tags)


def _newest_of_assets(instance: DagsterInstance) -> Iterator[str]:
    """The runs that gave assets, and partitions of assets, their newest events."""
    from dagster import AssetRecordsFilter, DagsterEventType

    for record in instance.get_asset_records():
        entry = record.asset_entry
        newest = (entry.last_materialization_record, entry.last_observation_record)
        yield from (event.run_id for event in newest if event)
        yield entry.last_run_id or ""
        partitions = instance.event_log_storage.get_latest_storage_id_by_partition(
            entry.asset_key, DagsterEventType.ASSET_MATERIALIZATION
        )
        storage_ids = list(partitions.values())
        for start in range(0, len(storage_ids), _BATCH):
            batch = storage_ids[start : start + _BATCH]
            found = instance.fetch_materializations(AssetRecordsFilter(entry.asset_key, storage_ids=batch), len(batch))
            yield from (event.run_id for event in found.records)


def _remove(instance: DagsterInstance, run: str) -> None:
    from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

    instance.delete_run(run)
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):  # which keeps an empty file for each run that ever was
        for suffix in ("", "-wal", "-shm"):
            Path(f"{storage.path_for_shard(run)}{suffix}").unlink(missing_ok=True)
    outputs = Path(instance.storage_directory()) / run  # what steps handed on, and what they printed
    shutil.rmtree(outputs, ignore_errors=True)
