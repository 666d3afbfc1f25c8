"""Airbyte connectors: the whole protocol, as a process in front of a real warehouse, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

import smoll
from programs import (
    INTEGER,
    PLAYER,
    TEXT,
    calls,
    catalog,
    change,
    error_of,
    failure,
    journals,
    one,
    project_yml,
    record,
    run,
    script,
    source,
    state,
    status,
    trace,
    yml,
)
from smoll.events import StreamProgress
from support import MakeProject, raw, reopen, rows, types

FIELDS = {"id": INTEGER, "v": TEXT}
FULL: dict[str, Any] = {"properties": FIELDS, "key": ["id"]}
PART: dict[str, Any] = {**FULL, "full": False}
SPEC = {
    "type": "object",
    "required": ["api_key", "start", "size"],
    "properties": {
        "api_key": {"type": "string", "airbyte_secret": True, "minLength": 3},
        "start": {"type": "string", "pattern": "^[0-9-]+$"},
        "size": {"type": "integer", "minimum": 1},
        "login": {
            "oneOf": [
                {
                    "type": "object",
                    "required": ["code"],
                    "properties": {"code": {"type": "string", "airbyte_secret": True}},
                },
                {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            ]
        },
    },
}


def connector(lines: list[str], streams: Any = None, **more: str) -> dict[str, str | bytes]:
    """A connector that writes these lines, with a catalog of these streams (``t`` where nothing is said)."""
    given = {f"play/s.{name}": text for name, text in more.items()}
    about = {"t": FULL} if streams is None else streams
    return {"tools/player.py": PLAYER, "play/s.catalog": catalog("airbyte", about), "play/s": script(lines), **given}


def rec(id: int, v: str | None = None, stream: str = "t", **more: Any) -> str:
    return record("airbyte", {"id": id, "v": v}, stream, **more)


def at(value: Any, stream: str = "t", count: int | None = None) -> str:
    return state("airbyte", value, stream, count)


def given(project: smoll.Project) -> list[dict[str, Any]]:
    """The streams of the configured catalog that the connector was given at last."""
    streams: list[dict[str, Any]] = calls(project)[-1]["catalog"]["streams"]
    return streams


def states(project: smoll.Project) -> Any:
    """The states of streams that the connector was given at last."""
    found = calls(project)[-1].get("state")
    if not isinstance(found, list):
        return found
    return {each["stream"]["stream_descriptor"]["name"]: each["stream"]["stream_state"] for each in found}


# --- configuration


def test_a_configuration_that_does_not_fit_is_refused_before_anything_runs(make_project: MakeProject) -> None:
    config = {"api_key": "xy", "start": "soon", "size": 0}
    project = make_project(yml("airbyte", config=config), connector([rec(1)], spec=json.dumps(SPEC)))
    error = failure(project)
    assert "s: the configuration does not fit the connector" in error
    for said in ("config.api_key: is not as the connector wants it", "config.start: 'soon'", "config.size: 0"):
        assert said in error
    assert "xy" not in error and "smoll connectors spec s" in error
    assert calls(project, "discover") == calls(project, "check") == calls(project) == []
    project = reopen(project, yml("airbyte", config={"size": "x", "other": 1}))
    error = failure(project)
    assert "'api_key' is a required property" in error and "'start' is a required property" in error


def test_secrets_of_the_spec_are_nowhere(make_project: MakeProject) -> None:
    """Neither in messages nor in logs, whatever the connector says, nor in a file that others can read."""
    config = {"api_key": "hunter22", "start": "2024", "size": 1, "login": {"code": "hunter33"}}
    lines = [
        rec(1),
        at({"n": 1}),
        '{"type": "LOG", "log": {"level": "INFO", "message": "got hunter22"}}',
        "and hunter33",
        "#stderr hunter22 is wrong",
        trace("hunter22 and hunter33 are wrong", internal_message="hunter22"),
        trace("hunter33", "t"),
        "#exit 1",
    ]
    there = connector(lines, {"t": PART}, spec=json.dumps(SPEC))
    project = make_project(yml("airbyte", config=config), there)
    events: list[str] = []
    error = error_of(project.run(on_event=lambda event: events.append(repr(event))))
    assert "*** and *** are wrong" in error
    there["play/s.catalog"] = script(["#stderr hunter22", trace("hunter33"), "#exit 1"])
    change(project, there)
    error += failure(project)
    told = json.dumps({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "FAILED", "message": "hunter22"}})
    change(project, connector([], spec=json.dumps(SPEC), check=told))
    error += str(project.check())
    assert "hunter" not in error + "".join(events)
    for path in (project.config.root / ".smoll").rglob("*"):
        if path.is_file() and b"hunter" in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0, path
    log = "".join(path.read_text() for path in (project.config.root / ".smoll/logs").iterdir())
    assert "INFO got ***" in log and "hunter" not in log


def test_a_configuration_that_the_connector_changes_is_used_next_time(make_project: MakeProject) -> None:
    def control(token: str) -> str:
        told = {"type": "CONNECTOR_CONFIG", "emitted_at": 1, "connectorConfig": {"config": {"token": token}}}
        return json.dumps({"type": "CONTROL", "control": told})

    project = make_project(yml("airbyte", config={"token": "first"}), connector([rec(1), control("second"), rec(2)]))
    run(project)
    kept = project.config.root / ".smoll/configs/s.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    change(project, connector([rec(1), control("third"), "#exit 1"]))
    failure(project)
    change(project, connector([rec(1)]))
    run(project)
    assert [call["config"]["token"] for call in calls(project)] == ["first", "second", "third"]
    assert calls(project, "discover")[-1]["config"]["token"] == "third"
    assert {mode for call in calls(project) for mode in call["modes"].values()} == {"0o600"}
    run(reopen(project, yml("airbyte", config={"token": "mine"})))
    assert calls(project)[-1]["config"]["token"] == "mine"


def test_check(make_project: MakeProject) -> None:
    project = make_project(yml("airbyte"), connector([], {"t": FULL, "u": FULL}))
    assert "2 streams" in str(project.check())
    assert len(calls(project, "check")) == 1
    told = json.dumps(
        {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "FAILED", "message": "no such host"}}
    )
    change(project, connector([], check=told))
    assert "cannot connect: no such host" in str(project.check())
    change(project, connector([], check=script(["#stderr a traceback", trace("bad luck"), "#exit 3"])))
    said = str(project.check())
    assert "failed at `check` (exit code 3): bad luck" in said and "a traceback" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#exit 2", "failed at `discover` (exit code 2)"),
        (script(["#stderr no such host", trace("cannot reach it"), "#exit 1"]), "cannot reach it\n  | no such host"),
    ],
)
def test_a_connector_that_cannot_discover(make_project: MakeProject, text: str, said: str) -> None:
    there: dict[str, str | bytes] = {**connector([rec(1)]), "play/s.catalog": text}
    project = make_project(yml("airbyte"), there)
    assert said in failure(project)


def test_a_manifest_is_handed_over_by_its_path(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner of manifests is a package of its own; here stands another program in its place."""
    from smoll.connectors import airbyte
    from smoll.connectors.environment import Program, find_program

    manifest = (
        "version: 6.0.0\ntype: DeclarativeSource\nspec: {connection_specification: {type: object, required: [key]}}\n"
    )
    project = make_project(yml("airbyte", config={"key": 1}), {**connector([rec(1, "a")]), "my.yaml": manifest})
    root = project.config.root

    def found(*given: Any) -> Program:
        program = find_program(*given)
        return Program(program.command, "m", "./my.yaml", program.cache, root / "my.yaml")

    monkeypatch.setattr(airbyte, "find_program", found)
    run(project)
    assert rows(project) == [(1, "a")]
    assert calls(project, "spec") == []
    words = [call["words"] for asked in ("discover", "read") for call in calls(project, asked)]
    assert all(each[-2:] == ["--manifest-path", str(root / "my.yaml")] for each in words)
    assert "'key' is a required property" in failure(reopen(project, yml("airbyte", config={"other": 1})))
    (root / "my.yaml").write_text("spec: [")
    monkeypatch.setattr(
        airbyte, "find_program", lambda *given: Program(("x",), "n", "m", root / "play", root / "my.yaml")
    )
    assert "cannot read the manifest my.yaml" in failure(reopen(project, yml("airbyte", config={"other": 2})))


# --- catalog


def test_sync_modes_come_from_the_catalog(make_project: MakeProject) -> None:
    streams = {
        "full": FULL,
        "part": PART,
        "keyless": {"properties": FIELDS, "full": False},
        "wants_cursor": {**PART, "source_defined_cursor": False},
        "has_cursor": {**PART, "source_defined_cursor": False, "default_cursor_field": ["id"]},
        "replaced": PART,
        "asked": PART,
        "by_cursor": {**PART, "source_defined_cursor": False},
    }
    options = {
        "*": {},
        "replaced": {"mode": "replace"},
        "asked": {"sync_mode": "full_refresh"},
        "by_cursor": {"cursor": "id"},
    }
    lines = [rec(1, v, name) for name in streams for v in "ab"]
    project = make_project(yml("airbyte", streams=options), connector(lines, streams))
    found = run(project)
    told = {
        each["stream"]["name"]: (
            each["sync_mode"],
            each["destination_sync_mode"],
            each["cursor_field"],
            each["primary_key"],
        )
        for each in given(project)
    }
    assert told == {
        "full": ("full_refresh", "overwrite", [], [["id"]]),
        "part": ("incremental", "append_dedup", [], [["id"]]),
        "keyless": ("incremental", "append", [], []),
        "wants_cursor": ("full_refresh", "overwrite", [], [["id"]]),
        "has_cursor": ("incremental", "append_dedup", ["id"], [["id"]]),
        "replaced": ("full_refresh", "overwrite", [], [["id"]]),
        "asked": ("full_refresh", "overwrite", [], [["id"]]),
        "by_cursor": ("incremental", "append_dedup", ["id"], [["id"]]),
    }
    assert found["part"].mode == "merge" and rows(project, "raw_s.part") == [(1, "b")]
    assert found["keyless"].mode == "append" and rows(project, "raw_s.keyless") == [(1, "a"), (1, "b")]
    project = reopen(project, yml("airbyte", streams={"full": {"sync_mode": "incremental"}}))
    assert "cannot send it as incremental" in failure(project)
    nested = {"t": {**FULL, "source_defined_primary_key": [["a", "b"]]}}
    project = make_project(one("airbyte", mode="merge"), connector([], nested))
    assert "needs a key, and the connector names none" in failure(project)


def test_one_name_in_two_namespaces(make_project: MakeProject) -> None:
    about = {**FULL, "name": "t"}
    streams = {
        "a": {**about, "namespace": "north"},
        "b": {**about, "namespace": "south"},
        "c": {**FULL, "namespace": "east"},
    }
    lines = [rec(1, "n", namespace="north"), rec(2, "s", namespace="south"), rec(3, "e", "c", namespace="east")]
    project = make_project(yml("airbyte"), connector(lines, streams))
    assert set(run(project)) == {"north.t", "south.t", "c"}
    assert rows(project, "raw_s.north_t") == [(1, "n")] and rows(project, "raw_s.south_t") == [(2, "s")]
    assert rows(project, "raw_s.c") == [(3, "e")]
    run(reopen(project, yml("airbyte", streams=["south.t"])))
    assert [each["stream"]["namespace"] for each in given(project)] == ["south"]


def test_choice_of_streams_and_fields(make_project: MakeProject) -> None:
    fields = {**FIELDS, "secret": TEXT, "o": {"type": "object", "properties": {"a": TEXT, "b": TEXT}}}
    sent = record("airbyte", {"id": 1, "v": "a", "secret": "x", "o": {"a": 1, "b": 2}})
    streams = {"t": {**FULL, "properties": fields}, "u": FULL}
    text = yml("airbyte", select=["t.v", "t.secret", "t.o"], exclude=["*.secret", "t.o.b"])
    project = make_project(text, connector([sent, rec(1, stream="u"), rec(2, stream="nobody")], streams))
    assert set(run(project)) == {"t"}
    assert types(project) == {"id": "BIGINT", "v": "VARCHAR", "o": "JSON"}
    assert rows(project) == [(1, "a", '{"a":1}')]
    assert [each["stream"]["name"] for each in given(project)] == ["t"]
    assert "the connector has no stream 'x'" in failure(reopen(project, yml("airbyte", streams=["x"])))


# --- messages


def test_lines_that_are_none_of_the_protocol(make_project: MakeProject) -> None:
    log = {"type": "LOG", "log": {"level": "WARN", "message": "slow today"}}
    lines = [
        "hello {",
        "",
        "5",
        "[]",
        '{"a": 1}',
        '{"type": "NEWS"}',
        json.dumps(log),
        status("STARTED"),
        rec(1, "a"),
        status("RUNNING"),
        status("COMPLETE"),
        "bye",
    ]
    project = make_project(one("airbyte"), connector(lines))
    run(project)
    assert rows(project) == [(1, "a")]
    said = "".join(path.read_text() for path in (project.config.root / ".smoll/logs").iterdir())
    assert "s | hello {" in said and "s | WARN slow today" in said and "unknown type 'NEWS'" in said


WRONG = {
    "garbage": ([rec(1)[:-1]], "no whole message"),
    "two": ([rec(1) + rec(2)], "no whole message"),
    "dataless": (['{"type": "RECORD", "record": {"stream": "t", "emitted_at": 1}}'], "the record is no object"),
    "empty": (
        ['{"type": "STATE"}', '{"type": "TRACE"}', '{"type": "LOG"}', "#exit 1"],
        "exit code 1",
    ),
    "odd_record": (['{"type": "RECORD", "record": 5}'], 'none of the protocol: {"type": "RECORD"'),
    "odd_state": (['{"type": "STATE", "state": 5}'], 'none of the protocol: {"type": "STATE", "state": 5}'),
    "odd_trace": (
        ['{"type": "TRACE", "trace": {"type": "STREAM_STATUS", "stream_status": []}}', "#exit 1"],
        "exit code 1",
    ),
    "odd_stream": (['{"type": "STATE", "state": {"type": "STREAM", "stream": "t"}}'], "none of the protocol"),
    "counted": ([rec(1), at(1, count=1), rec(2), at(2, count=2)], "counted 2 records, and 1 came"),
    "counted_more": ([rec(1), rec(2), at(1, count=1)], "counted 1 records, and 2 came"),
    "unfinished": ([status("STARTED"), rec(1)], "could not read it"),
    "incomplete": ([status("STARTED"), rec(1), status("INCOMPLETE")], "could not read it"),
    "said": (
        [rec(1), trace("quota is used up", internal_message="x"), "#exit 1"],
        "failed with exit code 1: quota is used up",
    ),
    "internal": ([rec(1), trace("", internal_message="deep down"), "#exit 1"], "deep down"),
}


def test_messages_that_are_wrong(make_project: MakeProject) -> None:
    sources, there = dict[str, Any](), connector([])
    for name, (lines, _) in WRONG.items():
        sources[name] = source("airbyte", name)
        there |= {f"play/{name}": script(lines), f"play/{name}.catalog": there["play/s.catalog"]}
    result = make_project(project_yml(sources), there).run()
    errors = {each.ref.source: each.error for each in result.streams}
    for name, (_, said) in WRONG.items():
        assert said in errors[name] and errors[name].startswith(name), (name, errors[name])
        assert "Traceback" not in errors[name]


def test_counts_of_the_connector_are_held_against_what_came(make_project: MakeProject) -> None:
    lines = [rec(1), rec(2), at(1, count=2), at(2, count=0), rec(3), at(3, count=1)]
    project = make_project(one("airbyte", mode="append"), connector(lines, {"t": PART}))
    run(project)
    assert len(rows(project)) == 3
    change(project, connector([rec(4), at(4, count=1), "#exit 1"], {"t": PART}))
    failure(project)
    change(project, connector([rec(5), rec(6), at(6, count=2)], {"t": PART}))
    run(project)
    assert [row[0] for row in rows(project)] == [1, 2, 3, 4, 5, 6]


BOTH = {"t": PART, "u": PART}
FAILS = [
    status("STARTED", "u"),
    rec(9, "lost", "u"),
    at(9, "u"),
    trace("no right to read it", "u"),
    status("INCOMPLETE", "u"),
]


@pytest.mark.parametrize("code", [0, 1])
def test_a_stream_that_fails_fails_alone(make_project: MakeProject, code: int) -> None:
    """Where the connector says of the others that they are whole."""
    project = make_project(yml("airbyte"), connector([rec(1, "a"), at(1), rec(1, "a", "u"), at(1, "u")], BOTH))
    run(project)
    good = [status("STARTED"), rec(2, "b"), at(2), status("COMPLETE")]
    change(project, connector([*FAILS, *good, f"#exit {code}"], BOTH))
    result = project.run()
    found = {each.ref.stream: each for each in result.streams}
    assert result.status == "failed" and found["t"].error == ""
    assert "s.u: the connector could not read it: no right to read it" in found["u"].error
    assert rows(project) == [(1, "a"), (2, "b")] and rows(project, "raw_s.u") == [(1, "a")]
    assert journals(project) == []
    change(project, connector([rec(3, "c"), at(3), rec(2, "b", "u"), at(2, "u")], BOTH))
    run(project)
    assert states(project) == {"t": 2, "u": 1}
    assert rows(project, "raw_s.u") == [(1, "a"), (2, "b")]


def test_a_stream_that_fails_takes_with_it_those_that_are_not_whole(make_project: MakeProject) -> None:
    project = make_project(yml("airbyte"), connector([*FAILS, status("STARTED"), rec(1), "#exit 1"], BOTH))
    result = project.run()
    assert {each.status for each in result.streams} == {"failed"}
    assert "u: no right to read it" in error_of(result)


def test_a_failing_stream_moves_no_state_that_others_share(make_project: MakeProject) -> None:
    """A global state is ahead for all of them, so it must not be stored without the rows of one."""

    def whole(lsn: int) -> str:
        listed = [{"stream_descriptor": {"name": name}, "stream_state": {"lsn": lsn}} for name in "tu"]
        told = {"shared_state": {"lsn": lsn}, "stream_states": listed}
        return json.dumps({"type": "STATE", "state": {"type": "GLOBAL", "global": told}})

    project = make_project(yml("airbyte"), connector([rec(1), rec(1, stream="u"), whole(1)], BOTH))
    run(project)
    good = [status("STARTED"), rec(2), whole(2), status("COMPLETE")]
    change(project, connector([*good, *FAILS[:2], *FAILS[3:]], BOTH))
    assert "no right to read it" in failure(project)
    change(project, connector([rec(2), rec(2, stream="u"), whole(3)], BOTH))
    run(project)
    assert calls(project)[-1]["state"][0]["global"]["shared_state"] == {"lsn": 1}
    assert rows(project) == rows(project, "raw_s.u") == [(1, None), (2, None)]


def test_estimates_say_how_far_it_is(make_project: MakeProject) -> None:
    def estimate(**about: Any) -> str:
        return json.dumps({"type": "TRACE", "trace": {"type": "ESTIMATE", "emitted_at": 1, "estimate": about}})

    waits = "#sleep 0.5"
    lines = [estimate(name="t", type="STREAM", row_estimate=10), rec(1), waits, rec(2), waits, rec(3), waits]
    lines += [estimate(name="t", type="STREAM", byte_estimate=5), estimate(type="SYNC", row_estimate=3), rec(4)]
    project = make_project(one("airbyte"), connector(lines))
    events: list[Any] = []
    assert project.run(on_event=events.append).status == "ok"
    seen = [(each.bytes_done or 0, each.bytes_total or 0) for each in events if isinstance(each, StreamProgress)]
    assert any(done and total == done * 5 for done, total in seen), "two rows of ten"
    assert all(total >= done for done, total in seen)
    assert len(rows(project)) == 4


# --- states


def test_a_state_of_each_stream(make_project: MakeProject) -> None:
    lines = [rec(1), at(1), rec(1, stream="u"), at({"n": 1}, "u"), rec(2), at(2)]
    project = make_project(yml("airbyte"), connector(lines, BOTH))
    run(project)
    change(project, connector([rec(3), at(3)], BOTH))
    run(reopen(project, yml("airbyte", streams=["t"])))
    assert states(project) == {"t": 2}
    run(reopen(project, yml("airbyte")))
    assert states(project) == {"t": 3, "u": {"n": 1}}
    run(project, reload=["s.t"])
    assert states(project) == {"u": {"n": 1}}
    assert rows(project) == [(3, None)] and rows(project, "raw_s.u") == [(1, None)]
    run(project)
    assert states(project) == {"t": 3, "u": {"n": 1}}


def test_a_global_state(make_project: MakeProject) -> None:
    def whole(n: int) -> dict[str, Any]:
        listed = [{"stream_descriptor": {"name": name}, "stream_state": {"n": n}} for name in "tu"]
        return {"type": "GLOBAL", "global": {"shared_state": {"lsn": n}, "stream_states": listed}}

    def sends(n: int) -> dict[str, str | bytes]:
        return connector([rec(n), rec(n, stream="u"), json.dumps({"type": "STATE", "state": whole(n)})], BOTH)

    project = make_project(yml("airbyte"), sends(1))
    run(project)
    change(project, sends(2))
    run(project)
    assert calls(project)[-1]["state"] == [whole(1)]
    run(project, reload=["s.t"])
    [told] = calls(project)[-1]["state"]
    assert [each["stream_descriptor"]["name"] for each in told["global"]["stream_states"]] == ["u"]
    run(project)
    assert calls(project)[-1]["state"] == [whole(2)]
    assert rows(project, "raw_s.u") == [(1, None), (2, None)]


def test_a_legacy_state(make_project: MakeProject) -> None:
    def sends(n: int) -> dict[str, str | bytes]:
        return connector([rec(n), rec(n, stream="u"), json.dumps({"type": "STATE", "state": {"data": {"n": n}}})], BOTH)

    project = make_project(yml("airbyte"), sends(1))
    run(project)
    run(project)
    assert calls(project)[-1]["state"] == {"n": 1}
    assert "one state for all streams" in failure(project, reload=["s.t"])
    change(project, sends(5))
    run(project, reload=["s"])
    assert "state" not in calls(project)[-1]
    assert rows(project) == [(5, None)]


def test_the_state_of_another_tool_is_where_a_new_stream_begins(make_project: MakeProject) -> None:
    old = json.dumps([json.loads(at(4))["state"], json.loads(at(4, "gone"))["state"]])
    there = {**connector([rec(5), at(5)], BOTH), "old.json": old}
    project = make_project(yml("airbyte", state="old.json"), there)
    run(project)
    assert states(project) == {"t": 4}
    run(project)
    assert states(project) == {"t": 5}


def test_what_is_replaced_is_asked_for_whole(make_project: MakeProject) -> None:
    project = make_project(one("airbyte", mode="replace"), connector([rec(1), at(1)], {"t": PART}))
    run(project)
    run(project)
    assert states(project) is None and rows(project) == [(1, None)]


# --- modes and deletes


def test_modes(make_project: MakeProject) -> None:
    modes = ("replace", "append", "merge", "scd2")
    sources = {mode: source("airbyte", streams={"t": {"mode": mode}}) for mode in modes}
    project = make_project(project_yml(sources), connector([rec(1, "a"), rec(2, "b")]))
    run(project)
    change(project, connector([rec(2, "c"), rec(3, "d")]))
    run(project)
    assert rows(project, "raw_replace.t") == [(2, "c"), (3, "d")]
    assert rows(project, "raw_append.t") == [(1, "a"), (2, "b"), (2, "c"), (3, "d")]
    assert rows(project, "raw_merge.t") == [(1, "a"), (2, "c"), (3, "d")]
    history = raw(project, "SELECT id, v, _smoll_current FROM raw_scd2.t ORDER BY ALL")
    assert history == [(1, "a", False), (2, "b", False), (2, "c", True), (3, "d", True)]


@pytest.mark.parametrize("deletes", ["ignore", "soft", "detect"])
def test_rows_that_are_gone(make_project: MakeProject, deletes: str) -> None:
    """In a stream that is sent whole, those that did not come; in one of changes, those with the mark."""
    fields = {**FIELDS, "_ab_cdc_deleted_at": TEXT}
    streams = {"t": FULL, "u": {**PART, "properties": fields}}
    options = {"mode": "merge", "deletes": deletes}
    text = yml("airbyte", streams={"*": options})
    project = make_project(text, connector([rec(n, stream=name) for n in (1, 2) for name in "tu"], streams))
    run(project)
    gone = record("airbyte", {"id": 1, "_ab_cdc_deleted_at": "2024-01-01T00:00:00Z"}, "u")
    change(project, connector([rec(2, "b"), gone, rec(3, "c", "u")], streams))
    run(project)
    kept = deletes != "detect"
    assert raw(project, "SELECT id FROM raw_s.t ORDER BY 1") == [(1,), (2,)][0 if kept else 1 :]
    assert raw(project, "SELECT id FROM raw_s.u ORDER BY 1") == [(1,), (2,), (3,)][0 if kept else 1 :]
    if deletes == "soft":
        for table in "tu":
            assert raw(project, f"SELECT id FROM raw_s.{table} WHERE _smoll_deleted_at IS NOT NULL") == [(1,)]
