"""The shipped schema and the reference say what the models say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from project.helpers import load
from project.test_load import WHOLE
from smoll.project import ProjectConfig
from smoll.project.docs import INTRO
from smoll.project.generate import generated
from smoll.project.schema import project_schema
from smoll.project.shape import Model, fields_of, models_in

ROOT = Path(__file__).parents[2]


def _all_models(model: Model = ProjectConfig) -> set[Model]:
    inner: list[Model] = [each for field in fields_of(model).values() for each in models_in(field.annotation)]
    return {model, *(below for each in inner for below in _all_models(each))}


def _valid(text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(project_schema()).is_valid(YAML(typ="safe").load(text)))


@pytest.mark.parametrize("path", sorted(generated()))
def test_files_are_up_to_date(path: str) -> None:
    shipped = (ROOT / path).read_text(encoding="utf-8")
    assert shipped == generated()[path], f"run `python -m smoll.project.generate` ({path} is out of date)"


@pytest.mark.parametrize("model", sorted(_all_models(), key=str))
def test_every_key_is_described(model: Model) -> None:
    assert len(_all_models()) == 32
    reference = generated()["docs/config.md"]
    for key, field in fields_of(model).items():
        assert field.description and field.description.endswith("."), f"{model.__name__}.{key} has no description"
        assert field.examples, f"{model.__name__}.{key} has no example"
        assert f"| `{key}` |" in reference


def _descriptions(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [each for item in schema for each in _descriptions(item)]
    if not isinstance(schema, dict):
        return []
    bare = [key for key, item in schema.get("properties", {}).items() if "description" not in item]
    return bare + [each for item in schema.values() for each in _descriptions(item)]


def test_schema_describes_every_property() -> None:
    schema = project_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert _descriptions(schema) == []


def test_examples_are_good(tmp_path: Path) -> None:
    """The file at the top of the reference loads, and every other example fits the schema."""
    whole = re.search(r"```yaml\n(.*?)```", INTRO, re.DOTALL)
    assert whole
    load(tmp_path, whole[1], environ={"SHOP_URL": "sqlite:///a.db"})
    definitions = project_schema()["$defs"]
    for model in _all_models():
        properties = definitions.get(model.__name__, project_schema())["properties"]
        for key, field in fields_of(model).items():
            validator = jsonschema.Draft202012Validator({**properties[key], "$defs": definitions})
            for example in field.examples or ():
                validator.validate(example)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        "name: x",
        "name: x\nwarehouse: duckdb\nsources: {}\nrelease: {keep: '${KEEP}'}\nresources: {threads: 2}\n",
        "name: x\nsources: {a: {kind: sql, url: '${U}', streams: '*'}}",
        "name: x\nschedules: {a: 0 3 * * *, b: {cron: 0 3 * * *, retries: '${N}'}}\ndagster: {port: '${PORT}'}",
        "name: x\nsensors: {a: {files: b, every: 1 minute}, c: {release: ../d, every: 30 seconds}}",
        "name: x\nsources: {a: {kind: sql, url: '${U}', streams: {a: , b: {mode: '${M}'}}}}",
        "name: x\nsources: {a: {kind: files, streams: {a: x.csv, b: [x, y]}}}",
        "name: x\nsources: {a: {kind: dlt, source: b.c, config: {n: 1, o: {p: [true, ~]}}, streams: [d]}}",
        "name: x\nsources: {a: {kind: rest, config: {client: {base_url: b}, resources: [c]}, nested: struct}}",
    ],
)
def test_schema_accepts(text: str) -> None:
    assert _valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "name: x\nnam: y",
        "name: x\nwarehouse: postgres",
        "name: x\nrelease: {keep: 0}",
        "name: x\nrelease: {keep: many}",
        "name: x\nresources: {memory: 1G}",
        "name: x\nschedules: {a: {timezone: UTC}}",
        "name: x\nsensors: {a: {files: b, every: 30}}",
        "name: x\nsources: {a: {kind: singer, streams: [a]}}",
        "name: x\nsources: {a: {kind: files, streams: {}}}",
        "name: x\nsources: {a: {kind: files, streams: {a: {path: b, mode: upsert}}}}",
        "name: x\nsources: {a: {kind: files, streams: {a: {path: b, header: maybe}}}}",
        "name: x\nsources: {a: {kind: files, streams: {a: {mode: append}}}}",
        "name: x\nsources: {a: {kind: sql, streams: [a]}}",
        "name: x\nsources: {a: {kind: dlt, streams: [a]}}",
        "name: x\nsources: {a: {kind: rest, config: text}}",
        "name: x\nsources: {a: {kind: sql, url: b, streams: {a: {path: c}}}}",
    ],
)
def test_schema_refuses(text: str) -> None:
    assert not _valid(text)


def test_schema_is_small() -> None:
    assert len(json.dumps(project_schema())) < 90_000
