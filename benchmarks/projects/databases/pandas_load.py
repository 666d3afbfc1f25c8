"""A table of Postgres into DuckDB by chunks of pandas, as many blog posts do it.

Run as: pandas_load.py DATABASE URL TABLE
"""

import sys

import duckdb
import pandas
import sqlalchemy

database, url, table = sys.argv[1:]
engine = sqlalchemy.create_engine(url)
with duckdb.connect(database) as target, engine.connect().execution_options(stream_results=True) as source:
    for number, chunk in enumerate(pandas.read_sql(f"SELECT * FROM {table}", source, chunksize=100_000)):  # noqa: B007
        if number == 0:
            target.execute("CREATE TABLE flights AS SELECT * FROM chunk")
        else:
            target.execute("INSERT INTO flights SELECT * FROM chunk")
