"""SIGKILL anywhere in `smoll undo`: all is as before or all is undone, and the next run is right either way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import smoll
from run.content import data, everything
from run.shop import FILES, GOOD_ORDERS, MODELS, SOURCES
from support import MakeProject, write
from torture.killing import kill_at, steps
from torture.mixed import copy

INCREMENTAL = """\
{{ config(materialized='incremental', unique_key='id') }}
select id, customer_id, amount from {{ ref('stg_orders') }}
{% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}
"""
MORE = GOOD_ORDERS + "4,2,40\n"
TELLING = ("os.rename undo/.back-", "os.rename warehouse.duckdb", "synced .smoll", "os.rename undo/.trash-", "undone")
"""The rename that decides, the one of the warehouse, before and after it, and behind the ledger."""


@pytest.mark.parametrize(
    ("wanted", "models"),
    [(TELLING, {}), pytest.param(("",), MODELS | {"marts/orders": INCREMENTAL}, marks=pytest.mark.torture)],
    ids=["telling steps", "every step"],
)
def test_killed_at_any_step_all_is_as_before_or_all_is_undone(
    make_project: MakeProject, wanted: tuple[str, ...], models: dict[str, str]
) -> None:
    project = make_project(SOURCES, FILES, models)
    root = project.config.root
    assert project.run().exit_code == 0
    undone = everything(project)
    write(root, {"data/orders.csv": GOOD_ORDERS})
    assert project.run().exit_code == 0
    write(root, {"data/orders.csv": MORE})
    before = everything(project)
    write(root, {".smoll/journals/shop/log.ndjson": "what a connector had sent"})

    done = copy(root, "uninterrupted")
    names = steps(done, "undo")
    assert everything(smoll.open_project(done)) == undone
    assert smoll.open_project(done).run().exit_code == 0
    after = data(smoll.open_project(done))
    chosen = {number: name for number, name in enumerate(names, 1) if name.startswith(wanted)}
    assert {name for name in wanted if not any(step.startswith(name) for step in names)} == set(), names
    folders = {number: copy(root, f"killed {number}") for number in chosen}
    kill_at([(folder, number) for number, folder in folders.items()], "undo")
    decided = names.index(next(name for name in names if name.startswith("os.rename undo/.back-"))) + 1
    for number, folder in folders.items():
        where = f"killed at step {number}: {chosen[number]}"
        project = smoll.open_project(folder)
        if number % 2:  # else the run itself completes it
            project.gc()
            assert everything(project) == (before if number <= decided else undone), where
        result = project.run()
        assert result.exit_code == 0 and result.run > 2, where
        marks = {record.run: record.undone is not None for record in project.runs()}
        assert marks[2] == (number > decided) and not marks[1] and not marks[result.run], where
        assert data(project) == after, where
        assert not Path(folder, ".smoll/journals").exists() or number <= decided, where
        assert not list(Path(folder, ".smoll/undo").glob(".*")), where
        shutil.rmtree(folder)
