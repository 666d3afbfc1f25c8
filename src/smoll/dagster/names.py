"""What things are called in Dagster: keys, groups and names that line up by themselves."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetKey

from smoll.describe import Description
from smoll.model import StreamRef, TableRef
from smoll.project import RESERVED_NAMES
from smoll.transform import Exposure, GraphNode

_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,63}")


@dataclass(frozen=True)
class Names:
    """The asset key of everything in a project.

    Parameters
    ----------
    project
        The project's name, as Dagster's names may be written.
    streams
        By stream.
    nodes
        By dbt id: models, seeds, snapshots and sources. The source that reads a stream has the stream's key.
    tables
        The table behind each key.
    written
        Of these keys, what an asset of the user's own writes.
    dashboards
        By the slug of the page.
    """

    project: str
    streams: Mapping[StreamRef, AssetKey]
    nodes: Mapping[str, AssetKey]
    tables: Mapping[AssetKey, TableRef]
    written: frozenset[AssetKey] = frozenset()
    dashboards: Mapping[str, AssetKey] = field(default_factory=dict)

    @property
    def release(self) -> AssetKey:
        return AssetKey([self.project, "release"])

    @property
    def job(self) -> str:
        """The job that runs everything, and the beginning of the names of its steps."""
        return self.project


def find_names(
    project: str, description: Description, others: Mapping[TableRef, AssetKey], dashboards: Iterable[str] = ()
) -> Names:
    """Name everything.

    Keys of dbt's nodes are those of dagster-dbt: ``meta: {dagster: {asset_key: [...]}}``, else the custom schema and
    the name. A stream has ``source/stream``, or what dbt's source says of its key. Where two would be one for Dagster,
    the later has more in front: its package, its kind.

    Parameters
    ----------
    others
        Tables that assets of the user's own write, with their keys: dbt sources over them have those keys.
    dashboards
        Slugs. Their keys are ``project/dashboards/slug``.
    """
    graph = description.graph.nodes
    sources = [node for node in graph.values() if node.kind == "source" and node.table]
    by_table = {_folded(node.table): node for node in sources}
    written = {_folded(table): key for table, key in others.items()}
    taken = {key.to_python_identifier(): key for key in others.values()}
    streams = {}
    for stream in description.streams:
        source = by_table.get(_folded(stream.table))
        path = [stream.ref.source, *stream.ref.stream.split("/")]
        streams[stream.ref] = _free(taken, (_own_path(source) if source else None) or path, ["streams", *path])
    loaded = {_folded(stream.table): streams[stream.ref] for stream in description.streams}
    nodes: dict[str, AssetKey] = {}
    for node in sorted(graph.values(), key=lambda node: node.kind == "source"):  # what is built has the first choice
        if node.table and not node.is_check:
            table = _folded(node.table)
            known = (loaded.get(table) or written.get(table)) if node.kind == "source" else None
            if known is None:
                own, package = _node_path(node), node.id.split(".")[1]
                known = _free(taken, _own_path(node) or own, [package, *own], [node.kind, package, *own])
            nodes[node.id] = known
    tables = {streams[stream.ref]: stream.table for stream in description.streams}
    tables |= {nodes[node.id]: node.table for node in graph.values() if node.id in nodes and node.table}
    theirs = frozenset(others.values()) & frozenset(nodes.values())
    pages = {page: _free(taken, [slug(project), "dashboards", page]) for page in dashboards}
    return Names(slug(project), streams, nodes, tables, theirs, pages)


def _free(taken: dict[str, AssetKey], *paths: Sequence[str]) -> AssetKey:
    """The first of these that Dagster can name and has not named yet; numbered where there is none."""
    first = [[sayable(part) or "_" for part in path] for path in paths]
    numbered = ([*first[-1][:-1], f"{first[-1][-1]}_{number}"] for number in itertools.count(2))
    for path in itertools.chain(first, numbered):
        key = AssetKey([f"{path[0]}_"] if len(path) == 1 and path[0] in RESERVED_NAMES else path)
        if key.to_python_identifier() not in taken:
            taken[key.to_python_identifier()] = key
            return key
    raise AssertionError  # numbers do not end


def _folded(table: TableRef | None) -> str:
    return str(table).lower()


def _own_path(node: GraphNode) -> Sequence[str] | None:
    own = _about(node).get("asset_key")
    return own.split("/") if isinstance(own, str) else own or None


def _node_path(node: GraphNode) -> Sequence[str]:
    if node.kind == "source":
        return node.name.split(".", 1)
    has_version = node.id.count(".") > 2  # model.package.name.v2
    name = node.table.name if has_version and node.table else node.name
    return [*([node.own_schema] if node.own_schema else []), name]


def exposure_key(exposure: Exposure) -> AssetKey:
    return AssetKey([exposure.kind, sayable(exposure.name)])


def _about(node: GraphNode) -> Mapping[str, Any]:
    found = node.meta.get("dagster")
    return found if isinstance(found, dict) else {}


def group_of(node: GraphNode) -> str:
    """The group of a dbt node: what ``meta.dagster.group`` or dbt's own group says, else its folder."""
    kind = {"seed": "seeds", "snapshot": "snapshots"}.get(node.kind, "models")
    return slug(str(_about(node).get("group") or node.group or node.folder or kind))


def owners_of(owners: Iterable[str]) -> list[str]:
    """Owners as Dagster takes them: an address, or ``team:name``."""
    return [owner if _ADDRESS.fullmatch(owner) else f"team:{slug(owner.removeprefix('team:'))}" for owner in owners]


def tags_of(tags: Iterable[str]) -> dict[str, str]:
    """Tags as Dagster takes them; what may not stand in one becomes an underscore."""
    return {tag if _TAG.fullmatch(tag) else re.sub(r"[^A-Za-z0-9_.-]", "_", tag)[:63]: "" for tag in tags}


def sayable(name: str) -> str:
    """A name with an underscore for each character that Dagster's names may not have."""
    return _NOT_IN_NAMES.sub("_", name)


def slug(name: str) -> str:
    """A name of letters, digits and underscores."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "_"
