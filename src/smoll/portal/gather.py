"""Finding out what the portal shows: from the manifest, dbt's graph, the ledger, and one query for each table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from smoll.errors import ReleaseError, UsageError
from smoll.events import Listener
from smoll.load.rejects import rejected_table
from smoll.model import CheckStatus, Column, FailingRows, ReleasedTable, ReleaseManifest, RunResult
from smoll.portal.facts import (
    CheckFacts,
    ColumnFacts,
    Entry,
    Facts,
    Kind,
    ReleaseFacts,
    RunFacts,
    StreamFacts,
    TableChange,
    tone,
)
from smoll.portal.personal import Hidden
from smoll.portal.samples import StreamProfiles, sample_table
from smoll.portal.site import slugs
from smoll.profiles import TableProfile, without_values
from smoll.release import numbers, read_manifest
from smoll.state.ledger import CheckRecord, Ledger, table_key
from smoll.warehouse import INTERNAL_SCHEMA, Settings, columns_of_all

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig
    from smoll.state.layout import Layout
    from smoll.transform import Dbt, GraphNode

_RUNS = 30
_RELEASES = 30
"""So many runs and releases are looked back at."""
_MARKED_SINCE = "The rows are not shown, as columns have been marked pii since."
_REJECTED = "__rejected"
_WORST_FIRST = {"bad": 0, "warn": 1, "good": 2, "none": 3}


@dataclass(frozen=True)
class Ingredients:
    """What a portal is made of.

    ``warehouse`` is the working one, ``release`` a connection to the released tables, ``settings`` are for any other.
    """

    config: ProjectConfig
    layout: Layout
    ledger: Ledger
    dbt: Dbt
    manifest: ReleaseManifest
    profiles: Sequence[TableProfile]
    warehouse: DuckDBPyConnection
    release: DuckDBPyConnection
    settings: Settings
    ignored: Callable[[GraphNode], Set[str]]
    emit: Listener


def gather(of: Ingredients, hidden: Hidden) -> Facts:
    """Look at everything once. Raises ``duckdb.Error`` where a table cannot be read."""
    graph = of.dbt.graph
    past = _manifests(of.layout, of.manifest)
    columns = columns_of_all(of.warehouse)
    nodes = {id: node for id, node in graph.nodes.items() if _is_shown(node, columns)}
    checks = _checks(of, nodes, past, hidden)
    by_entry: dict[str, list[CheckFacts]] = {}
    for check in checks:
        by_entry.setdefault(check.entry, []).append(check)
    children: dict[str, list[str]] = {}
    for node in nodes.values():
        for parent in node.parents:
            children.setdefault(parent, []).append(node.id)
    named = slugs({node.id: str(node.table or node.name) for node in nodes.values()})
    about = _About(of, nodes, columns, hidden, by_entry, children, named, past)
    entries = {node.id: about.entry(node) for node in nodes.values()}
    about.streams.save()
    runs = of.ledger.runs(_RUNS)
    before = past[-2] if len(past) > 1 else None
    now_known = {check.id: check for check in checks}
    broke, mended = _turned(before, now_known)
    return Facts(
        project=of.config.name,
        release=of.manifest,
        entries=entries,
        checks=tuple(checks),
        seconds=next((_seconds_so_far(run) for run in runs if run.run == of.manifest.run), None),
        previous=before.number if before else None,
        previous_created=before.created if before else None,
        changes=tuple(_changes(before, of.manifest)) if before else (),
        broke=broke,
        mended=mended,
        runs=tuple(_run(run, of.manifest) for run in reversed(runs) if run.undone is None),
        releases=tuple(_verdict(manifest) for manifest in past),
    )


def _is_shown(node: GraphNode, columns: Mapping[str, Sequence[Column]]) -> bool:
    """Whether it is in the catalog. A table of rejected rows is told of with the stream that it belongs to."""
    if node.is_built:
        return True
    name = str(node.table).lower()
    return node.kind == "source" and not (name.endswith(_REJECTED) and name.removesuffix(_REJECTED) in columns)


def _manifests(layout: Layout, new: ReleaseManifest) -> list[ReleaseManifest]:
    """The newest releases that are kept, and the new one as the last."""
    found = []
    for number in numbers(layout)[-_RELEASES:]:
        with suppress(ReleaseError, UsageError):  # damaged, or removed just now
            found.append(read_manifest(layout, number))
    return [*found, new]


# --- checks ---------------------------------------------------------------------------------------------------------


def _checks(
    of: Ingredients, nodes: Mapping[str, GraphNode], past: Sequence[ReleaseManifest], hidden: Hidden
) -> list[CheckFacts]:
    graph, records = of.dbt.graph, of.ledger.checks()
    rows = of.ledger.failing_rows()
    personal = graph.personal(graph.nodes)
    history: dict[str, list[tuple[int, CheckStatus]]] = {}
    for manifest in past:
        for said in manifest.checks:
            history.setdefault(said.id, []).append((manifest.number, said.status))
    known = list(graph.checks())
    named = slugs({check.id: check.name for check in known})
    found = [_check(check, nodes, records.get(check.id), named[check.id], history.get(check.id, ())) for check in known]
    found = [
        replace(check, failing=_shown(rows.get(check.id), personal, hidden, graph.nodes[check.id]))
        if check.status in ("fail", "warn")
        else check
        for check in found
    ]
    return sorted(found, key=lambda check: (_WORST_FIRST[check.tone], check.name.lower(), check.id))


def _check(
    check: GraphNode,
    nodes: Mapping[str, GraphNode],
    record: CheckRecord | None,
    slug: str,
    history: Sequence[tuple[int, CheckStatus]],
) -> CheckFacts:
    entry = next((id for id in (check.attached, *check.parents) if id in nodes), "")
    kind = check.test or check.kind.replace("_", " ")
    facts = CheckFacts(
        *(check.id, check.name, kind, entry, check.column, check.severity, check.description, slug),
        history=tuple(history),
    )
    if record is None or record.definition != check.definition:
        return facts
    said = record.result
    return replace(facts, status=said.status, run=record.run, failures=said.failures, message=said.message)


def _shown(rows: FailingRows | None, personal: frozenset[str], hidden: Hidden, check: GraphNode) -> FailingRows | None:
    """The failing rows as they may be shown."""
    if rows is None:
        return None
    if not personal <= set(rows.pii):
        return FailingRows(rows.run, note=_MARKED_SINCE)
    taboo = personal.union(*(hidden(id) for id in check.parents))
    kept = [place for place, name in enumerate(rows.columns) if name.lower() not in taboo]
    if len(kept) == len(rows.columns):
        return rows
    cut = tuple(tuple(row[place] for place in kept) for row in rows.rows)
    return replace(rows, columns=tuple(rows.columns[place] for place in kept), rows=cut if kept else ())


def _verdict(manifest: ReleaseManifest) -> ReleaseFacts:
    tones = Counter[str](tone(check.status, check.severity) for check in manifest.checks)
    return ReleaseFacts(manifest.number, manifest.created, tones)


def _turned(
    before: ReleaseManifest | None, now: Mapping[str, CheckFacts]
) -> tuple[tuple[CheckFacts, ...], tuple[CheckFacts, ...]]:
    """The checks that fail now and did not before, and the other way round."""
    then = {check.id: tone(check.status, check.severity) for check in before.checks} if before else {}
    bad = ("bad", "warn")
    broke = [check for id, check in now.items() if check.tone in bad and then.get(id) == "good"]
    mended = [check for id, check in now.items() if check.tone == "good" and then.get(id) in bad]
    return tuple(broke), tuple(mended)


# --- tables ---------------------------------------------------------------------------------------------------------


class _About:
    """What is known of all tables, and how an entry is made of it."""

    def __init__(
        self,
        of: Ingredients,
        nodes: Mapping[str, GraphNode],
        columns: Mapping[str, Sequence[Column]],
        hidden: Hidden,
        checks: Mapping[str, Sequence[CheckFacts]],
        children: Mapping[str, Sequence[str]],
        named: Mapping[str, str],
        past: Sequence[ReleaseManifest],
    ) -> None:
        self._of, self._nodes, self._columns, self._hidden = of, nodes, columns, hidden
        self._checks, self._children, self._slugs = checks, children, named
        self._released = {table.id: table for table in of.manifest.tables}
        self._profiles = {str(profile.ref): profile for profile in of.profiles}
        self._states = {str(state.table).lower(): state for state in of.ledger.streams()}
        self._stored = _stored_states(of.warehouse)
        self._touched = {id: record.moment for id, record in of.ledger.nodes().items()}
        self._rows: dict[str, list[tuple[int, datetime, int]]] = {}
        for manifest in past:
            for table in manifest.tables:
                self._rows.setdefault(table.id, []).append((manifest.number, manifest.created, table.rows))
        self.streams = StreamProfiles.read(of.layout.state / "portal" / "streams.json")

    def entry(self, node: GraphNode) -> Entry:
        released = self._released.get(node.id)
        hidden = self._hidden(node.id)
        entry = Entry(
            id=node.id,
            kind=_kind(node, released),
            name=str(node.table) if released or node.kind == "source" else node.name,
            slug=self._slugs[node.id],
            table=node.table,
            description=node.description,
            owners=node.owners,
            tags=node.tags,
            group=node.group,
            path=node.path,
            materialized=node.materialized,
            key=node.key,
            checks=tuple(self._checks.get(node.id, ())),
            raw_sql=self._of.config.redact(self._of.dbt.raw(node.id)),
            sql=self._of.config.redact(self._of.dbt.compiled(node.id)),
            parents=tuple(id for id in node.parents if id in self._nodes),
            children=tuple(self._children.get(node.id, ())),
        )
        if released:
            return self._with_release(entry, node, released, hidden)
        if node.kind == "source":
            return self._with_stream(entry, node, hidden)
        columns = self._columns.get(str(node.table).lower(), ()) if node.table else ()
        return replace(entry, columns=tuple(_columns(node, columns, entry.checks, hidden, None)))

    def _with_release(self, entry: Entry, node: GraphNode, released: ReleasedTable, hidden: frozenset[str]) -> Entry:
        profile = self._profiles.get(str(released.ref))
        profile = without_values(profile, hidden) if profile else None
        return replace(
            entry,
            columns=tuple(_columns(node, released.columns, entry.checks, hidden, profile)),
            rows=released.rows,
            bytes=released.bytes,
            sampled=profile.sampled if profile else 0,
            sample=sample_table(self._of.release, released.ref, released.columns, hidden, self._of.config.redact),
            history=tuple(self._rows.get(node.id, ())),
        )

    def _with_stream(self, entry: Entry, node: GraphNode, hidden: frozenset[str]) -> Entry:
        assert node.table is not None
        key = str(node.table).lower()
        columns, state = self._columns.get(key, ()), self._states.get(key)
        if not columns:
            return replace(entry, columns=tuple(_columns(node, (), entry.checks, hidden, None)))
        ignored = self._of.ignored(node)
        moment = self._touched.get(table_key(node.table), 0)
        profile = self.streams.profile(self._of.warehouse, node.table, moment, ignored=ignored, hidden=hidden)
        shown = [column for column in columns if column.name.lower() not in ignored]
        return replace(
            entry,
            columns=tuple(_columns(node, columns, entry.checks, hidden, profile)),
            rows=profile.rows if profile else state.rows if state else None,
            sampled=profile.sampled if profile else 0,
            sample=sample_table(self._of.warehouse, node.table, shown, hidden, self._of.config.redact),
            stream=self._stream(node, bool(hidden)),
        )

    def _stream(self, node: GraphNode, is_personal: bool) -> StreamFacts | None:
        assert node.table is not None
        state = self._states.get(str(node.table).lower())
        if state is None:
            return None
        mode, cursor = self._stored.get(str(node.table).lower(), ("", ""))
        facts = StreamFacts(
            *(state.ref, mode, state.loaded, state.status, state.run, cursor if not is_personal else ""),
            warn=node.freshness[0],
            stale=node.freshness[1],
        )
        rejected = rejected_table(node.table)
        if str(rejected).lower() not in self._columns:
            return facts
        found = self._of.warehouse.execute(
            f"SELECT reason, count(*) FROM {rejected.sql} GROUP BY ALL ORDER BY 2 DESC, 1"
        ).fetchall()
        reasons = () if is_personal else tuple((self._of.config.redact(str(why))[:200], int(n)) for why, n in found)
        return replace(facts, rejected=sum(int(n) for _, n in found), reasons=reasons[:5])


def _kind(node: GraphNode, released: ReleasedTable | None) -> Kind:
    if released:
        return "table"
    kinds: Mapping[str, Kind] = {"source": "source", "seed": "seed", "snapshot": "snapshot"}
    return kinds.get(node.kind, "model")


def _columns(
    node: GraphNode,
    columns: Sequence[Column],
    checks: Sequence[CheckFacts],
    hidden: frozenset[str],
    profile: TableProfile | None,
) -> Iterator[ColumnFacts]:
    """The columns as they are there, or, where there is no table, as they are described."""
    described = {name.lower(): text for name, text in node.columns}
    by_column: dict[str, list[CheckFacts]] = {}
    for check in checks:
        by_column.setdefault(check.column.lower(), []).append(check)
    profiles = {column.name.lower(): column for column in profile.columns} if profile else {}
    for column in columns or [Column(name, "") for name, _ in node.columns]:
        key = column.name.lower()
        yield ColumnFacts(
            *(column.name, column.type, described.get(key, ""), tuple(by_column.get(key, ()))),
            hidden=key in hidden,
            profile=profiles.get(key),
        )


def _stored_states(warehouse: DuckDBPyConnection) -> dict[str, tuple[str, str]]:
    """The mode of each stream and the cursor from which it goes on, in words, by its table."""
    rows = warehouse.execute(
        f"""SELECT lower(schema_name || '.' || table_name), mode, state ->> '$.column', state ->> '$.cursor'
        FROM {INTERNAL_SCHEMA}.state"""
    ).fetchall()
    return {row[0]: (row[1] or "", f"{row[2]} = {row[3]}" if row[2] and row[3] else "") for row in rows}


# --- releases and runs ----------------------------------------------------------------------------------------------


def _changes(before: ReleaseManifest, now: ReleaseManifest) -> Iterator[TableChange]:
    """What became of each table, the changed ones first."""
    then = {str(table.ref).lower(): table for table in before.tables}
    found = []
    for table in now.tables:
        old = then.pop(str(table.ref).lower(), None)
        if old is None:
            found.append(TableChange(str(table.ref), table.id, None, table.rows))
        else:
            said = tuple(_column_changes(old.columns, table.columns))
            is_changed = old.hash != table.hash or bool(said)
            found.append(TableChange(str(table.ref), table.id, old.rows, table.rows, is_changed, said))
    found += [TableChange(str(old.ref), "", old.rows, None) for old in then.values()]
    yield from sorted(found, key=lambda change: (not change.is_changed, change.name.lower()))


def _column_changes(before: Sequence[Column], after: Sequence[Column]) -> Iterator[str]:
    then = {column.name.lower(): column for column in before}
    now = {column.name.lower(): column for column in after}
    for key, column in now.items():
        if key not in then:
            yield f"new column {column.name}"
        elif then[key].type != column.type:
            yield f"{column.name}: {then[key].type} → {column.type}"
    for key, column in then.items():
        if key not in now:
            yield f"column {column.name} is gone"


def _run(run: RunResult, manifest: ReleaseManifest) -> RunFacts:
    if run.run == manifest.run:
        return RunFacts(run.run, "ok", run.started, _seconds_so_far(run), manifest.number)
    made = run.release.number if run.release.status in ("published", "staged") else None
    return RunFacts(run.run, run.status, run.started, run.seconds, made)


def _seconds_so_far(run: RunResult) -> float:
    if run.status != "running":
        return run.seconds
    return max(0.0, (datetime.now(UTC) - run.started).total_seconds())
