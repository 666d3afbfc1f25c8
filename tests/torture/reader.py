"""A reader, as a dashboard or a BI tool is one: asks, again and again, until a file appears.

Arguments: the project's folder, the way of reading (one of `WAYS`), and the file that ends it. Prints one line once it
has read for the first time, and at the end what it saw as JSON. ``last`` are the versions that it saw, each with the
moment at which the last read began that saw it; in seconds of the clock that all processes share.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

import smoll

PAIR = "select (select min(version) from main.left_half), (select max(version) from main.right_half)"
_PAUSE_SECONDS = 0.05  # many readers leave something of the processors to the run
Read = Callable[[], tuple[int, int]]


def _pair(connection: Any) -> tuple[int, int]:
    row = connection.execute(PAIR).fetchone()
    assert row
    return row[0], row[1]


def direct(root: Path) -> Read:
    """DuckDB on the file itself, connected for each query: a BI tool."""

    def read() -> tuple[int, int]:
        path = root / ".smoll" / "releases" / "current" / "warehouse.duckdb"
        with duckdb.connect(str(path), read_only=True) as connection:
            return _pair(connection)

    return read


def by_smoll(root: Path) -> Read:
    """``smoll.connect`` for each query."""

    def read() -> tuple[int, int]:
        with smoll.connect(root) as connection:
            return _pair(connection)

    return read


def cached(root: Path) -> Read:
    """A connection that is kept as long as it is on the current release: a dashboard."""
    link = root / ".smoll" / "releases" / "current"
    kept: dict[str, Any] = {}

    def read() -> tuple[int, int]:
        release = str(link.readlink())
        if release not in kept:
            for old in kept.values():
                old.close()
            kept.clear()
            kept[release] = smoll.connect(root)
        return _pair(kept[release])

    return read


WAYS = {"direct": direct, "smoll": by_smoll, "cached": cached}


def main(root: Path, way: str, end: Path) -> None:
    read = WAYS[way](root)
    last: dict[int, float] = {}
    torn: list[tuple[int, int]] = []
    errors: list[str] = []
    reads = 0
    while not end.exists():
        begun = time.monotonic()
        try:
            left, right = read()
        except Exception as error:
            errors.append(repr(error))
            continue
        reads += 1
        last[left] = begun
        if left != right:
            torn.append((left, right))
        if reads == 1:
            print("reading", flush=True)
        time.sleep(_PAUSE_SECONDS)
    print(json.dumps({"way": way, "reads": reads, "last": last, "torn": torn, "errors": errors}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
