"""A full disk, a read-only one, a sync that fails: nothing is lost, and a person is told what it is."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from torture import faulty
from torture.faulty import BROKEN, FULL, READ_ONLY, Faulty, Outcome, Point
from torture.mixed import Content, assert_clean, content, copy, make_mixed

DISK = re.compile("space|disk|full|i/o error|input/output|fsync|read-only|readonly|room", re.IGNORECASE)
TELLING = {
    "f": (
        "pwrite .smoll/ledger.sqlite$",
        "write .smoll/warehouse.duckdb.wal",
        "create .smoll/releases/.staging-3/warehouse.duckdb$",
        "create .smoll/releases/.staging-3/portal/index.html$",
        "rename .smoll/releases/current",
    ),
    "w": ("rename .smoll/releases/3",),
    "s": ("fsync .smoll/warehouse.duckdb.wal", "fsync .smoll/releases/.staging-3/warehouse.duckdb$"),
}
"""For each mode of `Point`: a step of each kind whose failure has consequences of its own."""
ERRORS = {"f": FULL, "w": FULL, "s": BROKEN, "r": READ_ONLY}
TORN = "pwrite .smoll/warehouse.duckdb"
"""DuckDB writes blocks of its catalog in place. Of one that a full disk cuts in half the copy for undo makes good."""
SEED = int(os.environ.get("SEED", "0"))
MOST = int(os.environ.get("POINTS", "1000000"))


@dataclass(frozen=True)
class Mixed:
    """The project before a run, what its current release holds, what the next one will, and what that run writes."""

    root: Path
    library: Path
    before: Content
    after: Content
    whole: Outcome


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    folder = tmp_path_factory.mktemp("faults")
    library = faulty.build(folder)
    root = make_mixed(folder / 'it\'s a "project"')
    done = copy(root, "undisturbed")
    with faulty.faulty(library) as process:
        whole = process.run(Point(str(done)))
    assert (whole.status, whole.release, whole.number) == ("ok", "published", 3), whole
    before, after = content(root), content(done)
    assert before != after
    return Mixed(root, library, before, after, whole)


def _assert_well(mixed: Mixed, process: Faulty, point: Point) -> None:
    """Run on the bad disk, then on a good one, and look at what readers see after each."""
    root = Path(point.root)
    outcome = process.run(point)
    assert not outcome.raised.startswith(("foreign", "died")), outcome.said or outcome.raised
    assert "Traceback" not in outcome.said
    if outcome.status != "ok":
        assert DISK.search(outcome.said), outcome.said
        assert "move it away" not in outcome.said, outcome.said
    seen = content(root)
    assert seen in (mixed.before, mixed.after)
    if outcome.release == "published":
        assert seen == mixed.after
        if point.mode == "s":
            assert ".smoll/releases" not in outcome.syncs[point.number - 1], "it is not safely on the disk"
    again = process.run(Point(point.root))
    if again.raised == "StateError" and point.mode == "f" and mixed.whole.writes[point.number - 1].endswith(TORN):
        assert "cannot be read" in again.said, again.said
        undone = process.run(Point(point.root, command=("undo", "--yes")))
        assert undone.status == "0", undone.said
        again = process.run(Point(point.root))
    assert (again.raised, again.status) == ("", "ok"), again
    assert_clean(root, mixed.after)


def _fail(mixed: Mixed, points: Sequence[tuple[str, int]], workers: int) -> None:
    """Let the runs fail at these steps: pairs of a mode and a number."""

    def one(process: Faulty, point: tuple[str, int]) -> str:
        mode, number = point
        root = copy(mixed.root, f"{mode}{number}")
        try:
            _assert_well(mixed, process, Point(str(root), mode, number, ERRORS[mode]))
        except Exception as error:  # all of them are told, at the end
            steps = mixed.whole.syncs if mode == "s" else mixed.whole.writes
            return f"{steps[number - 1]} (mode {mode}): {error}"
        shutil.rmtree(root)
        return ""

    failed = faulty.each(mixed.library, points, one, workers)
    assert not failed, "\n\n".join([f"{len(failed)} of {len(points)} points", *failed])


def _telling(whole: Outcome) -> Iterator[tuple[str, int]]:
    chance = random.Random(SEED)
    for mode, patterns in TELLING.items():
        steps = whole.syncs if mode == "s" else whole.writes
        for pattern in patterns:
            numbers = [number for number, step in enumerate(steps, 1) if re.search(pattern, step)]
            assert numbers, pattern
            yield mode, chance.choice(numbers)


def test_a_run_on_a_disk_that_fails_says_so_and_loses_nothing(mixed: Mixed) -> None:
    _fail(mixed, list(_telling(mixed.whole)), 1)


@pytest.mark.torture
@pytest.mark.parametrize("mode", ["f", "w", "s"], ids=["the disk is full from then on", "once", "a sync"])
def test_whatever_write_or_sync_fails_the_run_says_so_and_loses_nothing(mixed: Mixed, mode: str) -> None:
    """Every write and every sync; of the writes that fail once, the first and the last of a series into one file."""
    steps = mixed.whole.syncs if mode == "s" else mixed.whole.writes
    numbers = list(range(1, len(steps) + 1))
    if mode == "w":
        series = itertools.groupby(numbers, lambda number: steps[number - 1].split(" ", 2)[2])
        ends = [(found[0], found[-1]) for found in (list(group) for _, group in series)]
        numbers = sorted({number for pair in ends for number in pair})
    if len(numbers) > MOST:
        numbers = sorted(random.Random(SEED).sample(numbers, MOST))
    _fail(mixed, [(mode, number) for number in numbers], 2)


def test_on_a_read_only_disk_each_command_works_or_says_in_a_line_why_not(mixed: Mixed) -> None:
    root = str(copy(mixed.root, "read-only"))
    works = [
        ("status",),
        ("sql", "select count(*) from accounts"),
        ("runs",),
        ("releases",),
        ("release", "show", "2"),
        ("gc", "--dry-run"),
        ("rejects",),
    ]
    refused = [("run",), ("rollback", "1"), ("release", "resume"), ("release", "pin", "1"), ("gc",), ("diff", "1", "2")]
    with faulty.faulty(mixed.library) as process:
        for command in [*works, *refused]:
            outcome = process.run(Point(root, "r", error=READ_ONLY, command=command))
            assert outcome.status == ("0" if command in works else "1"), (command, outcome)
            assert "Traceback" not in outcome.said, outcome.said
            if command in refused:
                first, *hint = outcome.said.splitlines()
                assert first.startswith("Error: "), outcome.said
                assert DISK.search(first), outcome.said
                assert len(hint) == 1, outcome.said
    assert content(Path(root)) == mixed.before


def test_a_command_that_meets_a_full_disk_ends_with_a_line_and_gc_makes_room_on_it(mixed: Mixed) -> None:
    root = copy(mixed.root, "full")
    wanted = "create .smoll/releases/.staging-3/warehouse.duckdb"
    (step,) = (number for number, step in enumerate(mixed.whole.writes, 1) if step.endswith(wanted))
    with faulty.faulty(mixed.library) as process:
        outcome = process.run(Point(str(root), "f", step, command=("run",)))
        assert outcome.status == "1"
        assert "Traceback" not in outcome.said
        assert "No space left on device" in outcome.said
        assert "Free some space" in outcome.said
        left = root / ".smoll" / "releases" / ".staging-9"
        left.mkdir()
        outcome = process.run(Point(str(root), "w", 1, command=("gc",)))
        assert outcome.status == "0", outcome
    assert not left.exists()
