from __future__ import annotations

import csv
import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smoll.cli import results
from smoll.errors import SmollError, UsageError
from smoll.model import literal, quote


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        # As readers get it: the formatting must need nothing that the sandbox forbids.
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def test_csv_is_exact(connection: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]) -> None:
    query = """SELECT 1.10::DECIMAL(9, 2) AS a, 170141183460469231731687303715884105727 AS a,
        TIMESTAMP_NS '2020-01-01 00:00:00.123456789' AS "n,s", INTERVAL 1 MONTH AS i, NULL AS gone,
        '' AS empty, 'x,"y"' AS quoted, 0.1::DOUBLE AS d, DATE '20000-01-01' AS far -- a remark
        ;"""
    results.answer(connection, query, "csv")
    assert capsys.readouterr().out == (
        'a,a,"n,s",i,gone,empty,quoted,d,far\n'
        "1.10,170141183460469231731687303715884105727,2020-01-01 00:00:00.123456789,1 month,,"
        '"","x,""y""",0.1,20000-01-01\n'
    )


def test_json_is_exact_and_valid(connection: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]) -> None:
    query = """SELECT 12345678901234567.10::DECIMAL(38, 2) AS big, -0.5::DECIMAL(2, 2) AS small,
        0.1::FLOAT AS f, 'nan'::DOUBLE AS nan, NULL AS gone, true AS yes,
        [1, NULL] AS list, {'a': 'b'} AS struct,
        'it''s "so"' AS "it's", TIMESTAMPTZ '2020-01-01 00:00:00+02' AS moment"""
    results.answer(connection, query, "json")
    out = capsys.readouterr().out
    assert json.loads(out, parse_float=str) == [
        {
            "big": "12345678901234567.10",
            "small": "-0.50",
            "f": "0.1",
            "nan": "nan",
            "gone": None,
            "yes": True,
            "list": [1, None],
            "struct": {"a": "b"},
            "it's": 'it\'s "so"',
            "moment": "2019-12-31 22:00:00+00",
        }
    ]


@given(
    st.lists(st.tuples(st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers(0, 9)))
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives(capsys: pytest.CaptureFixture[str], rows: list[tuple[str | None, int]]) -> None:
    with duckdb.connect() as connection:
        connection.execute('CREATE TABLE t ("a ""name" VARCHAR, n INTEGER)')
        if rows:
            connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        results.answer(connection, "FROM t", "json")
        assert [tuple(row.values()) for row in json.loads(capsys.readouterr().out)] == rows
        results.answer(connection, "FROM t", "csv")
        read = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
        assert read == [['a "name', "n"], *([text or "", str(number)] for text, number in rows)]


@pytest.mark.parametrize(("style", "nothing"), [("csv", "x\n"), ("json", "[]\n")])
def test_no_rows(
    connection: duckdb.DuckDBPyConnection, style: str, nothing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results.answer(connection, "SELECT 1 AS x WHERE false", style)
    assert capsys.readouterr().out == nothing


@pytest.mark.parametrize("style", ["csv", "json"])
def test_more_than_a_batch(
    connection: duckdb.DuckDBPyConnection, style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results.answer(connection, "SELECT i FROM range(25_000) t(i) ORDER BY i DESC", style)
    out = capsys.readouterr().out
    read = [row["i"] for row in json.loads(out)] if style == "json" else [int(x) for x in out.split()[1:]]
    assert read == list(range(24_999, -1, -1))


def test_a_table_says_that_there_is_more(
    connection: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    results.answer(connection, "FROM range(100)", "table")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 102
    assert err == ""
    results.answer(connection, "FROM range(101)", "table")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 102
    assert "100 rows" in err


def test_data_does_not_drive_the_terminal(
    connection: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    results.answer(connection, "SELECT chr(27) || '[31m [red]x[/red] :smile:' AS x, NULL AS y", "table")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "␛[31m [red]x[/red] :smile:" in out
    assert "NULL" in out


@pytest.mark.parametrize("query", ["EXPLAIN SELECT 1", "SHOW ALL TABLES", "DESCRIBE SELECT 1", "PRAGMA version"])
@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_statements_that_are_no_select(
    connection: duckdb.DuckDBPyConnection, query: str, style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results.answer(connection, query, style)
    assert capsys.readouterr().out


def test_the_last_statement_answers(connection: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]) -> None:
    results.answer(connection, "CREATE TEMP TABLE t AS SELECT 41 AS x; SELECT x + 1 AS y FROM t", "csv")
    assert capsys.readouterr().out == "y\n42\n"
    results.answer(connection, "CREATE TEMP TABLE u (x INTEGER)", "csv")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("query", ["", " \n", "SELEC 1", "FROM nowhere", "SELECT nothing"])
def test_a_wrong_query_is_wrong_usage(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    with pytest.raises(UsageError) as caught:
        results.answer(connection, query, "table")
    assert caught.value.hint


@pytest.mark.parametrize("query", ["SELECT 'x'::INTEGER", "FROM read_text('/etc/hostname')"])
def test_a_query_that_fails(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    with pytest.raises(SmollError) as caught:
        results.answer(connection, query, "csv")
    assert caught.value.exit_code == 1


def test_ctrl_c_stops_a_query(connection: duckdb.DuckDBPyConnection) -> None:
    # A shell's background jobs inherit an ignored SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        results.answer(connection, "SELECT sum(a.range * b.range) FROM range(10_000_000) a, range(1_000_000) b", "csv")
    signal.signal(signal.SIGINT, before)


def test_parquet_is_exact_and_nothing_but_rows_crosses_over(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """The connection that answers may write no file: names, types and values cross over, hostile ones too."""
    hostile = "a\"'; COPY (SELECT 1) TO '/tmp/x'; --"
    query = f"""SELECT i, CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE E'a"b,\\nc\\r' || chr(0) END AS t,
        i / 3 AS d, sum(i) OVER ()::HUGEINT + 9007199254740993 AS h, INTERVAL 1 MONTH AS v,
        TIMESTAMP_NS '2020-01-01 00:00:00.123456789' AS ns, TIMESTAMPTZ '2020-01-01 00:00:00+02' AS z,
        ['a,b', '', NULL, 'NULL', E'q"''x\\n'] AS l, {{'a b': 1, 'c': {{'d': ['x', NULL]}}}} AS s,
        MAP {{'k''"': 1}} AS m,
        1.50::DECIMAL(18, 3) AS dec, '\\xAA\\x00'::BLOB AS b, '-infinity'::DATE AS far, 'nan'::FLOAT AS nan,
        '[1, {{"a": null}}]'::JSON AS j, 1 AS {quote(hostile)}, {{{literal(hostile)}: 1}} AS hs, i AS {quote(hostile)}
        FROM range(25_000) r(i) ORDER BY i"""
    path = tmp_path / "it's.parquet"

    assert results.answer(connection, query, "parquet", path) == 25_000

    with duckdb.connect() as other:
        other.execute("SET TimeZone = 'UTC'")
        read = f"FROM {literal(str(path))}"
        assert [row[0] for row in other.sql(f"SELECT i {read}").fetchall()] == list(range(25_000))
        last = quote(f"{hostile}_1")
        assert other.sql(f"SELECT count(*) {read} WHERE {last} = i").fetchall() == [(25_000,)]
        difference = f"({query}) EXCEPT ALL (SELECT * REPLACE (h::HUGEINT AS h) {read})"
        assert other.sql(f"SELECT count(*) FROM ({difference})").fetchall() == [(0,)]
        kinds = {row[0]: row[1] for row in other.sql(f"DESCRIBE {read}").fetchall()}
        assert (kinds["h"], kinds["l"], kinds["j"]) == ("DECIMAL(38,0)", "VARCHAR[]", "JSON")


@pytest.mark.parametrize(("query", "rows"), [("SELECT 1 AS x WHERE false", 0), ("SELECT NULL FROM range(3)", 3)])
def test_parquet_without_rows_or_values(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, query: str, rows: int
) -> None:
    assert results.answer(connection, query, "parquet", tmp_path / "x") == rows
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{tmp_path}/x')").fetchall() == [(rows,)]


def test_what_parquet_cannot_hold_is_told(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    with pytest.raises(SmollError, match="more than 16 MB of text"):
        results.answer(connection, "SELECT repeat('x', 20_000_000)", "parquet", tmp_path / "x")
    with pytest.raises(SmollError, match="could not be written"):
        results.answer(connection, f"SELECT {2**127 - 1}::HUGEINT", "parquet", tmp_path / "x")
    with pytest.raises(SmollError, match="could not be written"):
        results.answer(connection, "FROM range(1_000_000)", "parquet", tmp_path / "none" / "x")
    with pytest.raises(SmollError, match="boom"):
        results.answer(
            connection, "SELECT if(i = 50_000, error('boom'), i) FROM range(99_999) t(i)", "parquet", tmp_path / "x"
        )


def test_a_wrong_name_is_shown_in_its_place(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UsageError) as caught:
        results.answer(connection, "SELECT 1 +\n  nope\nFROM range(1)", "csv")
    assert caught.value.message.endswith("LINE 2:   nope\n          ^")
