"""Files on this machine: CSV, TSV, JSON, NDJSON and Parquet, plain or compressed, read by DuckDB.

CSV and JSON values are handed over as text, whatever they look like: ``smoll.load.types`` finds the type that
holds all of them exactly, so no value depends on where in the file a sniffer looked.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import FILE_COLUMN, SCALARS, Extract, Part, PartColumn, Reading, StreamPlan, plan_stream
from smoll.connectors import csv_files, json_files
from smoll.connectors.data_file import DataFile, file_name_sql, label, named, paths_sql, stream_error
from smoll.errors import LoadError
from smoll.model import StreamRef, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import FilesSource

_FORMATS = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSIONS = (".gz", ".zst", ".zstd")
_RACY_NS = 50_000_000
_COARSE_NS = 2_000_000_000
_READING = ("format", "delimiter", "header", "encoding", "null_values")


def discover(
    name: str, source: FilesSource, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
) -> tuple[StreamPlan, ...]:
    """The streams are those of the configuration."""
    return tuple(
        plan_stream(source, StreamRef(name, stream), options, has_files=True)
        for stream, options in source.streams.items()
    )


@contextmanager
def attach(name: str, source: FilesSource, root: Path, connection: DuckDBPyConnection) -> Iterator[None]:
    """Files need no connection."""
    yield


def check(name: str, source: FilesSource, root: Path, connection: DuckDBPyConnection) -> str:
    """Every path leads to files whose header can be read."""
    total = 0
    for plan in discover(name, source, root, connection):
        files = find_files(plan, root)
        _parts(plan, files[:1], connection)
        total += len(files)
    return f"{len(source.streams)} streams, {total} files"


def extract(plan: StreamPlan, source: FilesSource, reading: Reading) -> Extract:
    """Return the files to load: all of them under ``replace``, the new and the changed ones otherwise."""
    started = time.time_ns()
    connection, state = reading.connection, reading.state
    files = find_files(plan, reading.root)
    known: Mapping[str, list[int]] = state.get("files", {})
    meaning = _meaning(plan, source)
    reread = state.get("reading", meaning) != meaning
    changed = [file for file in files if known.get(file.name) != file.fingerprint]
    gone = sorted(set(known) - {file.name for file in files})
    chosen = (files if changed or gone or reread else []) if plan.mode == "replace" else changed
    fingerprints = {} if plan.mode == "replace" else dict(known)
    fingerprints |= {file.name: [] if _racy(file, started) else file.fingerprint for file in chosen}
    parts = _parts(plan, chosen, connection)
    return Extract(
        parts=parts,
        explain=lambda error: _explain(plan, chosen, error),
        state={"files": fingerprints, "reading": meaning},
        replaces=tuple(file.name for file in changed),
        verify=lambda: _verify(chosen),
        size=_estimate_rows(plan, chosen),
        notes=_old_rows(plan, gone, reread),
    )


def _meaning(plan: StreamPlan, source: FilesSource) -> str:
    """A digest of the options that decide what the bytes of a file mean."""
    options = [getattr(plan.options, name) for name in _READING]
    return hashlib.sha256(json.dumps([*options, sorted(plan.columns.items()), source.naming]).encode()).hexdigest()[:16]


def _old_rows(plan: StreamPlan, gone: Sequence[str], reread: bool) -> tuple[str, ...]:
    """What to say of rows that stay. Only ``replace`` follows: the other modes never take a row away unasked."""
    notes = []
    if gone and plan.mode != "replace":
        what = f"{gone[0]} is gone" if len(gone) == 1 else f"{gone[0]} and {len(gone) - 1} more files are gone"
        notes.append(f"{what}, the rows stay; `smoll run --reload {plan.ref}` loads only what is there")
    if reread and plan.mode != "replace":
        notes.append(
            "options in smoll.yml changed, rows loaded before stay as they were read; "
            f"`smoll run --reload {plan.ref}` reads all files anew"
        )
    return tuple(notes)


def find_files(plan: StreamPlan, root: Path) -> list[DataFile]:
    """List a stream's files, sorted by name. Raises LoadError where a path leads to nothing."""
    found: dict[str, DataFile] = {}
    for pattern in plan.options.path:
        for path in _expand(plan, pattern, root):
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
            found[name] = _stat(plan, path, name)
    return [found[name] for name in sorted(found)]


def _expand(plan: StreamPlan, pattern: str, root: Path) -> Iterable[Path]:
    whole = root / pattern
    if whole.is_file():  # also where the name holds characters that a glob would read as wildcards
        return [whole]
    matches = sorted(Path(m) for m in glob.iglob(str(Path(glob.escape(str(root))) / pattern), recursive=True))
    files = [match for match in matches if match.is_file()]
    if files:
        return files
    if whole.is_dir():
        raise stream_error(
            plan, f"{pattern} is a folder, not a file.", f"Name the files in it: {pattern.rstrip('/')}/*.csv"
        )
    what = "No file matches" if glob.has_magic(pattern) else "There is no file"
    raise stream_error(
        plan, f"{what} {pattern} (looked in {root}).", "Check `path` in smoll.yml, or put the file there."
    )


def _stat(plan: StreamPlan, path: Path, name: str) -> DataFile:
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    if shown != name:
        raise stream_error(plan, f"the name {shown} is not UTF-8.", "Rename the file.")
    try:
        stat = path.stat()
    except OSError as error:
        raise stream_error(plan, f"{name} cannot be read: {error.strerror}.") from error
    if stat.st_size == 0:
        hint = "Remove it, or write it anew; an empty file is often an upload that broke off."
        raise stream_error(plan, f"{name} is empty: 0 bytes, not even a header.", hint)
    return DataFile(path, name, stat.st_size, stat.st_mtime_ns)


def _racy(file: DataFile, started: int) -> bool:
    """True where the file could still change without its time changing: then it is read again next time.

    As git does for its index (racy-git). File systems with whole or even seconds get two seconds. The state of such
    a file is a fingerprint that no file has.
    """
    window = _COARSE_NS if file.modified % 1_000_000_000 == 0 else _RACY_NS
    return file.modified > started - window


def _verify(files: Sequence[DataFile]) -> None:
    for file in files:
        try:
            stat = file.path.stat()
        except OSError:
            stat = None
        if stat is None or [stat.st_size, stat.st_mtime_ns] != file.fingerprint:
            raise LoadError(f"{file.name} changed while it was read.", hint="Run again when it is complete.")


def _format(plan: StreamPlan, file: DataFile) -> str:
    if plan.options.format:
        return str(plan.options.format)
    suffixes = [suffix.lower() for suffix in file.path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    known = _FORMATS.get(suffixes[-1]) if suffixes else None
    if known is None:
        raise stream_error(
            plan, f"{file.name}: the format cannot be told from the name.", "Set `format: csv` on the stream."
        )
    return known


def _parts(plan: StreamPlan, files: Sequence[DataFile], connection: DuckDBPyConnection) -> tuple[Part, ...]:
    """Group files that can be scanned by one SELECT: of one format, with the same columns in the same order."""
    parts: list[Part] = []
    for kind, members in groupby(files, key=lambda file: _format(plan, file)):
        group = list(members)
        if kind in ("csv", "tsv"):
            parts += csv_files.parts(plan, kind, group, connection)
        elif kind == "parquet":
            parts += _parquet_parts(plan, group, connection)
        else:
            parts.append(json_files.part(plan, kind, group, connection))
    return tuple(parts)


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
        yield Part(sql, columns, f"{plan.ref}: {label(group)}")


def _parquet_columns(plan: StreamPlan, file: DataFile, connection: DuckDBPyConnection) -> tuple[PartColumn, ...]:
    import duckdb

    try:
        scan = f"read_parquet({paths_sql([file])}, hive_partitioning = false)"
        rows = connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    except duckdb.Error as error:
        raise stream_error(plan, f"{file.name} is no readable Parquet file: {str(error).splitlines()[0]}") from error
    return tuple(PartColumn(row[0], row[1], SCALARS) for row in rows)


def _estimate_rows(plan: StreamPlan, files: Sequence[DataFile]) -> int | None:
    """Guess the rows from the length of the first lines, for the progress bar only. None where it is unknown."""
    if not files or any(file.path.suffix.lower() in _COMPRESSIONS for file in files) or len(files) > 100:
        return None
    total = sum(file.size for file in files)
    with files[0].path.open("rb") as file:
        sample = file.read(65536)
    lines = sample.count(b"\n")
    if _format(plan, files[0]) == "parquet" or lines == 0:
        return None
    return total * lines // len(sample)
