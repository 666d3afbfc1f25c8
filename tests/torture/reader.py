"""A reader, as a dashboard or a BI tool is one: connects, reads, closes, again and again until a file appears.

Arguments: the project's folder, and the file that ends it. Prints what it saw as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb

import smoll

PAIR = "select (select min(version) from main.left_half), (select max(version) from main.right_half)"


def read(root: Path, turn: int) -> tuple[int, int]:
    """Read both halves through the file itself or through smoll, in turns."""
    if turn % 2:
        path = root / ".smoll" / "releases" / "current" / "warehouse.duckdb"
        connection = duckdb.connect(str(path), read_only=True)
    else:
        connection = smoll.connect(root)
    with connection:
        row = connection.execute(PAIR).fetchone()
        assert row
        return row[0], row[1]


def main(root: Path, end: Path) -> None:
    seen: set[int] = set()
    torn: list[tuple[int, int]] = []
    errors: list[str] = []
    reads = 0
    while not end.exists():
        reads += 1
        try:
            left, right = read(root, reads)
            seen.add(left)
            if left != right:
                torn.append((left, right))
        except Exception as error:
            errors.append(repr(error))
    print(json.dumps({"reads": reads, "seen": sorted(seen), "torn": torn, "errors": errors}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
