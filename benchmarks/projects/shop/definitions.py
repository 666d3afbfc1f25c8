"""The shop as a plain Dagster project: an asset that loads the file, and the dbt project as dagster-dbt has it."""

import os
from pathlib import Path

import duckdb
from dagster import AssetExecutionContext, AssetKey, Definitions, asset
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

HERE = Path(__file__).resolve().parent
project = DbtProject(project_dir=HERE / "transform", profiles_dir=HERE / "profiles")


@asset(key=AssetKey(["shop", "orders"]))
def orders() -> None:
    with duckdb.connect(os.environ["SHOP_DATABASE"]) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw_shop")
        connection.execute(
            f"CREATE OR REPLACE TABLE raw_shop.orders AS FROM read_csv('{HERE / 'data' / 'orders.csv'}')"
        )


@dbt_assets(manifest=project.manifest_path)
def models(context: AssetExecutionContext, dbt: DbtCliResource):
    yield from dbt.cli(["build"], context=context).stream()


defs = Definitions(assets=[orders, models], resources={"dbt": DbtCliResource(project_dir=project)})
