"""What a connector has sent since its sync began, on disk: records by stream, and from which state it can go on.

A sync may take hours, and is committed as a whole. What was received until then lies in ``.smoll/journals/<source>``:
after a failure, or a kill at any time, the next run starts the connector from the last checkpoint and keeps the records
before it. The journal names the connector, its configuration and the stored state that it began from: if any of them
is another one now, it begins anew.

``log.ndjson`` has one line for each segment and each checkpoint, ``<n>.ndjson`` the records of one segment as the
connector wrote them, one a line. A checkpoint is written after the records before it, so a torn line at the end of
anything belongs to what is received again.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoll.connectors.json_numbers import may_lose_digits
from smoll.errors import StateError
from smoll.state.layout import fsync_path

_LOG = "log.ndjson"
_CHECKPOINT_SECONDS = 5.0
_CHECKPOINT_BYTES = 64 * 1024**2


@dataclass
class Segment:
    """Records of one stream that came one after another under the same description.

    Parameters
    ----------
    stream
        As the connector names it.
    declared
        What the connector says about them: ``schema`` (JSON schema), ``key``, ``version``.
    path
        Their file: lines of JSON, or what `kind` says.
    rows, size
        Records and bytes in the file; rows are None where nobody has counted them.
    long
        A number in it may have more digits than a double; None where nobody has looked.
    """

    number: int
    stream: str
    declared: Mapping[str, Any]
    path: Path
    kind: str = "ndjson"
    rows: int | None = 0
    size: int = 0
    long: bool | None = False
    pending: list[Any] = field(default_factory=list)


class Journal:
    """The journal of one source. `open_journal` makes it."""

    def __init__(self, folder: Path, began: str, id: str) -> None:
        self.folder = folder
        self.began = began
        self.id = id
        self.segments: list[Segment] = []
        self.saved: dict[int, int | None] = {}  # the records of each segment at the last checkpoint
        self.state: Any = None
        self.attempt = 1
        self._current: dict[str, Segment] = {}
        self._activated: dict[str, tuple[int, Any]] = {}
        self._written: set[Path] = set()
        self._numbers = 0
        self._stated = -1, 0  # what had come at the last state
        self._checked = 0.0
        self._unsaved = 0

    @property
    def resumed(self) -> bool:
        """True where it goes on from what an earlier run has received."""
        return self.attempt > 1

    def begin(self, stream: str, declared: Mapping[str, Any]) -> Segment:
        """Begin a segment: the records of the stream that come now are described so."""
        current = self._current.get(stream)
        if current and current.declared == declared:
            return current
        self.flush()
        segment = self._add(stream, declared, "ndjson")
        self._current[stream] = segment
        return segment

    def adopt(self, stream: str, declared: Mapping[str, Any], file: Path, kind: str) -> None:
        """Take over a file of records that the connector wrote itself (a BATCH)."""
        self.flush()
        segment = self._add(stream, declared, kind)
        with _writable(self.folder):
            shutil.move(file, segment.path)
            segment.rows, segment.long, segment.size = None, None, segment.path.stat().st_size
            fsync_path(segment.path)
        self._current.pop(stream, None)  # later records come after it
        self._unsaved += segment.size

    def _add(self, stream: str, declared: Mapping[str, Any], kind: str) -> Segment:
        self._numbers += 1
        path = self.folder / f"{self._numbers}.{kind}"
        segment = Segment(self._numbers, stream, declared, path, kind)
        self.segments.append(segment)
        self._log({"segment": segment.number, "stream": stream, "kind": kind, "declared": declared})
        return segment

    def flush(self) -> int:
        """Write what is pending. Returns the bytes written."""
        written = 0
        for segment in self.segments:
            if segment.pending:
                written += _append(segment)
                self._written.add(segment.path)
        self._unsaved += written
        return written

    def save(self, state: Any, *, force: bool = False) -> None:
        """Remember the state from which all that came until now need not come again; on disk now and then."""
        self.state, self._stated = state, self._received()
        due = time.monotonic() - self._checked >= _CHECKPOINT_SECONDS or self._unsaved >= _CHECKPOINT_BYTES
        if not (due or force):
            return
        self.flush()
        with _writable(self.folder):
            for path in self._written:
                fsync_path(path)
        sizes = {str(segment.number): [segment.size, segment.rows, segment.long] for segment in self.segments}
        self._log({"checkpoint": state, "sizes": sizes}, sync=True)
        self._checked, self._unsaved = time.monotonic(), 0
        self.saved = {segment.number: segment.rows for segment in self.segments}
        self._written.clear()

    def finish(self) -> None:
        """All has come. Keep it for another sync, unless that would get again what came after the last state."""
        if self._received() == self._stated:
            self.save(self.state, force=True)
        self.flush()

    def _received(self) -> tuple[int, int]:
        """Another number for every record and segment more."""
        return self._numbers, sum((each.rows or 0) + len(each.pending) for each in self._current.values())

    def drop(self, streams: Collection[str]) -> None:
        """Forget the records of streams that the connector is about to send from the beginning."""
        for segment in [segment for segment in self.segments if segment.stream in streams]:
            self._forget(segment)

    def _forget(self, segment: Segment) -> None:
        self._log({"dropped": segment.number})
        segment.path.unlink(missing_ok=True)
        self._written.discard(segment.path)
        self.segments.remove(segment)
        if self._current.get(segment.stream) is segment:
            del self._current[segment.stream]

    def activate(self, stream: str, version: Any) -> None:
        """From now on this version of the stream's table counts: what came before as another one does not."""
        self._activated[stream] = self._numbers, version
        self._log({"activated": stream, "version": version, "after": self._numbers})

    def activated(self, stream: str) -> Any:
        """The version of the stream's table that counts; None where none was activated."""
        return self._activated.get(stream, (0, None))[1]

    def records_of(self, stream: str) -> list[Segment]:
        """The segments of a stream that count, in the order in which they came."""
        after, version = self._activated.get(stream, (0, None))
        return [
            segment
            for segment in self.segments
            if segment.stream == stream and (segment.number > after or segment.declared["version"] in (None, version))
        ]

    def refuse(self, options: str) -> None:
        """Note that the load, with these options, has refused what is here."""
        self._log({"refused": options}, sync=True)

    def remove(self) -> None:
        """Remove the journal: what it held is committed, or nobody wants it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self) -> None:
        """Remove the journal, as nothing can go on from what it holds."""
        self.remove()
        self.saved.clear()

    def _log(self, entry: Mapping[str, Any], *, sync: bool = False) -> None:
        line = b"\n" + json.dumps(entry).encode() + b"\n"  # whatever stands torn before it
        with _writable(self.folder), (self.folder / _LOG).open("ab") as file:
            file.write(line)
            if sync:
                file.flush()
                os.fsync(file.fileno())


def open_journal(folder: Path, began: str, options: str) -> tuple[Journal, str]:
    """Open the journal of a source: what an earlier run left of the same sync, or a new one.

    Parameters
    ----------
    began
        Says what the sync begins from; one that began otherwise is of no use.
    options
        Says how it is to be loaded: what the load has refused already under the same options is of no use, either.

    Returns
    -------
    Journal, str
        And the ``id`` of an earlier one that had received something and is of no use; "" without.

    Raises
    ------
    StateError
        The folder cannot be written.
    """
    entries = list(_entries(folder / _LOG))
    found = entries[0] if entries and {"journal", "began"} <= set(entries[0]) else {}
    if found.get("began") == began and entries[-1] != {"refused": options}:
        journal = Journal(folder, began, found["journal"])
        with suppress(KeyError, ValueError, TypeError):  # another version may write it otherwise
            if _restore(journal, entries):
                return journal, ""
    with _writable(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    journal = Journal(folder, began, secrets.token_hex(8))
    journal._log({"journal": journal.id, "began": began}, sync=True)
    held = found.get("began") != began and any("checkpoint" in entry for entry in entries)
    return journal, str(found.get("journal", "")) if held else ""


def _restore(journal: Journal, entries: list[dict[str, Any]]) -> bool:
    """Go back to the last checkpoint. False where there is none."""
    last = max((place for place, entry in enumerate(entries) if "checkpoint" in entry), default=None)
    if last is None:
        return False
    journal.state, sizes = entries[last]["checkpoint"], entries[last]["sizes"]
    found: dict[int, Segment] = {}
    for place, entry in enumerate(entries):
        if "segment" in entry and str(entry["segment"]) in sizes:
            size, rows, long = sizes[str(entry["segment"])]
            path = journal.folder / f"{entry['segment']}.{entry['kind']}"
            about = entry["stream"], entry["declared"], path, entry["kind"]
            segment = Segment(entry["segment"], *about, rows=rows, size=size, long=long)
            found[segment.number] = segment
        elif "dropped" in entry:
            found.pop(entry["dropped"], None)
        elif "activated" in entry and place < last:
            journal._activated[entry["activated"]] = entry["after"], entry["version"]
        elif "attempt" in entry:
            journal.attempt = entry["attempt"]
    kept = {segment.path.name for segment in found.values()}
    with _writable(journal.folder):
        for path in journal.folder.iterdir():
            if path.name not in kept and path.name != _LOG:
                path.unlink()
        for segment in found.values():
            if segment.size and not (segment.path.exists() and segment.path.stat().st_size >= segment.size):
                return False  # a power cut on a disk that did not keep its word
            if segment.path.exists():
                os.truncate(segment.path, segment.size)
    journal.segments = [segment for segment in found.values() if segment.size]
    journal._numbers = max((entry["segment"] for entry in entries if "segment" in entry), default=0)
    journal.saved = {segment.number: segment.rows for segment in journal.segments}
    journal.attempt += 1
    journal._log({"attempt": journal.attempt}, sync=True)
    return True


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log; the last one may be torn, and then another begins behind it."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _append(segment: Segment) -> int:
    data = b"\n".join([*segment.pending, b""])
    with _writable(segment.path.parent), segment.path.open("ab", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
    if segment.rows is not None:
        segment.rows += len(segment.pending)
    segment.size += len(data)
    segment.long = segment.long or may_lose_digits(data)
    segment.pending.clear()
    return len(data)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(
            f"Cannot write to {folder}: {error.strerror or error}.",
            hint="smoll keeps there what connectors send until it is loaded; free some space, then run again.",
        ) from error
