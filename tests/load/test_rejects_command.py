"""``smoll rejects``: what was not loaded, counted and shown."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

import smoll
from smoll.cli import main
from support import MakeProject, files_yml, load, raw, reopen, sql_yml, write

QUARANTINE: dict[str, Any] = {"mode": "append", "on_bad_row": "quarantine", "columns": {"b": "BIGINT"}}


def run(project: smoll.Project, *args: str) -> int:
    return main(["--project", str(project.config.root), "rejects", *args])


@pytest.fixture
def two_loads(make_project: MakeProject) -> smoll.Project:
    """Run 1 rejected two rows of one.csv, run 2 one row of two.csv, with escapes and a long text in it."""
    project = make_project(files_yml("data/*.csv", **QUARANTINE), {"data/one.csv": "a,b\n1,x\n2,2\n3,x\n"})
    load(project)
    write(project.config.root, {"data/two.csv": f'a,b\n"\x1b[31m\n{"long" * 100}",y\n'})
    load(project)
    return project


def test_streams_with_rejects_are_counted(two_loads: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(two_loads) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert re.split(r" {2,}", head) == ["stream", "rejected", "newest load", "most often"]
    assert re.split(r" {2,}", line) == ["s.t", "3", "2", "'x' is no BIGINT"]
    assert run(two_loads, "s", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"ref": "s.t", "table": "raw_s.t__rejected", "rows": 3, "load": 2, "reason": "'x' is no BIGINT"}
    ]
    (counted,) = two_loads.reject_counts()
    assert counted.rows == raw(two_loads, "select count(*) from raw_s.t__rejected")[0][0]


def test_rows_are_shown_newest_load_first(two_loads: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(two_loads, "s.t") == 0
    out = capsys.readouterr().out
    head, newest, first, second = out.splitlines()
    assert re.split(r" {2,}", head.strip()) == ["load", "file", "line", "column", "reason", "raw"]
    load_id, file, _, *why = re.split(r" {2,}", newest.strip())
    assert (load_id, file, why[:2]) == ("2", "data/two.csv", ["b", "'y' is no BIGINT"])
    assert newest.endswith("…")
    assert "\x1b" not in out, "what a file says does not drive the terminal"
    assert len(newest) < 200
    assert "data/one.csv" in first
    assert "data/one.csv" in second


def test_limit_and_load(two_loads: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(two_loads, "s.t", "--limit", "1") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert "--limit 0" in err
    assert run(two_loads, "s.t", "--load", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    lines = raw(two_loads, "select line from raw_s.t__rejected where _smoll_load_id = 1 order by line")
    assert [(row["line"],) for row in found] == lines
    assert [row["load"] for row in found] == [1, 1]
    assert [(row.line,) for row in two_loads.rejects("s.t", load=1)] == lines
    assert run(two_loads, "s.t", "--load", "7") == 0
    assert "No rejected rows" in capsys.readouterr().err


def test_machines_get_the_whole_text(two_loads: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    kept = raw(two_loads, "select raw from raw_s.t__rejected order by _smoll_load_id desc limit 1")[0][0]
    assert "long" * 100 in kept
    assert run(two_loads, "s.t", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["raw"] == kept
    assert run(two_loads, "s.t", "--format", "csv") == 0
    head, newest, *_ = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    assert head == ["load", "loaded_at", "file", "line", "column", "reason", "raw"]
    assert newest[-1] == kept


def test_nothing_was_rejected(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(files_yml(on_bad_row="quarantine"), {"data/t.csv": "a\n1\n"})
    assert run(project) == 0
    assert "No rejected rows" in capsys.readouterr().err
    load(project)
    for args in ((), ("s",), ("s.t",)):
        assert run(project, *args) == 0
        assert capsys.readouterr().err == "No rejected rows.\n"
    assert run(project, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    fails = reopen(project, files_yml())  # `fail` has no such table
    load(fails, reload=["s"])
    assert run(fails, "s.t") == 0


def test_metadata_may_have_other_names(make_project: MakeProject) -> None:
    names = {"load_id": "load", "loaded_at": "line ", "file": "it's a file"}
    project = make_project(files_yml("data/*.csv", {"metadata": names}, **QUARANTINE), {"data/one.csv": "a,b\n1,x\n"})
    load(project)
    (row,) = project.rejects("s.t")
    assert (row.load, row.file, row.column, row.reason) == (1, "data/one.csv", "b", "'x' is no BIGINT")


def test_rows_of_a_database_have_no_file(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"on_bad_row": "quarantine", "columns": {"n": "BIGINT"}}
    project = make_project(sql_yml("sqlite:///x.db", {"t": options}))
    with sqlite3.connect(project.config.root / "x.db") as database:
        database.executescript("CREATE TABLE t (n TEXT); INSERT INTO t VALUES ('1'), ('x')")
    database.close()
    load(project)
    (row,) = project.rejects("s.t")
    assert (row.file, row.column, row.reason) == ("", "n", "'x' is no BIGINT")
    assert run(project, "s.t") == 0
    assert capsys.readouterr().out.split()[:5] == ["load", "line", "column", "reason", "raw"]


def test_a_wrong_name_is_told(two_loads: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(two_loads, "s.u") == 2
    assert "There are: s.t." in capsys.readouterr().err
    assert run(two_loads, "x") == 2
    assert run(two_loads, "--load", "1") == 2


def test_a_run_that_holds_the_warehouse_is_told(two_loads: smoll.Project, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    path = two_loads.config.root / ".smoll/warehouse.duckdb"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdin
        assert holder.stdout.readline() == "open\n"
        assert run(two_loads) == 1
        assert "If a run is writing it, wait" in capsys.readouterr().err
        holder.stdin.close()
