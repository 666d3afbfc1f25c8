"""Ways to damage a file: its bytes, the values in its JSON, and what stands at its place instead."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2.5, 10**30, 10**400, float("nan"), float("inf"), "", "x", "1", "../../x", "\ud800", "\0"),
    *("9" * 5000, [], {}, [[]], [None], {"x": 1}, {"": None}, [1, "x"], "2026-01-01", "2026-01-01T00:00:00+00:00"),
)


def _deep(_chance: random.Random) -> bytes:
    return b"[" * 200_000


def _flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 10, 200])):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _hole(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) or 1)
    length = min(chance.choice([16, 4096, 100_000]), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def _bytes(content: bytes, chance: random.Random) -> bytes:
    ways: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: b"\0" * 100,
        lambda: b"not what it was\n" * 50,
        lambda: b"\xff\xfe\xfa",
        lambda: b"null",
        lambda: b"[]",
        lambda: b"{}",
        lambda: b'"text"',
        lambda: b"3",
        lambda: _deep(chance),
        lambda: content[: chance.randrange(len(content) or 1)],
        lambda: content + content,
        lambda: _flip(content, chance),
        lambda: _flip(content, chance),
        lambda: _hole(content, chance),
    ]
    return chance.choice(ways)()


def _places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value inside a JSON document."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [above, *(place for key in keys for place in _places(value[key], (*above, key)))]


def odd_values(content: bytes, chance: random.Random) -> bytes:
    """A JSON document in which some values are gone, or odd."""
    data = {"root": json.loads(content)}
    for _ in range(chance.choice([1, 1, 3])):
        place = ("root", *chance.choice(_places(data["root"])))
        inside: Any = data
        try:
            for key in place[:-1]:
                inside = inside[key]
            if len(place) > 1 and chance.random() < 0.3:
                del inside[place[-1]]
            else:
                inside[place[-1]] = copy.deepcopy(chance.choice(_ODD))
        except (KeyError, IndexError, TypeError):  # an earlier change took it away
            continue
    return json.dumps(data["root"]).encode()


def _replace(path: Path, chance: random.Random) -> str:
    """Put something at its place that is no file."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    way = chance.choice(["nothing", "a folder", "a full folder", "dangling", "a loop", "a file", "..", "x", "99"])
    if way.endswith("folder"):
        path.mkdir()
        if "full" in way:
            (path / "x").write_text("x")
    elif way == "a file":
        path.write_text("1")
    elif way != "nothing":
        path.symlink_to({"dangling": "nowhere", "a loop": path.name}.get(way, way))
    return way


def damage(path: Path, number: int) -> str:
    """Damage the file in a way that the number decides. Returns in which, for people."""
    chance = random.Random(number)
    if path.is_symlink() or not path.is_file() or chance.random() < 0.15:
        return f"{path.name}: {_replace(path, chance)}"
    content = path.read_bytes()
    is_json = path.suffix == ".json" and chance.random() < 0.75
    changed = odd_values(content, chance) if is_json else _bytes(content, chance)
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(changed)
    if chance.random() < 0.5:  # as a disk damages it, without a word
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return f"{path.name}: {changed[:300]!r}"
