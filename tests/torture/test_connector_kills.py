"""SIGKILL anywhere in the sync of a connector, at it, at smoll, or at both: no row is lost, and none doubled.

The checkpoints of the journal, of which there is one in some seconds, come with every state here (see `killing.py`).
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import smoll
from programs import PROTOCOLS, project_yml
from support import MakeProject
from torture.killing import kill_at, steps

COUNTER = Path(__file__).parents[1].joinpath("programs/counter.py").read_text(encoding="utf-8")
OPTIONS = {"merged": {"mode": "merge"}, "added": {"mode": "append"}, "replaced": {"mode": "replace"}}
BEFORE, AFTER = 6, 41
LINES = 3 * AFTER + 20
TELLING = (
    "open journals/s/log.ndjson",
    "open journals/s/1.ndjson",
    "StreamFinished",
    "shutil.rmtree journals",
    "os.remove log.ndjson",
    "os.rmdir s",
)
"""Steps around which the order matters: the first and the last of each kind, and those behind them."""


def project_of(make_project: MakeProject, protocol: str, **config: Any) -> smoll.Project:
    """A project that has loaded some rows, and whose source has more now."""
    program = {"tap" if protocol == "singer" else "connector": "./counter.py"}
    text = project_yml({"s": {"kind": protocol, **program, "streams": OPTIONS, "config": config}})
    project = make_project(text, {"counter.py": COUNTER, "rows": str(BEFORE)})
    assert project.run().status == "ok"
    (project.config.root / "rows").write_text(str(AFTER))
    return project


def copy(root: Path, name: str) -> Path:
    """A copy beside it that is equal to the nanosecond, at the same place as seen from inside."""
    return Path(shutil.copytree(root, root.with_name(name), symlinks=True))


def assert_sound(root: Path) -> dict[str, list[int]]:
    """What the states in the warehouse say that it has, it has: after every kill, before anybody mends anything.

    Returns the rows of the tables.
    """
    with smoll.open_project(root).connect(raw=True) as connection:
        tables = {
            stream: [
                id if text == f"{stream} {id}" else -id
                for id, text in connection.execute(f"SELECT id, v FROM raw_s.{stream} ORDER BY id").fetchall()
            ]
            for stream in OPTIONS
        }
        states = dict(connection.execute("SELECT stream, state FROM _smoll.state").fetchall())
    for stream in ("merged", "added"):
        bookmark = json.loads(states[stream])["bookmark"]
        mark = bookmark if isinstance(bookmark, int) else bookmark["stream_state"]["id"]
        assert tables[stream] == list(range(1, mark + 1))
    return tables


def assert_whole(root: Path) -> bool:
    """The next run ends as if nothing had happened: each row is there, once, also where rows are only added.

    Returns whether it had something to go on from.
    """
    (root / "die").unlink(missing_ok=True)
    assert_sound(root)
    result = smoll.open_project(root).run()
    assert result.status == "ok", [each.error for each in result.streams]
    tables = assert_sound(root)
    assert tables == {stream: list(range(1, AFTER + 1)) for stream in OPTIONS}
    assert not list((root / ".smoll/journals").iterdir())
    return any(
        "went on from what an earlier run had received" in note for each in result.streams for note in each.notes
    )


def chosen_steps(names: list[str], count: int, seed: int) -> list[int]:
    """The numbers of so many steps: around those that tell, and as many others as there is room for."""
    found: list[int] = []
    for telling in TELLING:
        places = [place for place, name in enumerate(names, start=1) if name.startswith(telling)]
        for place in dict.fromkeys(places[:1] + places[-1:]):
            found += [place, place + 1]
    chosen = [place for place in dict.fromkeys(found) if place <= len(names)][:count]
    rest = sorted(set(range(1, len(names) + 1)) - set(chosen))
    return chosen + random.Random(seed).sample(rest, min(count - len(chosen), len(rest)))


def kill_smoll(root: Path, names: list[str], count: int) -> None:
    chosen = chosen_steps(names, count, seed=2013)
    folders = {number: copy(root, f"smoll {number}") for number in chosen}
    kill_at(
        (folder, -number) for number, folder in folders.items()
    )  # lines come in blocks as they like: some have fewer
    resumed = 0
    for number, folder in folders.items():
        with told(f"smoll killed at step {number}, about {names[number - 1]}"):
            resumed += assert_whole(folder)
        shutil.rmtree(folder)
    assert resumed > count // 4, "many of them had something to go on from"


def kill_connector(root: Path, count: int) -> None:
    """At so many lines, every other time in the middle of one, and some of them again while it is read on."""
    chance = random.Random(2014)
    for number in range(count):
        folder, at = copy(root, f"connector {number}"), list[str]()
        for _ in range(1 + number % 3):
            at.append(f"{chance.randrange(LINES)}{' half' if chance.random() < 0.5 else ''}")
            (folder / "die").write_text(at[-1])
            errors = [each.error for each in smoll.open_project(folder).run().streams if each.error]
            assert all("SIGKILL" in error for error in errors)
        with told(f"connector killed behind lines {at}"):
            assert_whole(folder)
        shutil.rmtree(folder)


def kill_both(root: Path, names: list[str], count: int) -> None:
    """Smoll twice, the connector before it or not: what was kept of the first sync is kept in the second."""
    chance = random.Random(2015)
    folders = [copy(root, f"both {number}") for number in range(count)]
    at: list[list[tuple[int, int]]] = [[] for _ in folders]
    for _ in range(2):
        for place, folder in enumerate(folders):
            at[place].append((chance.randrange(LINES), chance.randrange(1, len(names))))
            (folder / "die").write_text(f"{at[place][-1][0]} half")
        kill_at((folder, -at[place][-1][1]) for place, folder in enumerate(folders))
    for place, folder in enumerate(folders):
        with told(f"connector and smoll killed at {at[place]}"):
            assert_whole(folder)
        shutil.rmtree(folder)


@contextmanager
def told(where: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise AssertionError(where) from error


def kill(root: Path, smoll: int, connector: int, both: int) -> None:
    names = steps(copy(root, "uninterrupted"))
    kill_smoll(root, names, smoll)
    kill_connector(root, connector)
    kill_both(root, names, both)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_killed_at_some_points_of_a_sync(
    make_project: MakeProject, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smoll.connectors.journal._CHECKPOINT_SECONDS", 0)
    root = project_of(make_project, protocol).config.root
    kill(root, smoll=8, connector=3, both=2)


@pytest.mark.torture
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_killed_at_two_hundred_points_of_a_sync(
    make_project: MakeProject, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smoll.connectors.journal._CHECKPOINT_SECONDS", 0)
    root = project_of(make_project, protocol).config.root
    kill(root, smoll=120, connector=60, both=30)


def test_a_sync_that_is_another_one_after_a_kill_begins_anew(make_project: MakeProject) -> None:
    """Neither what was kept nor its state is of use to another configuration."""
    project = project_of(make_project, "singer", region="a")
    root = project.config.root
    names = steps(copy(root, "uninterrupted"))
    places = [place for place, name in enumerate(names, start=1) if name == "open journals/s/log.ndjson"]
    kill_at([(root, places[-1])])
    text = (root / "smoll.yml").read_text()
    (root / "smoll.yml").write_text(text.replace('"region": "a"', '"region": "b"'))
    result = smoll.open_project(root).run()
    notes = [note for each in result.streams for note in each.notes]
    assert "what an earlier run had received was dropped: source, configuration or state are others now" in notes
    assert_whole(root)
