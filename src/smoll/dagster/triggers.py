"""What makes a project run by itself in Dagster: schedules, and sensors of files and of other projects' releases."""

from collections.abc import Callable, Set
from pathlib import Path

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from smoll.connectors.files import fingerprint
from smoll.dagster.assets import check_names
from smoll.dagster.names import Names
from smoll.describe import Description
from smoll.errors import SmollError
from smoll.project import FilesSource, ProjectConfig, Sensor, Trigger, seconds_of
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
    everything: Set[dg.AssetKey],
) -> tuple[list[Job], list[dg.ScheduleDefinition], list[dg.SensorDefinition]]:
    """The jobs, schedules and sensors of the project file. `everything` is what they run without a selection."""
    jobs, schedules, sensors = [], [], []
    for name, schedule in config.schedules.items():
        job = _job(name, schedule, description, names, everything)
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
        job = _job(name, sensor, description, names, everything)
        jobs.append(job)
        sensors.append(_sensor(config, name, sensor, job, _looks(config, sensor)))
    return jobs, schedules, sensors


def _job(name: str, trigger: Trigger, description: Description, names: Names, everything: Set[dg.AssetKey]) -> Job:
    """The job of a schedule or sensor: what it selects, and the release."""
    selected = description.selections.get(name)
    selection: dg.AssetSelection = dg.AssetSelection.assets(*sorted(everything))
    if selected is not None:
        keys = {names.streams[ref] for ref in selected.streams}
        keys |= {names.nodes[id] for id in selected.ids if id in names.nodes}
        keys = (keys & everything) | ({names.release} & everything)
        known = check_names(description, names)
        checks = sorted(dg.AssetCheckKey(*known[id]) for id in selected.ids if id in known)
        selection = dg.AssetSelection.assets(*sorted(keys)).without_checks() | dg.AssetSelection.checks(*checks)
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
        minimum_interval_seconds=seconds_of(sensor.every),
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
    assert sensor.release is not None
    return _releases(config.root / sensor.release)


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
        return (now, "") if now != cursor else (now, f"Release {number} is known already.")

    return look
