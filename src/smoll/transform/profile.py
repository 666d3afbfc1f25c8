"""The dbt profile that smoll generates: it decides where dbt builds, the user's own profile only how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoll.errors import TransformError
from smoll.model import literal, quote
from smoll.warehouse import Settings

TARGET = "smoll"
_DEFAULT_SCHEMA = "main"
_PLAIN_YAML = re.compile(r"[A-Za-z_][\w ,.;()/-]*(?<! )", re.ASCII)
# What YAML 1.1, which dbt reads, takes for a boolean or nothing.
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_TAKEN_OVER = ("schema", "threads", "settings", "extensions")


@dataclass(frozen=True)
class Profile:
    """The generated profile as a mapping, and what a person should know of the profile it replaces.

    ``session`` is SQL that gives another connection the same settings and extensions.
    """

    content: Mapping[str, Any]
    notes: tuple[str, ...]
    session: tuple[str, ...]


def read_profile_name(project_file: Path) -> str:
    """The ``profile`` (else the ``name``) of ``dbt_project.yml``. Raises TransformError where it cannot be read."""
    data = read_yaml(project_file)
    name = data.get("profile") or data.get("name")
    if not isinstance(name, str):
        raise TransformError(f"{project_file} names neither a profile nor the project.", hint="Add `name:` to it.")
    return name


def make_profile(folder: Path, name: str, warehouse: Path, settings: Settings, threads: int | None) -> Profile:
    """Build the profile for the dbt project in `folder`.

    A ``profiles.yml`` in the project contributes its schema, threads, settings and extensions. Its type and path
    do not count: smoll owns the warehouse.
    """
    user, notes = _user_output(folder / "profiles.yml", name)
    own = settings.as_dict()
    theirs = {key: value for key, value in (user.get("settings") or {}).items() if key.lower() not in own}
    output = {
        "type": "duckdb",
        "path": str(warehouse),
        "schema": user.get("schema", _DEFAULT_SCHEMA),
        "threads": threads or user.get("threads") or settings.threads,
        # Given once, at connecting: dbt makes `settings` anew for every model, and DuckDB refuses to set its
        # temporary directory again once a model has spilled into it.
        "config_options": own,
        "settings": {**theirs, "TimeZone": "UTC"},
    }
    if "extensions" in user:
        output["extensions"] = user["extensions"]
    extensions = [item if isinstance(item, str) else str(item["name"]) for item in user.get("extensions") or ()]
    session = [f"LOAD {quote(item)}" for item in extensions]
    session += [f"SET {quote(str(key))} = {literal(str(value))}" for key, value in theirs.items()]
    return Profile({name: {"target": TARGET, "outputs": {TARGET: output}}}, notes, tuple(session))


_KINDS = {dict: "mapping", list: "list"}


def _user_output(path: Path, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    if not path.is_file():
        return {}, ()
    profile = read_yaml(path).get(name)
    outputs = profile.get("outputs") if isinstance(profile, dict) else None
    if not isinstance(profile, dict) or not isinstance(outputs, dict) or not outputs:
        return {}, (f"{path.name}: there is no profile {name!r} with outputs; it is not used.",)
    chosen = outputs.get(profile.get("target")) or next(iter(outputs.values()))
    if not isinstance(chosen, dict):
        return {}, (f"{path.name}: profile {name!r} holds no output; it is not used.",)
    taken = {key: value for key, value in chosen.items() if key in _TAKEN_OVER and value is not None}
    for key, kind in (("settings", dict), ("extensions", list)):
        if not isinstance(taken.get(key, kind()), kind):
            raise TransformError(f"{path}: {key} of profile {name!r} is no {_KINDS[kind]}.", hint="Mend it there.")
    notes = [f"{path.name}: {key} is a template and is not used." for key, value in taken.items() if "{{" in str(value)]
    if str(chosen.get("type", "duckdb")) != "duckdb":
        notes.append(f"{path.name}: type {chosen['type']} is not used; smoll builds in its DuckDB warehouse.")
    elif chosen.get("path") not in (None, ":memory:"):
        notes.append(f"{path.name}: path {chosen['path']} is not used; smoll builds in .smoll/warehouse.duckdb.")
    return {key: value for key, value in taken.items() if "{{" not in str(value)}, tuple(notes)


def read_yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.allow_duplicate_keys = True  # as dbt has it
        data = yaml.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise TransformError(f"{path} cannot be read: {error}") from error
    return data if isinstance(data, dict) else {}


def yaml_scalar(text: str) -> Any:
    """Text as it is to stand in YAML: between quotes where dbt would read something else."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    plain = _PLAIN_YAML.fullmatch(text) and text.lower() not in _YAML_WORDS
    return text if plain else DoubleQuotedScalarString(text)
