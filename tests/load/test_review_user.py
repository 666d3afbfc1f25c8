"""What a user met who went through the pages on loading."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from smoll.cli import main
from smoll.doctor import EXTRAS
from support import MakeProject, files_yml, load, refused, rows, sql_yml, write
from web_server import serve

PAGE = "id,day\n1,2024-01-01\n2,2024-01-02\n3,2024-01-03\n"


@pytest.mark.parametrize(
    ("since", "until", "asked"),
    [
        (None, "2024-01-03", "2024-01-01"),
        ("2024-01-02", None, "2024-01-02"),
        ("2024-01-02", "2024-01-03", "2024-01-02"),
    ],
)
def test_a_range_of_a_url_is_read_again_where_it_has_no_beginning_or_end(
    make_project: MakeProject, since: str | None, until: str | None, asked: str
) -> None:
    with serve() as web:
        url = web.put("/t.csv", PAGE) + "?from={cursor}"
        project = make_project(files_yml(url, mode="append", cursor="day", start="2024-01-01"))
        load(project)
        before = rows(project)

        load(project, reload=["s.t"], since=since, until=until)

        assert rows(project) == before
        assert web.requests[-1][1] == f"/t.csv?from={asked}"


def test_rows_that_are_gone_in_a_range_of_a_url_go(make_project: MakeProject) -> None:
    with serve() as web:
        url = web.put("/t.csv", PAGE) + "?from={cursor}"
        project = make_project(files_yml(url, mode="append", cursor="day", start="2024-01-01"))
        load(project)
        web.put("/t.csv", "id,day\n")

        load(project, reload=["s.t"], since="2024-01-02", until="2024-01-03")
        assert [row[0] for row in rows(project)] == [1, 3]

        web.put("/t.csv", "\n")
        kept = load(project, reload=["s.t"], since="2024-01-03")
        assert [row[0] for row in rows(project)] == [1, 3]
        assert any("the rows of this range stay" in note for note in kept.notes)


def test_duckdb_can_tell_how_far_a_scan_of_numbers_is(tmp_path: Path) -> None:
    """A long IN in a condition on a CSV file is a join to DuckDB, and below a join it tells no progress."""
    from smoll.load.types import misfits

    path = tmp_path / "t.csv"
    path.write_text("x\n1.5\nNaN\n-inf\ninFinity\n1e400\nx\n")
    with duckdb.connect() as connection:
        condition = misfits("x", "VARCHAR", "DOUBLE")
        sql = f"SELECT x FROM read_csv('{path}', all_varchar = true) WHERE {condition}"
        row = connection.execute(f"EXPLAIN {sql}").fetchone()
        assert row and "JOIN" not in row[1]
        assert connection.execute(f"{sql} ORDER BY x").fetchall() == [("1e400",), ("inFinity",), ("x",)]


def test_check_names_every_stream_of_files_that_would_fail(make_project: MakeProject) -> None:
    streams = {"a": "data/no.csv", "b": "data/b.dat", "c": "data/c.csv"}
    yml = f"sources: {json.dumps({'s': {'kind': 'files', 'streams': streams}})}\n"
    project = make_project(yml, {"data/b.dat": "x\n", "data/c.csv": "x\n1\n"})

    (found,) = [finding for finding in project.check() if finding.level == "error"]

    assert "There is no file data/no.csv" in found.message
    assert "the format cannot be told" in found.message and "Set `format: csv`" in found.message
    assert "s.c" not in found.message


def test_the_guard_says_where_rejected_rows_are_why(make_project: MakeProject) -> None:
    yml = files_yml(contract="discard", on_bad_row="quarantine")
    project = make_project(yml, {"data/t.csv": "a\n1\n2\n"})
    load(project)
    write(project.config.root, {"data/t.csv": "a\nx\ny\nz\n"})

    error = refused(project, "the table has 2 rows and this load would leave no row, as it rejects 3")

    assert "`on_bad_row: fail` names the first bad row." in error


def test_state_show_tells_the_cursors_of_dlt(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "import dlt\n\n\n@dlt.resource\n"
        "def t(day=dlt.sources.incremental('day', initial_value=1)):\n    yield [{'day': 1}, {'day': 7}]\n"
    )
    project = make_project("sources: {s: {kind: dlt, source: review_source.t}}\n", {"review_source.py": source})
    load(project)
    assert main(["--project", str(project.config.root), "state", "show"]) == 0
    assert "day = 7" in capsys.readouterr().out


def test_doctor_knows_every_extra() -> None:
    root = Path(__file__).parents[2]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(declared)


def test_a_lag_that_does_not_fit_the_cursor_is_refused_at_the_first_load(make_project: MakeProject) -> None:
    project = make_project(sql_yml("sqlite:///t.db", {"t": {"mode": "append", "cursor": "day", "lag": "1 day"}}))
    with closing(sqlite3.connect(project.config.root / "t.db")) as database:
        database.executescript("CREATE TABLE t (day TEXT); INSERT INTO t VALUES ('2024-01-01')")
    refused(project, "does not fit the cursor 'day', which is a text")


@pytest.mark.parametrize("kind", ["BIGNT", "BIGINT); DROP TABLE x; --"])
def test_check_finds_a_type_that_is_none(make_project: MakeProject, kind: str) -> None:
    project = make_project(files_yml(columns={"id": kind}), {"data/t.csv": "id\n1\n"})

    (found,) = [finding for finding in project.check() if finding.level == "error"]

    assert f"s.t: the type {kind!r} of column 'id' is none of DuckDB's" in found.message
    refused(project, "none of DuckDB's")
