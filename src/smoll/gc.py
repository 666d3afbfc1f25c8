"""``smoll gc``: what takes room on disk and is of no use any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator

from smoll.events import Listener, LockWaiting
from smoll.model import Removal
from smoll.project import ProgramBase, ProjectConfig
from smoll.publish import retention_of
from smoll.release import Expired, expired, remove_expired
from smoll.release.store import STAGING, TRASH
from smoll.state.copies import complete_undo, limits_of, unfinished
from smoll.state.copies import expired as expired_copies
from smoll.state.layout import BACKUP_SCRATCH, SCRATCH, Layout, size_of
from smoll.state.lock import current_holder, project_lock


def collect_garbage(
    config: ProjectConfig, *, dry_run: bool, wait: bool = True, on_event: Listener | None = None
) -> tuple[Removal, ...]:
    """Remove releases that need not stay, and what killed runs and removed sources left behind.

    Parameters
    ----------
    dry_run
        Remove nothing, only say what would go. Takes no lock.
    wait
        Wait for a run that holds the project (True), or raise LockedError (False).

    Raises
    ------
    LockedError
        A run holds the project and `wait` is False.
    ReleaseError
        The file of pins is damaged: then no release is removed.
    """
    layout = Layout(config.root)
    if dry_run:
        return (*_removals(layout, expired(layout, retention_of(config))), *_left(config, layout))
    tell = on_event or (lambda event: None)
    layout.prepare()
    with project_lock(layout.lock, "smoll gc", wait=wait, on_wait=lambda holder: tell(LockWaiting(holder))):
        complete_undo(layout)
        left = tuple(_left(config, layout))
        for removal in left:
            path = config.root / removal.path
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return (*_removals(layout, remove_expired(layout, retention_of(config))), *left)


def _removals(layout: Layout, releases: Iterable[Expired]) -> Iterator[Removal]:
    for each in releases:
        path = layout.releases / str(each.number)
        yield Removal(path.relative_to(layout.root).as_posix(), each.size, each.reason)


def _left(config: ProjectConfig, layout: Layout) -> Iterator[Removal]:
    """What nobody comes back to, as long as nothing runs."""
    staged = [*layout.releases.glob(f"{STAGING}*"), *layout.releases.glob(f"{TRASH}*")]
    found = [(path, "an unfinished release") for path in staged]
    found += [(path, "left by a killed load") for path in layout.tmp.glob(f"{SCRATCH}*")]
    found += [(path, "an unfinished copy") for path in unfinished(layout)]
    limits = limits_of(config)
    why = f"more than {limits.keep} are not kept" if limits.keep else "copies are switched off"
    found += [(layout.root / copy.path, why) for copy in expired_copies(layout, limits)]
    if current_holder(layout.backup_lock) is None:
        found += [(path, "left by a killed backup") for path in layout.tmp.glob(f"{BACKUP_SCRATCH}*")]
    programs = {name for name, source in config.sources.items() if isinstance(source, ProgramBase)}
    for folder, what in ((layout.journals, "received for"), (layout.configs, "a configuration of")):
        for path in sorted(folder.glob("*")):
            if path.name.removesuffix(".json") not in programs:
                found.append((path, f"{what} a source that is no more"))
    for path, reason in found:
        yield Removal(path.relative_to(layout.root).as_posix(), size_of(path), reason)
