"""The definitions of the project that ``SMOLL_PROJECT`` names, for projects without a ``definitions.py``."""

import os

from smoll.dagster.definitions import definitions

defs = definitions(os.environ.get("SMOLL_PROJECT", "."))
