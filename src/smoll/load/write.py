"""Writing the rows of an extract into the target table: replace, append, merge. All inside one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoll.connector import FILE_COLUMN, Extract, Part, StreamPlan
from smoll.errors import LoadError
from smoll.load.columns import Shape
from smoll.load.table import LoadContext, table_columns
from smoll.load.types import exact_cast, misfits
from smoll.model import TableRef, literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_STAGE = "__smoll_stage"
_ORDER = "__smoll_order"
_PART = "__smoll_part"
_COUNT = "__smoll_count"


def write(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    extract: Extract,
    shape: Shape,
    *,
    replace: bool,
) -> int:
    """Bring the table into shape and write the rows. Returns the number of rows written.

    Parameters
    ----------
    replace
        Build the table anew from these rows (mode ``replace``, a first load, a reload); else add to it.

    Raises
    ------
    LoadError
        A key of ``merge`` is NULL.
    """
    replace = replace or not shape.stored
    if replace:
        _create(connection, plan, context, shape)
    else:
        _alter(connection, plan, shape)
    if plan.mode == "merge":
        return _merge(connection, plan, context, extract, shape)
    if not replace:
        _delete_files(connection, plan, context, extract)
    if plan.mode == "append" and plan.cursor and not replace:
        return _append_new(connection, plan, context, extract, shape)
    return sum(_insert(connection, plan.table.sql, _rows(plan, context, shape, part)) for part in extract.parts)


def count_rows(connection: DuckDBPyConnection, table: TableRef) -> int:
    """Rows of a table; 0 where there is none. DuckDB answers from its statistics."""
    import duckdb

    try:
        row = connection.execute(f"SELECT count(*) FROM {table.sql}").fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0]) if row else 0


def _create(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, shape: Shape) -> None:
    columns = table_columns(shape.columns, context, plan.has_files)
    listed = ", ".join(f"{quote(column.name)} {column.type}" for column in columns)
    connection.execute(f"CREATE OR REPLACE TABLE {plan.table.sql} ({listed})")


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


def _rows(plan: StreamPlan, context: LoadContext, shape: Shape, part: Part) -> str:
    """The SELECT of a part's rows, complete with the metadata columns."""
    names = context.source.metadata
    stamp = context.started.strftime("%Y-%m-%d %H:%M:%S.%f")
    added = [f"CAST({context.run} AS BIGINT) AS {quote(names.load_id)}"]
    added.append(f"TIMESTAMP {literal(stamp)} AS {quote(names.loaded_at)}")
    if plan.has_files:
        added.append(f"{quote(FILE_COLUMN)} AS {quote(names.file)}")
    return f"SELECT {', '.join([*shape.select(part), *added])} FROM ({part.sql})"


def _insert(connection: DuckDBPyConnection, table: str, select: str) -> int:
    # BY NAME: an altered table has its new columns behind the metadata columns.
    row = connection.execute(f"INSERT INTO {table} BY NAME {select}").fetchone()
    return int(row[0]) if row else 0


def _delete_files(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, extract: Extract) -> None:
    """Remove the earlier rows of the files that are about to be loaded."""
    if extract.replaces:
        column = quote(context.source.metadata.file)
        connection.execute(
            f"DELETE FROM {plan.table.sql} WHERE {column} IN (SELECT unnest(?::VARCHAR[]))",
            [list(extract.replaces)],
        )


def _append_new(
    connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, extract: Extract, shape: Shape
) -> int:
    """Add the rows at or beyond the cursor that the table does not have yet.

    Rows at the cursor's last value, and rows without one, are read every time. As many of them as the table holds
    are left out, so that equal rows are neither lost nor doubled. A column that came or went since tells no row
    from another: the table has NULL there, or the source has nothing.
    """
    common = [quote(name) for name in shape.common]
    listed, cursor = ", ".join(common), shape.quoted(plan.cursor or "")
    _stage(connection, plan, context, extract, shape)
    at_last = f"({cursor} IS NULL OR {cursor} = (SELECT max({cursor}) FROM {plan.table.sql}))"
    count = f"row_number() OVER (PARTITION BY {listed}) AS {_COUNT}"
    equal = " AND ".join(f"again.{name} IS NOT DISTINCT FROM seen.{name}" for name in (*common, _COUNT))
    select = f"""
        WITH again AS (SELECT *, {count} FROM {_STAGE} WHERE {at_last}),
        seen AS (SELECT {listed}, {count} FROM {plan.table.sql} WHERE {at_last})
        SELECT * EXCLUDE ({_PART}, {_ORDER}) FROM {_STAGE} WHERE {at_last} IS NOT TRUE
        UNION ALL BY NAME
        SELECT * EXCLUDE ({_PART}, {_ORDER}, {_COUNT}) FROM again ANTI JOIN seen ON {equal}"""
    added = _insert(connection, plan.table.sql, select)
    connection.execute(f"DROP TABLE {_STAGE}")
    return added


def _merge(
    connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, extract: Extract, shape: Shape
) -> int:
    """Replace the rows of the same key. Of several rows of one key the last wins: by cursor, then by order read.

    Deduplicate, delete and insert: DuckDB's MERGE INTO inserts both rows of a duplicate key, and is nine times
    slower at 10 million rows into 10 million.
    """
    _stage(connection, plan, context, extract, shape)
    _refuse_null_keys(connection, plan, shape)
    keys = [shape.quoted(name) for name in plan.key]
    match = " AND ".join(f"t.{key} = s.{key}" for key in keys)
    order = f"{_PART} DESC, {_ORDER} DESC"
    if plan.cursor:
        cursor = shape.quoted(plan.cursor)
        order = f"{cursor} DESC NULLS LAST, {order}"
        # A late row does not undo a newer one that the table already has. A database has no late rows: what it
        # says now is so, also where it took the cursor's value away.
        older = f"t.{cursor} > s.{cursor}"
        if plan.has_files:
            older += f" OR (s.{cursor} IS NULL AND t.{cursor} IS NOT NULL)"
        connection.execute(f"DELETE FROM {_STAGE} s USING {plan.table.sql} t WHERE {match} AND ({older})")
    connection.execute(f"DELETE FROM {plan.table.sql} t USING {_STAGE} s WHERE {match}")
    last = f"QUALIFY row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {order}) = 1"
    select = f"SELECT * EXCLUDE ({_PART}, {_ORDER}) FROM {_STAGE} {last}"
    count = _insert(connection, plan.table.sql, select)
    connection.execute(f"DROP TABLE {_STAGE}")
    return count


def _stage(
    connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, extract: Extract, shape: Shape
) -> None:
    """Read all parts into a temporary table, numbered in the order read."""
    for number, part in enumerate(extract.parts):
        rows = _rows(plan, context, shape, part)
        numbered = f"SELECT *, {number} AS {_PART}, row_number() OVER () AS {_ORDER} FROM ({rows})"
        if number == 0:
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {_STAGE} AS {numbered}")
        else:
            _insert(connection, _STAGE, numbered)


def _refuse_null_keys(connection: DuckDBPyConnection, plan: StreamPlan, shape: Shape) -> None:
    missing = " OR ".join(f"{shape.quoted(name)} IS NULL" for name in plan.key)
    row = connection.execute(f"SELECT count(*) FROM {_STAGE} WHERE {missing}").fetchone()
    if row and row[0]:
        raise LoadError(
            f"{plan.ref}: {row[0]} rows have no value in the key ({', '.join(plan.key)}); merge cannot place them.",
            hint="Mend the rows, or choose another `key`.",
        )
