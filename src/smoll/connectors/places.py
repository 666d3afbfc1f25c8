"""Where the files of a stream are: what a path, a glob pattern or a URL leads to, before anything is fetched."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from smoll.connector import StreamPlan
from smoll.connectors.data_file import fingerprint_of, stream_error

_SECRET = re.compile("pass|secret|token|credential|signature|key|^sig$|^x-(amz|goog)-", re.IGNORECASE)
_AZURE = {"se", "sig", "sip", "ske", "sks", "skt", "skv", "skoid", "sktid", "sp", "spr", "sr", "st", "sv"}
_ARCHIVE = re.compile(r"(?<=\.zip)/", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A file, archive or workbook that a stream's path leads to.

    Parameters
    ----------
    name
        As `DataFile.name` has it.
    where
        How to get at it: a path on this machine, a URL of http, or the URL of a bucket's object.
    fingerprint
        As `DataFile.fingerprint` has it; None where only fetching it tells.
    members
        The glob pattern for the files that are wanted of an archive; empty: all that can be read.
    size
        In bytes; None where it is unknown.
    """

    name: str
    where: Path | str
    fingerprint: Sequence[Any] | None = None
    members: str = ""
    size: int | None = None

    @property
    def is_web(self) -> bool:
        return isinstance(self.where, str) and self.where.startswith(("http://", "https://"))


def split_archive(pattern: str) -> tuple[str, str]:
    """``data/a.zip/*.csv`` is ``*.csv`` in ``data/a.zip``; without an archive the second text is empty."""
    archive, *members = _ARCHIVE.split(pattern, maxsplit=1)
    return archive, members[0] if members else ""


def split_web_archive(url: str) -> tuple[str, str]:
    """As `split_archive`, for a URL that may have a query: it belongs to the archive."""
    parts = urlsplit(url)
    archive, members = split_archive(parts.path)
    return urlunsplit((parts.scheme, parts.netloc, archive, parts.query, "")), unquote(members)


def path_regex(pattern: str) -> re.Pattern[str]:
    """A glob pattern for paths as a regular expression: ``*`` ends at a slash, ``**/`` is any number of folders."""
    found, position = "", 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            found, position = found + "(?:.*/)?", position + 3
        elif pattern.startswith("**", position):
            found, position = found + ".*", position + 2
        elif pattern[position] == "[" and (end := pattern.find("]", position + 2)) > 0:
            inside = pattern[position + 1 : end].replace("\\", r"\\")
            inside = "^/" + inside[1:] if inside.startswith("!") else inside.replace("^", r"\^")
            found, position = f"{found}[{inside}]", end + 1
        else:
            found += {"*": "[^/]*", "?": "[^/]"}.get(pattern[position], re.escape(pattern[position]))
            position += 1
    return re.compile(found, re.DOTALL)


def public_name(url: str) -> str:
    """A URL without what is secret in it, or changes from day to day: user, password, keys and signatures."""
    parts = urlsplit(url)
    pairs = [(pair.partition("=")[0].lower(), pair) for pair in parts.query.split("&")]
    signed = any(name == "sig" for name, _ in pairs)
    kept = [pair for name, pair in pairs if not _SECRET.search(name) and not (signed and name in _AZURE)]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "&".join(kept), ""))


def find_local(plan: StreamPlan, pattern: str, root: Path) -> Iterator[Place]:
    """The files on this machine that a path or glob pattern leads to. Raises LoadError where there are none."""
    try:
        files, members = _expand(plan, pattern, root)
    except OSError as error:  # of a name that is longer than names can be, say, or a folder that may not be entered
        hint = "Check `path` in smoll.yml."
        raise stream_error(plan, f"{pattern} cannot be looked at: {error.strerror}.", hint) from error
    for path in files:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        stat = _stat(plan, path, name)
        yield Place(name, path, fingerprint_of(stat), members, stat.st_size)


def _expand(plan: StreamPlan, pattern: str, root: Path) -> tuple[Sequence[Path], str]:
    archive, members = split_archive(pattern)
    for path, inside in [(pattern, ""), *([(archive, members)] if members else [])]:
        whole = root / path
        if whole.is_file():  # also where the name holds characters that a glob would read as wildcards
            return [whole], inside
        matches = sorted(Path(m) for m in glob.iglob(str(Path(glob.escape(str(root))) / path), recursive=True))
        files = [match for match in matches if match.is_file()]
        if files:
            return files, inside
    if (root / pattern).is_dir():
        raise stream_error(
            plan, f"{pattern} is a folder, not a file.", f"Name the files in it: {pattern.rstrip('/')}/*.csv"
        )
    what = "No file matches" if glob.has_magic(pattern) else "There is no file"
    raise stream_error(
        plan, f"{what} {pattern} (looked in {root}).", "Check `path` in smoll.yml, or put the file there."
    )


def _stat(plan: StreamPlan, path: Path, name: str) -> os.stat_result:
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    if shown != name:
        raise stream_error(plan, f"the name {shown} is not UTF-8.", "Rename the file.")
    try:
        stat = path.stat()
    except OSError as error:
        raise stream_error(plan, f"{name} cannot be read: {error.strerror}.") from error
    if stat.st_size == 0:
        raise empty_file(plan, name)
    return stat


def empty_file(plan: StreamPlan, name: str) -> Exception:
    """The error of a file without a single byte."""
    hint = "Remove it, or write it anew; an empty file is often an upload that broke off."
    return stream_error(plan, f"{name} is empty: 0 bytes, not even a header.", hint)
