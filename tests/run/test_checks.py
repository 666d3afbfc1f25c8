"""Smoll's own checks: each kind passing and failing on real data, through a run; and the rows that are kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

import smoll
from smoll.cli import main
from smoll.cli.summary import next_steps
from smoll.errors import UsageError
from smoll.events import CheckFinished, Event, Message
from smoll.model import CheckResult, KnownCheck, RunResult
from smoll.project.config import Resources
from smoll.transform.personal import without_values
from support import MakeProject, raw, reopen, write

YML = "sources: {s: {kind: files, streams: {t: {path: data/t.csv, allow_empty: true, on_bad_row: quarantine}}}}\n"
MODEL = "{{ config(materialized='table') }} select * from {{ source('s', 't') }}"
DIGITS = "select unnest(['20', '499.5', '1000', '300,5', 'nan', null]) as text"
DATA = "id,name,amount,day\n1,Ann,10,2024-01-01\n2,Bob,20,2024-01-02\n3,,30,2024-01-03\n4,Bob,40,\n"


def project_of(
    make_project: MakeProject, checks: list[dict[str, Any]], data: str = DATA, models: dict[str, str] | None = None
) -> smoll.Project:
    yml = f"{YML}checks: {json.dumps(checks)}\n"
    return make_project(yml, {"data/t.csv": data}, {"m": MODEL} if models is None else models)


def said(result: RunResult) -> dict[str, CheckResult]:
    assert not result.error, result.error
    return {check.name: check for check in result.checks}


def summary(result: RunResult) -> dict[str, tuple[str, int, str]]:
    return {name: (one.status, one.failures, one.message) for name, one in said(result).items()}


def rows(project: smoll.Project, name: str) -> list[tuple[str | None, ...]]:
    failing = reopen(project).check_record(name).failing
    assert failing is not None
    return list(failing.rows)


def test_every_kind_that_counts_rows_of_one_table(make_project: MakeProject) -> None:
    """Passing and failing, at the very limit and beyond it."""
    project = project_of(
        make_project,
        [
            {"kind": "completeness", "table": "m", "column": "id"},
            {"kind": "completeness", "table": "m", "column": "name", "max_nulls": "25%", "name": "quarter"},
            {"kind": "completeness", "table": "m", "column": "name", "max_nulls": "24%", "name": "less than a quarter"},
            {"kind": "completeness", "table": "m", "column": "NAME", "where": "id < 3 -- the first", "name": "two"},
            {"kind": "uniqueness", "table": "m", "columns": "id"},
            {"kind": "uniqueness", "table": "m", "columns": ["name"]},
            {"kind": "uniqueness", "table": "m", "columns": ["name"], "min": "66%", "name": "two of three"},
            {"kind": "uniqueness", "table": "m", "columns": ["name", "amount"]},
            {"kind": "range", "table": "m", "column": "amount", "min": 10, "max": 40},
            {"kind": "range", "table": "m", "column": "amount", "min": 10.5, "max_misses": 1, "name": "one below"},
            {"kind": "range", "table": "m", "column": "amount", "max": 39.5, "name": "above"},
            {"kind": "range", "table": "m", "column": "day", "min": "2024-01-02", "name": "days"},
            {"kind": "range", "table": "s.t", "column": "name", "min": "B", "severity": "warn", "name": "texts"},
            {"kind": "range", "table": "digits", "column": "text", "min": 0, "max": 500, "name": "digits"},
            {"kind": "rows", "table": "m", "min": 4, "max": 4},
            {"kind": "rows", "table": "m", "min": 2, "max": 2, "where": "name = 'Bob'", "name": "bobs"},
            {"kind": "rows", "table": "main.M", "min": 5, "name": "five"},
        ],
        models={"m": MODEL, "digits": DIGITS},
    )
    result = project.run()
    found = summary(result)
    assert {name: (status, failures) for name, (status, failures, _) in found.items()} == {
        "completeness_m_id": ("pass", 0), "quarter": ("pass", 0), "less than a quarter": ("fail", 1),
        "two": ("pass", 0), "uniqueness_m_id": ("pass", 0), "uniqueness_m_name": ("fail", 1),
        "two of three": ("pass", 0), "uniqueness_m_name_amount": ("pass", 0), "range_m_amount": ("pass", 0),
        "one below": ("pass", 0), "above": ("fail", 1), "days": ("fail", 1), "texts": ("warn", 1),
        "digits": ("fail", 3), "rows_m": ("pass", 0), "bobs": ("pass", 0), "five": ("fail", 1),
    }  # fmt: skip
    assert found["less than a quarter"][2] == "1 of 4 values are NULL (25%), at most 24% may be"
    assert found["uniqueness_m_name"][2] == "2 of 3 values are different (66.7%), at least 100% must be"
    assert found["above"][2] == "1 of 4 values are above 39.5 (25%), none may be"
    assert found["five"][2] == "4 rows, must be at least 5"
    assert result.status == "failed" and result.release.status == "refused"
    assert {refusal.subject for refusal in result.release.refusals} == {
        "less than a quarter", "uniqueness_m_name", "above", "days", "digits", "five"
    }  # fmt: skip
    columns = {name: place for place, name in enumerate(reopen(project).check_record("above").failing.columns)}  # type: ignore[union-attr]
    assert [row[columns["id"]] for row in rows(project, "less than a quarter")] == ["3"]
    assert sorted(str(row[columns["id"]]) for row in rows(project, "uniqueness_m_name")) == ["2", "4"]
    assert [row[:3] for row in rows(project, "above")] == [("4", "Bob", "40")]
    assert rows(project, "less than a quarter")[0][columns["name"]] is None
    assert [row[:2] for row in rows(project, "texts")] == [("1", "Ann")]
    assert reopen(project).check_record("five").failing is None


def test_rows_are_dropped_once_a_check_passes(make_project: MakeProject) -> None:
    project = project_of(make_project, [{"kind": "range", "table": "m", "column": "amount", "max": 30}])
    assert project.run().status == "failed"
    name = "range_m_amount"
    assert len(rows(project, name)) == 1
    before = reopen(project).check_record(name)
    assert (before.status, before.run, before.failures, before.table) == ("fail", 1, 1, "main.m")
    write(project.config.root, {"data/t.csv": DATA.replace("4,Bob,40,\n", "")})
    result = reopen(project).run()
    assert result.status == "ok" and result.release.status == "published"
    after = reopen(project).check_record(name)
    assert (after.status, after.failing) == ("pass", None)
    assert [check.name for check in reopen(project).release().manifest.checks] == [name]
    edited = {"kind": "range", "table": "m", "column": "amount", "max": 29, "severity": "warn"}
    write(project.config.root, {"transform/models/other.sql": "select 1 as one"})
    assert reopen(project, f"{YML}checks: {json.dumps([edited])}\n").run("other").release.status == "published"
    assert reopen(project).release().manifest.checks == (), "what it says now, nobody has asked"


def test_distribution(make_project: MakeProject) -> None:
    def check(name: str, **options: Any) -> dict[str, Any]:
        return {"kind": "distribution", "table": "m", "column": "amount", "name": name, **options}

    project = project_of(
        make_project,
        [
            check("mean", mean={"min": 25, "max": 25}),
            check("not mean", mean={"max": 24.9}),
            check("spread", stddev={"min": 12.9, "max": 13}),
            check("median", quantiles={"0.5": {"min": 20, "max": 30}, "1": {"min": 40, "max": 40}}),
            check("not median", quantiles={"0.5": {"min": 31}}),
            {**check("names", shares={"Bob": {"min": "66%", "max": "67%"}, "Zoe": {"max": "0%"}}), "column": "name"},
            {**check("not names", shares={"Bob": {"max": "66%"}}), "column": "name"},
            check("nobody", mean={"min": 0}, where="id > 9"),
            {**check("text", mean={"min": 0}), "column": "name"},
        ],
    )
    found = summary(project.run())
    assert [name for name, one in found.items() if one[0] == "pass"] == ["mean", "spread", "median", "names"]
    assert found["not mean"] == ("fail", 1, "mean is 25, must be at most 24.9")
    assert found["not median"][0] == "fail" and found["not median"][2].startswith("quantile 0.5 is 25, must be")
    assert found["not names"] == ("fail", 1, "66.7% of the values are 'Bob', must be at most 66%")
    assert found["nobody"] == ("fail", 1, "there are no values")
    assert found["text"][0] == "error" and "only numbers" in found["text"][2]


def test_references(make_project: MakeProject) -> None:
    other = "{{ config(materialized='table') }} select 1 as \"The Id\", 'Ann' as name union all select 2, 'Bob'"
    project = project_of(
        make_project,
        [
            {"kind": "references", "table": "m", "columns": "name", "to": "other"},
            {"kind": "references", "table": "m", "columns": "id", "to": "other", "to_columns": "The Id"},
            {"kind": "references", "table": "m", "columns": "id", "to": "other", "to_columns": "The Id",
             "max_orphans": "50%", "name": "half"},
            {"kind": "references", "table": "m", "columns": ["id", "name"], "to": "other",
             "to_columns": ["The Id", "name"], "where": "id <= 2", "name": "both"},
        ],
        models={"m": MODEL, "other": other},
    )  # fmt: skip
    found = summary(project.run())
    assert found["references_m_other_name"][0] == found["half"][0] == found["both"][0] == "pass"
    assert found["references_m_other_id"] == (
        "fail", 2, "2 of 4 rows that refer to main.other find nothing there (50%), none may be so"
    )  # fmt: skip
    assert [row[0] for row in rows(project, "references_m_other_id")] == ["3", "4"]


def test_reconciliation_of_two_tables(make_project: MakeProject) -> None:
    lossy = "{{ config(materialized='table') }} select id, amount + 0.004 as amount from {{ ref('m') }} where id < %d"
    tables = {"table": "m", "sums": ["amount"]}
    project = project_of(
        make_project,
        [
            {"kind": "reconciliation", "to": "whole", **tables, "tolerance": 0.02},
            {"kind": "reconciliation", "to": "whole", **tables, "name": "exact"},
            {"kind": "reconciliation", "to": "whole", **tables, "tolerance": "0.1%", "name": "share"},
            {"kind": "reconciliation", "table": "m", "to": "part"},
            {"kind": "reconciliation", "table": "m", "to": "s.t", "sums": ["amount", "id"], "name": "source"},
        ],
        models={"m": MODEL, "whole": lossy % 9, "part": lossy % 3},
    )
    found = summary(project.run())
    assert [name for name, one in found.items() if one[0] == "pass"] == ["reconciliation_m_whole", "share", "source"]
    assert found["exact"] == ("fail", 1, "the sums of amount differ (100 and 100.016)")
    assert found["reconciliation_m_part"] == ("fail", 1, "main.m has 4 rows, main.part has 2")


def test_reconciliation_of_a_load(make_project: MakeProject) -> None:
    """What was read is what was written and rejected, and still there."""
    check = {"kind": "reconciliation", "table": "s.t"}
    project = project_of(make_project, [check], DATA + "5,Eve\n")
    result = project.run()
    assert said(result)["reconciliation_s_t"].message == "run 1 read 5 records, wrote 4, rejected 1"
    with smoll.warehouse.open_warehouse(
        project.config.root / ".smoll/warehouse.duckdb", _settings(project)
    ) as warehouse:
        warehouse.execute("DELETE FROM raw_s.t WHERE id = 1")
    again = reopen(project).run()
    found = said(again)["reconciliation_s_t"]
    assert (found.status, found.failures) == ("fail", 1) and "left 4 rows, and the table has 3 now" in found.message


def _settings(project: smoll.Project) -> smoll.warehouse.Settings:
    return smoll.warehouse.engine_settings(Resources(threads=1), project.config.root / ".smoll/tmp")


@pytest.mark.parametrize(
    "options", [{"mode": "merge", "key": "id"}, {"mode": "scd2", "key": "id"}], ids=lambda options: options["mode"]
)
def test_reconciliation_of_a_load_that_is_no_equation(make_project: MakeProject, options: dict[str, str]) -> None:
    yml = {"s": {"kind": "files", "streams": {"t": {"path": "data/t.csv", **options}}}}
    check = {"kind": "reconciliation", "table": "s.t"}
    project = make_project(
        f"sources: {json.dumps(yml)}\nchecks: [{json.dumps(check)}]\n", {"data/t.csv": DATA}, {"m": MODEL}
    )
    error = project.run().error
    assert f"s.t has mode {options['mode']}, which writes only what is new" in error and "smoll.yml:" in error


def test_rows_of_incremental_files_are_accounted_for(make_project: MakeProject) -> None:
    yml = "sources: {s: {kind: files, streams: {t: {path: 'data/*.csv', incremental: true}}}}\n"
    project = make_project(f"{yml}checks: [{{kind: reconciliation, table: s.t}}]\n", {"data/a.csv": DATA}, {"m": MODEL})
    for number in (1, 2, 3):
        write(project.config.root, {f"data/{number}.csv": DATA})
        assert summary(reopen(project).run())["reconciliation_s_t"][0] == "pass"
    write(project.config.root, {"data/a.csv": DATA + "9,Zoe,1,\n"})
    result = reopen(project).run()
    assert said(result)["reconciliation_s_t"].message == "run 4 read 5 records, wrote 5, rejected 0"


def test_freshness(make_project: MakeProject) -> None:
    recent = (
        f"{MODEL}, (select now() - interval 3 hour as moment, current_date as today, now() + interval 3 hour as ahead)"
    )
    project = project_of(
        make_project,
        [
            {"kind": "freshness", "table": "s.t", "max_age": "5 minutes"},
            {"kind": "freshness", "table": "m", "max_age": "5 minutes"},
            {"kind": "freshness", "table": "m", "column": "moment", "max_age": "4 hours", "name": "4"},
            {"kind": "freshness", "table": "m", "column": "moment", "max_age": "2 hours", "name": "2"},
            {"kind": "freshness", "table": "m", "column": "today", "max_age": "25 hours", "name": "today"},
            {"kind": "freshness", "table": "m", "column": "ahead", "max_age": "1 hour", "name": "ahead"},
            {"kind": "freshness", "table": "m", "column": "day", "max_age": "7 days", "name": "old"},
            {"kind": "freshness", "table": "m", "column": "day", "max_age": "7 days", "where": "false", "name": "none"},
            {"kind": "freshness", "table": "m", "column": "name", "max_age": "7 days", "name": "text"},
        ],
        models={"m": recent},
    )
    result = project.run()
    found = summary(result)
    good = ["freshness_s_t", "freshness_m", "4", "today", "ahead"]
    assert [name for name, one in found.items() if one[0] == "pass"] == good
    assert found["2"][2] == "its newest value is 3.0 hours old, at most 2 hours may it be"
    assert said(result)["ahead"].message == "its newest value is 3.0 hours ahead of this machine's clock"
    assert re.fullmatch(r"its newest value is [\d,.]+ days old, at most 7 days may it be", found["old"][2])
    assert found["none"] == ("fail", 1, "there is no value that could be fresh")
    assert found["text"][0] == "error" and "freshness needs days or times" in found["text"][2]


def test_a_query(make_project: MakeProject) -> None:
    project = project_of(
        make_project,
        [
            {"kind": "sql", "sql": "SELECT * FROM main.m WHERE id > 4; -- none", "tables": ["m"]},
            {"kind": "sql", "sql": "SELECT id, name AS who FROM main.m WHERE id > 2 ORDER BY id", "tables": "m",
             "name": "two"},
            {"kind": "sql", "sql": "SELECT 1 WHERE false", "name": "about nothing"},
            {"kind": "sql", "sql": "SELECT nothing FROM main.m", "tables": ["m"], "name": "wrong"},
        ],
    )  # fmt: skip
    found = summary(project.run())
    assert [name for name, one in found.items() if one[0] == "pass"] == ["sql_m", "about nothing"]
    assert found["two"] == ("fail", 2, "the query returns 2 rows, and must return none")
    assert found["wrong"][0] == "error" and "nothing" in found["wrong"][2]
    failing = reopen(project).check_record("two").failing
    assert failing is not None and failing.columns == ("id", "who") and failing.rows == (("3", None), ("4", "Bob"))


def test_change_of_rows(make_project: MakeProject) -> None:
    """Of a model against the releases, of a stream against its loads."""
    checks: list[dict[str, Any]] = [
        {"kind": "rows", "table": "m", "max_change": "25%", "over": 2},
        {"kind": "rows", "table": "s.t", "max_change": "25%", "severity": "warn"},
    ]
    project = project_of(make_project, checks)
    found = summary(project.run())
    assert set(found.values()) == {("pass", 0, "4 rows, and there is nothing yet to compare with")}
    write(project.config.root, {"data/t.csv": DATA + "5,Eve,5,\n"})
    result = reopen(project).run()
    assert result.status == "ok" and result.release.number == 2, summary(result)
    write(project.config.root, {"data/t.csv": DATA + "".join(f"{n},Eve,5,\n" for n in (5, 6))})
    found = summary(reopen(project).run())
    words = "6 rows, 33.3% more than the median of the last 2 (4.5), at most 25% may be"
    assert found["rows_m"] == ("fail", 1, words) and found["rows_s_t"] == ("warn", 1, words)


def test_anomalies(make_project: MakeProject) -> None:
    """Nothing is said before enough is known; then what is far from it, a warning by default."""

    def data(rows: int, nulls: int = 0) -> str:
        lines = (f"{n},{'' if n < nulls else 'abc'[n % 3]},{n % 10},\n" for n in range(rows))
        return "id,name,amount,day\n" + "".join(lines)

    check = {"kind": "anomaly", "table": "m", "min_history": 2}
    only = {**check, "columns": "amount", "metrics": ["mean", "null_rate"], "name": "amounts"}
    project = project_of(make_project, [check, only], data(100))
    messages = []
    for rows in (100, 101, 102):
        write(project.config.root, {"data/t.csv": data(rows)})
        found = summary(reopen(project).run())
        messages.append(found["anomaly_m"])
    assert messages == [
        ("pass", 0, "not enough history (0 of 2 releases)"),
        ("pass", 0, "not enough history (1 of 2 releases)"),
        ("pass", 0, "as usual, by 2 profiles"),
    ]
    write(project.config.root, {"data/t.csv": data(20, nulls=10)})
    result = reopen(project).run()
    found = summary(result)
    status, failures, message = found["anomaly_m"]
    assert status == "warn" and failures >= 2 and "rows 20, usually 101" in message and "name: NULLs 50.0%" in message
    assert found["amounts"] == ("pass", 0, "as usual, by 3 profiles")
    assert result.status == "ok" and result.release.number == 4


def test_empty_tables(make_project: MakeProject) -> None:
    project = project_of(
        make_project,
        [
            {"kind": "completeness", "table": "m", "column": "id"},
            {"kind": "uniqueness", "table": "m", "columns": "id"},
            {"kind": "range", "table": "m", "column": "id", "min": 0},
            {"kind": "references", "table": "m", "columns": "id", "to": "m"},
            {"kind": "reconciliation", "table": "m", "to": "m", "sums": "id"},
            {"kind": "rows", "table": "m", "max": 0},
            {"kind": "rows", "table": "m", "min": 1, "name": "filled"},
        ],
        models={"m": f"{MODEL} where false"},
    )
    found = summary(project.run())
    assert {name for name, one in found.items() if one[0] != "pass"} == {"filled"}


def test_odd_names(make_project: MakeProject) -> None:
    """Spaces, quotes, dots, capitals, a reserved word: in tables, columns and values."""
    odd = """{{ config(materialized='table', alias="it's a Table.1") }}
        select 1 as "a ""b"" c", 'x' as "select" union all select 1, 'it''s %' """
    project = project_of(
        make_project,
        [
            {"kind": "completeness", "table": "odd", "column": 'A "b" C'},
            {"kind": "uniqueness", "table": "odd", "columns": ['a "b" c', "select"]},
            {"kind": "uniqueness", "table": "odd", "columns": ['a "b" c'], "severity": "warn"},
            {"kind": "distribution", "table": "odd", "column": "select", "shares": {"it's %": {"min": "50%"}}},
            {"kind": "references", "table": "odd", "columns": "select", "to": "main.it's a Table.1"},
            {
                "kind": "uniqueness",
                "table": "main.it's a table.1",
                "columns": ['a "b" c', 'A "b" c'],
                "severity": "warn",
                "name": "both",
            },
        ],
        models={"odd": odd},
    )
    found = summary(project.run())
    assert [one[0] for one in found.values()] == ["pass", "pass", "warn", "pass", "pass", "warn"], found
    assert len(rows(project, "uniqueness_odd_a_b_c")) == len(rows(project, "both")) == 2


def test_what_was_not_built_is_not_checked(make_project: MakeProject) -> None:
    """A check of a broken model is skipped; a column that is not there is an error of the check."""
    checks: list[dict[str, Any]] = [
        {"kind": "rows", "table": "m", "min": 1},
        {"kind": "rows", "table": "good", "min": 1},
        {"kind": "range", "table": "good", "column": "amout", "min": 1},
    ]
    models = {"m": f"{MODEL} where error('broken') is null", "good": MODEL}
    found = said(project_of(make_project, checks, models=models).run())
    assert (found["rows_m"].status, found["rows_good"].status) == ("skipped", "pass")
    wrong = found["range_good_amout"]
    assert wrong.status == "error" and "did you mean 'amount'?" in wrong.message
    assert re.match(r"smoll.yml:\d+: main.good has no column 'amout'", wrong.message)


def test_selection_and_staleness(make_project: MakeProject) -> None:
    """A check runs where a table of it is named; one that has not run since then refuses the release."""
    checks: list[dict[str, Any]] = [{"kind": "rows", "table": table, "min": 1} for table in ("m", "s.t")]
    project = project_of(make_project, checks, models={"m": MODEL, "n": MODEL})
    assert set(said(project.run(select="n"))) == set()
    assert set(said(reopen(project).run(select="m"))) == {"rows_m"}
    assert set(said(reopen(project).run(select="source:s"))) == {"rows_s_t"}
    result = reopen(project).run()
    assert set(said(result)) == {"rows_m", "rows_s_t"} and result.release.number == 1
    changed = [{**checks[0], "min": 2}, checks[1]]
    result = reopen(project, f"{YML}checks: {json.dumps(changed)}\n").run(select="n")
    assert [(r.subject, "was changed after it ran" in r.reason) for r in result.release.refusals] == [("rows_m", True)]
    assert reopen(project).check_record("rows_m").status is None


def test_in_meta_of_dbt(make_project: MakeProject) -> None:
    """On models, sources and columns; the table and the column go without saying."""
    schema = """
sources:
  - name: s
    schema: raw_s
    tables:
      - name: t
        meta: {smoll: {checks: [{kind: rows, min: 1}, {kind: reconciliation}]}}
        columns: [{name: id, meta: {smoll: {checks: [{kind: uniqueness}]}}}]
models:
  - name: m
    config: {meta: {smoll: {checks: [{kind: rows, min: 5, severity: warn}, {kind: sql, sql: "select 1 where false"}]}}}
    columns:
      - name: amount
        config: {meta: {smoll: {checks: [{kind: range, min: 0, max: 39.5}, {kind: completeness, max_nulls: 5%}]}}}
"""
    project = make_project(YML, {"data/t.csv": DATA}, {"m": MODEL, "schema.yml": schema})
    found = {name: one[0] for name, one in summary(project.run()).items()}
    assert found == {
        "rows_m": "warn", "sql_m": "pass", "range_m_amount": "fail", "completeness_m_amount": "pass",
        "rows_s_t": "pass", "reconciliation_s_t": "pass", "uniqueness_s_t_id": "pass",
    }  # fmt: skip


def test_events_and_no_dbt_project(make_project: MakeProject) -> None:
    events: list[Event] = []
    project = project_of(make_project, [{"kind": "rows", "table": "m", "min": 9}])
    project.run(on_event=events.append)
    assert [event.result.name for event in events if isinstance(event, CheckFinished)] == ["rows_m"]
    bare = project_of(make_project, [{"kind": "rows", "table": "m", "min": 9}], models={})
    events.clear()
    bare.run(on_event=events.append)
    assert any(isinstance(event, Message) and "were not run" in event.text for event in events)
    (refused,) = (one.message for one in reopen(bare).check() if one.level == "error")
    assert refused.startswith("they need a dbt project")


def checks_of(project: smoll.Project, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smoll", "--project", str(project.config.root), "checks", *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command(make_project: MakeProject) -> None:
    schema = "models: [{name: m, columns: [{name: name, data_tests: [not_null]}]}]"
    checks = [{"kind": "range", "table": "m", "column": "amount", "max": 30, "severity": "warn"}]
    project = project_of(make_project, checks, models={"m": MODEL, "schema.yml": schema})
    before = json.loads(checks_of(project, "--json").stdout)
    assert [(one["name"], one["status"]) for one in before] == [("not_null_m_name", None), ("range_m_amount", None)]
    result = project.run()
    assert result.status == "failed"
    assert next_steps(result)[0] == ("smoll checks not_null_m_name", "the rows on which it failed")
    listed = checks_of(project).stdout
    assert re.search(r"! +range_m_amount +main.m +warn +1 +1", listed) and "✗" in listed
    one = checks_of(project, "range_m_amount").stdout
    assert "1 of 4 values are above 30 (25%), none may be" in one and re.search(r"4 +Bob +40", one)
    of_dbt = json.loads(checks_of(project, "not_null_m_name", "--json").stdout)
    assert (of_dbt["failing"]["columns"], of_dbt["failing"]["rows"]) == (["name"], [[None]])
    wrong = checks_of(project, "range_m_amont")
    assert wrong.returncode == 2 and "Did you mean range_m_amount?" in wrong.stderr
    with pytest.raises(UsageError):
        reopen(project).check_record("nothing like it")


PII = """
models:
  - name: m
    columns:
      - name: name
        meta: {pii: true}
        data_tests:
          - unique: {config: {severity: warn}}
          - not_null: {config: {severity: warn}}
          - accepted_values: {arguments: {values: [Zoe]}, config: {severity: warn}}
      - name: id
        data_tests: [{accepted_values: {arguments: {values: [1]}, config: {severity: warn}}}]
"""
LEAKS = {
    "alias": "select name as id, amount from {{ ref('m') }}",
    "whole_row": "select t as id from {{ ref('m') }} t",
    "renamed": "select x as id from {{ ref('m') }} as t(y, x)",
    "text": "select to_json(t) as amount from {{ ref('m') }} t",
    "cte": "with m as (select * from main.m) select id, m as name_of from m",
    "hard": "select q.* from (select * replace (name as id) from main.m) q, (select count(*) from {{ ref('m') }})",
    "by_name": "select * from query_table('main.m') where (select count(*) from {{ ref('m') }}) > 0",
    "below": "select * from {{ ref('below') }}",
    "error": "select cast(name as integer) from {{ ref('below') }}",
    "fine": "select * from {{ ref('m') }} where amount > 30",
}


def test_nothing_personal_is_ever_kept_or_said(make_project: MakeProject) -> None:
    """Every way to get a value of the column `name` out, by tests of dbt's and by checks of smoll's own."""
    names = ["Annabella", "Bobadilla"]
    data = DATA.replace("Ann", names[0]).replace("Bob", names[1])
    columns = {"kind": "completeness", "table": "m", "column": "name"}
    own = [
        columns,
        {"kind": "uniqueness", "table": "m", "columns": "name"},
        {"kind": "range", "table": "m", "column": "name", "max": "A"},
        {"kind": "range", "table": "m", "column": "amount", "max": 10},
        {"kind": "references", "table": "m", "columns": "name", "to": "below", "to_columns": "amount_text"},
        {"kind": "distribution", "table": "m", "column": "name", "shares": {"Zoe": {"min": "10%"}}},
        {"kind": "range", "table": "below", "column": "amount", "max": 10, "name": "passed on"},
        {"kind": "completeness", "table": "m", "column": "id", "where": "CAST(name AS INTEGER) > 1", "name": "cast"},
        *({"kind": "sql", "sql": re.sub(r"{{ ref\('(\w+)'\) }}", r"main.\1", sql), "name": f"own {name}"}
          for name, sql in LEAKS.items()),
    ]  # fmt: skip
    below = "{{ config(materialized='table') }} select *, amount::varchar as amount_text from {{ ref('m') }}"
    broken = "{{ config(materialized='table') }} select name::int as number from {{ ref('m') }}"
    project = make_project(
        f"{YML}checks: {json.dumps(own)}\n", {"data/t.csv": data},
        {"m": MODEL, "below": below, "broken": broken, "schema.yml": PII},
        {name: f"{{{{ config(severity='warn') }}}} {sql}" for name, sql in LEAKS.items()},
    )  # fmt: skip
    events: list[Event] = []
    result = project.run(on_event=events.append)
    found = said(result)
    assert len(found) == len(own) + len(LEAKS) + 4
    assert [name for name, one in found.items() if one.status == "pass"] == []
    records = [reopen(project).check_record(check.id) for check in reopen(project).checks()]
    everything = f"{result} {events} {records}"
    assert [name for name in names if name in everything] == []
    files = [
        path for path in (project.config.root / ".smoll").rglob("*") if path.is_file() and "duckdb" not in path.name
    ]
    assert {"ledger.sqlite", "run-1.log"} <= {path.name for path in files}
    assert [(path.name, name) for path in files for name in names if name.encode() in path.read_bytes()] == []
    shown = {record.name: record.failing for record in records}
    for name in ("fine", "own fine", "range_m_amount", "passed on", "below", "completeness_m_name"):
        failing = shown[name]
        assert failing is not None and failing.rows and "name" not in failing.columns, name
    assert _note(shown["alias"]) == "The rows are not shown, as columns marked pii may be in them."
    accepted = shown["accepted_values_m_id__1"]
    assert accepted is not None and accepted.columns == ("value_field", "n_records")


def _note(failing: Any) -> str:
    assert failing is not None and not failing.rows
    return str(failing.note)


def test_no_check_changes_what_it_looks_at(make_project: MakeProject) -> None:
    delete = "true) ; DELETE FROM main.m; SELECT (1"
    checks: list[dict[str, Any]] = [
        {"kind": "sql", "name": "closes", "sql": f"SELECT (SELECT {delete}"},
        {"kind": "sql", "name": "closes again", "sql": f"SELECT {delete}"},
        {"kind": "sql", "name": "deletes", "sql": "DELETE FROM main.m"},
        {"kind": "rows", "name": "where", "table": "m", "min": 0, "where": f"{delete}"},
        {"kind": "sql", "name": "pivots", "sql": "PIVOT main.m ON name USING sum(amount)"},
    ]
    project = project_of(make_project, checks)
    found = {name: one.status for name, one in said(project.run()).items()}
    assert found.pop("pivots") == "fail" and set(found.values()) == {"error"}, found
    assert raw(project, "SELECT count(*) FROM main.m") == [(4,)]


def test_rows_that_were_kept_before_a_column_was_marked(make_project: MakeProject) -> None:
    """They are hidden at once, and gone with the next run, also where that does not ask the check again."""
    other = "{{ config(materialized='table') }} select 1 as one"
    check = {"kind": "range", "table": "m", "column": "amount", "max": 30}
    project = project_of(make_project, [check], models={"m": MODEL, "other": other})
    assert not project.run().error
    assert "Bob" in str(rows(project, "range_m_amount"))
    write(project.config.root, {"transform/models/schema.yml": PII.split("        data_tests")[0]})
    failing = reopen(project).check_record("range_m_amount").failing
    assert failing is not None and not failing.rows and "marked pii since" in failing.note
    assert not reopen(project).run("other").error
    assert reopen(project).check_record("range_m_amount").failing is None
    assert not reopen(project).run().error
    assert rows(project, "range_m_amount") and "Bob" not in str(rows(project, "range_m_amount"))


def test_rejected_rows_are_personal_where_their_table_is(make_project: MakeProject) -> None:
    schema = "sources: [{name: s, schema: raw_s, tables: [{name: t, columns: [{name: name, meta: {pii: true}}]}]}]"
    checks: list[dict[str, Any]] = [
        {"kind": "range", "table": "raw_s.t__rejected", "column": "line", "max": 1},
        {"kind": "sql", "sql": "select * from raw_s.t__rejected", "tables": "raw_s.t__rejected"},
        {"kind": "sql", "sql": "select raw as line from raw_s.t__rejected", "name": "alias"},
    ]
    project = make_project(
        f"{YML}checks: {json.dumps(checks)}\n", {"data/t.csv": f"{DATA}Annabella\n"}, {"m": MODEL, "schema.yml": schema}
    )
    assert len(said(project.run())) == 3
    records = [reopen(project).check_record(check.id) for check in reopen(project).checks()]
    assert "Annabella" not in str(records)
    shown = {record.name: record.failing for record in records}
    assert _note(shown["alias"])
    for name in ("range_raw_s_t__rejected_line", "sql_raw_s_t__rejected"):
        failing = shown[name]
        assert failing is not None and failing.rows and "line" in failing.columns


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("Conversion Error: Could not convert string 'Binder Error: Ann' to INT32", "Conversion Error"),
        ("Runtime Error in test x (tests/x.sql)\n  Out of Range Error: Overflow of Ann", "Out of Range Error"),
        ("Runtime Error in model p (models/p.py)\n  Python model failed:\n  invalid literal 'Ann'", "model p"),
        ("Runtime Error in model p (models/p.py)\n  ValueError: Ann", "ValueError"),
        ("Runtime Error in test x (tests/x.sql)\n  Binder Error: no column Bob", "no column Bob"),
        ("Compilation Error in test x (tests/x.sql)\n  no macro Bob", "no macro Bob"),
        ("Got 3 results, configured to fail if != 0", "Got 3 results, configured to fail if != 0"),
    ],
)
def test_errors_of_tables_with_personal_columns(message: str, kept: str) -> None:
    assert kept in without_values(message) and "Ann" not in without_values(message)


def test_values_are_cut_and_secrets_are_not_kept(make_project: MakeProject) -> None:
    project = project_of(make_project, [{"kind": "rows", "table": "m", "max": 9}], models={"m": MODEL})
    secret = "hunter2-is-secret"
    long = f"{DATA}5,{'x' * 190}{secret}{'y' * 9000},1,\n"
    check = {"kind": "range", "table": "m", "column": "amount", "min": 2, "where": f"name <> '{secret}'"}
    write(project.config.root, {".env": f"API_TOKEN={secret}\n", "data/t.csv": long})
    reopen(project, f"{YML}checks: [{json.dumps(check)}]\n").run()
    (row,) = rows(project, "range_m_amount")
    assert row[1] == "x" * 190 + "***" + "y" * 7
    record = reopen(project).check_record("range_m_amount")
    assert secret not in str(record) and "where name <> '***'" in record.description
    assert secret not in (project.config.root / ".smoll/description/description.json").read_text()


def test_twenty_rows_at_most(make_project: MakeProject) -> None:
    data = "id,name,amount,day\n" + "".join(f"{n},a,{n},\n" for n in range(1000))
    project = project_of(make_project, [{"kind": "range", "table": "m", "column": "amount", "max": -1}], data)
    project.run()
    assert len(rows(project, "range_m_amount")) == 20
    assert raw(project, "select count(*) from main.m") == [(1000,)]


def test_known(make_project: MakeProject) -> None:
    project = project_of(make_project, [{"kind": "rows", "table": "m", "min": 1, "description": "Somebody is there."}])
    (check,) = project.checks()
    assert check == KnownCheck(
        "check.rows_m", "rows_m", "check", "main.m", "error", "Somebody is there.", check.path
    ) and check.path.startswith("smoll.yml:")  # fmt: skip


def test_the_list_of_runs_counts_what_each_check_came_to(
    make_project: MakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "{{ config(materialized='table') }} "
    schema = """models:
- {name: m, columns: [{name: n, data_tests: [
    not_null, {unique: {config: {severity: warn}}}, {accepted_values: {values: [2]}}]}]}
- {name: bad, columns: [{name: n, data_tests: [not_null, unique]}]}
"""
    models = {"m": f"{table}select 1 as n union all select 1", "bad": f"{table}select nothing", "schema.yml": schema}
    project = make_project("", {}, models)
    assert project.run().status == "failed"
    assert main(["--project", str(project.config.root), "runs"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 failed, 1 warned, 2 skipped, 1 ok" in said
