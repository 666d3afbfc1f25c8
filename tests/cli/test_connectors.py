"""``smoll connectors``: what is installed, and what the connectors say of themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import smoll
from smoll.errors import LoadError, UsageError
from support import MakeProject, reopen
from wheels import MUTE_TAP, TAP, build_wheel

pytestmark = pytest.mark.connectors

TINY = {"kind": "singer", "tap": "tap-tiny", "config": {"token": "abc123"}}
SOURCE = {"kind": "airbyte", "connector": "source-tiny==1.0"}


def yml(**sources: Any) -> str:
    return f"sources: {json.dumps(sources)}\n"


def cli(project: smoll.Project, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smoll", "--project", str(project.config.root), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def rows(text: str) -> list[list[str]]:
    """The cells of a table, which stand three blanks apart."""
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in text.splitlines()]


def test_list_and_install(make_project: MakeProject, wheels: Path) -> None:
    files = {"data/a.csv": "a\n1\n", "taps/tap.py": "print()\n"}
    own = {"kind": "singer", "tap": "./taps/tap.py"}
    project = make_project(
        yml(tiny=TINY, people=SOURCE, own=own, files={"kind": "files", "streams": {"a": "data/a.csv"}}), files
    )
    assert rows(cli(project, "connectors", "list").stdout) == [
        ["source", "kind", "connector", "locked", "installed", "size"],
        ["tiny", "singer", "tap-tiny", "no", "no"],
        ["people", "airbyte", "source-tiny==1.0", "no", "no"],
        ["own", "singer", "./taps/tap.py", "own"],
    ]
    done = cli(project, "connectors", "install")
    assert rows(done.stdout) == [
        ["tiny", "tap-tiny: 1.0, installed"],
        ["people", "source-tiny==1.0: 1.0, installed"],
        ["own", "./taps/tap.py: a program of the project's own"],
    ]
    assert "tiny: resolving tap-tiny" in done.stderr
    listed = json.loads(cli(project, "connectors", "list", "--json").stdout)
    assert [(each["name"], each["version"], each["installed"]) for each in listed] == [
        ("tiny", "1.0", True),
        ("people", "1.0", True),
        ("own", "", True),
    ]
    assert listed[0]["bytes"] > 10_000 and listed[2]["bytes"] == 0
    assert "unchanged" in cli(project, "connectors", "install").stdout


def test_install_says_what_changed_and_removes_what_nobody_uses(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(yml(tiny=TINY, people=SOURCE))
    project.install_connectors()
    build_wheel(wheels, "tap-tiny", "2.0", TAP)
    done = cli(project, "connectors", "install", "tiny", "--upgrade")
    assert rows(done.stdout) == [["tiny", "tap-tiny: 1.0 -> 2.0"]]
    folder = project.config.root / ".smoll/connectors"
    assert len(list(folder.glob("*/venv"))) == 3  # the old one may be in use, and some only were named

    project = reopen(project, yml(tiny=TINY))
    (project.config.root / "connectors/notes.lock").write_text("not written by smoll\n")
    result = project.install_connectors()
    assert [each.status for each in result.connectors] == ["unchanged"]
    assert sorted(path.split("/")[-1].split("-")[0] for path in result.removed) == ["people.lock", "source", "tap"]
    assert sorted(path.name for path in (project.config.root / "connectors").iterdir()) == ["notes.lock", "tiny.lock"]
    assert len(list(folder.glob("*/venv"))) == 1
    assert project.install_connectors().removed == ()


def test_an_unknown_source_is_told(make_project: MakeProject) -> None:
    project = make_project(yml(tiny=TINY, files={"kind": "files", "streams": {"a": "data/a.csv"}}))
    with pytest.raises(UsageError, match=r"There is no source 'tinny'.\n.*tiny"):
        project.install_connectors("tinny")
    with pytest.raises(UsageError, match="files is of kind files"):
        project.connector_spec("files")
    assert "There is no source" in cli(project, "connectors", "discover", "nothing", code=2).stderr


def test_without_connectors_there_is_nothing_to_do(make_project: MakeProject) -> None:
    project = make_project(yml(files={"kind": "files", "streams": {"a": "data/a.csv"}}))
    assert "smoll add singer" in cli(project, "connectors", "list").stderr
    assert cli(project, "connectors", "list", "--json").stdout == "[]\n"
    assert "nothing to install" in cli(project, "connectors", "install").stderr
    assert json.loads(cli(project, "connectors", "install", "--json").stdout) == {"connectors": [], "removed": []}


def test_the_settings_of_a_tap(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(yml(tiny=TINY))
    table = rows(cli(project, "connectors", "spec", "tiny").stdout)
    assert table == [
        ["setting", "type", "required", "default", "description"],
        ["token", "text, secret", "yes", "What the server knows you by."],
        ["pages", "whole number", "3", "How many pages to read."],
        ["kind", "text, small | large"],
        ["stream_maps", "mapping"],
    ]
    assert json.loads(cli(project, "connectors", "spec", "tiny", "--json").stdout)["required"] == ["token"]


def test_a_tap_that_says_nothing_of_its_settings(make_project: MakeProject, wheels: Path) -> None:
    build_wheel(wheels, "tap-mute", "1.0", MUTE_TAP)
    project = make_project(yml(mute={"kind": "singer", "tap": "tap-mute"}))
    with pytest.raises(LoadError, match=r"tap-mute 1.0 does not say what its settings are.*\n.*documentation"):
        project.connector_spec("mute")


def test_the_settings_of_an_airbyte_connector(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(yml(people=SOURCE))
    spec = project.connector_spec("people")
    assert spec.connector == "source-tiny 1.0"
    assert [(each.name, each.type, each.required, each.secret) for each in spec.settings] == [
        ("credentials", "one of OAuth, Token", True, False),
        ("credentials.auth", "text", True, False),
        ("credentials.client_secret", "text", True, True),
        ("credentials.auth", "text", True, False),
        ("credentials.token", "text", True, True),
        ("start_date", "date", True, False),
        ("size", "whole number, at least 1", True, False),
        ("note", "text", False, False),
        ("tunnel", "mapping", False, False),
        ("tunnel.host", "text", True, False),
        ("tunnel.port", "whole number", False, False),
    ]
    assert "credentials" in json.loads(cli(project, "connectors", "spec", "people", "--json").stdout)["properties"]


def test_the_streams_of_a_tap(make_project: MakeProject, wheels: Path) -> None:
    streams = {"issues": {"mode": "append"}}
    project = make_project(yml(tiny={**TINY, "streams": streams, "exclude": ["*.name"]}))
    done = cli(project, "connectors", "discover", "tiny")
    assert rows(done.stdout) == [
        ["stream", "table", "mode", "sync", "key", "cursor", "fields"],
        ["issues", "raw_tiny.issues", "append", "full", "id"],
        ["pulls", "left out", "id, name"],
    ]
    assert "1 of 2 streams are left out" in done.stderr
    assert len(json.loads(cli(project, "connectors", "discover", "tiny", "--json").stdout)["streams"]) == 2
    # A configuration that does not fit the catalog is told, and the catalog shown all the same.
    project = reopen(project, yml(tiny={**TINY, "streams": ["isues"]}))
    done = cli(project, "connectors", "discover", "tiny")
    assert "isues" in done.stderr and "pulls" in done.stdout


def test_the_streams_of_an_airbyte_connector(make_project: MakeProject, wheels: Path) -> None:
    config = {"credentials": {"auth": "token", "token": "abc"}, "start_date": "2024-01-01", "size": 3}
    project = make_project(yml(people={**SOURCE, "config": config}))
    (stream,) = project.discover("people").streams
    assert (stream.name, stream.table, stream.mode, stream.sync) == (
        "users",
        "raw_people.users",
        "merge",
        "incremental",
    )
    assert (stream.key, stream.cursor) == (("id",), "updated_at")
    assert stream.fields == {"id": "whole number", "updated_at": "date and time"}


def test_doctor_tells_of_environments(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(yml(tiny=TINY, people=SOURCE))
    assert "smoll connectors install" in cli(project, "doctor").stdout
    project.install_connectors()
    said = cli(project, "doctor").stdout
    assert "2 installed" in said and "smoll connectors install" not in said
    (broken,) = (project.config.root / ".smoll/connectors").glob("tap-tiny-*")
    (broken / "venv/bin/python").unlink()
    assert f"{broken.name} is broken" in cli(project, "doctor").stdout
    shutil.rmtree(broken)
    reopen(project, yml(tiny=TINY))
    said = cli(project, "doctor").stdout
    assert "1 that no source uses" in said and "tiny is not installed" in said


def test_doctor_works_where_smoll_does_not(make_project: MakeProject) -> None:
    project = make_project(yml(tiny=TINY))
    code = "import sys; sys.modules['pydantic'] = None; from smoll.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--project", str(project.config.root), "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "python" in done.stdout and "Traceback" not in done.stderr and done.returncode == 0, done.stderr
