"""URLs with ``{cursor}``: an open-data portal is asked for new rows only, and none is lost or doubled."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest

from smoll import open_project
from smoll.errors import ConfigError
from support import MakeProject, files_yml, load, only_stream, raw, refused, reopen, rows
from web_server import serve

START = "1970-01-01T00:00:00"


@dataclass
class Portal:
    """Answers as Opendatasoft's Explore API v2.1 does: ``exports/<format>`` of a dataset, filtered by ``where``."""

    url: str
    folder: Path
    kind: str = "TIMESTAMP"
    rows: list[tuple[int, str, str | None]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def export(self, format: str, where: str = "") -> str:
        """The URL of the export, as a project writes it."""
        path = f"/api/explore/v2.1/catalog/datasets/3-1-1-service-requests/exports/{format}"
        return f"{self.url}{path}?limit=-1{'&where=' if where else ''}{where}"

    def answer(self, handler: Any) -> bool:
        parts = urlsplit(handler.path)
        query = parse_qs(parts.query, strict_parsing=True)
        where = query.get("where", [""])[0]
        with self.lock:
            self.asked.append(where)
        assert query["limit"] == ["-1"]
        try:
            body = self._file(parts.path.rpartition("/")[2], where)
        except ValueError as error:
            text = f'{{"error_code": "ODSQLError", "message": "{error}"}}'.encode()
            handler.plain(400, text, {"Content-Type": "application/json"})
            return True
        handler.plain(200, body)
        return True

    def _file(self, format: str, where: str) -> bytes:
        """The rows as a file. The literals of ODSQL's dates are ISO 8601: ``date'2017-04-03T08:02:00+00:00'``."""
        conditions = []
        for condition in where.split(" and ") if where else []:
            found = re.fullmatch(r"(updated|id) ?(>=|>|<=|<) ?(?:date)?('?)([^']*)\3", condition)
            if not found or (found[3] and not re.fullmatch(r"\d{4}-\d\d-\d\d(T[\d:.]+([+-]\d\d:\d\d|Z)?)?", found[4])):
                raise ValueError(f"Invalid where: {condition}")
            value = f"CAST('{found[4]}' AS {self.kind})" if found[3] else str(int(found[4]))
            conditions.append(f"{found[1]} {found[2]} {value}")
        target = self.folder / f"answer.{format}"
        with self.lock, duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"CREATE TABLE t (id BIGINT, note VARCHAR, updated {self.kind})")
            if self.rows:
                connection.executemany("INSERT INTO t VALUES (?, ?, ?)", self.rows)
            select = f"SELECT * FROM t {'WHERE ' if conditions else ''}{' AND '.join(conditions)} ORDER BY id"
            kind = {"csv": "csv, DELIMITER ';'", "parquet": "parquet", "json": "json, ARRAY true", "jsonl": "json"}
            connection.execute(f"COPY ({select}) TO '{target}' (FORMAT {kind[format]})")
            return target.read_bytes()


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    with serve() as web:
        found = Portal(web.url, tmp_path)
        web.answer = found.answer
        yield found


def yml(portal: Portal, format: str = "parquet", where: str = "updated>='{cursor}'", **options: Any) -> str:
    options = {"cursor": "updated", "start": START, "mode": "append", **options}
    return files_yml(portal.export(format, where), **options)


@pytest.mark.parametrize("format", ["parquet", "csv", "json", "jsonl"])
@pytest.mark.parametrize("mode", [{"mode": "append"}, {"mode": "merge", "key": "id"}])
def test_new_rows_are_asked_for_and_none_is_doubled(
    make_project: MakeProject, portal: Portal, format: str, mode: dict[str, Any]
) -> None:
    project = make_project(yml(portal, format, **mode))
    portal.rows = [(1, "a", "2024-01-01 00:00:00"), (2, "b", "2024-01-02 03:04:05.678")]
    load(project)
    portal.rows += [(3, "tie", "2024-01-02 03:04:05.678"), (4, "late", "2023-01-01"), (5, "new", "2024-02-01")]

    load(project)

    assert portal.asked == [f"updated>='{START}'", "updated>='2024-01-02T03:04:05.678'"]
    assert [row[0] for row in rows(project)] == [1, 2, 3, 5]
    load(project)
    assert [row[0] for row in rows(project)] == [1, 2, 3, 5]


@pytest.mark.parametrize("format", ["parquet", "csv", "json", "jsonl"])
def test_an_empty_answer_means_nothing_new(make_project: MakeProject, portal: Portal, format: str) -> None:
    project = make_project(yml(portal, format, "updated>'{cursor}'"))
    assert only_stream(project.run()).status in ("unchanged", "loaded")  # a portal without a row as yet
    portal.rows = [(1, "a", "2024-01-01")]
    load(project)

    assert load(project).status == "unchanged"

    assert [row[0] for row in rows(project)] == [1]
    assert project.run().status == "ok"


@pytest.mark.parametrize("body", [b"", b"\n", b"id;note;updated\n"])
@pytest.mark.parametrize("status", [200, 204])
def test_other_ways_to_say_nothing(make_project: MakeProject, body: bytes, status: int) -> None:
    with serve() as web:
        answers = [b"id;note;updated\n1;a;2024-01-01\n", body if status == 200 else b""]

        def answer(handler: Any) -> bool:
            handler.plain(200 if len(answers) == 2 else status, answers.pop(0))
            return True

        web.answer = answer
        url = f"{web.url}/exports/csv?where=updated>'{{cursor}}'"
        project = make_project(files_yml(url, cursor="updated", start=START, mode="append"))
        load(project)
        assert load(project).status == "unchanged"
        assert [row[0] for row in rows(project)] == [1]


def test_a_lag_reads_late_rows_and_doubles_none(make_project: MakeProject, portal: Portal) -> None:
    project = make_project(yml(portal, lag="2 days"))
    portal.rows = [(1, "a", "2024-01-05"), (2, "b", "2024-01-08 12:00:00"), (3, "c", "2024-01-10")]
    load(project)
    portal.rows += [(4, "late", "2024-01-08 06:00:00"), (5, "too late", "2024-01-07"), (6, "new", "2024-01-11")]

    load(project)

    assert portal.asked[1] == "updated>='2024-01-08T00:00:00'"
    assert [row[0] for row in rows(project)] == [1, 2, 3, 4, 6]


def test_a_zone_is_told_in_utc_and_escaped(make_project: MakeProject, portal: Portal) -> None:
    portal.kind = "TIMESTAMP WITH TIME ZONE"
    project = make_project(yml(portal, where="updated >= date'{cursor}' and id > 0"))
    portal.rows = [(1, "a", "2024-07-01 12:00:00+02")]
    load(project)
    portal.rows += [(2, "b", "2024-07-01 10:00:00.000001+00"), (3, "older", "2024-07-01 09:59:59+00")]

    load(project)

    assert portal.asked[1] == "updated >= date'2024-07-01T10:00:00+00:00' and id > 0"
    assert [row[0] for row in rows(project)] == [1, 2]


def test_a_number_may_be_the_cursor(make_project: MakeProject, portal: Portal) -> None:
    project = make_project(yml(portal, "jsonl", "id>={cursor}", cursor="id", start="0", lag=1))
    portal.rows = [(1, "a", "2024-01-01"), (7, "b", "2024-01-01")]
    load(project)
    portal.rows += [(6, "late", "2024-01-01"), (8, "c", "2024-01-01")]

    load(project)

    assert portal.asked == ["id>=0", "id>=6"]
    assert [row[0] for row in rows(project)] == [1, 6, 7, 8]


def test_a_day_is_the_cursor(make_project: MakeProject, portal: Portal) -> None:
    portal.kind = "DATE"
    project = make_project(yml(portal, lag="1 week", start="2000-01-01"))
    portal.rows = [(1, "a", "2024-01-31")]
    load(project)
    load(project)
    assert portal.asked == ["updated>='2000-01-01'", "updated>='2024-01-24'"]
    assert rows(project) == [(1, "a", datetime.date(2024, 1, 31))]


def test_a_lag_that_does_not_fit_is_refused(make_project: MakeProject, portal: Portal) -> None:
    project = make_project(yml(portal, lag=5))
    portal.rows = [(1, "a", "2024-01-31")]
    load(project)
    refused(project, "lag '5' cannot be taken from the cursor")


def test_what_a_portal_complains_of_is_told(make_project: MakeProject, portal: Portal) -> None:
    refused(make_project(yml(portal, where="updated near '{cursor}'")), "the server answers 400", "ODSQLError")


def test_reload_begins_at_the_start(make_project: MakeProject, portal: Portal) -> None:
    project = make_project(yml(portal))
    portal.rows = [(1, "a", "2024-01-31")]
    load(project)
    portal.rows = [(2, "b", "2020-01-31")]
    load(project, reload=["s.t"])
    assert portal.asked == [f"updated>='{START}'"] * 2
    assert [row[0] for row in rows(project)] == [2]


def test_rows_say_which_url_they_come_from_without_its_key(make_project: MakeProject, portal: Portal) -> None:
    portal.rows = [(1, "a", "2024-01-31")]
    project = make_project(yml(portal, where="updated>='{cursor}'&apikey=geheim-7"))
    load(project)
    expected = portal.export("parquet", "updated>='{cursor}'")
    assert raw(project, "SELECT DISTINCT _smoll_file FROM raw_s.t") == [(expected,)]


def test_check_asks_the_portal(make_project: MakeProject, portal: Portal) -> None:
    project = make_project(yml(portal))
    assert any("1 streams, 1 files" in str(result) for result in project.check())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "replace": ({"mode": "replace"}, "mode replace needs all"),
    "scd2": ({"mode": "scd2", "key": "id"}, "mode scd2 needs all"),
    "no cursor": ({"cursor": None}, "needs a cursor"),
    "no start": ({"start": None}, "needs a start"),
    "until alone": ({"path": "http://h/x.csv?a={until}", "start": None, "cursor": None}, "{until} needs {cursor}"),
    "local": ({"path": "data/{cursor}.csv", "start": None, "cursor": None}, "is for http and https"),
    "bucket": ({"path": "s3://b/{cursor}.csv", "start": None, "cursor": None}, "is for http and https"),
    "both": ({"path": ["http://h/x.csv?a={cursor}", "http://h/y.csv"]}, "make them two streams"),
    "lag without": ({"path": "http://h/x.csv", "lag": "1 day", "cursor": None, "start": None}, "lag is for URLs"),
    "start without": ({"path": "http://h/x.csv", "cursor": None}, "start is for URLs"),
    "incremental replace": (
        {"path": "x.csv", "mode": "replace", "incremental": True, "cursor": None, "start": None},
        "reads all files",
    ),
    "listing": ({"path": "http://h/*.csv", "cursor": None, "start": None}, "a web server has no listing"),
    "scheme": ({"path": "ftp://u:geheim@h/x.csv", "cursor": None, "start": None}, "ftp:// cannot be read"),
    "no host": ({"path": "https:///x.csv", "cursor": None, "start": None}, "no host"),
    "no key": ({"path": "s3://bucket", "cursor": None, "start": None}, "needs a bucket and a path"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options_that_do_not_fit_are_complained_of(make_project: MakeProject, case: str) -> None:
    options, said = WRONG[case]
    spec = {"path": "http://h/x.csv?a={cursor}", "cursor": "updated", "start": START, "mode": "append", **options}
    project = make_project(files_yml("data/t.csv"), {"data/t.csv": "id\n1\n"})
    with pytest.raises(ConfigError) as caught:
        reopen(project, files_yml(**spec))
    assert said in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_incremental_is_append_written_otherwise(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/*.csv", incremental=True), {"data/1.csv": "id\n1\n"})
    assert project.config.sources["s"].streams["t"].mode == "append"
    load(project)
    project = open_project(project.config.root)
    project = reopen(project, files_yml("data/*.csv", mode="append"))
    assert load(project).status == "unchanged"
    merged = files_yml("data/*.csv", mode="merge", key="id", incremental=True)
    assert load(reopen(project, merged)).status == "loaded"


@pytest.mark.parametrize(
    ("where", "since", "until", "asked"),
    [
        ("updated>='{cursor}' and updated<'{until}'", "2024-01-01", None, "updated>='2024-01-01'"),
        ("updated>='{cursor}' and updated<'{until}'", "2024-01-01 10:00:00", "2024-02-01", "<'2024-02-01'"),
        ("updated>='{cursor}'", "2024-01-01 10:00:00", "2024-02-01", "updated>='2024-01-01T10:00:00'"),
    ],
)
def test_a_range_is_filled_in(
    make_project: MakeProject, portal: Portal, where: str, since: str, until: str | None, asked: str
) -> None:
    from smoll.connector import Reading
    from smoll.connectors import files

    portal.rows = [(1, "a", "2024-01-15")]
    project = make_project(yml(portal, where=where))
    source: Any = project.config.sources["s"]
    with duckdb.connect() as connection:
        (plan,) = files.discover("s", source, project.config.root, connection)
        scratch = project.config.root / "scratch"
        scratch.mkdir()
        state = {"cursor": "2025-01-01 00:00:00"}
        reading = Reading(project.config.root, scratch, connection, state, since=since, until=until)
        found = files.extract(plan, source, reading)
        assert connection.execute(f"SELECT id FROM ({found.parts[0].sql})").fetchall() == [(1,)]
    assert found.since == since
    assert asked in portal.asked[0]
