"""What is personal, whatever it is called further down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.lineage.columns import ColumnLineage, ColumnRef, compiled_queries, find_lineage, tables_above
from smoll.transform import Graph, GraphNode

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.transform import Dbt

_TEXTS = ("VARCHAR", "JSON", "BLOB")


def with_personal(dbt: Dbt, path: Path, connection: DuckDBPyConnection) -> Dbt:
    """The project with every column marked ``pii`` that is made of such a one, as the warehouse has it now.

    Parameters
    ----------
    path
        Where `find_lineage` remembers what it finds.
    """
    if not any(node.pii for node in dbt.graph.nodes.values()):
        return dbt
    found = find_lineage(path, dbt.graph, connection, compiled_queries(dbt))
    names: dict[str, list[str]] = {}
    for ref in sorted(personal_columns(dbt.graph, found)):
        names.setdefault(str(ref.table), []).append(ref.column)
    nodes = {
        id: replace(node, pii=tuple(dict.fromkeys([*node.pii, *names.get(str(node.table), ())])))
        for id, node in dbt.graph.nodes.items()
    }
    return replace(dbt, graph=replace(dbt.graph, nodes=nodes))


def personal_columns(graph: Graph, found: ColumnLineage) -> frozenset[ColumnRef]:
    """The columns marked ``pii``, and those that are made of them, whatever they are called there.

    A column of another type is another thing (``count(email)``, ``year(born)``), unless text is in it, which can hold
    anything, or a value of the type (in a list, say). Where nobody knows of what a column is made (of a whole row, by
    an UNPIVOT, in Python), it may be made of everything that the tables above have.
    """
    types: dict[ColumnRef, str] = {}
    personal: set[ColumnRef] = set()
    for node in in_order(graph):
        if node.table is None or node.is_check:
            continue
        marked = {name.lower() for name in node.pii}
        above = found.above.get(node.id) or {}
        tables = dict.fromkeys(tables_above(graph, node))
        everything = [ColumnRef(table, column.name) for table in tables for column in found.columns(table)]
        for column in found.columns(node.table):
            ref = ColumnRef(node.table, column.name)
            types[ref] = column.type
            origins = above.get(column.name) or everything
            made_of = [each for each in origins if each in personal]
            holds = any(type in column.type for each in made_of for type in (*_TEXTS, types[each]))
            if holds or column.name.lower() in marked:
                personal.add(ref)
    return frozenset(personal)


def in_order(graph: Graph) -> Iterator[GraphNode]:
    """The nodes, parents first."""
    done: set[str] = set()
    for start in graph.nodes:
        waiting = [(start, False)]
        while waiting:
            id, is_after = waiting.pop()
            if is_after:
                yield graph.nodes[id]
            elif id not in done and id in graph.nodes:
                done.add(id)
                waiting += [(id, True), *((parent, False) for parent in graph.nodes[id].parents)]
