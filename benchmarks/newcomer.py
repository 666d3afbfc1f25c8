"""(c) The newcomer's job, by several tools: load the flights of a year, build three models, run three tests."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from functools import cache, partial
from pathlib import Path

import duckdb

from common import (
    CACHE,
    PROJECTS,
    PYTHON,
    BenchmarkError,
    Contender,
    activated,
    check_rows,
    compare,
    fresh_folder,
    results_table,
    run_quietly,
    say,
    smoll_command,
    verdict,
)
from flights import ROWS, flights_csv
from peers import described, environment

TITLE = "(c) The newcomer's job, from a cold process"
_FOLDER = CACHE / "newcomer"
_CARRIERS = 16


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    contenders = [_smoll(), _dbt()]
    notes = []
    makers: dict[str, Callable[[Path], Contender]] = {
        "SQLMesh": _sqlmesh,
        "Dango": _dango,
        "create-dagster": _create_dagster,
    }
    for name, make in makers.items():
        try:
            contenders.append(make(environment(name)))
            notes.append(f"- {described(name)}")
        except BenchmarkError as error:
            say(f"{name}: {error}")
            notes.append(f"- {name} is not installed: {error}")
    samples = compare(contenders, repeat)
    ours = samples["smoll"]
    peers = {name: sample for name, sample in samples.items() if name in makers}
    faster = [name for name, peer in peers.items() if ours.wall < peer.wall]
    smaller = [name for name, peer in peers.items() if ours.memory < peer.memory]
    return "\n\n".join(
        [
            f"{ROWS:,} rows of CSV, the same three models and three tests in each tool's own form, a new project each "
            "time, one command. smoll also checks, hashes and releases; Dango also makes a staging model, docs and "
            "(where it can fetch a language model) a scan for personal data.",
            "\n".join(notes),
            results_table(samples, "smoll"),
            verdict(len(faster) == len(peers), f"less time than {_named(faster, peers)}."),
            verdict(len(smaller) == len(peers), f"less memory than {_named(smaller, peers)}."),
        ]
    )


def _named(beaten: Collection[str], peers: Collection[str]) -> str:
    """Who was beaten, and who was not."""
    others = [name for name in peers if name not in beaten]
    return (", ".join(beaten) or "none") + (f", but not than {', '.join(others)}" if others else "")


def _verify(database: Path, schema: str = "main") -> None:
    """Every carrier has its row."""
    check_rows(database, f"{schema}.delays_by_carrier", _CARRIERS)


# --- smoll


def _smoll() -> Contender:
    folder = _FOLDER / "smoll"
    current = folder / ".smoll" / "releases" / "current" / "warehouse.duckdb"
    return Contender("smoll", smoll_command("run"), folder, partial(_prepare_smoll, folder), partial(_verify, current))


def _prepare_smoll(folder: Path) -> None:
    fresh_folder(folder, PROJECTS / "flights")
    stream = f'{{path: "{flights_csv()}", null_values: ["", "NA"]}}'
    sources = f"sources: {{nyc: {{kind: files, streams: {{flights: {stream}}}}}}}\n"
    (folder / "smoll.yml").write_text(f"name: flights\n{sources}", encoding="utf-8")


# --- dbt alone: the part of smoll's time that is not smoll's


def _dbt() -> Contender:
    folder = _FOLDER / "dbt"
    database = folder / "transform" / "flights.duckdb"
    return Contender(
        "dbt build alone, already loaded",
        [str(PYTHON.with_name("dbt")), "build"],
        database.parent,
        partial(_prepare_dbt, folder, database),
        partial(_verify, database),
        {"FLIGHTS_DATABASE": str(database)},
    )


def _prepare_dbt(folder: Path, database: Path) -> None:
    fresh_folder(folder, PROJECTS / "flights")
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE SCHEMA raw_nyc")
        connection.execute(f"CREATE TABLE raw_nyc.flights AS FROM read_csv('{flights_csv()}', nullstr = ['', 'NA'])")


# --- SQLMesh


def _sqlmesh(installed: Path) -> Contender:
    folder = _FOLDER / "sqlmesh"
    return Contender(
        "SQLMesh",
        [str(installed / "bin" / "sqlmesh"), "plan", "--auto-apply", "--no-prompts"],
        folder,
        partial(fresh_folder, folder, PROJECTS / "flights_sqlmesh"),
        partial(_verify, folder / "warehouse.duckdb"),
        {"FLIGHTS_CSV": str(flights_csv()), **activated(installed)},
    )


# --- Dango


def _dango(installed: Path) -> Contender:
    folder = _FOLDER / "dango"
    template = _dango_template(installed)
    return Contender(
        "Dango",
        [str(installed / "bin" / "dango"), "sync", "--yes"],
        folder,
        partial(fresh_folder, folder, template),
        partial(_verify, folder / "data" / "warehouse.duckdb", "marts"),
        activated(installed),
    )


@cache
def _dango_template(installed: Path) -> Path:
    """What ``dango init`` makes, with a source, the models, and no extension that its profile would fetch."""
    folder = _FOLDER / "dango_template"
    fresh_folder(folder)
    run_quietly([str(installed / "bin" / "dango"), "init", ".", "--skip-wizard"], folder, activated(installed))
    csv = flights_csv()
    source = f"{{name: nyc, type: csv, enabled: true, csv: {{directory: '{csv.parent}', file_pattern: {csv.name}}}}}"
    (folder / ".dango" / "sources.yml").write_text(f"version: '1.0'\nsources: [{source}]\n", encoding="utf-8")
    profile = folder / "dbt" / "profiles.yml"
    profile.write_text(re.sub(r" +extensions:\n( +- .*\n)+", "", profile.read_text()))
    with (folder / "dbt" / "dbt_project.yml").open("a") as file:
        file.write("\nvars: {flights_table: nyc}\n")
    for path in (PROJECTS / "flights" / "transform" / "models").rglob("*.*"):
        shutil.copy(path, folder / "dbt" / "models" / "marts")
    return folder


# --- create-dagster


def _create_dagster(installed: Path) -> Contender:
    folder = _FOLDER / "create_dagster"
    template = _dagster_template(installed)
    database = folder / "warehouse.duckdb"
    return Contender(
        "create-dagster",
        [str(installed / "bin" / "dg"), "launch", "--assets", "*"],
        folder,
        partial(fresh_folder, folder, template),
        partial(_verify, database),
        {
            "FLIGHTS_CSV": str(flights_csv()),
            "FLIGHTS_DATABASE": str(database),
            "DAGSTER_HOME": str(folder / "home"),
            "PYTHONPATH": "src",
            **activated(installed),
        },
    )


@cache
def _dagster_template(installed: Path) -> Path:
    """What ``create-dagster project`` makes, with a loader and the dbt project as a component."""
    parent = _FOLDER / "create_dagster_template"
    fresh_folder(parent)
    create = [str(installed / "bin" / "create-dagster"), "project", "flights", "--no-uv-sync"]
    run_quietly(create, parent, activated(installed))
    folder = parent / "flights"
    shutil.copytree(PROJECTS / "flights" / "transform", folder / "transform")
    shutil.copytree(PROJECTS / "flights_dagster", folder / "src" / "flights" / "defs", dirs_exist_ok=True)
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return folder
