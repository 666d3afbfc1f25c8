"""However `smoll up` ends, nothing is left running, and no run looks as if it ran. Also in Postgres."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from smoll.up.health import query
from support import Postgres
from up.running import DEFINITIONS, Up, gone, running, wait_until, write_project

SECRET = "the-password-of-the-storage"


def test_sigkill_fails_what_runs_sigterm_cancels_it_and_both_leave_nothing(tmp_path: Path) -> None:
    # A path that is too long for a socket: the socket lies in the folder for temporary files.
    root = write_project(tmp_path / ("long" * 25) / "project")
    with tempfile.TemporaryDirectory() as folder:  # its path is short, and no other test's
        with running(root, environment={"TMPDIR": folder}) as up:
            first, processes = _running_run(up)
            os.kill(up.process.pid, signal.SIGKILL)
            wait_until(lambda: gone(processes), 10)
        with running(root, environment={"TMPDIR": folder}) as up:
            wait_until(lambda: up.status(first) == "FAILURE")
            second, processes = _running_run(up)
            _stop(up, signal.SIGTERM)
            assert gone(processes)
        assert up.process.returncode == 0
        assert up.seen[-1] == {"event": "stopped"}
        assert _status_of(root, second) == "CANCELED"
        assert list(Path(folder).iterdir()) == []


def test_a_wish_to_stop_while_it_starts(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    with running(root, wait=False) as up:
        up.wait_for("started", "front")
        _stop(up, signal.SIGTERM)
    assert up.process.returncode == 130
    left = [each.info["cmdline"] for each in psutil.process_iter(["cmdline"])]
    assert not [words for words in left if str(root) in " ".join(words or ())]


def test_broken_definitions_and_storage_in_postgres(tmp_path: Path, postgres: Postgres) -> None:
    """The page comes up, shows what is wrong, and the button mends it. The password is in no file and no command."""
    url = postgres.url.replace("postgres:@", f"postgres:{SECRET}@")
    assert SECRET in url
    broken = DEFINITIONS.replace("@dg.job", "@dg.jobb", 1)
    root = write_project(tmp_path / "project", broken, "dagster: {storage: '${STORAGE}'}\n")
    with running(root, environment={"STORAGE": url}) as up:
        assert "AttributeError: " in up.ready["problem"][-1]
        assert any("definitions.py" in line for line in up.ready["problem"])
        (root / "definitions.py").write_text(DEFINITIONS)
        query(up.port, 'mutation { reloadRepositoryLocation(repositoryLocationName: "tests") { __typename } }')
        wait_until(lambda: "quick" in up.jobs())
        run = up.launch("quick")
        wait_until(lambda: up.status(run) == "SUCCESS")
        assert not up.says(SECRET)
        processes = up.processes()
        _stop(up, signal.SIGINT)
        assert gone(processes)
    assert up.process.returncode == 0
    for path in root.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert not list((root / ".smoll" / "dagster").rglob("*.db"))
    assert postgres.execute(f"select status from runs where run_id = '{run}'").strip() == "SUCCESS"


def _running_run(up: Up) -> tuple[str, list[psutil.Process]]:
    """Start a long run. Returns it, and all processes that there are then, down to those of the run."""
    run = up.launch("slow")
    wait_until(lambda: up.status(run) == "STARTED")
    assert up.says("spawn_main")  # more than once while a process begins another
    return run, up.processes()


def _stop(up: Up, number: signal.Signals) -> None:
    asked = time.monotonic()
    os.kill(up.process.pid, number)
    up.process.wait(20)
    assert time.monotonic() - asked < 12


def _status_of(root: Path, run: str) -> str:
    import sqlite3

    with sqlite3.connect(root / ".smoll" / "dagster" / "history" / "runs.db") as connection:
        return str(connection.execute("select status from runs where run_id = ?", (run,)).fetchone()[0])
