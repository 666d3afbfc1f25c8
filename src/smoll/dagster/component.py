"""A smoll project as a component of a ``dg`` project: https://docs.dagster.io/guides/build/components.

In a folder under ``defs/``, a ``defs.yaml``::

    type: smoll.dagster.ProjectComponent
    attributes:
      project: ../../../../flights
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from smoll.dagster.definitions import definitions


class ProjectComponent(dg.Component, dg.Model, dg.Resolvable):
    """A smoll project: its streams, models, checks and releases.

    Parameters
    ----------
    project
        The project's folder, absolute or relative to the folder of this component. It need not be moved.
    """

    project: str = "."

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give the project's definitions. Raises what `smoll.dagster.definitions` does."""
        return definitions(Path(context.path) / self.project)
