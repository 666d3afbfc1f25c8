"""No value changes on its way into the warehouse, and types depend on the values alone, not on where they stand."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import pytest

from support import MakeProject, files_yml, load, raw, refused, reopen, rows, types, write

pytestmark = pytest.mark.connectors

MIDNIGHT = datetime.datetime(2024, 1, 1)
ODD = {
    "word": ("x", "VARCHAR"),
    "fraction": ("1.5", "DOUBLE"),
    "long_fraction": ("0.12345678901234567890", "DECIMAL(38,20)"),
    "zeros": ("007", "VARCHAR"),
    "plus": ("+7", "VARCHAR"),
    "blank": (" 7", "VARCHAR"),
    "beyond_53_bits": ("9007199254740993", "BIGINT"),
    "beyond_64_bits": ("9223372036854775808", "DECIMAL(38,0)"),
    "beyond_128_bits": ("1" * 40, "VARCHAR"),
    "exponent": ("1e3", "DOUBLE"),
    "exponent_like_id": ("12e4567", "VARCHAR"),
    "hex": ("0x1F", "VARCHAR"),
    "underscore": ("1_000", "VARCHAR"),
    "not_a_number": ("NaN", "DOUBLE"),
    "infinite": ("Infinity", "DOUBLE"),
    "day": ("2024-02-29", "VARCHAR"),
    "nothing": ("", "BIGINT"),
}


@pytest.mark.parametrize("position", [1, 1_000, 1_001, 30_000, 40_000])
def test_one_odd_value_gives_the_same_table_wherever_it_stands(make_project: MakeProject, position: int) -> None:
    lines = [",".join("1" for _ in ODD)] * 40_000
    lines[position - 1] = ",".join(value for value, _ in ODD.values())
    project = make_project(files_yml(), {"data/t.csv": "\n".join([",".join(ODD), *lines]) + "\n"})

    assert load(project).rows == 40_000

    assert types(project) == {name: kind for name, (_, kind) in ODD.items()}
    for name, (value, kind) in ODD.items():
        counts = raw(project, f"SELECT {name}::VARCHAR, count(*) FROM raw_s.t GROUP BY 1 ORDER BY 2")
        wanted = {
            "DOUBLE": {"1.5": "1.5", "1e3": "1000.0", "NaN": "nan", "Infinity": "inf"}.get(value),
            "BIGINT": value or None,
        }.get(kind, value)
        one = {"DOUBLE": "1.0", "DECIMAL(38,20)": "1.00000000000000000000"}.get(kind, "1")
        assert counts == [(wanted, 1), (one, 39_999)]


ODD_RECORDS = [
    '{"n": 1.5, "d": 0.5, "t": "a", "b": true, "j": [1], "z": null}',
    '{"n": 0.30000000000000000001, "d": 0.5, "t": "a", "b": true, "j": [1], "z": null}',
    '{"n": 1, "d": 0.30000000000000000001, "t": "a", "b": true, "j": [1], "z": null}',
    '{"n": 1, "d": 6.484715429280751e+16, "t": "a", "b": true, "j": [1], "z": null}',
    '{"n": 1e400, "d": -1.5e400, "t": "a", "b": true, "j": [1], "z": null}',
    '{"n": "7", "d": "0.5", "t": "a", "b": true, "j": [1], "z": null}',
    '{"n": true, "d": [1], "t": "a", "b": 0, "j": [1], "z": null}',
    '{"n": 1, "d": 0.5, "t": 7, "b": "true", "j": "x", "z": null}',
    '{"n": 1, "d": 0.5, "t": "\\"\\u00e9\\\\", "b": null, "j": null, "z": ""}',
    '{"n": 1, "d": 0.5, "t": "2024-01-01", "b": true, "j": {"x": 0.30000000000000000001}, "z": {}}',
    '{"n": NaN, "d": Infinity, "t": "a", "b": true, "j": [1], "z": 5}',
    '{"n": 1, "d": 0.5, "t": "a", "b": true, "j": [1], "z": null, "more": 1}',
    '{"n": 1, "d": 0.5, "t": "a", "n": 2}',
    "{}",
    "null",
    "5",
    "[1]",
    "",
    '{"n": 1',
    '{"n": 1, "msg": "No space left on device, Out of Memory"}',
    "\u2028",
    "\x0b",
    " \t\r",
]


@pytest.mark.parametrize("record", ODD_RECORDS)
def test_one_odd_record_of_ndjson_does_the_same_wherever_it_stands(make_project: MakeProject, record: str) -> None:
    usual = '{"n": 1, "d": 0.5, "t": "a", "b": true, "j": [1], "z": null}'
    found: list[Any] = []
    for position in (0, 3_000):  # DuckDB's own sample reaches beyond 2,000
        lines = [usual] * 3_000
        lines.insert(position, record)
        yml = files_yml("data/t.ndjson", on_bad_row="quarantine")
        project = make_project(yml, {"data/t.ndjson": "\n".join(lines) + "\n"})
        stream, kinds = load(project), types(project)
        table = sorted(repr(sorted(zip(kinds, map(repr, row), strict=True))) for row in rows(project))
        found.append((stream.read, stream.rows, stream.rejected, sorted(kinds.items()), table))
    assert found[0] == found[1]
    assert found[0][0] == 3_000 + bool(record.strip(" \t\r"))


@pytest.mark.parametrize("late", [False, True], ids=["first", "late"])
@pytest.mark.parametrize("stored", ['{"n": "2024-01-01"}', '{"n": "2024-01-01T10:00:00"}', '{"n": true}', '{"n": "s"}'])
@pytest.mark.parametrize("odd", ['"x"', "[1]", "true", "1.5", "2"])
def test_numbers_beside_what_is_stored_do_not_depend_on_their_order(
    make_project: MakeProject, stored: str, odd: str, late: bool
) -> None:
    project = make_project(files_yml("data/*.ndjson", mode="append"), {"data/a.ndjson": stored + "\n"})
    load(project)
    lines = [f'{{"n": {odd}}}', *['{"n": 1}'] * 3_000]
    write(project.config.root, {"data/b.ndjson": "\n".join(lines[::-1] if late else lines) + "\n"})

    load(project)

    kind = types(project)["n"]
    added = raw(project, "SELECT CAST(n AS VARCHAR), count(*) FROM raw_s.t WHERE _smoll_file LIKE '%b%' GROUP BY 1")
    words = '"x"' in odd and kind != "JSON"
    assert sorted(added) == sorted({"1": 3_000, "x" if words else odd: 1}.items())


@pytest.mark.parametrize("option", [{"columns": {"x": "DOUBLE"}}, {"mode": "merge", "key": "n", "cursor": "x"}])
def test_a_column_that_comes_late_counts(make_project: MakeProject, option: dict[str, Any]) -> None:
    lines = [f'{{"n": {number}}}' for number in range(3_000)] + ['{"n": 3000, "x": 2.5}']
    project = make_project(files_yml("data/t.ndjson", **option), {"data/t.ndjson": "\n".join(lines) + "\n"})

    assert load(project).rows == 3_001


def test_rejects_of_one_file_stay_where_another_is_described_anew(make_project: MakeProject) -> None:
    usual = '{"n":1}\n'
    files = {
        "data/a.ndjson": '{"n":1}\n{"n":2\n{"n":3}\n' + usual * 10,
        "data/b.json": '[{"n":7}]',
        "data/c.ndjson": usual * 3_000 + '{"n":1.5}\n',
    }
    project = make_project(files_yml("data/*.*", on_bad_row="quarantine"), files)

    stream = load(project)

    assert (stream.read, stream.rejected) == (3_015, 1)
    assert raw(project, "SELECT _smoll_file, line FROM raw_s.t__rejected") == [("data/a.ndjson", 2)]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "-2", "0"], "BIGINT", [-2, 0, 1]),
        (["9223372036854775807", "-9223372036854775808"], "BIGINT", [-(2**63), 2**63 - 1]),
        (["-0"], "DOUBLE", [-0.0]),
        (["01234", "5"], "VARCHAR", ["01234", "5"]),
        (["0.1", "0.30000000000000004"], "DOUBLE", [0.1, 0.30000000000000004]),
        (["1.5", "9007199254740993"], "DECIMAL(18,1)", [Decimal("1.5"), Decimal("9007199254740993.0")]),
        (["1.5", "123456789012345"], "DOUBLE", [1.5, 123456789012345.0]),
        (["1.5", "-3.141592653589793"], "DOUBLE", [-3.141592653589793, 1.5]),
        (["1e-400"], "VARCHAR", ["1e-400"]),
        (["1.5", "-"], "VARCHAR", ["-", "1.5"]),
        (["1.5", "-e5"], "VARCHAR", ["-e5", "1.5"]),
        (["1e400"], "VARCHAR", ["1e400"]),
        (["0e0", "1e-5"], "VARCHAR", ["0e0", "1e-5"]),
        (["1.10", "12345678901234567.89"], "DECIMAL(38,2)", [Decimal("1.10"), Decimal("12345678901234567.89")]),
        (["true", "FALSE"], "BOOLEAN", [False, True]),
        (["t", "f"], "VARCHAR", ["f", "t"]),
        (["2024-02-29", "0999-01-01"], "DATE", [datetime.date(999, 1, 1), datetime.date(2024, 2, 29)]),
        (["2023-02-29"], "VARCHAR", ["2023-02-29"]),
        (["01/02/2024"], "VARCHAR", ["01/02/2024"]),
        (["2024-01-01 10:00", "2024-01-01T10:00:00.123456"], "TIMESTAMP", None),
        (["2024-01-01 10:00:00.123456789"], "VARCHAR", ["2024-01-01 10:00:00.123456789"]),
        (["2024-01-01", "2024-01-01 10:00:00"], "TIMESTAMP", [MIDNIGHT, MIDNIGHT + datetime.timedelta(hours=10)]),
        (["infinity"], "VARCHAR", ["infinity"]),
    ],
)
def test_a_type_is_taken_only_where_it_holds_every_value_exactly(
    make_project: MakeProject, values: list[str], kind: str, expected: list[Any] | None
) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a\n" + "".join(f"{value}\n" for value in values)})

    load(project)

    assert types(project) == {"a": kind}
    if expected is not None:
        assert [row[0] for row in rows(project)] == expected


def test_a_timestamp_with_a_zone_is_the_same_moment(make_project: MakeProject) -> None:
    content = "a\n2024-01-01T10:00:00Z\n2024-01-01 12:00:00+02:00\n2024-01-01T05:30:00-0430\n"
    project = make_project(files_yml(), {"data/t.csv": content})

    load(project)

    assert types(project) == {"a": "TIMESTAMP WITH TIME ZONE"}
    assert {row[0].timestamp() for row in rows(project)} == {1704103200.0}


def test_an_empty_text_in_quotes_is_no_null_in_a_text_column(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": 'id,a\n1,x\n2,\n3,""\n'})

    load(project)

    assert rows(project) == [(1, "x"), (2, None), (3, "")]


def test_null_values_count_only_where_they_are_not_quoted(make_project: MakeProject) -> None:
    content = 'id,a\n1,NA\n2,"NA"\n3,x\n'
    project = make_project(files_yml(null_values=["", "NA"]), {"data/t.csv": content})

    load(project)

    assert rows(project) == [(1, None), (2, "NA"), (3, "x")]


def test_the_configuration_fixes_types(make_project: MakeProject) -> None:
    columns = {"price": "decimal(10,2)", "id": "varchar", "big": "HUGEINT"}
    project = make_project(files_yml(columns=columns), {"data/t.csv": "id,price,big,n\n1,2,3,4\n"})

    load(project)

    assert types(project) == {"id": "VARCHAR", "price": "DECIMAL(10,2)", "big": "HUGEINT", "n": "BIGINT"}
    assert rows(project) == [("1", Decimal("2.00"), 3, 4)]


@pytest.mark.parametrize("record", [1, 5_000])
def test_a_value_that_misses_its_fixed_type_is_named_with_its_place(make_project: MakeProject, record: int) -> None:
    lines = ["1.25"] * 6_000
    project = make_project(files_yml(columns={"price": "DECIMAL(10,2)"}))
    write(project.config.root, {"data/t.csv": "price\n" + "\n".join(lines) + "\n"})
    load(project)
    lines[record - 1] = "1.255"
    write(project.config.root, {"data/t.csv": "price\n" + "\n".join(lines) + "\n"})

    refused(project, "data/t.csv", f"line {record + 1}", "'1.255'", "'price'", "DECIMAL(10,2)", "smoll.yml")


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"a": "WORDS"}, ("'WORDS'", "BIGINT")),
        ({"a": "INT); DROP"}, ("none of DuckDB's",)),
        ({"b": "INT"}, ("'b'", "smoll.yml")),
    ],
)
def test_a_fixed_type_that_cannot_be_is_refused(
    make_project: MakeProject, columns: dict[str, str], parts: tuple[str, ...]
) -> None:
    project = make_project(files_yml(columns=columns), {"data/t.csv": "a\n1\n"})

    refused(project, "s.t", *parts)


CHANGES = [
    ("1", "x", "VARCHAR", ["1", "x"]),
    ("1", "1.5", "DOUBLE", [1.0, 1.5]),
    ("1", "9223372036854775808", "DECIMAL(38,0)", [Decimal(1), Decimal(9223372036854775808)]),
    ("9007199254740993", "1.5", "VARCHAR", ["1.5", "9007199254740993"]),
    ("x", "1", "VARCHAR", ["1", "x"]),
    ("true", "1", "VARCHAR", ["1", "true"]),
    ("", "1", "BIGINT", [1, None]),
    ("2024-01-01", "2024-01-01 10:00:00", "TIMESTAMP", None),
    ("2024-01-01 10:00:00", "2024-01-01", "TIMESTAMP", [MIDNIGHT, MIDNIGHT + datetime.timedelta(hours=10)]),
    ("1.25", "12345678901234567.89", "VARCHAR", ["1.25", "12345678901234567.89"]),
]


@pytest.mark.parametrize(("old", "new", "kind", "expected"), CHANGES)
def test_a_type_that_changes_between_runs_becomes_one_that_holds_both(
    make_project: MakeProject, old: str, new: str, kind: str, expected: list[Any] | None
) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": f"a,b\n{old},y\n"})
    load(project)
    before = types(project)["a"]
    write(project.config.root, {"data/2.csv": f"a,b\n{new},y\n"})

    notes = load(project).notes

    assert types(project)["a"] == kind
    assert notes == (() if before == kind else (f"column a was {before}, is {kind} now",))
    if expected is not None:
        assert [row[0] for row in rows(project)] == expected


def test_columns_may_come_and_go(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "a,b\n1,x\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "c,a\n2.5,2\n"})

    notes = load(project).notes

    assert rows(project) == [(1, "x", None), (2, None, 2.5)]
    assert notes == ("new column c (DOUBLE)", "column b is not in what was read; it is NULL in the new rows")


def test_a_reload_forgets_types_and_columns(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a,b\nx,1\n"})
    load(project)
    write(project.config.root, {"data/t.csv": "a\n1\n"})
    load(project)
    assert types(project) == {"a": "VARCHAR", "b": "BIGINT"}

    load(project, reload=["s.t"])

    assert types(project) == {"a": "BIGINT"}
    assert rows(project) == [(1,)]


def test_a_header_without_rows_binds_no_types(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "id,day\n"})
    assert load(project).rows == 0
    assert types(project) == {"id": "VARCHAR", "day": "VARCHAR"}

    write(project.config.root, {"data/t.csv": "id,day\n1,2024-01-01\n"})
    load(project)

    assert types(project) == {"id": "BIGINT", "day": "DATE"}


def test_a_csv_of_one_empty_column_keeps_its_rows(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a,b\n,\n,\n"})

    assert load(project).rows == 2
    assert rows(project) == [(None, None), (None, None)]


def ndjson(*records: str) -> str:
    return "".join(record + "\n" for record in records)


def test_json_numbers_keep_every_digit(make_project: MakeProject) -> None:
    content = ndjson(
        '{"id": 1, "big": 9223372036854775808, "price": 0.12345678901234567, "n": 1.5, "yes": true}',
        '{"id": 9007199254740993, "big": 1, "price": 1, "n": 2, "yes": false}',
    )
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": content})

    load(project)

    assert types(project)["id"] == "BIGINT"
    assert types(project)["yes"] == "BOOLEAN"
    found = raw(project, "SELECT id, big::VARCHAR, price, n FROM raw_s.t ORDER BY id")
    assert found == [
        (1, "9223372036854775808", Decimal("0.12345678901234567"), 1.5),
        (9007199254740993, "1", 1, 2.0),
    ]


def test_json_texts_that_look_like_numbers_stay_texts(make_project: MakeProject) -> None:
    content = ndjson('{"zip": "01234", "n": "5", "day": "2024-01-01", "at": "2024-01-01T10:00:00Z", "e": ""}')
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": content})

    load(project)

    assert types(project) == {
        "zip": "VARCHAR",
        "n": "VARCHAR",
        "day": "DATE",
        "at": "TIMESTAMP WITH TIME ZONE",
        "e": "VARCHAR",
    }
    assert raw(project, "SELECT zip, n, e FROM raw_s.t") == [("01234", "5", "")]


def test_json_of_mixed_kinds_and_nested_values_stay_json(make_project: MakeProject) -> None:
    content = ndjson(
        '{"mixed": 1, "nested": {"a": [1, 2.50]}, "list": [1]}',
        '{"mixed": "1", "nested": null, "list": []}',
        '{"mixed": true, "nested": {"b": "c"}}',
    )
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": content})

    load(project)

    assert types(project) == {"mixed": "JSON", "nested": "JSON", "list": "JSON"}
    assert [row[0] for row in raw(project, "SELECT mixed FROM raw_s.t")] == ["1", '"1"', "true"]
    nested = [row[0] for row in raw(project, "SELECT nested FROM raw_s.t")]
    assert [value and json.loads(value) for value in nested] == [{"a": [1, 2.5]}, None, {"b": "c"}]


def test_a_json_key_that_comes_late_is_a_column(make_project: MakeProject) -> None:
    content = ndjson(*(f'{{"id": {number}}}' for number in range(50_000)), '{"id": 50000, "late": 1.5}')
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": content})

    load(project)

    assert types(project) == {"id": "BIGINT", "late": "DOUBLE"}
    assert raw(project, "SELECT id, late FROM raw_s.t WHERE late IS NOT NULL") == [(50_000, 1.5)]


def test_json_without_records_is_no_rows(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/t.json", allow_empty="true"), {"data/t.json": '[{"id": 1}]'})
    load(project)
    write(project.config.root, {"data/t.json": "[]"})

    assert load(project).rows == 0

    assert rows(project) == []
    write(project.config.root, {"data/t.json": '[{"id": "a"}]'})
    load(reopen(project))
    assert rows(project) == [("a",)]


def test_a_number_of_json_too_small_for_a_double_is_not_zero(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": '{"v": 1e-400}\n{"v": 1}\n'})
    load(project)
    assert rows(project) == [("1",), ("1e-400",)]
