"""Transform: a plain dbt project, run in this process by smoll's own profile."""

from smoll.transform.dbt import Dbt, open_dbt
from smoll.transform.graph import Graph, GraphNode
from smoll.transform.sources_file import write_sources_file

__all__ = ["Dbt", "Graph", "GraphNode", "open_dbt", "write_sources_file"]
