"""Ctrl-C, wherever it strikes: neither dbt nor DuckDB can be trusted to pass it on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from smoll.errors import Interrupted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")


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
    """Do work so that Ctrl-C ends its query: in the main thread DuckDB hears of a signal only between two tasks."""
    with ThreadPoolExecutor(1, "release") as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except BaseException:
            while not future.done():  # an interrupt between two statements hits nothing
                for each in (connection, *_others):
                    each.interrupt()
                wait([future], 0.05)
            raise


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
