"""dbt parses while the streams load, where the same process builds afterwards."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

import smoll
from graph_support import FILES, MODELS, TESTS, YML, define, failures, materialized, run
from smoll.load import Job
from smoll.run import Run
from smoll.transform import Dbt
from support import MakeProject, write


@pytest.fixture
def project(make_project: MakeProject) -> smoll.Project:
    return make_project(YML, FILES, MODELS, TESTS)


@pytest.fixture
def parsed_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads in which dbt parsed."""
    names: list[str] = []
    parse = Run.parse

    def note(self: Run, jobs: Sequence[Job]) -> Dbt | None:
        names.append(threading.current_thread().name)
        return parse(self, jobs)

    monkeypatch.setattr(Run, "parse", note)
    return names


def test_beside_the_load(project: smoll.Project, parsed_in: list[str]) -> None:
    defs = define(project)
    assert run(defs, job="tests").success
    assert [name.partition("_")[0] for name in parsed_in] == ["parse"]  # once, beside the load


def test_only_where_it_is_wanted(project: smoll.Project, parsed_in: list[str]) -> None:
    defs = define(project)
    assert run(defs, ["shop/orders", "shop/customers"]).success
    assert parsed_in == []
    run(defs, ["stg_customers"])
    assert parsed_in == [threading.main_thread().name]


def test_what_cannot_be_parsed_is_loaded(project: smoll.Project) -> None:
    defs = define(project)
    write(project.config.root, {"transform/models/marts/revenue.sql": "select * from {{ ref('nothing') }}"})
    result = run(defs, job="tests")
    assert not result.success and "nothing" in failures(result)
    assert materialized(result) == ["shop/orders", "shop/customers", "web/visits"]


def test_a_load_that_fails(project: smoll.Project) -> None:
    """The thread has ended before the project is given back."""
    defs = define(project)
    (project.config.root / "data/orders.csv").unlink()
    assert not run(defs, job="tests").success
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("parse")]
