"""JSON and NDJSON for the ``files`` connector: every key of every record, every value as its own text.

DuckDB's typed JSON reader is not used: it turns 1.5 into 2 and true into 1 in a BIGINT column, and drops keys
that its sample did not hold. Here one pass finds all keys with the kinds of their values, a second one reads
each value as JSON text. A number with a fraction is a double, as JSON's own readers have it: DuckDB
gives back no more of its digits. Whole numbers keep every digit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smoll.connector import FILE_COLUMN, SCALARS, Part, PartColumn, StreamPlan
from smoll.connectors.data_file import (
    DataFile,
    file_name_sql,
    label,
    named,
    paths_sql,
    refuse_twins,
    stream_error,
)
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NUMBERS = ("BIGINT", "DOUBLE", "DECIMAL", "VARCHAR")
_DATES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR")
_AMONG = {
    "UBIGINT": _NUMBERS,
    "BIGINT": _NUMBERS,
    "HUGEINT": _NUMBERS,
    "DOUBLE": _NUMBERS,
    "BOOLEAN": ("BOOLEAN", "VARCHAR"),
    "VARCHAR": _DATES,
    "NULL": SCALARS,
}


_MALFORMED = re.compile(r"Malformed JSON in file .*, at byte (\d+) in line (\d+): (.*)")


def part(plan: StreamPlan, kind: str, files: Sequence[DataFile], connection: DuckDBPyConnection) -> Part:
    """Describe a group of JSON files as one part.

    Parameters
    ----------
    kind
        ``json`` (an array of objects, one object, or objects one after another) or ``ndjson``.

    Raises
    ------
    LoadError
        Malformed JSON, a record that is no object, duplicate keys, or keys that differ by case only.
    """
    structure = _structure(plan, kind, files, connection)
    text, file_sql = f"{plan.ref}: {label(files)}", file_name_sql(files)
    if not structure:
        return Part(f"SELECT {file_sql} AS {quote(FILE_COLUMN)} FROM (SELECT '' AS __smoll_path) WHERE false", (), text)
    columns = tuple(_column(key, shape) for key, shape in structure.items())
    refuse_twins(plan, label(files), "keys", [column.name for column in columns])
    selected = ", ".join(_value_sql(column) for column in columns)
    declared = ", ".join(f"{literal(column.name)}: 'JSON'" for column in columns)
    style = "newline_delimited" if kind == "ndjson" else "auto"
    scan = (
        f"read_json({paths_sql(files)}, format = '{style}', records = true, columns = {{{declared}}}, "
        "filename = '__smoll_path', hive_partitioning = false)"
    )
    return Part(f"SELECT {selected}, {file_sql} AS {quote(FILE_COLUMN)} FROM {scan}", columns, text)


def _structure(
    plan: StreamPlan, kind: str, files: Sequence[DataFile], connection: DuckDBPyConnection
) -> Mapping[str, Any]:
    """Every key of every record, with the kinds of its values; empty where there is no record at all."""
    import duckdb

    style = "newline_delimited" if kind == "ndjson" else "auto"
    sql = f"SELECT json_group_structure(json) FROM read_json_objects({paths_sql(files)}, format = '{style}')"
    try:
        row = connection.execute(sql).fetchone()
    except duckdb.Error as error:
        raise stream_error(plan, _explain(kind, files, error), "Mend the file; no row was loaded.") from error
    if row is None or row[0] is None:
        return {}
    structure = json.loads(row[0])
    if not isinstance(structure, dict) or not structure:
        message = f"{label(files)}: no record is an object with keys."
        raise stream_error(plan, message, 'smoll reads objects: {"id": 1, ...}.')
    return structure


def _explain(kind: str, files: Sequence[DataFile], error: Exception) -> str:
    text = str(error).splitlines()[0].strip()
    place = named(files, text)
    found = _MALFORMED.search(text)
    if kind == "ndjson" and found:
        line = int(found[2]) - 1  # DuckDB 1.5 counts the lines from 2
        return f"{place}, line {line}: malformed JSON at byte {found[1]}: {found[3]}."
    return f"{place}: {text.split('Error: ', 1)[-1]}"


def _column(key: str, shape: Any) -> PartColumn:
    """Nested values, and keys whose values are of several kinds, stay JSON."""
    if isinstance(shape, str) and shape in _AMONG:
        return PartColumn(key, None, _AMONG[shape])
    return PartColumn(key, "JSON")


def _value_sql(column: PartColumn) -> str:
    name = quote(column.name)
    return f"{name} ->> '$' AS {name}" if column.type is None else name
