"""A fake connector with a source that only grows, as a Singer tap and as an Airbyte source: it counts.

Each of its streams has the rows 1 to the number in the file ``rows``. It sends what is behind the bookmark of a
stream, a few rows of each in turn, and a state after them. With a file ``die`` it kills itself with SIGKILL behind so
many lines; with a word behind the number, in the middle of the next one.
"""

# ruff: noqa: PTH123
from __future__ import annotations

import json
import os
import signal
import sys

STREAMS = ("merged", "added", "replaced")
AT_ONCE = 4
FIELDS = {"type": "object", "properties": {"id": {"type": "integer"}, "v": {"type": "string"}}}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    words = sys.argv[1:]
    if "--help" in words:
        print("--config --catalog --state --discover")
    elif "--discover" in words:
        print(json.dumps({"streams": [singer_stream(name) for name in STREAMS]}))
    elif words[0] == "spec":
        print(json.dumps({"type": "SPEC", "spec": {"connectionSpecification": {"type": "object"}}}))
    elif words[0] == "discover":
        streams = [airbyte_stream(name) for name in STREAMS]
        print(json.dumps({"type": "CATALOG", "catalog": {"streams": streams}}))
    else:
        send(words, is_singer=words[0] != "read")


def singer_stream(name: str) -> dict[str, Any]:
    method = "FULL_TABLE" if name == "replaced" else "INCREMENTAL"
    own = {"breadcrumb": [], "metadata": {"table-key-properties": ["id"], "replication-method": method}}
    return {"tap_stream_id": name, "stream": name, "schema": FIELDS, "key_properties": ["id"], "metadata": [own]}


def airbyte_stream(name: str) -> dict[str, Any]:
    modes = ["full_refresh", *([] if name == "replaced" else ["incremental"])]
    about = {"name": name, "json_schema": FIELDS, "supported_sync_modes": modes}
    return {**about, "source_defined_primary_key": [["id"]], "source_defined_cursor": True}


def send(words: list[str], *, is_singer: bool) -> None:
    with open("rows", encoding="utf-8") as file:
        rows = int(file.read())
    given: Any = None
    if "--state" in words:
        with open(words[words.index("--state") + 1], encoding="utf-8") as file:
            given = json.load(file)
    if is_singer:
        marks = dict((given or {}).get("bookmarks", {}))
    else:
        states = [each["stream"] for each in given or ()]
        marks = {each["stream_descriptor"]["name"]: each["stream_state"]["id"] for each in states}
    if is_singer:
        for name in STREAMS:
            write({"type": "SCHEMA", "stream": name, "schema": FIELDS, "key_properties": ["id"]})
    for first in range(1, rows + 1, AT_ONCE):
        for name in STREAMS:
            last = min(first + AT_ONCE - 1, rows)
            sent = range(max(first, marks.get(name, 0) + 1), last + 1)
            for id in sent:
                row = {"id": id, "v": f"{name} {id}"}
                if is_singer:
                    write({"type": "RECORD", "stream": name, "record": row})
                else:
                    write({"type": "RECORD", "record": {"stream": name, "data": row, "emitted_at": 1}})
            marks[name] = max(last, marks.get(name, 0))
            if not is_singer and sent:
                own = {"stream_descriptor": {"name": name}, "stream_state": {"id": marks[name]}}
                told = {"type": "STREAM", "stream": own, "sourceStats": {"recordCount": len(sent)}}
                write({"type": "STATE", "state": told})
        if is_singer:
            write({"type": "STATE", "value": {"bookmarks": marks}})
    sys.stdout.flush()


def life() -> tuple[int, bool]:
    """The lines that it has left to write, and whether it begins another one."""
    try:
        with open("die", encoding="utf-8") as file:
            number, *half = file.read().split()
            return int(number), bool(half)
    except FileNotFoundError:
        return -1, False


left, begins = life()


def write(message: dict[str, Any]) -> None:
    global left
    line = json.dumps(message)
    if left == 0:
        sys.stdout.write(line[: len(line) // 2] if begins else "")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
