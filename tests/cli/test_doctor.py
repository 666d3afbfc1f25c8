from __future__ import annotations

import json
import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from smoll import doctor
from smoll.cli import main
from smoll.model import Finding


def finding(topic: str, root: Path | None = None) -> Finding:
    (found,) = (finding for finding in doctor.examine(root) if finding.topic == topic)
    return found


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    def version(distribution: str) -> str:
        try:
            return versions[distribution.replace("-", "_")]
        except KeyError:
            raise metadata.PackageNotFoundError(distribution) from None

    monkeypatch.setattr(metadata, "version", version)


def test_this_machine_is_fit() -> None:
    assert [finding for finding in doctor.examine(None) if finding.level == "error"] == []


def test_a_missing_engine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, duckdb="1.5.5")
    assert finding("duckdb") == Finding("duckdb", "ok", "1.5.5")
    assert finding("dbt-core").level == "error"
    assert main(["doctor"]) == 1


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, duckdb="1.5.5", duckdb_extension_sqlite_scanner="1.5.5")
    assert finding("extra sqlite").level == "ok"
    missing = finding("extra postgres")
    assert missing.level == "note"
    assert missing.hint == 'pip install "smoll[postgres]"'
    assert "SQLAlchemy reads by postgresql+psycopg, slower" in missing.message
    for driver in ("psycopg", "psycopg2", "pg8000"):
        monkeypatch.setitem(sys.modules, driver, None)
    assert "SQLAlchemy and psycopg or psycopg2 or pg8000 would" in finding("extra postgres").message


def test_an_extension_of_another_duckdb_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, duckdb="1.5.5", duckdb_extension_sqlite_scanner="1.5.4")
    assert finding("extra sqlite").level == "error"


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert finding("python").hint == "Install Python 3.11 to 3.13."


def test_the_project_must_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finding("project", tmp_path).level == "ok"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert finding("project", tmp_path).level == "error"


def test_the_tightest_cgroup_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert doctor._cgroup_limit(tmp_path, own) is None
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    (tmp_path / "a" / "memory.max").write_text("512000000\n")
    assert doctor._cgroup_limit(tmp_path, own) == 512_000_000


def test_cgroups_of_version_1(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("9:cpu,cpuacct:/x\n4:memory:/docker/1\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("400000000\n")
    assert doctor._cgroup_limit(tmp_path, own) == 400_000_000
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert doctor._cgroup_limit(tmp_path, own) is None


def test_doctor_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"topic", "level", "message", "hint"} == set(found[0])
