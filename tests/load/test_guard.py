"""The guard: a source that is suddenly empty, or nearly, does not empty a table that had rows."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

import smoll
from support import MakeProject, dump, files_yml, load, raw, refused, sql_yml, write

URL = "sqlite:///data/shop.db"
MERGE: dict[str, Any] = {"mode": "merge", "key": "id"}
SCD2: dict[str, Any] = {"mode": "scd2", "key": "id"}


def csv_of(count: int) -> str:
    return "id,v\n" + "".join(f"{number},a\n" for number in range(count))


def hundred(make_project: MakeProject, **options: Any) -> smoll.Project:
    """A table of a hundred rows from one file."""
    project = make_project(files_yml("data/*.csv", None, **options), {"data/t.csv": csv_of(100)})
    assert load(project).total == 100
    return project


def leave(project: smoll.Project, count: int) -> None:
    write(project.config.root, {"data/t.csv": csv_of(count)})


def shop(make_project: MakeProject, **options: Any) -> smoll.Project:
    """A table of a hundred rows from a database."""
    project = make_project(sql_yml(URL, {"t": options}))
    execute(project, "CREATE TABLE t (id INTEGER, v TEXT)")
    execute(
        project,
        "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) "
        "SELECT i, 'a' FROM n",
    )
    assert load(project).total == 100
    return project


def execute(project: smoll.Project, sql: str) -> None:
    (project.config.root / "data").mkdir(exist_ok=True)
    with sqlite3.connect(project.config.root / "data/shop.db") as connection:
        connection.executescript(sql)
    connection.close()


def live(project: smoll.Project) -> int:
    """Rows that are neither marked nor closed."""
    columns = [row[0] for row in raw(project, "DESCRIBE raw_s.t")]
    where = " AND ".join(
        [f"{name} IS NULL" for name in ("_smoll_deleted_at", "_smoll_valid_to") if name in columns] or ["true"]
    )
    ((count,),) = raw(project, f"SELECT count(*) FROM raw_s.t WHERE {where}")
    return int(count)


@pytest.mark.parametrize(("count", "words"), [(0, "no row"), (1, "only 1 row"), (9, "only 9 rows")])
def test_replace_does_not_empty_a_table(make_project: MakeProject, count: int, words: str) -> None:
    project = hundred(make_project)
    leave(project, count)

    refused(project, "s.t", "100 rows", words, "nothing was changed", "--reload s.t", "allow_empty")


@pytest.mark.parametrize("count", [10, 11, 100, 200])
def test_replace_leaves_a_tenth_or_more(make_project: MakeProject, count: int) -> None:
    project = hundred(make_project)
    leave(project, count)

    assert load(project).total == count


@pytest.mark.parametrize("count", [0, 9])
def test_allow_empty_allows_it(make_project: MakeProject, count: int) -> None:
    project = hundred(make_project, allow_empty=True)
    leave(project, count)

    assert load(project).total == count


@pytest.mark.parametrize("count", [0, 9])
def test_a_reload_is_allowed(make_project: MakeProject, count: int) -> None:
    project = hundred(make_project)
    leave(project, count)

    assert load(project, reload=["s.t"]).total == count


@pytest.mark.parametrize(
    ("limit", "fewest"), [(20, 80), ("20%", 80), (0, 100), ("0%", 100), ("99.5%", 1), (99, 1), ("100%", 1), (500, 1)]
)
def test_max_shrink_is_a_number_or_a_share(make_project: MakeProject, limit: int | str, fewest: int) -> None:
    project = hundred(make_project, max_shrink=limit)
    leave(project, fewest - 1)
    refused(project, "max_shrink")
    leave(project, fewest)

    assert load(project).total == fewest


@pytest.mark.parametrize("deletes", ["soft", "detect"])
def test_merge_deletes_no_more_than_that(make_project: MakeProject, deletes: str) -> None:
    project = shop(make_project, **MERGE, deletes=deletes)
    execute(project, "DELETE FROM t WHERE id >= 9")
    refused(project, "100 rows", "only 9 rows")
    execute(project, "DELETE FROM t")
    refused(project, "no row")
    execute(project, "INSERT INTO t VALUES (0, 'a'), (1, 'a'), (2, 'a'), (3, 'a'), (4, 'a')")
    execute(project, "INSERT INTO t VALUES (5, 'a'), (6, 'a'), (7, 'a'), (8, 'a'), (9, 'a')")

    load(project)

    assert live(project) == 10


def test_rows_that_are_marked_already_do_not_count(make_project: MakeProject) -> None:
    project = shop(make_project, **MERGE, deletes="soft")
    execute(project, "DELETE FROM t WHERE id >= 20")
    load(project)
    assert live(project) == 20
    execute(project, "DELETE FROM t WHERE id >= 2")
    load(project)
    execute(project, "DELETE FROM t")

    refused(project, "2 rows", "no row")


def test_with_deletes_ignore_an_empty_source_changes_nothing(make_project: MakeProject) -> None:
    project = shop(make_project, **MERGE)
    execute(project, "DELETE FROM t")

    assert load(project).total == 100


def test_scd2_closes_no_more_than_that(make_project: MakeProject) -> None:
    project = hundred(make_project, **SCD2)
    leave(project, 9)
    refused(project, "100 rows", "only 9 rows")
    leave(project, 0)
    refused(project, "no row")
    leave(project, 10)

    load(project)

    assert live(project) == 10


def test_scd2_counts_the_current_versions_only(make_project: MakeProject) -> None:
    project = hundred(make_project, **SCD2)
    leave(project, 50)
    load(project)
    leave(project, 4)

    refused(project, "50 rows", "only 4 rows")


@pytest.mark.parametrize("mode", ["append", "merge", "scd2", "replace"])
def test_a_vanished_file_takes_no_more_than_that(make_project: MakeProject, mode: str) -> None:
    options: dict[str, Any] = {"append": {"mode": "append"}, "merge": MERGE, "scd2": SCD2, "replace": {}}[mode]
    if mode in ("append", "merge"):
        options = {**options, "deletes": "detect"}
    project = hundred(make_project, **options)
    write(project.config.root, {"data/u.csv": "id,v\n100,a\n"})
    load(project)
    (project.config.root / "data/t.csv").unlink()

    refused(project, "101 rows", "only 1 row")


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_vanished_file_may_go_where_the_guard_is_off(make_project: MakeProject, mode: str) -> None:
    options: dict[str, Any] = {"append": {"mode": "append"}, "merge": MERGE}[mode]
    project = hundred(make_project, **options, deletes="detect", allow_empty=True)
    write(project.config.root, {"data/u.csv": "id,v\n100,a\n"})
    load(project)
    (project.config.root / "data/t.csv").unlink()

    load(project)

    assert live(project) == 1


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_rows_of_changed_files_count_where_another_vanished(make_project: MakeProject, mode: str) -> None:
    options: dict[str, Any] = {"append": {"mode": "append"}, "merge": MERGE}[mode]
    project = hundred(make_project, **options, deletes="detect")
    write(project.config.root, {"data/u.csv": "id,v\n100,a\n"})
    load(project)
    (project.config.root / "data/u.csv").unlink()
    write(project.config.root, {"data/t.csv": csv_of(99)})

    load(project)

    assert live(project) == 99


@pytest.mark.parametrize("options", [{}, {"mode": "append"}, MERGE, SCD2], ids=["replace", "append", "merge", "scd2"])
def test_a_first_load_of_an_empty_source_passes(make_project: MakeProject, options: dict[str, Any]) -> None:
    project = make_project(files_yml("data/*.csv", None, **options), {"data/t.csv": "id,v\n"})

    assert load(project).total == 0

    assert dump(project) is not None
    leave(project, 5)
    assert load(project).total == 5


def test_a_table_of_rejected_rows_only_is_no_empty_source_the_first_time(make_project: MakeProject) -> None:
    project = make_project(
        files_yml(columns={"v": "BIGINT"}, on_bad_row="quarantine"), {"data/t.csv": "id,v\n1,x\n2,y\n"}
    )
    assert load(project).rejected == 2
    write(project.config.root, {"data/t.csv": "id,v\n1,1\n2,2\n"})
    assert load(project).total == 2
    write(project.config.root, {"data/t.csv": "id,v\n1,x\n2,y\n"})

    refused(project, "2 rows", "no row")
