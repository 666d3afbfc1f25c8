"""Dagster's code server, which ends when it is of no use: ``python -m smoll.up.code_server --socket PATH ARGUMENT...``.

``dagster code-server start`` holds the project's definitions in a process of their own, and starts another one when
somebody presses "Reload". When that process dies, it does nothing, and answers nothing from then on. Here it ends, and
the supervisor starts both again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LOOK_SECONDS, _SILENT_LOOKS = 2.0, 3


def main() -> None:
    """Serve until a signal comes, or what is served has died."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True)
    options, arguments = parser.parse_known_args()
    from dagster._cli.code_server import start_command

    tempfile.tempdir = str(Path(options.socket).parent)  # of this process: here Dagster makes the inner socket
    ending = threading.Event()
    # Dagster makes SIGTERM what SIGINT is (setup_interrupt_handlers). Its own way waits for runs as long as they take.
    signal.signal(signal.SIGINT, lambda number, frame: ending.set())
    threading.Thread(target=_attend, args=(options.socket, ending), name="smoll-attendant", daemon=True).start()
    start_command(["--socket", options.socket, *arguments], standalone_mode=False)


def _attend(socket: str, ending: threading.Event) -> None:
    """Wait for the end: a signal, or silence of the process with the definitions."""
    from dagster._grpc.client import DagsterGrpcClient

    client, silent = DagsterGrpcClient(socket=socket), 0
    while not ending.wait(_LOOK_SECONDS):
        silent = silent + 1 if _answers(client.heartbeat) and not _answers(client.ping) else 0
        if silent >= _SILENT_LOOKS:
            print("The process with the definitions has ended.", file=sys.stderr, flush=True)
            os._exit(1)
    os._exit(0)  # the supervisor ends the process behind it, and the runs, with the whole group


def _answers(question: Callable[[str], Any]) -> bool:
    """A heartbeat is answered here, once all is loaded; a ping by the process with the definitions."""
    from dagster._core.errors import DagsterUserCodeUnreachableError

    try:
        question("")
    except DagsterUserCodeUnreachableError:
        return False
    return True


if __name__ == "__main__":
    main()
