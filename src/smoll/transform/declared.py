"""Smoll's own checks as nodes of the graph: those of `smoll.yml`, and those that dbt's ``meta`` holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from smoll.connector import StreamPlan
from smoll.errors import SmollError, TransformError, UsageError
from smoll.model import StreamRef, TableRef
from smoll.project import Check, ReconciliationCheck, read_check
from smoll.transform.graph import OWN_CHECK, Graph, GraphNode

if TYPE_CHECKING:
    from smoll.project import ProjectConfig

_MOST_NAMED = 12
_NO_CHECKS = object()


@dataclass(frozen=True)
class OwnCheck:
    """A check of smoll's own: its node, what it was told, and the nodes of the tables that it names, in this order.

    ``stream`` is the one that its first table is, if it is one.
    """

    node: GraphNode
    options: Check
    tables: tuple[GraphNode, ...] = ()
    stream: StreamRef | None = None


@dataclass(frozen=True)
class _Said:
    """What stands somewhere: ``where`` for people; ``node`` is the one in whose ``meta`` it stands."""

    where: str
    read: Callable[[], Check]
    node: GraphNode | None = None


def declare(
    config: ProjectConfig, graph: Graph, declared: Sequence[tuple[str, str, Any]], plans: Sequence[StreamPlan]
) -> tuple[OwnCheck, ...]:
    """Find the tables of every check.

    Parameters
    ----------
    declared
        What `smoll.transform.graph.read_declared` has found in ``meta``: ``{checks: [...]}``.
    plans
        The streams, which are tables too.

    Raises
    ------
    TransformError
        A check names what is not there, or cannot be understood; each is named with its place.
    """
    names, found, wrong = _Names(graph, plans), list[OwnCheck](), list[str]()
    taken: dict[str, str] = {}
    for said in [*_of_project(config), *_of_meta(graph, declared)]:
        try:
            check = _bind(said, names, config.redact)
            name = _free(check.options, taken, said.where)
        except SmollError as error:
            wrong.append(f"{said.where}: {error.message}" + (f" ({error.hint})" if error.hint else ""))
            continue
        found.append(_named(check, name))
    if wrong:
        raise TransformError("\n".join(wrong))
    return tuple(found)


def _of_project(config: ProjectConfig) -> Iterator[_Said]:
    for number, check in enumerate(config.checks):
        yield _Said(config.locate("checks", str(number)), partial(_itself, check))


def _itself(check: Check) -> Check:
    return check


def _of_meta(graph: Graph, declared: Sequence[tuple[str, str, Any]]) -> Iterator[_Said]:
    for id, column, own in declared:
        node = graph.nodes[id]
        where = f"meta of {node.kind} {node.name}" + (f", column {column}" if column else "") + f" ({node.path})"
        checks = own.get("checks") if isinstance(own, Mapping) and set(own) == {"checks"} else None
        for data in checks if isinstance(checks, list) else [_NO_CHECKS]:
            yield _Said(where, partial(_read, data, node, column), node)


def _read(data: Any, node: GraphNode, column: str) -> Check:
    """Read a check of ``meta``, to which its table and its column go without saying."""
    if data is _NO_CHECKS:
        raise UsageError("under `smoll` stands no list of checks", hint="smoll: {checks: [{kind: rows, min: 1}]}")
    if isinstance(data, dict):
        kind = data.get("kind")
        data = {"tables": [node.name], **data} if kind == "sql" else {"table": node.name, **data}
        if column and kind in ("uniqueness", "references", "anomaly"):
            data = {"columns": [column], **data}
        elif column and kind in ("completeness", "range", "distribution", "freshness"):
            data = {"column": column, **data}
    return read_check(data)


class _Names:
    """What a check may call a table."""

    def __init__(self, graph: Graph, plans: Sequence[StreamPlan]) -> None:
        self._streams = {str(plan.ref): plan for plan in plans}
        self._built: dict[str, list[GraphNode]] = {}
        self._tables: dict[str, list[GraphNode]] = {}
        for node in graph.nodes.values():
            if node.is_built:
                self._built.setdefault(node.name, []).append(node)
            if node.table is not None and (node.is_built or node.kind == "source"):
                self._tables.setdefault(str(node.table).lower(), []).append(node)

    def find(self, name: str) -> tuple[GraphNode, ...]:
        """The nodes of one table: several where dbt knows it by several names. Raises UsageError where it is none."""
        everywhere = self._built.get(name, [])
        built = [node for node in everywhere if node.own] or everywhere
        stream = self._streams.get(name)
        if len(built) > 1:  # versions of a model, or packages
            tables = ", ".join(str(node.table) for node in built)
            raise UsageError(f"several tables are called {name!r}", hint=f"name one of {tables}")
        if built:
            found = built
        elif stream is not None:
            found = self.at(stream.table)
        else:
            found = self._tables.get(name.lower(), [])
        if not found:
            raise UsageError(f"there is no table {name!r}", hint=self._near(name))
        if found[0].materialized == "ephemeral":
            raise UsageError(f"{name} is ephemeral: it has no table", hint="name a model that is built from it")
        return tuple(found)

    def at(self, table: TableRef) -> list[GraphNode]:
        return self._tables.get(str(table).lower(), [])

    def stream_of(self, table: TableRef | None) -> StreamPlan | None:
        key = str(table).lower()
        return next((plan for plan in self._streams.values() if str(plan.table).lower() == key), None)

    def _near(self, name: str) -> str:
        known = sorted({*self._built, *self._streams})
        close = get_close_matches(name, [*known, *self._tables], n=1)
        if close:
            return f"did you mean {close[0]!r}?"
        return f"known: {', '.join(known)}" if len(known) <= _MOST_NAMED else "a model, a stream as source.stream"


def _bind(said: _Said, names: _Names, redact: Callable[[str], str]) -> OwnCheck:
    check = said.read()
    found = [_tables_of(name, said.node, names) for name in check.tables_named]
    first = found[0][0] if found else None
    plan = names.stream_of(first.table) if first and first.kind == "source" else None
    if isinstance(check, ReconciliationCheck) and check.to is None:
        _refuse_unaccountable(check.table, plan)
    parents = tuple(dict.fromkeys(node.id for nodes in found for node in nodes))
    node = GraphNode(
        id="",
        name="",
        kind=OWN_CHECK,
        path=said.node.path if said.node else said.where,
        parents=parents,
        severity=check.severity,
        definition=_definition(check, [nodes[0] for nodes in found]),
        description=redact(check.description or _in_words(check)),
        attached=first.id if first else "",
        test=check.kind,
        column=getattr(check, "column", None) or "",
    )
    return OwnCheck(node, check, tuple(nodes[0] for nodes in found), plan.ref if plan else None)


def _tables_of(name: str, own: GraphNode | None, names: _Names) -> tuple[GraphNode, ...]:
    if own is None or name != own.name:
        return names.find(name)
    if own.kind != "source" or own.table is None:
        return (own,) if own.materialized != "ephemeral" else names.find(name)
    return (own, *(node for node in names.at(own.table) if node.id != own.id))


def _refuse_unaccountable(name: str, plan: StreamPlan | None) -> None:
    """Raise where the records that were read say nothing about the rows that were written."""
    if plan is None:
        raise UsageError(f"reconciliation: {name} is no stream, so it needs a second table", hint="to: ...")
    if plan.mode not in ("replace", "append") or plan.by_cursor:
        how = "mode append with a cursor" if plan.mode == "append" else f"mode {plan.mode}"
        raise UsageError(
            f"reconciliation: {plan.ref} has {how}, which writes only what is new of the records that it reads",
            hint="compare its table with another one: to: ...",
        )


def _definition(check: Check, tables: Sequence[GraphNode]) -> str:
    """Hash what the check is: all that it was told, but for its description, and the tables that this means."""
    told = check.model_dump(mode="json", by_alias=True, exclude={"description", "name"})
    text = json.dumps([told, [str(node.table) for node in tables]], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _in_words(check: Check) -> str:
    """What it was told, short: ``completeness of fct_flights: column dep_time, max_nulls 5%``."""
    about = {"kind", "name", "severity", "description", "table", "tables"}
    told = check.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=about)
    parts = [f"{key} {_value(value)}" for key, value in told.items()]
    of = f" of {', '.join(check.tables_named[:1])}" if check.tables_named else ""
    return f"{check.kind}{of}" + (f": {', '.join(parts)}" if parts else "")


def _value(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"number", "percent"}:
        return f"{value['number']:g}{'%' if value['percent'] else ''}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items() if item is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _free(check: Check, taken: dict[str, str], where: str) -> str:
    """Give the check a name that no other has. Raises UsageError where two were given the same one."""
    name, number = check.default_name, 1
    if check.name and check.name.lower() in taken:
        raise UsageError(f"the name {check.name!r} is taken", hint=f"by the check at {taken[check.name.lower()]}")
    while name.lower() in taken:
        number += 1
        name = f"{check.default_name}_{number}"
    taken[name.lower()] = where
    return name


def _named(check: OwnCheck, name: str) -> OwnCheck:
    return replace(check, node=replace(check.node, id=f"{OWN_CHECK}.{name}", name=name))
