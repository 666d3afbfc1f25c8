"""Files of web servers: fetched whole or not at all, whatever the network does meanwhile.

A body that breaks off is gone on with where the server can tell that it is still the same file (RFC 9110, If-Range),
else fetched again. What the server sends is kept as it came, also where it was packed for the way.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from smoll.connectors.data_file import stream_error
from smoll.connectors.fetch import Desk, disk_error
from smoll.connectors.places import empty_file

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from smoll.project import FilesSource

_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_FIRST_PAUSE_SECONDS = 0.5
_MOST_FAILURES = 5  # in a row, without a byte more than before
_MOST_ATTEMPTS = 100
_MOST_WAITING_SECONDS = 300
_LONGEST_PAUSE_SECONDS = 60
_BLOCK = 1 << 16
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_RACY_SECONDS = 2
_PACKED = re.compile(r"\.(gz|zst|zstd|bz2|zip|parquet|pq|xlsx|xlsm|xlsb|ods)$", re.IGNORECASE)


@dataclass(frozen=True)
class Fetched:
    """A file that came: its copy, what state keeps of it, and whether the server packed it with gzip for the way."""

    path: Path
    fingerprint: Sequence[Any]
    packed: bool


@dataclass
class _Progress:
    """How far the fetching of a file is, over all attempts."""

    target: Path
    got: int = 0
    farthest: int = 0
    total: int | None = None
    validator: str = ""
    failures: int = 0
    attempts: int = 0
    waited: float = 0.0


class _Failed(Exception):
    """An attempt that another one may mend. ``pause``: what the server asks to wait, in seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def fetch(
    desk: Desk,
    source: FilesSource,
    name: str,
    url: str,
    known: Sequence[Any] | None = None,
    *,
    may_be_empty: bool = False,
) -> Fetched | None:
    """Fetch a file; None where it is still the one that `known`, its fingerprint, tells of.

    Raises
    ------
    LoadError
        The server has no such file, refuses it, or cannot be reached for too long.
    Interrupted
        The run was interrupted.
    """
    target = desk.new_file()
    return desk.in_thread(lambda: _fetch(desk, source, name, url, list(known or ()), target, may_be_empty))


def probe(desk: Desk, source: FilesSource, name: str, url: str) -> None:
    """Ask for a file without fetching it. Raises LoadError where there is none."""

    def ask(method: str) -> int:
        answer = _request(desk, source, name, method, url, {})
        answer.close()  # of a GET only the head is read
        return answer.status

    def ask_twice() -> None:
        try:
            status = ask("HEAD")
            status = ask("GET") if status >= 400 else status  # some servers know no HEAD
        except _Failed as failure:
            raise stream_error(desk.plan, f"{name} cannot be fetched: {failure}.", "Check `path`.") from failure
        if status >= 300:
            raise stream_error(desk.plan, f"{name} cannot be fetched: the server answers {status}.", _hint(status))

    desk.in_thread(ask_twice)


def encode(url: str) -> str:
    """Percent-encode what a URL cannot hold as it is; what is encoded already stays."""
    url = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", url)
    return quote(url, safe="%/:?#[]@!$&()*+,;=~")


def _fetch(
    desk: Desk, source: FilesSource, name: str, url: str, known: list[Any], target: Path, may_be_empty: bool
) -> Fetched | None:
    progress = _Progress(target)
    while True:
        try:
            answer = _attempt(desk, source, name, url, known, progress)
            break
        except _Failed as failure:
            _pause(desk, name, progress, failure)
        except OSError as error:
            raise disk_error(desk.plan, name, error) from error
    if answer is None:
        return None
    if progress.got == 0 and not may_be_empty:
        raise empty_file(desk.plan, name)
    fingerprint = _fingerprint(answer, progress.got)
    if not fingerprint:
        with target.open("rb") as file:
            fingerprint = ["sha256", hashlib.file_digest(file, "sha256").hexdigest()]
        if fingerprint == known:
            return None
    racy = fingerprint[0] == "last-modified" and _is_racy(answer)
    return Fetched(target, [] if racy else fingerprint, bool(answer.get("content-encoding")))


def _attempt(
    desk: Desk, source: FilesSource, name: str, url: str, known: list[Any], progress: _Progress
) -> Mapping[str, str] | None:
    """Ask once, and read as far as it goes. Returns the headers of a complete file, None for one that is known."""
    headers = {"accept-encoding": "identity" if _PACKED.search(urlsplit(url).path) else "gzip"}
    if progress.got and progress.validator:
        headers |= {"range": f"bytes={progress.got}-", "if-range": progress.validator}
    elif known:
        headers |= {"if-none-match": known[1]} if known[0] == "etag" else {}
        headers |= {"if-modified-since": known[1]} if known[0] == "last-modified" else {}
    answer = _request(desk, source, name, "GET", url, headers)
    try:
        if answer.status == 304 and known:
            return None
        _judge(desk, name, answer, progress)
        length = answer.headers.get("content-length")
        expected = int(length) if length and length.isdigit() else None
        total = expected
        if answer.status == 206:
            part = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("content-range", ""))
            if not part or int(part[1]) != progress.got:
                _begin_again(desk, progress)
                raise _Failed("the server sent another range than it was asked for")
            total = int(part[2])
        else:
            _begin_again(desk, progress)
            if known and _fingerprint(answer.headers, expected) == known:
                return None  # a server that ignores the question whether it changed
        progress.total = total
        desk.total = progress.total if desk.total is None else desk.total
        progress.validator = _validator(answer.headers)
        _read(desk, answer, progress)
        return {key.lower(): value for key, value in answer.headers.items()}
    finally:
        answer.close()


def _judge(desk: Desk, name: str, answer: BaseHTTPResponse, progress: _Progress) -> None:
    """Raise for every answer that brings no data."""
    if answer.status in _PASSING:
        raise _Failed(f"the server answers {answer.status}", _asked_pause(answer.headers.get("retry-after", "")))
    if answer.status == 416:
        _begin_again(desk, progress)
        raise _Failed("the server has another range of the file now")
    if answer.status not in (200, 203, 204, 206):
        message = f"{name} cannot be fetched: the server answers {answer.status}.{_excerpt(answer)}"
        raise stream_error(desk.plan, message, _hint(answer.status))
    packed = answer.headers.get("content-encoding", "").lower()
    if packed not in ("", "identity", "gzip", "x-gzip"):
        raise stream_error(desk.plan, f"{name} came in the encoding {packed}, which was not asked for.")


def _read(desk: Desk, answer: BaseHTTPResponse, progress: _Progress) -> None:
    from urllib3.exceptions import HTTPError

    with progress.target.open("ab" if progress.got else "wb") as file:
        try:
            if answer.status != 204:
                for block in answer.stream(_BLOCK, decode_content=False):
                    desk.check_stopped()
                    file.write(block)
                    progress.got += len(block)
                    desk.fetched(len(block))
        except HTTPError as error:
            raise _Failed(f"the connection broke off after {progress.got} bytes") from error
    framed = progress.total is not None or "chunked" in answer.headers.get("transfer-encoding", "").lower()
    if progress.got == 0 and not framed and answer.status != 204:
        raise _Failed("the server hung up before it sent anything")  # an empty file has a length
    if progress.total is not None and progress.got != progress.total:
        raise _Failed(f"the server announced {progress.total} bytes, and {progress.got} came")


def _begin_again(desk: Desk, progress: _Progress) -> None:
    desk.fetched(-progress.got)
    progress.got, progress.validator = 0, ""


def _pause(desk: Desk, name: str, progress: _Progress, failure: _Failed) -> None:
    """Wait before the next attempt. Raises LoadError where there have been enough."""
    progress.failures = 1 if progress.got > progress.farthest else progress.failures + 1
    progress.farthest = max(progress.farthest, progress.got)
    progress.attempts += 1
    pause = _FIRST_PAUSE_SECONDS * 2 ** (progress.failures - 1) if failure.pause is None else failure.pause
    pause = min(max(pause, 0.0), _LONGEST_PAUSE_SECONDS)
    progress.waited += pause
    if (
        progress.failures > _MOST_FAILURES
        or progress.attempts > _MOST_ATTEMPTS
        or progress.waited > _MOST_WAITING_SECONDS
    ):
        times = f"{progress.attempts} attempts"
        message = f"{name} cannot be fetched: {failure}; given up after {times}."
        raise stream_error(desk.plan, message, "Run again when the server is well.") from failure
    until = time.monotonic() + pause
    while (left := until - time.monotonic()) > 0:
        desk.check_stopped()
        time.sleep(min(left, 0.1))


def _asked_pause(text: str) -> float | None:
    """``Retry-After``: seconds, or a date."""
    if text.strip().isdigit():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError):
        return None


def _request(
    desk: Desk, source: FilesSource, name: str, method: str, url: str, extra: Mapping[str, str]
) -> BaseHTTPResponse:
    """Ask a server and follow where it sends on. The project's own headers go to the first server only."""
    import urllib3
    from urllib3.exceptions import HTTPError, LocationValueError, SSLError

    own = {key.lower(): value.get_secret_value() for key, value in source.headers.items()}
    first, login = _split_login(encode(url))
    if login:
        own = {**urllib3.make_headers(basic_auth=login), **own}
    url = first
    for _ in range(_MOST_REDIRECTS):
        headers = {"user-agent": "smoll", **extra, **(own if _origin(url) == _origin(first) else {})}
        try:
            pool = _pool(url)
            answer: BaseHTTPResponse = pool.request(
                method, url, headers=headers, preload_content=False, decode_content=False, redirect=False, retries=False
            )
        except LocationValueError as error:
            raise stream_error(desk.plan, f"{name} is no URL that can be asked.", "Check `path`.") from error
        except SSLError as error:
            raise stream_error(desk.plan, f"{name}: no secure connection: {_cause(error)}.") from error
        except HTTPError as error:
            raise _Failed(_cause(error)) from error
        location = answer.headers.get("location")
        if answer.status not in _REDIRECTS or not location:
            return answer
        answer.close()
        url = _redirected(url, location)
        if not url:
            raise stream_error(desk.plan, f"{name}: the server sends on to something that is no URL of http.")
    raise stream_error(desk.plan, f"{name}: the server sends on more than {_MOST_REDIRECTS} times.")


def _redirected(url: str, location: str) -> str:
    """Where a server sends on to; empty where that cannot be asked."""
    try:
        target, _ = _split_login(encode(urljoin(url, location)))
        scheme, host, _ = _origin(target)
    except ValueError:  # a broken host or port
        return ""
    return target if scheme in ("http", "https") and host else ""


def _pool(url: str) -> Any:
    import urllib3

    timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    host = parts.hostname or ""
    if proxy and host not in ("localhost", "127.0.0.1", "::1") and not proxy_bypass(host):
        address, login = _split_login(proxy if "://" in proxy else f"http://{proxy}")
        headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
        return urllib3.ProxyManager(address, proxy_headers=headers, timeout=timeout)
    return urllib3.PoolManager(timeout=timeout)


def _split_login(url: str) -> tuple[str, str]:
    """A URL without user and password, and ``user:password``."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, host, parts.path, parts.query, "")), unquote(login)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _fingerprint(headers: Mapping[str, str], size: int | None) -> list[Any]:
    """What tells this version of a file from another; empty where the server says nothing of it."""
    if etag := headers.get("etag"):
        return ["etag", etag]
    if modified := headers.get("last-modified"):
        return ["last-modified", modified, size]
    return []


def _validator(headers: Mapping[str, str]) -> str:
    """What `If-Range` may name: a weak ETag promises nothing of the bytes."""
    etag = headers.get("etag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("last-modified", "")


def _is_racy(headers: Mapping[str, str]) -> bool:
    """True where the file may change once more within the second that its time has."""
    try:
        now, modified = (parsedate_to_datetime(headers[key]) for key in ("date", "last-modified"))
        return (now - modified).total_seconds() < _RACY_SECONDS
    except (KeyError, TypeError, ValueError):
        return True


def _cause(error: Exception) -> str:
    """The end of urllib3's message says what happened; what comes before repeats the URL."""
    inner = error.args[-1] if error.args else None
    if isinstance(inner, HTTPException):
        return "the server's answer is none of HTTP, or it hung up"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(error).rsplit(": ", 1)[-1].strip(" .)\"'") or type(error).__name__


def _excerpt(answer: BaseHTTPResponse) -> str:
    """The beginning of what the server says, where that is for people."""
    if answer.status < 400 or not re.search("json|text/plain", answer.headers.get("content-type", "")):
        return ""
    try:
        text = answer.read(2000, decode_content=True).decode("utf-8", "replace")
    except Exception:  # the status says enough
        return ""
    shown = " ".join(text.split())[:200]
    return f" It says: {shown}" if shown else ""


def _hint(status: int) -> str:
    if status in (401, 403):
        return "Set `headers` on the source, for example Authorization, or check them."
    return "Check `path` in smoll.yml." if status in (400, 404, 410) else "Run again later."
