"""Building a release: hash the tables, copy them into a new DuckDB file, describe them in a manifest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.errors import ReleaseError, disk_hint
from smoll.model import Column, ReleasedTable, ReleaseManifest, StoredFile, TableRef, literal, quote, to_json
from smoll.release.store import staged, write_manifest
from smoll.state.layout import Layout, fsync_path
from smoll.warehouse import columns_of, reason_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_STORAGE = "v1.0.0"
"""The oldest storage version that DuckDB 1.x drivers of BI tools can open."""
_BLOCK = 256 * 1024
PROFILE = "profile.json"
_RELEASE = "__smoll_release"


@dataclass(frozen=True)
class Candidate:
    """One table to release. ``ignored`` are columns that the hash leaves out, in lower case."""

    id: str
    ref: TableRef
    is_view: bool = False
    ignored: frozenset[str] = frozenset()
    description: str = ""
    columns: tuple[tuple[str, str], ...] = ()


def hash_tables(connection: DuckDBPyConnection, candidates: Sequence[Candidate]) -> tuple[ReleasedTable, ...]:
    """Count and hash the rows of every table, in the working warehouse.

    The hash is the sum of DuckDB's row hashes, so the order of rows plays no part and a doubled row does. Load
    metadata and snapshot clocks are left out: they differ between two loads of the same data.

    Raises
    ------
    ReleaseError
        A table is not in the warehouse, or it is a view that cannot be computed.
    """
    return tuple(_hash_table(connection, candidate, candidate.ref.sql) for candidate in candidates)


def _hash_table(connection: DuckDBPyConnection, candidate: Candidate, relation: str) -> ReleasedTable:
    import duckdb

    columns = columns_of(connection, candidate.ref)
    if not columns:
        raise ReleaseError(
            f"{candidate.ref} is not in the warehouse.",
            hint=f'Build it: smoll run --select "{candidate.ref.name}"',
        )
    hashed = [quote(column.name) for column in columns if column.name.lower() not in candidate.ignored]
    rows_hash = f"sum(hash({', '.join(hashed)})::HUGEINT)" if hashed else "0"
    sql = f"SELECT count(*), coalesce({rows_hash}, 0) % 18446744073709551616 FROM {relation}"
    try:
        row = connection.execute(sql).fetchone()
    except duckdb.Error as error:
        raise ReleaseError(
            f"{candidate.ref} cannot be read: {str(error).splitlines()[0]}",
            hint="Mend the model, then run again. Readers still see the release before.",
        ) from error
    rows, digest = row or (0, 0)
    return ReleasedTable(candidate.ref, candidate.id, int(rows), f"duckdb:{int(digest):016x}", columns)


Profiler = Callable[[Sequence[tuple[str, Candidate, ReleasedTable]]], Any]
"""Gets the copied tables, each with SQL that names it; returns what is to stand in ``profile.json``."""


Finisher = Callable[[Path, ReleaseManifest, Any], None]
"""Gets the folder of a release that is all but complete, its manifest and what the profiler said; adds what people look
at, synced."""


def build_release(
    connection: DuckDBPyConnection,
    layout: Layout,
    manifest: ReleaseManifest,
    candidates: Sequence[Candidate],
    profiler: Profiler,
    finish: Finisher,
) -> ReleaseManifest:
    """Copy the tables into ``releases/<number>/`` and return the manifest as written.

    Until the last rename nothing is visible; after it the release is complete, though not yet current. Profiles are
    those of the copies: what was a view is computed once, and says what readers will see.

    Raises
    ------
    ReleaseError
        The copy differs from the source, or the disk is full.
    """
    import duckdb

    try:
        with staged(layout, manifest.number) as folder:
            path = folder / "warehouse.duckdb"
            tables, profiles = _copy(connection, path, manifest.tables, candidates, profiler)
            fsync_path(path)
            path.chmod(0o444)
            stored = _store(folder / PROFILE, profiles)
            complete = replace(manifest, tables=tables, bytes=path.stat().st_size, profile=stored)
            finish(folder, complete, profiles)
            write_manifest(folder, complete)
    except (duckdb.Error, OSError) as error:
        raise ReleaseError(
            f"Release {manifest.number} could not be built: {reason_of(error)}",
            hint=f"Readers still see the release before. {disk_hint(error)}".strip(),
        ) from error
    return complete


def _copy(
    connection: DuckDBPyConnection,
    path: Path,
    tables: Sequence[ReleasedTable],
    candidates: Sequence[Candidate],
    profiler: Profiler,
) -> tuple[tuple[ReleasedTable, ...], Any]:
    """Copy the tables; return them as they are in the copy, and their profiles."""
    target = quote(_RELEASE)
    copied = []
    connection.execute(f"ATTACH {literal(str(path))} AS {target} (STORAGE_VERSION {literal(_STORAGE)})")
    try:
        for schema in sorted({table.ref.schema for table in tables}):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {target}.{quote(schema)}")
        for table, candidate in zip(tables, candidates, strict=True):
            copied.append(_copy_table(connection, f"{target}.{table.ref.sql}", table, candidate))
            _comment(connection, f"{target}.{table.ref.sql}", candidate, table.columns)
        connection.execute(f"CHECKPOINT {target}")
        sizes = _sizes(connection, [f"{target}.{table.ref.sql}" for table in copied])
        sized = tuple(replace(table, bytes=size) for table, size in zip(copied, sizes, strict=True))
        pairs = zip(candidates, sized, strict=True)
        profiles = profiler([(f"{target}.{table.ref.sql}", candidate, table) for candidate, table in pairs])
    finally:
        connection.execute(f"DETACH {target}")
    return sized, profiles


def _sizes(connection: DuckDBPyConnection, tables: Sequence[str]) -> list[int]:
    """How many bytes of the file each table takes: its blocks, and its part of those that it shares."""
    segments: list[Counter[int]] = []
    for table in tables:
        segment = f"FROM pragma_storage_info({literal(table)}) WHERE persistent"
        rows = connection.execute(
            f"""SELECT block_id, 1 {segment} AND block_id >= 0
            UNION ALL SELECT unnest(additional_block_ids), 1 {segment}"""
        ).fetchall()
        segments.append(Counter(int(block) for block, _ in rows))
    together = Counter[int]()
    for each in segments:
        together.update(each)
    return [round(sum(_BLOCK * n / together[block] for block, n in each.items())) for each in segments]


def _store(path: Path, data: Any) -> StoredFile:
    """Write a JSON file beside the manifest, synced."""
    content = (json.dumps(to_json(data), ensure_ascii=False, allow_nan=False) + "\n").encode()
    path.write_bytes(content)
    fsync_path(path)
    return StoredFile(path.name, hashlib.sha256(content).hexdigest())


def _copy_table(
    connection: DuckDBPyConnection, target: str, table: ReleasedTable, candidate: Candidate
) -> ReleasedTable:
    row = connection.execute(f"CREATE TABLE {target} AS SELECT * FROM {table.ref.sql}").fetchone()
    if candidate.is_view:  # it may say something else each time that it is read: now(), random()
        return _hash_table(connection, candidate, target)
    if row is None or int(row[0]) != table.rows:
        raise ReleaseError(f"{table.ref} changed while it was released.", hint="Run again.")
    return table


def _comment(connection: DuckDBPyConnection, target: str, candidate: Candidate, columns: Sequence[Column]) -> None:
    """Carry the descriptions of the dbt project into the file, where BI tools show them."""
    if candidate.description:
        connection.execute(f"COMMENT ON TABLE {target} IS {literal(candidate.description)}")
    names = {column.name.lower(): column.name for column in columns}
    for name, description in candidate.columns:
        if description and name.lower() in names:
            own = quote(names[name.lower()])
            connection.execute(f"COMMENT ON COLUMN {target}.{own} IS {literal(description)}")
