"""What ``smoll run`` did outside of Dagster, told to Dagster: a sensor reads the ledger and reports each run once."""

from collections.abc import Iterable, Iterator, Set
from datetime import datetime
from typing import Any

import dagster as dg

from smoll.dagster.assets import (
    Checks,
    Facts,
    check_evaluation,
    check_result,
    dashboard_facts,
    node_facts,
    release_facts,
    stream_facts,
)
from smoll.dagster.names import Names
from smoll.dagster.session import ORIGIN
from smoll.model import RunResult
from smoll.project import ProjectConfig
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger

NAME = "smoll_history"
_SECONDS = 30
_AT_ONCE, _MANY = 20, 1000
Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


def history_sensor(config: ProjectConfig, names: Names, checks: Checks) -> dg.SensorDefinition:
    """The sensor; its cursor is the last run that was reported."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports what `smoll run` did outside of Dagster.",
    )
    def report(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        last = int(context.cursor or 0)
        runs = _runs_after(config, last)
        events = [event for run in runs for event in _events(config, names, checks, run)]
        told = _told(context.instance, {event.asset_key for event in events}, runs[0].started) if events else {}
        new = [_in_order(event, told[event.asset_key]) for event in events]
        return dg.SensorResult(
            asset_events=[event for event in new if event is not None],
            cursor=str(max([last, *(run.run for run in runs)])),
        )

    return report


def _runs_after(config: ProjectConfig, last: int) -> list[RunResult]:
    """The next runs that have ended, in order; none behind one that is still running."""
    with open_ledger(Layout(config.root).ledger) as ledger:
        return list(ledger.runs_after(last, _AT_ONCE)) if ledger else []


def _events(config: ProjectConfig, names: Names, checks: Checks, run: RunResult) -> Iterator[Event]:
    """What a run says of the assets that are still there; nothing where Dagster did it itself."""
    if run.origin.startswith(ORIGIN):
        return
    when: Facts = {"smoll/started": dg.MetadataValue.timestamp(run.started), "smoll/outside": "smoll run"}

    def happened(key: dg.AssetKey, facts: Facts) -> dg.AssetMaterialization:
        return dg.AssetMaterialization(key, metadata={**facts, **when})

    for stream in run.streams:
        if stream.ref in names.streams and stream.status != "failed":
            yield happened(names.streams[stream.ref], stream_facts(stream, (), run.run))
    for node in run.nodes:
        if node.id in names.nodes and node.status == "success":
            yield happened(names.nodes[node.id], node_facts(node, run.run))
    for check in run.checks:
        if check.id in checks and check.status != "skipped":
            yield check_evaluation(check_result(check, checks[check.id], run.run), when)
    if run.release.status in ("published", "staged"):
        yield happened(names.release, release_facts(config, run.release, run.run))
    for key, facts in dashboard_facts(names, run.release, run.run):
        yield happened(key, facts)


def _run_of(event: Event) -> int:
    return _number(event.metadata["smoll/run"])


def _number(value: dg.MetadataValue[Any]) -> int:
    assert isinstance(value, dg.IntMetadataValue) and value.value is not None
    return value.value


def _told(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey], since: datetime) -> dict[dg.AssetKey, set[int]]:
    """The runs since then that are known of each asset: Dagster's own, and what this sensor has reported.

    A daemon that is killed between events and cursor reports again.
    """
    found = {}
    for key in keys:
        wanted = dg.AssetRecordsFilter(key, after_timestamp=since.timestamp())
        records = [
            *instance.fetch_materializations(wanted, limit=_MANY).records,
            *instance.fetch_observations(wanted, limit=_MANY).records,
        ]
        events = [record.asset_materialization or record.asset_observation for record in records]
        runs = [event.metadata.get("smoll/run") for event in events if event]
        found[key] = {_number(run) for run in runs if run is not None}
    return found


def _in_order(event: Event, told: Set[int]) -> Event | dg.AssetObservation | None:
    """The event as it is to be reported; None where it has been.

    Dagster takes the last materialization that it is told of for what is there now. Where a run of its own has been
    there since, which happens when one waits for the other, the older one is reported as an observation.
    """
    run = _run_of(event)
    if run in told:
        return None
    if run > max(told, default=0):
        return event
    return (
        dg.AssetObservation(event.asset_key, metadata=event.metadata)
        if isinstance(event, dg.AssetMaterialization)
        else None
    )
