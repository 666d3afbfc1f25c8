"""SIGKILL anywhere: `current` stays whole, and the next run ends as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import smoll
from run.shop import FILES, GOOD_ORDERS, MODELS, SOURCES
from smoll.release import Candidate, hash_tables
from support import MakeProject, write
from torture.killing import kill_at, steps

INCREMENTAL = """\
{{ config(materialized='incremental', unique_key='id') }}
select id, customer_id, amount from {{ ref('stg_orders') }}
{% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}
"""
TELLING = (
    "StreamFinished",
    "TransformStarted",
    "open releases/.staging-3/manifest.json",
    "os.rename releases/3",
    "os.rename releases/current",
    "os.rename releases/.trash-",
)
"""Steps just before something becomes visible: at each of them a careless order would show."""
MORE = GOOD_ORDERS + "4,2,40\n"


@pytest.fixture
def shop(make_project: MakeProject) -> Path:
    """A shop with releases 1 and 2, of which only one is kept, and with new rows to load."""
    project = make_project(f"release: {{keep: 1}}\n{SOURCES}", FILES, MODELS | {"marts/orders": INCREMENTAL})
    assert project.run().release.number == 1
    write(project.config.root, {"data/orders.csv": GOOD_ORDERS})
    assert project.run().release.number == 2
    write(project.config.root, {"data/orders.csv": MORE})
    return project.config.root


LOAD_METADATA = frozenset({"_smoll_load_id", "_smoll_loaded_at", "_smoll_file"})
Content = dict[str, tuple[int, str]]


def content(root: Path) -> Content:
    """Rows and hash of every table of `current`, computed anew; asserts that its manifest says the same."""
    project = smoll.open_project(root)
    manifest = project.release().manifest
    with project.connect() as connection:
        candidates = [Candidate(table.id, table.ref, ignored=LOAD_METADATA) for table in manifest.tables]
        tables = hash_tables(connection, candidates)
    assert tables == manifest.tables
    return {str(table.ref): (table.rows, table.hash) for table in tables}


def copy(root: Path, name: str) -> Path:
    """A copy beside it that is equal to the nanosecond."""
    return Path(shutil.copytree(root, root.with_name(name), symlinks=True))


def assert_sound(root: Path, before: Content, after: Content) -> None:
    """`current` is the release before or the one after, and the next run brings the one after, whole and once."""
    assert content(root) in (before, after)
    result = smoll.open_project(root).run()
    assert result.exit_code == 0, result
    assert content(root) == after
    releases = root / ".smoll" / "releases"
    assert [path.name for path in releases.iterdir() if path.name.startswith(".")] == []
    assert smoll.open_project(root).status().running is None


@pytest.mark.parametrize(
    "wanted", [TELLING, pytest.param(("",), marks=pytest.mark.torture)], ids=["telling steps", "every step"]
)
def test_killed_at_any_step_current_is_whole_and_the_next_run_right(shop: Path, wanted: tuple[str, ...]) -> None:
    before = content(shop)
    done = copy(shop, "uninterrupted")
    names = steps(done)
    after = content(done)
    assert after["main.orders"][0] == before["main.orders"][0] + 1
    chosen = {n: name for n, name in enumerate(names, 1) if name.startswith(wanted)}
    assert len(chosen) >= len(wanted), names
    folders = {n: copy(shop, f"killed {n}") for n in chosen}
    kill_at([(folder, n) for n, folder in folders.items()])
    for n, folder in folders.items():
        try:
            assert_sound(folder, before, after)
        except AssertionError as error:
            raise AssertionError(f"killed at step {n}: {chosen[n]}") from error


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
