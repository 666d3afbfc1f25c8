"""(k) What a run pays for its release, and for `smoll undo`, beside copying the same bytes."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from common import CACHE, MB, fresh_folder, say, table, verdict
from smoll.model import ReleasedTable, ReleaseManifest, TableRef, quote, to_json
from smoll.profiles import profile_table
from smoll.project.config import Resources
from smoll.release import Candidate, build, build_release, hash_tables
from smoll.release.store import put_forward
from smoll.state.copies import reflink
from smoll.state.layout import Layout, fsync_path
from smoll.warehouse import engine_settings, open_warehouse

T = TypeVar("T")

TITLE = "(k) What a release costs"
_FOLDER = CACHE / "staging"
_TABLES = 4
_ROWS_OF_A_GIGABYTE = 36_500_000
_LIMIT = 1.5
_HASH, _COPY, _SYNC, _SWITCH = "hash the tables", "copy them into the release", "fsync", "switch"
_UNDO, _REFLINK = "copy for `smoll undo`: plain, with fsync", "copy for `smoll undo`: reflink"
_CP, _DUCKDB = "limit: copy the file (sendfile), with fsync", "limit: DuckDB's COPY FROM DATABASE, with fsync"
_PROFILE = "profile them"
_STAGING = (_HASH, _COPY, _PROFILE, _SYNC, _SWITCH)
_ROW = """
    range AS id, DATE '2013-01-01' + (range % 3650)::INTEGER AS day, (hash(range) % 1000000) / 100 AS amount,
    hash(range + 1)::DOUBLE AS measure, hash(range + 2) AS code, md5(range::VARCHAR)[:12] AS name,
    'carrier ' || range % 20 AS carrier
"""


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    size = copies / 30
    layout = Layout(_FOLDER)
    fresh_folder(_FOLDER)
    layout.prepare()
    settings = engine_settings(Resources(), layout.tmp)
    refs = [TableRef("main", f"table_{number}") for number in range(_TABLES)]
    with open_warehouse(layout.warehouse, settings) as warehouse:
        for ref in refs:
            number = round(size * _ROWS_OF_A_GIGABYTE / _TABLES)
            warehouse.execute(f"CREATE TABLE {ref.sql} AS SELECT {_ROW} FROM range({number})")
    turns = []
    for turn in range(repeat):
        turns.append(_turn(layout, [Candidate(str(ref), ref) for ref in refs]))
        say(f"{turn + 1}/{repeat} " + ", ".join(f"{step}: {seconds:.2f} s" for step, seconds in turns[-1].items()))
    times = {step: statistics.median(turn[step] for turn in turns) for step in turns[0]}
    written = layout.warehouse.stat().st_size
    shutil.rmtree(_FOLDER)
    staged, limit = sum(times[step] for step in _STAGING), times[_DUCKDB]
    rows = [_row(step, seconds, written, times[_CP]) for step, seconds in [*times.items(), ("**a release**", staged)]]
    share = 100 * times[_HASH] / staged
    about = (
        f"A warehouse of {written / 1000 / MB:.1f} GB: {_TABLES} tables of {round(size * _ROWS_OF_A_GIGABYTE):,} rows "
        "in all, seven columns each, all released. Before each step what was written before is synced; the file is in "
        "the page cache as far as there is room."
    )
    hashing = (
        f"Each table is read once more to hash it: {share:.0f}% of a release, and all that a run pays for which has "
        "nothing to release."
    )
    met = verdict(
        staged <= _LIMIT * limit, f"a release in {staged / limit:.2f} times DuckDB's own copy (aim {_LIMIT})."
    )
    header = ["", "time", "MB/s", f"time, {_CP.removeprefix('limit: ')} = 1"]
    return "\n\n".join([about, table(header, rows), hashing, met])


def _row(step: str, seconds: float, written: int, base: float) -> list[str]:
    return [step, f"{seconds:.2f} s", f"{written / MB / max(seconds, 1e-6):,.0f}", f"{seconds / base:.2f}"]


def _turn(layout: Layout, candidates: list[Candidate]) -> dict[str, float]:
    times: dict[str, float] = {}
    settings = engine_settings(Resources(), layout.tmp)
    with open_warehouse(layout.warehouse, settings) as warehouse:
        tables = _timed(times, _HASH, lambda: hash_tables(warehouse, candidates))
        manifest = ReleaseManifest(1, "benchmark", 1, datetime.now(UTC), tables)

        def synced(path: Path) -> None:
            begun = time.perf_counter()
            fsync_path(path)
            times[_SYNC] = times.get(_SYNC, 0.0) + time.perf_counter() - begun

        def profiled(found: Sequence[tuple[str, Candidate, ReleasedTable]]) -> list[Any]:
            begun = time.perf_counter()
            profiles = [profile_table(warehouse, each.ref, relation=relation) for relation, _, each in found]
            times[_PROFILE] = time.perf_counter() - begun
            return [to_json(profile) for profile in profiles]

        vars(build)["fsync_path"] = synced
        _timed(times, _COPY, lambda: build_release(warehouse, layout, manifest, candidates, profiled, lambda *_: None))
        vars(build)["fsync_path"] = fsync_path
        times[_COPY] -= times[_SYNC] + times[_PROFILE]
        _timed(times, _SWITCH, lambda: put_forward(layout, 1))
    layout.current.unlink()
    shutil.rmtree(layout.releases / "1")
    target = layout.state / "copy.duckdb"
    _timed(times, _CP, lambda: _copy_file(layout.warehouse, target))
    _timed(times, _UNDO, lambda: _copy_file(layout.warehouse, target))  # the same, as a measure of chance
    target.unlink()
    if reflink(layout.warehouse, target):
        _timed(times, _REFLINK, lambda: _share_blocks(layout.warehouse, target))
    target.unlink()
    _timed(times, _DUCKDB, lambda: _copy_database(layout, target))
    target.unlink()
    return {step: times[step] for step in (*_STAGING, _UNDO, _REFLINK, _CP, _DUCKDB) if step in times}


def _timed(times: dict[str, float], step: str, work: Callable[[], T]) -> T:
    os.sync()
    begun = time.perf_counter()
    result = work()
    times[step] = time.perf_counter() - begun
    return result


def _copy_file(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    fsync_path(target)


def _share_blocks(source: Path, target: Path) -> None:
    reflink(source, target)
    fsync_path(target)


def _copy_database(layout: Layout, target: Path) -> None:
    settings = engine_settings(Resources(), layout.tmp)
    with duckdb.connect(":memory:") as connection:
        for name, value in settings.as_dict().items():
            connection.execute(f"SET {name} = '{value}'")
        connection.execute(f"ATTACH '{layout.warehouse}' AS source (READ_ONLY)")
        connection.execute(f"ATTACH '{target}' AS {quote('target')}")
        connection.execute("COPY FROM DATABASE source TO target")
        connection.execute("CHECKPOINT target")
    fsync_path(target)
