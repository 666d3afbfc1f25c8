"""Files of an object store: a real S3 API (moto's server), its listings, pages and ETags."""

from __future__ import annotations

import io
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support import KEY, SECRET, Bucket, MakeProject, files_yml, load, parquet, raw, refused, reopen, rows


def test_objects_are_found_by_key_and_by_pattern(make_project: MakeProject, bucket: Bucket, tmp_path: Path) -> None:
    parquet("SELECT 4 AS id", tmp_path / "t.parquet")
    bucket.put("in/a b/ü.csv", "id\n1\n")
    bucket.put("in/a b/other.csv", "id\n2\n")
    bucket.put("in/deep/er/3.csv", "id\n3\n")
    bucket.put("in/t.parquet", (tmp_path / "t.parquet").read_bytes())
    bucket.put("in/not.txt", "nothing of that\n")
    paths = {
        f"{bucket.url}/in/a b/ü.csv": [1],
        f"{bucket.url}/in/*/*.csv": [1, 2],
        f"{bucket.url}/in/**/*.csv": [1, 2, 3],
        f"{bucket.url}/in/[!n]*.parquet": [4],
        f"{bucket.url}/in/a?b/o*": [2],
    }
    for path, expected in paths.items():
        project = make_project(files_yml(path, source=bucket.source, format=None if "*" not in path[-2:] else "csv"))
        load(project)
        assert [row[0] for row in rows(project)] == expected

    assert raw(project, "SELECT _smoll_file FROM raw_s.t") == [(f"{bucket.url}/in/a b/other.csv",)]


def test_only_new_and_changed_objects_are_fetched(make_project: MakeProject, bucket: Bucket) -> None:
    bucket.put("d/1.csv", "id\n1\n")
    bucket.put("d/2.csv", "id\n2\n")
    project = make_project(files_yml(f"{bucket.url}/d/*.csv", source=bucket.source, incremental=True))
    assert load(project).rows == 2
    assert load(project).status == "unchanged"
    bucket.put("d/2.csv", "id\n7\n")
    bucket.put("d/3.csv", "id\n3\n")
    bucket.delete("d/1.csv")

    result = load(project)

    assert result.rows == 2
    assert "d/1.csv is gone, the rows stay" in "".join(result.notes)
    assert rows(project) == [(1,), (3,), (7,)]


def test_replace_follows_the_bucket(make_project: MakeProject, bucket: Bucket) -> None:
    bucket.put("1.csv", "id\n1\n")
    bucket.put("2.csv", "id\n2\n")
    project = make_project(files_yml(f"{bucket.url}/*.csv", source=bucket.source))
    load(project)
    assert load(project).status == "unchanged"
    bucket.delete("1.csv")

    assert load(project).status == "loaded"

    assert rows(project) == [(2,)]


def test_a_listing_has_many_pages(make_project: MakeProject, bucket: Bucket) -> None:
    for number in range(1_050):
        bucket.put(f"many/{number}.csv", f"id\n{number}\n")
    project = make_project(files_yml(f"{bucket.url}/many/*.csv", source=bucket.source, incremental=True))

    assert load(project).rows == 1_050

    assert raw(project, "SELECT count(DISTINCT id), count(DISTINCT _smoll_file) FROM raw_s.t") == [(1_050, 1_050)]
    wrong = f"SELECT count(*) FROM raw_s.t WHERE _smoll_file <> '{bucket.url}/many/' || id || '.csv'"
    assert raw(project, wrong) == [(0,)]
    assert load(project).status == "unchanged"


def test_partitions_and_archives_of_a_bucket(make_project: MakeProject, bucket: Bucket) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.csv", "id\n2\n")
    bucket.put("y/year=2023/1.csv", "id\n1\n")
    bucket.put("y/year=2024/a.zip", archive.getvalue())
    paths = [f"{bucket.url}/y/year=*/*.csv", f"{bucket.url}/y/year=*/*.zip/*.csv"]
    project = make_project(files_yml(paths, source=bucket.source, incremental=True))

    load(project)

    assert rows(project) == [(1, 2023), (2, 2024)]
    assert load(project).status == "unchanged"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{bucket}/nothing.csv", "There is no object"),
        ("{bucket}/nothing/*.csv", "No object matches"),
        ("s3://no-such-bucket/*.csv", "NoSuchBucket"),
        ("{bucket}/empty.csv", "is empty: 0 bytes"),
    ],
)
def test_what_is_not_there_is_named(make_project: MakeProject, bucket: Bucket, path: str, said: str) -> None:
    bucket.put("empty.csv", "")
    project = make_project(files_yml(path.format(bucket=bucket.url), source=bucket.source))
    error = refused(project, "s.t: ", said)
    assert SECRET not in error


def test_an_unknown_option_of_storage_is_named(make_project: MakeProject, bucket: Bucket) -> None:
    source = {"storage": {**bucket.source["storage"], "colour": "blue"}}
    refused(make_project(files_yml(f"{bucket.url}/*.csv", source=source)), "storage", "colour")


def test_a_store_that_cannot_be_reached_fails_without_its_secrets(make_project: MakeProject) -> None:
    storage = {"endpoint": "http://127.0.0.1:9", "region": "us-east-1", "access_key_id": KEY}
    source = {"storage": {**storage, "secret_access_key": SECRET}}
    error = refused(make_project(files_yml("s3://bucket/*.csv", source=source)), "s3://bucket/*.csv cannot be read")
    assert SECRET not in error
    assert KEY not in error


def test_the_environment_stands_in_for_storage(
    make_project: MakeProject, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("1.csv", "id\n1\n")
    for name, value in bucket.source["storage"].items():
        monkeypatch.setenv(f"AWS_{name.upper()}", value)
    project = make_project(files_yml(f"{bucket.url}/*.csv"))
    load(project)
    assert rows(project) == [(1,)]


def test_check_lists_and_does_not_fetch(make_project: MakeProject, bucket: Bucket) -> None:
    bucket.put("1.csv", "id\n1\n")
    project = make_project(files_yml(f"{bucket.url}/*.csv", source=bucket.source))
    assert any("1 streams, 1 files" in str(result) for result in project.check())
    project = reopen(project, files_yml(f"{bucket.url}/no/*.csv", source=bucket.source))
    assert any("No object matches" in str(result) for result in project.check())


def test_an_interrupt_ends_a_store_that_hangs(make_project: MakeProject, tmp_path: Path) -> None:
    from smoll.connector import Reading
    from smoll.connectors import files
    from smoll.errors import Interrupted

    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = {"endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}", "region": "us-east-1"}
        source_yml = {"storage": {**storage, "access_key_id": KEY, "secret_access_key": SECRET}}
        project = make_project(files_yml("s3://bucket/*.csv", source=source_yml))
        source: Any = project.config.sources["s"]
        connection: Any = None
        (plan,) = files.discover("s", source, project.config.root, connection)
        asked = iter([False, False, True])
        reading = Reading(project.config.root, tmp_path, connection, stopped=lambda: next(asked, True))
        begun = time.monotonic()

        with pytest.raises(Interrupted):
            files.extract(plan, source, reading)

    assert time.monotonic() - begun < 10
