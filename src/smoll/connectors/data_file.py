"""A data file, and how DuckDB's readers and people are told of it."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smoll.connector import StreamPlan
from smoll.errors import LoadError
from smoll.model import literal, quote


@dataclass(frozen=True)
class DataFile:
    """One file: its path on this machine, and its name in state (relative to the project where it lies inside)."""

    path: Path
    name: str
    size: int
    modified: int

    @property
    def fingerprint(self) -> list[int]:
        return [self.size, self.modified]


def label(files: Sequence[DataFile]) -> str:
    """Name a group of files for a message."""
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more files"


def named(files: Sequence[DataFile], text: str) -> str:
    """Name the file that an error of DuckDB speaks of, or all where it speaks of none."""
    return next((file.name for file in files if str(file.path) in text), label(files))


def paths_sql(files: Sequence[DataFile]) -> str:
    """SQL: the list of the files. DuckDB takes a path for a pattern where it can, even where a file is named so."""
    return "[" + ", ".join(literal(glob.escape(str(file.path))) for file in files) + "]"


def file_name_sql(files: Sequence[DataFile], column: str = "__smoll_path") -> str:
    """SQL that gives a row's file as state names it, from the path that DuckDB reports."""
    if len(files) == 1:
        return literal(files[0].name)
    cut = len(str(files[0].path)) - len(files[0].name)
    if all(str(file.path)[cut:] == file.name for file in files):
        return f"substring({quote(column)}, {cut + 1})"
    pairs = ", ".join(f"{literal(str(file.path))}: {literal(file.name)}" for file in files)
    return f"MAP {{{pairs}}}[{quote(column)}]"


def stream_error(plan: StreamPlan, message: str, hint: str = "") -> LoadError:
    """Make the error of a stream; its name comes first."""
    return LoadError(f"{plan.ref}: {message}", hint=hint)


def refuse_twins(plan: StreamPlan, place: str, what: str, names: Sequence[str]) -> None:
    """Raise LoadError where two names are equal, or differ by case only: for DuckDB they are one column."""
    seen: dict[str, str] = {}
    for name in names:
        earlier = seen.get(name.lower())
        if earlier is not None:
            same = f"two {what} named {name!r}" if earlier == name else f"the {what} {earlier!r} and {name!r}"
            raise stream_error(plan, f"{place} has {same}; for DuckDB they are one.", "Rename one of them.")
        seen[name.lower()] = name
