"""(e) Loading files of every format, a merge, and many small files, beside DuckDB itself, dlt and pandas."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
    run_quietly,
    say,
    smoll_command,
    verdict,
)
from flights import ROWS, flights_csv
from peers import described, environment

TITLE = "(e) Loading: every format, a merge, many small files"
_AIM = 0.85
_MEMORY_AIM = 1.1
_FOLDER = CACHE / "loading"
_DATA = CACHE / "data"
_START, _BARE_START = "start-up: smoll run, no source", "start-up: bare DuckDB, no file"
_FAIL, _QUARANTINE, _BARE = "smoll run", "smoll run, on_bad_row: quarantine", "bare DuckDB"
_SMALL_FILES = 10_000
_SCANS = {
    "csv": "read_csv({path}, nullstr = ['', 'NA'])",
    "csv.gz": "read_csv({path}, nullstr = ['', 'NA'])",
    "ndjson": "read_json({path})",
    "parquet": "read_parquet({path})",
}


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report: `copies` times the flights, and a tenth of that."""
    small = max(1, copies // 10)
    sections = [
        "smoll has `resources: {memory: 1GB}`, proves for every value that its type holds it exactly, and "
        "accounts for every record. Bare DuckDB has its own settings (80 % of the machine's memory). Speed is bare "
        f"DuckDB's time to smoll's, each beyond its start-up; the aim is at least {_AIM}.",
    ]
    parts = {suffix: partial(_format, suffix, small, copies, repeat) for suffix in _SCANS}
    parts |= {"merge": partial(_merge, repeat, copies), "small files": partial(_small_files, repeat)}
    for name, measure in parts.items():
        say(name)
        try:
            sections.append(measure())
        except BenchmarkError as error:  # the others are worth their hour all the same
            sections.append(f"**Not met**: {name} could not be measured:\n\n```text\n{error}\n```")
    return "\n\n".join(sections)


def _format(suffix: str, small: int, copies: int, repeat: int) -> str:
    few = _load(suffix, small, repeat, peers=True)
    many = _load(suffix, copies, repeat, peers=False)
    return "\n\n".join([few.text, many.text, _memory_verdict(suffix, few, many)])


@dataclass(frozen=True)
class _Measured:
    """The report of a comparison, how many rows it was, and smoll's sample."""

    text: str
    rows: int
    smoll: Sample


def _memory_verdict(suffix: str, few: _Measured, many: _Measured) -> str:
    ratio = many.smoll.memory / few.smoll.memory
    return verdict(
        ratio <= _MEMORY_AIM,
        f"{suffix}: {many.rows / few.rows:.0f} times the rows take {ratio:.2f} times the memory (aim {_MEMORY_AIM}): "
        f"{few.smoll.memory / MB:.0f} and {many.smoll.memory / MB:.0f} MB.",
    )


# --- One file


def _load(suffix: str, copies: int, repeat: int, *, peers: bool) -> _Measured:
    path, rows = flights_file(suffix, copies), ROWS * copies
    stream: dict[str, Any] = {"path": str(path)}
    if suffix.startswith("csv"):
        stream["null_values"] = ["", "NA"]
    contenders = [
        _smoll(_FAIL, _FOLDER / "fail", stream, rows),
        _smoll(_QUARANTINE, _FOLDER / "quarantine", {**stream, "on_bad_row": "quarantine"}, rows),
        _bare(_BARE, _FOLDER / "bare", rows, _SCANS[suffix].format(path=f"'{path}'")),
        *_start_up(),
    ]
    notes: list[str] = []
    if peers:
        found, notes = _peers(path, rows)
        contenders += found
    samples = compare(contenders, repeat)
    text = [
        f"**{suffix}**, {rows:,} rows, {path.stat().st_size / MB:,.0f} MB.",
        *notes,
        results_table(samples, _BARE),
        *(_speed_verdict(samples, name) for name in (_FAIL, _QUARANTINE)),
    ]
    return _Measured("\n\n".join(text), rows, samples[_FAIL])


def _speed_verdict(samples: Mapping[str, Sample], name: str, base: str = _BARE) -> str:
    ours, bare = samples[name].wall - samples[_START].wall, samples[base].wall - samples[_BARE_START].wall
    speed = bare / ours if ours > 0 else float("inf")
    return verdict(speed >= _AIM, f"{name}: {ours:.2f} s to {bare:.2f} s beyond start-up, speed {speed:.2f}.")


def _start_up() -> list[Contender]:
    return [_smoll(_START, _FOLDER / "empty", None, 0), _bare(_BARE_START, _FOLDER / "started", 0, None)]


def _smoll(name: str, folder: Path, stream: Mapping[str, Any] | None, rows: int) -> Contender:
    return Contender(
        name,
        smoll_command("run"),
        folder,
        prepare=partial(_write_project, folder, stream),
        verify=partial(check_rows, folder / ".smoll" / "warehouse.duckdb", "raw_nyc.flights", rows),
    )


def _write_project(folder: Path, stream: Mapping[str, Any] | None) -> None:
    fresh_folder(folder)
    sources = {"nyc": {"kind": "files", "streams": {"flights": stream}}} if stream else {}
    project = {"name": "load", "resources": {"memory": "1GB"}, "sources": sources}
    (folder / "smoll.yml").write_text(json.dumps(project), encoding="utf-8")  # JSON is YAML


def _bare(name: str, folder: Path, rows: int, scan: str | None) -> Contender:
    database = folder / "bare.duckdb"
    return Contender(
        name,
        [*_bare_command("load", database), *([scan] if scan else [])],
        folder,
        prepare=partial(fresh_folder, folder),
        verify=partial(check_rows, database, "flights", rows),
    )


def _bare_command(what: str, database: Path) -> list[str]:
    return [str(PYTHON), str(Path(__file__).with_name("bare_load.py")), what, str(database)]


def _peers(path: Path, rows: int) -> tuple[list[Contender], list[str]]:
    """dlt and pandas, and what there is to say of them."""
    contenders: list[Contender] = []
    notes: list[str] = []
    for name, script, table in (("dlt", "dlt_load.py", "raw.flights"), ("pandas", "pandas_load.py", "flights")):
        try:
            python = environment(name) / "bin" / "python"
        except BenchmarkError as error:
            say(f"{name}: {error}")
            notes.append(f"{name} is not installed: {error}")
            continue
        folder = _FOLDER / name
        database = folder / f"{name}.duckdb"
        contenders.append(
            Contender(
                described(name),
                [str(python), str(PROJECTS / "loading" / script), str(database), str(path)],
                folder,
                prepare=partial(fresh_folder, folder),
                verify=partial(check_rows, database, table, rows),
                environment={"DLT_DATA_DIR": str(folder / "data"), "RUNTIME__LOG_LEVEL": "ERROR"},
            )
        )
    return contenders, notes


# --- The files


def flights_file(suffix: str, copies: int) -> Path:
    """The flights `copies` times over, in a format; made once."""
    csv = flights_csv(copies)
    if suffix == "csv":
        return csv
    scan = f"read_csv('{csv}', nullstr = ['', 'NA'])"
    if suffix == "csv.gz":
        return _made(
            csv.with_suffix(".csv.gz"), f"(FROM read_csv('{csv}', all_varchar = true))", "csv, COMPRESSION gzip"
        )
    return _made(csv.with_suffix(f".{suffix}"), f"(FROM {scan})", "json" if suffix == "ndjson" else suffix)


def _made(path: Path, query: str, options: str) -> Path:
    if not path.is_file():
        say(f"Writing {path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"part-{path.name}")
        with duckdb.connect() as connection:
            connection.execute(f"COPY {query} TO '{part}' (FORMAT {options})")
        part.rename(path)
    return path


# --- A merge


def _merge(repeat: int, copies: int) -> str:
    """A tenth as many rows, nine of ten of them known, into a table that has them all."""
    rows = ROWS * copies
    fresh, known = rows // 10, rows // 10 * 9 // 10
    numbered = "SELECT row_number() OVER () - 1 AS id, {version} AS version, * FROM read_parquet('{path}')"
    whole = numbered.format(version=1, path=flights_file("parquet", copies))
    base = _made(_DATA / f"merge_base_x{copies}.parquet", f"({whole})", "parquet")
    changed = f"SELECT * REPLACE (id + {rows - known} AS id, 2 AS version) FROM ({whole}) LIMIT {fresh}"
    update = _made(_DATA / f"merge_fresh_x{copies}.parquet", f"({changed})", "parquet")
    stream = {"path": "data/*.parquet", "mode": "merge", "key": "id", "cursor": "version"}
    folder, bare, template = _FOLDER / "merge", _FOLDER / "merge_bare", _FOLDER / "merge_base"
    _write_merge_base(template, stream, base, rows)
    total = rows + fresh - known
    samples = compare(
        [
            Contender(
                "smoll run, mode: merge",
                smoll_command("run"),
                folder,
                prepare=partial(_prepare_merge, folder, template, update),
                verify=partial(check_rows, folder / ".smoll" / "warehouse.duckdb", "raw_nyc.flights", total),
            ),
            Contender(
                "DuckDB: delete and insert by hand",
                [*_bare_command("merge", bare / "bare.duckdb"), f"read_parquet('{update}')"],
                bare,
                prepare=partial(_copy_database, bare, template),
                verify=partial(check_rows, bare / "bare.duckdb", "flights", total),
            ),
            *_start_up(),
        ],
        repeat,
    )
    return "\n\n".join(
        [
            f"**merge** of {fresh:,} rows ({known:,} of them known) into {rows:,}, from Parquet. By hand: deduplicate "
            "into a temporary table, delete, insert, in one transaction.",
            results_table(samples, "DuckDB: delete and insert by hand"),
            _speed_verdict(samples, "smoll run, mode: merge", "DuckDB: delete and insert by hand"),
        ]
    )


def _write_merge_base(template: Path, stream: Mapping[str, Any], base: Path, rows: int) -> None:
    """A project, and a bare database beside it, that have loaded the base; made anew, since smoll may have changed."""
    say("Loading what is merged into")
    _write_project(template, stream)
    (template / "data").mkdir()
    (template / "data" / "1.parquet").symlink_to(base)
    run_quietly(smoll_command("run"), template, {})
    check_rows(template / ".smoll" / "warehouse.duckdb", "raw_nyc.flights", rows)
    run_quietly([*_bare_command("load", template / "bare.duckdb"), f"read_parquet('{base}')"], template, {})


def _prepare_merge(folder: Path, template: Path, update: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder, symlinks=True, ignore=shutil.ignore_patterns("bare.duckdb"))
    (folder / "data" / "2.parquet").symlink_to(update)


def _copy_database(folder: Path, template: Path) -> None:
    fresh_folder(folder)
    shutil.copyfile(template / "bare.duckdb", folder / "bare.duckdb")


# --- Many small files


def _small_files(repeat: int) -> str:
    source, rows = _small_folder(), _SMALL_FILES * 10
    stream = {"path": f"{source}/*.csv", "mode": "append"}
    folder = _FOLDER / "small"
    again = Contender(
        "smoll run, again: nothing new",
        smoll_command("run"),
        folder,
        verify=partial(check_rows, folder / ".smoll" / "warehouse.duckdb", "raw_nyc.flights", rows),
    )
    samples = compare(
        [
            _smoll("smoll run, mode: append", folder, stream, rows),
            again,
            _bare(_BARE, _FOLDER / "bare", rows, f"read_csv('{source}/*.csv', filename = true)"),
            *_start_up(),
        ],
        repeat,
    )
    return "\n\n".join(
        [
            f"**{_SMALL_FILES:,} small files** of CSV, ten rows each. smoll notes size and time of each file, so that "
            "the next run reads none of them again.",
            results_table(samples, _BARE),
            _speed_verdict(samples, "smoll run, mode: append"),
        ]
    )


def _small_folder() -> Path:
    folder = _DATA / f"small_{_SMALL_FILES}"
    if not (folder / "complete").is_file():
        say(f"Writing {_SMALL_FILES:,} small files")
        fresh_folder(folder)
        for number in range(_SMALL_FILES):
            lines = (f"{number * 10 + line},{line}.5,name {line},2024-01-{line + 1:02}\n" for line in range(10))
            (folder / f"{number:05}.csv").write_text("id,amount,name,day\n" + "".join(lines), encoding="utf-8")
        (folder / "complete").touch()
    return folder
