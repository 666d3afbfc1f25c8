"""``smoll restore``: a project on an empty machine, from a backup. All of it is there, or nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from smoll.archive import (
    ABOUT,
    FORMAT,
    INDEX,
    ROOT,
    Source,
    damaged,
    mtime_of,
    passphrase_of,
    reading,
    remove_abandoned,
    unpacked,
)
from smoll.errors import BackupError, UsageError
from smoll.events import CopyProgress, Listener
from smoll.model import Restored
from smoll.state.layout import fsync_path

_BLOCK = 1 << 20
_TELL_SECONDS = 0.2
_NAME = ".{}.restoring-"


def restore(source: str, directory: str | Path | None = None, *, on_event: Listener | None = None) -> Restored:
    """Bring a project back from a backup.

    Parameters
    ----------
    source
        The file, or ``s3://bucket/key`` (``gs``, ``az``). An encrypted one needs its passphrase in the environment
        variable SMOLL_BACKUP_PASSPHRASE.
    directory
        An empty folder, or one that is not there yet; by default the project's name, in the working directory.
    on_event
        Called with `smoll.events.CopyProgress` now and then.

    Raises
    ------
    UsageError
        The source is not there, the folder is not empty, or a package is not installed.
    BackupError
        The backup is damaged, was made by a newer smoll or needs another passphrase, or the disk is full. Nothing is
        left.
    """
    began, tell = time.monotonic(), on_event or (lambda event: None)
    if directory is not None:
        _refuse_taken(Path(directory).absolute())
    with reading(source) as (raw, size):
        counted = _Counted(raw, size, began, tell)
        try:
            plain = unpacked(counted, passphrase_of(None))
            with tarfile.open(fileobj=cast(IO[bytes], plain), mode="r|", bufsize=_BLOCK) as tar:
                members = iter(tar)
                about = _about(tar, members)
                target = Path(directory if directory is not None else _safe_name(about["project"])).absolute()
                _refuse_taken(target)
                with _staged(target) as folder:
                    found = _Extraction(folder)
                    found.take(tar, members)
                    while plain.read(_BLOCK):  # to its end, which has a checksum of all
                        pass
        except (tarfile.TarError, EOFError) as error:
            raise damaged("it is no backup of smoll, or it is cut off") from error
    return Restored(
        root=target,
        project=str(about["project"]),
        created=datetime.fromisoformat(about["created"]),
        files=found.files,
        bytes=found.bytes,
        seconds=round(time.monotonic() - began, 3),
        notes=tuple(map(str, about.get("notes", ()))),
    )


def _refuse_taken(target: Path) -> None:
    if target == Path.cwd():
        raise UsageError(f"{target} is the folder you are in.", hint="Name another one: smoll restore BACKUP NAME")
    if not target.parent.is_dir():
        raise UsageError(f"There is no folder {target.parent}.", hint="Make it, then try again.")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise UsageError(f"{target} is there already.", hint="Name a folder that is empty, or not there yet.")
    there = sorted(path.name for path in target.iterdir())
    if there:
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        raise UsageError(
            f"{target} is not empty: {', '.join(there[:3])}{more}.",
            hint="Name a folder that is empty, or not there yet.",
        )


def _safe_name(project: Any) -> str:
    name = str(project)
    if not name or name != Path(name).name or name.startswith("."):
        raise damaged("its project has no name for a folder")
    return name


def _about(tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo]) -> dict[str, Any]:
    """What the backup says of itself."""
    first = next(members, None)
    if first is None or first.name != ABOUT:
        raise BackupError("This is no backup of smoll.", hint="`smoll backup` makes one.")
    about = _json(tar, first)
    try:
        made_by_newer = int(about["format"]) > FORMAT
        datetime.fromisoformat(about["created"])
        about["project"]
    except (KeyError, TypeError, ValueError) as error:
        raise damaged("it does not say what it is") from error
    if made_by_newer:
        raise BackupError("The backup was made by a newer smoll.", hint="Upgrade smoll, then restore it.")
    return about


def _json(tar: tarfile.TarFile, info: tarfile.TarInfo) -> dict[str, Any]:
    file = tar.extractfile(info)
    try:
        found = json.loads(file.read() if file else b"")
    except ValueError as error:
        raise damaged(f"{info.name} cannot be read") from error
    if not isinstance(found, dict):
        raise damaged(f"{info.name} cannot be read")
    return found


class _Counted:
    """A source that tells how far it is."""

    def __init__(self, source: Source, size: int, began: float, tell: Listener) -> None:
        self._source = source
        self._size = size
        self._began = began
        self._tell = tell
        self._done = 0
        self._told = 0.0

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._done += len(data)
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            self._tell(CopyProgress(self._done, self._size, now - self._began))
        return data


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Give a hidden folder beside the target; at the end of the block it takes its place, whole."""
    prefix = _NAME.format(target.name)
    remove_abandoned(target.parent, f"{prefix}*")
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    except OSError as error:
        raise _unwritable(target, error) from error
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # alive; see `remove_abandoned`
        yield folder
        folder.chmod(0o777 & ~_umask())
        _sync(folder)
        _refuse_taken(target)
        folder.rename(target)  # an empty folder gives way
        fsync_path(target.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise _unwritable(target, error) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(folder: Path) -> None:
    for place, _, _ in os.walk(folder):
        fsync_path(Path(place))


def _unwritable(target: Path, error: OSError) -> BackupError:
    return BackupError(
        f"Cannot restore to {target}: {error.strerror or error}.", hint="Free some space, or name another folder."
    )


@dataclass
class _Extraction:
    """Takes the members of a backup into a folder, and holds them against the index at its end.

    Links are made last, so that nothing is ever written through one.
    """

    folder: Path
    files: int = 0
    bytes: int = 0
    found: dict[str, str] = field(default_factory=dict)
    links: dict[Path, str] = field(default_factory=dict)

    def take(self, tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo]) -> None:
        index: dict[str, Any] | None = None
        for info in members:
            if info.name == INDEX:
                index = _json(tar, info)
                break
            try:
                self._take(tar, info)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise damaged(f"{info.name} is in it twice") from error
        if index is None:
            raise damaged("it is cut off")
        index.pop(ABOUT, None)
        wrong = sorted(name for name in {*index, *self.found} if index.get(name) != self.found.get(name))
        if wrong:
            raise damaged(f"{wrong[0]} is not what was written")
        for path, target in self.links.items():
            if path.exists() or not self.links.keys().isdisjoint(path.parents):
                raise damaged(f"the link {path.name} is where another member is")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)

    def _take(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        path = self._path(info)
        if info.isdir():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(info.mode & 0o777 | 0o700)
        elif info.issym():
            self._check_link(info, path)
            self.links[path] = info.linkname
            self.found[info.name] = f"-> {info.linkname}"
        elif info.isreg():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(tar, info, path)
        else:
            raise damaged(f"{info.name} is no file, folder or link")

    def _path(self, info: tarfile.TarInfo) -> Path:
        inside = info.name.removeprefix(ROOT)
        parts = PurePosixPath(inside).parts
        if inside == info.name or not parts or inside.startswith("/") or ".." in parts or "\0" in inside:
            raise damaged(f"{info.name!r} would lie outside of the project")
        return self.folder.joinpath(*parts)

    def _check_link(self, info: tarfile.TarInfo, path: Path) -> None:
        inside = os.path.normpath(path.parent / info.linkname)
        if Path(info.linkname).is_absolute() or os.path.commonpath([self.folder, inside]) != str(self.folder):
            raise damaged(f"{info.name} is a link that leads outside of the project")

    def _write(self, tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
        content = tar.extractfile(info)
        assert content is not None
        digest, left = hashlib.sha256(), info.size
        with path.open("xb") as file:
            while left:
                block = content.read(min(left, _BLOCK))
                if not block:
                    raise damaged("it is cut off")
                digest.update(block)
                file.write(block)
                left -= len(block)
            file.flush()
            os.fchmod(file.fileno(), info.mode & 0o777)
            os.fsync(file.fileno())
        os.utime(path, ns=(mtime_of(info), mtime_of(info)))
        self.found[info.name] = digest.hexdigest()
        self.files += 1
        self.bytes += info.size
