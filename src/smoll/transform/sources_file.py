"""The generated ``_smoll_sources.yml``: every stream is a dbt source without the user writing one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoll.errors import StateError, disk_hint
from smoll.model import TableRef
from smoll.transform.profile import read_yaml

NAME = "_smoll_sources.yml"
_HEAD = "# Written by smoll before every run, from smoll.yml. Do not edit; keep it out of git.\n"


@dataclass(frozen=True)
class SourceTable:
    """A table that dbt is told of: smoll's name of its source, where it lies, and what to say of it."""

    source: str
    table: TableRef
    description: str


def write_sources_file(folder: Path, tables: Sequence[SourceTable]) -> None:
    """Write `tables` as dbt sources into the project's first model path, leaving out those it declares itself.

    Raises
    ------
    StateError
        The file cannot be written.
    """
    declared = {table for pair in _declared(folder) for table in pair}
    sources: dict[str, list[SourceTable]] = {}
    for entry in tables:
        named = TableRef(entry.source, entry.table.name)
        if entry.table not in declared and named not in declared:
            sources.setdefault(entry.source, []).append(entry)
    _write_if_changed(sources_file(folder), _HEAD + _render(sources) if sources else "")


def sources_file(folder: Path) -> Path:
    """Where the generated file lies: in the first model path of the dbt project in `folder`."""
    return model_folders(folder)[0] / NAME


def model_folders(folder: Path) -> tuple[Path, ...]:
    """Where the dbt project in `folder` has its models; never empty."""
    paths = read_yaml(folder / "dbt_project.yml").get("model-paths") or ["models"]
    return tuple(folder / str(path) for path in paths)


def declared_sources(folder: Path) -> dict[TableRef, TableRef]:
    """The tables that the user's own YAML declares, schema and name in lower case, to dbt's names of source and table.

    What is not among them has the names that smoll gives it: those of the source and of the table.
    """
    return {TableRef(table.schema.lower(), table.name.lower()): named for table, named in _declared(folder)}


def _render(sources: dict[str, list[SourceTable]]) -> str:
    """JSON is YAML: every name is quoted right, whatever it holds."""
    listed = [
        {
            "name": source,
            "schema": tables[0].table.schema,
            "tables": [{"name": entry.table.name, "description": entry.description} for entry in tables],
        }
        for source, tables in sources.items()
    ]
    return json.dumps({"version": 2, "sources": listed}, indent=2, ensure_ascii=False) + "\n"


def generated_sources(folder: Path) -> dict[TableRef, TableRef]:
    """The tables that the generated file declares, to dbt's names of source and table; {} where there is no file."""
    file = sources_file(folder)
    sources = read_yaml(file).get("sources") or [] if file.is_file() else []
    return dict(pair for source in sources for pair in _tables(source))


def _declared(folder: Path) -> Iterable[tuple[TableRef, TableRef]]:
    """What the user's YAML declares, each as schema.table and as source.table."""
    for file in yaml_files(folder):
        if b"sources" not in file.read_bytes():  # to parse all of a large project is slow
            continue
        for source in read_yaml(file).get("sources") or []:
            yield from _tables(source)


def yaml_files(folder: Path) -> Iterable[Path]:
    """The user's YAML files beside the models of the dbt project in `folder`."""
    for path in model_folders(folder):
        yield from (file for file in sorted([*path.rglob("*.yml"), *path.rglob("*.yaml")]) if file.name != NAME)


def _tables(source: Any) -> Iterable[tuple[TableRef, TableRef]]:
    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
        return  # dbt reports it, with its place
    name = source["name"]
    for table in source.get("tables") or []:
        if isinstance(table, dict) and isinstance(table.get("name"), str):
            own = TableRef(str(source.get("schema", name)), str(table.get("identifier", table["name"])))
            yield own, TableRef(name, table["name"])


def _write_if_changed(target: Path, text: str) -> None:
    """Leave the file alone where it says the same: dbt parses anew what has a newer time."""
    try:
        if not text:
            target.unlink(missing_ok=True)
        elif not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            staged = target.with_suffix(".tmp")
            staged.write_text(text, encoding="utf-8")
            staged.replace(target)
    except OSError as error:
        raise StateError(f"Cannot write {target}: {error.strerror}.", hint=disk_hint(error)) from error
