"""SIGKILL anywhere: `current` stays whole, and the next run ends as if nothing had happened.

``SEED=7 POINTS=100 make torture`` tries other points, and fewer of them; a failure names its point.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import smoll
from torture.killing import kill_after, run_all, timeline
from torture.mixed import Content, assert_clean, assert_sound, content, copy, make_mixed

TELLING = (
    "os.rename undo/3",
    "StreamFinished",
    "TransformStarted",
    "open releases/.staging-3/manifest.json",
    "os.rename releases/3",
    "os.rename releases/current",
    "os.rename releases/.trash-",
)
"""Steps just before something becomes visible: at each of them a careless order would show."""
PHASES = (
    ("after the switch", "os.rename releases/.trash-"),
    ("switch", "open releases/3"),
    ("switch", "open switch.lock"),
    ("staging", "ReleaseStarted"),
    ("build", "TransformStarted"),
    ("load", ""),
)
"""What begins with which step, the last first."""
SEED = int(os.environ.get("SEED", "0"))
POINTS = int(os.environ.get("POINTS", "500"))
BATCH = 10


@dataclass(frozen=True)
class Point:
    """The process dies so many seconds after that step; below 0: at it."""

    step: int
    name: str
    seconds: float
    phase: str

    def __str__(self) -> str:
        when = f"{self.seconds * 1000:.1f} ms after" if self.seconds >= 0 else "at"
        return f"killed {when} step {self.step} ({self.name}), {self.phase}"


@dataclass(frozen=True)
class Mixed:
    """The project before a run, what its current release holds, what the next one will, and the steps of that run."""

    root: Path
    before: Content
    after: Content
    steps: tuple[tuple[float, str], ...]

    @property
    def phases(self) -> list[str]:
        """The phase of each step."""
        found, place = [], len(PHASES)
        for _, name in self.steps:
            later = [n for n, (_, begin) in enumerate(PHASES[:place]) if name.startswith(begin)]
            place = later[0] if later else place
            found.append(PHASES[min(place, len(PHASES) - 1)][0])
        return found

    def at(self, step: int, seconds: float = -1) -> Point:
        return Point(step, self.steps[step - 1][1], seconds, self.phases[step - 1])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    root = make_mixed(tmp_path_factory.mktemp("kills") / 'it\'s a "project"')
    done = copy(root, "undisturbed")
    before, steps, after = content(root), timeline(done), content(done)
    assert before != after
    return Mixed(root, before, after, tuple(steps))


def _random_points(mixed: Mixed, count: int) -> Iterator[Point]:
    """Half of them at a step, each as likely as another; half at a moment of the run, each as likely as another."""
    chance = random.Random(SEED)
    moments = [seconds for seconds, _ in mixed.steps]
    for number in range(count):
        if number % 2:
            yield mixed.at(chance.randint(1, len(mixed.steps)))
        else:
            moment = chance.uniform(moments[0], moments[-1])
            step = max(n for n, begun in enumerate(moments, 1) if begun <= moment)
            yield mixed.at(step, moment - moments[step - 1])


def _kill(mixed: Mixed, points: Sequence[Point], name: str) -> list[str]:
    """Kill a run at each of the points, then let another one end. Returns what was not as it should be."""
    folders = {copy(mixed.root, f"{name} {number}"): point for number, point in enumerate(points)}
    kill_after([(folder, point.step, point.seconds) for folder, point in folders.items()])
    failed = {}
    for folder, point in folders.items():
        try:
            assert content(folder) in (mixed.before, mixed.after)
        except Exception as error:
            failed[folder] = f"{point}: before the next run: {error}"
    run_all([folder for folder in folders if folder not in failed])
    for folder, point in folders.items():
        try:
            if folder not in failed:
                assert_clean(folder, mixed.after)
                shutil.rmtree(folder)
        except Exception as error:
            failed[folder] = f"{point}: after the next run: {error}"
    return list(failed.values())


def test_killed_at_any_step_current_is_whole_and_the_next_run_right(mixed: Mixed) -> None:
    names = [name for _, name in mixed.steps]
    first = [next((n for n, name in enumerate(names, 1) if name.startswith(start)), 0) for start in TELLING]
    assert all(first), names
    moments = itertools.islice(_random_points(mixed, 4), 0, None, 2)
    assert _kill(mixed, [*(mixed.at(step) for step in first), *moments], "killed") == []


@pytest.mark.torture
def test_killed_at_hundreds_of_points_current_is_whole_and_the_next_run_right(mixed: Mixed) -> None:
    points = list(_random_points(mixed, POINTS))
    firsts = range(0, len(points), BATCH)
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        batches = pool.map(lambda first: _kill(mixed, points[first : first + BATCH], f"from {first}"), firsts)
        failed = [text for found in batches for text in found]
    hit = ", ".join(f"{phase} {count}" for phase, count in Counter(point.phase for point in points).items())
    print(f"\n{len(points)} kills (SEED={SEED}) in {time.monotonic() - begun:.0f} s: {hit}; {len(failed)} failed")
    assert not failed, "\n".join(failed)


def _kill_after(root: Path, seconds: float) -> bool:
    """Start `smoll run` and kill it; False where it was done already."""
    command = [sys.executable, "-m", "smoll", "--project", str(root), "run"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.torture
def test_killed_at_fifty_moments_of_the_demo_current_is_whole_and_the_next_run_right(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    subprocess.run([sys.executable, "-m", "smoll", "init", str(root), "--template", "flights"], check=True)
    months = sorted((root / "data" / "flights").iterdir())
    held_back = tmp_path / months[-1].name
    shutil.move(months[-1], held_back)
    assert smoll.open_project(root).run().exit_code == 0
    shutil.move(held_back, months[-1])
    before = content(root)
    done = copy(root, "uninterrupted")
    begun = time.monotonic()
    assert not _kill_after(done, 600)
    seconds = time.monotonic() - begun
    after = content(done)
    assert before != after
    moments = random.Random(2013)
    killed = 0
    for _ in range(50):
        folder = copy(root, "killed")
        killed += _kill_after(folder, moments.uniform(0.1, 1.0) * seconds)
        assert_sound(folder, before, after)
        shutil.rmtree(folder)
    assert killed > 25, "most of them hit"
