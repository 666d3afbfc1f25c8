"""Connectors that misbehave: one clear message, tables as before, and the next run mends it, whatever the protocol."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from programs import (
    INTEGER,
    PROTOCOLS,
    TEXT,
    calls,
    change,
    failure,
    files,
    has_received,
    journals,
    one,
    project_yml,
    record,
    run,
    source,
    state,
    yml,
)
from support import MakeProject, dump, raw, reopen, rows, write

pytestmark = pytest.mark.connectors

FIELDS = {"id": INTEGER, "v": TEXT}
OLD = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]
NEW = [{"id": 2, "v": "c"}, {"id": 3, "v": "d"}]
MERGED = [(1, "a"), (2, "c"), (3, "d")]

FAILING: dict[str, tuple[list[str], str]] = {
    # what the connector does behind its records and a state, and what is said
    "exits": (["#stderr cannot reach the server", "#exit 3"], "failed with exit code 3"),
    "is_killed": (["#stderr cannot reach the server", "#kill 9"], "was ended by the signal SIGKILL"),
    "breaks_off_and_exits": (
        ['#part {"type": "RECORD", "stre', "#stderr cannot reach the server", "#exit 1"],
        "failed with exit code 1",
    ),
    "breaks_off": (
        ['#part {"type": "RECORD", "stre', "#stderr cannot reach the server", "#exit 0"],
        'ended in the middle of a line: {"type": "RECORD", "stre',
    ),
    "breaks_off_soon": (['#part {"ty', "#stderr cannot reach the server", "#exit 0"], 'middle of a line: {"ty'),
    "breaks_a_line": (
        ['#part {"type": "RECORD", "stre', "#stderr cannot reach the server", "#end", "#sleep 100"],
        "a line that is no whole message",
    ),
    "asks": (["#stderr cannot reach the server", "#prompt Password: ", "#sleep 100"], "said nothing for 2 seconds"),
    "closes": (["#stderr cannot reach the server", "#close", "#sleep 100"], "closed its output and did not end"),
    "hangs": (["#stderr cannot reach the server", "#sleep 100"], "said nothing for 2 seconds, and was stopped"),
    "hangs_and_stays": (
        ["#ignore 15", "#stderr cannot reach the server", "#sleep 100"],
        "said nothing for 2 seconds, and was stopped",
    ),
}


def failing(protocol: str, name: str) -> dict[str, str | bytes]:
    orders = [state(protocol, {"at": 2}), record(protocol, {"id": 4, "v": "late"}), *FAILING[name][0]]
    return files(protocol, FIELDS, [*NEW, *orders], play=name, full=False, key=["id"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_connector_that_fails(make_project: MakeProject, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds at once, a source for each, as some of them take their time."""
    monkeypatch.setattr("smoll.connectors.process._GRACE_SECONDS", 1)
    options = {"mode": "merge", "key": "id"}
    sources = {name: source(protocol, name, timeout="2 seconds", streams={"t": options}) for name in FAILING}
    there: dict[str, str | bytes] = {}
    for name in FAILING:
        there |= files(protocol, FIELDS, OLD, play=name, full=False, key=["id"], end=[state(protocol, {"at": 1})])
    project = make_project(project_yml(sources), there)
    run(project)
    before = {name: dump(project, f"raw_{name}.t") for name in FAILING}
    for name in FAILING:
        change(project, failing(protocol, name))
    begun = time.monotonic()
    result = project.run()
    assert time.monotonic() - begun < 30
    errors = {each.ref.source: each.error for each in result.streams}
    for name, (_, said) in FAILING.items():
        first, *rest = errors[name].splitlines()
        assert first.startswith(f"{name}: ") and said in first, errors[name]
        assert "| cannot reach the server" in "\n".join(rest) and "Traceback" not in errors[name]
        assert "(2 records) is kept; the next run goes on from there" in errors[name]
        assert dump(project, f"raw_{name}.t") == before[name]
    assert "| Password:" in errors["asks"]
    assert len(journals(project)) == len(FAILING)
    for name in FAILING:  # it goes on from the state that it had sent
        lines = [{"id": 4, "v": "late"}, {"id": 5}]
        end = [state(protocol, {"at": 3})]
        change(project, files(protocol, FIELDS, lines, play=name, full=False, key=["id"], end=end))
    result = project.run()
    assert result.status == "ok"
    for name in FAILING:
        assert rows(project, f"raw_{name}.t") == [*MERGED, (4, "late"), (5, None)]
        assert state_of(protocol, calls(project, play=name)[-1]) == {"at": 2}
    assert all("went on from what an earlier run had received" in each.notes for each in result.streams)
    assert journals(project) == []
    run(project)
    assert all(state_of(protocol, calls(project, play=name)[-1]) == {"at": 3} for name in FAILING)


def state_of(protocol: str, call: dict[str, Any]) -> Any:
    """The bookmark of ``t`` that a connector was given."""
    if protocol == "singer":
        return call["state"]["bookmarks"]["t"]
    return call["state"][0]["stream"]["stream_state"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_end_of_a_flood_on_stderr_is_shown(make_project: MakeProject, protocol: str) -> None:
    orders = ["#flood 100000000", "#stderr the last words", "#exit 1"]
    project = make_project(one(protocol), files(protocol, FIELDS, [*OLD, *orders]))
    error = failure(project)
    assert "failed with exit code 1" in error and "| the last words" in error
    assert len(error.splitlines()) < 30 and len(error) < 20_000
    assert sum(path.stat().st_size for path in (project.config.root / ".smoll/logs").rglob("*")) < 5_000_000
    change(project, files(protocol, FIELDS, [OLD[0], "#flood 1000000", OLD[1]]))
    run(project)
    assert rows(project) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_connector_says_is_in_the_log_of_the_run(make_project: MakeProject, protocol: str) -> None:
    project = make_project(
        one(protocol), files(protocol, FIELDS, ["#stderr 17 pages left", *OLD, "#part no message\n"])
    )
    run(project)
    log = "".join(path.read_text() for path in (project.config.root / ".smoll/logs").rglob("*") if path.is_file())
    assert "s | 17 pages left" in log


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_end_without_a_state(make_project: MakeProject, protocol: str) -> None:
    """It is loaded as it is; the next run begins where this one did."""
    there = files(protocol, FIELDS, OLD, full=False, key=["id"])
    project = make_project(one(protocol, mode="merge", key="id"), there)
    run(project)
    change(project, files(protocol, FIELDS, NEW, full=False, key=["id"]))
    run(project)
    assert rows(project) == MERGED
    assert [call.get("state") for call in calls(project)] == [None, None]
    assert journals(project) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_at_all_is_no_empty_table(make_project: MakeProject, protocol: str) -> None:
    """A connector that ends well and says nothing of a stream has not said that the stream is empty."""
    project = make_project(one(protocol), files(protocol, FIELDS, OLD))
    run(project)
    write(project.config.root, {"play/s": ""})
    stream = run(project)["t"]
    assert stream.status == "unchanged" and "not even that it is empty" in stream.notes[0]
    assert rows(project) == [(1, "a"), (2, "b")]
    change(project, files(protocol, FIELDS))
    assert "allow_empty" in failure(project)
    assert rows(project) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_process_that_holds_the_pipes_open(make_project: MakeProject, protocol: str) -> None:
    project = make_project(one(protocol), files(protocol, FIELDS, ["#grandchild 30", *OLD]))
    begun = time.monotonic()
    run(project)
    assert time.monotonic() - begun < 20
    assert rows(project) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_written_between_two_looks_at_the_pipes(
    make_project: MakeProject, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connector writes its last lines and ends, just when nobody looks."""
    import select

    def slow(*given: Any) -> Any:
        ready = before(*given)
        if not ready[0]:
            time.sleep(1)
        return ready

    before = select.select
    monkeypatch.setattr(select, "select", slow)
    project = make_project(one(protocol), files(protocol, FIELDS, ["#sleep 0.4", *OLD]))
    run(project)
    assert rows(project) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_connector_that_cannot_be_started(make_project: MakeProject, protocol: str) -> None:
    options = {"tap" if protocol == "singer" else "connector": "./tools/broken"}
    project = make_project(
        yml(protocol, **options), {**files(protocol, FIELDS, OLD), "tools/broken": "#!/nowhere/sh\n"}
    )
    (project.config.root / "tools/broken").chmod(0o755)
    assert "cannot be started" in failure(project)
    (project.config.root / "tools/broken").unlink()
    assert "there is no file ./tools/broken" in failure(project)


INTERRUPTED = """
import signal, sys, smoll, smoll.connectors.process
smoll.connectors.process._GRACE_SECONDS = 1
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(smoll.open_project(sys.argv[1]).run().status == 'interrupted')
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("stubborn", [False, True])
def test_ctrl_c_ends_the_connector_too(make_project: MakeProject, protocol: str, stubborn: bool) -> None:
    orders = [*(["#ignore 15"] if stubborn else []), state(protocol, {"at": 1}), "#sleep 100"]
    there = files(protocol, FIELDS, [*OLD, *orders], full=False)
    project = make_project(one(protocol, mode="append"), there)
    root = project.config.root
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(root)])
    wait_for(lambda: has_received(root))
    os.kill(child.pid, signal.SIGINT)
    assert child.wait(20) == 1
    assert players(root) == []
    assert dump(project) is None
    change(project, files(protocol, FIELDS, [{"id": 3}], full=False))
    run(reopen(project))
    assert rows(project) == [(1, "a"), (2, "b"), (3, None)]


def players(root: Path) -> list[int]:
    """The connectors of a project that run."""
    import psutil  # type: ignore[import-untyped]

    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "cwd"])
        if any("player.py" in part for part in process.info["cmdline"] or ()) and process.info["cwd"] == str(root)
    ]


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- what is kept of a sync that failed


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_was_received_is_dropped_where_it_does_not_fit_any_more(make_project: MakeProject, protocol: str) -> None:
    """Another configuration, another state: then the connector is asked for everything again, and it is said."""
    spec = {"config": {"region": "a"}, "streams": {"t": {"mode": "append"}}}
    cut = [*OLD, state(protocol, {"at": 1}), "#exit 1"]
    project = make_project(yml(protocol, **spec), files(protocol, FIELDS, cut, full=False))
    assert "(2 records) is kept" in failure(project)
    change(project, files(protocol, FIELDS, NEW, full=False, end=[state(protocol, {"at": 2})]))
    project = reopen(project, yml(protocol, **{**spec, "config": {"region": "b"}}))
    notes = run(project)["t"].notes
    assert notes == ("what an earlier run had received was dropped: source, configuration or state are others now",)
    assert rows(project) == [(2, "c"), (3, "d")]
    assert "state" not in calls(project)[-1]
    change(project, files(protocol, FIELDS, cut, full=False))
    failure(project)
    change(project, files(protocol, FIELDS, OLD, full=False))
    assert "what an earlier run had received was dropped" in run(project, reload=["s"])["t"].notes[0]
    assert rows(project) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("torn", ["log", "records", "log_gone", "records_gone", "checkpoint"])
def test_a_journal_that_is_torn(make_project: MakeProject, protocol: str, torn: str) -> None:
    """A line that is half there counts as not there; without what it needs the journal is none."""
    cut = [*OLD, state(protocol, {"at": 1}), "#exit 1"]
    project = make_project(one(protocol, mode="append"), files(protocol, FIELDS, cut, full=False))
    failure(project)
    folder = project.config.root / ".smoll/journals/s"
    log, records = folder / "log.ndjson", next(folder.glob("[0-9]*.ndjson"))
    if torn == "log":
        with log.open("ab") as file:
            file.write(b'\n{"checkpoint": {"bookma')
    elif torn == "records":
        with records.open("ab") as file:
            file.write(b'{"id": 3, "v')
    elif torn == "log_gone":
        log.unlink()
    elif torn == "records_gone":
        records.unlink()
    else:
        text = log.read_text()
        log.write_text(text[: text.rindex('{"checkpoint"') + 30])
    resumes = torn in ("log", "records")
    later = [{"id": 3, "v": "c"}] if resumes else [*OLD, {"id": 3, "v": "c"}]
    change(project, files(protocol, FIELDS, later, full=False, end=[state(protocol, {"at": 2})]))
    run(project)
    assert rows(project) == [(1, "a"), (2, "b"), (3, "c")]
    assert ("state" in calls(project)[-1]) == resumes
    assert journals(project) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_replaced_stream_is_read_whole_again(make_project: MakeProject, protocol: str) -> None:
    cut = [*OLD, state(protocol, {"at": 1}), "#exit 1"]
    project = make_project(one(protocol, mode="replace"), files(protocol, FIELDS, cut))
    failure(project)
    change(project, files(protocol, FIELDS, [{"id": 1, "v": "z"}, {"id": 9, "v": "z"}]))
    run(project)
    assert rows(project) == [(1, "z"), (9, "z")]


def test_a_failed_load_keeps_what_came_for_the_next_run(make_project: MakeProject) -> None:
    """The connector did well, a record did not: with another `on_bad_row` it is not asked for all of them again."""
    there = files("singer", FIELDS, [*OLD, '{"id": 3, "id": 4}'], full=False, end=[state("singer", {"at": 1})])
    project = make_project(one("singer", mode="append"), there)
    assert "duplicate key" in failure(project)
    change(project, files("singer", FIELDS, [], full=False))
    project = reopen(project, one("singer", mode="append", on_bad_row="quarantine"))
    run(project)
    assert rows(project) == [(1, "a"), (2, "b")]
    assert raw(project, "SELECT count(*) FROM raw_s.t__rejected") == [(1,)]
    assert calls(project)[-1]["state"]["bookmarks"] == {"t": {"at": 1}}
