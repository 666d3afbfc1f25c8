"""Questions to Dagster's processes, in the words that the processes themselves understand. Imports no Dagster."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

_SECONDS = 5.0
_HEARTBEATS = "{ instance { daemonHealth { allDaemonStatuses { required lastHeartbeatTime } } } }"
_LOCATIONS = """{ workspaceOrError {
  ... on Workspace { locationEntries { loadStatus locationOrLoadError { ... on PythonError { message stack } } } }
  ... on PythonError { message stack }
} }"""


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
    entries = workspace.get("locationEntries") or [{"locationOrLoadError": workspace}]
    errors = [entry["locationOrLoadError"] or {} for entry in entries]
    return next((tuple(error["message"].strip().splitlines()) for error in errors if error.get("message")), None)


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
