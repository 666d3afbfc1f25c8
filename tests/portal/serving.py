"""A web server for a folder, under a prefix, as others run one: nginx where there is one, else Python's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import URLError
from urllib.request import urlopen

PREFIX = "/some/prefix/"
_WAIT = 20  # seconds


def nginx() -> str | None:
    """The system's nginx; not always on the path of those who are not root."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def serving(folder: Path, work: Path) -> Iterator[str]:
    """Serve a folder on loopback and give its address, which ends with a slash.

    Parameters
    ----------
    folder
        What is served.
    work
        An empty folder for what the server writes.
    """
    program = nginx()
    with _by_nginx(program, folder, work) if program else _by_python(folder, work) as url:
        yield url


@contextmanager
def _by_nginx(program: str, folder: Path, work: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (work / "served").symlink_to(folder.resolve())  # a name without spaces and quotes
    configuration = work / "nginx.conf"
    configuration.write_text(_nginx_conf(work, port), encoding="utf-8")
    process = subprocess.Popen([program, "-p", str(work), "-e", str(work / "error.log"), "-c", str(configuration)])
    url = f"http://127.0.0.1:{port}{PREFIX}"
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _nginx_conf(work: Path, port: int) -> str:
    user = "user root;" if os.getuid() == 0 else ""
    places = "\n".join(f"  {kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""{user}
daemon off;
pid nginx.pid;
events {{}}
http {{
  access_log off;
  include /etc/nginx/mime.types;
{places}
  server {{
    listen 127.0.0.1:{port};
    location {PREFIX} {{ alias "{work}/served/"; }}
  }}
}}
"""


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _WAIT
    while process.poll() is None and time.monotonic() < end:
        try:
            with urlopen(url):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"the server did not start: {process.args!r}")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def _by_python(folder: Path, work: Path) -> Iterator[str]:
    place = work / PREFIX.strip("/")
    place.parent.mkdir(parents=True)
    place.symlink_to(folder.resolve())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(work))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}{PREFIX}"
        server.shutdown()
