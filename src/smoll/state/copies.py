"""Copies of the working warehouse, each as it was before a run, and the way back to one.

``.smoll/undo/<run>/`` holds ``warehouse.duckdb`` and ``copy.json``: what the copy is, and what the ledger knew at that
moment. A copy that shares its blocks with the warehouse (a reflink) is made in no time; without reflinks it is a plain
copy, of a small warehouse only. Copies are worth less than a run: one that cannot be made does not stop it, and the
room that a run needs comes first.

Going back begins with one rename, of the copy's folder. From there on it is completed, whatever happens: `finish_undo`
does the rest, again where it was cut short, before anything else looks at the warehouse.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.errors import StateError
from smoll.model import NOT_AS_WRITTEN, CopyKind, UndoCopy
from smoll.state.layout import Layout, fsync_path, size_of, write_atomically
from smoll.state.ledger import Ledger, open_ledger

if TYPE_CHECKING:
    from smoll.project import ProjectConfig

_STAGING, _BACK, _TRASH = ".staging-", ".back-", ".trash-"
_FILE, _ABOUT, _NONE = "warehouse.duckdb", "copy.json", "none.json"
_FICLONE = 0x40049409
_BAD_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


@dataclass(frozen=True)
class Limits:
    """``keep`` copies stay; a plain one is made of a warehouse of at most ``size`` bytes."""

    keep: int
    size: int


def limits_of(config: ProjectConfig) -> Limits:
    """What ``undo`` in the project file says."""
    return Limits(config.undo.keep, config.undo.copy_up_to)


class _NotKept(Exception):
    """Why there is no copy: ``kind`` in a word, and in words for people."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


# --- making them


def keep_copy(layout: Layout, ledger: Ledger, run: int, warehouse: tuple[str, int] | None, limits: Limits) -> str:
    """Keep the working warehouse and what the ledger knows of it as they are now, before `run` changes anything.

    Nobody has the warehouse open meanwhile, and its write-ahead log is written into it.

    Parameters
    ----------
    warehouse
        Its identity and the last run that opened it; None where there is none yet.

    Returns
    -------
    str
        Why there is no copy, where that has not been said before; else "".
    """
    try:
        if limits.keep > 0:
            _keep(layout, ledger, run, warehouse, limits)
    except (_NotKept, OSError) as error:
        kind, text = (error.kind, error.text) if isinstance(error, _NotKept) else ("failed", _words_of(error))
        return text if _note(layout, run, kind, text) else ""
    with suppress(OSError):
        (layout.undo / _NONE).unlink(missing_ok=True)
        _remove_all(layout, expired(layout, limits))
    return ""


def _keep(layout: Layout, ledger: Ledger, run: int, warehouse: tuple[str, int] | None, limits: Limits) -> None:
    source = layout.warehouse
    if warehouse and _logs(layout):
        raise _NotKept("log", "DuckDB could not write its log into the warehouse")
    layout.undo.mkdir(exist_ok=True)
    with _staged(layout, run) as folder:
        kind: CopyKind = "empty"
        if warehouse:
            kind = _copy(layout, source, folder / _FILE, limits)
            fsync_path(folder / _FILE)
        about = {
            "run": run,
            "created": datetime.now(UTC).isoformat(),
            "kind": kind,
            "warehouse": warehouse,
            "ledger": ledger.memory(),
        }
        write_atomically(folder / _ABOUT, json.dumps(about))


def _copy(layout: Layout, source: Path, target: Path, limits: Limits) -> CopyKind:
    size = source.stat().st_size
    _make_room(layout, size)  # the run may write all of it anew
    if reflink(source, target):
        return "reflink"
    if size > limits.size:
        raise _NotKept(
            "size",
            f"the warehouse has {in_words(size)}, plain copies are made up to {in_words(limits.size)} "
            "(undo.copy_up_to), and this file system has no reflinks",
        )
    _make_room(layout, 2 * size)
    shutil.copyfile(source, target)
    return "copy"


def _make_room(layout: Layout, needed: int) -> None:
    """Remove the oldest copies while the disk has less room than this."""
    left = list(reversed(copies(layout)))
    while (free := shutil.disk_usage(layout.undo).free) < needed:
        if not left:
            text = f"the disk has {in_words(free)} left, and a copy beside the run needs {in_words(needed)}"
            raise _NotKept("room", text)
        _remove_all(layout, [left.pop(0)])


def reflink(source: Path, target: Path) -> bool:
    """Make `target` a file that shares the blocks of `source`; False where the file system cannot."""
    if sys.platform == "darwin":
        call = ctypes.CDLL(None, use_errno=True).clonefile
        return bool(call(os.fsencode(source), os.fsencode(target), 0) == 0)
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new, _FICLONE, old.fileno())
        except OSError as error:
            if error.errno in _BAD_DISK:
                raise
            return False  # there are many ways to say so
    return True


def _logs(layout: Layout) -> list[Path]:
    """DuckDB's write-ahead log, and what a checkpoint makes of it, where they are."""
    return sorted(layout.warehouse.parent.glob(f"{layout.warehouse.name}.wal*"))


@contextmanager
def _staged(layout: Layout, run: int) -> Iterator[Path]:
    folder = layout.undo / f"{_STAGING}{run}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        fsync_path(folder)
        folder.rename(layout.undo / str(run))
        fsync_path(layout.undo)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


# --- which there are


def copies(layout: Layout) -> tuple[UndoCopy, ...]:
    """The copies that are kept, the newest first. One that says nothing sound of itself does not count."""
    found = [_entry(layout, path) for path in layout.undo.glob("*") if path.name.isdecimal()]
    return tuple(sorted((copy for copy in found if copy), key=lambda copy: -copy.run))


def _entry(layout: Layout, folder: Path) -> UndoCopy | None:
    try:
        about = _about(folder)
        created = datetime.fromisoformat(about["created"])
        path = folder.relative_to(layout.root).as_posix()
        return UndoCopy(int(folder.name), created, size_of(folder), about["kind"], path)
    except StateError:
        return None


def _about(folder: Path) -> dict[str, Any]:
    path = folder / _ABOUT
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"run", "created", "kind", "warehouse", "ledger"} <= set(about):
            raise ValueError("it is incomplete")
    except NOT_AS_WRITTEN as error:
        raise StateError(
            f"{path} is damaged: {error}", hint=f"Remove {folder}; an earlier copy may be sound."
        ) from error
    return about


def highest_copy(layout: Layout) -> int:
    """The highest run that any folder of copies is named after; 0 without one."""
    return max((int(path.name) for path in layout.undo.glob("*") if path.name.isdecimal()), default=0)


def file_of(layout: Layout, copy: UndoCopy) -> Path | None:
    """The copy of the warehouse; None where there was no warehouse then."""
    return None if copy.kind == "empty" else layout.root / copy.path / _FILE


def expired(layout: Layout, limits: Limits) -> tuple[UndoCopy, ...]:
    """The copies that need not stay."""
    return copies(layout)[limits.keep :]


def unfinished(layout: Layout) -> list[Path]:
    """What killed runs have left of copies."""
    return sorted([*layout.undo.glob(f"{_STAGING}*"), *layout.undo.glob(f"{_TRASH}*")])


def clean_copies(layout: Layout) -> None:
    """Remove what killed runs have left. Call while the project's lock is held."""
    for path in unfinished(layout):
        shutil.rmtree(path, ignore_errors=True)


def why_no_copy(layout: Layout, run: int, limits: Limits) -> str:
    """Say why there is no copy of the time before `run`."""
    note = _read_note(layout)
    if note and note["since"] <= run <= note["run"]:
        return str(note["text"])
    if limits.keep == 0:
        return "copies are switched off (undo.keep is 0)"
    newest = next(iter(copies(layout)), None)
    if newest and newest.run < run:
        return "none was made"
    return f"only the last {limits.keep} are kept (undo.keep)" if newest else "none was made, or it was removed"


def _note(layout: Layout, run: int, kind: str, text: str) -> bool:
    """Remember why `run` has no copy. True where that is another reason than before."""
    before = _read_note(layout)
    is_news = before is None or before["kind"] != kind
    since = run if before is None or is_news else before["since"]
    with suppress(OSError):
        layout.undo.mkdir(exist_ok=True)
        write_atomically(layout.undo / _NONE, json.dumps({"since": since, "run": run, "kind": kind, "text": text}))
    return is_news


def _read_note(layout: Layout) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, TypeError):
        note: dict[str, Any] = json.loads((layout.undo / _NONE).read_text(encoding="utf-8"))
        if {"since", "run", "kind", "text"} <= set(note):
            return note
    return None


# --- going back to one


def begin_undo(layout: Layout, run: int) -> None:
    """Decide to go back to the copy of the time before `run`, by one rename. `finish_undo` does it.

    Raises StateError where the folder cannot be renamed.
    """
    with _explained(run):
        (layout.undo / str(run)).rename(layout.undo / f"{_BACK}{run}")
        fsync_path(layout.undo)


def finish_undo(layout: Layout, ledger: Ledger) -> int | None:
    """Complete an undo that has begun. Call while the project's lock is held, before anything reads the warehouse.

    Every step can be done again. The ledger comes last, and in one transaction: it never believes in a warehouse that
    is not there.

    Returns
    -------
    int | None
        The run that is undone with all after it; None where no undo has begun.

    Raises
    ------
    StateError
        A file cannot be moved or written. The undo is completed by the next command that finds it possible.
    """
    folder = next(iter(layout.undo.glob(f"{_BACK}*")), None)
    if folder is None:
        return None
    about = _about(folder)
    run = int(folder.name.removeprefix(_BACK))
    with _explained(run):
        if layout.journals.exists():  # what they hold follows a state that is gone
            shutil.rmtree(layout.journals)
        _put_back(layout, folder / _FILE, is_empty=about["kind"] == "empty")
        ledger.go_back(run, about["warehouse"], about["ledger"])
        _remove_all(layout, [copy for copy in copies(layout) if copy.run >= run])
        _remove(layout, folder)
    return run


@contextmanager
def _explained(run: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(
            f"Cannot go back to before run {run}: {error.strerror or error}.",
            hint="Make .smoll writable or free some space. An undo that has begun is completed by the next command.",
        ) from error


def complete_undo(layout: Layout) -> None:
    """`finish_undo`, for those who need no ledger otherwise."""
    if any(layout.undo.glob(f"{_BACK}*")):
        with open_ledger(layout.ledger, create=True) as ledger:
            assert ledger is not None
            finish_undo(layout, ledger)


def _put_back(layout: Layout, file: Path, *, is_empty: bool) -> None:
    if not is_empty and not file.exists():
        return  # it is there already
    for log in _logs(layout):  # of the warehouse that goes; DuckDB would read it into the other one
        log.unlink()
    fsync_path(layout.state)
    if is_empty:
        layout.warehouse.unlink(missing_ok=True)
    else:
        file.replace(layout.warehouse)
    fsync_path(layout.state)


def remove_copies(layout: Layout, limits: Limits) -> tuple[UndoCopy, ...]:
    """Remove the copies that need not stay, and say which. Call while the project's lock is held."""
    gone = expired(layout, limits)
    _remove_all(layout, gone)
    return gone


def _remove_all(layout: Layout, gone: tuple[UndoCopy, ...] | list[UndoCopy]) -> None:
    for copy in gone:
        _remove(layout, layout.root / copy.path)


def _remove(layout: Layout, folder: Path) -> None:
    """Take a folder out of sight by one rename, then delete it: there is never half a copy."""
    trash = layout.undo / f"{_TRASH}{folder.name}"
    shutil.rmtree(trash, ignore_errors=True)
    folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def _words_of(error: OSError) -> str:
    return f"it could not be written: {error.strerror or error}"


def in_words(size: int) -> str:
    """``256 MB``, ``1.2 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
