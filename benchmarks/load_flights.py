"""(a) Ten million flights loaded by `smoll run`, beside DuckDB itself reading the same file into a table."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from common import (
    CACHE,
    MB,
    PYTHON,
    Contender,
    check_rows,
    compare,
    fresh_folder,
    results_table,
    smoll_command,
    verdict,
)
from flights import ROWS, flights_csv
from smoll.project.config import Resources
from smoll.warehouse import engine_settings

TITLE = "(a) A large CSV file into the warehouse"
_AIM = 1.15
_BUDGET = 1_000_000_000


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    csv, rows = flights_csv(copies), ROWS * copies
    folder = CACHE / "load"
    share = engine_settings(Resources.model_construct(memory=_BUDGET), folder).as_dict()["memory_limit"]
    contenders = [
        _smoll("smoll run", folder / "smoll", csv, rows),
        _duckdb("bare DuckDB", folder / "bare", rows, [str(csv)]),
        _duckdb("bare DuckDB, memory as smoll gives it", folder / "limited", rows, [str(csv), share]),
        _smoll("start-up: smoll run, no source", folder / "empty", None, 0),
        _duckdb("start-up: bare DuckDB, no file", folder / "started", 0, []),
        Contender("reading the file: cat", ["sh", "-c", 'cat "$0" > /dev/null', str(csv)], csv.parent),
    ]
    samples = compare(contenders, repeat)
    ours = samples["smoll run"].wall - samples["start-up: smoll run, no source"].wall
    bare = samples["bare DuckDB"].wall - samples["start-up: bare DuckDB, no file"].wall
    memory = samples["smoll run"].memory
    return "\n\n".join(
        [
            f"{rows:,} rows, {csv.stat().st_size / MB:,.0f} MB of CSV, in the page cache. smoll has "
            "`resources: {memory: 1GB}` and checks every value for its exact type. Bare DuckDB is "
            "`CREATE TABLE AS FROM read_csv` into a new file with DuckDB's own settings (80% of the machine's "
            f"memory), and once more with the {share} that smoll leaves it.",
            results_table(samples, "bare DuckDB"),
            verdict(
                ours / bare <= _AIM, f"beyond start-up {ours:.2f} s to {bare:.2f} s, {ours / bare:.2f} (aim {_AIM})."
            ),
            verdict(memory <= _BUDGET, f"peak memory {memory / MB:.0f} MB (aim {_BUDGET / MB:.0f} MB)."),
        ]
    )


def _smoll(name: str, folder: Path, csv: Path | None, rows: int) -> Contender:
    return Contender(
        name,
        smoll_command("run"),
        folder,
        prepare=partial(_write_project, folder, csv),
        verify=partial(check_rows, folder / ".smoll" / "warehouse.duckdb", "raw_nyc.flights", rows),
    )


def _write_project(folder: Path, csv: Path | None) -> None:
    fresh_folder(folder)
    streams = f'{{flights: {{path: "{csv}", null_values: ["", "NA"]}}}}'
    source = f"sources: {{nyc: {{kind: files, streams: {streams}}}}}\n" if csv else ""
    (folder / "smoll.yml").write_text(f"name: load\nresources: {{memory: 1GB}}\n{source}", encoding="utf-8")


def _duckdb(name: str, folder: Path, rows: int, arguments: list[str]) -> Contender:
    database = folder / "bare.duckdb"
    return Contender(
        name,
        [str(PYTHON), str(Path(__file__).with_name("bare_duckdb.py")), str(database), *arguments],
        folder,
        prepare=partial(fresh_folder, folder),
        verify=partial(check_rows, database, "flights", rows),
    )
