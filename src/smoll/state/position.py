"""From where a stream goes on, in words: out of a state that a load, or a person, has stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_LONGEST = 80
_VALUES = ("replication_key_value", "last_value")


def position(state: Mapping[str, Any]) -> str:
    """The cursor in a stream's state: smoll's own, dlt's, or a connector's bookmark; "" where it has none."""
    if state.get("column") is not None:
        return f"{state['column']} = {state.get('cursor')}"
    found = list(_cursors(state.get("bookmark") or _below(_below(state, "dlt"), "resources")))
    if not found and isinstance(state.get("bookmark"), Mapping):
        bookmark = state["bookmark"].get("stream_state", state["bookmark"])
        found = [json.dumps(bookmark, ensure_ascii=False)] if bookmark else []
    text = ", ".join(found)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _cursors(state: Any, name: str = "") -> Iterator[str]:
    """The cursors of dlt and of Singer's taps in a state, as far inside as they stand."""
    if not isinstance(state, Mapping):
        return
    for key in _VALUES:
        if state.get(key) is not None:
            yield f"{state.get('replication_key', name)} = {state[key]}"
    for key, value in state.items():
        yield from _cursors(value, str(key))


def _below(state: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mapping in a state, which people may have set to anything."""
    value = state.get(key)
    return value if isinstance(value, Mapping) else {}
