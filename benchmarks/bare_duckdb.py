"""The least that loads a CSV file: DuckDB alone. Without a file it only starts.

Run as: bare_duckdb.py DATABASE [CSV [MEMORY_LIMIT]]
"""

import sys

import duckdb

with duckdb.connect(sys.argv[1]) as connection:
    if len(sys.argv) > 3:
        connection.execute(f"SET memory_limit = '{sys.argv[3]}'")
    if len(sys.argv) > 2:
        connection.execute(f"CREATE TABLE flights AS FROM read_csv('{sys.argv[2]}', nullstr = ['', 'NA'])")
