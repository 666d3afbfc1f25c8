"""Sources that fail and are tried again in the same run: what had come stays, what failed comes once, others go on."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smoll
from api_server import Answer, Asked, serving
from programs import INTEGER, PROTOCOLS, TEXT, calls, change, files, journals, one, record, state
from smoll.events import Event, Message, StreamFinished, StreamStarted
from smoll.model import RunResult
from smoll.project import Retries
from support import MakeProject, Postgres, raw, rows, sql_yml, start_run, write

SOON = {"count": 3, "delay": "0 seconds"}


def run(project: smoll.Project, mend: Callable[[int], None] = lambda time: None) -> tuple[RunResult, list[str]]:
    """Run; `mend` is called whenever something is about to be tried again. Returns what was said of that, too."""
    said: list[str] = []
    finished: list[Any] = []

    def listen(event: Event) -> None:
        if isinstance(event, Message) and "trying again" in event.text:
            said.append(event.text)
            mend(len(said))
        if isinstance(event, StreamFinished):
            finished.append(event.result.ref)

    result = project.run(on_event=listen)
    assert len(finished) == len(set(finished)) == len(result.streams)
    return result, said


def statuses(result: RunResult) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {str(stream.ref): (stream.status, stream.notes) for stream in result.streams}


def loads(project: smoll.Project, stream: str) -> int:
    """How often a stream was committed in the last run."""
    sql = "SELECT count(*) FROM _smoll.loads WHERE stream = '{}' AND run = (SELECT max(run) FROM _smoll.loads)"
    (found,) = raw(project, sql.format(stream))
    return int(found[0])


def test_the_waits() -> None:
    """Each twice as long as the one before, up to ten minutes, or to what was asked for."""
    retries = Retries.model_validate({"count": "9", "delay": "1 minute"})
    assert [retries.seconds_after(tried) for tried in range(1, 7)] == [60, 120, 240, 480, 600, 600]
    assert Retries(count=1).seconds_after(1) == 10
    assert Retries(count=1, delay="1 hour").seconds_after(5) == 3600
    assert Retries(count=10**9).seconds_after(10**6) == 600


def test_only_the_stream_that_failed_is_loaded_again(make_project: MakeProject) -> None:
    streams = {"good": "good.csv", "bad": "bad.csv", "unread": "unread.csv"}
    spec = {"kind": "files", "retries": SOON, "streams": streams}
    project = make_project(f"sources: {json.dumps({'s': spec})}", {"good.csv": "x\n1\n", "unread.csv": "x\n3\n"})

    result, said = run(project, lambda time: write(project.config.root, {"bad.csv": "x\n2\n"} if time == 2 else {}))

    assert result.status == "ok"
    assert statuses(result) == {
        "s.good": ("loaded", ()),
        "s.bad": ("loaded", ("tried 3 times",)),
        "s.unread": ("loaded", ()),
    }
    assert all(each.startswith("s.bad: failed (There is no file bad.csv (looked in") for each in said)
    assert [each.rpartition(";")[2] for each in said] == [
        " trying again in 0 s (1 of 3)",
        " trying again in 0 s (2 of 3)",
    ]
    assert [loads(project, name) for name in streams] == [1, 1, 1]
    assert rows(project, "raw_s.bad") == [(2,)]


def test_what_fails_for_good_fails_the_run(make_project: MakeProject) -> None:
    spec = {"kind": "files", "retries": {"count": 2, "delay": "0 seconds"}, "streams": {"t": "t.csv", "u": "u.csv"}}
    project = make_project(f"sources: {json.dumps({'s': spec})}")
    result, said = run(project)
    assert result.status == "failed" and len(said) == 2
    assert said[0].startswith("s: failed (There is no file t.csv")
    assert statuses(result) == dict.fromkeys(("s.t", "s.u"), ("failed", ("tried 3 times",)))
    assert "There is no file" in result.streams[0].error


def test_without_retries_nothing_is_tried_again(make_project: MakeProject) -> None:
    result, said = run(make_project("sources: {s: {kind: files, streams: {t: t.csv}}}"))
    assert (statuses(result), said) == ({"s.t": ("failed", ())}, [])


def test_others_go_on_meanwhile(make_project: MakeProject) -> None:
    """Also where more sources wait than are loaded at the same time."""
    waiting = {f"w{n}": {"kind": "files", "retries": {"count": 1}, "streams": {"t": f"{n}.csv"}} for n in range(6)}
    sources = {**waiting, "z": {"kind": "files", "streams": {"t": "z.csv"}}}
    project = make_project(f"sources: {json.dumps(sources)}", {"z.csv": "x\n1\n"})
    order: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Message) and "trying again" in event.text:
            write(project.config.root, {f"{event.text[1]}.csv": "x\n1\n"})
        if isinstance(event, StreamFinished):
            order.append(event.result.ref.source)

    for source in project.config.sources.values():
        assert source.retries.delay == "10 seconds"
    begun = time.monotonic()
    result = project.run(on_event=listen)
    assert result.status == "ok" and order[0] == "z" and len(order) == 7
    assert 10 <= time.monotonic() - begun < 20


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_connector_goes_on_where_it_failed(make_project: MakeProject, protocol: str) -> None:
    """Exactly once, with `append`: what came before its last state is kept, and not asked for again."""
    fields = {"id": INTEGER, "v": TEXT}
    good = [{"id": 2, "v": "b"}, {"id": 3, "v": "c"}]
    breaks = [
        record(protocol, {"id": 1, "v": "a"}),
        state(protocol, {"at": 1}),
        record(protocol, {"id": 2, "v": "lost"}),
        "#stderr the server hung up",
        "#exit 1",
    ]
    text = one(protocol, {"retries": SOON}, mode="append")
    project = make_project(text, files(protocol, fields, breaks, full=False))

    def mend(time: int) -> None:
        change(project, files(protocol, fields, good, full=False, end=[state(protocol, {"at": 3})]))

    result, said = run(project, mend)

    assert result.status == "ok", result.streams
    assert rows(project, "raw_s.t") == [(1, "a"), (2, "b"), (3, "c")]
    assert said[0].startswith("s.t: failed (") and "failed with exit code 1" in said[0] and len(said) == 1
    assert len(calls(project)) == 2 and "1" in json.dumps(calls(project)[1]["state"])
    assert "tried 2 times" in result.streams[0].notes
    assert journals(project) == [] and loads(project, "t") == 1
    result, said = run(project)
    assert (result.status, said) == ("ok", [])


def away(postgres: Postgres, url: Postgres) -> None:
    """The database takes no connection, and has none."""
    postgres.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'"
    postgres.execute(end)


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_database_that_was_away(
    make_project: MakeProject, postgres: Postgres, postgres_server: Postgres, snapshot: bool
) -> None:
    """Its keys are asked for again, with everything that its catalog says."""
    postgres.execute(
        """CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'a'), (2, 'b');
        CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1);"""
    )
    streams = {"a": {"mode": "merge"}, "b": {"mode": "append", "cursor": "id"}}
    project = make_project(sql_yml(postgres.url, streams, retries=SOON, snapshot=snapshot))
    assert run(project)[0].status == "ok"
    postgres.execute("UPDATE a SET v = 'c' WHERE id = 2; INSERT INTO b VALUES (2);")
    away(postgres_server, postgres)

    def mend(time: int) -> None:
        postgres_server.execute(f"ALTER DATABASE {postgres.database} ALLOW_CONNECTIONS true")

    result, said = run(project, mend)

    assert result.status == "ok", result.streams
    told = ("cannot connect to", "was away when this run began")  # so one says where the other has mended it already
    assert "cannot connect to" in said[0] and postgres.url not in str(said)
    assert all(any(words in each for words in told) for each in said), said
    assert rows(project, "raw_s.a") == [(1, "a"), (2, "c")]
    assert rows(project, "raw_s.b") == [(1,), (2,)]
    assert (loads(project, "a"), loads(project, "b")) == (1, 1)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_database_that_is_back_when_it_is_read(
    make_project: MakeProject, postgres: Postgres, tmp_path: Path, retries: int
) -> None:
    """A key that could not be asked for is not one that the table has not."""
    postgres.execute("CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'a');")
    place, real = tmp_path / ".s.PGSQL.5432", postgres.data / ".s.PGSQL.5432"
    place.symlink_to(real)
    url = f"postgresql://postgres@/{postgres.database}?host={tmp_path}"
    spec = {"count": retries, "delay": "0 seconds"}
    project = make_project(sql_yml(url, {"a": {"mode": "merge"}}, retries=spec))
    assert run(project)[0].status == "ok"
    postgres.execute("INSERT INTO a VALUES (2, 'b')")
    place.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()

        def refuse_once() -> None:
            asking, _ = server.accept()
            place.unlink()
            place.symlink_to(real)
            asking.close()

        threading.Thread(target=refuse_once, daemon=True).start()
        result, said = run(project)

    if retries:
        assert (result.status, len(said)) == ("ok", 1), result
        assert "was away when this run began" in said[0]
    else:
        told = "was away when this run began, so the table's key was not known.\n  It is back: run again."
        assert result.status == "failed" and told in result.streams[0].error
        assert rows(project, "raw_s.a") == [(1, "a")]
        assert run(project)[0].status == "ok"
    assert rows(project, "raw_s.a") == [(1, "a"), (2, "b")]


def test_a_database_that_goes_away_while_it_is_read(
    make_project: MakeProject, postgres: Postgres, postgres_server: Postgres
) -> None:
    """In the middle of the rows: the connection is ended by the server, and the load begins anew with another."""
    postgres.execute("CREATE TABLE t AS SELECT n AS id, repeat('x', 200) AS v FROM generate_series(1, 400000) n")
    options = {"mode": "append", "cursor": "id"}
    project = make_project(sql_yml(postgres.url, {"t": options}, retries=SOON))
    ended: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, StreamStarted) and not ended:
            sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE '%COPY%'"
            threading.Thread(target=end, args=(sql.format(postgres.database),)).start()

    def end(sql: str) -> None:
        while not ended:
            if "t" in postgres_server.execute(sql):
                ended.append(1)

    result = project.run(on_event=listen)
    ended.append(0)
    assert result.status == "ok", result.streams
    assert "tried 2 times" in result.streams[0].notes
    assert raw(project, "SELECT count(*), count(DISTINCT id) FROM raw_s.t") == [(400000, 400000)]


def test_a_web_api_that_answers_500_twice(make_project: MakeProject) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer("busy", 500) if asked.before < 2 else Answer([{"id": 1}])

    with serving(answer) as api:
        config = {"client": {"base_url": api.url}, "resources": ["posts"]}
        spec = {"kind": "rest", "retries": SOON, "config": config}
        no_attempts = {".dlt/config.toml": "[runtime]\nrequest_max_attempts = 1\n"}
        project = make_project(f"sources: {json.dumps({'s': spec})}", no_attempts)
        result, said = run(project)
        assert (result.status, len(said), len(api.asked)) == ("ok", 2, 3), (said, result)
    assert "500" in said[0] and "(1 of 3)" in said[0] and "(2 of 3)" in said[1]
    assert rows(project, "raw_s.posts") == [(1,)]
    assert statuses(result)["s.posts"] == ("loaded", ("tried 3 times",))


def test_the_word_of_a_secret_is_not_in_what_is_said(make_project: MakeProject, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hunter22-secret.db"
    project = make_project(sql_yml(url, ["t"], retries={"count": 1, "delay": "0 seconds"}))
    result, said = run(project)
    assert result.status == "failed" and len(said) == 1
    assert url not in said[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_wait(make_project: MakeProject, number: signal.Signals) -> None:
    sources = {
        "s": {"kind": "files", "retries": {"count": 3, "delay": "1 hour"}, "streams": {"t": "missing.csv"}},
        "u": {"kind": "files", "streams": {"t": "u.csv"}},
    }
    project = make_project(f"sources: {json.dumps(sources)}", {"u.csv": "x\n1\n"})
    log = project.config.root / ".smoll" / "logs" / "run-1.log"
    with start_run(project) as process:
        end = time.monotonic() + 60
        while not (log.exists() and "trying again in 60 min" in log.read_text() and "raw_u" in log.read_text()):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        begun = time.monotonic()
        process.send_signal(number)
        try:
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 130, output
        assert time.monotonic() - begun < 10
    assert "warning: s.t: failed (There is no file missing.csv (" in output
    assert "trying again in 60 min (1 of 3)" in output
    assert "Traceback" not in output
    assert project.runs(1)[0].status == "interrupted"
    told = {str(stream.ref): (stream.status, stream.error[:17]) for stream in project.runs(1)[0].streams}
    assert told == {"s.t": ("failed", "s.t: There is no "), "u.t": ("loaded", "")}
