"""Streamlit behind the guard: ``python -m smoll.up.apps PROJECT --socket DESCRIPTOR``. Serves `smoll.apps`."""

from __future__ import annotations

import resource
import socket
import sys
from pathlib import Path
from typing import Any

from smoll.up.guard import FRAMED_BY_ITSELF, Guard, refuse
from smoll.up.visitors import attend, serve_until_alone

PATH = "/apps"
"""Under which they are served."""
_PYTHON_SHARE = 1024**3
"""Beside DuckDB's own limit: Python, pandas, what sessions keep, and the stacks of their threads, which count whole."""
_OPTIONS = {
    "server.baseUrlPath": PATH[1:],
    "server.headless": True,
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",  # no button that deploys elsewhere
    "logger.hideWelcomeMessage": True,
}
_PORTAL_COLOURS = {
    "theme.light.backgroundColor": "#f6f7f9",
    "theme.light.secondaryBackgroundColor": "#ffffff",
    "theme.light.textColor": "#16202c",
    "theme.light.primaryColor": "#1f5fd0",
    "theme.light.linkColor": "#1f5fd0",
    "theme.light.borderColor": "#dfe4ea",
    "theme.light.chartCategoricalColors": ["#2f6fde", "#e0823d", "#2b9c8f", "#a765c9", "#c4485f", "#7a8b2e"],
    "theme.dark.backgroundColor": "#10151c",
    "theme.dark.secondaryBackgroundColor": "#18202a",
    "theme.dark.textColor": "#e6ebf1",
    "theme.dark.primaryColor": "#82b1ff",
    "theme.dark.linkColor": "#82b1ff",
    "theme.dark.borderColor": "#2d3947",
    "theme.dark.chartCategoricalColors": ["#6ea4ff", "#f0a266", "#59c7b9", "#c795e3", "#ec7f92", "#b4c45e"],
}
"""Those of the portal (portal/static/portal.css), where the project has no configuration of Streamlit's own."""


def main() -> None:
    """Serve until a signal comes."""
    attend("smoll.up.apps", serve)


def serve(listener: socket.socket, sleep_after: float, root: str) -> None:
    """Serve the apps of the project in `root` on a socket, until nobody has called for a while.

    Raises
    ------
    KeyboardInterrupt
        A signal came.
    """
    from streamlit import net_util
    from streamlit.runtime.caching.storage import local_disk_cache_storage
    from streamlit.starlette import App
    from streamlit.web import bootstrap

    _bound_memory(Path(root))
    home = Path(root, ".smoll", "streamlit")
    storage: Any = local_disk_cache_storage
    storage.get_streamlit_file_path = lambda *names: str(home.joinpath(*names))
    net_util.get_external_ip = lambda: None  # it would ask a server elsewhere
    has_own = Path(root, ".streamlit", "config.toml").exists()
    bootstrap.load_config_options({**_OPTIONS, **({} if has_own else _PORTAL_COLOURS)})
    sys.path.append(str(Path(root, "apps")))  # for what apps import from beside them
    app = App(Path(__file__).parents[1] / "apps" / "main.py")
    serve_until_alone(Guard(app, refuse, FRAMED_BY_ITSELF), listener, sleep_after)


def _bound_memory(root: Path) -> None:
    """Let this process have no more memory than that: DuckDB's limit counts no single value, and nothing of Python.

    Only Linux counts what a process has written to (RLIMIT_DATA).
    """
    from smoll.errors import SmollError
    from smoll.project import load_config
    from smoll.warehouse import engine_settings

    try:
        resources = load_config(root).resources
    except SmollError:  # the page will say so
        return
    settings = engine_settings(resources, root)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = settings.memory + _PYTHON_SHARE
    if sys.platform == "linux" and (hard == resource.RLIM_INFINITY or limit < hard):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


if __name__ == "__main__":
    main()
