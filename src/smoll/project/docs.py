"""The reference of `smoll.yml`, `docs/config.md`; made from the models, so that it cannot drift."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from smoll.project.common import Metadata, Retries
from smoll.project.config import ProjectConfig
from smoll.project.schema import VARIABLE, project_schema
from smoll.project.shape import Model, fields_of, kind_of, models_in

INTRO = """\
# The project file

`smoll.yml` stands in the project folder and says where data comes from, how it is transformed and what is
released. This page is generated from the code that reads the file (`python -m smoll.project.generate`).

```yaml
# yaml-language-server: $schema=.smoll/smoll.schema.json
name: flights
sources:
  nyc:                                   # loads into schema raw_nyc
    kind: files
    streams:
      flights: {path: "data/flights*.csv", null_values: ["", NA]}
      planes: data/planes.parquet        # short form: only a path
  shop:
    kind: sql
    url: ${SHOP_URL}
    schema: shop                         # instead of raw_shop
    streams:
      "*": {}                            # every table; a table named below has its own options
      rental: {mode: merge, key: rental_id, cursor: last_update, table: rentals}
  weather:
    kind: rest
    config:                              # dlt's REST API configuration, unchanged
      client: {base_url: "https://api.example.com/v1/"}
      resources: [stations]
  github: {kind: singer, tap: tap-github, config: {repositories: [duckdb/duckdb]}, streams: [issues]}
  people: {kind: airbyte, connector: airbyte-source-faker, config: {count: 1000}}
  crm: {kind: dlt, source: my_sources.crm, config: {pages: 5, api_key: "${CRM_KEY:-none}"}}
release: {select: "path:models/marts", keep: 10}
checks:
  - {kind: rows, table: fct_flights, min: 300000}
  - {kind: completeness, table: fct_flights, column: dep_time, max_nulls: 5%, severity: warn}
schedules:
  hourly: "0 * * * *"                    # short form: only the line of cron
  nightly: {cron: "0 3 * * *", timezone: Europe/Amsterdam, select: "source:shop+", retries: 2}
sensors:
  arrivals: {files: nyc, every: 1 minute}
resources: {memory: 1GB, threads: 2}
```

The file is YAML 1.2: `NO`, `on` and `12:30` are text. A key without a value counts as left out. Merge keys
(`<<`) and tags (`!name`) are not supported, anchors and aliases are. Whatever is wrong is reported at once,
with line and column, and nothing is changed; the exit code is 2.

A `config` goes to another tool as it stands. In it values have YAML's types: `5`, `1.5`, `true` and `null` are no
text there. What stands in quotes, or holds a `${VAR}`, is.

## Variables and secrets

Every value, but no key, may hold `${VAR}` or `${VAR:-default}`; the default also replaces an empty variable.
`$${` stands for the characters `${`. Inside `{...}` and `[...]`, YAML wants the value in quotes: `"${VAR}"`.

Variables come from the environment and from `.env` in the project folder; the environment wins. A line of
`.env` is `KEY=VALUE`, with or without `export` before it. In double quotes `\\n`, `\\r`, `\\t` and `\\"` are
escapes; single quotes take everything as it is; without quotes a `#` after a space begins a comment. A
value is one line, and `${OTHER}` in it is not replaced.

Secrets are replaced by `***` wherever smoll prints or stores text. Secret are the `url` of a source,
`dagster.storage`, every variable used in these two, the password in any URL, values in a `config` whose key says so
(`api_key`, `token`, `password` and the like), and every variable whose name contains `PASS`, `SECRET`, `TOKEN`,
`KEY`, `PWD`, `CREDENTIAL`, `DSN`, `AUTH` or `URL`, if `smoll.yml` uses it or `.env` sets it. A secret shorter than
four characters is not hidden: it would be found in every other word.
"""


def config_reference() -> str:
    """Return the text of `docs/config.md`."""
    root = project_schema()
    lines = [INTRO]
    for path, kind, model in _sections("", "", ProjectConfig, []):
        schema = root["$defs"].get(model.__name__, root)
        heading = f"`{path}`" + (f" of kind `{kind}`" if kind else "") if path else "Top level"
        lines += [f"## {heading}", "", schema["description"] if path else "The keys of the file itself.", ""]
        lines += ["| key | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
        required_first = sorted(fields_of(model), key=lambda key: key not in schema.get("required", ()))
        lines += [*(_row(key, schema) for key in required_first), ""]
    return "\n".join(lines).rstrip() + "\n"


def _sections(path: str, kind: str, model: Model, seen: list[Model]) -> Iterator[tuple[str, str, Model]]:
    """Give `model` and every model below it once, with the path of its keys and its kind of source."""
    if model in seen:
        return
    seen.append(model)
    kind = kind_of(model) or kind
    yield path, kind, model
    for key, field in fields_of(model).items():
        name = ".<name>" if "Mapping" in str(field.annotation) else ""
        for inner in models_in(field.annotation):
            # These are met below every kind, and described once.
            inner_kind = "" if inner in (Metadata, Retries) else kind
            yield from _sections(f"{path}.{key}{name}".lstrip("."), inner_kind, inner, seen)


def _row(key: str, section: dict[str, Any]) -> str:
    field = section["properties"][key]
    default = "**required**" if key in section.get("required", ()) else _default(field)
    example = "<br>".join(f"`{key}: {_yaml(example)}`" for example in field["examples"])
    cells = [f"`{key}`", _type(field), default, field["description"], example]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: dict[str, Any]) -> str:
    return f"`{_yaml(field['default'])}`" if field.get("default") not in (None, [], {}) else ""


def _type(schema: dict[str, Any]) -> str:
    """Name the type of a schema in words."""
    if "anyOf" in schema:
        parts = [_type(part) for part in schema["anyOf"] if part not in (VARIABLE, {"type": "null"})]
        return " or ".join(dict.fromkeys(parts))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("format") == "date":
        return "day"
    if "pattern" in schema:
        return "length of time" if "second" in schema["pattern"] else "share" if "%" in schema["pattern"] else "size"
    if schema.get("type") == "array":
        return "list"
    if schema.get("type") == "object" or "$ref" in schema:
        return "mapping"
    return {"integer": "whole number", "number": "number", "boolean": "true or false"}.get(
        str(schema.get("type")), "text"
    )


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_./][\w ./:-]*|\$\{\w+\}", value)
    return value if plain else json.dumps(value)
