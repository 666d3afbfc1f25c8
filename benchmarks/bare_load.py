"""The least that loads files, or merges them into a table: DuckDB alone.

Run as: bare_load.py load|merge DATABASE [SCAN], with the SQL that reads as SCAN; without it, it only starts.
"""

import sys

import duckdb

MERGE = """
BEGIN;
CREATE TEMP TABLE fresh AS FROM {scan} QUALIFY row_number() OVER (PARTITION BY id ORDER BY version DESC) = 1;
DELETE FROM flights t USING fresh s WHERE t.id = s.id;
INSERT INTO flights FROM fresh;
COMMIT;
"""

with duckdb.connect(sys.argv[2]) as connection:
    if len(sys.argv) > 3:
        scan = sys.argv[3]
        connection.execute(f"CREATE TABLE flights AS FROM {scan}" if sys.argv[1] == "load" else MERGE.format(scan=scan))
