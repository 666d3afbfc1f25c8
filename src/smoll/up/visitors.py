"""A web server behind a socket that it is given, which sleeps when nobody has called for a while.

Dagster's takes 130 MB and Streamlit's as much, and most of the time nobody looks: the process becomes one that has
imported nothing (exec), waits for a call, and serves it a few seconds later. The socket is the supervisor's, so calls
wait in it meanwhile.
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
from collections.abc import Callable
from typing import Any

from smoll.up.guard import App, Receive, Scope, Send

_GRACE_SECONDS = 2
SLEEP_AFTER = 600.0
"""Seconds. Somebody who reads a page for longer has it open, which calls all the time."""
Serve = Callable[[socket.socket, float, str], None]


def attend(module: str, serve: Serve, at_the_end: Callable[[], None] = lambda: None) -> None:
    """Be the main function of a module: call `serve` when somebody calls, become asleep when it returns.

    ``serve`` gets the socket, the seconds without a call after which it is to return, and what it is to serve.
    ``at_the_end`` is called when a signal has come.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("what", help="what is served")
    parser.add_argument("--socket", type=int, required=True, help="the descriptor of a listening socket")
    parser.add_argument("--sleep-after", type=float, default=SLEEP_AFTER, help="seconds without a call")
    parser.add_argument("--asleep", action="store_true", help="wait for a call first")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    listener = socket.socket(fileno=options.socket)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if options.asleep:
            _wait_for_a_call(listener)
        serve(listener.dup(), options.sleep_after, options.what)  # uvicorn closes it
    except KeyboardInterrupt:
        at_the_end()
    else:
        _sleep(module)


def _wait_for_a_call(listener: socket.socket) -> None:
    """Sleep until somebody calls, or a signal comes; also one that Python notes just before select()."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told)
    try:
        select.select([listener, heard], [], [])
    finally:
        signal.set_wakeup_fd(before)
        os.close(told)
        os.close(heard)


def serve_until_alone(app: App, listener: socket.socket, sleep_after: float, **settings: Any) -> None:
    """Serve an app by uvicorn, until nobody has called for a while.

    Raises
    ------
    KeyboardInterrupt
        A signal came.
    """
    import uvicorn

    visitors = _Visitors(app)
    config = uvicorn.Config(
        visitors, log_level="warning", timeout_graceful_shutdown=_GRACE_SECONDS, proxy_headers=False, **settings
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


def _sleep(module: str) -> None:
    """Become a process that has imported nothing, with the same number and the same socket."""
    words = [word for word in sys.argv[1:] if word != "--asleep"]
    print("Nobody has called for a while: asleep until somebody does.", file=sys.stderr, flush=True)
    command = [sys.executable, "-P", "-m", module, *words, "--asleep"]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it waits until the new process knows what to do
    os.execv(sys.executable, command)  # noqa: S606, no shell is what is wanted
