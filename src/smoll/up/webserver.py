"""Dagster's webserver behind the guard: ``python -m smoll.up.webserver WORKSPACE --socket DESCRIPTOR``."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from smoll.up.guard import UNFRAMED, Guard, refuse_at_dagster
from smoll.up.visitors import attend, serve_until_alone

PATH = "/dagster"
"""Under which it is served."""
# As Dagster's own command sets them (dagster_webserver/cli.py).
_STATEMENT_MILLISECONDS, _POOL_SECONDS, _POOL_OVERFLOW = 15_000, 3_600, 20
_POLL_MILLISECONDS = 2_000


def main() -> None:
    """Serve until a signal comes. At the end, cancel what runs."""
    attend("smoll.up.webserver", serve, _cancel_runs)


def serve(listener: socket.socket, sleep_after: float, workspace: str) -> None:
    """Serve the instance of DAGSTER_HOME on a socket, until nobody has called for a while.

    ``workspace``: the file that says where the definitions are.

    Raises
    ------
    KeyboardInterrupt
        A signal came.
    """
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster._utils.log import configure_loggers
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    configure_loggers(log_level="INFO")
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(_STATEMENT_MILLISECONDS, _POOL_SECONDS, _POOL_OVERFLOW)
        target = WorkspaceFileTarget(paths=[workspace])
        with WorkspaceProcessContext(instance, target, version=__version__) as context:
            app = create_app_from_workspace_process_context(
                context, PATH, live_data_poll_rate=_POLL_MILLISECONDS, lifespan=_lifespan
            )
            serve_until_alone(Guard(app, refuse_at_dagster, UNFRAMED), listener, sleep_after)


def _cancel_runs() -> None:
    from dagster import DagsterInstance

    from smoll.up.runs import cancel_runs

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(KeyboardInterrupt), DagsterInstance.get() as instance:
        cancel_runs(instance)


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    yield


if __name__ == "__main__":
    main()
