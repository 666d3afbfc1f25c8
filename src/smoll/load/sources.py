"""Loading the selected streams of all sources: sources side by side, the streams of one source in turn.

The streams of a source whose connector says so are loaded side by side, too. Those that fail are loaded again where the
source has `retries`; one that waits for that takes nobody's place.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import Connector, ExtractAll, Reading, StreamPlan
from smoll.errors import Interrupted, LoadError, SmollError
from smoll.events import Listener, Message, StreamFinished, StreamProgress, StreamStarted
from smoll.load.rename import move_source
from smoll.load.stream import StreamError, load_stream, load_together
from smoll.load.table import LoadContext, prepare_schemas
from smoll.model import StreamRef, StreamResult, TableRef
from smoll.state.layout import SCRATCH

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import Source

_MOST_SOURCES = 4
_TICK_SECONDS = 0.2
_LONGEST_REASON = 200
_NOT_ALONE = "not loaded, as"


@dataclass(frozen=True)
class Job:
    """One source and those of its streams that are to be loaded."""

    name: str
    source: Source
    connector: Connector
    plans: tuple[StreamPlan, ...]


@dataclass
class _Active:
    """A stream that is being loaded just now, for the progress events."""

    ref: StreamRef
    connection: DuckDBPyConnection
    begun: float
    size: int | None = None
    fetched: tuple[int, int | None] | None = None

    def expect(self, rows: int | None) -> None:
        """All is fetched, and so many rows are about to be scanned."""
        self.size, self.fetched = rows, None

    def fetch(self, done: int, total: int | None) -> None:
        """So many bytes are fetched."""
        self.fetched = (done, total)


@dataclass
class _Loading:
    """What the load threads share: what was asked for, and what runs now."""

    root: Path
    tmp: Path
    run: int
    reload: frozenset[StreamRef]
    span: tuple[str | None, str | None] | None
    before_commit: Callable[[TableRef], None]
    emit: Listener
    log: Callable[[str], None]
    active: dict[StreamRef, _Active] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_MOST_SOURCES))


def load_sources(
    connection: DuckDBPyConnection,
    jobs: Sequence[Job],
    root: Path,
    tmp: Path,
    run: int,
    *,
    reload: frozenset[StreamRef],
    span: tuple[str | None, str | None] | None = None,
    before_commit: Callable[[TableRef], None],
    emit: Listener,
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Load every stream of every job, and tell of each by one `StreamFinished`.

    One that fails does not stop the others. Where its source has `retries`, it is loaded again, and only then told of.

    Parameters
    ----------
    connection
        The open warehouse; each source works on a cursor of its own.
    tmp
        A folder on the warehouse's disk for what is fetched and unpacked.
    reload
        Streams to load anew: from nothing, or, with `span`, this range of their cursor; see `LoadContext`.
    before_commit
        Called with the stream's table just before its transaction is committed.
    emit, log
        Called from several threads; `log` with what programs of others say.

    Raises
    ------
    KeyboardInterrupt
        After every load was interrupted and rolled back.
    """
    prepare_schemas(connection, [plan for job in jobs for plan in job.plans])
    for job in jobs:
        for text in move_source(connection, job.name, job.source.was, job.plans) if job.source.was else ():
            emit(Message(text))
    loading = _Loading(root, tmp, run, reload, span, before_commit, emit, log)
    pieces = [piece for job in jobs for piece in _pieces(job)]
    with ThreadPoolExecutor(max(len(pieces), 1), "load") as pool, _ticking(loading):
        try:
            futures = [pool.submit(_load_source, loading, connection.cursor(), piece) for piece in pieces]
            wait(futures)
        except BaseException:
            _stop(loading)
            raise
    for future in futures:
        future.result()


def _pieces(job: Job) -> list[Job]:
    """The job, or, where its streams may be loaded side by side, several with a share of them each."""
    is_parallel = getattr(job.connector, "is_parallel", None)
    if not is_parallel or not is_parallel(job.source):
        return [job]
    shares = [job.plans[first::_MOST_SOURCES] for first in range(_MOST_SOURCES)]
    return [replace(job, plans=share) for share in shares if share]


def _load_source(loading: _Loading, cursor: DuckDBPyConnection, job: Job) -> None:
    """Load the streams of a job, and those of them that fail again, as often as the source says."""
    cursor.execute("SET enable_progress_bar = true")  # feeds query_progress(); nothing is printed
    cursor.execute("SET enable_progress_bar_print = false")
    tries = job.source.retries.count + 1
    try:
        for tried in range(1, tries + 1):
            failed = _try(loading, cursor, job, tried)
            if not failed or tried == tries or not _wait(loading, job, failed, tried):
                break
            job = _planned_again(loading, cursor, job, failed)
        for result in failed:
            loading.emit(StreamFinished(result))
    except Interrupted:
        return
    finally:
        cursor.close()


def _try(loading: _Loading, cursor: DuckDBPyConnection, job: Job, tried: int) -> list[StreamResult]:
    """Load the streams of a job. Tells of those that are committed; returns those that failed and may be tried again.

    `tried` is which time it is, from 1.
    """
    failed = []
    with loading.slots:
        if loading.stopped.is_set():
            raise Interrupted(f"{job.name}: interrupted before it began.")
        for result in _results(loading, cursor, job):
            told = replace(result, notes=(*result.notes, f"tried {tried} times")) if tried > 1 else result
            if result.status == "failed" and tried <= job.source.retries.count:
                failed.append(told)
            else:
                loading.emit(StreamFinished(told))
    return failed


def _results(loading: _Loading, cursor: DuckDBPyConnection, job: Job) -> Iterator[StreamResult]:
    """Load the streams of a job once, and give what became of each as soon as that is known."""
    context = LoadContext(loading.run, datetime.now(UTC).replace(tzinfo=None), job.source)
    with ExitStack() as stack:
        try:
            stack.enter_context(job.connector.attach(job.name, job.source, loading.root, cursor))
        except SmollError as error:  # the source as a whole cannot be reached
            yield from (_failed(plan, error) for plan in job.plans)
            return
        extract_all = _extract_all(loading, cursor, job)
        if extract_all:
            yield from _load_together(loading, cursor, job, context, extract_all)
            return
        for plan in job.plans:
            yield _load_one(loading, cursor, job, plan, context)


def _wait(loading: _Loading, job: Job, failed: Sequence[StreamResult], tried: int) -> bool:
    """Say what failed, and wait until it is time to try again. False where the run was interrupted meanwhile."""
    retries = job.source.retries
    seconds = retries.seconds_after(tried)
    first = next((result for result in failed if not result.error.startswith(_NOT_ALONE)), failed[0])
    what = str(first.ref) if len(failed) == 1 else job.name
    reason = _short(first.error.removeprefix(f"{first.ref}: ").removeprefix(f"{job.name}: "))
    pause = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
    text = f"{what}: failed ({reason}); trying again in {pause} ({tried} of {retries.count})"
    loading.emit(Message(text, "warning"))
    return not loading.stopped.wait(seconds)


def _short(error: str) -> str:
    line = error.splitlines()[0].rstrip(".")
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."


def _planned_again(loading: _Loading, cursor: DuckDBPyConnection, job: Job, failed: Sequence[StreamResult]) -> Job:
    """The streams that failed, planned anew: of a source that was away, keys and catalog were not known."""
    again = {result.ref for result in failed}
    plans = [plan for plan in job.plans if plan.ref in again]
    try:
        names = [plan.ref.stream for plan in plans]
        now = {plan.ref: plan for plan in job.connector.discover(job.name, job.source, loading.root, cursor, names)}
    except SmollError:  # still away: loading says so
        now = {}
    found = [now.get(plan.ref, plan) for plan in plans]
    same = [new if new.table == plan.table else plan for plan, new in zip(plans, found, strict=True)]
    return replace(job, plans=tuple(same))


def _extract_all(loading: _Loading, cursor: DuckDBPyConnection, job: Job) -> ExtractAll | None:
    """How the streams are extracted together; None where each is loaded by itself."""
    extract_all: ExtractAll | None = getattr(job.connector, "extract_all", None)
    is_snapshot = getattr(job.connector, "is_snapshot", None)
    if is_snapshot is None:
        return extract_all
    one_by_one = loading.span is not None or len(job.plans) == 1
    return None if one_by_one or not is_snapshot(job.name, job.source, cursor) else extract_all


def _load_one(
    loading: _Loading, cursor: DuckDBPyConnection, job: Job, plan: StreamPlan, context: LoadContext
) -> StreamResult:
    try:
        with _active(loading, cursor, plan) as (active, reading):
            return load_stream(
                cursor,
                job.connector,
                plan,
                replace(context, span=loading.span) if plan.ref in loading.reload else context,
                reading,
                reload=plan.ref in loading.reload and loading.span is None,
                before_commit=lambda: loading.before_commit(plan.table),
                on_size=active.expect,
            )
    except Interrupted:
        raise
    except SmollError as error:
        return _failed(plan, error)


def _load_together(
    loading: _Loading, cursor: DuckDBPyConnection, job: Job, context: LoadContext, extract_all: ExtractAll
) -> Sequence[StreamResult]:
    """Load the streams of a connector that extracts all of them at once: one transaction, all or nothing."""
    try:
        with ExitStack() as stack:
            readings = {plan.ref: stack.enter_context(_active(loading, cursor, plan))[1] for plan in job.plans}
            reload = frozenset(plan.ref for plan in job.plans if plan.ref in loading.reload)
            return load_together(
                cursor,
                extract_all,
                job.plans,
                context,
                readings,
                reload=reload,
                before_commit=loading.before_commit,
            )
    except Interrupted:
        raise
    except SmollError as error:
        return _failed_together(job, error)


def _failed_together(job: Job, error: SmollError) -> list[StreamResult]:
    """The stream that failed has its own error, the others say that none was loaded without it."""
    failed = next((plan for plan in job.plans if _is_of(plan, error)), None)
    if failed is None:
        return [_failed(plan, error) for plan in job.plans]
    other = LoadError(f"{_NOT_ALONE} {failed.ref} failed, and they are loaded together or not at all.")
    return [_failed(plan, error if plan is failed else other) for plan in job.plans]


def _is_of(plan: StreamPlan, error: SmollError) -> bool:
    own = error.stream if isinstance(error, StreamError) else None
    return own == plan.ref if own else error.message.startswith(f"{plan.ref}: ")


@contextmanager
def _active(loading: _Loading, cursor: DuckDBPyConnection, plan: StreamPlan) -> Iterator[tuple[_Active, Reading]]:
    """Tell that the stream is being loaded, and give what it is read with, as long as the block lasts."""
    loading.emit(StreamStarted(plan.ref))
    active = _Active(plan.ref, cursor, time.monotonic())
    with loading.lock:
        if loading.stopped.is_set():
            raise Interrupted(f"{plan.ref}: interrupted before it began.")
        loading.active[plan.ref] = active
    since, until = loading.span if loading.span and plan.ref in loading.reload else (None, None)
    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=loading.tmp) as scratch:
            yield (
                active,
                Reading(
                    loading.root,
                    Path(scratch),
                    cursor,
                    since=since,
                    until=until,
                    progress=active.fetch,
                    stopped=loading.stopped.is_set,
                    log=loading.log,
                ),
            )
    finally:
        with loading.lock:
            del loading.active[plan.ref]


def _failed(plan: StreamPlan, error: SmollError) -> StreamResult:
    return StreamResult(plan.ref, plan.table, "failed", plan.mode, error=str(error))


@contextmanager
def _ticking(loading: _Loading) -> Iterator[None]:
    """Report the progress of what is active, a few times a second, from a thread of its own."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(_TICK_SECONDS):
            with loading.lock:  # a stream cannot finish meanwhile, nor its connection close
                for active in loading.active.values():
                    loading.emit(_progress(active))

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _progress(active: _Active) -> StreamProgress:
    seconds = time.monotonic() - active.begun
    if fetched := active.fetched:
        return StreamProgress(active.ref, None, None, seconds, *fetched)
    percent = active.connection.query_progress()
    fraction = percent / 100 if percent >= 0 else None
    rows = int(active.size * fraction) if active.size and fraction is not None else None
    return StreamProgress(active.ref, rows, fraction, seconds)


def _stop(loading: _Loading) -> None:
    """Interrupt every load until none is active: an interrupt between two statements hits nothing."""
    loading.stopped.set()
    while True:
        with suppress(KeyboardInterrupt):  # a second one: the first is being heeded
            with loading.lock:
                if not loading.active:
                    return
                for active in loading.active.values():
                    active.connection.interrupt()
            time.sleep(0.05)
