"""What does not fit into memory is spilled, and the models after it are built all the same; pandas stays out of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from run.shop import published
from support import MakeProject, files_yml, rows, write

SPILLS = """\
{{ config(materialized='table') }}
select * from (select hash(range) as a, hash(range + 1) as b, repeat('x', 40) as c from range(4000000)) order by a
"""


def test_a_model_that_spills_does_not_stop_the_next(make_project: MakeProject) -> None:
    models = {
        "a": SPILLS,
        "b": "{{ config(materialized='table') }} select count(*) as n from {{ ref('a') }}",
        "c": "{{ config(materialized='table') }} select n from {{ ref('b') }}",
    }
    project = make_project('resources: {memory: 400MB}\nrelease: {select: "c"}\n', {}, models)
    published(project.run())


def test_a_run_does_not_take_the_time_and_the_memory_of_pandas(make_project: MakeProject) -> None:
    pytest.importorskip("pandas")
    board = "```sql it\nselect sum(id) as n from main.mart\n```\n{{ it.n }}\n"
    files = {"data/1.csv": "id\n1\n", "dashboards/it.md": board}
    models = {"marts/mart": "select id from {{ source('s', 't') }}"}
    project = make_project(files_yml("data/*.csv", mode="append"), files, models)
    run = "import sys; from smoll.cli import main; main(); sys.exit('pandas' in sys.modules)"
    command = [sys.executable, "-c", run, "--project", str(project.config.root), "run"]
    for number in (1, 2):
        write(project.config.root, {f"data/{number}.csv": f"id\n{number}\n"})
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert rows(project) == [(1,), (2,)]
