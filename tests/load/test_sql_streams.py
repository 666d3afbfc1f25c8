"""Which tables, columns and rows of a database are read: patterns, select, where, queries, primary keys, snapshots."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import psycopg
import pytest

import smoll
from smoll.errors import ConfigError
from support import MakeProject, Postgres, dump, load, only_stream, raw, refused, reopen, rows, sql_yml, types


def streams(project: smoll.Project) -> dict[str, str]:
    """What a run says of each stream, by its name."""
    return {stream.ref.stream: stream.status for stream in project.run().streams}


def test_a_name_goes_before_a_pattern_and_a_pattern_before_all(make_project: MakeProject, postgres: Postgres) -> None:
    for name in ("orders", "order_lines", "order_notes", "audit", "audit_old", "other", "x*"):
        postgres.execute(f'CREATE TABLE "{name}" (id int PRIMARY KEY); INSERT INTO "{name}" VALUES (1);')
    chosen = {
        "*": {},
        "order_*": {"mode": "merge", "key": "id"},
        "order_notes": {"mode": "append", "cursor": "id"},
        "x*": {"mode": "merge"},
    }
    project = make_project(sql_yml(postgres.url, chosen, exclude=["audit*"]))

    result = project.run()

    assert result.status == "ok", result.streams
    assert {stream.ref.stream: stream.mode for stream in result.streams} == {
        "orders": "replace",
        "order_lines": "merge",
        "order_notes": "append",
        "other": "replace",
        "x*": "merge",
    }


def test_columns_are_chosen_by_name_and_pattern(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE t (id int, at int, addr_street text, addr_zip text, addr_secret text, note text);
        INSERT INTO t VALUES (1, 1, 'a', 'b', 'c', 'd');"""
    )
    options = {"mode": "merge", "key": "id", "cursor": "at", "select": ["addr_*"], "exclude": ["*_secret", "id"]}
    project = make_project(sql_yml(postgres.url, {"t": options}))

    load(project)

    assert list(types(project)) == ["id", "at", "addr_street", "addr_zip"]
    project = reopen(project, sql_yml(postgres.url, {"t": {"select": ["nope"]}}))
    refused(project, "there is no column 'nope'", "addr_zip")
    refused(reopen(project, sql_yml(postgres.url, {"t": {"exclude": "*"}})), "leave no column")


def test_a_condition_is_kept_apart_from_that_of_the_cursor(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE t (id int, shop int); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (NULL, 2);")
    options = {"mode": "append", "cursor": "id", "where": "shop = 1 OR shop = 2 -- those of ours"}
    project = make_project(sql_yml(postgres.url, {"t": options}))
    assert load(project).rows == 3
    postgres.execute("INSERT INTO t VALUES (4, 3), (5, 2), (2, 2), (0, 1)")

    assert load(project).rows == 2
    assert load(project).rows == 0

    assert rows(project) == [(1, 1), (2, 2), (2, 2), (5, 2), (None, 2)]
    error = refused(reopen(project, sql_yml(postgres.url, {"t": {"where": "shop = 'x"}})), "s.t: cannot read")
    assert "unterminated" in error


def test_the_columns_of_a_query_have_exact_types(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE t (id int, price numeric, at timestamptz, tags text[], doc jsonb);
        INSERT INTO t VALUES (1, 0.12345678901234567890, '2024-01-01 10:00+02', '{a,b}', '{"n": 1e400}')"""
    )
    query = "SELECT id, price * 1 AS price, at, tags, doc, 'it''s 100% :x' AS \"odd name\", 1::numeric(50,10) FROM t;"
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "id", "query": query}}))

    load(project)

    assert types(project) == {
        "id": "INTEGER",
        "price": "DECIMAL(38,20)",
        "at": "TIMESTAMP WITH TIME ZONE",
        "tags": "JSON",
        "doc": "JSON",
        "odd name": "VARCHAR",
        "numeric": "DECIMAL(18,10)",
    }
    assert rows(project)[0][1] == Decimal("0.12345678901234567890")
    assert rows(project)[0][5] == "it's 100% :x"
    postgres.execute("INSERT INTO t VALUES (1), (2)")
    assert load(project).rows == 2
    refused(reopen(project, sql_yml(postgres.url, {"t": {"query": "SELECT nope FROM t"}})), "s.t", '"nope"')


def test_a_merge_takes_the_primary_key_of_the_catalog(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE t (v text, b int, a int, PRIMARY KEY (a, b)); INSERT INTO t VALUES ('x', 1, 1), ('y', 2, 1);
        CREATE TABLE bare (id int);"""
    )
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "merge"}}))
    load(project)
    postgres.execute("UPDATE t SET v = 'X' WHERE b = 1; INSERT INTO t VALUES ('z', 1, 2)")

    assert load(project).total == 3
    assert "t is merged by a, b" in next(each.message for each in project.check() if each.topic == "source s")

    project = reopen(project, sql_yml(postgres.url, {"bare": {"mode": "merge"}}))
    told = next(each for each in project.check() if each.topic == "source s")
    assert told.level == "error" and "s.bare" in told.message and "no primary key" in told.message
    assert "`key`" in told.hint
    refused(project, "s.bare", "no primary key", "`key`", table="raw_s.bare")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"streams": {"a_*": {"table": "x"}}}, "table cannot be set"),
        ({"streams": {"a_*": {"query": "SELECT 1"}}}, "query cannot be set"),
        ({"streams": {"a": {"mode": "merge", "query": "SELECT 1"}}}, "needs a key"),
        ({"streams": ["a"], "exclude": ["a"]}, "is named, and excluded"),
        ({"url": "mysql://h/", "streams": ["a"]}, "names no database"),
        ({"url": "mysql://h/d", "source_schema": "x", "streams": ["a"]}, "source_schema"),
        ({"url": "oracle://h/d", "streams": ["a"]}, "databases of kind 'oracle'"),
    ],
)
def test_what_makes_no_sense_is_refused(make_project: MakeProject, source: dict[str, Any], message: str) -> None:
    spec = {"url": "postgresql://h/d", **source}
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_project(sql_yml(**spec))


# --- one snapshot -----------------------------------------------------------------------------------------------------

SLOW = """CREATE TABLE a (id int); INSERT INTO a VALUES (1);
    CREATE VIEW slow AS SELECT id, pg_advisory_xact_lock_shared(1)::text AS waited FROM a;
    CREATE TABLE z (id int); INSERT INTO z VALUES (1);"""
"""Reading `slow` waits as long as a test holds the lock."""


@contextmanager
def inserting_into_z_meanwhile(postgres: Postgres) -> Iterator[None]:
    """Insert a row into `z` once `slow` is being read, and let it go on then."""
    with psycopg.connect(postgres.url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(1)")

        def insert() -> None:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            end = time.monotonic() + 60
            while holder.execute(waiting).fetchone() == (0,) and time.monotonic() < end:
                time.sleep(0.02)
            postgres.execute("INSERT INTO z VALUES (2)")
            holder.execute("SELECT pg_advisory_unlock(1)")

        thread = threading.Thread(target=insert)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("way", ["scanner", "sqlalchemy"])
@pytest.mark.parametrize("snapshot", [True, False])
def test_all_streams_are_of_one_moment(make_project: MakeProject, postgres: Postgres, snapshot: bool, way: str) -> None:
    postgres.execute(SLOW)
    url = postgres.url if way == "scanner" else postgres.url.replace("postgresql:", "postgresql+psycopg:")
    # Five: side by side, z is loaded after slow.
    query = {"query": "SELECT id FROM a"}
    chosen = {"slow": {}, "q1": query, "q2": query, "q3": query, "z": {}}
    project = make_project(sql_yml(url, chosen, snapshot=snapshot))

    with inserting_into_z_meanwhile(postgres):
        result = project.run()

    assert result.status == "ok", result.streams
    assert rows(project, "raw_s.z") == ([(1,)] if snapshot else [(1,), (2,)])


def test_with_a_snapshot_it_is_all_or_nothing(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE a (id int); INSERT INTO a VALUES (1); CREATE VIEW b AS SELECT 1 / 0 AS x;")
    postgres.execute("CREATE TABLE c (id int); INSERT INTO c VALUES (3);")
    project = make_project(sql_yml(postgres.url, ["a", "b", "c"]))

    result = project.run()

    assert {stream.ref.stream: stream.status for stream in result.streams} == dict.fromkeys("abc", "failed")
    errors = {stream.ref.stream: stream.error for stream in result.streams}
    assert "s.b" in errors["b"] and "division by zero" in errors["b"]
    for other in "ac":
        assert "not loaded, as s.b failed" in errors[other] and "division" not in errors[other]
        assert dump(project, f"raw_s.{other}") is None

    project = reopen(project, sql_yml(postgres.url, ["a", "b", "c"], snapshot=False))
    assert streams(project) == {"a": "loaded", "b": "failed", "c": "loaded"}
    assert rows(project, "raw_s.c") == [(3,)]


def test_a_table_without_columns_or_rows_stops_nothing(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE none (); CREATE TABLE bare (id int, n numeric(5,2), d date);")
    project = make_project(sql_yml(postgres.url, ["*"]))

    result = project.run()

    assert result.status == "ok", result.streams
    told = {stream.ref.stream: (stream.status, stream.notes) for stream in result.streams}
    assert told["none"] == ("unchanged", ("the table has no columns",))
    assert types(project, "raw_s.bare") == {"id": "INTEGER", "n": "DECIMAL(5,2)", "d": "DATE"}


def test_a_value_that_misses_begins_all_of_it_anew(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE a (id int, n numeric); INSERT INTO a SELECT i, i FROM generate_series(1, 5000) i;
        CREATE TABLE b (id int, n numeric); INSERT INTO b SELECT i, i FROM generate_series(1, 5000) i;
        INSERT INTO b VALUES (0, 'NaN');"""
    )
    project = make_project(sql_yml(postgres.url, ["a", "b"]))

    assert project.run().status == "ok"

    assert types(project, "raw_s.a")["n"] == "DECIMAL(18,0)"
    assert types(project, "raw_s.b")["n"] == "VARCHAR"
    assert raw(project, "SELECT count(*) FROM raw_s.a UNION ALL SELECT count(*) FROM raw_s.b") == [(5000,), (5001,)]
    assert only_stream(reopen(project, sql_yml(postgres.url, ["a"])).run()).rows == 5000
