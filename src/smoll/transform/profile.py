"""The dbt profile that smoll generates: it decides where dbt builds, the user's own profile only how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoll.errors import TransformError
from smoll.warehouse import Settings

TARGET = "smoll"
_DEFAULT_SCHEMA = "main"
_TAKEN_OVER = ("schema", "threads", "settings", "extensions")


@dataclass(frozen=True)
class Profile:
    """The generated profile as a mapping, and what a person should know of the profile it replaces."""

    content: Mapping[str, Any]
    notes: tuple[str, ...]


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
    theirs = {key: value for key, value in user.get("settings", {}).items() if key.lower() not in own}
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
    return Profile({name: {"target": TARGET, "outputs": {TARGET: output}}}, notes)


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
    taken = {key: value for key, value in chosen.items() if key in _TAKEN_OVER}
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
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise TransformError(f"{path} cannot be read: {error}") from error
    return data if isinstance(data, dict) else {}
