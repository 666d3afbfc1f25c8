"""Data and state are committed together: whatever stops a load, both are old or both are new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import smoll
from smoll.errors import StateError
from support import MakeProject, dump, files_yml, load, only_stream, raw, refused, rows, write

KILLED_AT = """
import os, signal, sys, threading
import smoll

root, moment, delay = sys.argv[1], sys.argv[2], float(sys.argv[3])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def listen(event):
    if type(event).__name__ == moment:
        threading.Timer(delay, die).start() if delay else die()

smoll.open_project(root).run(on_event=listen)
"""


def run_and_kill(project: smoll.Project, moment: str, delay: float = 0) -> int:
    """Run the project in a process of its own that kills itself so long after an event; returns its exit code."""
    command = [sys.executable, "-c", KILLED_AT, str(project.config.root), moment, str(delay)]
    return subprocess.run(command, timeout=120, capture_output=True).returncode


def files_in_state(project: smoll.Project) -> int:
    """How many files the stored state knows."""
    ((count,),) = raw(project, "SELECT len(json_keys(state, '$.files')) FROM _smoll.state")
    return int(count)


@pytest.mark.parametrize("mode", ["append", "merge", "replace"])
def test_killed_before_the_commit_both_are_old_and_after_it_both_are_new(make_project: MakeProject, mode: str) -> None:
    options = {"mode": mode, "key": "id"} if mode == "merge" else {"mode": mode}
    project = make_project(files_yml("data/*.csv", None, **options), {"data/1.csv": "id\n1\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "id\n2\n"})

    assert run_and_kill(project, "StreamStarted") == -signal.SIGKILL
    assert rows(project) == [(1,)]
    assert files_in_state(project) == 1

    assert run_and_kill(project, "StreamFinished") == -signal.SIGKILL
    assert rows(project) == [(1,), (2,)]
    assert files_in_state(project) == 2

    assert load(project).status == "unchanged"
    assert rows(project) == [(1,), (2,)]


def test_killed_at_any_moment_of_a_load_nothing_is_lost_or_doubled(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/0.csv": "id\n0\n"})
    load(project)
    lines = "".join(f"{number}\n" for number in range(200_000))
    for number, delay in enumerate((0.02, 0.05, 0.1, 0.2, 0.4), start=1):
        write(project.config.root, {f"data/{number}.csv": "id\n" + lines})
        before = files_in_state(project)

        run_and_kill(project, "StreamStarted", delay)

        known = files_in_state(project)
        assert known in (before, number + 1)
        loaded = dict(raw(project, "SELECT _smoll_file, count(*) FROM raw_s.t GROUP BY 1"))
        assert loaded == {"data/0.csv": 1} | {f"data/{n}.csv": 200_000 for n in range(1, known)}
    load(project)
    assert raw(project, "SELECT count(*) FROM raw_s.t") == [(1_000_001,)]


def test_a_first_load_that_is_killed_leaves_no_table(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "id\n1\n"})

    assert run_and_kill(project, "StreamStarted") == -signal.SIGKILL

    assert dump(project) is None
    load(project)
    assert rows(project) == [(1,)]


def test_a_stream_that_fails_late_leaves_table_types_and_state(make_project: MakeProject) -> None:
    options = {"mode": "merge", "key": "id"}
    project = make_project(files_yml("data/*.csv", None, **options), {"data/1.csv": "id,v\n1,1\n"})
    load(project)
    before = (dump(project), raw(project, "FROM _smoll.state"), raw(project, "FROM _smoll.loads"))
    write(project.config.root, {"data/2.csv": "id,v,new\n1,x,y\n,x,y\n"})  # widens v, adds a column, has no key

    refused(project, "the key has no value")

    assert (dump(project), raw(project, "FROM _smoll.state"), raw(project, "FROM _smoll.loads")) == before


@pytest.mark.parametrize("damage", ["{", "[]", "null", '{"files": 5}', '{"files": {}, "cursor": {}}', '"text"', None])
def test_a_damaged_state_is_told_and_a_reload_mends_it(make_project: MakeProject, damage: str | None) -> None:
    project = make_project(files_yml(mode="append"), {"data/t.csv": "id\n1\n"})
    load(project)
    with duckdb.connect(warehouse(project)) as connection:
        connection.execute("UPDATE _smoll.state SET state = ?", [damage])
    write(project.config.root, {"data/t.csv": "id\n2\n"})

    refused(project, "s.t: the stored state is damaged", "smoll run --reload s.t")

    load(project, reload=["s.t"])
    assert rows(project) == [(2,)]
    assert load(project).status == "unchanged"


def warehouse(project: smoll.Project) -> Path:
    return project.config.root / ".smoll/warehouse.duckdb"


def test_a_warehouse_that_is_none_is_told_and_kept(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "id\n1\n"})
    load(project)
    os.truncate(warehouse(project), 100)

    with pytest.raises(StateError) as caught:
        project.run()

    assert "warehouse.duckdb" in str(caught.value)
    assert "mv '" in str(caught.value)
    assert warehouse(project).stat().st_size == 100
    warehouse(project).unlink()
    load(project)
    assert rows(project) == [(1,)]


def test_a_warehouse_restored_from_a_copy_goes_on_from_there(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "id\n1\n"})
    load(project)
    copy = warehouse(project).read_bytes()
    write(project.config.root, {"data/2.csv": "id\n2\n"})
    load(project)
    warehouse(project).write_bytes(copy)

    assert load(project).rows == 1

    assert rows(project) == [(1,), (2,)]


def test_the_load_record_says_what_was_written(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "id\n1\n2\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "id\n3\n"})

    stream = only_stream(project.run())

    assert (stream.rows, stream.total) == (1, 3)
    found = raw(project, "SELECT run, source, stream, mode, rows_written, rows_total FROM _smoll.loads ORDER BY run")
    assert found == [(1, "s", "t", "append", 2, 2), (2, "s", "t", "append", 1, 3)]
