"""``smoll backup``: a consistent copy of a project and its state, made while runs may come and readers read.

What belongs to one moment is taken while the project's lock is held: warehouse, ledger, journals, releases. Releases
never change, so links to their files hold them until they are copied. A file system with reflinks holds the warehouse,
too, and the lock is given back at once; elsewhere when the warehouse is copied.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from smoll.archive import (
    ABOUT,
    ENCRYPTED,
    FORMAT,
    PASSPHRASE,
    ROOT,
    SUFFIX,
    Compressor,
    Encryptor,
    Packer,
    Sink,
    creating,
    passphrase_of,
    place_for,
)
from smoll.errors import BackupError
from smoll.events import CopyProgress, Listener, LockWaiting
from smoll.model import Backup, BackupPart
from smoll.project import ProjectConfig
from smoll.release import current_release
from smoll.release.store import numbers, switching
from smoll.state.copies import complete_undo, reflink
from smoll.state.layout import BACKUP_SCRATCH, STATE_FOLDER, Layout
from smoll.state.ledger import copy_database
from smoll.state.lock import project_lock
from smoll.warehouse import engine_settings, open_warehouse

_TELL_SECONDS = 0.2
_NO_FILES = {STATE_FOLDER, ".git", "__pycache__", "node_modules", ".ipynb_checkpoints"}
_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")  # of an environment, and of a cache
_SECRET_ENDS = (".pem", ".key", ".p12")
_SECRETS = (".envrc", ".netrc", ".pgpass", "secrets.toml")
_TEMPLATES = (".example", ".sample", ".template")
_STORE_KEYS = {
    *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_region", "aws_default_region"),
    *("aws_endpoint", "aws_endpoint_url", "google_service_account", "google_service_account_key"),
    *("azure_storage_account_name", "azure_storage_account_key", "azure_storage_sas_token"),
}


@dataclass(frozen=True)
class _Item:
    """A file, folder or link of the backup. ``name`` is relative to the project, ``path`` where its content is now.

    ``database``: a SQLite database that others may be writing.
    """

    part: str
    name: str
    path: Path
    database: bool = False


@dataclass
class _Counts:
    """How far it is: bytes of content, and files and bytes of each part."""

    total: int
    tell: Listener
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0
    done: int = 0
    parts: dict[str, BackupPart] = field(default_factory=dict)

    def wrote(self, size: int) -> None:
        self.done += size
        now = time.monotonic()
        if now - self.told >= _TELL_SECONDS:
            self.told = now
            self.tell(CopyProgress(self.done, max(self.total, self.done), now - self.began))

    def add(self, part: str, size: int) -> None:
        known = self.parts.get(part, BackupPart(part, 0, 0))
        self.parts[part] = BackupPart(part, known.files + 1, known.bytes + size)


def back_up(config: ProjectConfig, target: str, *, wait: bool, on_event: Listener | None) -> Backup:
    """Write a backup of the project to `target`; encrypted where there is a passphrase.

    Parameters
    ----------
    target
        A folder or a file, or ``s3://bucket/prefix/`` (``gs``, ``az``). In a folder the name says project and time.
    wait
        Wait for a run that holds the project (True), or raise LockedError (False).

    Raises
    ------
    UsageError
        The target is no place for a backup, or a package is not installed.
    LockedError
        A run holds the project and `wait` is False.
    StateError
        The warehouse or the ledger cannot be read.
    BackupError
        A file cannot be read, or the backup not be written. Nothing of it is left.
    """
    tell = on_event or (lambda event: None)
    began = time.monotonic()
    passphrase = passphrase_of(config.dotenv)
    end = f"{SUFFIX}{ENCRYPTED if passphrase else ''}"
    place_for(target, f"{config.name}{end}")  # a mistake is told before anybody is waited for
    layout = Layout(config.root)
    layout.prepare()

    def waits(lock: Path) -> ExitStack:
        held = ExitStack()
        on_wait = lambda holder: tell(LockWaiting(holder))  # noqa: E731
        held.enter_context(project_lock(lock, "smoll backup", wait=wait, on_wait=on_wait))
        return held

    with waits(layout.backup_lock), ExitStack() as work:
        held = work.enter_context(waits(layout.lock))
        for left in layout.tmp.glob(f"{BACKUP_SCRATCH}*"):  # of a backup that was killed
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(work.enter_context(tempfile.TemporaryDirectory(prefix=BACKUP_SCRATCH, dir=layout.tmp)))
        created = datetime.now(UTC)
        place = place_for(target, f"{config.name}-{created:%Y%m%dT%H%M%SZ}{end}")
        first, is_held = _of_one_moment(config, layout, scratch)
        if is_held:
            held.close()
        notes: list[str] = []
        later = [*_others(layout), *_own_files(config, Path(place), passphrase is not None, notes)]
        notes += _general_notes(config, layout, passphrase is not None)
        if passphrase is None:
            first = [item for item in first if item.part != "connectors' settings"]
        counts = _Counts(sum(_size(item.path) for item in [*first, *later]), tell)
        sink = work.enter_context(creating(place, counts.total, _store_options(config)))
        counted = _Counted(sink)
        encryptor = Encryptor(counted, passphrase) if passphrase else None
        compressor = Compressor(encryptor or counted)
        packer = Packer(compressor, counts.wrote)
        packer.add_text(ABOUT, _about(config, created, passphrase is not None, notes))
        for item in first:
            _add(packer, item, scratch, counts)
        held.close()
        for item in later:
            _add(packer, item, scratch, counts)
        packer.finish()
        compressor.finish()
        if encryptor:
            encryptor.finish()
    return Backup(
        place=place,
        project=config.name,
        created=created,
        bytes=counted.bytes,
        seconds=round(time.monotonic() - began, 3),
        encrypted=passphrase is not None,
        parts=tuple(counts.parts.values()),
        notes=tuple(notes),
    )


def _store_options(config: ProjectConfig) -> dict[str, str]:
    """What ``.env`` says of object stores. The environment itself wins, and is read by the store's library."""
    found = {name: value for name, value in config.dotenv.items() if name.lower() in _STORE_KEYS}
    return {name: value for name, value in found.items() if name not in os.environ}


class _Counted:
    """A sink that knows how much went through it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self._sink.write(data)
        self.bytes += len(data)


def _about(config: ProjectConfig, created: datetime, encrypted: bool, notes: list[str]) -> str:
    about = {
        "format": FORMAT,
        "project": config.name,
        "smoll": version("smoll"),
        "created": created.isoformat(),
        "encrypted": encrypted,
        "notes": notes,
    }
    return json.dumps(about, indent=2) + "\n"


def _add(packer: Packer, item: _Item, scratch: Path, counts: _Counts) -> None:
    """Add one item. What is gone meanwhile is not there any more: nobody needs it."""
    name = ROOT + item.name
    try:
        mode = item.path.lstat().st_mode
        if stat.S_ISLNK(mode):
            packer.add_link(name, str(item.path.readlink()))
        elif stat.S_ISDIR(mode):
            packer.add_folder(name, item.path)
        elif item.database:
            copy = scratch / "database"
            copy.unlink(missing_ok=True)
            _copy_database(item.path, copy)
            counts.add(item.part, packer.add_file(name, copy))
        else:
            counts.add(item.part, packer.add_file(name, item.path))
    except FileNotFoundError:
        return


def _copy_database(source: Path, target: Path) -> None:
    try:
        copy_database(source, target)
    except sqlite3.Error as error:
        if not source.exists():
            raise FileNotFoundError(source) from error
        raise BackupError(f"{source} cannot be copied: {error}.", hint="Mend it, or free some space.") from error


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0


# --- what there is


def _of_one_moment(config: ProjectConfig, layout: Layout, scratch: Path) -> tuple[list[_Item], bool]:
    """What must be of one moment. Call while the project's lock is held.

    Returns
    -------
    list, bool
        And whether copies hold all of it already; if not, the lock must be kept until it is written.
    """
    complete_undo(layout)
    items, is_held = [], True
    if layout.warehouse.exists():
        settings = engine_settings(config.resources, layout.tmp)
        with open_warehouse(layout.warehouse, settings) as warehouse:
            warehouse.execute("CHECKPOINT")  # all of it is in one file then
        copy = scratch / layout.warehouse.name
        is_held = reflink(layout.warehouse, copy)
        items.append(_Item("warehouse", _name(layout, layout.warehouse), copy if is_held else layout.warehouse))
    if layout.ledger.exists():
        copy = scratch / layout.ledger.name
        _copy_database(layout.ledger, copy)
        items.append(_Item("ledger", _name(layout, layout.ledger), copy))
    for part, folder in (("journals", layout.journals), ("connectors' settings", layout.configs)):
        held = folder
        if is_held and folder.is_dir():
            held = scratch / folder.name
            shutil.copytree(folder, held, symlinks=True, copy_function=_share)
        items += _placed(part, held, _name(layout, folder))
    return [*items, *_releases(layout, scratch)], is_held


def _share(source: str, target: str) -> None:
    if reflink(Path(source), Path(target)):
        shutil.copystat(source, target)
    else:
        shutil.copy2(source, target)


def _releases(layout: Layout, scratch: Path) -> Iterator[_Item]:
    """All releases, and which of them is current, by links that stay when a release is removed meanwhile."""
    held = scratch / "releases"
    held.mkdir()
    with switching(layout):
        current = current_release(layout)
        if current is not None:
            (held / layout.current.name).symlink_to(str(current), target_is_directory=True)
        for path in (layout.hold, layout.pins):
            if path.is_file():
                shutil.copy2(path, held / path.name)
        for number in numbers(layout):
            shutil.copytree(layout.releases / str(number), held / str(number), symlinks=True, copy_function=_link)
    yield from _placed("releases", held, _name(layout, layout.releases))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without them
        shutil.copy2(source, target)


def _others(layout: Layout) -> Iterator[_Item]:
    """Dagster's history, and the logs: what goes its own way."""
    own = {"dagster.yaml", "workspace.yaml", "run"}  # `smoll up` makes them anew
    for path in _walk(layout.dagster):
        inside = path.relative_to(layout.dagster)
        if inside.parts[0] in own or path.name.endswith(("-wal", "-shm", "-journal")):
            continue
        # By its name: whoever opens and closes a database, without SQLite, takes away the locks of its process on it.
        is_database = inside.parts[0] in ("history", "schedules") and path.suffix == ".db"
        yield _Item("Dagster's history", _name(layout, path), path, is_database)
    yield from _placed("logs", layout.logs, _name(layout, layout.logs))


def _placed(part: str, folder: Path, name: str) -> Iterator[_Item]:
    """All below a folder, which the backup has under `name`."""
    for path in _walk(folder):
        yield _Item(part, f"{name}/{path.relative_to(folder).as_posix()}", path)


def _name(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.root).as_posix()


def _walk(folder: Path, keep: Callable[[Path], bool] = lambda path: True) -> Iterator[Path]:
    """Files, folders and links below a folder, in order; links are not followed."""
    try:
        found = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise BackupError(f"Cannot read {folder}: {error.strerror or error}.", hint="Make it readable.") from error
    for path in found:
        if not keep(path):
            continue
        if path.is_symlink() or path.is_file():
            yield path
        elif path.is_dir():
            yield path
            yield from _walk(path, keep)


def _own_files(config: ProjectConfig, place: Path, encrypted: bool, notes: list[str]) -> Iterator[_Item]:
    """The project's own files; what is no file of it, and why, goes to `notes`."""
    root = config.root

    def keep(path: Path) -> bool:
        inside = path.relative_to(root).as_posix()
        if path.is_symlink():
            if _leads_out(root, path):
                notes.append(f"{inside} is not in it: a link to a place outside of the project")
            return not _leads_out(root, path)
        if path.name in _NO_FILES or path == config.transform_dir / "target":
            return False
        if path.is_dir():
            return not any((path / mark).exists() for mark in _MARKS)
        if path == place or path.name.endswith((SUFFIX, SUFFIX + ENCRYPTED)) or _is_staged(path):
            return False
        if not encrypted and _is_secret(path.name):
            notes.append(f"{inside} is not in it: secrets; set {PASSPHRASE} to have them, encrypted")
            return False
        return True

    for path in _walk(root, keep):
        yield _Item("project files", path.relative_to(root).as_posix(), path)


def _is_staged(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp") and SUFFIX in path.name


def _is_secret(name: str) -> bool:
    if name == ".env" or name.startswith(".env."):
        return not name.endswith(_TEMPLATES)
    return name in _SECRETS or name.endswith(_SECRET_ENDS)


def _leads_out(root: Path, link: Path) -> bool:
    target = link.readlink()
    inside = os.path.normpath(link.parent / target)
    return target.is_absolute() or os.path.commonpath([root, inside]) != str(root)


def _general_notes(config: ProjectConfig, layout: Layout, encrypted: bool) -> Iterator[str]:
    if config.dagster.storage is not None:
        yield "Dagster's history is not in it: Postgres has backups of its own"
    if not encrypted and any(_walk(layout.configs)):
        yield f"{_name(layout, layout.configs)} is not in it: secrets; set {PASSPHRASE} to have them, encrypted"
