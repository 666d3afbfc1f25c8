"""A project as Dagster sees and runs it, through Dagster's own interface."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

import smoll
from graph_support import (
    FILES,
    MODELS,
    TESTS,
    YML,
    checked,
    define,
    failures,
    last_run,
    materialized,
    metadata,
    run,
)
from support import MakeProject, released, reopen, write

STREAMS = ["shop/orders", "shop/customers", "web/visits"]
STAGING = ["stg_orders", "stg_customers"]
MARTS = ["revenue", "page_views"]
RELEASE = "tests/release"
CHECKS = {
    "unique_stg_orders_id": True,
    "not_null_stg_orders_amount": True,
    "relationships_revenue_customer__id__ref_stg_customers_": True,
    "no_negative_amount": True,
}


@pytest.fixture
def project(make_project: MakeProject) -> smoll.Project:
    return make_project(YML, FILES, MODELS, TESTS)


def spec_of(defs: dg.Definitions, name: str) -> dg.AssetSpec:
    found = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    return found[name]


def test_the_graph(project: smoll.Project) -> None:
    """Keys, groups, owners, tags, kinds and what depends on what, without a word of configuration."""
    defs = define(project)
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert set(specs) == {*STREAMS, *STAGING, *MARTS, RELEASE, "dashboard/board"}  # an ephemeral model is no asset
    above = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()}
    assert above["stg_orders"] == {"shop/orders"} and above["revenue"] == {"stg_orders"}
    assert above["page_views"] == {"web/visits"}  # through the model that is only text
    assert above[RELEASE] == {"revenue", "page_views"} and above["dashboard/board"] == {RELEASE}
    assert {name: spec.group_name for name, spec in specs.items()} == {
        **dict.fromkeys(["shop/orders", "shop/customers"], "shop"), "web/visits": "web",
        "stg_orders": "sales", "stg_customers": "staging", **dict.fromkeys(MARTS, "marts"),
        RELEASE: "tests", "dashboard/board": "exposures",
    }  # fmt: skip
    orders, revenue = specs["stg_orders"], specs["revenue"]
    assert orders.description == "Orders as they came." and orders.owners == ["sales@example.com"]
    assert revenue.owners == ["ann@example.com"]
    assert {"daily", "with_space"} <= set(orders.tags) and {"dbt", "duckdb", "view"} <= orders.kinds
    assert specs["shop/orders"].kinds == {"files", "duckdb"}
    assert specs["shop/orders"].metadata["dagster/table_name"] == "raw_shop.orders"
    assert specs["dashboard/board"].metadata["smoll/url"].value == "https://example.com/board"
    assert str(project.config.root / "transform/models/marts/revenue.sql") == revenue.metadata["smoll/file"].value
    checks = {key.name: key.asset_key.to_user_string() for key in defs.resolve_asset_graph().asset_check_keys}
    assert checks == {**dict.fromkeys(CHECKS, "stg_orders"), list(CHECKS)[2]: "revenue"}


def test_the_whole(project: smoll.Project) -> None:
    result = run(define(project), job="tests")
    assert result.success, failures(result)
    assert set(materialized(result)) == {*STREAMS, *STAGING, *MARTS, RELEASE}
    assert checked(result) == CHECKS
    assert released(project, "select * from main.revenue order by customer") == [(1, 30), (2, 5)]
    entry = last_run(project)
    assert entry.status == "ok" and entry.origin == f"dagster:{result.run_id}"
    assert f"Dagster run {result.run_id[:8]} (tests)" in entry.select
    orders = metadata(result, "shop/orders")
    assert orders["dagster/row_count"] == 3 and orders["smoll/run"] == 1 and orders["smoll/rows_read"] == 3
    assert [(c.name, c.type) for c in orders["dagster/column_schema"].columns][:2] == [
        ("id", "BIGINT"),
        ("customer", "BIGINT"),
    ]
    revenue = metadata(result, "revenue")
    assert revenue["dagster/row_count"] == 2
    total = revenue["dagster/column_lineage"].deps_by_column["total"]
    assert [(dep.asset_key.to_user_string(), dep.column_name) for dep in total] == [("stg_orders", "amount")]
    views = metadata(result, "page_views")["dagster/column_lineage"].deps_by_column["page"]
    assert [(dep.asset_key.to_user_string(), dep.column_name) for dep in views] == [("web/visits", "page")]
    release = metadata(result, RELEASE)
    assert release["smoll/release"] == 1 and release["smoll/status"] == "published"
    again = run(define(project), job="tests")
    assert metadata(again, RELEASE)["smoll/status"] == "unchanged"


def test_dashboards(project: smoll.Project) -> None:
    """They come of the release, and are made with it."""
    page = "---\ntitle: The board\ndescription: What comes in.\n---\nNothing yet.\n"
    write(project.config.root, {"dashboards/the-board.md": page})
    defs = define(project)
    spec = spec_of(defs, "tests/dashboards/the_board")
    assert [dep.asset_key.to_user_string() for dep in spec.deps] == [RELEASE]
    assert spec.description == "The board. What comes in." and spec.group_name == "dashboards"
    instance = dg.DagsterInstance.ephemeral()
    for _ in range(2):  # the second time there is no new release
        result = run(defs, job="tests", instance=instance)
        assert result.success, failures(result)
        (made,) = instance.fetch_materializations(spec.key, limit=9).records
        assert made.asset_materialization is not None
        assert {name: said.value for name, said in made.asset_materialization.metadata.items()} == {
            "smoll/run": 1,
            "smoll/release": 1,
        }


def test_a_part(project: smoll.Project) -> None:
    """What is chosen runs, and nothing else."""
    defs = define(project)
    alone = run(defs, ["shop/customers"])
    assert alone.success and materialized(alone) == ["shop/customers"] and checked(alone) == {}
    assert [str(stream.ref) for stream in last_run(project).streams] == ["shop.customers"]
    chosen = run(defs, ["shop/orders", "stg_orders", "revenue"])
    assert not chosen.success and "stg_customers" in failures(chosen)  # its test looks at a model that is not there
    assert run(defs, ["stg_customers"]).success
    chosen = run(defs, ["shop/orders", "stg_orders", "revenue"])
    assert chosen.success, failures(chosen)
    assert set(materialized(chosen)) == {"shop/orders", "stg_orders", "revenue"} and checked(chosen) == CHECKS
    assert {node.name for node in last_run(project).nodes} == {"stg_orders", "revenue"}
    refused = run(defs, [RELEASE])
    assert not refused.success and "page_views has not been built yet" in failures(refused)
    assert reopen(project).releases() == ()
    assert run(defs, ["web/visits", "page_views", RELEASE]).success
    assert reopen(project).release().manifest.number == 1


def test_a_name_that_is_a_folder_too(make_project: MakeProject) -> None:
    """dbt's own selection would take the folder's models along."""
    models = {"marts": "select 1 as a", "marts/other": "select 2 as b", "marts/deep/marts_too": "select 3 as c"}
    project = make_project("sources: {}", {}, models)
    result = run(define(project), ["marts"])
    assert result.success, failures(result)
    assert [node.name for node in last_run(project).nodes] == ["marts"]


def test_a_project_that_changed_since_it_was_loaded(project: smoll.Project) -> None:
    defs = define(project)
    (project.config.root / "transform/models/marts/page_views.sql").unlink()
    schema = project.config.root / "transform/models/schema.yml"
    schema.write_text(schema.read_text().replace("  - name: page_views\n", ""))
    result = run(defs)
    assert not result.success and "model.tests.page_views is not there any more" in failures(result)
    assert "Reload the definitions" in failures(result)


def test_everything_anew(project: smoll.Project) -> None:
    """As `smoll run --reload`, and `--full-refresh`."""
    defs = define(project)
    assert run(defs).success
    anew = {"ops": {"tests_load": {"config": {"reload": True}}, "tests_build": {"config": {"full_refresh": True}}}}
    result = run(defs, run_config=anew)
    assert result.success, failures(result)
    assert metadata(result, "shop/orders")["smoll/rows_written"] == 3


def test_no_secret_reaches_dagster(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "geheim-geheim")
    yml = (
        "sources:\n  shop: {kind: sql, url: 'postgresql://me:${SHOP_PASSWORD}@127.0.0.1:1/geheim-geheim', "
        "streams: {orders: {}}}\n"
    )
    project = make_project(yml)
    instance = dg.DagsterInstance.ephemeral()
    result = run(define(project), instance=instance)
    assert not result.success and "shop.orders" in failures(result)
    assert "geheim" not in str(instance.all_logs(result.run_id))


def test_a_failing_check_blocks(project: smoll.Project) -> None:
    assert run(define(project)).success
    write(project.config.root, {"data/orders.csv": "id,customer,amount\n1,1,10\n1,1,20\n3,2,-5\n"})
    result = run(define(project))
    assert not result.success
    assert checked(result)["unique_stg_orders_id"] is False
    by_name = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert by_name["unique_stg_orders_id"].severity == dg.AssetCheckSeverity.ERROR
    assert by_name["unique_stg_orders_id"].metadata["smoll/failures"].value == 1
    assert "revenue" not in materialized(result) and RELEASE not in materialized(result)
    assert last_run(project).status == "failed"
    assert reopen(project).release().manifest.number == 1
    assert released(project, "select * from main.revenue order by customer") == [(1, 30), (2, 5)]


def test_a_warning_does_not_block(project: smoll.Project) -> None:
    write(project.config.root, {"data/orders.csv": "id,customer,amount\n1,1,10\n2,1,\n3,2,5\n"})
    result = run(define(project))
    assert result.success, failures(result)
    warned = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [(w.check_name, w.severity) for w in warned] == [("not_null_stg_orders_amount", dg.AssetCheckSeverity.WARN)]
    assert RELEASE in materialized(result)


def test_a_check_of_two_models_is_told_whichever_is_built(project: smoll.Project) -> None:
    """It belongs to one of them; built with the other it runs as well, as the release wants it."""
    defs, instance = define(project), dg.DagsterInstance.ephemeral()
    assert run(defs, instance=instance).success
    result = run(defs, ["stg_customers"], instance=instance)
    assert result.success and checked(result) == {}
    key = dg.AssetCheckKey(dg.AssetKey("revenue"), "relationships_revenue_customer__id__ref_stg_customers_")
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert len(records) == 2
    assert run(defs, [RELEASE], instance=instance).success


def test_checks_alone(project: smoll.Project) -> None:
    defs = define(project)
    assert run(defs).success
    key = dg.AssetCheckKey(dg.AssetKey("stg_orders"), "unique_stg_orders_id")
    job = dg.define_asset_job("just_one", selection=dg.AssetSelection.checks(key))
    result = run(dg.Definitions.merge(defs, dg.Definitions(jobs=[job])), job="just_one")
    assert result.success, failures(result)
    assert checked(result) == {"unique_stg_orders_id": True} and materialized(result) == []
    assert last_run(project).nodes == ()


def test_a_check_that_was_left_out_is_not_run(project: smoll.Project) -> None:
    defs = define(project)
    assert run(defs).success
    only = dg.AssetSelection.assets("stg_orders") - dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("stg_orders"), "unique_stg_orders_id")
    )
    result = run(
        dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("some", selection=only)])), job="some"
    )
    assert result.success and "unique_stg_orders_id" not in checked(result)
    assert "unique_stg_orders_id" not in {check.name for check in last_run(project).checks}
    refused = run(defs, [RELEASE])
    assert not refused.success and "unique_stg_orders_id" in failures(refused)


def test_a_source_that_failed_is_run_again_alone(project: smoll.Project) -> None:
    """From Dagster's "from failure" of assets: what has come is not loaded again."""
    orders = project.config.root / "data/orders.csv"
    text = orders.read_text()
    orders.unlink()
    defs, instance = define(project), dg.DagsterInstance.ephemeral()
    first = run(defs, instance=instance)
    assert not first.success and "shop.orders" in failures(first)
    assert set(materialized(first)) == {"shop/customers", "web/visits"}
    write(project.config.root, {"data/orders.csv": text})
    left = sorted({*STREAMS, *STAGING, *MARTS, RELEASE} - set(materialized(first)))
    second = run(defs, left, instance=instance)
    assert second.success, failures(second)
    assert [str(stream.ref) for stream in last_run(project).streams] == ["shop.orders"]
    assert reopen(project).release().manifest.number == 1


def test_a_source_is_tried_again_as_often_as_it_says(project: smoll.Project) -> None:
    """The source's own retries work in Dagster, too: nothing of Dagster's is needed for them."""
    yml = YML.replace("kind: files\n", "kind: files\n    retries: {count: 1, delay: 1 second}\n", 1)
    project = reopen(project, yml)
    (project.config.root / "data/orders.csv").unlink()
    result = run(define(project))
    assert not result.success
    assert "tried 2 times" in " ".join(note for stream in last_run(project).streams for note in stream.notes)


def test_freshness_of_a_source_is_dagsters(make_project: MakeProject) -> None:
    sources = (
        "sources: [{name: s, schema: raw_shop, freshness: {warn_after: {count: 12, period: hour}, "
        "error_after: {count: 1, period: day}}, loaded_at_field: at, tables: [{name: orders, meta: "
        "{dagster: {asset_key: [my, orders]}}}]}]"
    )
    models = {"m": "select * from {{ source('s', 'orders') }}", "sources.yml": sources}
    project = make_project(YML.split("  web")[0], FILES, models)
    spec = spec_of(define(project), "my/orders")  # the key that dbt's source says
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=1), warn_window=timedelta(hours=12)
    )
    assert {dep.asset_key for dep in spec_of(define(project), "m").deps} == {dg.AssetKey(["my", "orders"])}


def test_a_project_without_dbt(make_project: MakeProject) -> None:
    project = make_project(YML.split("release")[0], FILES)
    defs = define(project)
    assert {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()} == set(STREAMS)
    result = run(defs)
    assert result.success and set(materialized(result)) == set(STREAMS)


def test_a_project_that_is_wrong_says_so(make_project: MakeProject) -> None:
    project = make_project(YML, FILES, {"m": "select {{ nothing( }}"})
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="dbt cannot parse the project"):
        define(project)
    write(project.config.root, {"smoll.yml": "name: x\nsauces: {}\n"})
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"smoll.yml:2.*sauces"):
        define(project)


def test_merged_with_other_definitions(project: smoll.Project) -> None:
    @dg.asset(deps=["revenue"])
    def mail() -> None: ...

    both = dg.Definitions.merge(define(project), dg.Definitions(assets=[mail]))
    result = run(both)
    assert result.success and {"mail", "revenue", RELEASE} <= set(materialized(result))


def test_nothing_of_it_is_imported_by_a_run(project: smoll.Project) -> None:
    import subprocess
    import sys

    script = (
        "import sys, smoll; smoll.open_project(sys.argv[1]).run(); "
        "sys.exit(any(name.split('.')[0] == 'dagster' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script, str(project.config.root)]).returncode == 0


OWN_CHECKS = """
checks:
  - {kind: range, table: revenue, column: total, max: 10}
  - {kind: rows, table: page_views, min: 5, severity: warn}
  - {kind: reconciliation, table: shop.orders}
  - {kind: references, table: web.visits, columns: customer, to: stg_customers, to_columns: id}
"""


def test_checks_of_smolls_own(make_project: MakeProject) -> None:
    """They are asset checks of models and streams; one that fails keeps the release back, a warning does not."""
    project = make_project(YML + OWN_CHECKS, FILES, MODELS, TESTS)
    defs = define(project)
    keys = {key.name: key.asset_key.to_user_string() for key in defs.resolve_asset_graph().asset_check_keys}
    own = {
        "range_revenue_total": "revenue", "rows_page_views": "page_views", "reconciliation_shop_orders": "shop/orders",
        "references_web_visits_stg_customers_customer": "stg_customers",  # which must be there
    }  # fmt: skip
    assert {name: keys[name] for name in own} == own
    result = run(defs, job="tests")
    assert not result.success and RELEASE not in materialized(result)
    found = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert {name for name, one in found.items() if not one.passed} == {"range_revenue_total", "rows_page_views"}
    assert found["range_revenue_total"].severity == dg.AssetCheckSeverity.ERROR
    assert found["rows_page_views"].severity == dg.AssetCheckSeverity.WARN
    assert found["range_revenue_total"].description == "1 of 2 values are above 10 (50%), none may be"
    assert found["rows_page_views"].metadata["smoll/failures"].value == 1
    mended = reopen(project, (YML + OWN_CHECKS).replace("max: 10", "max: 30"))
    result = run(define(mended), job="tests")
    assert result.success and RELEASE in materialized(result), failures(result)
    alone = run(define(mended), ["revenue"])
    assert alone.success and "range_revenue_total" in checked(alone) and "rows_page_views" not in checked(alone)
