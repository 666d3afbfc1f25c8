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
_MOST = 5_000


class Lineage:
    """Finds the lineage of columns, and remembers it in a file.

    Parameters
    ----------
    path
        The file; read at once where it is there, written by `save`.
    connection
        The open warehouse, which has what the models read.
    """

    def __init__(self, path: Path, graph: Graph, connection: DuckDBPyConnection, names: Names) -> None:
        self._path, self._graph, self._connection = path, graph, connection
        self._keys = {str(table).lower(): key for key, table in names.tables.items()}
        self._columns: dict[TableRef, list[tuple[str, str]]] = {}
        self._known: dict[str, _Columns] = {}
        with suppress(OSError, ValueError):
            self._known = json.loads(path.read_text(encoding="utf-8"))
        self._read = len(self._known)

    def facts(self, node: GraphNode, sql: str, columns: Sequence[Column]) -> Mapping[str, Any]:
        """The lineage of the node's columns as Dagster's metadata; {} where the SQL does not tell."""
        schema = {table: self._columns_of(table) for table in _tables_above(self._graph, node)}
        text = json.dumps([sql, *((str(table), found) for table, found in schema.items())])
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self._known:
            self._known[key] = _find(sql, columns, schema)
        deps = {
            column: [
                dg.TableColumnDep(self._keys[f"{schema}.{table}".lower()], name)
                for schema, table, name in above
                if f"{schema}.{table}".lower() in self._keys
            ]
            for column, above in self._known[key].items()
        }
        deps = {column: above for column, above in deps.items() if above}
        return {"dagster/column_lineage": dg.TableColumnLineage(deps)} if deps else {}

    def _columns_of(self, table: TableRef) -> list[tuple[str, str]]:
        if table not in self._columns:
            self._columns[table] = [(column.name, column.type) for column in columns_of(self._connection, table)]
        return self._columns[table]

    def save(self) -> None:
        """Write down what was found, if it is new, beside what is known of models that were not asked for."""
        if len(self._known) > self._read:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(dict([*self._known.items()][-_MOST:])))


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
