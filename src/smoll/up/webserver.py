"""Dagster's webserver behind the guard, on a socket that it is given: ``python -m smoll.up.webserver``.

It sleeps when nobody has called for a while. Dagster takes 130 MB here, and most of the time nobody looks: the process
becomes one that has not imported it yet (exec), waits for a call, and serves it a few seconds later.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from smoll.up.guard import App, Guard, Receive, Scope, Send

# As Dagster's own command sets them (dagster_webserver/cli.py).
_STATEMENT_MILLISECONDS, _POOL_SECONDS, _POOL_OVERFLOW = 15_000, 3_600, 20
_POLL_MILLISECONDS = 2_000
_GRACE_SECONDS = 2
SLEEP_AFTER = 600.0
"""Seconds. Somebody who reads a page for longer has it open, which calls all the time."""


def main() -> None:
    """Serve until a signal comes. At the end, cancel what runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True, help="the descriptor of a bound socket")
    parser.add_argument("--workspace", required=True, help="the file that says where the definitions are")
    parser.add_argument("--sleep-after", type=float, default=SLEEP_AFTER, help="seconds without a call")
    parser.add_argument("--asleep", action="store_true", help="wait for a call first")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    listener = socket.socket(fileno=options.socket)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if options.asleep:
            select.select([listener], [], [])
        serve(listener.dup(), options.workspace, options.sleep_after)  # uvicorn closes it
    except KeyboardInterrupt:
        _cancel_runs()
    else:
        _sleep()


def serve(listener: socket.socket, workspace: str, sleep_after: float) -> None:
    """Serve the instance of DAGSTER_HOME on a socket, until nobody has called for a while.

    The socket is the supervisor's: nobody else can take the port while this process starts again, and calls wait.

    Raises
    ------
    KeyboardInterrupt
        A signal came.
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
            visitors = _Visitors(Guard(app))
            config = uvicorn.Config(
                visitors, log_level="warning", timeout_graceful_shutdown=_GRACE_SECONDS, proxy_headers=False
            )
            server = uvicorn.Server(config)

            def leave_when_alone() -> None:
                while not visitors.gone_for(sleep_after):
                    time.sleep(sleep_after / 10)
                server.should_exit = True

            threading.Thread(target=leave_when_alone, name="smoll-visitors", daemon=True).start()
            server.run(sockets=[listener])  # after a signal it sends itself the same again


class _Visitors:
    """Knows whether somebody is there. A page that is open has a websocket, and calls every few seconds."""

    def __init__(self, app: App) -> None:
        self._app, self._present, self._last = app, 0, time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # it lasts as long as the server
            await self._app(scope, receive, send)
            return
        self._present += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._present -= 1
            self._last = time.monotonic()

    def gone_for(self, seconds: float) -> bool:
        return not self._present and time.monotonic() - self._last > seconds


def _sleep() -> None:
    """Become a process that has imported nothing, with the same number and the same socket."""
    words = [word for word in sys.argv[1:] if word != "--asleep"]
    print("Nobody has called for a while: asleep until somebody does.", file=sys.stderr, flush=True)
    command = [sys.executable, "-P", "-m", "smoll.up.webserver", *words, "--asleep"]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it waits until the new process knows what to do
    os.execv(sys.executable, command)  # noqa: S606, no shell is what is wanted


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
