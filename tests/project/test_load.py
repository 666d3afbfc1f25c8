"""Good project files, and what they become."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from project.helpers import load, write
from smoll.errors import UsageError
from smoll.project import FilesSource, SqlSource, find_root, load_config

WHOLE = """\
name: flights of NY.C
warehouse: {kind: duckdb}
sources:
  nyc:
    kind: files
    naming: snake_case
    metadata: {load_id: _id, file: _path}
    streams:
      flights:
        path: [data/a*.csv, /abs/b.csv]
        format: csv
        mode: merge
        key: [day, flight]
        cursor: updated
        table: all flights
        columns: {day: DATE, price: "DECIMAL(18,2)"}
        delimiter: "\\t"
        header: false
        encoding: latin-1
        null_values: [~, NULL, -1, NA]
      planes: data/planes.parquet
      weather: [a.json, b.json]
  shop:
    kind: sql
    url: postgresql://u:${PW}@h:5432/db
    source_schema: sales
    schema: shop
    streams:
      "*": {}
      rental: {mode: merge, key: rental_id, cursor: last_update}
      payment:
      visit: {mode: append, cursor: id, daily_from: "2013-01-01"}
  lite: {kind: sql, url: "sqlite:///a.db", streams: [a, b]}
transform: dbt
release: {select: "path:models/marts", keep: 3}
resources: {memory: 1.5GiB, threads: 2}
schedules:
  hourly: "0 * * * *"
  nightly: {cron: "0  3 * * *", timezone: Europe/Amsterdam, select: "source:nyc+", exclude: "tag:slow", retries: 2}
sensors:
  arrivals: {files: nyc, every: 1 minute, retries: 1}
  upstream: {release: ../other, select: tag:shop}
dagster: {storage: "postgresql://u:${PW}@h/dagster", port: 3100, keep_days: 30}
"""


def test_every_key(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE, environ={"PW": "pass-word"})
    assert (config.name, config.warehouse) == ("flights of NY.C", "duckdb")
    assert config.transform_dir == tmp_path.resolve() / "dbt"
    assert (config.release.select, config.release.keep) == ("path:models/marts", 3)
    assert (config.resources.memory, config.resources.threads) == (3 * 2**29, 2)

    nyc = config.sources["nyc"]
    assert isinstance(nyc, FilesSource)
    assert (nyc.schema_name, nyc.naming) == ("raw_nyc", "snake_case")
    assert (nyc.metadata.load_id, nyc.metadata.loaded_at, nyc.metadata.file) == (
        "_id",
        "_smoll_loaded_at",
        "_path",
    )
    flights = nyc.streams["flights"]
    assert flights.path == ("data/a*.csv", "/abs/b.csv")
    assert (flights.mode, flights.key, flights.cursor) == ("merge", ("day", "flight"), "updated")
    assert (flights.table, flights.columns) == ("all flights", {"day": "DATE", "price": "DECIMAL(18,2)"})
    assert (flights.format, flights.delimiter, flights.header) == ("csv", "\t", False)
    assert (flights.encoding, flights.null_values) == ("latin-1", ("~", "NULL", "-1", "NA"))
    assert nyc.streams["planes"].path == ("data/planes.parquet",)
    assert nyc.streams["planes"].null_values == ("",)
    assert nyc.streams["weather"].path == ("a.json", "b.json")

    shop = config.sources["shop"]
    assert isinstance(shop, SqlSource)
    assert shop.url.get_secret_value() == "postgresql://u:pass-word@h:5432/db"
    assert (shop.schema_name, shop.source_schema) == ("shop", "sales")
    assert list(shop.streams) == ["*", "rental", "payment", "visit"]
    assert (shop.streams["payment"].mode, shop.streams["payment"].key) == ("replace", ())
    assert shop.streams["visit"].daily_from == date(2013, 1, 1)
    lite = config.sources["lite"]
    assert isinstance(lite, SqlSource)
    assert list(lite.streams) == ["a", "b"]


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, "name: x\nsources:\nrelease:\n")
    assert config.sources == {}
    assert (config.warehouse, config.transform, config.release.keep) == ("duckdb", "transform", 10)
    assert (config.release.select, config.resources.memory, config.resources.threads) == (None, None, None)


def test_text_stays_text(tmp_path: Path) -> None:
    text = "name: 007\nsources: {no: {kind: files, streams: {2024: 1e3, NO: on, 12:30: 0o7}}}\n"
    config = load(tmp_path, text)
    assert config.name == "007"
    assert {name: stream.path for name, stream in config.sources["no"].streams.items()} == {  # type: ignore[union-attr]
        "2024": ("1e3",), "NO": ("on",), "12:30": ("0o7",)
    }  # fmt: skip


def test_anchors(tmp_path: Path) -> None:
    text = "name: x\nsources: {a: {kind: files, streams: {s: &s {path: p}}}, b: {kind: files, streams: {s: *s}}}"
    config = load(tmp_path, text)
    assert config.sources["b"].streams["s"].path == ("p",)  # type: ignore[union-attr]


def test_immutable(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE, dotenv="PW=x")
    with pytest.raises(ValidationError):
        config.name = "other"
    with pytest.raises(TypeError):
        config.sources["x"] = config.sources["nyc"]  # type: ignore[index]
    with pytest.raises(TypeError):
        config.sources["nyc"].streams["flights"].columns["x"] = "y"  # type: ignore[index]
    with pytest.raises(TypeError):
        config.dotenv["PW"] = "y"  # type: ignore[index]


def test_locate(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE, dotenv="PW=x")
    assert config.locate("sources", "nyc", "streams", "planes") == "smoll.yml:21"
    assert config.locate("sources", "nyc", "streams", "planes", "mode") == "smoll.yml:21"
    assert config.locate("sources", "nyc", "streams", "flights", "path", "1") == "smoll.yml:10"
    assert config.locate("sources", "lite", "streams", "b") == "smoll.yml:33"
    assert config.locate("nothing", "here") == "smoll.yml:1"
    assert config.locate() == "smoll.yml:1"


def test_variables(tmp_path: Path) -> None:
    text = (
        "name: ${N}-${EMPTY:-d}${UNSET:-e f}\ntransform: '$${N} $N ${EMPTY}.'\n"
        'release: {keep: "${KEEP}"}\nresources:\n  threads: ${UNSET:-4}\n'
    )
    config = load(tmp_path, text, dotenv="N=from file\nKEEP=7\nEMPTY=", environ={"N": "real"})
    assert config.name == "real-de f"
    assert config.transform == "${N} $N ."
    assert (config.release.keep, config.resources.threads) == (7, 4)
    assert config.dotenv == {"N": "from file", "KEEP": "7", "EMPTY": ""}


def test_environment_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLL_TEST_NAME", "process")
    assert load_config(write(tmp_path, "name: ${SMOLL_TEST_NAME}")).name == "process"


def test_encodings_and_line_ends(tmp_path: Path) -> None:
    config = load(tmp_path, b"\xef\xbb\xbfname: x\r\ntransform: d\xc3\xa9\r\n", dotenv=b"\xef\xbb\xbfA=1\r\nB='2'\r\n")
    assert (config.transform, config.dotenv) == ("dé", {"A": "1", "B": "2"})


@pytest.mark.parametrize(
    ("written", "size"),
    [("1GB", 10**9), ("512MB", 512 * 10**6), ("1GiB", 2**30), ("0.5 gb", 5 * 10**8), ("1TB", 10**12)],
)
def test_memory(tmp_path: Path, written: str, size: int) -> None:
    assert load(tmp_path, f"name: x\nresources: {{memory: {written}}}").resources.memory == size


def test_folder_with_spaces_and_quotes(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder" é'
    folder.mkdir()
    assert load(folder, "name: x").root == folder.resolve()


def test_find_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"(?s)No smoll\.yml in .*smoll init"):
        find_root(below)
    write(tmp_path, "name: x")
    (below / "smoll.yml").mkdir()  # a folder of that name is no project file
    monkeypatch.chdir(below)
    assert find_root() == find_root(below) == find_root(Path()) == tmp_path.resolve()
    with pytest.raises(UsageError, match="is not a folder"):
        find_root(tmp_path / "nowhere")


def test_no_project(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="smoll init") as caught:
        load_config(tmp_path)
    assert caught.value.exit_code == 2


def test_imports_no_engine() -> None:
    code = "import sys, smoll.project; print(sorted({'duckdb','dbt','rich','dlt','dagster'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
