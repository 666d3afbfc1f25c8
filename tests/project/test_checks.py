"""What may stand in `checks`, and what is said of what may not; names of tables, with their line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from project.helpers import load, problems
from smoll.errors import TransformError
from smoll.profiles import METRICS
from smoll.project.checks import Metric
from smoll.project.fields import Amount
from support import MakeProject

YML = "sources: {s: {kind: files, streams: {t: data/t.csv}}}\n"
MODELS = {
    "stg_m": "{{ config(materialized='ephemeral') }} select * from {{ source('s', 't') }}",
    "fct_m": "{{ config(materialized='table') }} select * from {{ ref('stg_m') }}",
}


def test_text_becomes_values(tmp_path: Path) -> None:
    text = """
        name: p
        checks:
          - {kind: completeness, table: a, column: b, max_nulls: 0.5%}
          - {kind: distribution, table: a, column: b, mean: {min: -1.5, max: 1e3}, quantiles: {0.5: {min: 1}}}
          - {kind: reconciliation, table: a, to: b, sums: x, tolerance: 0.01}
          - {kind: uniqueness, table: a, columns: [x, y], severity: warn}
    """
    complete, spread, both, unique = load(tmp_path, text).checks
    assert complete.kind == "completeness" and complete.max_nulls == Amount(0.5, percent=True)
    assert spread.kind == "distribution" and spread.mean is not None and str(spread.mean.low) == "-1.5"
    assert both.kind == "reconciliation" and both.sums == ("x",) and both.tolerance == Amount(0.01)
    assert unique.kind == "uniqueness" and unique.low == Amount(100, percent=True) and unique.severity == "warn"


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("{table: a}", "the key 'kind' is missing (one of anomaly, completeness, "),
        ("{kind: complete, table: a}", "unknown kind 'complete' (did you mean 'completeness'?)"),
        ("{kind: completeness, table: a}", "the key 'column' is missing"),
        ("{kind: completeness, column: a}", "the key 'table' is missing"),
        ("{kind: completeness, table: a, column: b, max_nuls: 1}", "'max_nuls' (did you mean 'max_nulls'?)"),
        ("{kind: completeness, table: a, column: b, max_nulls: some}", "expected a number of rows, or a share of them"),
        ("{kind: uniqueness, table: a, columns: b, min: 5}", "expected a share in percent, got '5'"),
        ("{kind: uniqueness, table: a, columns: []}", "columns cannot be empty"),
        ("{kind: range, table: a, column: b}", "a range needs min or max"),
        ("{kind: distribution, table: a, column: b}", "a distribution needs mean, stddev, quantiles or shares"),
        ("{kind: distribution, table: a, column: b, mean: {min: ten}}", "expected a number, got 'ten'"),
        ("{kind: distribution, table: a, column: b, mean: {}}", "neither min nor max is set"),
        ("{kind: distribution, table: a, column: b, quantiles: {2: {min: 1}}}", "'2' is no quantile"),
        ("{kind: rows, table: a}", "rows needs min, max or max_change"),
        ("{kind: rows, table: a, max_change: 1%, where: x}", "max_change is of all rows of the table"),
        ("{kind: freshness, table: a, max_age: 3}", "a length of time needs a unit"),
        ("{kind: freshness, table: a, max_age: 3 days, where: x}", "where needs a column"),
        ("{kind: references, table: a, columns: [b, c], to: d, to_columns: e}", "to_columns are not as many"),
        ("{kind: reconciliation, table: a, sums: b}", "sums needs a second table"),
        ("{kind: anomaly, table: a, metrics: [count, nulls]}", "got 'nulls'"),
        ("{kind: anomaly, table: a, sensitivity: 0}", "expected a number more than 0"),
        ("{kind: sql, tables: a}", "the key 'sql' is missing"),
        ("{kind: rows, table: a, min: 1, severity: fatal}", "expected 'error' or 'warn', got 'fatal'"),
        ("rows", "the key 'kind' is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, check: str, words: str) -> None:
    (problem,) = problems(tmp_path, f"name: p\nchecks:\n  - {{kind: rows, table: a, min: 1}}\n  - {check}\n")
    assert problem.line == 4
    assert words in f"{problem.message} ({problem.hint})"


def test_metrics_are_those_of_profiles() -> None:
    assert get_args(Metric) == METRICS


def test_checks_are_a_list(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "name: p\nchecks: {kind: rows, table: a, min: 1}\n")
    assert "expected a list of checks, got a mapping" in problem.message


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"kind": "rows", "table": "fct_n", "min": 1}, "there is no table 'fct_n' (did you mean 'fct_m'?)"),
        ({"kind": "rows", "table": "nothing like it", "min": 1}, "(known: fct_m, s.t, stg_m)"),
        ({"kind": "rows", "table": "stg_m", "min": 1}, "stg_m is ephemeral: it has no table"),
        ({"kind": "references", "table": "fct_m", "columns": "a", "to": "s.tt"}, "'s.tt' (did you mean 's.t'?)"),
        ({"kind": "sql", "sql": "select 1", "tables": ["fct"]}, "there is no table 'fct'"),
        ({"kind": "reconciliation", "table": "fct_m"}, "fct_m is no stream, so it needs a second table"),
    ],
)  # fmt: skip
def test_tables_that_are_not_there(make_project: MakeProject, check: dict[str, Any], words: str) -> None:
    """`smoll check` says so without a run, with the line."""
    project = make_project(f"{YML}checks:\n- {json.dumps(check)}\n", {"data/t.csv": "a\n1\n"}, MODELS)
    (found,) = [finding for finding in project.check() if finding.level == "error"]
    assert found.message.startswith("smoll.yml:4: ") and words in found.message


def test_every_wrong_check_is_told(make_project: MakeProject) -> None:
    """Those in meta by the node and its file; a name that two have."""
    schema = """
models:
  - name: fct_m
    meta: {smoll: {checks: [{kind: rows, low: 1}, {kind: rows}]}}
    columns:
      - {name: a, meta: {smoll: {checks: [{kind: completness}]}}}
      - {name: b, meta: {smoll: {check: [{kind: completeness}]}}}
"""
    named = {"kind": "rows", "table": "fct_m", "min": 1, "name": "twice"}
    project = make_project(
        f"{YML}checks: {json.dumps([named, named])}\n", {"data/t.csv": "a\n1\n"}, {**MODELS, "schema.yml": schema}
    )
    with pytest.raises(TransformError) as caught:
        project.checks()
    lines = caught.value.message.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("smoll.yml:3: the name 'twice' is taken (by the check at smoll.yml:3")
    assert lines[1].startswith("meta of model fct_m (models/fct_m.sql): low: unknown key 'low'")
    assert lines[2].startswith("meta of model fct_m (models/fct_m.sql): rows needs min, max or max_change")
    assert lines[3].startswith("meta of model fct_m, column a (models/fct_m.sql): unknown kind 'completness'")
    assert lines[4].startswith(
        "meta of model fct_m, column b (models/fct_m.sql): under `smoll` stands no list of checks"
    )


def test_names_are_made_and_differ(make_project: MakeProject) -> None:
    checks = [{"kind": "rows", "table": "s.t", "min": 1}, {"kind": "rows", "table": "s.t", "max": 9}]
    project = make_project(f"{YML}checks: {json.dumps(checks)}\n", {"data/t.csv": "a\n1\n"}, MODELS)
    assert [check.name for check in project.checks()] == ["rows_s_t", "rows_s_t_2"]
    assert project.checks()[0].description == "rows of s.t: min 1"
