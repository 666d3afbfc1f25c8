"""Whatever stands in `smoll.yml`: every command says calmly what is wrong with it, or does what it says."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from run.shop import FILES, MODELS
from smoll.cli import main
from support import write_project
from torture.damage import odd_values

PROJECT: dict[str, Any] = {
    "name": "odd",
    "transform": "transform",
    "sources": {
        "shop": {
            "kind": "files",
            "metadata": {"load_id": "_load", "file": "_file"},
            "streams": {
                "customers": {
                    "path": "data/customers.csv",
                    "mode": "merge",
                    "key": ["id"],
                    "columns": {"id": "INTEGER"},
                },
                "orders": {"path": ["data/orders.csv"], "format": "csv", "delimiter": ",", "null_values": ["", "NA"]},
            },
        },
        "lite": {
            "kind": "sql",
            "url": "sqlite:///data/lite.db",
            "streams": {"visits": {"mode": "append", "cursor": "id"}},
        },
    },
    "release": {"select": "path:models/marts", "keep": 3, "keep_days": 30, "keep_bytes": "1GB"},
    "resources": {"memory": "1GB", "threads": 2},
    "undo": {"keep": 1, "copy_up_to": "100MB"},
    "checks": [
        {"kind": "rows", "table": "orders", "min": 1, "max_change": "50%", "severity": "warn"},
        {"kind": "completeness", "table": "orders", "column": "amount", "max_nulls": "1%", "where": "id > 0"},
        {"kind": "range", "table": "shop.orders", "column": "amount", "min": 0, "max": 100},
        {
            "kind": "distribution",
            "table": "orders",
            "column": "amount",
            "mean": {"min": 1},
            "quantiles": {"0.5": {"min": 1}},
        },
        {"kind": "references", "table": "orders", "columns": "customer_id", "to": "customers", "to_columns": "id"},
        {"kind": "reconciliation", "table": "shop.orders"},
        {"kind": "freshness", "table": "shop.orders", "max_age": "1 day", "severity": "warn"},
        {"kind": "anomaly", "table": "orders"},
        {"kind": "sql", "name": "none", "sql": "select * from main.orders where amount < 0", "tables": "orders"},
    ],
    "schedules": {"nightly": {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "select": "orders", "retries": 1}},
    "sensors": {"new": {"files": "shop", "every": "1 minute"}},
    "dagster": {"port": 3000, "keep_days": 30},
}
LOOKS = (["status", "--json"], ["checks"], ["suggest"], ["gc", "--dry-run"], ["state", "show"], ["rejects"], ["diff"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it should be, after a run."""
    root = tmp_path_factory.mktemp("odd") / "project"
    root.mkdir()
    write_project(root, "", FILES, MODELS, {})
    (root / "smoll.yml").write_text(json.dumps(PROJECT, indent=1))
    with contextlib.closing(sqlite3.connect(root / "data/lite.db")) as database, database:
        database.execute("CREATE TABLE visits (id INTEGER)")
        database.execute("INSERT INTO visits VALUES (1)")
    for words in (["check"], ["run"]):
        code, said = call(root, *words)
        assert code == 0, said
    return root


def call(root: Path, *words: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["--project", str(root), *words])
    return code, said.getvalue()


def _try(built: Path, number: int, commands: list[list[str]]) -> bool:
    """Whether the configuration was sound all the same."""
    root = Path(shutil.copytree(built, built.with_name("copy"), symlinks=True))
    try:
        odd = json.loads(odd_values(json.dumps(PROJECT).encode(), random.Random(number)))
        changed = json.dumps(odd, indent=1)  # a long line is no YAML
        (root / "smoll.yml").write_text(changed)
        codes = []
        for words in commands:
            code, said = call(root, *words)
            told = f"{number}: smoll {' '.join(words)}\n{changed}\n{said}"
            assert code in (0, 1, 2), told
            assert "A bug in smoll" not in said and "Traceback" not in said, told
            assert code == 0 or len(said) > 20, told
            codes.append(code)
        return 2 not in codes
    finally:
        shutil.rmtree(root)


def test_every_command_is_calm_about_odd_values(built: Path) -> None:
    sound = [_try(built, number, [LOOKS[number % len(LOOKS)]]) for number in range(24)]
    assert 0 < sum(sound) < 24


@pytest.mark.torture
def test_every_command_is_calm_about_odd_values_in_many_ways(built: Path) -> None:
    many = int(os.environ.get("ODD", "400"))
    sound = sum(_try(built, number, [["check"], ["run"], *LOOKS]) for number in range(1000, 1000 + many))
    print(f"{sound} of {many} odd projects were sound all the same")
