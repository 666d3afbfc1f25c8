"""Tests that ``smoll suggest`` finds in the data, and how they get into the dbt project."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ruamel.yaml import YAML

import smoll
from run.shop import published
from smoll.errors import TransformError, UsageError
from smoll.suggest import Change, Suggestion, render
from support import MakeProject, reopen, write

YML = """\
sources: {shop: {kind: files, streams: {orders: data/orders.csv, customers: data/customers.csv}}}
checks: [{kind: freshness, table: shop.orders, max_age: 9 weeks}]  # of no column
"""
MODELS = {
    "marts/orders": "{{ config(materialized='table') }} select columns(c -> not starts_with(c, '_smoll')) "
    "from {{ source('shop', 'orders') }}",
    "marts/dim_customers": "{{ config(materialized='table') }} select id, name, region, email "
    "from {{ source('shop', 'customers') }}",
    "marts/daily": "{{ config(materialized='table') }} select day, status, count(*) as orders, avg(amount) as mean "
    "from {{ ref('orders') }} group by all",
    "marts/_models.yml": """\
# what people wrote
models:
  - name: orders
    description: >
      All orders,
      one row each.
    columns:
      - name: order_id  # the key
        data_tests: [unique]
      - name: Amount
        tests:
          - not_null
      - name: status
        description: 'open or done'

  - name: dim_customers
    columns:
      - {name: email, config: {meta: {pii: true}}}
""",
}


def orders(rows: int, status: str = "['open', 'done', 'sent'][1 + i % 3]") -> str:
    import duckdb

    sql = f"""SELECT i AS order_id, 100 + i % 40 AS customer_id, DATE '2026-01-01' + (i // 6)::INTEGER AS day,
        {status} AS status, i % 90 + 0.5 AS amount, 1900 + i % 100 AS year, i % 7 - 3 AS delta,
        CASE WHEN i % 5 > 0 THEN i END AS note FROM range({rows}) r(i)"""
    lines = duckdb.sql(sql).fetchall()
    names = "order_id,customer_id,day,status,amount,year,delta,note\n"
    return names + "".join(",".join("" if cell is None else str(cell) for cell in line) + "\n" for line in lines)


CUSTOMERS = "id,name,region,email\n" + "".join(
    f"{100 + i},Name {i},{'north' if i % 2 else 'its south'},p{i}@x.org\n" for i in range(60)
)


@pytest.fixture
def shop(make_project: MakeProject) -> smoll.Project:
    files = {"data/orders.csv": orders(300), "data/customers.csv": CUSTOMERS}
    project = make_project(YML, files, MODELS)
    assert published(project.run()) == 1
    return reopen(project)


def suggested(suggestions: tuple[Suggestion, ...], model: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in suggestions:
        if one.model == model:
            found.setdefault(one.column, []).append(one.test)
    return found


def smoll_says(project: smoll.Project, *words: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "smoll", "--project", str(project.config.root), *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def test_what_the_data_say(shop: smoll.Project) -> None:
    found = shop.suggest()
    assert suggested(found, "orders") == {
        "order_id": ["not_null"],
        "customer_id": ["not_null", "relationships"],
        "day": ["not_null"],
        "status": ["not_null", "accepted_values"],
        "amount": ["range"],
        "year": ["not_null"],
        "delta": ["not_null"],
        "note": ["range"],
    }
    assert suggested(found, "dim_customers") == {
        "id": ["unique", "not_null"],
        "name": ["not_null"],
        "region": ["not_null"],
        "email": ["not_null"],
    }
    assert suggested(found, "daily") == {
        "": ["unique"],
        "day": ["not_null"],
        "status": ["not_null", "accepted_values"],
        "orders": ["not_null"],
        "mean": ["range"],
    }
    by_test = {(one.column, one.test): one for one in found if one.model in ("orders", "daily")}
    assert by_test["customer_id", "relationships"].arguments == {"to": "ref('dim_customers')", "field": "id"}
    assert by_test["status", "accepted_values"].arguments == {"values": ["done", "open", "sent"]}
    assert by_test["amount", "range"].arguments == {"min": 0}
    assert by_test["", "unique"].arguments == {"column_name": "(day, status)"}
    assert by_test["day", "not_null"].reason.startswith("no NULL in ")
    assert "p1@x.org" not in render(found) and "Name 1" not in render(found)
    assert suggested(shop.suggest("DAILY"), "orders") == {}
    with pytest.raises(UsageError, match="There is no table 'dayly'"):
        shop.suggest("dayly")
    code, out, _ = smoll_says(shop, "suggest", "daily")
    assert code == 0 and out == render(shop.suggest("daily"))
    assert YAML(typ="safe").load(out)["models"][0]["data_tests"] == [
        {"unique": {"arguments": {"column_name": "(day, status)"}}}
    ]
    assert smoll_says(shop, "suggest", "--write")[0] == 2, "nobody can be asked"


def test_written_into_the_project(shop: smoll.Project) -> None:
    root = shop.config.root
    path = root / "transform/models/marts/_models.yml"
    before = path.read_text()
    suggestions = shop.suggest()
    (change,) = shop.plan_suggestions(suggestions)
    assert (change.path, change.before, path.read_text()) == (path, before, before)
    gone = [line for line in change.diff(root).splitlines() if line.startswith("-") and not line.startswith("---")]
    assert gone == ["-        data_tests: [unique]", "-      - {name: email, config: {meta: {pii: true}}}"]
    code, out, _ = smoll_says(shop, "suggest", "--write", "--yes")
    assert code == 0 and out == "Wrote transform/models/marts/_models.yml\n"
    after = path.read_text()
    assert after == change.after and after.startswith("# what people wrote\nmodels:\n")
    assert (
        "- name: order_id  # the key\n        data_tests:\n          - unique\n          - not_null  # no NULL" in after
    )
    entries = {entry["name"]: entry for entry in YAML(typ="safe").load(after)["models"]}
    amount = next(column for column in entries["orders"]["columns"] if column["name"] == "Amount")
    assert amount["tests"] == ["not_null"], "dbt takes one of the keys, and finds no other"
    assert amount["config"]["meta"]["smoll"]["checks"] == [{"kind": "range", "min": 0}]
    assert entries["dim_customers"]["columns"][0]["config"] == {"meta": {"pii": True}}

    project = reopen(shop)
    result = project.run()
    assert (result.status, result.release.status) == ("ok", "published"), result  # more columns are described
    assert len(result.checks) == len(suggestions) + 3 and {check.status for check in result.checks} == {"pass"}
    assert reopen(project).suggest() == ()
    assert smoll_says(project, "suggest")[2] == "Nothing to suggest.\n"


def test_the_history_has_a_say(shop: smoll.Project) -> None:
    root = shop.config.root
    first = {(one.column, one.test): one.arguments for one in shop.suggest("orders")}
    assert ("delta", "range") not in first
    for rows, status in ((320, "'open'"), (310, "['open', 'done', 'sent'][1 + i % 3]"), (299, "NULL")):
        write(root, {"data/orders.csv": orders(rows, status)})
        assert reopen(shop).run().release.status == "published"
    write(root, {"data/orders.csv": orders(300)})
    assert reopen(shop).run().release.status == "published"
    found = {(one.column, one.test): one for one in reopen(shop).suggest("orders")}
    assert ("status", "accepted_values") not in found, "it had others"
    assert ("status", "not_null") not in found
    assert found["delta", "range"].arguments == {"min": -6, "max": 6}
    assert found["year", "range"].arguments == {"min": 1800, "max": 2100}
    assert found["amount", "range"].arguments == {"min": 0, "max": 140}
    assert found["day", "not_null"].reason == "no NULL in 300 rows, and in 3 earlier profiles"


def test_a_file_that_dbt_refuses_is_as_it_was(shop: smoll.Project) -> None:
    path = shop.config.root / "transform/models/marts/_models.yml"
    (change,) = shop.plan_suggestions(shop.suggest("daily"))
    with pytest.raises(UsageError, match="has changed meanwhile"):
        shop.write_suggestions([Change(path, "other", "models: []")])
    new = path.with_name("_new.yml")
    bad = [change, Change(new, "", "models: [{name: daily, columns: [{name: day}]}]\n")]
    with pytest.raises(TransformError, match="daily"):
        shop.write_suggestions(bad)
    assert path.read_text() == change.before and not new.exists()
