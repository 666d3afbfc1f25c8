"""Ctrl-C and SIGTERM end `smoll run` soon and with 130, in every step; readers and the next run take no harm."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

import smoll
from run.shop import current, edit, published
from support import MakeProject, released, start_run

CONFIG = "resources: {memory: 600MB}\nsources:\n  s: {kind: files, streams: {numbers: data/numbers.csv}}\n"
QUICK = "{{ config(materialized='%s') }} select x from {{ source('s', 'numbers') }}"
FOREVER = "from range(1000000) a, range(1000000) b, range(1000000) c"
ENDLESS = f"{{{{ config(materialized='%s') }}}} select count(*) as x {FOREVER}"


@pytest.fixture
def project(make_project: MakeProject) -> smoll.Project:
    """A project with release 1, of a table and a view."""
    files = {"data/numbers.csv": "x\n1\n"}
    made = make_project(CONFIG, files, {"a_table": QUICK % "table", "b_view": QUICK % "view"})
    published(made.run())
    return made


def _interrupt_when(project: smoll.Project, event: str, number: signal.Signals) -> tuple[int, str]:
    """Start `smoll run`; once its log tells of `event`, send the signal. Returns exit code and output."""
    log = project.config.root / ".smoll" / "logs" / "run-2.log"
    with start_run(project) as run:
        end = time.monotonic() + 120
        while not (log.exists() and event in log.read_text()):
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        run.send_signal(number)
        try:
            output, _ = run.communicate(timeout=60)
        finally:
            run.kill()
        return run.returncode, output


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("load", signal.SIGINT),
        ("dbt", signal.SIGINT),
        ("dbt", signal.SIGTERM),
        ("release", signal.SIGINT),
    ],
)
def test_interrupted_in_a_step(project: smoll.Project, step: str, number: signal.Signals) -> None:
    if step == "load":
        edit(project, "data/numbers.csv", "x\n" + "1234567\n" * 20_000_000)  # seconds, however busy we are
    elif step == "dbt":
        edit(project, "transform/models/a_table.sql", ENDLESS % "table")
    else:
        edit(project, "transform/models/b_view.sql", ENDLESS % "view")
    event = {"load": "StreamStarted", "dbt": "NodeStarted(id='model.tests.a_table'", "release": "ReleaseStarted"}[step]
    code, output = _interrupt_when(project, event, number)
    assert code == 130, output
    assert "nterrupted" in output
    assert "Traceback" not in output
    assert (project.runs(1)[0].run, project.runs(1)[0].status) == (2, "interrupted")
    assert (current(project), released(project, "select x from main.a_table")) == (1, [(1,)])
    assert project.status().running is None

    edit(project, "data/numbers.csv", "x\n2\n")
    edit(project, "transform/models/a_table.sql", QUICK % "table")
    edit(project, "transform/models/b_view.sql", QUICK % "view")
    assert published(project.run()) == 2
    assert released(project, "select a.x, b.x from main.a_table a, main.b_view b") == [(2, 2)]


def test_interrupted_in_a_check_of_smolls_own(project: smoll.Project) -> None:
    """What dbt has built is known; the check counts as one that has not run."""
    check = f'{{kind: sql, name: endless, tables: a_table, sql: "select * {FOREVER}"}}'
    edit(project, "smoll.yml", f"name: tests\n{CONFIG}checks: [{check}]\n")
    edit(project, "data/numbers.csv", "x\n2\n")
    code, output = _interrupt_when(project, "NodeStarted(id='check.endless'", signal.SIGINT)
    assert code == 130, output
    assert "nterrupted" in output and "Traceback" not in output
    last = project.runs(1)[0]
    assert (last.status, {node.status for node in last.nodes}, last.checks) == ("interrupted", {"success"}, ())
    assert (current(project), released(project, "select x from main.a_table")) == (1, [(1,)])
    edit(project, "smoll.yml", f"name: tests\n{CONFIG}")
    assert published(smoll.open_project(project.config.root).run()) == 2


QUERIES = """
import os, signal
import duckdb
from smoll.interrupts import interruptible

for _ in range(50):
    with duckdb.connect() as connection:
        def work():
            for _ in range(%d):
                os.kill(os.getpid(), signal.SIGINT)
            connection.execute("select count(*) %s")

        try:
            interruptible(connection, work)
        except KeyboardInterrupt:
            print("interrupted")
"""
WAITS = """
import os, signal, threading
from concurrent.futures import ThreadPoolExecutor
from smoll.interrupts import noticing_interrupts

with ThreadPoolExecutor(1) as pool:
    pool.submit(int).result()
    for _ in range(800):
        try:
            with noticing_interrupts():
                pool.submit(os.kill, os.getpid(), signal.SIGINT)
                threading.Event().wait()
        except KeyboardInterrupt:
            print("interrupted")
"""


@pytest.mark.parametrize(
    ("script", "times"),
    [(QUERIES % (1, FOREVER), 50), (QUERIES % (3, FOREVER), 50), (WAITS, 800)],
    ids=["query", "query, three times", "lock"],
)
def test_interrupted_at_the_first_moment(script: str, times: int) -> None:
    """The signal comes while the main thread still begins another one, or just before it waits for it."""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout.split()) == (0, ["interrupted"] * times), ended.stderr


FORKS = """
import multiprocessing, signal, time
from smoll.interrupts import noticing_interrupts

def stay(begun):
    begun.set()
    time.sleep(60)

signal.signal(signal.SIGTERM, signal.default_int_handler)
forking = multiprocessing.get_context("fork")
with noticing_interrupts() as interrupted:
    begun = [forking.Event(), forking.Event()]
    ended, left = [forking.Process(target=stay, args=[each], daemon=True) for each in begun]
    ended.start()
    left.start()
    for each in begun:
        each.wait()
    ended.terminate()
    ended.join()
    time.sleep(0.5)
    print(interrupted.is_set())
print("went on", left.is_alive())
"""


def test_a_signal_to_a_forked_child_is_none_to_the_run() -> None:
    """A dbt model in Python may begin processes of its own, and end them, or leave them behind."""
    ended = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "False\nwent on True\n"), ended.stderr
