"""``smoll checks``: every check of the project, and what it said last."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from smoll.describe import describe
from smoll.errors import UsageError
from smoll.model import FailingRows, KnownCheck
from smoll.state.layout import Layout
from smoll.state.ledger import CheckRecord, open_ledger
from smoll.transform import Graph, GraphNode

if TYPE_CHECKING:
    from smoll.project import ProjectConfig

_MARKED_SINCE = "The rows are not shown, as columns have been marked pii since; `smoll run` checks again."


def list_checks(config: ProjectConfig) -> tuple[KnownCheck, ...]:
    """Every check by its name, those of dbt too; without the rows on which it failed.

    Raises
    ------
    SmollError
        The project cannot be described: a source that must be asked does not answer, or dbt cannot parse it.
    """
    return _list(config, describe(config).graph)


def _list(config: ProjectConfig, graph: Graph) -> tuple[KnownCheck, ...]:
    with open_ledger(Layout(config.root).ledger) as ledger:
        records = ledger.checks() if ledger else {}
    found = (_known(graph, check, records.get(check.id)) for check in graph.checks())
    return tuple(sorted(found, key=lambda check: (check.name, check.id)))


def read_check(config: ProjectConfig, name: str) -> KnownCheck:
    """One check by its name or id, with some of the rows on which it failed.

    Raises
    ------
    UsageError
        There is none of this name, or several.
    """
    graph = describe(config).graph
    checks = _list(config, graph)
    found = [check for check in checks if check.id == name] or [check for check in checks if check.name == name]
    if not found:
        near = get_close_matches(name, [check.name for check in checks], n=1)
        hint = f"Did you mean {near[0]}?" if near else "`smoll checks` lists them."
        raise UsageError(f"There is no check {name!r}.", hint=hint)
    if len(found) > 1:
        raise UsageError(f"Several checks are called {name!r}.", hint=f"Name one: {', '.join(c.id for c in found)}.")
    with open_ledger(Layout(config.root).ledger) as ledger:
        rows = ledger.failing_rows().get(found[0].id) if ledger and found[0].run else None
    if rows is not None and not graph.personal(graph.nodes) <= set(rows.pii):
        rows = FailingRows(rows.run, note=_MARKED_SINCE)
    return replace(found[0], failing=rows)


def _known(graph: Graph, check: GraphNode, record: CheckRecord | None) -> KnownCheck:
    above = [graph.nodes[id] for id in (check.attached, *check.parents) if id in graph.nodes]
    known = KnownCheck(
        check.id,
        check.name,
        check.kind,
        str(above[0].table or above[0].name) if above else "",
        check.severity,
        check.description,
        check.path,
    )
    if record is None or record.definition != check.definition:
        return known
    said = record.result
    return replace(known, status=said.status, run=record.run, failures=said.failures, message=said.message)
