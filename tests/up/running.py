"""`smoll up` as a process, and what the tests ask of it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil  # type: ignore[import-untyped]

from smoll.up.health import query

DEFINITIONS = """\
import time

import dagster as dg


@dg.op
def nothing():
    print("a word from the run")


@dg.op(pool="one")
def sleep_long():
    for _ in range(600):
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def quick():
    nothing()


@dg.job(executor_def=dg.in_process_executor)
def slow():
    sleep_long()


defs = dg.Definitions(jobs=[quick, slow])
"""
_LAUNCH = """mutation($location: String!, $job: String!) { launchRun(executionParams: {mode: "default", selector: {
  repositoryLocationName: $location, repositoryName: "__repository__", jobName: $job
}}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
_JOBS = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
  ... on RepositoryLocation { repositories { jobs { name } } } ... on PythonError { message }
} } } } }"""


@dataclass
class Up:
    """A running `smoll up`, and its events as they come."""

    process: subprocess.Popen[str]
    root: Path
    events: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    seen: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.ready["url"].rpartition(":")[2])

    def wait_for(self, kind: str, name: str | None = None, seconds: float = 60) -> dict[str, Any]:
        """The next event of a kind; those before it are dropped."""
        end = time.monotonic() + seconds
        while True:
            try:
                event = self.events.get(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind} {name or ''}: {self.seen}\n{''.join(self.said)}") from None
            assert "error" not in event, event
            if event["event"] == kind and name in (None, event.get("name")):
                return event

    def launch(self, job: str) -> str:
        found = query(self.port, _LAUNCH, {"location": "tests", "job": job})["launchRun"]
        assert "run" in found, found
        return str(found["run"]["runId"])

    def status(self, run: str) -> str:
        return str(query(self.port, _STATUS, {"run": run})["runOrError"]["status"])

    def jobs(self) -> set[str]:
        entries = query(self.port, _JOBS)["workspaceOrError"]["locationEntries"]
        location = entries[0]["locationOrLoadError"]
        return {job["name"] for repository in location["repositories"] for job in repository["jobs"]}

    def processes(self) -> list[psutil.Process]:
        """All that it started, and what these started."""
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def find(self, *words: str) -> psutil.Process:
        """The one process with these words in its command; for a moment another may look so that it has begun."""

        def matching() -> list[psutil.Process]:
            return [each for each in self.processes() if all(word in _command(each) for word in words)]

        wait_until(lambda: len(matching()) == 1)
        return matching()[0]

    def says(self, text: str) -> bool:
        """Whether a text is in the command of one of its processes."""
        return any(text in _command(each) for each in self.processes())


@contextmanager
def running(
    root: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
) -> Iterator[Up]:
    """Run `smoll up --json` until it is ready, if that is waited for, then the block, then end it if it has not."""
    command = [sys.executable, "-m", "smoll", "--project", str(root), "up", "--json", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as process:
        up = Up(process, root)
        assert process.stdout and process.stderr
        threading.Thread(target=_hear, args=(process.stdout, up), daemon=True).start()
        threading.Thread(target=lambda pipe: up.said.extend(pipe), args=(process.stderr,), daemon=True).start()
        try:
            if wait:
                up.ready = up.wait_for("ready", seconds=90)
            yield up
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def _hear(pipe: IO[str], up: Up) -> None:
    for line in pipe:
        event = json.loads(line)
        up.seen.append(event)
        up.events.put(event)


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for a condition; what it raises meanwhile counts as not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except Exception as error:
            if time.monotonic() > end:
                raise AssertionError("it never held") from error
        assert time.monotonic() < end, "it never held"
        time.sleep(0.1)


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all have ended; one that nobody has asked after yet (a zombie) has."""
    return all(not each.is_running() or each.status() == psutil.STATUS_ZOMBIE for each in processes)


def write_project(root: Path, definitions: str = DEFINITIONS, more: str = "") -> Path:
    """Write a project named ``tests`` with such a ``definitions.py``."""
    root.mkdir(parents=True)
    (root / "smoll.yml").write_text(f"name: tests\n{more}", encoding="utf-8")
    (root / "definitions.py").write_text(definitions, encoding="utf-8")
    return root
