"""The one address of `smoll up`: what it gives out, what it passes on, and what it refuses. With real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
import pytest
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from support import write_project
from up.running import running, wait_until
from up.test_guard import send

EVIL = "https://evil.example"
PAGES = {"index.html": "the start", "catalog/index.html": "the catalog", "assets/a.js": "1", "data/ü x.js": "2"}


def release(root: Path, number: int, pages: dict[str, str] = PAGES) -> Path:
    """Write a release with a portal, and make it the current one as smoll does."""
    releases = root / ".smoll" / "releases"
    for name, text in pages.items():
        path = releases / str(number) / "portal" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text} of {number}")
    (releases / ".current").symlink_to(str(number))
    (releases / ".current").replace(releases / "current")
    return releases


class Back:
    """A server behind the front: it keeps what reaches it, and answers each request with its path."""

    def __init__(self, path: Path) -> None:
        self.heard: list[bytes] = []
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._listener.accept()[0] as client:
                head, body = b"", b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(65536)
                head, _, body = head.partition(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0
                )
                while len(body) < length:
                    body += client.recv(65536)
                client.settimeout(0.3)
                self.heard.append(head + b"\r\n\r\n" + body)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # and keeps the connection
                try:
                    while more := client.recv(65536):
                        self.heard.append(more)
                except TimeoutError:
                    pass


@contextmanager
def front(releases: Path | str, **services: Path) -> Iterator[int]:
    """Run the front as `smoll up` does. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-P", "-m", "smoll.up.front", "--socket", str(listener.fileno())]
        command += ["--releases", str(releases)] if releases else []
        for name, path in services.items():
            command += ["--service", f"/{name}", name.title(), str(path)]
        with subprocess.Popen(command, pass_fds=[listener.fileno()]) as process:
            yield listener.getsockname()[1]
            process.terminate()
            assert process.wait(10) == 0


def ask(port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: str = "") -> Any:
    answer = send(port, method, path, headers, body)
    return answer.status, answer.headers


def speak(port: int, words: bytes) -> bytes:
    """Say exactly this to the front. Returns its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(words)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def get(port: int, path: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def test_files_of_the_current_release_as_it_is_now(tmp_path: Path) -> None:
    releases = release(tmp_path, 1)
    with front(releases) as port:
        assert get(port, "/") == "the start of 1"
        assert get(port, "/catalog/") == get(port, "/catalog") == "the catalog of 1"
        assert get(port, "/data/%C3%BC%20x.js?x=1") == "2 of 1"
        status, headers = ask(port, "/assets/a.js", "HEAD")
        assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
        assert headers["Cache-Control"] == "no-cache" and headers["X-Content-Type-Options"] == "nosniff"
        assert "script" not in headers.get_all("Content-Security-Policy")[1]  # what default-src says: files alone
        known = {"If-None-Match": headers["ETag"]}
        assert ask(port, "/assets/a.js", headers=known)[0] == 304
        release(tmp_path, 2)
        assert ask(port, "/assets/a.js", headers=known)[0] == 200
        assert get(port, "/") == "the start of 2"
        assert get(port, "/assets/services.js") == "window.smollServices = [];\n"
        assert ask(port, "/", "POST")[0] == 405
        assert ask(port, "/nothing.html")[0] == 404


def test_before_the_first_release(tmp_path: Path) -> None:
    with front(tmp_path) as port:
        assert "smoll run" in get(port, "/")
        (tmp_path / "1").mkdir()
        (tmp_path / "current").symlink_to("1")
        assert "has no portal" in get(port, "/")


WAYS_OUT = {
    "up": "/../manifest.json",
    "up, escaped": "/%2e%2e/manifest.json",
    "up from a folder": "/catalog/../../manifest.json",
    "slashes escaped": "/..%2Fmanifest.json",
    "from the root": "//etc/passwd",
    "from the root, escaped": "/%2Fetc%2Fpasswd",
    "a backslash": "/..\\manifest.json",
    "a link to a file": "/link.json",
    "a link to a folder": "/out/manifest.json",
    "a pipe": "/pipe",
    "a zero": "/index.html%00.js",
    "no text": "/%ff%fe",
}


@pytest.mark.parametrize("path", WAYS_OUT.values(), ids=WAYS_OUT)
def test_no_way_leads_out_of_the_portal(tmp_path: Path, path: str) -> None:
    releases = release(tmp_path, 1)
    (releases / "1" / "manifest.json").write_text("secret")
    (releases / "1" / "portal" / "link.json").symlink_to("../manifest.json")
    (releases / "1" / "portal" / "out").symlink_to("..")
    os.mkfifo(releases / "1" / "portal" / "pipe")
    with front(releases) as port:
        answer = speak(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert answer.split(b" ")[1] in (b"400", b"404") and b"secret" not in answer


def test_a_portal_that_is_a_link_is_none(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "current").symlink_to("1")
    (tmp_path / "1" / "portal").symlink_to("/etc")
    with front(tmp_path) as port:
        assert ask(port, "/passwd")[0] == 404


def test_a_request_is_passed_on_and_nothing_after_it(tmp_path: Path) -> None:
    back = Back(tmp_path / "b.sock")
    with front("", back=back.path) as port:
        words = (
            b"POST /back/x?y=%2F HTTP/1.1\r\nHost: localhost\r\nKeep-Alive: 1\r\nConnection: keep-alive\r\n"
            b"X-Own: a\r\nContent-Length: 4\r\n\r\nbody"
        )
        smuggled = b"GET /back/smuggled HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        assert speak(port, words + smuggled).endswith(b"\r\n\r\nok")
        (heard,) = back.heard
        assert heard.startswith(b"POST /back/x?y=%2F HTTP/1.1\r\nhost: localhost\r\n") and heard.endswith(
            b"\r\n\r\nbody"
        )
        assert b"x-own: a" in heard and b"connection: close" in heard and b"keep" not in heard.lower()
        # An upgrade that is answered like any other request opens no way for what comes after it.
        upgrade = b"GET /back/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        assert speak(port, upgrade + smuggled).endswith(b"\r\n\r\nok")
        assert len(back.heard) == 2 and b"smuggled" not in b"".join(back.heard)
        assert get(port, "/assets/services.js") == 'window.smollServices = [{"name": "Back", "href": "back/"}];\n'
        assert ask(port, "/back")[1]["Location"] == "./back/"
    with front("", back=tmp_path / "nobody.sock") as port:
        assert ask(port, "/back/")[0] == 502


HEADS = {
    "two lengths": b"POST /back/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length that is none": b"POST /back/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\na",
    "chunks": b"POST /back/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"GET /back/ HTTP/1.1\r\nHost: localhost\r\n x: y\r\n\r\n",
    "a space before the colon": b"GET /back/ HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "a line end inside": b"GET /back/ HTTP/1.1\r\nHost: localhost\nOrigin: x\r\n\r\n",
    "a whole URL": b"GET http://localhost/back/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "too long": b"GET /back/ HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "two hosts": b"GET /back/ HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
}


def test_what_others_might_read_in_another_way_is_refused(tmp_path: Path) -> None:
    back = Back(tmp_path / "b.sock")
    with front("", back=back.path) as port:
        for name, words in HEADS.items():
            assert speak(port, words).split(b" ")[1] in (b"400", b"403", b"411"), name
    assert back.heard == []


ATTACKS: dict[str, dict[str, str]] = {
    "a foreign name that leads here": {"Host": "evil.example"},
    "a page of another site": {"Origin": EVIL},
    "a sandboxed frame": {"Origin": "null"},
    "an image on another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a frame on another site": {
        "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"
    },
    "another port of this machine": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
}  # fmt: skip


def test_other_sites_reach_nothing(tmp_path: Path) -> None:
    back = Back(tmp_path / "b.sock")
    with front(release(tmp_path, 1), back=back.path) as port:
        for path in ("/", "/data/%C3%BC%20x.js", "/assets/services.js", "/back/", "/back/graphql", "/nothing"):
            for name, headers in ATTACKS.items():
                assert ask(port, path, headers=headers)[0] == 403, (path, name)
        assert back.heard == []
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert ask(port, "/", headers=link)[0] == 200
        headers = ask(port, "/")[1]
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_websockets_pass_both_ways_for_pages_of_this_address_only(tmp_path: Path) -> None:
    ready = threading.Event()

    async def echo(peer: Any) -> None:
        async for message in peer:
            await peer.send(message[::-1])

    async def serve() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "w.sock"))
            async with serve_websocket(echo, sock=listener):
                ready.set()
                await asyncio.Event().wait()

    threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
    assert ready.wait(10)
    with front("", back=tmp_path / "w.sock") as port:
        own: Any = f"http://127.0.0.1:{port}"
        with connect(f"ws://127.0.0.1:{port}/back/ws", origin=own) as opened:
            for message in ("abc", "x" * 300_000 + "y"):
                opened.send(message)
                assert opened.recv(timeout=10) == message[::-1]
        evil: Any = EVIL
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{port}/back/ws", origin=evil)
        assert refused.value.response.status_code == 403


def test_the_portal_alone_is_one_small_process(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    write_project(root, "name: tests\n", {}, {}, {})
    release(root, 1)
    words = [sys.executable, "-m", "smoll", "--project", str(root)]
    with running(root, "--only", "portal", environment={"A_SECRET": "x"}) as up:
        assert up.ready["urls"] == {"portal": up.ready["url"] + "/"}
        process = psutil.Process(up.process.pid)
        wait_until(lambda: "smoll.up.front" in process.cmdline())
        assert get(up.port, "/") == "the start of 1"
        release(root, 2)
        for _ in range(50):
            assert get(up.port, "/") == "the start of 2"
        assert process.memory_info().rss < 25e6 and process.children() == []
        assert "A_SECRET" not in process.environ()
        opened = subprocess.run([*words, "open", "--print"], capture_output=True, text=True, timeout=60, check=True)
        assert opened.stdout == up.ready["url"] + "/\n"
        for arguments, said in (
            (["open", "--apps"], "without apps"),
            (["up", "--only", "portal,shop"], "no part 'shop'"),
        ):
            wrong = subprocess.run([*words, *arguments], capture_output=True, text=True, timeout=60, check=False)
            assert wrong.returncode == 2 and said in wrong.stderr
        again = subprocess.run([*words, "up"], capture_output=True, text=True, timeout=60, check=False)
        assert again.returncode == 1 and f"pid {process.pid}" in again.stderr
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(10) == 0
    opened = subprocess.run([*words, "open", "--print"], capture_output=True, text=True, timeout=60, check=True)
    assert opened.stdout == (root / ".smoll/releases/current/portal/index.html").as_uri() + "\n"
    opened = subprocess.run([*words, "open", "--apps"], capture_output=True, text=True, timeout=60, check=False)
    assert opened.returncode == 2 and "smoll up" in opened.stderr
