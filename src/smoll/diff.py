"""``smoll diff``: what is different between two releases, or between one and what the next one would be.

Whole tables are compared inside DuckDB; no row leaves it but those of the samples. Rows are compared by a hash of 64
bits, as in a release's manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from smoll.describe import Description, describe
from smoll.errors import ReleaseError
from smoll.model import Column, ColumnDiff, Diff, ReleasedTable, RowDiff, TableDiff, TableRef, literal, quote
from smoll.publish import ignored_columns
from smoll.release import current_release, read_manifest
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger
from smoll.state.lock import current_holder
from smoll.warehouse import attach_reader, columns_of, engine_settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig
    from smoll.transform import GraphNode

_WAREHOUSE = "warehouse"
"""Views of the working warehouse name it so."""
_LONGEST = 200
_WHAT: tuple[Literal["changed", "added", "removed"], ...] = ("changed", "added", "removed")


@dataclass(frozen=True)
class _Side:
    """One of the two: where its tables are, and what is known of them. ``tables`` are in lower case by name."""

    label: str
    catalog: str
    path: Path
    tables: Mapping[str, ReleasedTable | TableRef]


@dataclass(frozen=True)
class _Pair:
    """One table on both sides. ``before`` and ``after`` are SQL, ``columns`` those that both have, as SQL of each."""

    before: str
    after: str
    key: tuple[str, ...]
    columns: Mapping[str, tuple[str, str]]
    pii: frozenset[str]


def diff_releases(config: ProjectConfig, before: int | None, after: int | None, samples: int) -> Diff:
    """Compare release `before` (the current one by default) with `after` (by default what the next would be).

    Parameters
    ----------
    samples
        So many rows at most are shown of each table; columns marked ``pii`` never.

    Raises
    ------
    UsageError
        There is no such release.
    ReleaseError
        Nothing has been released, or a run holds the working warehouse.
    """
    import duckdb

    layout = Layout(config.root)
    description = describe(config)
    first = before if before is not None else current_release(layout)
    if first is None:
        raise ReleaseError("Nothing has been released yet.", hint="`smoll run` makes the first release.")
    left = _release(layout, first, "before")
    right = _next(layout, description) if after is None else _release(layout, after, "after")
    settings = engine_settings(config.resources, layout.tmp)
    with duckdb.connect(":memory:") as connection:
        for side in (left, right):
            attach_reader(connection, side.path, side.catalog)
        for name, value in settings.as_dict().items():
            connection.execute(f"SET {name} = {literal(value)}")
        connection.execute("SET TimeZone = 'UTC'")
        nodes = {str(node.table).lower(): node for node in description.graph.nodes.values() if node.table}
        found = []
        for name in sorted({*left.tables, *right.tables}):
            node = nodes.get(name)
            ignored = ignored_columns(config, description.graph, node) if node else frozenset()
            pii = description.graph.personal([node.id] if node else description.graph.nodes)
            try:
                found.append(_compare(connection, name, left, right, node, pii, ignored, samples))
            except duckdb.Error as error:
                said = config.redact(str(error).splitlines()[0])
                found.append(TableDiff(_ref(name, left, right), "unknown", note=f"cannot be compared: {said}"))
    return Diff(left.label, right.label, tuple(found), _refused_by(layout) if after is None else None)


def _refused_by(layout: Layout) -> int | None:
    with open_ledger(layout.ledger) as ledger:
        last = ledger.runs(1) if ledger else ()
    return next((run.run for run in last if run.release.status == "refused" and not run.undone), None)


def _release(layout: Layout, number: int, catalog: str) -> _Side:
    manifest = read_manifest(layout, number)
    return _Side(
        f"release {number}",
        catalog,
        layout.tables_of(number),
        {str(table.ref).lower(): table for table in manifest.tables},
    )


def _next(layout: Layout, description: Description) -> _Side:
    holder = current_holder(layout.lock)
    if holder is not None:
        raise ReleaseError(f"A run holds the working warehouse: {holder}.", hint="Wait for it, or name two releases.")
    if not layout.warehouse.exists():
        raise ReleaseError("Nothing has been loaded yet.", hint="`smoll run` loads, builds and releases.")
    released = [description.graph.nodes[id].table for id in description.released]
    tables = {str(table).lower(): table for table in released if table is not None}
    return _Side("the next release", _WAREHOUSE, layout.warehouse, tables)


def _ref(name: str, before: _Side, after: _Side) -> TableRef:
    found = before.tables.get(name) or after.tables[name]
    return found.ref if isinstance(found, ReleasedTable) else found


def _compare(
    connection: DuckDBPyConnection,
    name: str,
    before: _Side,
    after: _Side,
    node: GraphNode | None,
    pii: frozenset[str],
    ignored: frozenset[str],
    samples: int,
) -> TableDiff:
    ref = _ref(name, before, after)
    old, new = before.tables.get(name), after.tables.get(name)
    sql = tuple(f"{quote(side.catalog)}.{ref.sql}" for side in (before, after))
    if isinstance(old, ReleasedTable) and isinstance(new, ReleasedTable) and old == new:
        return TableDiff(ref, "equal", old.rows, new.rows)
    columns = [_columns(connection, side, ref) if name in side.tables else () for side in (before, after)]
    rows = [_count(connection, sql[place]) if columns[place] else 0 for place in (0, 1)]
    schema = _schema(columns[0], columns[1])
    if not columns[0] or not columns[1]:
        if not columns[0] and not columns[1]:
            return TableDiff(ref, "equal")
        note = "not built yet" if columns[0] and name in after.tables else ""
        status: Literal["added", "removed"] = "removed" if columns[0] else "added"
        return TableDiff(ref, status, rows[0], rows[1], removed=rows[0], added=rows[1], note=note)
    pair = _pair(sql, columns, node, pii, ignored)
    about = TableDiff(ref, "equal", rows[0], rows[1], columns=schema)
    found = _by_key(connection, pair, about, samples) if pair.key else None
    if found is None:
        found = _by_rows(connection, pair, about)
    is_equal = not (found.added or found.removed or found.changed or schema)
    return replace(found, status="equal" if is_equal else "changed")


def _columns(connection: DuckDBPyConnection, side: _Side, ref: TableRef) -> tuple[Column, ...]:
    connection.execute(f"USE {quote(side.catalog)}")
    try:
        return columns_of(connection, ref)
    finally:
        connection.execute("USE memory")


def _count(connection: DuckDBPyConnection, relation: str) -> int:
    (rows,) = connection.execute(f"SELECT count(*) FROM {relation}").fetchone() or (0,)
    return int(rows)


def _schema(before: Sequence[Column], after: Sequence[Column]) -> tuple[ColumnDiff, ...]:
    old, new = ({column.name: column.type for column in side} for side in (before, after))
    names = [*new, *(name for name in old if name not in new)]
    return tuple(
        ColumnDiff(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)
    )


def _pair(
    sql: Sequence[str],
    columns: Sequence[Sequence[Column]],
    node: GraphNode | None,
    pii: frozenset[str],
    ignored: frozenset[str],
) -> _Pair:
    """What both sides have, as comparable SQL: a column that has changed its type is compared as text."""
    old = {column.name.lower(): column for column in columns[0]}
    new = {column.name.lower(): column for column in columns[1]}
    common: dict[str, tuple[str, str]] = {}
    for name, column in new.items():
        if name in old and name not in ignored:
            both = quote(old[name].name), quote(column.name)
            if old[name].type != column.type:
                both = f"CAST({both[0]} AS VARCHAR)", f"CAST({both[1]} AS VARCHAR)"
            common[column.name] = both
    known = {name.lower(): name for name in common}
    key = tuple(name.lower() for name in node.key) if node else ()
    usable = tuple(known[name] for name in key) if key and all(name in known for name in key) else ()
    return _Pair(sql[0], sql[1], usable, common, pii)


def _by_key(connection: DuckDBPyConnection, pair: _Pair, about: TableDiff, samples: int) -> TableDiff | None:
    """Match rows by key; None where the key does not tell them apart."""
    keys = [f"k{place}" for place in range(len(pair.key))]
    names = ", ".join(keys)
    sides = [
        f"SELECT {_keys(pair, side)}, hash({', '.join(both[side] for both in pair.columns.values())}) AS h "
        f"FROM {relation}"
        for side, relation in enumerate((pair.before, pair.after))
    ]
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE differing AS
        SELECT {names}, CASE WHEN b.h IS NULL THEN 'removed' WHEN a.h IS NULL THEN 'added' ELSE 'changed' END AS what
        FROM ({sides[0]}) a FULL JOIN ({sides[1]}) b USING ({names}) WHERE a.h IS DISTINCT FROM b.h"""
    )
    nulls = " OR ".join(f"{key} IS NULL" for key in keys)
    row = connection.execute(
        f"""SELECT count(*) FILTER (what = 'added'), count(*) FILTER (what = 'removed'),
        count(*) FILTER (what = 'changed'), count(*) - count(DISTINCT ({names})), count(*) FILTER ({nulls})
        FROM differing"""
    ).fetchone()
    added, removed, changed, twins, unknown = row or (0, 0, 0, 0, 0)
    if twins or unknown or about.rows_after - about.rows_before != added - removed:
        return None
    found = replace(about, key=pair.key, added=added, removed=removed, changed=changed)
    values = _values(connection, pair, keys) if changed else {}
    return replace(found, values=values, samples=tuple(_samples(connection, pair, keys, samples)))


def _keys(pair: _Pair, side: int) -> str:
    return ", ".join(f"{pair.columns[name][side]} AS k{place}" for place, name in enumerate(pair.key))


def _joined(pair: _Pair, keys: Sequence[str], differing: str, kind: str) -> str:
    """Differing rows with what both sides have in them, as ``a.c0``, ``b.c0`` and so on."""
    found = f"{differing} d"
    for side, (name, relation) in enumerate((("a", pair.before), ("b", pair.after))):
        cells = ", ".join(f"{both[side]} AS c{place}" for place, both in enumerate(pair.columns.values()))
        on = " AND ".join(f"{name}.{key} = d.{key}" for key in keys)
        found += f" {kind} JOIN (SELECT {_keys(pair, side)}, {cells} FROM {relation}) {name} ON {on}"
    return found


def _values(connection: DuckDBPyConnection, pair: _Pair, keys: Sequence[str]) -> dict[str, int]:
    """In how many of the changed rows each column differs, most first."""
    names = list(pair.columns)
    counts = ", ".join(f"count(*) FILTER (a.c{place} IS DISTINCT FROM b.c{place})" for place in range(len(names)))
    changed = "(SELECT * FROM differing WHERE what = 'changed')"
    row = connection.execute(f"SELECT {counts} FROM {_joined(pair, keys, changed, 'INNER')}").fetchone()
    found = {name: int(number) for name, number in zip(names, row or (), strict=True) if number}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _samples(connection: DuckDBPyConnection, pair: _Pair, keys: Sequence[str], limit: int) -> Iterator[RowDiff]:
    """Some rows of each sort, in the order of their key; none where the key is personal."""
    if limit <= 0 or any(name.lower() in pair.pii for name in pair.key):
        return
    shown = {
        place: name for place, name in enumerate(pair.columns) if name not in pair.key and name.lower() not in pair.pii
    }
    cells = [f"left(CAST({side}.c{place} AS VARCHAR), {_LONGEST})" for place in shown for side in ("a", "b")]
    columns = ", ".join([*(f"CAST(d.{key} AS VARCHAR)" for key in keys), *cells])
    order = ", ".join(f"d.{key}" for key in keys)
    for what in _WHAT:
        few = f"(SELECT * FROM differing WHERE what = {literal(what)} ORDER BY {', '.join(keys)} LIMIT {int(limit)})"
        sql = f"SELECT {columns} FROM {_joined(pair, keys, few, 'LEFT')} ORDER BY {order}"
        for row in connection.execute(sql).fetchall():
            key, both = row[: len(keys)], row[len(keys) :]
            values = {name: (both[2 * i], both[2 * i + 1]) for i, name in enumerate(shown.values())}
            if what == "changed":
                values = {name: value for name, value in values.items() if value[0] != value[1]}
            yield RowDiff(what, dict(zip(pair.key, key, strict=True)), values)


def _by_rows(connection: DuckDBPyConnection, pair: _Pair, about: TableDiff) -> TableDiff:
    """Without a key: rows that one side has more often than the other."""
    rows = [", ".join(both[side] for both in pair.columns.values()) or "0" for side in (0, 1)]
    sides = [
        f"SELECT hash({rows[0]}) AS h, -1 AS n FROM {pair.before}",
        f"SELECT hash({rows[1]}) AS h, 1 AS n FROM {pair.after}",
    ]
    row = connection.execute(
        f"""SELECT coalesce(sum(n) FILTER (n > 0), 0), coalesce(-sum(n) FILTER (n < 0), 0)
        FROM (SELECT sum(n) AS n FROM ({" UNION ALL ".join(sides)}) GROUP BY h)"""
    ).fetchone()
    added, removed = row or (0, 0)
    note = (
        "its key does not tell all rows apart" if pair.key else "it has no key, so a changed row is removed and added"
    )
    note = note if added or removed else ""
    return replace(about, added=int(added), removed=int(removed), note=note)
