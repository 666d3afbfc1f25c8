"""Which tests a table would pass, and did in every release that is known.

Profiles and names say what is worth a question; whatever is suggested was then verified in the tables of the release.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from smoll.describe import Description, describe
from smoll.model import TableRef, quote
from smoll.observe import find_table, manifest_of, personal, reading_release
from smoll.profiles import ColumnProfile, TableProfile, history, kind_of, profile_table, without_values
from smoll.publish import ignored_columns, read_profiles
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.model import ReleaseManifest
    from smoll.project import ProjectConfig
    from smoll.transform import Graph, GraphNode

Test = Literal["unique", "not_null", "relationships", "accepted_values", "range"]

_KEY = re.compile(r"(?:.*_)?(id|key|code|uuid|guid|sku|iso|number|no|nr)", re.IGNORECASE)
"""What columns are called that tell rows apart."""
_LAYER = re.compile(r"(?:stg|int|dim|fct|fact|mart|raw|base)_+(?:[a-z0-9]+__)?", re.IGNORECASE)
_FEW_ROWS = 30
"""A table of fewer rows says little of what will come."""
_FEWEST_KEYS = 5
_MANY_ROWS = 100
_MOST_VALUES = 10
_SEEN_EACH = 20
"""A text has few values where each of them is in so many rows on average."""
_LONGEST_VALUE = 60
_ENOUGH_PROFILES = 3
"""Before there are so many, nobody knows how high a number may go."""
_GRAIN = 4
"""The grain of a table is looked for in so many columns together, at most."""
_ALMOST = 0.97
"""Estimates of different values are right to one percent or so."""
_FLOATS = ("FLOAT", "DOUBLE")
_COORDINATES = (
    (re.compile(r"(?:.*_)?lat(?:itude)?", re.IGNORECASE), 90),
    (re.compile(r"(?:.*_)?(?:lon|lng|long|longitude)", re.IGNORECASE), 180),
)
_WORDS = re.compile(r"(?:.*_)?(?:name|title|label|description|comment|text|city|address|email)", re.IGNORECASE)
"""What texts are called that are no category, however few there are."""


@dataclass(frozen=True)
class Suggestion:
    """One test that a model does not have and would pass.

    ``column`` is "" for a test of the model as a whole. ``test`` is dbt's name, or ``range``, a check of smoll's own.
    ``arguments`` are those of the test, ``reason`` is why it is suggested.
    """

    model: str
    table: TableRef
    column: str
    test: Test
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class _Table:
    """A released model, what is known of it, and what it is tested for: columns in lower case with names of tests."""

    node: GraphNode
    profile: TableProfile
    past: tuple[TableProfile, ...]
    tests: frozenset[tuple[str, str]]

    @property
    def ref(self) -> TableRef:
        return self.profile.ref

    def is_tested(self, column: str, *words: str) -> bool:
        """True where a test of this column has one of the words in its name."""
        return any(name == column.lower() and word in test for name, test in self.tests for word in words)

    def before(self, column: str) -> list[ColumnProfile]:
        """The column in earlier profiles."""
        return [one for each in self.past if (one := each.column(column)) is not None and each.rows]

    @property
    def since(self) -> str:
        """How much is behind a statement, for people."""
        rows = f"{self.profile.rows:,} rows"
        return f"{rows}, and in {len(self.past)} earlier profiles" if self.past else rows


def suggest_tests(config: ProjectConfig, names: Sequence[str] = ()) -> tuple[Suggestion, ...]:
    """Suggest tests for the models of the current release (all, or those named).

    Raises
    ------
    UsageError
        A name is no table of the release.
    ReleaseError
        Nothing has been released yet.
    """
    description = describe(config)
    manifest = manifest_of(config)
    refs = [table.ref for table in manifest.tables]
    wanted = {find_table(name, refs) for name in names} or set(refs)
    with reading_release(config, manifest.number) as connection:
        tables = _tables(config, description, connection, manifest)
        keys = {table.ref: _keys(connection, table) for table in tables}
        parents = _Parents(connection, description.graph, tables, keys)
        chosen = [table for table in tables if table.ref in wanted]
        return tuple(chain.from_iterable(_suggest(connection, table, keys[table.ref], parents) for table in chosen))


def _tables(
    config: ProjectConfig, description: Description, connection: DuckDBPyConnection, manifest: ReleaseManifest
) -> list[_Table]:
    """The models of the project itself that are in the release, with their profiles and tests."""
    graph, found = description.graph, []
    nodes = {str(node.table).lower(): node for node in graph.nodes.values() if node.kind == "model" and node.own}
    tested: dict[str, set[tuple[str, str]]] = {}
    for check in graph.checks():
        for id in [check.attached] if check.attached else check.parents:
            tested.setdefault(id, set()).add((check.column.lower(), check.test))
    known = dict(read_profiles(Layout(config.root), manifest))
    with open_ledger(Layout(config.root).ledger) as ledger:
        for table in manifest.tables:
            node = nodes.get(str(table.ref).lower())
            if node is None:
                continue
            pii = personal(description, table.ref)
            if str(table.ref) in known:
                profile, _ = known[str(table.ref)]
            else:
                ignored = ignored_columns(config, graph, node)
                profile = profile_table(connection, table.ref, ignored=ignored, pii=pii)
            past = [one for one in history(ledger, table.ref, 200) if one.hash != table.hash] if ledger else []
            earlier = tuple(without_values(one.profile, pii) for one in past)
            tests = frozenset(tested.get(node.id, ()))
            found.append(_Table(node, without_values(profile, pii), earlier, tests))
    return found


def _suggest(
    connection: DuckDBPyConnection, table: _Table, keys: Sequence[str], parents: _Parents
) -> Iterator[Suggestion]:
    def suggest(column: str, test: Test, reason: str, **arguments: Any) -> Suggestion:
        return Suggestion(table.node.name, table.ref, column, test, arguments, reason)

    grain = () if keys or table.node.key else _grain(connection, table)
    if grain and not table.is_tested("", "unique"):
        together = f"({', '.join(quote(name) if not name.isidentifier() else name for name in grain)})"
        reason = f"no two of {table.profile.rows:,} rows have the same"
        yield suggest("", "unique", reason, column_name=together)
    for column in table.profile.columns:
        name = column.name
        is_key = name in keys
        if is_key and not table.node.key and not table.is_tested(name, "unique"):
            yield suggest(name, "unique", f"no value twice in {table.since}")
        parent = None if table.is_tested(name, "relationship") else parents.find(table, column)
        refers = parent is not None or table.is_tested(name, "relationship")
        if _is_never_null(table, column, sure=is_key or name in grain or refers):
            yield suggest(name, "not_null", f"no NULL in {table.since}")
        if parent is not None:
            to, target = parent
            reason = f"all {column.distinct:,} values are in {to.node.name}.{target}"
            yield suggest(name, "relationships", reason, to=f"ref('{to.node.name}')", field=target)
        elif not is_key and not refers:
            values = _values(connection, table, column)
            if values:
                reason = f"no other value in {table.since}"
                yield suggest(name, "accepted_values", reason, values=values)
        ends = _range(table, column) if not (is_key or refers) else {}
        if ends:
            seen = f"from {column.min} to {column.max}"
            yield suggest(name, "range", f"{seen} in {table.since}", **ends)


# --- one column -----------------------------------------------------------------------------------------------------


def _is_never_null(table: _Table, column: ColumnProfile, *, sure: bool) -> bool:
    """No NULL in any release. Few rows prove nothing, and a float may be the average of nothing one day."""
    if column.nulls or column.note or table.is_tested(column.name, "not_null"):
        return False
    if any(one.nulls for one in table.before(column.name)):
        return False
    if sure:
        return table.profile.rows >= _FEWEST_KEYS
    return table.profile.rows >= _FEW_ROWS and column.type not in _FLOATS


def _values(connection: DuckDBPyConnection, table: _Table, column: ColumnProfile) -> list[str]:
    """The values of a text that has few, has them often, and always had the same."""
    if kind_of(column.type) != "text" or column.pii or _WORDS.fullmatch(column.name):
        return []
    if table.is_tested(column.name, "accepted_values"):
        return []
    rows = table.profile.rows - column.nulls
    distinct = column.distinct or 0
    if rows < _MANY_ROWS or not 2 <= distinct <= _MOST_VALUES or rows < distinct * _SEEN_EACH:
        return []
    name = quote(column.name)
    sql = f"SELECT DISTINCT {name}::VARCHAR FROM {table.ref.sql} WHERE {name} IS NOT NULL LIMIT {_MOST_VALUES + 1}"
    values = sorted(str(row[0]) for row in connection.execute(sql).fetchall())
    if len(values) > _MOST_VALUES or not all(map(_is_word, values)):
        return []
    before = [{value for value, _ in one.top} for one in table.before(column.name)]
    return values if all(each == set(values) for each in before) else []


def _is_word(value: str) -> bool:
    """False for what looks like free text or a number of its own, and for braces, a template to dbt."""
    digits = sum(character.isdigit() for character in value)
    is_short = value.isprintable() and len(value) <= _LONGEST_VALUE and digits < 6
    return is_short and bool(value.strip()) and "{" not in value


def _range(table: _Table, column: ColumnProfile) -> dict[str, float]:
    """From where to where a number may go, with room to both sides; {} where nothing can be said."""
    if kind_of(column.type) != "number" or column.pii or _KEY.fullmatch(column.name):
        return {}
    if table.is_tested(column.name, "range", "between") or table.profile.rows < _FEW_ROWS or (column.distinct or 0) < 2:
        return {}
    seen = [column, *table.before(column.name)]
    if not all(_is_number(end) for one in seen for end in (one.min, one.max)):
        return {}
    low, high = min(float(one.min or 0) for one in seen), max(float(one.max or 0) for one in seen)
    for name, end in _COORDINATES:
        if name.fullmatch(column.name) and -end <= low and high <= end:
            return {"min": -end, "max": end}
    if low >= 0 and high <= 1 and not column.type.endswith(("INT", "INTEGER")):
        return {"min": 0, "max": 1}
    # A number that is never negative and comes near 0 is a count, a length, a price; a year is not.
    found: dict[str, float] = {"min": 0} if 0 <= low <= high / 10 else {}
    if len(seen) >= _ENOUGH_PROFILES and not _grows(seen):
        room = (high - low) / 2
        found.setdefault("min", -_rounded_up(room - low))
        found["max"] = _rounded_up(high + room)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _grows(seen: Sequence[ColumnProfile]) -> bool:
    """True for what goes up with time: a sum over all that was loaded so far, or a number that counts on."""
    newest, *before = seen
    return all(float(newest.max or 0) > float(one.max or 0) for one in before)


def _rounded_up(number: float) -> float:
    """The next number of two digits that is not less."""
    if not number:
        return 0
    unit = 10.0 ** (math.floor(math.log10(abs(number))) - 1)
    rounded = float(f"{math.ceil(number / unit - 1e-9) * unit:.6g}")
    return int(rounded) if rounded == int(rounded) else rounded


# --- keys -----------------------------------------------------------------------------------------------------------


def _keys(connection: DuckDBPyConnection, table: _Table) -> tuple[str, ...]:
    """The columns that tell the rows apart by themselves: those that dbt knows, and those that are called like keys."""
    known = {name.lower() for name in table.node.key} if len(table.node.key) == 1 else set()
    known |= {name for name, test in table.tests if name and test == "unique"}
    found = []
    for place, column in enumerate(table.profile.columns):
        if column.name.lower() in known:
            found.append(column.name)
            continue
        is_called_so = place == 0 or _KEY.fullmatch(column.name)
        if is_called_so and _may_be_key(table, column) and _is_unique(connection, table, [column.name]):
            found.append(column.name)
    return tuple(found)


def _may_be_key(table: _Table, column: ColumnProfile) -> bool:
    rows = table.profile.rows
    is_right = column.type not in _FLOATS and kind_of(column.type) in ("number", "text", "time") and not column.nulls
    enough = rows >= _FEWEST_KEYS and (column.distinct or 0) >= rows * _ALMOST
    before = [(each.rows, one) for each in table.past if (one := each.column(column.name)) is not None]
    return is_right and enough and all((one.distinct or 0) >= total * _ALMOST for total, one in before)


def _grain(connection: DuckDBPyConnection, table: _Table) -> tuple[str, ...]:
    """The first columns together, where no two rows have the same in them; as few of them as it takes."""
    if table.profile.rows < _FEWEST_KEYS:
        return ()
    different = {column.name: float(column.distinct or 1) for column in table.profile.columns}
    usable = [
        column.name
        for column in table.profile.columns
        if not column.nulls and column.type not in _FLOATS and kind_of(column.type) != "other"
    ]
    for size in range(2, min(_GRAIN, len(usable)) + 1):
        found = usable[:size]
        if math.prod(different[name] for name in found) < table.profile.rows * _ALMOST:
            continue
        if _is_unique(connection, table, found):
            for name in found[:-1]:
                fewer = [each for each in found if each != name]
                if len(fewer) > 1 and _is_unique(connection, table, fewer):
                    found = fewer
            return tuple(found)
    return ()


def _is_unique(connection: DuckDBPyConnection, table: _Table, columns: Sequence[str]) -> bool:
    """True where no two rows have the same; False also where memory does not suffice to tell."""
    import duckdb

    names = ", ".join(map(quote, columns))
    sql = f"SELECT 1 FROM {table.ref.sql} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"
    try:
        return not connection.execute(sql).fetchall()
    except duckdb.OutOfMemoryException:
        return False


# --- references -----------------------------------------------------------------------------------------------------


class _Parents:
    """The columns that others may refer to: keys of released models."""

    def __init__(
        self,
        connection: DuckDBPyConnection,
        graph: Graph,
        tables: Sequence[_Table],
        keys: Mapping[TableRef, Sequence[str]],
    ) -> None:
        self._connection = connection
        self._above = {table.ref: graph.ancestors([table.node.id]) for table in tables}
        self._keys = [
            (table, column)
            for table in tables
            for name in keys[table.ref]
            if (column := table.profile.column(name)) is not None
        ]

    def find(self, child: _Table, column: ColumnProfile) -> tuple[_Table, str] | None:
        """The table and its key that has all the values of a column; the one with most values, of those that are made
        of least.
        """
        if kind_of(column.type) not in ("number", "text") or column.type in _FLOATS or not column.distinct:
            return None
        found = [pair for pair in self._keys if self._may_hold(*pair, child, column)]
        for parent, key in sorted(found, key=lambda pair: (len(self._above[pair[0].ref]), -(pair[1].distinct or 0))):
            if self._holds(parent, key.name, child, column.name):
                return parent, key.name
        return None

    def _may_hold(self, parent: _Table, key: ColumnProfile, child: _Table, column: ColumnProfile) -> bool:
        """By table, type, number of values, ends and name."""
        if parent.ref == child.ref or child.node.id in self._above[parent.ref]:
            return False
        if kind_of(key.type) != kind_of(column.type) or (column.distinct or 0) * _ALMOST > (key.distinct or 0):
            return False
        known = [column.min, column.max, key.min, key.max]
        if not any(end is None for end in known):
            low, high, first, last = known
            if not (first <= low and high <= last):  # type: ignore[operator]
                return False
        if _is_called_like(column.name, key.name, parent.node.name):
            return True
        # By containment alone: texts that are many enough, and no small part of what could be anything.
        return kind_of(column.type) == "text" and (column.distinct or 0) >= 10 and bool(_KEY.fullmatch(column.name))

    def _holds(self, parent: _Table, key: str, child: _Table, column: str) -> bool:
        import duckdb

        own, other = f"c.{quote(column)}", f"p.{quote(key)}"
        sql = f"""SELECT 1 FROM {child.ref.sql} c ANTI JOIN {parent.ref.sql} p ON {own} = {other}
            WHERE {own} IS NOT NULL LIMIT 1"""
        try:
            return not self._connection.execute(sql).fetchall()
        except duckdb.Error:  # types that cannot be compared, or no memory to tell
            return False


def _is_called_like(column: str, key: str, table: str) -> bool:
    """``customer_id`` and ``id`` of ``dim_customers``; ``origin_airport_code`` and ``airport_code``."""
    name, target = column.lower(), key.lower()
    if target not in ("id", "key", "code", "name", "number", "uuid"):
        return name == target or name.endswith(f"_{target}")
    thing = _LAYER.sub("", table.lower(), count=1)
    things = {thing, thing.removesuffix("s"), thing.removesuffix("es"), re.sub("ies$", "y", thing)}
    return any(name in (f"{each}_{target}", f"{each}{target}") or name.endswith(f"_{each}_{target}") for each in things)
