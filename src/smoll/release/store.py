"""The releases on disk: their manifests, the ``current`` link, the hold.

Every change of what readers see is one rename of one name. Releases are built with the project's lock held;
``current`` and the hold have a lock of their own, so that a rollback never waits for a run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smoll.errors import ReleaseError, UsageError, disk_hint
from smoll.model import (
    NOT_AS_WRITTEN,
    CheckResult,
    Column,
    Hold,
    ReleasedTable,
    ReleaseEntry,
    ReleaseManifest,
    StoredFile,
    TableRef,
    known,
    to_json,
    verified,
)
from smoll.release.pins import read_pins
from smoll.state.layout import Layout, fsync_path, write_atomically
from smoll.state.lock import project_lock

STAGING = ".staging-"
TRASH = ".trash-"


def numbers(layout: Layout) -> list[int]:
    """The numbers of all complete releases, ascending."""
    if not layout.releases.is_dir():
        return []
    found = [path.name for path in layout.releases.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(int(name) for name in found if name == str(int(name)))


def read_manifest(layout: Layout, number: int) -> ReleaseManifest:
    """Read a release's manifest.

    Raises
    ------
    UsageError
        There is no release of this number.
    ReleaseError
        Its manifest is missing or damaged.
    """
    path = layout.releases / str(number) / "manifest.json"
    if not path.parent.is_dir():
        raise UsageError(f"There is no release {number}.", hint="`smoll releases` lists them.")
    try:
        return verified(_manifest(json.loads(path.read_text(encoding="utf-8"))))
    except NOT_AS_WRITTEN as error:
        raise ReleaseError(
            f"The manifest {path} is damaged: {error}",
            hint=f"Move the release away (mv '{path.parent}' '{layout.state}/damaged-{number}') and run `smoll run`.",
        ) from error


def write_manifest(folder: Path, manifest: ReleaseManifest) -> None:
    """Write ``manifest.json`` into a staged release."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(to_json(manifest), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    fsync_path(path)


def _manifest(data: dict[str, Any]) -> ReleaseManifest:
    tables = tuple(
        ReleasedTable(
            ref=TableRef(*item["ref"].split(".", 1)),
            columns=tuple(Column(**known(Column, column)) for column in item["columns"]),
            bytes=int(item.get("bytes", 0)),
            **{key: item[key] for key in ("id", "rows", "hash")},
        )
        for item in data["tables"]
    )
    checks = tuple(
        CheckResult(**{**known(CheckResult, item), "nodes": tuple(item["nodes"])}) for item in data["checks"]
    )
    lists = {"breaking": tuple(data.get("breaking", ()))}
    profile = StoredFile(**known(StoredFile, data["profile"])) if data.get("profile") else None
    own = {"tables": tables, "checks": checks, "created": datetime.fromisoformat(data["created"]), "profile": profile}
    return ReleaseManifest(**{**known(ReleaseManifest, data), **lists, **own})


def current_release(layout: Layout) -> int | None:
    """The number that ``current`` names; None where nothing is published.

    Raises ReleaseError where ``current`` leads nowhere.
    """
    number = _named_by_current(layout)
    link = layout.current
    if link.is_symlink() and (number is None or not (layout.releases / str(number)).is_dir()):
        raise ReleaseError(
            f"{link} leads to {link.readlink()}, which is no release.",
            hint="Publish another one: `smoll releases` lists them, `smoll rollback N` publishes one.",
        )
    return number


def _named_by_current(layout: Layout) -> int | None:
    """The number that ``current`` names, though that release may be gone."""
    link = layout.current
    if not link.is_symlink():
        return _copied_current(link)
    name = str(link.readlink())
    return int(name) if name.isdecimal() else None


def _copied_current(folder: Path) -> int | None:
    """A copy that followed links turned ``current`` into a folder; its manifest still says which release it is."""
    try:
        return int(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["number"])
    except NOT_AS_WRITTEN:
        return None


def newest_release(layout: Layout) -> int | None:
    """The highest number there is, switched to or not."""
    found = numbers(layout)
    return found[-1] if found else None


def rows_released(layout: Layout, id: str, limit: int) -> tuple[int, ...]:
    """The rows of the table with this dbt id in the newest releases that have it, the newest first."""
    found: list[int] = []
    for number in reversed(numbers(layout)):
        with suppress(ReleaseError, UsageError):  # damaged, or removed just now
            found += [table.rows for table in read_manifest(layout, number).tables if table.id == id]
        if len(found) >= limit:
            break
    return tuple(found[:limit])


def next_number(layout: Layout) -> int:
    """The number of the next release; none that a reader may have open is given twice."""
    return max(newest_release(layout) or 0, _named_by_current(layout) or 0) + 1


def entries(layout: Layout) -> tuple[ReleaseEntry, ...]:
    """All releases, the newest first."""
    return tuple(entry(layout, number) for number in reversed(numbers(layout)))


def entry(layout: Layout, number: int) -> ReleaseEntry:
    """One release as a list shows it. Raises UsageError where there is none of this number."""
    current = _named_by_current(layout)
    path = (layout.releases / str(number)).relative_to(layout.root).as_posix()
    waiting = read_hold(layout) is not None and (current is None or number > current)
    return ReleaseEntry(read_manifest(layout, number), path, number == current, waiting, number in read_pins(layout))


def switch(layout: Layout, number: int) -> None:
    """Make `number` the release that readers see. The link is relative, so that the project can be moved."""
    link = layout.current
    if link.exists() and not link.is_symlink():
        discard(layout, link)
    staged = link.with_name(".current.new")
    staged.unlink(missing_ok=True)
    staged.symlink_to(str(number), target_is_directory=True)
    staged.replace(link)
    fsync_path(layout.releases)


def read_hold(layout: Layout) -> Hold | None:
    """The hold, where a rollback has set one. Raises ReleaseError where its file is damaged."""
    try:
        data = json.loads(layout.hold.read_text(encoding="utf-8"))
        return verified(Hold(datetime.fromisoformat(data["since"]), data["release"], data["reason"]))
    except FileNotFoundError:
        return None
    except NOT_AS_WRITTEN as error:
        raise ReleaseError(
            f"{layout.hold} is damaged: {error}", hint="`smoll release resume` ends the hold."
        ) from error


def is_current(layout: Layout, number: int) -> bool:
    """Whether readers see release `number`."""
    return _named_by_current(layout) == number


def put_forward(layout: Layout, number: int) -> bool:
    """Publish release `number`; False where a hold forbids it."""
    with switching(layout):
        if read_hold(layout) is not None:
            return False
        switch(layout, number)
    return True


@contextmanager
def switching(layout: Layout) -> Iterator[None]:
    """One at a time looks at the hold and moves ``current``. A rollback need not wait for a run, only for this.

    Raises ReleaseError where the disk refuses; what was moved before that stays moved.
    """
    try:
        with project_lock(layout.switch_lock, "switching the release"):
            yield
    except OSError as error:
        raise ReleaseError(
            f"The disk refused a change in {layout.releases}: {error.strerror or error}.",
            hint=f"{disk_hint(error)} `smoll status` says which release readers see.".strip(),
        ) from error


def rollback(layout: Layout, number: int | None) -> int:
    """Publish an earlier release (the one before ``current`` by default) and hold it there.

    A run that is going on stages its release and does not publish it. The hold is written first: killed in
    between, ``current`` stays, and no run moves it unasked.

    Raises
    ------
    UsageError
        There is no such release, or none before ``current``.
    """
    if not numbers(layout):
        raise UsageError("There is no release to go back to.", hint="`smoll run` makes the first.")
    with switching(layout):
        current = _named_by_current(layout)
        number = number if number is not None else _before(layout, current)
        read_manifest(layout, number)
        hold = Hold(datetime.now(UTC), number, f"rolled back from release {current} to {number}")
        write_atomically(layout.hold, json.dumps(to_json(hold)) + "\n")
        switch(layout, number)
    return number


def _before(layout: Layout, current: int | None) -> int:
    earlier = [number for number in numbers(layout) if current is not None and number < current]
    if not earlier:
        raise UsageError("There is no earlier release to go back to.", hint="`smoll releases` lists them.")
    return earlier[-1]


def resume(layout: Layout) -> int:
    """End the hold and publish the newest release. Raises UsageError where there is none at all."""
    if newest_release(layout) is None:
        raise UsageError("There is no release yet.", hint="`smoll run` makes the first.")
    with switching(layout):
        newest = numbers(layout)[-1]
        read_manifest(layout, newest)
        switch(layout, newest)
        layout.hold.unlink(missing_ok=True)
        fsync_path(layout.releases)
    return newest


def clean(layout: Layout) -> list[str]:
    """Remove what a killed run left behind. Returns the names, for people."""
    left = list(layout.releases.glob(f"{STAGING}*"))
    for path in [*left, *layout.releases.glob(f"{TRASH}*")]:
        _remove(path)
    return [path.name for path in left]


@contextmanager
def staged(layout: Layout, number: int) -> Iterator[Path]:
    """Give a folder to build release `number` in; at the end of the block it takes its final place, whole."""
    folder = layout.releases / f"{STAGING}{number}"
    _remove(folder)
    folder.mkdir()
    try:
        yield folder
        fsync_path(folder)
        folder.rename(layout.releases / str(number))
        fsync_path(layout.releases)
    except BaseException:
        _remove(folder)
        raise


def discard(layout: Layout, path: Path) -> None:
    """Take a folder out of sight by one rename, then delete it: nobody ever sees half a release."""
    trash = layout.releases / f"{TRASH}{path.name}-{os.getpid()}"
    _remove(trash)
    path.rename(trash)
    _remove(trash)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
