"""One run at a time per project: an advisory file lock that names its holder.

The kernel frees the lock when its holder dies, however it dies (flock(2)); the text in the file is only
for people, and is stale when nobody holds the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from smoll.errors import LockedError, StateError
from smoll.model import NOT_AS_WRITTEN, Holder, known, verified

_POLL_SECONDS = 0.1
_TRIES = 5


@contextmanager
def project_lock(
    path: Path,
    command: str,
    *,
    wait: bool = True,
    on_wait: Callable[[Holder], None] | None = None,
) -> Iterator[int]:
    """Hold the project's lock for the length of a ``with`` block. Yields the descriptor that holds it.

    Parameters
    ----------
    path
        The lock file; created where it is missing, never removed.
    command
        What the holder is doing, for the message that others see.
    wait
        Wait until the lock is free (True) or raise at once (False).
    on_wait
        Called once for every holder that is waited for.

    Raises
    ------
    LockedError
        Somebody else holds the lock and `wait` is False.
    StateError
        The lock file cannot be written.
    """
    handle = _open(path)
    try:
        told: Holder | None = None
        while not _try_briefly(handle):
            holder = _read_holder(path)
            if not wait:
                raise LockedError(
                    f"Another smoll holds this project: {holder}.",
                    hint="Wait for it: --wait, instead of --no-wait.",
                )
            if holder != told and on_wait:
                on_wait(holder)
                told = holder
        _write_holder(handle, command)
        yield handle
    finally:
        os.close(handle)


def current_holder(path: Path) -> Holder | None:
    """Return who holds the lock now, or None. Takes nothing, waits for nobody."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read_holder(path)
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StateError(
            f"Cannot take the project's lock {path}: {error.strerror}.", hint="Make the folder writable."
        ) from error


def _try_briefly(handle: int) -> bool:
    """Try a few times: somebody who only looks (`current_holder`) has the lock for a moment."""
    for _ in range(_TRIES):
        if _try_lock(handle):
            return True
        time.sleep(_POLL_SECONDS / _TRIES)
    return False


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(handle: int, command: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(os.getpid(), socket.gethostname(), command, since)
    text = json.dumps(asdict(holder)).encode()
    with suppress(OSError):  # a full disk: what makes room must not fail for want of it
        os.ftruncate(handle, 0)
        os.pwrite(handle, text, 0)


def _read_holder(path: Path) -> Holder:
    try:
        return verified(Holder(**known(Holder, json.loads(path.read_text(encoding="utf-8")))))
    except NOT_AS_WRITTEN:
        return Holder(0, "unknown", "unknown", "unknown")
