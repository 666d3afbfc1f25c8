"""Runs that kill themselves with SIGKILL at a chosen step; no part of smoll knows of it.

A step is an event of the run, or a change of a file name under ``.smoll`` (Python's audit events: open for
writing, rename, symlink, mkdir, unlink, rmtree). So the points between "staged", "renamed" and "switched" are hit
for certain, which a clock would hit by luck only.

As a program: prepares one process and forks it for every folder given, which saves the imports. Arguments: pairs of
a project's folder and the number of the step to die at (0: never; the steps' names are printed, one a line; below 0:
at that step, if there is one).
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CHANGES = ("os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree")


class _Steps:
    def __init__(self, root: Path, fatal: int) -> None:
        self._state = str(root / ".smoll") + os.sep
        self._fatal = abs(fatal)
        self._names: list[str] = []

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

    def _step(self, name: str) -> None:
        self._names.append(name)
        if len(self._names) == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def report(self) -> None:
        print("\n".join(self._names))


def steps(folder: Path) -> list[str]:
    """Run the project in `folder` to its end; return the names of its steps. Step 1 is the first of them."""
    done = _killer([(folder, 0)])
    return done.splitlines()


def kill_at(points: Iterable[tuple[Path, int]]) -> None:
    """Run the project in every folder until the step of that number, and there kill the process."""
    _killer(points)


def _killer(points: Iterable[tuple[Path, int]]) -> str:
    arguments = [text for folder, step in points for text in (str(folder), str(step))]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(root: Path, fatal: int) -> None:
    import smoll

    watched = _Steps(root, fatal)
    sys.addaudithook(watched.audit)
    smoll.open_project(root).run(on_event=watched.event)
    if fatal == 0:
        watched.report()


def _main(arguments: list[str]) -> None:
    has_models = any((Path(folder) / "transform").exists() for folder in arguments[::2])
    for name in ("duckdb", *(("dbt.cli.main", "dbt.adapters.duckdb") if has_models else ()), "smoll.run"):
        importlib.import_module(name)
    vars(importlib.import_module("smoll.connectors.journal"))["_CHECKPOINT_SECONDS"] = 0  # one with every state
    for folder, step in zip(arguments[::2], arguments[1::2], strict=True):
        child = os.fork()
        if child == 0:
            _run(Path(folder), int(step))
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        expected = os.WIFSIGNALED(status) if int(step) > 0 else os.WIFEXITED(status) or int(step) < 0
        assert expected, f"step {step}: {status}"


if __name__ == "__main__":
    _main(sys.argv[1:])
