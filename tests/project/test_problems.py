"""Bad project files: every problem at once, at its place, in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from project.helpers import lines, load, problems

MANY = """\
nam: x
warehouse: postgres
sources:
  1a: {kind: files, streams: {a: b}}
  b: {kind: fils}
  shop:
    kind: sql
    url: ${NOPE}
    streams:
      a: {mode: append}
      b: {mode: merge, cursro: x}
  j: {streams: []}
  k:
release: {keep: 0, slect: x}
resources:
  memory: 300MB
  threads: abc
resources: {}
"""


def test_all_at_once(tmp_path: Path) -> None:
    assert lines(problems(tmp_path, MANY, dotenv="fine=1\nnot a line\n")) == [
        "smoll.yml:1:1: the key 'name' is missing",
        "smoll.yml:1:1: unknown key 'nam' (did you mean 'name'?)",
        "smoll.yml:2:12: expected 'duckdb', got 'postgres'",
        "smoll.yml:4:3: a source cannot be named '1a' (letters, digits and _; the first a letter)",
        "smoll.yml:5:6: unknown kind 'fils' (did you mean 'files'?)",
        "smoll.yml:8:10: the environment variable NOPE is not set",
        "smoll.yml:10:7: mode append needs a cursor (cursor: a column whose value only grows)",
        "smoll.yml:11:24: unknown key 'cursro' (did you mean 'cursor'?)",
        "smoll.yml:12:6: the key 'kind' is missing (one of airbyte, dlt, files, rest, singer, sql)",
        "smoll.yml:13:3: expected a mapping (key: value), got nothing",
        "smoll.yml:14:17: must be at least 1, got '0'",
        "smoll.yml:14:20: unknown key 'slect' (did you mean 'select'?)",
        "smoll.yml:16:11: memory must be at least 400MB (Python and dbt alone take about 200 MB)",
        "smoll.yml:17:12: expected a whole number, got 'abc'",
        "smoll.yml:18:1: duplicate key 'resources' (first on line 15)",
        ".env:2:1: not a line of the form KEY=VALUE",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing\n", "1:1: the file is empty"),
        ("~", "1:1: the file is empty"),
        ('sources: {a: {url: "x\\ud800://"}}', "1:1: the key 'name' is missing"),
        ("42", "1:1: expected a mapping (key: value), got '42'"),
        ("- a", "1:1: expected a mapping (key: value), got a list"),
        ("name: x\n\ttransform: y", "2:1: not valid YAML: a tab cannot indent (indent with spaces)"),
        ("name: x\n  transform: y", "2:12: not valid YAML: unexpected ':'"),
        ("name: x\nsources:\n  a: {*: {}}", "3:7: not valid YAML: an unquoted * stands for an alias"),
        ("name: *x", "1:7: not valid YAML: an unquoted * stands for an alias"),
        ("name: {a: ${X}}", "1:12: not valid YAML: expected ',' or '}', but got '{' (inside {...} and"),
        ("name: x\nx: 'y", "2:6: not valid YAML"),
        ("name: \x01", "1:7: not valid YAML: a control character"),
        (b"name: x\ntransform: \xc3\xa9\xff", "2:13: not UTF-8 text"),
        ("name: x".encode("utf-16"), "1:1: not UTF-8 text"),
        ("[" * 20_000, "1:1: the values are nested too deeply"),
        ("name: x\ntransform: &a [*a]", "2:12: this value contains itself"),
        ("name: !py x", "1:7: YAML tags (!name) are not supported"),
        ("name: x\n<<: {transform: y}", "2:1: merge keys (<<) are not supported"),
        ("? [name]\n: x\n? name\n: y", "1:3: a key must be text"),
        ('name: "x\\0"', "1:7: an escape that stands for no usable character"),
        ("name: a\n--- \nname: b", "2:1: not valid YAML: but found another document"),
        ("name: x\ntransform: a ${ b", "2:12: ${ without a variable's name and }"),
        ("name: x\ntransform: ${a-b}", "2:12: ${ without a variable's name and }"),
        ("name:", "1:1: the key 'name' is missing"),
        ("name: ../x", "1:7: a project cannot be named '../x'"),
        ("name: [a]", "1:7: expected text, got a list"),
        ("name: x\ntransform: ''", "2:12: expected text, got nothing"),
        ("name: x\nsources: a", "2:10: expected a mapping (key: value), got 'a'"),
        ("name: x\nwarehouse: {kind: duckdb, path: x}", "2:12: expected 'duckdb', got a mapping"),
        ("name: x\nrelease: {keep: true}", "2:17: expected a whole number, got 'true'"),
        ("name: x\nrelease: {keep: 1.5}", "2:17: expected a whole number, got '1.5'"),
        ("name: x\nresources: {memory: 1000000000}", "2:21: expected an amount of memory, got '1000000000'"),
        ("name: x\nresources: {memory: 1G}", "2:21: expected an amount of memory, got '1G'"),
        ("name: x\nresources: {threads: 0}", "2:22: must be at least 1, got '0'"),
    ],
)  # fmt: skip
def test_file(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert lines(problems(tmp_path, text))[0].startswith(f"smoll.yml:{expected}")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("{}", "the key 'path' is missing"),
        ("", "expected a mapping (key: value), got nothing"),
        ("{path: []}", "expected a path, got an empty list"),
        ("{path: ''}", "a path cannot be empty"),
        ("{path: a, null_values: []}", "expected a text, got an empty list"),
        ("ftp://host/x", "ftp:// cannot be read (known are http://, https://, s3://, gs://, az://"),
        ("{path: a, mode: merge}", "mode merge needs a key"),
        ("{path: a, key: b}", "key is not used with mode replace"),
        ("{path: a, mode: append, cursor: b}", "cursor is not used with mode append of files"),
        ("{path: a, mode: upsert}", "expected 'replace', 'append', 'merge' or 'scd2', got 'upsert'"),
        ("{path: a, mode: apend}", "(did you mean 'append'?)"),
        ("{path: a, format: xls}", "expected 'csv', 'tsv', 'json', 'ndjson', 'parquet' or 'excel', got 'xls'"),
        ("{path: a, format: json, delimiter: ;}", "delimiter is for csv and tsv files"),
        ("{path: a, format: json, header: true}", "header is for csv and tsv files"),
        ("{path: a, format: parquet, encoding: utf-8}", "encoding is for csv and tsv files"),
        ("{path: a, format: parquet, null_values: x}", "null_values is for csv and tsv files"),
        ("{path: a, delimiter: ;;}", "the delimiter must be one character, got ';;'"),
        ("{path: a, delimiter: \\t}", 'a tab is "\\t", in double quotes'),
        ("{path: a, header: yes}", "expected true or false, got 'yes'"),
        ("{path: a, table: ' '}", "a name cannot be empty"),
        ('{path: a, table: "a\\n"}', "a name cannot hold control characters"),
        ("{path: a, columns: [x]}", "expected a mapping (key: value), got a list"),
        ("{path: a, columns: {x: }}", "expected text, got nothing"),
        ("{path: a, where: x}", "unknown key 'where'"),
        ("{path: a, mode: merge, key: b, daily_from: 2024-01-01}", "daily_from is for URLs with {cursor}"),
        (
            "{path: 'http://h/?{cursor}', start: 0, cursor: b, mode: append, daily_from: 2024-01-01}",
            "daily_from needs a cursor of dates or times, and 0 is a number",
        ),
    ],
)
def test_file_stream(tmp_path: Path, stream: str, expected: str) -> None:
    text = f"name: x\nsources:\n  a:\n    kind: files\n    streams:\n      s: {stream}\n"
    found = problems(tmp_path, text)
    assert len(found) == 1 and found[0].line == 6
    assert expected in str(found[0])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("streams: [a]", "the key 'url' is missing"),
        ("url: oracle://h/d, streams: [a]", "databases of kind 'oracle' cannot be read (postgresql://"),
        ("url: hidden thing, streams: [a]", "this URL cannot be read"),
        ("url: 'sqlite://a.db', streams: [a]", "three slashes"),
        ("url: 'postgres://h:port/d', streams: [a]", "broken host or port"),
        ("url: 'sqlite:///a.db', streams: [a], source_schema: b", "source_schema is for Postgres"),
        ("url: 'sqlite:///a.db', streams: [a, b, a]", "a stream is named twice: a"),
        ("url: 'sqlite:///a.db', streams: [{a: b}]", "a list of streams holds names only"),
        ("url: 'sqlite:///a.db', streams: []", "streams cannot be empty"),
        ("url: 'sqlite:///a.db', streams: {a: {mode: append}}", "mode append needs a cursor"),
        ("url: 'sqlite:///a.db', streams: {a: {cursor: b}}", "cursor is not used with mode replace"),
        ("url: 'sqlite:///a.db', streams: {a: {mode: merge, query: SELECT 1}}", "mode merge of a query needs a key"),
        ("url: 'sqlite:///a.db', streams: {a: {mode: append, cursor: b, daily_from: 2024-1-1}}", "expected a day, got"),
        ("url: 'sqlite:///a.db', streams: {a: {mode: append, cursor: b, daily_from: 2023-02-29}}", "expected a day"),
        ("url: 'sqlite:///a.db', streams: {a: {mode: merge, daily_from: 2024-01-01}}", "daily_from needs a cursor"),
        (
            "url: 'sqlite:///a.db', streams: {a: {mode: scd2, key: b, cursor: c, daily_from: 2024-01-01}}",
            "daily_from is not used with mode scd2",
        ),
        ("url: 'sqlite:///a.db', streams: {a: {daily_from: 2024-01-01}}", "daily_from is not used with mode replace"),
        ("url: 'sqlite:///a.db', streams: {'*': {table: b}}", 'table cannot be set for "*"'),
        ("url: 'sqlite:///a.db', streams: [a], schema: PG_catalog", "the schema 'PG_catalog' is taken"),
        ("url: 'sqlite:///a.db', streams: [a], schema: ''", "a name cannot be empty"),
        (
            "url: 'sqlite:///a.db', streams: [a], metadata: {file: _SMOLL_load_id}",
            "file and load_id have the same name",
        ),
    ],
)
def test_sql_source(tmp_path: Path, spec: str, expected: str) -> None:
    found = problems(tmp_path, f"name: x\nsources:\n  a: {{kind: sql, {spec}}}\n")
    assert len(found) == 1 and found[0].line == 3
    assert expected in str(found[0])


def test_a_problem_of_a_section_stands_at_its_key(tmp_path: Path) -> None:
    text = """\
name: x
sources:
  a:
    kind: sql
    url: sqlite:///a.db
    streams:
      t:
        mode: merge
        key: id
        daily_from: 2024-01-01
"""
    assert lines(problems(tmp_path, text)) == [
        "smoll.yml:10:21: daily_from needs a cursor (cursor: a column of dates or times)"
    ]


def test_star_is_for_databases(tmp_path: Path) -> None:
    found = problems(tmp_path, 'name: x\nsources: {a: {kind: files, streams: {"*": a.csv}}}')
    assert "is for databases" in found[0].message


def test_two_streams_into_one_table(tmp_path: Path) -> None:
    text = """\
name: x
nam: y
sources:
  a:
    kind: files
    schema: raw_B
    streams:
      Orders: a.csv
      items: {path: b.csv, table: Things}
      things: c.csv
  b: {kind: sql, url: "sqlite:///x.db", streams: [orders, "*"]}
"""
    remedy = " (set `table` or `schema` of one of them)"
    assert lines(problems(tmp_path, text)) == [
        "smoll.yml:2:1: unknown key 'nam' (did you mean 'name'?)",
        f"smoll.yml:10:7: loads into raw_B.things, and so does a.items on line 9{remedy}",
        f"smoll.yml:11:41: loads into raw_b.orders, and so does a.Orders on line 8{remedy}",
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert ".env:1:1: cannot be read: Is a directory" in lines(problems(tmp_path, "name: x"))
    (tmp_path / ".env").rmdir()
    assert lines(problems(tmp_path, "name: x", dotenv=b"A=1\nB=\xff")) == [
        ".env:2:3: not UTF-8 text (save the file as UTF-8)"
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b c", "b c"),
        ("  export  A = b # note", "b"),
        ("A=b#c", "b#c"),
        ("A=# note", ""),
        ("A=", ""),
        ("A='b # \\n' # note", "b # \\n"),
        ('A="b \\"c\\" \\n\\\\ #" ', 'b "c" \n\\ #'),
        ("A=b=c", "b=c"),
        ("A=${B}", "${B}"),
        ("A=it's", "it's"),
    ],
)
def test_dotenv(tmp_path: Path, line: str, value: str) -> None:
    assert load(tmp_path, "name: x", dotenv=f"# note\n\n{line}\n").dotenv == {"A": value}


@pytest.mark.parametrize(
    "line",
    [
        "hunter22",
        "1A=hunter22",
        "A B=hunter22",
        "A='hunter22",
        'A="hunter22"x',
        "A: hunter22",
        "A=hunter22\0",
    ],
)
def test_bad_dotenv(tmp_path: Path, line: str) -> None:
    found = problems(tmp_path, "name: x", dotenv=f"OK=1\n{line}\n")
    assert [(each.file, each.line) for each in found] == [(".env", 2)]
    assert "hunter22" not in str(found)


def test_billion_laughs(tmp_path: Path) -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    text = "a0: &a0 [x]\n" + "\n".join(levels)
    assert any("more than 100000 values" in each for each in lines(problems(tmp_path, text)))


def test_long_values_are_cut(tmp_path: Path) -> None:
    found = problems(tmp_path, "name: '" + "?" * 10_000 + "'")
    assert len(found[0].message) <= 300
