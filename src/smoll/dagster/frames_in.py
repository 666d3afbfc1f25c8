"""Tables as data frames, by way of Arrow.

pandas, polars and pyarrow are imported where somebody asks for one of their types, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from smoll.errors import LoadError
from smoll.model import Column, TableRef, quote

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from smoll.dagster.session import Session

ROWS = 122_880
"""Rows of a chunk: a row group of DuckDB's."""
Kind = tuple[str, str]
"""A type by the package and the name that it has in it."""
RELATION: Kind = ("duckdb", "DuckDBPyRelation")
_FOR_FRAMES = {
    "HUGEINT": "BIGINT",  # what sum() gives and no frame has; a value that does not fit is an error
    "UHUGEINT": "UBIGINT",
    "TIME WITH TIME ZONE": "VARCHAR",  # Arrow would lose the zone
    "BIT": "VARCHAR",
}


def kind_of(found: type) -> Kind | None:
    """The type, or one that it is made of, if it is one of a package that frames come from."""
    for base in found.__mro__:
        kind = (base.__module__.split(".")[0].lstrip("_"), base.__name__)
        if kind in READ:
            return kind
    return None


def read(session: Session, table: TableRef, columns: Sequence[Column], kind: Kind) -> Any:
    """The rows of a table as one of `READ`.

    A relation lives on the session's own connection, so that relations can be joined. Everything else has a connection
    to itself: DuckDB ends what streams from one, without a word, as soon as another query runs on it.

    Raises
    ------
    LoadError
        A package is missing, or it has no type for a column.
    """
    return READ[kind](session, _select(table, columns, for_frames=kind != RELATION), columns)


def _select(table: TableRef, columns: Sequence[Column], *, for_frames: bool) -> str:
    parts = []
    for column in columns:
        name, kind = quote(column.name), _FOR_FRAMES.get(column.type) if for_frames else None
        parts.append(f"CAST({name} AS {kind}) AS {name}" if kind else name)
    return f"SELECT {', '.join(parts)} FROM {table.sql}"


def _relation(session: Session, select: str, columns: Sequence[Column]) -> Any:
    return session.warehouse().sql(select)


def _arrow(session: Session, select: str, columns: Sequence[Column]) -> pyarrow.Table:
    need("pyarrow")
    with closing(session.warehouse().cursor()) as cursor:
        return cursor.sql(select).to_arrow_table()


def _stream(session: Session, select: str, columns: Sequence[Column]) -> pyarrow.RecordBatchReader:
    need("pyarrow")
    cursor = session.keep(session.warehouse().cursor())
    return session.keep(cursor.sql(select).to_arrow_reader(ROWS))


def _pandas(session: Session, select: str, columns: Sequence[Column]) -> pandas.DataFrame:
    """With pandas' nullable types, and Arrow's where it has none: a whole number stays one beside a NULL."""
    _refuse_types(columns, "pandas", "INTERVAL", "UNION")
    found = _arrow(session, select, columns)
    import pandas as pd
    import pyarrow as pa

    own = {pa.from_numpy_dtype(dtype.numpy_dtype): dtype for dtype in _nullable(pd)} | {pa.string(): pd.StringDtype()}

    def dtype_for(kind: pyarrow.DataType) -> Any:
        if pa.types.is_timestamp(kind) or pa.types.is_dictionary(kind):
            return None  # pandas has these
        return own.get(kind) or pd.ArrowDtype(kind)

    return found.to_pandas(types_mapper=dtype_for, split_blocks=True, self_destruct=True)


def _nullable(pd: Any) -> list[Any]:
    whole = [getattr(pd, f"{sign}Int{bits}Dtype")() for sign in ("", "U") for bits in (8, 16, 32, 64)]
    return [*whole, pd.Float32Dtype(), pd.Float64Dtype(), pd.BooleanDtype()]


def _polars(session: Session, select: str, columns: Sequence[Column]) -> polars.DataFrame:
    _refuse_types(columns, "polars", "INTERVAL", "UNION")
    found = _arrow(session, select, columns)
    import polars as pl

    frame = pl.from_arrow(found)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _lazy(session: Session, select: str, columns: Sequence[Column]) -> polars.LazyFrame:
    """Reads the columns that the plan asks for, when it is collected; each time on a connection of its own."""
    schema = _polars(session, f"{select} LIMIT 0", columns).schema
    import polars as pl
    from polars.io.plugins import register_io_source

    def rows(
        names: list[str] | None, where: polars.Expr | None, limit: int | None, size: int | None
    ) -> Iterator[polars.DataFrame]:
        wanted = "*" if names is None else ", ".join(map(quote, names)) or "NULL"
        ask = f"SELECT {wanted} FROM ({select})" + (f" LIMIT {limit}" if limit is not None else "")
        with closing(session.warehouse().cursor()) as cursor, cursor.sql(ask).to_arrow_reader(size or ROWS) as stream:
            for batch in stream:
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame if where is None else frame.filter(where)

    return register_io_source(rows, schema=schema)


def need(package: str) -> None:
    """Import what frames go through. Raises LoadError where it is not installed."""
    try:
        __import__(package)
    except ImportError as error:
        raise LoadError(f"{package} is not installed.", hint=f"pip install {package}") from error


def _refuse_types(columns: Sequence[Column], package: str, *types: str) -> None:
    for column in columns:
        if any(found in column.type for found in types):
            raise LoadError(
                f"Column {column.name!r} is of the type {column.type}, which {package} does not have.",
                hint="Take a duckdb.DuckDBPyRelation, or leave the column out: "
                "dg.AssetIn(metadata={'columns': [...]}).",
            )


READ: Mapping[Kind, Callable[[Session, str, Sequence[Column]], Any]] = {
    ("pandas", "DataFrame"): _pandas,
    ("polars", "DataFrame"): _polars,
    ("polars", "LazyFrame"): _lazy,
    ("pyarrow", "Table"): _arrow,
    ("pyarrow", "RecordBatchReader"): _stream,
    RELATION: _relation,
}
"""What an asset may take."""
