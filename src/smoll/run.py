"""One run: load, build, check, release. The only place that knows the order of the steps.

It knows no orchestrator and no screen: whoever wants to see something listens to its events.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from smoll.errors import Interrupted, SmollError, UsageError
from smoll.events import (
    Event,
    Listener,
    LockWaiting,
    Message,
    Recovered,
    ReleaseFinished,
    RunFinished,
    RunStarted,
    StreamFinished,
    TransformStarted,
)
from smoll.interrupts import noticing_interrupts, stop_if
from smoll.load import Job, load_sources
from smoll.model import (
    CheckResult,
    NodeResult,
    ReleaseOutcome,
    RunResult,
    RunStatus,
    StreamRef,
    StreamResult,
    TableRef,
    map_texts,
)
from smoll.plan import brings_tables, find_jobs, match_streams, open_transform, parse_reload
from smoll.publish import publish, released_nodes
from smoll.release import clean
from smoll.state.layout import Layout
from smoll.state.ledger import Ledger, open_ledger
from smoll.state.lock import project_lock
from smoll.state.log import RunLog, open_log
from smoll.transform import HOOK
from smoll.warehouse import Settings, engine_settings, identify, open_warehouse, set_run

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig
    from smoll.transform import Dbt


@dataclass(frozen=True)
class Request:
    """What the caller wants of a run; ``select`` and ``exclude`` in dbt's syntax, ``reload`` as SOURCE[.STREAM].

    ``since`` and ``until`` limit the reload to a range of the cursor.
    """

    select: str = ""
    exclude: str = ""
    full_refresh: bool = False
    reload: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None

    @property
    def span(self) -> tuple[str | None, str | None] | None:
        """The range of the cursor that is to be loaded again; None for everything."""
        return None if self.since is None and self.until is None else (self.since, self.until)

    def __str__(self) -> str:
        parts = [f"--select {self.select}" if self.select else "", f"--exclude {self.exclude}" if self.exclude else ""]
        parts += ["--full-refresh" if self.full_refresh else "", *(f"--reload {name}" for name in self.reload)]
        parts += [f"--from {self.since}" if self.since is not None else ""]
        parts += [f"--to {self.until}" if self.until is not None else ""]
        return " ".join(part for part in parts if part)


@dataclass
class _Progress:
    """What the run has come to so far; complete or not, it becomes the `RunResult`."""

    run: int
    started: datetime
    begun: float
    streams: tuple[StreamResult, ...] = ()
    nodes: tuple[NodeResult, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    release: ReleaseOutcome = field(default_factory=lambda: ReleaseOutcome("none"))


@dataclass(frozen=True)
class _Session:
    """The things that every step of a run works with."""

    config: ProjectConfig
    layout: Layout
    settings: Settings
    ledger: Ledger
    log: RunLog
    emit: Listener


def run_project(config: ProjectConfig, request: Request, *, wait: bool, on_event: Listener | None) -> RunResult:
    """Run the project once.

    Parameters
    ----------
    wait
        Wait for another run of the project (True) or raise LockedError (False).
    on_event
        Called with every event, one at a time.

    Returns
    -------
    RunResult
        Also where a load, a model or a check failed, where the release was refused, and after Ctrl-C.

    Raises
    ------
    UsageError
        The selection or a reload names nothing.
    LockedError, StateError
        The project is taken, or its state cannot be read or written. Nothing was changed.
    """
    layout = Layout(config.root)
    layout.prepare()
    emit = _one_at_a_time(on_event)
    command = f"smoll run {request}".strip()
    with (
        project_lock(layout.lock, command, wait=wait, on_wait=lambda holder: emit(LockWaiting(holder))),
        open_ledger(layout.ledger, create=True) as ledger,
    ):
        assert ledger is not None
        return _run_locked(config, layout, ledger, request, emit)


def _run_locked(config: ProjectConfig, layout: Layout, ledger: Ledger, request: Request, emit: Listener) -> RunResult:
    settings = engine_settings(config.resources.memory, config.resources.threads, layout.tmp)
    recovered = _recover(layout, ledger)
    run, renewed = _take_number(layout, settings, ledger)
    progress = _Progress(run, datetime.now(UTC), time.monotonic())
    with open_log(layout.logs, run, config.redact) as log:
        listener = _redacting(config.redact, _both(log.event, emit))
        session = _Session(config, layout, settings, ledger, log, listener)
        ledger.start_run(run, str(request))
        listener(RunStarted(run, str(request)))
        for message in [*recovered, *renewed]:
            listener(Recovered(message))
        status, error = _steps(session, request, progress)
        result = _finish(session, progress, request, status, error)
        listener(RunFinished(result))
    if isinstance(error, UsageError):
        raise UsageError(config.redact(error.message), hint=config.redact(error.hint)) from error
    return result


def _steps(session: _Session, request: Request, progress: _Progress) -> tuple[RunStatus, BaseException | None]:
    """Do the steps in order; say how it ended. Foreign exceptions pass: they are bugs, with a log of their own."""
    with noticing_interrupts() as interrupted:
        try:
            return _load_build_release(session, request, progress, interrupted), None
        except (KeyboardInterrupt, Interrupted) as error:
            return "interrupted", error
        except BaseException as error:
            if interrupted.is_set():
                return "interrupted", error
            if isinstance(error, SmollError):
                return "failed", error
            _finish(session, progress, request, "failed", error)
            raise


def _load_build_release(
    session: _Session, request: Request, progress: _Progress, interrupted: threading.Event
) -> RunStatus:
    config, emit = session.config, session.emit
    with open_warehouse(session.layout.warehouse, session.settings) as warehouse:
        jobs = find_jobs(config, warehouse, session.ledger.streams(), lambda line: emit(Message(line)))
        reload = parse_reload(jobs, request.reload, ranged=request.span is not None)
        dbt, chosen = _parse_and_load(session, warehouse, jobs, reload, request, progress)
    stop_if(interrupted)
    if any(stream.status == "failed" for stream in progress.streams):
        return "failed"
    if dbt is None:
        emit(Message(f"There is no dbt project in {config.transform}, so nothing was built or released."))
        return "ok"
    released = released_nodes(config, dbt)  # a mistake in `release.select` is told before anything is built
    _build(session, dbt, chosen, request, progress, interrupted)
    stop_if(interrupted)
    if any(node.kind == HOOK for node in progress.nodes):
        return "failed"
    progress.release = publish(
        config, session.layout, session.settings, session.ledger, dbt, released, progress.run, emit
    )
    emit(ReleaseFinished(progress.release))
    if any(node.status == "error" for node in progress.nodes) or any(_blocks(check) for check in progress.checks):
        return "failed"
    return "refused" if progress.release.status == "refused" else "ok"


def _blocks(check: CheckResult) -> bool:
    return check.status == "error" or (check.status == "fail" and check.severity == "error")


def _parse_and_load(
    session: _Session,
    warehouse: DuckDBPyConnection,
    jobs: Sequence[Job],
    reload: frozenset[StreamRef],
    request: Request,
    progress: _Progress,
) -> tuple[Dbt | None, frozenset[str] | None]:
    """Parse the dbt project and load; return the project and the chosen dbt ids (None: all).

    A selection must be known before anything is loaded. Without one, dbt is imported and parses (seconds of
    Python) while DuckDB loads.
    """

    def parse() -> Dbt | None:
        return open_transform(
            session.config,
            session.layout,
            session.settings,
            jobs,
            session.log.line,
            session.emit,
            known=session.ledger.streams(),
        )

    if request.select or request.exclude:
        dbt = parse()
        chosen = dbt.select(request.select, request.exclude) if dbt else frozenset()
        if dbt and not chosen:
            raise UsageError(f"{request}: this names nothing in the dbt project.", hint="`dbt ls` shows what there is.")
        wanted = match_streams(dbt, jobs, chosen) | reload
        _load(session, warehouse, _only(jobs, wanted), reload, request.span, progress)
        return dbt, chosen
    if any(brings_tables(job) for job in jobs):  # dbt must know the tables that come with this load
        _load(session, warehouse, jobs, reload, request.span, progress)
        return parse(), None
    with ThreadPoolExecutor(1, "parse") as pool:
        parsing = pool.submit(parse)
        _load(session, warehouse, jobs, reload, request.span, progress)
        return parsing.result(), None


def _load(
    session: _Session,
    warehouse: DuckDBPyConnection,
    jobs: Sequence[Job],
    reload: frozenset[StreamRef],
    span: tuple[str | None, str | None] | None,
    progress: _Progress,
) -> None:
    """Load, and take note of each stream as it finishes: an interrupted run knows what it had committed."""

    def touched(table: TableRef) -> None:
        session.ledger.begin_load(progress.run, table)

    def listen(event: Event) -> None:
        session.emit(event)
        if isinstance(event, StreamFinished):
            progress.streams = (*progress.streams, event.result)
            session.ledger.finish_load(progress.run, event.result)

    order = [plan.ref for job in jobs for plan in job.plans]
    try:
        load_sources(
            warehouse,
            jobs,
            session.config.root,
            session.layout.tmp,
            progress.run,
            reload=reload,
            span=span,
            before_commit=touched,
            emit=_one_at_a_time(listen),
            log=session.log.line,
        )
    finally:  # sources finish in any order
        progress.streams = tuple(sorted(progress.streams, key=lambda result: _place(result.ref, order)))


def _place(ref: StreamRef, order: Sequence[StreamRef]) -> tuple[int, str]:
    """Where a stream stands among those of the project file; a table that came with one, right behind it."""
    if ref in order:
        return order.index(ref), ""
    with_it = [other for other in order if other.source == ref.source and ref.stream.startswith(f"{other.stream}__")]
    return (order.index(max(with_it, key=lambda other: len(other.stream))) if with_it else len(order)), ref.stream


def _build(
    session: _Session,
    dbt: Dbt,
    chosen: frozenset[str] | None,
    request: Request,
    progress: _Progress,
    interrupted: threading.Event,
) -> None:
    """Tell the ledger what dbt may change, let it, and tell the ledger what it did."""
    nodes = dbt.graph.nodes
    chosen = dbt.everything() if chosen is None else chosen
    built = [id for id in chosen if id in nodes and nodes[id].is_built]
    checks = [id for id in chosen if id in nodes and nodes[id].is_check]
    session.ledger.begin_transform(progress.run, built, checks)
    session.emit(TransformStarted(len(built), len(checks)))
    if not built and not checks:
        return
    results = dbt.build(request.select, request.exclude, request.full_refresh, interrupted, session.emit)
    progress.nodes, progress.checks = map_texts(results, session.config.redact)
    blind = [nodes[id].name for id in checks if not nodes[id].parents]
    if blind and built:  # dbt runs a test that names no model first, over what the models were before
        _, again = dbt.build(" ".join(blind), "", False, interrupted, session.emit)
        after = {check.id: check for check in map_texts(again, session.config.redact)}
        progress.checks = tuple(after.get(check.id, check) for check in progress.checks)
    definitions = {check.id: check.definition for check in dbt.graph.checks()}
    session.ledger.finish_transform(progress.run, progress.nodes, progress.checks, definitions)


def _finish(
    session: _Session, progress: _Progress, request: Request, status: RunStatus, error: BaseException | None
) -> RunResult:
    said = "" if error is None or status == "interrupted" else str(error)
    result = RunResult(
        run=progress.run,
        status=status,
        started=progress.started,
        seconds=round(time.monotonic() - progress.begun, 3),
        select=str(request),
        streams=progress.streams,
        nodes=progress.nodes,
        checks=progress.checks,
        release=progress.release,
        error=said,
    )
    redacted: RunResult = map_texts(result, session.config.redact)
    session.ledger.finish_run(redacted)
    return redacted


def _recover(layout: Layout, ledger: Ledger) -> list[str]:
    """Put in order what a killed run left behind, and say so."""
    said = [f"Run {run} was killed; what it had committed is kept." for run in ledger.mark_killed()]
    said += [f"Removed the unfinished release {name}." for name in clean(layout)]
    layout.clean_tmp()
    return said


def _take_number(layout: Layout, settings: Settings, ledger: Ledger) -> tuple[int, list[str]]:
    """Number the run, in ledger and warehouse, and find out whether both speak of the same tables.

    Where one of them is another file than at the last run (lost, or restored from a copy), everything the ledger
    knows of tables and checks is worthless: all is built and checked anew.
    """
    known, known_runs = ledger.warehouse()
    with open_warehouse(layout.warehouse, settings) as warehouse:
        identity, last_run = identify(warehouse)
        run = max(ledger.next_run(), last_run + 1)
        said = []
        if known and (identity != known or last_run not in known_runs):
            ledger.forget_state()
            said.append("The warehouse is not the one of the last run: every model and check counts as not run.")
        ledger.announce_run(run)  # killed between these, the ledger still knows the warehouse by either number
        set_run(warehouse, run)
        ledger.set_warehouse(identity, run)
    return run, said


def _only(jobs: Sequence[Job], chosen: frozenset[StreamRef]) -> list[Job]:
    kept = [replace(job, plans=tuple(plan for plan in job.plans if plan.ref in chosen)) for job in jobs]
    return [job for job in kept if job.plans]


def _one_at_a_time(listener: Listener | None) -> Listener:
    lock = threading.Lock()

    def emit(event: Event) -> None:
        if listener:
            with lock:
                listener(event)

    return emit


def _redacting(redact: Callable[[str], str], listener: Listener) -> Listener:
    def emit(event: Event) -> None:
        listener(map_texts(event, redact))

    return emit


def _both(first: Listener, second: Listener) -> Listener:
    def emit(event: Event) -> None:
        first(event)
        second(event)

    return emit
