"""A staging model as text: the SQL in the usual style of dbt projects, and the YAML with docs and tests."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smoll.model import TableRef, quote
from smoll.transform.profile import yaml_scalar

_CLEAN = re.compile(r"[a-z_][a-z0-9_]*")
_TEMPLATE = ("{{", "{%", "{#")

Test = str | Mapping[str, Any]


@dataclass(frozen=True)
class ModelColumn:
    """A column of a staging model. ``raw`` is its name in the table that it comes from."""

    raw: str
    name: str
    description: str
    tests: tuple[Test, ...] = ()


@dataclass(frozen=True)
class Model:
    """A staging model. ``source`` are dbt's names of source and table; ``tests`` are those of the model as a whole."""

    name: str
    source: TableRef
    description: str
    columns: tuple[ModelColumn, ...]
    tests: tuple[Test, ...] = ()


def render_sql(model: Model, keywords: frozenset[str]) -> str:
    """The model's SQL. `keywords` are those that must be quoted."""
    columns = ",\n".join(f"        {_column(column, keywords)}" for column in model.columns)
    source = f"{{{{ source({_argument(model.source.schema)}, {_argument(model.source.name)}) }}}}"
    return f"""\
with source as (

    select * from {source}

),

renamed as (

    select
{columns}
    from source

)

select * from renamed
"""


def _column(column: ModelColumn, keywords: frozenset[str]) -> str:
    name = _verbatim(sql_name(column.name, keywords))
    return name if column.raw == column.name else f"{_verbatim(quote(column.raw))} as {name}"


def sql_name(name: str, keywords: frozenset[str]) -> str:
    """A name as people write it in SQL: quoted where it must be."""
    return name if is_plain(name, keywords) else quote(name)


def is_plain(name: str, keywords: frozenset[str]) -> bool:
    """True where a name needs no quotes in SQL."""
    return bool(_CLEAN.fullmatch(name)) and name not in keywords


def is_clean(name: str) -> bool:
    """True for a name in snake_case."""
    return bool(_CLEAN.fullmatch(name))


def _argument(text: str) -> str:
    return f"'{text}'" if re.fullmatch(r"[\w -]+", text) else _jinja_string(text)


def _jinja_string(text: str) -> str:
    # Jinja reads the escapes of JSON, but for characters beyond U+FFFF, which stay as they are.
    return json.dumps(text, ensure_ascii=False)


def _verbatim(sql: str) -> str:
    """SQL that dbt's templates leave alone."""
    return f"{{{{ {_jinja_string(sql)} }}}}" if any(mark in sql for mark in _TEMPLATE) else sql


def render_yaml(models: Sequence[Model], keywords: frozenset[str]) -> str:
    """The YAML of docs and tests of `models`."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096  # no line is folded
    text = io.StringIO()
    yaml.dump({"models": [_entry(model, keywords) for model in models]}, text)
    return re.sub(r"\n(?=  - name: )", "\n\n", text.getvalue()).replace("models:\n\n", "models:\n", 1)


def _entry(model: Model, keywords: frozenset[str]) -> dict[str, Any]:
    entry = {"name": yaml_scalar(model.name), "description": yaml_scalar(_no_template(model.description))}
    if model.tests:
        entry["data_tests"] = _values(model.tests)
    return {**entry, "columns": [_column_entry(column, keywords) for column in model.columns]}


def _column_entry(column: ModelColumn, keywords: frozenset[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": yaml_scalar(column.name)}
    if not is_plain(column.name, keywords):
        entry["quote"] = True
    entry["description"] = yaml_scalar(_no_template(column.description))
    if column.tests:
        entry["data_tests"] = _values(column.tests)
    return entry


def _no_template(text: str) -> str:
    """Dbt renders descriptions; a name with braces is shown with parentheses."""
    return text.replace("{", "(").replace("}", ")") if any(mark in text for mark in _TEMPLATE) else text


def _values(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_values(item) for item in value]
    return yaml_scalar(value) if isinstance(value, str) else value
