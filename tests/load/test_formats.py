"""Every format and every way to name things: the same rows arrive, with the types and names that are promised."""

from __future__ import annotations

import datetime
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from smoll.model import StreamRef
from support import MakeProject, files_yml, load, parquet, raw, refused, released, reopen, rows, types, write

CSV = "id,name,price\n1,Ann,1.5\n2,Bob,2.25\n3,,\n"
ROWS = [(1, "Ann", 1.5), (2, "Bob", 2.25), (3, None, None)]
RECORDS: list[dict[str, Any]] = [
    {"id": 1, "name": "Ann", "price": 1.5},
    {"id": 2, "name": "Bob", "price": 2.25},
    {"id": 3, "name": None},
]
NDJSON = "".join(json.dumps(record) + "\n" for record in RECORDS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", CSV),
        ("t.txt", CSV),
        ("t.CSV", CSV),
        ("t.csv", CSV.replace(",", ";")),
        ("t.csv", CSV.replace(",", "|")),
        ("t.csv", CSV.replace(",", "\t")),
        ("t.tsv", CSV.replace(",", "\t")),
        ("t.csv", CSV.replace("\n", "\r\n")),
        ("t.csv", CSV.rstrip("\n")),
        ("t.csv", "\ufeff" + CSV),
        ("t.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("t.ndjson", NDJSON),
        ("t.jsonl", NDJSON),
        ("t.jsonl.gz", gzip.compress(NDJSON.encode(), mtime=0)),
        ("t.json", json.dumps(RECORDS)),
        ("t.json", json.dumps(RECORDS, indent=2)),
        ("t.json", NDJSON),
    ],
)
def test_every_text_format_gives_the_same_table(make_project: MakeProject, name: str, content: str | bytes) -> None:
    project = make_project(files_yml(f"data/{name}"), {f"data/{name}": content})

    assert load(project).rows == 3
    assert types(project) == {"id": "BIGINT", "name": "VARCHAR", "price": "DOUBLE"}
    assert rows(project) == ROWS


@pytest.mark.parametrize("suffix", ["csv.zst", "csv.gz", "ndjson.zst", "parquet"])
def test_what_other_tools_have_written_is_read(make_project: MakeProject, suffix: str) -> None:
    project = make_project(files_yml(f"data/t.{suffix}"))
    target = project.config.root / f"data/t.{suffix}"
    target.parent.mkdir()
    kind = {"csv": "csv", "ndjson": "json", "parquet": "parquet"}[suffix.split(".")[0]]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1::BIGINT AS id, 'Ann' AS name, 1.5::DOUBLE AS price")
        connection.execute(f"COPY t TO {quoted(target)} (FORMAT {kind})")

    load(project)

    assert types(project) == {"id": "BIGINT", "name": "VARCHAR", "price": "DOUBLE"}
    assert rows(project) == [(1, "Ann", 1.5)]


def quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def test_a_format_can_be_named_where_the_file_does_not_tell_it(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/export.dat"), {"data/export.dat": CSV})
    refused(project, "s.t", "data/export.dat", "format: csv")

    load(reopen(project, files_yml("data/export.dat", format="csv")))

    assert rows(project) == ROWS


def test_a_glob_reads_every_file_and_each_row_knows_its_own(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {
        "data/2023/a.csv": "id\n1\n",
        "data/2024/b.csv": "id\n2\n3\n",
        "data/2024/notes.md": "no data",
    }
    project = make_project(files_yml("data/**/*.csv"), files)

    assert load(project).rows == 3

    found = raw(project, "SELECT id, _smoll_file, _smoll_load_id FROM raw_s.t ORDER BY id")
    assert found == [(1, "data/2023/a.csv", 1), (2, "data/2024/b.csv", 1), (3, "data/2024/b.csv", 1)]


def test_files_of_one_stream_may_differ_in_format_columns_and_their_order(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {
        "data/a.csv": "id,name\n1,Ann\n",
        "data/b.csv": "name,id\nBob,2\n",
        "data/c.csv": "ID,extra\n3,x\n",
        "data/d.ndjson": '{"id": 4, "name": "Dan"}\n',
    }
    project = make_project(files_yml("data/*"), files)

    load(project)

    assert types(project) == {"id": "BIGINT", "name": "VARCHAR", "extra": "VARCHAR"}
    assert rows(project) == [(1, "Ann", None), (2, "Bob", None), (3, None, "x"), (4, "Dan", None)]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {"data/t[1].csv": "id\n1\n", "data/t1.csv": "id\n2\n"}
    project = make_project(files_yml("data/t[1].csv"), files)

    load(project)

    assert rows(project) == [(1,)]


def test_csv_options_say_what_the_file_does_not(make_project: MakeProject) -> None:
    content = "1~caf\xe9~NA\n2~th\xe9~-\n".encode("latin-1")
    options: dict[str, Any] = {"delimiter": "~", "header": False, "encoding": "latin-1", "null_values": ["NA", "-"]}
    project = make_project(files_yml("data/t.csv", **options), {"data/t.csv": content})

    load(project)

    assert rows(project) == [(1, "café", None), (2, "thé", None)]
    assert list(types(project)) == ["column0", "column1", "column2"]


def test_utf_16_is_read(make_project: MakeProject) -> None:
    project = make_project(files_yml(encoding="utf-16"), {"data/t.csv": "id,name\n1,café\n".encode("utf-16")})

    load(project)

    assert rows(project) == [(1, "café")]


def test_quotes_hold_delimiters_line_ends_and_quotes(make_project: MakeProject) -> None:
    content = 'id,"a ""note"""\n1,"x, y"\n2,"two\nlines"\n3,"say ""hi"""\n'
    project = make_project(files_yml(), {"data/t.csv": content})

    load(project)

    assert list(types(project)) == ["id", 'a "note"']
    assert rows(project) == [(1, "x, y"), (2, "two\nlines"), (3, 'say "hi"')]


def test_parquet_keeps_its_types_to_the_last(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/t.parquet"))
    parquet(
        """SELECT 1::TINYINT AS small, 18446744073709551615::UBIGINT AS big, 1.10::DECIMAL(10,2) AS price,
        TIMESTAMPTZ '2024-01-01 10:00:00+02' AS at, DATE '2024-01-01' AS day, {'a': [1, 2]} AS nested,
        '\\xAA'::BLOB AS bytes, '' AS empty, NULL::VARCHAR AS nothing""",
        project.config.root / "data/t.parquet",
    )

    load(project)

    assert types(project) == {
        "small": "TINYINT",
        "big": "UBIGINT",
        "price": "DECIMAL(10,2)",
        "at": "TIMESTAMP WITH TIME ZONE",
        "day": "DATE",
        "nested": "STRUCT(a INTEGER[])",
        "bytes": "BLOB",
        "empty": "VARCHAR",
        "nothing": "VARCHAR",
    }
    moment = datetime.datetime(2024, 1, 1, 8, tzinfo=datetime.UTC)
    day = datetime.date(2024, 1, 1)
    assert rows(project) == [(1, 18446744073709551615, Decimal("1.10"), moment, day, {"a": [1, 2]}, b"\xaa", "", None)]


def test_schema_table_and_metadata_columns_have_the_names_that_are_set(make_project: MakeProject) -> None:
    source = {"schema": "Lake", "metadata": {"load_id": "_load", "loaded_at": "_at", "file": "_path"}}
    project = make_project(files_yml(source=source, table="All Orders"), {"data/t.csv": "id\n1\n"})
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)

    stream = load(project)

    assert str(stream.table) == "Lake.All Orders"
    ((id, load_id, at, path),) = raw(project, 'SELECT id, _load, _at, _path FROM "Lake"."All Orders"')
    assert (id, load_id, path) == (1, 1, "data/t.csv")
    assert before <= at <= datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def test_snake_case_changes_tables_and_columns_and_keep_changes_nothing(make_project: MakeProject) -> None:
    spec = """
sources:
  s: {kind: files, naming: %s, streams: {OrderLines: data/t.csv}}
"""
    project = make_project(spec % "snake_case", {"data/t.csv": "Order ID,unitPrice,HTTPCode\n1,2,3\n"})

    assert str(load(project).table) == "raw_s.order_lines"
    assert list(types(project, "raw_s.order_lines")) == ["order_id", "unit_price", "http_code"]

    assert str(load(reopen(project, spec % "keep")).table) == "raw_s.OrderLines"
    assert list(types(project, 'raw_s."OrderLines"')) == ["Order ID", "unitPrice", "HTTPCode"]


def test_a_path_outside_the_project_is_read(make_project: MakeProject, tmp_path: Path) -> None:
    write(tmp_path, {"elsewhere/t.csv": "id\n1\n"})
    project = make_project(files_yml(str(tmp_path / "elsewhere/*.csv")))

    load(project)

    assert rows(project) == [(1,)]


STRANGE = ["first name", 'say "hi"', "ünïcödé ✓", "select", "100%", "{{ x }}", "it's", "a;b--", "a.b", "$x", "日本"]


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_columns_may_have_any_name(make_project: MakeProject, mode: str, suffix: str) -> None:
    options: dict[str, Any] = {"mode": mode, "key": STRANGE[:2]} if mode == "merge" else {"mode": mode}
    project = make_project(files_yml(f"data/t.{suffix}", **options))

    def put(offset: int) -> None:
        values = {name: index + offset for index, name in enumerate(STRANGE)}
        header = ",".join('"' + name.replace('"', '""') + '"' for name in values)
        line = ",".join(str(value) for value in values.values())
        content = f"{header}\n{line}\n" if suffix == "csv" else json.dumps(values) + "\n"
        write(project.config.root, {f"data/t.{suffix}": content})

    put(0)
    load(project)
    assert types(project) == dict.fromkeys(STRANGE, "BIGINT")
    put(100)
    load(project)
    expected = [tuple(index + 100 for index in range(len(STRANGE)))]
    if mode == "merge":
        expected.insert(0, tuple(range(len(STRANGE))))
    assert rows(project) == expected


def test_strange_names_reach_the_release(make_project: MakeProject) -> None:
    header = ",".join('"' + name.replace('"', '""') + '"' for name in STRANGE)
    values = ",".join(str(index) for index in range(len(STRANGE)))
    spec = """
sources:
  s: {kind: files, streams: {t: data/t.csv, 'odd table %': data/t.csv}}
"""
    models = {
        "marts/m": "SELECT * FROM {{ source('s', 't') }}",
        "marts/n": "SELECT * FROM {{ source('s', 'odd table %') }}",
    }
    project = make_project(spec, {"data/t.csv": f"{header}\n{values}\n"}, models)

    result = project.run()

    assert result.status == "ok", result
    assert [stream.ref for stream in result.streams] == [StreamRef("s", "t"), StreamRef("s", "odd table %")]
    wanted = ", ".join('"' + name.replace('"', '""') + '"' for name in STRANGE)
    assert released(project, f"SELECT {wanted} FROM m") == [tuple(range(len(STRANGE)))]
    assert released(project, f"SELECT {wanted} FROM n") == [tuple(range(len(STRANGE)))]


def test_files_may_spell_a_key_differently(make_project: MakeProject) -> None:
    files = {"data/1.ndjson": '{"id": 1}\n', "data/2.ndjson": '{"Id": 2}\n{"Id": 3}\n', "data/3.ndjson": '{"id": 4}\n'}
    project = make_project(files_yml("data/*.ndjson"), files)

    assert load(project).rows == 4

    assert types(project) == {"id": "BIGINT"}
    assert rows(project) == [(1,), (2,), (3,), (4,)]


def test_two_thousand_columns_are_a_table(make_project: MakeProject) -> None:
    names = [f"column_{index}" for index in range(2000)]
    values = [str(index) if index % 2 else f"text {index}" for index in range(2000)]
    content = f"{','.join(names)}\n{','.join(values)}\n"
    project = make_project(files_yml(), {"data/t.csv": content})

    load(project)
    write(project.config.root, {"data/t.csv": content})
    load(project)

    assert types(project) == {name: "BIGINT" if index % 2 else "VARCHAR" for index, name in enumerate(names)}
    ((first, last),) = raw(project, "SELECT column_0, column_1999 FROM raw_s.t")
    assert (first, last) == ("text 0", 1999)


@pytest.mark.parametrize(
    ("options", "content", "expected"),
    [
        ({"quote": "'"}, "id,x\n1,'a,b'\n2,it''s\n3,'it''s'\n", [(1, "a,b"), (2, "it''s"), (3, "it's")]),
        ({"escape": "\\"}, 'id,x\n1,"a \\"b\\", c"\n2,"d\\\\"\n', [(1, 'a "b", c'), (2, "d\\")]),
        ({"quote": ""}, 'id,x\n1,"a\n2,b"c"\n', [(1, '"a'), (2, 'b"c"')]),
    ],
)
def test_other_quotes(
    make_project: MakeProject, options: dict[str, Any], content: str, expected: list[tuple[int, str]]
) -> None:
    project = make_project(files_yml(on_bad_row="quarantine", **options), {"data/t.csv": content + "4\n"})

    stream = load(project)

    assert (stream.rows, stream.rejected) == (len(expected), 1)
    assert rows(project) == expected


def test_the_delimiter_that_was_found_is_kept(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "id;x\n1;a,b\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "id;x,y,z\n2;c\n"})

    load(project)

    assert raw(project, 'SELECT id, x, "x,y,z" FROM raw_s.t ORDER BY id') == [(1, "a,b", None), (2, None, "c")]


def test_thousands_of_small_files_need_little_memory(make_project: MakeProject) -> None:
    """DuckDB keeps a batch of rows for each file of an ordered insert, 65 kB a file with these columns."""
    names = ",".join(f"c{number}" for number in range(10))
    files: dict[str, str | bytes] = {
        f"data/{number:05}.csv": f"{names}\n{','.join('1' for _ in range(10))}\n" for number in range(1_200)
    }
    project = make_project("resources: {memory: 430MB}\n" + files_yml("data/*.csv"), files)

    assert load(project).rows == 1_200
