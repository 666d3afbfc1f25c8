"""Questions to Dagster's processes, in the words that the processes themselves understand. Imports no Dagster."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

_SECONDS = 5.0
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


def is_serving(port: int) -> bool:
    """Whether the webserver answers."""
    try:
        return _ask(port, "GET", "/server_info") is not None
    except (OSError, HTTPException, ValueError):
        return False


def is_beating(port: int, since: float) -> bool:
    """Whether every part of the daemon has given a sign of life since a time (in seconds of the epoch)."""
    try:
        found = query(port, _HEARTBEATS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return False
    needed = [status["lastHeartbeatTime"] for status in found if status["required"]]
    return bool(needed) and all(beat is not None and beat >= since for beat in needed)


def load_error(port: int) -> tuple[str, ...] | None:
    """Why the definitions cannot be loaded, the last lines of the traceback; None where they are, or nobody says."""
    try:
        workspace = query(port, _LOCATIONS)["workspaceOrError"]
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


def query(port: int, text: str, variables: dict[str, Any] | None = None) -> Any:
    """Ask the webserver in GraphQL. Returns the data.

    Raises
    ------
    OSError, http.client.HTTPException, ValueError
        It does not answer, or not in JSON.
    LookupError
        It answers without data.
    """
    body = json.dumps({"query": text, "variables": variables})
    return _ask(port, "POST", "/graphql", body)["data"]


def _ask(port: int, method: str, path: str, body: str | None = None) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return json.loads(answer.read())
    finally:
        connection.close()
