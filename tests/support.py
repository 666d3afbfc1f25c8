"""What the tests of several parts share: real projects in real folders, a real Postgres and a real MariaDB."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

import smoll
from smoll.model import RunResult, StreamResult, quote

_times = itertools.count(1_700_000_000_123_456_789, 1_000_000_000)

_DBT_PROJECT = """\
name: tests
version: "1.0.0"
profile: tests
config-version: 2
flags: {send_anonymous_usage_stats: false}
"""


class MakeProject(Protocol):
    """Writes a project and opens it; see the fixture ``make_project``."""

    def __call__(
        self,
        smoll_yml: str,
        files: Mapping[str, str | bytes] = ...,
        models: Mapping[str, str] = ...,
        tests: Mapping[str, str] = ...,
    ) -> smoll.Project: ...


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files below `root`, each at a later time than the one before, all long ago.

    A file of this very moment is read again by the next run, because it could still change within its time stamp.
    """
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        age(path)


def age(path: Path) -> None:
    """Give a file a time that no other file of the tests has, long ago."""
    moment = next(_times)
    os.utime(path, ns=(moment, moment))


def write_project(
    root: Path,
    smoll_yml: str,
    files: Mapping[str, str | bytes],
    models: Mapping[str, str],
    tests: Mapping[str, str],
) -> None:
    """Write ``smoll.yml``, the files, and, where there is a model or a test, a dbt project of them."""
    write(root, {"smoll.yml": smoll_yml if "name:" in smoll_yml.split("sources:")[0] else f"name: tests\n{smoll_yml}"})
    write(root, files)
    if models or tests:
        write(root, {"transform/dbt_project.yml": _DBT_PROJECT})
    write(root, {f"transform/models/{_with_suffix(name)}": text for name, text in models.items()})
    write(root, {f"transform/tests/{_with_suffix(name)}": text for name, text in tests.items()})


def _with_suffix(name: str) -> str:
    return name if Path(name).suffix else f"{name}.sql"


def reopen(project: smoll.Project, smoll_yml: str | None = None) -> smoll.Project:
    """Open the project again, as a new process would; with `smoll_yml` after writing it."""
    if smoll_yml is not None:
        write(project.config.root, {"smoll.yml": f"name: tests\n{smoll_yml}"})
    return smoll.open_project(project.config.root)


def start_run(project: smoll.Project) -> subprocess.Popen[str]:
    """Start `smoll run`, its output in one pipe, ready for Ctrl-C: a shell's background jobs ignore it."""
    return subprocess.Popen(
        [sys.executable, "-m", "smoll", "--project", str(project.config.root), "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def raw(project: smoll.Project, sql: str) -> list[Any]:
    """What a query on the working warehouse returns."""
    with project.connect(raw=True) as connection:
        return connection.execute(sql).fetchall()


def released(project: smoll.Project, sql: str) -> list[Any]:
    """What a query on the current release returns."""
    with project.connect() as connection:
        return connection.execute(sql).fetchall()


def only_stream(result: RunResult) -> StreamResult:
    """The one stream of a run."""
    assert len(result.streams) == 1
    return result.streams[0]


@dataclass(frozen=True)
class Postgres:
    """A database of its own on the tests' Postgres server. ``psql`` is the program and how to reach the server."""

    database: str
    url: str
    psql: tuple[str, ...]
    data: Path

    def execute(self, sql: str) -> str:
        """Run SQL, in as many statements as you like; an error in one of them raises."""
        command = [*self.psql, "-v", "ON_ERROR_STOP=1", "-X", "-q", "-A", "-t", self.url]
        done = subprocess.run(command, input=sql, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class MariaDB:
    """A database of its own on the tests' MariaDB server, which is reached by a socket."""

    database: str
    socket: Path

    @property
    def url(self) -> str:
        return f"mysql://root@localhost/{self.database}?socket={self.socket}"

    @property
    def driver_url(self) -> str:
        """For SQLAlchemy."""
        return f"mysql+pymysql://root@localhost/{self.database}?unix_socket={self.socket}"

    def execute(self, sql: str) -> str:
        """Run SQL, in as many statements as you like; an error in one of them raises."""
        command = ["mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch", "-N"]
        sql = f"SET NAMES utf8mb4; {sql}"
        done = subprocess.run([*command, self.database], input=sql, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


KEY, SECRET = "AKIDEXAMPLE123", "very-hidden-S3cret"


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of its own."""

    name: str
    server: str
    store: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @property
    def source(self) -> dict[str, Any]:
        """The source's options with which a project reaches it."""
        return {
            "storage": {
                "endpoint": self.server,
                "region": "us-east-1",
                "access_key_id": KEY,
                "secret_access_key": SECRET,
            }
        }

    def put(self, key: str, body: str | bytes) -> None:
        import obstore

        obstore.put(self.store, key, body.encode() if isinstance(body, str) else body)

    def delete(self, key: str) -> None:
        import obstore

        obstore.delete(self.store, key)


@contextmanager
def mariadb_server() -> Iterator[MariaDB]:
    """A real MariaDB, with data, socket and log in a folder of its own, and no port."""
    with tempfile.TemporaryDirectory(prefix="smoll-maria-", ignore_cleanup_errors=True) as folder:
        data, socket = Path(folder) / "data", Path(folder) / "s"
        options = ["--no-defaults", f"--datadir={data}"]
        own = ["--user=root"] if os.geteuid() == 0 else []
        install = ["mariadb-install-db", *options, *own, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, check=True, capture_output=True)
        small = ["--innodb-buffer-pool-size=32M", "--skip-networking", "--skip-log-bin", f"--socket={socket}"]
        with (Path(folder) / "log").open("wb") as log:
            server = subprocess.Popen([mariadbd() or "", *options, *own, *small], stdout=log, stderr=log)
        try:
            ping = ["mariadb-admin", "--no-defaults", f"--socket={socket}", "--user=root", "ping"]
            deadline = time.monotonic() + 60
            while subprocess.run(ping, capture_output=True).returncode != 0:
                assert server.poll() is None and time.monotonic() < deadline, (Path(folder) / "log").read_text()
                time.sleep(0.1)
            yield MariaDB("mysql", socket)
        finally:
            server.kill()
            server.wait()


def mariadbd() -> str | None:
    """The program of the server; None where there is none."""
    return shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def parquet(sql: str, path: Path) -> None:
    """Write what a DuckDB query returns as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({sql}) TO '{str(path).replace(chr(39), chr(39) * 2)}' (FORMAT parquet)")
    age(path)


def files_yml(path: str | list[str] = "data/t.csv", source: Mapping[str, Any] | None = None, **options: Any) -> str:
    """A project of one source ``s`` of files with one stream ``t``."""
    spec = {"kind": "files", **(source or {}), "streams": {"t": {"path": path, **options}}}
    return f"sources: {json.dumps({'s': spec})}\n"


def sql_yml(url: str, streams: Any, **source: Any) -> str:
    """A project of one source ``s``, a database."""
    return f"sources: {json.dumps({'s': {'kind': 'sql', 'url': url, **source, 'streams': streams}})}\n"


def load(project: smoll.Project, **options: Any) -> StreamResult:
    """Run a project of one stream that must load; no more than it says."""
    result = project.run(**options)
    stream = only_stream(result)
    assert result.status == "ok", stream.error or result.error
    return stream


def refused(project: smoll.Project, *parts: str, table: str = "raw_s.t") -> str:
    """Run a project of one stream that must fail, with these words in its message, and leave its table alone."""
    before = dump(project, table)
    result = project.run()
    assert result.status == "failed"
    stream = only_stream(result)
    assert stream.status == "failed"
    for part in parts:
        assert part in stream.error
    assert dump(project, table) == before
    return stream.error


def dump(project: smoll.Project, table: str = "raw_s.t") -> list[Any] | None:
    """Everything about a table: columns, types, rows. None where there is none."""
    if not (project.config.root / ".smoll/warehouse.duckdb").exists():
        return None
    with project.connect(raw=True) as connection:
        try:
            columns = connection.execute(f"DESCRIBE {table}").fetchall()
        except duckdb.CatalogException:
            return None
        return [*columns, *connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()]


def types(project: smoll.Project, table: str = "raw_s.t") -> dict[str, str]:
    """The data columns of a table in order, to their types."""
    return {row[0]: row[1] for row in raw(project, f"DESCRIBE {table}") if not row[0].startswith("_smoll_")}


def rows(project: smoll.Project, table: str = "raw_s.t") -> list[Any]:
    """The data of a table, sorted."""
    columns = ", ".join(quote(name) for name in types(project, table))
    return raw(project, f"SELECT {columns} FROM {table} ORDER BY ALL")
