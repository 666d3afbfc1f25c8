"""A small project, and ways to run it by Dagster's own interface."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

import smoll
import smoll.dagster
from smoll.model import RunResult
from support import reopen

YML = """
sources:
  shop:
    kind: files
    streams: {orders: data/orders.csv, customers: data/customers.csv}
  web: {kind: files, streams: {visits: data/visits.csv}}
release: {select: "path:models/marts"}
"""
FILES = {
    "data/orders.csv": "id,customer,amount\n1,1,10\n2,1,20\n3,2,5\n",
    "data/customers.csv": "id,name\n1,Ann\n2,Bob\n",
    "data/visits.csv": "customer,page\n1,a\n2,b\n",
}
SCHEMA = """
groups: [{name: sales, owner: {name: Sales, email: sales@example.com}}]
models:
  - name: stg_orders
    description: Orders as they came.
    config: {tags: [daily, "with space"], group: sales}
    columns:
      - {name: id, description: The order., data_tests: [unique]}
      - {name: amount, data_tests: [{not_null: {config: {severity: warn}}}]}
  - name: revenue
    config: {meta: {owner: ann@example.com}}
    columns: [{name: customer, data_tests: [{relationships: {arguments: {to: ref('stg_customers'), field: id}}}]}]
  - name: page_views
exposures:
  - name: board
    type: dashboard
    label: The board
    url: https://example.com/board
    owner: {name: Ann}
    depends_on: [ref('revenue')]
"""
MODELS = {
    "staging/stg_orders": "select id, customer, amount from {{ source('shop', 'orders') }}",
    "staging/stg_customers": "select id, name from {{ source('shop', 'customers') }}",
    "staging/only_text": "{{ config(materialized='ephemeral') }} select * from {{ source('web', 'visits') }}",
    "marts/revenue": "{{ config(materialized='table') }} select customer, sum(amount) as total "
    "from {{ ref('stg_orders') }} group by customer",
    "marts/page_views": "{{ config(materialized='table') }} select page, count(*) as views from {{ ref('only_text') }} "
    "group by page",
    "schema.yml": SCHEMA,
}
TESTS = {"no_negative_amount": "select * from {{ ref('stg_orders') }} where amount < 0"}


def define(project: smoll.Project) -> dg.Definitions:
    return smoll.dagster.definitions(project.config.root)


def run(
    defs: dg.Definitions,
    select: Sequence[str] | None = None,
    *,
    instance: dg.DagsterInstance | None = None,
    job: str = "__ASSET_JOB",
    **options: Any,
) -> dg.ExecuteInProcessResult:
    """Materialize assets, ``a/b`` each; all of them without a selection."""
    found = defs.resolve_job_def(job) if hasattr(defs, "resolve_job_def") else defs.get_job_def(job)
    keys = None if select is None else [dg.AssetKey(name.split("/")) for name in select]
    return found.execute_in_process(
        instance=instance or dg.DagsterInstance.ephemeral(), asset_selection=keys, raise_on_error=False, **options
    )


def materialized(result: dg.ExecuteInProcessResult) -> list[str]:
    return [key.to_user_string() for event in result.get_asset_materialization_events() if (key := event.asset_key)]


def checked(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def failures(result: dg.ExecuteInProcessResult) -> str:
    """What Dagster says of each step that failed."""
    found = [event for event in result.all_events if event.is_step_failure]
    return "\n".join(str(event.step_failure_data.error_display_string) for event in found)


def metadata(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    """The metadata of an asset that was materialized."""
    for event in result.get_asset_materialization_events():
        if event.asset_key and event.asset_key.to_user_string() == name:
            return {key: value.value for key, value in event.materialization.metadata.items()}
    raise AssertionError(f"{name} was not materialized")


def last_run(project: smoll.Project) -> RunResult:
    return reopen(project).runs(1)[0]


@contextmanager
def dagster_home(root: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on disk, which other processes can use as well."""
    home = root / ".smoll" / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        os.environ.pop("DAGSTER_HOME")
        if before is not None:
            os.environ["DAGSTER_HOME"] = before
