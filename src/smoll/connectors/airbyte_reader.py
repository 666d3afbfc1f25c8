"""Reads what an Airbyte connector writes: https://docs.airbyte.com/platform/understanding-airbyte/airbyte-protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smoll.connectors.journal import Journal, Segment
from smoll.connectors.messages import exact_float, import_msgspec, members_of, refuse_garbage, refusing_odd, text_of
from smoll.connectors.process import Output
from smoll.errors import LoadError

StreamKey = tuple[str, str]
"""Namespace ("" without one) and name of a stream."""


def stream_key(described: Mapping[str, Any]) -> StreamKey:
    """The key of a stream as descriptors and catalogs name it."""
    return str(described.get("namespace") or ""), str(described.get("name") or "")


def stream_of(key: StreamKey, wanted: Mapping[StreamKey, str]) -> str | None:
    """The stream that a message names; some connectors leave out the namespace that their catalog has."""
    alike = [stream for (_, name), stream in wanted.items() if name == key[1]]
    only = alike[0] if len(alike) == 1 and not key[0] else None
    return wanted.get(key) or wanted.get(("", key[1])) or only


def _decoder() -> Any:
    msgspec = import_msgspec()
    raw = (msgspec.Raw, msgspec.Raw(b""))
    record = msgspec.defstruct(  # the data stay as the connector wrote them
        "Record", [("stream", str), ("data", msgspec.Raw), ("namespace", str | None, None)]
    )
    message = msgspec.defstruct("Message", [("type", str), ("record", record | None, None), ("state", *raw)])
    return msgspec.json.Decoder(message).decode, msgspec.DecodeError, message, record


class AirbyteReader:
    """Puts the records of the wanted streams and the states into the journal.

    Parameters
    ----------
    wanted
        The streams that are loaded, by namespace and name.
    declared
        The JSON schema and the key of each of them, as the catalog has them.
    keep_config
        Takes a configuration that the connector changed.
    """

    def __init__(
        self,
        journal: Journal,
        output: Output,
        wanted: Mapping[StreamKey, str],
        declared: Mapping[str, Mapping[str, Any]],
        keep_config: Callable[[Any], None],
    ) -> None:
        self.sent: set[str] = set()
        self._journal, self._output, self._wanted, self._declared = journal, output, wanted, declared
        self._keep_config = keep_config
        self._decode, self._error, self._message, self._record = _decoder()
        self._segments: dict[StreamKey, Segment] = {}
        self._states: dict[StreamKey, Any] = _streams_of(journal.state)
        self._counted: dict[str, int] = {}
        self._unwanted: dict[str, int] = {}
        self._statuses: dict[str, str] = {}
        self._errors: list[tuple[str, str]] = []
        self._estimates: dict[str, Mapping[str, Any]] = {}

    def feed(self, lines: Sequence[bytes]) -> None:
        """Take lines. Raises LoadError where one is no whole message."""
        decode, segments = self._decode, self._segments
        for line in lines:
            try:
                message = decode(line)
            except (self._error, RecursionError):
                with refusing_odd(self._output, line):
                    message = self._odd(line)
                if message is None:
                    continue
            record = message.record
            if message.type == "RECORD" and record is not None:
                segment = segments.get((record.namespace or "", record.stream))
                if segment is None:
                    segment = self._begin((record.namespace or "", record.stream))
                    if segment is None:
                        continue
                segment.pending.append(record.data)
            else:
                with refusing_odd(self._output, line):
                    self._take(message.type, line)

    def _odd(self, line: bytes) -> Any:
        """A line that is no message as msgspec has it; None where it is none at all."""
        if not line.strip():
            return None
        members = members_of(line)
        if members is None or not (kind := text_of(members.get("type"))):
            refuse_garbage(self._output, line)
            return None
        inner = members_of(members["record"]) if "record" in members else None
        if inner is None:
            return self._message(kind)
        record = self._record(text_of(inner.get("stream")), inner.get("data", b"null"), text_of(inner.get("namespace")))
        return self._message(kind, record)

    def _stream(self, key: StreamKey) -> str | None:
        """The wanted stream that a message names."""
        return stream_of(key, self._wanted)

    def _begin(self, key: StreamKey) -> Segment | None:
        """Where the records of a stream go; None where nobody wants it."""
        stream = self._stream(key)
        if stream is None:
            self._unwanted[key[1]] = self._unwanted.get(key[1], 0) + 1
            return None
        self.sent.add(stream)
        segment = self._journal.begin(stream, self._declared[stream])
        self._segments[key] = segment
        return segment

    def _take(self, kind: str, line: bytes) -> None:
        message = json.loads(line, parse_float=exact_float if kind == "STATE" else float)
        if kind == "STATE":
            self._state(message.get("state") or {})
        elif kind == "TRACE":
            self._trace(message.get("trace") or {})
        elif kind == "LOG":
            log = message.get("log") or {}
            self._output.say(f"{log.get('level', 'INFO')} {log.get('message', '')}")
        elif kind == "CONTROL":
            changed = ((message.get("control") or {}).get("connectorConfig") or {}).get("config")
            if isinstance(changed, dict):
                self._keep_config(changed)
        elif kind == "RECORD":
            raise ValueError("a record without its stream")
        else:
            self._output.say(f"a message of the unknown type {kind!r} was left out")

    def _state(self, state: Mapping[str, Any]) -> None:
        """Keep a state, in the form in which the connector takes it back."""
        kind = state.get("type") or ("STREAM" if "stream" in state else "GLOBAL" if "global" in state else "LEGACY")
        if kind == "STREAM":
            stream = state.get("stream") or {}
            key = stream_key(stream.get("stream_descriptor") or {})
            self._check_count(key, state)
            self._states[key] = {"type": "STREAM", "stream": stream}
            self._journal.save(list(self._states.values()))
        elif kind == "GLOBAL":
            self._journal.save([{"type": "GLOBAL", "global": state.get("global") or {}}])
        else:
            self._journal.save(state.get("data") or {})

    def _check_count(self, key: StreamKey, state: Mapping[str, Any]) -> None:
        """The connector may say how many records came since its last state of the stream."""
        told = (state.get("sourceStats") or {}).get("recordCount")
        stream = self._stream(key)
        if not isinstance(told, (int, float)) or stream is None:
            return
        segment = next((each for each in self._segments.values() if each.stream == stream), None)
        came = (segment.rows or 0) + len(segment.pending) if segment else 0
        before = self._counted.get(stream, 0)
        self._counted[stream] = came
        if came - before != told:
            raise LoadError(
                f"{self._output.name}.{stream}: the connector counted {told:,.0f} records, and "
                f"{came - before:,} came; nothing was loaded.",
                hint="Run again. Where it stays so, the connector is at fault; a newer version may have mended it.",
            )

    def _trace(self, trace: Mapping[str, Any]) -> None:
        if trace.get("type") == "ESTIMATE":
            estimate = trace.get("estimate") or {}
            self._estimates[self._wanted.get(stream_key(estimate), "")] = estimate
        elif trace.get("type") == "ERROR":
            error = trace.get("error") or {}
            key = stream_key(error.get("stream_descriptor") or {})
            text = str(error.get("message") or error.get("internal_message") or "an error without a message")
            self._errors.append((self._wanted.get(key, ""), " ".join(text.split())))
        elif trace.get("type") == "STREAM_STATUS":
            status = trace.get("stream_status") or {}
            key = stream_key(status.get("stream_descriptor") or {})
            stream = self._stream(key)
            if stream is not None:
                self._statuses[stream] = str(status.get("status"))
                self.sent.add(stream)
                if key not in self._segments:  # a stream without records is told of, too
                    self._begin(key)

    def failed(self) -> Mapping[str, LoadError]:
        """The streams that the connector itself calls incomplete, each with what it said of them."""
        name = self._output.name
        said = {stream: text for stream, text in self._errors if stream}
        broken = {stream for stream, status in self._statuses.items() if status != "COMPLETE"} | set(said)
        return {
            stream: LoadError(
                f"{name}.{stream}: the connector could not read it: {said.get(stream, 'it said not why')}"
            )
            for stream in sorted(broken)
        }

    def is_done(self, stream: str) -> bool:
        """True where the connector said that the stream is read whole."""
        return self._statuses.get(stream) == "COMPLETE"

    def failure(self) -> str:
        """What the connector said of its failure."""
        texts = dict.fromkeys(f"{stream}: {text}" if stream else text for stream, text in self._errors)
        return "; ".join(texts)

    def notes(self, stream: str) -> Sequence[str]:
        """What people should know of a stream."""
        if not self._unwanted or stream != next(iter(self._wanted.values())):
            return ()
        names = ", ".join(sorted(self._unwanted))
        return (f"{sum(self._unwanted.values()):,} records of streams that were not asked for: {names}",)

    def expected(self, stream: str, rows: int, size: int) -> int | None:
        """How many bytes the stream will have, by the connector's estimate and what came so far; None without one."""
        estimate = self._estimates.get(stream) or {}
        total = estimate.get("byte_estimate")
        if not total and estimate.get("row_estimate") and rows:
            total = size / rows * estimate["row_estimate"]
        return max(int(total), size) if total else None

    def is_complete(self, stream: str) -> bool:
        """Only the sync mode tells."""
        return False


def _streams_of(state: Any) -> dict[StreamKey, Any]:
    """The states of single streams in a state as it is handed to a connector."""
    found = {}
    for each in state if isinstance(state, list) else ():
        if isinstance(each, dict) and each.get("type") == "STREAM":
            found[stream_key((each.get("stream") or {}).get("stream_descriptor") or {})] = each
    return found
