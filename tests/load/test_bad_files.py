"""Files that are wrong: a message that names stream, file and line, the table as before, and the next run sound."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from smoll.events import Event, StreamFinished, StreamStarted
from support import MakeProject, age, dump, files_yml, load, only_stream, parquet, refused, reopen, rows, types, write

BAD_CSV: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "empty": ("", ("data/t.csv is empty", "0 bytes")),
    "blank lines": ("\n\n\n", ("data/t.csv holds only blank lines",)),
    "a blank first line": ("\na,b\n1,x\n", ("data/t.csv begins with a blank line", "Remove the line")),
    "too many values": (
        "a,b\n1,x\n2,y,z\n",
        ("data/t.csv, line 3", "expected 2 values, found 3", "2,y,z", "delimiter"),
    ),
    "too few values": ("a,b\n1,x\n2\n", ("data/t.csv, line 3", "expected 2 values, found 1")),
    "open quote": ('a,b\n1,x\n2,"y\n3,z\n', ("data/t.csv, line 3", "quote is not closed", "Mend the line")),
    "text after a quote": ('a,b\n1,x\n2,"y"z\n', ("data/t.csv, line 3", "quote", "Mend the line")),
    "latin-1": (b"a,b\n1,x\n2,caf\xe9\n", ("data/t.csv, line 3", "not utf-8", "encoding: latin-1")),
    "latin-1 header": (b"a,caf\xe9\n1,x\n", ("data/t.csv, line 1", "not utf-8", "encoding: latin-1")),
    "one name twice": ("a,a\n1,2\n", ("data/t.csv has two columns named 'a'", "Rename")),
    "names differ by case": ("a,A\n1,2\n", ("data/t.csv has the columns 'a' and 'A'", "Rename")),
    "a name of smoll's": ("a,_SMOLL_FILE\n1,2\n", ("'_SMOLL_FILE'", "a column that smoll adds", "`metadata`")),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_bad_csv_is_refused_with_its_place(make_project: MakeProject, case: str) -> None:
    content, parts = BAD_CSV[case]
    project = make_project(files_yml(mode="append"), {"data/t.csv": "a,b\n0,good\n"})
    load(project)
    write(project.config.root, {"data/t.csv": content})

    refused(project, "s.t", *parts)

    write(project.config.root, {"data/t.csv": "a,b\n1,mended\n"})
    load(reopen(project))
    assert rows(project) == [(1, "mended")]


@pytest.mark.parametrize("line", [2, 2_049, 30_000])
@pytest.mark.parametrize("bad", ["1", '1,"x', "1,x,y"])
def test_a_bad_line_is_found_wherever_it_stands(make_project: MakeProject, bad: str, line: int) -> None:
    lines = ["a,b", *("1,x" for _ in range(30_000))]
    lines[line - 1] = bad
    project = make_project(files_yml(), {"data/t.csv": "\n".join(lines) + "\n"})

    refused(project, f"s.t: data/t.csv, line {line}:")

    assert dump(project) is None


@pytest.mark.skipif(sys.platform == "darwin", reason="the file system takes no such name")
def test_a_file_name_that_is_not_utf_8_is_refused(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv"), {"data/t.csv": "a\n1\n"})
    (project.config.root / os.fsdecode(b"data/caf\xe9.csv")).write_text("a\n1\n", encoding="utf-8")

    refused(project, "s.t", r"the name data/caf\xe9.csv is not UTF-8", "Rename")


def test_of_many_files_the_bad_one_is_named(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {f"data/{number}.csv": "a,b\n1,x\n" for number in range(5)}
    project = make_project(files_yml("data/*.csv", mode="append"), {**files, "data/3.csv": "a,b\n1,x\n1,x,y\n"})

    error = refused(project, "s.t: data/3.csv, line 3")

    assert "data/1.csv" not in error


def test_of_many_json_files_the_bad_one_is_named(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {f"data/{number}.ndjson": '{"a": 1}\n' for number in range(5)}
    project = make_project(files_yml("data/*.ndjson"), {**files, "data/3.ndjson": '{"a": 1}\n{"a"}\n'})

    refused(project, "s.t: data/3.ndjson, line 2: malformed JSON")


def test_columns_that_snake_case_makes_one_are_refused(make_project: MakeProject) -> None:
    project = make_project(files_yml(source={"naming": "snake_case"}), {"data/t.csv": "Order ID,order_id\n1,2\n"})

    refused(project, "s.t", "'order_id'", "'Order ID'", "Rename")


def test_a_wrong_delimiter_is_told(make_project: MakeProject) -> None:
    project = make_project(files_yml(delimiter=";"), {"data/t.csv": "a,b\n1,x\n"})

    refused(project, "s.t: data/t.csv", "only one column", "';'", "delimiter: ','")


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("data/none.csv", ("There is no file data/none.csv", "`path`")),
        ("data/*.tsv", ("No file matches data/*.tsv", "`path`")),
        ("data", ("data is a folder", "data/*.csv")),
        (f"data/{'x' * 400}.csv", ("cannot be looked at: File name too long", "`path`")),
        (f"data/{'x' * 400}/*.csv", ("cannot be looked at: File name too long", "`path`")),
    ],
)
def test_a_path_that_leads_nowhere_is_named(make_project: MakeProject, path: str, parts: tuple[str, ...]) -> None:
    project = make_project(files_yml(path), {"data/t.csv": "a\n1\n"})

    refused(project, "s.t", *parts)


def test_a_file_that_vanished_leaves_the_table(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a\n1\n"})
    load(project)
    (project.config.root / "data/t.csv").unlink()

    refused(project, "There is no file data/t.csv")

    write(project.config.root, {"data/t.csv": "a\n2\n"})
    load(project)
    assert rows(project) == [(2,)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_named(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a\n1\n"})
    (project.config.root / "data/t.csv").chmod(0)

    refused(project, "data/t.csv")


def test_a_broken_archive_is_named(make_project: MakeProject) -> None:
    whole = gzip.compress(("a,b\n" + "1,x\n" * 100_000).encode())
    project = make_project(files_yml("data/t.csv.gz"), {"data/t.csv.gz": whole})
    assert load(project).rows == 100_000
    for broken in (b"no gzip at all", whole[: len(whole) // 2]):
        write(project.config.root, {"data/t.csv.gz": broken})
        refused(project, "s.t", "data/t.csv.gz")


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_bad_file_keeps_the_good_ones_of_the_same_run_out_until_it_is_mended(
    make_project: MakeProject, mode: str
) -> None:
    options = {"mode": mode, "key": "a"} if mode == "merge" else {"mode": mode}
    project = make_project(files_yml("data/*.csv", None, **options), {"data/1.csv": "a,b\n1,x\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "a,b\n2,y\n", "data/3.csv": "a,b\n3,z,extra\n"})

    refused(project, "data/3.csv, line 2")

    write(project.config.root, {"data/3.csv": "a,b\n3,z\n"})
    load(project)
    assert rows(project) == [(1, "x"), (2, "y"), (3, "z")]


BAD_JSON: dict[str, tuple[str, tuple[str, ...]]] = {
    "cut off": ('{"a": 1}\n{"a": \n', ("data/t.ndjson, line 2: malformed JSON", "Mend")),
    "no JSON": ("a,b\n1,2\n", ("data/t.ndjson, line 1: malformed JSON", "Mend")),
    "a number among objects": ('{"a": 1}\n5\n', ("data/t.ndjson", "object")),
    "lists": ("[1, 2]\n", ("data/t.ndjson", "object")),
    "one key twice": ('{"a": 1, "a": 2}\n', ("data/t.ndjson", "line 1", 'duplicate key "a"')),
    "keys differ by case": ('{"a": 1, "A": 2}\n', ("data/t.ndjson", "'a'", "'A'", "Rename")),
    "keys differ by case between records": ('{"a": 1}\n{"A": 2}\n', ("data/t.ndjson", "'a'", "'A'", "Rename")),
    "a key of smoll's": ('{"_smoll_file": 1}\n', ("'_smoll_file'", "a column that smoll adds")),
    "objects without keys": ("{}\n{}\n", ("data/t.ndjson", "keys")),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_refused(make_project: MakeProject, case: str) -> None:
    content, parts = BAD_JSON[case]
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": '{"a": 0}\n'})
    load(project)
    write(project.config.root, {"data/t.ndjson": content})

    refused(project, "s.t: ", *parts)

    write(project.config.root, {"data/t.ndjson": '{"a": 1}\n'})
    load(project)
    assert rows(project) == [(1,)]


@pytest.mark.parametrize("key", ["$x", "a.b", 'a"b', "a b", "$.a", "*", "$", "a'b", "/a", "a[0]", "\\", "\t", "é"])
def test_a_json_key_may_be_anything(make_project: MakeProject, key: str) -> None:
    records = [{"a": 7, key: 1}, {"a": 8, key: None}]
    content = "".join(json.dumps(record) + "\n" for record in records)
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": content})

    load(project)

    assert types(project) == {"a": "BIGINT", key: "BIGINT"}
    assert rows(project) == [(7, 1), (8, None)]


def test_a_parquet_file_that_is_none_is_named(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/t.parquet"))
    path = project.config.root / "data/t.parquet"
    parquet("SELECT i AS a FROM range(100000) r(i)", path)
    assert load(project).rows == 100_000
    whole = path.read_bytes()
    for broken in (b"a,b\n1,2\n", whole[: len(whole) // 2], whole[:1000] + b"\0" * 3000 + whole[4000:]):
        path.write_bytes(broken)
        age(path)
        refused(project, "s.t", "data/t.parquet")
    path.write_bytes(whole)
    age(path)
    assert load(project).rows == 100_000


def test_a_file_that_changes_while_it_is_read_is_not_loaded(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a\n" + "1\n" * 200_000})
    load(project)
    before = dump(project)
    write(project.config.root, {"data/t.csv": "a\n" + "2\n" * 200_000})

    with Toucher(project.config.root / "data/t.csv") as toucher:
        result = project.run(on_event=toucher)

    stream = only_stream(result)
    assert stream.status == "failed"
    assert "data/t.csv changed while it was read" in stream.error
    assert dump(project) == before
    load(project)
    assert rows(project) == [(2,)] * 200_000


class Toucher:
    """Changes the time of a file without rest while its stream is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._touch)

    def __enter__(self) -> Toucher:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def __call__(self, event: Event) -> None:
        if isinstance(event, StreamStarted):
            self._thread.start()
        if isinstance(event, StreamFinished):
            self._done.set()

    def _touch(self) -> None:
        while not self._done.is_set():
            age(self._path)
