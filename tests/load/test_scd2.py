"""Mode scd2: every version of a row, with the time in which it was valid."""

from __future__ import annotations

import signal
import sqlite3
from typing import Any

import pytest

import smoll
from load.test_transaction import run_and_kill
from support import MakeProject, files_yml, load, raw, refused, reopen, sql_yml, types, write

URL = "sqlite:///data/shop.db"
SCD2: dict[str, Any] = {"mode": "scd2", "key": "id"}


def versions(project: smoll.Project, columns: str = "id, v") -> list[Any]:
    """Each version: its columns, the runs in which it opened and closed (0: still open), and whether it is current."""
    return raw(
        project,
        f"""WITH runs AS (SELECT run, started FROM _smoll.loads)
        SELECT {columns}, o.run, coalesce(c.run, 0), _smoll_current FROM raw_s.t
        LEFT JOIN runs o ON o.started = _smoll_valid_from LEFT JOIN runs c ON c.started = _smoll_valid_to
        WHERE (_smoll_valid_to IS NULL) = _smoll_current ORDER BY id, _smoll_valid_from""",
    )


def csv_project(make_project: MakeProject, content: str, **options: Any) -> smoll.Project:
    project = make_project(files_yml("data/t.csv", None, **{**SCD2, **options}), {"data/t.csv": content})
    load(project)
    return project


def change(project: smoll.Project, content: str) -> None:
    write(project.config.root, {"data/t.csv": content})
    load(project)


def execute(project: smoll.Project, sql: str) -> None:
    (project.config.root / "data").mkdir(exist_ok=True)
    with sqlite3.connect(project.config.root / "data/shop.db") as connection:
        connection.executescript(sql)
    connection.close()


def test_a_first_load_opens_a_version_of_each_row(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n2,b\n")

    assert versions(project) == [(1, "a", 1, 0, True), (2, "b", 1, 0, True)]
    assert raw(project, "SELECT DISTINCT _smoll_valid_from = _smoll_loaded_at FROM raw_s.t") == [(True,)]


def test_what_changed_is_closed_and_opened_and_the_rest_keeps_its_version(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n2,b\n")

    change(project, "id,v\n1,a\n2,c\n3,d\n")

    assert versions(project) == [
        (1, "a", 1, 0, True),
        (2, "b", 1, 2, False),
        (2, "c", 2, 0, True),
        (3, "d", 2, 0, True),
    ]
    assert raw(project, "SELECT _smoll_load_id FROM raw_s.t WHERE id = 1") == [(1,)]


def test_a_row_that_is_gone_is_closed_and_one_that_is_back_opens_again(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n2,b\n")
    change(project, "id,v\n1,a\n")
    assert versions(project) == [(1, "a", 1, 0, True), (2, "b", 1, 2, False)]

    change(project, "id,v\n1,a\n2,b\n")

    assert versions(project) == [(1, "a", 1, 0, True), (2, "b", 1, 2, False), (2, "b", 3, 0, True)]


def test_with_deletes_ignore_a_row_that_is_gone_stays_open(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n2,b\n", deletes="ignore")

    change(project, "id,v\n1,c\n")

    assert versions(project) == [(1, "a", 1, 2, False), (1, "c", 2, 0, True), (2, "b", 1, 0, True)]


def test_of_several_rows_of_a_key_in_one_load_the_last_one_counts(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n1,b\n")
    assert versions(project) == [(1, "b", 1, 0, True)]

    change(project, "id,v\n1,c\n1,b\n")

    assert versions(project) == [(1, "b", 1, 0, True)]


@pytest.mark.parametrize(("before", "after"), [("1.5", "NaN"), ("", "x"), ("NaN", "")])
def test_null_and_nan_are_equal_to_themselves_and_differ_from_the_rest(
    make_project: MakeProject, before: str, after: str
) -> None:
    project = csv_project(make_project, f"id,v\n1,{before}\n2,{before}\n3,\n")

    change(project, f"id,v\n1,{before}\n2,{after}\n3,\n")

    found = [(row[0], row[-1]) for row in versions(project)]
    assert found == [(1, True), (2, False), (2, True), (3, True)]


def test_a_key_of_several_columns(make_project: MakeProject) -> None:
    project = csv_project(make_project, "a,id,v\nx,1,p\ny,1,q\n", key=["a", "id"])

    change(project, "a,id,v\nx,1,r\ny,1,q\n")

    found = sorted(versions(project, "a, v, id"))
    assert found == [("x", "p", 1, 1, 2, False), ("x", "r", 1, 2, 0, True), ("y", "q", 1, 1, 0, True)]


def test_a_new_column_makes_a_version_only_of_rows_that_have_a_value_in_it(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n2,b\n")

    change(project, "id,v,w\n1,a,\n2,b,9\n")

    assert types(project) == {"id": "BIGINT", "v": "VARCHAR", "w": "BIGINT"}
    assert versions(project, "id, w") == [(1, None, 1, 0, True), (2, None, 1, 2, False), (2, 9, 2, 0, True)]


def test_a_column_that_is_gone_makes_no_version(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v,w\n1,a,7\n2,b,8\n")

    change(project, "id,v\n1,a\n2,c\n")

    found = versions(project, "id, v, w")
    assert found == [(1, "a", 7, 1, 0, True), (2, "b", 8, 1, 2, False), (2, "c", None, 2, 0, True)]


def test_a_wider_type_makes_versions_only_of_what_changed(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,1\n2,2\n")

    change(project, "id,v\n1,1\n2,2.5\n")

    assert versions(project) == [(1, 1.0, 1, 0, True), (2, 2.0, 1, 2, False), (2, 2.5, 2, 0, True)]


def test_all_files_are_read_when_one_changed(make_project: MakeProject) -> None:
    files = {"data/1.csv": "id,v\n1,a\n", "data/2.csv": "id,v\n2,b\n"}
    project = make_project(files_yml("data/*.csv", None, **SCD2), files)
    load(project)
    write(project.config.root, {"data/2.csv": "id,v\n2,c\n"})

    load(project)

    assert versions(project) == [(1, "a", 1, 0, True), (2, "b", 1, 2, False), (2, "c", 2, 0, True)]
    (project.config.root / "data/1.csv").unlink()
    load(project)
    assert versions(project)[0] == (1, "a", 1, 3, False)


def test_two_runs_without_a_change_write_nothing(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n2,\n")
    before = versions(project)
    assert load(project).status == "unchanged"
    write(project.config.root, {"data/t.csv": "id,v\n1,a\n2,\n"})  # another time, the same rows

    assert load(project).rows == 0

    assert versions(project) == before


@pytest.mark.parametrize("cursor", [{}, {"cursor": "at"}])
def test_a_database_is_followed(make_project: MakeProject, cursor: dict[str, str]) -> None:
    project = make_project(sql_yml(URL, {"t": {**SCD2, **cursor}}))
    execute(project, "CREATE TABLE t (id INTEGER, v TEXT, at INTEGER); INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2);")
    load(project)
    execute(project, "UPDATE t SET v = 'c', at = 3 WHERE id = 1; INSERT INTO t VALUES (3, 'd', 4)")

    load(project)

    followed = [(1, "a", 1, 2, False), (1, "c", 2, 0, True), (2, "b", 1, 0, True), (3, "d", 2, 0, True)]
    assert versions(project) == followed
    assert load(project).rows == 0
    assert versions(project) == followed


@pytest.mark.parametrize("cursor", [{}, {"cursor": "at"}])
def test_a_row_deleted_in_a_database_is_closed(make_project: MakeProject, cursor: dict[str, str]) -> None:
    project = make_project(sql_yml(URL, {"t": {**SCD2, **cursor}}))
    execute(project, "CREATE TABLE t (id INTEGER, v TEXT, at INTEGER); INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2);")
    load(project)
    execute(project, "DELETE FROM t WHERE id = 1")

    load(project)

    assert versions(project) == [(1, "a", 1, 2, False), (2, "b", 1, 0, True)]


def test_a_rejected_row_closes_nothing(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,1\n2,2\n3,3\n", columns={"v": "BIGINT"}, on_bad_row="quarantine")
    write(project.config.root, {"data/t.csv": "id,v\n1,1\n2,x\n"})

    assert any("no row was taken for deleted" in note for note in load(project).notes)

    assert versions(project) == [(1, 1, 1, 0, True), (2, 2, 1, 0, True), (3, 3, 1, 0, True)]


def test_a_kill_before_the_commit_leaves_the_history_as_it_was(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n2,b\n")
    before = raw(project, "FROM raw_s.t ORDER BY ALL")
    write(project.config.root, {"data/t.csv": "id,v\n1,c\n"})

    assert run_and_kill(project, "StreamStarted") == -signal.SIGKILL
    assert raw(project, "FROM raw_s.t ORDER BY ALL") == before

    load(project)
    found = raw(project, "SELECT id, v, _smoll_current FROM raw_s.t ORDER BY ALL")
    assert found == [(1, "a", False), (1, "c", True), (2, "b", False)]


def test_another_key_is_refused_as_the_history_would_be_lost(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n2,b\n")
    change(project, "id,v\n1,c\n2,b\n")

    again = reopen(project, files_yml("data/t.csv", None, mode="scd2", key=["id", "v"]))

    refused(again, "the history of raw_s.t would be lost", "--reload s.t")
    load(again, reload=["s.t"])
    assert [row[:2] for row in versions(again)] == [(1, "c"), (2, "b")]


def test_a_reload_begins_the_history_anew(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n")
    change(project, "id,v\n1,b\n")

    load(project, reload=["s.t"])

    assert versions(project) == [(1, "b", 3, 0, True)]


def test_a_row_without_a_key_is_refused_and_history_stays(make_project: MakeProject) -> None:
    project = csv_project(make_project, "id,v\n1,a\n")
    write(project.config.root, {"data/t.csv": "id,v\n1,a\n,b\n"})

    refused(project, "data/t.csv, line 3", "'id'", "the key has no value")
