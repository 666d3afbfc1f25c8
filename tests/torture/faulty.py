"""Runs and commands on a disk that fails, or with a clock that jumps: `faults.c` between a process and libc.

As a program: prepares one process and forks it for every point given as a line of JSON on stdin, which saves the
imports; answers each with a line of JSON on stdout.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

FULL, READ_ONLY, BROKEN = errno.ENOSPC, errno.EROFS, errno.EIO


@dataclass(frozen=True)
class Point:
    """One run, or one command of the shell, and what befalls it.

    ``mode``: "n" nothing; "w" the write of that number fails; "f" it and all behind it do, the disk is full; "s" the
    sync of that number fails; "r" whatever changes the disk does. ``shift``: the clock is so many seconds ahead (or
    behind), from the beginning, or since so many writes.
    """

    root: str
    mode: str = "n"
    number: int = 0
    error: int = FULL
    shift: int = 0
    shift_from: int = 0
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of it. ``raised`` is the name of the exception's class, ``said`` its text, or the result's errors.

    Of a command: ``status`` is its exit code, and ``said`` its output. ``steps`` are the writes ("w number what path")
    and syncs ("s ...") that were counted.
    """

    raised: str = ""
    status: str = ""
    release: str = ""
    number: int | None = None
    said: str = ""
    steps: tuple[str, ...] = ()

    @property
    def writes(self) -> list[str]:
        return [step for step in self.steps if step.startswith("w")]

    @property
    def syncs(self) -> list[str]:
        return [step for step in self.steps if step.startswith("s")]


@dataclass(frozen=True)
class Faulty:
    """A process that runs projects on a bad disk; `faulty` starts it."""

    _process: subprocess.Popen[str]

    def run(self, point: Point) -> Outcome:
        """Run what the point says in a process of its own, to its end."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(asdict(point)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that forks has died"
        answer = json.loads(line)
        return Outcome(**{**answer, "steps": tuple(answer["steps"])})


def build(folder: Path) -> Path:
    """Compile the library; skips the test where that cannot be done."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("a C compiler makes the faults of the disk, on Linux; on Debian: apt-get install gcc libc6-dev")
    library, source = folder / "faults.so", Path(__file__).with_name("faults.c")
    done = subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return library


@contextmanager
def faulty(library: Path) -> Iterator[Faulty]:
    """A process that is ready, as long as the block lasts."""
    environment = os.environ | {"LD_PRELOAD": str(library)}
    command = [sys.executable, __file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        yield Faulty(process)


def each(library: Path, points: Sequence[Any], work: Callable[[Faulty, Any], str], workers: int = 2) -> list[str]:
    """Do the work for every point, in several processes side by side. Returns what it had to say, where it had."""
    with ExitStack() as stack:
        free: SimpleQueue[Faulty] = SimpleQueue()
        for _ in range(workers):
            free.put(stack.enter_context(faulty(library)))

        def one(point: Any) -> str:
            process = free.get()
            try:
                return work(process, point)
            finally:
                free.put(process)

        pool = stack.enter_context(ThreadPoolExecutor(workers))
        return [said for said in pool.map(one, points) if said]


# --- the program


def _library() -> Any:
    library = ctypes.CDLL(None)
    library.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_char, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    library.faults_shift.argtypes = [ctypes.c_long, ctypes.c_long]
    return library


@contextmanager
def _fault(point: Point, log: int) -> Iterator[None]:
    library = _library()
    library.faults_arm(point.root.encode(), point.mode.encode(), point.number, point.error, log)
    if point.shift:
        library.faults_shift(point.shift, point.shift_from)
    try:
        yield
    finally:
        library.faults_disarm(0)


def _run(point: Point, log: int) -> Outcome:
    import smoll
    from smoll.errors import SmollError

    project = smoll.open_project(point.root)
    try:
        with _fault(point, log):
            result = project.run()
    except SmollError as error:
        return Outcome(raised=type(error).__name__, said=str(error))
    except BaseException as error:
        return Outcome(raised=f"foreign {type(error).__name__}", said=traceback.format_exc())
    said = [result.error, *(stream.error for stream in result.streams)]
    said += [node.message for node in result.nodes]
    said += [check.message for check in result.checks]
    text = "\n".join(line for line in said if line)
    return Outcome("", result.status, result.release.status, result.release.number, text)


def _command(point: Point, log: int, output: Path) -> Outcome:
    from smoll.cli import main

    handle = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    with _fault(point, log):
        code = main(["--project", point.root, *point.command])
    sys.stdout.flush()
    return Outcome(status=str(code), said=output.read_text(encoding="utf-8"))


def _answer(point: Point) -> Outcome:
    """Fork, and wait for what the child says."""
    log, output = Path(f"{point.root}.log"), Path(f"{point.root}.out")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        trace = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        outcome = _command(point, trace, output) if point.command else _run(point, trace)
        os.write(writer, json.dumps(asdict(outcome)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    steps = tuple(log.read_text().splitlines())
    return Outcome(**{**json.loads(said), "steps": steps}) if said else Outcome(f"died {status}", steps=steps)


def _main() -> None:
    for name in ("duckdb", "dbt.cli.main", "dbt.adapters.duckdb", "smoll.run", "smoll.cli.summary"):
        importlib.import_module(name)
    answers = os.dup(1)
    os.dup2(2, 1)  # what others print is no answer
    with suppress(BrokenPipeError):
        for line in sys.stdin:
            point = json.loads(line)
            outcome = _answer(Point(**{**point, "command": tuple(point["command"])}))
            os.write(answers, (json.dumps(asdict(outcome)) + "\n").encode())


if __name__ == "__main__":
    _main()
