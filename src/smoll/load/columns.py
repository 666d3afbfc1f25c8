"""Schema reconciliation: what the stream brings, what the table has, and the columns both agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smoll.connector import Part, PartColumn, StreamPlan
from smoll.errors import LoadError
from smoll.load.table import LoadContext, stored_columns, target_names
from smoll.load.types import exact_cast, infer, misfits, widen
from smoll.model import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SAMPLE_ROWS = 1000


@dataclass
class Shape:
    """The columns of the table after this load, and how it gets there.

    ``columns`` maps every data column of the table to its type, ``names`` the source's column names (in lower
    case: files of one stream may spell them differently) to the table's, ``stored`` the table's columns before the
    load to their types. ``notes`` are for people.
    """

    columns: dict[str, str]
    names: dict[str, str]
    stored: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def quoted(self, source_name: str) -> str:
        """The quoted name in the table of a column of the source."""
        return quote(self.names[source_name.lower()])

    def select(self, part: Part) -> list[str]:
        """SQL for every data column of the table, in order, from a part's rows. What the part lacks is NULL."""
        own = {self.names[column.name.lower()].lower(): column for column in part.columns}
        return [self._value(name, kind, own.get(name.lower())) for name, kind in self.columns.items()]

    def _value(self, name: str, kind: str, column: PartColumn | None) -> str:
        if column is None:
            return f"CAST(NULL AS {kind}) AS {quote(name)}"
        value = quote(column.name)
        if column.type is None:
            return f"{exact_cast(value, kind)} AS {quote(name)}"
        return f"CAST({value} AS {kind}) AS {quote(name)}" if column.type != kind else f"{value} AS {quote(name)}"


def resolve(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    parts: Sequence[Part],
    *,
    exact: bool,
    forget: bool,
) -> Shape:
    """Find the columns and types that this load writes.

    Parameters
    ----------
    exact
        Look at every value of the text columns; else take the stored types, or a guess from the first rows.
    forget
        Ignore the types that the table has.

    Raises
    ------
    LoadError
        A key, cursor or configured column is missing, two names collide, or no type holds old and new values.
    """
    brought = _brought(parts)
    names = target_names(plan, list(brought.values()), context)
    stored = {} if forget else stored_columns(connection, plan, context)
    fixed = _fixed_types(connection, plan, brought)
    shape = Shape({}, names, stored)
    known = {name.lower(): kind for name, kind in stored.items()}
    for name, kind in known.copy().items():
        if kind == "VARCHAR" and _is_all_null(connection, plan, name):
            del known[name]  # no value has been seen: the type was only a guess
    texts = [column for column in brought.values() if column.type is None]
    types = _text_types(connection, parts, texts, names, known, fixed, exact)
    for column in brought.values():
        name = names[column.name.lower()]
        before = known.get(name.lower())
        new = types.get(column.name) or column.type or before or "VARCHAR"
        kind = fixed.get(column.name) or _agree(connection, plan, parts, column, before, new)
        shape.columns[_stored_name(stored, name)] = kind
    _compare(shape, plan)
    if brought:  # a file of JSON without a record has no columns, and no rows that would need them
        for column_name in (*plan.key, *([plan.cursor] if plan.cursor else [])):
            _require(plan, brought, column_name)
    return shape


def _brought(parts: Sequence[Part]) -> dict[str, PartColumn]:
    """All columns of all parts. Where parts differ in the type of a column, it is the wider of both."""
    found: dict[str, PartColumn] = {}
    for part in parts:
        for column in part.columns:
            other = found.get(column.name.lower())
            found[column.name.lower()] = _join(other, column) if other else column
    return {column.name: column for column in found.values()}


def _has(part: Part, column: PartColumn) -> bool:
    return any(own.name.lower() == column.name.lower() for own in part.columns)


def _join(one: PartColumn, other: PartColumn) -> PartColumn:
    if one.type is not None and other.type is not None:
        return PartColumn(one.name, widen(one.type, other.type) or "VARCHAR")
    if one.type is None and other.type is None:
        return PartColumn(one.name, None, tuple(kind for kind in one.among if kind in other.among) or ("VARCHAR",))
    return PartColumn(one.name, "VARCHAR")


def _fixed_types(connection: DuckDBPyConnection, plan: StreamPlan, brought: Mapping[str, PartColumn]) -> dict[str, str]:
    """The types that the configuration fixes, in DuckDB's own spelling, by the source's column name."""
    import duckdb

    fixed: dict[str, str] = {}
    for name, kind in plan.columns.items() if brought else ():
        _require(plan, brought, name)
        try:
            row = connection.execute(f"SELECT typeof(CAST(NULL AS {_plain_type(plan, kind)}))").fetchone()
        except duckdb.Error as error:
            raise LoadError(
                f"{plan.ref}: the type {kind!r} of column {name!r} is none of DuckDB's.",
                hint="Examples: BIGINT, DECIMAL(18,2), VARCHAR, DATE, TIMESTAMP.",
            ) from error
        fixed[name] = str(row[0]) if row else kind
    return fixed


def _plain_type(plan: StreamPlan, kind: str) -> str:
    """A type as it may stand in SQL: letters, digits, blanks, brackets and commas, so that nothing else can."""
    if not all(character.isalnum() or character in ' _(),[]"' for character in kind) or not kind.strip():
        raise LoadError(f"{plan.ref}: {kind!r} is no type.", hint="Examples: BIGINT, DECIMAL(18,2), VARCHAR, DATE.")
    return kind


def _require(plan: StreamPlan, brought: Mapping[str, PartColumn], name: str) -> None:
    if name not in brought:
        raise LoadError(
            f"{plan.ref}: there is no column {name!r}, which smoll.yml names.",
            hint=f"The columns: {', '.join(list(brought)[:30])}.",
        )


def _is_all_null(connection: DuckDBPyConnection, plan: StreamPlan, name: str) -> bool:
    sql = f"SELECT 1 FROM {plan.table.sql} WHERE {quote(name)} IS NOT NULL LIMIT 1"
    return connection.execute(sql).fetchone() is None


def _text_types(
    connection: DuckDBPyConnection,
    parts: Sequence[Part],
    texts: Sequence[PartColumn],
    names: Mapping[str, str],
    known: Mapping[str, str],
    fixed: Mapping[str, str],
    exact: bool,
) -> dict[str, str | None]:
    """The type of each text column: fixed, stored, or found among its values."""
    wanted: list[PartColumn] = []
    types: dict[str, str | None] = {}
    for column in texts:
        given = fixed.get(column.name) or known.get(names[column.name.lower()].lower())
        types[column.name] = given
        if column.name in fixed and exact:
            _refuse_misfit(connection, parts, column, fixed[column.name])
        elif given is None or exact:
            stored_first = (given, *column.among) if given else column.among
            wanted.append(PartColumn(column.name, None, stored_first))
    if wanted and not exact:
        types |= _infer(connection, parts, wanted, f" LIMIT {_SAMPLE_ROWS}")
        wanted = [column for column in wanted if types[column.name] is None]
    if wanted:
        types |= _infer(connection, parts, wanted, "")
    return types


def _infer(
    connection: DuckDBPyConnection, parts: Sequence[Part], columns: Sequence[PartColumn], limit: str
) -> dict[str, str | None]:
    selects = []
    for part in parts:
        texts = {own.name.lower() for own in part.columns if own.type is None}
        own = [column for column in columns if column.name.lower() in texts]
        if own:
            listed = ", ".join(f"CAST({quote(column.name)} AS VARCHAR) AS {quote(column.name)}" for column in own)
            selects.append(f"(SELECT {listed} FROM ({part.sql}){limit})")
    return infer(connection, " UNION ALL BY NAME ".join(selects), columns)


def _refuse_misfit(connection: DuckDBPyConnection, parts: Sequence[Part], column: PartColumn, kind: str) -> None:
    """Name the first value that does not fit a type which the configuration fixes."""
    for part in parts:
        if not _has(part, column):
            continue
        sql = f"""SELECT value, record FROM (
            SELECT {quote(column.name)} AS value, row_number() OVER () AS record FROM ({part.sql}))
            WHERE {misfits("value", kind)} ORDER BY record LIMIT 1"""
        row = connection.execute(sql).fetchone()
        if row:
            raise LoadError(
                f"{part.label}, record {row[1]}: {str(row[0])[:80]!r} in column {column.name!r} is no {kind}.",
                hint="Mend the value, or remove the column from `columns` in smoll.yml.",
            )


def _agree(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    parts: Sequence[Part],
    column: PartColumn,
    stored: str | None,
    new: str,
) -> str:
    if stored is None or stored == new:
        return new
    largest = _largest(connection, plan, parts, column, stored) if "DOUBLE" in (stored, new) else 0
    wider = widen(stored, new, largest=largest)
    if wider is None:
        raise LoadError(
            f"{plan.ref}: column {column.name!r} was {stored} and is {new} now; no type holds both.",
            hint=f"Load the stream anew with its new type: smoll run --reload {plan.ref}",
        )
    return wider


def _largest(
    connection: DuckDBPyConnection, plan: StreamPlan, parts: Sequence[Part], column: PartColumn, stored: str
) -> int:
    """The largest absolute whole number on the side that has whole numbers, for the exactness of a DOUBLE."""
    name = quote(column.name)
    brought = [f"({part.sql})" for part in parts if _has(part, column)]
    sources = [plan.table.sql] if "INT" in stored else brought
    found = [
        connection.execute(f"SELECT max(abs(TRY_CAST({name} AS HUGEINT))) FROM {source}").fetchone()
        for source in sources
    ]
    return max((int(row[0]) for row in found if row and row[0] is not None), default=0)


def _stored_name(stored: Mapping[str, str], name: str) -> str:
    """The table's own spelling of a column's name: DuckDB takes ``ID`` and ``id`` for one."""
    return next((own for own in stored if own.lower() == name.lower()), name)


def _compare(shape: Shape, plan: StreamPlan) -> None:
    """Note what changed, and keep the columns that the source no longer has, so that models still find them."""
    for name, kind in shape.columns.items():
        before = shape.stored.get(name)
        if before is None and shape.stored:
            shape.notes.append(f"new column {name} ({kind})")
        elif before is not None and before != kind:
            shape.notes.append(f"column {name} was {before}, is {kind} now")
    for name, kind in shape.stored.items():
        if name not in shape.columns:
            shape.columns[name] = kind
            shape.notes.append(f"column {name} is not in what was read; it is NULL in the new rows")
