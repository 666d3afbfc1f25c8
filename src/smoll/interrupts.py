"""Ctrl-C, wherever it strikes: neither dbt nor DuckDB can be trusted to pass it on."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from smoll.errors import Interrupted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")

_SECONDS_TO_NOTICE = 0.05


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
        with _sent_again(watched, interrupted):
            yield interrupted
    finally:
        for number in watched:
            signal.signal(number, before[number])


@contextmanager
def _sent_again(numbers: Collection[int], noticed: threading.Event) -> Iterator[None]:
    """Send a signal again, until it is noticed: the main thread may sleep on.

    CPython runs a handler between two instructions of the main thread. A signal that comes after the last of them, just
    before the thread waits for a lock, does not end that wait, which may be one for minutes.
    """
    if not numbers:
        yield
        return
    main, done = threading.get_ident(), threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def send() -> None:
        while came := ours.recv(1):
            while came[0] in numbers and not noticed.wait(_SECONDS_TO_NOTICE) and not done.is_set():
                signal.pthread_kill(main, came[0])

    sender = threading.Thread(target=send, name="signals", daemon=True)
    sender.start()
    _told.add(theirs.fileno())
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        _told.discard(theirs.fileno())
        done.set()
        theirs.shutdown(socket.SHUT_WR)  # a child may have it, too
        sender.join()
        theirs.close()
        ours.close()


_told: set[int] = set()


def _tell_parent_nothing() -> None:
    """In a child that was forked: a signal that it gets is none to this process."""
    told = signal.set_wakeup_fd(-1)
    if told not in _told:
        signal.set_wakeup_fd(told)


os.register_at_fork(after_in_child=_tell_parent_nothing)


def stop_if(interrupted: threading.Event) -> None:
    """Raise Interrupted once the event is set."""
    if interrupted.is_set():
        raise Interrupted("The run was interrupted.")


def interruptible(connection: DuckDBPyConnection, work: Callable[[], T], *, patience: float = math.inf) -> T:
    """Do work so that Ctrl-C ends its query: in the main thread DuckDB hears of a signal only between two tasks.

    Whenever Ctrl-C comes, the work has ended, or never begins, once this raises.

    Parameters
    ----------
    patience
        Seconds from Ctrl-C on after which this process ends at once, if the work has not.
    """
    outcome: Future[T] = Future()

    def answer() -> None:
        if outcome.set_running_or_notify_cancel():
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)

    with noticing_interrupts():
        try:
            threading.Thread(target=answer, name="interruptible").start()  # submit() may be left without a future
            return outcome.result()
        except BaseException:
            deadline = time.monotonic() + patience
            while not (outcome.cancel() or outcome.done()):
                if time.monotonic() > deadline:
                    os._exit(Interrupted.exit_code)
                with suppress(KeyboardInterrupt):  # a second one: the first is being heeded
                    for each in (connection, *_others):  # again and again: between two statements it hits nothing
                        each.interrupt()
                    wait([outcome], 0.05)
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
