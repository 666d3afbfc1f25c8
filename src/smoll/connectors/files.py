"""Files: CSV, TSV, JSON, NDJSON, Parquet and workbooks, here or elsewhere, plain or packed, read by DuckDB.

CSV and JSON values are handed over as text, whatever they look like: ``smoll.load.types`` finds the type that
holds all of them exactly, so no value depends on where in the file a sniffer looked.

A file that lies elsewhere is fetched whole into the load's scratch folder, then read like any other: what is loaded
is one consistent copy.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connector import FILE_COLUMN, SCALARS, Extract, Part, PartColumn, Reading, StreamPlan, plan_stream
from smoll.connectors import csv_files, excel, json_files, stores, url_cursor, web
from smoll.connectors.csv_records import is_packed
from smoll.connectors.data_file import (
    DataFile,
    everywhere,
    file_name_sql,
    fingerprint_of,
    label,
    named,
    partitions_of,
    paths_sql,
    stream_error,
    with_partitions,
)
from smoll.connectors.fetch import Desk
from smoll.connectors.places import Place, find_local, public_name, split_web_archive
from smoll.connectors.unpack import format_of, is_archive, list_members, unpack
from smoll.errors import LoadError
from smoll.model import StreamRef, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import FilesSource

_RACY_NS = 50_000_000
_COARSE_NS = 2_000_000_000
_READING = ("format", "delimiter", "header", "encoding", "null_values")
_READING_LATER = (
    "sheet",
    "header_row",
    "quote",
    "escape",
)  # they count where they are set: older states do not know them


def discover(
    name: str, source: FilesSource, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
) -> tuple[StreamPlan, ...]:
    """The streams are those of the configuration."""
    return tuple(
        plan_stream(source, StreamRef(name, stream), options, has_files=True, by_cursor=options.by_cursor)
        for stream, options in source.streams.items()
    )


@contextmanager
def attach(name: str, source: FilesSource, root: Path, connection: DuckDBPyConnection) -> Iterator[None]:
    """Files need no connection."""
    yield


def check(name: str, source: FilesSource, root: Path, connection: DuckDBPyConnection) -> str:
    """Every path leads to files, and of those on this machine the header of the first can be read.

    Servers are asked whether they have the file; nothing is fetched.
    """
    total, wrong = 0, list[LoadError]()
    with tempfile.TemporaryDirectory(prefix="smoll-check-") as scratch:
        for plan in discover(name, source, root, connection):
            try:
                total += _check_stream(Desk(plan, Path(scratch)), source, root, connection)
            except LoadError as error:
                wrong.append(error)
    if len(wrong) > 1:
        more = [f"{error.message} {error.hint}".rstrip() for error in wrong[1:]]
        raise LoadError("\n".join([f"{wrong[0].message} {wrong[0].hint}".rstrip(), *more]))
    if wrong:
        raise wrong[0]
    return f"{len(source.streams)} streams, {total} files"


def _check_stream(desk: Desk, source: FilesSource, root: Path, connection: DuckDBPyConnection) -> int:
    """How many files the stream has. Raises LoadError where one is missing or cannot be read."""
    plan = desk.plan
    if plan.by_cursor:
        for template in plan.options.path:
            url, start = split_web_archive(template)[0], plan.options.start
            web.probe(desk, source, public_name(url), url_cursor.fill(url, start, start))
        return len(plan.options.path)
    places = _find(desk, source, root)
    for place in places:
        if isinstance(place.where, str) and place.is_web:
            web.probe(desk, source, place.name, place.where)
        elif isinstance(place.where, Path) and is_archive(place.name):
            list_members(desk, place.name, place.where, place.members)
    first = next((place for place in places if isinstance(place.where, Path)), None)
    if first and isinstance(first.where, Path) and format_of(first.name, plan.options.format) == "excel":
        excel.list_sheets(desk, first.name, first.where)
    elif first and isinstance(first.where, Path) and not is_archive(first.name):
        _parts(plan, unpack(desk, first.name, first.where, [], origin=first.where), connection)
    return len(places)


def fingerprint(name: str, source: FilesSource, root: Path) -> str:
    """A hash over what the source's paths lead to now: another one where a file is new, has changed or is gone.

    Nothing is fetched, so files of web servers have no part in it. Raises LoadError where a load would find nothing, or
    nothing whole.
    """
    found: list[list[Any]] = []
    with tempfile.TemporaryDirectory(prefix="smoll-look-") as scratch:
        for stream, options in source.streams.items():
            plan = plan_stream(source, StreamRef(name, stream), options, has_files=True)
            for pattern in options.path:
                one = replace(plan, options=options.model_copy(update={"path": (pattern,)}))
                if not pattern.startswith(("http://", "https://")):
                    places = _find(Desk(one, Path(scratch)), source, root)
                    found += [[stream, place.name, place.fingerprint] for place in places]
    return hashlib.sha256(json.dumps(sorted(found, key=str)).encode()).hexdigest()[:16]


@dataclass
class _Known:
    """What the state of the last load says of files.

    ``files`` are the fingerprints by name. ``holders`` are the archives and workbooks whose members are files of
    their own: their fingerprints, and the members that were wanted of them.
    """

    files: Mapping[str, Sequence[Any]]
    holders: Mapping[str, Sequence[Any]]

    def of(self, place: Place) -> Sequence[Any] | None:
        """The fingerprint that a place had; None for one that is new, or of which other members are wanted now."""
        if place.name in self.holders:
            fingerprint, members = self.holders[place.name]
            return list(fingerprint) if members == place.members else None
        return self.files.get(place.name)

    def names(self, place: Place) -> list[str]:
        """The files that were loaded from a place."""
        if place.name in self.holders:
            return [name for name in self.files if name.startswith((f"{place.name}/", f"{place.name}#"))]
        return [place.name] if place.name in self.files else []


@dataclass
class _Catch:
    """Files that lie on this machine now, by the name of their place, and the fingerprints of those places."""

    files: dict[str, list[DataFile]] = field(default_factory=dict)
    fingerprints: dict[str, Sequence[Any]] = field(default_factory=dict)


def extract(plan: StreamPlan, source: FilesSource, reading: Reading) -> Extract:
    """Return the files to load: all of them under ``replace`` and ``scd2``, the new and the changed ones otherwise.

    Under ``merge`` that follows deletes all of them, too, where one changed or is gone.
    """
    if plan.by_cursor:
        return _extract_by_cursor(plan, source, reading)
    started, desk, state = time.time_ns(), Desk.of(plan, reading), reading.state
    places = _find(desk, source, reading.root)
    known = _Known(state.get("files", {}), state.get("holders", {}))
    meaning = _meaning(plan, source)
    reread = state.get("reading", meaning) != meaning
    came = _fetch_changed(desk, source, places, known)
    changed = [place for place in places if _has_changed(place, came, known)]
    kept = {name for place in places if not _has_changed(place, came, known) for name in known.names(place)}
    before = {name for place in changed for name in known.names(place)}
    missing = set(known.files) - kept - before
    # A key that left one file may stand in another one: only all files together tell what is gone.
    finds_deletes = plan.mode == "merge" and plan.deletes != "ignore" and bool(missing or before)
    whole = plan.mode in ("replace", "scd2") or finds_deletes
    wanted = (places if changed or missing or reread else []) if whole else changed
    catch = _bring(desk, source, wanted, came)
    chosen = sorted((file for files in catch.files.values() for file in files), key=lambda file: file.name)
    gone = sorted(set(known.files) - kept - {file.name for file in chosen})
    forgotten = set(known.files) if whole else set(gone) if plan.deletes != "ignore" else set()
    fingerprints = {name: value for name, value in known.files.items() if name not in forgotten}
    fingerprints |= {file.name: [] if _racy(file, started) else list(file.fingerprint) for file in chosen}
    remembered = None if reread else state.get("delimiter")
    parts = _parts(plan, chosen, reading.connection, remembered)
    return Extract(
        parts=parts,
        explain=lambda error: _explain(plan, chosen, error),
        state={
            "files": fingerprints,
            "reading": meaning,
            **_delimiter(plan, chosen, remembered),
            **_holders(catch, known, places, fingerprints),
        },
        replaces=tuple(file.name for file in chosen),
        gone=tuple(gone),
        complete=whole,
        settled=not changed and not reread,
        verify=lambda: _verify(chosen),
        size=_estimate_rows(chosen),
        notes=(*desk.notes, *_old_rows(plan, gone, reread)),
    )


def _find(desk: Desk, source: FilesSource, root: Path) -> list[Place]:
    """What the stream's paths lead to, sorted by name. Raises LoadError where a path leads to nothing."""
    found: dict[str, Place] = {}
    for pattern in desk.plan.options.path:
        if pattern.startswith(("http://", "https://")):
            address, members = split_web_archive(pattern)
            places = [Place(public_name(address), address, members=members)]
        elif "://" in pattern:
            places = stores.find(desk, source, pattern)
        else:
            places = list(find_local(desk.plan, pattern, root))
        for place in places:
            twin = found.get(place.name)
            if twin is not None and (twin.where, twin.members) != (place.where, place.members):
                message = f"{place.name} is named twice, and not the same way."
                raise stream_error(desk.plan, message, "Make them two streams.")
            found[place.name] = place
    return [found[name] for name in sorted(found)]


_Came = dict[str, web.Fetched | None]


def _fetch_changed(desk: Desk, source: FilesSource, places: Sequence[Place], known: _Known) -> _Came:
    """Ask web servers for their files, as far as they changed. None: it is the file that was loaded."""
    return {
        place.name: web.fetch(desk, source, place.name, str(place.where), known.of(place))
        for place in places
        if place.is_web
    }


def _has_changed(place: Place, came: _Came, known: _Known) -> bool:
    if place.is_web:
        return came[place.name] is not None
    before = known.of(place)
    return before is None or list(before) != list(place.fingerprint or ())


def _bring(desk: Desk, source: FilesSource, places: Sequence[Place], came: _Came) -> _Catch:
    """Fetch and unpack: afterwards everything lies on this machine, in files that DuckDB reads."""
    catch = _Catch()
    remote = [place for place in places if isinstance(place.where, str) and not place.is_web]
    sizes = [place.size for place in remote if place.size is not None]
    desk.total = sum(sizes) if remote and not came else desk.total
    objects = stores.fetch(desk, source, remote) if remote else {}
    for place in places:
        packed = False
        if isinstance(place.where, Path):
            path, fingerprint = place.where, place.fingerprint or ()
        elif place.is_web:
            answer = came[place.name] or web.fetch(desk, source, place.name, place.where)
            assert answer is not None  # without a known fingerprint there is always a file
            path, fingerprint, packed = answer.path, answer.fingerprint, answer.packed
        else:
            path, fingerprint = objects[place.name]
        origin = place.where if isinstance(place.where, Path) else None
        catch.fingerprints[place.name] = fingerprint
        catch.files[place.name] = unpack(
            desk, place.name, path, fingerprint, members=place.members, origin=origin, packed=packed
        )
    return catch


def _holders(
    catch: _Catch, known: _Known, places: Sequence[Place], fingerprints: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """What state keeps of archives and workbooks. A fingerprint that is not to be trusted is none here, either."""
    members = {place.name: place.members for place in places}
    holders = {name: list(value) for name, value in known.holders.items() if name in members}
    for name, files in catch.files.items():
        if [file.name for file in files] == [name]:
            holders.pop(name, None)
            continue
        racy = any(not fingerprints[file.name] for file in files)
        holders[name] = [[] if racy else list(catch.fingerprints[name]), members[name]]
    return {"holders": holders} if holders else {}


def _extract_by_cursor(plan: StreamPlan, source: FilesSource, reading: Reading) -> Extract:
    """Return what servers answer to the stream's URLs with the cursor filled in. Nothing new is no error."""
    desk, state = Desk.of(plan, reading), reading.state
    meaning = _meaning(plan, source)
    reread = state.get("reading", meaning) != meaning
    bound = url_cursor.bound(plan, reading)
    files: list[DataFile] = []
    for template in plan.options.path:
        address, members = split_web_archive(template)
        url = url_cursor.fill(address, bound.since, bound.until)
        name = public_name(address)
        answer = web.fetch(desk, source, name, url, may_be_empty=True)
        if answer is not None and answer.path.stat().st_size:
            files += [
                file
                for file in unpack(desk, name, answer.path, [], members=members, packed=answer.packed)
                if not url_cursor.is_blank(file)
            ]
    parts = [part for part in _parts(plan, files, reading.connection) if part.columns]
    ranged = reading.since is not None or reading.until is not None
    if ranged and not parts:
        desk.notes.append("the answer holds nothing, not even columns; the rows of this range stay")
    return Extract(
        parts=parts if bound.first or ranged or _any_rows(parts, reading.connection) else (),
        explain=lambda error: _explain(plan, files, error),
        state={"reading": meaning},
        since=None if bound.first else bound.since,
        size=_estimate_rows(files),
        notes=(*desk.notes, *_old_rows(plan, (), reread)),
    )


def _any_rows(parts: Sequence[Part], connection: DuckDBPyConnection) -> bool:
    import duckdb

    try:
        return any(connection.execute(f"SELECT 1 FROM ({part.sql}) LIMIT 1").fetchone() for part in parts)
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        return True  # the load says what is wrong with it


def _meaning(plan: StreamPlan, source: FilesSource) -> str:
    """A digest of the options that decide what the bytes of a file mean."""
    options = [getattr(plan.options, name) for name in _READING]
    fields = type(plan.options).model_fields
    later = {name: getattr(plan.options, name) for name in _READING_LATER}
    options += [[name, value] for name, value in later.items() if value != fields[name].default]
    return hashlib.sha256(json.dumps([*options, sorted(plan.columns.items()), source.naming]).encode()).hexdigest()[:16]


def _old_rows(plan: StreamPlan, gone: Sequence[str], reread: bool) -> tuple[str, ...]:
    """What to say of rows that stay. Only ``replace`` follows: the other modes never take a row away unasked."""
    notes = []
    if gone and plan.mode not in ("replace", "scd2") and plan.deletes == "ignore":
        what = f"{gone[0]} is gone" if len(gone) == 1 else f"{gone[0]} and {len(gone) - 1} more files are gone"
        notes.append(f"{what}, the rows stay; `smoll run --reload {plan.ref}` loads only what is there")
    if reread and plan.mode not in ("replace", "scd2"):
        notes.append(
            "options in smoll.yml changed, rows loaded before stay as they were read; "
            f"`smoll run --reload {plan.ref}` reads all files anew"
        )
    return tuple(notes)


def _racy(file: DataFile, started: int) -> bool:
    """True where the file could still change without its time changing: then it is read again next time.

    As git does for its index (racy-git). File systems with whole or even seconds get two seconds. The state of such
    a file is a fingerprint that no file has.
    """
    if file.origin is None:
        return False
    modified = int(file.fingerprint[1])
    window = _COARSE_NS if modified % 1_000_000_000 == 0 else _RACY_NS
    return modified > started - window


def _verify(files: Sequence[DataFile]) -> None:
    for origin, file in {file.origin: file for file in files if file.origin}.items():
        try:
            now = fingerprint_of(origin.stat())
        except OSError:
            now = []
        if now != list(file.fingerprint):
            raise LoadError(f"{file.name} changed while it was read.", hint="Run again when it is complete.")


_ONLY = {
    ("csv", "tsv"): ("delimiter", "quote", "escape", "header", "encoding", "null_values"),
    ("excel",): ("sheet", "header_row"),
}
"""Options that mean something for these formats only."""


def _refuse_idle_options(plan: StreamPlan, files: Sequence[DataFile]) -> None:
    """Raise LoadError for an option that says nothing about any of the files."""
    found = {file.format for file in files}
    for formats, names in _ONLY.items():
        given = [name for name in names if name in plan.options.model_fields_set]
        if found and given and not found & set(formats):
            raise stream_error(
                plan,
                f"{given[0]} is for {' and '.join(formats)} files, and {files[0].name} is {files[0].format}.",
                f"Remove {given[0]}, or set `format` if the file's name says something else.",
            )


def _delimiter(plan: StreamPlan, files: Sequence[DataFile], remembered: str | None) -> dict[str, str]:
    """What state keeps of how the stream's CSV is written, so that no later header decides otherwise."""
    first = next((file for file in files if file.format == "csv"), None)
    if plan.options.delimiter or (first is None and remembered is None):
        return {}
    found = remembered if first is None else csv_files.delimiter_of(plan, "csv", first, remembered)
    return {"delimiter": found} if found else {}


def _parts(
    plan: StreamPlan, files: Sequence[DataFile], connection: DuckDBPyConnection, remembered: str | None = None
) -> tuple[Part, ...]:
    """Group files that can be scanned by one SELECT: of one format, with the same columns in the same order."""
    _refuse_idle_options(plan, files)
    parts: list[Part] = []
    for (kind, partitions), members in groupby(files, key=lambda file: (file.format, partitions_of(file.name))):
        group, found = list(members), list[Part]()
        if kind in ("csv", "tsv"):
            found += csv_files.parts(plan, kind, group, connection, remembered)
        elif kind == "parquet":
            found += _parquet_parts(plan, group, connection)
        elif kind == "excel":
            found += [_excel_part(plan, file, connection) for file in group]
        else:
            found += json_files.parts(plan, kind, group, connection)
        parts += [with_partitions(part, partitions) for part in found]
    return tuple(parts)


def _excel_part(plan: StreamPlan, file: DataFile, connection: DuckDBPyConnection) -> Part:
    """One sheet. The kinds of its cells hold for this file only, so no two files are one part."""
    part = json_files.part(plan, "ndjson", [file], connection)
    if not file.lines:
        return Part(f"SELECT * FROM ({part.sql}) WHERE false", part.columns, part.label)

    def locate(name: str, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
        wanted = set(numbers)
        with file.path.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, start=1):
                if number in wanted:
                    yield file.lines[number - 1], text.rstrip("\n")

    return everywhere(part, lambda found: replace(found, locate=locate))


def _explain(plan: StreamPlan, files: Sequence[DataFile], error: Exception) -> LoadError:
    """Name the file that DuckDB was reading, as far as it says so, and what was wrong in it."""
    text = str(error)
    if "CSV" in text:
        return csv_files.explain(plan, named(files, text), error)
    return stream_error(plan, f"{named(files, text)}: {text.splitlines()[0]}")


def _parquet_parts(plan: StreamPlan, files: Sequence[DataFile], connection: DuckDBPyConnection) -> Iterator[Part]:
    described = [(_parquet_columns(plan, file, connection), file) for file in files]
    for columns, members in groupby(described, key=lambda pair: pair[0]):
        group = [file for _, file in members]
        names = ", ".join(quote(column.name) for column in columns)
        scan = f"read_parquet({paths_sql(group)}, filename = '__smoll_path', hive_partitioning = false)"
        sql = f"SELECT {names}, {file_name_sql(group)} AS {quote(FILE_COLUMN)} FROM {scan}"
        records = partial(_parquet_records, group, connection)
        yield Part(
            sql,
            columns,
            f"{plan.ref}: {label(group)}",
            tuple(file.name for file in group),
            records=partial(partial, records),
        )


def _parquet_records(files: Sequence[DataFile], connection: DuckDBPyConnection) -> int:
    """The number of rows by the files' own footers."""
    row = connection.execute(f"SELECT sum(num_rows) FROM parquet_file_metadata({paths_sql(files)})").fetchone()
    return int(row[0]) if row else 0


def _parquet_columns(plan: StreamPlan, file: DataFile, connection: DuckDBPyConnection) -> tuple[PartColumn, ...]:
    import duckdb

    try:
        scan = f"read_parquet({paths_sql([file])}, hive_partitioning = false)"
        rows = connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    except duckdb.Error as error:
        message = f"{file.name} is no readable Parquet file: {str(error).splitlines()[0]}"
        raise stream_error(plan, message, "Fetch or write it anew.") from error
    return tuple(PartColumn(row[0], row[1], SCALARS) for row in rows)


def _estimate_rows(files: Sequence[DataFile]) -> int | None:
    """Guess the rows from the length of the first lines, for the progress bar only. None where it is unknown."""
    if not files or any(is_packed(file.path) for file in files) or len(files) > 100:
        return None
    if any(file.format == "parquet" for file in files):
        return None
    total = sum(file.size for file in files)
    with files[0].path.open("rb") as file:
        sample = file.read(65536)
    lines = sample.count(b"\n")
    if lines == 0:
        return None
    return total * lines // len(sample)
