"""Runs that kill themselves with SIGKILL at a chosen step; no part of smoll knows of it.

A step is an event of the run, or a change of a file name under ``.smoll`` (Python's audit events: open for
writing, rename, symlink, mkdir, unlink, rmtree). So the points between "staged", "renamed" and "switched" are hit
for certain, which a clock would hit by luck only.

Or at a moment some time after a step, which may be anywhere inside DuckDB, SQLite or dbt.

As a program: prepares one process and forks it for every folder given, which saves the imports. Arguments: what to do
(``run`` or ``undo``), then for each a project's folder, the number of the step to die at (0: never; the steps' times
and names are printed, one a line; below 0: at that step, if there is one), and the seconds after it (below 0: at the
step itself).
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_CHANGES = ("os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree")


class _Steps:
    def __init__(self, root: Path, fatal: int, tell: int) -> None:
        self._state = str(root / ".smoll") + os.sep
        self._fatal = abs(fatal)
        self._tell = tell
        self._begun = time.monotonic()
        self._lines: list[str] = []

    def event(self, event: object) -> None:
        if type(event).__name__ != "StreamProgress":  # as many of them as the clock likes
            self._step(type(event).__name__)

    def audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if name not in _CHANGES and not writes:
            return
        paths = [os.fsdecode(item) for item in arguments[:2] if isinstance(item, (str, bytes, os.PathLike))]
        path = next((path for path in reversed(paths) if path.startswith(self._state)), "")
        inside = path.removeprefix(self._state)
        if path and not inside.startswith(("dbt", "logs")):
            self._step(f"{name} {inside}")

    def done(self, name: str) -> None:
        """Something was done that is no change of a file's name."""
        self._step(name)

    def _step(self, name: str) -> None:
        self._lines.append(f"{time.monotonic() - self._begun:.6f} {name}")
        if len(self._lines) == self._fatal and self._tell < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        elif len(self._lines) == self._fatal:
            os.write(self._tell, b".")

    def report(self) -> None:
        print("\n".join(self._lines))


def timeline(folder: Path, action: str = "run") -> list[tuple[float, str]]:
    """Run the project in `folder` (or undo its last run) to the end; return the seconds and names of its steps.

    Step 1 is the first of them.
    """
    lines = _killer([(folder, 0, -1)], action).splitlines()
    return [(float(seconds), name) for seconds, _, name in (line.partition(" ") for line in lines)]


def steps(folder: Path, action: str = "run") -> list[str]:
    """The names alone."""
    return [name for _, name in timeline(folder, action)]


def kill_at(points: Iterable[tuple[Path, int]], action: str = "run") -> None:
    """Run the project in every folder (or undo its last run) until the step of that number, and there kill it."""
    _killer([(folder, step, -1) for folder, step in points], action)


def kill_after(points: Sequence[tuple[Path, int, float]]) -> None:
    """Run the project in every folder until so many seconds after that step (below 0: to it), and then kill it."""
    _killer(points, "run")


def run_all(folders: Sequence[Path]) -> None:
    """Run the project in every folder to its end, which must be a good one."""
    _killer([(folder, 0, -1) for folder in folders], "run")


def _killer(points: Sequence[tuple[Path, int, float]], action: str) -> str:
    arguments = [action, *(str(item) for point in points for item in point)]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(action: str, root: Path, fatal: int, tell: int) -> None:
    import smoll
    from smoll.state import copies

    watched = _Steps(root, fatal, tell)
    sys.addaudithook(watched.audit)
    if action == "undo":
        sync = vars(copies)["fsync_path"]

        def synced(path: Path) -> None:
            sync(path)
            watched.done(f"synced {path.name}")

        vars(copies)["fsync_path"] = synced
        smoll.open_project(root).undo()
        watched.done("undone")
    else:
        result = smoll.open_project(root).run(on_event=watched.event)
        assert fatal or result.exit_code == 0, result
    if fatal == 0:
        watched.report()


def _main(action: str, arguments: list[str]) -> None:
    has_models = any((Path(folder) / "transform").exists() for folder in arguments[::3])
    for name in ("duckdb", *(("dbt.cli.main", "dbt.adapters.duckdb") if has_models else ()), "smoll.run"):
        importlib.import_module(name)
    vars(importlib.import_module("smoll.connectors.journal"))["_CHECKPOINT_SECONDS"] = 0  # one with every state
    for folder, step, delay in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        hears, tells = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(hears)
            _run(action, Path(folder), int(step), tells if float(delay) >= 0 else -1)
            sys.stdout.flush()
            os._exit(0)
        os.close(tells)
        if float(delay) >= 0 and os.read(hears, 1):  # nothing: it has ended
            time.sleep(float(delay))
            os.kill(child, signal.SIGKILL)
        os.close(hears)
        _, status = os.waitpid(child, 0)
        killed, ended = os.WIFSIGNALED(status), os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        expected = killed if int(step) > 0 and float(delay) < 0 else ended or (killed and int(step) != 0)
        assert expected, f"step {step}: {status}"


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
