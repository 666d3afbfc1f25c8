"""Schema reconciliation: what the stream brings, what the table has, and the columns both agree on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from smoll.connector import SCALARS, Part, PartColumn, StreamPlan, apply_naming
from smoll.errors import LoadError
from smoll.load.table import LoadContext, stored_columns, target_names
from smoll.load.types import confirm, infer, is_integer, is_number, widen
from smoll.model import StreamRef, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SAMPLE_ROWS = 1000
_SAMPLE_VALUES = 200_000
"""Of a part with many columns fewer rows are looked at first: each value costs about 2 µs."""
_QUOTED_NAME = re.compile(r'"(?:[^"]|"")*"')


@dataclass
class Shape:
    """The columns of the table after this load, and how it gets there.

    ``columns`` maps every data column of the table to its type, ``names`` the source's column names (in lower
    case: files of one stream may spell them differently) to the table's, ``stored`` the table's columns before the
    load to their types; ``common`` are the columns that both the table had and the source has, ``texts`` the types
    found for columns of text, by the source's name in lower case. ``bound``: some types do not follow the values,
    so that there can be bad rows; the types of the ``frozen`` columns may not even be missed by a bad row. ``notes``
    are for people.
    """

    columns: dict[str, str]
    names: dict[str, str]
    stored: dict[str, str]
    common: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    bound: bool = False
    frozen: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    def quoted(self, source_name: str) -> str:
        """The quoted name in the table of a column of the source."""
        return quote(self.names[source_name.lower()])

    @property
    def brought(self) -> list[str]:
        """The table's names of the columns that the source has now."""
        here = {name.lower() for name in self.names.values()}
        return [name for name in self.columns if name.lower() in here]


@dataclass(frozen=True)
class _Brought:
    """A column of the source, with its own column in each part that has it."""

    name: str
    members: tuple[tuple[Part, PartColumn], ...]

    @property
    def text(self) -> PartColumn | None:
        """The column where its type is still to be found: text in some part, and what all of them may become."""
        texts = [column for _, column in self.members if column.type is None]
        among = [kind for kind in texts[0].among if all(kind in other.among for other in texts)] if texts else []
        return PartColumn(self.name, None, tuple(among) or ("VARCHAR",)) if texts else None

    @property
    def declared(self) -> str:
        """The type of the column as long as it has no value: what the last part that knows says."""
        return next((column.declared for _, column in reversed(self.members) if column.declared), "VARCHAR")


@dataclass(frozen=True)
class _Side:
    """One of the places that the values of a column come from, and the type they have there."""

    kind: str
    source: str
    name: str


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
    names = target_names(plan, list(brought), context)
    stored = {} if forget else stored_columns(connection, plan, context)
    here = {name.lower() for name in stored}
    gone = {name: None for name in plan.columns if apply_naming(context.source, name).lower() in here}
    fixed = _fixed_types(connection, plan, brought | gone if brought else {})
    left_out: list[str] = []
    bound: dict[str, str] = {}
    if stored and brought and plan.options.contract != "evolve":
        left_out = _keep_contract(plan, brought, names, stored)
        kinds = {name.lower(): kind for name, kind in stored.items()}
        brought = {name: column for name, column in brought.items() if name not in left_out}
        bound = {name: kinds[key] for name in brought if (key := names[name.lower()].lower()) in kinds}
    names = {name.lower(): names[name.lower()] for name in brought}
    if stored and not brought:  # JSON without a record: what is there goes by these names all the same
        names = target_names(plan, [*plan.key, *([plan.cursor] if plan.cursor else [])], context)
    # Where a column of text has no value yet, its type was only a guess.
    known = {
        name.lower(): kind
        for name, kind in stored.items()
        if kind != "VARCHAR" or not _is_all_null(connection, plan, name)
    }
    bound |= fixed
    before = {name: known.get(names[name.lower()].lower()) for name in brought}
    texts = [text for column in brought.values() if (text := column.text) and column.name not in bound]
    types = _text_types(connection, parts, texts, before, exact)
    shape = Shape(
        {},
        names,
        stored,
        bound=bool(bound or plan.key),
        texts={name.lower(): kind for name, kind in types.items() if kind},
    )
    for column in brought.values():
        name = _stored_name(stored, names[column.name.lower()])
        kind = before[column.name]
        table = _Side(kind, plan.table.sql, name) if kind else None
        found = bound.get(column.name) or _agree(connection, plan, column, types.get(column.name), table)
        shape.columns[name] = found or column.declared
        if kind and found == "VARCHAR" and column.name in plan.key and is_respelled(kind):
            raise LoadError(
                f"{plan.ref}: the key {column.name!r} was {kind} and is text now: rows would not be found again by it.",
                hint=f"Load the stream anew with its new type: smoll run --reload {plan.ref}",
            )
        if column.name == plan.cursor and not plan.has_files:
            _refuse_text_cursor(connection, plan, column, table, found)
    shape.common = tuple(name for name in shape.columns if name in stored)
    _compare(shape, plan)
    if plan.options.contract == "freeze":
        shape.frozen = frozenset(names[name.lower()].lower() for name in bound if name not in fixed)
    shape.notes += [f"column {name} is new and left out (contract: discard)" for name in left_out]
    if brought:  # a file of JSON without a record has no columns, and no rows that would need them
        for column_name in (*plan.key, *([plan.cursor] if plan.cursor else [])):
            _require(plan, brought, column_name)
    return shape


def _keep_contract(
    plan: StreamPlan, brought: Mapping[str, _Brought], names: Mapping[str, str], stored: Mapping[str, str]
) -> list[str]:
    """The columns that the contract leaves out, of a table that has rows. A column that `columns` names is wanted.

    Raises LoadError under ``freeze`` where the columns are not those of the table, whatever their order.
    """
    there = {name.lower() for name in stored}
    here = {names[name.lower()].lower() for name in brought}
    new = [name for name in brought if names[name.lower()].lower() not in there and name not in plan.columns]
    gone = [name for name in stored if name.lower() not in here]
    if plan.options.contract == "freeze" and (new or gone):
        changes = [f"column {name!r} is new" for name in new] + [f"column {name!r} is gone" for name in gone]
        raise LoadError(
            f"{plan.ref}: the columns changed, and the contract is freeze: {', '.join(changes)}.",
            hint=f"If that is right: smoll run --reload {plan.ref}, or contract: evolve in smoll.yml.",
        )
    return new


def _brought(parts: Sequence[Part]) -> dict[str, _Brought]:
    """All columns of all parts, by the name that the first part gives them."""
    members: dict[str, list[tuple[Part, PartColumn]]] = {}
    for part in parts:
        for column in part.columns:
            members.setdefault(column.name.lower(), []).append((part, column))
    return {found[0][1].name: _Brought(found[0][1].name, tuple(found)) for found in members.values()}


def _fixed_types(connection: DuckDBPyConnection, plan: StreamPlan, there: Collection[str]) -> dict[str, str]:
    """The types that the configuration fixes, in DuckDB's own spelling, by the source's column name."""
    for name in plan.columns if there else ():
        _require(plan, there, name)
    return {name: fixed_type(connection, plan.ref, name, kind) for name, kind in plan.columns.items()} if there else {}


def fixed_type(connection: DuckDBPyConnection, ref: StreamRef, name: str, kind: str) -> str:
    """The type that the configuration gives a column, in DuckDB's own spelling. Raises LoadError where it is none."""
    import duckdb

    bare = _QUOTED_NAME.sub("", kind)
    try:
        if not all(character.isalnum() or character in " _(),[]" for character in bare):  # it stands in SQL
            raise duckdb.ParserException(kind)
        row = connection.execute(f"SELECT typeof(CAST(NULL AS {kind}))").fetchone()
    except duckdb.Error as error:
        raise LoadError(
            f"{ref}: the type {kind!r} of column {name!r} is none of DuckDB's.",
            hint="Examples: BIGINT, DECIMAL(18,2), VARCHAR, DATE, TIMESTAMP.",
        ) from error
    return str(row[0]) if row else kind


def _require(plan: StreamPlan, there: Collection[str], name: str) -> None:
    if name not in there:
        raise LoadError(
            f"{plan.ref}: there is no column {name!r}, which smoll.yml names.",
            hint=f"The columns: {', '.join(list(there)[:30])}.",
        )


def _is_all_null(connection: DuckDBPyConnection, plan: StreamPlan, name: str) -> bool:
    sql = f"SELECT 1 FROM {plan.table.sql} WHERE {quote(name)} IS NOT NULL LIMIT 1"
    return connection.execute(sql).fetchone() is None


def _text_types(
    connection: DuckDBPyConnection,
    parts: Sequence[Part],
    texts: Sequence[PartColumn],
    stored: Mapping[str, str | None],
    exact: bool,
) -> dict[str, str | None]:
    """The type of each text column: the stored one, or found among its values. None where it has no value."""
    types: dict[str, str | None] = {}
    for column in texts:
        given = stored.get(column.name)
        types[column.name] = given if given and _may_become(column, given) else None
    unknown = [column for column in texts if types[column.name] is None]
    if unknown:
        rows = min(_SAMPLE_ROWS, max(1, _SAMPLE_VALUES // len(unknown)))
        types |= infer(connection, _texts(parts, unknown, f" LIMIT {rows}"), unknown)
    if exact:
        known = {name: kind for name, kind in types.items() if kind}
        missed = confirm(connection, _texts(parts, [column for column in texts if types[column.name]], ""), known)
        types |= dict.fromkeys(missed)
    wanted = [_stored_first(column, stored) for column in texts if types[column.name] is None]
    if wanted:
        types |= infer(connection, _texts(parts, wanted, ""), wanted)
    return types


def _stored_first(column: PartColumn, stored: Mapping[str, str | None]) -> PartColumn:
    """The column with the type that the table has as its first candidate."""
    given = stored.get(column.name)
    return replace(column, among=(given, *column.among)) if given and _may_become(column, given) else column


def _may_become(column: PartColumn, kind: str) -> bool:
    """True where the text may take the type: a text of JSON that looks like a number stays text, a number is one."""
    if kind in column.among or column.among == SCALARS:
        return True
    if kind == "JSON":
        return "BIGINT" in column.among or "BOOLEAN" in column.among
    return is_number(kind) and any(is_number(other) for other in column.among)


def _texts(parts: Sequence[Part], columns: Sequence[PartColumn], limit: str) -> str:
    """A SELECT of some columns of text, from all parts that have them as such."""
    selects = []
    for part in parts:
        texts = {own.name.lower() for own in part.columns if own.type is None}
        own = [column for column in columns if column.name.lower() in texts]
        if own:
            listed = ", ".join(f"CAST({quote(column.name)} AS VARCHAR) AS {quote(column.name)}" for column in own)
            selects.append(f"(SELECT {listed} FROM ({part.sql}){limit})")
    return " UNION ALL BY NAME ".join(selects)


def _refuse_text_cursor(
    connection: DuckDBPyConnection, plan: StreamPlan, column: _Brought, table: _Side | None, kind: str | None
) -> None:
    """As text, 9 is higher than 10: rows would be lost, or loaded again and again."""
    is_text = all((own.type or own.among) in ("VARCHAR", ("VARCHAR",)) for _, own in column.members)
    if is_text:
        refused = table is not None and table.kind != "VARCHAR" and not _is_all_null(connection, plan, table.name)
    else:
        refused = kind == "VARCHAR"
    if refused:
        raise LoadError(
            f"{plan.ref}: the cursor {column.name!r} would be stored as text, and its values are, or were, none: "
            "texts have another order.",
            hint=f"Remove it from `columns`, or choose another `cursor`, then smoll run --reload {plan.ref}",
        )


def _agree(
    connection: DuckDBPyConnection, plan: StreamPlan, column: _Brought, text: str | None, table: _Side | None
) -> str | None:
    """The type that holds what the parts bring, and what the table has. None where no value has been seen."""
    kinds = [(own.type or text, part, own) for part, own in column.members]
    sides = [_Side(kind, f"({part.sql})", own.name) for kind, part, own in kinds if kind]
    if not sides:
        return table.kind if table else None
    new = _common(connection, sides)
    if new is None:
        both = " and ".join(dict.fromkeys(side.kind for side in sides))
        raise LoadError(
            f"{plan.ref}: column {column.name!r} is {both} in different files; no type holds both.",
            hint="Make the files agree, or load them as two streams.",
        )
    wider = _common(connection, [table, *sides]) if table else new
    if wider is None and table:
        raise LoadError(
            f"{plan.ref}: column {column.name!r} was {table.kind} and is {new} now; no type holds both.",
            hint=f"Load the stream anew with its new type: smoll run --reload {plan.ref}",
        )
    return wider


def _common(connection: DuckDBPyConnection, sides: Sequence[_Side]) -> str | None:
    """The narrowest type that holds the values of all sides; None where there is none."""
    kinds = dict.fromkeys(side.kind for side in sides)
    if len(kinds) == 1:
        return sides[0].kind
    largest = 0
    if "DOUBLE" in kinds or "FLOAT" in kinds:
        largest = max((_largest(connection, side) for side in sides if is_integer(side.kind)), default=0)
    common: str | None = sides[0].kind
    for kind in kinds:
        common = widen(common, kind, largest=largest) if common else None
    return common


def _largest(connection: DuckDBPyConnection, side: _Side) -> int:
    """The largest absolute whole number of a side, for the exactness of a DOUBLE."""
    sql = f"SELECT max(abs(TRY_CAST({quote(side.name)} AS HUGEINT))) FROM {side.source}"
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def is_respelled(kind: str) -> bool:
    """True where a value of the type, made text, may be another text than the source has: 1 is 1.0 as a DOUBLE."""
    return kind not in ("VARCHAR", "JSON", "DATE", "UUID") and not is_integer(kind)


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
            if shape.names:  # a file of JSON without a record has no columns
                shape.notes.append(f"column {name} is not in what was read; it is NULL in the new rows")
