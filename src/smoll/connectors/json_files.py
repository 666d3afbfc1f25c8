"""JSON and NDJSON for the ``files`` connector: every key of every record, every value as its own text.

DuckDB's typed JSON reader is not used: it turns 1.5 into 2 and true into 1 in a BIGINT column, and drops keys
that its sample did not hold. Here every value is read as text. The keys, and the kinds of their values, are
those of the first records of NDJSON, and the scan fails at the first record that has others: then one pass finds all
keys, and a second one all kinds. A number with a fraction is a double in DuckDB's reader: one that has more digits than
a double holds is quoted first, or refused. Whole numbers keep every digit.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from smoll.connector import FILE_COLUMN, Part, PartColumn, StreamPlan
from smoll.connectors.csv_records import (
    DAMAGE,
    begin_reading,
    damaged,
    is_packed,
    open_text,
)
from smoll.connectors.data_file import (
    DataFile,
    file_name_sql,
    label,
    named,
    paths_sql,
    refuse_twins,
    stream_error,
)
from smoll.connectors.json_kinds import column_of, columns_of, merge_kinds, number_text
from smoll.connectors.json_records import (
    begin_line_count,
    find_long_fraction,
    find_records,
)
from smoll.connectors.json_salvage import salvage, salvage_objects
from smoll.errors import LoadError
from smoll.model import literal, quote
from smoll.warehouse import end_aborted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_KEYS = "__smoll_keys"
_FIRST_RECORDS = 1000
_KEYS_AT_ONCE = 100
_CHUNK, _BLANKS = 1 << 20, b" \t\r\n\xef\xbb\xbf"
_TINY = 100
"""Bytes of the largest file that can hold one character, however it is packed."""
_LONG_FRACTION = "|".join(
    [*(f"[0-9]{{{digits}}}[.][0-9]{{{16 - digits}}}" for digits in range(1, 16)), "[0-9]{16}[eE]", "[eE][-+]?[0-9]{3}"]
)
_FRACTION = "[0-9]+(?:[.][0-9]+)?(?:[eE][-+]?[0-9]+)?"
"""Numbers that a double may not hold, and numbers. What looks like one may be in a text: the careful reader tells."""


def parts(plan: StreamPlan, kind: str, files: Sequence[DataFile], connection: DuckDBPyConnection) -> Iterator[Part]:
    """Group the files by how they spell their keys: ``id`` and ``Id`` of two files are one column, as in CSV."""
    group: list[DataFile] = []
    spelling: dict[str, str] = {}
    for file in files:
        own = {key.lower(): key for key in (_first_keys(file) if kind == "ndjson" and len(files) > 1 else ())}
        if any(spelling.get(key, name) != name for key, name in own.items()):
            yield part(plan, kind, group, connection)
            group, spelling = [], {}
        group.append(file)
        spelling |= own
    yield part(plan, kind, group, connection)


def _first_keys(file: DataFile) -> list[str]:
    """The keys of a file's first record; none where that is not well."""
    try:
        with open_text(file.path, "utf-8") as text:
            first = json.loads(next((line for line in text if line.strip()), ""))
    except (*DAMAGE, ValueError, RecursionError):
        return []
    return list(first) if isinstance(first, dict) else []


def part(
    plan: StreamPlan, kind: str, files: Sequence[DataFile], connection: DuckDBPyConnection, *, quick: bool = True
) -> Part:
    """Describe a group of JSON files as one part.

    Parameters
    ----------
    kind
        ``json`` (an array of objects, one object, or objects one after another) or ``ndjson``.
    quick
        Describe lines by their first records, where those are plain; else by all of them.

    Raises
    ------
    LoadError
        Where no record can be told from the next: malformed JSON, a record that is no object, duplicate keys. And
        keys that differ by case only.
    """
    found = _quick_part(plan, files, connection) if quick and kind == "ndjson" else None
    return found or _part(plan, kind, files, connection, careful=False)


def _quick_part(plan: StreamPlan, files: Sequence[DataFile], connection: DuckDBPyConnection) -> Part | None:
    """The files as their first records describe them; None where those are not plain.

    Whatever the scan meets that they did not show makes it fail: another key (DuckDB's reader, which knows the keys
    by its own sample, refuses it, and a key that is there twice), a value of another kind, a record that is NULL.
    """
    import duckdb

    scan = (
        f"read_json({paths_sql(files)}, {_style('ndjson')}, records = true, maximum_depth = 1, sample_size = "
        f"{_FIRST_RECORDS}, maximum_sample_files = 1, filename = '__smoll_path', hive_partitioning = false)"
    )
    try:
        kinds = _first_kinds(files, connection, scan)
        fractions = any("DOUBLE" in found or column_of(key, found).type for key, found in kinds.items())
        if not kinds or (fractions and loses_digits(files, connection)):
            return None
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except (duckdb.Error, UnicodeDecodeError):  # a look at every record says what is wrong
        end_aborted(connection)
        return None
    cells = [_first_cell(key, found) for key, found in kinds.items()]
    conditions = [f"({' OR '.join(f'{quote(key)} IS NOT NULL' for key in kinds)})"]
    conditions += [condition for _, _, condition in cells if condition]
    listed = ", ".join(f"{value} AS {quote(column.name)}" for column, value, _ in cells)
    paths = [file.path for file in files]
    return Part(
        f"SELECT {listed}, {file_name_sql(files)} AS {quote(FILE_COLUMN)} FROM {scan} "
        f"WHERE ({' AND '.join(conditions)}) OR error('a value of another kind than in the first records')::BOOLEAN",
        tuple(column for column, _, _ in cells),
        f"{plan.ref}: {label(files)}",
        tuple(file.name for file in files),
        records=lambda: begin_line_count(paths),
        describe=lambda: _part(plan, "ndjson", files, connection, careful=False),
    )


def _first_kinds(files: Sequence[DataFile], connection: DuckDBPyConnection, scan: str) -> dict[str, Set[str]]:
    """The keys of the first records as they come, with the kinds of their values. {} where they are not plain."""
    raw = f"read_json_objects({paths_sql(files)}, {_style('ndjson')})"
    first = connection.execute(f"SELECT json_keys(json) FROM {raw} LIMIT {_FIRST_RECORDS}").fetchall()
    keys = list(dict.fromkeys(key for (found,) in first for key in found or ()))
    if not 0 < len(keys) <= _KEYS_AT_ONCE or len({key.lower() for key in keys}) < len(keys):
        return {}
    columns = connection.execute(f"DESCRIBE FROM {scan}").fetchall()
    if [column[0] for column in columns] != [*keys, "__smoll_path"]:
        return {}
    listed = ", ".join(f"list(DISTINCT json_type({quote(key)}))" for key in keys)
    row = connection.execute(f"SELECT {listed} FROM (FROM {scan} LIMIT {_FIRST_RECORDS})").fetchone() or ()
    return {key: frozenset(found or ()) - {None, "NULL"} for key, found in zip(keys, row, strict=True)}


_IS_NUMBER = "({0} IS NULL OR ({0} >= '-' AND {0} < '['))"
"""SQL: the text of a JSON value is a number (and no text in quotes, object, array or word)."""
_IS_WHOLE = "({0} IS NULL OR regexp_full_match({0}, '-?[0-9]+'))"


def _first_cell(key: str, kinds: Set[str]) -> tuple[PartColumn, str, str]:
    """The column of a key, SQL of its value, and of what is false where a value is of other kinds; "" where none is."""
    name, text, column = quote(key), f"CAST({quote(key)} AS VARCHAR)", column_of(key, kinds)
    if not kinds:
        return column, text, f"{name} IS NULL"
    if kinds == {"BOOLEAN"}:
        return column, text, f"({name} IS NULL OR {text} = 'true' OR {text} = 'false')"
    if kinds == {"VARCHAR"}:  # its text begins with a quote, and that of any other kind with a later character
        return column, f"{name} ->> '$'", f"({name} IS NULL OR {text} < '$')"
    if column.type:
        return column, name, ""
    if "DOUBLE" not in kinds:
        return replace(column, guard=_IS_WHOLE), text, ""
    return replace(column, guard=_IS_NUMBER), number_text(text), ""


def _part(
    plan: StreamPlan,
    kind: str,
    files: Sequence[DataFile],
    connection: DuckDBPyConnection,
    *,
    careful: bool,
    quoted: Set[str] = frozenset(),
    others: Mapping[str, Set[str]] = MappingProxyType({}),
) -> Part:
    """As `part`.

    Parameters
    ----------
    careful
        Every record was looked at already.
    quoted
        Keys whose numbers were made texts.
    others
        The kinds of the values in records of the stream that are not in these files.
    """
    text, file_sql, names = f"{plan.ref}: {label(files)}", file_name_sql(files), tuple(file.name for file in files)
    empty = f"SELECT {file_sql} AS {quote(FILE_COLUMN)} FROM (SELECT '' AS __smoll_path) WHERE false"
    by_lines = kind == "ndjson" and not careful
    takes = partial(_takes, connection)

    def describe(good: Sequence[DataFile], quoted: Set[str], others: Mapping[str, Set[str]]) -> Part:
        return _part(plan, "ndjson", good, connection, careful=True, quoted=quoted, others=others)

    read_with_care = partial(salvage if kind == "ndjson" else salvage_objects, plan, files, takes, describe)
    broken = Part(empty, (), text, names, salvage=read_with_care, broken=True)
    later = read_with_care if by_lines else None
    try:
        if kind == "json":
            _refuse_open_array(plan, files)
        elif by_lines and any(_is_one_character(plan, file) for file in files):
            return broken  # DuckDB would read nothing of it, and say nothing
        look = _look(plan, kind, files, connection, careful, keyless=bool(others))
    except _TooLarge:
        return broken
    except LoadError:
        if not by_lines:
            raise
        return broken
    found = merge_kinds(look.kinds, others)
    refuse_twins(plan, label(files), "keys", list(found))
    if not found:
        return Part(empty, (), text, names, records=lambda: _begin_count(files, 0), salvage=later)
    columns = columns_of(found, quoted)
    selected = ", ".join(quote(column.name) for column in columns)
    declared = ", ".join(f"{literal(column.name)}: {literal(column.type or 'VARCHAR')}" for column in columns)
    scan = (
        f"read_json({paths_sql(files)}, {_style(kind)}, records = true, columns = {{{declared}}}, "
        "filename = '__smoll_path', hive_partitioning = false)"
    )
    sql = f"SELECT {selected}, {file_sql} AS {quote(FILE_COLUMN)} FROM {scan}"
    paths = {file.name: file.path for file in files}
    return Part(
        sql,
        columns,
        text,
        names,
        locate=(lambda name, numbers: find_records(paths[name], numbers, takes)) if by_lines else None,
        records=lambda: begin_line_count(list(paths.values())) if by_lines else _begin_count(files, look.records),
        salvage=later,
    )


def _style(kind: str) -> str:
    return f"format = '{'newline_delimited' if kind == 'ndjson' else 'auto'}'"


class _TooLarge(Exception):
    """An object is larger than DuckDB's reader takes."""


def _begin_count(files: Sequence[DataFile], records: int) -> Callable[[], int]:
    """The count is that of another pass over the file; compressed files are checked beside it."""
    packed = [file.path for file in files if is_packed(file.path)]
    whole = begin_reading(packed)
    return lambda: records if whole() else -1


def _refuse_open_array(plan: StreamPlan, files: Sequence[DataFile]) -> None:
    """DuckDB reads an array that breaks off after a comma, and a file without anything, as if they were whole."""
    for file in files:
        first, last = _ends(file)
        if not first:
            raise stream_error(plan, f"{file.name} holds only blanks.", "Remove it, or write it anew.")
        if first == b"[" and last != b"]":
            message = f"{file.name}: malformed JSON: the array is not closed."
            raise stream_error(plan, message, "The file broke off; fetch or write it anew. No row was loaded.")


def _is_one_character(plan: StreamPlan, file: DataFile) -> bool:
    if file.size > _TINY:
        return False
    try:
        with open_text(file.path, "utf-8") as text:
            return len(text.read(2)) == 1
    except (*DAMAGE, ValueError) as error:
        raise damaged(f"{plan.ref}: {file.name}", error) from error


def _ends(file: DataFile) -> tuple[bytes, bytes]:
    """The first and the last character of a file but for blanks."""
    first = last = b""
    try:
        with open_text(file.path, "utf-8") as text:
            binary = cast(io.BufferedIOBase, text.buffer)
            first = binary.read(_CHUNK).lstrip(_BLANKS)[:1]
            if not is_packed(file.path):
                binary.seek(max(0, file.size - _CHUNK))
            else:
                binary.seek(0)
            while chunk := binary.read(_CHUNK):
                last = chunk.rstrip(_BLANKS)[-1:] or last
    except DAMAGE as error:
        raise damaged(f"{file.name}", error) from error
    return first, last


def _takes(connection: DuckDBPyConnection, text: str) -> bool:
    row = connection.execute("SELECT json_valid(?)", [text]).fetchone()
    return bool(row and row[0])


@dataclass(frozen=True)
class _Look:
    """What a first pass over the records found: the kinds of values of each key, in DuckDB's words, and the number."""

    kinds: Mapping[str, Set[str]]
    records: int


def _look(
    plan: StreamPlan,
    kind: str,
    files: Sequence[DataFile],
    connection: DuckDBPyConnection,
    careful: bool,
    *,
    keyless: bool,
) -> _Look:
    """Find every key of every record, with the kinds of its values.

    Not with json_group_structure: that takes 512 MB for 300,000 records.
    """
    import duckdb

    scan, style = paths_sql(files), _style(kind)
    fractions = "false" if careful else f"bool_or(regexp_matches(CAST(json AS VARCHAR), '{_LONG_FRACTION}'))"
    try:
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE {_KEYS} AS SELECT json_keys(json) AS keys, count(*) AS records,
            count_if(json_type(json) = 'OBJECT') AS objects, {fractions} AS fractions
            FROM read_json_objects({scan}, {style}) GROUP BY ALL"""
        )
        row = connection.execute(f"SELECT sum(records), sum(objects), bool_or(fractions) FROM {_KEYS}").fetchone()
        records, objects, fractions_found = row if row and row[0] else (0, 0, False)
        if records == 0:
            return _Look({}, 0)
        keys = _keys(plan, kind, files, connection, style)
        if objects != records or not (keys or keyless):
            message = f"{label(files)}: {'a record is no object' if objects != records else 'no record has keys'}."
            raise stream_error(plan, message, 'smoll reads objects with keys: {"id": 1, ...}.')
        if fractions_found and loses_digits(files, connection, kind):
            if kind == "ndjson":
                raise stream_error(plan, f"{label(files)}: a number may have more digits than DuckDB's reader keeps.")
            _refuse_long_fractions(plan, files)
        refuse_twins(plan, label(files), "keys", keys)
        return _Look(_kinds(files, connection, style, keys), int(records))
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except (duckdb.Error, UnicodeDecodeError) as error:  # DuckDB may cut the text of an error in the middle of a letter
        end_aborted(connection)
        if "maximum_object_size" in str(error):
            raise _TooLarge from error
        place = named(files, str(error))
        text = str(error).splitlines()[0].strip().split("Error: ", 1)[-1]
        raise stream_error(plan, f"{place}: {text}", "Mend the file; no row was loaded.") from error


def _keys(
    plan: StreamPlan, kind: str, files: Sequence[DataFile], connection: DuckDBPyConnection, style: str
) -> list[str]:
    """All keys: those of the first records as they come, the others by name."""
    twice = f"SELECT keys FROM {_KEYS} WHERE len(keys) <> len(list_distinct(keys)) LIMIT 1"
    row = connection.execute(twice).fetchone()
    if row:
        key = next(key for key in row[0] if row[0].count(key) > 1)
        raise stream_error(plan, f"{label(files)}: a record has the duplicate key {json.dumps(key)}.", "Mend the file.")
    first = connection.execute(
        f"SELECT json_keys(json) FROM read_json_objects({paths_sql(files)}, {style}) LIMIT {_FIRST_RECORDS}"
    ).fetchall()
    rest = connection.execute(f"SELECT DISTINCT unnest(keys) AS key FROM {_KEYS} ORDER BY key").fetchall()
    return list(dict.fromkeys([key for (keys,) in first for key in keys or ()] + [key for (key,) in rest]))


def _kinds(
    files: Sequence[DataFile], connection: DuckDBPyConnection, style: str, keys: Sequence[str]
) -> dict[str, Set[str]]:
    """The kinds of the values of each key; NULL aside."""
    found: dict[str, Set[str]] = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        batch = keys[start : start + _KEYS_AT_ONCE]
        declared = ", ".join(f"{literal(key)}: 'JSON'" for key in batch)
        listed = ", ".join(f"list(DISTINCT json_type({quote(key)}))" for key in batch)
        scan = f"read_json({paths_sql(files)}, {style}, records = true, columns = {{{declared}}})"
        row = connection.execute(f"SELECT {listed} FROM {scan}").fetchone() or ()
        found |= {key: frozenset(kinds or ()) - {None, "NULL"} for key, kinds in zip(batch, row, strict=True)}
    return found


def loses_digits(files: Sequence[DataFile], connection: DuckDBPyConnection, kind: str = "ndjson") -> bool:
    """True where a long number is not what any usual way of printing its double gives."""
    numbers = f"unnest(regexp_extract_all(CAST(json AS VARCHAR), '{_FRACTION}'))"
    row = connection.execute(
        f"""SELECT 1 FROM (SELECT {numbers} AS text, CAST(text AS DOUBLE) AS number
        FROM read_json_objects({paths_sql(files)}, {_style(kind)})
        WHERE regexp_matches(CAST(json AS VARCHAR), '{_LONG_FRACTION}'))
        WHERE regexp_matches(text, '{_LONG_FRACTION}') AND (NOT isfinite(number)
        OR (CAST(number AS VARCHAR) <> text AND printf('%.17g', number) <> text)) LIMIT 1"""
    ).fetchone()
    return row is not None


def _refuse_long_fractions(plan: StreamPlan, files: Sequence[DataFile]) -> None:
    """Raise LoadError for the first number of some JSON files that a double does not hold."""
    for file in files:
        with open_text(file.path, "utf-8") as text:
            long = find_long_fraction(text.read())
        if long:
            message = f"{file.name}: the number {long[:40]} has more digits than DuckDB's JSON reader keeps."
            raise stream_error(plan, message, "Write it in quotes, or write the file as NDJSON. No row was loaded.")
