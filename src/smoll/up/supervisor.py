"""Keeps a few programs running: starts them in order, heals them with patience, and ends them all, surely.

It knows nothing of Dagster. One thread does everything that starts or ends a process, because a leash holds on to the
thread that started it; a thread for each program reads what it says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from smoll.errors import UpError
from smoll.leash import Guardian, leashed
from smoll.up.log import Log

_FIRST_PAUSE, _LONGEST_PAUSE, _PROVEN = 1.0, 30.0, 60.0
"""Seconds before what died is started again, doubled each time; it begins anew with what has lived for a minute."""
_ASK_SECONDS, _IDLE_SECONDS = 0.2, 5.0
START_SECONDS = 300.0
"""For a slow machine that imports a large project; whoever waits sees the log, and has Ctrl-C."""
_GRACE = 5.0


@dataclass(frozen=True)
class Program:
    """What is to run.

    ``answers`` is asked, with the time at which it was started, until it says that the program is healthy.
    ``descriptors`` are the files that it inherits. It has ``grace`` seconds to end itself.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    answers: Callable[[float], bool]
    descriptors: tuple[int, ...] = ()
    grace: float = _GRACE


@dataclass(frozen=True)
class Ended:
    """A program ended by itself: ``how``, and in how many seconds it is started again, if ever.

    ``tail`` are its last lines.
    """

    name: str
    how: str
    restart_in: float | None
    tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Started:
    """A program runs, and is healthy; for the first time or again. ``since`` is in seconds of the epoch."""

    name: str
    pid: int
    since: float


Event = Ended | Started


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    log: Log | None = None
    since: float = 0.0  # of the monotonic clock
    healthy: bool = False
    pause: float = _FIRST_PAUSE
    due: float = 0.0


class Signals:
    """What the loop waits for: the wish to stop, a child that ended, or time."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hurry = threading.Event()
        self._wake = threading.Event()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until something has happened."""
        self._wake.wait(seconds)
        self._wake.clear()

    def ask_to_stop(self) -> None:
        """Stop; asked twice, in a hurry."""
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()
        self._wake.set()

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take Ctrl-C, SIGTERM, a closed terminal and the end of children for such events as long as the block lasts.

        Handlers only set an event: an exception that strikes anywhere could lose a process that was just started.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python runs no handlers here; whoever calls has a `stop` of its own
            return

        def stopped(number: int, frame: FrameType | None) -> None:
            self.ask_to_stop()

        def child_ended(number: int, frame: FrameType | None) -> None:
            self._wake.set()

        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stopped)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, child_ended)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass
class Supervisor:
    """Starts programs, watches them, ends them. Use as a context; leaving it leaves nothing running.

    ``hide`` takes secrets out of what the programs say, before it is written anywhere.
    """

    signals: Signals
    on_event: Callable[[Event], None]
    hide: Callable[[str], str] = lambda text: text
    _children: list[_Child] = field(default_factory=list)
    _errands: list[_Child] = field(default_factory=list)
    _guardian: Guardian | None = None

    def __enter__(self) -> Supervisor:
        self._guardian = Guardian()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        assert self._guardian
        self._guardian.dismiss()

    @property
    def pids(self) -> dict[str, int]:
        """The numbers of the processes that run now, by name."""
        return {child.program.name: child.process.pid for child in self._children if child.process}

    def start(self, *programs: Program) -> bool:
        """Start programs, all at once, and wait until they are healthy. Returns False if the wish to stop comes first.

        Raises
        ------
        UpError
            One ended, or was not healthy in time; with its last lines.
        """
        begun = [_Child(program) for program in programs]
        for child in begun:
            self._spawn(child)
            self._children.append(child)
        while not self.signals.stop.is_set():
            for child in self._children:
                if child in begun:
                    self._await(child)
                else:
                    self._look_after(child)
            if all(child.healthy for child in begun):
                return True
            self.signals.wait(_ASK_SECONDS)
        return False

    def send(self, program: Program) -> None:
        """Start a program that ends by itself, and is not healed."""
        errand = _Child(program)
        self._spawn(errand)
        self._errands.append(errand)

    def errands_done(self) -> bool:
        """Wait until what was sent has ended. Returns False if the wish to stop comes first."""
        while self._errands and not self.signals.stop.is_set():
            self._end_errands()
            self.signals.wait(_ASK_SECONDS)
        return not self._errands

    def watch(self, each_turn: Callable[[], None] = lambda: None) -> None:
        """Keep the programs running until the wish to stop comes."""
        while not self.signals.stop.is_set():
            for child in self._children:
                self._look_after(child)
            self._end_errands()
            each_turn()
            self.signals.wait(_IDLE_SECONDS if self._all_healthy() else _ASK_SECONDS)

    def end(self) -> None:
        """End all, the last one that was started first, and all that they started."""
        for child in [*self._errands, *reversed(self._children)]:
            self._end(child)
        self._errands.clear()
        self._children.clear()

    def _await(self, child: _Child) -> None:
        assert child.process
        if child.process.poll() is not None:
            raise self._failure(child, f"ended at its start, with {_how(child.process.returncode)}")
        if not child.healthy and self._is_healthy(child):
            self.on_event(_started(child))
        if not child.healthy and time.monotonic() - child.since > START_SECONDS:
            raise self._failure(child, f"did not answer within {START_SECONDS:.0f} seconds")

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.due:
                self._spawn(child)
        elif (code := child.process.poll()) is not None:
            self._lost(child, _how(code))
        elif not child.healthy and self._is_healthy(child):
            self.on_event(_started(child))
        elif not child.healthy and now - child.since > START_SECONDS:
            self._lost(child, f"no answer within {START_SECONDS:.0f} seconds")

    def _lost(self, child: _Child, how: str) -> None:
        """Note that it has ended, end what it left behind, and plan its return."""
        child.pause = _FIRST_PAUSE if time.monotonic() - child.since > _PROVEN else child.pause
        assert child.log
        self._bury(child)
        child.due = time.monotonic() + child.pause
        self.on_event(Ended(child.program.name, how, child.pause, child.log.tail()))
        child.pause = min(child.pause * 2, _LONGEST_PAUSE)

    def _end_errands(self) -> None:
        for errand in [each for each in self._errands if each.process and each.process.poll() is not None]:
            self._back(errand)

    def _back(self, errand: _Child) -> None:
        assert errand.process and errand.log
        code = errand.process.returncode
        self._bury(errand)
        self._errands.remove(errand)
        if code != 0:
            self.on_event(Ended(errand.program.name, _how(code), None, errand.log.tail()))

    def _spawn(self, child: _Child) -> None:
        program = child.program
        child.process = subprocess.Popen(
            leashed(program.command),
            cwd=program.folder,
            env=program.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=program.descriptors,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others in order
        )
        assert self._guardian and child.process.stdout
        self._guardian.watch(child.process.pid)
        child.log = Log(program.log, child.process.stdout, self.hide)
        child.since, child.healthy = time.monotonic(), False

    def _is_healthy(self, child: _Child) -> bool:
        child.healthy = child.program.answers(_epoch(child.since))
        return child.healthy

    def _all_healthy(self) -> bool:
        return all(child.process and child.healthy for child in self._children)

    def _end(self, child: _Child) -> None:
        """Ask it to end itself; then end it and its group."""
        if child.process is None:
            return
        with suppress(ProcessLookupError):
            child.process.terminate()
        end = time.monotonic() + child.program.grace
        while child.process.poll() is None and time.monotonic() < end and not self.signals.hurry.is_set():
            self.signals.wait(0.1)
        self._bury(child)

    def _bury(self, child: _Child) -> None:
        assert child.process and child.log and self._guardian
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        child.log.finish()
        self._guardian.forget(child.process.pid)
        child.process, child.healthy = None, False

    def _failure(self, child: _Child, what: str) -> UpError:
        assert child.log
        name, log = child.program.name, child.program.log
        if child.process and child.process.poll() is not None:
            child.log.finish()  # all that it said
        return UpError(f"The {name} {what}.{quoted(child.log.tail())}", hint=f"Its log: {log}")


def _started(child: _Child) -> Started:
    assert child.process
    return Started(child.program.name, child.process.pid, _epoch(child.since))


def _epoch(monotonic: float) -> float:
    return time.time() - (time.monotonic() - monotonic)


def quoted(lines: Sequence[str]) -> str:
    """Lines as they end a message; "" without any."""
    return "".join(f"\n  | {line}" for line in lines)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
