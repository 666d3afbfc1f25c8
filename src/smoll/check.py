"""What may refuse a release: every check on a released table, and on anything it is built from.

Pure functions over the graph and the ledger; nothing here reads a file or a database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set

from smoll.model import CheckResult, Refusal
from smoll.state.ledger import WAITING, CheckRecord, NodeRecord, table_key
from smoll.transform.graph import Graph, GraphNode


def refusals(
    graph: Graph,
    released: Iterable[str],
    nodes: Mapping[str, NodeRecord],
    checks: Mapping[str, CheckRecord],
    views: Set[str],
) -> tuple[Refusal, ...]:
    """Say why the released nodes may not be published; empty where they may.

    A release is refused while, for a released node or an ancestor of it, the last build failed, or a check of
    severity error has failed, has not run since what it looks at was built or loaded, or is not the check that
    ran. Which of them this run selected plays no part.

    Parameters
    ----------
    released
        The dbt ids of what would be released.
    nodes, checks
        What the ledger knows.
    views
        The views of the warehouse, as ``schema.name`` in lower case. Their rows change with what they read.
    """
    scope = graph.ancestors(released)
    touched = _Touched(graph, nodes, views)
    found = [*_unbuilt(graph, scope, nodes)]
    for check in graph.checks():
        if check.severity == "error" and _looks_at(check, scope):
            found += _judge(graph, check, checks.get(check.id), touched, scope)
    return tuple(sorted(found, key=lambda refusal: refusal.stale))  # first what is wrong, then what follows


def known_checks(graph: Graph, released: Iterable[str], checks: Mapping[str, CheckRecord]) -> tuple[CheckResult, ...]:
    """The last answers of all checks in the scope of the released nodes, for the manifest; of edited ones none."""
    scope = graph.ancestors(released)
    seen = [check for check in graph.checks() if check.id in checks and _looks_at(check, scope)]
    return tuple(checks[check.id].result for check in seen if checks[check.id].definition == check.definition)


def _looks_at(check: GraphNode, scope: Set[str]) -> bool:
    """A test without ref() and source() may look at anything."""
    return not check.parents or not scope.isdisjoint(check.parents)


def _unbuilt(graph: Graph, scope: Iterable[str], nodes: Mapping[str, NodeRecord]) -> Iterator[Refusal]:
    for node in (graph.nodes[id] for id in sorted(scope)):
        record = nodes.get(node.id)
        if not node.is_built or node.materialized == "ephemeral":
            continue
        if record is None:
            yield Refusal(node.name, "has not been built yet", remedy(graph, node), stale=True)
        elif record.error:
            reason = f"was not built in run {record.touched}: {record.error}"
            yield Refusal(node.name, reason, remedy(graph, node), stale=record.error in WAITING)


def _judge(
    graph: Graph, check: GraphNode, record: CheckRecord | None, touched: _Touched, scope: Set[str]
) -> Iterator[Refusal]:
    seen = [id for id in check.parents or sorted(scope) if id in graph.nodes]
    mend = remedy(graph, *(graph.nodes[id] for id in seen)) if check.parents else "smoll run"
    if record is None:
        yield Refusal(check.name, "has not run since what it checks was built or loaded", mend, stale=True)
        return
    if record.definition != check.definition:
        yield Refusal(check.name, f"was changed after it ran in run {record.run}", mend, stale=True)
        return
    (moment, run), newest = max(((touched(id), id) for id in seen), default=((0, 0), check.id))
    if moment > record.moment and check.kind != "unit_test":  # which looks at no row of the warehouse
        name = graph.nodes[newest].name
        yield Refusal(check.name, f"has not run since run {run}, which changed {name}", mend, stale=True)
    elif record.result.status in ("fail", "error"):
        said = f": {record.result.message}" if record.result.message else ""
        yield Refusal(check.name, f"failed in run {record.run}{said}", mend)


class _Touched:
    """When the rows of a node may have changed last, and in which run: its own build or load, or a view's parents."""

    def __init__(self, graph: Graph, nodes: Mapping[str, NodeRecord], views: Set[str]) -> None:
        self._graph = graph
        self._nodes = nodes
        self._views = views
        self._known: dict[str, tuple[int, int]] = {}

    def __call__(self, id: str) -> tuple[int, int]:
        if id not in self._known:
            self._known[id] = self._find(self._graph.nodes[id])
        return self._known[id]

    def _find(self, node: GraphNode) -> tuple[int, int]:
        key = table_key(node.table) if node.kind == "source" and node.table else node.id
        record = self._nodes.get(key)
        own = (record.moment, record.touched) if record else (0, 0)
        if node.materialized != "ephemeral" and str(node.table).lower() not in self._views:
            return own
        return max([own, *(self(parent) for parent in node.parents if parent in self._graph.nodes)])


def remedy(graph: Graph, *nodes: GraphNode) -> str:
    """The command that loads and builds the nodes anew, with their ancestors and their checks.

    An incremental ancestor keeps rows that came before the mending, so it is built from scratch.
    """
    line = [graph.nodes[id] for id in graph.ancestors(node.id for node in nodes)]
    refresh = "--full-refresh " if any(node.materialized == "incremental" for node in line) else ""
    names = [f"source:{node.name}" if node.kind == "source" else node.name for node in nodes]
    return f'smoll run {refresh}--select "{" ".join(f"+{name}+" for name in names)}"'
