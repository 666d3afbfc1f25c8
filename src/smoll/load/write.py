"""Writing the rows of an extract into the target table, by the stream's mode. All inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from smoll.connector import Extract, Parent, Part, StreamPlan
from smoll.errors import LoadError
from smoll.load.columns import Shape, is_respelled
from smoll.load.guard import refuse_shrink
from smoll.load.merge import merge
from smoll.load.scd2 import write_versions
from smoll.load.stage import STAGE, RowsOf, drop_stage, stage
from smoll.load.table import LoadContext, added_columns, count_live, insert, mark_deleted
from smoll.load.types import exact_cast, is_integer, misfits
from smoll.model import literal, literals, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COUNT = "__smoll_count"
_KEPT = "__smoll_kept"


def write(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    extract: Extract,
    parts: Sequence[Part],
    shape: Shape,
    rows: RowsOf,
    *,
    replace: bool,
    rejects: bool,
) -> tuple[int, int]:
    """Bring the table into shape and write the rows. Returns the rows read and the rows written.

    Parameters
    ----------
    parts
        What to scan; `rows` gives the SELECT of each.
    replace
        Build the table anew from these rows (mode ``replace``, a first load, a reload); else add to it.
    rejects
        Rows were rejected, so that a key that was not read need not be gone.

    Raises
    ------
    LoadError
        The rows of the table do not fit a type that the configuration fixes, or too many of them would go.
    """
    replace = replace or not shape.stored
    if replace:
        _create(connection, plan, context, shape)
    else:
        _alter(connection, plan, shape)
        if context.span:
            _delete_span(connection, plan, context, shape)
    if plan.mode in ("merge", "scd2") and shape.names:  # without, there is nothing: no rows, and no table before
        by_key = merge if plan.mode == "merge" else write_versions
        return by_key(connection, plan, context, extract, parts, shape, rows, rejects=rejects)
    if not replace:
        remove_gone(connection, plan, context, extract)  # first: the guard counts the rows of the changed files, too
        _delete_files(connection, plan, context, extract)
        if plan.by_cursor:
            return _append_new(connection, plan, context, extract, parts, shape, rows)
    count = sum(insert(connection, plan.table.sql, rows(part)) for part in parts)
    if plan.parent:
        _drop_orphans(connection, plan, plan.parent)
    return count, count


def remove_gone(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, extract: Extract) -> None:
    """Follow files that vanished, as ``deletes`` says. Raises LoadError where too many rows would go."""
    if not extract.gone or plan.deletes == "ignore":
        return
    before = count_live(connection, plan, context)
    where = f"t.{quote(context.source.metadata.file)} IN (SELECT unnest(?::VARCHAR[]))"
    removed = mark_deleted(connection, plan, context, where, [list(extract.gone)])
    refuse_shrink(plan, before, before - removed)


def _drop_orphans(connection: DuckDBPyConnection, plan: StreamPlan, parent: Parent) -> None:
    """Remove the rows of a child table whose row of the parent's table was replaced or removed."""
    kept = f"SELECT {quote(parent.id)} FROM {parent.table.sql}"
    connection.execute(f"DELETE FROM {plan.table.sql} WHERE {quote(parent.reference)} NOT IN ({kept})")


def _create(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, shape: Shape) -> None:
    columns = [f"{quote(name)} {kind}" for name, kind in shape.columns.items()]
    columns += [f"{quote(column.name)} {column.type}" for column in added_columns(plan, context.source)]
    connection.execute(f"CREATE OR REPLACE TABLE {plan.table.sql} ({', '.join(columns)})")


def _alter(connection: DuckDBPyConnection, plan: StreamPlan, shape: Shape) -> None:
    for name, kind in shape.columns.items():
        column, stored = quote(name), shape.stored.get(name)
        if stored is None:
            connection.execute(f"ALTER TABLE {plan.table.sql} ADD COLUMN {column} {kind}")
        elif stored != kind:
            _refuse_loaded_misfit(connection, plan, name, stored, kind)
            change = f"TYPE {kind} USING {exact_cast(column, stored, kind)}"
            connection.execute(f"ALTER TABLE {plan.table.sql} ALTER COLUMN {column} {change}")


def _refuse_loaded_misfit(connection: DuckDBPyConnection, plan: StreamPlan, name: str, stored: str, kind: str) -> None:
    """Only a type that the configuration fixes can be one that the rows of the table do not fit."""
    missed = misfits(quote(name), stored, kind)
    sql = f"SELECT CAST({quote(name)} AS VARCHAR) FROM {plan.table.sql} WHERE {missed} LIMIT 1"
    row = connection.execute(sql).fetchone() if missed != "false" else None
    if row:
        raise LoadError(
            f"{plan.ref}: the rows already loaded do not fit {kind}: column {name!r} holds {str(row[0])[:80]!r}.",
            hint=f"Load them anew: smoll run --reload {plan.ref}. Or remove the column from `columns` in smoll.yml.",
        )


def _delete_files(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, extract: Extract) -> None:
    """Remove the earlier rows of the files that are about to be loaded."""
    if extract.replaces:
        column = quote(context.source.metadata.file)
        connection.execute(
            f"DELETE FROM {plan.table.sql} WHERE {column} IN (SELECT unnest({literals(extract.replaces)}))"
        )


def _delete_span(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, shape: Shape) -> None:
    connection.execute(f"DELETE FROM {plan.table.sql} WHERE {_in_span(plan, context, shape)}")


def _in_span(plan: StreamPlan, context: LoadContext, shape: Shape) -> str:
    """SQL: the row lies in the range that is to be loaded again."""
    assert context.span
    cursor, since, until = shape.quoted(plan.cursor or ""), *context.span
    kind = next(kind for name, kind in shape.columns.items() if quote(name) == cursor)
    limits = [f"{cursor} >= {_limit(since, kind)}"] if since is not None else []
    limits += [f"{cursor} < {_limit(until, kind)}"] if until is not None else []
    return f"coalesce({' AND '.join(limits)}, false)"


def _limit(value: str, kind: str) -> str:
    """SQL: a limit of a range as a value of the cursor's type. A cast would round 1.4 down to a 1 that is below it."""
    if is_integer(kind):
        with suppress(ArithmeticError):  # no number: DuckDB says so
            value = str(Decimal(value).to_integral_value(ROUND_CEILING))
    return f"CAST({literal(value)} AS {kind})"


def _append_new(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    extract: Extract,
    parts: Sequence[Part],
    shape: Shape,
    rows: RowsOf,
) -> tuple[int, int]:
    """Add the rows at or beyond the cursor that the table does not have yet.

    Rows between the bound that was read from and the table's highest value, and rows without one, are read every
    time. As many of them as the table holds are left out, so that equal rows are neither lost nor doubled; so is what
    lies below the bound, where a source gives more than it was asked for. A column that came or went since tells no
    row from another: the table has NULL there, or the source has nothing.
    """
    read = stage(connection, parts, rows)
    if context.span:
        added = insert(connection, plan.table.sql, f"SELECT * FROM {STAGE} WHERE {_in_span(plan, context, shape)}")
        drop_stage(connection)
        return read, added
    common = [name for name in shape.common if name in shape.brought]
    respelled = {name for name in common if shape.columns[name] == "VARCHAR" and is_respelled(shape.stored[name])}

    def value(name: str, alias: str) -> str:
        """A number that became text is 2.0 in the table, and may be 2 in the source."""
        own = f"{alias}.{quote(name)}"
        typed = f"CAST(TRY_CAST({own} AS {shape.stored[name]}) AS VARCHAR)"
        return f"coalesce({typed}, {own})" if name in respelled else own

    cursor = shape.quoted(plan.cursor or "")
    kind = next(kind for name, kind in shape.columns.items() if quote(name) == cursor)
    known = f"({cursor} IS NULL OR {cursor} <= (SELECT max({cursor}) FROM {plan.table.sql}))"
    since = "true" if extract.since is None else f"{cursor} >= CAST({literal(extract.since)} AS {kind})"
    count = f"row_number() OVER (PARTITION BY {', '.join(value(name, 'r') for name in common)}) AS {_COUNT}"
    equal = " AND ".join(f"{value(name, 'again')} IS NOT DISTINCT FROM {value(name, 'seen')}" for name in common)
    equal += f" AND again.{_COUNT} = seen.{_COUNT}"
    reach = f"({cursor} IS NULL OR {since})"
    both = f"""
        WITH again AS (SELECT *, {count} FROM {STAGE} r WHERE {known} AND {reach}),
        seen AS (SELECT *, {count} FROM {plan.table.sql} r WHERE {reach})"""
    if respelled:  # what was read again takes the place of what was seen, so that the next load finds it as it is
        kept = f"{both} SELECT * EXCLUDE ({_COUNT}) FROM seen ANTI JOIN again ON {equal}"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {_KEPT} AS {kept}")
        connection.execute(f"DELETE FROM {plan.table.sql} WHERE {reach}")
        insert(connection, plan.table.sql, f"SELECT * FROM {_KEPT}")
        connection.execute(f"DROP TABLE {_KEPT}")
        added = insert(connection, plan.table.sql, f"SELECT * FROM {STAGE} WHERE {reach}")
    else:
        select = f"""{both}
            SELECT * FROM {STAGE} WHERE {known} IS NOT TRUE
            UNION ALL BY NAME
            SELECT * EXCLUDE ({_COUNT}) FROM again ANTI JOIN seen ON {equal}"""
        added = insert(connection, plan.table.sql, select)
    drop_stage(connection)
    return read, added
