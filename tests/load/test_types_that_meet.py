"""Types that meet: those of the files of one load, of the table, and of the configuration. No value changes."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

import smoll
from support import MakeProject, files_yml, load, parquet, raw, refused, reopen, rows, types, write

PARQUET = "data/1.parquet"
BIG = 2**53 + 1
MIDNIGHT, TEN = datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 1, 10)


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        ("1.5::DOUBLE", "BIGINT", "1.5"),
        ("12345.678::DECIMAL(10,3)", "DECIMAL(10,1)", "12345.678"),
        (f"{BIG}::BIGINT", "DOUBLE", str(BIG)),
        ("300", "TINYINT", "300"),
        ("'007'", "INTEGER", "007"),
        ("TIMESTAMP '2024-01-01 10:00:00'", "DATE", "2024-01-01 10:00:00"),
    ],
)
def test_a_typed_value_that_a_fixed_type_would_change_is_named(
    make_project: MakeProject, value: str, kind: str, shown: str
) -> None:
    project = make_project(files_yml(PARQUET, columns={"x": kind}))
    parquet(f"SELECT {value} AS x FROM range(3000) UNION ALL BY NAME SELECT NULL AS x", project.config.root / PARQUET)

    refused(project, "s.t", PARQUET, "record 1", repr(shown), "'x'", kind)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("2.0::DOUBLE", "BIGINT", 2),
        ("1.50::DECIMAL(10,2)", "DECIMAL(10,1)", Decimal("1.5")),
        ("0.1::DOUBLE", "DECIMAL(10,2)", Decimal("0.10")),
        ("'1.5'", "DECIMAL(10,2)", Decimal("1.50")),
        ("7", "VARCHAR", "7"),
        ("1", "BOOLEAN", True),
    ],
)
def test_a_typed_value_that_a_fixed_type_holds_is_taken(
    make_project: MakeProject, value: str, kind: str, expected: Any
) -> None:
    project = make_project(files_yml(PARQUET, columns={"x": kind}))
    parquet(f"SELECT {value} AS x UNION ALL BY NAME SELECT NULL AS x", project.config.root / PARQUET)

    load(project)

    assert types(project) == {"x": kind}
    assert rows(project) == [(expected,), (None,)]


@pytest.mark.parametrize(("old", "shown"), [("1.5", "1.5"), ("N/A", "N/A")])
def test_a_type_fixed_later_does_not_change_what_is_loaded(make_project: MakeProject, old: str, shown: str) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": f"x\n7\n{old}\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "x\n8\n"})
    project = reopen(project, files_yml("data/*.csv", mode="append", columns={"x": "BIGINT"}))

    refused(project, "s.t", "already loaded", "BIGINT", "'x'", repr(shown), "--reload s.t")


def test_a_type_fixed_later_that_holds_what_is_loaded_is_taken(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "x\n7\n1e3\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "x\n8\n"})
    project = reopen(project, files_yml("data/*.csv", mode="append", columns={"x": "BIGINT"}))

    load(project)

    assert rows(project) == [(7,), (8,), (1000,)]


@pytest.mark.parametrize(
    ("whole", "kind", "expected"), [(BIG, "VARCHAR", ["1.5", str(BIG)]), (2**53, "DOUBLE", [1.5, float(2**53)])]
)
def test_whole_numbers_beside_doubles_in_one_load_keep_their_digits(
    make_project: MakeProject, whole: int, kind: str, expected: list[Any]
) -> None:
    project = make_project(files_yml("data/*.parquet"))
    parquet(f"SELECT {whole}::BIGINT AS x", project.config.root / "data/1.parquet")
    parquet("SELECT 1.5::DOUBLE AS x", project.config.root / "data/2.parquet")

    load(project)

    assert types(project) == {"x": kind}
    assert [row[0] for row in rows(project)] == expected


def test_files_whose_types_no_type_holds_are_refused(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.parquet"))
    parquet("SELECT {'a': 1} AS x", project.config.root / "data/1.parquet")
    parquet("SELECT 1 AS x", project.config.root / "data/2.parquet")

    refused(project, "s.t", "column 'x'", "STRUCT", "INTEGER", "no type holds both")


def test_a_renamed_column_is_widened_too(make_project: MakeProject) -> None:
    yml = files_yml("data/*.csv", {"naming": "snake_case"}, mode="append")
    project = make_project(yml, {"data/1.csv": "Order Amount\n1\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "Order Amount\n1.5\n"})

    load(project)

    assert types(project) == {"order_amount": "DOUBLE"}
    assert rows(project) == [(1.0,), (1.5,)]


@pytest.mark.parametrize(
    ("old", "new", "kind", "expected"),
    [
        ("1", '"2"', "VARCHAR", ["1", "2"]),
        ('"1"', "2", "VARCHAR", ["1", "2"]),
        ("true", '"true"', "VARCHAR", ["true", "true"]),
        ("1", "2", "BIGINT", [1, 2]),
        ("1", "null", "BIGINT", [1, None]),
        ("[1]", "2", "JSON", ["2", "[1]"]),
    ],
)
def test_a_text_of_json_becomes_no_number_because_the_table_has_numbers(
    make_project: MakeProject, old: str, new: str, kind: str, expected: list[Any]
) -> None:
    project = make_project(files_yml("data/*.ndjson", mode="append"), {"data/1.ndjson": f'{{"i": 1, "a": {old}}}\n'})
    load(project)
    write(project.config.root, {"data/2.ndjson": f'{{"i": 2, "a": {new}}}\n'})

    load(project)

    assert types(project)["a"] == kind
    assert raw(project, "SELECT a FROM raw_s.t ORDER BY a") == [(value,) for value in expected]


@pytest.mark.parametrize(
    ("text", "typed", "kind", "expected"),
    [
        ("1", "2::BIGINT", "BIGINT", [1, 2]),
        ("1.5", "2::INTEGER", "DOUBLE", [1.5, 2.0]),
        ("x", "2::BIGINT", "VARCHAR", ["2", "x"]),
        ("", "2::BIGINT", "BIGINT", [2, None]),
        (str(BIG), "1.5::DOUBLE", "VARCHAR", ["1.5", str(BIG)]),
        ("2024-01-01", "TIMESTAMP '2024-01-01 10:00'", "TIMESTAMP", [MIDNIGHT, TEN]),
    ],
)
def test_text_and_typed_files_of_one_stream_meet_in_the_type_that_holds_both(
    make_project: MakeProject, text: str, typed: str, kind: str, expected: list[Any]
) -> None:
    project = mixed(make_project, files_yml(["data/1.csv", "data/2.parquet"]), text, typed)

    load(project)

    assert types(project)["x"] == kind
    assert raw(project, "SELECT x FROM raw_s.t ORDER BY x") == [(value,) for value in expected]


def test_a_text_that_misses_its_fixed_type_is_named_beside_a_typed_file(make_project: MakeProject) -> None:
    yml = files_yml(["data/1.csv", "data/2.parquet"], columns={"x": "BIGINT"})

    refused(mixed(make_project, yml, "abc", "2::BIGINT"), "data/1.csv", "line 2", "'abc'", "'x'", "BIGINT")


def mixed(make_project: MakeProject, yml: str, text: str, typed: str) -> smoll.Project:
    project = make_project(yml, {"data/1.csv": f"i,x\n1,{text}\n"})
    parquet(f"SELECT 2 AS i, {typed} AS x", project.config.root / "data/2.parquet")
    return project


def test_a_column_with_a_fixed_type_may_go(make_project: MakeProject) -> None:
    yml = files_yml("data/*.csv", mode="append", columns={"y": "DOUBLE"})
    project = make_project(yml, {"data/1.csv": "x,y\n1,2\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "x\n5\n"})

    load(project)

    assert rows(project) == [(1, 2.0), (5, None)]
