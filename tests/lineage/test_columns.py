"""From which columns a column comes, by the SQL of models over real tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import pytest

from smoll.lineage import find_lineage, personal_columns, tables_read
from smoll.model import TableRef
from smoll.transform import Graph, GraphNode

TABLES = """
create schema raw;
create table raw.orders (id int, customer int, "Amount" decimal(9,2), placed timestamp);
create table raw.customers (id int, name varchar, email varchar);
create table raw."größe 😀" (id int, "a ""b"" . c" varchar, "العمود" int);
create table main.flat (id int, note varchar);
"""
SOURCES = [
    TableRef("raw", "orders"),
    TableRef("raw", "customers"),
    TableRef("raw", "größe 😀"),
    TableRef("main", "flat"),
]


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(TABLES)
        yield connection


def graph_of(*models: GraphNode) -> Graph:
    sources = [GraphNode(str(table), str(table), "source", "", table=table) for table in SOURCES]
    return Graph({node.id: node for node in [*sources, *models]})


def model(name: str, parents: tuple[str, ...] = tuple(map(str, SOURCES)), **about: object) -> GraphNode:
    return GraphNode(name, name, "model", "", parents=parents, table=TableRef("main", name), **about)  # type: ignore[arg-type]


def columns_above(
    warehouse: duckdb.DuckDBPyConnection, path: Path, sql: str, *, create: str = ""
) -> Mapping[str, list[str]] | None:
    """The lineage of a model of this SQL, as text."""
    warehouse.execute(f"create or replace view main.m as {create or sql}")
    found = find_lineage(path, graph_of(model("m")), warehouse, {"m": sql}).above["m"]
    return None if found is None else {name: [f"{r.table}.{r.column}" for r in refs] for name, refs in found.items()}


@pytest.mark.parametrize(
    ("sql", "above"),
    [
        ('select Id, "Amount" * 2 as twice, 1 as one from raw.orders',
         {"id": ["raw.orders.id"], "twice": ["raw.orders.Amount"], "one": []}),
        ("with a as (select * from raw.orders), b as (select id, amount as x from a) select x + id as y from b",
         {"y": ["raw.orders.Amount", "raw.orders.id"]}),
        ("select * exclude (placed) replace (amount + id as amount) from raw.orders",
         {"id": ["raw.orders.id"], "customer": ["raw.orders.customer"],
          "amount": ["raw.orders.Amount", "raw.orders.id"]}),
        ("select o.id, name from raw.orders o left join raw.customers c on c.id = o.customer",
         {"id": ["raw.orders.id"], "name": ["raw.customers.name"]}),
        ("from raw.orders join raw.customers using (id) select id, email",
         {"id": ["raw.customers.id", "raw.orders.id"], "email": ["raw.customers.email"]}),
        ("select id, name as what from raw.customers union all select customer, note from raw.orders, flat",
         {"id": ["raw.customers.id", "raw.orders.customer"], "what": ["main.flat.note", "raw.customers.name"]}),
        ("select id, sum(amount) over (partition by customer order by placed) as s from raw.orders qualify s > 1",
         {"id": ["raw.orders.id"], "s": ["raw.orders.Amount", "raw.orders.customer", "raw.orders.placed"]}),
        ('select "a ""b"" . c" as "x.y" , "العمود" as "🛫" from memory.raw."größe 😀"',
         {"x.y": ['raw.größe 😀.a "b" . c'], "🛫": ["raw.größe 😀.العمود"]}),
        ("select (select max(id) from raw.customers) as most, case when exists (select 1 from flat) then id end as c "
         "from raw.orders",
         {"most": ["raw.customers.id"], "c": ["raw.orders.id"]}),
        ("with recursive r as (select id, 1 as n from raw.orders union all select id, n + 1 from r where n < 3) "
         "select id, n from r", {"id": ["raw.orders.id"], "n": []}),
        ("select c as row, concat(c, id) as both, concat(#1, id) as place, c.name.upper() || id as method, id "
         "from raw.customers c",
         {"row": [], "both": [], "place": [], "method": [], "id": ["raw.customers.id"]}),
        ("select * from raw.orders where false", {
            "id": ["raw.orders.id"], "customer": ["raw.orders.customer"], "Amount": ["raw.orders.Amount"],
            "placed": ["raw.orders.placed"]}),
    ],
)  # fmt: skip
def test_columns(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str, above: Mapping[str, list[str]]
) -> None:
    assert columns_above(warehouse, tmp_path / "l.json", sql) == above


def test_through_a_model_that_is_only_text(warehouse: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    text = model("text", ("raw.customers",), materialized="ephemeral")
    sql = "with __dbt__cte__text as (select name as n from raw.customers) select upper(n) as up from __dbt__cte__text"
    warehouse.execute(f"create table main.m as {sql}")
    found = find_lineage(tmp_path / "l.json", graph_of(text, model("m", ("text",))), warehouse, {"m": sql})
    above = found.above["m"]
    assert above is not None and [str(ref.table) + "." + ref.column for ref in above["up"]] == ["raw.customers.name"]


@pytest.mark.parametrize(
    "sql", ["select ((", "def model(dbt, session): return 1", "select " + "(" * 5000, "x" * 600_000]
)
def test_sql_that_is_not_understood(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, capfd: pytest.CaptureFixture[str], sql: str
) -> None:
    assert columns_above(warehouse, tmp_path / "l.json", sql, create="select 1 as a") is None
    assert columns_above(warehouse, tmp_path / "l.json", sql, create="select 1 as a") is None  # as it was remembered
    assert capfd.readouterr() == ("", "")


def test_it_is_remembered(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SQL and by what the tables are; a file that is damaged is as none."""
    path, sql = tmp_path / "deep" / "l.json", "select * from raw.orders"
    first = columns_above(warehouse, path, sql)
    kept = json.loads(path.read_text())
    monkeypatch.setattr("sqlglot.parse_one", lambda *_, **__: pytest.fail("it was looked for again"))
    assert columns_above(warehouse, path, sql) == first
    monkeypatch.undo()
    warehouse.execute("alter table raw.orders add column more int")
    again = columns_above(warehouse, path, sql)
    assert again is not None and again["more"] == ["raw.orders.more"]
    for damaged in ("{", "[]", json.dumps({"version": kept["version"], "known": {"a": {"b": [[1]]}}})):
        path.write_text(damaged)
        assert columns_above(warehouse, path, sql) == again


def test_the_tables_of_a_query(warehouse: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Of dashboards: what they read, and from which columns what they show comes."""
    sql = "with customers as (select * from RAW.Orders) from customers, flat where id in (select id from raw.customers)"
    assert tables_read(warehouse, sql, SOURCES) == [SOURCES[0], SOURCES[3], SOURCES[1]]
    assert tables_read(warehouse, "with flat as (select 1) from flat", SOURCES) == []
    assert tables_read(warehouse, f"select {' + '.join(['id'] * 600)} from flat", SOURCES) == []  # a tree too deep
    assert tables_read(warehouse, "selec", SOURCES) == [] == tables_read(warehouse, "from raw.gone", SOURCES)
    found = find_lineage(
        tmp_path / "l", graph_of(), warehouse, {}, {"q": "select note, count(*) as n from flat group by 1"}
    )
    above = found.above["q"]
    assert above is not None and {name: [ref.column for ref in refs] for name, refs in above.items()} == {
        "note": ["note"], "n": [],
    }  # fmt: skip


def test_personal_columns(warehouse: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """What is made of a personal column is one, too, whatever its name, unless it is of another type."""
    people = GraphNode("raw.customers", "", "source", "", table=SOURCES[1], pii=("EMAIL",))
    columns = "lower(email) as contact, id, length(email) as n, count(email) as many, {'e': any_value(email)} as boxed"
    sql = f"select {columns} from raw.customers group by all"
    warehouse.execute(f"create table main.m as {sql}")
    warehouse.execute("create table main.below as select contact || id as who from main.m")
    graph = graph_of(people, model("m"), model("below", ("m",)))
    found = find_lineage(
        tmp_path / "l", graph, warehouse, {"m": sql, "below": "select contact || id as who from main.m"}
    )
    personal = {f"{ref.table}.{ref.column}" for ref in personal_columns(graph, found)}
    assert personal == {"raw.customers.email", "main.m.contact", "main.m.boxed", "main.below.who"}
