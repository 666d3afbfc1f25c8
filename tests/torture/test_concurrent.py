"""Many processes at once on one project: each waits, or says in a line why not; what is there stays sound."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import smoll
from run.shop import make_shop
from support import MakeProject, write
from torture.mixed import content

BACKUPS = "backups"
COMMANDS = (
    *(["run"], ["run"], ["run", "--no-wait"], ["run", "--select", "customers"], ["rollback"], ["release", "resume"]),
    *(["release", "pin"], ["release", "unpin", "1"], ["gc"], ["gc", "--no-wait"], ["undo", "--yes"], ["status"]),
    *(["runs"], ["releases"], ["diff"], ["sql", "select count(*) from main.orders"], ["check"]),
    *(["sql", "--raw", "select count(*) from raw_shop.orders"], ["state", "show"], ["rejects"]),
    *(["checks"], ["profile", "orders"], ["suggest"], ["backup", BACKUPS], ["backup", BACKUPS, "--no-wait"]),
)


def _call(root: Path, words: list[str]) -> tuple[list[str], int, str]:
    command = [sys.executable, "-m", "smoll", "--project", str(root), *words]
    command = [f"{root.parent / BACKUPS}/" if word == BACKUPS else word for word in command]
    long = 1800  # seconds; who waits for the lock gets it by chance
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=long)
    return words, done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("calls", "at_once"), [(12, 3), pytest.param(300, 8, marks=pytest.mark.torture)], ids=["short", "long"]
)
def test_processes_wait_or_say_why_not_and_harm_nothing(make_project: MakeProject, calls: int, at_once: int) -> None:
    project = make_shop(make_project)
    root = project.config.root
    assert project.run().release.number == 1
    chance = random.Random(7)
    chosen = [["run"], ["gc"], ["backup", BACKUPS], *(chance.choice(COMMANDS) for _ in range(calls - 3))]

    def call(number: int) -> tuple[list[str], int, str]:
        orders = "".join(f"{n},1,{number}\n" for n in range(1, 20))
        staged = root / f"orders-{number}.csv"
        write(root, {staged.name: f"id,customer_id,amount\n{orders}"})
        staged.replace(root / "data/orders.csv")
        return _call(root, chosen[number])

    with ThreadPoolExecutor(at_once) as pool:
        for words, code, said in pool.map(call, range(calls)):
            assert code in (0, 1, 2), (words, said)
            assert "A bug in smoll" not in said and "Traceback" not in said, (words, said)
            assert code == 0 or said.strip(), words
    result = smoll.open_project(root).run()
    assert result.status == "ok", result
    smoll.open_project(root).resume()
    assert content(root)["main.orders"][0] == 19
    for entry in smoll.open_project(root).releases():
        assert (root / entry.path / "warehouse.duckdb").stat().st_size == entry.manifest.bytes
    assert smoll.open_project(root).status().running is None
    assert [path.name for path in (root / ".smoll/releases").iterdir() if path.name.startswith(".")] == []
