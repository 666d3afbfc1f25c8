"""A dbt project of 200 models over 20 tables, as files: Dagster's own way and smoll's are given the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

SOURCES, STREAMS, MODELS, COLUMNS = 4, 5, 200, 8
TESTS = 2 * MODELS
_LAYERS = ("staging", "intermediate", "marts")


def write_project(folder: Path, *, declares_sources: bool, columns: int = COLUMNS) -> None:
    """Write the dbt project, ``transform/``, and a small file for each stream in ``data/``.

    Parameters
    ----------
    declares_sources
        Declare the sources for dbt, which smoll does by itself.
    columns
        How many each table has; models that join have one more.
    """
    names = ["id", *(f"value_{number}" for number in range(1, columns))]
    models = folder / "transform" / "models"
    header = ",".join(names)
    for source, stream in _streams():
        _write(folder / "data" / source / f"{stream}.csv", f"{header}\n{','.join('1' * columns)}\n")
    _write(models.parent / "dbt_project.yml", "name: many\nprofile: many\nmodels: {many: {+materialized: table}}\n")
    output = {"type": "duckdb", "path": "many.duckdb", "threads": 2}
    _write(models.parent / "profiles.yml", json.dumps({"many": {"target": "dev", "outputs": {"dev": output}}}))
    if declares_sources:
        _write(models / "_sources.yml", json.dumps({"sources": [*_sources()]}))
    for layer in _LAYERS:
        numbers = [number for number in range(MODELS) if _layer(number) == layer]
        for number in numbers:
            _write(models / layer / f"{_name(number)}.sql", _sql(number, names))
        _write(
            models / layer / "_models.yml", json.dumps({"models": [_described(number, names) for number in numbers]})
        )


def write_smoll_yml(folder: Path, *, release: str = "path:models/marts") -> None:
    """Write the project file over all streams, with what is released."""
    sources: dict[str, dict[str, str]] = {}
    for source, stream in _streams():
        sources.setdefault(source, {})[stream] = f"data/{source}/{stream}.csv"
    about = {name: {"kind": "files", "streams": streams} for name, streams in sources.items()}
    _write(folder / "smoll.yml", json.dumps({"name": "many", "sources": about, "release": {"select": release}}))


def _streams() -> list[tuple[str, str]]:
    return [(f"shop_{source}", f"table_{stream}") for source in range(SOURCES) for stream in range(STREAMS)]


def _sources() -> Iterator[dict[str, object]]:
    for source in range(SOURCES):
        tables = [{"name": f"table_{stream}"} for stream in range(STREAMS)]
        yield {"name": f"shop_{source}", "schema": f"raw_shop_{source}", "tables": tables}


def _layer(number: int) -> str:
    return _LAYERS[0] if number < SOURCES * STREAMS else _LAYERS[1 if number < MODELS // 2 else 2]


def _name(number: int) -> str:
    return f"{_layer(number)}_{number:03}"


def _sql(number: int, names: Sequence[str]) -> str:
    columns = ", ".join(f"one.{name}" for name in names)
    if _layer(number) == "staging":
        source, stream = _streams()[number]
        return f"select {columns} from {{{{ source('{source}', '{stream}') }}}} as one\n"
    one, other = (f"{{{{ ref('{_name(parent)}') }}}}" for parent in (number - 20, number - 19))
    return f"select {columns}, other.value_1 as more\nfrom {one} as one\njoin {other} as other using (id)\n"


def _described(number: int, names: Sequence[str]) -> dict[str, object]:
    tests = {"id": {"data_tests": ["unique", "not_null"]}}
    columns = [
        {"name": name, "description": f"The column {name} of {_name(number)}.", **tests.get(name, {})} for name in names
    ]
    return {"name": _name(number), "description": f"Model {number} of {MODELS}.", "columns": columns}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
