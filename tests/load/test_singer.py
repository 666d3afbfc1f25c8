"""Singer taps: the whole protocol, as a process in front of a real warehouse."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
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
    failure,
    files,
    one,
    project_yml,
    record,
    run,
    schema,
    script,
    source,
    state,
    yml,
)
from support import MakeProject, parquet, raw, reopen, rows, types

FIELDS = {"id": INTEGER, "v": TEXT}
BOTH = {"t": {"properties": FIELDS, "key": ["id"]}, "u": {"properties": FIELDS, "key": ["id"]}}


def tap(lines: list[str], streams: Any = None, **more: str) -> dict[str, str | bytes]:
    """A tap that writes these lines, with a catalog of these streams (``t`` where nothing is said)."""
    streams = streams or {"t": {"properties": FIELDS, "key": ["id"]}}
    given = {f"play/s.{name}": text for name, text in more.items()}
    return {"tools/player.py": PLAYER, "play/s.catalog": catalog("singer", streams), "play/s": script(lines), **given}


def rec(id: int, v: str | None = None, stream: str = "t", **more: Any) -> str:
    return record("singer", {"id": id, "v": v}, stream, **more)


def activate(version: Any, stream: str = "t") -> str:
    return json.dumps({"type": "ACTIVATE_VERSION", "stream": stream, "version": version})


SCHEMA = schema(FIELDS, key=["id"])


# --- messages


def test_a_schema_that_is_repeated_or_changed(make_project: MakeProject) -> None:
    more = schema({**FIELDS, "w": {"type": "number"}}, key=["id"], bookmark_properties=["id"])
    other = schema({"id": INTEGER, "v": INTEGER}, key=["id"])
    wide = record("singer", {"id": 3, "v": "c", "w": 1.5})
    lines = [SCHEMA, rec(1, "a"), SCHEMA, rec(2, "b"), more, wide, other, record("singer", {"id": 4, "v": 7})]
    project = make_project(one("singer"), tap(lines))
    assert run(project)["t"].notes == ("the tap changed its schema 2 times while it was read",)
    assert types(project) == {"id": "BIGINT", "v": "VARCHAR", "w": "DOUBLE"}
    assert rows(project) == [(1, "a", None), (2, "b", None), (3, "c", 1.5), (4, "7", None)]
    change(project, tap([SCHEMA, rec(1), SCHEMA, rec(2), SCHEMA]))
    assert not any("changed its schema" in note for note in run(project)["t"].notes)


def test_records_of_several_descriptions_stay_in_their_order(make_project: MakeProject) -> None:
    """Under merge the last one counts, whatever it was described as."""
    more = schema({**FIELDS, "w": TEXT}, key=["id"])
    lines = [SCHEMA, rec(1, "a"), more, rec(1, "b"), SCHEMA, rec(1, "c"), more, rec(2, "d"), SCHEMA, rec(2, "e")]
    project = make_project(one("singer", mode="merge"), tap(lines))
    run(project)
    assert raw(project, "SELECT id, v FROM raw_s.t ORDER BY id") == [(1, "c"), (2, "e")]


def test_streams_that_come_mixed(make_project: MakeProject) -> None:
    lines = [SCHEMA, schema(FIELDS, "u")]
    lines += [line for number in range(3000) for line in (rec(number), rec(number, stream="u"))]
    project = make_project(yml("singer"), tap([*lines, rec(3000)], BOTH))
    found = run(project)
    assert (found["t"].read, found["u"].read) == (3001, 3000)
    assert raw(project, "SELECT count(DISTINCT id) FROM raw_s.t") == [(3001,)]


def test_lines_that_are_none_of_the_protocol(make_project: MakeProject) -> None:
    lines = [
        "starting up {",
        "",
        "  ",
        "5",
        "[]",
        '{"a": 1}',
        '{"type": "NEWS", "value": 1}',
        SCHEMA,
        rec(1, "a"),
        "bye",
    ]
    project = make_project(one("singer"), tap(lines))
    run(project)
    assert rows(project) == [(1, "a")]
    log = "".join(path.read_text() for path in (project.config.root / ".smoll/logs").iterdir())
    assert "s | starting up {" in log and "unknown type 'NEWS' was left out" in log and "s | bye" in log


WRONG = {
    "early": ([rec(1), SCHEMA], "a record of 't' before its SCHEMA"),
    "garbage": ([SCHEMA, '{"type": "RECORD", "stream": "t", "record": {"id": 1}'], "no whole message"),
    "two": ([SCHEMA, rec(1) + rec(2)], "no whole message"),
    "batch_early": (['{"type": "BATCH", "stream": "t"}', SCHEMA], "a BATCH of 't' before its SCHEMA"),
    "batch_odd": (
        [SCHEMA, '{"type": "BATCH", "stream": "t", "encoding": {"format": "avro"}, "manifest": []}'],
        "as avro",
    ),
    "batch_gone": (
        [SCHEMA, '{"type": "BATCH", "stream": "t", "encoding": {"format": "jsonl"}, "manifest": ["file:///no/x"]}'],
        "no file on this machine: file:///no/x",
    ),
    "batch_far": (
        [
            SCHEMA,
            '{"type": "BATCH", "stream": "t", "encoding": {"format": "jsonl"}, "manifest": ["s3://a/x?key=secret"]}',
        ],
        "no file on this machine: s3://a/x.",
    ),
    "no_key": ([schema({"v": TEXT}, key=["id"]), record("singer", {"v": "a"})], "id"),
    "recordless": ([SCHEMA, '{"type": "RECORD", "stream": "t"}'], "t"),
    "stateless": ([SCHEMA, '{"type": "STATE"}', "#exit 1"], "exit code 1"),
    "odd_schema": (['{"type": "SCHEMA", "stream": "t", "schema": 5}', rec(1), "#exit 1"], "exit code 1"),
    "odd_batch": ([SCHEMA, '{"type": "BATCH", "stream": "t", "encoding": 5}'], "none of the protocol"),
    "odd_key": (
        ['{"type": "SCHEMA", "stream": "t", "schema": {}, "key_properties": 5}', rec(1), "#exit 1"],
        "exit code 1",
    ),
    "odd_type": (['{"type": 5}', "#exit 1"], "exit code 1"),
    "odd_version": ([SCHEMA, rec(1, version=[1]), "#exit 1"], "exit code 1"),
}


def test_messages_that_are_wrong(make_project: MakeProject) -> None:
    sources, there = {}, tap([])
    for name, (lines, _) in WRONG.items():
        sources[name] = source("singer", name, streams={"t": {"mode": "merge", "key": "id"}})
        there |= {f"play/{name}": script(lines), f"play/{name}.catalog": there["play/s.catalog"]}
    result = make_project(project_yml(sources), there).run()
    errors = {each.ref.source: each.error for each in result.streams}
    for name, (_, said) in WRONG.items():
        assert said in errors[name] and errors[name].startswith(name), (name, errors[name])
        assert "Traceback" not in errors[name]


# --- versions of a table


def test_a_new_version_of_a_table_replaces_what_was_there(make_project: MakeProject) -> None:
    """`merge` with deletes: what is not of the new version is gone; a version that is known takes nothing away."""
    about = {"t": {"properties": FIELDS, "key": ["id"], "full": False}}

    def version(number: int, *lines: str) -> dict[str, str | bytes]:
        value = json.dumps({"type": "STATE", "value": {"bookmarks": {"t": {"version": number}}}})
        return tap([SCHEMA, *lines, activate(number), value], about)

    old = [rec(1, "a", version=1), rec(2, "b", version=1), rec(3, "c", version=1)]
    project = make_project(one("singer", deletes="detect"), version(1, activate(1), *old))
    run(project)
    assert rows(project) == [(1, "a"), (2, "b"), (3, "c")]
    change(project, version(1, activate(1), rec(2, "x", version=1)))
    run(project)
    assert rows(project) == [(1, "a"), (2, "x"), (3, "c")]
    change(project, version(2, rec(2, "y", version=2), rec(4, "d", version=2)))
    run(project)
    assert rows(project) == [(2, "y"), (4, "d")]
    change(project, version(2, rec(5, "e", version=2)))
    run(project)
    assert rows(project) == [(2, "y"), (4, "d"), (5, "e")]


def test_records_of_an_older_version_do_not_count(make_project: MakeProject) -> None:
    lines = [
        SCHEMA,
        rec(1, "old", version=1),
        rec(2, "old", version=1),
        rec(2, "new", version=2),
        rec(3, "new", version=2),
    ]
    project = make_project(one("singer"), tap([*lines, activate(2), rec(4, "later", version=2)]))
    run(project)
    assert rows(project) == [(2, "new"), (3, "new"), (4, "later")]
    change(project, tap([SCHEMA, rec(1, "a"), activate(1), rec(2, "b", version=1), activate(1)]))
    run(project)
    assert rows(project) == [(1, "a"), (2, "b")]


# --- batches


def batch(paths: list[Path | str], stream: str = "t", **encoding: str) -> str:
    urls = [path.as_uri() if isinstance(path, Path) else path for path in paths]
    return json.dumps({"type": "BATCH", "stream": stream, "encoding": encoding, "manifest": urls})


def test_batches(make_project: MakeProject, tmp_path: Path) -> None:
    """Files beside the stream of messages: their first record and their last are there, in their order."""
    folder = tmp_path / "it's a %20 folder"
    folder.mkdir()
    lines = [json.dumps({"id": number, "v": f"t{number}"}) + "\n" for number in range(10)]
    (folder / "a.jsonl").write_text("".join(lines[:3]))
    (folder / "b.jsonl").write_text("".join(lines[3:5]).rstrip("\n"))
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("".join(lines[5:8]).encode()))
    parquet("SELECT 8::BIGINT AS id, 't8' AS v", folder / "d.parquet")
    messages = [
        SCHEMA,
        rec(100, "before"),
        batch([folder / "a.jsonl", str(folder / "b.jsonl")], format="jsonl", compression="none"),
        batch([folder / "c.jsonl.gz"], format="jsonl", compression="gzip"),
        rec(101, "between"),
        batch([folder / "d.parquet"], format="parquet", compression="snappy"),
        rec(102, "behind"),
    ]
    project = make_project(one("singer"), tap(messages))
    result = run(project)["t"]
    expected = [(number, f"t{number}") for number in range(9)]
    assert rows(project) == [*expected, (100, "before"), (101, "between"), (102, "behind")]
    assert types(project) == {"id": "BIGINT", "v": "VARCHAR"}
    assert (result.read, result.rows) == (12, 12)
    assert list(folder.iterdir()) == []
    (folder / "e.jsonl").write_text('{"id": 1, "v": "b"}\n{"id": 1, "v": "c"}\n')
    change(project, tap([SCHEMA, rec(1, "a"), batch([folder / "e.jsonl"], format="jsonl"), rec(2, "a")]))
    project = reopen(project, one("singer", mode="merge"))
    run(project)
    assert rows(project) == [(1, "c"), (2, "a")]


def test_a_batch_is_as_strict_as_records(make_project: MakeProject, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "v": 12345678901234567890.123456789}\n{"id": 2, "x": 1, "x": 2}\n')
    messages = [schema({"id": INTEGER, "v": {"type": "number"}}), batch([tmp_path / "a.jsonl"], format="jsonl")]
    project = make_project(one("singer", on_bad_row="quarantine"), tap(messages))
    run(project)
    assert raw(project, "SELECT id, CAST(v AS VARCHAR) FROM raw_s.t") == [(1, "12345678901234567890.123456789")]
    assert raw(project, "SELECT reason FROM raw_s.t__rejected") == [('duplicate key "x"',)]


# --- catalog


def test_key_and_mode_come_from_the_catalog(make_project: MakeProject) -> None:
    streams = {
        "full": {"properties": FIELDS, "key": ["id"]},
        "part": {"properties": FIELDS, "key": ["id"], "full": False},
        "keyless": {"properties": FIELDS, "full": False},
    }
    lines = [line for name in streams for line in (schema(FIELDS, name), rec(1, "a", name), rec(1, "b", name))]
    project = make_project(yml("singer"), tap(lines, streams))
    found = run(project)
    assert {name: found[name].mode for name in streams} == {"full": "replace", "part": "merge", "keyless": "append"}
    assert rows(project, "raw_s.part") == [(1, "b")]
    methods = {entry["tap_stream_id"]: entry["replication_method"] for entry in given(project)}
    assert methods == {"full": "FULL_TABLE", "part": "INCREMENTAL", "keyless": "INCREMENTAL"}


def given(project: smoll.Project, option: str = "catalog") -> list[dict[str, Any]]:
    """The streams of the catalog that the tap was given at last."""
    streams: list[dict[str, Any]] = calls(project)[-1][option]["streams"]
    return streams


def chosen(entry: dict[str, Any]) -> dict[str, Any]:
    """What a catalog entry says of the choice of the stream ("") and its fields."""
    return {".".join(each["breadcrumb"][1::2]): each["metadata"].get("selected") for each in entry["metadata"]}


def test_replication_as_asked(make_project: MakeProject) -> None:
    streams = {"t": {"replication": "log_based"}, "u": {"cursor": "id"}}
    lines = [SCHEMA, rec(1, "a"), schema(FIELDS, "u"), rec(1, "a", "u")]
    project = make_project(yml("singer", streams=streams), tap(lines, BOTH))
    run(project)
    logged, by_cursor = given(project)
    assert logged["metadata"][0]["metadata"]["replication-method"] == "LOG_BASED"
    own = by_cursor["metadata"][0]["metadata"]
    assert (own["replication-method"], own["replication-key"]) == ("INCREMENTAL", "id")
    assert (by_cursor["replication_method"], by_cursor["replication_key"]) == ("INCREMENTAL", "id")


@pytest.mark.parametrize("option", ["--catalog", "--properties"])
def test_taps_take_their_catalog_in_one_of_two_ways(make_project: MakeProject, option: str) -> None:
    project = make_project(
        one("singer"), tap([SCHEMA, rec(1, "a")], help=f"usage: [--discover] [{option} F] [--state F]")
    )
    run(project)
    assert rows(project) == [(1, "a")]
    assert [entry["selected"] for entry in given(project, option[2:])] == [True]
    assert len(calls(project, "help")) == 1


def test_a_tap_without_discovery(make_project: MakeProject) -> None:
    lines = [SCHEMA, rec(1, "a"), rec(1, "b"), state("singer", 5)]
    there = tap(lines, help="usage: tap --config FILE [--state FILE]")
    project = make_project(yml("singer"), there)
    error = failure(project)
    assert "cannot be asked for its streams" in error and "Name them under `streams`" in error
    project = reopen(project, one("singer", mode="merge", key="id"))
    run(project)
    assert rows(project) == [(1, "b")]
    assert calls(project, "discover") == [] and "catalog" not in calls(project)[-1]
    run(project)
    assert calls(project)[-1]["state"] == {"bookmarks": {"t": 5}}


def test_a_catalog_in_a_file(make_project: MakeProject) -> None:
    there = {**tap([SCHEMA, rec(1, "a")]), "play/s.catalog": "no catalog", "my.json": catalog("singer", BOTH)}
    project = make_project(yml("singer", catalog="my.json", streams=["t"]), there)
    run(project)
    assert rows(project) == [(1, "a")] and calls(project, "discover") == []
    assert {entry["tap_stream_id"]: entry["selected"] for entry in given(project)} == {"t": True, "u": False}
    for text, said in (("[]", "it has no list of streams"), ("{", "cannot read the catalog my.json")):
        (project.config.root / "my.json").write_text(text)
        assert said in failure(project)


def test_what_discovery_says_when_it_fails(make_project: MakeProject) -> None:
    told = {
        "gone": ("#stderr no such host\n#exit 4", "(exit code 4).\n  | no such host"),
        "talk": ("hello", "no catalog: 'hello'"),
    }
    for text, said in told.values():
        project = make_project(yml("singer"), {**tap([]), "play/s.catalog": text})
        assert said in failure(project)
    streams = {"nope": {"mode": "append"}}
    assert "the tap has no stream 'nope'" in failure(make_project(yml("singer", streams=streams), tap([], BOTH)))
    assert "It has: t, u." in failure(make_project(yml("singer", streams=streams), tap([], BOTH)))
    assert "leave no stream" in failure(make_project(yml("singer", select=["x*"]), tap([], BOTH)))


def test_a_line_of_talk_before_the_catalog(make_project: MakeProject) -> None:
    there = {**tap([SCHEMA, rec(1, "a")]), "play/s.catalog": "hello\n" + catalog("singer", {"t": BOTH["t"]})}
    project = make_project(yml("singer"), there)
    run(project)
    assert rows(project) == [(1, "a")]


def test_a_stream_whose_name_is_not_its_id(make_project: MakeProject) -> None:
    """The id is what people name; messages may have the one or the other."""
    streams = {
        "public-t": {"properties": FIELDS, "stream": "t"},
        "other-t": {"properties": FIELDS, "stream": "u"},
    }
    lines = [SCHEMA, rec(1, "a"), schema(FIELDS, "other-t"), rec(2, "b", "other-t")]
    project = make_project(yml("singer"), tap(lines, streams))
    assert set(run(project)) == {"public-t", "other-t"}
    assert rows(project, "raw_s.public_t") == [(1, "a")] and rows(project, "raw_s.other_t") == [(2, "b")]


# --- choice of streams and fields

NESTED = {
    "id": INTEGER,
    "name": TEXT,
    "secret": TEXT,
    "address": {"type": "object", "properties": {"city": TEXT, "zip": TEXT}},
    "auto": TEXT,
}
PERSON = {"id": 1, "name": "a", "secret": "x", "address": {"city": "b", "zip": "c"}, "auto": "d", "undeclared": 1}


def people(**options: Any) -> tuple[str, dict[str, str | bytes]]:
    entry = json.loads(catalog("singer", {"t": {"properties": NESTED, "key": ["id"]}}))["streams"][0]
    entry["metadata"].append({"breadcrumb": ["properties", "auto"], "metadata": {"inclusion": "automatic"}})
    text = json.dumps({"streams": [entry, json.loads(catalog("singer", {"u": BOTH["u"]}))["streams"][0]]})
    lines = [schema(NESTED, key=["id"]), record("singer", PERSON), schema(FIELDS, "u"), rec(9, stream="u")]
    return yml("singer", **options), {**tap(lines), "play/s.catalog": text}


@pytest.mark.parametrize(
    ("options", "columns", "address"),
    [
        ({"select": ["t"]}, ["id", "name", "secret", "address", "auto", "undeclared"], {"city": "b", "zip": "c"}),
        ({"exclude": ["u", "*.secret"]}, ["id", "name", "address", "auto", "undeclared"], {"city": "b", "zip": "c"}),
        ({"select": ["t.name", "t.address"]}, ["id", "name", "address"], {"city": "b", "zip": "c"}),
        ({"select": ["t"], "exclude": ["t.*me", "t.undeclared", "t.address"]}, ["id", "secret", "auto"], None),
        (
            {"select": ["t"], "exclude": ["t.address.zip"]},
            ["id", "name", "secret", "address", "auto", "undeclared"],
            {"city": "b"},
        ),
        ({"select": ["t.address.city"]}, ["id", "address"], {"city": "b"}),
    ],
)
def test_what_is_left_out_reaches_no_table(
    make_project: MakeProject, options: Any, columns: list[str], address: Any
) -> None:
    """The tap is told, and what it sends all the same goes nowhere."""
    project = make_project(*people(**options))
    result = run(project)["t"]
    assert list(types(project)) == columns
    if address is not None:
        assert json.loads(raw(project, "SELECT address FROM raw_s.t")[0][0]) == address
    assert any("1 records of streams that were not asked for: u" in note for note in result.notes)
    entry, other = given(project)
    assert (chosen(entry)[""], chosen(other)[""], other["selected"]) == (True, False, False)
    told = {name for name, selected in chosen(entry).items() if selected and name and "." not in name}
    assert told == set(columns) - {"undeclared"} | {"auto"}  # which no tap leaves out
    assert chosen(entry)["address.zip"] is (address is not None and "zip" in address)


def test_exclude_keeps_the_key(make_project: MakeProject) -> None:
    project = make_project(*people(select=["t"], exclude=["t.id", "t.name"], streams={"t": {"mode": "merge"}}))
    run(project)
    assert list(types(project)) == ["id", "secret", "address", "auto", "undeclared"]


# --- modes, deletes, state


def test_modes(make_project: MakeProject) -> None:
    modes = ("replace", "append", "merge", "scd2")
    sources = {mode: source("singer", streams={"t": {"mode": mode}}) for mode in modes}
    project = make_project(project_yml(sources), tap([SCHEMA, rec(1, "a"), rec(2, "b")]))
    run(project)
    change(project, tap([SCHEMA, rec(2, "c"), rec(3, "d")]))
    run(project)
    assert rows(project, "raw_replace.t") == [(2, "c"), (3, "d")]
    assert rows(project, "raw_append.t") == [(1, "a"), (2, "b"), (2, "c"), (3, "d")]
    assert rows(project, "raw_merge.t") == [(1, "a"), (2, "c"), (3, "d")]
    history = raw(project, "SELECT id, v, _smoll_current FROM raw_scd2.t ORDER BY ALL")
    assert history == [(1, "a", False), (2, "b", False), (2, "c", True), (3, "d", True)]


@pytest.mark.parametrize("deletes", ["ignore", "soft", "detect"])
def test_rows_that_are_gone_in_a_whole_stream(make_project: MakeProject, deletes: str) -> None:
    project = make_project(one("singer", mode="merge", deletes=deletes), tap([SCHEMA, rec(1, "a"), rec(2, "b")]))
    run(project)
    change(project, tap([SCHEMA, rec(2, "c")]))
    run(project)
    there = {"ignore": [(1, "a"), (2, "c")], "soft": [(1, "a"), (2, "c")], "detect": [(2, "c")]}[deletes]
    assert rows(project) == there
    if deletes == "soft":
        assert raw(project, "SELECT id FROM raw_s.t WHERE _smoll_deleted_at IS NOT NULL") == [(1,)]


@pytest.mark.parametrize("deletes", ["ignore", "soft", "detect"])
def test_rows_that_the_tap_marks_as_deleted(make_project: MakeProject, deletes: str) -> None:
    """In a stream of changes only the marks tell; a row that comes again is there again."""
    fields = {**FIELDS, "_sdc_deleted_at": {"type": ["null", "string"], "format": "date-time"}}
    about = {"t": {"properties": fields, "key": ["id"], "full": False}}
    head = schema(fields, key=["id"])
    project = make_project(one("singer", deletes=deletes), tap([head, rec(1, "a"), rec(2, "b"), rec(3, "c")], about))
    run(project)
    gone = record("singer", {"id": 2, "v": "b", "_sdc_deleted_at": "2024-01-01T00:00:00Z"})
    change(project, tap([head, gone, rec(1, "z")], about))
    run(project)
    found = raw(project, "SELECT id, v FROM raw_s.t ORDER BY id")
    assert found == ([(1, "z"), (3, "c")] if deletes == "detect" else [(1, "z"), (2, "b"), (3, "c")])
    if deletes == "soft":
        assert raw(project, "SELECT id FROM raw_s.t WHERE _smoll_deleted_at IS NOT NULL") == [(2,)]
    change(project, tap([head, rec(2, "again")], about))
    run(project)
    assert raw(project, "SELECT id, v FROM raw_s.t ORDER BY id") == [(1, "z"), (2, "again"), (3, "c")]
    if deletes == "soft":
        assert raw(project, "SELECT id FROM raw_s.t WHERE _smoll_deleted_at IS NOT NULL") == []


MODEL = "select id from {{ source('s', 't') }}"


def bookmarks(project: smoll.Project) -> Any:
    return (calls(project)[-1].get("state") or {}).get("bookmarks")


def both(*lines: str) -> dict[str, str | bytes]:
    about = {name: {**BOTH[name], "full": False} for name in BOTH}
    return tap([SCHEMA, schema(FIELDS, "u", key=["id"]), *lines], about)


def states(t: int, u: int, **more: Any) -> str:
    return json.dumps({"type": "STATE", "value": {"bookmarks": {"t": {"at": t}, "u": {"at": u}}, **more}})


def test_state_of_each_stream_is_its_own(make_project: MakeProject) -> None:
    """A run of one stream goes on from its bookmark, and leaves that of the other alone."""
    text = yml("singer", streams={"*": {"mode": "append"}})
    project = make_project(text, both(rec(1), rec(1, stream="u"), states(1, 1, currently_syncing="u")))
    run(project)
    change(project, both(rec(2), states(2, 1)))
    run(reopen(project, yml("singer", streams={"t": {"mode": "append"}})))
    assert bookmarks(project) == {"t": {"at": 1}}
    assert [entry["selected"] for entry in given(project)] == [True, False]
    change(project, both(rec(3), rec(2, stream="u"), states(3, 2)))
    run(reopen(project, text))
    assert bookmarks(project) == {"t": {"at": 2}, "u": {"at": 1}}
    assert "currently_syncing" not in calls(project)[-1]["state"]
    assert rows(project) == [(1, None), (2, None), (3, None)] and rows(project, "raw_s.u") == [(1, None), (2, None)]
    change(project, both(rec(7), states(9, 2)))
    run(project, reload=["s.t"])
    assert bookmarks(project) == {"u": {"at": 2}}
    assert rows(project) == [(7, None)] and rows(project, "raw_s.u") == [(1, None), (2, None)]
    run(project)
    assert bookmarks(project) == {"t": {"at": 9}, "u": {"at": 2}}


def test_a_selection_leaves_the_other_streams_alone(make_project: MakeProject) -> None:
    text = yml("singer", streams={"*": {"mode": "append"}})
    project = make_project(text, both(rec(1), rec(1, stream="u"), states(1, 1)), {"m": MODEL})
    assert set(run(project, select="m+ +m")) == {"t"}
    assert [entry["selected"] for entry in given(project)] == [True, False]


def test_a_state_without_bookmarks_is_one_for_all(make_project: MakeProject) -> None:
    def flat(value: int, *lines: str) -> dict[str, str | bytes]:
        return both(*lines, json.dumps({"type": "STATE", "value": {"since": value}}))

    text = yml("singer", streams={"*": {"mode": "append"}})
    project = make_project(text, flat(1, rec(1), rec(1, stream="u")))
    run(project)
    change(project, flat(2, rec(2)))
    run(project)
    assert calls(project)[-1]["state"] == {"since": 1}
    error = failure(project, reload=["s.t"])
    assert "one state for all streams" in error and "--reload s" in error
    change(project, flat(9, rec(5), rec(5, stream="u")))
    run(project, reload=["s"])
    assert "state" not in calls(project)[-1]
    assert rows(project) == [(5, None)] and rows(project, "raw_s.u") == [(5, None)]
    run(project)
    assert calls(project)[-1]["state"] == {"since": 9}


def test_the_state_of_another_tool_is_where_a_new_stream_begins(make_project: MakeProject) -> None:
    there = {**both(rec(5), states(5, 5)), "old.json": '{"bookmarks": {"t": {"at": 4}}}'}
    project = make_project(yml("singer", state="old.json", streams={"*": {"mode": "append"}}), there)
    run(project)
    assert bookmarks(project) == {"t": {"at": 4}}
    run(project)
    assert bookmarks(project) == {"t": {"at": 5}, "u": {"at": 5}}
    there["old.json"] = "{"
    broken = make_project(yml("singer", state="old.json", streams={"*": {"mode": "append"}}), there)
    assert "old.json: cannot read the state" in failure(broken)


def test_a_state_between_records_is_stored_with_those_before_it(make_project: MakeProject) -> None:
    """The last state of the tap is stored, and the records behind it too: it will send those again."""
    lines = [rec(1), states(1, 0), rec(2), states(2, 0), rec(3)]
    project = make_project(yml("singer", streams={"t": {"mode": "merge"}}), both(*lines))
    run(project)
    assert rows(project) == [(1, None), (2, None), (3, None)]
    run(project)
    assert bookmarks(project) == {"t": {"at": 2}}


def test_replaced_streams_are_asked_for_whole(make_project: MakeProject) -> None:
    project = make_project(one("singer", mode="replace"), both(rec(1), states(1, 0)))
    run(project)
    run(project)
    assert bookmarks(project) is None
    assert rows(project) == [(1, None)]


# --- configuration


def test_a_configuration_that_the_tap_changes_is_used_next_time(make_project: MakeProject) -> None:
    there = tap([SCHEMA, rec(1), '#config {"token": "second"}'])
    project = make_project(yml("singer", config={"token": "first"}), there)
    run(project)
    run(project)
    assert [call["config"]["token"] for call in calls(project)] == ["first", "second"]
    kept = project.config.root / ".smoll/configs/s.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert {mode for call in calls(project) for mode in call["modes"].values()} == {"0o600"}
    run(reopen(project, yml("singer", config={"token": "third"})))
    assert calls(project)[-1]["config"]["token"] == "third"


def test_secrets_are_in_no_message_and_in_no_file_that_others_read(make_project: MakeProject) -> None:
    lines = [SCHEMA, rec(1), "#stderr the token is hunter22", state("singer", 1), "hunter22 again", "#exit 1"]
    project = make_project(yml("singer", config={"api_token": "hunter22"}), tap(lines))
    assert "hunter" not in failure(project)
    for path in (project.config.root / ".smoll").rglob("*"):
        if path.is_file() and b"hunter" in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0, path


def test_check_asks_the_tap(make_project: MakeProject) -> None:
    project = make_project(yml("singer"), tap([], BOTH))
    assert "2 streams" in str(project.check())


def test_files_of_one_record_need_no_line_end(make_project: MakeProject) -> None:
    there = files("singer", FIELDS)
    there["play/s"] = SCHEMA + "\r\n" + rec(1, "a") + "\r\n" + rec(2, "b")
    project = make_project(one("singer"), there)
    run(project)
    assert rows(project) == [(1, "a"), (2, "b")]
