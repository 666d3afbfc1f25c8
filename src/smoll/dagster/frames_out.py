"""Data frames as tables, by way of Arrow, chunk by chunk: no value changes on the way, or an error says which would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from smoll.dagster.frames_in import RELATION, ROWS, Kind, kind_of, need
from smoll.errors import LoadError
from smoll.interrupts import interruptible
from smoll.model import TableRef, quote

if TYPE_CHECKING:
    import pyarrow
    from duckdb import DuckDBPyConnection

MAY_RETURN = (
    "a pandas.DataFrame, a polars.DataFrame or LazyFrame, a pyarrow.Table or RecordBatchReader, "
    "a duckdb.DuckDBPyRelation, an iterator of these, or None"
)
_EXTENSIONS = {"arrow.uuid", "arrow.json", "arrow.bool8", "arrow.opaque"}
"""Arrow's extension types that DuckDB reads as what they are."""


def write(connection: DuckDBPyConnection, table: TableRef, value: Any, before_commit: Callable[[], None]) -> None:
    """Replace the table by the rows of the value, in one transaction.

    Parameters
    ----------
    connection
        That of the session, on which a relation is written that lives there. Everything else is written by another one,
        as it may stream from this one, and DuckDB would end the stream without a word.

    Raises
    ------
    LoadError
        The value is none of `MAY_RETURN`, has no columns or two of one name, or one that cannot be stored as it is.
    duckdb.Error
        DuckDB cannot write it. As after every exception, the table is as it was.
    """
    is_relation = kind_of(type(value)) == RELATION
    if is_relation:
        _check_names(value.columns)
        if _lives_on(connection, value):
            with _transaction(connection, table, before_commit):
                interruptible(connection, lambda: _create(connection, table, value))
            return
    with closing(connection.cursor()) as own, _transaction(own, table, before_commit):
        chunks = _checked(_chunks(value))
        _create(own, table, next(chunks))
        if is_relation:
            _check_types(own, table, value)
        for chunk in chunks:
            _append(own, table, chunk)


@contextmanager
def _transaction(connection: DuckDBPyConnection, table: TableRef, before_commit: Callable[[], None]) -> Iterator[None]:
    import duckdb

    connection.execute("SET enable_progress_bar = false")  # DuckDB prints one where it takes seconds
    connection.execute("BEGIN")
    try:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
        yield
        before_commit()
        connection.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # an error may have ended it
            connection.execute("ROLLBACK")
        raise


def _create(connection: DuckDBPyConnection, table: TableRef, _smoll_rows: Any) -> None:
    connection.execute(f"CREATE OR REPLACE TABLE {table.sql} AS SELECT * FROM _smoll_rows")


def _append(connection: DuckDBPyConnection, table: TableRef, _smoll_rows: Any) -> None:
    """DuckDB finds a variable by its name, where no table has it."""
    connection.execute(f"INSERT INTO {table.sql} SELECT * FROM _smoll_rows")


def _lives_on(connection: DuckDBPyConnection, _smoll_rows: Any) -> bool:
    """True where the relation belongs to the connection; DuckDB says so when it is asked to read it."""
    import duckdb

    try:
        connection.sql("SELECT * FROM _smoll_rows")
    except duckdb.InvalidInputException:
        return False
    return True


def _check_types(connection: DuckDBPyConnection, table: TableRef, relation: Any) -> None:
    """Refuse a relation of another database that has lost a type on its way through Arrow."""
    stored = [str(kind) for kind in connection.table(table.sql).types]
    for name, kind, found in zip(relation.columns, map(str, relation.types), stored, strict=True):
        if kind != found:
            raise LoadError(
                f"Column {name!r} is of the type {kind} and would become {found}: the relation is not one of the "
                "project's warehouse.",
                hint=f"Cast it to {found}, or make the relation from an input.",
            )


# --- what an asset gave, as Arrow tables ----------------------------------------------------------------------------


def _chunks(value: Any) -> Iterator[pyarrow.Table]:
    """The value in chunks of some thousand rows; one without rows where it has none."""
    if value is None or isinstance(value, type):
        raise _unknown(value)
    kind = kind_of(type(value)) or (("pyarrow", "RecordBatch") if type(value).__name__ == "RecordBatch" else None)
    if kind is not None:
        need("pyarrow")
        yield from _CHUNKS[kind](value)
    elif isinstance(value, Iterator):
        for one in value:
            if isinstance(one, Iterator) and kind_of(type(one)) is None:
                raise _unknown(one)
            yield from _chunks(one)
    else:
        raise _unknown(value)


def _unknown(value: Any) -> LoadError:
    found = type(value)
    return LoadError(f"It gave a {found.__module__}.{found.__qualname__}.", hint=f"It may give {MAY_RETURN}.")


def _of_pandas(frame: Any) -> Iterator[pyarrow.Table]:
    import pyarrow as pa

    _check_names(list(frame.columns))
    named = [str(name) for name in frame.index.names if name is not None]
    if named:
        raise LoadError(f"The index of the frame ({', '.join(named)}) would be lost.", hint="Call reset_index().")
    for name in frame.columns:
        if frame[name].dtype == object:
            _check_objects(name, frame[name])
    with _saying_why():
        schema = pa.Schema.from_pandas(frame, preserve_index=False)
    for start in range(0, len(frame) or 1, ROWS):
        with _saying_why():
            part = pa.Table.from_pandas(frame.iloc[start : start + ROWS], schema=schema, preserve_index=False)
        yield part


def _check_objects(name: str, column: Any) -> None:
    """Arrow takes the first value's type for all where it can: a time of day is cut from what stands among dates."""
    import pandas as pd

    if pd.api.types.infer_dtype(column, skipna=True) == "string":  # as most are, and it knows quickly
        return
    found = {
        (type(value).__name__, getattr(value, "tzinfo", None) is not None) for value in column if not _is_missing(value)
    }
    if len(found) > 1:
        kinds = sorted(f"{kind} with a time zone" if zoned else kind for kind, zoned in found)
        raise LoadError(
            f"Column {name!r} holds values of several types: {', '.join(kinds)}.",
            hint=f"Give it one, for example frame[{name!r}] = frame[{name!r}].astype('string').",
        )


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _of_polars(frame: Any) -> Iterator[pyarrow.Table]:
    import polars as pl

    objects = [name for name, kind in frame.schema.items() if kind == pl.Object]
    if objects:  # Arrow would get their addresses in memory
        raise LoadError(f"Column {objects[0]!r} holds Python objects.", hint="Convert them.")
    for start in range(0, frame.height or 1, ROWS):
        with _saying_why():
            part = frame.slice(start, ROWS).to_arrow()
        yield part


def _of_lazy(frame: Any) -> Iterator[pyarrow.Table]:
    import polars as pl

    yield pl.DataFrame(schema=frame.collect_schema()).to_arrow()
    for part in frame.collect_batches(chunk_size=ROWS):
        yield from _of_polars(part)


def _of_arrow(table: Any) -> Iterator[pyarrow.Table]:
    for start in range(0, table.num_rows or 1, ROWS):
        yield table.slice(start, ROWS)


def _of_batch(batch: Any) -> Iterator[pyarrow.Table]:
    import pyarrow as pa

    yield pa.Table.from_batches([batch])


def _of_stream(stream: Any) -> Iterator[pyarrow.Table]:
    import pyarrow as pa

    yield stream.schema.empty_table()
    for batch in stream:
        yield pa.Table.from_batches([batch])


def _of_relation(relation: Any) -> Iterator[pyarrow.Table]:
    yield from _of_stream(relation.to_arrow_reader(ROWS))


_CHUNKS: Mapping[Kind, Callable[[Any], Iterator[pyarrow.Table]]] = {
    ("pandas", "DataFrame"): _of_pandas,
    ("polars", "DataFrame"): _of_polars,
    ("polars", "LazyFrame"): _of_lazy,
    ("pyarrow", "Table"): _of_arrow,
    ("pyarrow", "RecordBatch"): _of_batch,
    ("pyarrow", "RecordBatchReader"): _of_stream,
    RELATION: _of_relation,
}


# --- what DuckDB would change, or guess -----------------------------------------------------------------------------


def _checked(chunks: Iterator[pyarrow.Table]) -> Iterator[pyarrow.Table]:
    """The chunks, with the names and the types of the first one."""
    import pyarrow as pa

    schema: pyarrow.Schema | None = None
    for number, chunk in enumerate(chunks, 1):
        if schema is None:
            _check_names(chunk.column_names)
            schema = pa.schema([(field.name, _stored_type(field.name, field.type)) for field in chunk.schema])
        _check_same(schema, chunk.schema, number)
        with _saying_why():
            cast = chunk.cast(schema)
        yield cast
    if schema is None:
        raise LoadError("It gave no frame at all, so its columns are not known.", hint="Give one without rows.")


def _check_names(names: Sequence[Any]) -> None:
    """Refuse what DuckDB would rename: it does not tell A from a."""
    if not names:
        raise LoadError("The frame has no columns.", hint="A frame may be without rows, but a table has columns.")
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise LoadError(f"The name of a column is {wrong[0]!r}.", hint="Names are texts: rename it.")
    counted = Counter(name.lower() for name in names)
    twice = [name for name in names if counted[name.lower()] > 1]
    if twice:
        raise LoadError(f"Columns have the same name: {', '.join(map(repr, twice))}.", hint="Rename one of them.")


def _check_same(schema: pyarrow.Schema, found: pyarrow.Schema, number: int) -> None:
    import pyarrow as pa

    if schema.names != found.names:
        raise LoadError(
            f"Chunk {number} has the columns {', '.join(found.names)}, the first one {', '.join(schema.names)}."
        )
    for field, other in zip(schema, found, strict=True):
        if not pa.types.is_null(other.type) and _stored_type(other.name, other.type) != field.type:
            raise LoadError(
                f"Column {field.name!r} is {other.type} in chunk {number} and {field.type} in the first one.",
                hint="Give it the same type in every chunk.",
            )


def _stored_type(name: str, kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type by which DuckDB stores the values as they are. What it has no type for is refused."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _stored_type(name, kind.value_type)
    if pa.types.is_timestamp(kind) and kind.unit == "ns" and kind.tz:  # cast with care: DuckDB cuts them off
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):  # polars has no other
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal256(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    _check_storable(name, kind)
    return kind


def _check_storable(name: str, kind: pyarrow.DataType) -> None:
    import pyarrow as pa

    if pa.types.is_null(kind):
        raise LoadError(
            f"Column {name!r} holds nothing that tells its type.",
            hint="Give it one, for example by astype('string') of pandas or cast(polars.String) of polars.",
        )
    unknown = isinstance(kind, pa.BaseExtensionType) and kind.extension_name not in _EXTENSIONS
    if unknown or pa.types.is_decimal256(kind):
        raise LoadError(f"Column {name!r} is of the type {kind}, which DuckDB does not have.", hint="Convert it.")
    for child in [kind.field(number) for number in range(kind.num_fields)]:
        if not pa.types.is_dictionary(child.type) and _stored_type(name, child.type) != child.type:
            raise LoadError(
                f"Column {name!r} is of the type {kind}, of which DuckDB would change the {child.type}.",
                hint="Convert it.",
            )


@contextmanager
def _saying_why() -> Iterator[None]:
    """Explain what Arrow says of a value that does not fit: it is told in a TypeError as well as in its own errors."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        said = "; ".join(str(part) for part in error.args)
        raise LoadError(f"A column cannot be stored as it is: {said}.", hint="Give it one type.") from error
    except BaseException as error:  # polars' panics
        if type(error).__name__ == "PanicException":
            raise LoadError(f"A column cannot be stored as it is: {error}.") from error
        raise
