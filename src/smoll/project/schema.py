"""The JSON Schema of `smoll.yml`, for editors; made from the models."""

from __future__ import annotations

from typing import Any

from smoll.project.config import ProjectConfig

VARIABLE = {"type": "string", "pattern": r"\$\{"}


def project_schema() -> dict[str, Any]:
    """Return the schema.

    It refuses nothing that `load_config` accepts for its meaning, and allows a little more: how keys depend
    on each other is not in it.
    """
    schema = _tidy(ProjectConfig.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smoll.yml",
        **schema,
        "description": "The project file of smoll.",
    }


def _tidy(schema: Any) -> Any:
    """Drop pydantic's titles, and let ``${VAR}`` stand wherever text alone would be refused."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A title is pydantic's only if it is text: below `properties` it would be the schema of a key.
    kept = {key: item for key, item in schema.items() if not (key == "title" and isinstance(item, str))}
    tidy = {key: item if key in ("default", "examples") else _tidy(item) for key, item in kept.items()}
    if tidy.get("default", "") in ("", None) or "$ref" in tidy:
        tidy.pop("default", None)
    return _or_variable(tidy)


def _or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") not in ("integer", "number", "boolean") and "enum" not in schema and "pattern" not in schema:
        return schema
    about = {key: item for key, item in schema.items() if key in ("description", "default", "examples")}
    rest = {key: item for key, item in schema.items() if key not in about}
    return {"anyOf": [rest, VARIABLE], **about}
