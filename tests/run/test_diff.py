"""What is different between two releases, or between one and the next: schemas, rows, values."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import smoll
from smoll.errors import ReleaseError, UsageError
from smoll.model import ColumnDiff, TableDiff
from support import MakeProject, reopen, write

YML = "sources: {s: {kind: files, streams: {t: {path: data/t.csv, allow_empty: true}}}}\n"
MODEL = "{{ config(materialized='table') }} select * from {{ source('s', 't') }}"
KEY = "models: [{name: m, columns: [{name: id, data_tests: [{unique: {config: {severity: warn}}}]}]}]"
BEFORE = "id,name,amount\n1,Ann,10\n2,Bob,20\n3,Cid,30\n4,Dan,40\n"


def csv(text: str) -> dict[str, str]:
    return {"data/t.csv": text}


def released(make_project: MakeProject, models: dict[str, str] | None = None, data: str = BEFORE) -> smoll.Project:
    project = make_project(YML, csv(data), models or {"m": MODEL, "schema.yml": KEY})
    assert project.run().release.number == 1
    return project


def next_run(project: smoll.Project, data: str, **models: str) -> None:
    """Another state of the data, released where a check does not forbid it."""
    write(project.config.root, csv(data))
    write(project.config.root, {f"transform/models/{name}.sql": text for name, text in models.items()})
    reopen(project).run(allow_breaking=True)


def table(project: smoll.Project, *releases: int, name: str = "main.m", **options: Any) -> TableDiff:
    return {str(one.ref): one for one in reopen(project).diff(*releases, **options).tables}[name]


def test_nothing(make_project: MakeProject) -> None:
    project = released(make_project)
    diff = project.diff()
    assert diff.is_equal and (diff.before, diff.after) == ("release 1", "the next release")
    assert [(one.status, one.rows_before, one.rows_after) for one in diff.tables] == [("equal", 4, 4)]


def test_rows_and_values(make_project: MakeProject) -> None:
    project = released(make_project)
    next_run(project, "id,name,amount\n1,Ann,10\n2,Bea,21\n4,Dan,41\n5,Eve,50\n")
    one = table(project, 1, 2)
    assert (one.status, one.rows_before, one.rows_after) == ("changed", 4, 4)
    assert (one.added, one.removed, one.changed) == (1, 1, 2)
    assert one.key == ("id",) and one.values == {"amount": 2, "name": 1} and one.columns == ()
    assert [(row.what, row.key, row.values) for row in one.samples] == [
        ("changed", {"id": "2"}, {"name": ("Bob", "Bea"), "amount": ("20", "21")}),
        ("changed", {"id": "4"}, {"amount": ("40", "41")}),
        ("added", {"id": "5"}, {"name": (None, "Eve"), "amount": (None, "50")}),
        ("removed", {"id": "3"}, {"name": ("Cid", None), "amount": ("30", None)}),
    ]  # fmt: skip
    assert len(table(project, 1, 2, samples=1).samples) == 3 and table(project, 1, 2, samples=0).samples == ()
    back = table(project, 2, 1)
    assert (back.added, back.removed, back.changed) == (1, 1, 2)
    assert reopen(project).diff().is_equal  # the current one is the second


def test_what_the_next_release_would_be(make_project: MakeProject) -> None:
    """A check that fails keeps the release back: the diff says what would have come."""
    models = {"m": MODEL, "schema.yml": KEY.replace("{unique: {config: {severity: warn}}}", "unique")}
    project = released(make_project, models)
    next_run(project, "id,name,amount\n1,Ann,10\n2,Bob,20\n2,Bob,20\n3,Cid,30\n")
    assert reopen(project).release().manifest.number == 1
    one = table(project)
    assert (one.added, one.removed, one.changed) == (1, 1, 0)
    assert one.note == "its key does not tell all rows apart"


@pytest.mark.parametrize("after", [BEFORE.replace("2,Bob", ",Bob"), BEFORE + "1,Ann,10\n", BEFORE + "1,Ann,11\n"])
def test_a_key_that_is_none(make_project: MakeProject, after: str) -> None:
    project = released(make_project)
    next_run(project, after)
    one = table(project, 1, 2)
    assert one.rows_after - one.rows_before == one.added - one.removed and one.added == 1
    assert one.key == () and one.note == "its key does not tell all rows apart" and one.samples == ()


def test_twins_that_stay_are_no_difference(make_project: MakeProject) -> None:
    project = released(make_project, data=BEFORE + "1,Ann,10\n")
    next_run(project, BEFORE + "1,Ann,10\n5,Eve,5\n")
    one = table(project, 1, 2)
    assert (one.added, one.removed, one.changed, one.key) == (1, 0, 0, ("id",))


def test_without_a_key_rows_come_and_go(make_project: MakeProject) -> None:
    project = released(make_project, {"m": MODEL})
    next_run(project, BEFORE.replace("2,Bob,20", "2,Bob,21"))
    one = table(project, 1, 2)
    assert (one.added, one.removed, one.changed) == (1, 1, 0) and "has no key" in one.note


def test_columns_and_types(make_project: MakeProject) -> None:
    """A column that has changed its type is compared by its text; one that came or went changes no row."""
    project = released(make_project)
    columns = "id, amount::varchar as amount, name as name2"
    changed = MODEL.replace("*", columns)
    next_run(project, BEFORE.replace("4,Dan,40", "4,Dan,44"), m=changed)
    one = table(project, 1, 2)
    assert set(one.columns) >= {
        ColumnDiff("amount", "BIGINT", "VARCHAR"), ColumnDiff("name2", "", "VARCHAR"), ColumnDiff("name", "VARCHAR", "")
    }  # fmt: skip
    assert (one.added, one.removed, one.changed, one.values) == (0, 0, 1, {"amount": 1})


def test_tables_that_come_and_go(make_project: MakeProject) -> None:
    project = released(make_project, {"m": MODEL, "old": MODEL})
    (project.config.root / "transform/models/old.sql").unlink()
    next_run(project, BEFORE, new=MODEL)
    diff = {str(one.ref): one for one in reopen(project).diff(1, 2).tables}
    assert {name: (one.status, one.rows_before, one.rows_after) for name, one in diff.items()} == {
        "main.m": ("equal", 4, 4), "main.old": ("removed", 4, 0), "main.new": ("added", 0, 4)
    }  # fmt: skip


def test_load_metadata_is_no_difference(make_project: MakeProject) -> None:
    project = released(make_project)
    assert reopen(project).run(reload=["s"]).release.status == "unchanged"
    assert reopen(project).diff().is_equal


def test_views_and_odd_names(make_project: MakeProject) -> None:
    odd = """{{ config(alias="it's a view") }} select id, name as "Na""me" from {{ source('s', 't') }}"""
    project = released(make_project, {"odd": odd})
    write(project.config.root, csv(BEFORE.replace("Bob", "Bea\x1b[31m")))
    reopen(project).run(select="source:s")  # loads, builds nothing; the view follows
    (one,) = reopen(project).diff(1).tables
    assert str(one.ref) == "main.it's a view" and (one.added, one.removed) == (1, 1)


def test_what_is_personal_is_never_shown(make_project: MakeProject) -> None:
    more = "{name: name, meta: {pii: true}}, {name: amount, config: {meta: {pii: true}}}"
    pii = f"{KEY[:-3]}, {more}]}}]"
    project = released(make_project, {"m": MODEL, "schema.yml": pii})
    next_run(project, BEFORE.replace("2,Bob,20", "2,Bea,21").replace("4,Dan,40", "7,Eve,70"))
    one = table(project, 1, 2)
    assert one.values == {"name": 1, "amount": 1} and len(one.samples) == 3
    assert "Bea" not in str(one) and "Eve" not in str(one) and "70" not in str(one.samples)
    key = KEY.replace("{name: id,", "{name: id, meta: {pii: true},")
    write(project.config.root, {"transform/models/schema.yml": key})
    assert table(project, 1, 2).samples == ()


def test_what_is_personal_further_up_is_never_shown(make_project: MakeProject) -> None:
    pii = KEY[:-1] + ", {name: above, columns: [{name: name, meta: {pii: true}}]}]"
    above, model = MODEL, "{{ config(materialized='table') }} select * from {{ ref('above') }}"
    project = released(make_project, {"above": above, "m": model, "schema.yml": pii})
    next_run(project, BEFORE.replace("2,Bob,20", "2,Bea,21"))
    one = table(project, 1, 2)
    assert one.values == {"name": 1, "amount": 1} and "21" in str(one.samples) and "Bea" not in str(one)


def test_long_values_are_cut(make_project: MakeProject) -> None:
    project = released(make_project)
    next_run(project, BEFORE.replace("Bob", "B" * 100_000))
    assert max(len(str(row)) for row in table(project, 1, 2).samples) < 1000


def test_nothing_to_compare(make_project: MakeProject) -> None:
    project = make_project(YML, csv(BEFORE), {"m": MODEL})
    with pytest.raises(ReleaseError, match="Nothing has been released yet"):
        project.diff()
    assert project.run().status == "ok"
    with pytest.raises(UsageError, match="There is no release 7"):
        reopen(project).diff(7)


def smoll_diff(project: smoll.Project, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smoll", "--project", str(project.config.root), "diff", *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command(make_project: MakeProject) -> None:
    project = released(make_project)
    next_run(project, BEFORE.replace("2,Bob,20", "2,B|<b>\x1b[31m,21"))
    done = smoll_diff(project, "1", "2")
    assert done.returncode == 0, done.stderr
    assert "From release 1 to release 2: 1 of 1 table differ" in done.stdout
    assert "~ 2: name Bob → B|<b>␛[31m, amount 20 → 21" in done.stdout and "\x1b" not in done.stdout
    found = json.loads(smoll_diff(project, "1", "2", "--json").stdout)
    assert found["tables"][0]["values"] == {"name": 1, "amount": 1}
    page = smoll_diff(project, "1", "2", "--markdown").stdout
    assert "| `main.m` | changed | 4 | 4 | 0 | 0 | 1 |" in page and page.count("```") == 2
    assert smoll_diff(project, "--json", "--markdown").returncode == 2
    assert "no difference" in smoll_diff(project).stdout


def test_while_a_run_holds_the_warehouse(make_project: MakeProject) -> None:
    from smoll.state.layout import Layout
    from smoll.state.lock import project_lock

    project = released(make_project)
    with project_lock(Layout(project.config.root).lock, "smoll run"):
        with pytest.raises(ReleaseError, match="A run holds the working warehouse"):
            project.diff()
        assert project.diff(1, 1).is_equal


def test_what_was_refused(make_project: MakeProject) -> None:
    project = released(make_project)
    write(project.config.root, {"transform/models/m.sql": MODEL.replace("select *", "select id, name")})
    refused = reopen(project).run()
    assert refused.release.status == "refused"
    diff = reopen(project).diff()
    assert (diff.refused_by, diff.tables[0].status) == (2, "changed")
    assert reopen(project).diff(1, 1).refused_by is None
    assert "Run 2 refused to release it: `smoll runs show 2`" in smoll_diff(project).stdout
    assert "1 of 1 table differ. Run 2 refused to release it." in smoll_diff(project, "--markdown").stdout
    assert reopen(project).run(allow_breaking=True).release.status == "published"
    assert reopen(project).diff().refused_by is None
