"""The releases that stay for ever: ``releases/pins.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from smoll.errors import ReleaseError
from smoll.model import NOT_AS_WRITTEN, Pin, to_json, verified
from smoll.state.layout import Layout, write_atomically


def read_pins(layout: Layout) -> Mapping[int, Pin]:
    """The releases that stay for ever. Raises ReleaseError where the file is damaged: then nothing may be removed."""
    try:
        data = json.loads(layout.pins.read_text(encoding="utf-8"))
        pins = [verified(Pin(one["release"], datetime.fromisoformat(one["since"]), one["reason"])) for one in data]
    except FileNotFoundError:
        return {}
    except NOT_AS_WRITTEN as error:
        raise ReleaseError(
            f"{layout.pins} is damaged: {error}",
            hint="Until it is mended no release is removed. Remove it, and pin anew: smoll release pin N.",
        ) from error
    return {pin.release: pin for pin in pins}


def write_pins(layout: Layout, pins: Mapping[int, Pin]) -> None:
    """Replace all pins."""
    write_atomically(layout.pins, json.dumps([to_json(pins[number]) for number in sorted(pins)]) + "\n")
