"""``smoll undo``: all that a run has changed comes back, whatever the file system can do or gets in between."""

from __future__ import annotations

import errno
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import smoll
from programs import has_received, journals, project_yml
from run.content import data, everything
from run.shop import BAD_ORDERS, GOOD_ORDERS, edit, make_shop, published, refused
from smoll.errors import BusyError, LockedError, StateError, UsageError
from smoll.events import Event, Message, Recovered
from smoll.state import copies
from smoll.state.layout import Layout
from smoll.state.ledger import Ledger
from smoll.state.lock import project_lock
from support import MakeProject, raw, reopen, write

ALL_MODES = """\
sources:
  s:
    kind: files
    streams:
      whole: data/whole.csv
      added: {path: data/added*.csv, mode: append, incremental: true}
      merged: {path: data/merged.csv, mode: merge, key: id}
      versions: {path: data/versions.csv, mode: scd2, key: id}
"""
BEFORE = {
    "data/whole.csv": "id,v\n1,a\n",
    "data/added1.csv": "id,v\n1,a\n2,b\n",
    "data/merged.csv": "id,v\n1,a\n2,b\n",
    "data/versions.csv": "id,v\n1,a\n2,b\n",
}
AFTER = {
    "data/whole.csv": "id,v,w\n1,x,0.5\n2,y,1.5\n",
    "data/added2.csv": "id,v\n3,c\n",
    "data/merged.csv": "id,v\n1,z\n3,c\n",
    "data/versions.csv": "id,v\n1,z\n3,c\n",
}
MODELS = {
    "grown": """{{ config(materialized='incremental') }} select id, v from {{ source('s', 'added') }}
        {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}""",
    "grown.yml": "models: [{name: grown, columns: [{name: id, data_tests: [unique]}]}]",
    "../snapshots/history": """{% snapshot history %}{{ config(unique_key='id', strategy='check', check_cols=['v'],
        target_schema='snapshots') }} select id, v from {{ source('s', 'merged') }}{% endsnapshot %}""",
}


def says(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smoll", "--project", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


def texts(project: smoll.Project) -> list[str]:
    """What a run tells people."""
    events: list[Event] = []
    assert project.run(on_event=events.append).exit_code == 0
    return [event.text for event in events if isinstance(event, Message)]


def small(make_project: MakeProject, undo: str = "") -> smoll.Project:
    """One stream, no models: a run takes no time."""
    text = f"sources: {{s: {{kind: files, streams: {{t: data/t.csv}}}}}}\n{undo}"
    return make_project(text, {"data/t.csv": "id\n1\n"})


def load(project: smoll.Project, rows: int) -> smoll.Project:
    write(project.config.root, {"data/t.csv": "id\n" + "".join(f"{n}\n" for n in range(rows))})
    assert project.run().status == "ok"
    return project


def number_of_rows(project: smoll.Project) -> int:
    return int(raw(project, "SELECT count(*) FROM raw_s.t")[0][0])


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without reflinks, whatever there is here."""
    monkeypatch.setattr(copies, "reflink", lambda source, target: False)


# --- what comes back


def test_every_table_cursor_and_check_is_as_before_and_the_next_run_as_if_nothing_had_been(
    make_project: MakeProject,
) -> None:
    project = make_project(ALL_MODES, BEFORE, MODELS)
    assert project.run().release.number == 1
    before = everything(project)
    twin_root = Path(shutil.copytree(project.config.root, project.config.root.with_name("twin"), symlinks=True))
    write(project.config.root, AFTER)
    assert project.run().status == "ok"
    assert project.run(full_refresh=True, reload=["s.added"]).status == "ok"
    project.reset_state("s.merged")
    assert everything(project) != before

    plan = project.undo(2, dry_run=True)
    assert not plan.done and everything(project) != before
    assert [(str(change.table), change.now, change.then) for change in plan.tables if change.table.name == "added"] == [
        ("raw_s.added", 3, 2)
    ]
    done = project.undo(2)
    assert done.done and [record.run for record in done.runs] == [3, 2]
    assert everything(project) == before
    assert [(record.run, record.undone is not None) for record in project.runs()] == [(3, True), (2, True), (1, False)]
    assert [copy.run for copy in project.undo_copies()] == [1]
    with pytest.raises(UsageError, match="Run 3 is undone already"):
        project.undo(3)
    with pytest.raises(UsageError, match="There is no run 9"):
        project.undo(9)
    with pytest.raises(UsageError, match="There is no run"):
        project.undo(10**30)

    result = project.run()
    assert (result.status, result.run) == ("ok", 4), "no number is used twice"
    twin = smoll.open_project(twin_root)
    for name, content in AFTER.items():
        write(twin_root, {name: content})
    assert twin.run().status == "ok"
    assert data(project) == data(twin)
    assert project.undo().copy.run == 4 and everything(project) == before
    assert project.undo().copy.run == 1
    assert not Layout(project.config.root).warehouse.exists()
    with pytest.raises(UsageError, match="There is no run to undo"):
        project.undo()
    assert project.run().status == "ok"
    assert data(project)['"raw_s"."whole"'] == data(twin)['"raw_s"."whole"']


def test_checks_count_as_they_did_a_hold_stays_and_readers_see_what_they_saw(make_project: MakeProject) -> None:
    shop = make_shop(make_project)
    published(shop.run())
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    published(shop.run())
    shop.rollback(1)
    hold = shop.status().hold
    edit(shop, "data/orders.csv", BAD_ORDERS)
    refused(shop.run())
    refused(shop.run("stg_orders"))
    shop.undo(3)
    result = shop.run("customers")
    assert (result.status, result.release.status) == ("ok", "unchanged"), "what run 3 refused has never been"
    status = shop.status()
    assert status.hold == hold and status.current and status.current.manifest.number == 1
    shop.undo()
    assert "resume" in shop.undo(2, dry_run=True).note, "release 2 waits"
    shop.resume()
    done = shop.undo(2)
    assert (done.release, done.earlier) == (2, 1)
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    assert shop.run().release.status == "unchanged", "release 2 has it"


def test_what_a_connector_had_sent_is_dropped_with_the_state_that_it_followed(make_project: MakeProject) -> None:
    counter = Path(__file__).parents[1].joinpath("programs/counter.py").read_text(encoding="utf-8")
    streams = {"merged": {"mode": "merge"}, "added": {"mode": "append"}, "replaced": {"mode": "replace"}}
    text = project_yml({"s": {"kind": "singer", "tap": "./counter.py", "streams": streams}})
    project = make_project(text, {"counter.py": counter, "rows": "4"})
    root = project.config.root
    assert project.run().status == "ok"
    (root / "rows").write_text("8")
    assert project.run().status == "ok"
    (root / "rows").write_text("20")
    (root / "die").write_text("30")
    assert project.run().status == "failed" and has_received(root)
    project.undo(2)
    assert journals(project) == []
    (root / "die").unlink(missing_ok=True)
    assert project.run().status == "ok"
    for stream in streams:
        assert raw(project, f"SELECT id FROM raw_s.{stream} ORDER BY id") == [(n,) for n in range(1, 21)]


def test_a_damaged_warehouse_comes_back(make_project: MakeProject) -> None:
    project = load(load(small(make_project), 2), 3)
    Layout(project.config.root).warehouse.write_bytes(b"garbage" * 1000)
    with pytest.raises(StateError, match="cannot be read") as refusal:
        project.run()
    assert "`smoll undo` brings back the copy" in refusal.value.hint
    done = project.undo()
    assert "cannot be read" in done.note and done.copy.run == 2
    assert number_of_rows(project) == 2
    assert number_of_rows(load(project, 5)) == 5


# --- which copies there are


def test_so_many_copies_stay_and_gc_knows_of_them(make_project: MakeProject) -> None:
    project = small(make_project, "undo: {keep: 2}\n")
    for rows in (1, 2, 3, 4):
        load(project, rows)
    assert [copy.run for copy in project.undo_copies()] == [4, 3]
    with pytest.raises(UsageError, match=r"only the last 2 are kept \(undo\.keep\)") as caught:
        project.undo(2)
    assert "smoll undo 4` goes back one run" in caught.value.hint
    write(project.config.root, {".smoll/undo/.staging-9/warehouse.duckdb": "12345"})
    text = (project.config.root / "smoll.yml").read_text().removeprefix("name: tests\n")
    project = reopen(project, text.replace("keep: 2", "keep: 1"))
    gone = [(gone.path, gone.reason) for gone in project.gc()]
    assert gone == [
        (".smoll/undo/.staging-9", "an unfinished copy"),
        (".smoll/undo/3", "more than 1 are not kept"),
    ]
    project = reopen(project, text.replace("keep: 2", "keep: 0"))
    load(project, 5)
    assert project.undo_copies() == ()
    with pytest.raises(UsageError, match=r"switched off \(undo\.keep is 0\)"):
        project.undo()


@pytest.mark.usefixtures("plain")
def test_a_large_warehouse_is_not_copied_and_that_is_said_once(make_project: MakeProject) -> None:
    project = load(small(make_project, "undo: {copy_up_to: 0.01MB}\n"), 2)
    told = [text for text in texts(project) if "undo" in text]
    assert len(told) == 1 and "plain copies are made up to 0.0 MB (undo.copy_up_to)" in told[0]
    assert [text for text in texts(project) if "undo" in text] == []
    for run in (2, 3):
        with pytest.raises(UsageError, match=r"the warehouse has .* and this file system has no reflinks"):
            project.undo(run)
    text = (project.config.root / "smoll.yml").read_text().removeprefix("name: tests\n")
    project = reopen(project, text.replace("0.01MB", "1GB"))
    assert project.run().status == "ok"
    assert project.undo().copy.kind == "copy"
    assert [copy.run for copy in project.undo_copies()] == [1]


@pytest.mark.usefixtures("plain")
def test_a_full_disk_costs_the_copy_and_not_the_run(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = load(small(make_project), 2)

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        assert [text for text in texts(project) if "No space left" in text]
    assert sorted(path.name for path in Layout(project.config.root).undo.iterdir()) == ["1", "none.json"]
    with pytest.raises(UsageError, match="No space left on device"):
        project.undo()

    load(project, 3)
    size = Layout(project.config.root).warehouse.stat().st_size
    real = shutil.disk_usage(project.config.root)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: real._replace(free=size // 2))
        assert [text for text in texts(project) if "the disk has" in text]
    assert project.undo_copies() == (), "room for a run comes first"


FILE_SYSTEMS = {"xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}


@contextmanager
def _file_system(kind: str, folder: Path) -> Iterator[Path]:
    program = shutil.which(FILE_SYSTEMS[kind][0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip(f"there is no {FILE_SYSTEMS[kind][0]} here")
    image, place = folder / "image", folder / "place"
    with image.open("wb") as file:
        file.truncate(400 * 1024**2)
    place.mkdir()
    subprocess.run([program, *FILE_SYSTEMS[kind][1:], str(image)], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a file system of its own needs the right to mount one: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_with_reflinks_a_copy_of_any_size_is_kept(kind: str, tmp_path: Path) -> None:
    with _file_system(kind, tmp_path) as place:
        root = place / "project"
        yml = "name: tests\nundo: {copy_up_to: 0.001MB}\nsources: {s: {kind: files, streams: {t: data/t.csv}}}\n"
        write(root, {"smoll.yml": yml, "data/t.csv": "id\n1\n"})
        project = smoll.open_project(root)
        load(project, 400_000)
        load(project, 400_001)
        load(project, 400_002)
        assert [copy.kind for copy in project.undo_copies()] == ["reflink", "reflink", "empty"]
        assert project.undo(2).copy.kind == "reflink"
        assert number_of_rows(project) == 400_000
        with project.connect(raw=True) as connection:
            assert connection.execute("SELECT sum(id) FROM raw_s.t").fetchone() == (sum(range(400_000)),)


# --- what gets in between


def test_an_undo_that_was_cut_short_is_completed_before_anything_else(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = load(load(small(make_project), 2), 3)

    def fail(*arguments: Any) -> None:
        raise StateError("the disk is full")

    def fail_to_sync(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(copies, "fsync_path", fail_to_sync)
        with pytest.raises(StateError, match="Cannot go back to before run 2: Input/output error"):
            project.undo()
    complete_by_run(project)
    for complete in (complete_by_state, complete_by_undo, complete_by_gc):
        last = project.runs()[0].run
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "go_back", fail)
            with pytest.raises(StateError):
                project.undo()
        assert project.runs()[0].undone is None, "no mark before it is done"
        complete(project)
        assert project.run_record(last).undone is not None
        load(load(project, 2), 3)


def complete_by_run(project: smoll.Project) -> None:
    events: list[Event] = []
    assert project.run(on_event=events.append).status == "ok"
    said = [event.message for event in events if isinstance(event, Recovered)]
    assert said == ["The warehouse is as before run 2: an undo was cut short, and is complete now."]


def complete_by_state(project: smoll.Project) -> None:
    project.reset_state("s.t")
    assert number_of_rows(project) == 2


def complete_by_undo(project: smoll.Project) -> None:
    project.undo(dry_run=True)
    assert number_of_rows(project) == 2


def complete_by_gc(project: smoll.Project) -> None:
    project.gc()
    assert number_of_rows(project) == 2


def test_the_log_of_the_warehouse_that_goes_is_not_read_into_the_one_that_comes(make_project: MakeProject) -> None:
    project = load(load(small(make_project), 2), 3)
    layout = Layout(project.config.root)
    leave_log(layout.warehouse)
    copies.begin_undo(layout, 2)
    assert Path(f"{layout.warehouse}.wal").stat().st_size > 0
    assert project.run().status == "ok"
    assert raw(project, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'left_behind'") == [(0,)]
    leave_log(layout.warehouse)
    assert project.run().status == "ok"
    project.undo()
    assert raw(project, "SELECT * FROM left_behind") == [(1,)], "a copy has what was in the log"


def leave_log(warehouse: Path) -> None:
    """Write a table and die before a checkpoint."""
    code = f"""import duckdb, os, signal
c = duckdb.connect({str(warehouse)!r}); c.execute("CREATE TABLE left_behind AS SELECT 1 AS a")
os.kill(os.getpid(), signal.SIGKILL)"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL


def test_what_holds_the_project_or_the_warehouse_is_waited_for_or_named(make_project: MakeProject) -> None:
    project = load(load(small(make_project), 2), 3)
    layout = Layout(project.config.root)
    with project_lock(layout.lock, "smoll run"), pytest.raises(LockedError):
        project.undo(wait=False)
    code = f"import duckdb, sys; c = duckdb.connect({str(layout.warehouse)!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdin and other.stdout.readline()
        with pytest.raises(BusyError, match="Another process has the working warehouse open"):
            project.undo()
        other.stdin.close()
    (layout.undo / "2" / "warehouse.duckdb").write_bytes(b"garbage" * 1000)
    with pytest.raises(StateError, match="The copy of the warehouse from before run 2 cannot be read"):
        project.undo()
    assert number_of_rows(project) == 3


# --- the command


def test_the_command(make_project: MakeProject) -> None:
    project = load(load(load(small(make_project), 2), 3), 4)
    root = project.config.root
    refusal = says(root, "undo")
    assert refusal.returncode == 2 and "Say --yes" in refusal.stderr
    assert [entry["run"] for entry in json.loads(says(root, "undo", "--list", "--json").stdout)] == [3, 2, 1]
    assert "before run" in says(root, "undo", "--list").stdout
    done = json.loads(says(root, "undo", "--yes", "--json").stdout)
    assert done["done"] and [record["run"] for record in done["runs"]] == [3]
    assert ask(root, "n") == 1 and number_of_rows(project) == 3
    assert ask(root, "y") == 0 and number_of_rows(project) == 2
    assert "ok, undone" in says(root, "runs").stdout and "undone" in says(root, "status").stdout
    assert "undone" in says(root, "runs", "show", "2").stdout
    load(project, 3)
    with pytest.raises(UsageError, match="Run 4 was made meanwhile"):
        project.undo(latest=2)


def ask(root: Path, answer: str) -> int:
    """Answer the command's question on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "smoll", "--project", str(root), "undo"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        os.write(ours, f"{answer}\n".encode())
        said, _ = process.communicate(timeout=120)
    os.close(ours)
    os.close(theirs)
    assert b"raw_s.t" in said and b"Undo?" in said, said
    return process.returncode
