"""Dagster's webserver behind the guard, on a socket that it is given: ``python -m smoll.up.webserver``."""

from __future__ import annotations

import argparse
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from smoll.up.guard import Guard
from smoll.up.runs import cancel_runs

# As Dagster's own command sets them (dagster_webserver/cli.py).
_STATEMENT_MILLISECONDS, _POOL_SECONDS, _POOL_OVERFLOW = 15_000, 3_600, 20
_POLL_MILLISECONDS = 2_000
_GRACE_SECONDS = 2


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True, help="the descriptor of a bound socket")
    parser.add_argument("--workspace", required=True, help="the file that says where the definitions are")
    options = parser.parse_args()
    serve(socket.socket(fileno=options.socket), options.workspace)


def serve(listener: socket.socket, workspace: str) -> None:
    """Serve the instance of DAGSTER_HOME on a socket. At the end, cancel what runs.

    The socket is the supervisor's: nobody else can take the port while this process starts again, and calls wait.
    """
    import uvicorn
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
                context, live_data_poll_rate=_POLL_MILLISECONDS, lifespan=_lifespan
            )
            config = uvicorn.Config(
                Guard(app), log_level="warning", timeout_graceful_shutdown=_GRACE_SECONDS, proxy_headers=False
            )
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn sends itself again what ended it
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])
            cancel_runs(instance)


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    yield


if __name__ == "__main__":
    main()
