"""Files of 2 GB and values of 100 MB go through within ``resources.memory``, and every row is accounted for.

``BIG_MB`` in the environment makes the large file smaller, to try.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import smoll
from support import MakeProject, age, files_yml, raw

pytestmark = pytest.mark.torture

BUDGET = 1_000_000_000
BIG = int(os.environ.get("BIG_MB", "2000")) * 1_000_000
CELL = 100_000_000
MAX_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Outcome:
    """What a cold `smoll run` came to: its exit code, its output, and its peak memory in bytes."""

    code: int
    output: str
    memory: int


def run_cold(project: smoll.Project) -> Outcome:
    """Run the project in a process of its own, and measure it."""
    command = [str(Path(sys.executable).with_name("smoll")), "--project", str(project.config.root), "run"]
    log = project.config.root / "run.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Outcome(process.returncode, log.read_text(encoding="utf-8"), usage.ru_maxrss * MAX_RSS_UNIT)


def project_of(make_project: MakeProject, name: str, **options: Any) -> tuple[smoll.Project, Path]:
    """A project with a budget of 1 GB of memory, and the path of its one file, which is still to be written."""
    project = make_project("resources: {memory: 1GB}\n" + files_yml(f"data/{name}", **options))
    path = project.config.root / "data" / name
    path.parent.mkdir()
    return project, path


def write_big(path: Path, odd: dict[int, bytes]) -> int:
    """Write a CSV of `BIG` bytes. ``odd``: lines before a block, by its number. Returns the rows of the blocks."""
    line = b'%d,2013-01-01 05:15:00,UA,N14228,EWR,IAH,1400.5,"a, quoted ""note"""\n'
    block = b"".join(line % number for number in range(10_000))
    blocks = BIG // len(block) + 1
    with path.open("wb") as target:
        target.write(b"id,at,carrier,tail,origin,dest,miles,note\n")
        for number in range(blocks):
            target.write(odd.get(number, odd.get(number - blocks, b"")))
            target.write(block)
    age(path)
    return blocks * 10_000


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_file_larger_than_memory_is_loaded_whole(make_project: MakeProject, place: str) -> None:
    """An id that is no whole number, and a torn line: both at the beginning, or in the last block."""
    project, path = project_of(make_project, "t.csv", on_bad_row="quarantine")
    odd = b"0.5,2013-01-01 05:15:00,UA,N14228,EWR,IAH,1400.5,odd\n1,torn\n"
    lines = write_big(path, {0 if place == "first" else -1: odd})

    outcome = run_cold(project)

    assert outcome.code == 0, outcome.output
    assert outcome.memory <= BUDGET, f"{outcome.memory / 1e6:.0f} MB"
    ((count, total, kinds),) = raw(
        project, "SELECT count(*), sum(id), any_value(typeof(id) || ' ' || typeof(\"at\")) FROM raw_s.t"
    )
    assert (count, kinds) == (lines + 1, "DOUBLE TIMESTAMP")
    assert total == lines // 10_000 * sum(range(10_000)) + 0.5
    line = 3 if place == "first" else lines - 10_000 + 3
    assert raw(project, "SELECT line, raw FROM raw_s.t__rejected") == [(line, "1,torn")]


def cell_csv() -> Iterator[bytes]:
    yield b'id,name\n1,x\n2,"'
    yield b"line\n" * (CELL // 5)
    yield b'"\n3\n4,y\n'


def cell_ndjson() -> Iterator[bytes]:
    yield b'{"id": 1, "name": "x"}\n{"id": 2, "name": "'
    yield b"line\\n" * (CELL // 5)
    yield b'"}\n{"id"\n{"id": 4, "name": "y"}\n'


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson"])
def test_a_value_of_100_mb_goes_through(make_project: MakeProject, name: str) -> None:
    project, path = project_of(make_project, name, on_bad_row="quarantine")
    with path.open("wb") as target:
        for piece in cell_csv() if name == "t.csv" else cell_ndjson():
            target.write(piece)
    age(path)

    outcome = run_cold(project)

    assert outcome.code == 0, outcome.output
    assert outcome.memory <= BUDGET, f"{outcome.memory / 1e6:.0f} MB"
    found = raw(project, "SELECT id, length(name), right(name, 5) FROM raw_s.t ORDER BY id")
    assert found == [(1, 1, "x"), (2, CELL, "line\n"), (4, 1, "y")]
    line, text = (CELL // 5 + 4, "3") if name == "t.csv" else (3, '{"id"')
    assert raw(project, "SELECT line, raw FROM raw_s.t__rejected") == [(line, text)]


def test_a_rejected_value_of_100_mb_is_kept_whole(make_project: MakeProject) -> None:
    project, path = project_of(make_project, "t.csv", on_bad_row="quarantine", columns={"id": "BIGINT"})
    with path.open("wb") as target:
        target.write(b"id,name\n1,x\nno number,")
        target.write(b"y" * CELL)
        target.write(b"\n3,z\n")
    age(path)

    outcome = run_cold(project)

    assert outcome.code == 0, outcome.output
    assert outcome.memory <= BUDGET, f"{outcome.memory / 1e6:.0f} MB"
    assert raw(project, "SELECT id, name FROM raw_s.t ORDER BY id") == [(1, "x"), (3, "z")]
    found = raw(project, "SELECT line, column_name, length(raw), left(raw, 11) FROM raw_s.t__rejected")
    assert found == [(3, "id", CELL + len("no number,"), "no number,y")]


def test_a_json_array_with_a_value_of_100_mb_goes_through(make_project: MakeProject) -> None:
    project, path = project_of(make_project, "t.json")
    path.write_text(json.dumps([{"id": 1, "name": "x" * CELL}, {"id": 2, "name": "y"}], indent=1), encoding="utf-8")
    age(path)

    outcome = run_cold(project)

    assert outcome.code == 0, outcome.output
    assert outcome.memory <= BUDGET, f"{outcome.memory / 1e6:.0f} MB"
    assert raw(project, "SELECT id, length(name) FROM raw_s.t ORDER BY id") == [(1, CELL), (2, 1)]


def test_a_record_of_millions_of_values_is_a_bad_one(make_project: MakeProject) -> None:
    """Commas in a text are none between values."""
    project, path = project_of(make_project, "t.ndjson", on_bad_row="quarantine")
    with path.open("wb") as target:
        for piece in (b'{"id": 1, "name": "', b"a,b," * (CELL // 4), b'"}\n{"id": 2, "name": [', b"0," * (CELL // 2)):
            target.write(piece)
        target.write(b"0]}\n")
    age(path)

    outcome = run_cold(project)

    assert outcome.code == 0, outcome.output
    assert outcome.memory <= BUDGET, f"{outcome.memory / 1e6:.0f} MB"
    assert raw(project, "SELECT id, length(name) FROM raw_s.t") == [(1, CELL)]
    rejected = raw(project, "SELECT line, reason, length(raw) FROM raw_s.t__rejected")
    assert rejected == [(2, "more than 2,000,000 values in one record", CELL + len('{"id": 2, "name": [0]}'))]
