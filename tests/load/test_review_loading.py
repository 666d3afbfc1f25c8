"""Ways to lose, double or change a row that a reader of the load's code found."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

import smoll
from support import MakeProject, Postgres, files_yml, load, raw, refused, reopen, rows, sql_yml, write

SQLITE = "sqlite:///db.sqlite"


def execute(project: smoll.Project, sql: str) -> None:
    """Change the project's SQLite file."""
    connection = sqlite3.connect(project.config.root / "db.sqlite")
    connection.executescript(sql)
    connection.close()


@pytest.fixture
def numbers(make_project: MakeProject) -> smoll.Project:
    """A project with a table of an SQLite file that is read by its whole numbers."""
    project = make_project(sql_yml(SQLITE, {"t": {"mode": "append", "cursor": "id"}}))
    execute(project, "CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1), (2), (3)")
    return project


def test_a_column_named_rowid_is_one_like_others(make_project: MakeProject) -> None:
    text = "id,rowid\n1,7\n1,7\n2,7\n3,8\n"
    project = make_project(files_yml(mode="merge", key="id"), {"data/t.csv": text})
    assert load(project).rows == 3
    assert rows(project) == [(1, 7), (2, 7), (3, 8)]


def test_the_last_row_of_a_key_is_the_last_where_rowid_says_otherwise(make_project: MakeProject) -> None:
    text = "rowid,v\n1,first\n2,other\n1,last\n"
    project = make_project(files_yml(mode="merge", key="rowid"), {"data/t.csv": text})
    load(project)
    assert rows(project) == [(1, "last"), (2, "other")]


def test_no_stream_loads_into_the_table_of_rejected_rows_of_another(make_project: MakeProject) -> None:
    streams = '{"t": "data/t.csv", "t__rejected": "data/t.csv"}'
    project = make_project(f"sources: {{s: {{kind: files, streams: {streams}}}}}\n", {"data/t.csv": "id\n1\n"})
    result = project.run()
    assert result.status == "failed"
    assert "rejected rows of s.t" in (result.error or "")


@pytest.mark.parametrize("mode", ["merge", "scd2"])
def test_a_file_without_records_has_no_keys(make_project: MakeProject, mode: str) -> None:
    yml = files_yml("data/t.json", mode=mode, key="id", cursor="n", deletes="detect", allow_empty=True)
    project = make_project(yml, {"data/t.json": "[]"})
    assert load(project).total == 0
    write(project.config.root, {"data/t.json": '[{"id": 1, "n": 1}]'})
    assert load(reopen(project)).rows == 1
    write(project.config.root, {"data/t.json": "[]"})
    assert load(reopen(project)).rows == 0
    current = "WHERE _smoll_current" if mode == "scd2" else ""
    assert raw(project, f"SELECT count(*) FROM raw_s.t {current}") == [(0,)]


@pytest.mark.parametrize("options", [{"mode": "append"}, {"mode": "merge", "key": "id"}], ids=["append", "merge"])
def test_all_records_of_a_load_may_be_damaged(make_project: MakeProject, options: dict[str, Any]) -> None:
    yml = files_yml("data/*.ndjson", on_bad_row="quarantine", **options)
    project = make_project(yml, {"data/1.ndjson": '{"id":\n'})
    assert load(project).rejected == 1
    write(project.config.root, {"data/2.ndjson": '{"id": 1}\n'})
    assert load(reopen(project)).rows == 1
    write(project.config.root, {"data/3.ndjson": "[1]\n{\n"})
    assert load(reopen(project)).rejected == 2
    assert rows(project) == [(1,)]
    assert raw(project, "SELECT _smoll_file, line, raw FROM raw_s.t__rejected ORDER BY ALL") == [
        ("data/1.ndjson", 1, '{"id":'),
        ("data/3.ndjson", 1, "[1]"),
        ("data/3.ndjson", 2, "{"),
    ]


def test_a_changed_file_that_lost_its_rows_does_not_empty_a_table(make_project: MakeProject) -> None:
    project = make_project(files_yml(incremental=True), {"data/t.csv": "id\n" + "1\n" * 20})
    load(project)
    write(project.config.root, {"data/t.csv": "id\n"})
    refused(reopen(project), "20 rows", "no row")
    assert load(reopen(project, files_yml(incremental=True, allow_empty=True))).total == 0


def test_deletes_may_become_soft(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="merge", key="id"), {"data/t.csv": "id\n1\n2\n"})
    load(project)
    project = reopen(project, files_yml("data/*.csv", mode="merge", key="id", deletes="soft"))
    load(project)
    write(project.config.root, {"data/t.csv": "id\n2\n"})
    load(reopen(project))
    assert raw(project, "SELECT id, _smoll_deleted_at IS NULL FROM raw_s.t ORDER BY id") == [(1, False), (2, True)]


def test_the_rows_below_a_range_are_still_to_come(numbers: smoll.Project) -> None:
    load(numbers)
    execute(numbers, "INSERT INTO t VALUES (150), (250)")
    assert load(reopen(numbers), reload=("s.t",), since="200", until="300").rows == 1
    assert load(reopen(numbers)).rows == 1
    assert rows(numbers) == [(1,), (2,), (3,), (150,), (250,)]


def test_a_range_may_be_the_first_that_is_loaded(numbers: smoll.Project) -> None:
    assert load(numbers, reload=("s.t",), since="2", until="3").rows == 1
    assert load(reopen(numbers)).rows == 2
    assert rows(numbers) == [(1,), (2,), (3,)]


@pytest.mark.parametrize(("since", "until"), [("1.4", None), (None, "2.4"), ("0.5", "1.5")])
def test_a_limit_between_whole_numbers_takes_no_row_that_is_not_read_again(
    numbers: smoll.Project, since: str | None, until: str | None
) -> None:
    load(numbers)
    load(reopen(numbers), reload=("s.t",), since=since, until=until)
    assert rows(numbers) == [(1,), (2,), (3,)]


def test_a_range_means_the_same_times_here_and_in_the_database(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(f"""
        ALTER DATABASE {postgres.database} SET timezone = 'America/New_York';
        CREATE TABLE t AS SELECT timestamptz '2024-01-31 12:00+00' + interval '1 hour' * n AS at, n
        FROM generate_series(1, 24) n""")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "at"}}))
    load(project)
    assert load(reopen(project), reload=("s.t",), since="2024-02-01").rows == 13
    assert load(reopen(project), reload=("s.t",), until="2024-02-01").rows == 11
    assert raw(project, "SELECT count(*), count(DISTINCT n) FROM raw_s.t") == [(24, 24)]
    result = reopen(project).run(reload=("s.t",), since="yesterday")
    assert "'yesterday' is no TIMESTAMP WITH TIME ZONE" in (result.streams[0].error or "")


@pytest.mark.parametrize(
    ("kind", "values", "odd"),
    [
        ("NUMERIC", "(1, 1), (2.5, 2)", "9007199254740993"),
        ("TIMESTAMP", "('2024-01-01 10:00:00', 1), ('2024-01-03 11:00:00', 2)", "'soon'"),
    ],
    ids=["double", "timestamp"],
)
def test_a_key_whose_text_may_be_another_one_does_not_become_text(
    make_project: MakeProject, kind: str, values: str, odd: str
) -> None:
    options = {"mode": "merge", "key": "k", "cursor": "n", "deletes": "detect"}
    project = make_project(sql_yml(SQLITE, {"t": options}))
    execute(project, f"CREATE TABLE t (k {kind}, n INTEGER); INSERT INTO t VALUES {values}")
    load(project)
    execute(project, f"INSERT INTO t VALUES ({odd}, 3)")
    refused(reopen(project), "the key 'k' was", "smoll run --reload s.t")
    assert load(reopen(project), reload=("s.t",)).total == 3


@pytest.mark.parametrize("lag", [{}, {"lag": 10}], ids=["ties", "lag"])
def test_append_doubles_no_row_whose_number_became_text(make_project: MakeProject, lag: dict[str, int]) -> None:
    project = make_project(sql_yml(SQLITE, {"t": {"mode": "append", "cursor": "n", **lag}}))
    execute(project, "CREATE TABLE t (v NUMERIC, n INTEGER); INSERT INTO t VALUES (2.5, 2), (2, 2), (2, 2), (3, NULL)")
    load(project)
    execute(project, "INSERT INTO t VALUES ('x', 3), (2, 2)")
    load(reopen(project))
    execute(project, "INSERT INTO t VALUES ('x', 3), (2, 4)")
    load(reopen(project))
    assert rows(project) == [("2", 2)] * 3 + [("2", 4), ("2.5", 2), ("3", None), ("x", 3), ("x", 3)]


def test_a_history_is_not_built_anew_unasked(make_project: MakeProject) -> None:
    project = make_project(files_yml(mode="scd2", key="id"), {"data/t.csv": "id,v\n1,a\n"})
    load(project)
    write(project.config.root, {"data/t.csv": "id,v\n1,b\n"})
    load(project)
    other = files_yml(mode="scd2", key=["id", "v"])

    refused(reopen(project, other), "s.t", "history", "--reload s.t")

    assert load(reopen(project, other), reload=["s.t"]).total == 1


def test_infinity_is_no_last_cursor(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE t (id int, at timestamp); INSERT INTO t VALUES (1, '2024-01-01'), (2, 'infinity')")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "at"}}))
    load(project)
    postgres.execute("INSERT INTO t VALUES (3, '2024-01-02')")

    load(project)
    load(project)

    assert raw(project, "SELECT id FROM raw_s.t ORDER BY id") == [(1,), (2,), (3,)]


def test_what_vanished_is_looked_for_again_after_a_load_with_rejected_rows(make_project: MakeProject) -> None:
    options: dict[str, Any] = {"mode": "merge", "key": "id", "deletes": "detect", "max_shrink": "100%"}
    options["on_bad_row"] = "quarantine"
    files = {"data/1.csv": "id,v\n1,a\n", "data/2.csv": "id,v\n2,b\n"}
    project = make_project(files_yml("data/*.csv", **options), files)
    load(project)
    (project.config.root / "data/1.csv").unlink()
    write(project.config.root, {"data/3.csv": "id,v\n3\n4,d\n"})

    assert load(project).rejected == 1
    assert [row[0] for row in rows(project)] == [1, 2, 4]
    load(project)

    assert [row[0] for row in rows(project)] == [2, 4]
