"""From a built warehouse to a published release, or to the reasons why not."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from smoll.check import known_checks, refusals, remedy
from smoll.errors import Problem, ReleaseError, TransformError, UsageError
from smoll.events import Listener, Message, PortalStarted, ProfileStarted, ReleaseStarted
from smoll.interrupts import interruptible
from smoll.lineage import with_personal
from smoll.load.rejects import rejected_table
from smoll.load.table import count_rows, prepare_schemas
from smoll.model import Refusal, ReleasedTable, ReleaseManifest, ReleaseOutcome, ReleaseStatus, TableRef
from smoll.portal import DashboardProblems, Ingredients, dashboards_hash, write_portal
from smoll.profiles import (
    VERSION,
    TableProfile,
    forget_values,
    moment_of,
    profile_table,
    profiles_from_json,
    remember,
)
from smoll.release import (
    Candidate,
    Finisher,
    Profiler,
    Retention,
    breaking,
    build_release,
    current_release,
    hash_tables,
    is_current,
    newest_release,
    next_number,
    numbers,
    put_forward,
    read_manifest,
    remove_expired,
)
from smoll.state.layout import Layout
from smoll.state.ledger import Ledger
from smoll.warehouse import (
    INTERNAL_SCHEMA,
    Settings,
    columns_of,
    lending_memory,
    open_warehouse,
    reading,
    views_of,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig
    from smoll.transform import Dbt, Graph, GraphNode

T = TypeVar("T")

_MARTS = "models/marts/"


def publish(
    config: ProjectConfig,
    layout: Layout,
    settings: Settings,
    ledger: Ledger,
    dbt: Dbt,
    nodes: Sequence[GraphNode],
    run: int,
    emit: Listener,
    *,
    allow_breaking: bool = False,
) -> ReleaseOutcome:
    """Release `nodes` of the working warehouse as they are now, if every check allows it.

    Parameters
    ----------
    allow_breaking
        Even where readers of the current release would miss something.

    Raises
    ------
    ReleaseError
        The release cannot be staged; `current` is as it was.
    """
    if not nodes:
        return ReleaseOutcome("none", message=_nothing(config))
    ids = [node.id for node in nodes]
    remember_releases(layout, ledger)  # a run that was killed may have left one out
    with open_warehouse(layout.warehouse, settings) as warehouse:
        for statement in dbt.session:
            warehouse.execute(statement)
        prepare_schemas(warehouse, ())  # nothing need have been loaded
        views = views_of(warehouse)
        reasons = refusals(dbt.graph, ids, ledger.nodes(), ledger.checks(), views)
        if reasons:
            return ReleaseOutcome("refused", refusals=reasons)
        missing = [refusal for node in nodes for refusal in _missing(dbt, warehouse, node)]
        if missing:
            return ReleaseOutcome("refused", refusals=tuple(missing))
        dbt = with_personal(dbt, layout.column_lineage, warehouse)
        emit(ReleaseStarted(len(nodes)))
        candidates = [_candidate(config, dbt, node, views) for node in nodes]
        tables = interruptible(warehouse, lambda: hash_tables(warehouse, candidates))
        for node in nodes:
            if node.table:
                forget_values(ledger, node.table, dbt.graph.personal([node.id]))
        pages = _pages_hash(config, dbt.graph, ids)
        same = _same_as_newest(layout, tables, pages)
        if same is not None:
            return _unchanged(config, layout, same)
        broken = tuple(_breaking(layout, tables))
        if broken and not allow_breaking:
            return ReleaseOutcome("refused", refusals=broken)
        commit, dirty = _git(config.root)
        manifest = ReleaseManifest(
            number=next_number(layout),
            project=config.name,
            run=run,
            created=datetime.now(UTC),
            tables=tables,
            checks=known_checks(dbt.graph, ids, ledger.checks()),
            cursors=_cursors(warehouse),
            rejected=_rejected(warehouse),
            versions=_versions(),
            git_commit=commit,
            git_dirty=dirty,
            breaking=tuple(f"{refusal.subject} {refusal.reason}" for refusal in broken),
            config_hash=config.hash,
            dbt_manifest_hash=dbt.hash,
            pages_hash=pages,
        )
        profiler = _profiler(warehouse, layout, dbt.graph, emit)
        finisher = _finisher(config, layout, settings, ledger, dbt, warehouse, emit)
        try:
            interruptible(warehouse, lambda: build_release(warehouse, layout, manifest, candidates, profiler, finisher))
        except DashboardProblems as error:
            return ReleaseOutcome("refused", refusals=tuple(map(_wrong, error.problems)))
    published = put_forward(layout, manifest.number)
    remember_releases(layout, ledger)
    _tidy(config, layout, emit)
    return _outcome(layout, "published" if published else "staged", manifest.number)


def retention_of(config: ProjectConfig) -> Retention:
    """How many releases stay, how old they may be, and how much of the disk they may take."""
    return Retention(config.release.keep, config.release.keep_days, config.release.keep_bytes)


def _tidy(config: ProjectConfig, layout: Layout, emit: Listener) -> None:
    """Remove the releases that need not stay; one that goes for want of space is told."""
    try:
        gone = remove_expired(layout, retention_of(config))
    except ReleaseError as error:  # the new release is there all the same
        emit(Message(f"{error.message} {error.hint}", "warning"))
        return
    for each in gone:
        if each.for_room:
            emit(Message(f"Release {each.number} was removed: {each.reason}.", "warning"))


def released_nodes(config: ProjectConfig, dbt: Dbt) -> list[GraphNode]:
    """The models under models/marts/, or every model where there is no such folder, or what the project selects.

    Raises
    ------
    TransformError
        `release.select` is no selection that dbt understands.
    """
    nodes = dbt.graph.nodes
    if config.release.select:
        try:
            selected = dbt.select(config.release.select)
        except UsageError as error:
            raise TransformError(f"{config.locate('release', 'select')}: {error.message}") from error
        chosen = [nodes[id] for id in sorted(selected) if id in nodes]
    else:
        models = [node for node in nodes.values() if node.kind == "model"]
        marts = [node for node in models if node.own and node.path.startswith(_MARTS)]
        chosen = sorted(marts or models, key=lambda node: node.id)
    return [node for node in chosen if node.table and not node.is_check and node.materialized != "ephemeral"]


def _nothing(config: ProjectConfig) -> str:
    if config.release.select:
        return f"Nothing to release: `release.select` ({config.release.select}) names no table."
    folder = f"{config.transform}/models/marts".removeprefix("./")
    return f"Nothing to release: the dbt project has no model yet. Put one into {folder}/."


def _missing(dbt: Dbt, warehouse: DuckDBPyConnection, node: GraphNode) -> Iterator[Refusal]:
    import duckdb

    assert node.table is not None
    try:
        if not columns_of(warehouse, node.table):
            yield Refusal(node.name, f"is not in the warehouse ({node.table})", remedy(dbt.graph, node))
    except duckdb.BinderException as error:  # a view over something that was built otherwise since
        reason = f"is a view that cannot be read: {str(error).splitlines()[0]}"
        yield Refusal(node.name, reason, remedy(dbt.graph, node))


def _candidate(config: ProjectConfig, dbt: Dbt, node: GraphNode, views: Set[str]) -> Candidate:
    assert node.table is not None
    is_view = str(node.table).lower() in views
    ignored = ignored_columns(config, dbt.graph, node)
    return Candidate(node.id, node.table, is_view, ignored, node.description, node.columns)


def ignored_columns(config: ProjectConfig, graph: Graph, node: GraphNode) -> frozenset[str]:
    """The columns that differ between two loads of the same data, in lower case: load metadata, and snapshot clocks."""
    behind = [graph.nodes[id] for id in graph.ancestors([node.id])]
    schemas = {above.table.schema.lower() for above in behind if above.kind == "source" and above.table}
    sources = [source for source in config.sources.values() if source.schema_name.lower() in schemas]
    clocks = ("load_id", "loaded_at", "file", "valid_from", "valid_to")
    metadata = [str(getattr(source.metadata, clock)) for source in sources for clock in clocks]
    return frozenset(name.lower() for name in [*metadata, *node.clocks])


def _profiler(warehouse: DuckDBPyConnection, layout: Layout, graph: Graph, emit: Listener) -> Profiler:
    """Profile a table of a release; what is as it was in the newest release has the profile that it had."""
    import duckdb

    newest = newest_release(layout)
    known = dict(read_profiles(layout, read_manifest(layout, newest))) if newest is not None else {}

    def profile(relation: str, candidate: Candidate, table: ReleasedTable) -> TableProfile | None:
        pii = graph.personal([candidate.id])
        before, hash = known.get(str(table.ref), (None, ""))
        if before is not None and hash == table.hash:
            now = [(column.name, column.type, column.name.lower() in pii) for column in table.columns]
            then = [(column.name, column.type, column.pii) for column in before.columns]
            if then == [each for each in now if each[0].lower() not in candidate.ignored]:
                return before
        emit(ProfileStarted(str(table.ref), table.rows))
        try:
            return profile_table(warehouse, table.ref, ignored=candidate.ignored, pii=pii, relation=relation)
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            said = "" if pii else f": {str(error).splitlines()[0]}"
            emit(Message(f"{table.ref} could not be profiled{said}", "warning"))
            return None

    def profile_all(tables: Sequence[tuple[str, Candidate, ReleasedTable]]) -> dict[str, Any]:
        found = [profile(*each) for each in tables]
        return {"version": VERSION, "tables": [each for each in found if each is not None]}

    return profile_all


def _finisher(
    config: ProjectConfig,
    layout: Layout,
    settings: Settings,
    ledger: Ledger,
    dbt: Dbt,
    warehouse: DuckDBPyConnection,
    emit: Listener,
) -> Finisher:
    """Write the portal into a release that is being staged; it reads the tables as readers will."""

    def finish(folder: Path, manifest: ReleaseManifest, profiles: Any) -> None:
        emit(PortalStarted(manifest.number))
        path = folder / "warehouse.duckdb"
        with lending_memory(warehouse, settings, 4), reading(path, "release", settings.part(2)) as release:
            ingredients = Ingredients(
                config=config,
                layout=layout,
                ledger=ledger,
                dbt=dbt,
                manifest=manifest,
                profiles=profiles["tables"],
                warehouse=warehouse,
                release=release,
                settings=settings.part(4),
                emit=emit,
                ignored=lambda node: ignored_columns(config, dbt.graph, node),
            )
            write_portal(folder, ingredients)

    return finish


def read_profiles(layout: Layout, manifest: ReleaseManifest) -> Iterator[tuple[str, tuple[TableProfile, str]]]:
    """The profiles of a release, each with the hash of its table, by the table's name; none where it has no sound file.

    They may know values of columns that were marked as personal since.
    """
    if manifest.profile is None:
        return
    try:
        content = (layout.releases / str(manifest.number) / manifest.profile.file).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest.profile.sha256:
            return
        found = profiles_from_json(json.loads(content))
    except (OSError, ValueError):
        return
    hashes = {str(table.ref): table.hash for table in manifest.tables}
    for profile in found:
        if str(profile.ref) in hashes:
            yield str(profile.ref), (profile, hashes[str(profile.ref)])


def remember_releases(layout: Layout, ledger: Ledger) -> None:
    """Write the profiles of the releases on disk into the history, as far as they are not in it yet."""
    late: list[ReleaseManifest] = []
    for number in reversed(numbers(layout)):
        with suppress(ReleaseError, UsageError):  # damaged, or gone just now
            manifest = read_manifest(layout, number)
            if (number, moment_of(manifest.created)) == ledger.profiled():
                break
            late.append(manifest)
    for manifest in reversed(late):
        found = dict(read_profiles(layout, manifest)).values()
        remember(ledger, manifest.number, manifest.created, found)


def _breaking(layout: Layout, tables: Sequence[ReleasedTable]) -> Iterator[Refusal]:
    """What readers would miss; nothing where what they read is damaged."""
    with suppress(ReleaseError):
        current = current_release(layout)
        if current is not None:
            yield from breaking(read_manifest(layout, current), tables)


def _wrong(problem: Problem) -> Refusal:
    hint = f" ({problem.hint})" if problem.hint else ""
    return Refusal(f"{problem.file}:{problem.line}", f"{problem.message}{hint}", "smoll check")


def _pages_hash(config: ProjectConfig, graph: Graph, released: Sequence[str]) -> str:
    """Changes with the dashboards, and with what is written about the released tables and all that is behind them."""
    said = [
        [node.id, node.description, node.columns, node.pii, node.owners, node.tags, node.group]
        for node in (graph.nodes[id] for id in sorted(graph.ancestors(released)))
    ]
    text = json.dumps([said, dashboards_hash(config.root)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _same_as_newest(layout: Layout, tables: tuple[ReleasedTable, ...], pages: str) -> int | None:
    newest = newest_release(layout)
    if newest is None:
        return None
    manifest = read_manifest(layout, newest)
    return newest if manifest.tables == tables and manifest.pages_hash == pages else None


def _unchanged(config: ProjectConfig, layout: Layout, number: int) -> ReleaseOutcome:
    """Nothing new to release. A run that was killed between staging and switching is completed here."""
    if is_current(layout, number):
        return ReleaseOutcome("unchanged", number, message=f"Nothing changed since release {number}.")
    if put_forward(layout, number):
        return _outcome(layout, "published", number)
    current = current_release(layout)
    seen = f"release {current}" if current else "none: `smoll release resume`"
    message = f"Nothing changed since release {number}, which is held back; readers see {seen}."
    return ReleaseOutcome("unchanged", number, message=message)


def _outcome(layout: Layout, status: ReleaseStatus, number: int) -> ReleaseOutcome:
    path = (layout.releases / str(number)).relative_to(layout.root).as_posix()
    names = tuple(str(table.ref) for table in read_manifest(layout, number).tables)
    return ReleaseOutcome(status, number, path, names)


def _rejected(warehouse: DuckDBPyConnection) -> dict[str, int]:
    """The streams that have rejected rows now, and how many."""
    tables = warehouse.execute(
        f"SELECT source, stream, schema_name, table_name FROM {INTERNAL_SCHEMA}.state"
    ).fetchall()
    counts = {f"{row[0]}.{row[1]}": count_rows(warehouse, rejected_table(TableRef(row[2], row[3]))) for row in tables}
    return {stream: count for stream, count in sorted(counts.items()) if count}


def _cursors(connection: DuckDBPyConnection) -> dict[str, str]:
    rows = connection.execute(
        f"""SELECT source || '.' || stream, state ->> '$.cursor' FROM {INTERNAL_SCHEMA}.state
        WHERE state ->> '$.cursor' IS NOT NULL ORDER BY 1"""
    ).fetchall()
    return dict(rows)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("smoll", "duckdb", "dbt-core", "dbt-duckdb"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _git(root: Path) -> tuple[str | None, bool | None]:
    """The commit of the project and whether the folder differs from it; None where git does not know the folder."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return None, None
    try:
        commit = _ask_git(root, "rev-parse", "HEAD")
        dirty = bool(_ask_git(root, "--no-optional-locks", "status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, dirty


def _ask_git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
