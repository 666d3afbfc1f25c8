"""(b) `smoll run` on 100 rows and five models, beside `dbt build` of the same models and plain Dagster."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import duckdb

from common import (
    CACHE,
    PROJECTS,
    PYTHON,
    BenchmarkError,
    Contender,
    activated,
    check_rows,
    compare,
    fresh_folder,
    results_table,
    run_quietly,
    smoll_command,
    verdict,
)
from peers import described, environment

TITLE = "(b) A small project: what smoll adds to dbt"
_AIM = 1.3
_PEER = "Dagster + dagster-dbt"
_ROWS = 100


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    folder = CACHE / "shop"
    smoll, dbt, dagster = folder / "smoll", folder / "dbt", folder / "dagster"
    notes = []
    contenders = [
        _smoll("smoll run", smoll, partial(_fresh, smoll)),
        _dbt("dbt build", dbt, partial(_fresh_dbt, dbt)),
        _smoll("smoll run, again with a new row", smoll, partial(_write_orders, smoll, _ROWS + 1), _ROWS + 1),
        _dbt("dbt build, again", dbt),
    ]
    try:
        contenders.append(_dagster("Dagster: asset materialize", dagster, environment(_PEER)))
        notes.append(
            f"{described(_PEER)}: with the manifest made beforehand; "
            "`dagster asset materialize` runs everything in one process, dbt in another."
        )
    except BenchmarkError as error:
        notes.append(f"{_PEER} is not installed: {error}")
    samples = compare(contenders, repeat)
    ratio = samples["smoll run"].wall / samples["dbt build"].wall
    again = samples["smoll run, again with a new row"].wall / samples["dbt build, again"].wall
    return "\n\n".join(
        [
            f"{_ROWS} rows of CSV and five models, once from nothing and once again with what that left behind. smoll "
            "loads, builds, checks and releases; `dbt build` finds the rows already loaded.",
            *notes,
            results_table(samples, "dbt build"),
            verdict(ratio < _AIM, f"the first time {ratio:.2f} times `dbt build` (aim under {_AIM})."),
            verdict(again < _AIM, f"again {again:.2f} times `dbt build` (aim under {_AIM})."),
        ]
    )


def _smoll(name: str, folder: Path, prepare: partial[None], rows: int = _ROWS) -> Contender:
    current = folder / ".smoll" / "releases" / "current" / "warehouse.duckdb"
    verify = partial(check_rows, current, "fct_orders", rows)
    return Contender(name, smoll_command("run"), folder, prepare=prepare, verify=verify)


def _dbt(name: str, folder: Path, prepare: partial[None] | None = None) -> Contender:
    return Contender(
        name,
        [str(PYTHON.with_name("dbt")), "build", "--project-dir", "transform", "--profiles-dir", "profiles"],
        folder,
        prepare=prepare or partial(_nothing),
        verify=partial(check_rows, _database(folder), "fct_orders", _ROWS),
        environment=_settings(folder),
    )


def _dagster(name: str, folder: Path, installed: Path) -> Contender:
    command = [str(installed / "bin" / "dagster"), "asset", "materialize", "--select", "*", "-f", "definitions.py"]
    return Contender(
        name,
        command,
        folder,
        prepare=partial(_fresh_dagster, folder, installed),
        verify=partial(check_rows, _database(folder), "fct_orders", _ROWS),
        environment=_dagster_settings(folder, installed),
    )


def _nothing() -> None:
    """What an earlier contender left is what is wanted."""


def _fresh(folder: Path) -> None:
    fresh_folder(folder, PROJECTS / "shop")
    _write_orders(folder, _ROWS)


def _write_orders(folder: Path, rows: int) -> None:
    lines = [f"{n},{n % 17},2024-01-{n % 28 + 1:02},{n * 7 % 101}.{n % 100:02}\n" for n in range(1, rows + 1)]
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "orders.csv").write_text("order_id,customer_id,ordered_on,amount\n" + "".join(lines))


def _fresh_dbt(folder: Path) -> None:
    _fresh(folder)
    with duckdb.connect(str(_database(folder))) as connection:
        connection.execute("CREATE SCHEMA raw_shop")
        connection.execute(f"CREATE TABLE raw_shop.orders AS FROM read_csv('{folder / 'data' / 'orders.csv'}')")


def _fresh_dagster(folder: Path, installed: Path) -> None:
    _fresh(folder)
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    parse = [str(installed / "bin" / "dbt"), "parse", "--project-dir", "transform", "--profiles-dir", "profiles"]
    run_quietly(parse, folder, _settings(folder))


def _database(folder: Path) -> Path:
    return folder / "shop.duckdb"


def _settings(folder: Path) -> dict[str, str]:
    return {"SHOP_DATABASE": str(_database(folder))}


def _dagster_settings(folder: Path, installed: Path) -> dict[str, str]:
    return {**_settings(folder), "DAGSTER_HOME": str(folder / "home"), **activated(installed)}
