"""The lineage of a whole project as one value, and as the JSON that the portal draws."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from smoll.lineage.columns import Above, ColumnLineage, ColumnRef
from smoll.lineage.personal import in_order, personal_columns
from smoll.model import CheckResult, Column, StreamRef, TableRef
from smoll.transform import Graph, GraphNode

State = Literal["", "pass", "warn", "fail"]
_STATES: Mapping[str, State] = {"pass": "pass", "warn": "warn", "fail": "fail", "error": "fail"}
_WORST: Sequence[State] = ("", "pass", "warn", "fail")
_NOT_UNDERSTOOD = "Where its columns come from is not known: its SQL could not be read."
_NO_SQL = "Where its columns come from is not known: it is not SQL, or what dbt ran is there no more."


@dataclass(frozen=True)
class Reader:
    """What reads released tables: a dashboard of the portal.

    ``key`` is unique and holds no dot, as in ``dashboard/delays``. ``queries`` are the names under which `find_lineage`
    was asked for its SQL, with the name of each query on the page.
    """

    key: str
    title: str
    queries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LineageNode:
    """A table, or what is made of tables.

    ``key`` tells it apart and stays from release to release: ``schema.table``, or the reader's. ``kind`` is ``source``,
    ``model``, ``seed``, ``snapshot``, ``dashboard`` or another of dbt's exposures. ``released``: readers see it.
    ``state`` is the worst of its checks, "" without any. ``above`` are the columns by which column it is made of; None
    where that is not known, and ``note`` says why. ``pii`` are the columns that are personal.
    """

    key: str
    kind: str
    name: str
    schema: str = ""
    released: bool = False
    rows: int | None = None
    state: State = ""
    columns: tuple[Column, ...] = ()
    above: Above | None = None
    pii: frozenset[str] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class LineageGraph:
    """Everything, in an order in which parents come first. ``edges`` are pairs of keys: from, to."""

    nodes: tuple[LineageNode, ...]
    edges: tuple[tuple[str, str], ...]


def lineage_graph(
    graph: Graph,
    found: ColumnLineage,
    *,
    streams: Mapping[TableRef, StreamRef],
    released: Collection[str],
    rows: Mapping[TableRef, int],
    checks: Iterable[CheckResult] = (),
    readers: Sequence[Reader] = (),
) -> LineageGraph:
    """Put together what a project consists of.

    Parameters
    ----------
    found
        The columns, as `find_lineage` gives them for the models of the graph and for the readers' queries.
    streams
        What is loaded, by its table; a stream that nothing reads is a node, too.
    released
        The dbt ids of what a release holds.
    rows
        As far as they are known.
    """
    states = _states(checks)
    personal = personal_columns(graph, found)
    nodes: dict[str, LineageNode] = {}
    of_table: dict[str, str] = {}

    def add_table(table: TableRef, kind: str, name: str, about: GraphNode | None) -> str:
        key = of_table.setdefault(str(table).lower(), str(table))
        if key not in nodes:
            above, note = _above(about, found)
            nodes[key] = LineageNode(
                key=key,
                kind=kind,
                name=name,
                schema=table.schema,
                released=about is not None and about.id in released,
                rows=rows.get(table),
                state=states.get(about.id, "") if about else "",
                columns=found.columns(table),
                above=above,
                pii=frozenset(ref.column for ref in personal if ref.table == table),
                note=note,
            )
        return key

    keys: dict[str, str] = {}
    loaded = {str(table).lower(): ref for table, ref in streams.items()}
    for node in in_order(graph):
        if node.table is not None and not node.is_check and node.materialized != "ephemeral":
            stream = loaded.get(str(node.table).lower())
            name = str(stream) if stream else node.name if node.kind == "source" else node.table.name
            keys[node.id] = add_table(node.table, node.kind, name, node)
    for table, ref in sorted(streams.items()):
        add_table(table, "source", str(ref), None)

    edges = {(key, keys[id]): None for id in keys for key in _keys_above(graph, graph.nodes[id], keys)}
    for exposure in graph.exposures:
        key = f"exposure/{exposure.name}"
        nodes[key] = LineageNode(key, exposure.kind, exposure.title or exposure.name)
        edges |= {(above, key): None for id in exposure.parents for above in _keys_of(graph, id, keys)}
    for reader in readers:
        nodes[reader.key] = _reader(reader, found)
        tables = [str(table).lower() for name in reader.queries for table in found.reads.get(name, ())]
        edges |= {(of_table[table], reader.key): None for table in tables if table in of_table}
    return LineageGraph(tuple(nodes.values()), tuple(edge for edge in edges if edge[0] != edge[1]))


def _above(node: GraphNode | None, found: ColumnLineage) -> tuple[Above | None, str]:
    if node is None or node.kind in ("source", "seed"):
        return {}, ""
    if node.id not in found.above:
        return None, _NO_SQL
    above = found.above[node.id]
    return above, "" if above is not None else _NOT_UNDERSTOOD


def _keys_above(graph: Graph, node: GraphNode, keys: Mapping[str, str]) -> Iterator[str]:
    for id in node.parents:
        yield from _keys_of(graph, id, keys)


def _keys_of(graph: Graph, id: str, keys: Mapping[str, str]) -> Iterator[str]:
    """The node itself, or, where it exists only as text, what that reads."""
    if id in keys:
        yield keys[id]
    elif id in graph.nodes and graph.nodes[id].materialized == "ephemeral":
        yield from _keys_above(graph, graph.nodes[id], keys)


def _reader(reader: Reader, found: ColumnLineage) -> LineageNode:
    columns, above, unknown = [], dict[str, tuple[ColumnRef, ...]](), []
    for name, title in reader.queries.items():
        of_query = found.above.get(name)
        if of_query is None:
            unknown.append(title)
        for column, refs in (of_query or {}).items():
            columns.append(Column(f"{title}.{column}", ""))
            above[f"{title}.{column}"] = refs
    note = f"Where the columns of {', '.join(unknown)} come from is not known: the SQL could not be read."
    return LineageNode(
        reader.key, "dashboard", reader.title, columns=tuple(columns), above=above, note=note if unknown else ""
    )


def _states(checks: Iterable[CheckResult]) -> dict[str, State]:
    """The worst that the checks of each dbt node have said."""
    states: dict[str, State] = {}
    for check in checks:
        said = _STATES.get(check.status, "")
        for id in check.nodes:
            states[id] = max(states.get(id, ""), said, key=_WORST.index)
    return states


def to_json(graph: LineageGraph, links: Mapping[str, str]) -> dict[str, Any]:
    """The graph for the portal's page, small: nodes refer to each other, and to columns, by number.

    Parameters
    ----------
    links
        The page of each node by its key, relative to the portal's root.
    """
    number = {node.key: index for index, node in enumerate(graph.nodes)}
    of_column = {
        (node.key.lower(), column.name.lower()): (number[node.key], index)
        for node in graph.nodes
        for index, column in enumerate(node.columns)
    }
    return {
        "nodes": [_node_json(node, links.get(node.key), of_column) for node in graph.nodes],
        "edges": [number[key] for edge in graph.edges for key in edge],
    }


def _node_json(
    node: LineageNode, link: str | None, of_column: Mapping[tuple[str, str], tuple[int, int]]
) -> dict[str, Any]:
    """What is empty is left out. ``above`` has for each column the numbers of nodes and of columns, in turn."""
    above = [
        [
            part
            for ref in (node.above or {}).get(column.name, ())
            for part in of_column.get((str(ref.table).lower(), ref.column.lower()), ())
        ]
        for column in node.columns
    ]
    everything = {
        "key": node.key,
        "kind": node.kind,
        "name": node.name,
        "schema": node.schema,
        "released": node.released,
        "rows": node.rows,
        "state": node.state,
        "link": link,
        "note": node.note,
        "columns": [column.name for column in node.columns],
        "types": [column.type for column in node.columns] if any(column.type for column in node.columns) else [],
        "above": above if any(above) else [],
        "pii": [index for index, column in enumerate(node.columns) if column.name in node.pii],
    }
    return {name: value for name, value in everything.items() if value or (name == "rows" and value == 0)}
