"""Where things lie under a project's ``.smoll/``. The only place that spells these paths.

``releases/<n>/warehouse.duckdb``, ``releases/<n>/manifest.json`` and ``releases/current`` are a promise to
readers (docs/releases.md); the rest may move between versions.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from smoll.errors import StateError

STATE_FOLDER = ".smoll"
SCRATCH = "load-"
"""How the names of the folders begin that a load keeps what it fetched in."""

BACKUP_SCRATCH = "backup-"
"""And of those that a backup keeps links to releases in."""


@dataclass(frozen=True)
class Layout:
    """The paths of one project. Nothing is created before `prepare`."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / STATE_FOLDER

    @property
    def warehouse(self) -> Path:
        return self.state / "warehouse.duckdb"

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.sqlite"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def switch_lock(self) -> Path:
        return self.state / "switch.lock"

    @property
    def backup_lock(self) -> Path:
        """Held by a backup from beginning to end, longer than the project's lock."""
        return self.state / "backup.lock"

    @property
    def releases(self) -> Path:
        return self.state / "releases"

    def tables_of(self, release: int) -> Path:
        """The DuckDB file of a release by its real path, as a process opens a file under one path only."""
        return Path(os.path.realpath(self.releases / str(release) / "warehouse.duckdb"))  # resolve() raises at loops

    @property
    def current(self) -> Path:
        return self.releases / "current"

    @property
    def pins(self) -> Path:
        return self.releases / "pins.json"

    @property
    def hold(self) -> Path:
        return self.releases / "hold.json"

    @property
    def column_lineage(self) -> Path:
        return self.state / "description" / "lineage.json"

    @property
    def charts(self) -> Path:
        """What was said of charts that were drawn once."""
        return self.state / "charts.json"

    @property
    def dbt(self) -> Path:
        return self.state / "dbt"

    @property
    def tmp(self) -> Path:
        return self.state / "tmp"

    @property
    def journals(self) -> Path:
        """What connectors have sent and nobody has loaded yet, a folder for each source."""
        return self.state / "journals"

    @property
    def undo(self) -> Path:
        """Copies of the working warehouse, each as it was before a run."""
        return self.state / "undo"

    @property
    def configs(self) -> Path:
        """Configurations that connectors have changed, readable by their owner alone."""
        return self.state / "configs"

    @property
    def backups(self) -> Path:
        """What an upgrade has changed, as it was before."""
        return self.state / "backups"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def dagster(self) -> Path:
        """Dagster's home: its configuration, and where it is kept in SQLite, runs and events."""
        return self.state / "dagster"

    @property
    def sql_history(self) -> Path:
        """What was typed into the shell of `smoll sql`, for its owner alone."""
        return self.state / "sql_history"

    @property
    def connectors(self) -> Path:
        """The environments of connectors, which are made anew from their locks where they are gone."""
        return self.state / "connectors"

    @property
    def connector_locks(self) -> Path:
        """What is installed in them. Not state: the project commits it."""
        return self.root / "connectors"

    def prepare(self) -> None:
        """Create the folders that a run writes to.

        Raises
        ------
        StateError
            Where the disk is read-only, full, or the folder belongs to someone else.
        """
        try:
            for folder in (self.state, self.releases, self.dbt, self.tmp, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.state, os.W_OK):
                raise PermissionError(13, "not writable")
            self._lay_schema()
        except OSError as error:
            raise StateError(
                f"Cannot write to {self.state}: {error.strerror or error}.",
                hint="smoll keeps its state there; make the folder writable or free some space.",
            ) from error

    def clean_tmp(self) -> None:
        """Remove what a killed load had fetched and unpacked. Call while the project's lock is held."""
        for folder in self.tmp.glob(f"{SCRATCH}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _lay_schema(self) -> None:
        """Put the JSON Schema where ``smoll.yml`` points editors to: a clone of the project comes without it."""
        shipped = resources.files("smoll").joinpath("smoll.schema.json").read_bytes()
        schema = self.state / "smoll.schema.json"
        if not schema.is_file() or schema.read_bytes() != shipped:
            schema.write_bytes(shipped)


def fsync_path(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a reader, or a crash, sees the old or the new content, whole."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder. No link is followed: it may lead anywhere."""
    total = 0
    below = () if path.is_symlink() else os.walk(path)
    for each in [path, *(Path(folder, name) for folder, _, names in below for name in names)]:
        with suppress(OSError):
            found = each.lstat()
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total
