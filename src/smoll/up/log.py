"""The log of a program that runs for months: bounded, without secrets, its last lines at hand."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

MOST_BYTES = 5_000_000
"""Of one file; a full one becomes ``<name>.1``, and the ``.1`` before it goes."""
_TAIL_LINES, _TAIL_LENGTH, _LONGEST_LINE = 15, 500, 20_000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LATE_SECONDS = 2.0


class Log:
    """Writes what comes through a pipe to a file, in a thread of its own, until the pipe's other end is closed."""

    def __init__(self, path: Path, pipe: IO[bytes], hide: Callable[[str], str]) -> None:
        self._path, self._pipe, self._hide = path, pipe, hide
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._thread = threading.Thread(target=self._read, name=path.stem, daemon=True)
        self._thread.start()

    def tail(self) -> tuple[str, ...]:
        """The last lines so far, without empty ones."""
        return tuple(self._tail)

    def finish(self) -> None:
        """Wait for the last lines, once the program and all that it started have ended."""
        self._thread.join(_LATE_SECONDS)

    def _read(self) -> None:
        with self._pipe:
            while raw := self._pipe.readline(_LONGEST_LINE):
                line = self._hide(_COLOUR.sub("", raw.decode("utf-8", "replace")).rstrip())
                if line.strip():
                    self._tail.append(line[:_TAIL_LENGTH])
                with suppress(OSError):  # a full disk must not stop the program, which would wait for its reader
                    self._write(line)

    def _write(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{line}\n")
            full = file.tell() > MOST_BYTES
        if full:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
