"""What the readers of both protocols share: lines that are no JSON as msgspec has it, and the programs' own files."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smoll.connectors.environment import Program
from smoll.connectors.json_numbers import loses_digits
from smoll.connectors.process import Output
from smoll.errors import LoadError
from smoll.state.layout import SCRATCH, Layout

_SHOWN = 200
_WORDS = (b'"RECORD"', b'"STATE"', b'"SCHEMA"', b'"BATCH"', b'"TRACE"')


def import_msgspec() -> Any:
    """Import msgspec. Raises LoadError where the extra that brings it is not installed."""
    try:
        import msgspec
    except ModuleNotFoundError as error:
        raise LoadError(
            "Sources of the kinds singer and airbyte need msgspec, which is not installed.",
            hint='Install it with: pip install "smoll[connectors]"',
        ) from error
    return msgspec


def members_of(line: bytes) -> dict[str, bytes] | None:
    """The members of a message that msgspec refuses, each as it is written; None where the line is no JSON at all.

    Python's decoder is more generous: NaN, half of a surrogate pair. Whether a record may hold such a thing is judged
    with the record, and not here.
    """
    try:
        text = line.decode("utf-8", "surrogateescape")
        decoder, place, found = json.JSONDecoder(), text.index("{") + 1, dict[str, bytes]()
        if text[: place - 1].strip("\ufeff \t\r"):  # a line of talk that quotes a message
            return None
        while True:
            place = _after_blanks(text, place)
            key, place = decoder.raw_decode(text, place)
            place = _after_blanks(text, place)
            if text[place] != ":" or not isinstance(key, str):
                return None
            start = _after_blanks(text, place + 1)
            _, place = decoder.raw_decode(text, start)
            found[key] = text[start:place].encode("utf-8", "surrogateescape")
            place = _after_blanks(text, place)
            if text[place] == "}":
                return None if text[place + 1 :].strip() else found
            if text[place] != ",":
                return None
            place += 1
    except (ValueError, IndexError, RecursionError):
        return None


def _after_blanks(text: str, place: int) -> int:
    while text[place] in " \t\r\n":
        place += 1
    return place


def exact_float(text: str) -> float:
    """A number with a fraction in a state. Raises LoadError where a double does not hold it: no cursor may change."""
    if loses_digits(text):
        raise LoadError(
            f"The connector's state holds the number {text[:60]}, which has more digits than a double.",
            hint="It must be a text there; that is for the connector to mend.",
        )
    return float(text)


def text_of(member: bytes | None) -> str:
    """A member of a message as text; "" where it is none."""
    try:
        value = json.loads(member or b"null")
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""


def refuse_garbage(output: Output, line: bytes) -> None:
    """Take a line that is no message for the connector's own talk. Raises LoadError where it was to be a message."""
    is_part = output.broken_off and line.lstrip().startswith(b"{")
    if (is_part and output.code != 0) or not (is_part or any(word in line for word in _WORDS)):
        output.say(line.decode("utf-8", "replace"))  # of one that failed, its end tells more
        return
    shown = line[:_SHOWN].decode("utf-8", "replace") + ("..." if len(line) > _SHOWN else "")
    how = "ended in the middle of a line" if is_part else "wrote a line that is no whole message"
    raise LoadError(
        f"{output.name}: the connector {how}: {shown}{output.last_words()}",
        hint="Run again. Where it stays so, the connector is at fault; a newer version may have mended it.",
    )


@contextmanager
def refusing_odd(output: Output, line: bytes) -> Iterator[None]:
    """What fails at a message that is JSON, and has in it what the protocol does not know, is the connector's fault."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LoadError(
            f"{output.name}: the connector wrote a message that is none of the protocol: "
            f"{line[:_SHOWN].decode('utf-8', 'replace')}{'...' if len(line) > _SHOWN else ''}",
            hint="This is a fault of the connector; a newer version may have mended it.",
        ) from error


def write_json(path: Path, value: Any) -> Path:
    """Write a file for the connector that nobody else may read: it may hold secrets."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(value, default=str), encoding="utf-8")
    return path


class Config:
    """The configuration of a connector as a file, which it may change: it may have got a new token for its old one."""

    def __init__(self, name: str, config: Mapping[str, Any], root: Path, folder: Path) -> None:
        given = plain(config)
        self._digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
        self._kept = Layout(root).configs / f"{name}.json"
        self.values = self._changed() or given
        self.path = write_json(folder / "config.json", self.values)

    def _changed(self) -> dict[str, Any] | None:
        """What the connector made of the same configuration, if it changed it."""
        found = read_kept(self._kept)
        if not isinstance(found, dict) or found.get("of") != self._digest:
            return None
        values: dict[str, Any] = found["config"]
        return values

    def keep(self, values: Any = None) -> None:
        """Keep what the connector changed, in its file or by a message, for the next run."""
        values = read_kept(self.path) if values is None else values
        if isinstance(values, dict) and values != self.values:
            self.values = values
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            staged = write_json(self._kept.with_suffix(".new"), {"of": self._digest, "config": values})
            staged.replace(self._kept)


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """An empty folder for a question to a connector."""
    tmp = Layout(root).tmp
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=tmp if tmp.is_dir() else None) as folder:
        yield Path(folder)


def kept(program: Program, what: str, asked: Any) -> Path:
    """Where an answer of the program is kept that depends on what it was asked."""
    text = json.dumps([program.identity, asked], sort_keys=True, default=str)
    return program.cache / f"{what}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def read_kept(path: Path) -> Any:
    """An answer that was kept; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as plain values, which can be written as JSON."""
    found: dict[str, Any] = json.loads(json.dumps(dict(config), default=dict))
    return found
