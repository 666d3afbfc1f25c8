"""The flights by Dagster, dlt and dbt, as their tutorials put them together."""

import os
from pathlib import Path

import dagster as dg
import dlt
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets
from dagster_dlt import DagsterDltResource, DagsterDltTranslator, dlt_assets
from dlt.sources import DltResource
from dlt.sources.filesystem import filesystem, read_csv_duckdb, read_parquet

FOLDER = Path(__file__).parent
DATA = (FOLDER / "data").as_uri()


def csv(name: str) -> DltResource:
    files = filesystem(DATA, file_glob=f"{name}.csv")
    rows = files | read_csv_duckdb(chunk_size=50_000, use_pyarrow=True, na_values=["", "NA"])
    return rows.with_name(name).apply_hints(write_disposition="replace")


@dlt.source(name="nyc")
def nyc():
    files = filesystem(DATA, file_glob="flights/*.csv", incremental=dlt.sources.incremental("modification_date"))
    rows = files | read_csv_duckdb(chunk_size=50_000, use_pyarrow=True, na_values=["", "NA"])
    planes = filesystem(DATA, file_glob="planes.parquet") | read_parquet(chunksize=50_000, use_pyarrow=True)
    return [
        rows.with_name("flights").apply_hints(write_disposition="append"),
        *map(csv, ["weather", "airports", "airlines"]),
        planes.with_name("planes").apply_hints(write_disposition="replace"),
    ]


class Keys(DagsterDltTranslator):
    """As dagster-dbt names the sources, so that the two graphs meet."""

    def get_asset_spec(self, data):
        return super().get_asset_spec(data).replace_attributes(key=dg.AssetKey(["nyc", data.resource.name]), deps=[])


@dlt_assets(
    dlt_source=nyc(),
    dlt_pipeline=dlt.pipeline(
        "nyc", destination=dlt.destinations.duckdb(os.environ["FLIGHTS_DATABASE"]), dataset_name="raw_nyc"
    ),
    name="nyc",
    dagster_dlt_translator=Keys(),
)
def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
    yield from dlt.run(context=context)


project = DbtProject(FOLDER / "transform")
project.prepare_if_dev()


@dbt_assets(manifest=project.manifest_path)
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource):
    yield from dbt.cli(["build"], context=context).stream()


defs = dg.Definitions(
    assets=[load, models],
    jobs=[dg.define_asset_job("flights")],
    resources={"dlt": DagsterDltResource(), "dbt": DbtCliResource(project_dir=project)},
)
