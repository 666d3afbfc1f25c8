"""CSV and TSV for the ``files`` connector: every value as text, every row complete, or an error with its line.

DuckDB scans the files. What it cannot scan is looked at record by record (`csv_records`), and its good records are
scanned from a copy.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import FILE_COLUMN, Damage, Part, PartColumn, StreamPlan
from smoll.connectors.csv_records import (
    DAMAGE,
    LONGEST,
    Dialect,
    Survey,
    begin_count,
    copy_good,
    damaged,
    find_records,
    header_record,
    is_packed,
    is_text,
    open_text,
    rejected_sql,
    survey,
)
from smoll.connectors.data_file import DataFile, file_name_sql, label, paths_sql, refuse_twins, stream_error
from smoll.errors import LoadError
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import FileStream

_DELIMITERS = (",", ";", "\t", "|")
_SEP = re.compile("sep=(.)[\r\n]*", re.IGNORECASE)
_HEAD_LINES = 100
_BUFFER = 32_000_000
"""Bytes of a buffer of DuckDB's, which no record of a smaller file crosses the end of."""
_FILES_AT_ONCE = 250
"""DuckDB keeps a batch of rows for each file of an ordered insert: 10,000 small files at once take 650 MB and more."""
_WIDE_MARKS = ("\udcff\udcfe", "\udcfe\udcff")
"""The byte order marks of UTF-16, as text that was read as UTF-8."""


def parts(
    plan: StreamPlan,
    kind: str,
    files: Sequence[DataFile],
    connection: DuckDBPyConnection,
    remembered: str | None = None,
) -> Iterator[Part]:
    """Group the files by their header: files of one group can be scanned by one SELECT.

    Parameters
    ----------
    remembered
        The delimiter that was found at an earlier load.

    Raises
    ------
    LoadError
        A header cannot be read, names a column twice, or was not split by the delimiter.
    """
    heads = [(file, _read_head(plan, file)) for file in files]
    delimiter = find_delimiter(plan, kind, heads[0][1], remembered)
    described = [(*_describe(plan, file, head, delimiter), file) for file, head in heads]
    for (names, dialect, broken), members in groupby(described, key=lambda found: found[:3]):
        group = [file for *_, file in members]
        for start in range(0, len(group), _FILES_AT_ONCE):
            yield _part(plan, names, dialect, group[start : start + _FILES_AT_ONCE], broken)


def delimiter_of(plan: StreamPlan, kind: str, file: DataFile, remembered: str | None) -> str:
    """The delimiter of a stream: as configured, as found at an earlier load, or as the header of `file` has it."""
    return find_delimiter(plan, kind, _read_head(plan, file), remembered)


def find_delimiter(plan: StreamPlan, kind: str, head: str, remembered: str | None) -> str:
    """As `delimiter_of`. The rows below the header have no say, wherever they are odd."""
    options: FileStream = plan.options
    given = options.delimiter or ("\t" if kind == "tsv" else remembered)
    if given:
        return given
    said = _SEP.match(head)
    if said:
        return said[1]
    return max(_DELIMITERS, key=lambda delimiter: _fitness(head, delimiter, options))


def _fitness(head: str, delimiter: str, options: FileStream) -> tuple[bool, int]:
    """How well a delimiter splits a header: into most names, and none of them with half a pair of quotes."""
    names = _first_record(head, delimiter, options)
    return not any(options.quote and options.quote in name for name in names), len(names)


def _read_head(plan: StreamPlan, file: DataFile) -> str:
    """The first lines of a file."""
    options: FileStream = plan.options
    try:
        with open_text(file.path, options.encoding) as text:
            lines = list(islice(text, _HEAD_LINES))
    except UnicodeError as error:
        raise stream_error(
            plan, f"{file.name}: the text is not {options.encoding}.", "Set `encoding: latin-1`."
        ) from error
    except DAMAGE as error:
        raise damaged(f"{plan.ref}: {file.name}", error) from error
    if options.encoding == "utf-8" and lines and lines[0].startswith(_WIDE_MARKS):
        raise stream_error(plan, f"{file.name}, line 1: the text is UTF-16.", "Set `encoding: utf-16` on the stream.")
    if not any(line.strip() for line in lines):
        raise stream_error(plan, f"{file.name} holds only blank lines.", "Remove it, or write it anew.")
    if not lines[0].strip("\r\n"):
        raise stream_error(plan, f"{file.name} begins with a blank line.", "Remove the line.")
    return "".join(lines)


def _first_record(head: str, delimiter: str, options: FileStream) -> list[str]:
    lines = head.splitlines(keepends=True)
    if not options.quote:
        return next(csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE), [])
    escape = options.escape if options.escape != options.quote else None
    reader = csv.reader(
        lines, delimiter=delimiter, quotechar=options.quote, escapechar=escape, doublequote=escape is None
    )
    return next(reader, [])


def _describe(plan: StreamPlan, file: DataFile, head: str, delimiter: str) -> tuple[tuple[str, ...], Dialect, bool]:
    """The names of a file's columns, how it is written, and whether DuckDB would misread it.

    It reads only half of UTF-16, and takes the first line end that it meets, in quotes or not, for the file's.
    """
    options: FileStream = plan.options
    said = _SEP.match(head)  # Excel writes such a line, and hides it again
    if said:
        head = head[said.end() :]
    dialect = Dialect(
        delimiter,
        quote=options.quote,
        escape=options.escape or options.quote,
        encoding=options.encoding,
        header=options.header,
        skip=1 if said else 0,
    )
    record, problem = header_record(head, dialect)
    broken = options.encoding == "utf-16" or "\n" in record or "\r" in record
    return tuple(_header(plan, file, record, problem, delimiter)), dialect, broken


def _header(plan: StreamPlan, file: DataFile, record: str, problem: str, delimiter: str) -> list[str]:
    if not is_text(record):
        raise stream_error(plan, f"{file.name}, line 1: not {plan.options.encoding}.", "Set `encoding: latin-1`.")
    if problem or "\0" in record:
        raise stream_error(plan, f"{file.name}, line 1: {problem or 'a NUL character'}.", "Mend the header.")
    names = _first_record(record, delimiter, plan.options)
    if not plan.options.header:
        return [f"column{index}" for index in range(len(names))]
    names = [name.strip() or f"column{index}" for index, name in enumerate(names)]
    refuse_twins(plan, file.name, "columns", names)
    other = [d for d in _DELIMITERS if d != delimiter and d in names[0]]
    if len(names) == 1 and other:
        raise stream_error(
            plan,
            f"{file.name} has only one column with the delimiter {delimiter!r}, and its header holds {other[0]!r}.",
            f"Set `delimiter: {other[0]!r}` on the stream.",
        )
    return names


def _part(plan: StreamPlan, names: tuple[str, ...], dialect: Dialect, files: Sequence[DataFile], broken: bool) -> Part:
    by_name = {file.name: file for file in files}
    return replace(
        _scan(plan, names, dialect, files),
        locate=lambda name, numbers: find_records(by_name[name].path, dialect, len(names), numbers),
        records=lambda: begin_count([file.path for file in files], dialect, len(names)),
        salvage=lambda scratch: _salvage(plan, names, dialect, files, broken, scratch),
        broken=broken,
    )


def _scan(
    plan: StreamPlan, names: Sequence[str], dialect: Dialect, files: Sequence[DataFile], longest: int | None = None
) -> Part:
    """One SELECT of the files. `longest` bounds the bytes of a record, and has one thread scan them."""
    # No `new_line`: given together with strict_mode, DuckDB 1.5 returns no rows at all, and no error, for a file
    # with other line ends. Without it a mix of line ends is an error.
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    nulls = ", ".join(literal(text) for text in plan.options.null_values)
    buffer = ""
    largest = max(file.size for file in files)
    if longest is not None:
        # By default DuckDB would take sixteen buffers of the longest line; and with several threads it takes some line
        # ends in quotes for ends of records, where a buffer begins with them.
        buffer = f"max_line_size = {longest + 100}, buffer_size = {longest + 200}, parallel = false, "
    elif largest > _BUFFER:  # with smaller buffers than these 32 MB the threads end together, in less memory
        buffer = f"max_line_size = {LONGEST}, buffer_size = {2 * LONGEST}, "
    elif len(files) > 1 and largest < LONGEST and not any(is_packed(file.path) for file in files):
        buffer = f"max_line_size = {largest + 100}, buffer_size = {2 * largest + 1000}, "
    scan = (
        f"read_csv({paths_sql(files)}, auto_detect = false, columns = {{{columns}}}, header = {dialect.header}, "
        f"skip = {dialect.skip}, delim = {literal(dialect.delimiter)}, quote = {literal(dialect.quote)}, "
        f"escape = {literal(dialect.escape)}, strict_mode = true, nullstr = [{nulls}], allow_quoted_nulls = false, "
        f"{buffer}encoding = {literal(dialect.encoding)}, filename = '__smoll_path', hive_partitioning = false)"
    )
    selected = ", ".join(quote(name) for name in names)
    sql = f"SELECT {selected}, {file_name_sql(files)} AS {quote(FILE_COLUMN)} FROM {scan}"
    columns_of_part = tuple(PartColumn(name, None) for name in names)
    return Part(sql, columns_of_part, f"{plan.ref}: {label(files)}", tuple(file.name for file in files))


@dataclass(frozen=True)
class _Readable:
    """A file as it can be scanned: itself, or the copy of its good records; and what `csv_records` found in it."""

    file: DataFile
    dialect: Dialect
    seen: Survey

    @property
    def bound(self) -> int | None:
        """The bytes of the longest record, where one thread is to scan the file."""
        is_plain = self.seen.longest <= LONGEST and not self.seen.lines_in_quotes
        return None if is_plain else max(self.seen.longest, LONGEST)


def _salvage(
    plan: StreamPlan, names: tuple[str, ...], dialect: Dialect, files: Sequence[DataFile], broken: bool, scratch: Path
) -> Damage:
    """Look at every record of the files; scan the good ones, and say which are bad.

    Raises
    ------
    LoadError
        A file is damaged as a whole: cut off, or not in the encoding.
    """
    rejected = scratch / "damaged.ndjson"
    found: list[_Readable] = []
    first: LoadError | None = None
    records = bad = longest = 0
    with rejected.open("w", encoding="utf-8") as output:
        for number, file in enumerate(files):

            def reject(line: int, problem: str, text: str, name: str = file.name) -> None:
                nonlocal first, longest
                row = json.dumps({"file": name, "line": line, "reason": problem, "raw": text}, ensure_ascii=False)
                longest = max(longest, len(row.encode()))
                output.write(row + "\n")
                first = first or _bad_record(plan, name, line, problem, text)

            try:
                seen = survey(file.path, dialect, len(names))
                if seen.is_clean and not broken:
                    found.append(_Readable(file, dialect, seen))
                else:
                    copy = scratch / f"{number:06}.csv"
                    copy_good(file.path, dialect, len(names), copy, reject)
                    plain = replace(dialect, encoding="utf-8", header=True, skip=0)
                    found.append(_Readable(replace(file, path=copy), plain, seen))
            except UnicodeError as error:
                raise stream_error(
                    plan, f"{file.name}: the text is not {dialect.encoding}.", "Set `encoding` on the stream."
                ) from error
            except DAMAGE as error:
                raise damaged(f"{plan.ref}: {file.name}", error) from error
            records, bad = records + seen.records, bad + seen.bad
    paths = {file.name: file.path for file in files}

    def locate(name: str, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
        return find_records(paths[name], dialect, len(names), numbers)

    parts = tuple(replace(part, locate=locate) for part in _readable_parts(plan, names, found))
    return Damage(parts, records, rejected_sql(rejected, longest), bad, first)


def _readable_parts(plan: StreamPlan, names: tuple[str, ...], found: Sequence[_Readable]) -> Iterator[Part]:
    for (own, bound), members in groupby(found, key=lambda one: (one.dialect, one.bound)):
        group = [one.file for one in members]
        yield _scan(plan, names, own, group, bound)


def _bad_record(plan: StreamPlan, name: str, line: int, problem: str, text: str) -> LoadError:
    hint = "Mend the line, or set `on_bad_row: quarantine`."
    if problem.startswith("not "):
        hint = "Set `encoding: latin-1` on the stream, mend the line, or set `on_bad_row: quarantine`."
    elif problem.startswith("expected"):
        hint = "Mend the line, check `delimiter` and the quotes, or set `on_bad_row: quarantine`."
    return stream_error(plan, f"{name}, line {line}: {problem}. The line begins: {text[:80]!r}.", hint)


def explain(plan: StreamPlan, place: str, error: Exception) -> LoadError:
    """Say what DuckDB's CSV reader met in a file whose records are all well."""
    return stream_error(plan, f"{place}: {str(error).splitlines()[0]}")
