"""The lineage of a project as one value, and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from smoll.lineage import LineageGraph, Reader, find_lineage, lineage_graph, to_json
from smoll.model import CheckResult, StreamRef, TableRef
from smoll.transform import Exposure, Graph, GraphNode
from support import MakeProject, reopen, write

ORDERS, UNREAD, STAGED, MART = (
    TableRef("raw", "orders"), TableRef("raw", "unread"), TableRef("main", "stg"), TableRef("main", "Mart"),
)  # fmt: skip
SQL = {
    "model.stg": "select id, email as contact, amount from raw.orders",
    "model.mart": 'select contact, sum(amount) as "</script>" from main.stg group by all',
    "model.odd": "select ((",
}
GRAPH = Graph(
    {
        "model.mart": GraphNode("model.mart", "mart", "model", "", table=MART, parents=("model.text", "source.orders")),
        "model.text": GraphNode(
            "model.text",
            *("text", "model", ""),
            table=TableRef("main", "text"),
            parents=("model.stg",),
            materialized="ephemeral",
        ),
        "model.stg": GraphNode("model.stg", "stg", "model", "", table=STAGED, parents=("source.orders",)),
        "model.odd": GraphNode("model.odd", "odd", "model", "", table=TableRef("main", "odd"), parents=("model.stg",)),
        "source.orders": GraphNode("source.orders", "shop.orders", "source", "", table=ORDERS, pii=("email",)),
        "test.a": GraphNode("test.a", "a", "test", "", parents=("model.stg",)),
    },
    (Exposure("exposure.app", "app", "application", ("model.mart",), title="The app"),),
)  # fmt: skip
CHECKS = [
    CheckResult("a", "a", "pass", nodes=("model.stg", "model.mart")),
    CheckResult("b", "b", "warn", nodes=("model.stg",)),
    CheckResult("c", "c", "skipped", nodes=("source.orders",)),
]


@pytest.fixture
def graph(tmp_path: Path) -> LineageGraph:
    with duckdb.connect(":memory:") as warehouse:
        warehouse.execute("create schema raw; create table raw.orders (id int, email varchar, amount int)")
        warehouse.execute("create table raw.unread (a int); create table main.odd as select 1 as x")
        warehouse.execute(f"create view main.stg as {SQL['model.stg']}")
        warehouse.execute(f'create view main."Mart" as {SQL["model.mart"]}')
        queries = {"board/1": 'select upper(contact) as who, "</script>" from mart', "board/2": "select (("}
        found = find_lineage(tmp_path / "l.json", GRAPH, warehouse, SQL, queries)
    board = Reader("dashboard/board", "Board", {"board/1": "people", "board/2": "odd"})
    return lineage_graph(
        GRAPH,
        found,
        streams={TableRef("RAW", "Orders"): StreamRef("shop", "orders"), UNREAD: StreamRef("shop", "unread")},
        released=["model.mart"],
        rows={MART: 0, ORDERS: 7},
        checks=CHECKS,
        readers=[board],
    )


def test_what_it_consists_of(graph: LineageGraph) -> None:
    """A stream and dbt's source of its table are one node; models that are only text are none."""
    nodes = {node.key: node for node in graph.nodes}
    assert {key: (node.kind, node.name, node.released, node.rows, node.state) for key, node in nodes.items()} == {
        "raw.orders": ("source", "shop.orders", False, 7, ""),
        "raw.unread": ("source", "shop.unread", False, None, ""),
        "main.stg": ("model", "stg", False, None, "warn"),
        "main.Mart": ("model", "Mart", True, 0, "pass"),
        "main.odd": ("model", "odd", False, None, ""),
        "exposure/app": ("application", "The app", False, None, ""),
        "dashboard/board": ("dashboard", "Board", False, None, ""),
    }
    assert set(graph.edges) == {
        ("raw.orders", "main.stg"), ("main.stg", "main.Mart"), ("raw.orders", "main.Mart"), ("main.stg", "main.odd"),
        ("main.Mart", "exposure/app"), ("main.Mart", "dashboard/board"),
    }  # fmt: skip
    keys = [node.key for node in graph.nodes]
    assert all(keys.index(above) < keys.index(below) for above, below in graph.edges)
    assert [column.name for column in nodes["dashboard/board"].columns] == ["people.who", "people.</script>"]


def test_what_is_not_known_is_told(graph: LineageGraph) -> None:
    notes = {node.key: node.note for node in graph.nodes if node.note}
    assert set(notes) == {"main.odd", "dashboard/board"}
    assert "its SQL could not be read" in notes["main.odd"] and "columns of odd come from" in notes["dashboard/board"]


def test_json(graph: LineageGraph) -> None:
    """Small, and complete: every column with where it comes from, by numbers."""
    found: dict[str, Any] = json.loads(json.dumps(to_json(graph, {"main.Mart": "catalog/main.mart.html"})))
    nodes = {node["key"]: node for node in found["nodes"]}
    names = [node["key"] for node in found["nodes"]]

    def above(key: str) -> dict[str, list[str]]:
        node = nodes[key]
        return {
            column: [
                f"{names[a]}.{found['nodes'][a]['columns'][b]}" for a, b in zip(pairs[::2], pairs[1::2], strict=True)
            ]
            for column, pairs in zip(node["columns"], node["above"], strict=True)
        }

    assert above("main.Mart") == {"contact": ["main.stg.contact"], "</script>": ["main.stg.amount"]}
    assert above("dashboard/board") == {
        "people.who": ["main.Mart.contact"],
        "people.</script>": ["main.Mart.</script>"],
    }
    assert nodes["main.Mart"]["link"] == "catalog/main.mart.html" and nodes["main.Mart"]["rows"] == 0
    assert nodes["raw.unread"] == {
        "key": "raw.unread", "kind": "source", "name": "shop.unread", "schema": "raw", "columns": ["a"],
        "types": ["INTEGER"],
    }  # fmt: skip
    assert [nodes[key].get("pii") for key in ("raw.orders", "main.stg", "main.Mart")] == [[1], [1], [0]]
    pairs = [(names[a], names[b]) for a, b in zip(found["edges"][::2], found["edges"][1::2], strict=True)]
    assert set(pairs) == set(graph.edges)


def test_what_an_earlier_run_built(make_project: MakeProject) -> None:
    """Its SQL is known, though dbt compiles only what it builds now."""
    models = {
        "a": "{{ config(materialized='table') }} select 1 as one, 2 as two",
        "b": "{{ config(materialized='table') }} select one + two as three from {{ ref('a') }}",
    }
    project = make_project("sources: {}", {}, models)
    project.run()
    write(project.config.root, {"transform/models/c.sql": "select three as drei from {{ ref('b') }}"})
    assert reopen(project).run(select="c").release.number == 2
    text = (project.config.root / ".smoll/releases/2/portal/data/lineage.js").read_text(encoding="utf-8")
    nodes = {node["key"]: node for node in json.loads(text.partition(" = ")[2].rstrip().rstrip(";"))["nodes"]}
    assert set(nodes) == {"main.a", "main.b", "main.c"} and not any("note" in node for node in nodes.values())
    assert nodes["main.b"]["above"] == [[0, 0, 0, 1]] and nodes["main.c"]["above"] == [[1, 0]]
