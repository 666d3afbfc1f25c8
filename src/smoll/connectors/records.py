"""Records of a connector, as the journal keeps them, to parts that DuckDB scans: exact, and nothing left unseen.

The columns are those that the connector declares. DuckDB's JSON reader takes its keys from a first file, which is
written here and has every declared key; with that it refuses a record with another key, or with one twice. Each value
is read as the text that it is, and a value of another kind than declared makes the scan fail, as for NDJSON files: then
all records are looked at, and describe their columns themselves (see `smoll.connectors.json_files`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import Part, PartColumn, StreamPlan, apply_naming
from smoll.connectors import json_files
from smoll.connectors.data_file import DataFile, everywhere, paths_sql, refuse_twins
from smoll.connectors.journal import Segment
from smoll.connectors.json_kinds import number_text
from smoll.connectors.json_records import begin_line_count
from smoll.connectors.json_schema import Declared, declared_columns, inner_fields
from smoll.model import literal, quote
from smoll.project import ProgramBase
from smoll.warehouse import columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_HEAD = "__smoll_head"


def parts_of(
    plan: StreamPlan,
    source: ProgramBase,
    segments: Sequence[Segment],
    hides: Callable[[str], bool],
    connection: DuckDBPyConnection,
    scratch: Path,
) -> list[Part]:
    """Describe the records of a stream as parts, one for each description that the connector gave of them.

    Parameters
    ----------
    hides
        Tells the fields that are left out.
    scratch
        An empty folder; what is written there must stay until the parts are loaded.

    Raises
    ------
    LoadError
        Two keys differ by case only.
    """
    stored = {column.name.lower(): column.type for column in columns_of(connection, plan.table)}

    def is_double(column: Declared) -> bool:
        """True where every number of the column may be read as a double at once: nothing else was, or is, asked for."""
        kind = stored.get(apply_naming(source, column.name).lower(), "DOUBLE")
        return column.among[:1] == ("DOUBLE",) and kind == "DOUBLE" and column.name not in plan.columns

    parts = []
    for number, (_, group) in enumerate(groupby(segments, lambda segment: (segment.kind, segment.declared["schema"]))):
        members = list(group)
        declared = declared_columns(members[0].declared["schema"])
        cut = _cut(members[0].declared["schema"], hides)
        refuse_twins(plan, "the connector's schema", "fields", list(declared))
        if members[0].kind == "parquet":
            parts.append(cut(_parquet(plan, members, hides, connection)))
        else:
            head = scratch / f"head{number}.ndjson"
            parts.append(_lines(plan, members, declared, is_double, hides, cut, connection, head))
    return parts


def empty_part(plan: StreamPlan, schema: object, hides: Callable[[str], bool]) -> Part:
    """A part without a row, with the columns that the connector declares."""
    columns = [
        PartColumn(column.name, None, column.among or ("VARCHAR",), declared=column.duckdb_type)
        for column in declared_columns(schema).values()
        if not hides(column.name)
    ]
    listed = ", ".join(f"CAST(NULL AS VARCHAR) AS {quote(column.name)}" for column in columns)
    return Part(f"SELECT {listed or 'NULL'} WHERE false", tuple(columns), str(plan.ref), records=lambda: lambda: 0)


def _cut(schema: object, hides: Callable[[str], bool]) -> Callable[[Part], Part]:
    """Takes the fields out of objects that are left out."""
    paths = list(inner_fields(schema)) if isinstance(schema, Mapping) else []
    hidden = [path for path in paths if hides(".".join(path)) and not hides(path[0])]

    def cut(part: Part) -> Part:
        there, sql = {column.name for column in part.columns}, part.sql
        for name, *inner in hidden:
            if name not in there:
                continue
            place = "".join(f"/{each.replace('~', '~0').replace('/', '~1')}" for each in inner)
            patch: object = None
            for each in reversed(inner):
                patch = {each: patch}
            value = f"json_merge_patch({quote(name)}, {literal(json.dumps(patch))})"
            value = f"CASE WHEN json_exists({quote(name)}, {literal(place)}) THEN {value} ELSE {quote(name)} END"
            sql = f"SELECT * REPLACE ({value} AS {quote(name)}) FROM ({sql})"
        return replace(part, sql=sql)

    return cut


def _lines(
    plan: StreamPlan,
    segments: Sequence[Segment],
    declared: Mapping[str, Declared],
    is_double: Callable[[Declared], bool],
    hides: Callable[[str], bool],
    cut: Callable[[Part], Part],
    connection: DuckDBPyConnection,
    head: Path,
) -> Part:
    names = ["records" if len(segments) == 1 else f"records {segment.number}" for segment in segments]
    files = [
        DataFile(segment.path, name, segment.size, (), "ndjson") for segment, name in zip(segments, names, strict=True)
    ]
    counted = sum(segment.rows for segment in segments if segment.rows is not None)
    uncounted = [segment.path for segment in segments if segment.rows is None]

    def begin_count() -> Callable[[], int]:
        others = begin_line_count(uncounted)
        return lambda: -1 if (more := others()) < 0 else counted + more

    def describe() -> Part:
        found = json_files.part(plan, "ndjson", files, connection, quick=False)
        return replace(everywhere(found, lambda part: cut(_fit(part, declared, hides))), records=begin_count)

    lengths = {segment.long for segment in segments}
    is_long = True in lengths or (None in lengths and json_files.loses_digits(files, connection))
    says_all = bool(declared) and all(column.types for column in declared.values())
    quick = _quick(plan, files, declared, is_double, hides, head) if says_all and not is_long else None
    return replace(cut(quick), records=begin_count, describe=describe) if quick else describe()


def _quick(
    plan: StreamPlan,
    files: Sequence[DataFile],
    declared: Mapping[str, Declared],
    is_double: Callable[[Declared], bool],
    hides: Callable[[str], bool],
    head: Path,
) -> Part:
    """The records as declared: a text is read as it is, whatever JSON it comes from; of all else the JSON tells."""
    first = {column.name: "text" if _is_text(column) else None for column in declared.values()}
    head.write_text(json.dumps({_HEAD: True, **first}) + "\n", encoding="utf-8")
    scan = (
        f"read_json({paths_sql([replace(files[0], path=head), *files])}, format = 'newline_delimited', records = true, "
        "maximum_depth = 2, sample_size = 1, maximum_sample_files = 1, hive_partitioning = false)"
    )
    some = " OR ".join(f"{quote(name)} IS NOT NULL" for name in declared)  # and so every key is read
    conditions = [f"({some})", *filter(None, (_condition(column, is_double) for column in declared.values()))]
    shown = [column for column in declared.values() if not hides(column.name)]
    listed = ", ".join(f"{_value(column, is_double)} AS {quote(column.name)}" for column in shown)
    return Part(
        f"SELECT {listed} FROM {scan} WHERE {quote(_HEAD)} IS NULL AND (({' AND '.join(conditions)}) "
        "OR error('a value of another kind than declared')::BOOLEAN)",
        tuple(_column(column, is_double) for column in shown),
        str(plan.ref),
    )


def _is_text(column: Declared) -> bool:
    return "string" in column.types and column.is_scalar


def _column(column: Declared, is_double: Callable[[Declared], bool]) -> PartColumn:
    if not column.among:
        return PartColumn(column.name, "JSON")
    if is_double(column):
        return PartColumn(column.name, "DOUBLE")
    guard = ""
    if column.types <= {"integer", "number"}:
        text = "({0} IS NULL OR regexp_full_match({0}, '-?[0-9]+'))"
        guard = text if column.types == {"integer"} else "({0} IS NULL OR ({0} >= '-' AND {0} < '['))"
    return PartColumn(column.name, None, column.among, guard, column.duckdb_type)


def _value(column: Declared, is_double: Callable[[Declared], bool]) -> str:
    """SQL: a declared value as text; one that is nested as it is, and one that may be a double as such."""
    name, text = quote(column.name), f"CAST({quote(column.name)} AS VARCHAR)"
    if _is_text(column) or not column.among:
        return name
    if is_double(column):
        return f"CAST({text} AS DOUBLE)"
    return number_text(text) if "number" in column.types else text


def _condition(column: Declared, is_double: Callable[[Declared], bool]) -> str:
    """SQL: false where a value is none of the declared kind; "" where its text alone tells, or anything goes."""
    name, text = quote(column.name), f"CAST({quote(column.name)} AS VARCHAR)"
    if column.types == {"boolean"}:
        return f"({name} IS NULL OR {text} = 'true' OR {text} = 'false')"
    if is_double(column):  # whole numbers from 2^53 on may be none, and what is too large for one becomes infinite
        double, fraction = f"CAST({text} AS DOUBLE)", f"(contains({text}, '.') OR contains({text}, 'e'))"
        return (
            f"CASE WHEN {name} IS NULL OR abs({double}) < {2**53} THEN true ELSE isfinite({double}) AND {fraction} END"
        )
    return ""


def _fit(part: Part, declared: Mapping[str, Declared], hides: Callable[[str], bool]) -> Part:
    """A part whose columns are as its records are: make them what is declared, as far as that changes no value."""
    here = {column.name: column for column in part.columns if not hides(column.name)}
    columns, values = [], []
    for name, found in here.items():
        column, value = _fitted(found, declared.get(name))
        columns.append(column)
        values.append(f"{value} AS {quote(name)}" if value != quote(name) else value)
    lower = {name.lower() for name in here}
    for name, wanted in declared.items():
        if name.lower() not in lower and not hides(name):
            columns.append(PartColumn(name, None, wanted.among or ("VARCHAR",), declared=wanted.duckdb_type))
            values.append(f"CAST(NULL AS VARCHAR) AS {quote(name)}")
    sql = f"SELECT {', '.join(values) or '1'} FROM ({part.sql})"
    # Files and lines are the journal's: people know nothing of them.
    return replace(part, sql=sql, columns=tuple(columns), files=(), locate=None)


def _fitted(found: PartColumn, wanted: Declared | None) -> tuple[PartColumn, str]:
    name = quote(found.name)
    if wanted is None or not wanted.types:
        return found, name
    if wanted.among:
        column = replace(found, type=None, among=wanted.among, declared=wanted.duckdb_type)
        return column, f"{name} ->> '$'" if found.type == "JSON" else name
    if found.type == "JSON":
        return found, name
    is_text = "DATE" in found.among and "BIGINT" not in found.among
    return PartColumn(found.name, "JSON"), f"to_json({name})" if is_text else f"CAST({name} AS JSON)"


def _parquet(
    plan: StreamPlan, segments: Sequence[Segment], hides: Callable[[str], bool], connection: DuckDBPyConnection
) -> Part:
    """Files of a BATCH in Parquet: their types are their own."""
    paths = ", ".join(literal(str(segment.path)) for segment in segments)
    scan = f"read_parquet([{paths}], hive_partitioning = false, union_by_name = true)"
    columns, values = [], []
    for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall():
        if hides(name):
            continue
        is_nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))
        columns.append(PartColumn(name, "JSON" if is_nested else kind))
        values.append(f"to_json({quote(name)}) AS {quote(name)}" if is_nested else quote(name))
    count = f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata([{paths}])"

    def begin_count() -> Callable[[], int]:
        return lambda: int((connection.execute(count).fetchone() or (-1,))[0])

    return Part(f"SELECT {', '.join(values)} FROM {scan}", tuple(columns), str(plan.ref), records=begin_count)
