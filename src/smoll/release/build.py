"""Building a release: hash the tables, copy them into a new DuckDB file, describe them in a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.errors import ReleaseError
from smoll.model import Column, ReleasedTable, ReleaseManifest, TableRef, literal, quote
from smoll.release.store import staged, write_manifest
from smoll.state.layout import Layout, fsync_path
from smoll.warehouse import columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_STORAGE = "v1.0.0"
"""The oldest storage version that DuckDB 1.x drivers of BI tools can open."""
_RELEASE = "__smoll_release"
_FULL = " Free some space, then run again."


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


def build_release(
    connection: DuckDBPyConnection,
    layout: Layout,
    manifest: ReleaseManifest,
    candidates: Sequence[Candidate],
) -> ReleaseManifest:
    """Copy the tables into ``releases/<number>/`` and return the manifest as written.

    Until the last rename nothing is visible; after it the release is complete, though not yet current.

    Raises
    ------
    ReleaseError
        The copy differs from the source, or the disk is full.
    """
    import duckdb

    try:
        with staged(layout, manifest.number) as folder:
            path = folder / "warehouse.duckdb"
            tables = _copy(connection, path, manifest.tables, candidates)
            fsync_path(path)
            path.chmod(0o444)
            complete = replace(manifest, tables=tables, bytes=path.stat().st_size)
            write_manifest(folder, complete)
    except (duckdb.Error, OSError) as error:
        raise ReleaseError(
            f"Release {manifest.number} could not be built: {str(error).splitlines()[0]}",
            hint=f"Readers still see the release before.{_FULL if 'space' in str(error) else ''}",
        ) from error
    return complete


def _copy(
    connection: DuckDBPyConnection,
    path: Path,
    tables: Sequence[ReleasedTable],
    candidates: Sequence[Candidate],
) -> tuple[ReleasedTable, ...]:
    """Copy the tables and return them as they are in the copy."""
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
    finally:
        connection.execute(f"DETACH {target}")
    return tuple(copied)


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
