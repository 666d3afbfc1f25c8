"""SQLite as a source, where a column's declared type binds nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import smoll
from support import MakeProject, load, raw, refused, reopen, rows, sql_yml, types

URL = "sqlite:///data/shop.db"


def execute(project: smoll.Project, sql: str) -> None:
    path = database(project)
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        connection.executescript(sql)
    finally:
        connection.close()


def database(project: smoll.Project) -> Path:
    return project.config.root / "data/shop.db"


def test_declared_types_are_kept_where_they_are_true(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, ["t"]))
    execute(
        project,
        """CREATE TABLE t (id INTEGER, price REAL, name TEXT, bytes BLOB, "odd ""name"" %" INTEGER);
        INSERT INTO t VALUES (9223372036854775807, 0.1, '', x'00ff', 1), (NULL, NULL, NULL, NULL, NULL);""",
    )

    load(project)

    assert types(project) == {
        "id": "BIGINT",
        "price": "DOUBLE",
        "name": "VARCHAR",
        "bytes": "BLOB",
        'odd "name" %': "BIGINT",
    }
    assert rows(project) == [(9223372036854775807, 0.1, "", b"\x00\xff", 1), (None, None, None, None, None)]


@pytest.mark.parametrize(
    ("declared", "values", "kind", "expected"),
    [
        ("INTEGER", "(1), ('x'), (2.5)", "VARCHAR", ["1", "2.5", "x"]),
        ("INTEGER", "(1), (2.5)", "DOUBLE", [1.0, 2.5]),
        ("INTEGER", "(9007199254740993), (0.5)", "DECIMAL(18,1)", None),
        ("TEXT", "('007'), (x'c0ffee')", "VARCHAR", ["007", "C0FFEE"]),
        ("DATE", "('2024-01-01'), ('2024-02-29')", "DATE", None),
        ("DATE", "('2024-01-01'), ('soon')", "VARCHAR", ["2024-01-01", "soon"]),
        ("DATETIME", "('2024-01-01 10:00:00')", "TIMESTAMP", None),
        ("", "(1), (2)", "BIGINT", [1, 2]),
        ("DECIMAL(10,2)", "(1.10), (0.30000000000000004)", "DOUBLE", [0.30000000000000004, 1.1]),
        ("BOOLEAN", "(0), (1)", "BIGINT", [0, 1]),
        ("VARCHAR(3)", "('longer'), ('7')", "VARCHAR", ["7", "longer"]),
    ],
)
def test_values_decide_where_the_declared_type_is_wrong(
    make_project: MakeProject, declared: str, values: str, kind: str, expected: list[Any] | None
) -> None:
    project = make_project(sql_yml(URL, ["t"]))
    execute(project, f"CREATE TABLE t (v {declared}); INSERT INTO t VALUES {values};")

    load(project)

    assert types(project) == {"v": kind}
    if expected is not None:
        assert [row[0] for row in rows(project)] == expected


@pytest.mark.parametrize("position", [1, 20_000])
def test_one_wrong_value_gives_the_same_table_wherever_it_stands(make_project: MakeProject, position: int) -> None:
    project = make_project(sql_yml(URL, ["t"]))
    execute(
        project,
        f"""CREATE TABLE t (id INTEGER, v INTEGER);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO t SELECT i, CASE WHEN i = {position} THEN 'x' ELSE i END FROM n;""",
    )

    load(project)

    assert types(project) == {"id": "BIGINT", "v": "VARCHAR"}
    assert raw(project, "SELECT count(*), count(DISTINCT v), min(id), max(v) FROM raw_s.t") == [
        (20_000, 20_000, 1, "x")
    ]


def test_every_table_and_view_is_loaded(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, {"*": {}, "b": {"table": "bees", "columns": {"id": "INTEGER"}}}))
    execute(
        project,
        """CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO a VALUES (1);
        CREATE TABLE b (id INTEGER); INSERT INTO b VALUES (2);
        CREATE TABLE bare (id INTEGER);
        CREATE VIEW seen AS SELECT id, id + 0.5 AS half, 'x' || id AS name, NULL AS none FROM a;""",
    )

    result = project.run()

    assert result.status == "ok"
    assert {str(stream.table): stream.total for stream in result.streams} == {
        "raw_s.a": 1,
        "raw_s.bees": 1,
        "raw_s.bare": 0,
        "raw_s.seen": 1,
    }
    assert types(project, "raw_s.bees") == {"id": "INTEGER"}
    assert types(project, "raw_s.seen") == {"id": "BIGINT", "half": "DOUBLE", "name": "VARCHAR", "none": "VARCHAR"}
    assert rows(project, "raw_s.seen") == [(1, 1.5, "x1", None)]


@pytest.mark.parametrize(
    ("declared", "low", "high"),
    [
        ("INTEGER", "1", "2"),
        ("REAL", "0.1", "0.30000000000000004"),
        ("TEXT", "'2024-01-01T10:00:00'", "'2024-01-01T10:00:01'"),
        ("TIMESTAMP", "'2024-01-01 10:00:00'", "'2024-01-01 10:00:00.5'"),
        ("DATE", "'2024-01-01'", "'2024-01-02'"),
        ("INTEGER", "9007199254740993", "9007199254740994"),
    ],
)
def test_append_takes_ties_and_nulls_once(make_project: MakeProject, declared: str, low: str, high: str) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "append", "cursor": "at"}}))
    execute(project, f"CREATE TABLE t (id INTEGER, at {declared}); INSERT INTO t VALUES (1, {low}), (2, NULL);")
    assert load(project).rows == 2
    execute(project, f"INSERT INTO t VALUES (3, {low}), (1, {low}), (4, {high}), (2, NULL)")

    assert load(project).rows == 4
    assert load(project).rows == 0

    assert [row[0] for row in rows(project)] == [1, 1, 2, 2, 3, 4]


def test_append_takes_ties_and_nulls_once_where_a_column_came_or_went(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "append", "cursor": "id"}}))
    execute(project, "CREATE TABLE t (id INTEGER, v TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (NULL, 'n');")
    load(project)
    execute(project, "ALTER TABLE t ADD COLUMN w INTEGER DEFAULT 0; INSERT INTO t VALUES (2, 'b', 5), (3, 'c', 6);")

    assert load(project).rows == 2

    assert raw(project, "SELECT id, v FROM raw_s.t ORDER BY ALL") == [
        (1, "a"),
        (2, "b"),
        (2, "b"),
        (3, "c"),
        (None, "n"),
    ]
    execute(project, "ALTER TABLE t DROP COLUMN w")
    assert load(project).rows == 0


@pytest.mark.parametrize("columns", [{"id": "VARCHAR"}, {}])
def test_a_cursor_of_numbers_is_never_stored_as_text(make_project: MakeProject, columns: dict[str, str]) -> None:
    options = {"mode": "append", "cursor": "id", "columns": columns}
    project = make_project(sql_yml(URL, {"t": options}))
    beyond = ", ".join(["(8)", "(9)", "(10)"] if columns else ["(9007199254740993)", "(1e-200)"])
    execute(project, f"CREATE TABLE t (id INTEGER); INSERT INTO t VALUES {beyond};")

    refused(project, "s.t", "the cursor 'id'", "stored as text", "`cursor`")


@pytest.mark.parametrize("other", ["'n/a'", "x'00'"])
def test_a_cursor_of_numbers_and_texts_is_refused(make_project: MakeProject, other: str) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "append", "cursor": "id"}}))
    execute(project, "CREATE TABLE t (id); INSERT INTO t VALUES (8), (9);")
    load(project)
    execute(project, f"INSERT INTO t VALUES (10), ({other})")

    refused(project, "s.t", "the cursor 'id'", "integer", "numbers only")


def test_a_cursor_of_numbers_that_became_texts_asks_for_a_reload(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "append", "cursor": "id"}}))
    execute(project, "CREATE TABLE t (id); INSERT INTO t VALUES (8), (9);")
    load(project)
    execute(project, "UPDATE t SET id = '10'")

    refused(project, "the cursor 'id'", "stored as text", "--reload s.t")

    assert load(project, reload=["s.t"]).total == 2


def test_a_cursor_of_texts_may_begin_without_a_value(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "append", "cursor": "at"}}))
    execute(project, "CREATE TABLE t (id INTEGER, at DATE); INSERT INTO t VALUES (1, NULL);")
    load(project)
    execute(project, "INSERT INTO t VALUES (2, '2024-01-01')")

    assert load(project).rows == 1
    assert load(project).rows == 0


def test_another_cursor_loads_everything_anew(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "append", "cursor": "id"}}))
    execute(project, "CREATE TABLE t (id INTEGER, at INTEGER); INSERT INTO t VALUES (8, 1), (9, 2);")
    load(project)
    execute(project, "INSERT INTO t VALUES (10, 3)")
    project = reopen(project, sql_yml(URL, {"t": {"mode": "append", "cursor": "at"}}))

    load(project)

    assert rows(project) == [(8, 1), (9, 2), (10, 3)]


def test_merge_by_key_and_cursor(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "merge", "key": "id", "cursor": "at"}}))
    execute(project, "CREATE TABLE t (id INTEGER, v TEXT, at INTEGER); INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2);")
    load(project)
    execute(project, "UPDATE t SET v = 'A', at = 3 WHERE id = 1; INSERT INTO t VALUES (3, 'tie', 2);")

    load(project)

    assert rows(project) == [(1, "A", 3), (2, "b", 2), (3, "tie", 2)]


def test_columns_may_come_and_go(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, ["t"]))
    execute(project, "CREATE TABLE t (id INTEGER, v TEXT); INSERT INTO t VALUES (1, 'a');")
    load(project)
    execute(project, "ALTER TABLE t DROP COLUMN v; ALTER TABLE t ADD COLUMN w INTEGER DEFAULT 5;")

    load(project)

    assert types(project) == {"id": "BIGINT", "w": "BIGINT", "v": "VARCHAR"}
    assert rows(project) == [(1, 5, None)]


def test_a_missing_table_is_named(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, ["t"]))
    execute(project, "CREATE TABLE other (id INTEGER)")

    refused(project, "s.t", "there is no table 't'", "data/shop.db")


def test_a_missing_file_is_named(make_project: MakeProject) -> None:
    refused(make_project(sql_yml(URL, ["t"])), "data/shop.db", "There is no SQLite file", "`url`")


@pytest.mark.parametrize("damage", ["text", "cut", "overwritten"])
def test_a_corrupt_file_is_named_and_the_table_kept(make_project: MakeProject, damage: str) -> None:
    project = make_project(sql_yml(URL, ["t"]))
    fill = """CREATE TABLE t (id INTEGER, v TEXT);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
        INSERT INTO t SELECT i, printf('%0100d', i) FROM n;"""
    execute(project, fill)
    load(project)
    path = database(project)
    whole = path.read_bytes()
    spoiled = {
        "text": b"this is no database, whatever its name says" * 100,
        "cut": whole[: len(whole) // 2],
        "overwritten": whole[:8192] + b"\xff" * 65536 + whole[8192 + 65536 :],
    }[damage]
    path.write_bytes(spoiled)

    refused(project, "s.t", "data/shop.db")

    path.write_bytes(whole)
    assert load(reopen(project)).rows == 5000


def test_a_database_that_is_gone_stops_only_runs_that_load_from_it(make_project: MakeProject) -> None:
    model = "{{ config(materialized='table') }} select 1 as x"
    project = make_project(sql_yml(URL, ["*"]), {}, {"one": model})
    execute(project, "CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1);")
    assert project.run().status == "ok"
    database(project).unlink()

    assert project.run("one").status == "ok"
    everything = project.run()

    assert (everything.status, everything.streams[0].status) == ("failed", "failed")
    assert "There is no SQLite file" in everything.streams[0].error
