"""From which columns each column of a query comes, read from its SQL by sqlglot.

What is found is kept from run to run, as it costs some milliseconds a column and changes with the SQL alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.model import NOT_AS_WRITTEN, Column, TableRef
from smoll.state.layout import write_atomically
from smoll.transform import Graph, GraphNode
from smoll.warehouse import columns_of_all, syntax_tree

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from sqlglot.lineage import Node

    from smoll.transform import Dbt

_VERSION = 3
_MOST = 2_000  # queries that are remembered; of 30 columns each they take 4 MB
_LONGEST = 500_000  # characters of SQL, which sqlglot reads in some 5 s


@dataclass(frozen=True, order=True)
class ColumnRef:
    """A column of a table of the warehouse."""

    table: TableRef
    column: str


Above = Mapping[str, tuple[ColumnRef, ...]]
"""For each column of a query those that its values are made of; none where it is made of no column, or nobody knows."""


@dataclass(frozen=True)
class ColumnLineage:
    """The lineage of the columns of some queries.

    ``tables`` are the columns of all tables and views of the warehouse, by ``schema.name`` in lower case. ``above`` is
    what is known of each query by its name, None where sqlglot does not understand it, and ``reads`` the tables that it
    reads.
    """

    tables: Mapping[str, tuple[Column, ...]]
    above: Mapping[str, Above | None]
    reads: Mapping[str, Sequence[TableRef]]

    def columns(self, table: TableRef) -> tuple[Column, ...]:
        """The columns of a table, in order; none where there is none of that name."""
        return self.tables.get(str(table).lower(), ())


def compiled_queries(dbt: Dbt) -> dict[str, str]:
    """The SQL of the models and snapshots that dbt has built, by dbt id, as far as it is known."""
    found = {}
    for node in dbt.graph.nodes.values():
        if node.kind in ("model", "snapshot") and node.materialized != "ephemeral":
            sql = dbt.compiled(node.id)
            parents = [dbt.graph.nodes[id] for id in node.parents if id in dbt.graph.nodes]
            if not sql and node.kind == "snapshot" and len(parents) == 1 and parents[0].table:
                sql = f"SELECT * FROM {parents[0].table.sql}"  # of one in YAML dbt writes no SQL down
            if sql:
                found[node.id] = sql
    return found


def find_lineage(
    path: Path,
    graph: Graph,
    connection: DuckDBPyConnection,
    compiled: Mapping[str, str],
    queries: Mapping[str, str] | None = None,
) -> ColumnLineage:
    """Find the lineage of the columns of models and of other queries, and remember it in a file.

    Parameters
    ----------
    path
        The file. A damaged one is as none.
    connection
        The open warehouse, which has the tables as they were built.
    compiled
        The SQL of models and snapshots, by dbt id. Only a column that the table has is looked for.
    queries
        SQL of others (of dashboards), by a name that is no dbt id. They may read every table of the graph.
    """
    above: dict[str, Above | None] = {}
    reads: dict[str, list[TableRef]] = {}
    lineage = ColumnLineage(columns_of_all(connection), above, reads)
    asked: list[tuple[str, str, tuple[Column, ...] | None]] = []
    for id, sql in compiled.items():
        node = graph.nodes[id]
        if node.table is not None:
            reads[id] = [*tables_above(graph, node)]
            asked.append((id, sql, lineage.columns(node.table)))
    everything = [node.table for node in graph.nodes.values() if node.table is not None and not node.is_check]
    for name, sql in (queries or {}).items():
        reads[name] = tables_read(connection, sql, everything)
        asked.append((name, sql, None))

    known = _read(path)
    before = set(known)
    for name, sql, own in asked:
        schema = {table: lineage.columns(table) for table in reads[name]}
        key = _key(sql, own, schema)
        # What was used is moved to the end, as the oldest are forgotten.
        known[key] = known.pop(key) if key in known else _to_json(_find(sql, own, schema))
        above[name] = _from_json(known[key])
    if set(known) - before:
        kept = [*known.items()][-max(_MOST, 2 * len(asked)) :]
        with suppress(OSError):  # a full disk: it is found again
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"version": _VERSION, "known": dict(kept)}, separators=(",", ":")))
    return lineage


def tables_read(connection: DuckDBPyConnection, sql: str, known: Sequence[TableRef]) -> list[TableRef]:
    """Which of the tables a query reads, as DuckDB itself parses it; none where it cannot, or deeper than JSON goes."""
    by_name = {(table.schema.lower(), table.name.lower()): table for table in known}
    try:
        parts = [*_parts(syntax_tree(connection, sql))]
    except RecursionError:  # a sum of 600 terms, say
        return []
    expressions = {str(entry["key"]).lower() for part in parts for entry in part.get("cte_map", {}).get("map", ())}
    found = []
    for part in parts:
        if part.get("type") == "BASE_TABLE":
            schema, name = str(part["schema_name"]).lower(), str(part["table_name"]).lower()
            if schema or name not in expressions:
                found.append(by_name.get((schema or "main", name)))
    return [*dict.fromkeys(table for table in found if table)]


def _parts(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of a tree of JSON, however deep."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)


def tables_above(graph: Graph, node: GraphNode) -> Iterator[TableRef]:
    """The tables that the node's SQL may read."""
    for id in node.parents:
        parent = graph.nodes.get(id)
        if parent is None:
            continue
        if parent.materialized == "ephemeral":
            yield from tables_above(graph, parent)
        elif parent.table:
            yield parent.table


# --- one query ------------------------------------------------------------------------------------------------------


def _find(
    sql: str, columns: Sequence[Column] | None, schema: Mapping[TableRef, Sequence[Column]]
) -> dict[str, tuple[ColumnRef, ...]] | None:
    """From which columns of the schema each of the columns comes; of a query without a table, all that it gives."""
    from sqlglot import exp, parse_one
    from sqlglot.lineage import lineage

    if len(sql) > _LONGEST:
        return None
    known: dict[str, dict[str, dict[str, str]]] = {}
    refs: dict[tuple[str, str, str], ColumnRef] = {}
    for table, found in schema.items():
        known.setdefault(table.schema, {})[table.name] = {column.name: column.type for column in found}
        for column in found:
            refs[table.schema.lower(), table.name.lower(), column.name.lower()] = ColumnRef(table, column.name)
    names = None if columns is None else {column.name.lower(): column.name for column in columns}
    try:
        with _silent("sqlglot"):
            tree = parse_one(sql, dialect="duckdb")
            expressions = {each.alias.lower() for each in tree.find_all(exp.CTE)}
            for read in tree.find_all(exp.Table):
                read.set("catalog", None)  # dbt writes the database's name, of which there is one
                if not read.db and read.name.lower() not in expressions and read.name:
                    read.set("db", exp.to_identifier("main"))
            roots = lineage(None, tree, known, dialect="duckdb", trim_selects=False, copy=False)
            above, pivots = {}, tree.find(exp.Pivot) is not None
            for name, root in roots.items():
                if names is not None and name.lower() not in names:
                    continue
                leaves = {
                    (leaf.expression.db.lower(), leaf.expression.name.lower(), exp.to_column(leaf.name).name.lower())
                    for leaf in root.walk()
                    if isinstance(leaf.expression, exp.Table)
                }
                origins = (
                    () if _is_blind(root, pivots=pivots) else sorted(refs[leaf] for leaf in leaves if leaf in refs)
                )
                above[names[name.lower()] if names is not None else name] = tuple(origins)
    except Exception:  # whatever SQL it does not understand: it raises a dozen kinds, and none is worth a release
        return None
    return above


def _is_blind(root: Node, *, pivots: bool) -> bool:
    """Whether a column is also made of what sqlglot does not follow: a whole row, a place, a method, an UNPIVOT."""
    from sqlglot import exp

    unfollowed: tuple[type[exp.Expr], ...] = (exp.TableColumn, exp.PositionalColumn, exp.Columns)
    unfollowed += (exp.Placeholder,) if pivots else ()  # else it stands for a recursive query, which gives the same
    return any(
        isinstance(part, unfollowed) or (isinstance(part, exp.Dot) and isinstance(part.this, exp.Identifier))
        for one in root.walk()
        for part in one.expression.find_all(*unfollowed, exp.Dot)
    )


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Let a logger say nothing of SQL that it finds odd: the graph says what is not known."""
    logger = logging.getLogger(name)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


# --- what is remembered ---------------------------------------------------------------------------------------------


def _key(sql: str, columns: Sequence[Column] | None, schema: Mapping[TableRef, Sequence[Column]]) -> str:
    own = None if columns is None else [column.name for column in columns]
    reads = [[str(table), [[column.name, column.type] for column in found]] for table, found in schema.items()]
    return hashlib.sha256(json.dumps([version("sqlglot"), sql, own, reads]).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    with suppress(*NOT_AS_WRITTEN):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] == _VERSION:
            for each in content["known"].values():
                _from_json(each)
            return dict(content["known"])
    return {}


def _to_json(above: Above | None) -> Any:
    if above is None:
        return None
    return {name: [[ref.table.schema, ref.table.name, ref.column] for ref in refs] for name, refs in above.items()}


def _from_json(found: Any) -> Above | None:
    if found is None:
        return None
    return {
        name: tuple(ColumnRef(TableRef(schema, table), column) for schema, table, column in refs)
        for name, refs in found.items()
    }
