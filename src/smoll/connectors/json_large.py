"""Records of JSON beyond the size that DuckDB's reader takes, which plans ten times of it: as CSV, value by value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from smoll.connector import FILE_COLUMN, PartColumn
from smoll.connectors.csv_records import size_of
from smoll.connectors.data_file import DataFile, file_name_sql, paths_sql
from smoll.connectors.json_kinds import NUMBERS, number_text
from smoll.connectors.json_records import Number, json_text
from smoll.model import quote


def kinds_of(text: str) -> dict[str, Set[str]]:
    """The keys of a record with the kind of its value, in the words of DuckDB's json_type; NULL aside.

    {} for what only DuckDB takes for JSON: that is read by it.
    """
    try:
        record = _record(text)
    except ValueError:
        return {}
    return {key: set() if value is None else {_kind(value)} for key, value in record.items()}


def _kind(value: Any) -> str:
    if isinstance(value, Number):
        return "DOUBLE" if set(value) & set(".eENI") else "BIGINT"
    return {bool: "BOOLEAN", str: "VARCHAR", list: "ARRAY", dict: "OBJECT"}[type(value)]


def write_values(records: Iterator[str], columns: Sequence[PartColumn], target: Path) -> int:
    """Write records as CSV whose every value but NULL is quoted. Returns a length in bytes that no line exceeds."""
    longest = 0
    with target.open("w", encoding="utf-8", newline="") as output:
        output.write(",".join(f"c{number}" for number in range(len(columns))) + "\n")
        for text in records:
            record, length = _record(text), 0
            for number, column in enumerate(columns):
                value = _quoted(record.get(column.name), column.type)
                output.write(("," if number else "") + value)
                length += size_of(value) + 1
            output.write("\n")
            longest = max(longest, length)
    return longest


def scan_sql(files: Sequence[DataFile], columns: Sequence[PartColumn], quoted: Set[str], longest: int) -> str:
    """A SELECT of the columns from files of `write_values`, whose lines have at most so many bytes.

    Numbers become the texts that DuckDB's reader makes of them, but for those of the `quoted` keys.
    """
    declared = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(columns)))
    values = ", ".join(
        f"{_value(f'c{number}', column, column.name in quoted)} AS {quote(column.name)}"
        for number, column in enumerate(columns)
    )
    return (
        f"SELECT {values}, {file_name_sql(files)} AS {quote(FILE_COLUMN)} FROM read_csv({paths_sql(files)}, "
        f"auto_detect = false, columns = {{{declared}}}, header = true, delim = ',', quote = '\"', escape = '\"', "
        f"strict_mode = true, nullstr = '', allow_quoted_nulls = false, max_line_size = {longest + 100}, "
        f"buffer_size = {longest + 200}, parallel = false, filename = '__smoll_path', hive_partitioning = false)"
    )


def _value(name: str, column: PartColumn, is_quoted: bool) -> str:
    if column.type:
        return f"CAST({name} AS {column.type})"
    is_number = column.among == NUMBERS and not is_quoted
    return f"CASE {name} WHEN '-0' THEN '0' ELSE {number_text(name)} END" if is_number else name


def _record(text: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)
    return record


def _quoted(value: Any, kind: str | None) -> str:
    if value is None:
        return ""
    text = value if kind is None and isinstance(value, str) else json_text(value)
    return '"' + text.replace('"', '""') + '"'
