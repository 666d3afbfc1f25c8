"""``smoll state``: from where the next run goes on, shown, set and forgotten."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest

import smoll
from smoll.cli import main
from smoll.errors import LockedError, UsageError
from smoll.state.lock import project_lock
from support import MakeProject, Postgres, dump, files_yml, load, raw, rows, sql_yml


def run(project: smoll.Project, *args: str) -> int:
    return main(["--project", str(project.config.root), "state", *args])


def execute(project: smoll.Project, sql: str) -> None:
    path = project.config.root / "shop.db"
    with sqlite3.connect(path) as database:
        database.executescript(sql)
    database.close()


@pytest.fixture
def numbered(make_project: MakeProject) -> smoll.Project:
    """Rows 1 to 5 of a database, appended by their number."""
    project = make_project(sql_yml("sqlite:///shop.db", {"t": {"mode": "append", "cursor": "n"}}))
    execute(project, "CREATE TABLE t (n INTEGER, v TEXT); INSERT INTO t VALUES (1,'a'),(2,'b'),(3,'c'),(4,'d'),(5,'e')")
    load(project)
    return project


def test_show(numbered: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(numbered, "show") == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["stream", "mode", "cursor", "files", "run"]
    assert line.split() == ["s.t", "append", "n", "=", "5", "1"]
    assert run(numbered, "show", "s.t", "--json") == 0
    (state,) = json.loads(capsys.readouterr().out)
    assert (state["column"], state["cursor"], state["run"]) == ("n", "5", 1)
    assert state["state"]["cursor"] == "5"


def test_show_files(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/a.csv": "a\n1\n", "data/b.csv": "a\n2\n"})
    assert run(project, "show") == 0
    assert "Nothing was loaded yet" in capsys.readouterr().err
    load(project)
    assert run(project, "show", "s") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["s.t", "append", "2", "1"]
    assert set(project.states()[0].state["files"]) == {"data/a.csv", "data/b.csv"}


def test_an_earlier_cursor_brings_back_rows_and_doubles_none(
    numbered: smoll.Project, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(numbered, "UPDATE t SET v = 'late' WHERE n = 2; INSERT INTO t VALUES (3, 'more'), (6, 'f')")

    assert run(numbered, "set", "s.t", "--cursor", "2") == 0
    assert capsys.readouterr().out == "Before   n = 5\nNow      n = 2\n"
    load(numbered)

    expected = [(1, "a"), (2, "b"), (2, "late"), (3, "c"), (3, "more"), (4, "d"), (5, "e"), (6, "f")]
    assert rows(numbered) == expected
    assert numbered.states()[0].cursor == "6"
    load(numbered)
    assert rows(numbered) == expected


def test_a_later_cursor_leaves_rows_out(numbered: smoll.Project) -> None:
    execute(numbered, "INSERT INTO t VALUES (6, 'f'), (7, 'g'), (8, 'h')")
    before, after = numbered.set_cursor("s.t", "8")
    assert (before.cursor, after.cursor) == ("5", "8")
    load(numbered)
    assert [row[0] for row in rows(numbered)] == [1, 2, 3, 4, 5, 8]


@pytest.mark.parametrize("value", ["soon", "7.5", "", " ", "9223372036854775808", "1;2", "'"])
def test_a_value_that_is_none_is_refused(numbered: smoll.Project, value: str) -> None:
    before = dump(numbered, "_smoll.state")
    with pytest.raises(UsageError, match="no value of the cursor n, which is BIGINT"):
        numbered.set_cursor("s.t", value)
    assert dump(numbered, "_smoll.state") == before


def test_a_moment_is_written_as_the_loads_write_it(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE t (id int, at timestamptz);
        INSERT INTO t VALUES (1, '2024-01-01 12:00Z'), (2, '2024-01-02 12:00Z'), (3, '2024-01-03 12:00Z')"""
    )
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "merge", "key": "id", "cursor": "at"}}))
    load(project)
    postgres.execute("UPDATE t SET at = at + interval '1 minute' WHERE id < 3")

    _, after = project.set_cursor("s.t", "2024-01-02T02:00:00+02:00")

    assert after.cursor == "2024-01-02 00:00:00+00"
    load(project)
    moments = raw(project, "select id, strftime(\"at\", '%d %H:%M') from raw_s.t order by id")
    assert moments == [(1, "01 12:00"), (2, "02 12:01"), (3, "03 12:00")]
    assert project.states()[0].cursor == "2024-01-03 12:00:00+00"


def test_the_whole_state_can_be_replaced(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/a.csv": "a\n1\n", "data/b.csv": "a\n2\n"})
    load(project)
    state = dict(project.states()[0].state)
    state["files"] = {"data/a.csv": state["files"]["data/a.csv"]}

    assert run(project, "set", "s.t", "--json-state", json.dumps(state)) == 0

    assert capsys.readouterr().out == "Before   2 files\nNow      1 file\n"
    stream = load(project)
    assert stream.rows == 1, "b.csv counts as new"
    for wrong in ("", "[]", "{}", "{", '{"files": []}', '{"files": {"data/a.csv": 1}}', '{"cursor": 5}'):
        assert run(project, "set", "s.t", "--json-state", wrong) == 2
        assert "This is no state" in capsys.readouterr().err


def test_the_state_of_a_cursor_is_checked_too(numbered: smoll.Project) -> None:
    state = dict(numbered.states()[0].state)
    with pytest.raises(UsageError, match="no value of the cursor n"):
        numbered.set_state("s.t", json.dumps({**state, "cursor": "x"}))
    with pytest.raises(UsageError, match="must name the cursor's column"):
        numbered.set_state("s.t", json.dumps({"cursor": "5"}))
    assert numbered.set_state("s.t", json.dumps({**state, "cursor": "3"}))[1].cursor == "3"


def test_reset(numbered: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows(numbered)
    execute(numbered, "DELETE FROM t WHERE n = 1")
    assert run(numbered, "reset", "s.t") == 0
    assert capsys.readouterr().out == "Forgot s.t   n = 5\n"
    assert rows(numbered) == before, "the table stays until the next run"
    assert run(numbered, "show", "s.t") == 2
    assert "next run loads it from nothing" in capsys.readouterr().err
    load(numbered)
    assert rows(numbered) == before[1:]


def test_reset_of_a_source(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    streams = {"t": "data/t.csv", "u": "data/t.csv"}
    yml = f"sources: {{s: {{kind: files, streams: {streams}}}, o: {{kind: files, streams: {streams}}}}}\n"
    project = make_project(yml, {"data/t.csv": "a\n1\n"})
    project.run()
    assert run(project, "reset", "s", "--json") == 0
    assert [state["ref"] for state in json.loads(capsys.readouterr().out)] == ["s.t", "s.u"]
    assert [str(state.ref) for state in project.states()] == ["o.t", "o.u"]
    statuses = {str(stream.ref): stream.status for stream in project.run().streams}
    assert statuses == {"s.t": "loaded", "s.u": "loaded", "o.t": "unchanged", "o.u": "unchanged"}


def test_what_cannot_be_done_is_said(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a\n1\n"})
    assert run(project, "reset", "s") == 2
    assert "nothing was loaded yet" in capsys.readouterr().err
    assert not (project.config.root / ".smoll/warehouse.duckdb").exists()
    load(project)
    for args, says in (
        (("set", "s.t", "--cursor", "1"), "has no cursor that could be set. It goes on by its files."),
        (("set", "s", "--cursor", "1"), "s is no stream"),
        (("set", "s.u", "--cursor", "1"), "There are: s.t."),
        (("set", "s.t"), "Give one of"),
        (("set", "s.t", "--cursor", "1", "--json-state", "{}"), "Give one of"),
        (("reset", "x"), "no stored state of this name"),
        (("show", "x"), "no stored state of this name"),
    ):
        assert run(project, *args) == 2
        assert says in capsys.readouterr().err


def test_a_run_is_waited_for(numbered: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    lock = numbered.config.root / ".smoll/lock"
    with project_lock(lock, "smoll run"):
        assert run(numbered, "reset", "s.t", "--no-wait") == 1
        assert "smoll run" in capsys.readouterr().err
        with pytest.raises(LockedError):
            numbered.set_cursor("s.t", "1", wait=False)
        told = threading.Event()
        waiting = threading.Thread(
            target=numbered.set_cursor, args=("s.t", "1"), kwargs={"on_event": lambda event: told.set()}
        )
        waiting.start()
        assert told.wait(30)
        assert Path(lock).exists()
    waiting.join(30)
    assert numbered.states()[0].cursor == "1"


def test_a_damaged_state_is_told(numbered: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    import duckdb

    with duckdb.connect(numbered.config.root / ".smoll/warehouse.duckdb") as connection:
        connection.execute("UPDATE _smoll.state SET state = 'no json'")
    assert run(numbered, "show") == 1
    assert "smoll run --reload s.t" in capsys.readouterr().err
