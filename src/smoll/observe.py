"""``smoll profile``: what a table looks like, in a release or in the working warehouse, and did before."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from smoll.describe import Description, describe
from smoll.errors import ReleaseError, UsageError
from smoll.interrupts import interruptible
from smoll.model import TableRef
from smoll.profiles import PastProfile, TableProfile, history, profile_table, without_values
from smoll.publish import ignored_columns, read_profiles
from smoll.release import current_release, read_manifest
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger
from smoll.warehouse import INTERNAL_SCHEMA, engine_settings, reading

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.model import ReleaseManifest
    from smoll.project import ProjectConfig

T = TypeVar("T")


def observe_table(config: ProjectConfig, name: str, release: int | None = None, *, raw: bool = False) -> TableProfile:
    """The profile of a table in a release (the current one by default).

    Parameters
    ----------
    name
        ``schema.table``, or only the table's name where one schema has it.
    raw
        Profile the table of the working warehouse now, one that is not released too.

    Raises
    ------
    UsageError
        There is no such release or table.
    ReleaseError
        Nothing has been released (or, with `raw`, loaded) yet, or a run holds the working warehouse.
    """
    if raw and release is not None:
        raise UsageError("A release has a profile, and so has the working warehouse: ask for one of them.")
    description = describe(config)
    if raw:
        return _profile_now(config, description, name)
    manifest = manifest_of(config, release)
    table = find_table(name, [table.ref for table in manifest.tables])
    known = dict(read_profiles(Layout(config.root), manifest)).get(str(table))
    if known is not None:
        return without_values(known[0], personal(description, table))
    with reading_release(config, manifest.number) as connection:
        return _profile(config, description, connection, table)


def observe_history(config: ProjectConfig, name: str) -> tuple[PastProfile, ...]:
    """What is kept of earlier profiles of a table, the oldest first; a release in which it did not change has none.

    Raises
    ------
    UsageError
        No table of this name was released.
    """
    with open_ledger(Layout(config.root).ledger) as ledger:
        refs = [TableRef(*each.split(".", 1)) for each in ledger.profiled_tables()] if ledger else []
        if not refs or ledger is None:
            raise UsageError("No profile is known yet.", hint="`smoll run` makes a release, and profiles its tables.")
        table = find_table(name, refs)
        found = history(ledger, table, limit=1000)
    pii = personal(describe(config), table)
    return tuple(replace(past, profile=without_values(past.profile, pii)) for past in found)


def manifest_of(config: ProjectConfig, release: int | None = None) -> ReleaseManifest:
    """The manifest of a release, by default of the current one. Raises ReleaseError where nothing is released."""
    layout = Layout(config.root)
    number = release if release is not None else current_release(layout)
    if number is None:
        raise ReleaseError("Nothing has been released yet.", hint="`smoll run` makes the first release.")
    return read_manifest(layout, number)


@contextmanager
def reading_release(config: ProjectConfig, number: int) -> Iterator[DuckDBPyConnection]:
    """Connect to the tables of a release."""
    layout = Layout(config.root)
    settings = engine_settings(config.resources, layout.tmp)
    with reading(layout.tables_of(number), "release", settings) as connection:
        yield connection


def personal(description: Description, table: TableRef) -> frozenset[str]:
    """The columns of a table that are marked as personal, there or in what it is built from; in lower case."""
    graph, name = description.graph, str(table).lower()
    return graph.personal(node.id for node in graph.nodes.values() if str(node.table).lower() == name)


def find_table(name: str, tables: Iterable[TableRef]) -> TableRef:
    """The table of this name, with its schema or without. Raises UsageError where there is none, or more than one."""
    known = sorted(tables)
    wanted = name.lower()
    found = [table for table in known if wanted in (str(table).lower(), table.name.lower())]
    if len(found) > 1:
        exact = [table for table in found if str(table).lower() == wanted]
        if len(exact) != 1:
            named = ", ".join(map(str, found))
            raise UsageError(f"There is more than one table {name!r}: {named}.", hint="Write schema.table.")
        found = exact
    if found:
        return found[0]
    spellings = {spelled.lower(): str(table) for table in known for spelled in (table.name, str(table))}
    near = [spellings[each] for each in difflib.get_close_matches(wanted, spellings, n=1)]
    hint = f"Did you mean {near[0]}?" if near else f"There are: {_some(known)}."
    raise UsageError(f"There is no table {name!r}.", hint=hint)


def _some(tables: Sequence[TableRef]) -> str:
    return ", ".join(map(str, tables[:10])) + (f" and {len(tables) - 10} more" if len(tables) > 10 else "") or "none"


def _profile_now(config: ProjectConfig, description: Description, name: str) -> TableProfile:
    layout = Layout(config.root)
    if not layout.warehouse.exists():
        raise ReleaseError("Nothing has been loaded yet.", hint="`smoll run` loads, builds and releases.")
    settings = engine_settings(config.resources, layout.tmp)
    with reading(layout.warehouse, "warehouse", settings) as connection:
        rows = connection.execute(
            """SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary UNION ALL
            SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal AND NOT temporary"""
        ).fetchall()
        table = find_table(name, [TableRef(*row) for row in rows if row[0] != INTERNAL_SCHEMA])
        return _profile(config, description, connection, table)


def _profile(
    config: ProjectConfig, description: Description, connection: DuckDBPyConnection, table: TableRef
) -> TableProfile:
    import duckdb

    node = next(
        (each for each in description.graph.nodes.values() if str(each.table).lower() == str(table).lower()), None
    )
    ignored = ignored_columns(config, description.graph, node) if node else frozenset()
    pii = personal(description, table)
    try:
        return interruptible(connection, lambda: profile_table(connection, table, ignored=ignored, pii=pii))
    except duckdb.Error as error:
        said = "" if pii else f": {config.redact(str(error).splitlines()[0])}"
        raise ReleaseError(f"{table} cannot be profiled{said}.", hint="`smoll run` builds it anew.") from error
