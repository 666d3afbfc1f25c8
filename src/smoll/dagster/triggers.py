"""What makes a project run by itself in Dagster: schedules, and sensors of files and of other projects' releases."""

from collections.abc import Callable, Set
from pathlib import Path

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from smoll.connectors.files import fingerprint
from smoll.dagster.assets import Checks
from smoll.dagster.names import Names
from smoll.describe import Description, Selection
from smoll.errors import SmollError
from smoll.project import FilesSource, ProjectConfig, Sensor, Trigger
from smoll.release import current_release
from smoll.state.layout import Layout

Job = UnresolvedAssetJobDefinition
_NOTHING = "|"
"""The cursor of a sensor that has not seen anything yet."""
_Looks = Callable[[str | None], tuple[str | None, str]]
"""Given what was seen the last time, says what is seen now, and why it is nothing to run for ("" where it is)."""


def everything(config: ProjectConfig, names: Names, keys: Set[dg.AssetKey]) -> Job:
    """The job that runs the whole project."""
    return dg.define_asset_job(
        names.job,
        selection=dg.AssetSelection.assets(*sorted(keys)),
        description=f"Load, build, check and release {config.name}.",
        executor_def=dg.in_process_executor,
    )


def triggers(
    config: ProjectConfig,
    description: Description,
    names: Names,
    checks: Checks,
    every: Set[dg.AssetKey],
) -> tuple[list[Job], list[dg.ScheduleDefinition], list[dg.SensorDefinition]]:
    """The jobs, schedules and sensors of the project file. `every` is what they run without a selection."""
    jobs, schedules, sensors = [], [], []
    for name, schedule in config.schedules.items():
        job = _job(name, schedule, description.selections.get(name), names, checks, every)
        jobs.append(job)
        schedules.append(
            dg.ScheduleDefinition(
                name=f"{name}_schedule",
                job=job,
                cron_schedule=schedule.cron,
                execution_timezone=schedule.timezone,
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        )
    for name, sensor in config.sensors.items():
        job = _job(name, sensor, description.selections.get(name), names, checks, every)
        jobs.append(job)
        sensors.append(_sensor(config, name, sensor, job, _looks(config, sensor)))
    return jobs, schedules, sensors


def _job(
    name: str, trigger: Trigger, selected: Selection | None, names: Names, checks: Checks, every: Set[dg.AssetKey]
) -> Job:
    """The job of a schedule or sensor: what it selects, and the release."""
    selection: dg.AssetSelection = dg.AssetSelection.assets(*sorted(every))
    if selected is not None:
        keys = {names.streams[ref] for ref in selected.streams}
        keys |= {names.nodes[id] for id in selected.ids if id in names.nodes}
        keys = (keys | {names.release}) & every
        tests = sorted(checks[id].key for id in selected.ids if id in checks)
        selection = dg.AssetSelection.assets(*sorted(keys)).without_checks() | dg.AssetSelection.checks(*tests)
    return dg.define_asset_job(
        name,
        selection=selection,
        tags={"dagster/max_retries": str(trigger.retries)} if trigger.retries else None,
        executor_def=dg.in_process_executor,
    )


def _sensor(config: ProjectConfig, name: str, sensor: Sensor, job: Job, looks: _Looks) -> dg.SensorDefinition:
    """Runs the job for each thing that is seen anew. What was there from the beginning is nothing new."""

    @dg.sensor(
        name=f"{name}_sensor",
        job=job,
        minimum_interval_seconds=sensor.every_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        try:
            seen, why = looks(context.cursor)
        except SmollError as error:  # nothing is there yet, or cannot be reached: what comes then is new
            reason = dg.SkipReason(config.redact(str(error)))
            return dg.SensorResult(skip_reason=reason, cursor=context.cursor or _NOTHING)
        if seen is None or why:
            return dg.SensorResult(skip_reason=dg.SkipReason(why), cursor=seen)
        return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=seen)

    return look


def _looks(config: ProjectConfig, sensor: Sensor) -> _Looks:
    if sensor.files is not None:
        return _files(config, sensor.files)
    root = sensor.release_root(config.root)
    assert root is not None
    return _releases(root)


def _files(config: ProjectConfig, source: str) -> _Looks:
    """Files are new when they differ from those of the last run, and have not changed between two looks.

    The cursor is ``run|seen``: a file that is being written is waited for.
    """
    files = config.sources[source]
    assert isinstance(files, FilesSource)

    def look(cursor: str | None) -> tuple[str | None, str]:
        now = fingerprint(source, files, config.root)
        if cursor is None:
            return f"{now}|{now}", "These are the files to begin with."
        ran, _, seen = cursor.partition("|")
        if now == ran:
            return f"{ran}|{now}", "No file is new or has changed."
        if now != seen:
            return f"{ran}|{now}", "Files are new or have changed; the next look says whether they are complete."
        return f"{now}|{now}", ""

    return look


def _releases(root: Path) -> _Looks:
    def look(cursor: str | None) -> tuple[str | None, str]:
        number = current_release(Layout(root))
        now = str(number or 0)
        if number is None:
            return now, f"{root} has no release yet."
        if cursor is None:
            return now, f"Release {number} is the one to begin with."
        return now, "" if now != cursor else f"Release {number} is known already."

    return look
