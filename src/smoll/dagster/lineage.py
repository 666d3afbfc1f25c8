"""From which columns each column of a model comes, read from its compiled SQL by sqlglot.

It is kept from run to run, as it costs some milliseconds a column and changes with the SQL alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from smoll.dagster.names import Names
from smoll.model import Column, TableRef
from smoll.state.layout import write_atomically
from smoll.transform import Graph, GraphNode
from smoll.warehouse import columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_Columns = Mapping[str, Sequence[tuple[str, str, str]]]
"""For each column of a model the columns that it is made of: schema, table, column."""


class Lineage:
    """Finds the lineage of columns, and remembers it in a file.

    Parameters
    ----------
    path
        The file; read at once where it is there, written by `save`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, _Columns] = {}
        self._used: dict[str, _Columns] = {}
        with suppress(OSError, ValueError):
            self._known = json.loads(path.read_text(encoding="utf-8"))

    def facts(
        self,
        graph: Graph,
        node: GraphNode,
        sql: str,
        columns: Sequence[Column],
        connection: DuckDBPyConnection,
        names: Names,
    ) -> Mapping[str, Any]:
        """The lineage of the node's columns as Dagster's metadata; {} where the SQL does not tell."""
        tables = list(_tables_above(graph, node))
        schema = {table: [(c.name, c.type) for c in columns_of(connection, table)] for table in tables}
        key = hashlib.sha256(json.dumps([sql, *((str(t), schema[t]) for t in tables)]).encode()).hexdigest()
        if key not in self._known:
            self._known[key] = _find(sql, columns, schema)
        self._used[key] = found = self._known[key]
        keys = {str(table).lower(): key for key, table in names.tables.items()}
        deps = {
            column: [
                dg.TableColumnDep(keys[f"{schema}.{table}".lower()], name)
                for schema, table, name in above
                if f"{schema}.{table}".lower() in keys
            ]
            for column, above in found.items()
        }
        deps = {column: above for column, above in deps.items() if above}
        return {"dagster/column_lineage": dg.TableColumnLineage(deps)} if deps else {}

    def save(self) -> None:
        """Write down what was found, beside what is known of models that were not asked for."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = dict([*self._known.items()][-_MOST:]) | self._used
        write_atomically(self._path, json.dumps(kept))


_MOST = 5_000


def _tables_above(graph: Graph, node: GraphNode) -> Iterator[TableRef]:
    """The tables that the node's SQL may read."""
    for id in node.parents:
        parent = graph.nodes.get(id)
        if parent is None:
            continue
        if parent.materialized == "ephemeral":
            yield from _tables_above(graph, parent)
        elif parent.table:
            yield parent.table


def _find(
    sql: str, columns: Sequence[Column], schema: Mapping[TableRef, Sequence[tuple[str, str]]]
) -> dict[str, list[tuple[str, str, str]]]:
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage

    known: dict[str, dict[str, dict[str, str]]] = {}
    for table, found in schema.items():
        known.setdefault(table.schema, {})[table.name] = dict(found)
    names = {column.name.lower(): column.name for column in columns}
    try:
        tree = parse_one(sql, dialect="duckdb")
        for read in tree.find_all(exp.Table):
            read.set("catalog", None)  # dbt writes the database's name, of which there is one
        roots = lineage(None, tree, known, dialect="duckdb", trim_selects=False, copy=False)
        return {
            names[name.lower()]: sorted(
                {
                    (leaf.expression.db, leaf.expression.name, exp.to_column(leaf.name).name)
                    for leaf in root.walk()
                    if isinstance(leaf.expression, exp.Table)
                }
            )
            for name, root in roots.items()
            if name.lower() in names
        }
    except (SqlglotError, ValueError, KeyError, RecursionError, AttributeError):  # SQL that sqlglot does not know
        return {}
