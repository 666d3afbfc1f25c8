"""A data file, and how DuckDB's readers and people are told of it."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smoll.connector import FILE_COLUMN, Damage, Part, PartColumn, StreamPlan
from smoll.errors import LoadError
from smoll.model import literal, quote

_PARTITION = re.compile(r"(?:^|/)([^/=]+)=[^/]*(?=/)")
_WEB = "^(https?://[^?]*)[?].*$"  # what stands in a query is no folder
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class DataFile:
    """One file that can be read.

    Parameters
    ----------
    path
        Where it lies on this machine, once it is fetched and unpacked.
    name
        What state and ``_smoll_file`` say: its path relative to the project where it lies inside, else its absolute
        path or its URL without secrets; for a part of an archive or workbook followed by ``/member`` or ``#sheet``.
    size
        In bytes, as it is read.
    fingerprint
        What state keeps, as JSON: another one means that the file changed.
    format
        ``csv``, ``tsv``, ``json``, ``ndjson``, ``parquet`` or ``excel`` (then `path` holds NDJSON).
    origin
        The file on this machine that it was read from, or is: it must not change meanwhile. None: a copy was fetched.
    lines
        The rows of a sheet that the records of an Excel file come from, in order.
    """

    path: Path
    name: str
    size: int
    fingerprint: Sequence[Any]
    format: str
    origin: Path | None = None
    lines: Sequence[int] = ()


def fingerprint_of(stat: os.stat_result) -> list[int]:
    """What state keeps of a file on this machine: its size in bytes, and its time in nanoseconds."""
    return [stat.st_size, stat.st_mtime_ns]


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
    if cut >= 0 and all(str(file.path)[cut:] == file.name for file in files):
        return f"substring({quote(column)}, {cut + 1})"
    # A lookup in a MAP is linear: for thousands of files, the number that a fetched copy has for a name is quicker.
    numbers = [int(found[0]) if (found := re.match("[0-9]{6}", file.path.name)) else -1 for file in files]
    folders = {file.path.parent for file in files}
    if len(folders) == 1 and min(numbers) >= 0 and len(set(numbers)) == len(numbers):
        first, known = min(numbers), dict(zip(numbers, files, strict=True))
        names = [literal(known[n].name) if n in known else "NULL" for n in range(first, max(numbers) + 1)]
        start = len(str(files[0].path.parent)) + 2
        number = f"CAST(substring({quote(column)}, {start}, 6) AS INTEGER)"
        return f"[{', '.join(names)}][{number} - {first} + 1]"
    pairs = ", ".join(f"{literal(str(file.path))}: {literal(file.name)}" for file in files)
    return f"MAP {{{pairs}}}[{quote(column)}]"


def partitions_of(name: str) -> tuple[str, ...]:
    """The names of the partitions in a file's name: ``year`` and ``m`` of ``data/year=2024/m=1/x.csv``."""
    return tuple(dict.fromkeys(_PARTITION.findall(re.sub(_WEB, r"\1", name, flags=re.DOTALL))))


def everywhere(part: Part, change: Callable[[Part], Part]) -> Part:
    """Change a part, and also what is scanned in its place where it has to be described anew, or read with care."""
    changed, salvage, describe = change(part), part.salvage, part.describe
    if salvage:

        def read_with_care(scratch: Path) -> Damage:
            damage = salvage(scratch)
            return replace(damage, parts=tuple(change(found) for found in damage.parts))

        changed = replace(changed, salvage=read_with_care)
    if describe:
        changed = replace(changed, describe=lambda: everywhere(describe(), change))
    return changed


def with_partitions(part: Part, names: Sequence[str]) -> Part:
    """Add columns of text with the partitions of each row's file. A column of that name in the file itself wins."""
    return everywhere(part, lambda found: _with_partitions(found, names)) if names else part


def _with_partitions(part: Part, names: Sequence[str]) -> Part:
    own = {column.name.lower() for column in part.columns}
    added: list[str] = []
    for name in names:
        if name.lower() not in own:
            own.add(name.lower())
            added.append(name)
    if not added:
        return part
    path = f"regexp_replace({quote(FILE_COLUMN)}, '{_WEB}', '\\1', 's')"
    values = []
    for name in added:
        found = f"regexp_extract({path}, {literal(f'(?:^|/){re.escape(name)}=([^/]*)/')}, 1)"
        values.append(f"nullif(nullif(url_decode({found}), ''), '{_NO_VALUE}') AS {quote(unescape(name))}")
    columns = (*part.columns, *(PartColumn(unescape(name), None) for name in added))
    return replace(part, sql=f"SELECT *, {', '.join(values)} FROM ({part.sql})", columns=columns)


def unescape(name: str) -> str:
    """Undo the percent-encoding of a partition's name."""
    from urllib.parse import unquote

    return unquote(name)


def stream_error(plan: StreamPlan, message: str, hint: str = "") -> LoadError:
    """Make the error of a stream; its name comes first."""
    return LoadError(f"{plan.ref}: {message}", hint=hint)


def refuse_twins(plan: StreamPlan, place: str, what: str, names: Sequence[str]) -> None:
    """Raise LoadError where two names are equal, or differ by case only: for DuckDB they are one column.

    And where one can be the name of no column at all.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not name or "\0" in name:
            raise stream_error(plan, f"{place} has {what} named {name!r}; no column can be.", "Rename it.")
        earlier = seen.get(name.lower())
        if earlier is not None:
            same = f"two {what} named {name!r}" if earlier == name else f"the {what} {earlier!r} and {name!r}"
            raise stream_error(plan, f"{place} has {same}; for DuckDB they are one.", "Rename one of them.")
        seen[name.lower()] = name
