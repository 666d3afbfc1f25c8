"""The truth table of docs/loading.md, cell by cell: what a load does when its source changed.

The expectations are the words of the page: a row, a column or a phrase that this file does not know fails. All cells
of one kind of source are streams of one project, so that a kind costs two runs and not some hundred.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

import smoll
from smoll.model import StreamResult
from support import (
    MakeProject,
    Postgres,
    age,
    files_yml,
    load,
    parquet,
    raw,
    refused,
    reopen,
    types,
    write,
    write_project,
)

PAGE = Path(__file__).parents[2] / "docs/loading.md"
CONTRACTS = ("evolve", "freeze", "discard")
ON_BAD_ROW = ("fail", "quarantine")
FILES = ("csv", "ndjson", "parquet")
KINDS = (*FILES, "sqlite", "postgres")
LATER = ("replace", "append")
KEYED = ("merge", "scd2")

Table = Mapping[str, Sequence[Any]]
"""Columns by name, with their values."""


@dataclass(frozen=True)
class Case:
    """A change of a source: the rows at first, and the rows that came with the change.

    ``odd`` is the place of the one row, among those that came, that is special; ``column`` the column that is. With
    ``broken`` that row is no record at all. ``kind`` is the type of the column under ``evolve``, where it changes.
    ``kinds_at_first``: where it is another one, by kind of source, if both are in one first load.
    ``first``: the table speaks of first loads, too.
    """

    name: str
    before: Table
    after: Table
    column: str = "v"
    kind: str = ""
    kinds_at_first: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = KINDS
    modes: tuple[str, ...] = LATER
    options: Mapping[str, Any] = field(default_factory=dict)
    options_later: Mapping[str, Any] = field(default_factory=dict)
    odd: int = 1
    broken: bool = False
    first: bool = False


OLD: dict[str, list[Any]] = {"id": [1, 2, 3], "v": [10, 20, 30], "w": ["a", "b", "c"]}
NEW: dict[str, list[Any]] = {"id": [4, 5, 6], "v": [40, 50, 60], "w": ["d", "e", "f"]}
DAYS = [date(2024, 1, day) for day in range(1, 7)]

CHANGES: dict[str, list[Case]] = {
    "a column is added": [Case("added", OLD, {**NEW, "x": [7, 8, 9]}, "x", "BIGINT")],
    "a column is dropped": [Case("dropped", OLD, {"id": [4, 5, 6], "v": [40, 50, 60]}, "w")],
    "a column is renamed": [Case("renamed", OLD, {"id": [4, 5, 6], "v": [40, 50, 60], "x": [7, 8, 9]}, "x", "BIGINT")],
    "the columns stand in another order": [Case("reordered", OLD, {name: NEW[name] for name in ("w", "v", "id")})],
    "a value is beyond the stored type, and some type holds both": [
        Case(
            "bigint",
            OLD,
            {**NEW, "v": [40, 2**63, 60]},
            kind="DECIMAL(38,0)",
            kinds=("csv", "ndjson", "parquet", "postgres"),
        ),
        Case("fraction", OLD, {**NEW, "v": [40, 1.5, 60]}, kind="DOUBLE"),
        Case(
            "clock",
            {**OLD, "v": DAYS[:3]},
            {**NEW, "v": [None, datetime(2024, 1, 5, 10, 30), None]},
            kind="TIMESTAMP",
        ),
        Case("digits", OLD, {**NEW, "v": [40, 10**39 + 1, 60]}, kind="VARCHAR", kinds=("csv", "ndjson")),
        Case("mixed", OLD, {**NEW, "v": [40, "soon", 60]}, kind="JSON", kinds=("ndjson",)),
        Case("nested", OLD, {**NEW, "v": [40, {"a": 1}, 60]}, kind="JSON", kinds=("ndjson",)),
    ],
    "all values would fit a narrower type": [
        Case("whole", {**OLD, "v": [0.5, 1.5, 2.5]}, NEW),
        Case("numerals", OLD, {**NEW, "w": ["1", "2", "3"]}, "w"),
        Case(
            "midnight",
            {**OLD, "v": [datetime(2024, 1, day, 10) for day in (1, 2, 3)]},
            {**NEW, "v": DAYS[3:]},
        ),
    ],
    "words where numbers were": [
        Case("words", OLD, {**NEW, "v": [None, "soon", None]}, kind="VARCHAR", kinds_at_first={"ndjson": "JSON"}),
        Case(
            "word", OLD, {**NEW, "v": [40, "soon", 60]}, kind="VARCHAR", kinds=("csv", "parquet", "sqlite", "postgres")
        ),
    ],
    "no type holds both": [
        Case("list", OLD, {**NEW, "v": [None, [1, 2], None]}, kinds=("parquet",)),
        Case(
            "fields",
            {**OLD, "v": [{"a": 1}, {"a": 2}, {"a": 3}]},
            {**NEW, "v": [{"a": 4, "b": None}, {"a": 5, "b": 5}, {"a": 6, "b": None}]},
            kinds_at_first={"parquet": "STRUCT(a BIGINT, b BIGINT)"},
            kinds=("parquet",),
        ),
    ],
    "NULL where there was none": [Case("null", OLD, {**NEW, "v": [None, 50, None]})],
    "another `key` in `smoll.yml`": [Case("key", OLD, NEW, modes=KEYED, options_later={"key": ["id", "w"]})],
    "a value is not of its type in `columns`": [
        Case(
            "fixed",
            OLD,
            {**NEW, "v": [40, "soon", 60]},
            options={"columns": {"v": "BIGINT"}},
            modes=(*LATER, *KEYED),
            first=True,
        ),
        Case(
            "narrow",
            OLD,
            {**NEW, "v": [40, 300, 60]},
            options={"columns": {"v": "TINYINT"}},
            first=True,
        ),
    ],
    "a row has no value in its `key`": [
        Case("keyless", OLD, {**NEW, "id": [4, None, 6]}, "id", modes=KEYED, first=True),
    ],
    "a record cannot be read": [
        Case("broken", OLD, NEW, "", kinds=("csv", "ndjson"), modes=(*LATER, *KEYED), broken=True, first=True)
    ],
}
MANY = 1_500
PLACES = {"first": 0, "thousandth": 999, "last": MANY - 1}


def far(name: str, value: Any, place: str, **options: Any) -> Case:
    """Many rows came, and the odd one stands at this place: in the sample that types are guessed from, or behind."""
    numbers = list(range(4, 4 + MANY))
    after: dict[str, list[Any]] = {"id": [*numbers], "v": [*numbers], "w": ["d"] * MANY}
    after["v"][PLACES[place]] = value
    kinds = options.pop("kinds", ("csv", "ndjson", "parquet", "sqlite"))
    return Case(f"{name}_{place}", OLD, after, kinds=kinds, modes=("append",), odd=PLACES[place], **options)


FAR_CHANGES: dict[str, list[Case]] = {
    "a value is beyond the stored type, and some type holds both": [
        far("fraction", 0.5, place, kind="DOUBLE") for place in PLACES
    ],
    "words where numbers were": [
        far("word", "soon", place, kind="VARCHAR", kinds=("csv", "parquet", "sqlite")) for place in PLACES
    ],
    "a value is not of its type in `columns`": [
        far("fixed", "soon", place, options={"columns": {"v": "BIGINT"}}, first=True) for place in PLACES
    ],
    "a record cannot be read": [
        far("broken", 0, place, column="", kinds=("csv", "ndjson"), broken=True, first=True) for place in PLACES
    ],
}
BROKEN = {"csv": "5,50,e,too,many", "ndjson": '{"id": 5, "v":'}


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell of the table, for one kind of source, mode and `on_bad_row`."""

    change: str
    case: Case
    contract: str
    on_bad_row: str
    kind: str
    mode: str
    is_first: bool = False

    @property
    def stream(self) -> str:
        return "_".join(
            [self.mode, self.case.name, self.contract, self.on_bad_row, *(["first"] if self.is_first else [])]
        )

    @property
    def table(self) -> str:
        return f"raw_{self.mode}.{self.stream}"

    @property
    def options(self) -> dict[str, Any]:
        needed: dict[str, Any] = {"key": "id"} if self.mode in KEYED else {}
        if self.mode == "append" and self.kind not in FILES:
            needed["cursor"] = "id"
        common = {"mode": self.mode, "contract": self.contract, "on_bad_row": self.on_bad_row}
        return {**common, **needed, **self.case.options}

    @property
    def options_later(self) -> dict[str, Any]:
        return {**self.options, **self.case.options_later}

    @property
    def keeps(self) -> bool:
        """Whether the rows of the first load are still wanted after the second."""
        return self.is_first or self.mode != "replace"

    @property
    def source(self) -> Table:
        """What the last load reads: all of it, or, in the second file of `append`, what is new."""
        whole = self.is_first or self.mode in KEYED or (self.mode == "append" and self.kind not in FILES)
        return joined(self.case.before, self.case.after) if whole else self.case.after

    @property
    def record(self) -> int:
        """The number of the odd record in what is read, from 1."""
        return len(self.source[next(iter(self.source))]) - len(self.case.after["v"]) + self.case.odd + 1

    @property
    def line(self) -> int:
        return self.record + 1 if self.kind == "csv" else self.record


def joined(before: Table, after: Table) -> Table:
    """Both tables in one, in the order of the second: what a table of a database holds after the change."""
    names = [*after, *(name for name in before if name not in after and name == "id")]
    filler: list[Any] = [None] * len(before["id"])
    return {name: [*before.get(name, filler), *after[name]] for name in names}


def far_cells() -> Iterator[Cell]:
    for change, cases in FAR_CHANGES.items():
        for case in cases:
            for kind, contract in itertools.product(case.kinds, CONTRACTS):
                yield Cell(change, case, contract, "quarantine", kind, "append")


def cells() -> Iterator[Cell]:
    for change, cases in CHANGES.items():
        for case in cases:
            for kind, mode, contract, on_bad_row in itertools.product(case.kinds, case.modes, CONTRACTS, ON_BAD_ROW):
                yield Cell(change, case, contract, on_bad_row, kind, mode)
                in_one_file = case.name != "list"  # no Parquet file can hold both
                if case.first or (on_bad_row == "fail" and mode == case.modes[0] and in_one_file):
                    yield Cell(change, case, contract, on_bad_row, kind, mode, is_first=True)


# --- the sources


def text_of(value: Any) -> str:
    """A value as CSV and SQLite hold it."""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return "" if value is None else json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def lines_of(kind: str, table: Table, broken: int | None) -> str:
    """A CSV or NDJSON file; with the record of that number broken."""
    output, records = io.StringIO(), list(zip(*table.values(), strict=True))
    if kind == "csv":
        output.write(",".join(table) + "\n")
    for number, record in enumerate(records, start=1):
        if number == broken:
            output.write(BROKEN[kind] + "\n")
        elif kind == "csv":
            csv.writer(output, lineterminator="\n").writerow([text_of(value) for value in record])
        else:
            output.write(json.dumps(dict(zip(table, record, strict=True)), default=text_of) + "\n")
    return output.getvalue()


DUCKDB = {"int": "BIGINT", "big": "DECIMAL(38,0)", "float": "DOUBLE", "str": "VARCHAR"}
DUCKDB |= {"date": "DATE", "datetime": "TIMESTAMP", "list": "BIGINT[]", "dict": "STRUCT(a BIGINT)"}
POSTGRES = {
    "int": "bigint",
    "big": "numeric",
    "float": "float8",
    "str": "text",
    "date": "date",
    "datetime": "timestamp",
}


def kind_of(values: Sequence[Any]) -> str:
    """The kind of a typed column that holds the values."""
    kinds = {type(value).__name__ for value in values if value is not None}
    if any(isinstance(value, int) and value >= 2**63 for value in values):
        kinds.add("big")
    order = ("str", "list", "dict", "datetime", "date", "float", "big", "int")
    return next((kind for kind in order if kind in kinds), "int")


def typed_sql(table: Table, names: Mapping[str, str]) -> str:
    """A SELECT of the rows, with a type for each column, in DuckDB or Postgres."""
    types_of = {name: names[kind_of(values)] for name, values in table.items()}
    if any(isinstance(value, dict) and "b" in value for values in table.values() for value in values):
        types_of = {name: "STRUCT(a BIGINT, b BIGINT)" if "STRUCT" in kind else kind for name, kind in types_of.items()}
    records = zip(*table.values(), strict=True)
    values = ", ".join(f"({', '.join(sql_of(value) for value in record)})" for record in records)
    casts = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in types_of.items())
    return f"SELECT {casts} FROM (VALUES {values}) AS t ({', '.join(table)})"


def sql_of(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, dict):
        return "{" + ", ".join(f"'{name}': {sql_of(inner)}" for name, inner in value.items()) + "}"
    return str(value) if isinstance(value, list) else f"'{text_of(value)}'"


def write_files(root: Path, cell: Cell, table: Table, name: str, broken: int | None) -> None:
    path = root / f"data/{cell.stream}/{name}.{cell.kind}"
    if cell.kind == "parquet":
        parquet(typed_sql(table, DUCKDB), path)
    else:
        write(root, {str(path.relative_to(root)): lines_of(cell.kind, table, broken)})


SQLITE = {"int": "INTEGER", "float": "REAL", "date": "DATE", "datetime": "TIMESTAMP"}


def write_sqlite(database: sqlite3.Connection, cell: Cell, table: Table) -> None:
    """A column keeps the type that it was declared with."""
    declared = {name: SQLITE.get(kind_of(values), "TEXT") for name, values in {**table, **cell.case.before}.items()}
    columns = ", ".join(f'"{name}" {declared[name]}' for name in table)
    database.execute(f'DROP TABLE IF EXISTS "{cell.stream}"')
    database.execute(f'CREATE TABLE "{cell.stream}" ({columns})')
    holes = ", ".join("?" * len(table))
    texts = {name: [text_of(v) if isinstance(v, date) else v for v in values] for name, values in table.items()}
    database.executemany(f'INSERT INTO "{cell.stream}" VALUES ({holes})', list(zip(*texts.values(), strict=True)))


def write_source(root: Path, kind: str, chosen: Sequence[Cell], server: Postgres | None, *, later: bool) -> None:
    """Bring what all cells of a kind read to where it is before the first, or the second run."""
    tables = [(cell, cell.source if cell.is_first or later else cell.case.before) for cell in chosen]
    if kind == "sqlite":
        (root / "data").mkdir(exist_ok=True)
        with sqlite3.connect(root / "data/all.db") as database:
            for cell, table in tables:
                write_sqlite(database, cell, table)
        database.close()
    elif server:
        made = [
            f"DROP TABLE IF EXISTS {cell.stream}; CREATE TABLE {cell.stream} AS {typed_sql(table, POSTGRES)};"
            for cell, table in tables
        ]
        server.execute("\n".join(made))
    else:
        for cell, table in tables:
            is_odd = cell.case.broken and (later or cell.is_first)
            if not (later and cell.is_first):
                name = "b" if later and cell.mode == "append" else "a"
                write_files(root, cell, table, name, cell.record if is_odd else None)


def project_yml(kind: str, chosen: Sequence[Cell], url: str, *, later: bool) -> str:
    """A source for each mode, with a stream for each cell."""
    sources: dict[str, Any] = {}
    for cell in chosen:
        options = cell.options_later if later else cell.options
        if kind in FILES:
            start: dict[str, Any] = {"kind": "files", "streams": {}}
            options = {"path": f"data/{cell.stream}/*.{kind}", **options}
        else:
            start = {"kind": "sql", "url": url, "snapshot": False, "streams": {}}  # some cells are to fail
        sources.setdefault(cell.mode, start)["streams"][cell.stream] = options
    return f"name: tests\nsources: {json.dumps(sources)}\n"


# --- what the loads did


@dataclass(frozen=True)
class Content:
    """A table: its columns with their types, and its rows."""

    types: dict[str, str]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """A cell's load with the change, and its table before and after."""

    cell: Cell
    result: StreamResult
    before: Content | None
    after: Content | None
    rejects: Content | None

    @property
    def types(self) -> dict[str, str]:
        assert self.after
        return {name: kind for name, kind in self.after.types.items() if not name.startswith("_smoll_")}

    @property
    def rows(self) -> list[Any]:
        assert self.after
        return [tuple(row[name] for name in self.types) for row in self.after.rows]

    @property
    def rejected(self) -> list[dict[str, Any]]:
        return self.rejects.rows if self.rejects else []


Outcomes = Callable[[Cell], Outcome]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Outcomes:
    """Gives a cell's outcome. The first cell of a kind has all of that kind loaded; what fails there fails once."""
    loaded: dict[tuple[str, bool], Mapping[Cell, Outcome] | Exception] = {}

    def of(cell: Cell) -> Outcome:
        together = cell.kind, cell in FAR_CELLS
        if together not in loaded:
            chosen = [other for other in (FAR_CELLS if together[1] else CELLS) if other.kind == cell.kind]
            try:
                loaded[together] = load_kind(tmp_path_factory.mktemp(cell.kind), cell.kind, chosen, request)
            except Exception as error:
                loaded[together] = error
        found = loaded[together]
        if isinstance(found, Exception):
            raise found
        return found[cell]

    return of


def load_kind(root: Path, kind: str, chosen: Sequence[Cell], request: pytest.FixtureRequest) -> Mapping[Cell, Outcome]:
    server, url = None, "sqlite:///data/all.db"
    if kind == "postgres":
        cluster: Postgres = request.getfixturevalue("postgres_server")
        cluster.execute("CREATE DATABASE truth")
        url = cluster.url.replace("/postgres?", "/truth?")
        server = Postgres("truth", url, cluster.psql, cluster.data)
    return load_all(root, kind, chosen, url, server)


def load_all(root: Path, kind: str, chosen: Sequence[Cell], url: str, server: Postgres | None) -> dict[Cell, Outcome]:
    """Load all cells of a kind twice, with the change in between."""
    write_project(root, project_yml(kind, chosen, url, later=False), {}, {}, {})
    write_source(root, kind, chosen, server, later=False)
    project = smoll.open_project(root)
    first = results(project)
    with project.connect(raw=True) as connection:
        before = tables_of(connection, chosen)
    write(root, {"smoll.yml": project_yml(kind, chosen, url, later=True)})
    write_source(root, kind, chosen, server, later=True)
    project = reopen(project)
    second = results(project)
    with project.connect(raw=True) as connection:
        after = tables_of(connection, chosen)
    return {
        cell: Outcome(
            cell,
            (first if cell.is_first else second)[cell.stream],
            None if cell.is_first else before[cell.table],
            after.get(cell.table),
            after.get(f"{cell.table}__rejected"),
        )
        for cell in chosen
    }


def tables_of(connection: duckdb.DuckDBPyConnection, chosen: Sequence[Cell]) -> dict[str, Content]:
    """The tables of the cells, and those of their rejected rows. One connection: some hundred would take minutes."""
    there = {
        f"{row[0]}.{row[1]}"
        for row in connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
    }
    names = [name for cell in chosen for name in (cell.table, f"{cell.table}__rejected") if name in there]
    return {name: content(connection, name) for name in names}


def content(connection: duckdb.DuckDBPyConnection, table: str) -> Content:
    types = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {table}").fetchall()}
    rows = connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
    return Content(types, [dict(zip(types, row, strict=True)) for row in rows])


def results(project: smoll.Project) -> dict[str, StreamResult]:
    return {result.ref.stream: result for result in project.run().streams}


# --- what the words of the page mean


def expect_loaded(outcome: Outcome, columns: Mapping[str, str], *, without: Sequence[int] = ()) -> None:
    """Exactly these columns and types, all rows that were and that came, but for some of those that came."""
    cell, result = outcome.cell, outcome.result
    assert result.error == ""
    assert result.status == "loaded"
    assert outcome.types == columns
    columns = outcome.types  # in their order
    before, after = cell.case.before, cell.case.after
    expected = [] if not cell.keeps else [row_of(before, number, columns) for number in range(len(before["id"]))]
    came = [number for number in range(len(after["v"])) if number not in without]
    expected += [row_of(after, number, columns) for number in came]
    assert sorted(map(repr, outcome.rows)) == sorted(map(repr, expected))
    assert (result.rejected, len(outcome.rejected)) == (len(without), len(without))
    assert result.read - result.rejected >= result.rows >= len(came)
    assert result.total == len(expected)


def row_of(table: Table, number: int, columns: Mapping[str, str]) -> tuple[Any, ...]:
    return tuple(as_type(table[name][number] if name in table else None, kind) for name, kind in columns.items())


def as_type(value: Any, kind: str) -> Any:
    """A value as DuckDB gives it from a column of the type."""
    if value is None:
        return None
    if kind == "TIMESTAMP":
        return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    if kind == "JSON":
        return json.dumps(value, separators=(",", ":"))
    if kind == "VARCHAR":
        return text_of(value)
    if kind.startswith("STRUCT"):
        return {name: value.get(name) for name in re.findall(r"(\w+) BIGINT", kind)}
    convert: dict[str, Callable[[Any], Any]] = {"DOUBLE": float, "DECIMAL(38,0)": Decimal}
    return convert.get(kind, lambda same: same)(value)


def stored(cell: Cell) -> dict[str, str]:
    """The types of the table after its first load."""
    fixed: Mapping[str, str] = cell.case.options.get("columns", {})
    return {name: fixed.get(name) or DUCKDB[kind_of(values)] for name, values in cell.case.before.items()}


def added(outcome: Outcome) -> None:
    case = outcome.cell.case
    expect_loaded(outcome, {**stored(outcome.cell), case.column: case.kind})
    assert any(case.column in note for note in outcome.result.notes)


def left_out(outcome: Outcome) -> None:
    expect_loaded(outcome, stored(outcome.cell))
    assert any(outcome.cell.case.column in note and "left out" in note for note in outcome.result.notes)


def unchanged_columns(outcome: Outcome) -> None:
    expect_loaded(outcome, stored(outcome.cell))


def widened(outcome: Outcome) -> None:
    case = outcome.cell.case
    expect_loaded(outcome, {**stored(outcome.cell), case.column: case.kind})
    assert any(case.column in note and case.kind in note for note in outcome.result.notes)


def becomes_text(outcome: Outcome) -> None:
    assert outcome.cell.case.kind == "VARCHAR"
    widened(outcome)


def loaded_anew(outcome: Outcome) -> None:
    if outcome.cell.mode == "scd2":
        expect_refused(outcome, "history", f"--reload scd2.{outcome.cell.stream}")
        return
    expect_loaded(outcome, stored(outcome.cell))
    assert any("loaded anew" in note and "key" in note for note in outcome.result.notes)


def refused_by_column(outcome: Outcome) -> None:
    expect_refused(outcome, f"'{outcome.cell.case.column}'")


def refused_by_value(outcome: Outcome) -> None:
    expect_refused(outcome, f"'{outcome.cell.case.column}'", *place(outcome.cell), odd_text(outcome.cell))


def odd_text(cell: Cell) -> str:
    value = cell.case.after[cell.case.column][cell.case.odd]
    return {"digits": "10000", "nested": '{"a":1}'}.get(cell.case.name, text_of(value))


def place(cell: Cell) -> list[str]:
    """How a message names the odd row."""
    if cell.kind not in FILES:
        return ["record "]
    name = "b" if cell.mode == "append" and not cell.is_first else "a"
    where = f"line {cell.line}" if cell.kind != "parquet" else f"record {cell.record}"
    return [f"data/{cell.stream}/{name}.{cell.kind}", where]


def expect_refused(outcome: Outcome, *words: str) -> None:
    assert outcome.result.status == "failed"
    for word in (f"{outcome.cell.mode}.{outcome.cell.stream}", *words):
        assert word in outcome.result.error
    assert outcome.after == outcome.before
    assert outcome.rejected == []


def bad_row(outcome: Outcome) -> None:
    """Fails the load with its place, or stands among the rejected rows and nowhere else."""
    cell = outcome.cell
    if cell.on_bad_row == "fail":
        expect_refused(outcome, *([f"'{cell.case.column}'"] if cell.case.column else []), *place(cell))
        return
    columns = stored(cell)
    expect_loaded(outcome, columns, without=[cell.case.odd])
    (rejected,) = outcome.rejected
    assert rejected["column_name"] == (cell.case.column or None)
    assert rejected["reason"]
    names = {"_smoll_load_id", "_smoll_loaded_at", "line", "column_name", "reason", "raw"}
    assert set(rejected) == names | ({"_smoll_file"} if cell.kind in FILES else set())
    assert rejected["_smoll_load_id"] in ((1, 2) if cell.is_first else (2,))  # a database is read again
    if cell.kind in FILES:
        assert place(cell)[0] == rejected["_smoll_file"]
        assert rejected["line"] == cell.line
    if cell.kind in ("csv", "ndjson"):
        text = lines_of(cell.kind, cell.source, cell.record if cell.case.broken else None)
        assert rejected["raw"] == text.splitlines()[cell.line - 1]
    else:
        kept = cell.case.after["w"][cell.case.odd]
        assert json.loads(rejected["raw"])["w"] == kept


def inferred(outcome: Outcome) -> None:
    """A first load: the types are those of all values, as if nothing had ever been otherwise."""
    cell, case = outcome.cell, outcome.cell.case
    columns = {name: DUCKDB[kind_of(values)] for name, values in cell.source.items()}
    if kind := case.kinds_at_first.get(cell.kind) or case.kind:
        columns[case.column] = kind
    assert outcome.result.error == ""
    assert outcome.types == columns
    expected = [row_of(cell.source, number, outcome.types) for number in range(len(cell.source["id"]))]
    assert sorted(map(repr, outcome.rows)) == sorted(map(repr, expected))


PHRASES: dict[str, Callable[[Outcome], None]] = {
    "it is added, NULL in the rows before": added,
    "it is left out, with a note": left_out,
    "it stays, NULL in the new rows": unchanged_columns,
    "the old one stays, NULL in the new rows; the new one is added": added,
    "the old one stays, NULL in the new rows; the new one is left out": left_out,
    "no difference": unchanged_columns,
    "the type stays": unchanged_columns,
    "NULL": unchanged_columns,
    "the column gets the narrowest type that holds all values exactly": widened,
    "the column becomes text": becomes_text,
    "the load fails and names the column": refused_by_column,
    "the load fails and names the value": refused_by_value,
    "it is loaded anew, with a note; `scd2` keeps its history and fails": loaded_anew,
    "a bad row": bad_row,
}


def truth_table() -> dict[str, dict[str, str]]:
    """What changed, to the contract, to the words of the page."""
    section = PAGE.read_text().split("\n## The truth table\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert head == ["what changed", *(f"`{contract}`" for contract in CONTRACTS)]
    return {change: dict(zip(CONTRACTS, said, strict=True)) for change, *said in body}


CELLS = tuple(cells())
FAR_CELLS = tuple(far_cells())


def test_the_page_and_this_file_know_the_same_changes_and_phrases() -> None:
    table = truth_table()
    assert list(table) == list(CHANGES)
    assert {phrase for said in table.values() for phrase in said.values()} == set(PHRASES)


def each(chosen: Sequence[Cell]) -> pytest.MarkDecorator:
    """A test for each cell."""
    return pytest.mark.parametrize("cell", chosen, ids=[f"{cell.kind}-{cell.stream}" for cell in chosen])


@each([cell for cell in CELLS if not cell.is_first])
def test_a_later_load_does_what_the_table_says(outcomes: Outcomes, cell: Cell) -> None:
    PHRASES[truth_table()[cell.change][cell.contract]](outcomes(cell))


@each([cell for cell in CELLS if cell.is_first])
def test_a_first_load_infers_its_types_and_knows_bad_rows(outcomes: Outcomes, cell: Cell) -> None:
    if cell.case.first:
        PHRASES[truth_table()[cell.change][cell.contract]](outcomes(cell))
    else:
        inferred(outcomes(cell))


@each(FAR_CELLS)
def test_the_place_of_the_odd_value_plays_no_part(outcomes: Outcomes, cell: Cell) -> None:
    PHRASES[truth_table()[cell.change][cell.contract]](outcomes(cell))


@pytest.mark.torture
@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize("place", [1, 1_000, 500_000, 1_000_000])
@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_place_of_the_odd_value_plays_no_part_among_a_million(
    make_project: MakeProject, suffix: str, place: int, contract: str
) -> None:
    options = {"mode": "append", "contract": contract, "on_bad_row": "quarantine"}
    project = make_project(files_yml(f"data/*.{suffix}", None, **options))
    folder = project.config.root / "data"
    folder.mkdir()
    with duckdb.connect() as connection:
        for name, value in (("a", "i"), ("b", f"CASE WHEN i = {place} THEN 0.5::DOUBLE ELSE i END")):
            rows = f"SELECT i AS id, {value} AS v FROM range(1, 1000001) t (i)"
            if suffix != "parquet":  # whole numbers are written as such
                text = "CASE WHEN v = 0.5 THEN '0.5' ELSE CAST(CAST(v AS BIGINT) AS VARCHAR) END"
                rows = f"SELECT id, CAST({text} AS JSON) AS v FROM ({rows})"
            path = str(folder / f"{name}.{suffix}").replace("'", "''")
            kind = {"csv": "csv", "ndjson": "json", "parquet": "parquet"}[suffix]
            connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT {kind})")
    age(folder / f"a.{suffix}")
    later = folder / f"b.{suffix}"
    later = later.rename(folder.parent / later.name)
    load(project)
    later.rename(folder / later.name)
    age(folder / later.name)

    if contract == "freeze":
        refused(project, f"data/b.{suffix}", f"{place + (suffix == 'csv')}", "'v'", "0.5")
        return
    stream = load(project)

    widened = contract == "evolve"
    assert types(project) == {"id": "BIGINT", "v": "DOUBLE" if widened else "BIGINT"}
    assert (stream.read, stream.rejected) == (1_000_000, 0 if widened else 1)
    assert raw(project, "SELECT count(*) FROM raw_s.t WHERE v <> id") == [(1 if widened else 0,)]
    if not widened:
        assert raw(project, "SELECT line FROM raw_s.t__rejected") == [(place + (suffix == "csv"),)]
