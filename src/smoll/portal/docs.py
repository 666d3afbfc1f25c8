"""dbt docs as a part of the portal: dbt's page and its manifest, and a catalog of what smoll knows anyway.

dbt would ask the warehouse for a catalog of its own, which smoll holds at that moment, and has looked at already.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from smoll.portal.assets import keep, kept, share
from smoll.portal.facts import Entry, Facts
from smoll.portal.gather import Ingredients
from smoll.portal.site import Site
from smoll.transform.docs import docs_page

_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; base-uri 'none'; form-action 'none'"
)
_HEAD = f"""<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="referrer" content="no-referrer">
<script src="../data/dbt.js"></script>
<script src="../assets/dbt-docs.js" defer></script>
<style>.to-portal {{ position: fixed; right: 1rem; top: .55rem; z-index: 2000; padding: .3rem .8rem; border-radius: 6px;
background: #fff; color: #1f5fd0; font: 14px system-ui, sans-serif; box-shadow: 0 1px 4px rgb(0 0 0 / 30%); }}</style>
</head>"""
_BACK = '<a class="to-portal" href="../index.html" target="_self">Back to the portal</a></body>'
_STRANGE = (
    '<link rel="canonical" href="/overview/"/>',
    '<link rel="shortcut icon" href="${require(\'./assets/favicons/favicon.ico\')}"/>',
)


def write_docs(site: Site, facts: Facts, of: Ingredients) -> None:
    """``dbt/index.html`` with its data. Raises TransformError where dbt's page is of an unknown form."""
    name = f"dbt-docs-{version('dbt-core')}.js"
    page, script = docs_page("window.smollData.dbt")
    path = kept(of.layout, name) if kept(of.layout, name).exists() else keep(of.layout, name, script)
    (site.folder / "assets").mkdir(parents=True, exist_ok=True)
    share(path, site.folder / "assets" / "dbt-docs.js")
    for strange in _STRANGE:
        page = page.replace(strange, "")
    site.write("dbt/index.html", page.replace("</head>", _HEAD, 1).replace("</body>", _BACK, 1))
    root = f"{of.config.root}/"
    clean = _cleaner(lambda text: of.config.redact(text.replace(root, "")))
    site.data("dbt", {"manifest": clean(of.dbt.docs()), "catalog": _catalog(facts)})


def _cleaner(change: Callable[[str], str]) -> Callable[[Any], Any]:
    """Change every text of a JSON value."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, (list, tuple)) else value

    return clean


def _catalog(facts: Facts) -> dict[str, Any]:
    nodes: dict[str, Any] = {}
    sources: dict[str, Any] = {}
    for entry in facts.entries.values():
        if entry.table is not None and any(column.type for column in entry.columns):
            (sources if entry.kind == "source" else nodes)[entry.id] = _table(entry)
    return {"metadata": {}, "nodes": nodes, "sources": sources, "errors": None}


def _table(entry: Entry) -> dict[str, Any]:
    assert entry.table is not None
    kind = "VIEW" if entry.materialized == "view" else "TABLE"
    about = {"type": kind, "owner": ", ".join(entry.owners), "comment": "", "database": ""}
    has_stats = {"id": "has_stats", "label": "Has Stats?", "value": entry.rows is not None, "include": False}
    rows = {"id": "rows", "label": "Rows", "value": entry.rows, "include": entry.rows is not None}
    return {
        "unique_id": entry.id,
        "metadata": {**about, "schema": entry.table.schema, "name": entry.table.name},
        "columns": {
            column.name: {"name": column.name, "type": column.type, "index": index, "comment": ""}
            for index, column in enumerate(entry.columns, 1)
        },
        "stats": {"has_stats": {**has_stats, "description": ""}, "rows": {**rows, "description": "As of the release"}},
    }
