"""Tables of millions of rows go through within ``resources.memory``, and every row is accounted for.

``BIG_ROWS`` in the environment makes them smaller, to try.
"""

from __future__ import annotations

import os

import pytest

from support import MakeProject, MariaDB, Postgres, raw, sql_yml
from torture.test_big_files import run_cold

pytestmark = pytest.mark.torture

BUDGET = 500_000_000
ROWS = int(os.environ.get("BIG_ROWS", "3000000"))
_ALLOWED = 1.1
"""DuckDB overshoots its own limit at times; what must not be is that the rows decide."""


@pytest.mark.parametrize("driver", ["", "+psycopg"])
@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_a_large_table_of_postgres(make_project: MakeProject, postgres: Postgres, driver: str, mode: str) -> None:
    postgres.execute(
        f"""CREATE TABLE t AS SELECT i AS id, i * 1.5 AS n, 'name ' || i AS name, now() AS at, repeat('x', 60) AS pad
        FROM generate_series(1, {ROWS}) i;"""
    )
    options = {
        "mode": mode,
        **({"cursor": "id"} if mode == "append" else {}),
        **({"key": "id"} if mode == "merge" else {}),
    }
    url = postgres.url.replace("postgresql:", f"postgresql{driver}:")
    project = make_project("resources: {memory: 500MB}\n" + sql_yml(url, {"t": options}))

    outcome = run_cold(project)

    assert outcome.code == 0, outcome.output
    assert raw(project, "SELECT count(*), sum(id) FROM raw_s.t") == [(ROWS, ROWS * (ROWS + 1) // 2)]
    assert outcome.memory < BUDGET * _ALLOWED


@pytest.mark.parametrize("way", ["scanner", "sqlalchemy"])
def test_a_large_table_of_mysql(make_project: MakeProject, maria: MariaDB, way: str) -> None:
    maria.execute(
        f"""CREATE TABLE t AS SELECT seq AS id, seq * 1.5 AS n, concat('name ', seq) AS name, now() AS at,
        repeat('x', 60) AS pad FROM seq_1_to_{ROWS};"""
    )
    url = maria.url if way == "scanner" else maria.driver_url
    project = make_project("resources: {memory: 500MB}\n" + sql_yml(url, ["t"]))

    outcome = run_cold(project)

    assert outcome.code == 0, outcome.output
    assert raw(project, "SELECT count(*), sum(id) FROM raw_s.t") == [(ROWS, ROWS * (ROWS + 1) // 2)]
    assert outcome.memory < BUDGET * _ALLOWED
