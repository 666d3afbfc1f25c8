"""The load of one stream, or of several together: read the state, fix the types, write, account for every row, commit.

The first attempt casts strictly to the types that are stored, or guessed from the first rows. Only where a value
misses is every value looked at, and the transaction begun again with the types found. See `smoll.load.types` for why
the outcome is the same as looking at every value always.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connector import (
    FILE_COLUMN,
    Connector,
    Damage,
    Extract,
    ExtractAll,
    Part,
    Reading,
    StreamPlan,
    apply_naming,
)
from smoll.errors import Interrupted, LoadError, SmollError, disk_hint
from smoll.load.columns import Shape, resolve
from smoll.load.guard import refuse_shrink
from smoll.load.rejects import prepare_rejected, refuse_bad_rows, refuse_too_many, reject_bad_rows, reject_damage
from smoll.load.rows import good_rows, strict_rows
from smoll.load.table import LoadContext, count_live, count_rows, has_metadata, read_state, write_state
from smoll.load.types import MISFIT
from smoll.load.write import remove_gone, write
from smoll.model import StreamRef, StreamResult, StreamStatus, TableRef, quote
from smoll.state.position import position
from smoll.warehouse import columns_of, end_aborted, is_disk_trouble, reason_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


_WITH_INFINITY = ("DOUBLE", "FLOAT", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


@dataclass(frozen=True)
class _Loaded:
    """What an attempt wrote: rows read and written, those rejected, and the columns as they are now."""

    read: int
    written: int
    rejected: int
    shape: Shape


class _Miscounted(Exception):
    """The scan gave another number of records than the count of them."""


def load_stream(
    connection: DuckDBPyConnection,
    connector: Connector,
    plan: StreamPlan,
    context: LoadContext,
    reading: Reading,
    *,
    reload: bool,
    before_commit: Callable[[], None],
    on_size: Callable[[int | None], None] = lambda rows: None,
) -> StreamResult:
    """Load one stream in one transaction. Its table is either as before or complete.

    Parameters
    ----------
    connection
        A cursor of the warehouse that nobody else uses meanwhile; no transaction is open on it.
    reading
        What the connector reads with; its state is filled in here.
    reload
        Forget state and types: read everything and replace the table.
    before_commit
        Called when all is written and nothing is committed; what it raises rolls the load back.
    on_size
        Told how many rows to expect, where that is known.

    Raises
    ------
    LoadError
        The source could not be read, a value fits no permitted type, or the rows do not add up.
    Interrupted
        The connection was interrupted.
    """
    begun = time.monotonic()
    with transaction(connection, plan):
        state = known_state(connection, plan, context, reload=reload)
        extract = connector.extract(plan, context.source, replace(reading, state=state))
        on_size(extract.size)
        write = _Writing(plan, extract, state, reading.scratch, not state, reload, before_commit)
        return _write_all(connection, [write], context, begun)[0]


def load_together(
    connection: DuckDBPyConnection,
    extract_all: ExtractAll,
    plans: Sequence[StreamPlan],
    context: LoadContext,
    readings: Mapping[StreamRef, Reading],
    *,
    reload: Set[StreamRef],
    before_commit: Callable[[TableRef], None],
) -> list[StreamResult]:
    """Load several streams of one source, and whatever tables come with them, in one transaction.

    Raises
    ------
    LoadError, Interrupted
        As `load_stream`; every table is as it was before.
    """
    begun = time.monotonic()
    with transaction(connection, plans[0]):
        states = {plan.ref: known_state(connection, plan, context, reload=plan.ref in reload) for plan in plans}
        readings = {ref: replace(reading, state=states[ref]) for ref, reading in readings.items()}
        writings, failed = [], []
        for ref, (plan, extract) in extract_all(plans, context.source, readings).items():
            if isinstance(extract, LoadError):
                failed.append(StreamResult(ref, plan.table, "failed", plan.mode, error=str(extract)))
                continue
            if ref in readings:
                state, again, scratch = states[ref], ref in reload, readings[ref].scratch
                anew = not state
            else:  # a table that came with another one
                anew = not has_metadata(connection, plan, context) or plan.mode == "replace"
                state, again, scratch = {}, True, readings[plans[0].ref].scratch
            writings.append(_Writing(plan, extract, state, scratch, anew, again, partial(before_commit, plan.table)))
        try:
            results = _write_all(connection, writings, context, begun)
        except StreamError as error:
            if not error.passes:
                for writing in writings:
                    writing.extract.refused()
            raise
    for writing in writings:
        writing.extract.committed()
    return results + failed


@contextmanager
def transaction(connection: DuckDBPyConnection, plan: StreamPlan) -> Iterator[None]:
    """Commit what the block did, or nothing of it. Errors of DuckDB become those of the stream."""
    import duckdb

    try:
        connection.execute("BEGIN")
        yield
        connection.execute("COMMIT")
    except duckdb.InterruptException as error:
        raise Interrupted(f"{plan.ref}: interrupted; its table is as it was before.") from error
    except duckdb.Error as error:
        raise _explain(plan, error) from error
    finally:
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")


def known_state(
    connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, *, reload: bool
) -> dict[str, Any]:
    """The state that the load goes on from; {} where it begins anew."""
    if reload or not has_metadata(connection, plan, context):
        return {}
    return read_state(connection, plan)


class _Again(Exception):
    """A stream must be read otherwise than in this attempt, and what was written is to be written anew."""


@dataclass
class _Writing:
    """An extract on its way into its table, and how the next attempt reads it.

    Parameters
    ----------
    state
        The state that this load goes on from; {} for a table that came with another one.
    scratch
        A folder for what has to be written aside.
    anew
        The stream has no state that this load goes on from: its table is built from nothing.
    reload
        The rows that the table has do not count.
    before_commit
        Called when all is written and nothing is committed.
    exact
        Look at every value, and not only at those that the types are guessed from.
    described
        Take the parts as all of their records describe them.
    careful
        Look at every record by itself.
    counted
        The parts whose records are counted in another way than by the scan.
    damage
        What cannot be read of the other parts; None as long as nobody has looked with care.
    """

    plan: StreamPlan
    extract: Extract
    state: Mapping[str, Any]
    scratch: Path
    anew: bool
    reload: bool
    before_commit: Callable[[], None]
    exact: bool = False
    described: bool = False
    careful: bool = False
    damage: Sequence[Damage] | None = None

    def __post_init__(self) -> None:
        self.parts = self.counted = self.extract.parts


def _write_all(
    connection: DuckDBPyConnection, writings: Sequence[_Writing], context: LoadContext, begun: float
) -> list[StreamResult]:
    """Write extracts and their states, inside a transaction, which is begun anew until each is read as it must be."""
    while True:
        try:
            for writing in writings:  # before anything is written: this may end an aborted transaction
                with _naming(writing):
                    _prepare(writing)
            results = []
            for writing in writings:
                with _naming(writing):
                    results.append(_write_extract(connection, writing, context, begun))
            return results
        except _Again:
            end_aborted(connection)  # DuckDB refuses every statement after an error until then


class StreamError(LoadError):
    """One of several streams that are loaded together failed, and so none of them was loaded."""

    def __init__(self, stream: StreamRef, error: LoadError) -> None:
        super().__init__(error.message, hint=error.hint)
        self.stream = stream
        self.passes = error.__cause__ is not None and _is_storage(error.__cause__)  # more room, and it goes on


@contextmanager
def _naming(writing: _Writing) -> Iterator[None]:
    try:
        yield
    except LoadError as error:
        raise StreamError(writing.plan.ref, error) from error


def _prepare(writing: _Writing) -> None:
    """Describe the parts anew where they must be, and look at them with care where the scan would fail."""
    if writing.damage is not None:  # nothing is left to look at with more care
        return
    if writing.described or writing.careful or any(part.broken for part in writing.parts):
        writing.parts = writing.counted = [part.describe() if part.describe else part for part in writing.parts]
    if writing.careful or any(part.broken for part in writing.parts):
        _look_with_care(writing)


def _write_extract(
    connection: DuckDBPyConnection, writing: _Writing, context: LoadContext, begun: float
) -> StreamResult:
    plan, extract, anew, reload = writing.plan, writing.extract, writing.anew, writing.reload
    follows = bool(extract.gone) and plan.deletes != "ignore"
    if not extract.parts and not follows:
        return replace(_result(connection, plan, "unchanged", extract.notes, begun), cursor=position(writing.state))
    before = count_live(connection, plan, context) if columns_of(connection, plan.table) and not reload else 0
    if anew and before:
        _keep_history(connection, plan, context)
    if extract.parts:
        loaded = _load(connection, writing, context)
    else:
        prepare_rejected(connection, plan, context, extract, anew=False)
        remove_gone(connection, plan, context, extract)
        loaded = _Loaded(0, 0, 0, Shape({}, {}, {}))
    extract.verify()
    if anew or (plan.mode in ("replace", "append") and not context.span):  # a changed file may have lost its rows
        refuse_shrink(plan, before, count_live(connection, plan, context), loaded.rejected)
    notes = [*extract.notes, *loaded.shape.notes]
    total = count_rows(connection, plan.table)
    if anew and before:
        notes.append(
            "loaded anew, as there was no state to go on from (mode, key, cursor, table, schema or metadata changed, "
            f"or it was reset): it had {before} rows, it has {total} now"
        )
    waits = bool(loaded.rejected) and plan.deletes != "ignore" and not extract.settled
    if waits:
        notes.append("rows were rejected, so no row was taken for deleted in this load")
    result = _result(connection, plan, "loaded", notes, begun, loaded)
    cursor = _cursor_state(connection, plan, context, anew=anew)
    state = {**extract.state, **cursor, "key": list(plan.key), "run": context.run}
    if waits and plan.mode == "merge" and "files" in state:  # what is gone is looked for again next time
        state["files"] = {**state["files"], **{name: [] for name in extract.gone}}
    result = replace(result, cursor=position(state))
    write_state(connection, plan, context, state, result)
    writing.before_commit()
    return result


def _keep_history(connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext) -> None:
    """Refuse to build a history anew that the source cannot give back."""
    there = {column.name.lower() for column in columns_of(connection, plan.table)}
    if plan.mode == "scd2" and context.source.metadata.valid_from.lower() in there:
        raise LoadError(
            f"{plan.ref}: key, cursor, metadata or state changed, and the history of {plan.table} would be lost.",
            hint=f"Change it back. To begin the history anew: smoll run --reload {plan.ref}",
        )


def _load(connection: DuckDBPyConnection, writing: _Writing, context: LoadContext) -> _Loaded:
    """Make one attempt. Where it fails, and there is another way to read, say so by `_Again`."""
    import duckdb

    describable = any(part.describe for part in writing.parts)
    try:
        return _attempt(connection, writing, context)
    except duckdb.InterruptException:
        raise
    except LoadError:
        if not describable:
            raise
        writing.described = True
    except (duckdb.Error, UnicodeDecodeError, _Miscounted) as error:  # DuckDB cuts texts in the middle of a letter
        missed = MISFIT in str(error)
        careful = writing.damage is None and any(part.salvage for part in writing.parts)
        if (missed and writing.exact) or _is_storage(error) or not (describable or missed or careful):
            raise _reading_error(writing.plan, writing.extract, error) from error
        writing.exact = writing.exact or missed
        writing.described = writing.described or describable
        writing.careful = not (describable or missed)
    raise _Again


def _look_with_care(writing: _Writing) -> None:
    """Look at every record of the parts that can be salvaged. Raises LoadError where bad rows fail the load."""
    parts: list[Part] = []
    whole: list[Part] = []
    found: list[Damage] = []
    for number, part in enumerate(writing.parts):
        if part.salvage is None:
            whole.append(part)
            parts.append(part)
            continue
        folder = writing.scratch / f"part{number}"
        folder.mkdir()
        damage = part.salvage(folder)
        if damage.first and writing.plan.options.on_bad_row == "fail":
            rest = damage.count - 1
            more = f" ({'1 more record is' if rest == 1 else f'{rest:,} more records are'} bad.)" if rest else ""
            raise LoadError(f"{damage.first.message}{more}", hint=damage.first.hint)
        found.append(damage)
        parts.extend(damage.parts or [Part(f"SELECT '' AS {quote(FILE_COLUMN)} WHERE false", (), part.label)])
    writing.parts, writing.counted, writing.damage = parts, whole, found


def _attempt(connection: DuckDBPyConnection, writing: _Writing, context: LoadContext) -> _Loaded:
    plan, extract, parts, damages = writing.plan, writing.extract, writing.parts, writing.damage or ()
    counts = [part.records() if part.records else lambda: None for part in writing.counted]
    shape = resolve(connection, plan, context, parts, exact=writing.exact, forget=writing.anew)
    prepare_rejected(connection, plan, context, extract, anew=writing.anew)
    rejected, select = 0, strict_rows
    if writing.exact and shape.bound:
        if shape.frozen:
            refuse_bad_rows(connection, plan, shape, parts, frozen=True)
        if plan.options.on_bad_row == "fail":
            refuse_bad_rows(connection, plan, shape, parts)
        else:
            rejected = reject_bad_rows(connection, plan, context, shape, parts, writing.scratch)
            select = good_rows if rejected else strict_rows
    for damage in damages:
        if damage.count:
            reject_damage(connection, plan, context, damage)
    rejected += sum(damage.count for damage in damages)
    read, written = write(
        connection,
        plan,
        context,
        extract,
        parts,
        shape,
        lambda part: select(plan, context, shape, part),
        replace=writing.anew or plan.mode == "replace",
        rejects=rejected > 0,
    )
    read += rejected
    counted = [count() for count in counts]
    if None not in counted:
        _refuse_miscount(list(filter(None, counted)), sum(damage.records for damage in damages), read)
    refuse_too_many(connection, plan, context, rejected, read)
    return _Loaded(read, written, rejected, shape)


def _refuse_miscount(counted: Sequence[int], looked_at: int, read: int) -> None:
    """Raise `_Miscounted` where the records of the parts, counted otherwise, are not those that were read."""
    if -1 in counted:
        raise _Miscounted(f"a file is damaged (its end or its checksum), and {read:,} records were read")
    if sum(counted) + looked_at != read:
        raise _Miscounted(f"the source has {sum(counted) + looked_at:,} records, and {read:,} records were read")


def _reading_error(plan: StreamPlan, extract: Extract, error: Exception) -> SmollError:
    if isinstance(error, _Miscounted):
        return LoadError(
            f"{plan.ref}: {error}; nothing was loaded.",
            hint="Run again; where it stays so, the source cannot be read reliably, and we would like to know of it.",
        )
    if MISFIT in str(error):
        return LoadError(f"{plan.ref}: the source changed while it was read.", hint="Run again.")
    return _explain(plan, error) if _is_storage(error) else extract.explain(error)


def _is_storage(error: BaseException) -> bool:
    import duckdb

    if isinstance(error, duckdb.InvalidInputException):  # about the data, and with words of it
        return False
    return "Out of Memory" in str(error) or is_disk_trouble(error)


def _explain(plan: StreamPlan, error: Exception) -> LoadError:
    text = str(error).splitlines()[0]
    if "Out of Memory" in text:
        return LoadError(f"{plan.ref}: {text}", hint="Raise `resources.memory` in smoll.yml.")
    if _is_storage(error):
        hint = disk_hint(error) or "Run again."
        return LoadError(f"{plan.ref}: the warehouse cannot be written: {reason_of(error)}", hint=hint)
    return LoadError(f"{plan.ref}: {text}")


def _cursor_state(
    connection: DuckDBPyConnection, plan: StreamPlan, context: LoadContext, *, anew: bool
) -> dict[str, str]:
    """The highest cursor value in the table, as text that the source compares alike, and its column.

    A load of a range says nothing of the rows between the cursor so far and the range: the cursor stays.
    """
    if not plan.by_cursor or plan.cursor is None:
        return {}
    if context.span:
        known = {} if anew else read_state(connection, plan)
        return {name: known[name] for name in ("cursor", "column") if name in known}
    name = apply_naming(context.source, plan.cursor)
    kinds = {column.name.lower(): column.type for column in columns_of(connection, plan.table)}
    # Nothing is higher than NaN or infinity: as the cursor it would be the last one.
    finite = f" FILTER (isfinite({quote(name)}))" if kinds.get(name.lower()) in _WITH_INFINITY else ""
    row = connection.execute(f"SELECT CAST(max({quote(name)}){finite} AS VARCHAR) FROM {plan.table.sql}").fetchone()
    return {"cursor": row[0], "column": plan.cursor} if row and row[0] is not None else {}


def _result(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    status: StreamStatus,
    notes: Sequence[str],
    begun: float,
    loaded: _Loaded | None = None,
) -> StreamResult:
    return StreamResult(
        plan.ref,
        plan.table,
        status,
        plan.mode,
        rows=loaded.written if loaded else 0,
        total=count_rows(connection, plan.table),
        seconds=time.monotonic() - begun,
        notes=tuple(notes),
        read=loaded.read if loaded else 0,
        rejected=loaded.rejected if loaded else 0,
    )
