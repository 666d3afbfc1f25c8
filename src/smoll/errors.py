"""The error tree. Every error says what happened, where, and what to do next.

The exit code of the command line is the error's ``exit_code``; see ``docs/cli.md``.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass


class SmollError(Exception):
    """Base of every error that smoll raises on purpose.

    Parameters
    ----------
    message
        What happened, and where. One or more whole sentences, no secret in it.
    hint
        What to do next: a command, or a change to a file. Empty where the message says it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one place of a file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(SmollError):
    """`smoll.yml` or `.env` is wrong. Carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class UsageError(SmollError):
    """The command or call does not fit: no project here, no such release, a bad selection."""

    exit_code = 2


class LoadError(SmollError):
    """A stream could not be read or written. Its table is as it was before."""


class TransformError(SmollError):
    """dbt could not parse or build the project."""


class ReleaseError(SmollError):
    """A release could not be staged, switched or read. `current` is as it was before."""


class LockedError(SmollError):
    """Another run holds the project, and the caller did not want to wait."""


class StateError(SmollError):
    """Something under `.smoll/` is damaged, missing or not writable."""


class BusyError(StateError):
    """Somebody else, or somebody else in this process, has the working warehouse open."""


class BackupError(SmollError):
    """A backup could not be written, or not be restored. Nothing is left of the attempt."""


class UpError(SmollError):
    """A process of `smoll up` could not be started. None of them is left."""


class Interrupted(SmollError):
    """The user (or the system) asked the run to stop. What was committed stays."""

    exit_code = 130


# --- the disk: what libc, DuckDB and SQLite say of it, and what helps

_TROUBLES = {
    "Free some space, then run again.": ("No space left", "disk is full", "quota exceeded", "File too large"),
    "Make it writable, then run again.": ("Read-only file system", "Permission denied", "readonly database"),
    "Make the folder writable or free some space, then run again.": ("unable to open database file",),
    "The disk fails: look into the system's log (dmesg) and mend that first. Then run again.": (
        "Input/output error",
        "disk I/O error",
        "fsync failed",
    ),
}
_TROUBLED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def disk_hint(error: BaseException | str) -> str:
    """What to do about an error that the disk has caused; "" where it was something else."""
    text = str(error)
    return next((hint for hint, words in _TROUBLES.items() if any(word in text for word in words)), "")


def disk_error(error: BaseException) -> StateError | None:
    """The disk's own errors as one that people can read; None for all others."""
    if not isinstance(error, OSError) or error.errno not in _TROUBLED:
        return None
    where = error.filename2 or error.filename or "the output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StateError(f"The disk is full: cannot write {where}.", hint=disk_hint("disk is full"))
    return StateError(f"The disk refused {where}: {error.strerror}.", hint=disk_hint(error))
