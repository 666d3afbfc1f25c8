"""What things are called in Dagster: keys, groups and names that line up by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster import AssetKey

from smoll.describe import Description
from smoll.model import StreamRef, TableRef
from smoll.transform import Exposure, GraphNode

_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
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
    """

    project: str
    streams: Mapping[StreamRef, AssetKey]
    nodes: Mapping[str, AssetKey]
    tables: Mapping[AssetKey, TableRef]
    written: frozenset[AssetKey] = frozenset()

    @property
    def release(self) -> AssetKey:
        return AssetKey([self.project, "release"])

    @property
    def job(self) -> str:
        """The job that runs everything, and the beginning of the names of its steps."""
        return self.project


def find_names(project: str, description: Description, others: Mapping[TableRef, AssetKey]) -> Names:
    """Name everything.

    Keys of dbt's nodes are those of dagster-dbt: ``meta: {dagster: {asset_key: [...]}}``, else the custom schema and
    the name. A stream has ``source/stream``, or what dbt's source says of its key.

    Parameters
    ----------
    others
        Tables that assets of the user's own write, with their keys: dbt sources over them have those keys.
    """
    sources = [node for node in description.graph.nodes.values() if node.kind == "source" and node.table]
    by_table = {_folded(node.table): node for node in sources if node.table}
    streams = {}
    for stream in description.streams:
        source = by_table.get(_folded(stream.table))
        own = _own_key(source) if source else None
        streams[stream.ref] = own or AssetKey([stream.ref.source, *stream.ref.stream.split("/")])
    loaded = {_folded(stream.table): streams[stream.ref] for stream in description.streams}
    written = {_folded(table): key for table, key in others.items()}
    nodes = {}
    for node in description.graph.nodes.values():
        if node.table and not node.is_check:
            known = loaded.get(_folded(node.table)) or written.get(_folded(node.table))
            nodes[node.id] = (known if node.kind == "source" else None) or _own_key(node) or _node_key(node)
    tables = {streams[stream.ref]: stream.table for stream in description.streams}
    tables |= {
        nodes[node.id]: node.table for node in description.graph.nodes.values() if node.id in nodes and node.table
    }
    return Names(slug(project), streams, nodes, tables, frozenset(others.values()) & frozenset(nodes.values()))


def _folded(table: TableRef | None) -> str:
    return str(table).lower()


def _own_key(node: GraphNode) -> AssetKey | None:
    own = _about(node).get("asset_key")
    return AssetKey(own) if own else None


def _node_key(node: GraphNode) -> AssetKey:
    if node.kind == "source":
        return AssetKey(node.name.split(".", 1))
    return AssetKey([*([node.own_schema] if node.own_schema else []), node.name])


def exposure_key(exposure: Exposure) -> AssetKey:
    return AssetKey([exposure.kind, exposure.name])


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


def slug(name: str) -> str:
    """A name of letters, digits and underscores."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "_"
