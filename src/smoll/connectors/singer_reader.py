"""Reads what a Singer tap writes: https://hub.meltano.com/singer/spec."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from smoll.connectors.journal import Journal, Segment
from smoll.connectors.messages import exact_float, import_msgspec, members_of, refuse_garbage, refusing_odd, text_of
from smoll.connectors.process import Output
from smoll.errors import LoadError

_BATCH_FORMATS = {
    ("jsonl", "none"): "ndjson",
    ("jsonl", "gzip"): "ndjson.gz",
    ("jsonl", "zstd"): "ndjson.zst",
    ("parquet", "none"): "parquet",
    ("parquet", "gzip"): "parquet",
    ("parquet", "snappy"): "parquet",
}


def _decoder() -> Any:
    msgspec = import_msgspec()

    message = msgspec.defstruct(  # a record stays as the tap wrote it
        "Message",
        [
            ("type", str),
            ("stream", str, ""),
            ("record", msgspec.Raw, msgspec.Raw(b"null")),
            ("version", int | float | str | None, None),
        ],
    )
    return msgspec.json.Decoder(message).decode, msgspec.DecodeError, message


class SingerReader:
    """Puts the records of the wanted streams and the states into the journal.

    Parameters
    ----------
    wanted
        The streams that are loaded, by each name that the tap may give them.
    versions
        The version of each stream's table that is loaded already.
    """

    def __init__(
        self, journal: Journal, output: Output, wanted: Mapping[str, str], versions: Mapping[str, Any]
    ) -> None:
        self.sent: set[str] = set()
        self._journal, self._output, self._wanted = journal, output, wanted
        self._decode, self._error, self._message = _decoder()
        self._segments: dict[str, Segment] = {}
        self._versions: dict[str, Any] = {}  # of the current segment, by the tap's name of the stream
        self._loaded = dict(versions)
        self._unwanted: dict[str, int] = {}
        self._changed: dict[str, int] = {}

    def feed(self, lines: Sequence[bytes]) -> None:
        """Take lines. Raises LoadError where one is no message, or comes where it must not."""
        decode, segments, versions = self._decode, self._segments, self._versions
        for line in lines:
            try:
                message = decode(line)
            except (self._error, RecursionError):
                with refusing_odd(self._output, line):
                    message = self._odd(line)
                if message is None:
                    continue
            if message.type == "RECORD":
                stream = message.stream
                segment = segments.get(stream)
                if segment is None or message.version != versions[stream]:
                    segment = self._segment_of(message)
                    if segment is None:
                        continue
                segment.pending.append(message.record)
            else:
                with refusing_odd(self._output, line):
                    self._take(message, line)

    def _odd(self, line: bytes) -> Any:
        """A line that is no message as msgspec has it; None where it is none at all."""
        if not line.strip():
            return None
        members = members_of(line)
        if members is None or not (kind := text_of(members.get("type"))):
            refuse_garbage(self._output, line)
            return None
        version = json.loads(members.get("version", b"null"))
        return self._message(kind, text_of(members.get("stream")), members.get("record", b"null"), version)

    def _segment_of(self, message: Any) -> Segment | None:
        """Where a record goes that is the first of its version; None where nobody wants it."""
        name, stream = message.stream, self._wanted.get(message.stream)
        if stream is None:
            self._unwanted[name] = self._unwanted.get(name, 0) + 1
            return None
        before = self._segments.get(name)
        if before is None:
            raise LoadError(
                f"{self._output.name}: the tap sent a record of {name!r} before its SCHEMA.",
                hint="This is a fault of the tap; a newer version may have mended it.",
            )
        return self._begin(name, stream, {**before.declared, "version": message.version})

    def _begin(self, name: str, stream: str, declared: Mapping[str, Any]) -> Segment:
        segment = self._journal.begin(stream, declared)
        self._segments[name], self._versions[name] = segment, declared["version"]
        return segment

    def _take(self, message: Any, line: bytes) -> None:
        if message.type == "STATE":
            self._journal.save(_json(line, parse_float=exact_float).get("value"))
        elif message.type == "SCHEMA":
            self._schema(message.stream, _json(line))
        elif message.type == "BATCH":
            self._batch(message.stream, _json(line))
        elif message.type == "ACTIVATE_VERSION":
            self._activate(message.stream, message.version)
        else:
            self._output.say(f"a message of the unknown type {message.type!r} was left out")

    def _schema(self, name: str, message: Mapping[str, Any]) -> None:
        stream = self._wanted.get(name)
        if stream is None:
            return
        self.sent.add(stream)
        keys = message.get("key_properties") or []
        declared = {"schema": message.get("schema") or {}, "key": keys, "version": self._versions.get(name)}
        before = self._segments.get(name)
        if before is not None and before.declared["schema"] != declared["schema"]:
            self._changed[stream] = self._changed.get(stream, 0) + 1
        self._begin(name, stream, declared)

    def _activate(self, name: str, version: Any) -> None:
        """From now on the table is what was sent as this version: what came as another one does not count."""
        stream = self._wanted.get(name)
        if stream is None or version is None:
            return
        self._journal.activate(stream, version)

    def _batch(self, name: str, message: Mapping[str, Any]) -> None:
        stream = self._wanted.get(name)
        if stream is None:
            self._unwanted[name] = self._unwanted.get(name, 0) + 1
            return
        before = self._segments.get(name)
        if before is None:
            raise LoadError(f"{self._output.name}: the tap sent a BATCH of {name!r} before its SCHEMA.")
        encoding = message.get("encoding") or {}
        style = (str(encoding.get("format")), str(encoding.get("compression") or "none"))
        if style not in _BATCH_FORMATS:
            raise LoadError(
                f"{self._output.name}: the tap sent a BATCH of {name!r} as {' with '.join(style)}: it cannot be read.",
                hint="Readable are jsonl (none, gzip, zstd) and parquet; see `batch_config` of the tap.",
            )
        for url in message.get("manifest") or ():
            self._journal.adopt(stream, before.declared, _local(self._output.name, str(url)), _BATCH_FORMATS[style])
        self._segments.pop(name)
        self._begin(name, stream, before.declared)

    def failed(self) -> Mapping[str, LoadError]:
        """A tap fails as a whole."""
        return {}

    def is_done(self, stream: str) -> bool:
        """A tap does not say so."""
        return False

    def failure(self) -> str:
        """A tap says on stderr alone why it failed."""
        return ""

    def notes(self, stream: str) -> Sequence[str]:
        """What people should know of a stream."""
        notes = []
        if times := self._changed.get(stream):
            notes.append(f"the tap changed its schema {times} time{'' if times == 1 else 's'} while it was read")
        if self._unwanted and stream == next(iter(self._wanted.values())):
            names = ", ".join(sorted(self._unwanted))
            notes.append(f"{sum(self._unwanted.values()):,} records of streams that were not asked for: {names}")
        return notes

    def expected(self, stream: str, rows: int, size: int) -> int | None:
        """A tap does not say how much there is."""
        return None

    def is_complete(self, stream: str) -> bool:
        """True where the tap activated a new version of the table: its records are all there are.

        The journal has every one of them, those of an earlier run included: it began before the version did.
        """
        return self._journal.activated(stream) not in (None, self._loaded.get(stream))


def _json(line: bytes, parse_float: Callable[[str], float] = float) -> dict[str, Any]:
    found = json.loads(line, parse_float=parse_float)
    return found if isinstance(found, dict) else {}


def _local(name: str, url: str) -> Path:
    """The file of a BATCH on this machine."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path) if parts.scheme == "file" else url)
    if parts.scheme not in ("", "file") or not path.is_file():
        raise LoadError(
            f"{name}: the tap sent a BATCH that is no file on this machine: {url.split('?')[0]}.",
            hint="Set a local folder as `batch_config.storage.root` of the tap: file://...",
        )
    return path
