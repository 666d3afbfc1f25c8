"""The portal: a static site in every release, that needs nothing but a file server, or not even that."""

from smoll.portal.assets import prepare_scripts
from smoll.portal.boards import DashboardProblems, dashboards_hash
from smoll.portal.gather import Ingredients
from smoll.portal.portal import write_portal
from smoll.portal.site import Site

__all__ = ["DashboardProblems", "Ingredients", "Site", "dashboards_hash", "prepare_scripts", "write_portal"]
