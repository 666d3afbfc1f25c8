"""Which releases stay on disk: the newest ones, the pinned ones, and what age and disk allow.

Readers' release, newer ones and pinned ones always stay, and so does one to go back to, unless only one is wanted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from smoll.errors import ReleaseError, UsageError
from smoll.model import Pin
from smoll.release.pins import read_pins, write_pins
from smoll.release.store import current_release, discard, numbers, read_manifest, switching
from smoll.state.layout import Layout, size_of

_SHARE = 4
"""Without a limit of their own, releases may take this part of the disk: one in four bytes."""


@dataclass(frozen=True)
class Retention:
    """``keep`` releases stay, of those no older ones than ``days`` and no more than ``size`` bytes (None: no limit of
    age; a quarter of the disk).
    """

    keep: int
    days: int | None = None
    size: int | None = None


@dataclass(frozen=True)
class Expired:
    """A release that need not stay: its bytes on disk, and why. ``for_room``: it could stay, but for the disk."""

    number: int
    size: int
    reason: str
    for_room: bool = False


def expired(layout: Layout, retention: Retention) -> Iterator[Expired]:
    """The releases that need not stay, the oldest first."""
    current = current_release(layout)
    pinned = read_pins(layout)
    free = [number for number in numbers(layout) if number not in pinned]
    if current is None or not free:
        return
    sizes = {number: size_of(layout.releases / str(number)) for number in free}
    limit, whose = _limit(layout, retention)
    oldest = datetime.now(UTC) - timedelta(days=retention.days) if retention.days is not None else None
    left, total = len(free), sum(sizes.values())
    last = max((number for number in free if number < current), default=None)  # to go back to
    for number in [number for number in free if number < current]:
        reason, for_room = "", False
        if left > retention.keep:
            reason = f"more than {retention.keep} are not kept"
        elif number == last:
            return
        elif oldest is not None and _created(layout, number) < oldest:
            reason = f"older than {retention.days} days"
        elif total > limit:
            reason, for_room = f"all together took more than {whose}", True
        if reason:
            left, total = left - 1, total - sizes[number]
            yield Expired(number, sizes[number], reason, for_room)


def _limit(layout: Layout, retention: Retention) -> tuple[int, str]:
    if retention.size is not None:
        return retention.size, f"{retention.size:,} bytes"
    return shutil.disk_usage(layout.releases).total // _SHARE, "a quarter of the disk"


def _created(layout: Layout, number: int) -> datetime:
    try:
        return read_manifest(layout, number).created
    except ReleaseError:  # damaged: by the time of its folder
        return datetime.fromtimestamp((layout.releases / str(number)).stat().st_mtime, UTC)


def remove_expired(layout: Layout, retention: Retention) -> tuple[Expired, ...]:
    """Remove what need not stay, and say what it was."""
    with switching(layout):
        found = tuple(expired(layout, retention))
        for each in found:
            discard(layout, layout.releases / str(each.number))
    return found


# --- pins -----------------------------------------------------------------------------------------------------------


def pin(layout: Layout, number: int, reason: str) -> Pin:
    """Keep a release for ever. Raises UsageError where there is none of this number."""
    with switching(layout):
        read_manifest(layout, number)
        new = Pin(number, datetime.now(UTC), reason)
        write_pins(layout, {**read_pins(layout), number: new})
    return new


def unpin(layout: Layout, number: int) -> Pin:
    """Treat a release as any other again. Raises UsageError where it is not pinned."""
    with switching(layout):
        pins = dict(read_pins(layout))
        if number not in pins:
            raise UsageError(f"Release {number} is not pinned.", hint="`smoll releases` shows which are.")
        gone = pins.pop(number)
        write_pins(layout, pins)
    return gone
