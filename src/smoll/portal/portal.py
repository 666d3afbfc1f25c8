"""The whole portal: facts, pages, data, assets, in the folder of a release that is being staged."""

from __future__ import annotations

from pathlib import Path

from smoll.portal.assets import put_assets
from smoll.portal.boards import has_dashboards, write_dashboards
from smoll.portal.docs import write_docs
from smoll.portal.gather import Ingredients, gather
from smoll.portal.lineage import write_lineage
from smoll.portal.pages import write_catalog, write_checks, write_overview
from smoll.portal.personal import find_hidden
from smoll.portal.search import search_entries
from smoll.portal.site import Site, sync_tree

FOLDER = "portal"
"""Of the portal, in a release."""


def write_portal(release: Path, of: Ingredients) -> None:
    """Write the portal into the folder of a release, and sync it.

    Raises
    ------
    OSError
        The disk refuses.
    duckdb.Error
        A table cannot be read.
    DashboardProblems
        A dashboard cannot be shown as it is.
    ReleaseError
        What all pages need cannot be made.
    """
    folder = release / FOLDER
    folder.mkdir()
    site = Site(folder, _shared(of))
    hidden = find_hidden(of.dbt, of.warehouse, of.layout.column_lineage)
    boards = write_dashboards(site, of, {str(table.ref).lower(): hidden(table.id) for table in of.manifest.tables})
    facts = gather(of, hidden)
    write_overview(site, facts, boards)
    write_catalog(site, facts, boards)
    write_lineage(site, facts, of, boards)
    write_checks(site, facts)
    write_docs(site, facts, of)
    site.data("search", search_entries(facts, boards))
    put_assets(of.layout, folder / "assets", charts=bool(site.charted))
    sync_tree(folder)


def _shared(of: Ingredients) -> dict[str, object]:
    """What every page says."""
    navigation = [
        ("overview", "Overview", "index.html"),
        *([("dashboards", "Dashboards", "dashboards/index.html")] if has_dashboards(of.config.root) else []),
        ("catalog", "Catalog", "catalog/index.html"),
        ("lineage", "Lineage", "lineage.html"),
        ("checks", "Checks", "checks.html"),
        ("dbt", "dbt docs", "dbt/index.html"),
    ]
    return {"project": of.config.name, "release": of.manifest, "navigation": navigation}
