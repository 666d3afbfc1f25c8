"""The SQL of Explore, asked of DuckDB: right answers, whatever names and values there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from smoll.apps.questions import (
    AGGREGATES,
    COUNT,
    OTHERS,
    Axis,
    Column,
    Filter,
    Measure,
    Question,
    Rows,
    chart_of,
    ends_of,
    page_of,
    pivot_of,
    points_of,
    projected,
    top_values,
)

EVIL = '"; DROP TABLE victim; --'
NAMES = [EVIL, "a'b", "x.y[0]", "", "select", "été ☃", "a\nb", "%s ? $1"]


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE victim AS SELECT 1 AS a")
        yield connection
        assert connection.execute("FROM victim").fetchall() == [(1,)]


def ask(database: duckdb.DuckDBPyConnection, question: Question) -> list[tuple[Any, ...]]:
    return database.execute(question.sql, list(question.values)).fetchall()


@pytest.mark.parametrize("name", NAMES)
def test_names_and_values_are_never_sql(database: duckdb.DuckDBPyConnection, name: str) -> None:
    column = Column(name or " ", "VARCHAR")
    number = Column(f"{name}n", "BIGINT")
    table = f'"t {name.replace(chr(34), chr(34) * 2)}"'
    database.execute(f"CREATE TABLE {table} ({column.sql} VARCHAR, {number.sql} BIGINT)")
    database.executemany(f"INSERT INTO {table} VALUES (?, ?)", [[name, 1], [name, 2], ["other", 5], [None, 7]])
    for each in (
        Filter(column, among=(name,)),
        Filter(column, contains=name) if name else Filter(column, among=("",)),
        Filter(number, low=1, high=2),
    ):
        rows = Rows(table, (each,))
        assert ask(database, rows.select("count(*)")) == [(2,)]
        assert ask(database, page_of(rows, [column, number], 10, number, True)) == [(name, 2), (name, 1)]
        assert ask(database, top_values(rows, column, 5)) == [(name, 2)]
        assert ask(database, ends_of(rows, number)) == [("1", "2")]
        assert ask(database, chart_of(rows, Axis(column), Measure(number, "sum"), column, 5, 5, 9)) == [
            (name, name, 3.0)
        ]
        assert ask(database, pivot_of(rows, [column], column, [name], Measure(), 9)) == [(name, 2, 2)]
        assert len(ask(database, points_of(rows, number, number, column, 9))) == 2
        inner = rows.select(f"{column.sql}, {number.sql}, {column.sql}")
        for what in ("shown", "in_csv", "in_parquet"):
            answer = ask(database, projected(inner, [column, number, column], what))
            assert sorted(answer) == [(name, 1, name), (name, 2, name)]


def test_what_filters_let_through(database: duckdb.DuckDBPyConnection) -> None:
    database.execute("""CREATE TABLE t AS FROM (VALUES
        (1, 'Amsterdam', TIMESTAMP '2026-01-01 23:30', true), (2, 'ROTTERDAM', TIMESTAMP '2026-01-02 00:00', false),
        (3, NULL, NULL, NULL)) v(n, city, "at", flag)""")
    n, city, at, flag = (
        Column("n", "INTEGER"), Column("city", "VARCHAR"), Column("at", "TIMESTAMP"), Column("flag", "BOOLEAN")
    )  # fmt: skip
    for found, filters in (
        ([1, 2, 3], ()),
        ([1, 2], (Filter(city, contains="terdam"),)),
        ([3], (Filter(city, among=(None,)),)),
        ([1, 3], (Filter(city, among=("Amsterdam", None)),)),
        ([1], (Filter(at, high="2026-01-01"),)),
        ([2], (Filter(at, low="2026-01-02"),)),
        ([2], (Filter(flag, among=("false",)),)),
        ([2], (Filter(n, low=2), Filter(city, contains="am"))),
        ([], (Filter(n, low=3), Filter(city, contains="am"))),
    ):
        assert [row[0] for row in ask(database, page_of(Rows("t", filters), [n], 9, n))] == found


def test_groups_that_are_too_many_are_left_out_or_put_together(database: duckdb.DuckDBPyConnection) -> None:
    database.execute("CREATE TABLE t AS SELECT (i % 100)::VARCHAR AS x, (i % 7)::VARCHAR AS c, i FROM range(1000) r(i)")
    x, c, i = Column("x", "VARCHAR"), Column("c", "VARCHAR"), Column("i", "BIGINT")
    answer = ask(database, chart_of(Rows("t"), Axis(x), Measure(i, "sum"), c, 3, 2, 5_000))
    assert {row[0] for row in answer} == {"99", "98", "97"}
    assert {row[1] for row in answer} == {"0", "1", OTHERS}
    assert sum(row[2] for row in answer) == sum(n for n in range(1000) if n % 100 >= 97)
    assert len(ask(database, chart_of(Rows("t"), Axis(i), Measure(), None, 3, 2, 50))) == 50
    assert len(ask(database, points_of(Rows("t"), i, i, None, 20))) == 20
    assert ask(database, points_of(Rows("t"), i, i, None, 20)) == ask(database, points_of(Rows("t"), i, i, None, 20))
    steps = ask(database, chart_of(Rows("t"), Axis(i, step=250.0), Measure(), None, 3, 2, 50))
    assert steps == [(250.0 * n, None, 250.0) for n in range(4)]
    for aggregate in AGGREGATES:
        assert len(ask(database, chart_of(Rows("t"), Axis(c), Measure(i, aggregate), None, 9, 2, 50))) == 7


def test_a_pivot_counts_what_is_empty_and_calls_no_two_columns_alike(database: duckdb.DuckDBPyConnection) -> None:
    database.execute(
        "CREATE TABLE t AS FROM (VALUES ('a', 'x', 1), ('a', 'X', 2), ('a', NULL, 3), ('b', 'total', 4)) v(r, c, n)"
    )
    r, c, n = Column("r", "VARCHAR"), Column("c", "VARCHAR"), Column("n", "INTEGER")
    question = pivot_of(Rows("t"), [r], c, ["x", "X", None, "total"], Measure(n, "sum"), 9)
    found = database.execute(question.sql, list(question.values))
    assert [each[0] for each in found.description or ()] == ["r", "x", "X (2)", "(empty)", "total (2)", "total"]
    assert found.fetchall() == [("a", 1, 2, 3, None, 6), ("b", None, None, None, 4, 4)]


TYPES = {
    "STRUCT(a INTEGER, b VARCHAR)": "{'a': 1, 'b': 'x'}",
    "INTEGER[]": "[1, 2]",
    "MAP(VARCHAR, INTEGER)": "map {'a': 1}",
    "INTERVAL": "INTERVAL 3 MONTH",
    "UUID": "uuid()",
    "JSON": "'{}'",
    "BIT": "'101'::BIT",
    "HUGEINT": "170141183460469231731687303715884105727",
    "TIME WITH TIME ZONE": "'12:00:00+01'::TIMETZ",
    "BLOB": "'\\xFF'::BLOB",
    "ENUM('a', 'b')": "'a'",
    "DECIMAL(38,10)": "1.5",
    "TIMESTAMP WITH TIME ZONE": "'2026-01-01'::TIMESTAMPTZ",
    "DATE": "'infinity'::DATE",
    "DOUBLE": "'nan'::DOUBLE",
    "UNION(a INTEGER, b VARCHAR)": "union_value(a := 1)",
    "TIMESTAMP_NS": "'2026-01-01'::TIMESTAMP_NS",
    "BOOLEAN": "true",
}


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_shown_counted_drawn_and_written(database: duckdb.DuckDBPyConnection, kind: str) -> None:
    database.execute(f"CREATE TABLE t (v {kind}, n INTEGER)")
    database.execute(f"INSERT INTO t VALUES ({TYPES[kind]}, 1), (NULL, 2)")
    name = database.execute("SELECT data_type FROM duckdb_columns() WHERE column_name = 'v'").fetchone()
    assert name
    column, n, rows = Column("v", name[0]), Column("n", "INTEGER"), Rows("t")
    assert database.sql(page_of(rows, [column], 9).sql).to_arrow_table().num_rows == 2
    assert len(ask(database, top_values(rows, column, 9))) == 2
    assert ask(database, Rows("t", (Filter(column, among=(None,)),)).select("n")) == [(2,)]
    assert len(ask(database, pivot_of(rows, [column], n, ["1"], Measure(), 9))) == 2
    bucket = "day" if column.kind == "time" else ""
    drawn = ask(database, chart_of(rows, Axis(column, bucket), Measure(), None, 9, 9, 9))
    assert len(drawn) == {"text": 2, "flag": 2, "number": 1, "time": kind != "DATE"}[column.kind]  # no infinite day
    assert len(ask(database, ends_of(rows, column))) == 1 if column.kind in ("number", "time") else True
    for what in ("in_csv", "in_parquet"):
        question = projected(rows.select("v, n"), [column, n], what)
        assert database.sql(question.sql).to_arrow_table().num_rows == 2


def test_long_values_are_cut_where_they_are_shown_only(database: duckdb.DuckDBPyConnection) -> None:
    database.execute("CREATE TABLE t AS SELECT repeat('x', 5_000_000) AS v")
    column, rows = Column("v", "VARCHAR"), Rows("t")
    (shown,) = ask(database, page_of(rows, [column], 9))
    assert len(shown[0]) < 1_000 and shown[0].endswith("…")
    assert ask(database, top_values(rows, column, 9)) == []
    (drawn,) = ask(database, chart_of(rows, Axis(column), Measure(), column, 9, 9, 9))
    assert len(drawn[0]) <= 200 and len(drawn[1]) <= 200
    assert len(ask(database, projected(rows.select("v"), [column], "in_csv"))[0][0]) == 5_000_000


def test_a_measure_says_what_it_is() -> None:
    assert Measure().title == COUNT
    assert Measure(Column("delay", "DOUBLE"), "average").title == "average of delay"
