"""What connectors do beside the rules: no row is lost by it, none doubled, and no secret told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from programs import (
    INTEGER,
    PLAYER,
    PROTOCOLS,
    TEXT,
    calls,
    catalog,
    change,
    failure,
    files,
    json_schema,
    one,
    record,
    run,
    script,
    state,
    status,
    trace,
    yml,
)
from support import MakeProject, raw, reopen, rows, write

pytestmark = pytest.mark.connectors

FIELDS = {"id": INTEGER, "v": TEXT}


def two_streams(lines: list[str]) -> dict[str, str | bytes]:
    about = {"properties": FIELDS, "key": ["id"], "full": False}
    there = {"play/s.catalog": catalog("airbyte", {"t": about, "u": about}), "play/s": script(lines)}
    return {"tools/player.py": PLAYER, **there}


def test_a_secret_in_the_error_of_one_stream_is_hidden(make_project: MakeProject) -> None:
    spec = json.dumps({"type": "object", "properties": {"seed": {"type": "string", "airbyte_secret": True}}})
    bad = [trace("refused: pearls4pigs", "u"), status("INCOMPLETE", "u"), "#exit 1"]
    there = two_streams([record("airbyte", {"id": 1}), status("COMPLETE"), *bad])
    project = make_project(yml("airbyte", config={"seed": "pearls4pigs"}), {**there, "play/s.spec": spec})
    error = failure(project)
    assert "refused: ***" in error and "pearls4pigs" not in error


def test_records_that_leave_out_the_namespace_of_their_stream(make_project: MakeProject) -> None:
    entry = {"name": "t", "namespace": "public", "json_schema": json_schema(FIELDS)}
    modes = {"supported_sync_modes": ["full_refresh"], "source_defined_primary_key": [["id"]]}
    there = {"play/s.catalog": json.dumps({"streams": [{**entry, **modes}]})}
    sent = [record("airbyte", {"id": 1}), record("airbyte", {"id": 2}, "other")]
    project = make_project(yml("airbyte"), {"tools/player.py": PLAYER, **there, "play/s": script(sent)})
    assert run(project)["t"].notes == ("1 records of streams that were not asked for: other",)
    assert rows(project) == [(1, None)]


def test_a_count_of_records_holds_where_none_came(make_project: MakeProject) -> None:
    there = files("airbyte", FIELDS, [record("airbyte", {"id": 1}, "other")], end=[state("airbyte", {"c": 1}, count=1)])
    assert "the connector counted 1 records, and 0 came" in failure(make_project(one("airbyte"), there))


def test_talk_that_quotes_a_message_is_none(make_project: MakeProject) -> None:
    quoted = f"#part DEBUG {record('singer', {'id': 2})}"
    project = make_project(one("singer"), files("singer", FIELDS, [{"id": 1}, quoted, "#end"]))
    assert "no whole message: DEBUG" in failure(project)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stream_that_has_another_key_now_is_loaded_anew(make_project: MakeProject, protocol: str) -> None:
    """Its table has lost rows that the former key took for the same."""
    sent = [{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]
    end = [state(protocol, {"c": 1})]
    project = make_project(yml(protocol), files(protocol, FIELDS, sent, key=["id"], full=False, end=end))
    run(project)
    assert rows(project) == [(1, "b")]
    change(project, files(protocol, FIELDS, sent, key=["id", "v"], full=False, end=end))
    assert "sends it otherwise than it was planned" in failure(project)
    assert rows(project) == [(1, "b")]
    run(project)
    assert rows(project) == [(1, "a"), (1, "b")]
    assert "state" not in calls(project)[-1]


@pytest.mark.parametrize("deletes", ["detect", "soft"])
def test_the_mark_of_a_deleted_row_is_seen_whatever_is_selected(make_project: MakeProject, deletes: str) -> None:
    fields = {**FIELDS, "_sdc_deleted_at": {"type": ["null", "string"], "format": "date-time"}}
    options = {"mode": "merge", "key": "id", "deletes": deletes}
    project = make_project(
        one("singer", {"select": ["t.id", "t.v"]}, **options),
        files("singer", fields, [{"id": 1}, {"id": 2}], full=False),
    )
    run(project)
    change(project, files("singer", fields, [{"id": 1, "_sdc_deleted_at": "2024-01-01T00:00:00Z"}], full=False))
    run(project)
    living = "_sdc_deleted_at IS NULL" if deletes == "soft" else "true"
    assert raw(project, f"SELECT id FROM raw_s.t WHERE {living}") == [(2,)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_comes_again_is_not_kept_beside_it(make_project: MakeProject, protocol: str) -> None:
    """A load fails after records that no state follows: the connector sends them to the next run, too."""
    bad = '{"id": 2, "v": "a", "v": "b"}'
    project = make_project(one(protocol, mode="append"), files(protocol, FIELDS, [{"id": 1}, bad]))
    assert "duplicate key" in failure(project)
    project = reopen(project, one(protocol, mode="append", on_bad_row="quarantine"))
    run(project)
    assert rows(project) == [(1, None)]


@pytest.mark.parametrize("early", [True, False])
def test_a_new_version_of_a_table_is_whole_over_an_interruption(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """Its state is stored then: a row that only the old version has would stay for ever."""
    monkeypatch.setattr("smoll.connectors.journal._CHECKPOINT_SECONDS", 0)
    options: dict[str, Any] = {"mode": "merge", "key": "id", "deletes": "detect", "max_shrink": "100%"}
    first, second = (json.dumps({"type": "ACTIVATE_VERSION", "stream": "t", "version": number}) for number in (1, 2))
    old = [record("singer", {"id": number}, version=1) for number in (1, 2)]
    new = [record("singer", {"id": number}, version=2) for number in (2, 3)]
    bookmark = state("singer", {"version": 2})
    project = make_project(
        one("singer", **options), files("singer", FIELDS, [*old, first, state("singer", {"version": 1})], full=False)
    )
    run(project)
    head = [second] if early else []
    change(project, files("singer", FIELDS, [*head, new[0], bookmark, "#kill 9"], full=False))
    failure(project)
    change(project, files("singer", FIELDS, [new[1], *([] if early else [second]), bookmark], full=False))
    run(project)
    assert rows(project) == [(2, None), (3, None)]


def whole(lsn: int, *streams: str) -> str:
    """A GLOBAL state."""
    own = [{"stream_descriptor": {"name": name}, "stream_state": {"at": lsn}} for name in streams]
    told = {"type": "GLOBAL", "global": {"shared_state": {"lsn": lsn}, "stream_states": own}}
    return json.dumps({"type": "STATE", "state": told})


def test_a_stream_that_was_left_out_is_sent_anew_where_the_state_went_on(make_project: MakeProject) -> None:
    both = [record("airbyte", {"id": 1}), record("airbyte", {"id": 1}, "u"), whole(1, "t", "u")]
    project = make_project(yml("airbyte"), two_streams(both))
    run(project)
    write(project.config.root, {"play/s": script([record("airbyte", {"id": 2}), whole(2, "t")])})
    run(reopen(project, yml("airbyte", select=["t"])))
    write(project.config.root, {"play/s": script([whole(3, "t", "u")])})
    run(reopen(project, yml("airbyte")))
    given = calls(project)[-1]["state"][0]["global"]
    assert given["shared_state"] == {"lsn": 2}
    assert [own["stream_descriptor"]["name"] for own in given["stream_states"]] == ["t"]
    run(reopen(project))  # nothing was said of either since: they go on together
    assert len(calls(project)[-1]["state"][0]["global"]["stream_states"]) == 2


def test_a_state_without_the_namespace_of_its_stream_is_gone_on_from(make_project: MakeProject) -> None:
    entry = {"name": "t", "namespace": "public", "json_schema": json_schema(FIELDS), "source_defined_cursor": True}
    entry |= {"supported_sync_modes": ["full_refresh", "incremental"], "source_defined_primary_key": [["id"]]}
    there = {"tools/player.py": PLAYER, "play/s.catalog": json.dumps({"streams": [entry]})}
    sent = script([record("airbyte", {"id": 1}), state("airbyte", {"at": 1})])
    project = make_project(yml("airbyte"), {**there, "play/s": sent})
    run(project)
    run(reopen(project))
    assert calls(project)[-1]["state"][0]["stream"]["stream_state"] == {"at": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_number_of_a_state_is_never_rounded(make_project: MakeProject, protocol: str) -> None:
    end = [state(protocol, {"at": "HERE"}).replace('"HERE"', "0.1234567890123456789")]
    project = make_project(one(protocol), files(protocol, FIELDS, [{"id": 1}], end=end, full=False, key=["id"]))
    assert "0.1234567890123456789, which has more digits than a double" in failure(project)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_long_number_beside_the_state_is_no_fault_of_the_state(make_project: MakeProject, protocol: str) -> None:
    """A SCHEMA that says ``multipleOf``, an estimate: nothing is gone on from there."""
    long = {"type": "number", "multipleOf": "HERE"}
    aside = {"type": "SCHEMA", "stream": "other", "schema": {"properties": {"v": long}}, "key_properties": []}
    if protocol == "airbyte":
        aside = {"type": "TRACE", "trace": {"type": "ANALYTICS", "emitted_at": "HERE"}}
    end = [json.dumps(aside).replace('"HERE"', "0.1234567890123456789"), state(protocol, {"at": 1})]
    project = make_project(one(protocol), files(protocol, FIELDS, [{"id": 1}], end=end, full=False, key=["id"]))
    run(project)
    assert rows(project) == [(1, None)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_process_of_the_connector_writes_later_counts(make_project: MakeProject, protocol: str) -> None:
    late = [f"#later 0.8 {record(protocol, {'id': 2})}", "#exit 0"]
    project = make_project(one(protocol), files(protocol, FIELDS, [{"id": 1}], end=late))
    run(project)
    assert [row[0] for row in rows(project)] == [1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_connector_does_not_outlive_a_kill(make_project: MakeProject, protocol: str) -> None:
    project = make_project(one(protocol), files(protocol, FIELDS, [{"id": 1}, "#touch here", "#sleep 100"]))
    root = project.config.root
    child = subprocess.Popen([sys.executable, "-m", "smoll", "--project", str(root), "run"], stderr=subprocess.DEVNULL)
    wait_for((root / "here").exists)
    assert players(root)
    child.kill()
    child.wait()
    wait_for(lambda: not players(root))


def players(root: Path) -> list[int]:
    """The fake connectors that run in a project."""
    found = psutil.process_iter(["cmdline", "cwd"])
    return [
        process.pid
        for process in found
        if process.info["cwd"] == str(root) and any("player.py" in word for word in process.info["cmdline"] or ())
    ]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
