"""The user's own assets: data frames from the warehouse and back, between loads and models and after them."""

import datetime as dt
import decimal
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import smoll
from graph_support import FILES, YML, checked, dagster_home, define, failures, last_run, materialized, metadata, run
from smoll.dagster.session import session_resource
from smoll.dagster.warehouse_io import warehouse_io_manager
from smoll.model import TableRef
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger
from support import MakeProject, raw, released, reopen, write

EVERY_TYPE = """
SELECT true AS bool, 1::TINYINT AS i8, 2::SMALLINT AS i16, 3::INTEGER AS i32, 9007199254740993::BIGINT AS i64,
  4::UTINYINT AS u8, 5::USMALLINT AS u16, 6::UINTEGER AS u32, 18446744073709551615::UBIGINT AS u64,
  1.5::FLOAT AS f32, 0.1::DOUBLE AS f64, 12345678901234.56::DECIMAL(18, 2) AS "dec",
  0.0000000001::DECIMAL(38, 10) AS wide, 'ünï "q"' AS "te xt", ''::VARCHAR AS empty, 'ab'::BLOB AS bytes,
  DATE '2024-02-29' AS "date", TIME '23:59:59.123456' AS "time", TIMESTAMP '1999-12-31 23:59:59.999999' AS ts,
  TIMESTAMPTZ '2024-07-01 12:00:00+02' AS tz, TIMESTAMP_NS '2024-01-01 00:00:00.123456789' AS ns,
  [1, NULL, 3] AS list, {'a': 1, 'b': {'c': 'x'}} AS struct, ['a', 'b']::VARCHAR[2] AS "array"
"""
ROUND_TRIP = f"{EVERY_TYPE} UNION ALL SELECT {', '.join(['NULL'] * 24)}"


class Own:
    """A project without streams and models, and assets of its own in it."""

    def __init__(self, project: smoll.Project) -> None:
        self.project = project
        self.resources = {
            "smoll": session_resource(project.config),
            "warehouse": warehouse_io_manager({}),
        }

    def run(self, *assets: Any, **options: Any) -> dg.ExecuteInProcessResult:
        options = {"raise_on_error": False, "resources": self.resources, **options}
        return dg.materialize(list(assets), **options)

    def done(self, *assets: Any) -> dg.ExecuteInProcessResult:
        result = self.run(*assets)
        assert result.success, failures(result)
        return result

    def fails(self, *assets: Any) -> str:
        result = self.run(*assets)
        assert not result.success
        return failures(result)

    def rows(self, sql: str) -> list[Any]:
        return raw(reopen(self.project), sql)

    def types(self, table: str) -> dict[str, str]:
        return {row[0]: row[1] for row in self.rows(f"DESCRIBE {table}")}


@pytest.fixture
def own(make_project: MakeProject) -> Own:
    return Own(make_project("sources: {}"))


def gives(make: Callable[[], Any], name: str = "made") -> dg.AssetsDefinition:
    """An asset that gives what the function makes; within Output, as Dagster takes a bare generator for its own."""

    @dg.asset(name=name, io_manager_key="warehouse")
    def made() -> dg.Output[Any]:
        return dg.Output(make())

    return made


def sql(query: str, name: str = "made") -> dg.AssetsDefinition:
    """An asset that is what a query gives."""

    @dg.asset(name=name, io_manager_key="warehouse", required_resource_keys={"smoll"})
    def made(context: dg.AssetExecutionContext) -> Any:
        return context.resources.smoll.warehouse().sql(query)

    return made


def test_every_type_goes_in_and_out_as_it_is(own: Own) -> None:
    @dg.asset(io_manager_key="warehouse")
    def as_pandas(made: pd.DataFrame) -> pd.DataFrame:
        assert str(made["i64"].dtype) == "Int64" and made["i64"][0] == 9007199254740993
        assert made["dec"][0] == decimal.Decimal("12345678901234.56")
        return made

    @dg.asset(io_manager_key="warehouse")
    def as_polars(made: pl.DataFrame) -> pl.DataFrame:
        assert made["tz"].dtype.time_zone is not None  # type: ignore[attr-defined]
        return made

    @dg.asset(io_manager_key="warehouse")
    def as_lazy(made: pl.LazyFrame) -> pl.LazyFrame:
        return made

    @dg.asset(io_manager_key="warehouse")
    def as_arrow(made: pa.Table) -> pa.Table:
        return made

    @dg.asset(io_manager_key="warehouse")
    def as_stream(made: pa.RecordBatchReader) -> pa.RecordBatchReader:
        return made

    @dg.asset(io_manager_key="warehouse")
    def as_relation(made: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
        return made

    @dg.asset(io_manager_key="warehouse")
    def as_nothing_else(made):  # type: ignore[no-untyped-def]
        assert isinstance(made, duckdb.DuckDBPyRelation)
        return made

    ways = [as_pandas, as_polars, as_lazy, as_arrow, as_stream, as_relation, as_nothing_else]
    result = own.done(sql(ROUND_TRIP), *ways)
    want = own.types("assets.made")
    assert want["dec"] == "DECIMAL(18,2)" and want["struct"] == "STRUCT(a INTEGER, b STRUCT(c VARCHAR))"
    for way in ways:
        name = way.key.path[-1]
        assert own.types(f"assets.{name}") == want, name
        assert own.rows(f"(FROM assets.{name} EXCEPT ALL FROM assets.made)") == [], name
        assert own.rows(f"SELECT count(*) FROM assets.{name}") == [(2,)], name
    facts = metadata(result, "as_pandas")
    assert facts["dagster/row_count"] == 2 and facts["dagster/table_name"] == "assets.as_pandas"
    assert facts["smoll/run"] == 1
    assert {one.name: one.type for one in facts["dagster/column_schema"].columns} == want


def test_types_that_frames_do_not_have(own: Own) -> None:
    """A sum comes as a whole number, text that has a type of its own as text; what would be lost is refused."""
    query = (
        "SELECT 7::HUGEINT AS h, '101'::BIT AS bit, TIMETZ '10:00:00+02' AS tz, '{\"a\": 1}'::JSON AS j, "
        "'b'::ENUM('a', 'b') AS e, 'd0a49cb5-6cb1-4a5e-b0ac-c6d1d9d9d9d9'::UUID AS u, MAP {'k': 1} AS m"
    )

    @dg.asset(io_manager_key="warehouse")
    def back(made: pd.DataFrame) -> pd.DataFrame:
        return made

    own.done(sql(query), back)
    assert own.types("assets.made")["e"] == "ENUM('a', 'b')"  # a relation is written as it is
    assert own.types("assets.back") == {
        "h": "BIGINT", "bit": "VARCHAR", "tz": "VARCHAR", "j": "VARCHAR", "e": "VARCHAR", "u": "VARCHAR",
        "m": "MAP(VARCHAR, INTEGER)",
    }  # fmt: skip
    assert own.rows("SELECT h, bit, tz, j, e, u::VARCHAR, m['k'] FROM assets.back") == own.rows(
        "SELECT h, bit::VARCHAR, tz::VARCHAR, j, e, u::VARCHAR, m['k'] FROM assets.made"
    )

    @dg.asset(io_manager_key="warehouse", ins={"made": dg.AssetIn(metadata={"columns": ["n", "H"]})})
    def some(made: pl.DataFrame) -> pl.DataFrame:
        assert made.columns == ["n", "h"]
        return made

    @dg.asset(io_manager_key="warehouse")
    def arrow(made: pa.Table) -> pa.Table:
        return made

    interval = sql("SELECT 1::HUGEINT AS h, INTERVAL '1 month 2 days' AS span, 1 AS n")
    own.done(interval, some, arrow)
    assert own.rows("FROM assets.arrow EXCEPT FROM assets.made") == []
    said = own.fails(interval, back)
    assert "Input made: Column 'span' is of the type INTERVAL, which pandas does not have." in said
    too_large = own.fails(sql("SELECT 170141183460469231731687303715884105727::HUGEINT AS h"), back)
    assert "out of range" in too_large


@pytest.mark.parametrize(
    ("frame", "types"),
    [
        (
            pd.DataFrame({
                "i": pd.Series([1, None], dtype="Int32"), "c": pd.Series(["x", None], dtype="category"),
                "s": ["a", None], "f": [1.5, None], "b": pd.Series([True, None], dtype="boolean"),
                "d": [decimal.Decimal("1.10"), decimal.Decimal("20.25")], "o": [dt.date(2024, 1, 1), None],
                "t": pd.to_datetime(["2024-01-01 10:00", None]).tz_localize("Europe/Amsterdam"),
                "g": pd.to_timedelta(["1 day", None]), "u": [uuid.UUID(int=1), None], "l": [[1, 2], None],
            }),
            "INTEGER VARCHAR VARCHAR DOUBLE BOOLEAN DECIMAL(4,2) DATE TIMESTAMP WITH TIME ZONE INTERVAL UUID BIGINT[]",
        ),
        (
            pl.DataFrame({
                "e": pl.Series(["a", None], dtype=pl.Enum(["a", "b"])),
                "c": pl.Series(["a", None], dtype=pl.Categorical), "d": [dt.timedelta(1), None],
                "n": pl.Series([decimal.Decimal("1.5"), None], dtype=pl.Decimal(20, 4)),
                "t": pl.Series([dt.datetime(2024, 1, 1), None], dtype=pl.Datetime("ns", "Asia/Tokyo")),
                "h": pl.Series([dt.time(1, 2, 3), None]), "l": pl.Series([["x"], None], dtype=pl.List(pl.Categorical)),
            }),
            "VARCHAR VARCHAR INTERVAL DECIMAL(20,4) TIMESTAMP WITH TIME ZONE TIME VARCHAR[]",
        ),
        (
            pa.table({"d": pa.array([decimal.Decimal("1.5"), None], pa.decimal256(30, 2)),
                      "h": pa.array([1.5, None], pa.float16())}),
            "DECIMAL(30,2) FLOAT",
        ),
    ],
    ids=["pandas", "polars", "arrow"],
)  # fmt: skip
def test_frames_from_elsewhere_and_empty_ones(own: Own, frame: Any, types: str) -> None:
    empty = frame.slice(0, 0) if not isinstance(frame, pd.DataFrame) else frame.iloc[:0]
    typeless = [name for name in ("d", "o", "u", "l") if isinstance(frame, pd.DataFrame)]
    empty = empty.drop(columns=typeless) if typeless else empty  # lists of nothing have no type
    own.done(gives(lambda: frame), gives(lambda: empty, "empty"))
    found = own.types("assets.made")
    assert " ".join(found.values()) == types
    assert own.rows("SELECT count(*), count(e) FROM (SELECT COLUMNS(*)::VARCHAR AS e FROM assets.made)")[0][0] == 2
    assert own.types("assets.empty") == {name: kind for name, kind in found.items() if name not in typeless}
    assert own.rows("SELECT count(*) FROM assets.empty") == [(0,)]


def test_values_of_frames_from_elsewhere(own: Own) -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    made = {"t": [dt.datetime(2024, 7, 1, 12, tzinfo=zone)], "d": [decimal.Decimal("1.10")], "g": [dt.timedelta(1)]}
    own.done(gives(lambda: pd.DataFrame(made)), gives(lambda: pl.DataFrame(made), "other"))
    for table in ("assets.made", "assets.other"):
        rows = own.rows(f"SELECT t, d, g FROM {table}")
        assert rows == [(dt.datetime(2024, 7, 1, 10, tzinfo=dt.UTC), decimal.Decimal("1.10"), dt.timedelta(1))]


def nanoseconds() -> pa.Table:
    return pa.table({"at": pa.array([1], pa.timestamp("ns", "UTC"))})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pd.DataFrame({"a": ["x", 1]}), ["'a'", "several types: int, str", "astype('string')"]),
        (lambda: pd.DataFrame({"a": [dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, 5)]}, dtype=object),
         ["several types: date, datetime"]),
        (lambda: pd.DataFrame({"a": [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]}, dtype=object),
         ["datetime with a time zone"]),
        (lambda: pd.DataFrame({"a": [2**70]}), ["cannot be stored as it is", "too large"]),
        (lambda: pd.DataFrame({"a": [None, None]}), ["'a'", "nothing that tells its type", "astype('string')"]),
        (lambda: pd.DataFrame({"a": [pd.Period("2024-01")]}), ["'a'", "period"]),
        (lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]), ["the same name: 'a', 'a'"]),
        (lambda: pd.DataFrame([[1, 2]], columns=["a", "A"]), ["the same name: 'a', 'A'"]),
        (lambda: pd.DataFrame([[1]]), ["The name of a column is 0"]),
        (lambda: pd.DataFrame(), ["has no columns"]),
        (lambda: pd.DataFrame({"a": [1], "b": [2]}).set_index("a"), ["index", "(a)", "reset_index()"]),
        (lambda: pl.DataFrame({"a": [None]}), ["'a'", "nothing that tells its type"]),
        (lambda: pl.DataFrame({"a": [object()]}), ["'a' holds Python objects"]),
        (lambda: pl.DataFrame({"a": [[None]]}), ["'a'", "nothing that tells its type"]),
        (lambda: pl.DataFrame({"a": pl.Series([2**80], dtype=pl.Int128)}), ["cannot be stored as it is"]),
        (nanoseconds, ["cannot be stored as it is", "lose data"]),
        (lambda: pa.table([[1], [2]], names=["a", "a"]), ["the same name"]),
        (lambda: pa.table({"a": pa.array([decimal.Decimal(1)], pa.decimal256(50, 2))}), ["'a'", "decimal256(50, 2)"]),
        (lambda: duckdb.sql("SELECT 1 AS a, 2 AS a"), ["the same name"]),
        (lambda: duckdb.sql("SELECT 'a'::ENUM('a') AS e"), ["would become VARCHAR", "not one of the project's"]),
        (lambda: iter([]), ["no frame at all"]),
        (lambda: iter([pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.5]})]), ["'a' is double in chunk 2 and int64"]),
        (lambda: iter([pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})]), ["Chunk 2 has the columns b"]),
        (lambda: iter([1]), ["It gave a builtins.int", "It may give a pandas.DataFrame"]),
        (lambda: [pd.DataFrame({"a": [1]})], ["It gave a builtins.list", "an iterator of these"]),
        (lambda: {"a": 1}, ["Asset made: It gave a builtins.dict", "or None"]),
        (lambda: "text", ["It gave a builtins.str"]),
        (lambda: pd.Series([1]), ["It gave a pandas", "Series"]),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_and_changes_nothing(
    own: Own, make: Callable[[], Any], words: list[str]
) -> None:
    own.done(sql("SELECT 1 AS kept"))
    said = own.fails(gives(make))
    for word in ["Asset made: ", *words]:
        assert word in said
    assert own.rows("FROM assets.made") == [(1,)]
    assert [stream.status for stream in last_run(own.project).streams] == ["failed"]
    assert last_run(own.project).status == "failed"


def test_chunks(own: Own) -> None:
    """An iterator of frames of any kind; a chunk that knows no type has that of the others."""
    frames: list[Any] = [
        pd.DataFrame({"a": pd.Series([1, 2], dtype="Int64"), "b": ["x", None]}),
        pd.DataFrame({"a": [3], "b": [None]}),
        pd.DataFrame({"a": pd.Series([], dtype="int64"), "b": pd.Series([], dtype="str")}),
    ]
    batches = pa.table({"a": range(300_000)}).to_batches(max_chunksize=7_000)

    @dg.asset(io_manager_key="warehouse")
    def stream() -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(batches[0].schema, (batch for batch in batches))

    @dg.asset(io_manager_key="warehouse")
    def nothing() -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(batches[0].schema, [])

    @dg.asset(io_manager_key="warehouse")
    def mapped(stream: pl.LazyFrame) -> dg.Output[Any]:
        return dg.Output(stream.slice(start, 100_000) for start in range(0, 300_000, 100_000))

    own.done(
        gives(lambda: (frame for frame in frames)), gives(lambda: iter(batches), "batches"), stream, nothing, mapped
    )
    assert own.rows("FROM assets.made ORDER BY a") == [(1, "x"), (2, None), (3, None)]
    for table in ("batches", "stream", "mapped"):
        assert own.rows(f"SELECT count(*), sum(a) FROM assets.{table}") == [(300_000, sum(range(300_000)))]
    assert own.types("assets.nothing") == {"a": "BIGINT"}


def test_what_streams_from_the_warehouse_is_whole(own: Own) -> None:
    """DuckDB ends a stream without a word when its connection is used again: nothing may use it."""

    @dg.asset(io_manager_key="warehouse")
    def streamed(made: duckdb.DuckDBPyRelation) -> pa.RecordBatchReader:
        return made.to_arrow_reader(1_000)

    @dg.asset(io_manager_key="warehouse")
    def both(made: pl.LazyFrame) -> pl.LazyFrame:
        return made.join(made.with_columns(pl.col("a") + 1), on="a", how="inner", suffix="_next")

    @dg.asset(io_manager_key="warehouse")
    def paired(made: pa.RecordBatchReader, streamed: pa.RecordBatchReader) -> dg.Output[Any]:
        return dg.Output(pair[0] for pair in zip(made, streamed, strict=True))

    @dg.asset(io_manager_key="warehouse")
    def foreign(made: pa.Table) -> duckdb.DuckDBPyRelation:
        return duckdb.sql("SELECT a FROM made WHERE a >= 0")

    own.done(sql("SELECT range AS a FROM range(500_000)"), streamed, both, paired, foreign)
    for table, rows in {"streamed": 500_000, "both": 499_999, "paired": 500_000, "foreign": 500_000}.items():
        assert own.rows(f"SELECT count(*) FROM assets.{table}") == [(rows,)], table


IN_PROCESS = """
import sys
import dagster as dg, duckdb, pandas as pd, polars as pl, pyarrow as pa
import smoll
from smoll.dagster.session import session_resource
from smoll.dagster.warehouse_io import warehouse_io_manager
from smoll.model import TableRef
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger
project = smoll.open_project(sys.argv[1])
resources = {"smoll": session_resource(project.config), "warehouse": warehouse_io_manager({})}
"""
MEMORY = """
import resource
ROWS = 6_000_000  # of 24 bytes

@dg.asset(io_manager_key="warehouse", required_resource_keys={"smoll"})
def made(context):
    numbers = f"SELECT hash(range) AS a, hash(-range) AS b, hash(range / 3) AS c FROM range({ROWS})"
    return context.resources.smoll.warehouse().sql(numbers)

@dg.asset(io_manager_key="warehouse")
def stream(made: pa.RecordBatchReader) -> pa.RecordBatchReader:
    return made

@dg.asset(io_manager_key="warehouse")
def lazy(made: pl.LazyFrame) -> pl.LazyFrame:
    return made.filter(pl.col("a") >= 0)

@dg.asset(io_manager_key="warehouse")
def frames(made: pa.RecordBatchReader):
    return map(lambda batch: batch.to_pandas(), made)

pl.DataFrame({"a": [1]}).lazy().filter(pl.col("a") > 0).collect()
assert dg.materialize([made], resources=resources).success
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ways = [stream, lazy, frames]
assert dg.materialize([made, *ways], selection=ways, resources=resources).success
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def in_process(project: smoll.Project, script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IN_PROCESS + script, str(project.config.root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_big_data_goes_through_in_bounded_memory(make_project: MakeProject) -> None:
    """144 MB of random numbers, which nothing packs, go thrice through frames, with less than that beyond what DuckDB
    has taken for itself; three times as many rows took as much."""
    project = make_project("sources: {}\nresources: {memory: 400MB, threads: 2}")
    done = in_process(project, MEMORY)
    assert done.returncode == 0, done.stderr
    own = Own(project)
    want = own.rows("SELECT count(*), sum(a), sum(b), sum(c) FROM assets.made")
    for name in ("stream", "lazy", "frames"):
        assert own.rows(f"SELECT count(*), sum(a), sum(b), sum(c) FROM assets.{name}") == want, name
    assert int(done.stdout.splitlines()[-1]) < 130_000  # KB


def test_what_ends_midway_leaves_the_old_table(own: Own) -> None:
    """An error of the asset's own comes as it is; an interrupt ends the run; both give the project back."""
    own.done(sql("SELECT 1 AS a"), gives(lambda: pd.DataFrame({"b": [1]}), "other"))

    def broken() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"a": range(500_000)})
        raise ZeroDivisionError("of my own")

    said = own.fails(gives(broken))
    assert "ZeroDivisionError: of my own" in said and "Asset made" not in said
    failed = last_run(own.project)
    assert failed.status == "failed" and failed.streams[0].error == "ZeroDivisionError: of my own"
    assert "Conversion Error" in own.fails(sql("SELECT CAST('x' || range AS INTEGER) AS a FROM range(10)"))

    def interrupted() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"a": range(500_000)})
        raise dg.DagsterExecutionInterruptedError

    assert not own.run(gives(interrupted)).success
    assert last_run(own.project).status == "interrupted"
    assert own.rows("FROM assets.made") == [(1,)]
    assert reopen(own.project).run(wait=False).status == "ok"  # nobody holds it
    with open_ledger(Layout(own.project.config.root).ledger) as ledger:
        assert ledger is not None
        assert ledger.nodes()["table:assets.made"].touched == 1
        states = {str(state.ref): (state.rows, state.run, state.status) for state in ledger.streams()}
    assert states == {"dagster.made": (1, 3, "failed"), "dagster.other": (1, 1, "loaded")}


def test_an_asset_that_is_tried_again(own: Own) -> None:
    tries = iter([ValueError("not yet"), None])

    def flaky() -> Iterator[pd.DataFrame]:
        error = next(tries)
        if error:
            raise error
        yield pd.DataFrame({"a": [1]})

    @dg.asset(io_manager_key="warehouse", retry_policy=dg.RetryPolicy(max_retries=1))
    def made() -> dg.Output[Any]:
        return dg.Output(flaky())

    own.done(made)
    run = last_run(own.project)
    assert (run.status, [stream.status for stream in run.streams]) == ("ok", ["loaded"])


def test_nothing_returned_keeps_nothing(own: Own) -> None:
    @dg.asset(io_manager_key="warehouse")
    def plain(made: duckdb.DuckDBPyRelation) -> None: ...

    @dg.asset(io_manager_key="warehouse", name="made")
    def again():  # type: ignore[no-untyped-def]
        return None

    @dg.asset(io_manager_key="warehouse", deps=["made"])
    def reported() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(metadata={"a": 1})

    own.done(sql("SELECT 1 AS a"), plain)
    own.done(again, plain, reported)
    assert own.rows("FROM assets.made") == [(1,)]
    assert own.rows("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'assets'") == [("made",)]


def test_inputs_that_cannot_be(own: Own) -> None:
    @dg.asset(io_manager_key="warehouse")
    def wrong(made: dict) -> None: ...  # type: ignore[type-arg]

    said = own.fails(sql("SELECT 1 AS a"), wrong)
    assert "Input made: An input cannot be a dict" in said and "duckdb.DuckDBPyRelation" in said

    @dg.asset(io_manager_key="warehouse")
    def early(missing: pd.DataFrame) -> None: ...

    source = dg.AssetSpec("missing").with_io_manager_key("warehouse")
    said = own.fails(source, early)
    assert "Input missing: The warehouse has no table assets.missing yet." in said and "Materialize" in said

    @dg.asset(io_manager_key="warehouse", ins={"made": dg.AssetIn(metadata={"columns": ["a", "b"]})})
    def unknown(made: pd.DataFrame) -> None: ...

    assert "There is no column b.\nThere are: a." in own.fails(sql("SELECT 1 AS a"), unknown)


def test_checks_of_assets_and_other_io_managers(own: Own) -> None:
    made = sql("SELECT 1 AS a, 'main.chunk' AS b")

    @dg.asset_check(asset=made)
    def one(made: pd.DataFrame) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=bool(made["a"][0] == 1))

    @dg.asset  # kept by Dagster's own
    def model(made: pl.DataFrame) -> dict[str, int]:
        return {"rows": made.height}

    @dg.asset(io_manager_key="warehouse")
    def rows(model: dict[str, int]) -> pl.DataFrame:
        return pl.DataFrame(model)

    result = own.done(made, one, model, rows)
    assert checked(result) == {"one": True}
    assert own.rows("FROM assets.rows") == [(1,)]
    with dg.DagsterInstance.ephemeral() as instance:
        defs = dg.Definitions(assets=[made], resources=own.resources)
        frame: Any = defs.load_asset_value("made", python_type=pd.DataFrame, instance=instance)
    assert list(frame["b"]) == ["main.chunk"]
    assert reopen(own.project).run(wait=False).status == "ok"


def test_a_model_that_has_the_name_of_a_variable(own: Own) -> None:
    """DuckDB would read the table."""

    @dg.asset(io_manager_key="warehouse", key=["main", "chunk"])
    def chunk() -> pd.DataFrame:
        return pd.DataFrame({"a": [0]})

    own.done(chunk, gives(lambda: iter([pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})])))
    assert own.rows("FROM assets.made ORDER BY a") == [(1,), (2,)]


def test_tables_that_are_somebody_elses(own: Own) -> None:
    own.resources["warehouse"] = warehouse_io_manager({dg.AssetKey(["shop", "orders"]): TableRef("Assets", "Made")})
    said = own.fails(sql("SELECT 1 AS a"))
    assert "Asset made: Its table would be assets.made, which is that of shop/orders." in said

    @dg.asset(io_manager_key="warehouse", key=["_SMOLL", "state"])
    def inner() -> pd.DataFrame:
        return pd.DataFrame({"a": [1]})

    assert "_smoll is smoll's own" in own.fails(inner)

    @dg.asset(io_manager_key="warehouse", partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def parts() -> pd.DataFrame:
        return pd.DataFrame({"a": [1]})

    result = own.run(parts, partition_key="a")
    assert "Asset parts: It has partitions" in failures(result)


def test_names_with_anything_in_them(own: Own) -> None:
    names = ["it's", 'a "b', "Ünï; --"]

    @dg.multi_asset(outs={"odd": dg.AssetOut(key=names, io_manager_key="warehouse")})
    def odd() -> pd.DataFrame:
        return pd.DataFrame({'we "ird; --': [1], "select": [2]})

    @dg.asset(io_manager_key="warehouse", ins={"odd": dg.AssetIn(key=names)})
    def made(odd: pl.LazyFrame) -> pl.LazyFrame:
        return odd.select('we "ird; --')

    own.done(odd, made)
    assert own.rows("FROM assets.made") == [(1,)]
    assert own.rows("""SELECT * FROM "it's_a ""b"."Ünï; --" """) == [(1, 2)]


HALF = """
import time

def half():
    yield pd.DataFrame({"a": range(300_000)})
    print("half", flush=True)
    time.sleep(600)

@dg.asset(io_manager_key="warehouse")
def made() -> dg.Output:
    return dg.Output(half())

dg.materialize([made], resources=resources)
"""


@contextmanager
def half_written(project: smoll.Project) -> Iterator[subprocess.Popen[str]]:
    """A process in which an asset is being written; it does not end by itself."""
    command = [sys.executable, "-c", IN_PROCESS + HALF, str(project.config.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_smoll_run_waits_for_the_asset_and_a_signal_ends_it(own: Own) -> None:
    own.done(sql("SELECT 1 AS a"))
    root = own.project.config.root
    with half_written(own.project) as writing:
        run = [sys.executable, "-m", "smoll", "--project", str(root), "run"]
        assert (
            "Another smoll holds this project"
            in subprocess.run([*run, "--no-wait"], capture_output=True, text=True).stderr
        )
        waiting = subprocess.Popen([*run, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3)
        writing.send_signal(signal.SIGINT)
        assert writing.wait(20) != 0
        out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, out
    assert [run.status for run in reopen(own.project).runs(3)] == ["ok", "interrupted", "ok"]
    assert own.rows("FROM assets.made") == [(1,)]


def test_killed_while_it_is_written(own: Own) -> None:
    own.done(sql("SELECT 1 AS a"))
    with half_written(own.project) as writing:
        writing.kill()
        writing.wait()
    assert reopen(own.project).run(wait=False).status == "ok"
    assert [run.status for run in reopen(own.project).runs(3)] == ["ok", "killed", "ok"]
    assert own.rows("FROM assets.made") == [(1,)]


# --- in a project with streams and models ---------------------------------------------------------------------------

SCORES = """
import dagster as dg
import pandas as pd


@dg.asset(io_manager_key="warehouse")
def scores(stg_orders: pd.DataFrame) -> pd.DataFrame:
    return stg_orders.assign(score=stg_orders["amount"] * 2)
"""
SOURCES = """
sources:
  - name: assets
    tables: [{name: scores, columns: [{name: score, data_tests: [not_null]}]}]
models:
  - name: stg_orders
    columns: [{name: id, data_tests: [{relationships: {arguments: {to: "source('assets', 'scores')", field: id}}}]}]
"""
MODELS = {
    "staging/stg_orders": "select id, amount from {{ source('shop', 'orders') }}",
    "marts/ranked": "{{ config(materialized='table') }} select id, score from {{ source('assets', 'scores') }}",
    "sources.yml": SOURCES,
}
RELATED = "relationships_stg_orders_id__id__source_assets_scores_"


def test_between_loads_and_models(make_project: MakeProject) -> None:
    """Load, the models above, the asset, the models below, the checks of both, the release: one run with one lock.

    A test of a model above that looks at the asset, too, is no circle.
    """
    anything = {"anything": "select 1 where false"}
    project = make_project(YML.split("  web")[0], {**FILES, "assets/scores.py": SCORES}, MODELS, anything)
    first = project.run()
    assert {node.name: node.status for node in first.nodes}["ranked"] == "skipped"  # nobody has written the asset yet
    log = next((project.config.root / ".smoll/logs").glob("*1*.log")).read_text()
    assert "assets.scores is not there, and no source loads it. If it is the table of an asset, materialize" in log
    defs, instance = define(project), dg.DagsterInstance.ephemeral()
    result = run(defs, job="tests", instance=instance)
    assert result.success, failures(result)
    order = materialized(result)
    assert order[2:] == ["stg_orders", "scores", "ranked", "tests/release"]
    assert checked(result) == {"source_not_null_assets_scores_score": True, RELATED: True, "anything": True}
    runs = reopen(project).runs(5)
    assert [(one.run, one.status) for one in runs] == [(2, "ok"), (1, "failed")]
    assert [str(stream.ref) for stream in runs[0].streams] == ["shop.orders", "shop.customers", "dagster.scores"]
    assert released(project, "SELECT id, score FROM main.ranked ORDER BY id") == [(1, 20), (2, 40), (3, 10)]
    assert "dagster.scores" in {str(state.ref) for state in reopen(project).status().streams}

    outside = reopen(project).run()  # without Dagster: over what the asset was the last time
    assert outside.status == "ok" and outside.release.status == "unchanged"
    again = run(defs, ["scores"], instance=instance)
    assert again.success and checked(again) == {"source_not_null_assets_scores_score": True, RELATED: True}
    refused = run(defs, ["tests/release"], instance=instance)
    assert not refused.success
    assert "anything has not run since run 4, which changed assets.scores" in failures(refused)
    assert "source_not_null" not in failures(refused)
    early = dg.AssetSelection.assets("stg_orders", "scores") - dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("scores"), RELATED)
    )
    jobs = dg.Definitions(jobs=[dg.define_asset_job("early", early)])
    assert run(dg.Definitions.merge(defs, jobs), job="early", instance=instance).success
    refused = run(defs, ["tests/release"], instance=instance)  # they ran with stg_orders, before the asset
    for check in ("anything", RELATED):
        assert f"{check} has not run since" in failures(refused)
    assert reopen(project).run().release.status == "unchanged"  # its checks have run


def test_tables_that_are_taken_are_refused_from_the_start(make_project: MakeProject) -> None:
    asset = "import dagster as dg\n@dg.asset(io_manager_key='warehouse', key={key})\ndef one(): return None\n"
    project = make_project(YML.split("release")[0], FILES)
    for key, words in {
        "['raw_shop', 'Orders']": "raw_shop/Orders would have the table raw_shop.Orders, which is that of shop/orders",
        "['assets', 'two']": "two would have the table assets.two, which is that of assets/two",
    }.items():
        write(project.config.root, {"assets/a.py": asset.format(key=key), "assets/b.py": asset.format(key="['two']")})
        with pytest.raises(dg.DagsterInvalidDefinitionError, match=words):
            define(project)


def test_a_file_that_is_broken_is_named(make_project: MakeProject) -> None:
    project = make_project(YML.split("release")[0], FILES)
    for text, words in {
        "import dagster\ndef one(:\n": r"assets/broken.py:2:1: SyntaxError: invalid syntax",
        "\nimport nothing_of_this_name\n": r"assets/broken.py:2:1: ModuleNotFoundError: No module named 'nothing_of",
        "import json\n\njson.loads('{')\n": r"assets/broken.py:3:1: JSONDecodeError: ",
        "import dagster as dg\n@dg.asset(key=1)\ndef one(): ...\n": r"assets/broken.py:2:1: ",
    }.items():
        write(project.config.root, {"assets/broken.py": text})
        with pytest.raises(dg.DagsterInvalidDefinitionError, match=words):
            define(project)


def test_files_with_definitions_and_without(make_project: MakeProject) -> None:
    """What stands in a file counts beside the `Definitions` of another one, and own ones can be merged with all."""
    plain = "import dagster as dg\n@dg.asset(io_manager_key='warehouse')\ndef {name}(): return None\n"
    defined = plain.format(name="two") + "defs = dg.Definitions(assets=[two])\n" + plain.format(name="left_out")
    files = {**FILES, "assets/a.py": plain.format(name="one"), "assets/b.py": defined}
    project = make_project(YML.split("release")[0], files)

    @dg.asset(io_manager_key="warehouse")
    def three(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"a": [1]})

    defs = dg.Definitions.merge(define(project), dg.Definitions(assets=[three]))
    result = run(defs, ["one", "two", "three"])
    assert result.success and set(materialized(result)) == {"one", "two", "three"}
    assert raw(project, "FROM assets.three") == [(1,)]
    assert "left_out" not in {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}


PARALLEL = """
import dagster as dg, pandas as pd

@dg.asset(io_manager_key="warehouse", ins={"orders": dg.AssetIn(key=["shop", "orders"])})
def one(orders: pd.DataFrame) -> pd.DataFrame:
    return orders

@dg.asset(io_manager_key="warehouse", ins={"orders": dg.AssetIn(key=["shop", "orders"])})
def two(orders: pd.DataFrame) -> pd.DataFrame:
    return orders

processes = dg.multiprocess_executor.configured({"max_concurrent": 3})
selected = dg.AssetSelection.assets(["shop", "orders"], "one", "two")
parallel = dg.define_asset_job("parallel", selected, executor_def=processes)
"""


def test_steps_in_processes_of_their_own(make_project: MakeProject) -> None:
    """Each takes the lock for itself, one after the other."""
    definitions = "import smoll.dagster\n\ndefs = smoll.dagster.definitions(__file__)\n"
    files = {**FILES, "assets/parallel.py": PARALLEL, "definitions.py": definitions}
    project = make_project(YML.split("  web")[0], files)
    root = project.config.root
    with dagster_home(root):
        command = [sys.executable, "-m", "dagster", "job", "execute", "-f", "definitions.py", "-j", "parallel"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    runs = reopen(project).runs(5)
    assert [run.status for run in runs] == ["ok"] * 3 and len({run.origin for run in runs}) == 1
    assert {tuple(str(stream.ref) for stream in run.streams) for run in runs} == {
        ("shop.orders",), ("dagster.one",), ("dagster.two",),
    }  # fmt: skip
    assert raw(project, "SELECT count(*) FROM assets.one JOIN assets.two USING (id)") == [(3,)]
