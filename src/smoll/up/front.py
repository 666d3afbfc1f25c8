"""The one address of `smoll up`: ``python -m smoll.up.front``. Gives out the portal, and passes on what is for others.

``/`` is the portal of the current release, ``/dagster/`` and ``/apps/`` are servers behind sockets that only this user
can reach. The process is there as long as `smoll up` is, with ``--only portal`` alone, so it has nothing but the
standard library and the guard: 14 MB. A thread serves a connection, and a connection carries one request, so that no
second one can slip past the guard behind the first.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import select
import signal
import socket
import stat
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO
from urllib.parse import unquote_to_bytes

from smoll.up.guard import FRAMED_BY_ITSELF, Scope, refuse

_MOST_CONNECTIONS, _STACK = 256, 512 * 1024
_HEAD_BYTES, _CHUNK = 64 * 1024, 64 * 1024
_TALK_SECONDS, _WAKE_SECONDS, _DRAIN_SECONDS = 30.0, 300.0, 1.0
"""To take a part of a request, or to give a part of a file; until a server that may sleep has begun to answer, or one
side takes what the other says; to hear the rest of what a client says to an answer that did not wait for it."""
_TRIES, _PAUSE = 3, 0.1
_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_NUMBER = re.compile(rb"[0-9]{1,18}")
_DAGSTERS_ICON = re.compile(r"/favicon-run-[a-z]+\.svg")
"""What the page of a run asks for beside the prefix of all its other paths (dagster-webserver 1.13)."""
_OF_THIS_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_TYPES = {
    "css": "text/css; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "gif": "image/gif",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xml": "application/xml",
}
"""By the end of a file's name; not those of the machine (/etc/mime.types), which differ."""
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
_DBT_DOCS, _DBT_POLICY = "/dbt/", "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
"""What a page may load: nothing from elsewhere, and no script but files. dbt's one page has its scripts in it."""
SERVICES = "/assets/services.js"
"""The portal asks this script what else there is at its address. In a release it says: nothing."""
_REASONS = {
    200: "OK", 302: "Found", 304: "Not Modified", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 411: "Length Required", 502: "Bad Gateway", 504: "Gateway Timeout",
}  # fmt: skip
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>:root {{ color-scheme: light dark }} body {{ font: 1.05rem/1.6 system-ui, sans-serif; max-width: 34rem;
margin: 16vh auto 0; padding: 0 1.25rem }} h1 {{ font-size: 1.5rem }} code {{ font-size: .95em }}</style></head>
<body><main><h1>{title}</h1><p>{text}</p>{links}</main></body></html>
"""


@dataclass(frozen=True)
class Service:
    """What is served behind the front: the first part of its paths, its name for people, its socket."""

    path: str
    name: str
    socket: str


@dataclass(frozen=True)
class Site:
    """What there is at this address. ``releases``: the folder with ``current`` in it; "" where no portal is wanted."""

    releases: str
    services: tuple[Service, ...] = ()


@dataclass(frozen=True)
class Request:
    """The head of a request, as it was understood: that, and nothing else, is passed on."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    @property
    def path(self) -> str:
        """The path, with what was escaped."""
        return unquote_to_bytes(self.target.partition(b"?")[0]).decode("utf-8", "surrogateescape")

    @property
    def upgrades(self) -> bool:
        """Whether it asks for a websocket."""
        return self.value(b"upgrade").lower() == b"websocket"

    def value(self, name: bytes) -> bytes:
        """The value of a header, "" without."""
        return next((value for key, value in self.headers if key == name), b"")

    def scope(self) -> Scope:
        """The request as ASGI, and the guard, have it."""
        kind = "websocket" if self.upgrades else "http"
        return {"type": kind, "method": self.method, "path": self.path, "headers": self.headers}


class Refused(Exception):
    """A request that is answered by a status and a line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True, help="the descriptor of a listening socket")
    parser.add_argument("--releases", default="", help="the folder of the releases, to serve the portal")
    parser.add_argument("--service", nargs=3, action="append", default=[], metavar=("PATH", "NAME", "SOCKET"))
    options = parser.parse_args()
    _end_at_a_signal()
    serve(
        socket.socket(fileno=options.socket),
        Site(options.releases, tuple(Service(*words) for words in options.service)),
    )


def _end_at_a_signal() -> None:
    """Let a thread wait for the end: of a signal that comes just before accept() Python takes note, and waits on."""
    ends = {number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # in the threads that are begun from here on, too

    def wait() -> None:
        signal.sigwait(ends)
        os._exit(0)

    threading.Thread(target=wait, name="smoll-end", daemon=True).start()


def serve(listener: socket.socket, site: Site) -> None:
    """Serve a site on a listening socket, a thread for each connection."""
    threading.stack_size(_STACK)
    places = threading.BoundedSemaphore(_MOST_CONNECTIONS)

    def attend(client: socket.socket) -> None:
        try:
            with client:
                _attend(client, site)
        except OSError:
            pass  # the client has gone
        finally:
            places.release()

    while True:
        places.acquire()
        try:
            client, _ = listener.accept()
        except OSError:  # it has gone again, or there are too many open files for now
            places.release()
            time.sleep(_PAUSE)
            continue
        threading.Thread(target=attend, args=(client,), daemon=True).start()


def _attend(client: socket.socket, site: Site) -> None:
    client.settimeout(_TALK_SECONDS)
    try:
        head, rest = _receive_head(client)
        if head:
            _answer(client, site, parse(head), rest)
    except Refused as refused:
        _say(client, refused.status, refused.text)
    _drain(client)


def _answer(client: socket.socket, site: Site, request: Request, rest: bytes) -> None:
    refusal = refuse(request.scope())
    if refusal is not None:
        raise Refused(*refusal)
    path = request.path
    for service in site.services:
        if path.startswith(f"{service.path}/"):
            _pass_on(client, service, request, rest)
            return
        if path == service.path:
            _respond(client, 302, {"Location": f".{service.path}/"})
            return
        if service.name == "Dagster" and _DAGSTERS_ICON.fullmatch(path):
            _respond(client, 302, {"Location": f".{service.path}{path}"})
            return
    if request.method not in ("GET", "HEAD"):
        raise Refused(405, "Here are files, for GET and HEAD.")
    if path == SERVICES:
        _give(client, request, services_script(site), _TYPES["js"])
    else:
        _give_file(client, site, request)


def parse(head: bytes) -> Request:
    """Understand the head of a request, strictly: what others might read in another way is refused.

    Raises
    ------
    Refused
        It is not HTTP/1, its path is no path, or its body has no length.
    """
    first, *lines = head.split(b"\r\n")
    asked = _REQUEST.fullmatch(first)
    found = [_HEADER.fullmatch(line) for line in lines]
    if asked is None or asked[2].startswith(b"//") or not all(found):
        raise Refused(400, "This is not HTTP as it should be.")
    headers = tuple((match[1].lower(), match[2]) for match in found if match)
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names:
        raise Refused(411, "Send a body with its length.")
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) > 1 or not all(_NUMBER.fullmatch(length) for length in lengths):
        raise Refused(400, "A body has one length.")
    return Request(asked[1].decode(), asked[2], headers)


def services_script(site: Site) -> bytes:
    """The script that says to the portal what else there is. ``href`` is as seen from the portal's first page."""
    found = [{"name": service.name, "href": f"{service.path[1:]}/"} for service in site.services]
    return f"window.smollServices = {json.dumps(found)};\n".encode()


def open_file(releases: str, path: str) -> tuple[IO[bytes], str]:
    """Open a file of the portal of the release that is current now. Returns it, and its name in the release.

    No link is followed but ``current`` itself, and nothing outside the portal is opened.

    Raises
    ------
    FileNotFoundError
        There is none.
    IsADirectoryError
        It is a folder, and the path does not end in a slash.
    """
    parts = path.split("/")[1:]
    inner, last = parts[:-1], parts[-1]
    if any(part in ("", ".", "..") or "\0" in part for part in inner) or last in (".", "..") or "\0" in last:
        raise FileNotFoundError(path)
    place = "/".join([os.path.realpath(f"{releases}/current"), "portal", *inner, last or "index.html"])
    if os.path.realpath(place) != place:
        raise FileNotFoundError(path)
    handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb"), place
    os.close(handle)
    raise IsADirectoryError(path) if stat.S_ISDIR(mode) else FileNotFoundError(path)


def _give_file(client: socket.socket, site: Site, request: Request) -> None:
    path = request.path
    for _ in range(_TRIES):  # a release may go while its file is opened, and another be current
        try:
            file, place = open_file(site.releases, path) if site.releases else _nothing()
        except IsADirectoryError:
            last = request.target.partition(b"?")[0].rpartition(b"/")[2].decode()
            _respond(client, 302, {"Location": f"./{last}/"})  # "./": a name with a colon is no scheme
            return
        except (OSError, ValueError):
            continue
        with file:
            facts = os.fstat(file.fileno())
            tag = f'"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_size:x}"'
            kind = _TYPES.get(place.rpartition(".")[2].lower(), "application/octet-stream")
            headers = {"Content-Type": kind, "ETag": tag, "Cache-Control": "no-cache"}
            if tag.encode() in request.value(b"if-none-match"):
                _respond(client, 304, headers, policy=_policy(path))
                return
            _respond(client, 200, {**headers, "Content-Length": str(facts.st_size)}, policy=_policy(path))
            if request.method != "HEAD":
                client.sendfile(file)
        return
    if path == "/":
        _give(client, request, start_page(site), _TYPES["html"])
    else:
        page = _page("There is no such page", "It may have been in another release.", [("/", "Start")])
        _give(client, request, page, _TYPES["html"], 404)


def _nothing() -> tuple[IO[bytes], str]:
    raise FileNotFoundError


def _policy(path: str) -> str:
    return _DBT_POLICY if path.startswith(_DBT_DOCS) else _POLICY


def start_page(site: Site) -> bytes:
    """The first page where there is no portal yet."""
    links = [(f"{service.path}/", service.name) for service in site.services]
    if not site.releases:
        return _page("smoll up", "The portal is not served here.", links)
    if not os.access(f"{site.releases}/current", os.F_OK):
        return _page("Nothing has been released yet", "<code>smoll run</code> makes the first release.", links)
    return _page("This release has no portal", "The next one will: <code>smoll run</code>.", links)


def _page(title: str, text: str, links: list[tuple[str, str]]) -> bytes:
    shown = "".join(f'<p><a href="{html.escape(path)}">{html.escape(name)}</a></p>' for path, name in links)
    return _PAGE.format(title=html.escape(title), text=text, links=shown).encode()


def _give(client: socket.socket, request: Request, body: bytes, kind: str, status: int = 200) -> None:
    headers = {"Content-Type": kind, "Cache-Control": "no-store", "Content-Length": str(len(body))}
    _respond(client, status, headers, b"" if request.method == "HEAD" else body, policy=_policy(request.path))


def _say(client: socket.socket, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    _respond(client, status, {"Content-Type": _TYPES["txt"], "Content-Length": str(len(body))}, body)


def _respond(
    client: socket.socket,
    status: int,
    headers: dict[str, str],
    body: bytes = b"",
    *,
    policy: str = "default-src 'none'",
) -> None:
    own = [(name.decode(), value.decode()) for name, value in FRAMED_BY_ITSELF]
    rest = [("X-Content-Type-Options", "nosniff"), ("Content-Security-Policy", policy), ("Connection", "close")]
    if status == 302:
        rest.append(("Content-Length", "0"))
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Refused')}"]
    lines += [f"{name}: {value}" for name, value in [*headers.items(), *own, *rest]]
    client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def _receive_head(client: socket.socket) -> tuple[bytes, bytes]:
    """The head of a request and what came after it; nothing where the client has gone."""
    received = b""
    while b"\r\n\r\n" not in received:
        if len(received) > _HEAD_BYTES:
            raise Refused(400, "The head of this request is too long.")
        part = client.recv(_CHUNK)
        if not part:
            return b"", b""
        received += part
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _pass_on(client: socket.socket, service: Service, request: Request, rest: bytes) -> None:
    """Let a service answer a request: exactly this one, and both sides hear that no other follows."""
    with socket.socket(socket.AF_UNIX) as server:
        for side in (client, server):
            side.settimeout(_WAKE_SECONDS)
        try:
            server.connect(service.socket)
        except OSError:
            raise Refused(502, f"{service.name} is not there. It is started again; try in a moment.") from None
        length = 0 if request.upgrades else int(request.value(b"content-length") or 0)
        server.sendall(_head_for(request) + rest[:length])
        _splice(client, server, service, length - len(rest[:length]), request.upgrades)


def _head_for(request: Request) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.target)]
    lines += [b"%s: %s" % pair for pair in request.headers if pair[0] not in _OF_THIS_HOP]
    lines += [b"connection: Upgrade", b"upgrade: websocket"] if request.upgrades else [b"connection: close"]
    return b"\r\n".join([*lines, b"", b""])


def _splice(client: socket.socket, server: socket.socket, service: Service, left: int, upgrades: bool) -> None:
    """Carry bytes both ways until one side ends: of the client as many as are `left`, and all after a good upgrade."""
    answer, switched = b"", False
    while True:
        # A websocket may be silent for hours; who has gone is heard of.
        readable, _, _ = select.select([client, server], [], [], None if switched else _WAKE_SECONDS)
        if not readable:
            if not answer:
                raise Refused(504, f"{service.name} does not answer.")
            return
        if server in readable:
            part = server.recv(_CHUNK)
            if not part:
                if not answer:
                    raise Refused(502, f"{service.name} did not answer. It is started again; try in a moment.")
                return
            answer = answer if b"\r\n\r\n" in answer else answer + part
            switched = switched or (upgrades and b"\r\n\r\n" in answer and answer.startswith(b"HTTP/1.1 101"))
            client.sendall(part)
        if client in readable:
            part = client.recv(_CHUNK)
            if not part:
                return
            if not switched:
                part, left = part[:left], left - len(part[:left])
            server.sendall(part)


def _drain(client: socket.socket) -> None:
    """Hear what the client still says, for a moment: a connection closed over unread words takes the answer with it."""
    client.shutdown(socket.SHUT_WR)
    client.settimeout(_DRAIN_SECONDS)
    end = time.monotonic() + _DRAIN_SECONDS
    with suppress(TimeoutError):
        while client.recv(_CHUNK) and time.monotonic() < end:
            pass


if __name__ == "__main__":
    main()
