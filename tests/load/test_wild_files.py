"""Files as they come from Excel, mainframes, e-mail and other people's scripts: what becomes of each is written here.

Under ``on_bad_row: fail`` a file with a bad record is refused with file and line, and the table stays as it was.
Under ``quarantine`` the good records are loaded, and each bad one is in ``t__rejected`` with its line and its text.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from backports import zstd

from support import MakeProject, files_yml, load, raw, refused, reopen, rows, types, write

pytestmark = pytest.mark.connectors


@dataclass(frozen=True)
class Wild:
    """A file, the rows that are loaded of it, and its bad records: line, a word of the reason, and raw text."""

    content: str | bytes
    rows: list[Any]
    bad: tuple[tuple[int, str, str], ...] = ()
    names: tuple[str, ...] = ("id", "name")
    options: dict[str, Any] = field(default_factory=dict)


GOOD = [(1, "x"), (2, "y")]
COUNT, QUOTE, UTF8 = "value", "quote", "utf-8"
MANY_LINES = ("x" * 39 + "\n") * 250_000
LATIN, WIDE = {"encoding": "latin-1"}, {"encoding": "utf-16"}
CASES: dict[str, Wild] = {
    # Encodings
    "utf-8 with BOM": Wild("\ufeffid,name\n1,x\n2,y\n", GOOD),
    "BOM before a quote": Wild('\ufeff"id","name"\n1,x\n2,y\n', GOOD),
    "BOM inside": Wild("id,name\n1,\ufeffx\n", [(1, "\ufeffx")]),
    "latin-1": Wild("id,name\n1,café\n".encode("latin-1"), [(1, "café")], options=LATIN),
    "utf-16, low byte first": Wild("\ufeffid,name\n1,日本😀\n".encode("utf-16-le"), [(1, "日本😀")], options=WIDE),
    "utf-16, high byte first": Wild("\ufeffid,name\n1,日本😀\n".encode("utf-16-be"), [(1, "日本😀")], options=WIDE),
    "bytes that are no utf-8": Wild(b"id,name\n1,x\n2,y\n3,\xff\xfe\n", GOOD, ((4, UTF8, r"3,\xff\xfe"),)),
    "a character cut at the end": Wild(b"id,name\n1,x\n2,y\n3,\xe2\x82", GOOD, ((4, UTF8, r"3,\xe2\x82"),)),
    "an encoded surrogate": Wild(b"id,name\n1,x\n3,\xed\xa0\x80\n2,y\n", GOOD, ((3, UTF8, r"3,\xed\xa0\x80"),)),
    "other line separators are text": Wild(
        "id,name\n1,a\u2028b\x85c\x0bd\x0ce\x1cf\n", [(1, "a\u2028b\x85c\x0bd\x0ce\x1cf")]
    ),
    # Line ends
    "\\r\\n": Wild("id,name\r\n1,x\r\n2,y\r\n", GOOD),
    "\\r": Wild("id,name\r1,x\r2,y\r", GOOD),
    "\\r\\n, then \\n": Wild("id,name\r\n1,x\n2,y\n", GOOD),
    "\\n, then \\r\\n": Wild("id,name\n1,x\r\n2,y\r\n", GOOD),
    "\\n and \\r\\n in turns": Wild("id,name\n1,x\r\n2,y\n3,z\r\n", [*GOOD, (3, "z")]),
    "all three": Wild("id,name\r\n1,x\r2,y\n", GOOD),
    "all three in quotes": Wild('id,name\n1,"a\rb"\n2,"c\r\nd"\n3,"e\nf"\n', [(1, "a\rb"), (2, "c\r\nd"), (3, "e\nf")]),
    "\\n in quotes among \\r\\n": Wild('id,name\r\n1,"a\nb"\r\n2,"c\rd"\r\n', [(1, "a\nb"), (2, "c\rd")]),
    "none at the end": Wild("id,name\n1,x\n2,y", GOOD),
    "none at the end, after an empty value": Wild("id,name\n1,x\n2,", [(1, "x"), (2, None)]),
    "none at the end, after quotes": Wild('id,name\n1,x\n2,"y"', GOOD),
    "blank lines": Wild("id,name\n1,x\n\n\n2,y\n\n", GOOD),
    "blank lines of \\r\\n": Wild("id,name\r\n1,x\r\n\r\n2,y\r\n\r\n", GOOD),
    "a line of blanks": Wild("id,name\n1,x\n  \n2,y\n", GOOD, ((3, COUNT, "  "),)),
    "Ctrl-Z at the end": Wild(b"id,name\n1,x\n2,y\n\x1a", GOOD, ((4, COUNT, "\x1a"),)),
    # Columns
    "header only": Wild("id,name\n", []),
    "header only, no line end": Wild("id,name", []),
    "too many values": Wild("id,name\n1,x\n3,y,z\n2,y\n", GOOD, ((3, COUNT, "3,y,z"),)),
    "too few values": Wild("id,name\n1,x\n3\n2,y\n", GOOD, ((3, COUNT, "3"),)),
    "ragged in both ways": Wild(
        "id,name\n3\n1,x\n4,a,b\n2,y\n5,,,\n",
        GOOD,
        ((2, COUNT, "3"), (4, COUNT, "4,a,b"), (6, COUNT, "5,,,")),
    ),
    "a delimiter at the end of each line": Wild("id,name,\n1,x,\n2,y,\n", [(1, "x", None), (2, "y", None)],
                                                names=("id", "name", "column2")),
    "a delimiter at the end of each row": Wild("id,name\n1,x,\n2,y,\n", GOOD),
    "blanks around names": Wild(" id , name \n1,x\n2,y\n", GOOD),
    "a name of two lines": Wild('id,"first\nname"\n1,x\n2,y\n', GOOD, names=("id", "first\nname")),
    "a name of two lines of \\r\\n": Wild('id,"first\r\nname"\r\n1,x\r\n3\r\n2,y\r\n', GOOD, ((4, COUNT, "3"),),
                                         names=("id", "first\r\nname")),
    "delimiters in a quoted name": Wild('id,"a;b;c;d"\n1,x\n2,y\n', GOOD, names=("id", "a;b;c;d")),
    "a column without a name": Wild("id,,name\n1,2,x\n", [(1, 2, "x")], names=("id", "column1", "name")),
    "one column": Wild("name\nx\ny\n", [("x",), ("y",)], names=("name",)),
    "one column, with NULL and an empty text": Wild('name\nx\n\n""\n', [("",), ("x",), (None,)], names=("name",)),
    "Excel's sep=": Wild("sep=;\nid;name\n1;x\n2;y\n", GOOD),
    "Excel's sep= of \\r\\n": Wild("\ufeffsep=;\r\nid;name\r\n1;x\r\n3\r\n2;y\r\n", GOOD, ((4, COUNT, "3"),)),
    # Quotes
    "quotes in quotes": Wild('id,name\n1,"say ""hi"""\n2,""""\n', [(1, 'say "hi"'), (2, '"')]),
    "a quote inside a plain value": Wild('id,name\n1,5" pipe\n2,a"b"\n', [(1, '5" pipe'), (2, 'a"b"')]),
    "a quote inside a plain value after a value of two lines": Wild(
        'id,name,x\n1,"a\nb",c"d\n3\n2,"e\nf",\n', [(1, "a\nb", 'c"d'), (2, "e\nf", None)], ((4, COUNT, "3"),),
        names=("id", "name", "x"),
    ),
    "blanks around quotes": Wild('id,name\n1, "a,b"\n2,"c"  \n 3 , d \n', [("1", "a,b"), ("2", "c"), (" 3 ", " d ")]),
    "delimiters in quotes": Wild('id,name\n1,"a,b;c|d\te"\n', [(1, "a,b;c|d\te")]),
    "everything in quotes": Wild('"id","name"\r\n"1","x"\r\n"2","y"\r\n', GOOD),
    "backslashes do not escape": Wild('id,name\n1,x\n3,"a \\"b\\" c"\n2,y\n', GOOD, ((3, QUOTE, '3,"a \\"b\\" c"'),)),
    "text after a quote": Wild('id,name\n1,x\n3,"a"b\n2,y\n', GOOD, ((3, QUOTE, '3,"a"b'),)),
    "a quote open at the end": Wild('id,name\n1,x\n2,y\n3,"z\n', GOOD, ((4, QUOTE, '3,"z'),)),
    "a quote open in the middle": Wild(
        'id,name\n1,x\n3,"z\n2,y\n4,"w"\n', [*GOOD, (4, "w")], ((3, QUOTE, '3,"z'),)
    ),
    "NUL": Wild(b"id,name\n1,a\0b\n", [(1, "a\0b")]),
    # Long ones
    "a line of 5 MB": Wild("id,name\n1," + "x" * 5_000_000 + "\n2,y\n", [(1, "x" * 5_000_000), (2, "y")]),
    "a value of 10 MB with line ends": Wild(
        'id,name\n1,"' + MANY_LINES + '"\n2,y\n3\n', [(1, MANY_LINES), (2, "y")], ((250_004, COUNT, "3"),)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_wild_file_is_loaded_or_refused_with_the_line(make_project: MakeProject, case: str) -> None:
    wild = CASES[case]
    project = make_project(files_yml(**wild.options))
    write(project.config.root, {"data/t.csv": wild.content})

    if not wild.bad:
        load(project)
        assert list(types(project)) == list(wild.names)
        assert same(rows(project), wild.rows)
    else:
        line, _, _ = wild.bad[0]
        refused(project, f"s.t: data/t.csv, line {line}")


@pytest.mark.parametrize("case", CASES)
def test_a_wild_file_in_quarantine_loses_no_good_row(make_project: MakeProject, case: str) -> None:
    wild = CASES[case]
    project = make_project(files_yml(on_bad_row="quarantine", **wild.options))
    write(project.config.root, {"data/t.csv": wild.content})

    stream = load(project)

    assert (stream.rows, stream.rejected) == (len(wild.rows), len(wild.bad))
    assert list(types(project)) == list(wild.names)
    assert same(rows(project), wild.rows)
    rejected = raw(project, "SELECT line, reason, raw, _smoll_file FROM raw_s.t__rejected ORDER BY line")
    assert [(line, text) for line, _, text, _ in rejected] == [(line, text) for line, _, text in wild.bad]
    for (_, reason, _, file), (_, word, _) in zip(rejected, wild.bad, strict=True):
        assert word in reason.lower() and file == "data/t.csv"


def same(found: list[Any], wanted: list[Any]) -> bool:
    """Equality without an explanation by pytest, which takes minutes for a value of 10 MB."""
    return found == sorted(wanted, key=lambda row: tuple((value is None, value) for value in row))


REFUSED: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "one name twice": ("id,name,id\n1,x,2\n", ("data/t.csv", "two columns named 'id'", "Rename")),
    "one name twice, but for blanks and case": ("id,name, ID\n1,x,2\n", ("data/t.csv", "'id'", "'ID'")),
    "a quote open in the header": ('id,"name\n1,x\n', ("data/t.csv, line 1", "quote")),
    "nothing but a quote": ('"id\n', ("data/t.csv, line 1", "quote")),
    "utf-16 that is not said": ("id,name\n1,x\n".encode("utf-16"), ("data/t.csv", "encoding: utf-16")),
    "NUL in a name": (b"id,na\0me\n1,x\n", ("data/t.csv",)),
    "only a BOM": (b"\xef\xbb\xbf", ("data/t.csv",)),
    "only a line end": ("\n", ("data/t.csv",)),
}


@pytest.mark.parametrize("on_bad_row", ["fail", "quarantine"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_file_without_a_sound_header_is_refused(make_project: MakeProject, case: str, on_bad_row: str) -> None:
    content, parts = REFUSED[case]
    project = make_project(files_yml(on_bad_row=on_bad_row), {"data/t.csv": content})

    error = refused(project, "s.t", *parts)

    assert not any(word in error for word in ("Parser Error", "Binder Error", "INTERNAL"))


@pytest.mark.parametrize("bad", [2, 1_001, 40_000])
def test_a_bad_record_after_records_of_several_lines_has_its_own_line(make_project: MakeProject, bad: int) -> None:
    """The line is the one in the file, as an editor counts, and not the number of the record."""
    records = [f'{number},"a\nb"' for number in range(1, 40_001)]
    records[bad - 1] = f"{bad}"
    content = "id,name\n" + "\n".join(records) + "\n"
    line = 2 * bad
    project = make_project(files_yml(), {"data/t.csv": content})
    refused(project, f"data/t.csv, line {line}")

    project = reopen(project, files_yml(on_bad_row="quarantine"))

    assert load(project).rows == 39_999
    assert raw(project, "SELECT line, raw FROM raw_s.t__rejected") == [(line, f"{bad}")]


def test_bad_values_and_bad_records_are_both_accounted_for(make_project: MakeProject) -> None:
    yml = files_yml("data/*.csv", mode="append", contract="discard", on_bad_row="quarantine")
    project = make_project(yml, {"data/1.csv": "id,name\n1,x\n"})
    load(project)
    write(project.config.root, {"data/2.csv": 'id,name\n2,"y\nz"\nthree,y\n4\n5,v\n'})

    stream = load(project)

    assert (stream.read, stream.rows, stream.rejected) == (4, 2, 2)
    assert rows(project) == [(1, "x"), (2, "y\nz"), (5, "v")]
    found = raw(project, "SELECT _smoll_file, line, column_name, raw FROM raw_s.t__rejected ORDER BY line")
    assert found == [("data/2.csv", 4, "id", "three,y"), ("data/2.csv", 5, None, "4")]


def test_a_line_end_in_the_first_value_is_none_of_the_file(make_project: MakeProject) -> None:
    """DuckDB takes the first line end that it meets for the file's, in quotes or not."""
    content = '"cr\rlf\r\n",1\nx,2\n3\ny,4\n'
    project = make_project(files_yml(header=False, on_bad_row="quarantine"), {"data/t.csv": content})

    stream = load(project)

    assert (stream.rows, stream.rejected) == (3, 1)
    assert rows(project) == [("cr\rlf\r\n", 1), ("x", 2), ("y", 4)]
    assert raw(project, "SELECT line, raw FROM raw_s.t__rejected") == [(5, "3")]


def test_of_many_files_the_wild_ones_keep_their_good_rows(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {f"data/{number:02}.csv": f"id,name\n{number},x\n" for number in range(20)}
    files |= {"data/07.csv": 'id,name\n7,"x\n', "data/13.csv": b"\xef\xbb\xbfid,name\r\n13,x\n14,\xff\r\n"}
    project = make_project(files_yml("data/*.csv", on_bad_row="quarantine"), files)

    stream = load(project)

    assert (stream.rows, stream.rejected) == (19, 2)
    found = raw(project, "SELECT _smoll_file, line, raw FROM raw_s.t__rejected ORDER BY ALL")
    assert found == [("data/07.csv", 2, '7,"x'), ("data/13.csv", 3, r"14,\xff")]


NDJSON: dict[str, Wild] = {
    "BOM": Wild('\ufeff{"id": 1}\n{"id": 2}\n', [(1,), (2,)]),
    "\\r\\n": Wild('{"id": 1}\r\n{"id": 2}\r\n', [(1,), (2,)]),
    "blank lines": Wild('\n{"id": 1}\n\n  \n{"id": 2}\n\n', [(1,), (2,)]),
    "no line end": Wild('{"id": 1}\n{"id": 2}', [(1,), (2,)]),
    "a record cut": Wild('{"id": 1}\n{"id": 3, "na\n{"id": 2}\n', [(1,), (2,)], ((2, "json", '{"id": 3, "na'),)),
    "the last record cut": Wild('{"id": 1}\n{"id": 2}\n{"id"', [(1,), (2,)], ((3, "json", '{"id"'),)),
    "a number where a record should be": Wild('{"id": 1}\n7\n{"id": 2}\n', [(1,), (2,)], ((2, "object", "7"),)),
    "a list where a record should be": Wild('{"id": 1}\n[1]\n{"id": 2}\n', [(1,), (2,)], ((2, "object", "[1]"),)),
    "null where a record should be": Wild('{"id": 1}\nnull\n{"id": 2}\n', [(1,), (2,)], ((2, "object", "null"),)),
    "a key twice": Wild(
        '{"id": 1}\n{"id": 3, "id": 4}\n{"id": 2}\n', [(1,), (2,)], ((2, "duplicate", '{"id": 3, "id": 4}'),)
    ),
    "two records on a line": Wild(
        '{"id": 1}\n{"id": 3} {"id": 4}\n{"id": 2}\n', [(1,), (2,)], ((2, "json", '{"id": 3} {"id": 4}'),)
    ),
    "bytes that are no utf-8": Wild(
        b'{"id": 1}\n{"id": "\xff"}\n{"id": 2}\n', [(1,), (2,)], ((2, UTF8, r'{"id": "\xff"}'),)
    ),
    "a lone \\r is no line end": Wild(
        '{"id":\r1}\n{"id": 3\n{"id": 2}\n', [(1,), (2,)], ((2, "json", '{"id": 3'),)
    ),
    "a lone surrogate": Wild(
        '{"id": 1}\n{"id": "\\ud800"}\n{"id": 2}\n', [(1,), (2,)], ((2, "", '{"id": "\\ud800"}'),)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NDJSON)
def test_wild_ndjson_is_loaded_or_refused_with_the_line(make_project: MakeProject, case: str) -> None:
    wild = NDJSON[case]
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": wild.content})

    if wild.bad:
        refused(project, f"s.t: data/t.ndjson, line {wild.bad[0][0]}")
    else:
        load(project)
        assert rows(project) == wild.rows


@pytest.mark.parametrize("case", NDJSON)
def test_wild_ndjson_in_quarantine_loses_no_good_row(make_project: MakeProject, case: str) -> None:
    wild = NDJSON[case]
    project = make_project(files_yml("data/t.ndjson", on_bad_row="quarantine"), {"data/t.ndjson": wild.content})

    stream = load(project)

    assert (stream.rows, stream.rejected) == (len(wild.rows), len(wild.bad))
    assert rows(project) == wild.rows
    rejected = raw(project, "SELECT line, reason, raw FROM raw_s.t__rejected ORDER BY line")
    assert [(line, text) for line, _, text in rejected] == [(line, text) for line, _, text in wild.bad]
    for (_, reason, _), (_, word, _) in zip(rejected, wild.bad, strict=True):
        assert word in reason.lower()


@pytest.mark.parametrize("odd", ['{"id": 3,}', '{"id": NaN}', '{"id": -Infinity}', '{"id": 1e999}'])
def test_what_is_nearly_json_fares_the_same_whatever_stands_beside_it(make_project: MakeProject, odd: str) -> None:
    """DuckDB's reader takes it, a strict one does not; a broken record elsewhere must not decide."""
    project = make_project(files_yml("data/t.ndjson", on_bad_row="quarantine"))
    outcomes = []
    for beside in ("", '{"id"\n'):
        write(project.config.root, {"data/t.ndjson": f'{{"id": 1}}\n{odd}\n{beside}'})
        load(project, reload=["s.t"])
        outcomes.append((types(project), raw(project, "SELECT CAST(id AS VARCHAR) FROM raw_s.t ORDER BY 1")))

    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("on_bad_row", ["fail", "quarantine"])
@pytest.mark.parametrize(
    "content",
    ['[{"id": 1},\n{"id": 2}', '[{"id": 1},\n{"id": 2},', '[{"id": 1}, {"id"', "[", '[{"id": 1}] [{"id": 2}'],
)
def test_a_json_array_that_broke_off_is_refused(make_project: MakeProject, content: str, on_bad_row: str) -> None:
    project = make_project(files_yml("data/t.json", on_bad_row=on_bad_row), {"data/t.json": content})

    refused(project, "s.t", "data/t.json")


@pytest.mark.parametrize("on_bad_row", ["fail", "quarantine"])
@pytest.mark.parametrize("content", ["", "\n\n", " "])
def test_a_json_file_without_anything_in_it_is_refused(
    make_project: MakeProject, content: str, on_bad_row: str
) -> None:
    project = make_project(files_yml("data/t.json", on_bad_row=on_bad_row), {"data/t.json": content})

    refused(project, "s.t", "data/t.json")


LINES = {"csv": "id,name\n" + "1,some text\n" * 2000, "ndjson": '{"id": 1, "name": "some text"}\n' * 2000}
PACKED: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstd.compress}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in the middle": lambda packed: packed[: len(packed) // 2],
    "cut at the end": lambda packed: packed[:-3],
    "another checksum": lambda packed: packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:],
    "not packed at all": lambda packed: b"id,name\n1,x\n",
}


@pytest.mark.parametrize("on_bad_row", ["fail", "quarantine"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("packer", PACKED)
def test_a_damaged_archive_is_refused(
    make_project: MakeProject, kind: str, packer: str, damage: str, on_bad_row: str
) -> None:
    """DuckDB looks at no checksum, and takes what it could unpack for the whole."""
    if packer == "zst" and damage == "another checksum":
        pytest.skip("zstd writes none unless it is asked to")
    name = f"data/t.{kind}.{packer}"
    packed = PACKED[packer](LINES[kind].encode())
    project = make_project(files_yml(name, mode="append", on_bad_row=on_bad_row), {name: packed})
    assert load(project).rows == 2000
    write(project.config.root, {name: DAMAGES[damage](packed)})

    refused(project, "s.t", name)


@pytest.mark.parametrize("width", range(4))
def test_an_error_of_duckdb_that_is_no_text_is_one_for_people_all_the_same(
    make_project: MakeProject, width: int
) -> None:
    """DuckDB cuts what it shows of a record in the middle of a character, and its Python package fails at that."""
    record = json.dumps({"pad": "x" * width, "id": 1, "name": "😀" * 200}, ensure_ascii=False)
    twice = record.replace('"id": 1', '"id": 1, "id": 2')
    project = make_project(files_yml("data/t.json"), {"data/t.json": f"[{twice}]"})

    refused(project, "s.t", "data/t.json")


@pytest.mark.parametrize("suffix", ["ndjson", "json"])
def test_a_json_value_of_10_mb_is_loaded(make_project: MakeProject, suffix: str) -> None:
    records = [{"id": 1, "name": "x" * 10_000_000}, {"id": 2, "name": "y"}]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    content = lines if suffix == "ndjson" else json.dumps(records)
    project = make_project(files_yml(f"data/t.{suffix}"), {f"data/t.{suffix}": content})

    load(project)

    assert raw(project, "SELECT id, length(name) FROM raw_s.t ORDER BY id") == [(1, 10_000_000), (2, 1)]


@pytest.mark.parametrize("content", ["{", "x", "1"])
def test_one_character_of_ndjson_is_a_record(make_project: MakeProject, content: str) -> None:
    """DuckDB reads nothing of such a file, and says nothing."""
    files: dict[str, str | bytes] = {"data/1.ndjson": '{"id": 1}\n', "data/2.ndjson": content}
    project = make_project(files_yml("data/*.ndjson", on_bad_row="quarantine"), files)

    stream = load(project)

    assert (stream.rows, stream.rejected) == (1, 1)
    assert raw(project, "SELECT _smoll_file, line, raw FROM raw_s.t__rejected") == [("data/2.ndjson", 1, content)]


LARGE = 16_000_000
"""Characters of a value that make a record larger than DuckDB's JSON reader is given."""


def large_records() -> list[str]:
    return [
        '{"id": 1, "name": "a", "n": 1.5, "nested": {"x": [1, 2.50]}}',
        json.dumps({"id": 2, "name": 'é"\n\\,' + "x" * LARGE, "n": None, "more": True}, ensure_ascii=False),
        '{"id": "no", "name": "b", "n": 2}',
        json.dumps({"id": "nor", "name": "", "n": 7, "nested": "y" * LARGE}),
        '{"id": 3',
        '{"id": 4, "name": null, "n": 0.1234567890123456789}',
        '{"id": 5, "name": "z", "n": 9007199254740993, "nested": [1.0, "\\u00005", "' + "x" * LARGE + '", NaN]}',
    ]


def test_records_beyond_the_json_reader_are_loaded_and_found_again(make_project: MakeProject) -> None:
    yml = files_yml("data/t.ndjson", on_bad_row="quarantine", columns={"id": "BIGINT"})
    project = make_project(yml, {"data/t.ndjson": "\n".join(large_records()) + "\n"})

    stream = load(project)

    assert (stream.read, stream.rows, stream.rejected) == (7, 4, 3)
    assert types(project) == {
        "id": "BIGINT", "name": "VARCHAR", "n": "DECIMAL(38,19)", "nested": "JSON", "more": "BOOLEAN",
    }  # fmt: skip
    found = raw(project, "SELECT id, left(name, 5), n::VARCHAR, length(nested::VARCHAR), more FROM raw_s.t ORDER BY id")
    nested = len('[1.0,"\\u00005","",NaN]') + LARGE
    assert found == [
        (1, "a", "1.5000000000000000000", len('{"x":[1,2.5]}'), None),
        (2, 'é"\n\\,', None, None, True),
        (4, None, "0.1234567890123456789", None, None),
        (5, "z", "9007199254740993.0000000000000000000", nested, None),
    ]
    rejected = raw(project, "SELECT line, column_name, length(raw) FROM raw_s.t__rejected ORDER BY line")
    texts = large_records()
    assert rejected == [(3, "id", len(texts[2])), (4, "id", len(texts[3])), (5, None, len(texts[4]))]


def test_an_array_with_records_beyond_the_json_reader_is_loaded(make_project: MakeProject) -> None:
    records = [json.loads(text) for text in large_records() if text != '{"id": 3']
    project = make_project(
        files_yml("data/t.json", on_bad_row="quarantine", columns={"id": "BIGINT"}),
        {"data/t.json": json.dumps(records, indent=2)},
    )

    stream = load(project)

    assert (stream.read, stream.rows, stream.rejected) == (6, 4, 2)
    assert raw(project, "SELECT line, column_name FROM raw_s.t__rejected ORDER BY 1") == [(3, "id"), (4, "id")]
    assert raw(project, "SELECT id FROM raw_s.t ORDER BY 1") == [(1,), (2,), (4,), (5,)]


def test_a_large_record_alone_has_keys_and_numbers_like_any_other(make_project: MakeProject) -> None:
    large = '{"id": -0, "n": 1.500, "e": 1E5, "t": "' + "x" * LARGE + '"}'
    project = make_project(
        files_yml("data/t.ndjson", on_bad_row="quarantine", columns={"n": "DECIMAL(10,2)", "e": "VARCHAR"}),
        {"data/t.ndjson": "{}\n" + large + "\n{\n"},
    )

    assert load(project).rejected == 1

    assert types(project) == {"id": "BIGINT", "n": "DECIMAL(10,2)", "e": "VARCHAR", "t": "VARCHAR"}
    found = raw(project, "SELECT id, n::VARCHAR, e, length(t) FROM raw_s.t ORDER BY ALL NULLS LAST")
    assert found == [(0, "1.50", "100000.0", LARGE), (None, None, None, None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "A": "' + "x" * LARGE + '"}', "for DuckDB they are one"),
        ('{"a": ' + "[" * 900 + "]" * 900 + ', "b": "' + "x" * LARGE + '"}', "nested too deeply"),
        ('{"a": 1, "b": "' + "x" * LARGE + '",}', "malformed JSON"),
    ],
    ids=["twins", "deep", "comma"],
)
def test_a_large_record_that_cannot_be_read_is_refused(make_project: MakeProject, text: str, message: str) -> None:
    project = make_project(files_yml("data/t.ndjson"), {"data/t.ndjson": text + "\n{\n"})

    refused(project, message)


def test_a_header_of_two_lines_above_other_line_ends(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": '"id"\t"a\nb"\r"1"\t"x"\r'})

    assert load(project).rows == 1

    assert rows(project) == [(1, "x")]


def test_line_ends_in_quotes_at_the_border_of_a_buffer(make_project: MakeProject) -> None:
    """DuckDB's threads take some of them for ends of records, and refuse the file."""
    text = 'a "b" line\nplain, text \n' * 37
    values = [text[number % 29 :] for number in range(40_000)]
    lines = ('{},"{}"\n'.format(number, value.replace('"', '""')) for number, value in enumerate(values))
    project = make_project(files_yml(), {"data/t.csv": "id,name\n" + "".join(lines)})

    assert load(project).rows == len(values)

    wanted = sum(len(value) for value in values)
    assert raw(project, "SELECT count(DISTINCT id), sum(length(name)) FROM raw_s.t") == [(len(values), wanted)]
