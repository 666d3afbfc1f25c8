"""Transform: a plain dbt project, run in this process by smoll's own profile."""

from smoll.transform.dbt import HOOK, Dbt, open_dbt
from smoll.transform.graph import Exposure, Graph, GraphNode
from smoll.transform.sources_file import SourceTable, sources_file, write_sources_file

__all__ = [
    "HOOK",
    "Dbt",
    "Exposure",
    "Graph",
    "GraphNode",
    "SourceTable",
    "open_dbt",
    "sources_file",
    "write_sources_file",
]
