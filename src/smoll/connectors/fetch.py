"""What fetching files has in common, wherever they lie: where they are put, who is told, and how it is stopped."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from smoll.connector import Reading, StreamPlan
from smoll.connectors.data_file import stream_error
from smoll.errors import Interrupted, LoadError

T = TypeVar("T")

_POLL_SECONDS = 0.1


@dataclass
class Desk:
    """The scratch folder of a load, with a number for every file, and what is to be told of the work there.

    ``notes`` are for people. ``total`` is the number of bytes to fetch, None where it is unknown.
    """

    plan: StreamPlan
    folder: Path
    stopped: Callable[[], bool] = lambda: False
    progress: Callable[[int, int | None], None] = lambda done, total: None
    notes: list[str] = field(default_factory=list)
    total: int | None = None
    _files: int = 0
    _done: int = 0

    @classmethod
    def of(cls, plan: StreamPlan, reading: Reading) -> Desk:
        """The desk of a reading."""
        return cls(plan, reading.scratch, reading.stopped, reading.progress)

    def new_file(self) -> Path:
        """A path for one more file: six digits, so that `file_name_sql` finds its name by the number."""
        self._files += 1
        return self.folder / f"{self._files:06}"

    def fetched(self, size: int) -> None:
        """Tell that so many more bytes are here; fewer, where they have to be fetched again."""
        self._done += size
        self.progress(self._done, self.total)

    def check_stopped(self) -> None:
        """Raises Interrupted once the run is to end."""
        if self.stopped():
            raise Interrupted(f"{self.plan.ref}: interrupted; its table is as it was before.")

    def in_thread(self, work: Callable[[], T]) -> T:
        """Do what may block for long in a thread of its own, and leave it behind where the run is interrupted."""
        result: list[T] = []
        failure: list[BaseException] = []

        def call() -> None:
            try:
                result.append(work())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=call, name=f"fetch {self.plan.ref}", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            if thread.is_alive():
                self.check_stopped()
        if failure:
            raise failure[0]
        return result[0]

    def in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Do asynchronous work to its end, and cancel it where the run is interrupted."""

        async def watch() -> T:
            task = asyncio.ensure_future(work)
            while not (await asyncio.wait({task}, timeout=_POLL_SECONDS))[0]:
                if self.stopped():
                    task.cancel()
                    with suppress(asyncio.CancelledError, Exception):
                        await task
                    self.check_stopped()
            return task.result()

        return asyncio.run(watch())


def disk_error(plan: StreamPlan, name: str, error: OSError) -> LoadError:
    """The error of a copy that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Free some space on the warehouse's disk, then run again." if full else ""
    return stream_error(plan, f"{name} cannot be copied to the warehouse's disk: {error.strerror}.", hint)
