"""The log of one run: ``.smoll/logs/run-<n>.log``. Everything that is written passes the redaction of secrets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from smoll.errors import StateError, disk_hint
from smoll.events import Event, StreamProgress

_KEPT = 50


class RunLog:
    """An open log file. Its methods may be called from any thread."""

    def __init__(self, file: TextIO, redact: Callable[[str], str]) -> None:
        self._file = file
        self._redact = redact
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        """Write one line, with the time. A full disk ends the run elsewhere, with a better message."""
        stamp = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        with self._lock, suppress(OSError):
            self._file.write(f"{stamp} {self._redact(text)}\n")
            self._file.flush()

    def event(self, event: Event) -> None:
        """Write an event of the run; progress is left out."""
        if not isinstance(event, StreamProgress):
            self.line(repr(event))


@contextmanager
def open_log(folder: Path, run: int, redact: Callable[[str], str]) -> Iterator[RunLog]:
    """Open the log of a run and remove the oldest logs.

    Raises
    ------
    StateError
        The file cannot be written.
    """
    try:
        file = (folder / f"run-{run}.log").open("w", encoding="utf-8")
    except OSError as error:
        raise StateError(f"Cannot write the log in {folder}: {error.strerror}.", hint=disk_hint(error)) from error
    try:
        for old in sorted(folder.glob("run-*.log"), key=_run_of)[:-_KEPT]:
            with suppress(OSError):
                old.unlink()
        yield RunLog(file, redact)
    finally:
        with suppress(OSError):  # a full disk, as in `RunLog.line`
            file.close()


def _run_of(path: Path) -> int:
    """By their numbers, as clocks go back."""
    number = path.stem.removeprefix("run-")
    return int(number) if number.isdecimal() else 0
