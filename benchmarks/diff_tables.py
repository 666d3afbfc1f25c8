"""(l) `smoll diff` of two releases of ten million flights, beside the same comparison by hand in DuckDB."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import duckdb

from common import (
    CACHE,
    MB,
    PYTHON,
    BenchmarkError,
    Contender,
    clean_environment,
    compare,
    fresh_folder,
    results_table,
    run_quietly,
    smoll_command,
    verdict,
)
from flights import ROWS, flights_csv
from smoll.model import literal
from smoll.project.config import Resources
from smoll.warehouse import engine_settings

TITLE = "(l) What is different between two releases of a large table"
_AIM = 10.0
_BUDGET = 1_000_000_000
_MODEL = """\
{{ config(materialized='table', meta={'primary_key': 'flight_id'}) }}
select * from {{ source('nyc', 'flights') }}
"""
_BY_HAND = "SELECT count(*) FROM (SELECT * FROM {0}.main.flights EXCEPT ALL SELECT * FROM {1}.main.flights)"
_READS = "SELECT sum(hash(f)) FROM {0}.main.flights f"


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    folder, rows = CACHE / "diff", ROWS * copies
    _release_twice(folder, copies)
    share = engine_settings(Resources.model_construct(memory=_BUDGET), folder).as_dict()["memory_limit"]
    releases = {name: folder / f".smoll/releases/{number}/warehouse.duckdb" for name, number in (("a", 1), ("b", 2))}
    contenders = [
        Contender("smoll diff 1 2", smoll_command("diff", "1", "2", "--json"), folder),
        _duckdb(
            "by hand: EXCEPT ALL, both ways", releases, share, [_BY_HAND.format("a", "b"), _BY_HAND.format("b", "a")]
        ),
        _duckdb("reading both: a hash over each row", releases, share, [_READS.format("a"), _READS.format("b")]),
        Contender("start-up: smoll releases", smoll_command("releases", "--json"), folder),
    ]
    _verify(folder, rows)
    samples = compare(contenders, repeat)
    ours = samples["smoll diff 1 2"]
    size = sum(path.stat().st_size for path in releases.values())
    return "\n\n".join(
        [
            f"{rows:,} rows of 20 columns on each side, {size / MB:,.0f} MB of release files, with "
            "`resources: {memory: 1GB}`. One row in 100 has another value in one of two columns, one in 1,000 is gone, "
            "as many are new. smoll matches rows by their key, counts the changed values of each column, and shows "
            "samples. By hand it is two times `EXCEPT ALL`, which tells how many rows differ and no more.",
            results_table(samples, "reading both: a hash over each row"),
            verdict(ours.wall <= _AIM, f"{ours.wall:.1f} s (aim: seconds, at most {_AIM:.0f})."),
            verdict(ours.memory <= _BUDGET, f"peak memory {ours.memory / MB:.0f} MB (aim {_BUDGET / MB:.0f} MB)."),
        ]
    )


def _release_twice(folder: Path, copies: int) -> None:
    """A project whose releases 1 and 2 differ in one row in a hundred, and some more."""
    fresh_folder(folder)
    (folder / "transform/models").mkdir(parents=True)
    (folder / "transform/dbt_project.yml").write_text("name: diff\nversion: '1.0.0'\nprofile: diff\n", encoding="utf-8")
    (folder / "transform/models/flights.sql").write_text(_MODEL, encoding="utf-8")
    source = "sources: {nyc: {kind: files, streams: {flights: {path: flights.parquet}}}}"
    (folder / "smoll.yml").write_text(f"name: diff\nresources: {{memory: 1GB}}\n{source}\n", encoding="utf-8")
    csv = literal(str(flights_csv(copies)))
    read = f"SELECT row_number() OVER () AS flight_id, * FROM read_csv({csv}, nullstr=['', 'NA'])"
    changed = """SELECT * REPLACE (
            CASE WHEN flight_id % 200 = 7 THEN dep_delay + 1 ELSE dep_delay END AS dep_delay,
            CASE WHEN flight_id % 200 = 107 THEN 'changed' ELSE tailnum END AS tailnum)
        FROM base WHERE flight_id % 1000 <> 3
        UNION ALL BY NAME
        SELECT * REPLACE (flight_id + 1000000000 AS flight_id) FROM base WHERE flight_id % 1000 = 3"""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TEMP TABLE base AS {read}")
        for sql in ("FROM base", changed):
            target = folder / "flights.parquet"
            connection.execute(f"COPY ({sql}) TO {literal(str(target))} (FORMAT parquet)")
            run_quietly(smoll_command("run"), folder, {})


def _duckdb(name: str, releases: dict[str, Path], share: str, queries: list[str]) -> Contender:
    attached = [f"ATTACH {literal(str(path))} AS {side} (READ_ONLY)" for side, path in releases.items()]
    statements = [f"SET memory_limit = {literal(share)}", *attached, *queries]
    program = (
        "import duckdb, sys\nwith duckdb.connect() as c:\n    for s in sys.argv[1:]: print(c.execute(s).fetchall())"
    )
    return Contender(name, [str(PYTHON), "-c", program, *statements], CACHE)


def _verify(folder: Path, rows: int) -> None:
    """Raise BenchmarkError where the diff does not say what was changed."""
    command = smoll_command("diff", "1", "2", "--json")
    done = subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=True)
    (table,) = json.loads(done.stdout)["tables"]
    gone = (rows - 3) // 1000 + 1
    if (table["added"], table["removed"]) != (gone, gone) or not 0.005 < table["changed"] / rows < 0.011:
        raise BenchmarkError(f"smoll diff counts wrongly: {table['added']}, {table['removed']}, {table['changed']}")
