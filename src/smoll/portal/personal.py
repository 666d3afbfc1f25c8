"""Which columns are personal, in every table: no page may show a value of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.lineage import ColumnLineage, ColumnRef, compiled_queries, find_lineage, personal_columns
from smoll.transform import Graph

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.transform import Dbt


class Hidden:
    """The hidden columns of each node.

    These are the columns of a name that is marked in the node, in what it is built from or in what is built from it,
    and, as far as the SQL is understood, what marked columns are made of and what is made of those.
    """

    def __init__(self, graph: Graph, by_table: Mapping[str, frozenset[str]]) -> None:
        self._graph = graph
        self._by_table = by_table
        self._above = {id: graph.ancestors([id]) for id, node in graph.nodes.items() if node.pii}

    def __call__(self, id: str) -> frozenset[str]:
        """The hidden columns of a node, in lower case."""
        if not self._above:
            return frozenset()
        above = self._graph.ancestors([id])
        line = [one for one, behind in self._above.items() if one in above or id in behind]
        marked = {name.lower() for one in line for name in self._graph.nodes[one].pii}
        return self._by_table.get(str(self._graph.nodes[id].table).lower(), frozenset()) | marked


def find_hidden(dbt: Dbt, warehouse: DuckDBPyConnection, path: Path) -> Hidden:
    """Find the hidden columns; the lineage of columns is only looked at where one is marked.

    Parameters
    ----------
    path
        Where what is known of the lineage of columns is kept.
    """
    graph = dbt.graph
    if not graph.personal(graph.nodes):
        return Hidden(graph, {})
    found = find_lineage(path, graph, warehouse, compiled_queries(dbt))
    by_table: dict[str, set[str]] = {}
    for ref in personal_columns(_with_origins(graph, found), found):
        by_table.setdefault(str(ref.table).lower(), set()).add(ref.column.lower())
    return Hidden(graph, {table: frozenset(names) for table, names in by_table.items()})


def _with_origins(graph: Graph, found: ColumnLineage) -> Graph:
    """The graph with a mark on everything that marked columns are made of."""
    ids: dict[str, list[str]] = {}
    for node in graph.nodes.values():
        if node.table is not None:
            ids.setdefault(str(node.table).lower(), []).append(node.id)
    known = {
        (str(node.table).lower(), name.lower()) for node in graph.nodes.values() for name in node.pii if node.table
    }
    waiting: list[ColumnRef] = []
    for node in graph.nodes.values():
        for name in node.pii:
            above = [*_above(found, node.id, name)]
            if not any((str(ref.table).lower(), ref.column.lower()) in known for ref in above):
                waiting += above  # else one of them makes it personal, and the others need not be
    marked: set[ColumnRef] = set()
    while waiting:
        ref = waiting.pop()
        if ref not in marked:
            marked.add(ref)
            waiting += [each for id in ids.get(str(ref.table).lower(), ()) for each in _above(found, id, ref.column)]
    nodes = dict(graph.nodes)
    for ref in marked:
        for id in ids.get(str(ref.table).lower(), ()):
            nodes[id] = replace(nodes[id], pii=(*nodes[id].pii, ref.column))
    return replace(graph, nodes=nodes)


def _above(found: ColumnLineage, id: str, column: str) -> Iterator[ColumnRef]:
    for name, refs in (found.above.get(id) or {}).items():
        if name.lower() == column.lower():
            yield from refs
