"""What comes of what: sources, models, released tables and dashboards, by table and by column."""

from smoll.lineage.columns import Above, ColumnLineage, ColumnRef, compiled_queries, find_lineage, tables_read
from smoll.lineage.graph import LineageGraph, LineageNode, Reader, lineage_graph, to_json
from smoll.lineage.personal import personal_columns, with_personal

__all__ = [
    "Above",
    "ColumnLineage",
    "ColumnRef",
    "LineageGraph",
    "LineageNode",
    "Reader",
    "compiled_queries",
    "find_lineage",
    "lineage_graph",
    "personal_columns",
    "tables_read",
    "to_json",
    "with_personal",
]
