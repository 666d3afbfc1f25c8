"""Databases by SQLAlchemy: any of them, and those that DuckDB's scanner reads where it cannot be loaded."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.dialects

from load.test_postgres import OWN_TYPES, TYPES, quoted
from support import MakeProject, MariaDB, Postgres, load, raw, refused, reopen, rows, sql_yml, types

pytestmark = pytest.mark.connectors


@pytest.fixture(scope="module", autouse=True)
def _unknown_dialects() -> Iterator[None]:
    """Postgres and MariaDB under names that smoll does not know: to it they are any database, with real values."""
    for name, module in (
        ("plainpg", "postgresql.psycopg:PGDialect_psycopg"),
        ("plainmy", "mysql.pymysql:MySQLDialect_pymysql"),
    ):
        path, _, kind = module.partition(":")
        sqlalchemy.dialects.registry.register(f"{name}.driver", f"sqlalchemy.dialects.{path}", kind)
    yield


def unknown(url: str) -> str:
    """The URL of a database that smoll knows nothing of."""
    scheme, _, rest = url.partition("://")
    return f"{'plainpg' if scheme.startswith('postgres') else 'plainmy'}+driver://{rest}"


def by_driver(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:")


def test_the_types_are_those_of_the_scanner(make_project: MakeProject, postgres: Postgres) -> None:
    columns = ", ".join(f"{quoted(name)} {kind}" for name, (kind, *_) in TYPES.items())
    values = ", ".join(value for _, value, *_ in TYPES.values())
    postgres.execute(
        f"""{OWN_TYPES}
        CREATE TABLE t ({columns}, ever date, never timestamptz, old timestamp, far interval);
        INSERT INTO t VALUES ({values}, 'infinity', '-infinity', '0044-03-15 10:00 BC', '1 year 2 days 3.5 seconds');
        INSERT INTO t (small) VALUES (NULL);"""
    )
    project = make_project(sql_yml(postgres.url, ["t"]))
    load(project)
    scanned, kinds = rows(project), types(project)

    project = make_project(sql_yml(by_driver(postgres.url), ["t"]))
    notes = load(project).notes

    assert any("SQLAlchemy" in note and "faster" in note for note in notes)
    assert types(project) == kinds
    assert rows(project) == scanned
    assert raw(project, "SELECT ever::VARCHAR, never::VARCHAR, old::VARCHAR FROM raw_s.t WHERE ever IS NOT NULL") == [
        ("infinity", "-infinity", "0044-03-15 (BC) 10:00:00")
    ]


def test_values_of_any_database_arrive_exactly(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE t (i int, big numeric(30), n numeric, x double precision, b bool, s text, y bytea, d date,
          ts timestamp, tz timestamptz, tm time, u uuid, js jsonb, l int[], iv interval, none numeric(10,2),
          "odd "" % :name" text);
        INSERT INTO t VALUES (1, 123456789012345678901234567890, 0.12345678901234567890, 0.1, true, '2024-01-01',
          '\\x00ff', '2024-02-29', '2024-01-01 10:00:00.123456', '2024-01-01 10:00+02', '10:00:00.5',
          '00000000-0000-0000-0000-000000000001', '{"n": 12345678901234567890.12345}', '{1,2}', '1 day', NULL, 'x');
        INSERT INTO t (i) VALUES (2);"""
    )
    project = make_project(sql_yml(unknown(postgres.url), ["t"]))

    load(project)

    assert types(project) == {
        "i": "BIGINT",
        "big": "DECIMAL(38,0)",
        "n": "DECIMAL(38,20)",
        "x": "DOUBLE",
        "b": "BOOLEAN",
        "s": "VARCHAR",
        "y": "BLOB",
        "d": "DATE",
        "ts": "TIMESTAMP",
        "tz": "TIMESTAMP WITH TIME ZONE",
        "tm": "TIME",
        "u": "VARCHAR",
        "js": "JSON",
        "l": "JSON",
        "iv": "VARCHAR",
        "none": "DECIMAL(10,2)",
        'odd " % :name': "VARCHAR",
    }
    found = rows(project)
    assert found[0][1:4] == (Decimal(123456789012345678901234567890), Decimal("0.12345678901234567890"), 0.1)
    assert found[0][5:7] == ("2024-01-01", b"\x00\xff")
    assert found[0][12].replace(" ", "") == '{"n":12345678901234567890.12345}'
    assert found[1][1:] == (None,) * 16


def test_values_of_a_mysql_driver_arrive_exactly(make_project: MakeProject, maria: MariaDB) -> None:
    maria.execute(
        """CREATE TABLE t (i bigint unsigned, n decimal(65,30), s longtext, y blob, dt datetime(6), tm time);
        INSERT INTO t VALUES (18446744073709551615, 0.000000000000000000000000000001, '𝄞', x'00ff',
          '2024-01-01 10:00:00.123456', '838:59:59')"""
    )
    project = make_project(sql_yml(unknown(maria.driver_url), ["t"]))

    load(project)

    kinds = types(project)
    assert (kinds["i"], kinds["n"], kinds["dt"]) == ("DECIMAL(38,0)", "DECIMAL(38,30)", "TIMESTAMP")
    assert rows(project)[0][:4] == (18446744073709551615, Decimal("1e-30"), "𝄞", b"\x00\xff")
    assert rows(project)[0][5] == "34 days, 22:59:59"


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("int", "1", "2"),
        ("date", "'2024-01-01'", "'2024-01-02'"),
        ("timestamp", "'2024-01-01 10:00:00.123456'", "'2024-01-01 10:00:00.123457'"),
        ("timestamptz", "'2024-01-01 10:00:00.000001+02'", "'2024-01-01 10:00:00.000002+02'"),
        ("numeric", "0.10000000000000000001", "0.10000000000000000002"),
        ("double precision", "0.1", "0.30000000000000004"),
    ],
)
@pytest.mark.parametrize("way", [unknown, by_driver])
def test_append_takes_ties_and_nulls_once(
    make_project: MakeProject, postgres: Postgres, way: Any, kind: str, low: str, high: str
) -> None:
    postgres.execute(f"CREATE TABLE t (id int, at {kind}); INSERT INTO t VALUES (1, {low}), (2, {low}), (9, NULL);")
    project = make_project(sql_yml(way(postgres.url), {"t": {"mode": "append", "cursor": "at"}}))
    assert load(project).rows == 3
    assert load(project).rows == 0
    postgres.execute(f"INSERT INTO t VALUES (3, {low}), (4, {high}), (1, {low}), (9, NULL)")

    assert load(project).rows == 4

    assert [row[0] for row in rows(project)] == [1, 1, 2, 3, 4, 9, 9]
    assert load(project).rows == 0


@pytest.mark.parametrize("way", [unknown, by_driver])
def test_tables_queries_keys_and_lags(make_project: MakeProject, postgres: Postgres, way: Any) -> None:
    postgres.execute(
        """CREATE TABLE t (id int PRIMARY KEY, at timestamp, v text); INSERT INTO t VALUES (1, '2024-01-10', 'a');
        CREATE VIEW seen AS SELECT id FROM t; CREATE SCHEMA other;
        CREATE TABLE other.t (id int); INSERT INTO other.t VALUES (7), (8);"""
    )
    query = {"query": "SELECT id, '10:00' AS c, 7 % 4 AS m FROM t", "where": "id > 0"}
    chosen = {"*": {}, "t": {"mode": "merge", "cursor": "at", "lag": "2 days"}, "q": query}
    project = make_project(sql_yml(way(postgres.url), chosen))
    assert project.run().status == "ok"
    postgres.execute("INSERT INTO t VALUES (2, '2024-01-09', 'b'), (3, '2024-01-01', 'late')")

    result = project.run()

    assert result.status == "ok", result.streams
    assert [row[0] for row in rows(project, "raw_s.t")] == [1, 2]
    assert rows(project, "raw_s.seen") == [(1,), (2,), (3,)]
    assert [row[1:] for row in rows(project, "raw_s.q")] == [("10:00", 3)] * 3
    assert "t is merged by id" in next(each.message for each in project.check() if each.topic == "source s")
    project = reopen(project, sql_yml(way(postgres.url), ["t"], source_schema="other"))
    load(project, reload=["s.t"])
    assert [row[0] for row in rows(project)] == [7, 8]


def hide(monkeypatch: pytest.MonkeyPatch, project_root: Path, *modules: str) -> None:
    """A machine without these packages, on which DuckDB cannot install an extension either."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    (project_root / ".smoll").mkdir(exist_ok=True)
    (project_root / ".smoll" / "extensions").write_text("no folder")


def test_without_the_extension_it_is_read_all_the_same(
    make_project: MakeProject, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.execute("CREATE TABLE t (id int, d date); INSERT INTO t VALUES (1, 'infinity');")
    project = make_project(sql_yml(postgres.url, ["t"]))
    hide(monkeypatch, project.config.root, "duckdb_extension_postgres_scanner")

    notes = load(project).notes

    assert any("slower" in note and "pip install 'smoll[postgres]'" in note for note in notes)
    assert types(project) == {"id": "INTEGER", "d": "DATE"}

    hide(monkeypatch, project.config.root, "psycopg", "psycopg2", "pg8000")
    refused(project, "s: DuckDB's extension postgres_scanner cannot be loaded", "smoll[postgres]", "psycopg")


def test_sqlite_without_the_extension(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(sql_yml("sqlite:///shop.db", {"t": {"mode": "append", "cursor": "id"}}))
    values = [(1, 0.1, "x", b"\x00\xff", "2024-01-01"), (2**60, None, "7", None, None), (None, 2.0, "", b"", None)]
    with closing(sqlite3.connect(project.config.root / "shop.db")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER, x REAL, s TEXT, y BLOB, d DATE)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", values)
        connection.commit()
    hide(monkeypatch, project.config.root, "duckdb_extension_sqlite_scanner")

    assert load(project).rows == 3
    assert load(project).rows == 0

    assert types(project) == {"id": "BIGINT", "x": "DOUBLE", "s": "VARCHAR", "y": "BLOB", "d": "DATE"}
    assert [row[:4] for row in rows(project)] == [value[:4] for value in values]


def test_what_cannot_be_reached_is_said_without_the_password(make_project: MakeProject) -> None:
    project = make_project(sql_yml("plainpg+driver://ann:secret-word@127.0.0.1:1/shop", ["t"]))

    error = refused(project, "s: cannot connect", "127.0.0.1:1/shop", "`url`")

    assert "secret-word" not in error
    refused(reopen(project, sql_yml("nope+nope://ann:secret-word@h/d", ["t"])), "SQLAlchemy", "nope+nope", "driver")
