"""Other people's SQL, through `smoll sql` and `smoll.connect`: it reads the release, and reaches nothing else."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import psutil  # type: ignore[import-untyped]
import pyarrow
import pytest

import smoll
from run.shop import FILES, MODELS, SOURCES
from support import parquet, write_project
from torture.asking import Answer, ask

CANARY = "canary-5fd1"
MEMORY = 500_000_000
"""The project's limit. DuckDB's is 300 MiB less."""

REFUSED = """
from read_text('{out}/c.csv')
from read_blob('{out}/c.csv')
from read_csv('{out}/c.csv')
from read_csv_auto('{out}/c.csv')
from read_csv('{out}/c.csv', store_rejects = true)
from sniff_csv('{out}/c.csv')
from '{out}/c.csv'
from '{out}/c.parquet'
from '{out}/c.json'
from read_parquet('{out}/c.parquet')
from parquet_scan('{out}/c.parquet')
from parquet_metadata('{out}/c.parquet')
from parquet_schema('{out}/c.parquet')
from parquet_kv_metadata('{out}/c.parquet')
from parquet_file_metadata('{out}/c.parquet')
from parquet_bloom_probe('{out}/c.parquet', 'a', 'x')
from read_json('{out}/c.json')
from read_json_auto('{out}/c.json')
from read_ndjson_objects('{out}/c.json')
from glob('{out}/*')
from glob('*')
from 'data/orders.csv'
from '.smoll/ledger.sqlite'
from read_text('.env')
from read_text('/proc/self/environ')
from read_csv('/dev/stdin')
from read_blob('{file}')
from read_text('{file}.wal')
from read_duckdb('{out}/c.duckdb', table_name = 't')
from read_csv('http://127.0.0.1:9/x.csv')
from 'https://127.0.0.1:9/x.parquet'
from 's3://bucket/x.parquet'
from query('from read_text(''{out}/c.csv'')')
from query_table('{out}/c.csv')
from query_table(['{out}/c.csv'])
select * from json_execute_serialized_sql(json_serialize_sql('select * from read_text(''{out}/c.csv'')'))
prepare p as from read_text('{out}/c.csv'); execute p
create temp macro m() as table from read_text('{out}/c.csv'); from m()
set variable x = (select content from read_text('{out}/c.csv'))
from sql_auto_complete('from ''{out}/')
copy main.orders to '{out}/w.csv'
copy (select 1) to '{out}/w.parquet' (format parquet)
copy (select 1) to '/dev/stdout'
copy (select 1) to '{file}' (format csv)
copy (select 1) to '{file}.wal' (format csv)
copy (select 1) to '{file}.wal' (format csv, use_tmp_file false)
copy (select 1) to 'http://127.0.0.1:9/x'
copy main.orders from '{out}/c.csv'
export database '{out}/w'
import database '{out}'
pragma import_database('{out}')
attach '{out}/c.duckdb' as o; from o.t
attach '{out}/c.duckdb' as o (read_only); from o.t
attach '{out}/c.duckdb' as o (type duckdb, read_only); from o.t
attach '{out}/w.duckdb' as w
attach '{out}/w.db' (type sqlite)
attach 'host=127.0.0.1' as p (type postgres)
attach 'ducklake:x.ducklake' as l
attach 'https://127.0.0.1:9/x.duckdb' as w
attach '{file}' as again
use memory; detach {database}; attach '{file}' as w; create or replace table w.main.orders as select 1
use memory; detach {database}; attach '{file}' as w (read_only); from w.main.orders
detach {database}
install httpfs
force install httpfs from 'http://127.0.0.1:9'
install '{out}/evil.duckdb_extension'
load httpfs
load '{out}/evil.duckdb_extension'
update extensions
from duckdb_extensions()
set memory_limit = '10GB'
set global memory_limit = '10GB'
set session memory_limit = '10GB'
set local memory_limit = '10GB'
pragma memory_limit = '10GB'
reset memory_limit
reset global memory_limit
set threads = 64
set max_expression_depth = 1000000
set enable_external_access = true
reset enable_external_access
set disabled_filesystems = ''
reset disabled_filesystems
set lock_configuration = false
reset lock_configuration
set allowed_paths = ['/']
set allowed_directories = ['/']
set temp_directory = '{out}/w'
set home_directory = '{out}'
set file_search_path = '{out}'
set secret_directory = '{out}'
set extension_directory = '{out}'
set autoinstall_known_extensions = true
set allow_unsigned_extensions = true
set python_enable_replacements = true
set log_query_path = '{out}/w.log'
set profiling_output = '{out}/w.json'
set enable_profiling = 'json'
pragma profiling_output = '{out}/w.json'
call enable_profiling(format = 'json', save_location = '{out}/w.json')
from enable_profiling(format = 'query_tree', save_location = '{out}/w.txt'); select 1
call enable_logging(storage = 'file', storage_path = '{out}/w')
from enable_logging('QueryLog', storage = 'file', storage_path = '{out}/w'); select 1
create secret s (type s3, key_id 'x', secret 'y')
create persistent secret s (type s3)
from duckdb_secrets()
from which_secret('s3://x', 's3')
drop persistent secret s
select getenv('SMOLL_CANARY')
from sqlite_scan('{out}/c.db', 't')
from postgres_query('x', 'y')
create table main.w as select 1
create view main.w as select 1
create or replace view main.orders as select 1
create schema w
create macro main.w() as 1
create type w as enum ('a')
create sequence w
insert into main.orders select * from main.orders
update main.orders set id = 9
delete from main.orders
truncate main.orders
drop table main.orders
drop schema main cascade
alter table main.orders add column x int
comment on table main.orders is 'x'
begin; delete from main.orders; commit
from arrow_scan(1, 2, 3)
from pandas_scan(1)
from query
from connection
from project
from sys
"""
"""Exit code 1 or 2 and a clear line."""

HARMLESS = """
from main.orders
from duckdb_settings()
from duckdb_databases()
from duckdb_functions()
from duckdb_logs()
from duckdb_temporary_files()
from duckdb_variables()
from pg_settings
from sqlite_master
pragma database_list
pragma database_size
pragma storage_info('main.orders')
pragma user_agent
pragma enable_profiling
pragma force_checkpoint
force checkpoint {database}
vacuum
call enable_logging(level = 'trace'); from main.orders
call truncate_duckdb_logs()
attach ':memory:' as m; create table m.t as select 42; from m.t
use memory; create table t as select 42; from t
copy from database {database} to memory
create temp table t as select 42; from t
create temp macro m() as 42; select m()
prepare p as select 42; execute p
set variable x = 42; select getvariable('x')
set search_path = 'memory'
detach memory
select current_setting('secret_directory')
pragma add_parquet_key('k', '0123456789112345')
load icu; select 1
explain analyze from main.orders
"""
"""They may answer, and say and change nothing that is not the reader's own."""

HEAVY = {
    "a table": "create temp table t as select repeat('x', 1000) || i as s from range(10_000_000) r(i)",
    "a database": "attach ':memory:' as m; create table m.t as select repeat('x', 1000) || i from range(9999999) r(i)",
    "a sort": "from range(100_000_000) order by hash(range) limit 1 offset 50_000_000",
    "groups": "select count(*) from (select distinct range from range(100_000_000))",
    "a list": "select list(range) from range(1_000_000_000)",
    "one text": "select repeat('x', 10_000_000_000)",
    "a long text": "select length(repeat('x', 1_000_000_000))",
    "padding": "select printf('%1000000000d', 1)",
    "a constant list": "select len(range(100_000_000))",
    "many rows of a list": "select unnest(range(1_000_000_000))",
    "a list of texts": "select list_transform(range(100_000_000), lambda x: x::varchar)",
    "recursion": "with recursive r as (select 'x' as s union all select s || s from r) select max(length(s)) from r",
    "parentheses": f"select {'(' * 50_000}1{')' * 50_000}",
    "lists in lists": f"select {'[' * 50_000}{']' * 50_000}",
    "queries in queries": f"{'from (' * 5_000}from main.orders{')' * 5_000}",
    "a long sum": f"select {'+'.join(['1'] * 50_000)}",
    "macros": "create temp macro f(x) as f(x); select f(1)",
    "a histogram": "select histogram(i) from range(100_000_000) t(i)",
    "a wide pivot": "pivot (from range(200_000)) on range using count(*)",
}
"""Each would take gigabytes, the stack or for ever."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> smoll.Project:
    root = tmp_path_factory.mktemp("hostile") / "it's a shop"
    root.mkdir()
    write_project(root, f"resources: {{memory: 500MB, threads: 2}}\n{SOURCES}", FILES, MODELS, {})
    project = smoll.open_project(root)
    assert project.run().release.status == "published"
    return project


def _outside(folder: Path) -> Path:
    """A folder with what nobody may read."""
    folder.mkdir()
    (folder / "c.csv").write_text(f"a\n{CANARY}\n")
    (folder / "c.json").write_text(f'{{"a": "{CANARY}"}}\n')
    (folder / "schema.sql").write_text(f"select '{CANARY}';")
    (folder / "evil.duckdb_extension").write_bytes(b"\x7fELF")
    parquet(f"select '{CANARY}' as a", folder / "c.parquet")
    with duckdb.connect(str(folder / "c.duckdb")) as connection:
        connection.execute(f"create table t as select '{CANARY}' as a")
    return folder


def _contents(*folders: Path) -> dict[str, str]:
    """Every file to a hash of it."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _lines(text: str, **names: str) -> list[str]:
    return [line.format(**names) for line in text.strip().splitlines()]


def _assert_clear(query: str, answer: Answer) -> None:
    said = f"{query}\n{answer.output}"
    assert answer.code in (0, 1, 2), said
    assert answer.code == 0 or answer.output.count("Error: ") >= 1, said
    assert "A bug in smoll" not in answer.output and "Traceback" not in answer.output, said
    assert CANARY not in answer.output, said


@pytest.mark.parametrize("place", ["release", "warehouse"])
def test_no_query_reads_or_writes_anything_else(shop: smoll.Project, tmp_path: Path, place: str) -> None:
    out, home = _outside(tmp_path / "out"), tmp_path / "home"
    home.mkdir()
    root = shop.config.root
    (root / ".env").write_text(f"A={CANARY}\n")
    file = root / ".smoll" / ("releases/1/warehouse.duckdb" if place == "release" else "warehouse.duckdb")
    names = {"out": str(out), "file": str(file).replace("'", "''"), "database": place}
    refused, harmless = _lines(REFUSED, **names), _lines(HARMLESS, **names)
    before = _contents(out, root)
    options = ["--raw", "--format", "parquet"] if place == "warehouse" else []  # the rows go to another DuckDB
    answers = ask(root, [*refused, *harmless], *options, env={"HOME": str(home), "SMOLL_CANARY": CANARY})
    for query, answer in zip([*refused, *harmless], answers, strict=True):
        _assert_clear(query, answer)
        assert (answer.code == 0) == (query in harmless), f"{query}\n{answer.output}"
    assert _contents(out, root) == before
    assert list(home.rglob("*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing counts the memory of a single value")
def test_no_query_takes_more_memory_than_the_project_has_or_breaks_the_process(shop: smoll.Project) -> None:
    for name, answer in zip(HEAVY, ask(shop.config.root, list(HEAVY.values())), strict=True):
        _assert_clear(name, answer)
        assert answer.code != 0, name
        assert answer.memory < MEMORY + 100_000_000, f"{name}: {answer.memory:,} bytes"


@pytest.mark.parametrize(
    "query",
    [
        "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r",
        "select levenshtein(repeat('a', 300_000), repeat('b', 300_000))",
    ],
    ids=["what DuckDB ends", "one value, which it does not"],
)
def test_ctrl_c_ends_every_query_at_once(shop: smoll.Project, query: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "smoll", "--project", str(shop.config.root), "sql", query],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not any(sum(each.cpu_times()[:2]) > 1 for each in psutil.Process(process.pid).children()):
        time.sleep(0.05)  # to connect takes less
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.strip() == "Error: Interrupted."


def test_a_connection_sees_nothing_of_the_program_that_made_it(shop: smoll.Project) -> None:
    secrets = pyarrow.table({"a": [CANARY]})
    assert secrets.num_rows == 1
    with shop.connect() as connection:
        for query in ("from secrets", "from CANARY", "from shop"):
            with pytest.raises(duckdb.CatalogException):
                connection.execute(query)
        cursor = connection.cursor()
        with pytest.raises(duckdb.PermissionException):
            cursor.execute("from read_text('/etc/hostname')")
        with pytest.raises(duckdb.PermissionException):
            connection.read_csv("/etc/hostname")


def test_what_a_query_does_to_its_own_connection_touches_no_other(shop: smoll.Project) -> None:
    with shop.connect() as hostile, shop.connect() as other:
        hostile.execute("use memory; detach release")
        assert other.execute("select count(*) from main.orders").fetchall() == [(2,)]
    with shop.connect() as again:
        assert again.execute("select count(*) from main.orders").fetchall() == [(2,)]
