"""Any dbt project, as it is: found elsewhere, with every kind of node, and where it is wrong a clear error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from run.shop import FILES, MODELS, SOURCES, current, edit, make_shop, published, refused
from smoll.errors import UsageError
from smoll.events import Message
from smoll.model import RunResult
from support import MakeProject, raw, released

JAFFLE_SHOP = Path(__file__).parent.parent / "data" / "jaffle_shop"


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_jaffle_shop_runs_and_releases_unchanged(make_project: MakeProject) -> None:
    project = make_project("transform: jaffle_shop\n", {})
    folder = project.config.root / "jaffle_shop"
    shutil.copytree(JAFFLE_SHOP, folder)
    messages: list[str] = []
    result = project.run(on_event=lambda event: messages.append(event.text) if isinstance(event, Message) else None)
    published(result)
    assert (len(result.nodes), len(result.checks)) == (8, 20)
    assert messages == ["profiles.yml: path jaffle_shop.duckdb is not used; smoll builds in .smoll/warehouse.duckdb."]
    assert released(project, "select sum(amount), count(*) from main.orders") == [(80.0, 6)]
    assert released(project, "select customer_lifetime_value from main.customers where customer_id = 1") == [(35.0,)]
    tables = [str(table.ref) for table in project.release().manifest.tables]
    assert tables == ["main.customers", "main.orders", "main.stg_customers", "main.stg_orders", "main.stg_payments"]
    assert _content(folder) == _content(JAFFLE_SHOP), "dbt writes to .smoll, and nothing of the project's is touched"
    assert project.run().release.status == "unchanged"
    edit(project, "jaffle_shop/seeds/raw_payments.csv", "id,order_id,payment_method,amount\n1,1,beans,1000\n")
    assert "accepted_values_stg_payments_payment_method__credit_card__coupon__bank_transfer__gift_card" in refused(
        project.run()
    )
    assert current(project) == 1


def test_a_python_model_an_incremental_one_a_custom_schema_and_an_alias(make_project: MakeProject) -> None:
    models = {
        "doubled.py": "def model(dbt, session):\n    dbt.config(materialized='table')\n"
        "    return dbt.ref('base').project('x, x * 2 as y')\n",
        "base": "{{ config(schema='core', alias='basis', materialized='table') }} select 1 as x",
        "counter": "{{ config(materialized='incremental') }} select {{ 2 if is_incremental() else 1 }} as n",
    }
    project = make_project("", {}, models)
    published(project.run())
    assert released(project, "select x, y from main.doubled") == [(1, 2)]
    assert released(project, "select x from main_core.basis") == [(1,)]
    published(project.run())
    assert released(project, "select n from main.counter order by n") == [(1,), (2,)]
    published(project.run(full_refresh=True))
    assert released(project, "select n from main.counter") == [(1,)]


def test_sources_that_the_project_declares_itself_meet_the_streams_by_schema_and_table(
    make_project: MakeProject,
) -> None:
    sources = """\
sources:
  - name: erp
    schema: raw_shop
    tables: [{name: sales, identifier: orders, columns: [{name: id, data_tests: [unique]}]}]
"""
    models = {"m": "select * from {{ source('erp', 'sales') }}", "sources.yml": sources}
    models["n"] = "select * from {{ source('shop', 'customers') }}"
    project = make_project(f"release: {{select: m n}}\n{SOURCES}", FILES, models)
    published(project.run())
    generated = (project.config.root / "transform" / "models" / "_smoll_sources.yml").read_text()
    assert ("customers" in generated, '"orders"' in generated) == (True, False)
    edit(project, "data/orders.csv", "id,customer_id,amount\n1,1,1\n1,1,1\n")
    result = project.run("source:erp+")
    assert [str(stream.ref) for stream in result.streams] == ["shop.orders"]
    assert "source_unique_erp_sales_id" in refused(result)


def test_the_users_profile_gives_schema_and_settings_and_nothing_that_moves_the_warehouse(
    make_project: MakeProject,
) -> None:
    profile = """\
tests:
  target: prod
  outputs:
    prod:
      type: duckdb
      path: elsewhere.duckdb
      database: other
      schema: analytics
      settings: {default_null_order: nulls_first, memory_limit: 99GB}
      attach: [{path: other.duckdb}]
"""
    model = "select current_setting('default_null_order') as o, current_setting('memory_limit') as m"
    models = {"m": "{{ config(materialized='table') }} " + model}
    project = make_project("resources: {memory: 400MB}\n", {"transform/profiles.yml": profile}, models)
    published(project.run())
    ((order, memory),) = released(project, "select o, m from analytics.m")
    assert (order.lower(), memory) == ("nulls_first", "128.0 MiB")
    assert not list(project.config.root.rglob("elsewhere.duckdb"))
    assert not list(project.config.root.rglob("other.duckdb"))


def test_env_var_reads_the_env_file(make_project: MakeProject) -> None:
    models = {"m": "select '{{ env_var('GREETING') }}' as x, '{{ env_var('MISSING', 'default') }}' as y"}
    project = make_project("", {".env": "GREETING=hello\n"}, models)
    published(project.run())
    assert released(project, "select x, y from main.m") == [("hello", "default")]


def _failed(result: RunResult) -> str:
    assert (result.status, result.exit_code) == ("failed", 1), result
    assert result.release.status not in ("published", "staged")
    return result.error + "".join(node.message for node in result.nodes)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("transform/packages.yml", "packages: [{package: dbt-labs/dbt_utils, version: 1.3.0}]\n", "dbt deps"),
        ("transform/models/broken.sql", "select {{ ref('orders' }}", "broken"),
        ("transform/models/broken.sql", "select * from {{ ref('nothing') }}", "nothing"),
        ("transform/models/broken.sql", "selec 1", "syntax error"),
        ("transform/models/broken.yml", "models: [{name: orders", "broken.yml"),
        ("transform/models/broken.sql", "select '{{ env_var('NOT_SET_ANYWHERE') }}'", "NOT_SET_ANYWHERE"),
        ("transform/dbt_project.yml", "name: [1\n", "dbt_project.yml"),
        ("transform/dbt_project.yml", "version: 1\n", "dbt_project.yml"),
    ],
)
def test_a_project_that_is_wrong_fails_with_the_place_and_leaves_readers_alone(
    make_project: MakeProject, name: str, text: str, told: str
) -> None:
    shop = make_shop(make_project)
    published(shop.run())
    good = (shop.config.root / name).read_text() if (shop.config.root / name).exists() else None
    edit(shop, name, text)
    assert told in _failed(shop.run())
    assert current(shop) == 1
    if good is None:
        (shop.config.root / name).unlink()
    else:
        edit(shop, name, good)
    assert shop.run().status == "ok"


def test_a_failing_hook_fails_the_run(make_project: MakeProject) -> None:
    project = make_project("", {}, {"m": "select 1 as x"})
    edit(project, "transform/dbt_project.yml", "name: tests\nprofile: other\non-run-end: ['select no_such_column']\n")
    result = project.run()
    assert (result.status, result.release.status) == ("failed", "none")
    assert [(node.kind, node.status) for node in result.nodes] == [("model", "success"), ("operation", "error")]
    assert "no_such_column" in result.nodes[1].message
    edit(project, "transform/dbt_project.yml", "name: tests\nprofile: other\n")
    assert published(project.run("m")) == 1


def test_a_view_that_cannot_be_computed_fails_the_run(make_project: MakeProject) -> None:
    project = make_project("", {}, {"m": "{{ config(materialized='view') }} select error('too bad') as x"})
    assert "too bad" in _failed(project.run())


# --- selection


def _did(result: RunResult) -> tuple[list[str], list[str]]:
    return sorted(str(stream.ref) for stream in result.streams), sorted(node.name for node in result.nodes)


def test_selection_is_dbts_and_a_source_node_loads_its_stream(make_project: MakeProject) -> None:
    shop = make_shop(make_project)
    published(shop.run())
    both = ["shop.customers", "shop.orders"]
    assert _did(shop.run("source:shop+")) == (both, ["customers", "orders", "stg_orders"])
    assert _did(shop.run("source:shop.orders+")) == (both[1:], ["orders", "stg_orders"])
    assert _did(shop.run("source:shop.orders")) == (both[1:], [])
    assert _did(shop.run("orders")) == ([], ["orders"])
    assert _did(shop.run("+orders")) == (both[1:], ["orders", "stg_orders"])
    assert _did(shop.run("path:models/marts")) == ([], ["customers", "orders"])
    assert _did(shop.run(exclude="source:shop.customers+")) == (both[1:], ["stg_orders", "orders"][::-1])
    assert _did(shop.run("orders customers", exclude="customers")) == ([], ["orders"])


def test_reload_loads_a_stream_anew_though_it_is_not_selected(make_project: MakeProject) -> None:
    config = SOURCES.replace("orders: data/orders.csv", "orders: {path: data/orders.csv, mode: append}")
    shop = make_project(config, FILES, MODELS)
    published(shop.run())
    assert [stream.status for stream in shop.run().streams] == ["unchanged", "unchanged"]
    result = shop.run("customers", reload=["shop.orders"])
    assert [(str(stream.ref), stream.status, stream.rows) for stream in result.streams] == [
        ("shop.orders", "loaded", 2)
    ]
    assert raw(shop, "select count(*) from raw_shop.orders") == [(2,)]


def test_a_reload_or_selection_that_cannot_be_is_wrong_usage_and_changes_nothing(make_project: MakeProject) -> None:
    shop = make_shop(make_project)
    published(shop.run())
    with pytest.raises(UsageError, match=r"There are: shop.customers, shop.orders"):
        shop.run(reload=["shop.nothing"])
    with pytest.raises(UsageError, match="no_such_model"):
        shop.run("no_such_model")
    with pytest.raises(UsageError, match="selection"):
        shop.run("no_such_method:x")
    with pytest.raises(UsageError, match="names nothing"):
        shop.run("--full-refresh")
    assert current(shop) == 1


def test_a_default_selector_is_what_a_plain_run_builds_and_judges(make_project: MakeProject) -> None:
    models = {"marts/kept": "select 1 as x", "marts/left": "select 2 as x"}
    project = make_project("release: {select: kept}\n", {}, models)
    selectors = "selectors: [{name: daily, default: true, definition: kept}]\n"
    edit(project, "transform/selectors.yml", selectors)
    result = project.run()
    assert (published(result), [node.name for node in result.nodes]) == (1, ["kept"])
    assert project.run().release.status == "unchanged"


def test_a_release_selection_that_dbt_does_not_know_is_told_before_anything_is_built(
    make_project: MakeProject,
) -> None:
    project = make_project("release: {select: 'no_such_method:x'}\n", {}, {"m": "select 1 as x"})
    result = project.run()
    assert (result.status, result.nodes) == ("failed", ())
    for part in ("smoll.yml:", "no_such_method"):
        assert part in result.error
        assert any(part in finding.message for finding in project.check() if finding.level == "error")


def test_a_selection_that_names_nothing_is_wrong_usage(make_project: MakeProject) -> None:
    project = make_project("", {}, {"m": "select 1 as x"})
    with pytest.raises(UsageError, match="names nothing"):
        project.run("no_such_model")


def test_a_released_view_is_computed_under_the_settings_of_the_profile(make_project: MakeProject) -> None:
    models = {"m": "{{ config(materialized='view') }} select 1.0::double / v as ratio from (values (0)) t(v)"}
    project = make_project("", {}, models)
    profile = "tests: {target: t, outputs: {t: {type: duckdb, settings: {ieee_floating_point_ops: false}}}}\n"
    edit(project, "transform/profiles.yml", profile)
    published(project.run())
    assert released(project, "select ratio from m") == [(None,)]


def test_a_key_without_a_value_and_a_key_given_twice_are_dbts_business(make_project: MakeProject) -> None:
    twice = "models: [{name: m, description: one}]\nsources: []\n"
    project = make_project("", {}, {"m": "select 1 as x", "m.yml": twice.replace("one}", "one, description: two}")})
    edit(project, "transform/profiles.yml", "tests: {target: t, outputs: {t: {type: duckdb, settings: }}}\n")
    assert published(project.run()) == 1


def test_check_leaves_the_generated_file_as_it_was(make_project: MakeProject) -> None:
    project = make_project(SOURCES, FILES, {"m": "select 1 as x"})
    before = {path: path.read_bytes() for path in project.config.root.rglob("*") if path.is_file()}
    assert all(finding.level != "error" for finding in project.check())
    assert {path: path.read_bytes() for path in project.config.root.rglob("*") if path.is_file()} == before
