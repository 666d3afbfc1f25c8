"""What does not fit into memory is spilled, and the models after it are built all the same."""

from __future__ import annotations

from run.shop import published
from support import MakeProject

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
