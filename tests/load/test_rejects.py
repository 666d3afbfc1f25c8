"""Rejected rows: each stands in `<table>__rejected` with file, line and raw text, and every row is accounted for."""

from __future__ import annotations

import gzip
import json
import sqlite3
from typing import Any

import pytest

import smoll
from smoll.cli import main
from smoll.events import StreamFinished
from smoll.model import StreamResult
from support import MakeProject, dump, files_yml, load, only_stream, raw, refused, reopen, rows, sql_yml, write

URL = "sqlite:///data/shop.db"
QUARANTINE: dict[str, Any] = {"on_bad_row": "quarantine", "columns": {"v": "BIGINT"}}


def quarantine(**options: Any) -> str:
    return files_yml("data/*", None, **QUARANTINE, **options)


def rejected(project: smoll.Project, columns: str = "_smoll_file, line, column_name, raw") -> list[Any]:
    return raw(project, f"SELECT {columns} FROM raw_s.t__rejected ORDER BY ALL")


def counted(stream: StreamResult) -> tuple[int, int, int]:
    """Rows read, written and rejected."""
    return stream.read, stream.rows, stream.rejected


def test_each_bad_row_has_the_line_where_it_begins(make_project: MakeProject) -> None:
    lines = 'id,v,w\n1,1,"two\nlines"\n2,x,"two\nlines"\n3,3,\n4,4,a,b\n5,5,"quotes "" and, commas"\n6,y,\n7\n'
    project = make_project(quarantine(), {"data/a.csv": lines, "data/b.csv": lines})

    stream = load(project)

    places = [(4, "v", '2,x,"two\nlines"'), (7, None, "4,4,a,b"), (9, "v", "6,y,"), (10, None, "7")]
    assert rejected(project) == [(f"data/{name}.csv", *place) for name in "ab" for place in places]
    assert counted(stream) == (14, 6, 8)
    assert [row[0] for row in rows(project)] == [1, 1, 3, 3, 5, 5]


def test_lines_are_found_again_in_files_of_several_formats_and_columns(make_project: MakeProject) -> None:
    project = make_project(
        quarantine(),
        {
            "data/a.csv": 'id,v\n1,"1\n"\n2,2\n',
            "data/b.csv": "v,id\n1,1\nx,2\n",
            "data/c.csv.gz": gzip.compress(b'id,w,v\n1,"a\n\nb",1\n2,a,x\n'),
            "data/d.ndjson": '{"id": 1, "v": 1}\n{"id": 2, "v": "x"}\n{"id": 3, "v"\n',
            "data/e.ndjson.gz": gzip.compress(b'\n{"v": true}\n{"v": 3}\n'),
        },
    )

    stream = load(project)

    assert rejected(project) == [
        ("data/a.csv", 2, "v", '1,"1\n"'),
        ("data/b.csv", 3, "v", "x,2"),
        ("data/c.csv.gz", 5, "v", "2,a,x"),
        ("data/d.ndjson", 2, "v", '{"id": 2, "v": "x"}'),
        ("data/d.ndjson", 3, None, '{"id": 3, "v"'),
        ("data/e.ndjson.gz", 2, "v", '{"v": true}'),
    ]
    assert stream.read == stream.rows + stream.rejected
    assert stream.rows == len(rows(project))


@pytest.mark.parametrize("other", ["2", "true"])
def test_the_fate_of_a_text_of_json_does_not_depend_on_its_neighbours(make_project: MakeProject, other: str) -> None:
    project = make_project(quarantine(), {"data/a.ndjson": f'{{"id": 1, "v": "1"}}\n{{"id": 2, "v": {other}}}\n'})

    load(project)

    assert rows(project)[0] == (1, 1)


def test_bad_rows_in_the_thousands_keep_their_lines(make_project: MakeProject) -> None:
    lines = [f"{number},{'x' if number % 7 == 0 else number}" for number in range(2, 5_002)]
    project = make_project(quarantine(), {f"data/{n}.csv": "id,v\n" + "\n".join(lines) + "\n" for n in range(3)})

    stream = load(project)

    bad = sum(line.endswith("x") for line in lines)
    assert counted(stream) == (15_000, 3 * (5_000 - bad), 3 * bad)
    assert raw(project, "SELECT count(*) FROM raw_s.t__rejected WHERE raw <> concat(line, ',x')") == [(0,)]
    assert raw(project, "SELECT DISTINCT count(*) FROM raw_s.t__rejected GROUP BY _smoll_file") == [(bad,)]


def test_the_counts_are_told_everywhere(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(quarantine(), {"data/a.csv": "id,v\n1,1\n2,x\n3,3\n4,y\n"})
    events: list[Any] = []

    result = project.run(on_event=events.append)

    assert counted(only_stream(result)) == (4, 2, 2)
    (finished,) = (event for event in events if isinstance(event, StreamFinished))
    assert counted(finished.result) == (4, 2, 2)
    assert raw(project, "SELECT rows_read, rows_written, rows_rejected, rows_total FROM _smoll.loads") == [(4, 2, 2, 2)]
    assert main(["--project", str(project.config.root), "runs", "show", "1", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["streams"]
    assert (told["read"], told["rows"], told["rejected"]) == (4, 2, 2)


def test_under_append_a_changed_file_replaces_its_rejected_rows(make_project: MakeProject) -> None:
    files = {"data/a.csv": "id,v\n1,x\n2,2\n", "data/b.csv": "id,v\n3,x\n4,4\n"}
    project = make_project(quarantine(mode="append"), files)
    load(project)
    write(project.config.root, {"data/a.csv": "id,v\n1,1\n2,y\n5,z\n"})

    assert counted(load(project)) == (3, 1, 2)

    assert rejected(project, "_smoll_load_id, _smoll_file, line, raw") == [
        (1, "data/b.csv", 2, "3,x"),
        (2, "data/a.csv", 3, "2,y"),
        (2, "data/a.csv", 4, "5,z"),
    ]
    assert rows(project) == [(1, 1), (4, 4)]
    write(project.config.root, {"data/a.csv": "id,v\n1,1\n2,2\n"})
    load(project)
    assert rejected(project, "raw") == [("3,x",)]


def test_replace_forgets_what_it_rejected_before(make_project: MakeProject) -> None:
    project = make_project(quarantine(), {"data/a.csv": "id,v\n1,x\n2,2\n", "data/b.csv": "id,v\n3,x\n"})
    load(project)
    write(project.config.root, {"data/a.csv": "id,v\n1,1\n2,y\n"})

    load(project)

    assert rejected(project, "_smoll_load_id, raw") == [(2, "2,y"), (2, "3,x")]


@pytest.mark.parametrize("options", [{"mode": "append"}, {"mode": "merge", "key": "id"}, {}])
def test_a_reload_forgets_what_was_rejected_before(make_project: MakeProject, options: dict[str, Any]) -> None:
    project = make_project(quarantine(**options), {"data/a.csv": "id,v\n1,x\n2,2\n"})
    load(project)

    load(project, reload=["s.t"])

    assert rejected(project, "_smoll_load_id, raw") == [(2, "1,x")]
    write(project.config.root, {"data/a.csv": "id,v\n1,1\n2,2\n"})
    load(project, reload=["s.t"])
    assert rejected(project) == []


def test_without_quarantine_the_rejected_rows_of_before_go_with_their_table(make_project: MakeProject) -> None:
    project = make_project(quarantine(), {"data/a.csv": "id,v\n1,x\n2,2\n"})
    load(project)
    write(project.config.root, {"data/a.csv": "id,v\n1,1\n2,2\n"})

    load(reopen(project, files_yml("data/*", columns={"v": "BIGINT"})))

    assert dump(project, "raw_s.t__rejected") is None


@pytest.mark.parametrize("lag", [{}, {"lag": 1}])
def test_by_cursor_a_bad_row_at_the_boundary_stands_once(make_project: MakeProject, lag: dict[str, int]) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "append", "cursor": "at", **QUARANTINE, **lag}}))
    execute(project, "CREATE TABLE t (id, v, at INTEGER); INSERT INTO t VALUES (1, 1, 1), (2, 'x', 2), (3, 3, 2);")
    for _ in range(3):
        load(project)

    assert [json.loads(row[0])["id"] for row in rejected(project, "raw")] in (["2"], [2])
    assert rows(project) == [(1, 1, 1), (3, 3, 2)]
    execute(project, "INSERT INTO t VALUES (4, 'y', 3), (5, 5, 3)")
    for _ in range(2):
        load(project)
    assert len(rejected(project, "raw")) == 2
    assert len(rows(project)) == 3


def test_by_cursor_equal_bad_rows_of_one_load_are_all_kept(make_project: MakeProject) -> None:
    project = make_project(sql_yml(URL, {"t": {"mode": "append", "cursor": "at", **QUARANTINE}}))
    execute(project, "CREATE TABLE t (v, at INTEGER); INSERT INTO t VALUES ('x', 1), ('x', 1), (1, 1);")

    stream = load(project)

    assert counted(stream) == (3, 1, 2)
    assert len(raw(project, "FROM raw_s.t__rejected")) == 2
    load(project)
    assert len(raw(project, "FROM raw_s.t__rejected")) == 2


@pytest.mark.parametrize(
    ("limit", "bad", "passes"),
    [
        *[(0, 0, True), (0, 1, False), (2, 2, True), (2, 3, False)],
        *[("1%", 1, True), ("1%", 2, False), ("0.5%", 1, False), ("1.5%", 1, True), ("1.5%", 2, False)],
        *[("0%", 0, True), ("0%", 1, False), ("100%", 100, True)],
    ],
)
def test_max_rejects_is_a_number_or_a_share(
    make_project: MakeProject, limit: int | str, bad: int, passes: bool
) -> None:
    lines = [f"{number},{'x' if number < bad else number}\n" for number in range(100)]
    project = make_project(quarantine(max_rejects=limit), {"data/a.csv": "id,v\n" + "".join(lines)})

    if passes:
        assert counted(load(project)) == (100, 100 - bad, bad)
    else:
        message = refused(project, f"{bad:,} of 100 rows", "max_rejects", "data/a.csv", "line 2", "'v'", "'x'")
        assert "Nothing was loaded" in message
        assert dump(project, "raw_s.t__rejected") is None


def test_beyond_max_rejects_table_rejected_rows_and_state_stay(make_project: MakeProject) -> None:
    project = make_project(quarantine(mode="append", max_rejects=1), {"data/a.csv": "id,v\n1,x\n2,2\n"})
    load(project)
    before = dump(project, "raw_s.t__rejected")
    write(project.config.root, {"data/a.csv": "id,v\n1,x\n2,y\n3,3\n"})

    refused(project, "2 of 3 rows", "data/a.csv, line 2")

    assert dump(project, "raw_s.t__rejected") == before
    write(project.config.root, {"data/a.csv": "id,v\n1,1\n2,2\n3,3\n"})
    load(project)
    assert rows(project) == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(
    "options", [{}, {"mode": "append"}, {"mode": "merge", "key": "id"}, {"mode": "scd2", "key": "id"}]
)
def test_where_all_rows_are_rejected_at_first_the_next_load_is_good(
    make_project: MakeProject, options: dict[str, Any]
) -> None:
    project = make_project(quarantine(**options), {"data/a.csv": "id,v\n1,x\n2,y\n"})

    assert counted(load(project)) == (2, 0, 2)

    assert rows(project) == []
    assert len(rejected(project)) == 2
    write(project.config.root, {"data/a.csv": "id,v\n1,1\n2,2\n"})
    assert counted(load(project)) == (2, 2, 0)
    assert rows(project) == [(1, 1), (2, 2)]
    assert rejected(project) == []


def test_files_in_which_no_record_can_be_read(make_project: MakeProject) -> None:
    project = make_project(
        files_yml("data/*", on_bad_row="quarantine"), {"data/a.csv": "id,v\n1\n1,2,3\n", "data/b.ndjson": "{\n[\n"}
    )

    assert counted(load(project)) == (4, 0, 4)

    assert rejected(project, "_smoll_file, line, raw") == [
        ("data/a.csv", 2, "1"),
        ("data/a.csv", 3, "1,2,3"),
        ("data/b.ndjson", 1, "{"),
        ("data/b.ndjson", 2, "["),
    ]


def test_under_fail_the_first_bad_row_is_named_and_nothing_is_written(make_project: MakeProject) -> None:
    lines = 'id,v\n1,"1"\n2,2\n'
    project = make_project(
        files_yml("data/*.csv", columns={"v": "BIGINT"}), {"data/a.csv": lines, "data/b.csv": lines + "3,x\n4,y\n"}
    )

    refused(project, "data/b.csv, line 4", "'v'", "'x'", "1 more", "on_bad_row: quarantine")

    assert dump(project) is None


def test_a_bad_row_may_hold_anything(make_project: MakeProject) -> None:
    value = 'quotes \' " and \\ and ; DROP TABLE t; -- \x01 é 🌍 \t {"a": 1}'
    project = make_project(quarantine(), {"data/a.csv": "id;v\n1;" + '"' + value.replace('"', '""') + '"\n2;2\n'})
    load(project)

    ((text,),) = rejected(project, "raw")
    assert text == '1;"' + value.replace('"', '""') + '"'
    assert rows(project) == [(2, 2)]


def execute(project: smoll.Project, sql: str) -> None:
    (project.config.root / "data").mkdir(exist_ok=True)
    with sqlite3.connect(project.config.root / "data/shop.db") as connection:
        connection.executescript(sql)
    connection.close()
