"""What a connector is: something that says which streams a source has, and lets DuckDB scan them.

A connector is a module in ``smoll.connectors`` with the functions of `Connector`, and one line in its registry.
It never writes: it hands SQL that yields rows to ``smoll.load``, which owns types, write modes and state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from smoll.errors import LoadError
from smoll.model import StreamRef, TableRef

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import Source

FILE_COLUMN = "__smoll_file"
"""The column of a part's SQL that names the file of each row, where the connector reads files."""

SCALARS = (
    "BIGINT",
    "DOUBLE",
    "DECIMAL",
    "BOOLEAN",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
    "VARCHAR",
)
"""The types that text is tried for, in this order: the first one that holds every value exactly wins."""


@dataclass(frozen=True)
class StreamPlan:
    """One stream as the configuration (and discovery) describe it, whatever its kind.

    ``options`` is the stream's own model of ``smoll.project``; only its connector looks into it. ``has_files``:
    the stream's rows come from files, and the table says from which.
    """

    ref: StreamRef
    table: TableRef
    mode: str
    key: tuple[str, ...]
    cursor: str | None
    columns: Mapping[str, str]
    options: Any
    has_files: bool = False


@dataclass(frozen=True)
class PartColumn:
    """A column that a part yields.

    ``type`` is its type in DuckDB, or None for text whose type is still to be found: then ``among`` are the
    types that it may become.
    """

    name: str
    type: str | None
    among: tuple[str, ...] = SCALARS


@dataclass(frozen=True)
class Part:
    """A piece of a stream that one SELECT can scan; all its rows have the same columns.

    ``label`` names stream and files, as messages begin.
    """

    sql: str
    columns: tuple[PartColumn, ...]
    label: str


@dataclass(frozen=True)
class Extract:
    """What is to be loaded from a stream now, and the state to store with it.

    ``replaces`` are the files whose earlier rows go (a changed file). ``verify`` is called after the scan and
    before the commit: it raises where the data changed while it was read. ``explain`` turns an error of the scan
    into one for people. ``size`` is an estimate of the rows, ``notes`` are for people. Without parts there is
    nothing new to load.
    """

    parts: Sequence[Part]
    explain: Callable[[Exception], LoadError]
    state: Mapping[str, Any] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()
    verify: Callable[[], None] = lambda: None
    size: int | None = None
    notes: tuple[str, ...] = ()


def apply_naming(source: Source, name: str) -> str:
    """The name that a table or column of the source gets in the warehouse, by the source's ``naming``."""
    return snake_case(name) if source.naming == "snake_case" else name


def snake_case(name: str) -> str:
    """``Order ID`` and ``orderId`` become ``order_id``; what is no letter or digit becomes one underscore."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"\W+", "_", parted).strip("_").lower() or "_"


def plan_stream(source: Source, ref: StreamRef, options: Any, *, has_files: bool = False) -> StreamPlan:
    """Make the plan of a stream from its options, with the table's name where they leave it out."""
    return StreamPlan(
        ref=ref,
        table=TableRef(source.schema_name, options.table or apply_naming(source, ref.stream)),
        mode=options.mode,
        key=options.key,
        cursor=options.cursor,
        columns=options.columns,
        options=options,
        has_files=has_files,
    )


class Connector(Protocol):
    """The functions of a connector module."""

    def discover(
        self, name: str, source: Source, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
    ) -> tuple[StreamPlan, ...]:
        """Return the source's streams. Asks the source only where the configuration says ``"*"``.

        `known` are the streams of earlier runs: they stand in for the answer of a source that cannot be reached.
        """
        ...

    def attach(
        self, name: str, source: Source, root: Path, connection: DuckDBPyConnection
    ) -> AbstractContextManager[None]:
        """Make the source reachable from the DuckDB connection, for the length of a ``with`` block."""
        ...

    def extract(
        self,
        plan: StreamPlan,
        source: Source,
        root: Path,
        state: Mapping[str, Any],
        connection: DuckDBPyConnection,
    ) -> Extract:
        """Return what to load, given the state of the last load ({} at first)."""
        ...

    def check(self, name: str, source: Source, root: Path, connection: DuckDBPyConnection) -> str:
        """Reach the source without loading; returns one line for people, raises LoadError."""
        ...
