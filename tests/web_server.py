"""A web server for the tests: real HTTP on loopback, with the faults that a test asks for."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LONG_AGO = formatdate(1_700_000_000, usegmt=True)


@dataclass
class Page:
    """What is under a path. A `fault` answers in its place, as long as it returns True; `validator` is its kind."""

    body: bytes
    validator: str = "etag"
    fault: Callable[[Any, int], bool] = lambda handler, count: False
    modified: str = LONG_AGO
    gzipped: bool = False
    ranges: bool = True

    @property
    def etag(self) -> str:
        return f'"{md5(self.body).hexdigest()}"'


@dataclass
class Web:
    """A server: its pages by path, the requests that came (method, path, headers, status), its address."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], int]] = field(default_factory=list)
    answer: Callable[[Any], bool] = lambda handler: False

    def put(self, path: str, body: str | bytes, **options: Any) -> str:
        """Put a page there, in the place of an earlier one. Returns its URL."""
        self.pages[path] = Page(body.encode() if isinstance(body, str) else body, **options)
        return self.url + path

    def statuses(self, method: str = "GET") -> list[int]:
        """What was answered so far; forgets it."""
        found = [status for verb, _, _, status in self.requests if verb == method]
        self.requests.clear()
        return found


@contextmanager
def serve() -> Iterator[Web]:
    """A server of its own, on loopback."""
    web = Web("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        status = 0
        noted = False

        def log_message(self, *args: Any) -> None:
            pass

        def send_response(self, code: int, message: str | None = None) -> None:
            self.status = code
            super().send_response(code, message)

        def do_HEAD(self) -> None:
            self.do_GET()

        def end_headers(self) -> None:
            self._note()  # before the client can go on, and ask what came
            super().end_headers()

        def _note(self) -> None:
            if not self.noted:
                sent = {key.lower(): value for key, value in self.headers.items()}
                web.requests.append((self.command, self.path, sent, self.status))
            self.noted = True

        def do_GET(self) -> None:
            self.status, self.noted = 0, False
            try:
                if not web.answer(self):
                    self._page()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                self._note()

        def _page(self) -> None:
            page = web.pages.get(self.path.partition("?")[0])
            if page is None:
                self.plain(404, b"no such page")
                return
            earlier = len([path for _, path, _, _ in web.requests if path == self.path])
            if page.fault(self, earlier):
                return
            headers: dict[str, str] = {}
            if page.validator == "etag":
                headers["ETag"] = page.etag
                if self.headers.get("If-None-Match") == page.etag:
                    self.plain(304, b"", headers)
                    return
            elif page.validator == "modified":
                headers["Last-Modified"] = page.modified
                if self.headers.get("If-Modified-Since") == page.modified:
                    self.plain(304, b"", headers)
                    return
            body, asked = page.body, self.headers.get("Range", "")
            if page.gzipped and "gzip" in self.headers.get("Accept-Encoding", ""):
                body, headers["Content-Encoding"] = gzip.compress(body, mtime=0), "gzip"
            if asked and page.ranges and self.headers.get("If-Range") in (page.etag, page.modified):
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                self.plain(206, body[start:], headers)
                return
            self.plain(200, body, headers)

        def plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            """Answer."""
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def first_times(count: int, answer: Callable[[Any], None]) -> Callable[[Any, int], bool]:
    """A fault that happens so many times, then never again."""

    def fault(handler: Any, earlier: int) -> bool:
        if earlier >= count:
            return False
        answer(handler)
        return True

    return fault


def cut(body: bytes, after: int, **headers: str) -> Callable[[Any], None]:
    """Announce the whole body, send the beginning, and hang up."""

    def answer(handler: Any) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:after])
        handler.wfile.flush()
        handler.close_connection = True

    return answer
