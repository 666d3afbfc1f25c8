"""All that a project's warehouse and ledger hold, to compare two of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import smoll
from smoll.model import quote
from smoll.state.layout import Layout

CLOCKS = {"dbt_valid_from", "dbt_valid_to", "dbt_updated_at", "dbt_scd_id"}


def everything(project: smoll.Project) -> dict[str, Any]:
    """All that an undo speaks of: every table of the warehouse with its types, and what the ledger knows of them."""
    with project.connect(raw=True) as connection:
        tables = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() ORDER BY ALL"
        ).fetchall()
        names = [f"{quote(schema)}.{quote(table)}" for schema, table in tables]
        found = {
            name: (
                connection.execute(f"DESCRIBE {name}").fetchall(),
                connection.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM {name} AS t").fetchone(),
            )
            for name in names
        }
    with closing(sqlite3.connect(Layout(project.config.root).ledger)) as ledger:
        known = {t: sorted(ledger.execute(f"SELECT * FROM {t}")) for t in ("nodes", "checks", "streams")}
    return {**found, **known}


def data(project: smoll.Project) -> dict[str, Any]:
    """The rows of every table, without clocks and numbers of runs."""
    found = {}
    with project.connect(raw=True) as connection:
        tables = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() "
            "AND schema_name <> '_smoll' ORDER BY ALL"
        ).fetchall()
        for schema, table in tables:
            name = f"{quote(schema)}.{quote(table)}"
            columns = [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()]
            chosen = [quote(c) for c in columns if c not in CLOCKS and (not c.startswith("_smoll") or c.endswith("nt"))]
            found[name] = connection.execute(f"SELECT {', '.join(chosen)} FROM {name} ORDER BY ALL").fetchall()
    return found
