"""What an app reads: the current release, the newest at each look, and nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import duckdb
import pytest

import smoll.streamlit
from smoll.errors import ReleaseError, SmollError, UsageError
from smoll.model import literal
from support import MakeProject, write

SEEN = "'2026-01-01 12:00:00+02'::timestamptz"
PIVOT = "PIVOT main.people ON name USING sum(n) GROUP BY seen"
NAMES = [{"n": 1, "name": "Ann"}, {"n": 2, "name": "Bo"}]


def test_a_release_is_read_and_a_newer_one_is_noticed(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(
        "sources: {shop: {kind: files, streams: {people: data/people.csv}}}\n",
        {"data/people.csv": "n,name\n1,Ann\n2,Bo\n"},
        {"marts/people": f"select n, name, {SEEN} as seen from {{{{ source('shop', 'people') }}}}"},
    )
    root = project.config.root
    monkeypatch.setenv("SMOLL_PROJECT", str(root))
    with pytest.raises(ReleaseError, match="Nothing has been released"):
        smoll.streamlit.connection()
    assert project.run().status == "ok"
    release = smoll.streamlit.connection()
    assert release.release == 1
    assert release is smoll.streamlit.connection() is smoll.streamlit.connection(root / "data")
    assert release.query("SELECT n, name FROM main.people ORDER BY n").to_dict("records") == NAMES
    assert release.query("SELECT name FROM main.people WHERE name = ?", ["Bo"]).name.tolist() == ["Bo"]
    assert release.arrow("FROM main.people WHERE n = $n", {"n": 1}).num_rows == 1
    assert release.query(PIVOT).columns.tolist() == ["seen", "Ann", "Bo"]
    assert release.query("DESCRIBE main.people -- all of it").column_name.tolist() == ["n", "name", "seen"]
    assert release.query("SELECT seen::VARCHAR AS seen FROM main.people").seen[0] == "2026-01-01 10:00:00+00"
    with release.cursor() as cursor:
        assert cursor.sql("FROM main.people").fetchone() is not None

    _bounded(release)
    _locked_in(release, root)
    _from_threads(release)

    write(root, {"data/people.csv": "n,name\n1,Ann\n2,Bo\n3,Cy\n"})
    assert project.run().status == "ok"
    newer = smoll.streamlit.connection()
    assert (newer.release, newer.query("SELECT count(*) AS c FROM main.people").c[0]) == (2, 3)
    assert release.query("SELECT count(*) AS c FROM main.people").c[0] == 2, "who reads the old one goes on"
    old = str(root / ".smoll" / "releases" / "1" / "warehouse.duckdb")
    assert old in _open_files()
    del release
    assert old not in _open_files(), "it is closed when nobody has it any more"
    project.rollback()
    assert smoll.streamlit.connection().release == 1


def _bounded(release: smoll.streamlit.Connection) -> None:
    with pytest.raises(UsageError, match="more than 1 rows"):
        release.query("FROM main.people", max_rows=1)
    with pytest.raises(SmollError, match="ended after"):
        release.query(
            "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = 3", timeout=0.3
        )
    assert release.query("SELECT 1 AS one").one[0] == 1


def _locked_in(release: smoll.streamlit.Connection, root: Path) -> None:
    """No SQL changes anything, or reads anything else."""
    for sql in (
        "CREATE TABLE memory.main.x AS SELECT 1",
        "SELECT 1) ; CREATE TABLE memory.main.x AS (SELECT 1",
        f"{PIVOT}); CREATE TABLE memory.main.x AS ({PIVOT}",
        "SELECT 1; SELECT 2",
        "ATTACH ':memory:' AS other",
        "SET memory_limit = '10GB'",
        f"COPY (SELECT 1) TO '{root}/out.csv'",
        "",
        "-- nothing",
    ):
        with pytest.raises(UsageError):
            release.query(sql)
    for sql in (f"FROM read_text({literal(f'{root}/smoll.yml')})", f"FROM {literal(f'{root}/data/people.csv')}"):
        with pytest.raises(duckdb.Error):
            release.query(sql)
    with release.cursor() as cursor, pytest.raises(duckdb.Error):
        cursor.execute("DELETE FROM main.people")
    assert release.query("SELECT table_name FROM duckdb_tables() WHERE database_name = 'memory'").empty


def _from_threads(release: smoll.streamlit.Connection) -> None:
    found: list[int] = []

    def ask(number: int) -> None:
        found.extend(release.query("SELECT n + ? AS n FROM main.people", [number]).n)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([number + n for number in range(8) for n in (1, 2)])


def _open_files() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def test_a_script_finds_the_project_that_it_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMOLL_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project" / "apps").mkdir(parents=True)
    (tmp_path / "project" / "smoll.yml").write_text("name: tests\n")
    script = compile("import smoll.streamlit\nsmoll.streamlit.connection()", "app.py", "exec")
    with pytest.raises(ReleaseError, match="Nothing has been released"):
        exec(script, {"__file__": str(tmp_path / "project" / "apps" / "app.py")})
    with pytest.raises(UsageError, match=r"No smoll\.yml"):
        exec(script, {"__file__": str(tmp_path / "app.py")})
