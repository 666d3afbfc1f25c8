"""The loader of the Dagster project that create-dagster scaffolds; it goes into defs/."""

import os

import duckdb
from dagster import AssetKey, asset


@asset(key=AssetKey(["nyc", "flights"]))
def flights() -> None:
    with duckdb.connect(os.environ["FLIGHTS_DATABASE"]) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw_nyc")
        connection.execute(
            f"""CREATE OR REPLACE TABLE raw_nyc.flights AS
            FROM read_csv('{os.environ["FLIGHTS_CSV"]}', nullstr = ['', 'NA'])"""
        )
