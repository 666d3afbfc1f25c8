"""A clock that is set back or forward, in the middle of a run or between two machines: order and durations stand."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import smoll
from smoll.state.log import open_log
from support import raw, write
from torture import faulty
from torture.faulty import Faulty, Point
from torture.mixed import assert_clean, content, copy, make_mixed, version

DAY = 86_400


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The project before a run, and the library that sets its clock."""
    folder = tmp_path_factory.mktemp("clock")
    library = faulty.build(folder)
    return make_mixed(folder / 'it\'s a "project"'), library


def _assert_in_order(root: Path, runs: int) -> None:
    """Newer is newer, whatever the clock said, and nothing took less than no time, or a day."""
    project = smoll.open_project(root)
    results = project.runs()
    assert [result.run for result in results] == list(range(runs, 0, -1))
    for result in results:
        seconds = [result.seconds, *(stream.seconds for stream in result.streams)]
        seconds += [*(node.seconds for node in result.nodes), *(check.seconds for check in result.checks)]
        assert [each for each in seconds if not 0 <= each < DAY / 2] == [], result
    numbers = [entry.manifest.number for entry in project.releases()]
    assert numbers == sorted(numbers, reverse=True)
    current = project.status().current
    assert current
    assert current.manifest.number == numbers[0]
    versions = "SELECT id FROM raw_s.prices WHERE _smoll_valid_to < _smoll_valid_from"
    loads = "SELECT run, stream FROM _smoll.loads WHERE finished < started"
    twice = "SELECT id FROM raw_s.prices WHERE _smoll_current GROUP BY id HAVING count(*) > 1"
    for sql in (versions, loads, twice):
        assert raw(project, sql) == [], sql
    assert (root / f".smoll/logs/run-{runs}.log").exists()


def _assert_shown(process: Faulty, root: Path, runs: int, shift: int) -> None:
    """What the shell shows, on a machine with that clock, has no time that is below zero."""
    for command in (("status",), ("runs",), ("runs", "show", str(runs)), ("releases",)):
        outcome = process.run(Point(str(root), shift=shift, command=command))
        assert outcome.status == "0", outcome
        assert not re.search(r"(?<![\w-])-\d", outcome.said), outcome.said


@pytest.mark.parametrize("shift", [-DAY, pytest.param(DAY, marks=pytest.mark.torture)], ids=["back", "forward"])
def test_a_clock_that_is_set_while_dbt_builds_a_model_changes_nothing(mixed: tuple[Path, Path], shift: int) -> None:
    root, library = mixed
    when = "back" if shift < 0 else "forward"
    undisturbed, root = copy(root, f"undisturbed {when}"), copy(root, f"set {when}")
    with faulty.faulty(library) as process:
        whole = process.run(Point(str(undisturbed)))
        step = next(n for n, name in enumerate(whole.writes, 1) if "/run/tests/models/marts/prices.sql" in name)
        outcome = process.run(Point(str(root), shift=shift, shift_from=step))
        assert (outcome.status, outcome.release) == ("ok", "published"), outcome
        assert_clean(root, content(undisturbed))
        _assert_in_order(root, 3)
        _assert_shown(process, root, 3, 0)


def test_old_logs_go_by_their_numbers(tmp_path: Path) -> None:
    for run in range(1, 61):
        log = tmp_path / f"run-{run}.log"
        log.touch()
        os.utime(log, (2_000_000_000 - run, 2_000_000_000 - run))  # the newest run has the oldest time
    with open_log(tmp_path, 61, str) as log_of_run:
        log_of_run.line("still here")
    assert {path.name for path in tmp_path.iterdir()} == {f"run-{run}.log" for run in range(12, 62)}


def test_two_machines_whose_clocks_differ_by_two_days_take_turns(mixed: tuple[Path, Path]) -> None:
    root, library = copy(mixed[0], "turns"), mixed[1]
    config = (root / "smoll.yml").read_text().replace("keep: 2", "keep: 3, keep_days: 1")
    write(root, {"smoll.yml": config})
    with faulty.faulty(library) as process:
        for run, shift in ((3, -2 * DAY), (4, 0), (5, -2 * DAY)):
            write(root, version(run))
            outcome = process.run(Point(str(root), shift=shift))
            assert (outcome.status, outcome.release, outcome.number) == ("ok", "published", run), outcome
            assert_clean(root, content(root))
            _assert_in_order(root, run)
        _assert_shown(process, root, 5, -2 * DAY)
    assert len(smoll.open_project(root).releases()) >= 2, "one to go back to"
    counts = raw(smoll.open_project(root), "SELECT count(*), count(DISTINCT id) FROM raw_s.events")
    assert counts == [(200, 200)], "nothing is lost, and nothing doubled"
