"""A project in Dagster: its streams, models and releases as one asset graph, with nothing to wire.

``definitions.py`` of a project::

    import smoll.dagster

    defs = smoll.dagster.definitions(__file__)
"""

from smoll.dagster.component import ProjectComponent
from smoll.dagster.definitions import definitions

__all__ = ["ProjectComponent", "definitions"]
