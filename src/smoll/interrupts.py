"""Ctrl-C, wherever it strikes: neither dbt nor DuckDB can be trusted to pass it on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from smoll.errors import Interrupted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")

_SECONDS_TO_HEAR = 0.2


@contextmanager
def noticing_interrupts(*, take_over: bool = False) -> Iterator[threading.Event]:
    """Give an event that is set when Ctrl-C (or a signal that is treated alike) comes.

    The KeyboardInterrupt may strike inside dbt or DuckDB, which make an ordinary error of it or swallow it. With
    `take_over` a signal raises it whatever handler there was; else only where that is what it does anyway.
    """
    interrupted = threading.Event()

    def notice(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    watched = [
        number
        for number, handler in before.items()
        if is_main and (handler is signal.default_int_handler or (take_over and callable(handler)))
    ]
    for number in watched:
        signal.signal(number, notice)
    try:
        yield interrupted
    finally:
        for number in watched:
            signal.signal(number, before[number])


def stop_if(interrupted: threading.Event) -> None:
    """Raise Interrupted once the event is set."""
    if interrupted.is_set():
        raise Interrupted("The run was interrupted.")


def interruptible(connection: DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Do work so that Ctrl-C ends its query: in the main thread DuckDB hears of a signal only between two tasks.

    Whenever Ctrl-C comes, the work has ended, or never begins, once this raises.
    """
    outcome: Future[T] = Future()

    def answer() -> None:
        if outcome.set_running_or_notify_cancel():
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)

    try:
        threading.Thread(target=answer, name="interruptible").start()  # not by a pool, which would lose its future
        wait_for([outcome])
        return outcome.result()
    except BaseException:
        while not (outcome.cancel() or outcome.done()):
            with suppress(KeyboardInterrupt):  # a second one: the first is being heeded
                for each in (connection, *_others):  # again and again: between two statements it hits nothing
                    each.interrupt()
                wait([outcome], 0.05)
        raise


def wait_for(futures: Iterable[Future[Any]]) -> None:
    """Wait for the end of them all, and hear of Ctrl-C meanwhile.

    In short pieces: a signal that comes just before a thread begins to wait for a lock does not end that wait.
    """
    while wait(futures, _SECONDS_TO_HEAR).not_done:
        pass


_others: list[DuckDBPyConnection] = []


@contextmanager
def also_interrupted(*connections: DuckDBPyConnection) -> Iterator[None]:
    """Let `interruptible`, around this, end the queries of these connections, too."""
    _others.extend(connections)
    try:
        yield
    finally:
        for each in connections:
            _others.remove(each)
