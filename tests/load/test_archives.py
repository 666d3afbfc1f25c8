"""Compressed files and archives: members are files of their own, and no name in them leads anywhere else."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import zipfile
from pathlib import Path

import pytest

from support import MakeProject, files_yml, load, parquet, raw, refused, reopen, rows, write
from web_server import serve

pytestmark = pytest.mark.connectors


def zipped(members: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_bz2_is_read_in_every_format(make_project: MakeProject, tmp_path: Path) -> None:
    parquet("SELECT 5 AS id", tmp_path / "t.parquet")
    files: dict[str, str | bytes] = {
        "data/1.csv.bz2": bz2.compress(b"id\n1\n") + bz2.compress(b"2\n"),  # two streams in one file
        "data/3.ndjson.bz2": bz2.compress(b'{"id": 3}\n'),
        "data/4.json.bz2": bz2.compress(b'[{"id": 4}]'),
        "data/5.parquet.bz2": bz2.compress((tmp_path / "t.parquet").read_bytes()),
    }
    project = make_project(files_yml("data/*", incremental=True), files)

    load(project)

    assert raw(project, "SELECT id, _smoll_file FROM raw_s.t ORDER BY id") == [
        (1, "data/1.csv.bz2"),
        (2, "data/1.csv.bz2"),
        (3, "data/3.ndjson.bz2"),
        (4, "data/4.json.bz2"),
        (5, "data/5.parquet.bz2"),
    ]
    assert load(project).status == "unchanged"


def test_a_bare_archive_means_its_readable_members(make_project: MakeProject) -> None:
    members: dict[str, str | bytes] = {
        "README.md": "no data",
        "__MACOSX/._1.csv": "\x00\x05",
        ".hidden.csv": "id\n9\n",
        "folder/": "",
        "1.csv": "id\n1\n",
        "folder/2.csv": "id\n2\n",
        "folder/3.ndjson.gz": gzip.compress(b'{"id": 3}\n'),
        "folder/4.csv.bz2": bz2.compress(b"id\n4\n"),
    }
    project = make_project(files_yml("data/a.zip"), {"data/a.zip": zipped(members)})

    load(project)

    assert raw(project, "SELECT id, _smoll_file FROM raw_s.t ORDER BY id") == [
        (1, "data/a.zip/1.csv"),
        (2, "data/a.zip/folder/2.csv"),
        (3, "data/a.zip/folder/3.ndjson.gz"),
        (4, "data/a.zip/folder/4.csv.bz2"),
    ]
    assert load(project).status == "unchanged"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.csv", [1]), ("**/*.csv", [1, 2, 3]), ("f/*.csv", [2]), ("f/g/[3-4].csv", [3]), ("1.csv", [1])],
)
def test_a_pattern_chooses_members(make_project: MakeProject, pattern: str, expected: list[int]) -> None:
    body = zipped({"1.csv": "id\n1\n", "f/2.csv": "id\n2\n", "f/g/3.csv": "id\n3\n"})
    project = make_project(files_yml(f"data/*.zip/{pattern}"), {"data/a.zip": body})
    load(project)
    assert [row[0] for row in rows(project)] == expected


def test_a_changed_archive_replaces_its_members(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {"data/a.zip": zipped({"1.csv": "id\n1\n", "2.csv": "id\n2\n"})}
    project = make_project(files_yml("data/*.zip", incremental=True), files)
    load(project)
    write(project.config.root, {"data/b.zip": zipped({"1.csv": "id\n10\n"})})
    assert load(project).rows == 1
    write(project.config.root, {"data/a.zip": zipped({"1.csv": "id\n3\n", "4.csv": "id\n4\n"})})

    result = load(project)

    assert result.rows == 2
    assert result.notes == (
        "data/a.zip/2.csv is gone, the rows stay; `smoll run --reload s.t` loads only what is there",
    )
    assert rows(project) == [(2,), (3,), (4,), (10,)]
    assert load(project).status == "unchanged"


def test_other_members_wanted_are_loaded(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {"data/a.zip": zipped({"1.csv": "id\n1\n", "2.csv": "id\n2\n"})}
    project = make_project(files_yml("data/a.zip/1.csv", incremental=True), files)
    load(project)
    project = reopen(project, files_yml("data/a.zip/*.csv", incremental=True))
    load(project)
    assert rows(project) == [(1,), (2,)]
    assert load(project).status == "unchanged"


def test_a_folder_named_like_an_archive_is_a_folder(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/a.zip/*.csv"), {"data/a.zip/1.csv": "id\n1\n"})
    load(project)
    assert raw(project, "SELECT id, _smoll_file FROM raw_s.t") == [(1, "data/a.zip/1.csv")]


def test_an_archive_of_a_web_server_is_fetched_once(make_project: MakeProject) -> None:
    with serve() as web:
        url = web.put("/a.zip", zipped({"1.csv": "id\n1\n", "b=3/2.csv": "id\n2\n"}))
        project = make_project(files_yml(f"{url}/**/*.csv?c=4", incremental=True))
        load(project)
        assert raw(project, "SELECT id, _smoll_file FROM raw_s.t ORDER BY 1") == [
            (1, f"{url}?c=4/1.csv"),
            (2, f"{url}?c=4/b=3/2.csv"),
        ]
        web.statuses()
        assert load(project).status == "unchanged"
        assert web.statuses() == [304]


def test_a_download_that_turns_out_to_be_an_archive_is_one(make_project: MakeProject) -> None:
    with serve() as web:
        url = web.put("/download", zipped({"1.csv": "id\n1\n"}))
        project = make_project(files_yml(url, format="csv", incremental=True))
        load(project)
        assert raw(project, "SELECT id, _smoll_file FROM raw_s.t") == [(1, f"{url}/1.csv")]
        assert load(project).status == "unchanged"


BROKEN: dict[str, tuple[bytes, str]] = {
    "slip": (zipped({"../../evil.csv": "id\n1\n"}), "leads out of the archive"),
    "absolute": (zipped({"/etc/evil.csv": "id\n1\n"}), "leads out of the archive"),
    "nothing": (zipped({"README.md": "x"}), "holds no file of a known format"),
    "empty member": (zipped({"1.csv": ""}), "a.zip/1.csv is empty"),
    "nested": (
        zipped({"1.csv": "id\n1\n", "b.csv": zipped({"2.csv": "id\n2\n"})}),
        "b.csv is an archive in an archive",
    ),
    "no archive": (b"PK\x03\x04 but no more", "no readable zip archive"),
    "cut": (zipped({"1.csv": "id\n" + "1\n" * 9999})[:-40], "no readable zip archive"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_archive_is_refused(make_project: MakeProject, case: str, tmp_path: Path) -> None:
    body, said = BROKEN[case]
    project = make_project(files_yml("data/a.zip"), {"data/a.zip": body})
    refused(project, "s.t: ", said)
    assert not list(tmp_path.rglob("evil.csv"))


def test_an_encrypted_member_is_named(make_project: MakeProject) -> None:
    body = bytearray(zipped({"1.csv": "id\n1\n"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = body.index(mark) + offset
        struct.pack_into("<H", body, place, 1)
    refused(make_project(files_yml("data/a.zip"), {"data/a.zip": bytes(body)}), "a.zip/1.csv is encrypted")


def test_a_damaged_member_is_named(make_project: MakeProject) -> None:
    body = bytearray(zipped({"1.csv": "id\n1\n2\n3\n"}, zipfile.ZIP_STORED))
    body[body.index(b"id\n1")] ^= 1
    refused(make_project(files_yml("data/a.zip"), {"data/a.zip": bytes(body)}), "a.zip/1.csv is damaged", "CRC")


@pytest.mark.parametrize("body", [b"no bz2 at all", bz2.compress(b"id\n" + b"1\n" * 9999)[:-20]])
def test_a_damaged_bz2_is_refused(make_project: MakeProject, body: bytes) -> None:
    refused(make_project(files_yml("data/t.csv.bz2"), {"data/t.csv.bz2": body}), "data/t.csv.bz2 is damaged")


def test_check_looks_into_an_archive(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/a.zip/*.csv"), {"data/a.zip": zipped({"1.csv": "id\n1\n"})})
    assert any("1 streams, 1 files" in str(result) for result in project.check())
    write(project.config.root, {"data/a.zip": zipped({"1.json": "[]"})})
    assert any("No file in data/a.zip matches *.csv" in str(result) for result in project.check())


def test_a_damaged_line_of_a_member_is_named(make_project: MakeProject) -> None:
    body = zipped({"in/1.csv": "id,x\n1,2\n3\n", "in/2.csv": "id,x\n4,5\n"})
    project = make_project(files_yml("data/a.zip", on_bad_row="quarantine"), {"data/a.zip": body})
    assert load(project).rejected == 1
    assert rows(project) == [(1, 2), (4, 5)]
    assert raw(project, "SELECT _smoll_file, line, raw FROM raw_s.t__rejected") == [("data/a.zip/in/1.csv", 3, "3")]
