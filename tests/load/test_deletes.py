"""What becomes of rows that are gone in the source: they stay, are marked, or go."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

import smoll
from support import MakeProject, files_yml, load, raw, sql_yml, write

URL = "sqlite:///data/shop.db"
MERGE: dict[str, Any] = {"mode": "merge", "key": "id"}
DELETES = ["ignore", "soft", "detect"]
IN_FULL_OR_BY_CURSOR = pytest.mark.parametrize("cursor", [{}, {"cursor": "at"}], ids=["whole", "cursor"])


def execute(project: smoll.Project, sql: str) -> None:
    (project.config.root / "data").mkdir(exist_ok=True)
    with sqlite3.connect(project.config.root / "data/shop.db") as connection:
        connection.executescript(sql)
    connection.close()


def shop(make_project: MakeProject, **options: Any) -> smoll.Project:
    """A database of three rows, loaded by merge."""
    project = make_project(sql_yml(URL, {"t": {**MERGE, **options}}))
    execute(
        project,
        """CREATE TABLE t (id INTEGER, v TEXT, at INTEGER);
        INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3);""",
    )
    load(project)
    return project


def live(project: smoll.Project, deletes: str) -> list[Any]:
    """The rows that are not marked as deleted."""
    where = "WHERE _smoll_deleted_at IS NULL" if deletes == "soft" else ""
    return raw(project, f"SELECT id, v FROM raw_s.t {where} ORDER BY ALL")


def marked(project: smoll.Project) -> list[Any]:
    """The rows that are marked, and whether by the newest load."""
    return raw(
        project,
        """SELECT id, v, _smoll_deleted_at = (SELECT max(started) FROM _smoll.loads) FROM raw_s.t
        WHERE _smoll_deleted_at IS NOT NULL ORDER BY ALL""",
    )


def after(deletes: str, left: list[Any], gone: list[Any]) -> list[Any]:
    return sorted(left + gone) if deletes == "ignore" else left


@pytest.mark.parametrize("deletes", DELETES)
@IN_FULL_OR_BY_CURSOR
def test_a_row_deleted_in_a_database(make_project: MakeProject, deletes: str, cursor: dict[str, str]) -> None:
    project = shop(make_project, deletes=deletes, **cursor)
    execute(project, "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'd', at = 4 WHERE id = 2")

    load(project)

    assert live(project, deletes) == after(deletes, [(2, "d"), (3, "c")], [(1, "a")])
    if deletes == "soft":
        assert marked(project) == [(1, "a", True)]


@pytest.mark.parametrize("deletes", DELETES)
@IN_FULL_OR_BY_CURSOR
def test_the_row_with_the_highest_cursor_is_deleted(
    make_project: MakeProject, deletes: str, cursor: dict[str, str]
) -> None:
    project = shop(make_project, deletes=deletes, **cursor)
    execute(project, "DELETE FROM t WHERE id = 3")

    load(project)
    load(project)

    assert live(project, deletes) == after(deletes, [(1, "a"), (2, "b")], [(3, "c")])


@IN_FULL_OR_BY_CURSOR
def test_a_row_that_is_back_is_marked_no_more(make_project: MakeProject, cursor: dict[str, str]) -> None:
    project = shop(make_project, deletes="soft", **cursor)
    execute(project, "DELETE FROM t WHERE id = 1")
    load(project)
    assert marked(project) == [(1, "a", True)]
    load(project)
    assert marked(project) == [(1, "a", False)], "the time of the first load that missed it"
    execute(project, "INSERT INTO t VALUES (1, 'z', 5)")

    load(project)

    assert marked(project) == []
    assert live(project, "soft") == [(1, "z"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("deletes", ["soft", "detect"])
@IN_FULL_OR_BY_CURSOR
def test_while_rows_are_rejected_nobody_is_taken_for_deleted(
    make_project: MakeProject, deletes: str, cursor: dict[str, str]
) -> None:
    options = {"deletes": deletes, "on_bad_row": "quarantine", "columns": {"v": "BIGINT"}, **cursor}
    project = make_project(sql_yml(URL, {"t": {**MERGE, **options}}))
    execute(project, "CREATE TABLE t (id, v, at); INSERT INTO t VALUES (1, '7', 1), (2, '8', 2), (3, '9', 3);")
    load(project)
    execute(project, "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'x', at = 4 WHERE id = 2")

    stream = load(project)

    assert stream.rejected == 1
    assert any("no row was taken for deleted" in note for note in stream.notes)
    assert live(project, deletes) == [(1, 7), (2, 8), (3, 9)]
    execute(project, "UPDATE t SET v = '10', at = 5 WHERE id = 2")
    load(project)
    assert live(project, deletes) == [(2, 10), (3, 9)]


@pytest.mark.parametrize("deletes", DELETES)
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_file_that_vanished(make_project: MakeProject, mode: str, deletes: str) -> None:
    options = {**(MERGE if mode == "merge" else {"mode": mode}), "deletes": deletes}
    files = {"data/1.csv": "id,v\n1,a\n", "data/2.csv": "id,v\n2,b\n"}
    project = make_project(files_yml("data/*.csv", None, **options), files)
    load(project)
    (project.config.root / "data/1.csv").unlink()

    load(project)

    assert live(project, deletes) == after(deletes, [(2, "b")], [(1, "a")])
    if deletes == "soft":
        assert marked(project) == [(1, "a", True)]
    assert load(project).status == "unchanged"
    write(project.config.root, {"data/1.csv": "id,v\n1,a\n"})
    load(project)
    assert live(project, deletes) == [(1, "a"), (2, "b")], "once, whether it was known or not"


@pytest.mark.parametrize("deletes", DELETES)
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_file_vanished_while_another_came(make_project: MakeProject, mode: str, deletes: str) -> None:
    options = {**(MERGE if mode == "merge" else {"mode": mode}), "deletes": deletes}
    files = {"data/1.csv": "id,v\n1,a\n", "data/2.csv": "id,v\n2,b\n"}
    project = make_project(files_yml("data/*.csv", None, **options), files)
    load(project)
    (project.config.root / "data/1.csv").unlink()
    write(project.config.root, {"data/3.csv": "id,v\n3,c\n"})

    load(project)

    assert live(project, deletes) == after(deletes, [(2, "b"), (3, "c")], [(1, "a")])


@pytest.mark.parametrize("deletes", DELETES)
def test_under_merge_a_changed_file_that_lost_rows(make_project: MakeProject, deletes: str) -> None:
    files = {"data/1.csv": "id,v\n1,a\n2,b\n", "data/2.csv": "id,v\n3,c\n"}
    project = make_project(files_yml("data/*.csv", None, **MERGE, deletes=deletes), files)
    load(project)
    write(project.config.root, {"data/1.csv": "id,v\n2,d\n"})

    load(project)

    assert live(project, deletes) == after(deletes, [(2, "d"), (3, "c")], [(1, "a")])


@pytest.mark.parametrize("deletes", ["soft", "detect"])
def test_a_row_that_moved_to_another_file_is_not_gone(make_project: MakeProject, deletes: str) -> None:
    files = {"data/1.csv": "id,v\n1,a\n2,b\n", "data/2.csv": "id,v\n3,c\n"}
    project = make_project(files_yml("data/*.csv", None, **MERGE, deletes=deletes), files)
    load(project)
    write(project.config.root, {"data/1.csv": "id,v\n2,b\n", "data/2.csv": "id,v\n3,c\n1,a\n"})

    load(project)

    assert live(project, deletes) == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("deletes", ["soft", "detect"])
@pytest.mark.parametrize("later", [None, "id,v\n3,c\n"], ids=["gone", "changed"])
def test_a_row_that_still_stands_in_another_file_is_not_gone(
    make_project: MakeProject, deletes: str, later: str | None
) -> None:
    files = {"data/1.csv": "id,v\n1,a\n2,b\n", "data/2.csv": "id,v\n2,newer\n3,c\n"}
    project = make_project(files_yml("data/*.csv", None, **MERGE, deletes=deletes), files)
    load(project)
    assert live(project, deletes) == [(1, "a"), (2, "newer"), (3, "c")]
    if later is None:
        (project.config.root / "data/2.csv").unlink()
    else:
        write(project.config.root, {"data/2.csv": later})

    load(project)

    assert live(project, deletes) == [(1, "a"), (2, "b"), *([(3, "c")] if later else [])]
    assert load(project).status == "unchanged"


@pytest.mark.parametrize("deletes", ["soft", "detect"])
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_vanished_file_takes_its_rejected_rows_along(make_project: MakeProject, mode: str, deletes: str) -> None:
    options = {**(MERGE if mode == "merge" else {"mode": mode}), "deletes": deletes}
    options |= {"on_bad_row": "quarantine", "columns": {"v": "BIGINT"}}
    files = {"data/1.csv": "id,v\n1,x\n4,4\n", "data/2.csv": "id,v\n2,2\n3,3\n"}
    project = make_project(files_yml("data/*.csv", None, **options), files)
    load(project)
    assert raw(project, "SELECT _smoll_file, raw FROM raw_s.t__rejected") == [("data/1.csv", "1,x")]
    (project.config.root / "data/1.csv").unlink()

    load(project)

    assert raw(project, "FROM raw_s.t__rejected") == []
    assert live(project, deletes) == [(2, 2), (3, 3)]
