"""The least that copies a table of Postgres: DuckDB's own scanner.

Run as: bare_scan.py DATABASE [URL TABLE]; without a table it only starts.
"""

import sys

import duckdb

from smoll.warehouse import load_extension

with duckdb.connect(sys.argv[1]) as connection:
    if len(sys.argv) > 2:
        load_extension(connection, "postgres_scanner", "postgres")
        connection.execute(f"ATTACH '{sys.argv[2]}' AS source (TYPE postgres, READ_ONLY)")
        connection.execute(f"CREATE TABLE flights AS FROM source.public.{sys.argv[3]}")
