"""Files on this machine: CSV, TSV, JSON, NDJSON and Parquet, plain or compressed, read by DuckDB.

CSV and JSON values are handed over as text, whatever they look like: ``smoll.load.types`` finds the type that
holds all of them exactly, so no value depends on where in the file a sniffer looked.
"""

from __future__ import annotations

import csv
import glob
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connector import FILE_COLUMN, SCALARS, Extract, Part, PartColumn, StreamPlan, apply_naming
from smoll.connectors import json_files
from smoll.errors import LoadError
from smoll.model import StreamRef, TableRef, literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import FilesSource, FileStream

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
_DELIMITERS = (",", ";", "\t", "|")
_RACY_NS = 50_000_000
_COARSE_NS = 2_000_000_000


@dataclass(frozen=True)
class DataFile:
    """One file: its path on this machine, and its name in state (relative to the project where it lies inside)."""

    path: Path
    name: str
    size: int
    modified: int

    @property
    def fingerprint(self) -> list[int]:
        return [self.size, self.modified]


def discover(
    name: str, source: FilesSource, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
) -> tuple[StreamPlan, ...]:
    """The streams are those of the configuration."""
    return tuple(
        StreamPlan(
            ref=StreamRef(name, stream),
            table=TableRef(source.schema_name or f"raw_{name}", options.table or apply_naming(source, stream)),
            mode=options.mode,
            key=options.key,
            cursor=options.cursor,
            columns=options.columns,
            options=options,
            has_files=True,
        )
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


def extract(
    plan: StreamPlan,
    source: FilesSource,
    root: Path,
    state: Mapping[str, Any],
    connection: DuckDBPyConnection,
) -> Extract:
    """Return the files to load: all of them under ``replace``, the new and the changed ones otherwise."""
    started = time.time_ns()
    files = find_files(plan, root)
    known: Mapping[str, list[int]] = state.get("files", {})
    changed = [file for file in files if known.get(file.name) != file.fingerprint]
    gone = sorted(set(known) - {file.name for file in files})
    chosen = (files if changed or gone else []) if plan.mode == "replace" else changed
    fingerprints = {} if plan.mode == "replace" else dict(known)
    fingerprints |= {file.name: file.fingerprint for file in chosen if not _racy(file, started)}
    parts = _parts(plan, chosen, connection)
    return Extract(
        parts=parts,
        explain=lambda error: _explain(plan, chosen, error),
        state={"files": fingerprints},
        replaces=tuple(file.name for file in changed),
        verify=lambda: _verify(chosen),
        size=_estimate_rows(plan, chosen),
        notes=_vanished(plan, gone),
    )


def _vanished(plan: StreamPlan, gone: Sequence[str]) -> tuple[str, ...]:
    """Only ``replace`` follows a file that is gone: the other modes never take a row away unasked."""
    if plan.mode == "replace" or not gone:
        return ()
    what = f"{gone[0]} is gone" if len(gone) == 1 else f"{gone[0]} and {len(gone) - 1} more files are gone"
    return (f"{what}, the rows stay; `smoll run --reload {plan.ref}` loads only what is there",)


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
        raise _error(plan, f"{pattern} is a folder, not a file.", f"Name the files in it: {pattern.rstrip('/')}/*.csv")
    what = "No file matches" if glob.has_magic(pattern) else "There is no file"
    raise _error(plan, f"{what} {pattern} (looked in {root}).", "Check `path` in smoll.yml, or put the file there.")


def _stat(plan: StreamPlan, path: Path, name: str) -> DataFile:
    try:
        stat = path.stat()
    except OSError as error:
        raise _error(plan, f"{name} cannot be read: {error.strerror}.") from error
    if stat.st_size == 0:
        hint = "Remove it, or write it anew; an empty file is often an upload that broke off."
        raise _error(plan, f"{name} is empty: 0 bytes, not even a header.", hint)
    return DataFile(path, name, stat.st_size, stat.st_mtime_ns)


def _racy(file: DataFile, started: int) -> bool:
    """True where the file could still change without its time changing: then it is read again next time.

    As git does for its index (racy-git). File systems with whole or even seconds get two seconds.
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
        raise _error(plan, f"{file.name}: the format cannot be told from the name.", "Set `format: csv` on the stream.")
    return known


def _parts(plan: StreamPlan, files: Sequence[DataFile], connection: DuckDBPyConnection) -> tuple[Part, ...]:
    """Group files that can be scanned by one SELECT: of one format, with the same columns in the same order."""
    parts: list[Part] = []
    for kind, members in groupby(files, key=lambda file: _format(plan, file)):
        group = list(members)
        if kind in ("csv", "tsv"):
            parts += _csv_parts(plan, kind, group, connection)
        elif kind == "parquet":
            parts += _parquet_parts(plan, group, connection)
        else:
            parts.append(_json_part(plan, kind, group, connection))
    return tuple(parts)


def _label(files: Sequence[DataFile]) -> str:
    """Name a group of files for a message."""
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more files"


def _named(files: Sequence[DataFile], text: str) -> str:
    """Name the file that an error of DuckDB speaks of, or all where it speaks of none."""
    return next((file.name for file in files if str(file.path) in text), _label(files))


def _paths(files: Sequence[DataFile]) -> str:
    """SQL: the list of the files. DuckDB takes a path for a pattern where it can, even where a file is named so."""
    return "[" + ", ".join(literal(glob.escape(str(file.path))) for file in files) + "]"


def _file_name_sql(files: Sequence[DataFile], column: str = "__smoll_path") -> str:
    """SQL that gives a row's file as state names it, from the path that DuckDB reports."""
    if len(files) == 1:
        return literal(files[0].name)
    cut = len(str(files[0].path)) - len(files[0].name)
    if all(str(file.path)[cut:] == file.name for file in files):
        return f"substring({quote(column)}, {cut + 1})"
    pairs = ", ".join(f"{literal(str(file.path))}: {literal(file.name)}" for file in files)
    return f"MAP {{{pairs}}}[{quote(column)}]"


# --- CSV


def _csv_parts(
    plan: StreamPlan, kind: str, files: Sequence[DataFile], connection: DuckDBPyConnection
) -> Iterator[Part]:
    options: FileStream = plan.options
    heads = [(file, _read_head(plan, file, connection)) for file in files]
    delimiter = options.delimiter or ("\t" if kind == "tsv" else _find_delimiter(heads[0][1]))
    named = [(tuple(_header(plan, file, head, delimiter)), file) for file, head in heads]
    for names, members in groupby(named, key=lambda pair: pair[0]):
        group = [file for _, file in members]
        scan = _csv_scan(options, group, names, delimiter)
        columns = ", ".join(quote(name) for name in names)
        sql = f"SELECT {columns}, {_file_name_sql(group)} AS {quote(FILE_COLUMN)} FROM {scan}"
        yield Part(sql, tuple(PartColumn(name, None) for name in names), f"{plan.ref}: {_label(group)}")


def _csv_scan(options: FileStream, files: Sequence[DataFile], names: Sequence[str], delimiter: str) -> str:
    # No `new_line`: given together with strict_mode, DuckDB 1.5 returns no rows at all, and no error, for a file
    # with other line ends. Without it a mix of line ends is an error.
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    nulls = ", ".join(literal(text) for text in options.null_values)
    return (
        f"read_csv({_paths(files)}, auto_detect = false, columns = {{{columns}}}, header = {options.header}, "
        f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', strict_mode = true, nullstr = [{nulls}], "
        f"allow_quoted_nulls = false, encoding = {literal(options.encoding)}, filename = '__smoll_path', "
        "hive_partitioning = false)"
    )


def _read_head(plan: StreamPlan, file: DataFile, connection: DuckDBPyConnection) -> str:
    """The first lines of a file as DuckDB decodes them, so that compression and encoding are handled once."""
    import duckdb

    options: FileStream = plan.options
    try:
        rows = connection.execute(
            f"""SELECT line FROM read_csv({_paths([file])}, auto_detect = false, header = false,
            columns = {{'line': 'VARCHAR'}}, delim = '\x1f', quote = '', escape = '',
            strict_mode = false, encoding = {literal(options.encoding)}) LIMIT 100"""
        ).fetchall()
    except duckdb.Error as error:
        raise _csv_error(plan, file.name, error) from error
    lines = [str(row[0] or "") for row in rows]
    if not any(line.strip() for line in lines):
        raise _error(plan, f"{file.name} holds only blank lines.", "Remove it, or write it anew.")
    return "\n".join(lines)


def _find_delimiter(head: str) -> str:
    """The delimiter that splits the header most; the rows below it have no say, wherever they are odd."""
    return max(_DELIMITERS, key=lambda delimiter: len(_first_record(head, delimiter)))


def _first_record(head: str, delimiter: str) -> list[str]:
    return next(csv.reader(head.splitlines(keepends=True), delimiter=delimiter), [])


def _header(plan: StreamPlan, file: DataFile, head: str, delimiter: str) -> list[str]:
    names = _first_record(head, delimiter)
    if not plan.options.header:
        return [f"column{index}" for index in range(len(names))]
    names = [name.strip() or f"column{index}" for index, name in enumerate(names)]
    _refuse_duplicates(plan, file.name, names)
    other = [d for d in _DELIMITERS if d != delimiter and d in names[0]]
    if len(names) == 1 and other:
        raise _error(
            plan,
            f"{file.name} has only one column with the delimiter {delimiter!r}, and its header holds {other[0]!r}.",
            f"Set `delimiter: {other[0]!r}` on the stream.",
        )
    return names


def _refuse_duplicates(plan: StreamPlan, file: str, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            earlier = seen[name.lower()]
            same = f"two columns named {name!r}" if earlier == name else f"columns {earlier!r} and {name!r}"
            raise _error(plan, f"{file} has {same}; DuckDB does not tell upper from lower case.", "Rename one of them.")
        seen[name.lower()] = name


def _explain(plan: StreamPlan, files: Sequence[DataFile], error: Exception) -> LoadError:
    """Name the file that DuckDB was reading, as far as it says so, and what was wrong in it."""
    text = str(error)
    label = _named(files, text)
    if "CSV" in text:
        return _csv_error(plan, label, error)
    return _error(plan, f"{label}: {text.splitlines()[0]}")


def _csv_error(plan: StreamPlan, label: str, error: Exception) -> LoadError:
    """Say in plain words what DuckDB's CSV reader met, and where."""
    lines = str(error).splitlines()
    where = next((line.split("Line:")[1].strip() for line in lines if "CSV Error on Line:" in line), "")
    text = next((line.removeprefix("Original Line:").strip() for line in lines if "Original Line:" in line), "")
    place = f"{label}, line {where}" if where else label
    shown = f" The line begins: {text[:80]!r}." if text else ""
    whole = str(error)
    if "unicode" in whole or "not utf-8" in whole.lower():
        return _error(plan, f"{place}: the text is not {plan.options.encoding}.{shown}", "Set `encoding: latin-1`.")
    if "Expected Number of Columns" in whole:
        counts = next(line for line in lines if "Expected Number of Columns" in line)
        counts = counts.replace("Expected Number of Columns:", "expected").replace("Found:", "columns, found")
        return _error(plan, f"{place}: {counts}.{shown}", "Mend the line, or check `delimiter` and the quotes.")
    if "unterminated quote" in whole:
        return _error(plan, f"{place}: a quote is not closed, or text follows one.{shown}", "Mend the line.")
    if "invalid state" in whole:
        hint = "Write the file with one kind of line end (dos2unix does)."
        return _error(plan, f"{place}: the file mixes line ends (\\r\\n and \\n).", hint)
    return _error(plan, f"{place}: {lines[0]}{shown}")


# --- JSON


def _json_part(plan: StreamPlan, kind: str, files: Sequence[DataFile], connection: DuckDBPyConnection) -> Part:
    def name(text: str) -> str:
        return f"{plan.ref}: {_named(files, text)}"

    return json_files.part(name, kind, _paths(files), _file_name_sql(files), connection)


# --- Parquet


def _parquet_parts(plan: StreamPlan, files: Sequence[DataFile], connection: DuckDBPyConnection) -> Iterator[Part]:
    described = [(_parquet_columns(plan, file, connection), file) for file in files]
    for columns, members in groupby(described, key=lambda pair: pair[0]):
        group = [file for _, file in members]
        names = ", ".join(quote(column.name) for column in columns)
        scan = f"read_parquet({_paths(group)}, filename = '__smoll_path', hive_partitioning = false)"
        sql = f"SELECT {names}, {_file_name_sql(group)} AS {quote(FILE_COLUMN)} FROM {scan}"
        yield Part(sql, columns, f"{plan.ref}: {_label(group)}")


def _parquet_columns(plan: StreamPlan, file: DataFile, connection: DuckDBPyConnection) -> tuple[PartColumn, ...]:
    import duckdb

    try:
        scan = f"read_parquet({_paths([file])}, hive_partitioning = false)"
        rows = connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    except duckdb.Error as error:
        raise _error(plan, f"{file.name} is no readable Parquet file: {str(error).splitlines()[0]}") from error
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


def _error(plan: StreamPlan, message: str, hint: str = "") -> LoadError:
    return LoadError(f"{plan.ref}: {message}", hint=hint)
