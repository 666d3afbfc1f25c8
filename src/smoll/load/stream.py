"""The load of one stream: read its state, fix the types, write, and commit data and state together.

The first attempt casts strictly to the types that are stored, or guessed from the first rows. Only where a value
misses is every value looked at, and the load begun again with the types found. See `smoll.load.types` for why
the outcome is the same as looking at every value always.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connector import Connector, Extract, Reading, StreamPlan
from smoll.errors import Interrupted, LoadError, SmollError
from smoll.load.columns import Shape, resolve
from smoll.load.table import LoadContext, has_metadata, read_state, write_state
from smoll.load.types import MISFIT
from smoll.load.write import count_rows, write
from smoll.model import StreamResult, StreamStatus

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def load_stream(
    connection: DuckDBPyConnection,
    connector: Connector,
    plan: StreamPlan,
    context: LoadContext,
    root: Path,
    scratch: Path,
    *,
    reload: bool,
    before_commit: Callable[[], None],
    on_size: Callable[[int | None], None] = lambda rows: None,
    on_fetch: Callable[[int, int | None], None] = lambda done, total: None,
) -> StreamResult:
    """Load one stream in one transaction. Its table is either as before or complete.

    Parameters
    ----------
    connection
        A cursor of the warehouse that nobody else uses meanwhile; no transaction is open on it.
    reload
        Forget state and types: read everything and replace the table.
    before_commit
        Called when all is written and nothing is committed; what it raises rolls the load back.
    on_size
        Told how many rows to expect, where that is known, when all is fetched and the scan begins.
    on_fetch
        Told how many bytes are fetched, and of how many (None: unknown).

    Raises
    ------
    LoadError
        The source could not be read, or a value fits no permitted type.
    Interrupted
        The connection was interrupted.
    """
    import duckdb

    begun = time.monotonic()
    try:
        connection.execute("BEGIN")
        known = not reload and has_metadata(connection, plan, context)
        state = read_state(connection, plan) if known else {}
        anew = not state
        lost = count_rows(connection, plan.table) if anew and not reload else 0
        extract = connector.extract(plan, context.source, Reading(root, scratch, connection, state, progress=on_fetch))
        if not extract.parts:
            return _result(connection, plan, "unchanged", 0, extract.notes, begun)
        on_size(extract.size)
        replace = anew or plan.mode == "replace"
        rows, shape = _load(connection, plan, context, extract, forget=anew, replace=replace)
        extract.verify()
        total = count_rows(connection, plan.table)
        state = {**extract.state, **_cursor_state(connection, plan, shape), "run": context.run}
        write_state(connection, plan, context, state, rows, total)
        before_commit()
        connection.execute("COMMIT")
        notes = (*extract.notes, *shape.notes, *_anew_note(lost, total))
    except duckdb.InterruptException as error:
        raise Interrupted(f"{plan.ref}: interrupted; its table is as it was before.") from error
    except duckdb.Error as error:
        raise _explain(plan, error) from error
    finally:
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
    return _result(connection, plan, "loaded", rows, notes, begun, total)


def _anew_note(before: int, now: int) -> tuple[str, ...]:
    """Rows that the source no longer has are gone then, so it must be said."""
    if not before:
        return ()
    return (f"loaded anew, as mode, cursor, table, schema or metadata changed: it had {before} rows, it has {now} now",)


def _load(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    context: LoadContext,
    extract: Extract,
    *,
    forget: bool,
    replace: bool,
) -> tuple[int, Shape]:
    import duckdb

    for exact in (False, True):
        try:
            shape = resolve(connection, plan, context, extract.parts, exact=exact, forget=forget)
            return write(connection, plan, context, extract, shape, replace=replace), shape
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            if exact or MISFIT not in str(error):
                raise _reading_error(plan, extract, error) from error
            connection.execute("ROLLBACK")  # DuckDB ends every statement after an error until then
            connection.execute("BEGIN")
    raise AssertionError("unreachable")


def _reading_error(plan: StreamPlan, extract: Extract, error: Exception) -> SmollError:
    if MISFIT in str(error):
        return LoadError(f"{plan.ref}: the source changed while it was read.", hint="Run again.")
    return _explain(plan, error) if _is_storage(error) else extract.explain(error)


def _is_storage(error: Exception) -> bool:
    return any(text in str(error) for text in ("No space left", "Could not write", "invalidated", "Out of Memory"))


def _explain(plan: StreamPlan, error: Exception) -> LoadError:
    text = str(error).splitlines()[0]
    if "Out of Memory" in text:
        return LoadError(f"{plan.ref}: {text}", hint="Raise `resources.memory` in smoll.yml.")
    if _is_storage(error):
        return LoadError(
            f"{plan.ref}: the warehouse cannot be written: {text}", hint="Free some space, then run again."
        )
    return LoadError(f"{plan.ref}: {text}")


def _cursor_state(connection: DuckDBPyConnection, plan: StreamPlan, shape: Shape) -> dict[str, str]:
    """The highest cursor value in the table, as text that the source compares alike. Files have no cursor state."""
    if plan.cursor is None or plan.has_files:
        return {}
    name = shape.quoted(plan.cursor)
    row = connection.execute(f"SELECT max({name})::VARCHAR FROM {plan.table.sql}").fetchone()
    return {"cursor": row[0], "column": plan.cursor} if row and row[0] is not None else {}


def _result(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    status: StreamStatus,
    rows: int,
    notes: Sequence[str],
    begun: float,
    total: int | None = None,
) -> StreamResult:
    total = count_rows(connection, plan.table) if total is None else total
    seconds = time.monotonic() - begun
    return StreamResult(plan.ref, plan.table, status, plan.mode, rows, total, seconds, tuple(notes))
