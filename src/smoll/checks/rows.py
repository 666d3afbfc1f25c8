"""Some of the rows on which a check fails, and never a value that is personal.

A query may give a column another name, wrap a row in a STRUCT, or name columns by their place. So where columns are
marked ``pii`` nothing is guessed from its text: DuckDB parses it, every table in it is replaced by one that does not
have these columns, and what it returns then cannot hold them. A query that needs one of them fails, and shows no row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from smoll.model import FailingRows, TableRef, literal, quote
from smoll.transform.graph import Graph
from smoll.warehouse import columns_of, syntax_tree

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST = 20
_LONGEST = 200
_LONGEST_READ = 4000  # of which secrets are taken out before it is cut: half a secret is one, too
NOTHING_TO_SHOW = "The failing rows could not be read."
_PERSONAL = "The rows are not shown, as columns marked pii may be in them."
_HARMLESS = {"generate_series", "range", "unnest"}
_KNOWN_PARTS = {"BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "EXPRESSION_LIST", "TABLE_FUNCTION"}


class _Unsure(Exception):
    """It is not sure that a query shows nothing personal."""


def rows_of_query(
    connection: DuckDBPyConnection, sql: str, graph: Graph, run: int, redact: Callable[[str], str]
) -> FailingRows:
    """Some of the rows that a query (or a test, as dbt has compiled it) returns, without what is personal in any table.

    Parameters
    ----------
    redact
        Takes secrets out of a value.
    """
    import duckdb

    personal = graph.personal(graph.nodes)
    try:
        if personal:
            sql = _without_personal(connection, sql, graph, personal)
        return fetch_rows(connection, sql.strip().rstrip(";"), run, redact)
    except duckdb.InterruptException:
        raise
    except (_Unsure, duckdb.Error, RecursionError):  # the last of a sum of 600 terms, say
        return FailingRows(run, note=_PERSONAL if personal else NOTHING_TO_SHOW)


def fetch_rows(connection: DuckDBPyConnection, sql: str, run: int, redact: Callable[[str], str]) -> FailingRows:
    """The first rows of a query as text, without secrets. Raises ``duckdb.Error``."""
    columns = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM (\n{sql}\n)").fetchall()]
    cells = ", ".join(f"left(CAST(#{place} AS VARCHAR), {_LONGEST_READ})" for place in range(1, len(columns) + 1))
    found = connection.execute(f"SELECT {cells} FROM (SELECT * FROM (\n{sql}\n) LIMIT {MOST})").fetchall()
    rows = [tuple(None if cell is None else redact(cell)[:_LONGEST] for cell in row) for row in found]
    return FailingRows(run, tuple(columns), tuple(rows))


def _without_personal(connection: DuckDBPyConnection, sql: str, graph: Graph, personal: frozenset[str]) -> str:
    """Rewrite a query so that no personal column is within its reach. Raises `_Unsure` where that cannot be."""
    import duckdb

    try:
        tree = syntax_tree(connection, sql)
    except duckdb.Error as error:
        raise _Unsure from error
    if tree.get("error") or len(tree.get("statements", ())) != 1:
        raise _Unsure
    hidden: dict[str, frozenset[str]] = {}
    for node in graph.nodes.values():  # several may be one table
        key = str(node.table).lower()
        hidden[key] = hidden.get(key, frozenset()) | graph.personal([node.id])
    named = {name.lower() for name in _ctes(tree)}
    _Rewriting(connection, hidden, personal, named).walk(tree)
    row = connection.execute(f"SELECT json_deserialize_sql({literal(json.dumps(tree))})").fetchone()
    if row is None or row[0] is None:
        raise _Unsure
    return str(row[0])


def _ctes(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for item in part:
            yield from _ctes(item)
    elif isinstance(part, dict):
        for each in (part.get("cte_map") or {}).get("map", ()):
            yield str(each["key"])
        for item in part.values():
            yield from _ctes(item)


class _Rewriting:
    """Replaces tables in a parsed query by subqueries without their personal columns."""

    def __init__(
        self,
        connection: DuckDBPyConnection,
        hidden: Mapping[str, frozenset[str]],
        personal: frozenset[str],
        named: set[str],
    ) -> None:
        self._connection = connection
        self._hidden = hidden
        self._personal = personal
        self._named = named

    def walk(self, part: Any) -> Any:
        """Rewrite `part` in place; what it returns takes its place."""
        if isinstance(part, list):
            part[:] = [self.walk(item) for item in part]
        elif isinstance(part, dict):
            for key, item in part.items():
                part[key] = self._table(item) if _is_table(item) else self.walk(item)
        return part

    def _table(self, part: dict[str, Any]) -> dict[str, Any]:
        kind = part["type"]
        if kind not in _KNOWN_PARTS:
            raise _Unsure
        if kind == "TABLE_FUNCTION" and part["function"]["function_name"] not in _HARMLESS:
            raise _Unsure
        if kind != "BASE_TABLE":
            walked: dict[str, Any] = self.walk(part)
            return walked
        name = str(part["table_name"])
        if not part["schema_name"] and name.lower() in self._named:
            if f"main.{name.lower()}" in self._hidden or columns_of(self._connection, TableRef("main", name)):
                raise _Unsure  # a table and a part of the query have one name
            return part
        here = self._connection.execute("SELECT current_database()").fetchone() or ("",)
        if part["catalog_name"] not in ("", here[0]) or part.get("at_clause"):
            raise _Unsure
        ref = TableRef(part["schema_name"] or "main", name)
        columns = columns_of(self._connection, ref)
        hidden = self._hidden.get(str(ref).lower(), self._personal)
        shown = [quote(column.name) for column in columns if column.name.lower() not in hidden]
        if not shown:
            raise _Unsure
        if len(shown) == len(columns):
            return part
        tree = syntax_tree(self._connection, f"SELECT * FROM (SELECT {', '.join(shown)} FROM {ref.sql}) AS t")
        replaced: dict[str, Any] = tree["statements"][0]["node"]["from_table"]
        aliases = {key: part[key] for key in ("column_name_alias", "sample") if key in part}
        return {**replaced, **aliases, "alias": part["alias"] or name}


def _is_table(part: Any) -> bool:
    """True for a part of FROM: expressions have a class, and nodes of queries are called so."""
    return isinstance(part, dict) and "type" in part and "alias" in part and "class" not in part and "sample" in part
