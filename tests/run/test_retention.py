"""Which releases stay: by number, age and disk; pins; and what ``smoll gc`` removes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import smoll
from smoll.errors import LockedError, ReleaseError, UsageError
from smoll.events import Event, Message
from smoll.state.layout import Layout
from smoll.state.lock import project_lock
from support import MakeProject, reopen, write

YML = "sources: {{s: {{kind: files, streams: {{t: data/t.csv}}}}}}\nrelease: {{{}}}\n"


def with_releases(make_project: MakeProject, number: int, keep: str = "keep: 100") -> smoll.Project:
    project = make_project(YML.format(keep), {"data/t.csv": "a\n0\n"}, {"m": "select * from {{ source('s', 't') }}"})
    for each in range(1, number + 1):
        release(project, each)
    return project


def release(project: smoll.Project, value: int) -> list[Event]:
    write(project.config.root, {"data/t.csv": f"a\n{value}\n"})
    events: list[Event] = []
    assert reopen(project).run(on_event=events.append).release.status == "published"
    return events


def change(project: smoll.Project, keep: str) -> smoll.Project:
    return reopen(project, YML.format(keep))


def numbers(project: smoll.Project) -> list[int]:
    return [entry.manifest.number for entry in reopen(project).releases()]


def make_older(project: smoll.Project, number: int, days: int) -> None:
    path = project.config.root / f".smoll/releases/{number}/manifest.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "created": (datetime.now(UTC) - timedelta(days=days)).isoformat()}))


def test_by_number_and_pins(make_project: MakeProject) -> None:
    """Pinned ones do not count."""
    project = with_releases(make_project, 2)
    entry = project.pin(1, "the report")
    assert entry.pinned and entry.manifest.number == 1
    project = change(project, "keep: 2")
    for value in (3, 4, 5):
        release(project, value)
    assert numbers(project) == [5, 4, 1]
    assert not reopen(project).unpin(1).pinned
    assert [(gone.path, gone.reason) for gone in reopen(project).gc()] == [
        (".smoll/releases/1", "more than 2 are not kept")
    ]
    assert numbers(project) == [5, 4]
    with pytest.raises(UsageError, match="Release 4 is not pinned"):
        reopen(project).unpin(4)
    with pytest.raises(UsageError, match="There is no release 1"):
        reopen(project).pin(1)


def test_by_age(make_project: MakeProject) -> None:
    """One to go back to stays, however old."""
    project = with_releases(make_project, 4)
    for number, days in ((1, 100), (2, 90), (3, 80)):
        make_older(project, number, days)
    project = change(project, "keep: 100, keep_days: 85")
    assert [gone.path for gone in project.gc(dry_run=True)] == [".smoll/releases/1", ".smoll/releases/2"]
    assert numbers(project) == [4, 3, 2, 1]
    project = change(project, "keep: 100, keep_days: 30")
    assert [gone.reason for gone in project.gc()] == ["older than 30 days"] * 2
    assert numbers(project) == [4, 3]
    assert change(project, "keep: 1").gc() and numbers(project) == [4]


def test_by_bytes_a_run_says_what_it_removes(make_project: MakeProject) -> None:
    project = with_releases(make_project, 3)
    size = sum(path.stat().st_size for path in (project.config.root / ".smoll/releases/3").rglob("*"))
    project = change(project, f"keep: 100, keep_bytes: {size * 2.5 / 1e6} MB")
    said = [event.text for event in release(project, 4) if isinstance(event, Message)]
    assert [text.split(":")[0] for text in said] == ["Release 1 was removed", "Release 2 was removed"]
    assert numbers(project) == [4, 3]
    tiny = change(project, "keep: 100, keep_bytes: 0.001 MB")
    release(tiny, 5)
    assert numbers(project) == [5, 4], "one to go back to stays"


def test_the_default_cannot_fill_a_small_disk(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the disk: the disk is a small one here."""
    project = with_releases(make_project, 4)
    size = sum(path.stat().st_size for path in (project.config.root / ".smoll/releases/3").rglob("*"))
    real = shutil.disk_usage(project.config.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(total=int(size * 2.5 * 4)))
    assert [gone.reason for gone in project.gc()] == ["all together took more than a quarter of the disk"] * 2
    assert numbers(project) == [4, 3]


def test_what_readers_see_and_what_is_newer_stays(make_project: MakeProject) -> None:
    project = with_releases(make_project, 4)
    project.rollback(2)
    project = change(project, "keep: 1")
    assert [gone.path for gone in project.gc()] == [".smoll/releases/1"]
    assert numbers(project) == [4, 3, 2]


def test_damaged_pins_remove_nothing(make_project: MakeProject) -> None:
    project = with_releases(make_project, 3)
    project.pin(1)
    pins = Layout(project.config.root).pins
    pins.write_text("[{")
    project = change(project, "keep: 1")
    with pytest.raises(ReleaseError, match=r"pins\.json is damaged"):
        project.gc()
    write(project.config.root, {"data/t.csv": "a\n9\n"})
    events: list[Event] = []
    assert reopen(project).run(on_event=events.append).release.status == "published"
    assert any(isinstance(event, Message) and "is damaged" in event.text for event in events)
    assert Path(project.config.root / ".smoll/releases/1").is_dir()


def test_what_killed_runs_and_removed_sources_left(make_project: MakeProject) -> None:
    project = with_releases(make_project, 1)
    root = project.config.root
    left = [
        ".smoll/releases/.staging-9/x",
        ".smoll/tmp/load-1/x",
        ".smoll/journals/gone/log.ndjson",
        ".smoll/configs/gone.json",
    ]
    write(root, dict.fromkeys(left, "12345"))
    found = project.gc(dry_run=True)
    assert [(gone.path, gone.bytes) for gone in found] == [
        (".smoll/releases/.staging-9", 5), (".smoll/tmp/load-1", 5), (".smoll/journals/gone", 5),
        (".smoll/configs/gone.json", 5),
    ]  # fmt: skip
    assert project.gc() == found and project.gc() == ()
    assert not any((root / name).exists() for name in left)
    assert reopen(project).connect().execute("select a from main.m").fetchall() == [(1,)]


def test_a_run_is_waited_for(make_project: MakeProject) -> None:
    project = with_releases(make_project, 1)
    with project_lock(Layout(project.config.root).lock, "smoll run"):
        with pytest.raises(LockedError):
            project.gc(wait=False)
        assert project.gc(dry_run=True) == ()


def test_the_commands(make_project: MakeProject) -> None:
    project = with_releases(make_project, 3)

    def smoll_says(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "smoll", "--project", str(project.config.root), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    assert smoll_says("release", "pin", "1", "--reason", "why") == (
        0,
        "Release 1 is kept for ever: .smoll/releases/1\n",
    )
    assert "pinned" in smoll_says("releases")[1] and "(pinned)" in smoll_says("release", "show", "1")[1]
    change(project, "keep: 1")
    code, said = smoll_says("gc", "--dry-run")
    assert code == 0 and ".smoll/releases/2" in said and "Would remove 1 thing" in said
    assert json.loads(smoll_says("gc", "--json")[1])[0]["path"] == ".smoll/releases/2"
    assert "There is nothing to remove." in smoll_says("gc")[1]
    assert smoll_says("release", "unpin", "3")[0] == 2
