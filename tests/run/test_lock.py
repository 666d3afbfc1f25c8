"""One run at a time, whoever starts it; nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

import smoll
from run.shop import GOOD_ORDERS, current, edit, make_shop
from smoll.errors import LockedError
from smoll.events import LockWaiting, ReleaseStarted, RunFinished, RunStarted
from smoll.state.layout import Layout
from support import MakeProject

HOLD = """\
import sys, time
from pathlib import Path
from smoll.state.lock import project_lock
with project_lock(Path(sys.argv[1]), "smoll run --select slow"):
    print("held", flush=True)
    time.sleep(600)
"""


def _hold(project: smoll.Project) -> subprocess.Popen[str]:
    layout = Layout(project.config.root)
    layout.prepare()
    command = [sys.executable, "-c", HOLD, str(layout.lock)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_named_and_its_death_frees_the_lock(make_project: MakeProject) -> None:
    project = make_shop(make_project)
    holder = _hold(project)
    try:
        with pytest.raises(LockedError, match=rf"pid {holder.pid} on .*smoll run --select slow"):
            project.run(wait=False)
        running = project.status().running
        assert running is not None
        assert (running.pid, running.command) == (holder.pid, "smoll run --select slow")
        assert project.runs() == ()
        waited: list[LockWaiting] = []

        def on_event(event: object) -> None:
            if isinstance(event, LockWaiting):
                waited.append(event)
                os.kill(holder.pid, signal.SIGKILL)

        assert project.run(on_event=on_event).status == "ok"
        assert [event.holder.pid for event in waited] == [holder.pid]
    finally:
        holder.kill()
        holder.wait()
    assert project.status().running is None


def test_the_second_of_two_runs_waits_for_the_first(make_project: MakeProject) -> None:
    project = make_shop(make_project)
    order: list[str] = []
    waiting = threading.Event()

    def first(event: object) -> None:
        if isinstance(event, RunStarted):
            order.append("first starts")
            second_run.start()
            assert waiting.wait(60)
        if isinstance(event, RunFinished):
            order.append("first ends")

    def second(event: object) -> None:
        if isinstance(event, LockWaiting):
            assert event.holder.command == "smoll run"
            waiting.set()
        if isinstance(event, RunStarted):
            order.append("second starts")

    second_run = threading.Thread(target=lambda: project.run(on_event=second))
    result = project.run(on_event=first)
    second_run.join(120)
    assert result.run == 1
    assert [run.status for run in project.runs()] == ["ok", "ok"]
    assert order == ["first starts", "first ends", "second starts"]


def test_a_rollback_does_not_wait_for_a_run_and_the_run_then_holds_its_release_back(make_project: MakeProject) -> None:
    project = make_shop(make_project)
    project.run()
    edit(project, "data/orders.csv", GOOD_ORDERS)
    project.run()

    def roll_back(event: object) -> None:
        if isinstance(event, ReleaseStarted):
            project.rollback(1)

    edit(project, "data/customers.csv", "id,name\n1,Ada\n2,Bob\n3,Cleo\n")
    result = project.run(on_event=roll_back)
    assert (result.status, result.release.status, result.release.number) == ("ok", "staged", 3)
    assert current(project) == 1
    assert project.resume().manifest.number == 3


def test_looking_who_holds_the_lock_takes_it_from_nobody(make_project: MakeProject) -> None:
    project = make_shop(make_project)
    project.run()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            project.status()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        assert [project.run("customers", wait=False).status for _ in range(5)] == ["ok"] * 5
    finally:
        done.set()
        looking.join()
