"""The SELECTs that turn a part's rows into rows of the table: all of them strictly, the good ones, or the bad ones.

Every value is cast once, in an inner SELECT, and the casts are judged by one condition over the row. That is far
cheaper than a CASE for each value (DuckDB shares nothing between the branches of a CASE), and a row is either
whole or not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smoll.connector import FILE_COLUMN, Part, PartColumn, StreamPlan
from smoll.load.columns import Shape
from smoll.load.table import LoadContext
from smoll.load.types import MISFIT, fits, is_integer, try_cast
from smoll.model import literal, quote

RECORD = "__smoll_record"
"""The column of `bad_rows` that numbers a part's records, from 1."""


@dataclass(frozen=True)
class _Cell:
    """One column of the table: what is read for it, the cast, and the conditions under which the cast may be taken."""

    name: str
    source: str
    read: tuple[str, ...]
    conditions: tuple[tuple[str, str], ...]
    value: str


def strict_rows(plan: StreamPlan, context: LoadContext, shape: Shape, part: Part) -> str:
    """A SELECT of the table's columns that raises `MISFIT` at the first row which does not fit."""
    cells = _cells(plan, shape, part)
    conditions = _conditions(cells)
    where = f" WHERE ({conditions}) OR error('{MISFIT}')::BOOLEAN" if conditions else ""
    return _select(plan, context, cells, part) + where


def good_rows(plan: StreamPlan, context: LoadContext, shape: Shape, part: Part) -> str:
    """A SELECT of the table's columns, without the rows that do not fit."""
    cells = _cells(plan, shape, part)
    conditions = _conditions(cells)
    return _select(plan, context, cells, part) + (f" WHERE {conditions}" if conditions else "")


def key_rows(plan: StreamPlan, shape: Shape, part: Part) -> str:
    """A SELECT of a part's key columns alone, as the table has them; a key that does not fit is none of the table's."""
    keys = {shape.names[key.lower()].lower() for key in plan.key}
    cells = [cell for cell in _cells(plan, shape, part) if cell.name.lower() in keys]
    values = ", ".join(f"{cell.value} AS {quote(cell.name)}" for cell in cells)
    conditions = _conditions(cells)
    return f"SELECT {values} FROM (SELECT {', '.join(_read(cells))} FROM ({part.sql}))" + (
        f" WHERE {conditions}" if conditions else ""
    )


def bad_rows(plan: StreamPlan, shape: Shape, part: Part, *, frozen: bool = False) -> str | None:
    """A SELECT of the rows that `good_rows` leaves out; None where there can be none.

    With `frozen` only of those that miss the type of a frozen column; a key without a value misses none.

    Its columns are `RECORD`, ``file`` (NULL where the stream has none), ``column_name`` and ``reason`` of the first
    misfit in the row, and ``raw``, the values as JSON; ``raw`` is NULL where the part can be asked for the text.
    """
    cells = [
        cell for cell in _cells(plan, shape, part, keyed=not frozen) if not frozen or cell.name.lower() in shape.frozen
    ]
    conditions = _conditions(cells)
    if not conditions:
        return None
    whens = [(cell, condition, text) for cell in cells for condition, text in cell.conditions]
    names = " ".join(f"WHEN NOT {condition} THEN {literal(cell.source)}" for cell, condition, _ in whens)
    reasons = " ".join(f"WHEN NOT {condition} THEN {text}" for _, condition, text in whens)
    file = quote(FILE_COLUMN) if plan.has_files else "CAST(NULL AS VARCHAR)"
    members = ", ".join(f"{literal(column.name)}: {quote(column.name)}" for column in part.columns)
    raw = "CAST(NULL AS VARCHAR)" if part.locate else f"CAST(to_json({{{members}}}) AS VARCHAR)"
    rest = f"{file} AS file, {raw} AS raw, row_number() OVER () AS {RECORD}"
    return (
        f"SELECT {RECORD}, file, CASE {names} END AS column_name, CASE {reasons} END AS reason, raw "
        f"FROM (SELECT {', '.join([*_read(cells), rest])} FROM ({part.sql})) WHERE NOT ({conditions})"
    )


def _cells(plan: StreamPlan, shape: Shape, part: Part, *, keyed: bool = True) -> list[_Cell]:
    own = {
        shape.names[column.name.lower()].lower(): column
        for column in part.columns
        if column.name.lower() in shape.names
    }
    keys = {shape.names[key.lower()].lower() for key in plan.key if keyed and key.lower() in shape.names}
    return [
        _cell(number, name, kind, own.get(name.lower()), shape, name.lower() in keys)
        for number, (name, kind) in enumerate(shape.columns.items())
    ]


def _cell(number: int, name: str, kind: str, column: PartColumn | None, shape: Shape, is_key: bool) -> _Cell:
    if column is None:
        return _Cell(
            name, name, (), (("false", literal("the key is not there")),) if is_key else (), f"CAST(NULL AS {kind})"
        )
    text, cast = f"__t{number}", f"__v{number}"
    value, own = quote(column.name), column.type or "VARCHAR"
    found = shape.texts.get(column.name.lower()) if column.type is None else None
    read, conditions = [f"{value} AS {text}"], []
    if found and kind not in (found, "VARCHAR"):  # a day among timestamps: a text fits its own type only
        first = try_cast(value, own, found)
        read.append(f"{first} AS {cast}f")
        conditions.append(fits(text, f"{cast}f", own, found))
        text, value, own = f"{cast}f", first, found
    read.append(f"{try_cast(value, own, kind)} AS {cast}")
    conditions.append(fits(text, cast, own, kind))
    shown = f"left(CAST(__t{number} AS VARCHAR), 80)"
    reason = f"concat('''', {shown}, ''' is no ', {literal(kind)})"
    if column.guard and (kind == "VARCHAR" or not is_integer(found or kind)):
        conditions.append(column.guard.format(f"__t{number}"))
    stated = [(condition, reason) for condition in conditions if condition]
    if is_key:
        stated.append((f"({cast} IS NOT NULL)", literal("the key has no value")))
    if not stated:  # nothing to compare with
        return _Cell(name, column.name, (read[-1],), (), cast)
    return _Cell(name, column.name, tuple(read), tuple(stated), cast)


def _conditions(cells: Sequence[_Cell]) -> str:
    return " AND ".join(condition for cell in cells for condition, _ in cell.conditions)


def _read(cells: Sequence[_Cell]) -> list[str]:
    return [sql for cell in cells for sql in cell.read]


def _select(plan: StreamPlan, context: LoadContext, cells: Sequence[_Cell], part: Part) -> str:
    names = context.source.metadata
    values = [f"{cell.value} AS {quote(cell.name)}" for cell in cells]
    values.append(f"CAST({context.run} AS BIGINT) AS {quote(names.load_id)}")
    values.append(f"{context.moment} AS {quote(names.loaded_at)}")
    if plan.has_files:
        values.append(f"{quote(FILE_COLUMN)} AS {quote(names.file)}")
    read = [*_read(cells), *([quote(FILE_COLUMN)] if plan.has_files else [])]
    return f"SELECT {', '.join(values)} FROM (SELECT {', '.join(read) or '1'} FROM ({part.sql}))"
