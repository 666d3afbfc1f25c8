"""The pages that tell of tables, checks and releases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from smoll.portal.assets import FIRST_CHARTED
from smoll.portal.boards import Board
from smoll.portal.facts import CheckFacts, Entry, Facts
from smoll.portal.site import Site

_CHARTED = 6
"""So many tables have a line in the chart of rows."""
_WIDE = 200
"""Of a table with more columns, the others are listed by name alone."""


def write_overview(site: Site, facts: Facts, boards: Sequence[Board]) -> None:
    """``index.html``: is my data fresh, is it right, what changed."""
    tables = facts.of_kind("table")
    counts = count_tones(facts.checks)
    data = [site.data("overview", _history_charts(facts))] if len(facts.runs) >= FIRST_CHARTED else []
    site.page(
        "index.html",
        "overview.html",
        title="Overview",
        section="overview",
        facts=facts,
        boards=boards,
        tables=tables,
        sources=facts.of_kind("source"),
        counts=counts,
        rows=sum(table.rows or 0 for table in tables),
        failing=[check for check in facts.checks if check.tone in ("bad", "warn")],
        data=data,
        charts=bool(data),
        scripts=["history.js"] if data else [],
    )


def write_catalog(site: Site, facts: Facts, boards: Sequence[Board]) -> None:
    """``catalog/``: all tables, and a page for each."""
    groups = [
        ("table", "Released tables", facts.of_kind("table")),
        ("source", "Sources", facts.of_kind("source")),
        ("model", "What they are built from", facts.of_kind("model", "seed", "snapshot")),
    ]
    site.page("catalog/index.html", "catalog.html", title="Catalog", section="catalog", groups=groups)
    reading: dict[str, list[Board]] = {}
    for board in boards:
        for name in board.reads:
            reading.setdefault(name, []).append(board)
    for entry in facts.entries.values():
        site.page(
            entry.href,
            "table.html",
            title=entry.name,
            section="catalog",
            entry=entry,
            facts=facts,
            columns=entry.columns[:_WIDE],
            more=entry.columns[_WIDE:],
            above=[facts.entries[id] for id in entry.parents],
            below=[facts.entries[id] for id in entry.children],
            data=["lineage"],
            scripts=["lineage.js"],
            boards=reading.get(str(entry.table).lower(), ()),
        )


def write_checks(site: Site, facts: Facts) -> None:
    """``checks.html``: what each check says, by table."""
    by_table: dict[str, list[CheckFacts]] = {}
    for check in facts.checks:
        by_table.setdefault(check.entry, []).append(check)
    groups = [(facts.entries.get(id), checks, count_tones(checks)) for id, checks in by_table.items()]
    site.page(
        "checks.html",
        "checks.html",
        title="Checks",
        section="checks",
        groups=sorted(groups, key=_worst_first),
        counts=count_tones(facts.checks),
        releases=facts.releases[::-1] if len(facts.releases) > 1 else (),
    )


def count_tones(checks: Iterable[CheckFacts]) -> Counter[str]:
    """How many checks say what."""
    return Counter(check.tone for check in checks)


def _worst_first(group: tuple[Entry | None, Sequence[CheckFacts], Counter[str]]) -> tuple[int, str]:
    entry, _, tones = group
    rank = 0 if tones["bad"] else 1 if tones["warn"] else 2
    return rank, entry.name.lower() if entry else "~"


def _history_charts(facts: Facts) -> dict[str, Any]:
    """Vega-Lite for the charts of runs and of rows; colours come from the page."""
    runs = [
        {
            "run": f"{run.run}",
            "started": run.started.isoformat(timespec="seconds"),
            "seconds": round(run.seconds, 1),
            "status": run.status,
            "release": run.release,
        }
        for run in facts.runs
    ]
    largest = sorted(facts.of_kind("table"), key=lambda entry: -(entry.rows or 0))[:_CHARTED]
    rows = [
        {"table": entry.name, "release": number, "rows": count}
        for entry in largest
        for number, _, count in entry.history
    ]
    return {"runs": runs, "rows": rows}
