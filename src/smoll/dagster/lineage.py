"""The lineage of columns as Dagster's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from smoll.dagster.names import Names
from smoll.lineage import Above


def column_lineage(names: Names, above: Above | None) -> Mapping[str, Any]:
    """What is known of a model's columns, for its metadata; {} where its SQL does not tell."""
    keys = {str(table).lower(): key for key, table in names.tables.items()}
    deps = {
        column: [
            dg.TableColumnDep(keys[str(ref.table).lower()], ref.column)
            for ref in refs
            if str(ref.table).lower() in keys
        ]
        for column, refs in (above or {}).items()
    }
    deps = {column: found for column, found in deps.items() if found}
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)} if deps else {}
