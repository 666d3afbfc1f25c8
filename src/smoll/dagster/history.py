"""What ``smoll run`` did outside of Dagster, told to Dagster: a sensor reads the ledger and reports each run once."""

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from smoll.dagster.assets import (
    Facts,
    check_evaluation,
    check_names,
    check_result,
    node_facts,
    release_facts,
    stream_facts,
)
from smoll.dagster.names import Names
from smoll.dagster.session import ORIGIN
from smoll.describe import Description
from smoll.model import RunResult
from smoll.project import ProjectConfig
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger

NAME = "smoll_history"
_SECONDS = 30
_AT_ONCE = 20
Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


def history_sensor(config: ProjectConfig, description: Description, names: Names) -> dg.SensorDefinition:
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
        events = [event for run in runs for event in _events(config, description, names, run)]
        told = _told(context.instance, {event.asset_key for event in events})
        new = [event for event in events if _run_of(event) > told.get(event.asset_key, 0)]
        return dg.SensorResult(asset_events=new, cursor=str(max([last, *(run.run for run in runs)])))

    return report


def _runs_after(config: ProjectConfig, last: int) -> list[RunResult]:
    """The next runs that have ended, in order; none behind one that is still running."""
    with open_ledger(Layout(config.root).ledger) as ledger:
        return list(ledger.runs_after(last, _AT_ONCE)) if ledger else []


def _events(config: ProjectConfig, description: Description, names: Names, run: RunResult) -> Iterator[Event]:
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
    known = check_names(description, names)
    for check in run.checks:
        if check.id in known and check.status != "skipped":
            result = check_result(check, *known[check.id], run.run)
            yield check_evaluation(result, when)
    if run.release.status in ("published", "staged"):
        yield happened(names.release, release_facts(config, run.release, run.run))


def _run_of(event: Event) -> int:
    return _number(event.metadata["smoll/run"])


def _number(value: dg.MetadataValue[Any]) -> int:
    assert isinstance(value, dg.IntMetadataValue) and value.value is not None
    return value.value


def _told(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, int]:
    """The last run that is known of each asset: a daemon that is killed between events and cursor reports again."""
    found = {}
    for key, record in instance.get_latest_materialization_events(list(keys)).items():
        event = record.asset_materialization if record else None
        run = event.metadata.get("smoll/run") if event else None
        if run is not None:
            found[key] = _number(run)
    return found
