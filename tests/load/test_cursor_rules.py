"""What a cursor promises: late rows within the lag, a range loaded again, deletes found by the keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from smoll.errors import UsageError
from support import MakeProject, Postgres, files_yml, load, only_stream, raw, reopen, rows, sql_yml


def database(root: Path, statements: Iterable[str]) -> None:
    with closing(sqlite3.connect(root / "shop.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def shop(**options: Any) -> str:
    return sql_yml("sqlite:///shop.db", {"t": options})


CREATE = "CREATE TABLE t (id INTEGER, at INTEGER, note TEXT)"


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_row_that_comes_late_is_loaded_within_the_lag_and_not_doubled(make_project: MakeProject, mode: str) -> None:
    key = {"key": "id"} if mode == "merge" else {}
    project = make_project(shop(mode=mode, cursor="at", lag="10", **key))
    database(project.config.root, [CREATE, "INSERT INTO t VALUES (1, 95, 'a'), (2, 95, 'a'), (3, 100, 'b')"])
    load(project)
    database(project.config.root, ["INSERT INTO t VALUES (4, 92, 'late'), (5, 80, 'too late'), (6, 101, 'new')"])

    load(project)
    again = load(project)

    assert [row[0] for row in rows(project)] == [1, 2, 3, 4, 6]
    assert again.total == 5


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "date"])
def test_the_lag_of_times_is_a_length_of_time(make_project: MakeProject, postgres: Postgres, kind: str) -> None:
    postgres.execute(f"CREATE TABLE t (id int, at {kind}); INSERT INTO t VALUES (1, '2024-01-10'), (2, '2024-01-09')")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "at", "lag": "2 days"}}))
    load(project)
    postgres.execute("INSERT INTO t VALUES (3, '2024-01-08'), (4, '2024-01-07'), (5, NULL)")

    load(project)
    load(project)

    assert raw(project, "SELECT id FROM raw_s.t ORDER BY id") == [(1,), (2,), (3,), (5,)]


@pytest.mark.parametrize(("lag", "what"), [("2 days", "a number"), ("5", "a time")])
def test_a_lag_of_another_kind_is_refused(make_project: MakeProject, postgres: Postgres, lag: str, what: str) -> None:
    cursor = "id" if what == "a number" else "at"
    postgres.execute("CREATE TABLE t (id int, at timestamp); INSERT INTO t VALUES (1, '2024-01-10')")
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": cursor, "lag": lag}}))

    error = only_stream(project.run()).error

    assert f"the lag {lag!r}" in error and what in error and "1000" in error


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_range_is_loaded_again_and_the_rest_stays(make_project: MakeProject, mode: str) -> None:
    key = {"key": "id"} if mode == "merge" else {}
    project = make_project(shop(mode=mode, cursor="at", **key))
    database(
        project.config.root, [CREATE, "INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c'), (4, 40, 'd')"]
    )
    load(project)
    database(
        project.config.root,
        [
            "DELETE FROM t WHERE id = 2",
            "UPDATE t SET note = 'new'",
            "INSERT INTO t VALUES (5, 25, 'late'), (6, 50, 'e')",
        ],
    )

    stream = only_stream(project.run(reload=["s.t"], since="20", until="40"))

    assert (stream.status, stream.rows) == ("loaded", 2), stream.error
    assert raw(project, 'SELECT id, "at", note FROM raw_s.t ORDER BY id') == [
        (1, 10, "a"),
        (3, 30, "new"),
        (4, 40, "d"),
        (5, 25, "late"),
    ]
    load(project)  # goes on from where it was
    changed_at_the_boundary = [4] if mode == "append" else []  # another row, for a mode that has no key
    assert [row[0] for row in rows(project)] == sorted([1, 3, 4, 5, 6, *changed_at_the_boundary])


def test_a_range_of_times_in_postgres(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        "CREATE TABLE t (id int, at timestamptz); INSERT INTO t VALUES (1, '2024-01-01 UTC'), (2, '2024-02-01 UTC')"
    )
    project = make_project(sql_yml(postgres.url, {"t": {"mode": "append", "cursor": "at"}}))
    load(project)
    postgres.execute("INSERT INTO t VALUES (3, '2024-01-15 UTC')")

    assert only_stream(project.run(reload=["s"], since="2024-01-01", until="2024-02-01")).status == "loaded"

    assert raw(project, "SELECT id FROM raw_s.t ORDER BY id") == [(1,), (2,), (3,)]
    assert "no-date" in only_stream(project.run(reload=["s"], since="no-date")).error
    assert raw(project, "SELECT count(*) FROM raw_s.t") == [(3,)]


def test_a_range_needs_a_cursor_that_limits_the_read(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "id\n1\n"})

    with pytest.raises(UsageError, match=r"s\.t cannot be read by a range"):
        project.run(reload=["s.t"], since="1")
    with pytest.raises(UsageError, match="need --reload"):
        project.run(until="1")


@pytest.mark.parametrize("deletes", ["ignore", "soft", "detect"])
@pytest.mark.parametrize("cursor", [None, "at"])
def test_rows_that_are_gone_in_a_database(make_project: MakeProject, deletes: str, cursor: str | None) -> None:
    options = {"mode": "merge", "key": "id", "deletes": deletes} | ({"cursor": cursor} if cursor else {})
    project = make_project(shop(**options))
    database(project.config.root, [CREATE, "INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c')"])
    load(project)
    database(project.config.root, ["DELETE FROM t WHERE id = 2"])
    load(project)
    load(project)

    gone = raw(
        project, f"SELECT id FROM raw_s.t {'WHERE _smoll_deleted_at IS NULL' if deletes == 'soft' else ''} ORDER BY id"
    )
    assert gone == ([(1,), (2,), (3,)] if deletes == "ignore" else [(1,), (3,)])
    if deletes == "soft":
        assert raw(project, "SELECT id FROM raw_s.t WHERE _smoll_deleted_at IS NOT NULL") == [(2,)]
        database(project.config.root, ["INSERT INTO t VALUES (2, 40, 'back')"])
        load(project)
        assert raw(project, "SELECT note, _smoll_deleted_at FROM raw_s.t WHERE id = 2") == [("back", None)]


def test_another_key_loads_the_stream_anew(make_project: MakeProject) -> None:
    project = make_project(shop(mode="merge", key="id"))
    database(project.config.root, [CREATE, "INSERT INTO t VALUES (1, 10, 'a'), (2, 10, 'b')"])
    load(project)

    stream = load(reopen(project, shop(mode="merge", key="at")))

    assert stream.total == 1 and "loaded anew" in stream.notes[0] and "key" in stream.notes[0]
