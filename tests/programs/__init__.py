"""Connectors of the tests: scripts for a fake one (see `player.py`), which the real machinery runs as it runs any."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import smoll
from smoll.model import RunResult, StreamResult
from support import write

PLAYER = Path(__file__).with_name("player.py").read_text(encoding="utf-8")
PROTOCOLS = ("singer", "airbyte")
PROGRAM = {"singer": {"tap": "./tools/player.py"}, "airbyte": {"connector": "./tools/player.py"}}
INTEGER, TEXT, NUMBER = ({"type": ["null", kind]} for kind in ("integer", "string", "number"))


def source(protocol: str, play: str = "s", **options: Any) -> dict[str, Any]:
    """A source that plays the script ``play/<play>``."""
    config = {**({} if play == "s" else {"play": play}), **options.pop("config", {})}
    return {"kind": protocol, **PROGRAM[protocol], **({"config": config} if config else {}), **options}


def yml(protocol: str, **options: Any) -> str:
    """A project of one source ``s``."""
    return project_yml({"s": source(protocol, **options)})


def one(protocol: str, source_options: Mapping[str, Any] | None = None, **options: Any) -> str:
    """A project of one source ``s`` with one stream ``t``, with these options."""
    return yml(protocol, **(source_options or {}), streams={"t": options})


def project_yml(sources: Mapping[str, Any]) -> str:
    return f"sources: {json.dumps(sources)}\n"


# --- messages


def record(protocol: str, data: Any, stream: str = "t", **more: Any) -> str:
    """A RECORD; `data` as it is written, or to be written as JSON."""
    text = data if isinstance(data, str) else json.dumps(data)
    if protocol == "singer":
        rest = "".join(f", {json.dumps(key)}: {json.dumps(value)}" for key, value in more.items())
        return f'{{"type": "RECORD", "stream": {json.dumps(stream)}, "record": {text}{rest}}}'
    rest = "".join(f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in more.items())
    return f'{{"type": "RECORD", "record": {{"stream": {json.dumps(stream)}, {rest}"emitted_at": 1, "data": {text}}}}}'


def state(protocol: str, value: Any, stream: str = "t", count: int | None = None) -> str:
    """A STATE with the bookmark of one stream."""
    if protocol == "singer":
        return json.dumps({"type": "STATE", "value": {"bookmarks": {stream: value}}})
    own = {"stream_descriptor": {"name": stream}, "stream_state": value}
    stats = {} if count is None else {"sourceStats": {"recordCount": count}}
    return json.dumps({"type": "STATE", "state": {"type": "STREAM", "stream": own, **stats}})


def json_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties)}


def schema(properties: Mapping[str, Any], stream: str = "t", key: Sequence[str] = (), **more: Any) -> str:
    """A SCHEMA of Singer."""
    return json.dumps(
        {"type": "SCHEMA", "stream": stream, "schema": json_schema(properties), "key_properties": [*key], **more}
    )


def catalog(protocol: str, streams: Mapping[str, Mapping[str, Any]]) -> str:
    """A catalog: of each stream its ``properties``, and what else is to stand in its entry."""
    entries: list[dict[str, Any]] = []
    for name, about in streams.items():
        entry: dict[str, Any]
        rest = {key: value for key, value in about.items() if key not in ("properties", "key", "full")}
        described, key = json_schema(about["properties"]), list(about.get("key", ()))
        if protocol == "singer":
            own = {"selected": True, "table-key-properties": key}
            own |= {} if about.get("full", True) else {"replication-method": "INCREMENTAL"}
            entry = {"tap_stream_id": name, "stream": name, "schema": described, "key_properties": key}
            entries.append({**entry, "metadata": [{"breadcrumb": [], "metadata": own}], **rest})
        else:
            modes = ["full_refresh"] if about.get("full", True) else ["full_refresh", "incremental"]
            entry = {"name": name, "json_schema": described, "supported_sync_modes": modes}
            entry |= {"source_defined_primary_key": [[name] for name in key], "source_defined_cursor": True}
            entries.append({**entry, **rest})
    return json.dumps({"streams": entries})


def files(
    protocol: str,
    properties: Mapping[str, Any],
    lines: Iterable[Any] = (),
    *,
    play: str = "s",
    key: Sequence[str] = (),
    full: bool = True,
    end: Iterable[str] = (),
) -> dict[str, str | bytes]:
    """The fake connector, with a script that sends these records of one stream ``t``.

    Parameters
    ----------
    lines
        Records, as values or as their text; a whole message, or an order, where it begins with ``{"type"`` or ``#``.
    end
        Lines of the script after the records.
    """
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    body = [line if line.startswith(('{"type"', "#")) else record(protocol, line) for line in texts]
    head = [schema(properties, key=key)] if protocol == "singer" else [status("STARTED")]
    tail = [] if protocol == "singer" else [status("COMPLETE")]
    about = {"properties": properties, "key": key, "full": full}
    return {
        "tools/player.py": PLAYER,
        f"play/{play}.catalog": catalog(protocol, {"t": about}),
        f"play/{play}": script([*head, *body, *tail, *end]),
    }


def change(project: smoll.Project, files: Mapping[str, str | bytes]) -> None:
    """Write another script. The program stays: another one has nothing to do with what the first had sent."""
    write(project.config.root, {name: text for name, text in files.items() if not name.startswith("tools/")})


def status(kind: str, stream: str = "t", **descriptor: Any) -> str:
    """A STREAM_STATUS of Airbyte."""
    told = {"stream_descriptor": {"name": stream, **descriptor}, "status": kind}
    return json.dumps({"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": told}})


def trace(message: str, stream: str | None = None, **error: Any) -> str:
    """A TRACE of Airbyte with an error."""
    where = {"stream_descriptor": {"name": stream}} if stream else {}
    told = {"message": message, **where, **error}
    return json.dumps({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1, "error": told}})


def script(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


# --- what happened


def run(project: smoll.Project, **options: Any) -> dict[str, StreamResult]:
    """A run that must succeed; its streams by name."""
    result = project.run(**options)
    assert result.status == "ok", [result.error, *(stream.error for stream in result.streams)]
    return {stream.ref.stream: stream for stream in result.streams}


def failure(project: smoll.Project, **options: Any) -> str:
    """What a run says that must fail."""
    return error_of(project.run(**options))


def error_of(result: RunResult) -> str:
    assert result.status == "failed"
    return "\n".join(dict.fromkeys(filter(None, [result.error, *(stream.error for stream in result.streams)])))


def calls(project: smoll.Project, asked: str = "read", play: str = "s") -> list[dict[str, Any]]:
    """What the connector was given, each time that it was asked so."""
    path = project.config.root / "play" / f"{play}.calls"
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [call for call in found if call["asked"] == asked]


def has_received(root: Path, source: str = "s") -> bool:
    """True where a run has put something down that the next one can go on from."""
    log = root / ".smoll" / "journals" / source / "log.ndjson"
    return log.exists() and b"checkpoint" in log.read_bytes()


def journals(project: smoll.Project) -> list[str]:
    """The sources of which something received is kept."""
    folder = project.config.root / ".smoll" / "journals"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
