"""The lineage of the project: what its own page and the catalog draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smoll.lineage import Reader, compiled_queries, find_lineage, lineage_graph, to_json
from smoll.load.table import count_rows
from smoll.model import TableRef
from smoll.portal.boards import Board
from smoll.portal.facts import Facts
from smoll.portal.gather import Ingredients
from smoll.portal.site import Site


def write_lineage(site: Site, facts: Facts, of: Ingredients, boards: Sequence[Board]) -> None:
    """``lineage.html`` and ``data/lineage.js``. Raises ``duckdb.Error`` where the warehouse cannot be read."""
    readers: list[Reader] = []
    queries: dict[str, str] = {}
    for board in boards:
        queries |= {f"{board.slug}/{name}": sql for name, sql in board.queries.items()}
        readers.append(Reader(_key(board.slug), board.title, {f"{board.slug}/{name}": name for name in board.queries}))
    graph = lineage_graph(
        of.dbt.graph,
        find_lineage(of.layout.column_lineage, of.dbt.graph, of.warehouse, compiled_queries(of.dbt), queries),
        streams={state.table: state.ref for state in of.ledger.streams() if state.ref.source in of.config.sources},
        released=[table.id for table in of.manifest.tables],
        rows=dict(_rows(facts, of)),
        checks=of.manifest.checks,
        readers=readers,
    )
    tables = {str(entry.table): entry.href for entry in facts.entries.values() if entry.table}
    dashboards = {_key(board.slug): board.href for board in boards}
    data = site.data("lineage", to_json(graph, {**tables, **dashboards}))
    site.page("lineage.html", "lineage.html", title="Lineage", section="lineage", data=[data], scripts=["lineage.js"])


def _key(slug: str) -> str:
    return f"dashboard/{slug}"


def _rows(facts: Facts, of: Ingredients) -> Iterator[tuple[TableRef, int]]:
    """The rows of all that is no view: to count those takes as long as to compute them."""
    for entry in facts.entries.values():
        if entry.table and entry.rows is not None:
            yield entry.table, entry.rows
        elif entry.table and entry.materialized != "view":
            yield entry.table, count_rows(of.warehouse, entry.table)
