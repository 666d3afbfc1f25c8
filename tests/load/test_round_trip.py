"""Random tables, written in every format, loaded and read back: every value as it was, and every row.

What a text means as a value of a type is said by `fuzz.oracle`, which knows nothing of smoll. The long form of these
tests is `make fuzz`.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import duckdb
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st

import smoll
from fuzz.check import json_value
from fuzz.oracle import Misfit, comparable, micros, selected, value_of
from fuzz.tables import (
    DIALECTS,
    Dialect,
    TextTable,
    TypedTable,
    csv_text,
    json_tables,
    text_tables,
    typed_tables,
)
from smoll.model import quote
from support import age, files_yml, load, raw, types, write

PLAIN = Dialect(",", False, "\n", False, True, "")
Loaded = tuple[dict[str, str], Counter[Any]]


def examples(number: int) -> Callable[[Any], Any]:
    """Settings for so many examples, the same ones each time; one takes about a tenth of a second.

    The long form takes `FUZZ_EXAMPLES` times as many, others each time, and shrinks what it finds.
    """
    times = int(os.environ.get("FUZZ_EXAMPLES", "0"))
    quick = [phase for phase in Phase if phase is not Phase.shrink]
    return settings(
        max_examples=number * max(times, 1),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=times == 0,
        database=None,
        phases=list(Phase) if times else quick,
    )


def load_files(yml: str, *steps: Mapping[str, bytes]) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    """Load files into a new project, with a run after each step. The types, and rows as the oracle has them."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), {"smoll.yml": f"name: tests\n{yml}"})
        project = smoll.open_project(folder)
        for files in steps:
            write(project.config.root, files)
            load(project)
        found = types(project)
        note(str(found))
        listed = ", ".join(selected(quote(name), kind) for name, kind in found.items())
        return found, raw(project, f"SELECT {listed} FROM raw_s.t")


def packed(text: str, packing: str) -> bytes:
    data = text.encode()
    if packing == ".gz":
        return gzip.compress(data)
    return _zst(data) if packing == ".zst" else data


def _zst(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        (Path(folder) / "a").write_bytes(data)
        connection.execute(f"COPY (SELECT content FROM read_blob('{folder}/a')) TO '{folder}/b.zst' (FORMAT blob)")
        return (Path(folder) / "b.zst").read_bytes()


def expected_texts(rows: Sequence[Sequence[str | None]], kinds: Sequence[str]) -> Counter[Any]:
    """The rows of texts as a table of these types must have them."""
    return Counter(tuple(comparable(meant(text, kind)) for text, kind in zip(row, kinds, strict=True)) for row in rows)


def meant(text: str | None, kind: str) -> Any:
    try:
        return value_of(text, kind)
    except Misfit:
        raise AssertionError(f"{text!r} was loaded as {kind}") from None


def counted(rows: Sequence[Sequence[Any]]) -> Counter[Any]:
    return Counter(tuple(map(comparable, row)) for row in rows)


CLEAR = ("BIGINT", "BOOLEAN", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


def clear_type(texts: Sequence[str | None]) -> str | None:
    """The type that the texts have beyond doubt; None where it is not as clear."""
    for kind in CLEAR:
        try:
            values = [value_of(text, kind) for text in texts]
        except Misfit:
            continue
        if any(value is not None for value in values):
            return kind
    return None


@examples(50)
@given(text_tables(), DIALECTS)
def test_csv_of_any_dialect_comes_back(table: TextTable, dialect: Dialect) -> None:
    name = f"data/t.csv{dialect.packing}"
    content = csv_text(table, dialect)
    note(repr(content))

    found, rows = load_files(files_yml(name, delimiter=dialect.delimiter), {name: packed(content, dialect.packing)})

    kinds = list(found.values())
    assert list(found) == list(table.names)
    assert counted(rows) == expected_texts(table.rows, kinds)
    for position, kind in enumerate(kinds):
        assert clear_type([row[position] for row in table.rows]) in (None, kind)


@examples(20)
@given(text_tables(), text_tables(), st.randoms(use_true_random=False))
def test_two_loads_do_not_depend_on_the_order_of_rows(first: TextTable, second: TextTable, random: Random) -> None:
    def file(number: int, table: TextTable) -> dict[str, bytes]:
        return {f"data/{number}.csv": csv_text(table, PLAIN).encode()}

    def shuffled(table: TextTable) -> TextTable:
        return TextTable(table.names, tuple(random.sample(table.rows, len(table.rows))))

    yml = files_yml("data/*.csv", mode="append")

    found, rows = load_files(yml, file(1, first), file(2, second))
    again, others = load_files(yml, file(1, shuffled(first)), file(2, shuffled(second)))

    assert found == again
    assert counted(rows) == counted(others)
    whole = [dict(zip(table.names, row, strict=True)) for table in (first, second) for row in table.rows]
    wide = [[row.get(name) for name in found] for row in whole]
    assert len(rows) == len(wide)
    _assert_widened(rows, wide, list(found.values()))


def _assert_widened(rows: list[tuple[Any, ...]], texts: list[list[str | None]], kinds: list[str]) -> None:
    """A column that became text holds numbers as the first load had them: 1.50 may have become 1.5."""
    for position, kind in enumerate(kinds):
        column = Counter(comparable(row[position]) for row in rows)
        if kind == "VARCHAR":
            assert Counter(map(_as_text, (row[position] for row in rows))) == Counter(
                map(_as_text, (row[position] for row in texts))
            )
        else:
            assert column == Counter(comparable(meant(row[position], kind)) for row in texts)


def _as_text(text: str | None) -> Any:
    """What a text says, whatever its spelling: an empty text may be NULL, a number and a moment have several."""
    if not text:
        return None
    if " (BC)" in text:  # a moment of the year 1 that its offset takes to the year before, which Python has not
        shift = micros(datetime(2001, 1, 1, tzinfo=UTC)) - micros(datetime(1, 1, 1, tzinfo=UTC))
        return comparable(
            micros(datetime.fromisoformat(text.replace(" (BC)", "").replace("0001-", "2000-", 1))) - shift
        )
    for kind in ("DECIMAL(400,200)", "DOUBLE", "BOOLEAN", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP", "DATE"):
        try:
            value = comparable(value_of(text, kind))
        except Misfit:
            continue
        if kind == "DOUBLE" and math.isfinite(value_of(text, kind)):
            return comparable(Decimal(repr(value_of(text, kind))))
        return comparable(micros(datetime.fromisoformat(text))) if kind == "DATE" else value
    return text


@examples(50)
@given(json_tables(), st.sampled_from(("ndjson", "json", "ndjson.gz")), st.booleans())
@example([{"id": 1, "c0": 6.484715429280751e16}, {"c0": 0.5}, {"c0": -1.0239442015596222e145}], "ndjson", True)
@example([{"id": 1, "c0": "1"}, {"c0": 1}], "ndjson", False)
@example([{"id": 2**64, "c0": [2**70, 1.5]}], "json", False)
def test_json_comes_back(records: Sequence[dict[str, Any]], suffix: str, ascii_only: bool) -> None:
    text = json.dumps(records, ensure_ascii=ascii_only)
    if suffix != "json":
        text = "".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
    note(text)

    found, rows = load_files(files_yml(f"data/t.{suffix}"), {f"data/t.{suffix}": packed(text, suffix[-3:])})

    loaded = Counter(
        tuple(_json_shown(value, kind) for value, kind in zip(row, found.values(), strict=True)) for row in rows
    )
    assert loaded == Counter(
        tuple(json_value(record.get(name), kind) for name, kind in found.items()) for record in records
    )
    for name, kind in found.items():
        values = [record[name] for record in records if record.get(name) is not None]
        assert kind == "DOUBLE" or not values or not all(isinstance(value, float) for value in values)


def _json_shown(value: Any, kind: str) -> Any:
    return json_value(json.loads(value), kind) if kind == "JSON" and value is not None else comparable(value)


@examples(25)
@given(typed_tables())
def test_parquet_comes_back(table: TypedTable) -> None:
    found, rows = load_typed([table])

    assert list(found.values()) == list(table.types)
    assert counted(rows) == Counter(
        tuple(_typed(value, kind, kind) for value, kind in zip(row, table.types, strict=True)) for row in table.rows
    )


@examples(25)
@given(typed_tables(), typed_tables())
def test_parquet_of_two_loads_comes_back(first: TypedTable, second: TypedTable) -> None:
    found, rows = load_typed([first, second])

    assert len(rows) == len(first.rows) + len(second.rows)
    for position, kind in enumerate(found.values()):
        wanted: list[Any] = []
        for table in (first, second):
            own = table.types[position] if position < len(table.types) else ""
            wanted += [_typed(row[position], own, kind) if own else None for row in table.rows]
        texts = {table.types[position] for table in (first, second) if position < len(table.types)} - {"VARCHAR"}
        shown = [_as_text(row[position]) if kind == "VARCHAR" and texts else comparable(row[position]) for row in rows]
        if kind == "VARCHAR" and texts:
            wanted = [value if value is None or not isinstance(value, str) else _as_text(value) for value in wanted]
        assert Counter(shown) == Counter(wanted)


def _typed(value: Any, own: str, kind: str) -> Any:
    """A value of the type `own` as a column of type `kind` must have it, comparable."""
    if value is None:
        return None
    if isinstance(value, datetime):
        value = micros(value)
    elif isinstance(value, date):
        value = value.isoformat() if kind == "DATE" else micros(datetime(value.year, value.month, value.day))
    if kind == "DOUBLE":
        assert Decimal(float(value)) == Decimal(value) or value != value
        return comparable(float(value))
    if kind == "VARCHAR" and isinstance(value, float):
        return comparable(Decimal(repr(value))) if value - value == 0 else str(value)
    return comparable(value)


def load_typed(tables: Sequence[TypedTable]) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    """Write the tables as Parquet files, and load them one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), {"smoll.yml": "name: tests\n" + files_yml("data/*.parquet", mode="append")})
        (Path(folder) / "data").mkdir()
        project = smoll.open_project(folder)
        for number, table in enumerate(tables):
            _write_parquet(table, Path(folder) / f"data/{number}.parquet")
            load(project)
        found = types(project)
        note(str(found))
        listed = ", ".join(selected(quote(name), kind) for name, kind in found.items())
        return found, raw(project, f"SELECT {listed} FROM raw_s.t")


def _write_parquet(table: TypedTable, path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        listed = ", ".join(f"c{number} {kind}" for number, kind in enumerate(table.types))
        connection.execute(f"CREATE TABLE t ({listed})")
        marks = ", ".join("?" for _ in table.types)
        connection.executemany(f"INSERT INTO t VALUES ({marks})", [list(row) for row in table.rows])
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")
    age(path)
