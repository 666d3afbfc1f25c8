"""A table of Postgres into DuckDB by dlt's own source for databases, by Arrow.

Run as: dlt_load.py DATABASE URL TABLE
"""

import sys

import dlt
from dlt.sources.sql_database import sql_table

database, url, table = sys.argv[1:]
rows = sql_table(url, table=table, backend="pyarrow", chunk_size=100_000)
pipeline = dlt.pipeline("flights", destination=dlt.destinations.duckdb(database), dataset_name="raw")
pipeline.run(rows, table_name="flights", write_disposition="replace", loader_file_format="parquet")
