"""A connector as a process: its lines as they come, the end of what it says on stderr, and a sure end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from smoll.errors import Interrupted, LoadError
from smoll.leash import leashed

_BLOCK = 1 << 20
"""Bytes that are read at once; the pipe is made as large, so that a connector need not wait for each switch."""
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux
_SMALL, _PAUSE_SECONDS = 1 << 16, 0.005
"""After a smaller block the reader pauses: a look at each line alone takes as much time as the connector itself."""
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5
_LATE_SECONDS = 2
_TAIL_LINES, _TAIL_LENGTH = 10, 500
_LOGGED_LINES = 10_000
"""Lines of stderr that go to the run's log; a connector that floods it must not fill the disk."""
_OWN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


@dataclass
class Output:
    """What a running connector says.

    ``tail`` are its last lines on stderr, ``code`` how it ended (None as long as it runs). ``broken_off``: it has
    ended, and its last line has no end.
    """

    process: subprocess.Popen[bytes]
    name: str
    timeout: float
    stopped: Callable[[], bool]
    log: Callable[[str], None]
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    logged: int = 0
    broken_off: bool = False
    _error: bytes = b""

    @property
    def code(self) -> int | None:
        """The exit code; negative where a signal ended it."""
        return self.process.poll()

    def blocks(self) -> Iterator[list[bytes]]:
        """Yield the lines of stdout, without their ends, as many as came at once, until the process has ended.

        A last line without an end comes, too: whether it is whole is for the reader to say.

        Raises
        ------
        LoadError
            Nothing was said for longer than the timeout.
        Interrupted
            The run was stopped.
        """
        assert self.process.stdout and self.process.stderr
        out, err = self.process.stdout.fileno(), self.process.stderr.fileno()
        pending: list[bytes] = []
        open_pipes, heard, drained, late = {out, err}, time.monotonic(), False, False
        while open_pipes:
            if self.stopped():
                raise Interrupted(f"{self.name}: interrupted; its tables are as they were before.")
            ended = self.code is not None  # asked before the pipes are, which then have all that it wrote
            ready = select.select(list(open_pipes), [], [], _POLL_SECONDS)[0]
            if ended and not ready and time.monotonic() - heard > _LATE_SECONDS:
                if late:
                    raise LoadError(
                        f"{self.name}: the connector ended, and a process that it started went on writing; it did not "
                        "end.",
                        hint="A connector must wait for what it starts.",
                    )
                break  # a process of its own holds the pipes open, and says nothing
            drained = drained or (ended and out not in ready)
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > self.timeout:
                raise LoadError(
                    f"{self.name}: the connector said nothing for {_duration(self.timeout)}, and was stopped."
                    f"{self.last_words()}",
                    hint="Where it needs longer silences, raise `timeout` of the source in smoll.yml.",
                )
            if err in ready and not self._hear(os.read(err, 1 << 16)):
                open_pipes.discard(err)
            if out in ready:
                block = os.read(out, _BLOCK)
                if not block:
                    open_pipes.discard(out)
                    continue
                late = drained
                if len(block) < _SMALL:  # many connectors flush each line: let some come together
                    time.sleep(_PAUSE_SECONDS)
                end = block.rfind(b"\n")
                if end < 0:
                    pending.append(block)
                    continue
                lines = b"".join([*pending, block[:end]]).split(b"\n")
                pending = [block[end + 1 :]] if end + 1 < len(block) else []
                yield lines
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_SECONDS)
        if pending:
            self.broken_off = True
            yield [b"".join(pending)]

    def last_words(self) -> str:
        """The last lines of stderr, as they end a message; "" without any."""
        assert self.process.stderr
        error = self.process.stderr.fileno()
        while select.select([error], [], [], 0)[0] and self._hear(os.read(error, 1 << 16)):
            pass
        unfinished = self._error.decode("utf-8", "replace")[-_TAIL_LENGTH:]
        lines = [line for line in (*self.tail, unfinished) if line.strip()][-_TAIL_LINES:]
        return "".join(f"\n  | {line}" for line in lines)

    def _hear(self, data: bytes) -> bool:
        if not data:
            if self._error:
                self._say(self._error)
            self._error = b""
            return False
        *lines, rest = (self._error + data).split(b"\n")
        self._error = rest[-_BLOCK:]
        for line in lines:
            self._say(line)
        return True

    def _say(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        self.say(text)

    def say(self, text: str) -> None:
        """Take a line of the connector's own log, wherever it came from."""
        self.tail.append(text[:_TAIL_LENGTH])
        self.logged += 1
        if self.logged <= _LOGGED_LINES:
            self.log(f"{self.name} | {text[: _TAIL_LENGTH * 4]}")
        elif self.logged == _LOGGED_LINES + 1:
            self.log(f"{self.name} | (more than {_LOGGED_LINES:,} lines: the rest is left out)")


@contextmanager
def running(
    command: Sequence[str],
    root: Path,
    name: str,
    *,
    timeout: float,
    stopped: Callable[[], bool] = lambda: False,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Output]:
    """Run a connector in the project's folder as long as the block lasts. It never outlives the block.

    Parameters
    ----------
    name
        The source, as messages begin.
    timeout
        Seconds of silence after which it counts as hanging.
    log
        Takes the lines of its stderr.

    Raises
    ------
    LoadError
        It cannot be started.
    """
    variables = {key: value for key, value in os.environ.items() if key not in _OWN_VARIABLES}
    try:
        if not os.access(root / command[0], os.X_OK):
            raise FileNotFoundError(0, "it is not there, or may not be executed")
        process = subprocess.Popen(
            leashed(command),  # elsewhere than on Linux it ends, its reader killed, when it next writes
            cwd=root,
            env={**variables, "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the connector in its own time
        )
    except OSError as error:
        raise LoadError(
            f"{name}: the connector cannot be started: {error.strerror or error} ({command[0]}).",
            hint="Check that it is there and may be executed; `smoll connectors install` makes it anew.",
        ) from error
    assert process.stdout and process.stderr
    _widen(process.stdout.fileno())
    try:
        yield Output(process, name, timeout, stopped, log)
    finally:
        _end(process)


def answer(
    command: Sequence[str], root: Path, name: str, *, timeout: float, hide: Callable[[str], str] = lambda text: text
) -> tuple[int | None, list[bytes], str]:
    """Run a connector for an answer that is small. Returns its exit code, its lines, and its last words on stderr."""
    with running(command, root, name, timeout=timeout) as output:
        lines = [line for block in output.blocks() for line in block]
        return output.code, lines, hide(output.last_words())


def _widen(pipe: int) -> None:
    """Make a pipe hold as much as is read at once, where the system can."""
    import fcntl

    with suppress(OSError):
        fcntl.fcntl(pipe, _SET_PIPE_SIZE, _BLOCK)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started: kindly, then surely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS if process.poll() is None else 0)
    for pipe in (process.stdout, process.stderr):
        with suppress(OSError):
            cast("IO[bytes]", pipe).close()


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            number = int(seconds // size)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{seconds:g} seconds"
