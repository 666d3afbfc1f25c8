"""Profiles are computed inside the warehouse, some columns at a time: wide tables need no more memory than others.

Counts, NULLs, smallest and largest values, means and lengths are those of all rows. Quantiles, frequent values and
histograms come from a sample where a table has many rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from smoll.model import Column, TableRef, literal, quote
from smoll.profiles.profile import ColumnProfile, TableProfile, Value
from smoll.warehouse import columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Kind = Literal["number", "time", "text", "boolean", "other"]

_BATCH = 50
"""So many columns are looked at by one query: DuckDB keeps buffers for each."""
_SAMPLE = 100_000
"""A table of up to twice as many rows is looked at whole; of a larger one about so many."""
_SEED = 42
_HASHED = 20_000
"""Of more different values than these, a part is counted."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TOP = 10
_BINS = 20
_LONGEST = 200
_INTEGERS = frozenset(f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE"))
_INTEGERS |= {"INTEGER", "UINTEGER"}
_FLOATS = ("FLOAT", "DOUBLE")
_DATES = re.compile(r"DATE|TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?")
_TIMES = re.compile(r"TIME(_NS| WITH TIME ZONE)?|INTERVAL")
_EPOCH = datetime(1970, 1, 1)


def profile_table(
    connection: DuckDBPyConnection,
    table: TableRef,
    *,
    ignored: Set[str] = frozenset(),
    pii: Iterable[str] = (),
    relation: str = "",
) -> TableProfile:
    """Profile a table or view.

    Parameters
    ----------
    ignored
        Columns to leave out, in lower case: load metadata and the like.
    pii
        Columns of which no value may be kept.
    relation
        SQL that names the table, where that is not its own name.

    Raises
    ------
    duckdb.Error
        The table cannot be read.
    """
    source = relation or table.sql
    personal = {name.lower() for name in pii}
    columns = [column for column in columns_of(connection, table, source) if column.name.lower() not in ignored]
    (rows,) = connection.execute(f"SELECT count(*) FROM {source}").fetchone() or (0,)
    found: list[ColumnProfile] = []
    sampled = rows
    for start in range(0, len(columns), _BATCH):
        exact = _exact(connection, source, columns[start : start + _BATCH], rows, personal)
        full, sampled = _from_sample(connection, source, exact, rows)
        found += full
    return TableProfile(table, rows, tuple(found), sampled)


def kind_of(type: str) -> Kind:
    """What sort of values a DuckDB type has."""
    if type in _INTEGERS or type in _FLOATS or type.startswith("DECIMAL("):
        return "number"
    if type == "BOOLEAN":
        return "boolean"
    if _DATES.fullmatch(type) or _TIMES.fullmatch(type):
        return "time"
    if type in ("VARCHAR", "UUID") or type.startswith("ENUM("):
        return "text"
    return "other"


def _has_ends(type: str) -> bool:
    """True for types that know infinity."""
    return type in _FLOATS or bool(_DATES.fullmatch(type))


def _exact(
    connection: DuckDBPyConnection, source: str, columns: Sequence[Column], rows: int, personal: Set[str]
) -> list[ColumnProfile]:
    """What all rows say of these columns, by one query; where it fails, column by column."""
    import duckdb

    try:
        return list(_measure(connection, source, columns, rows, personal))
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        if len(columns) > 1:
            return [one for column in columns for one in _exact(connection, source, [column], rows, personal)]
    try:  # it overflows where the numbers are huge
        return list(_measure(connection, source, columns, rows, personal, without="stddev"))
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        return [_counted(connection, source, columns[0], rows, personal, error)]


def _measure(
    connection: DuckDBPyConnection,
    source: str,
    columns: Sequence[Column],
    rows: int,
    personal: Set[str],
    without: str = "",
) -> Iterator[ColumnProfile]:
    wanted = [_aggregates(column, column.name.lower() in personal) for column in columns]
    wanted = [{name: sql for name, sql in each.items() if name != without} for each in wanted]
    selected = ", ".join(sql for each in wanted for sql in each.values())
    answers = iter(connection.execute(f"SELECT {selected} FROM {source}").fetchone() or ())
    found = [{name: _plain(next(answers)) for name in each} for each in wanted]
    parts = [max(1, int(values.pop("about")) // _HASHED) for values in found]
    counted = ", ".join(_distinct(column, part) for column, part in zip(columns, parts, strict=True))
    different = connection.execute(f"SELECT {counted} FROM {source}").fetchone() or ()
    for column, values, part, distinct in zip(columns, found, parts, different, strict=True):
        filled = min(int(values.pop("filled")), rows)
        yield ColumnProfile(
            name=column.name,
            type=column.type,
            nulls=rows - filled,
            null_rate=(rows - filled) / rows if rows else 0.0,
            distinct=min(int(distinct), filled),
            is_distinct_exact=part == 1,
            pii=column.name.lower() in personal,
            **values,
        )


def _distinct(column: Column, part: int) -> str:
    """Count different values: all of them where they are few, else those in one part of the space of hashes.

    That is right to about one percent; DuckDB's ``approx_count_distinct``, which knows the order of magnitude in less
    memory, may be a quarter off.
    """
    name = quote(column.name)
    if part == 1:
        return f"count(DISTINCT {name})"
    return f"count(DISTINCT hash({name})) FILTER (hash({name}) % {part} = 0 AND {name} IS NOT NULL) * {part}"


def _aggregates(column: Column, is_personal: bool) -> dict[str, str]:
    """Field to SQL."""
    name, kind = quote(column.name), kind_of(column.type)
    found = {"filled": f"count({name})", "about": f"approx_count_distinct({name})"}
    if column.type in ("VARCHAR", "JSON"):
        length = f"length({name}::VARCHAR)"
        found |= {"min_length": f"min({length})", "mean_length": f"avg({length})", "max_length": f"max({length})"}
    elif column.type == "BLOB" or column.type.endswith("[]"):
        length = f"octet_length({name})" if column.type == "BLOB" else f"len({name})"
        found |= {"min_length": f"min({length})", "mean_length": f"avg({length})", "max_length": f"max({length})"}
    if is_personal:
        return found
    finite = f" FILTER (isfinite({name}))" if _has_ends(column.type) else ""
    if finite:
        found["nonfinite"] = f"count(*) FILTER (NOT isfinite({name}))"
    if kind in ("number", "time"):
        text = "" if kind == "number" else "::VARCHAR"
        found |= {"min": f"(min({name}){finite}){text}", "max": f"(max({name}){finite}){text}"}
    if kind == "text":
        found |= {end: f"left({end}({name})::VARCHAR, {_LONGEST})" for end in ("min", "max")}
    if kind == "number":
        found |= {"mean": f"avg({name}::DOUBLE){finite}", "stddev": f"stddev_samp({name}::DOUBLE){finite}"}
    if kind == "boolean":
        found["mean"] = f"avg({name}::INTEGER)"
    return found


def _counted(
    connection: DuckDBPyConnection, source: str, column: Column, rows: int, personal: Set[str], error: Exception
) -> ColumnProfile:
    """A column of which something cannot be computed: only its NULLs are counted."""
    (filled,) = connection.execute(f"SELECT count({quote(column.name)}) FROM {source}").fetchone() or (0,)
    nulls = max(rows - int(filled), 0)
    is_personal = column.name.lower() in personal
    said = "not computed" if is_personal else f"not computed: {str(error).splitlines()[0][:_LONGEST]}"
    return ColumnProfile(column.name, column.type, nulls, nulls / rows if rows else 0.0, pii=is_personal, note=said)


def _plain(value: Any) -> Any:
    """A value as JSON has it: no NaN, no infinity, no decimal."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (int, str)):
        return value
    number = float(value)  # a Decimal
    return number if type(value)(repr(number)) == value else str(value)


# --- the sample -----------------------------------------------------------------------------------------------------


def _from_sample(
    connection: DuckDBPyConnection, source: str, columns: Sequence[ColumnProfile], rows: int
) -> tuple[list[ColumnProfile], int]:
    """Quantiles, frequent values and histograms; and of how many rows."""
    import duckdb

    places = {i: column for i, column in enumerate(columns) if _is_sampled(column)}
    if not places or not rows:
        return list(columns), rows
    sampled = "" if rows <= 2 * _SAMPLE else f"USING SAMPLE {100 * _SAMPLE / rows:.6f}% (bernoulli, {_SEED})"
    cells = ", ".join(f"{_cell(column)} AS c{i}" for i, column in places.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE smoll_sample AS SELECT {cells} FROM {source} {sampled}")
    try:
        (size,) = connection.execute("SELECT count(*) FROM smoll_sample").fetchone() or (0,)
        found = list(columns)
        for i, column in places.items():
            try:
                found[i] = _look_closer(connection, f"c{i}", column, rows, size)
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                found[i] = replace(column, note=f"no quantiles and frequent values: {str(error).splitlines()[0]}")
    finally:
        connection.execute("DROP TABLE IF EXISTS smoll_sample")
    return found, int(size)


def _is_sampled(column: ColumnProfile) -> bool:
    return kind_of(column.type) != "other" and not column.pii and not column.note and bool(column.distinct)


def _cell(column: ColumnProfile) -> str:
    text = kind_of(column.type) in ("text", "boolean")
    return f"left({quote(column.name)}::VARCHAR, {_LONGEST})" if text else quote(column.name)


def _look_closer(
    connection: DuckDBPyConnection, cell: str, column: ColumnProfile, rows: int, size: int
) -> ColumnProfile:
    kind = kind_of(column.type)
    text = "" if kind == "number" else "::VARCHAR"
    values = connection.execute(
        f"""SELECT v{text}, n, count(*) OVER () FROM
        (SELECT {cell} AS v, count(*) AS n FROM smoll_sample WHERE {cell} IS NOT NULL GROUP BY {cell})
        ORDER BY n DESC, v LIMIT {_TOP}"""
    ).fetchall()
    share = rows / size if size else 1.0
    distinct = int(values[0][2]) if values else 0
    often = 0 if distinct <= _TOP else max(1, size // 10_000)
    top = [(_plain(value), round(n * share)) for value, n, _ in values if n > often]
    found = replace(column, top=tuple((value, n) for value, n in top if value is not None))
    if kind not in ("number", "time"):
        return found
    finite = f" FILTER (isfinite({cell}))" if _has_ends(column.type) else ""
    (quantiles,) = connection.execute(
        f"SELECT (quantile_disc({cell}, {list(_QUANTILES)}){finite}){'::VARCHAR[]' if text else ''} FROM smoll_sample"
    ).fetchone() or (None,)
    named = {str(at): _plain(value) for at, value in zip(_QUANTILES, quantiles or (), strict=False)}
    return replace(found, quantiles=named, histogram=tuple(_histogram(connection, cell, found, share)))


def _histogram(
    connection: DuckDBPyConnection, cell: str, column: ColumnProfile, share: float
) -> Iterator[tuple[Value, Value, int]]:
    """Bins of equal width from the smallest to the largest value; whole numbers that are few have one each."""
    is_time = kind_of(column.type) == "time"
    if column.min is None or (is_time and not _DATES.fullmatch(column.type)):
        return
    number = f"epoch({cell})" if is_time else f"{cell}::DOUBLE"
    low, high = _ends(connection, column) if is_time else (float(column.min), float(column.max or 0))
    if not math.isfinite(high - low):
        return
    steps = high - low
    if column.type in _INTEGERS and steps < _BINS:
        edges = [low + step for step in range(int(steps) + 1)]
        places = f"{number} - {low!r}"
    else:
        edges = [low + steps * step / _BINS for step in range(_BINS + 1)] if steps else [low, low]
        places = f"least(floor(({number} - {low!r}) / {steps!r} * {_BINS}), {_BINS - 1})" if steps else "0"
    finite = f"isfinite({cell})" if _has_ends(column.type) else f"{cell} IS NOT NULL"
    rows = connection.execute(f"SELECT {places} AS p, count(*) FROM smoll_sample WHERE {finite} GROUP BY p").fetchall()
    counts = {int(place): round(n * share) for place, n in rows if place is not None}
    try:
        names = [_edge(edge, column.type) for edge in edges]
    except OverflowError:  # a year that Python does not know
        return
    pairs = [(edge, edge) for edge in names] if column.type in _INTEGERS and steps < _BINS else list(pairwise(names))
    for place, (start, end) in enumerate(pairs):
        yield start, end, counts.get(place, 0)


def _ends(connection: DuckDBPyConnection, column: ColumnProfile) -> tuple[float, float]:
    """The first and the last moment in seconds since 1970."""
    sql = [f"epoch({literal(str(end))}::{column.type})" for end in (column.min, column.max)]
    low, high = connection.execute(f"SELECT {', '.join(sql)}").fetchone() or (math.inf, math.inf)
    return float(low), float(high)


def _edge(value: float, type: str) -> Value:
    if kind_of(type) == "time":
        moment = _EPOCH + timedelta(seconds=value)
        return moment.date().isoformat() if type == "DATE" else moment.isoformat(" ", "seconds")
    return int(value) if type in _INTEGERS and value == int(value) else value
