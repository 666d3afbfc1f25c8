"""Loading the selected streams of all sources: sources side by side, the streams of one source in turn."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import Connector, StreamPlan
from smoll.errors import Interrupted, SmollError
from smoll.events import Listener, StreamFinished, StreamProgress, StreamStarted
from smoll.load.stream import load_stream
from smoll.load.table import LoadContext, prepare_schemas
from smoll.model import StreamRef, StreamResult, TableRef
from smoll.state.layout import SCRATCH

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import Source

_MOST_SOURCES = 4
_TICK_SECONDS = 0.2


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


@dataclass
class _Loading:
    """What the load threads share: what was asked for, and what runs now."""

    root: Path
    tmp: Path
    run: int
    reload: frozenset[StreamRef]
    before_commit: Callable[[TableRef], None]
    emit: Listener
    active: dict[StreamRef, _Active] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)


def load_sources(
    connection: DuckDBPyConnection,
    jobs: Sequence[Job],
    root: Path,
    tmp: Path,
    run: int,
    *,
    reload: frozenset[StreamRef],
    before_commit: Callable[[TableRef], None],
    emit: Listener,
) -> None:
    """Load every stream of every job, and tell of each by `StreamFinished`. One that fails does not stop the others.

    Parameters
    ----------
    connection
        The open warehouse; each source works on a cursor of its own.
    tmp
        A folder on the warehouse's disk for what is fetched and unpacked.
    reload
        Streams to load anew from nothing.
    before_commit
        Called with the stream's table just before its transaction is committed.
    emit
        Called from several threads.

    Raises
    ------
    KeyboardInterrupt
        After every load was interrupted and rolled back.
    """
    prepare_schemas(connection, [plan for job in jobs for plan in job.plans])
    loading = _Loading(root, tmp, run, reload, before_commit, emit)
    with ThreadPoolExecutor(min(_MOST_SOURCES, max(len(jobs), 1)), "load") as pool, _ticking(loading):
        futures = [pool.submit(_load_source, loading, connection.cursor(), job) for job in jobs]
        try:
            wait(futures)
        except BaseException:
            _stop(loading)
            raise
    for future in futures:
        future.result()


def _load_source(loading: _Loading, cursor: DuckDBPyConnection, job: Job) -> None:
    cursor.execute("SET enable_progress_bar = true")  # feeds query_progress(); nothing is printed
    cursor.execute("SET enable_progress_bar_print = false")
    context = LoadContext(loading.run, datetime.now(UTC).replace(tzinfo=None), job.source)
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(job.connector.attach(job.name, job.source, loading.root, cursor))
            except SmollError as error:  # the source as a whole cannot be reached
                for plan in job.plans:
                    loading.emit(StreamFinished(_failed(plan, error)))
                return
            for plan in job.plans:
                loading.emit(StreamFinished(_load_one(loading, cursor, job, plan, context)))
    except Interrupted:
        return
    finally:
        cursor.close()


def _load_one(
    loading: _Loading, cursor: DuckDBPyConnection, job: Job, plan: StreamPlan, context: LoadContext
) -> StreamResult:
    loading.emit(StreamStarted(plan.ref))
    active = _Active(plan.ref, cursor, time.monotonic())
    with loading.lock:
        if loading.stopped.is_set():
            raise Interrupted(f"{plan.ref}: interrupted before it began.")
        loading.active[plan.ref] = active

    def expect(rows: int | None) -> None:
        active.size, active.fetched = rows, None

    def fetch(done: int, total: int | None) -> None:
        active.fetched = (done, total)

    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=loading.tmp) as scratch:
            return load_stream(
                cursor,
                job.connector,
                plan,
                context,
                loading.root,
                Path(scratch),
                reload=plan.ref in loading.reload,
                before_commit=lambda: loading.before_commit(plan.table),
                on_size=expect,
                on_fetch=fetch,
            )
    except Interrupted:
        raise
    except SmollError as error:
        return _failed(plan, error)
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
        with loading.lock:
            if not loading.active:
                return
            for active in loading.active.values():
                active.connection.interrupt()
        time.sleep(0.05)
