"""Rows and profiles to look at, without what is personal. Cells are cut by the engine: one may have 50 MB."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.model import Column, TableRef, quote, to_json
from smoll.portal.facts import Sample
from smoll.profiles import VERSION, TableProfile, profile_from_json, profile_table
from smoll.state.layout import write_atomically
from smoll.warehouse import columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROWS = 20
_COLUMNS = 60
_LONGEST = 200
_LONGEST_READ = 1000  # of which secrets are taken out before it is cut: half a secret is one, too
_PROFILED = 100_000
_SEED = 42
_TEMP = "smoll_portal_sample"


def sample_table(
    connection: DuckDBPyConnection,
    table: TableRef,
    columns: Sequence[Column],
    hidden: Set[str],
    redact: Callable[[str], str],
) -> Sample | None:
    """The first rows of a table; None where nothing of it may be shown, or it cannot be read.

    Parameters
    ----------
    hidden
        Columns to leave out, in lower case.
    redact
        Takes secrets out of a value.
    """
    import duckdb

    open_ = [column for column in columns if column.name.lower() not in hidden]
    shown = open_[:_COLUMNS]
    if not shown:
        return None
    cells = ", ".join(_cell(column, _LONGEST_READ) for column in shown)
    try:
        found = connection.execute(f"SELECT {cells} FROM {table.sql} LIMIT {ROWS}").fetchall()
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        return None
    rows = tuple(tuple(None if cell is None else _cut(redact(cell)) for cell in row) for row in found)
    return Sample(tuple(column.name for column in shown), rows, " ".join(_left_out(columns, open_, shown)))


def _cell(column: Column, longest: int) -> str:
    name = quote(column.name)
    if column.type == "VARCHAR":
        return f"left({name}, {longest})"
    if column.type == "BLOB":
        return f"CAST({name}[1:{_LONGEST}] AS VARCHAR)"
    return f"left(CAST({name} AS VARCHAR), {longest})"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _left_out(columns: Sequence[Column], open_: Sequence[Column], shown: Sequence[Column]) -> Iterator[str]:
    if len(open_) > len(shown):
        yield f"The first {len(shown)} of {len(open_):,} columns."
    personal = len(columns) - len(open_)
    if personal:
        yield f"{personal} personal column{'s are' if personal > 1 else ' is'} left out."


@dataclass
class StreamProfiles:
    """The profiles of source tables, of some of their rows, kept as long as nothing was loaded into them."""

    path: Path
    _known: dict[str, Any] = field(default_factory=dict)
    _used: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> StreamProfiles:
        """What was kept; nothing where the file is not there or not sound."""
        with suppress(OSError, ValueError):
            known = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(known, dict):
                return cls(path, known)
        return cls(path)

    def save(self) -> None:
        """Keep what was asked for, and nothing else."""
        if self._used != self._known:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(self._used, ensure_ascii=False))

    def profile(
        self, connection: DuckDBPyConnection, table: TableRef, moment: int, *, ignored: Set[str], hidden: Set[str]
    ) -> TableProfile | None:
        """The profile of a table as of `moment`, when it was written last; None where it cannot be read."""
        import duckdb

        columns = [column for column in columns_of(connection, table) if column.name.lower() not in ignored]
        about = [VERSION, moment, sorted(hidden), [str(column) for column in columns]]
        key = sha256(json.dumps(about).encode("utf-8", "surrogatepass")).hexdigest()
        kept = self._known.get(str(table))
        if isinstance(kept, dict) and kept.get("key") == key:
            with suppress(ValueError, KeyError):
                profile = profile_from_json(kept["profile"])
                self._used[str(table)] = kept
                return profile
        try:
            profile = _profile(connection, table, columns, hidden)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            return None
        self._used[str(table)] = json.loads(json.dumps({"key": key, "profile": to_json(profile)}))
        return profile


def _profile(
    connection: DuckDBPyConnection, table: TableRef, columns: Sequence[Column], hidden: Set[str]
) -> TableProfile:
    """Profile about 100,000 rows of a table. Long texts are cut before they are looked at."""
    (rows,) = connection.execute(f"SELECT count(*) FROM {table.sql}").fetchone() or (0,)
    sampled = "" if rows <= _PROFILED else f"USING SAMPLE {100 * _PROFILED / rows:.6f}% (bernoulli, {_SEED})"
    cells = ", ".join(
        f"left({quote(column.name)}, {_LONGEST_READ}) AS {quote(column.name)}"
        if column.type == "VARCHAR"
        else quote(column.name)
        for column in columns
    )
    if not columns:
        return TableProfile(table, rows)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_TEMP} AS SELECT {cells} FROM {table.sql} {sampled}")
    try:
        found = profile_table(connection, table, pii=hidden, relation=f"temp.main.{_TEMP}")
    finally:
        connection.execute(f"DROP TABLE IF EXISTS {_TEMP}")
    return TableProfile(table, rows, found.columns, min(found.rows, rows))
