"""Records of Singer taps and Airbyte connectors: a value arrives as it was sent, or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from typing import Any

import pytest

import smoll
from programs import (
    INTEGER,
    NUMBER,
    PLAYER,
    PROTOCOLS,
    TEXT,
    catalog,
    failure,
    files,
    one,
    project_yml,
    record,
    run,
    schema,
    script,
    source,
    yml,
)
from smoll.model import StreamResult
from support import MakeProject, dump, raw, reopen, rows, types, write, write_project

pytestmark = pytest.mark.connectors

PAIR = "\ud83d\ude00"
INSTANTS = {"type": "string", "format": "date-time"}
NAIVE = {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"}
INDIA = timezone(timedelta(hours=5, minutes=30))


def number(**more: Any) -> dict[str, Any]:
    return {"type": ["null", "number"], **more}


def text(**more: Any) -> dict[str, Any]:
    return {"type": ["null", "string"], **more}


EXACT: dict[str, tuple[Any, list[str], list[Any], str]] = {
    # name: schema of the field, values as they are written, values as they arrive, type
    "whole_numbers": (INTEGER, ["1", "-9223372036854775808", "null"], [1, -(2**63), None], "BIGINT"),
    "beyond_double": (INTEGER, [str(2**53 + 1)], [2**53 + 1], "BIGINT"),
    "beyond_64_bits": (INTEGER, [str(2**63), "1"], [Decimal(2**63), Decimal(1)], "DECIMAL(38,0)"),
    "digits_38": (INTEGER, ["9" * 38], [Decimal("9" * 38)], "DECIMAL(38,0)"),
    "digits_39": (INTEGER, ["9" * 39, "1"], ["9" * 39, "1"], "VARCHAR"),
    "doubles": (NUMBER, ["0.1", "1e308", "5e-324", "3", "3.0"], [0.1, 1e308, 5e-324, 3.0, 3.0], "DOUBLE"),
    "number_beyond_double": (NUMBER, [str(2**53 + 1)], [Decimal(2**53 + 1)], "DECIMAL"),
    "number_of_38_digits": (NUMBER, ["9" * 38, "1"], [Decimal("9" * 38), Decimal(1)], "DECIMAL(38,0)"),
    "number_of_2_to_63": (NUMBER, [str(2**63 + 1)], [Decimal(2**63 + 1)], "DECIMAL(38,0)"),
    "digits_25": (
        NUMBER,
        ["1234567890123456789.012345", "1"],
        [Decimal("1234567890123456789.012345"), Decimal(1)],
        "DECIMAL",
    ),
    "step": (number(multipleOf=0.01), ["1.10", "2", "1e2"], [Decimal("1.1"), Decimal(2), Decimal(100)], "DECIMAL"),
    "step_of_25_digits": (
        number(multipleOf=1e-6),
        ["1234567890123456789.012345"],
        [Decimal("1234567890123456789.012345")],
        "DECIMAL",
    ),
    "decimal_texts": (
        text(format="singer.decimal"),
        ['"12345678901234567890.12345"', '"1.5"', "null"],
        [Decimal("12345678901234567890.12345"), Decimal("1.5"), None],
        "DECIMAL",
    ),
    "airbyte_integer": (number(airbyte_type="integer"), ["1", str(2**53 + 1)], [1, 2**53 + 1], "BIGINT"),
    "big_integer": (text(airbyte_type="big_integer"), [f'"{2**70}"'], [Decimal(2**70)], "DECIMAL(38,0)"),
    "minus_zero": (NUMBER, ["-0.0", "1.5"], ["-0.0", 1.5], "DOUBLE"),
    "no_numbers": (NUMBER, ["NaN", "1.5", "-Infinity"], ["nan", 1.5, float("-inf")], "DOUBLE"),
    "too_large": (NUMBER, ["1e400", "1"], ["1e400", "1"], "VARCHAR"),
    "too_small": (NUMBER, ["1e-400", "1"], ["1e-400", "1"], "VARCHAR"),
    "two_to_53": (NUMBER, [str(2**53), "1.5"], [2.0**53, 1.5], "DOUBLE|DECIMAL(18,1)"),
    "smallest": (NUMBER, ["5e-324", "1"], [5e-324, 1.0], "DOUBLE"),
    "offsets": (
        INSTANTS,
        ['"2024-01-01T12:00:00+05:30"', '"2024-01-01T06:30:00Z"'],
        [datetime(2024, 1, 1, 12, tzinfo=INDIA), datetime(2024, 1, 1, 6, 30, tzinfo=UTC)],
        "TIMESTAMP WITH TIME ZONE",
    ),
    "naive": (INSTANTS, ['"2024-01-01T12:00:00"', "null"], [datetime(2024, 1, 1, 12), None], "TIMESTAMP"),
    "naive_and_offsets": (
        INSTANTS,
        ['"2024-01-01T12:00:00"', '"2024-01-01T12:00:00+05:30"'],
        ["2024-01-01T12:00:00", "2024-01-01T12:00:00+05:30"],
        "VARCHAR",
    ),
    "declared_naive": (NAIVE, ['"2024-01-01T12:00:00.000001"'], [datetime(2024, 1, 1, 12, 0, 0, 1)], "TIMESTAMP"),
    "nanoseconds": (INSTANTS, ['"2024-01-01T12:00:00.123456789Z"'], ["2024-01-01T12:00:00.123456789Z"], "VARCHAR"),
    "dates": (text(format="date"), ['"2024-01-31"', "null"], [date(2024, 1, 31), None], "DATE"),
    "times": (text(format="time"), ['"01:02:03.000004"'], [clock(1, 2, 3, 4)], "TIME"),
    "no_dates": (INSTANTS, ['"soon"', '"2024-01-01T00:00:00Z"'], ["soon", "2024-01-01T00:00:00Z"], "VARCHAR"),
    "empty_instant": (  # as in every source: an empty text where a time belongs is none
        INSTANTS,
        ['""', '"2024-01-01T00:00:00Z"'],
        [None, datetime(2024, 1, 1, tzinfo=UTC)],
        "TIMESTAMP WITH TIME ZONE",
    ),
    "empty_texts": (TEXT, ['""', "null", '" "'], ["", None, " "], "VARCHAR"),
    "texts_like_numbers": (
        TEXT,
        ['"007"', '"1.50"', '"2024-01-01"', '"true"'],
        ["007", "1.50", "2024-01-01", "true"],
        "VARCHAR",
    ),
    "null_text": (TEXT, ['"null"', "null", '"NULL"'], ["null", None, "NULL"], "VARCHAR"),
    "characters": (
        TEXT,
        ['"\\u0000a\\ud83d\\ude00\\n\\"\\\\"', '"\U0001f600é"'],
        ['\0a\U0001f600\n"\\', "\U0001f600é"],
        "VARCHAR",
    ),
    "booleans": ({"type": "boolean"}, ["true", "false", "null"], [True, False, None], "BOOLEAN"),
    "objects": ({"type": "object"}, ['{"b": 1.10, "a": [null, ""]}'], ['{"b":1.10,"a":[null,""]}'], "JSON"),
    "digits_inside": (
        {"type": "object"},
        ['{"n": 0.12345678901234, "i": 123456789012345678901234567890}'],
        ['{"n":0.12345678901234,"i":123456789012345678901234567890}'],
        "JSON",
    ),
    "lists": ({"type": "array", "items": INTEGER}, ["[1, 2]", "[]", "null"], ["[1,2]", "[]", None], "JSON"),
    "text_in_an_object": ({"type": "object"}, ['"a"', '{"a": 1}'], ['"a"', '{"a":1}'], "JSON"),
    "anything": ({}, ["1", '"a"', "[1]"], ["1", '"a"', "[1]"], "JSON"),
    "several_types": ({"type": ["integer", "string", "null"]}, ["7", '"7"', '"a"'], ["7", "7", "a"], "VARCHAR"),
    "choice": (
        {"anyOf": [INSTANTS, {"type": "null"}]},
        ['"2024-01-01T00:00:00Z"', "null"],
        [datetime(2024, 1, 1, tzinfo=UTC), None],
        "TIMESTAMP WITH TIME ZONE",
    ),
    "numeral_for_integer": (INTEGER, ['"5"', "6"], [5, 6], "BIGINT"),
    "no_numeral_for_integer": (INTEGER, ['"007"', "6"], ["007", "6"], "VARCHAR"),
    "true_for_number": (NUMBER, ["true", "1.5"], ["true", "1.5"], "VARCHAR"),
    "true_for_integer": (INTEGER, ["true", "1"], ["true", "1"], "VARCHAR"),
    "one_for_true": ({"type": "boolean"}, ["1", "true"], ["1", "true"], "VARCHAR"),
    "fraction_for_integer": (INTEGER, ["1.5", "1"], [Decimal("1.5"), Decimal(1)], "DECIMAL"),
    "whole_fraction_for_integer": (INTEGER, ["1.0", "1"], [Decimal(1), Decimal(1)], "DECIMAL"),
    "number_for_text": (TEXT, ["5", "1.5", '"a"'], ["5", "1.5", "a"], "VARCHAR"),
    "long_number_for_text": (
        TEXT,
        ["1234567890123456789.012345", '"a"'],
        ["1234567890123456789.012345", "a"],
        "VARCHAR",
    ),
    "true_for_text": (TEXT, ["true", '"a"'], ["true", "a"], "VARCHAR"),
    "object_for_text": (TEXT, ['{"a": 1}', '"a"'], ['{"a":1}', "a"], "VARCHAR"),
    "object_for_number": (NUMBER, ['{"a": 1}', "1"], ['{"a":1}', "1"], "VARCHAR"),
}


def matter(value: Any) -> Any:
    """A value, or its text where two that are not the same are equal."""
    return str(value) if isinstance(value, float) and (value == 0 or value != value) else value


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[smoll.Project, Mapping[str, str]]]:
    """All values of a protocol, loaded in one run, a source for each case."""
    made: dict[str, tuple[smoll.Project, Mapping[str, str]]] = {}

    def load(protocol: str) -> tuple[smoll.Project, Mapping[str, str]]:
        if protocol not in made:
            root, there = tmp_path_factory.mktemp(protocol), dict[str, str | bytes]()
            sources: dict[str, Any] = {}
            for name, (spec, values, _, _) in EXACT.items():
                lines = [f'{{"id": {place}, "v": {value}}}' for place, value in enumerate(values)]
                there |= files(protocol, {"id": INTEGER, "v": spec}, lines, play=name)
                sources[name] = source(protocol, name)
            write_project(root, project_yml(sources), there, {}, {})
            project = smoll.open_project(root)
            made[protocol] = project, {each.ref.source: each.error for each in project.run().streams}
        return made[protocol]

    return load


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", EXACT)
def test_a_value_arrives_as_it_was_sent(exact: Any, protocol: str, name: str) -> None:
    project, errors = exact(protocol)
    _, values, expected, kind = EXACT[name]
    assert errors[name] == ""
    found = [matter(row[0]) for row in raw(project, f"SELECT v FROM raw_{name}.t ORDER BY id")]
    got = types(project, f"raw_{name}.t")["v"]
    assert got in kind.split("|") or (kind == "DECIMAL" and got.startswith("DECIMAL"))
    assert found == expected or (got == "JSON" and list(map(json.loads, found)) == list(map(json.loads, values)))


# --- what no value can be made of


ODD: dict[str, tuple[str | bytes, str]] = {
    "twice": ('{"id": 2, "v": 1, "v": 2}', 'duplicate key "v"'),
    "twice_undeclared": ('{"id": 2, "x": 1, "x": 2}', 'duplicate key "x"'),
    "surrogate": ('{"id": 2, "v": 1, "w": "a\\ud800"}', "a lone surrogate"),
    "surrogate_in_a_name": ('{"id": 2, "v": 1, "\\ud800": 1}', "a lone surrogate"),
    "not_utf_8": (b'{"id": 2, "v": 1, "w": "\xff"}', "not utf-8"),
    "digits_inside": ('{"id": 2, "o": {"n": 1.234567890123456789012345}}', "more digits than a double holds"),
    "list": ("[1, 2]", "no object"),
    "word": ("5", "no object"),
    "nothing": ("null", "no object"),
}
FIELDS = {"id": INTEGER, "v": INTEGER, "w": TEXT, "o": {"type": "object"}}


def with_odd(protocol: str, odd: str | bytes, play: str) -> dict[str, str | bytes]:
    """A script with a record before and after the odd one."""
    made = files(protocol, FIELDS, ['{"id": 1, "v": 1}', '{"id": "here"}', '{"id": 3, "v": 3}'], play=play)
    text = made[f"play/{play}"]
    assert isinstance(text, str)
    return {
        **made,
        f"play/{play}": text.encode().replace(b'{"id": "here"}', odd.encode() if isinstance(odd, str) else odd),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_record_that_cannot_be_told_is_a_bad_row(make_project: MakeProject, protocol: str) -> None:
    """One source for each, and each once to fail and once to be put aside: nothing but the odd record is lost."""
    sources, there = dict[str, Any](), dict[str, str | bytes]()
    for name, (odd, _) in ODD.items():
        there |= with_odd(protocol, odd, name)
        for policy in ("fail", "quarantine"):
            sources[f"{name}_{policy}"] = source(protocol, name, streams={"t": {"on_bad_row": policy}})
    project = make_project(project_yml(sources), there)
    errors = {each.ref.source: each.error for each in project.run().streams}
    for name, (odd, said) in ODD.items():
        assert said in errors[f"{name}_fail"], name
        assert errors[f"{name}_quarantine"] == "", name
        assert raw(project, f"SELECT id, v FROM raw_{name}_quarantine.t ORDER BY id") == [(1, 1), (3, 3)], name
        rejected = raw(project, f"SELECT reason, raw FROM raw_{name}_quarantine.t__rejected")
        assert len(rejected) == 1 and said in rejected[0][0], name
        if isinstance(odd, str):
            assert rejected[0][1] == odd


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_keys_that_differ_by_case_only_are_refused(make_project: MakeProject, protocol: str) -> None:
    """DuckDB takes them for one; which of them a value belongs to nobody would know."""
    there = files(protocol, {"id": INTEGER, "v": TEXT, "V": TEXT}, [{"id": 1}], play="declared")
    there |= files(protocol, {"id": INTEGER}, [{"id": 1, "x": 1, "X": 2}], play="record")
    there |= files(protocol, {"id": INTEGER}, [{"id": 1, "x": 1}, {"id": 2, "X": 2}], play="records")
    there |= files(protocol, {"id": INTEGER, "v": INTEGER}, [{"id": 1, "V": 1}], play="other")
    names = ["declared", "record", "records", "other"]
    project = make_project(project_yml({name: source(protocol, name) for name in names}), there)
    errors = {each.ref.source: each.error for each in project.run().streams}
    assert "the connector's schema has the fields 'v' and 'V'" in errors["declared"]
    assert "the keys 'x' and 'X'" in errors["record"] and "the keys 'x' and 'X'" in errors["records"]
    assert errors["other"] == ""
    assert types(project, "raw_other.t") == {"id": "BIGINT", "v": "BIGINT"}
    assert rows(project, "raw_other.t") == [(1, 1)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_missing_is_null_and_says_nothing_of_other_columns(make_project: MakeProject, protocol: str) -> None:
    """Under merge, too: a record is the whole row."""
    properties = {"id": INTEGER, "v": TEXT, "w": TEXT, "never": {"type": ["null", "string"], "format": "date"}}
    project = make_project(
        one(protocol, mode="merge", key="id"),
        files(protocol, properties, [{"id": 1, "v": "a", "w": "b"}, {"id": 2, "v": "", "w": None}, {"id": 3}]),
    )
    run(project)
    assert types(project) == {"id": "BIGINT", "v": "VARCHAR", "w": "VARCHAR", "never": "DATE"}
    assert rows(project) == [(1, "a", "b", None), (2, "", None, None), (3, None, None, None)]
    write(project.config.root, files(protocol, properties, [{"id": 1, "w": None}, {"id": 3, "v": "c"}]))
    run(project)
    assert rows(project) == [(1, None, None, None), (2, "", None, None), (3, "c", None, None)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stream_without_a_record_has_its_columns(make_project: MakeProject, protocol: str) -> None:
    properties = {
        "id": INTEGER,
        "n": number(multipleOf=0.01),
        "o": {"type": "object"},
        "at": INSTANTS,
        "x": {},
        "b": {"type": "boolean"},
    }
    project = make_project(yml(protocol), files(protocol, properties))
    run(project)
    assert types(project) == {
        "id": "BIGINT",
        "n": "DECIMAL(38,9)",
        "o": "JSON",
        "at": "TIMESTAMP WITH TIME ZONE",
        "x": "VARCHAR",
        "b": "BOOLEAN",
    }
    assert rows(project) == []
    row = {"id": 1, "n": 1.1, "o": [1], "at": "2024-01-01T00:00:00Z", "x": {"a": 1}, "b": True}
    write(project.config.root, files(protocol, properties, [row]))
    run(project)
    assert types(project)["at"] == "TIMESTAMP WITH TIME ZONE"
    assert rows(project)[0][1:3] == (Decimal("1.1"), "[1]")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_long_lines_and_many_columns(make_project: MakeProject, protocol: str) -> None:
    start, end = record(protocol, '{"id": 2, "v": "|"}').split("|")
    long = [f"#long {size} {start}|{end}" for size in (10**6, 20 * 10**6)]
    there = files(protocol, {"id": INTEGER, "v": TEXT}, [{"id": 1, "v": "a"}, *long, {"id": 3, "v": "b"}])
    wide = {f"c{place}": (INTEGER, TEXT, NUMBER, INSTANTS)[place % 4] for place in range(2000)}
    row = {
        name: (place, f"t{place}", place + 0.5, "2024-01-01T00:00:00Z")[place % 4] for place, name in enumerate(wide)
    }
    there |= files(protocol, wide, [row, {"c7": None}, row], play="wide")
    project = make_project(project_yml({"s": source(protocol), "wide": source(protocol, "wide")}), there)
    begun = time.monotonic()
    run(project)
    assert time.monotonic() - begun < 60
    assert raw(project, "SELECT id, length(v) FROM raw_s.t ORDER BY ALL") == [
        (1, 1),
        (2, 10**6),
        (2, 20 * 10**6),
        (3, 1),
    ]
    assert len(types(project, "raw_wide.t")) == 2000
    assert raw(project, "SELECT c0, c1, c1998, c1999 IS NOT NULL FROM raw_wide.t ORDER BY ALL") == [
        (0, "t1", 1998.5, True),
        (0, "t1", 1998.5, True),
        (None, None, None, False),
    ]


# --- a value of another kind than declared, wherever it stands


MANY = 1_500
PLACES = {"first": 0, "thousandth": 999, "last": MANY - 1}
KINDS = {
    # the odd value as it is written, its text, and the type that holds it and whole numbers
    "word": ('"soon"', "soon", "VARCHAR"),
    "fraction": ("1.5", "1.5", "DECIMAL(38,1)"),
    "object": ('{"a": 1}', '{"a":1}', "VARCHAR"),
    "truth": ("true", "true", "VARCHAR"),
    "large": (str(2**63), str(2**63), "DECIMAL(38,0)"),
}
CELLS = [
    (kind, place, contract, policy)
    for kind, place in [*(("word", place) for place in PLACES), *((kind, "thousandth") for kind in list(KINDS)[1:])]
    for contract, policy in (("evolve", "fail"), ("freeze", "fail"), ("discard", "fail"), ("discard", "quarantine"))
]
LOADED = (("evolve", "fail"), ("discard", "quarantine"))


Loaded = tuple[smoll.Project, Mapping[str, StreamResult]]


@pytest.fixture(scope="module")
def cells(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[smoll.Project, Mapping[str, StreamResult]]]:
    """All cells of a protocol, loaded twice, the odd value in the second load. Those that load are one source."""
    made: dict[str, Loaded] = {}

    def lines(protocol: str, stream: str, values: Iterable[str]) -> list[str]:
        head = [schema({"id": INTEGER, "v": INTEGER}, stream)] if protocol == "singer" else []
        return [*head, *(record(protocol, f'{{"id": {place}, "v": {v}}}', stream) for place, v in enumerate(values))]

    def load(protocol: str) -> Loaded:
        if protocol in made:
            return made[protocol]
        root = tmp_path_factory.mktemp(protocol)
        sources: dict[str, Any] = {"all": source(protocol, "all", streams={})}
        first: dict[str, list[str]] = {}
        second: dict[str, list[str]] = {}
        for kind, place, contract, policy in CELLS:
            stream = f"{kind}_{place}_{contract}_{policy}"
            play = "all" if (contract, policy) in LOADED else stream
            sources.setdefault(play, source(protocol, play, streams={}))["streams"][stream] = {
                "mode": "append",
                "contract": contract,
                "on_bad_row": policy,
            }
            values = [*map(str, range(MANY))]
            values[PLACES[place]] = KINDS[kind][0]
            first.setdefault(play, []).extend(lines(protocol, stream, "123"))
            second.setdefault(play, []).extend(lines(protocol, stream, values))
        described = {"properties": {"id": INTEGER, "v": INTEGER}}
        catalogs = {
            f"play/{play}.catalog": catalog(protocol, dict.fromkeys(about["streams"], described))
            for play, about in sources.items()
        }
        scripts = {f"play/{play}": script(first[play]) for play in sources}
        write_project(root, project_yml(sources), {"tools/player.py": PLAYER, **catalogs, **scripts}, {}, {})
        project = smoll.open_project(root)
        run(project)
        write(root, {f"play/{play}": script(second[play]) for play in sources})
        results = {each.ref.stream: each for each in reopen(project).run().streams}
        made[protocol] = project, results
        return made[protocol]

    return load


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("kind", "place", "contract", "policy"), CELLS)
def test_a_value_of_another_kind_than_declared(
    cells: Any, protocol: str, kind: str, place: str, contract: str, policy: str
) -> None:
    project, results = cells(protocol)
    stream, number = f"{kind}_{place}_{contract}_{policy}", PLACES[place]
    _, shown, wider = KINDS[kind]
    loaded = (contract, policy) in LOADED
    table = f"raw_{'all' if loaded else stream}.{stream}"
    count, wanted = raw(project, f"SELECT count(*), count(v) FROM {table}")[0]
    there = raw(project, f"SELECT CAST(v AS VARCHAR) FROM {table} WHERE id = {number} AND _smoll_load_id = 2")
    if not loaded:
        assert count == 3 and types(project, table) == {"id": "BIGINT", "v": "BIGINT"}
        assert results[stream].status == "failed" and "v" in results[stream].error and shown in results[stream].error
    elif contract == "evolve":
        assert (results[stream].error, count, wanted) == ("", MANY + 3, MANY + 3)
        assert types(project, table)["v"] == wider
        assert there == [(shown,)]
    else:
        assert (results[stream].error, count) == ("", MANY + 2) and there == []
        assert types(project, table)["v"] == "BIGINT"
        rejected = raw(project, f"SELECT column_name, line, raw FROM {table}__rejected")
        assert [(name, line) for name, line, _ in rejected] == [("v", number + 1)]
        assert json.loads(rejected[0][2])["id"] in (number, str(number))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("declared", [True, False])
def test_another_column_comes(make_project: MakeProject, protocol: str, declared: bool) -> None:
    """In the schema, or in the records alone: in the last one of them."""
    before = {"id": INTEGER}
    after = {**before, "x": TEXT} if declared else before
    records = [{"id": 2}, {"id": 3, "x": "a"}]
    contracts = ("evolve", "freeze", "discard")
    sources = {name: source(protocol, streams={"t": {"mode": "append", "contract": name}}) for name in contracts}
    project = make_project(project_yml(sources), files(protocol, before, [{"id": 1}]))
    run(project)
    write(project.config.root, files(protocol, after, records))
    results = {each.ref.source: each for each in project.run().streams}
    assert results["evolve"].status == "loaded" and "x" in " ".join(results["evolve"].notes)
    assert rows(project, "raw_evolve.t") == [(1, None), (2, None), (3, "a")]
    assert results["freeze"].status == "failed" and "x" in results["freeze"].error
    assert rows(project, "raw_freeze.t") == [(1,)]
    assert results["discard"].status == "loaded" and "x" in " ".join(results["discard"].notes)
    assert rows(project, "raw_discard.t") == [(1,), (2,), (3,)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_column_goes(make_project: MakeProject, protocol: str) -> None:
    contracts = ("evolve", "freeze", "discard")
    sources = {name: source(protocol, streams={"t": {"mode": "append", "contract": name}}) for name in contracts}
    project = make_project(project_yml(sources), files(protocol, {"id": INTEGER, "x": TEXT}, [{"id": 1, "x": "a"}]))
    run(project)
    write(project.config.root, files(protocol, {"id": INTEGER}, [{"id": 2}]))
    results = {each.ref.source: each for each in project.run().streams}
    for name in ("evolve", "discard"):
        assert results[name].error == "" and rows(project, f"raw_{name}.t") == [(1, "a"), (2, None)]
    assert results["freeze"].status == "failed" and "x" in results["freeze"].error


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fixed_types_hold_whatever_is_declared(make_project: MakeProject, protocol: str) -> None:
    fixed = {"n": "DECIMAL(18,2)", "i": "VARCHAR", "d": "DOUBLE"}
    records = ['{"n": 1.10, "i": 7, "d": 1}', '{"n": 2, "i": 9007199254740993, "d": 0.1}']
    project = make_project(
        one(protocol, columns=fixed), files(protocol, {"n": NUMBER, "i": INTEGER, "d": NUMBER}, records)
    )
    run(project)
    assert types(project) == fixed
    assert rows(project) == [(Decimal("1.10"), "7", 1.0), (Decimal("2.00"), "9007199254740993", 0.1)]
    write(project.config.root, files(protocol, {"n": NUMBER}, ['{"n": 1.105}']))
    before = dump(project)
    assert "1.105" in failure(project) and dump(project) == before


ODD_SPECS: list[Any] = [
    5,
    None,
    True,
    [],
    {"type": 5},
    {"type": ["null"]},
    {"type": "date"},
    {"$ref": "#/nowhere"},
    {"$ref": 5},
    {"$ref": "#/properties/v"},
    {"anyOf": 5},
    {"anyOf": [5, {"type": "object", "properties": {"a": {"$ref": "#/properties/v"}}}]},
    {"type": "object", "properties": 5},
    {"type": "string", "format": 5},
    {"type": "string", "format": "uuid"},
    {"type": "number", "multipleOf": "x"},
    {"items": {"type": "integer"}},
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_schema_that_says_nothing_useful_costs_no_value(make_project: MakeProject, protocol: str) -> None:
    sources, there = dict[str, Any](), dict[str, str | bytes]()
    for place, spec in enumerate(ODD_SPECS):
        there |= files(
            protocol, {"id": INTEGER, "v": spec}, [{"id": 1, "v": "a"}, {"id": 2, "v": None}], play=f"p{place}"
        )
        sources[f"p{place}"] = source(protocol, f"p{place}")
    project = make_project(project_yml(sources), there)
    assert {each.ref.source: each.error for each in project.run().streams} == dict.fromkeys(sources, "")
    for name in sources:
        assert raw(project, f"SELECT id, trim(CAST(v AS VARCHAR), '\"') FROM raw_{name}.t ORDER BY id") == [
            (1, "a"),
            (2, None),
        ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_that_are_odd(make_project: MakeProject, protocol: str) -> None:
    """What no column can be called is said; all else is a column, also what smoll itself uses inside."""
    names = ['a"b', "c.d", "e f", "İ", "ß", "__smoll_head", "$", "f'g", "/h~i"]
    row = {"id": 1, **{name: name for name in names}}
    there = files(protocol, {"id": INTEGER, **dict.fromkeys(names, TEXT)}, [row], play="declared")
    there |= files(protocol, {"id": INTEGER}, [row], play="undeclared")
    there |= files(protocol, {"id": INTEGER, "": TEXT}, [{"id": 1}], play="empty")
    there |= files(protocol, {"id": INTEGER}, [{"id": 1, "a\0b": 1}], play="nul")
    deep = "[" * 50_000 + "]" * 50_000
    there |= files(protocol, {"id": INTEGER, "v": {}}, [f'{{"id": 1, "v": {deep}}}'], play="deep")
    plays = ["declared", "undeclared", "empty", "nul", "deep"]
    project = make_project(project_yml({name: source(protocol, name, naming="keep") for name in plays}), there)
    errors = {each.ref.source: each.error for each in project.run().streams}
    for name in ("declared", "undeclared"):
        assert errors[name] == ""
        assert types(project, f"raw_{name}.t") == {"id": "BIGINT", **dict.fromkeys(names, "VARCHAR")}
        assert rows(project, f"raw_{name}.t") == [(1, *names)]
    assert "fields named ''; no column can be" in errors["empty"]
    assert "'a\\x00b'; no column can be" in errors["nul"]
    assert "no whole message" in errors["deep"] and len(errors["deep"]) < 1000
