"""Refuse, never mix: a release is made of one state of the warehouse in which every check has passed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import smoll
from run.shop import BAD_ORDERS, GOOD_ORDERS, current, edit, make_shop, obey, published, refused, remedies
from support import MakeProject, released

NOT_NULL = "not_null_orders_amount"
SUM = "select sum(amount) from main.orders"


@pytest.fixture
def shop(make_project: MakeProject) -> smoll.Project:
    """A shop with release 1."""
    project = make_shop(make_project)
    assert published(project.run()) == 1
    return project


def test_a_failing_check_refuses_this_run_and_every_later_one_until_it_is_mended(shop: smoll.Project) -> None:
    edit(shop, "data/orders.csv", BAD_ORDERS)
    second = shop.run()
    assert refused(second)[NOT_NULL].startswith("failed in run 2")
    assert second.status == "failed"
    assert (current(shop), released(shop, SUM)) == (1, [(30,)])

    third = shop.run("customers")
    assert refused(third)[NOT_NULL].startswith("failed in run 2")
    assert third.status == "refused"
    assert [check.status for check in third.checks if check.name == NOT_NULL] == []
    assert (current(shop), released(shop, SUM)) == (1, [(30,)])

    edit(shop, "data/orders.csv", GOOD_ORDERS)
    assert current(shop) == 1, "mending the file alone changes nothing"
    assert NOT_NULL in refused(shop.run("customers"))
    (remedy,) = remedies(third)
    assert published(obey(shop, remedy)) == 2
    assert released(shop, SUM) == [(60,)]


def test_the_run_ledger_keeps_the_refusal(shop: smoll.Project) -> None:
    edit(shop, "data/orders.csv", BAD_ORDERS)
    result = shop.run()
    assert shop.run_record(2).release.refusals == result.release.refusals != ()


def test_the_mended_model_alone_releases_where_the_rest_was_built_well(shop: smoll.Project) -> None:
    edit(
        shop,
        "transform/models/marts/orders.sql",
        "{{ config(materialized='table') }} select 1 id, 1 customer_id, null::int amount",
    )
    assert NOT_NULL in refused(shop.run("orders"))
    edit(
        shop,
        "transform/models/marts/orders.sql",
        "{{ config(materialized='table') }} select 1 id, 1 customer_id, 5 amount",
    )
    assert published(shop.run("orders")) == 2


def test_loading_alone_makes_the_checks_on_views_stale(make_project: MakeProject) -> None:
    shop = make_shop(
        make_project,
        **{"staging/staging.yml": "models: [{name: stg_orders, columns: [{name: id, data_tests: [unique]}]}]"},
    )
    published(shop.run())
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    reasons = refused(shop.run("source:shop.orders", exclude="stg_orders orders"))
    assert reasons == {"unique_stg_orders_id": "has not run since run 2, which changed stg_orders"}
    assert current(shop) == 1


def test_loading_what_only_tables_are_built_of_changes_no_answer(shop: smoll.Project) -> None:
    edit(shop, "data/customers.csv", "id,name\n1,Ada\n2,Bobby\n")
    result = shop.run("source:shop.customers", exclude="test_type:generic")
    assert (result.status, result.release.status) == ("ok", "unchanged")


def test_a_view_that_is_released_follows_its_source(make_project: MakeProject) -> None:
    view = "{{ config(materialized='view') }} select * from {{ source('shop', 'orders') }}"
    shop = make_shop(make_project, marts__orders=view)
    published(shop.run())
    edit(shop, "data/orders.csv", BAD_ORDERS)
    reasons = refused(shop.run("source:shop.orders"))
    assert reasons[NOT_NULL] == "has not run since run 2, which changed orders"
    assert released(shop, "select count(*) from main.orders") == [(2,)]


def test_a_model_that_failed_to_build_refuses_later_runs(shop: smoll.Project) -> None:
    good = "{{ config(materialized='table') }} select 1 id, 1 customer_id, 5 amount"
    edit(shop, "transform/models/marts/orders.sql", "{{ config(materialized='table') }} select no_such_column")
    second = shop.run("orders")
    assert (second.status, second.exit_code, second.release.status) == ("failed", 1, "refused")
    third = shop.run("customers")
    assert "was not built in run 2: " in refused(third)["orders"]
    assert "no_such_column" in refused(third)["orders"]
    edit(shop, "transform/models/marts/orders.sql", good)
    assert published(shop.run(remedies(third)[0].split('"')[1])) == 2


def test_a_model_without_checks_that_was_skipped_refuses_until_it_is_built(make_project: MakeProject) -> None:
    shop = make_shop(
        make_project, marts__totals="{{ config(materialized='table') }} select sum(amount) s from {{ ref('orders') }}"
    )
    published(shop.run())
    edit(shop, "data/orders.csv", BAD_ORDERS)
    refused(shop.run())
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    reasons = refused(shop.run("+orders"))
    assert reasons == {"totals": "was not built in run 2: something that it is built from failed"}
    assert published(shop.run("totals")) == 2
    assert released(shop, "select s from main.totals") == [(60,)]


def test_a_new_model_refuses_until_it_is_built(shop: smoll.Project) -> None:
    edit(shop, "transform/models/marts/new.sql", "select 1 as x")
    reasons = refused(shop.run("customers"))
    assert reasons == {"new": "has not been built yet"}
    assert published(shop.run("new")) == 2


def test_a_new_or_edited_check_refuses_until_it_has_run(shop: smoll.Project) -> None:
    edit(shop, "transform/tests/positive.sql", "select * from {{ ref('orders') }} where amount < 0")
    assert refused(shop.run("customers")) == {"positive": "has not run since what it checks was built or loaded"}
    assert shop.run("positive").status == "ok"
    edit(shop, "transform/tests/positive.sql", "select * from {{ ref('orders') }} where amount <= 0")
    assert refused(shop.run("customers")) == {"positive": "was changed after it ran in run 3"}
    assert shop.run("positive").release.status == "unchanged"


def test_an_edited_argument_of_a_check_counts_as_a_new_check(make_project: MakeProject) -> None:
    test = "{{accepted_values: {{arguments: {{values: {}}}}}}}"
    yml = f"models: [{{{{name: orders, columns: [{{{{name: id, data_tests: [{test}]}}}}]}}}}]"
    shop = make_shop(make_project, **{"marts/more.yml": yml.format("[1, 2]")})
    edit(shop, "transform/models/marts/marts.yml", "")
    published(shop.run())
    edit(shop, "transform/models/marts/more.yml", yml.format("[1]"))
    (name,) = refused(shop.run("customers"))
    assert name.startswith("accepted_values_orders_id")
    assert refused(shop.run())[name].startswith("failed in run 3")


def test_a_check_of_severity_warn_never_refuses(shop: smoll.Project) -> None:
    edit(shop, "transform/tests/odd.sql", "{{ config(severity='warn') }} select * from {{ ref('orders') }}")
    assert shop.run("customers").status == "ok", "it has not run"
    result = shop.run()
    assert (result.status, result.release.status) == ("ok", "unchanged")
    assert [(check.status, check.failures) for check in result.checks if check.name == "odd"] == [("warn", 2)]


def test_a_warning_that_becomes_an_error_refuses(shop: smoll.Project) -> None:
    edit(shop, "transform/tests/odd.sql", "{{ config(severity='warn') }} select * from {{ ref('orders') }}")
    shop.run()
    edit(shop, "transform/tests/odd.sql", "select * from {{ ref('orders') }}")
    assert list(refused(shop.run("customers"))) == ["odd"]


def test_a_check_on_something_that_is_not_released_nor_behind_it_does_not_refuse(make_project: MakeProject) -> None:
    shop = make_shop(
        make_project,
        staging__aside="select null as x",
        **{"staging/aside.yml": "models: [{name: aside, columns: [{name: x, data_tests: [not_null]}]}]"},
    )
    result = shop.run()
    assert (result.status, result.release.status) == ("failed", "published")
    assert result.exit_code == 1, "the shell hears of it all the same"


def test_a_test_that_names_no_model_may_look_at_any(shop: smoll.Project) -> None:
    edit(shop, "transform/tests/blind.sql", "select * from main.orders where amount > 100")
    edit(shop, "data/orders.csv", GOOD_ORDERS.replace("30", "300"))
    assert refused(shop.run())["blind"].startswith("failed in run 2")
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    assert "blind" in refused(shop.run("+orders", exclude="blind"))
    assert published(shop.run()) == 2


def test_a_view_that_no_longer_fits_what_it_reads_refuses(make_project: MakeProject) -> None:
    table = "{{ config(materialized='table') }} select 1 as id, 2 as v"
    view = "{{ config(materialized='view') }} select v from {{ ref('t') }}"
    project = make_project("", {}, {"t": table, "vw": view})
    published(project.run())
    edit(project, "transform/models/t.sql", table.replace(", 2 as v", ""))
    assert "is a view that cannot be read" in refused(project.run("t"))["vw"]


def test_a_check_on_an_ancestor_refuses(make_project: MakeProject) -> None:
    shop = make_shop(make_project, **{"staging/sources.yml": "version: 2"})
    edit(
        shop, "transform/tests/raw_is_complete.sql", "select * from {{ source('shop', 'orders') }} where amount is null"
    )
    published(shop.run())
    edit(shop, "data/orders.csv", BAD_ORDERS)
    result = shop.run("source:shop.orders")
    assert list(refused(result)) == ["raw_is_complete"]
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    assert published(obey(shop, remedies(result)[0])) == 2


def test_a_unit_test_refuses_as_any_check(make_project: MakeProject) -> None:
    unit = """\
unit_tests:
  - name: keeps_amounts
    model: orders
    given: [{{input: ref('stg_orders'), rows: [{{id: 1, customer_id: 1, amount: 5}}]}}]
    expect: {{rows: [{{id: 1, customer_id: 1, amount: {}}}]}}
"""
    shop = make_shop(make_project, **{"marts/unit.yml": unit.format(5)})
    published(shop.run())
    edit(shop, "transform/models/marts/unit.yml", unit.format(6))
    assert refused(shop.run("customers")) == {"keeps_amounts": "was changed after it ran in run 1"}
    assert refused(shop.run("orders"))["keeps_amounts"].startswith("failed in run 3")
    edit(shop, "transform/models/marts/unit.yml", unit.format(5))
    assert shop.run("orders").status == "ok"


def test_a_unit_test_goes_stale_with_the_code_of_its_model_and_not_with_the_data(make_project: MakeProject) -> None:
    unit = """\
unit_tests:
  - name: keeps_amounts
    model: stg_orders
    given: [{input: "source('shop', 'orders')", rows: [{id: 1, amount: 5}]}]
    expect: {rows: [{id: 1, amount: 5}]}
"""
    staging = "{{ config(materialized='view') }} select id, customer_id, amount from {{ source('shop', 'orders') }}"
    shop = make_shop(make_project, **{"staging/unit.yml": unit, "staging__stg_orders": staging})
    published(shop.run())
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    assert shop.run("source:shop.orders").status == "ok"
    edit(shop, "transform/models/staging/stg_orders.sql", staging + " where true")
    assert refused(shop.run("customers")) == {"keeps_amounts": "was changed after it ran in run 1"}


def test_a_view_that_became_a_table_in_the_code_only_still_follows_its_source(make_project: MakeProject) -> None:
    view = "{{ config(materialized='view') }} select id, name from {{ source('shop', 'customers') }}"
    shop = make_shop(make_project, marts__customers=view)
    published(shop.run())
    edit(shop, "transform/models/marts/customers.sql", view.replace("view", "table"))
    edit(shop, "data/customers.csv", "id,name\n1,Ada\n1,Bob\n")
    assert "unique_customers_id" in refused(shop.run("source:shop.customers"))


def test_a_relationship_is_judged_anew_when_either_side_changes(shop: smoll.Project) -> None:
    edit(shop, "data/customers.csv", "id,name\n1,Ada\n")
    stale = shop.run("+customers", exclude="test_type:generic")
    (name,) = [name for name in refused(stale) if name.startswith("relationships")]
    assert refused(stale)[name] == "has not run since run 2, which changed customers"
    assert refused(shop.run("customers"))[name].startswith("failed in run 3")
    edit(shop, "data/customers.csv", "id,name\n1,Ada\n2,Bob\n3,Eve\n")
    assert published(obey(shop, next(r.remedy for r in stale.release.refusals if r.subject == name))) == 2


def test_the_remedy_for_an_incremental_model_refreshes_it_fully(make_project: MakeProject) -> None:
    shop = make_shop(
        make_project,
        marts__orders="{{ config(materialized='incremental', unique_key='id') }} "
        "select * from {{ ref('stg_orders') }} "
        "{% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}",
    )
    published(shop.run())
    edit(shop, "data/orders.csv", BAD_ORDERS)
    result = shop.run()
    refused(result)
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    assert NOT_NULL in refused(shop.run()), "the model keeps the bad row, so the run is refused still"
    (remedy,) = remedies(result)
    assert remedy == 'smoll run --full-refresh --select "+orders+"'
    assert published(obey(shop, remedy)) == 2


def test_the_remedy_names_an_aliased_model_as_dbt_selects_it(make_project: MakeProject) -> None:
    shop = make_shop(
        make_project,
        marts__orders="{{ config(materialized='table', alias='sales') }} select * from {{ ref('stg_orders') }}",
    )
    published(shop.run())
    assert released(shop, "select count(*) from main.sales") == [(2,)]
    edit(shop, "data/orders.csv", BAD_ORDERS)
    result = shop.run()
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    assert published(obey(shop, remedies(result)[0])) == 2


def test_without_its_ledger_everything_counts_as_not_run(shop: smoll.Project) -> None:
    ledger = shop.config.root / ".smoll" / "ledger.sqlite"
    ledger.unlink()
    reasons = refused(shop.run("customers"))
    assert reasons["orders"] == "has not been built yet"
    assert reasons[NOT_NULL] == "has not run since what it checks was built or loaded"
    result = shop.run()
    assert (result.run, result.status, result.release.status) == (3, "ok", "unchanged")


def _copy(path: Path, name: str) -> Path:
    copy = path.with_name(name)
    shutil.copy2(path, copy)
    return copy


@pytest.mark.parametrize("file", ["warehouse.duckdb", "ledger.sqlite"])
def test_an_older_copy_of_the_warehouse_or_of_the_ledger_makes_everything_count_as_not_run(
    shop: smoll.Project, file: str
) -> None:
    path = shop.config.root / ".smoll" / file
    copy = _copy(path, "copy")
    edit(shop, "data/orders.csv", BAD_ORDERS)
    refused(shop.run())
    copy.replace(path)
    assert refused(shop.run("customers"))["orders"] == "has not been built yet"
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    assert published(shop.run()) == 2


def test_another_warehouse_makes_everything_count_as_not_run(shop: smoll.Project) -> None:
    (shop.config.root / ".smoll" / "warehouse.duckdb").unlink()
    assert refused(shop.run("source:shop.customers+"))["orders"] == "has not been built yet"
    assert current(shop) == 1
    assert shop.run().release.status == "unchanged"


def test_a_run_that_dies_while_it_builds_leaves_what_it_would_have_built_refused(shop: smoll.Project) -> None:
    """The ledger says so before dbt begins; see also the kill suite."""
    from smoll.events import TransformStarted

    def die(event: object) -> None:
        if isinstance(event, TransformStarted):
            raise RuntimeError("as if the machine had stopped here")

    with pytest.raises(RuntimeError):
        shop.run(on_event=die)
    reasons = refused(shop.run("customers"))
    assert reasons["orders"] == "was not built in run 2: the run ended before that"
    assert "customers" not in reasons
    assert shop.run().release.status == "unchanged"


def test_a_failed_load_builds_and_releases_nothing(shop: smoll.Project) -> None:
    (shop.config.root / "data" / "orders.csv").unlink()
    result = shop.run()
    assert (result.status, result.nodes, result.release.status) == ("failed", (), "none")
    assert current(shop) == 1
    assert any("orders.csv" in stream.error for stream in result.streams)
