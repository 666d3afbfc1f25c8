"""Postgres as a source: every type exactly, every row once, and plain words when it cannot be read."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest

from support import MakeProject, Postgres, dump, load, raw, refused, reopen, rows, sql_yml, types

TYPES: dict[str, tuple[str, str, str, Any]] = {
    "small": ("smallint", "-5", "SMALLINT", -5),
    "big": ("bigint", "9223372036854775807", "BIGINT", 9223372036854775807),
    "price": ("numeric(10,2)", "12345678.90", "DECIMAL(10,2)", Decimal("12345678.90")),
    "wide": ("numeric(38,10)", "1234567890123456789012345678.0123456789", "DECIMAL(38,10)", None),
    "free": ("numeric", "0.12345678901234567890", "DECIMAL(38,20)", Decimal("0.12345678901234567890")),
    "huge": ("numeric(60,5)", f"{10**50}.00001", "VARCHAR", f"{10**50}.00001"),
    "nan": ("numeric", "'NaN'", "VARCHAR", "NaN"),
    "real": ("real", "0.1", "FLOAT", None),
    "double": ("double precision", "0.1", "DOUBLE", 0.1),
    "flag": ("boolean", "true", "BOOLEAN", True),
    "text": ("text", "''", "VARCHAR", ""),
    "code": ("varchar(5)", "'007'", "VARCHAR", "007"),
    "day": ("date", "'2024-02-29'", "DATE", datetime.date(2024, 2, 29)),
    "local": ("timestamp", "'2024-01-01 10:00:00.123456'", "TIMESTAMP", None),
    "moment": ("timestamptz", "'2024-01-01 10:00:00+02'", "TIMESTAMP WITH TIME ZONE", None),
    "id": ("uuid", "'00000000-0000-0000-0000-000000000001'", "UUID", uuid.UUID(int=1)),
    "bytes": ("bytea", r"'\x00ff'", "BLOB", b"\x00\xff"),
    "doc": ("jsonb", """'{"a": [1, null]}'""", "JSON", {"a": [1, None]}),
    "list": ("int[]", "ARRAY[1, NULL, 3]", "JSON", [1, None, 3]),
    "matrix": ("text[]", "ARRAY[['a', 'b'], ['c', NULL]]", "JSON", [["a", "b"], ["c", None]]),
    "mood": ("mood", "'happy'", "VARCHAR", "happy"),
    "zip": ("zip", "'01234'", "VARCHAR", "01234"),
    "address": ("inet", "'10.0.0.1'", "VARCHAR", "10.0.0.1/32"),
    "nothing": ("integer", "NULL", "INTEGER", None),
    "scaled": ("numeric(50,10)", f"{10**39}.0000000001", "VARCHAR", f"{10**39}.0000000001"),
    "scaled_but_short": ("numeric(50,10)", "1.5", "DECIMAL(18,10)", Decimal("1.5")),
    "negative_scale": ("numeric(5,-2)", "12300", "DECIMAL(18,0)", Decimal(12300)),
    "all_digits": ("numeric(5,5)", "0.12345", "DECIMAL(5,5)", Decimal("0.12345")),
    "endless": ("numeric", "'-Infinity'", "VARCHAR", "-Infinity"),
    "numbers": ("numeric[]", "ARRAY[0.12345678901234567890, 'NaN', NULL]", "JSON", None),
    "moments": (
        "timestamptz[]",
        "ARRAY['2024-01-01 10:00+02'::timestamptz]",
        "JSON",
        ["2024-01-01T08:00:00+00:00"],
    ),
    "cube": ("int[]", "ARRAY[[[1, 2]], [[3, NULL]]]", "JSON", [[[1, 2]], [[3, None]]]),
    "plain_json": ("json", """'{"n": 12345678901234567890.12345, "n": 2}'""", "JSON", None),
    "clock": ("time", "'23:59:59.999999'", "TIME", datetime.time(23, 59, 59, 999999)),
    "zoned_clock": ("timetz", "'10:00:00+02'", "VARCHAR", "10:00:00+02"),
    "long": ("interval", "'1 year 2 mons 3 days 04:05:06.7'", "INTERVAL", None),
    "bits": ("bit(3)", "B'101'", "VARCHAR", "101"),
    "some_bits": ("varbit", "B'1'", "VARCHAR", "1"),
    "price_tag": ("money", "12.5", "VARCHAR", "$12.50"),
    "span": ("int4range", "'[1,5)'", "VARCHAR", "[1,5)"),
    "spans": ("tstzmultirange", "'{}'", "VARCHAR", "{}"),
    "pair": ("pair", "ROW(1, 'a b')", "VARCHAR", '(1,"a b")'),
    "network": ("cidr", "'10.0.0.0/8'", "VARCHAR", "10.0.0.0/8"),
    "place": ("point", "'(1,2)'", "VARCHAR", "(1,2)"),
    "words": ("tsvector", "'a b'", "VARCHAR", "'a' 'b'"),
    "padded": ("char(5)", "'ab'", "VARCHAR", "ab"),
    "single": ('"char"', "'x'", "VARCHAR", "x"),
    "object": ("oid", "4294967295", "VARCHAR", "4294967295"),
    "cents": ("cents", "1.25", "DECIMAL(18,2)", Decimal("1.25")),
    "kept": ("bigint GENERATED ALWAYS AS (small * 2) STORED", "DEFAULT", "BIGINT", -10),
    "counted": ("int GENERATED ALWAYS AS IDENTITY", "DEFAULT", "INTEGER", 1),
    'odd "name" %': ("integer", "7", "INTEGER", 7),
}


OWN_TYPES = """CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN zip AS varchar(5);
    CREATE DOMAIN cents AS numeric(10,2) CHECK (value > 0); CREATE TYPE pair AS (n int, t text);"""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_every_type_arrives_exactly(make_project: MakeProject, postgres: Postgres) -> None:
    columns = ", ".join(f"{quoted(name)} {kind}" for name, (kind, *_) in TYPES.items())
    values = ", ".join(value for _, value, *_ in TYPES.values())
    postgres.execute(
        f"""{OWN_TYPES} SET TIME ZONE 'UTC';
        CREATE TABLE t ({columns}); INSERT INTO t VALUES ({values});"""
    )
    project = make_project(sql_yml(postgres.url, ["t"]))

    load(project)

    assert types(project) == {name: kind for name, (_, _, kind, _) in TYPES.items()}
    found = dict(zip(TYPES, rows(project)[0], strict=True))
    for name, (_, _, kind, expected) in TYPES.items():
        if expected is not None:
            assert (json.loads(found[name]) if kind == "JSON" else found[name]) == expected, name
    assert found["nothing"] is None
    assert found["wide"] == Decimal("1234567890123456789012345678.0123456789")
    assert found["moment"].timestamp() == 1704096000
    assert found["local"] == datetime.datetime(2024, 1, 1, 10, 0, 0, 123456)
    assert raw(project, "SELECT real::VARCHAR, long::VARCHAR, numbers::VARCHAR, plain_json::VARCHAR FROM raw_s.t") == [
        (
            "0.1",
            "1 year 2 months 3 days 04:05:06.7",
            '[0.12345678901234567890,"NaN",null]',
            '{"n": 12345678901234567890.12345, "n": 2}',
        )
    ]


def test_moments_without_end_and_before_christ(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE t (d date, ts timestamp, tz timestamptz); INSERT INTO t VALUES
          ('infinity', 'infinity', 'infinity'), ('-infinity', '-infinity', '-infinity'),
          ('0044-03-15 BC', '0044-03-15 10:00:00 BC', '0044-03-15 10:00:00+00 BC'),
          ('9999-12-31', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00');"""
    )
    project = make_project(sql_yml(postgres.url, ["t"]))

    load(project)

    assert raw(project, "SELECT d::VARCHAR, ts::VARCHAR, tz::VARCHAR FROM raw_s.t ORDER BY d") == [
        ("-infinity", "-infinity", "-infinity"),
        ("0044-03-15 (BC)", "0044-03-15 (BC) 10:00:00", "0044-03-15 (BC) 10:00:00+00"),
        ("9999-12-31", "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999+00"),
        ("infinity", "infinity", "infinity"),
    ]


@pytest.mark.parametrize(
    ("kind", "odd", "plain", "before"),
    [
        ("numeric(10,2)", "NaN", "1.50", "DECIMAL(10,2)"),
        ("timestamp", "294276-12-31 23:59:59", "2024-01-01 10:00:00", "TIMESTAMP"),
        ("timestamptz", "294276-12-31 23:59:59+00", "2024-01-01 10:00:00+00", "TIMESTAMP WITH TIME ZONE"),
        ("interval", "infinity", "1 day", "INTERVAL"),
    ],
)
@pytest.mark.parametrize("driver", ["", "+psycopg"])
def test_a_value_that_no_type_of_duckdb_holds_becomes_text(
    make_project: MakeProject, postgres: Postgres, kind: str, odd: str, plain: str, before: str, driver: str
) -> None:
    postgres.execute(f"CREATE TABLE t (v {kind}); INSERT INTO t VALUES ('{plain}');")
    project = make_project(sql_yml(postgres.url.replace("postgresql:", f"postgresql{driver}:"), ["t"]))
    load(project)
    assert types(project) == {"v": before}
    postgres.execute(f"INSERT INTO t VALUES ('{odd}')")

    load(project)

    assert types(project) == {"v": "VARCHAR"}
    assert rows(project) == sorted([(odd,), (plain,)])


def test_every_table_is_loaded_and_a_named_one_has_its_own_options(
    make_project: MakeProject, postgres: Postgres
) -> None:
    postgres.execute(
        """CREATE TABLE plain (id int); INSERT INTO plain VALUES (1);
        CREATE VIEW seen AS SELECT id + 1 AS id FROM plain;
        CREATE MATERIALIZED VIEW kept AS SELECT id + 2 AS id FROM plain;
        CREATE TABLE parted (id int) PARTITION BY RANGE (id);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
        CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
        INSERT INTO parted VALUES (5), (15);
        CREATE TABLE rental (rental_id int, at date); INSERT INTO rental VALUES (1, '2024-01-01');
        CREATE SCHEMA other; CREATE TABLE other.hidden (id int);"""
    )
    rental = {"mode": "merge", "key": "rental_id", "cursor": "at", "table": "rentals"}
    project = make_project(sql_yml(postgres.url, {"*": {}, "rental": rental}, schema="shop"))

    result = project.run()

    assert result.status == "ok"
    found = {str(stream.table): (stream.mode, stream.total) for stream in result.streams}
    assert found == {
        "shop.plain": ("replace", 1),
        "shop.seen": ("replace", 1),
        "shop.kept": ("replace", 1),
        "shop.parted": ("replace", 2),
        "shop.rentals": ("merge", 1),
    }
    assert rows(project, "shop.parted") == [(5,), (15,)]
    assert rows(project, "shop.kept") == [(3,)]


def test_another_schema_of_the_database_is_read(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE SCHEMA sales; CREATE TABLE sales.t (id int); INSERT INTO sales.t VALUES (1);")
    project = make_project(sql_yml(postgres.url, ["*"], source_schema="sales"))

    load(project)

    assert rows(project) == [(1,)]


def test_tables_that_would_be_one_are_refused(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute('CREATE TABLE "Orders" (id int); CREATE TABLE orders (id int);')
    project = make_project(sql_yml(postgres.url, ["*"]))

    result = project.run()

    assert result.status == "failed"
    for part in ("s.Orders", "s.orders", "raw_s.", "table"):
        assert part in result.error

    project = reopen(project, sql_yml(postgres.url, {"*": {}, "Orders": {"table": "orders_old"}}))
    assert project.run().status == "ok"


def test_append_takes_ties_and_nulls_once(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE t (id int, at timestamptz);
        INSERT INTO t VALUES (1, '2024-01-01 10:00:00.000001+00'), (2, '2024-01-02 10:00:00.123456+00'),
          (3, '2024-01-02 10:00:00.123456+00'), (4, NULL), (4, NULL);"""
    )
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "at"}}))
    assert load(project).rows == 5

    assert load(project).rows == 0
    postgres.execute(
        """INSERT INTO t VALUES (5, '2024-01-02 10:00:00.123456+00'), (3, '2024-01-02 10:00:00.123456+00'),
          (6, '2024-01-02 10:00:00.123457+00'), (4, NULL), (7, NULL)"""
    )
    assert load(project).rows == 5
    assert load(project).rows == 0

    assert [row[0] for row in rows(project)] == [1, 2, 3, 3, 4, 4, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("int", "1", "2"),
        ("date", "'2024-01-01'", "'2024-01-02'"),
        ("numeric(20,5)", "123456789012345.00001", "123456789012345.00002"),
        ("numeric", "0.10000000000000000001", "0.10000000000000000002"),
        ("double precision", "0.1", "0.30000000000000004"),
        ("real", "0.1", "0.2"),
        ("uuid", "'00000000-0000-0000-0000-000000000001'", "'f0000000-0000-0000-0000-000000000001'"),
    ],
)
def test_a_cursor_of_any_ordered_type_loses_and_doubles_nothing(
    make_project: MakeProject, postgres: Postgres, kind: str, low: str, high: str
) -> None:
    postgres.execute(f"CREATE TABLE t (id int, at {kind}); INSERT INTO t VALUES (1, {low}), (2, {low});")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "at"}}))
    load(project)
    postgres.execute(f"INSERT INTO t VALUES (3, {low}), (4, {high})")

    assert load(project).rows == 2

    assert [row[0] for row in rows(project)] == [1, 2, 3, 4]
    assert load(project).rows == 0


def test_a_cursor_of_numbers_that_only_text_holds_is_refused(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE t (at numeric); INSERT INTO t VALUES (9), (10), (NULL);")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "at"}}))
    load(project)
    postgres.execute("INSERT INTO t VALUES (1e50)")

    refused(project, "s.t", "the cursor 'at'", "stored as text")


@pytest.mark.parametrize("kind", ["numeric", "timestamp"])
def test_a_cursor_without_a_value_yet_is_none_of_text(make_project: MakeProject, postgres: Postgres, kind: str) -> None:
    postgres.execute(f"CREATE TABLE t (id integer, at {kind}); INSERT INTO t VALUES (1, NULL);")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "at"}}))

    assert load(project).rows == 1
    assert load(project).rows == 0


def test_a_text_cursor_is_refused(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE t (id int, name text); INSERT INTO t VALUES (1, 'a');")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "name"}}))

    refused(project, "s.t", "'name'", "VARCHAR", "number, a date or a timestamp")


def test_merge_reads_only_what_changed_and_keeps_one_row_of_a_key(
    make_project: MakeProject, postgres: Postgres
) -> None:
    postgres.execute(
        """CREATE TABLE t (id int, v text, at timestamp);
        INSERT INTO t VALUES (1, 'a', '2024-01-01'), (2, 'b', '2024-01-02'), (3, 'none', NULL);"""
    )
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "merge", "key": "id", "cursor": "at"}}))
    load(project)
    postgres.execute(
        """UPDATE t SET v = 'A', at = '2024-01-03' WHERE id = 1; UPDATE t SET v = 'NONE' WHERE id = 3;
        INSERT INTO t VALUES (4, 'tie', '2024-01-02'); UPDATE t SET v = 'unseen', at = '2023-01-01' WHERE id = 2;"""
    )

    assert load(project).rows == 3

    assert [row[:2] for row in rows(project)] == [(1, "A"), (2, "b"), (3, "NONE"), (4, "tie")]


def test_merge_without_a_cursor_keeps_rows_that_the_source_deleted(
    make_project: MakeProject, postgres: Postgres
) -> None:
    postgres.execute("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b');")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "merge", "key": "id"}}))
    load(project)
    postgres.execute("DELETE FROM t WHERE id = 1; UPDATE t SET v = 'B' WHERE id = 2;")

    load(project)

    assert rows(project) == [(1, "a"), (2, "B")]


def test_replace_follows_the_source(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b');")
    project = make_project(sql_yml(postgres.url, ["t"]))
    load(project)
    postgres.execute("DELETE FROM t WHERE id = 1; ALTER TABLE t ADD COLUMN w numeric; ALTER TABLE t DROP COLUMN v;")

    notes = load(project).notes

    assert types(project) == {"id": "INTEGER", "w": "VARCHAR", "v": "VARCHAR"}
    assert rows(project) == [(2, None, None)]
    assert any("new column w" in note for note in notes)
    assert any("column v is not in what was read" in note for note in notes)


@pytest.mark.parametrize(
    ("old", "new", "value", "kind", "expected"),
    [
        ("int", "bigint", "5000000000", "BIGINT", 5000000000),
        ("int", "text", "'x'", "VARCHAR", "x"),
        ("int", "numeric(12,2)", "1.50", "DECIMAL(18,2)", Decimal("1.50")),
        ("text", "int", "5", "VARCHAR", "5"),
        ("numeric(5,1)", "numeric(20,4)", "1.2345", "DECIMAL(38,4)", Decimal("1.2345")),
    ],
)
def test_a_type_that_changes_in_the_source_is_followed(
    make_project: MakeProject, postgres: Postgres, old: str, new: str, value: str, kind: str, expected: Any
) -> None:
    postgres.execute(f"CREATE TABLE t (id int, v {old}); INSERT INTO t VALUES (1, 1);")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "merge", "key": "id"}}))
    load(project)
    postgres.execute(f"ALTER TABLE t ALTER COLUMN v TYPE {new} USING v::{new}; INSERT INTO t VALUES (2, {value});")

    load(project)

    assert types(project)["v"] == kind
    assert raw(project, "SELECT v FROM raw_s.t WHERE id = 2") == [(expected,)]


def test_a_type_that_nothing_can_hold_with_the_old_one_is_refused(
    make_project: MakeProject, postgres: Postgres
) -> None:
    postgres.execute("CREATE TABLE t (v int); INSERT INTO t VALUES (1);")
    project = make_project(sql_yml(postgres.url, ["t"]))
    load(project)
    postgres.execute(r"ALTER TABLE t DROP COLUMN v; ALTER TABLE t ADD COLUMN v bytea DEFAULT '\x00';")

    refused(project, "s.t", "'v'", "INTEGER", "BLOB", "smoll run --reload s.t")

    load(project, reload=["s.t"])
    assert rows(project) == [(b"\x00",)]


def test_a_table_that_vanished_is_named_and_its_rows_are_kept(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1);")
    project = make_project(sql_yml(postgres.url, ["t"]))
    load(project)
    postgres.execute("DROP TABLE t")

    refused(project, "s.t", "there is no table 't'", "schema public")

    postgres.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (2);")
    load(project)
    assert rows(project) == [(2,)]


@pytest.mark.parametrize("column", ["id", "at"])
def test_a_key_or_cursor_that_vanished_is_named(make_project: MakeProject, postgres: Postgres, column: str) -> None:
    postgres.execute("CREATE TABLE t (id int, at int, v int); INSERT INTO t VALUES (1, 1, 1);")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "merge", "key": "id", "cursor": "at"}}))
    load(project)
    postgres.execute(f"ALTER TABLE t DROP COLUMN {column}")

    refused(project, "s.t", f"'{column}'")


def test_a_database_that_is_down_fails_its_streams_only(make_project: MakeProject) -> None:
    spec = """
sources:
  s: {kind: sql, url: "postgresql://ann:secret-word@127.0.0.1:1/shop", streams: [t, u]}
  f: {kind: files, streams: {t: data/t.csv}}
"""
    project = make_project(spec, {"data/t.csv": "id\n1\n"})

    result = project.run()

    assert result.status == "failed"
    streams = {str(stream.ref): stream for stream in result.streams}  # in the order in which they finish
    assert {ref: stream.status for ref, stream in streams.items()} == {
        "s.t": "failed",
        "s.u": "failed",
        "f.t": "loaded",
    }
    error = streams["s.t"].error
    assert "127.0.0.1:1/shop" in error
    assert "refused" in error
    assert "running" in error
    assert "secret-word" not in repr(result)
    assert "secret-word" not in "".join(path.read_text() for path in (project.config.root / ".smoll/logs").iterdir())
    assert rows(project, "raw_f.t") == [(1,)]


def test_a_wrong_password_is_not_in_the_message(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1);")
    user = f"ann_{postgres.database}"
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'right-word'; GRANT SELECT ON t TO {user};")
    rules = postgres.data / "pg_hba.conf"
    rules.write_text(f"local all {user} scram-sha-256\n{rules.read_text()}")
    postgres.execute("SELECT pg_reload_conf()")
    wrong = postgres.url.replace("postgres:@", f"{user}:wrong-word@")
    project = make_project(sql_yml(wrong, ["t"]))

    error = refused(project, "s: cannot connect", "password authentication failed", "`url`")

    assert "wrong-word" not in error
    load(reopen(project, sql_yml(wrong.replace("wrong-word", "right-word"), ["t"])))
    assert rows(project) == [(1,)]
    postgres.execute(f"DROP OWNED BY {user}; DROP ROLE {user};")


def test_without_a_snapshot_a_failing_stream_does_not_stop_the_others(
    make_project: MakeProject, postgres: Postgres
) -> None:
    postgres.execute("CREATE TABLE a (id int); INSERT INTO a VALUES (1); CREATE VIEW b AS SELECT 1 / 0 AS x;")
    postgres.execute("CREATE TABLE c (id int); INSERT INTO c VALUES (3);")
    project = make_project(sql_yml(postgres.url, ["a", "b", "c"], snapshot=False))

    result = project.run()

    streams = {stream.ref.stream: stream for stream in result.streams}  # in the order in which they finish
    assert {name: stream.status for name, stream in streams.items()} == {"a": "loaded", "b": "failed", "c": "loaded"}
    assert "s.b" in streams["b"].error
    assert "division by zero" in streams["b"].error
    assert dump(project, "raw_s.b") is None
    assert rows(project, "raw_s.c") == [(3,)]


def test_a_large_table_is_scanned_by_several_threads_and_arrives_the_same(
    make_project: MakeProject, postgres: Postgres
) -> None:
    postgres.execute(
        """CREATE SCHEMA "of it's"; CREATE TABLE "of it's"."the 't'" AS
        SELECT i, i::smallint AS small, i::bigint AS big, i::real AS r, i / 7.0::float8 AS d, i % 2 = 0 AS flag,
          'name ' || i AS name, ('code ' || i)::varchar(20) AS code, date '2024-01-01' + i AS day,
          timestamp '2024-01-01 10:00:00.123456' + i * interval '1 second' AS local,
          timestamptz '2024-01-01 10:00+02' + i * interval '1 second' AS moment, time '10:00:00.5' AS clock,
          i::numeric(12,3) AS n, md5(i::text)::uuid AS id, decode(md5(i::text), 'hex') AS bytes
        FROM generate_series(1, 30000) i; ANALYZE;"""
    )
    query = """SELECT * FROM "of it's"."the 't'" """
    streams = {"the 't'": {"table": "whole"}, "asked": {"query": query}}
    project = make_project(sql_yml(postgres.url, streams, source_schema="of it's"))

    assert project.run().status == "ok"

    # The precision of a numeric is in the catalog, and a query has none.
    assert types(project, "raw_s.whole") == {**types(project, "raw_s.asked"), "n": "DECIMAL(12,3)"}
    assert raw(project, "SELECT count(*) FROM raw_s.whole") == [(30000,)]
    columns = ", ".join(quoted(name) for name in types(project, "raw_s.whole"))
    differs = f"SELECT {columns} FROM raw_s.whole EXCEPT SELECT {columns} FROM raw_s.asked"
    assert raw(project, differs) == []
    postgres.execute("""INSERT INTO "of it's"."the 't'" (i, n) VALUES (0, 'NaN');""")
    assert project.run().status == "ok"
    assert raw(project, "SELECT n FROM raw_s.whole WHERE i = 0") == [("NaN",)]
