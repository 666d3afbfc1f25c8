"""A tiny shop: two files, three models, three checks. Most tests of runs and releases begin with it."""

from __future__ import annotations

from collections.abc import Sequence

import smoll
from smoll.model import RunResult
from support import MakeProject, write

SOURCES = """\
sources:
  shop:
    kind: files
    streams:
      customers: data/customers.csv
      orders: data/orders.csv
"""
FILES = {
    "data/customers.csv": "id,name\n1,Ada\n2,Bob\n",
    "data/orders.csv": "id,customer_id,amount\n1,1,10\n2,2,20\n",
}
MODELS = {
    "staging/stg_orders": "{{ config(materialized='view') }} select * from {{ source('shop', 'orders') }}",
    "marts/orders": "{{ config(materialized='table') }} select id, customer_id, amount from {{ ref('stg_orders') }}",
    "marts/customers": "{{ config(materialized='table') }} select id, name from {{ source('shop', 'customers') }}",
    "marts/marts.yml": """\
models:
  - name: orders
    columns:
      - name: amount
        data_tests: [not_null]
      - name: customer_id
        data_tests: [{relationships: {arguments: {to: ref('customers'), field: id}}}]
  - name: customers
    columns: [{name: id, data_tests: [unique]}]
""",
}
GOOD_ORDERS = "id,customer_id,amount\n1,1,10\n2,2,20\n3,1,30\n"
BAD_ORDERS = "id,customer_id,amount\n1,1,10\n2,2,20\n3,1,\n"


def make_shop(make_project: MakeProject, **models: str) -> smoll.Project:
    """A shop that has not run; keywords (`marts__x`) add or replace models."""
    return make_project(SOURCES, FILES, MODELS | {name.replace("__", "/"): text for name, text in models.items()})


def edit(project: smoll.Project, name: str, text: str) -> None:
    """Write a file of the project."""
    write(project.config.root, {name: text})


def current(project: smoll.Project) -> int | None:
    """The release that readers see."""
    entry = project.status().current
    return entry.manifest.number if entry else None


def refused(result: RunResult) -> dict[str, str]:
    """What refused the release, and why; asserts that it was refused and that the shell hears of it."""
    assert result.release.status == "refused", result
    assert result.exit_code == 1
    return {refusal.subject: refusal.reason for refusal in result.release.refusals}


def published(result: RunResult) -> int:
    """The number of the release that the run published; asserts that it did."""
    assert (result.status, result.release.status) == ("ok", "published"), result
    assert result.exit_code == 0
    assert result.release.number is not None
    return result.release.number


def remedies(result: RunResult) -> list[str]:
    """The commands that the refusal names, each once."""
    return sorted({refusal.remedy for refusal in result.release.refusals})


def obey(project: smoll.Project, remedy: str) -> RunResult:
    """Do what a remedy says: smoll run [--full-refresh] --select "..."."""
    words = _split(remedy)
    assert words[:2] == ["smoll", "run"], remedy
    assert words[-2] == "--select", remedy
    return project.run(words[-1], full_refresh="--full-refresh" in words)


def _split(command: str) -> Sequence[str]:
    import shlex

    return shlex.split(command)
