"""The error tree. Every error says what happened, where, and what to do next.

The exit code of the command line is the error's ``exit_code``; see ``docs/cli.md``.
"""

from __future__ import annotations

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


class UpError(SmollError):
    """A process of `smoll up` could not be started. None of them is left."""


class Interrupted(SmollError):
    """The user (or the system) asked the run to stop. What was committed stays."""

    exit_code = 130
