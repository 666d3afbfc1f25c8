"""The process that answers queries, apart from the one that is talked to.

DuckDB may abort where memory ends, and there are computations that hear of no interrupt: either ends this process and
nothing else. Its memory is bounded, as DuckDB's own limit does not count a single value.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any

from smoll.cli.completion import Names
from smoll.errors import Interrupted, SmollError, UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.api import Project
    from smoll.project import Resources

_STACK = 16 * 1024**2
"""What a thread may count for beside what it computes: its stack, whole, and what its allocator sets aside."""
_SECONDS = 0.1
"""So soon Ctrl-C is passed on."""
_TABLES = """SELECT if(schema_name = current_schema(), '', schema_name), table_name,
    list(column_name ORDER BY column_index) FROM duckdb_columns() WHERE NOT internal GROUP BY ALL ORDER BY ALL"""
_FUNCTIONS = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_name SIMILAR TO '[a-z][a-z0-9_]*'"
_KEYWORDS = "SELECT keyword_name, keyword_category IN ('reserved', 'column_name') FROM duckdb_keywords()"


@dataclass(frozen=True)
class Place:
    """Where to ask: a release, the current one if no number is given, or with `raw` the working warehouse."""

    raw: bool = False
    release: int | None = None


@dataclass(frozen=True)
class Answered:
    """What came of a query: how many rows were printed (None: it gives none), and which release said so."""

    rows: int | None
    release: int | None


class Answerer:
    """A process that answers one query after the other. One that ended is replaced at the next."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._pid = 0
        self._pipe: Connection[Any, Any] | None = None

    def answer(self, place: Place, text: str, style: str, output: Path | None = None) -> Answered:
        """Print what the query gives. The parameters, and what is raised, are those of `smoll.cli.results.answer`.

        Raises
        ------
        SmollError
            The process ended: it ran out of memory, or somebody killed it.
        KeyboardInterrupt
            Ctrl-C.
        """
        answered: Answered = self._call("answer", place, text, style, output)
        return answered

    def names(self, place: Place) -> Names:
        """What a query may speak of."""
        names: Names = self._call("names", place)
        return names

    def _call(self, what: str, *words: object) -> Any:
        """Let the other process do something that `_Session` can; give what it replies, or raise it."""
        self.start()
        assert self._pipe
        try:
            with _noticing_interrupts() as interrupted:
                with suppress(BrokenPipeError):  # it has ended: there will be no reply
                    self._pipe.send((what, words))
                while not self._pipe.poll(_SECONDS):
                    if interrupted.is_set():  # again and again: the first may have come before it began to listen
                        os.kill(self._pid, signal.SIGINT)
                reply = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise _ended(self._wait()) from None
        except BaseException:
            self.close()  # a reply that comes too late must not be taken for the next one
            raise
        if isinstance(reply, OutOfMemory):
            self.close()  # it may have too little left for the smallest query
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._pipe is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._wait()

    def _wait(self) -> int:
        assert self._pipe
        self._pipe.close()
        self._pipe = None
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def start(self) -> None:
        """Start the process, if there is none."""
        if self._pipe is not None:
            return
        ours, theirs = Pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            code = 1
            try:
                _serve(theirs, self._project, parent)
            except KeyboardInterrupt:
                code = Interrupted.exit_code
            finally:
                os._exit(code)
        theirs.close()
        self._pipe = ours


@contextmanager
def _noticing_interrupts() -> Iterator[Event]:
    """Give an event that signals set which mean Ctrl-C, and do nothing else: they are the other process's to hear."""
    interrupted = Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    noticed = [number for number in numbers if before[number] is signal.default_int_handler]
    for number in noticed:
        signal.signal(number, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        for number in noticed:
            signal.signal(number, before[number])


def lacks_memory(error: BaseException) -> bool:
    """Whether a query needs more memory than there is. While rows stream, DuckDB says so in a second line."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in ("Out of Memory Error", "bad_alloc"))


class OutOfMemory(SmollError):
    """A query needs more memory than there is."""


def out_of_memory() -> OutOfMemory:
    """The same, in words."""
    hint = "`resources.memory` in smoll.yml is the limit."
    return OutOfMemory("DuckDB could not answer: it ran out of memory.", hint=hint)


def _ended(code: int) -> BaseException:
    if code == Interrupted.exit_code:
        return KeyboardInterrupt()
    if code in (-signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS):
        return out_of_memory()
    return SmollError(f"The process that answers has ended ({code}).", hint="Ask again.")


# --- the other process


@dataclass
class _Interrupts:
    """One KeyboardInterrupt for each question, and none between them."""

    listening: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.listening:
            self.listening = False
            raise KeyboardInterrupt


def _serve(pipe: Connection[Any, Any], project: Project, parent: int) -> None:
    from smoll.leash import follow

    follow(parent)
    interrupts = _Interrupts()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupts)
    # What C++ says when it aborts is not for people.
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _bound(project.config.resources)
    importlib.import_module("smoll.cli.results")
    session = _Session(project)
    while True:
        try:
            what, words = pipe.recv()
        except (EOFError, ConnectionError):
            return
        reply: object
        try:
            interrupts.listening = True
            reply = getattr(session, what)(*words)
            interrupts.listening = False
            sys.stdout.flush()
        except BaseException as error:
            interrupts.listening = False
            reply = _sendable(error)
        pipe.send(reply)


def _sendable(error: BaseException) -> BaseException:
    if lacks_memory(error):
        return out_of_memory()
    if isinstance(error, (SmollError, KeyboardInterrupt, OSError)):
        return error
    bug = RuntimeError(f"{type(error).__name__}: {error}")
    bug.add_note(traceback.format_exc())  # which a pipe does not carry
    return bug


def _bound(resources: Resources) -> None:
    """Let this process have no more memory than the project's. Only Linux counts what it has written to."""
    from smoll.warehouse import PYTHON_SHARE, engine_settings

    settings = engine_settings(resources, Path())
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [settings.memory + PYTHON_SHARE + settings.threads * _STACK, soft, hard]
    if sys.platform == "linux":
        limit = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


@dataclass
class _Session:
    """A connection that stays while readers see the same release. The working warehouse is closed after each query.

    Else a run would have to wait for whoever left a shell open.
    """

    project: Project
    _connection: DuckDBPyConnection | None = field(default=None, init=False)
    _place: Place = field(default=Place(), init=False)
    _number: int | None = field(default=None, init=False)

    def answer(self, place: Place, text: str, style: str, output: Path | None) -> Answered:
        from smoll.cli import results

        with self._connected(place) as connection:
            return Answered(results.answer(connection, text, style, output), self._number)

    def names(self, place: Place) -> Names:
        """What a query may speak of."""
        with self._connected(place) as connection:
            tables = connection.execute(_TABLES).fetchall()
            functions = connection.execute(_FUNCTIONS).fetchall()
            keywords = connection.execute(_KEYWORDS).fetchall()
        return Names(
            {(schema, name): tuple(columns) for schema, name, columns in tables},
            tuple(sorted(name for (name,) in functions)),
            dict(sorted(keywords)),
        )

    @contextmanager
    def _connected(self, place: Place) -> Iterator[DuckDBPyConnection]:
        if place.raw:
            self._place, self._number = place, None
            with self.project.connect(raw=True) as connection:
                yield connection
            return
        number = self.project.current() if place.release is None else place.release
        if self._connection is None or number != self._number:
            follows = self._connection is not None and place == self._place
            connection, number = self._connect(place)
            if self._connection is not None:
                self._connection.close()
            self._connection, self._number = connection, number
            if follows:
                print(f"Now release {number}.", file=sys.stderr)
        self._place = place
        yield self._connection

    def _connect(self, place: Place) -> tuple[DuckDBPyConnection, int | None]:
        while True:
            number = self.project.current() if place.release is None else place.release
            try:
                return self.project.connect(release=number), number
            except UsageError:
                if place.release is not None or self.project.current() == number:
                    raise  # else another release took its place just now
