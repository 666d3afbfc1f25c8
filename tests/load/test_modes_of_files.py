"""Replace, append and merge of files: nothing lost, nothing doubled, whatever happens to the files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from support import MakeProject, age, dump, files_yml, load, raw, refused, reopen, rows, types, write


def test_replace_makes_the_table_what_the_files_hold(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv"), {"data/1.csv": "id\n1\n", "data/2.csv": "id\n2\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "id\n3\n"})
    load(project)
    assert rows(project) == [(1,), (3,)]

    (project.config.root / "data/1.csv").unlink()
    assert load(project).status == "loaded"

    assert rows(project) == [(3,)]


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_a_file_that_was_fresh_when_loaded_is_found_gone(make_project: MakeProject, mode: str) -> None:
    project = make_project(files_yml("data/*.csv", mode=mode), {"data/1.csv": "id\n1\n", "data/2.csv": "id\n2\n"})
    fresh = project.config.root / "data/2.csv"
    soon = time.time_ns() + 3_600_000_000_000  # a clock that is ahead: fresh for certain
    os.utime(fresh, ns=(soon, soon))
    load(project)
    fresh.unlink()

    result = load(project)

    assert rows(project) == ([(1,)] if mode == "replace" else [(1,), (2,)])
    assert ("data/2.csv is gone" in "".join(result.notes)) is (mode == "append")


CHANGED_OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], str, list[Any]]] = {
    "null_values": ({"null_values": ["", "NA"]}, {}, "x, Nr", [("5", 2), (None, 1)]),
    "columns": ({"columns": {"Nr": "VARCHAR"}}, {}, "x, Nr", [("5", "2"), ("NA", "1")]),
    "header": ({"header": False}, {}, "column0, column1", [("5", "2"), ("NA", "1"), ("x", "Nr")]),
    "encoding": ({"encoding": "latin-1"}, {}, "x, Nr", [("5", 2), ("NA", 1)]),
    "naming": ({}, {"naming": "snake_case"}, "x, nr", [("5", 2), ("NA", 1)]),
}


@pytest.mark.parametrize("case", CHANGED_OPTIONS)
def test_replace_reads_anew_when_an_option_changes_what_the_files_mean(make_project: MakeProject, case: str) -> None:
    options, source, brought, expected = CHANGED_OPTIONS[case]
    project = make_project(files_yml(), {"data/t.csv": "x,Nr\nNA,1\n5,2\n"})
    load(project)
    project = reopen(project, files_yml(source=source, **options))

    assert load(project).status == "loaded"
    assert load(project).status == "unchanged"

    assert raw(project, f"SELECT {brought} FROM raw_s.t ORDER BY ALL") == expected


def test_append_says_that_rows_stay_as_they_were_read(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "x\nNA\n"})
    load(project)
    project = reopen(project, files_yml("data/*.csv", mode="append", null_values=["", "NA"]))
    said = (
        "options in smoll.yml changed, rows loaded before stay as they were read; "
        "`smoll run --reload s.t` reads all files anew"
    )

    unchanged = load(project)
    write(project.config.root, {"data/2.csv": "x\nNA\n"})
    added = load(project)

    assert (unchanged.status, unchanged.notes) == ("unchanged", (said,))
    assert (added.rows, added.notes) == (1, (said,))
    assert rows(project) == [("NA",), (None,)]
    assert load(project).notes == ()
    load(project, reload=["s.t"])
    assert rows(project) == [(None,), (None,)]


def test_append_loads_every_file_once(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "id\n1\n1\n"})
    assert load(project).rows == 2
    write(project.config.root, {"data/2.csv": "id\n2\n"})

    assert load(project).rows == 1
    assert load(project).status == "unchanged"

    assert raw(project, "SELECT id, _smoll_load_id FROM raw_s.t ORDER BY ALL") == [(1, 1), (1, 1), (2, 2)]


def test_append_replaces_the_rows_of_a_changed_file_and_keeps_those_of_a_vanished_one(
    make_project: MakeProject,
) -> None:
    files: dict[str, str | bytes] = {"data/1.csv": "id\n1\n", "data/2.csv": "id\n2\n", "data/3.csv": "id\n3\n"}
    project = make_project(files_yml("data/*.csv", mode="append"), files)
    load(project)
    write(project.config.root, {"data/2.csv": "id\n20\n21\n"})
    (project.config.root / "data/3.csv").unlink()

    result = load(project)

    gone = "data/3.csv is gone, the rows stay; `smoll run --reload s.t` loads only what is there"
    assert (result.rows, result.notes) == (2, (gone,))
    assert rows(project) == [(1,), (3,), (20,), (21,)]
    assert load(project).notes == (gone,)
    project.run(reload=["s.t"])
    assert rows(project) == [(1,), (20,), (21,)]


def test_a_file_of_this_very_moment_is_neither_lost_nor_doubled(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"))
    (project.config.root / "data").mkdir()
    file = project.config.root / "data/1.csv"
    for number in range(5):  # of one length, and perhaps of one time stamp
        file.write_text(f"id\n{number}\n", encoding="utf-8")
        load(project)
        assert rows(project) == [(number,)]


def test_a_moved_project_neither_doubles_nor_loses(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "id\n1\n"})
    load(project)
    moved = tmp_path / "moved [elsewhere]"
    shutil.move(project.config.root, moved)
    write(moved, {"data/2.csv": "id\n2\n"})
    from smoll import open_project

    project = open_project(moved)

    assert load(project).rows == 1
    assert rows(project) == [(1,), (2,)]


def test_merge_replaces_rows_of_the_same_key_and_adds_the_others(make_project: MakeProject) -> None:
    options = {"mode": "merge", "key": ["day", "id"]}
    project = make_project(files_yml("data/*.csv", None, **options), {"data/1.csv": "day,id,v\n1,1,a\n1,2,b\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "day,id,v\n1,2,B\n2,1,c\n"})

    assert load(project).rows == 2

    assert rows(project) == [(1, 1, "a"), (1, 2, "B"), (2, 1, "c")]
    origin = raw(project, "SELECT v, _smoll_load_id, _smoll_file FROM raw_s.t ORDER BY v")
    assert origin == [("B", 2, "data/2.csv"), ("a", 1, "data/1.csv"), ("c", 2, "data/2.csv")]


@pytest.mark.parametrize("padding", [0, 5_000])
def test_merge_keeps_one_row_of_a_key_the_last_one(make_project: MakeProject, padding: int) -> None:
    lines = "".join(f"{1000 + number},p\n" for number in range(padding))
    content = f"id,v\n1,first\n{lines}1,second\n1,last\n2,x\n"
    project = make_project(files_yml("data/*.csv", None, mode="merge", key="id"), {"data/1.csv": content})
    load(project)
    assert raw(project, "SELECT id, v FROM raw_s.t WHERE id < 1000 ORDER BY id") == [(1, "last"), (2, "x")]

    write(project.config.root, {"data/2.csv": "id,v\n2,y\n2,z\n"})
    load(project)

    assert raw(project, "SELECT id, v FROM raw_s.t WHERE id < 1000 ORDER BY id") == [(1, "last"), (2, "z")]


def test_merge_with_a_cursor_keeps_the_newest_row_even_where_an_older_one_comes_late(
    make_project: MakeProject,
) -> None:
    options = {"mode": "merge", "key": "id", "cursor": "at"}
    content = "id,at,v\n1,2024-01-03,new\n1,2024-01-02,old\n2,2024-01-01,a\n3,,none\n"
    project = make_project(files_yml("data/*.csv", None, **options), {"data/1.csv": content})
    load(project)
    assert [row[2] for row in rows(project)] == ["new", "a", "none"]

    write(project.config.root, {"data/2.csv": "id,at,v\n1,2024-01-01,late\n2,2024-01-02,b\n3,2024-01-01,some\n"})
    load(project)

    assert [row[2] for row in rows(project)] == ["new", "b", "some"]


def test_merge_of_a_row_without_a_cursor_does_not_undo_one_that_has_it(make_project: MakeProject) -> None:
    options = {"mode": "merge", "key": "id", "cursor": "at"}
    project = make_project(files_yml("data/*.csv", None, **options), {"data/1.csv": "id,at,v\n1,5,known\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "id,at,v\n1,,unknown\n2,,new\n"})

    load(project)

    assert [row[2] for row in rows(project)] == ["known", "new"]


def test_merge_refuses_rows_without_a_key(make_project: MakeProject) -> None:
    options = {"mode": "merge", "key": ["a", "b"]}
    project = make_project(files_yml("data/*.csv", None, **options), {"data/1.csv": "a,b,v\n1,1,x\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "a,b,v\n1,,y\n,2,z\n1,2,ok\n"})

    refused(project, "s.t", "column 'b'", "the key has no value", "1 more")

    write(project.config.root, {"data/2.csv": "a,b,v\n1,2,ok\n"})
    load(project)
    assert rows(project) == [(1, 1, "x"), (1, 2, "ok")]


def test_merge_widens_the_key_and_still_finds_its_rows(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", None, mode="merge", key="id"), {"data/1.csv": "id,v\n1,a\n2,b\n"})
    load(project)
    write(project.config.root, {"data/2.csv": "id,v\n1,A\nx,c\n"})

    load(project)

    assert rows(project) == [("1", "A"), ("2", "b"), ("x", "c")]


def test_a_key_that_the_source_does_not_have_is_named(make_project: MakeProject) -> None:
    project = make_project(files_yml(mode="merge", key="nr"), {"data/t.csv": "id,v\n1,a\n"})

    refused(project, "s.t", "'nr'", "id, v")


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_change_of_mode_loads_everything_anew(make_project: MakeProject, mode: str) -> None:
    options = {"mode": mode, "key": "id"} if mode == "merge" else {"mode": mode}
    project = make_project(files_yml("data/*.csv"), {"data/1.csv": "id\n1\n", "data/2.csv": "id\n2\n"})
    load(project)
    project = reopen(project, files_yml("data/*.csv", None, **options))

    assert load(project).rows == 2
    assert load(project).status == "unchanged"

    assert rows(project) == [(1,), (2,)]


def test_new_names_of_the_metadata_columns_load_everything_anew(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "id\n1\n"})
    load(project)
    (project.config.root / "data/1.csv").rename(project.config.root / "data/2.csv")
    write(project.config.root, {"data/3.csv": "id\n3\n"})
    project = reopen(project, files_yml("data/*.csv", {"metadata": {"file": "_path"}}, mode="append"))

    result = load(project)

    anew = (
        "loaded anew, as there was no state to go on from (mode, key, cursor, table, schema or metadata changed, "
        "or it was reset): it had 1 rows, it has 2 now"
    )
    assert result.notes == (anew,)
    assert raw(project, "SELECT * EXCLUDE (_smoll_load_id, _smoll_loaded_at) FROM raw_s.t ORDER BY ALL") == [
        (1, "data/2.csv"),
        (3, "data/3.csv"),
    ]
    assert load(project).notes == ()


def test_a_change_of_mode_forgets_types_and_columns(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "x,y\n1,2\nq,1\n"})
    load(project)
    write(project.config.root, {"data/t.csv": "x\n1\n"})
    project = reopen(project, files_yml(mode="append"))

    notes = load(project).notes

    assert notes == (
        "loaded anew, as there was no state to go on from (mode, key, cursor, table, schema or metadata changed, "
        "or it was reset): it had 2 rows, it has 1 now",
    )
    assert types(project) == {"x": "BIGINT"}


def test_a_table_that_someone_dropped_comes_back_whole(make_project: MakeProject) -> None:
    import duckdb

    project = make_project(files_yml("data/*.csv", mode="append"), {"data/1.csv": "id\n1\n"})
    load(project)
    with duckdb.connect(project.config.root / ".smoll/warehouse.duckdb") as connection:
        connection.execute("DROP TABLE raw_s.t")
    write(project.config.root, {"data/2.csv": "id\n2\n"})

    load(project)

    assert rows(project) == [(1,), (2,)]


def test_nothing_new_leaves_the_table_alone(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "id\n1\n"})
    load(project)
    before = dump(project)

    assert load(project).status == "unchanged"

    assert dump(project) == before
    age(project.config.root / "data/t.csv")
    assert load(project).status == "loaded"


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_a_state_of_an_earlier_version_still_counts(make_project: MakeProject, mode: str) -> None:
    project = make_project(files_yml("data/*.csv", mode=mode), {"data/1.csv": "id\n1\n"})
    load(project)
    (stored,) = raw(project, "SELECT state FROM _smoll.state")[0]
    stat = (project.config.root / "data/1.csv").stat()
    state = json.loads(stored)
    old = [None, None, True, "utf-8", [""]]  # format, delimiter, header, encoding, null_values: all there was
    digest = hashlib.sha256(json.dumps([*old, [], "keep"]).encode()).hexdigest()[:16]

    assert state["files"] == {"data/1.csv": [stat.st_size, stat.st_mtime_ns]}
    assert state["reading"] == digest
    assert set(state) <= {"files", "reading", "run", "key", "deletes", "delimiter"}
    assert load(project).status == "unchanged"


def test_a_vanished_file_follows_deletes(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {"data/1.csv": "id\n1\n", "data/2.csv": "id\n2\n", "data/3.csv": "id\n3\n"}
    yml = files_yml("data/*.csv", mode="append", deletes="detect", allow_empty=True)
    project = make_project(yml, files)
    load(project)
    (project.config.root / "data/1.csv").unlink()

    result = load(project)

    assert (result.status, rows(project)) == ("loaded", [(2,), (3,)])
    assert list(json.loads(raw(project, "SELECT state FROM _smoll.state")[0][0])["files"]) == [
        "data/2.csv",
        "data/3.csv",
    ]
    assert load(project).status == "unchanged"
    write(project.config.root, {"data/1.csv": "id\n10\n"})
    (project.config.root / "data/2.csv").unlink()
    load(project)
    assert rows(project) == [(3,), (10,)]


def test_history_is_kept_of_all_files(make_project: MakeProject) -> None:
    options = {"mode": "scd2", "key": "id"}
    project = make_project(
        files_yml("data/*.csv", None, **options), {"data/1.csv": "id,v\n1,a\n", "data/2.csv": "id,v\n2,b\n"}
    )
    load(project)
    assert load(project).status == "unchanged"
    write(project.config.root, {"data/1.csv": "id,v\n1,c\n"})
    load(project)
    now = raw(project, "SELECT id, v, _smoll_current FROM raw_s.t ORDER BY ALL")
    assert now == [(1, "a", False), (1, "c", True), (2, "b", True)]
