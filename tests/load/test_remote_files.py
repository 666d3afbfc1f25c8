"""Files of a web server: whole or not at all, fetched again only when they changed, whatever the network does."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import smoll
from smoll.errors import Interrupted
from support import MakeProject, age, files_yml, load, only_stream, parquet, raw, refused, reopen, rows, write
from web_server import Web, cut, first_times, serve

pytestmark = pytest.mark.connectors

ROWS = "id,name\n" + "".join(f"{n},name {n}\n" for n in range(20_000))


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts that a test can wait for."""
    monkeypatch.setattr("smoll.connectors.web._FIRST_PAUSE_SECONDS", 0.01)


def count(project: smoll.Project) -> int:
    return int(raw(project, "SELECT count(*) FROM raw_s.t")[0][0])


def test_every_format_is_fetched(make_project: MakeProject, web: Web, tmp_path: Path) -> None:
    parquet("SELECT 1 AS id, 'a' AS name", tmp_path / "t.parquet")
    pages = {
        "/t.csv": b"id,name\n1,a\n",
        "/t.tsv": b"id\tname\n1\ta\n",
        "/t.csv.gz": gzip.compress(b"id,name\n1,a\n"),
        "/t.json": b'[{"id": 1, "name": "a"}]',
        "/t.ndjson": b'{"id": 1, "name": "a"}\n',
        "/t.parquet": (tmp_path / "t.parquet").read_bytes(),
        "/exports/csv?limit=-1": b"id,name\n1,a\n",
        "/exports/parquet": (tmp_path / "t.parquet").read_bytes(),
        "/some%20folder/t.csv": b"id,name\n1,a\n",
    }
    for path, body in pages.items():
        web.put(path.partition("?")[0], body)
    names = [path.replace("%20", " ") for path in pages]
    project = make_project(files_yml([web.url + name for name in names]))

    load(project)

    assert raw(project, "SELECT id, name, _smoll_file FROM raw_s.t ORDER BY ALL") == [
        (1, "a", name) for name in sorted(web.url + name for name in names)
    ]


@pytest.mark.parametrize("validator", ["etag", "modified"])
@pytest.mark.parametrize("mode", ["replace", "append"])
def test_only_what_changed_is_fetched(make_project: MakeProject, web: Web, mode: str, validator: str) -> None:
    one = web.put("/1.csv", "id\n1\n", validator=validator)
    two = web.put("/2.csv", "id\n2\n", validator=validator)
    project = make_project(files_yml([one, two], mode=mode))
    load(project)
    web.statuses()

    assert load(project).status == "unchanged"
    assert web.statuses() == [304, 304]

    web.put("/2.csv", "id\n3\n4\n", validator=validator, modified="Thu, 01 Jan 2015 00:00:00 GMT")
    assert load(project).status == "loaded"

    assert web.statuses() == ([304, 200, 200] if mode == "replace" else [304, 200])
    assert rows(project) == [(1,), (3,), (4,)]
    assert load(project).status == "unchanged"


def test_without_etag_and_time_the_content_decides(make_project: MakeProject, web: Web) -> None:
    url = web.put("/t.csv", "id\n1\n", validator="none")
    project = make_project(files_yml(url, incremental=True))
    load(project)

    assert load(project).status == "unchanged"
    web.put("/t.csv", "id\n2\n", validator="none")
    assert load(project).status == "loaded"

    assert rows(project) == [(2,)]


def test_a_server_that_answers_a_known_file_anew_is_not_listened_to(make_project: MakeProject, web: Web) -> None:
    def whole(handler: Any, earlier: int) -> bool:
        handler.plain(200, b"id\n1\n", {"ETag": '"always"'})
        return True

    url = web.put("/t.csv", "", fault=whole)
    project = make_project(files_yml(url, mode="append"))
    load(project)

    assert load(project).status == "unchanged"


def test_a_file_written_this_second_is_asked_for_again(make_project: MakeProject, web: Web) -> None:
    from email.utils import formatdate

    def now(handler: Any, earlier: int) -> bool:
        handler.plain(200, f"id\n{earlier}\n".encode(), {"Last-Modified": formatdate(time.time(), usegmt=True)})
        return True

    url = web.put("/t.csv", "", fault=now)
    project = make_project(files_yml(url, mode="append"))
    for number in range(3):
        load(project)
        assert rows(project) == [(number,)]


def test_a_cut_body_is_gone_on_with(make_project: MakeProject, web: Web) -> None:
    body = ROWS.encode()
    url = web.put("/t.csv", body)
    web.pages["/t.csv"].fault = first_times(1, cut(body, 100_000, ETag=web.pages["/t.csv"].etag))
    project = make_project(files_yml(url))

    load(project)

    assert count(project) == 20_000
    (_, _, _, first), (_, _, headers, second) = web.requests
    assert (first, second, headers["range"]) == (200, 206, "bytes=100000-")


def test_a_file_that_changes_between_two_attempts_is_one_of_both(make_project: MakeProject, web: Web) -> None:
    old, new = ROWS.encode(), ROWS.replace("name", "neu!").encode()
    url = web.put("/t.csv", new)
    web.pages["/t.csv"].fault = first_times(1, cut(old, 100_000, ETag='"old"'))
    project = make_project(files_yml(url))

    load(project)

    assert raw(project, 'SELECT count(*), min("neu!") FROM raw_s.t') == [(20_000, "neu! 0")]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_strong_validator_a_cut_body_is_fetched_again(
    make_project: MakeProject, web: Web, headers: dict[str, str]
) -> None:
    body = ROWS.encode()
    url = web.put("/t.csv", body, validator="none", fault=first_times(2, cut(body, 5_000, **headers)))
    project = make_project(files_yml(url))

    load(project)

    assert count(project) == 20_000
    assert all("range" not in headers for _, _, headers, _ in web.requests)


def test_a_length_that_never_comes_is_an_error_and_no_short_file(
    make_project: MakeProject, web: Web, impatient: None
) -> None:
    url = web.put("/t.csv", "", fault=first_times(99, cut(b"id\n1\n" + b" " * 5, 5)))
    project = make_project(files_yml(url))

    refused(project, f"s.t: {url} cannot be fetched:", "5 bytes", "given up after 6 attempts")

    assert raw(project, "SELECT count(*) FROM information_schema.tables WHERE table_name = 't'") == [(0,)]


def test_passing_errors_are_waited_for(make_project: MakeProject, web: Web) -> None:
    url = web.put("/t.csv", "id\n1\n", fault=first_times(2, lambda handler: handler.plain(500, b"oh")))
    project = make_project(files_yml(url))

    load(project)

    assert web.statuses() == [500, 500, 200]


def test_retry_after_is_kept(make_project: MakeProject, web: Web) -> None:
    url = web.put("/t.csv", "id\n1\n")
    busy = first_times(1, lambda handler: handler.plain(429, b"slow down", {"Retry-After": "1"}))
    web.pages["/t.csv"].fault = busy
    project = make_project(files_yml(url))
    begun = time.monotonic()

    load(project)

    assert time.monotonic() - begun >= 1
    assert web.statuses() == [429, 200]


@pytest.mark.parametrize(
    ("status", "said"), [(404, "the server answers 404"), (403, "Set `headers`"), (400, "It says: where is wrong")]
)
def test_lasting_errors_fail_at_once(make_project: MakeProject, web: Web, status: int, said: str) -> None:
    answer = {"Content-Type": "text/plain"}
    url = web.put("/t.csv", "", fault=first_times(9, lambda handler: handler.plain(status, b"where is wrong", answer)))
    project = make_project(files_yml(url))

    refused(project, f"s.t: {url} cannot be fetched", said)

    assert web.statuses() == [status]


def test_a_server_that_is_not_there_is_named(make_project: MakeProject, impatient: None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/t.csv"
        project = make_project(files_yml(url, source={"headers": {"Authorization": "Bearer geheim-1"}}))

        error = refused(project, f"{url} cannot be fetched", "Connection refused")

    assert "geheim" not in error


def test_an_empty_answer_is_no_table(make_project: MakeProject, web: Web) -> None:
    project = make_project(files_yml(web.put("/t.csv", "")))
    refused(project, "/t.csv is empty: 0 bytes")


def test_headers_go_to_the_named_server_only(make_project: MakeProject, web: Web) -> None:
    with serve() as other:
        target = other.put("/elsewhere.csv", "id\n1\n")
        near = web.put("/near.csv", "id\n2\n", fault=lambda h, n: not h.plain(302, b"", {"Location": "/moved.csv"}))
        far = web.put("/far.csv", "", fault=lambda h, n: not h.plain(307, b"", {"Location": target}))
        web.put("/moved.csv", "id\n2\n")
        source = {"headers": {"Authorization": "Bearer geheim-2", "X-Api-Key": "geheim-3"}}
        project = make_project(files_yml([near, far], source=source))

        load(project)

        assert rows(project) == [(1,), (2,)]
        assert {headers.get("authorization") for _, _, headers, _ in web.requests} == {"Bearer geheim-2"}
        assert {headers.get("x-api-key") for _, _, headers, _ in web.requests} == {"geheim-3"}
        assert [("authorization" in headers, "x-api-key" in headers) for _, _, headers, _ in other.requests] == [
            (False, False)
        ]


def test_a_login_in_the_url_is_sent_and_never_shown(make_project: MakeProject, web: Web) -> None:
    web.put("/t.csv", "id\n1\n")
    url = web.url.replace("http://", "http://ada:ge%40heim-4@") + "/t.csv?token=geheim-5&page=1"
    project = make_project(files_yml(url))

    load(project)

    assert web.requests[0][1:3:1][0] == "/t.csv?token=geheim-5&page=1"
    assert web.requests[0][2]["authorization"] == "Basic YWRhOmdlQGhlaW0tNA=="
    assert raw(project, "SELECT DISTINCT _smoll_file FROM raw_s.t") == [(f"{web.url}/t.csv?page=1",)]
    assert "geheim" not in str(raw(project, "SELECT * FROM _smoll.state"))


def test_an_endless_redirect_ends(make_project: MakeProject, web: Web) -> None:
    url = web.put("/t.csv", "", fault=lambda h, n: not h.plain(302, b"", {"Location": "/t.csv"}))
    refused(make_project(files_yml(url)), "sends on more than 10 times")


@pytest.mark.parametrize("path", ["/t.csv", "/t.json", "/t.parquet", "/t.csv.gz"])
def test_gzip_on_the_way_is_undone(make_project: MakeProject, web: Web, path: str, tmp_path: Path) -> None:
    parquet("SELECT 1 AS id", tmp_path / "t.parquet")
    body = {
        "/t.csv": b"id\n1\n",
        "/t.json": b'[{"id": 1}]',
        "/t.parquet": (tmp_path / "t.parquet").read_bytes(),
        "/t.csv.gz": gzip.compress(b"id\n1\n"),
    }[path]

    def packed(handler: Any, earlier: int) -> bool:
        handler.plain(200, gzip.compress(body), {"Content-Encoding": "gzip"})
        return True

    project = make_project(files_yml(web.put(path, body, fault=packed)))

    load(project)

    assert rows(project) == [(1,)]


def test_a_gzip_file_that_the_server_unpacks_is_read(make_project: MakeProject, web: Web) -> None:
    project = make_project(files_yml(web.put("/t.csv.gz", b"id\n1\n")))
    load(project)
    assert rows(project) == [(1,)]


def test_text_is_asked_for_packed(make_project: MakeProject, web: Web) -> None:
    project = make_project(files_yml(web.put("/t.csv", ROWS, gzipped=True)))
    load(project)
    assert count(project) == 20_000
    assert web.requests[0][2]["accept-encoding"] == "gzip"


def test_other_encodings_are_refused(make_project: MakeProject, web: Web) -> None:
    url = web.put("/t.csv", "", fault=lambda h, n: not h.plain(200, b"x", {"Content-Encoding": "br"}))
    refused(make_project(files_yml(url)), "came in the encoding br")


def test_a_chunked_body_that_breaks_off_is_no_short_file(make_project: MakeProject, web: Web) -> None:
    def broken(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nid\n1\n\r\n")
        handler.close_connection = True

    url = web.put("/t.csv", "id\n1\n2\n", fault=first_times(1, broken))
    project = make_project(files_yml(url))
    load(project)
    assert rows(project) == [(1,), (2,)]


def test_a_format_that_cannot_be_told_is_asked_for(make_project: MakeProject, web: Web) -> None:
    url = web.put("/download", "id\n1\n") + "?id=7"
    refused(make_project(files_yml(url)), "the format cannot be told from the name", "format: csv")
    project = make_project(files_yml(url, format="csv"))
    load(project)
    assert rows(project) == [(1,)]


def test_bytes_are_told_while_a_file_comes(make_project: MakeProject, web: Web) -> None:
    body = ROWS.encode()

    def slowly(handler: Any, earlier: int) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for start in range(0, len(body), len(body) // 10):
            handler.wfile.write(body[start : start + len(body) // 10])
            time.sleep(0.1)
        return True

    told: list[tuple[Any, Any]] = []
    project = make_project(files_yml(web.put("/t.csv", body, fault=slowly)))

    def listen(event: Any) -> None:
        if type(event).__name__ == "StreamProgress":
            told.append((event.bytes_done, event.bytes_total))

    project.run(on_event=listen)

    seen = [done for done, total in told if total == len(body)]
    assert seen == sorted(seen)
    assert any(0 < done < len(body) for done in seen)


def test_an_interrupt_ends_a_download_that_hangs(make_project: MakeProject, web: Web) -> None:
    from smoll.connector import Reading
    from smoll.connectors import files

    reached, leave = threading.Event(), threading.Event()

    def hang(handler: Any, earlier: int) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"id\n")
        handler.wfile.flush()
        reached.set()
        leave.wait(30)
        return True

    project = make_project(files_yml(web.put("/t.csv", "", fault=hang)))
    source: Any = project.config.sources["s"]
    scratch = project.config.root / "scratch"
    scratch.mkdir()
    connection: Any = None
    (plan,) = files.discover("s", source, project.config.root, connection)
    reading = Reading(project.config.root, scratch, connection, stopped=reached.is_set)
    begun = time.monotonic()

    with pytest.raises(Interrupted):
        files.extract(plan, source, reading)

    leave.set()
    assert time.monotonic() - begun < 10


def test_check_asks_and_does_not_fetch(make_project: MakeProject, web: Web) -> None:
    project = make_project(files_yml(web.put("/t.csv", ROWS)))

    assert any("1 streams, 1 files" in str(result) for result in project.check())

    assert [method for method, *_ in web.requests] == ["HEAD"]
    web.pages.clear()
    assert any("404" in str(result) for result in project.check())


def test_check_makes_do_where_a_server_knows_no_head(make_project: MakeProject, web: Web) -> None:
    def no_head(handler: Any, earlier: int) -> bool:
        if handler.command == "HEAD":
            handler.plain(405, b"")
        return bool(handler.command == "HEAD")

    project = make_project(files_yml(web.put("/t.csv", ROWS, fault=no_head)))
    assert any("1 streams, 1 files" in str(result) for result in project.check())


def test_a_url_that_goes_leaves_its_rows_or_takes_them(make_project: MakeProject, web: Web) -> None:
    urls = [web.put(f"/{n}.csv", f"id\n{n}\n") for n in (1, 2)]
    project = make_project(files_yml(urls, incremental=True))
    load(project)
    project = reopen(project, files_yml(urls[:1], incremental=True))
    assert "2.csv is gone, the rows stay" in "".join(load(project).notes)
    assert rows(project) == [(1,), (2,)]


def test_local_and_remote_files_are_one_table(make_project: MakeProject, web: Web) -> None:
    urls = ["data/*.csv", web.put("/1.csv", "id\n1\n"), web.put("/2.csv", "id\n2\n")]
    project = make_project(files_yml(urls, incremental=True), {"data/3.csv": "id\n3\n"})
    assert load(project).rows == 3
    write(project.config.root, {"data/4.csv": "id\n4\n"})
    assert load(project).rows == 1
    assert raw(project, "SELECT id, _smoll_file FROM raw_s.t ORDER BY id") == [
        (1, urls[1]),
        (2, urls[2]),
        (3, "data/3.csv"),
        (4, "data/4.csv"),
    ]


def test_no_copy_is_left_behind(make_project: MakeProject, web: Web) -> None:
    project = make_project(files_yml(web.put("/t.csv", ROWS)))
    load(project)
    age(project.config.root / "smoll.yml")
    left = [path.name for path in (project.config.root / ".smoll").rglob("*") if "000001" in path.name]
    assert left == []
    assert only_stream(project.run()).status == "unchanged"


def test_a_server_that_repeats_a_secret_is_not_quoted(make_project: MakeProject, web: Web) -> None:
    def echo(handler: Any, earlier: int) -> bool:
        text = f"bad: {handler.headers['Authorization']}, {handler.path}".encode()
        handler.plain(403, text, {"Content-Type": "text/plain"})
        return True

    url = web.put("/t.csv", "", fault=echo) + "?api_key=geheim-8"
    project = make_project(files_yml(url, source={"headers": {"Authorization": "Bearer geheim-9"}}))

    assert "geheim" not in refused(project, "It says: bad: ***")

    assert not any("geheim" in str(result) for result in project.check())
    assert "geheim" not in str(project.runs())
    ledger = [path for path in (project.config.root / ".smoll").rglob("*") if path.is_file()]
    assert not [path for path in ledger if b"geheim" in path.read_bytes()]


@pytest.mark.parametrize("location", ["//[::1", "http://", "ftp://x/", "http://h:x/", "http://\xff\xfe:99999/"])
def test_a_redirect_to_nowhere_is_told(make_project: MakeProject, web: Web, impatient: None, location: str) -> None:
    url = web.put("/t.csv", "", fault=lambda h, n: not h.plain(302, b"", {"Location": location}))
    refused(make_project(files_yml(url)), "/t.csv")


def test_a_part_that_was_not_asked_for_is_no_file(make_project: MakeProject, web: Web, impatient: None) -> None:
    part = {"Content-Range": "bytes 0-4/9"}
    url = web.put("/t.csv", "", fault=lambda h, n: not h.plain(206, b"id\n1\n", part))
    refused(make_project(files_yml(url)), "cannot be fetched")


@pytest.mark.parametrize("answer", [b"", b"\x00\xff garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n"])
def test_a_server_of_something_else_is_told(make_project: MakeProject, impatient: None, answer: bytes) -> None:
    def speak() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=speak, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/t.csv"
        refused(make_project(files_yml(url)), f"{url} cannot be fetched", "given up after 6 attempts")
        server.shutdown(socket.SHUT_RDWR)
