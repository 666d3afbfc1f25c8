"""What a query reads, by DuckDB's own tree of it: tables, and columns that go into what it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smoll.warehouse import syntax_tree

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COUNTS = {"count", "approx_count_distinct"}
_TEXTS = {"query", "query_table"}
_UNFOLLOWED = {"POSITIONAL_REFERENCE", "PIVOT", "SHOW_REF"}
_NULL_TESTS = {"OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"}


@dataclass(frozen=True)
class Reads:
    """What a query reads. ``tables`` are all that it names, as ``schema.table``; they need not be there.

    ``named`` are the names by which it speaks of each of them, ``made_of`` the columns of which it makes others, under
    another name or by a function, and ``kept`` those that it gives as they are; all in lower case. ``is_blind``: it
    gives columns in a way that is not followed, by their place or by what they hold; ``is_text``: tables by a text.
    """

    tables: frozenset[str] = frozenset()
    named: frozenset[tuple[str, str]] = frozenset()
    made_of: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    is_blind: bool = False
    is_text: bool = False

    def personal(self, marked: Mapping[str, Set[str]]) -> tuple[frozenset[str], frozenset[str]]:
        """Names of personal columns in the tables that it reads, and those of which it makes something else.

        A count, and whether there is a value at all, is nobody's. A whole row has all of its columns.
        """
        names = frozenset[str]().union(*(marked.get(table.lower(), frozenset()) for table in self.tables))
        if self.is_text:
            return names, frozenset[str]().union(*marked.values())
        if self.is_blind:
            return names, names
        rows = {name for name, table in self.named if marked.get(table.lower())}
        return names, (self.made_of & (names | rows)) | (self.kept & (rows - names))


def read_query(connection: DuckDBPyConnection, sql: str) -> Reads:
    """Say what a query reads; nothing where DuckDB has no tree of it, anything where that is too deep to look at."""
    tables, named = set[str](), set[tuple[str, str]]()
    own, made_of, kept = set[str](), set[str](), set[str]()
    is_blind = is_text = renames = stars = False
    try:
        for node in _nodes(syntax_tree(connection, sql)):
            if node.get("type") == "BASE_TABLE":
                name = node["table_name"]
                table = f"{node['schema_name'] or 'main'}.{name}"
                named.add(((node.get("alias") or name).lower(), table))
            is_blind = is_blind or _is_unfollowed(node)
            is_text = is_text or _is_text(node)
            renames = renames or _renames(node)
            stars = stars or _takes_all(node)
            made_of.update(_columns(node.get("values", ())))
            made_of.update(_columns(node.get("function", ())))
            own.update(each["key"].lower() for each in node.get("cte_map", {}).get("map", ()))
            for item in node.get("select_list", ()):
                names = set(_columns(item))
                is_kept = item.get("class") == "COLUMN_REF" and item.get("alias", "").lower() in ("", *names)
                (kept if is_kept else made_of).update(names)
    except RecursionError:
        return Reads(is_blind=True, is_text=True)
    for _, table in named:
        schema, _, name = table.partition(".")
        if schema != "main" or name.lower() not in own:
            tables.add(table)
    made_of |= kept if renames else set()
    is_blind = is_blind or (renames and stars)
    return Reads(frozenset(tables), frozenset(named), frozenset(made_of), frozenset(kept), is_blind, is_text)


def _is_unfollowed(node: Mapping[str, Any]) -> bool:
    """Whether columns are given by their place, or by what they hold (SUMMARIZE, PIVOT)."""
    type = str(node.get("type"))
    if type == "BASE_TABLE":
        return bool(node.get("column_name_alias"))
    if type == "STAR":
        return bool(node.get("columns") or node.get("rename_list"))
    return type in _UNFOLLOWED


def _is_text(node: Mapping[str, Any]) -> bool:
    """Whether a function reads tables that a text names."""
    name = str(node["function"].get("function_name")) if node.get("type") == "TABLE_FUNCTION" else ""
    return name in _TEXTS or name.startswith("pragma_")


def _renames(node: Mapping[str, Any]) -> bool:
    """Whether columns get other names by their order: ``t(a, b)``, or in a UNION those of its first part."""
    if node.get("type") == "SET_OPERATION_NODE":
        return _given(node["left"]) != _given(node["right"])
    if node.get("type") == "SUBQUERY":
        inner = (each.get("type") for each in _nodes(node["subquery"]))
        return bool(node.get("column_name_alias")) and "BASE_TABLE" in inner
    return bool(node.get("aliases"))


def _takes_all(node: Mapping[str, Any]) -> bool:
    """Whether a SELECT takes all columns of what it reads, but for a VALUES, whose columns nobody else has."""
    is_star = any(item.get("type") == "STAR" for item in node.get("select_list", ()))
    return is_star and node["from_table"].get("type") != "EXPRESSION_LIST"


def _given(node: Mapping[str, Any]) -> list[str]:
    """The names of the columns of a part of a query; of a UNION those of its first part."""
    while node.get("type") == "SET_OPERATION_NODE":
        node = node["left"]
    items = node.get("select_list", ())
    return [str(item.get("alias") or [*item.get("column_names", ("*",))][-1]).lower() for item in items]


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nodes(each)


def _columns(expression: Any) -> Iterator[str]:
    """The columns that a value is made of, in lower case."""
    if isinstance(expression, dict):
        if expression.get("class") == "COLUMN_REF":
            yield str(expression["column_names"][-1]).lower()
        if expression.get("class") == "FUNCTION" and expression.get("schema"):
            yield str(expression["schema"]).lower()  # of `p.email.upper()` DuckDB thinks so
        if str(expression.get("function_name")) in _COUNTS or str(expression.get("type")) in _NULL_TESTS:
            return
    for each in (
        expression.values() if isinstance(expression, dict) else expression if isinstance(expression, list) else ()
    ):
        yield from _columns(each)
