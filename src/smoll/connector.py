"""What a connector is: something that says which streams a source has, and lets DuckDB scan them.

A connector is a module in ``smoll.connectors`` with the functions of `Connector`, and one line in its registry.
It never writes: it hands SQL that yields rows to ``smoll.load``, which owns types, write modes and state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from smoll.errors import LoadError
from smoll.model import StreamRef, TableRef

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProgramBase, Source

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
class Parent:
    """The table whose rows a child table's rows belong to, by ``id`` there and ``reference`` in the child."""

    table: TableRef
    id: str
    reference: str


@dataclass(frozen=True)
class StreamPlan:
    """One stream as the configuration (and discovery) describe it, whatever its kind.

    ``options`` is the stream's own model of ``smoll.project``: what every kind has (`smoll.project.Stream`) is for
    the load, the rest only for its connector. ``has_files``: the stream's rows come from files, and the table says
    from which. ``by_cursor``: what is loaded already is known by the cursor's highest value, and not by the files.
    ``parent``: rows whose row of that table is gone go, too. ``about`` is what the source itself says of the stream,
    for its connector.
    """

    ref: StreamRef
    table: TableRef
    mode: str
    key: tuple[str, ...]
    cursor: str | None
    columns: Mapping[str, str]
    options: Any
    deletes: str = "ignore"
    has_files: bool = False
    by_cursor: bool = False
    parent: Parent | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PartColumn:
    """A column that a part yields.

    ``type`` is its type in DuckDB, or None for text whose type is still to be found: then ``among`` are the
    types that it may become, and ``declared`` is its type as long as it has no value. ``guard`` is SQL with ``{0}`` for
    the text, and not NULL: false where a text may not be what the source has. A text that is a whole number, and
    becomes one, is not asked.
    """

    name: str
    type: str | None
    among: tuple[str, ...] = SCALARS
    guard: str = ""
    declared: str = ""


@dataclass(frozen=True)
class Part:
    """A piece of a stream that one SELECT can scan; all its rows have the same columns.

    Parameters
    ----------
    label
        Stream and files, as messages begin.
    files
        The names of the files that are scanned, in this order.
    locate
        Finds records again, for messages and rejected rows: given the name of a file and numbers of records in it
        (from 1, ascending), it yields for each its line and its raw text. Without it a record's number stands for
        its line, and its values as JSON for its text.
    records
        Begins to count the records by another way than the scan, and returns what waits for the answer: -1 where the
        source is damaged, None where it cannot tell. Without it the scan is the only witness.
    salvage
        Called, with an empty folder, where the scan fails or the count differs: looks at every record with care and
        returns what to scan instead. Raises LoadError where that cannot help.
    broken
        Known before the scan: it would fail.
    describe
        The part is described by its first records, and its scan fails at one that differs: describes it by all of
        them. Without it that is done already.
    """

    sql: str
    columns: tuple[PartColumn, ...]
    label: str
    files: tuple[str, ...] = ()
    locate: Callable[[str, Sequence[int]], Iterator[tuple[int, str]]] | None = None
    records: Callable[[], Callable[[], int | None]] | None = None
    salvage: Callable[[Path], Damage] | None = None
    broken: bool = False
    describe: Callable[[], Part] | None = None


@dataclass(frozen=True)
class Damage:
    """What can be read of a part that has damaged records, and the records that cannot.

    ``rejected`` is a SELECT of the columns ``file``, ``line``, ``column_name``, ``reason`` and ``raw``, one row for
    each record that cannot be read at all; ``count`` says how many there are, of ``records`` in all, and ``first``
    describes the first one.
    """

    parts: Sequence[Part]
    records: int
    rejected: str = ""
    count: int = 0
    first: LoadError | None = None


@dataclass(frozen=True)
class Extract:
    """What is to be loaded from a stream now, and the state to store with it.

    Without parts there is nothing new to load.

    Parameters
    ----------
    explain
        Turns an error of the scan into one for people.
    replaces
        Files whose earlier rows go (a changed file).
    gone
        Files that were loaded and are no more; the stream's ``deletes`` says what becomes of their rows.
    complete
        The parts are everything that the source has now: a key that is not among them is deleted there.
    settled
        No file is new or changed: only that files are gone is new.
    keys
        All keys that the source has now, where the parts are not complete and ``deletes`` asks for them.
    since
        Only rows at or beyond this cursor value (as text) were read, and those without a value. None: no such limit.
    verify
        Called after the scan and before the commit: raises where the data changed while it was read.
    committed, refused
        Called once all of it is committed, or once the load has refused what was read, and would do so again.
    size
        An estimate of the rows.
    notes
        For people.
    """

    parts: Sequence[Part]
    explain: Callable[[Exception], LoadError]
    state: Mapping[str, Any] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    complete: bool = False
    settled: bool = False
    keys: Part | None = None
    since: str | None = None
    verify: Callable[[], None] = lambda: None
    committed: Callable[[], None] = lambda: None
    refused: Callable[[], None] = lambda: None
    size: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a connector gets to read a stream with.

    Parameters
    ----------
    root
        The project's folder.
    scratch
        An empty folder for this stream, on the warehouse's disk; it is gone after the load.
    connection
        The warehouse's connection, in the transaction of the load.
    state
        What `Extract.state` was at the last load, and, where the plan has a cursor, ``cursor``: its highest value
        as text. {} at first.
    since, until
        A range of the cursor to read, and nothing else: from `since` (inclusive) up to `until` (exclusive), as the
        user wrote them. None: no such limit.
    progress
        Tells how many bytes have been fetched so far, and of how many (None: unknown), while nothing is scanned yet.
    stopped
        True once the run was interrupted: what takes long outside of DuckDB asks it now and then.
    log
        Takes a line for the run's log: what a program of others says.
    """

    root: Path
    scratch: Path
    connection: DuckDBPyConnection
    state: Mapping[str, Any] = field(default_factory=dict)
    since: str | None = None
    until: str | None = None
    progress: Callable[[int, int | None], None] = lambda done, total: None
    stopped: Callable[[], bool] = lambda: False
    log: Callable[[str], None] = lambda line: None


def is_numeric(kind: str) -> bool:
    """True for DuckDB's types of numbers, whole or not."""
    return kind.endswith("INT") or kind in ("INTEGER", "UINTEGER", "DOUBLE", "FLOAT") or kind.startswith("DECIMAL")


def apply_naming(source: Source | ProgramBase, name: str) -> str:
    """The name that a table or column of the source gets in the warehouse, by the source's ``naming``."""
    return snake_case(name) if source.naming == "snake_case" else name


def snake_case(name: str) -> str:
    """``Order ID`` and ``orderId`` become ``order_id``; what is no letter or digit becomes one underscore.

    Underscores at the beginning stay: ``_id`` is another name than ``id``.
    """
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    first = name[: len(name) - len(name.lstrip("_"))]
    return first + re.sub(r"\W+", "_", parted).strip("_").lower() or "_"


def plan_stream(
    source: Source | ProgramBase, ref: StreamRef, options: Any, *, has_files: bool = False, by_cursor: bool = False
) -> StreamPlan:
    """Make the plan of a stream from its options, with the table's name where they leave it out."""
    return StreamPlan(
        ref=ref,
        table=TableRef(source.schema_name, options.table or apply_naming(source, ref.stream)),
        mode=options.mode,
        key=options.key,
        cursor=options.cursor,
        columns=options.columns,
        options=options,
        deletes=options.deletes or ("detect" if options.mode == "scd2" else "ignore"),
        has_files=has_files,
        by_cursor=by_cursor,
    )


ExtractAll = Callable[
    [Sequence[StreamPlan], "Source", Mapping[StreamRef, Reading]],
    Mapping[StreamRef, tuple[StreamPlan, Extract | LoadError]],
]
"""Extracts several streams of a source at once; all of them are committed together, with their states. A stream that
failed by itself, while the others are whole, is given as its error.

Called with the chosen streams and what to read each with. It may return more streams than it was asked for, such as the
child tables of nested data; those have a ``parent`` and come after it.
"""


class Connector(Protocol):
    """The functions of a connector module. One that extracts all streams at once has `ExtractAll` ``extract_all``
    instead of ``extract``.
    """

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

    def extract(self, plan: StreamPlan, source: Source, reading: Reading) -> Extract:
        """Return what to load, given the state of the last load."""
        ...

    def check(self, name: str, source: Source, root: Path, connection: DuckDBPyConnection) -> str:
        """Reach the source without loading; returns one line for people, raises LoadError."""
        ...
