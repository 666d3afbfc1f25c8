"""MySQL and MariaDB as a source: every type exactly, by DuckDB's scanner and by SQLAlchemy alike."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest

from support import MakeProject, MariaDB, load, raw, refused, reopen, rows, sql_yml, types

TYPES: dict[str, tuple[str, str, str, Any]] = {
    "tiny": ("tinyint", "-128", "TINYINT", -128),
    "flag": ("tinyint(1)", "2", "TINYINT", 2),
    "utiny": ("tinyint unsigned", "255", "UTINYINT", 255),
    "small": ("smallint unsigned", "65535", "USMALLINT", 65535),
    "medium": ("mediumint", "-8388608", "INTEGER", -8388608),
    "umedium": ("mediumint unsigned", "16777215", "UINTEGER", 16777215),
    "whole": ("int unsigned", "4294967295", "UINTEGER", 4294967295),
    "big": ("bigint", "-9223372036854775808", "BIGINT", -9223372036854775808),
    "ubig": ("bigint unsigned", "18446744073709551615", "UBIGINT", 18446744073709551615),
    "price": ("decimal(10,2)", "12345678.90", "DECIMAL(10,2)", Decimal("12345678.90")),
    "uprice": ("decimal(10,2) unsigned", "99999999.99", "DECIMAL(10,2)", Decimal("99999999.99")),
    "wide": ("decimal(38,10)", "1234567890123456789012345678.0123456789", "DECIMAL(38,10)", None),
    "huge": ("decimal(65,30)", f"{10**34}.{'0' * 29}1", "VARCHAR", f"{10**34}.{'0' * 29}1"),
    "huge_but_short": ("decimal(65,2)", "1.50", "DECIMAL(18,2)", Decimal("1.50")),
    "real": ("float", "0.1", "FLOAT", None),
    "double": ("double", "0.30000000000000004", "DOUBLE", 0.30000000000000004),
    "bit": ("bit(1)", "b'1'", "BOOLEAN", True),
    "bits": ("bit(64)", f"b'{'1' * 64}'", "UBIGINT", 2**64 - 1),
    "year": ("year", "2024", "SMALLINT", 2024),
    "long_time": ("time", "'838:59:59'", "VARCHAR", "838:59:59"),
    "fine_time": ("time(6)", "'-12:30:00.123456'", "VARCHAR", "-12:30:00.123456"),
    "day": ("date", "'2024-02-29'", "DATE", datetime.date(2024, 2, 29)),
    "local": (
        "datetime(6)",
        "'2024-01-01 10:00:00.123456'",
        "TIMESTAMP",
        datetime.datetime(2024, 1, 1, 10, 0, 0, 123456),
    ),
    "moment": ("timestamp(6) NULL", "'2024-01-01 10:00:00.000001'", "TIMESTAMP WITH TIME ZONE", None),
    "code": ("char(5)", "'007'", "VARCHAR", "007"),
    "text": ("longtext", "'𝄞 ''\\\\'", "VARCHAR", "𝄞 '\\"),
    "latin": ("varchar(20) CHARACTER SET latin1", "'é'", "VARCHAR", "é"),
    "empty": ("varchar(20)", "''", "VARCHAR", ""),
    "mood": ("enum('sad','happy')", "'happy'", "VARCHAR", "happy"),
    "several": ("set('x','y')", "'x,y'", "VARCHAR", "x,y"),
    "doc": ("json", """'{"a": [1, 12345678901234567890.12345]}'""", "JSON", {"a": [1, 12345678901234567890.12345]}),
    "bytes": ("blob", "x'00ff'", "BLOB", b"\x00\xff"),
    "fixed": ("binary(4)", "x'01'", "BLOB", b"\x01\0\0\0"),
    "id": ("uuid", "'00000000-0000-0000-0000-000000000001'", "UUID", uuid.UUID(int=1)),
    "address": ("inet6", "'::1'", "VARCHAR", "::1"),
    "nothing": ("datetime", "NULL", "TIMESTAMP", None),
    "no_day": ("date", "NULL", "DATE", None),
    'odd `name` % "x"': ("int", "7", "INTEGER", 7),
    "doubled": ("bigint AS (tiny * 2) VIRTUAL", "DEFAULT", "BIGINT", -256),
}


def quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


@pytest.fixture(params=["scanner", "sqlalchemy"])
def url(request: pytest.FixtureRequest, maria: MariaDB) -> str:
    return maria.url if request.param == "scanner" else maria.driver_url


def test_every_type_arrives_exactly(make_project: MakeProject, maria: MariaDB, url: str) -> None:
    columns = ", ".join(f"{quoted(name)} {kind}" for name, (kind, *_) in TYPES.items())
    values = ", ".join(value for _, value, *_ in TYPES.values())
    maria.execute(f"SET time_zone = '+02:00'; CREATE TABLE t ({columns}); INSERT INTO t VALUES ({values});")
    project = make_project(sql_yml(url, ["t"]))

    load(project)

    assert types(project) == {name: kind for name, (_, _, kind, _) in TYPES.items()}
    found = dict(zip(TYPES, rows(project)[0], strict=True))
    for name, (_, _, kind, expected) in TYPES.items():
        if expected is not None:
            assert (json.loads(found[name]) if kind == "JSON" else found[name]) == expected, name
    assert found["nothing"] is None
    assert found["wide"] == Decimal("1234567890123456789012345678.0123456789")
    assert found["moment"] == datetime.datetime(2024, 1, 1, 8, 0, 0, 1, datetime.UTC)
    assert raw(project, "SELECT real::VARCHAR, doc::VARCHAR FROM raw_s.t") == [
        ("0.1", '{"a": [1, 12345678901234567890.12345]}')
    ]


def test_a_zero_date_is_kept_as_the_text_that_it_is(make_project: MakeProject, maria: MariaDB, url: str) -> None:
    maria.execute(
        """CREATE TABLE t (id int, d date, dt datetime(6), ts timestamp NULL);
        SET sql_mode = '', time_zone = '+00:00';
        INSERT INTO t VALUES (1, '2024-01-01', '2024-01-01 10:00:00.5', '2024-01-01 10:00:00'),
          (2, '0000-00-00', '2024-00-10', '0000-00-00'), (3, NULL, NULL, NULL);"""
    )
    project = make_project(sql_yml(url, ["t"]))

    load(project)

    assert rows(project) == [
        (1, "2024-01-01", "2024-01-01 10:00:00.500000", "2024-01-01 10:00:00+00"),
        (2, "0000-00-00", "2024-00-10 00:00:00.000000", "0000-00-00 00:00:00+00"),
        (3, None, None, None),
    ]


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("int", "1", "2"),
        ("bigint unsigned", "18446744073709551614", "18446744073709551615"),
        ("date", "'2024-01-01'", "'2024-01-02'"),
        ("datetime(6)", "'2024-01-01 10:00:00.123456'", "'2024-01-01 10:00:00.123457'"),
        ("timestamp(6) NULL", "'2024-01-01 10:00:00.000001'", "'2024-01-01 10:00:00.000002'"),
        ("decimal(20,5)", "123456789012345.00001", "123456789012345.00002"),
        ("decimal(60,20)", "0.10000000000000000001", "0.10000000000000000002"),
        ("double", "0.1", "0.30000000000000004"),
    ],
)
def test_append_takes_ties_and_nulls_once(
    make_project: MakeProject, maria: MariaDB, url: str, kind: str, low: str, high: str
) -> None:
    maria.execute(f"CREATE TABLE t (id int, at {kind}); INSERT INTO t VALUES (1, {low}), (2, {low}), (9, NULL);")
    project = make_project(sql_yml(url, {"t": {"mode": "append", "cursor": "at"}}))
    assert load(project).rows == 3
    assert load(project).rows == 0
    maria.execute(f"INSERT INTO t VALUES (3, {low}), (4, {high}), (1, {low}), (9, NULL)")

    assert load(project).rows == 4

    assert [row[0] for row in rows(project)] == [1, 1, 2, 3, 4, 9, 9]
    assert load(project).rows == 0


def test_the_lag_of_times(make_project: MakeProject, maria: MariaDB, url: str) -> None:
    maria.execute("CREATE TABLE t (id int, at datetime); INSERT INTO t VALUES (1, '2024-01-10'), (2, '2024-01-09')")
    project = make_project(sql_yml(url, {"t": {"mode": "append", "cursor": "at", "lag": "2 days"}}))
    load(project)
    maria.execute("INSERT INTO t VALUES (3, '2024-01-08'), (4, '2024-01-07')")

    load(project)

    assert [row[0] for row in rows(project)] == [1, 2, 3]


def test_a_text_cursor_is_refused(make_project: MakeProject, maria: MariaDB, url: str) -> None:
    maria.execute("CREATE TABLE t (id int, name text); INSERT INTO t VALUES (1, 'a');")
    project = make_project(sql_yml(url, {"t": {"mode": "append", "cursor": "name"}}))

    refused(project, "s.t", "'name'", "VARCHAR", "number, a date or a timestamp")


def test_tables_views_and_the_primary_key(make_project: MakeProject, maria: MariaDB, url: str) -> None:
    maria.execute(
        """CREATE TABLE orders (line int, id int, v int, PRIMARY KEY (id, line));
        INSERT INTO orders VALUES (1, 1, 10), (2, 1, 20); CREATE VIEW seen AS SELECT id FROM orders;"""
    )
    project = make_project(sql_yml(url, {"*": {}, "orders": {"mode": "merge"}}))
    assert project.run().status == "ok"
    maria.execute("UPDATE orders SET v = 11 WHERE line = 1; INSERT INTO orders VALUES (1, 2, 30);")

    result = project.run()

    assert result.status == "ok"
    assert rows(project, "raw_s.orders") == [(1, 1, 11), (1, 2, 30), (2, 1, 20)]
    assert rows(project, "raw_s.seen") == [(1,), (1,), (2,)]
    assert "merged by id, line" in next(each.message for each in project.check() if each.topic == "source s")


def test_a_query_and_a_condition(make_project: MakeProject, maria: MariaDB, url: str) -> None:
    maria.execute(
        """CREATE TABLE t (id int, price decimal(50,2), d double, at datetime);
        INSERT INTO t VALUES (1, 12345678901234567890123456789012345.25, 0.1, '2024-01-01'), (2, 3, 1e300, NULL)"""
    )
    query = "SELECT id, price, d, at, id % 2 = 1 AS odd, ':x' AS `a:b` FROM t -- all of them"
    project = make_project(sql_yml(url, {"t": {"query": query, "where": "id < 5 OR id > 10 -- some"}}))

    load(project)

    found = rows(project)
    assert types(project)["at"] == "TIMESTAMP"
    assert str(found[0][1]) == "12345678901234567890123456789012345.25"
    assert [row[2] for row in found] in ([0.1, 1e300], ["0.1", "1e300"])
    assert [row[5] for row in found] == [":x", ":x"]


def test_what_cannot_be_reached_is_said_without_the_password(make_project: MakeProject, maria: MariaDB) -> None:
    wrong = f"mysql://nobody:secret-word@localhost/{maria.database}?socket={maria.socket}"
    project = make_project(sql_yml(wrong, ["t"]))

    error = refused(project, "s: cannot connect", "`url`")

    assert "secret-word" not in error
    for url, what in ((maria.url, "there is no table 't'"), (f"{maria.url}&nope=1", "'nope'")):
        refused(reopen(project, sql_yml(url, ["t"])), what)
