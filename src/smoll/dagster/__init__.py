"""A project in Dagster: its streams, models and releases as one asset graph, with nothing to wire.

``definitions.py`` of a project::

    import smoll.dagster

    defs = smoll.dagster.definitions(__file__)
"""

import importlib.util

if importlib.util.find_spec("dagster") is None:
    raise ModuleNotFoundError("smoll.dagster needs Dagster: pip install 'smoll[dagster]'", name="dagster")

from smoll.dagster.component import ProjectComponent
from smoll.dagster.definitions import definitions

__all__ = ["ProjectComponent", "definitions"]
