"""dbt's own documentation: the page that it ships, taken apart so that releases share its script."""

from __future__ import annotations

from typing import Any

from smoll.errors import TransformError

_SCRIPT, _END = '<script defer="defer">', "</script>"
_DATA = {"manifest": '"MANIFEST.JSON INLINE DATA"', "catalog": '"CATALOG.JSON INLINE DATA"'}
_TRACKER = "//d1fc8wv8zag5ca.cloudfront.net/2.9.0/sp.js"
_UNBOUND = ' xlink:href="{{'
"""A browser asks for that before AngularJS has put a name into it, and from the disk it complains."""
_OWN = ("dbt", "dbt_duckdb", "dbt_adapters")


def docs_page(data: str) -> tuple[str, str]:
    """The page without its script, where `_SCRIPT` begins and ends, and the script.

    Parameters
    ----------
    data
        What the script finds manifest and catalog in: JavaScript for an object with both.

    Raises
    ------
    TransformError
        The page of this version of dbt is another than that which smoll knows.
    """
    from dbt.task.docs import DOCS_INDEX_FILE_PATH

    with open(DOCS_INDEX_FILE_PATH, encoding="utf-8") as file:  # noqa: PTH123  # dbt gives text
        text = file.read()
    before, found, rest = text.partition(_SCRIPT)
    script, end, after = rest.partition(_END)
    if not found or not end or any(mark not in script for mark in _DATA.values()):
        raise TransformError("The documentation page of this dbt is of a form that smoll does not know.")
    for name, mark in _DATA.items():
        script = script.replace(mark, f"{data}.{name}")
    script = script.replace(_TRACKER, "").replace(_UNBOUND, f" ng-attr-{_UNBOUND.strip()}")
    return before + after, script


def docs_manifest(manifest: Any) -> dict[str, Any]:
    """Dbt's manifest as the page reads it: no tracking, nobody's id, and without the macros that dbt brings."""
    found: dict[str, Any] = manifest.writable_manifest().to_dict(omit_none=False)
    found["metadata"] |= {"send_anonymous_usage_stats": False, "user_id": None, "project_id": None, "env": {}}
    found["macros"] = {id: macro for id, macro in found["macros"].items() if macro["package_name"] not in _OWN}
    for nodes in (found["nodes"], found["sources"]):
        for node in nodes.values():
            node.pop("root_path", None)
    return found
