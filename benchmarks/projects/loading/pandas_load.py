"""A file into DuckDB by chunks of pandas, as many blog posts do it.

Run as: pandas_load.py DATABASE FILE
"""

import sys

import duckdb
import pandas

database, path = sys.argv[1], sys.argv[2]
ROWS = 100_000

with duckdb.connect(database) as connection:
    if path.endswith(".parquet"):
        chunks = iter([pandas.read_parquet(path)])
    elif ".ndjson" in path:
        chunks = pandas.read_json(path, lines=True, chunksize=ROWS)
    else:
        chunks = pandas.read_csv(path, chunksize=ROWS)
    for number, chunk in enumerate(chunks):  # noqa: B007 - DuckDB finds it by its name
        if number == 0:
            connection.execute("CREATE TABLE flights AS SELECT * FROM chunk")
        else:
            connection.execute("INSERT INTO flights SELECT * FROM chunk")
