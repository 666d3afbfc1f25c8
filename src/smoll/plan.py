"""What a run will do: the streams of every source, the dbt project over them, and how a selection falls on both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import StreamPlan
from smoll.connectors import connector_for
from smoll.connectors.environment import find_program
from smoll.errors import LoadError, UsageError
from smoll.events import Listener, Message, ParseStarted
from smoll.load import Job
from smoll.load.rejects import rejected_table
from smoll.model import StreamRef, StreamState, TableRef
from smoll.project import ProgramBase
from smoll.state.layout import Layout
from smoll.warehouse import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig
    from smoll.transform import Dbt, SourceTable


def find_jobs(
    config: ProjectConfig,
    connection: DuckDBPyConnection,
    known: Sequence[StreamState] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> list[Job]:
    """Ask every connector for the source's streams.

    Parameters
    ----------
    known
        The streams of earlier runs, for sources that must be asked and cannot be reached.
    tell
        Takes a line where a connector has to be installed first, which takes its time.

    Raises
    ------
    LoadError
        A source that must be asked cannot be reached, or two streams would load into one table.
    """
    jobs = []
    for name, source in config.sources.items():
        connector = connector_for(source.kind)
        if isinstance(source, ProgramBase):
            with suppress(LoadError):  # its streams may be known; a load says what is wrong
                find_program(name, source, config.root, tell)
        streams = [state.ref.stream for state in known if state.ref.source == name]
        jobs.append(Job(name, source, connector, connector.discover(name, source, config.root, connection, streams)))
    _refuse_shared_tables(jobs)
    return jobs


def _refuse_shared_tables(jobs: Sequence[Job]) -> None:
    taken: dict[str, StreamRef] = {}
    for job in jobs:
        for plan in job.plans:
            key = str(plan.table).lower()
            if key in taken:
                raise LoadError(
                    f"{taken[key]} and {plan.ref} would both load into {plan.table}.",
                    hint="Give one of them another `table` or `schema`.",
                )
            taken[key] = plan.ref
    for job in jobs:
        for plan in job.plans:
            rejected = rejected_table(plan.table)
            if str(rejected).lower() in taken:
                raise LoadError(
                    f"{taken[str(rejected).lower()]} would load into {rejected}, which is for the rejected rows of "
                    f"{plan.ref}.",
                    hint="Give one of them another `table` or `schema`.",
                )


def parse_reload(jobs: Sequence[Job], names: Sequence[str], *, ranged: bool = False) -> frozenset[StreamRef]:
    """Turn SOURCE and SOURCE.STREAM into streams.

    Raises UsageError where one names nothing, or, with `ranged`, has no cursor by which a part of it could be read.
    """
    if ranged and not names:
        raise UsageError(
            "--from and --to need --reload.", hint="For example: smoll run --reload shop.rental --from 2024-01-01"
        )
    found: set[StreamRef] = set()
    for name in names:
        source, _, stream = name.partition(".")
        matching = {
            plan.ref for job in jobs for plan in job.plans if job.name == source and stream in ("", plan.ref.stream)
        }
        if not matching:
            known = ", ".join(str(plan.ref) for job in jobs for plan in job.plans)
            raise UsageError(f"--reload {name}: there is no such source or stream.", hint=f"There are: {known}.")
        found |= matching
    without = [plan for job in jobs for plan in job.plans if plan.ref in found and not _has_range(plan)]
    if ranged and without:
        raise UsageError(
            f"{without[0].ref} cannot be read by a range: --from and --to need `mode: append` or `merge`, and a "
            "`cursor` that limits what is read.",
            hint=f"Reload all of it: smoll run --reload {without[0].ref}",
        )
    return frozenset(found)


def _has_range(plan: StreamPlan) -> bool:
    return plan.by_cursor and plan.mode in ("append", "merge")


def open_transform(
    config: ProjectConfig,
    layout: Layout,
    settings: Settings,
    jobs: Sequence[Job],
    log: Callable[[str], None],
    emit: Listener,
    work: Path | None = None,
    known: Sequence[StreamState] = (),
) -> Dbt | None:
    """Write the generated sources and parse the dbt project; None where the project has none.

    Parameters
    ----------
    work
        Where dbt writes; by default the project's own folder for it.
    known
        The streams of earlier loads: of a source whose streams bring tables of their own, those too are dbt's sources.

    Raises
    ------
    TransformError
        dbt cannot parse it, or a check names what is not there.
    """
    from smoll.transform import declare, open_dbt, write_sources_file
    from smoll.transform.profile import make_profile, read_profile_name

    folder = config.transform_dir
    if not (folder / "dbt_project.yml").is_file():
        return None
    emit(ParseStarted())
    name = read_profile_name(folder / "dbt_project.yml")
    profile = make_profile(folder, name, layout.warehouse, settings, config.resources.threads)
    for note in profile.notes:
        emit(Message(note, "warning"))
    write_sources_file(folder, _source_tables(jobs, known))
    dbt = open_dbt(folder, work or layout.dbt, profile, config.dotenv, log)
    return dbt.with_checks(declare(config, dbt.graph, dbt.declared, [plan for job in jobs for plan in job.plans]))


def _source_tables(jobs: Sequence[Job], known: Sequence[StreamState]) -> list[SourceTable]:
    """The tables that dbt can read: of each stream, its rejected rows, and what came with it (nested data)."""
    from smoll.transform import SourceTable

    tables = []
    for job in jobs:
        own = {plan.ref for plan in job.plans}
        for plan in job.plans:
            tables.append(SourceTable(job.name, plan.table, f"Loaded by smoll ({plan.mode})."))
            if plan.options.on_bad_row == "quarantine":
                text = f"Rows of {plan.table.name} that smoll could not load, with the reason."
                tables.append(SourceTable(job.name, rejected_table(plan.table), text))
        if brings_tables(job):
            came = [state for state in known if state.ref.source == job.name and state.ref not in own]
            tables += [SourceTable(job.name, state.table, "Loaded by smoll, with its parent.") for state in came]
    return tables


def brings_tables(job: Job) -> bool:
    """True where streams of the source may bring tables that only a load makes known."""
    return any(getattr(plan.options, "nested", "") == "tables" for plan in job.plans)


def match_streams(dbt: Dbt | None, jobs: Sequence[Job], chosen: frozenset[str]) -> frozenset[StreamRef]:
    """The streams whose table one of the chosen dbt sources reads, whatever its name is there."""
    if dbt is None:
        raise UsageError("A selection needs a dbt project, and this project has none.", hint="Run without --select.")
    tables = {_key(node.table) for id, node in dbt.graph.nodes.items() if id in chosen and node.kind == "source"}
    return frozenset(plan.ref for job in jobs for plan in job.plans if _key(plan.table) in tables)


def _key(table: TableRef | None) -> str:
    return str(table).lower()
