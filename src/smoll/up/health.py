"""Questions to the processes of `smoll up`, in words that they themselves understand. Imports no Dagster.

A server is asked on its own socket, a path, or through the front, on a port.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

Address = int | Path
_SECONDS = 5.0
_DAGSTER = "/dagster"
_HEARTBEATS = "{ instance { daemonHealth { allDaemonStatuses { required lastHeartbeatTime } } } }"
_LOCATIONS = """{ workspaceOrError { __typename
  ... on Workspace { locationEntries { locationOrLoadError { __typename ...error } } }
  ...error
} }
fragment error on PythonError { message stack errorChain { error { message stack } } }"""
_SHOWN_FRAMES = 2


def is_listening(path: Path) -> bool:
    """Whether somebody takes calls on this socket."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(_SECONDS)
        return asked.connect_ex(str(path)) == 0


def is_answering(port: int) -> bool:
    """Whether the front answers; what, is the same."""
    try:
        return bool(_ask(port, "HEAD", "/")[0])
    except (OSError, HTTPException):
        return False


def is_serving(address: Address) -> bool:
    """Whether Dagster's webserver answers."""
    try:
        return json.loads(_ask(address, "GET", f"{_DAGSTER}/server_info")[1]) is not None
    except (OSError, HTTPException, ValueError):
        return False


def is_beating(address: Address, since: float) -> bool:
    """Whether every part of the daemon has given a sign of life since a time (in seconds of the epoch)."""
    try:
        found = query(address, _HEARTBEATS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return False
    needed = [status["lastHeartbeatTime"] for status in found if status["required"]]
    return bool(needed) and all(beat is not None and beat >= since for beat in needed)


def load_error(address: Address) -> tuple[str, ...] | None:
    """Why the definitions cannot be loaded, the last lines of the traceback; None where they are, or nobody says."""
    try:
        workspace = query(address, _LOCATIONS)["workspaceOrError"]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return None
    found = [entry["locationOrLoadError"] or {} for entry in workspace.get("locationEntries", ())]
    return next((_last_words(each) for each in (workspace, *found) if each.get("__typename") == "PythonError"), None)


def _last_words(error: dict[str, Any]) -> tuple[str, ...]:
    """The end of the traceback of what caused an error: Dagster wraps it into its own."""
    cause = ([link["error"] for link in error.get("errorChain") or ()] or [error])[-1]
    frames = [frame for frame in cause["stack"] if "<frozen " not in frame]  # the import machinery
    text = "".join([*frames[-_SHOWN_FRAMES:], cause["message"]])
    return tuple(line for line in text.splitlines() if line.strip())


def query(address: Address, text: str, variables: dict[str, Any] | None = None) -> Any:
    """Ask the webserver in GraphQL. Returns the data.

    Raises
    ------
    OSError, http.client.HTTPException, ValueError
        It does not answer, or not in JSON.
    LookupError
        It answers without data.
    """
    body = json.dumps({"query": text, "variables": variables})
    return json.loads(_ask(address, "POST", f"{_DAGSTER}/graphql", body)[1])["data"]


def _ask(address: Address, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", address if isinstance(address, int) else None, timeout=_SECONDS)
    try:
        if isinstance(address, Path):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_SECONDS)
            connection.sock.connect(str(address))
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
