"""dbt's manifest, reduced to what smoll asks of it. Frozen values; dbt's own objects end here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from smoll.model import TableRef

OWN_CHECK = "check"
"""The kind of smoll's own checks, beside dbt's."""
_CHECKS = ("test", "unit_test", OWN_CHECK)
_REJECTED = "__rejected"  # see smoll.load.rejects
_TEXTS_OF_REJECTS = {"raw", "reason"}
_BUILT = ("model", "seed", "snapshot")


@dataclass(frozen=True)
class GraphNode:
    """A model, seed, snapshot, source table, test or unit test of the dbt project, or a check of smoll's own.

    ``own``: it belongs to the project itself, not to a package that it uses. ``parents`` are dbt ids.
    ``definition`` is a hash of what a check *is*, so that an edited check counts as one that has not run.
    ``clocks`` are the columns in which a snapshot writes its own times. ``folder`` is the first folder below the
    models' own, "" without. ``owners`` are names or addresses. ``freshness`` are the seconds after which a source is to
    be warned of and called stale (None: never). ``own_schema`` is the schema that its configuration names, ``attached``
    the node that a check was declared at. ``test`` is the name of a generic test or the kind of a check of smoll's own,
    ``column`` what it looks at. ``key`` are the columns that tell its rows apart, by its ``meta``, a constraint or its
    tests. ``pii`` are the columns that no sample may show (``meta: {pii: true}``).
    """

    id: str
    name: str
    kind: str
    path: str
    own: bool = True
    parents: tuple[str, ...] = ()
    table: TableRef | None = None
    materialized: str = ""
    severity: Literal["error", "warn"] = "error"
    definition: str = ""
    description: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    clocks: tuple[str, ...] = ()
    folder: str = ""
    own_schema: str = ""
    attached: str = ""
    test: str = ""
    column: str = ""
    key: tuple[str, ...] = ()
    pii: tuple[str, ...] = ()
    group: str = ""
    owners: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    freshness: tuple[float | None, float | None] = (None, None)

    @property
    def is_check(self) -> bool:
        return self.kind in _CHECKS

    @property
    def is_built(self) -> bool:
        """True for what dbt builds: a model, a seed or a snapshot."""
        return self.kind in _BUILT


@dataclass(frozen=True)
class Exposure:
    """What is made of the tables: a dashboard, a notebook, an application. ``parents`` are dbt ids."""

    id: str
    name: str
    kind: str
    parents: tuple[str, ...] = ()
    title: str = ""
    description: str = ""
    url: str = ""
    owners: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """All nodes of the project by id, and its exposures."""

    nodes: Mapping[str, GraphNode]
    exposures: tuple[Exposure, ...] = ()

    def ancestors(self, ids: Iterable[str]) -> set[str]:
        """The given nodes and everything they are built from."""
        found: set[str] = set()
        waiting = list(ids)
        while waiting:
            node = waiting.pop()
            if node in found or node not in self.nodes:
                continue
            found.add(node)
            waiting += self.nodes[node].parents
        return found

    def descendants(self, ids: Iterable[str]) -> frozenset[str]:
        """The given nodes and everything that is built from them, with its checks."""
        children: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for parent in node.parents:
                children.setdefault(parent, []).append(node.id)
        found: set[str] = set()
        waiting = list(ids)
        while waiting:
            id = waiting.pop()
            if id not in found:
                found.add(id)
                waiting += children.get(id, ())
        return frozenset(found)

    def checks(self) -> Iterable[GraphNode]:
        """Every test, unit test and check of smoll's own."""
        return (node for node in self.nodes.values() if node.is_check)

    def personal(self, ids: Iterable[str]) -> frozenset[str]:
        """The columns marked ``pii`` of these nodes and of all that they are built from, in lower case.

        Of a table of rejected rows it is their text, where the table itself has such columns.
        """
        behind = [self.nodes[id] for id in self.ancestors(ids)]
        found = {name.lower() for node in behind for name in node.pii}
        rejects = {str(node.table).lower() for node in behind if str(node.table).endswith(_REJECTED)}
        if any(node.pii and f"{node.table}{_REJECTED}".lower() in rejects for node in self.nodes.values()):
            found |= _TEXTS_OF_REJECTS
        return frozenset(found)


def read_manifest(manifest: Any) -> Graph:
    """Reduce dbt's Manifest object. Nodes of other kinds (analyses, operations) are left out."""
    nodes = [_node(node, manifest) for node in manifest.nodes.values()]
    nodes += [_source(source) for source in manifest.sources.values()]
    nodes += [_unit_test(test, manifest) for test in manifest.unit_tests.values()]
    return Graph(
        {node.id: node for node in nodes if node.is_check or node.is_built or node.kind == "source"},
        tuple(_exposure(exposure) for exposure in manifest.exposures.values()),
    )


_SAID = (
    *("name", "alias", "schema", "identifier", "raw_code", "macro_sql", "description", "meta", "tags", "columns"),
    *("freshness", "constraints", "access", "version", "given", "expect", "overrides", "owner", "url", "maturity"),
)
_BRINGS = ("dbt", "dbt_duckdb", "dbt_adapters")
"""Packages of dbt's own: their versions say what is in them."""


def manifest_hash(manifest: Any) -> str:
    """Hash what a dbt project says: no times, ids of invocations or paths, and nothing that building it adds."""
    kinds = ("nodes", "sources", "macros", "exposures", "unit_tests", "groups", "metrics", "semantic_models", "docs")
    said = {
        id: [
            {name: _value(getattr(one, name, None)) for name in _SAID},
            _value(getattr(one, "config", None)),
            str(getattr(getattr(one, "checksum", None), "checksum", "")) if id.startswith("seed.") else "",
            sorted(getattr(getattr(one, "depends_on", None), "nodes", ())),
        ]
        for kind in kinds
        for id, one in getattr(manifest, kind, {}).items()
        if getattr(one, "package_name", "") not in _BRINGS
    }
    return hashlib.sha256(json.dumps(said, default=str, sort_keys=True).encode()).hexdigest()


def _value(value: Any) -> Any:
    """Dbt's objects as plain values."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _value(item) for key, item in value.items()}
    return [_value(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_declared(manifest: Any) -> tuple[tuple[str, str, Any], ...]:
    """What stands in ``meta`` under the key ``smoll``: the id of the node, its column ("": none), and what stands."""
    found: list[tuple[str, str, Any]] = []
    for node in (*manifest.nodes.values(), *manifest.sources.values()):
        if str(node.resource_type) in (*_BUILT, "source"):
            metas = {"": node.meta, **{name: _column_meta(column) for name, column in node.columns.items()}}
            found += ((node.unique_id, name, meta["smoll"]) for name, meta in metas.items() if "smoll" in meta)
    return tuple(found)


def _column_meta(column: Any) -> Mapping[str, Any]:
    own = getattr(getattr(column, "config", None), "meta", None) or {}
    return {**own, **(column.meta or {})}


def _node(node: Any, manifest: Any) -> GraphNode:
    kind = str(node.resource_type)
    is_test = kind == "test"
    return GraphNode(
        id=node.unique_id,
        name=node.name,
        kind=kind,
        path=node.original_file_path,
        own=node.package_name == manifest.metadata.project_name,
        parents=tuple(getattr(node.depends_on, "nodes", ())),
        table=None if is_test else TableRef(node.schema, node.alias),
        materialized=str(getattr(node.config, "materialized", "")),
        severity="warn" if is_test and str(node.config.severity).lower() == "warn" else "error",
        definition=_definition(node, manifest) if is_test else "",
        description=node.description or "",
        columns=tuple((name, column.description or "") for name, column in node.columns.items()),
        clocks=_clocks(node) if kind == "snapshot" else (),
        folder=node.fqn[1] if len(node.fqn) > 2 else "",
        own_schema=str(getattr(node.config, "schema", None) or "") if not is_test else "",
        attached=str(getattr(node, "attached_node", None) or "") if is_test else "",
        test=str(getattr(getattr(node, "test_metadata", None), "name", "") or ""),
        column=str(getattr(node, "column_name", None) or ""),
        key=_key(node),
        pii=tuple(name for name, column in node.columns.items() if _is_pii(column)),
        group=str(getattr(node.config, "group", None) or ""),
        owners=_owners(node.meta, _group_owner(getattr(node.config, "group", None), manifest)),
        tags=tuple(node.tags),
        meta=dict(node.meta),
    )


def _key(node: Any) -> tuple[str, ...]:
    """What tells the rows apart. dbt finds it in constraints and in tests of uniqueness (dbt 1.9, ``primary_key``)."""
    said = node.meta.get("primary_key") or getattr(node, "primary_key", None) or ()
    return (said,) if isinstance(said, str) else tuple(str(each) for each in said)


def _is_pii(column: Any) -> bool:
    return bool(_column_meta(column).get("pii"))


def _source(source: Any) -> GraphNode:
    return GraphNode(
        id=source.unique_id,
        name=f"{source.source_name}.{source.name}",
        kind="source",
        path=source.original_file_path,
        table=TableRef(source.schema, source.identifier),
        description=source.description or "",
        columns=tuple((name, column.description or "") for name, column in source.columns.items()),
        pii=tuple(name for name, column in source.columns.items() if _is_pii(column)),
        owners=_owners({**source.source_meta, **source.meta}),
        tags=tuple(source.tags),
        meta=dict(source.meta),
        freshness=(_seconds(source.freshness, "warn_after"), _seconds(source.freshness, "error_after")),
    )


def _exposure(exposure: Any) -> Exposure:
    return Exposure(
        id=exposure.unique_id,
        name=exposure.name,
        kind=str(exposure.type),
        parents=tuple(exposure.depends_on.nodes),
        title=exposure.label or "",
        description=exposure.description or "",
        url=exposure.url or "",
        owners=_owners(exposure.meta, exposure.owner),
        tags=tuple(exposure.tags),
        meta=dict(exposure.meta),
    )


def _owners(meta: Mapping[str, Any], owner: Any = None) -> tuple[str, ...]:
    """Who answers for a node: what its ``meta`` says, else the owner that dbt knows (of its group)."""
    said = meta.get("owner") or meta.get("owners")
    if not said:
        said = getattr(owner, "email", None) or getattr(owner, "name", None) or ()
    several = said if isinstance(said, (list, tuple)) else [said]
    found = [(one.get("email") or one.get("name")) if isinstance(one, dict) else one for one in several]
    return tuple(str(one) for one in found if one)


def _group_owner(group: str | None, manifest: Any) -> Any:
    return next((each.owner for each in manifest.groups.values() if each.name == group), None)


def _seconds(freshness: Any, which: str) -> float | None:
    """A threshold of dbt's: a count and a period."""
    after = getattr(freshness, which, None)
    if after is None or after.count is None or after.period is None:
        return None
    return float(after.count) * {"minute": 60, "hour": 3600, "day": 86400}[str(after.period)]


def _unit_test(test: Any, manifest: Any) -> GraphNode:
    """A unit test judges the model's code over rows of its own: it is another test when either changes."""
    models = [manifest.nodes[id].checksum.checksum for id in test.depends_on.nodes if id in manifest.nodes]
    return GraphNode(
        id=test.unique_id,
        name=test.name,
        kind="unit_test",
        path=test.original_file_path,
        parents=tuple(test.depends_on.nodes),
        definition=hashlib.sha256(" ".join([str(test.checksum or ""), *models]).encode()).hexdigest()[:16],
    )


def _definition(node: Any, manifest: Any) -> str:
    """Hash the test's code, arguments, configuration and the macros it calls directly."""
    metadata = getattr(node, "test_metadata", None)
    macros = [manifest.macros[name].macro_sql for name in node.depends_on.macros if name in manifest.macros]
    parts = [node.raw_code, metadata.kwargs if metadata else {}, node.config.to_dict(), macros]
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _clocks(snapshot: Any) -> tuple[str, ...]:
    """The columns in which dbt writes when a row was seen; they differ between two runs over the same data."""
    names = snapshot.config.snapshot_meta_column_names
    found = {key: getattr(names, key, None) or key for key in ("dbt_valid_from", "dbt_updated_at", "dbt_scd_id")}
    return tuple(found.values())
