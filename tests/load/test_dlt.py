"""Sources of kind ``dlt``: what a Python function yields arrives as it is, once, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import smoll
from support import MakeProject, parquet, raw, reopen, rows, types, write

pytestmark = pytest.mark.connectors

HEAD = """
import dlt
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID
import json
"""


def yml(function: str = "code.things", **source: Any) -> str:
    return f"sources: {json.dumps({'s': {'kind': 'dlt', 'source': f'my_{function}', **source}})}\n"


def one(mode: str = "append", **options: Any) -> str:
    """A source with one stream ``t`` that says all of itself: nothing has to be asked to plan it."""
    return yml(streams={"t": {"mode": mode, **options}})


def resource(body: str, decorator: str = "") -> str:
    """A module with one resource ``t``."""
    lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
    return f"{HEAD}\n@dlt.source\ndef things():\n    @dlt.resource({decorator})\n    def t():\n{lines}\n    return t\n"


def run(project: smoll.Project, **options: Any) -> dict[str, Any]:
    """A run that must succeed; its streams by name."""
    result = project.run(**options)
    assert result.status == "ok", [result.error, *(stream.error for stream in result.streams)]
    return {stream.ref.stream: stream for stream in result.streams}


def failure(project: smoll.Project, **options: Any) -> str:
    result = project.run(**options)
    assert result.status == "failed"
    return result.error + "".join(stream.error for stream in result.streams)


EXACT: dict[str, tuple[str, list[Any], str]] = {
    "whole numbers": ("[1, -(2**63), 2**63 - 1]", [-(2**63), 1, 2**63 - 1], "BIGINT"),
    "beyond 64 bits": ("[2**64, -(2**100), 1]", [Decimal(-(2**100)), Decimal(1), Decimal(2**64)], "DECIMAL(38,0)"),
    "beyond 128 bits": ("[2**200]", [str(2**200)], "VARCHAR"),
    "doubles": ("[0.1, 1e308, 5e-324, 3.0]", [5e-324, 0.1, 3.0, 1e308], "DOUBLE"),
    "whole and broken": ("[1, 1.5]", [1.0, 1.5], "DOUBLE"),
    "broken and big": ("[1.5, 2**53 + 1]", [Decimal("1.5"), Decimal(2**53 + 1)], "DECIMAL(18,1)"),
    "infinity": ("[float('inf'), float('-inf')]", [float("-inf"), float("inf")], "DOUBLE"),
    "decimals": ("[Decimal('1.10'), Decimal('-0.5')]", [Decimal("-0.50"), Decimal("1.10")], "DECIMAL(18,2)"),
    "38 digits": (f"[Decimal('{'9' * 38}')]", [Decimal("9" * 38)], "DECIMAL(38,0)"),
    "exponents": ("[Decimal('1E+3'), Decimal('1E-3')]", [Decimal("0.001"), Decimal(1000)], "DECIMAL(18,3)"),
    "texts like numbers": ("['007', '7', '']", ["", "007", "7"], "VARCHAR"),
    "empty is not NULL": ("['', None]", ["", None], "VARCHAR"),
    "number and text": ("[7, '7', True]", ["7", "7", "true"], "VARCHAR"),
    "booleans": ("[True, False]", [False, True], "BOOLEAN"),
    "dates": ("[date(1, 1, 1), date(9999, 12, 31)]", [date(1, 1, 1), date(9999, 12, 31)], "DATE"),
    "times": ("[time(1, 2, 3, 4)]", [clock(1, 2, 3, 4)], "TIME"),
    "moments": ("[datetime(2024, 1, 1, 0, 0, 0, 1)]", [datetime(2024, 1, 1, 0, 0, 0, 1)], "TIMESTAMP"),
    "zones": (
        "[datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))]",
        [datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))],
        "TIMESTAMP WITH TIME ZONE",
    ),
    "texts like moments": (
        "['2024-01-01T00:00:00Z']",
        [datetime(2024, 1, 1, tzinfo=UTC)],
        "TIMESTAMP WITH TIME ZONE",
    ),
    "bytes": ("[b'\\x00\\xff', b'']", [b"", b"\x00\xff"], "BLOB"),
    "ids": ("[UUID(int=5)]", ["00000000-0000-0000-0000-000000000005"], "VARCHAR"),
    "nothing": ("[None]", [None], "VARCHAR"),
    "objects": ("[{'a': 1, 'b': [Decimal('1.50'), 2**70]}]", ['{"a":1,"b":["1.50",1180591620717411303424]}'], "JSON"),
    "lists and more": ("[[1], 'x']", ['"x"', "[1]"], "JSON"),
    "odd texts": ("['\\u2028\"\\\\', '\\U0001f600']", ['\u2028"\\', "\U0001f600"], "VARCHAR"),
}


def test_every_value_arrives_exactly_wherever_it_stands(make_project: MakeProject) -> None:
    body = "\n".join(
        f"""
    @dlt.resource(write_disposition='replace')
    def t{number}():
        yield [{{'v': value}} for value in {values}]
    @dlt.resource(write_disposition='replace')
    def r{number}():
        yield [{{'v': value}} for value in reversed({values})]"""
        for number, (values, _, _) in enumerate(EXACT.values())
    )
    names = ", ".join(f"t{number}, r{number}" for number in range(len(EXACT)))
    module = f"{HEAD}\n@dlt.source\ndef things():\n{body}\n    return {names}\n"
    project = make_project(yml(), {"my_code.py": module})
    run(project)
    for number, (name, (_, expected, kind)) in enumerate(EXACT.items()):
        for table in (f"raw_s.t{number}", f"raw_s.r{number}"):
            assert types(project, table) == {"v": kind}, name
            found = [row[0] for row in rows(project, table)]
            assert sorted(found, key=repr) == sorted(expected, key=repr), name


def test_nan_is_not_null(make_project: MakeProject) -> None:
    project = make_project(one(), {"my_code.py": resource("yield [{'v': float('nan')}, {'v': 1}, {'v': None}]")})
    run(project)
    assert raw(project, "SELECT count(*) FROM raw_s.t WHERE isnan(v)") == [(1,)]
    assert raw(project, "SELECT count(*) FROM raw_s.t WHERE v IS NULL") == [(1,)]


def test_types_of_a_later_run_widen_the_column_and_lose_nothing(make_project: MakeProject) -> None:
    code = resource("yield json.loads(Path('rows.json').read_text())")
    project = make_project(one(), {"my_code.py": code, "rows.json": '[{"v": 1}, {"v": 2}]'})
    run(project)
    write(project.config.root, {"rows.json": '[{"v": 1.5}]'})
    run(project)
    assert types(project) == {"v": "DOUBLE"}
    write(project.config.root, {"rows.json": '[{"v": "007", "w": true}]'})
    run(project)
    assert types(project) == {"v": "VARCHAR", "w": "BOOLEAN"}
    assert rows(project) == [("007", True), ("1.0", None), ("1.5", None), ("2.0", None)]


def test_records_that_are_no_objects_become_a_column_and_odd_keys_stay(make_project: MakeProject) -> None:
    project = make_project(
        yml(naming="keep", streams=["t"]),
        {"my_code.py": resource("yield [1, 2]\nyield {'Ört \"1\"': 1, '_id': 2, 'id': 3, 'a.b': 4}")},
    )
    run(project)
    assert types(project) == {"value": "BIGINT", 'Ört "1"': "BIGINT", "_id": "BIGINT", "id": "BIGINT", "a.b": "BIGINT"}


def test_names_are_snake_case_and_the_underscore_at_the_front_stays(make_project: MakeProject) -> None:
    project = make_project(one(), {"my_code.py": resource("yield {'orderId': 1, '_id': 2, 'id': 3, 'a.b': 4}")})
    run(project)
    assert list(types(project)) == ["order_id", "_id", "id", "a_b"]


def test_mode_and_key_come_from_the_resource_and_the_options_win(make_project: MakeProject) -> None:
    module = (
        HEAD
        + """
@dlt.source
def things():
    step = int(Path('step').read_text())
    def of(name, **hints):
        return dlt.resource([{'id': 1, 'v': step}, {'id': 2, 'v': 0}], name=name, **hints)
    return [
        of('appended', write_disposition='append'),
        of('replaced', write_disposition='replace'),
        of('merged', write_disposition='merge', primary_key='id'),
        of('versions', write_disposition={'disposition': 'merge', 'strategy': 'scd2'}, primary_key='id'),
        of('chosen', write_disposition='append'),
    ]
"""
    )
    streams = {"*": {}, "chosen": {"mode": "merge", "key": "id", "table": "picked"}}
    project = make_project(yml(streams=streams), {"my_code.py": module, "step": "1"})
    run(project)
    write(project.config.root, {"step": "2"})
    done = run(project)
    assert {name: stream.mode for name, stream in done.items()} == {
        "appended": "append",
        "replaced": "replace",
        "merged": "merge",
        "versions": "scd2",
        "chosen": "merge",
    }
    assert rows(project, "raw_s.appended") == [(1, 1), (1, 2), (2, 0), (2, 0)]
    for table in ("replaced", "merged", "picked"):
        assert rows(project, f"raw_s.{table}") == [(1, 2), (2, 0)]
    assert raw(project, "SELECT id, v, _smoll_current FROM raw_s.versions ORDER BY ALL") == [
        (1, 1, False),
        (1, 2, True),
        (2, 0, True),
    ]


@pytest.mark.parametrize(
    ("decorator", "said"),
    [
        ("write_disposition='merge'", "needs a key"),
        ("write_disposition={'disposition': 'merge', 'strategy': 'insert-only'}, primary_key='id'", "insert-only"),
    ],
)
def test_what_cannot_be_written_as_dlt_says_is_refused_before_anything_is_read(
    make_project: MakeProject, decorator: str, said: str
) -> None:
    project = make_project(yml(), {"my_code.py": resource("Path('read').touch()\nyield {'id': 1}", decorator)})
    assert said in failure(project)
    assert not (project.config.root / "read").exists()


INCREMENTAL = (
    HEAD
    + """
@dlt.source
def things():
    @dlt.resource(primary_key='id')
    def t(at=dlt.sources.incremental('at')):
        data = json.loads(Path('rows.json').read_text())
        yield [row for row in data if at.last_value is None or row['at'] >= at.last_value]
        if Path('die').exists():
            raise RuntimeError('it broke off')
    @dlt.transformer(data_from=t)
    def below(items):
        yield [{'of': item['id']} for item in items]
    @dlt.resource
    def counted():
        state = dlt.current.resource_state()
        state['n'] = state.get('n', 0) + 1
        yield {'n': state['n']}
    @dlt.resource(selected=False)
    def hidden():
        yield {'n': 1}
    return t, below, counted, hidden
"""
)


def data(*ids: int) -> str:
    return json.dumps([{"id": id, "at": f"2024-01-{id // 2 + 1:02}"} for id in ids])


def test_an_incremental_resource_goes_on_where_the_last_committed_run_ended(make_project: MakeProject) -> None:
    project = make_project(yml(), {"my_code.py": INCREMENTAL, "rows.json": data(1, 2)})
    assert set(run(project)) == {"t", "below", "counted"}
    write(project.config.root, {"rows.json": data(1, 2, 3, 4), "die": ""})
    assert "s.t: RuntimeError: it broke off (my_code.py, line " in failure(project)
    (project.config.root / "die").unlink()
    run(reopen(project))
    run(reopen(project))
    assert [row[0] for row in rows(project)] == [1, 2, 3, 4]
    assert [row[0] for row in rows(project, "raw_s.below")] == [1, 2, 3, 4]
    assert [row[0] for row in rows(project, "raw_s.counted")] == [1, 2, 3]


def select(project: smoll.Project, *streams: str) -> None:
    """Load only these streams: the selection is dbt's, so the project has a model on each."""
    result = project.run(select=" ".join(f"source:s.{stream}" for stream in streams))
    assert result.status == "ok", [result.error, *(stream.error for stream in result.streams)]
    assert {stream.ref.stream for stream in result.streams} == set(streams)


def test_a_selected_stream_takes_nothing_from_the_others(make_project: MakeProject) -> None:
    """`below` is fed by `t`: it has to see what came while only `t` was loaded."""
    project = make_project(yml(), {"my_code.py": INCREMENTAL, "rows.json": data(1, 2)}, {"m": "select 1 as x"})
    run(project)
    write(project.config.root, {"rows.json": data(1, 2, 3, 4)})
    select(project, "t")
    select(project, "counted")
    assert [row[0] for row in rows(project)] == [1, 2, 3, 4]
    assert [row[0] for row in rows(project, "raw_s.below")] == [1, 2]
    run(project)
    assert [row[0] for row in rows(project)] == [1, 2, 3, 4]
    assert [row[0] for row in rows(project, "raw_s.below")] == [1, 2, 3, 4]
    assert [row[0] for row in rows(project, "raw_s.counted")] == [1, 2, 3]


def test_a_reloaded_stream_forgets_its_own_state_only(make_project: MakeProject) -> None:
    project = make_project(yml(), {"my_code.py": INCREMENTAL, "rows.json": data(1, 2)})
    run(project)
    write(project.config.root, {"rows.json": data(2, 3)})
    run(project, reload=["s.t"])
    assert [row[0] for row in rows(project)] == [2, 3]
    assert [row[0] for row in rows(project, "raw_s.below")] == [1, 2, 3]
    assert [row[0] for row in rows(project, "raw_s.counted")] == [1, 2]


NESTED = """
data = json.loads(Path('rows.json').read_text())
yield data
"""
ORDERS: list[dict[str, Any]] = [
    {"id": 1, "to": {"city": "Ghent", "geo": {"lat": 1.5}}, "lines": [{"sku": "a", "n": [1, 2]}, {"sku": "b"}]},
    {"id": 2, "to": None, "lines": [], "tags": ["x"]},
]
WITH_LINES = """SELECT o.id, l._dlt_list_idx, l.sku FROM raw_s.t o JOIN raw_s.t__lines l
    ON l._dlt_root_id = o._dlt_id AND l._dlt_parent_id = o._dlt_id ORDER BY ALL"""


def orders(*ids: int, lines: tuple[str, ...] = ("a", "b")) -> str:
    return json.dumps([{"id": id, "lines": [{"sku": sku} for sku in lines]} for id in ids])


def test_nested_data_as_json_is_the_default(make_project: MakeProject) -> None:
    project = make_project(one(), {"my_code.py": resource(NESTED), "rows.json": json.dumps(ORDERS)})
    run(project)
    assert types(project) == {"id": "BIGINT", "to": "JSON", "lines": "JSON", "tags": "JSON"}
    found = raw(project, 'SELECT id, "to", lines, tags FROM raw_s.t ORDER BY id')
    assert [
        [value if value is None or isinstance(value, int) else json.loads(value) for value in row] for row in found
    ] == [[row["id"], row["to"], row["lines"], row.get("tags")] for row in ORDERS]


def test_nested_data_as_struct_grows_with_its_fields(make_project: MakeProject) -> None:
    files = {"my_code.py": resource(NESTED), "rows.json": json.dumps(ORDERS)}
    project = make_project(one(nested="struct"), files)
    run(project)
    assert types(project) == {
        "id": "BIGINT",
        "to": "STRUCT(city VARCHAR, geo STRUCT(lat DOUBLE))",
        "lines": "STRUCT(sku VARCHAR, n BIGINT[])[]",
        "tags": "VARCHAR[]",
    }
    assert raw(project, 'SELECT "to".geo.lat, lines[1].n FROM raw_s.t WHERE id = 1') == [(1.5, [1, 2])]
    write(project.config.root, {"rows.json": '[{"id": 3, "to": {"zip": "9000"}, "tags": []}]'})
    run(project)
    write(
        project.config.root, {"rows.json": '[{"id": 4, "to": {"a-b": {"N": null}, "zip": "1"}, "lines": [{"n": [3]}]}]'}
    )
    run(project)
    run(project)
    assert types(project)["to"] == 'STRUCT(city VARCHAR, geo STRUCT(lat DOUBLE), zip VARCHAR, "a-b" STRUCT(N JSON))'
    assert raw(project, 'SELECT "to".city, "to".zip FROM raw_s.t ORDER BY id') == [
        ("Ghent", None),
        (None, None),
        (None, "9000"),
        (None, "1"),
        (None, "1"),
    ]


def test_a_number_that_a_struct_would_round_is_refused(make_project: MakeProject) -> None:
    values = ["[1.5,9007199254740993]", "[99999999999999999999]", "[18446744073709551615]"]
    body = "".join(f"@dlt.resource\ndef f{number}():\n    yield {{'v': {v}}}\n" for number, v in enumerate(values))
    sources = {
        f"s{number}": {
            "kind": "dlt",
            "source": f"my_code.f{number}",
            "nested": "struct",
            "streams": {f"f{number}": {"mode": "append"}},
        }
        for number in range(len(values))
    }
    project = make_project(f"sources: {json.dumps(sources)}\n", {"my_code.py": HEAD + body})
    result = project.run()
    assert ["Set nested: json" in stream.error for stream in result.streams] == [True] * len(values)
    run(reopen(project, f"sources: {json.dumps(sources).replace('struct', 'json')}\n"))
    assert [rows(project, f"raw_s{number}.f{number}") for number in range(len(values))] == [[(v,)] for v in values]


def test_nested_lists_become_tables_that_are_linked_to_their_parents(make_project: MakeProject) -> None:
    files = {"my_code.py": resource(NESTED), "rows.json": json.dumps(ORDERS)}
    project = make_project(one(nested="tables"), files)
    done = run(project)
    assert set(done) == {"t", "t__lines", "t__lines__n", "t__tags"}
    assert types(project) == {
        "id": "BIGINT",
        "to__city": "VARCHAR",
        "to__geo__lat": "DOUBLE",
        "_dlt_id": "VARCHAR",
        "to": "VARCHAR",
    }
    assert raw(project, WITH_LINES) == [(1, 0, "a"), (1, 1, "b")]
    assert raw(project, "SELECT value FROM raw_s.t__lines__n ORDER BY _dlt_list_idx") == [(1,), (2,)]
    assert raw(project, "SELECT count(DISTINCT _smoll_load_id) FROM raw_s.t__tags") == [(1,)]


FOLLOWED: dict[str, list[Any]] = {
    "append": [(1, 0, "a"), (1, 1, "b"), (2, 0, "a"), (2, 0, "c"), (2, 1, "b"), (3, 0, "c")],
    "replace": [(2, 0, "c"), (3, 0, "c")],
    "merge": [(1, 0, "a"), (1, 1, "b"), (2, 0, "c"), (3, 0, "c")],
}


def test_children_follow_their_parents(make_project: MakeProject) -> None:
    sources = {
        mode: {
            "kind": "dlt",
            "source": "my_code.things",
            "schema": mode,
            "nested": "tables",
            "streams": {"t": {"mode": mode, **({"key": "id"} if mode == "merge" else {})}},
        }
        for mode in FOLLOWED
    }
    text = f"sources: {json.dumps(sources)}\n"
    project = make_project(text, {"my_code.py": resource(NESTED), "rows.json": orders(1, 2)})
    run(project)
    write(project.config.root, {"rows.json": orders(2, 3, lines=("c",))})
    run(project)
    for mode, expected in FOLLOWED.items():
        assert raw(project, WITH_LINES.replace("raw_s", mode)) == expected
    write(project.config.root, {"rows.json": orders(1, 2, 3, lines=())})
    run(project)
    assert raw(project, WITH_LINES.replace("raw_s", "append")) == FOLLOWED["append"]
    assert raw(project, "SELECT count(*) FROM append.t__lines UNION ALL FROM replace.t__lines SELECT count(*)") == [
        (6,),
        (0,),
    ]
    assert raw(project, "SELECT count(*) FROM merge.t__lines") == [(0,)]


def test_children_of_rows_that_are_gone_or_were_overtaken_are_gone(make_project: MakeProject) -> None:
    spec = one("merge", key="id", nested="tables", deletes="detect")
    project = make_project(spec, {"my_code.py": resource(NESTED), "rows.json": orders(1, 2)})
    run(project)
    twice = [*json.loads(orders(2, lines=("x",))), *json.loads(orders(2, lines=("y",)))]
    write(project.config.root, {"rows.json": json.dumps(twice)})
    run(project)
    assert raw(project, WITH_LINES) == [(2, 0, "y")]
    assert raw(project, "SELECT sku FROM raw_s.t__lines") == [("y",)]


def test_two_streams_that_would_be_one_table_are_refused(make_project: MakeProject) -> None:
    module = (
        HEAD
        + """
@dlt.source
def things():
    return [dlt.resource([{'id': 1, 'lines': [1], 'Lines': [2]}], name='t'), dlt.resource([{'id': 1}], name='t__lines')]
"""
    )
    project = make_project(yml(nested="tables"), {"my_code.py": module})
    assert "s.t__lines is a stream, and the further table of another one too" in failure(project)
    project = reopen(project, yml(nested="tables", streams=["t"]))
    assert "s.t__Lines and s.t__lines would both load into raw_s.t__lines" in failure(project)


def test_a_stream_that_has_no_row_yet_is_an_empty_table_of_no_binding_type(make_project: MakeProject) -> None:
    code = resource("yield json.loads(Path('rows.json').read_text())")
    spec = one("merge", key="id", cursor="at", columns={"v": "DOUBLE"}, allow_empty=True)
    project = make_project(spec, {"my_code.py": code, "rows.json": "[]"})
    run(project)
    assert rows(project) == []
    write(project.config.root, {"rows.json": '[{"id": 1, "at": "2024-01-01", "v": 1}]'})
    run(project)
    assert types(project) == {"id": "BIGINT", "at": "DATE", "v": "DOUBLE"}
    write(project.config.root, {"rows.json": "[]"})
    run(project)
    assert rows(project) == [(1, date(2024, 1, 1), 1.0)]


def test_state_without_rows_is_kept_and_nothing_is_said_of_columns(make_project: MakeProject) -> None:
    code = resource("""
state = dlt.current.resource_state()
state['runs'] = state.get('runs', 0) + 1
yield [{'id': state['runs'], 'v': 1.5}] if state['runs'] != 2 else []""")
    streams = {"t": {"mode": "merge", "key": "id", "columns": {"v": "DOUBLE"}}}
    project = make_project(yml(streams=streams), {"my_code.py": code})
    for _ in range(3):
        assert run(project)["t"].notes == ()
    assert rows(project) == [(1, 1.5), (3, 1.5)]


def test_children_are_reloaded_with_their_parent(make_project: MakeProject) -> None:
    project = make_project(one(nested="tables"), {"my_code.py": resource(NESTED), "rows.json": orders(1)})
    run(project)
    run(project, reload=["s.t"])
    assert raw(project, WITH_LINES) == [(1, 0, "a"), (1, 1, "b")]
    write(project.config.root, {"rows.json": orders(1, lines=())})
    run(project, reload=["s"])
    assert raw(project, "SELECT count(*) FROM raw_s.t__lines") == [(0,)]


def test_a_resource_that_chooses_its_tables(make_project: MakeProject) -> None:
    code = resource(NESTED, "table_name=lambda item: item['kind']")
    first = [{"kind": "Aa", "id": 1, "l": [1]}]
    second = [{"kind": "Aa", "id": 1, "l": [2]}, {"kind": "b", "id": 1}, {"kind": "t", "id": 5}]
    files = {"my_code.py": code, "rows.json": json.dumps(first)}
    for mode, found in (("merge", [(1, [2])]), ("append", [(1, [1]), (1, [2])])):
        key = {"key": "id"} if mode == "merge" else {}
        project = make_project(one(mode, nested="tables", **key), files)
        assert {"t__aa", "t__aa__l"} <= set(run(project))
        write(project.config.root, {"rows.json": json.dumps(second)})
        assert {"t", "t__aa", "t__aa__l", "t__b"} <= set(run(project))
        joined = """SELECT a.id, list(l.value) FROM raw_s.t__aa a JOIN raw_s.t__aa__l l ON l._dlt_root_id = a._dlt_id
            GROUP BY a._dlt_id, a.id ORDER BY ALL"""
        assert raw(project, joined) == found
        assert raw(project, "SELECT id FROM raw_s.t") == [(5,)]
        run(project, reload=["s"])
        assert raw(project, joined) == [(1, [2])]


@pytest.mark.parametrize("count", ["0", "2"])
def test_parquet_that_a_source_hands_over_keeps_its_types(make_project: MakeProject, count: str) -> None:
    """So does dlt with tables of Arrow and data frames."""
    code = resource(
        f"""
from dlt.extract.extractors import with_file_import
yield with_file_import(str(Path('t.parquet').resolve()), 'parquet', {count})""",
    )
    project = make_project(one("replace"), {"my_code.py": code})
    sql = "SELECT 1::UTINYINT AS a, 1.10::DECIMAL(38,2) AS b, {'c': [1]} AS d UNION ALL SELECT 2::UTINYINT, 2, NULL"
    parquet(sql, project.config.root / "t.parquet")
    run(project)
    assert types(project) == {"a": "UTINYINT", "b": "DECIMAL(38,2)", "d": "JSON"}
    assert rows(project) == [(1, Decimal("1.10"), '{"c":[1]}'), (2, Decimal("2.00"), None)]
    run(reopen(project, one("replace", nested="struct")), reload=["s"])
    assert types(project)["d"] == "STRUCT(c INTEGER[])"
    assert "cannot become a table" in failure(reopen(project, one("replace", nested="tables")))


def test_files_of_other_kinds_are_refused(make_project: MakeProject) -> None:
    code = resource("from dlt.extract.extractors import with_file_import\nyield with_file_import('t.csv', 'csv', 1)")
    project = make_project(one(), {"my_code.py": code, "t.csv": "a\n1\n"})
    assert "s.t: yields files of the kind .csv" in failure(project)


def test_a_replaced_stream_without_rows_is_guarded_and_an_appended_one_is_unchanged(make_project: MakeProject) -> None:
    code = resource("yield json.loads(Path('rows.json').read_text())")
    project = make_project(one("replace"), {"my_code.py": code, "rows.json": '[{"v": 1}]'})
    run(project)
    write(project.config.root, {"rows.json": "[]"})
    assert "allow_empty" in failure(project)
    assert rows(project) == [(1,)]
    run(reopen(project, one("replace", allow_empty=True)))
    assert rows(project) == []


WRONG = {
    "nothing": (None, "there is no module 'my_nothing'"),
    "nofunction": ("x = 1", "my_nofunction has no function 'things'"),
    "missing": ("import nowhere_to_be_found", "needs the module 'nowhere_to_be_found'"),
    "number": ("def things(): return 3", "gave a int, and no dlt source"),
    "syntax": ("def things(:", "SyntaxError"),
    "exit": ("raise SystemExit(3)", "SystemExit"),
    "dies": (resource("import os; os._exit(3)"), "ended without an answer"),
    "nokey": (resource("yield {'': 1}"), "t: the data has keys named ''; no column can be"),
    "case": (resource("yield {'a': 1, 'A': 2}"), "the keys 'a' and 'A'"),
    "surrogate": (resource("yield {'a': '\\ud800'}"), "t: a record holds a text"),
    "object": (resource("yield {'a': object()}"), "t: TypeError"),
    "circle": (resource("d = {}; d['d'] = d\nyield d"), "t: a record contains itself"),
}


def test_what_is_wrong_with_a_source_is_said_in_one_sentence(make_project: MakeProject) -> None:
    sources = {
        name: {"kind": "dlt", "source": f"my_{name}.things", "streams": {"t": {"mode": "append"}}} for name in WRONG
    }
    files = {f"my_{name}.py": code for name, (code, _) in WRONG.items() if code}
    result = make_project(f"sources: {json.dumps(sources)}\n", files).run()
    told = {stream.ref.source: stream.error for stream in result.streams}
    for name, (_, said) in WRONG.items():
        assert told[name].startswith(name) and said in told[name]
        assert "Traceback" not in told[name] and "site-packages" not in told[name]


def test_a_function_that_misses_a_secret_says_which_and_toml_of_the_project_gives_it(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = HEAD + "\n@dlt.resource\ndef things(api_key: str = dlt.secrets.value):\n    yield {'got': api_key}\n"
    home = tmp_path / "home"
    write(home, {".dlt/secrets.toml": 'api_key = "from-home"'})
    monkeypatch.setenv("HOME", str(home))
    project = make_project(yml(), {"my_code.py": module})
    assert "api_key" in failure(project)
    write(project.config.root, {".dlt/secrets.toml": 'api_key = "from-project"'})
    run(project)
    assert raw(project, "SELECT got FROM raw_s.things") == [("from-project",)]
    assert sorted(path.name for path in home.rglob("*")) == [".dlt", "secrets.toml"]


def test_secrets_are_in_no_message(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    module = (
        HEAD
        + """
@dlt.resource
def things(api_key, password, other=dlt.secrets.value):
    raise RuntimeError(f'{api_key} and {password} and {other} for http://h/x?token=hunter5')
    yield
"""
    )
    monkeypatch.setenv("SOME_KEY", "hunter22")
    text = """sources: {s: {kind: dlt, source: my_code.things,
        config: {api_key: "${SOME_KEY}", password: hunter33}}}\n"""
    files = {"my_code.py": module, ".dlt/secrets.toml": 'other = "hunter44"'}
    project = make_project(text, files)
    said = failure(project)
    assert "RuntimeError: *** and *** and *** for http://h/x" in said
    kept = b"".join(path.read_bytes() for path in project.config.root.joinpath(".smoll").rglob("*") if path.is_file())
    assert b"hunter" not in said.encode() + kept


def test_typed_values_reach_the_function_as_yaml_has_them(make_project: MakeProject) -> None:
    module = HEAD + "\n@dlt.resource\ndef things(**given):\n    yield {'got': repr(given)}\n"
    text = """
sources:
  s:
    kind: dlt
    source: my_code.things
    config: {a: 1, b: 1.5, c: true, d: null, e: "1", l: [1, x], g: {h: no}, i: "${NOT_SET:-5}"}
"""
    project = make_project(text, {"my_code.py": module})
    run(project)
    expected = {"a": 1, "b": 1.5, "c": True, "d": None, "e": "1", "l": [1, "x"], "g": {"h": "no"}, "i": "5"}
    assert raw(project, "SELECT got FROM raw_s.things") == [(repr(expected),)]


def test_edited_code_counts_in_the_same_process_and_nothing_is_printed_or_left(
    make_project: MakeProject, capfd: pytest.CaptureFixture[str]
) -> None:
    project = make_project(one(), {"my_code.py": resource("print('noise')\nyield {'v': 1}")})
    run(project)
    write(project.config.root, {"my_code.py": resource("print('noise')\nyield {'v': 2}")})
    run(project)
    assert rows(project) == [(1,), (2,)]
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in project.config.root.iterdir()) == [".smoll", "my_code.py", "smoll.yml"]
    assert list((project.config.root / ".smoll" / "tmp").iterdir()) == []


def test_two_sources_of_one_run_do_not_meet(make_project: MakeProject) -> None:
    code = resource("state = dlt.current.source_state()\nstate['n'] = state.get('n', 0) + 1\nyield {'n': state['n']}")
    text = "sources: {a: {kind: dlt, source: my_code.things}, b: {kind: dlt, source: my_code.things}}\n"
    project = make_project(text, {"my_code.py": code})
    run(project)
    run(project)
    assert rows(project, "raw_a.t") == rows(project, "raw_b.t") == [(1,), (2,)]


def test_columns_that_the_source_declares(make_project: MakeProject) -> None:
    columns = (
        "columns={'nN': {'data_type': 'decimal'}, 'd': {'data_type': 'double'}, 'j': {'data_type': 'json'}, "
        "'x': {'data_type': 'text'}, 't': {'data_type': 'bigint'}}"
    )
    code = resource("yield {'nN': 1, 'd': 2, 'j': {'a': [1]}, 'x': 5, 't': '007'}", columns)
    project = make_project(yml(nested="tables"), {"my_code.py": code})
    assert set(run(project)) == {"t"}
    assert list(types(project).values())[:5] == ["DECIMAL(18,0)", "DOUBLE", "JSON", "VARCHAR", "VARCHAR"]


def test_earlier_streams_stand_in_for_a_source_that_cannot_be_made(make_project: MakeProject) -> None:
    files = {"my_code.py": resource("yield {'v': 1}"), "data/u.csv": "v\n1\n"}
    both = yml().replace("sources: {", 'sources: {"f": {"kind": "files", "streams": {"u": "data/u.csv"}}, ')
    project = make_project(both, files, {"m": "select * from {{ source('f', 'u') }}"})
    run(project)
    write(project.config.root, {"my_code.py": "raise RuntimeError('gone')"})
    assert project.run(select="source:f+").status == "ok"
    assert "RuntimeError: gone" in failure(project)


KILLED = """
import os, signal, sys
import smoll, smoll.connectors.dlt as connector, smoll.load.stream as stream
root, where = sys.argv[1], sys.argv[2]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if where == 'extracted':
    connector._results = die
elif where == 'written':
    stream.write_state = die
elif where == 'committing':
    before = stream.transaction
    from contextlib import contextmanager
    @contextmanager
    def transaction(*given):
        with before(*given):
            yield
            die()
    stream.transaction = transaction
elif where == 'committed':
    import smoll.load.sources as sources
    done = sources.load_together
    def load_together(*given, **named):
        done(*given, **named)
        die()
    sources.load_together = load_together
smoll.open_project(root).run()
"""


@pytest.mark.parametrize("where", ["extracting", "extracted", "written", "committing", "committed"])
def test_a_killed_run_neither_loses_nor_doubles_a_row(make_project: MakeProject, where: str, tmp_path: Path) -> None:
    module = INCREMENTAL.replace(
        "if Path('die').exists():",
        "if Path('die').exists():\n            Path('here').touch(); import time; time.sleep(60)",
    )
    streams = {name: {"mode": "append"} for name in ("t", "below", "counted")}
    files = {"my_code.py": module, "rows.json": data(1, 2)}
    project = make_project(yml(nested="tables", streams=streams), files)
    run(project)
    root = project.config.root
    write(root, {"rows.json": data(1, 2, 3, 4), **({"die": ""} if where == "extracting" else {})})
    (tmp_path / "killed.py").write_text(KILLED)
    child = subprocess.Popen([sys.executable, str(tmp_path / "killed.py"), str(root), where])
    if where == "extracting":
        wait_for((root / "here").exists)
        child.kill()
    assert child.wait(60) == -signal.SIGKILL
    if where == "extracting":
        wait_for(lambda: not workers(root))  # it does not go on reading for nobody
        (root / "die").unlink()
    run(reopen(project))
    assert [row[0] for row in rows(project)] == [1, 2, 3, 4]
    assert [row[0] for row in rows(project, "raw_s.below")] == [1, 2, 3, 4]
    assert list((root / ".smoll" / "tmp").iterdir()) == []


def workers(root: Path) -> list[str]:
    import psutil  # type: ignore[import-untyped]

    return [
        str(process.pid)
        for process in psutil.process_iter(["cmdline", "cwd"])
        if any("dlt_worker" in part for part in process.info["cmdline"] or ()) and process.info["cwd"] == str(root)
    ]


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ctrl_c_ends_a_source_that_hangs(make_project: MakeProject, tmp_path: Path) -> None:
    code = resource("Path('here').touch()\nimport time\ntime.sleep(60)\nyield {'v': 1}")
    project = make_project(one(), {"my_code.py": code})
    root = project.config.root
    script = (
        "import signal, sys, smoll; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "sys.exit(smoll.open_project(sys.argv[1]).run().status == 'interrupted')"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(root)])
    wait_for((root / "here").exists)
    os.kill(child.pid, signal.SIGINT)
    assert child.wait(20) == 1
    assert workers(root) == []


def test_dlt_is_imported_by_no_command_that_does_not_need_it() -> None:
    script = "import sys, smoll.api, smoll.connectors, smoll.load; sys.exit('dlt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_dbt_knows_the_tables_of_nested_lists_from_the_first_run_on(make_project: MakeProject) -> None:
    model = (
        "select l.sku from {{ source('s', 't') }} t join {{ source('s', 't__lines') }} l on l._dlt_root_id = t._dlt_id"
    )
    files = {"my_code.py": resource(NESTED), "rows.json": orders(1)}
    project = make_project(one("replace", nested="tables"), files, {"marts/m": model})
    for _ in range(2):
        run(project)
        with project.connect() as connection:
            assert connection.execute("SELECT sku FROM m ORDER BY 1").fetchall() == [("a",), ("b",)]
    assert project.run(select="m").status == "ok"
