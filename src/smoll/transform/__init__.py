"""Transform: a plain dbt project, run in this process by smoll's own profile."""

from smoll.transform.dbt import HOOK, Dbt, open_dbt
from smoll.transform.declared import OwnCheck, declare
from smoll.transform.graph import OWN_CHECK, Exposure, Graph, GraphNode
from smoll.transform.personal import without_values
from smoll.transform.sources_file import SourceTable, sources_file, write_sources_file

__all__ = [
    "HOOK",
    "OWN_CHECK",
    "Dbt",
    "Exposure",
    "Graph",
    "GraphNode",
    "OwnCheck",
    "SourceTable",
    "declare",
    "open_dbt",
    "sources_file",
    "without_values",
    "write_sources_file",
]
