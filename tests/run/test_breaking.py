"""What readers of the current release would miss refuses a release, until somebody allows it."""

from __future__ import annotations

import json

import pytest

import smoll
from smoll.release.breaking import holds
from support import MakeProject, reopen, write

YML = "sources: {s: {kind: files, streams: {t: data/t.csv}}}\n"
SOURCE = "{{ source('s', 't') }}"


def released(make_project: MakeProject) -> smoll.Project:
    models = {"m": f"select id::integer as id, name, id as n from {SOURCE}", "other": f"select id from {SOURCE}"}
    project = make_project(YML, {"data/t.csv": "id,name\n1,a\n"}, models)
    assert project.run().release.status == "published"
    return project


def change(project: smoll.Project, **models: str | None) -> smoll.Project:
    for name, text in models.items():
        path = f"transform/models/{name}.sql"
        if text is None:
            (project.config.root / path).unlink()
        else:
            write(project.config.root, {path: text})
    return reopen(project)


def test_what_readers_would_miss(make_project: MakeProject) -> None:
    project = released(make_project)
    result = change(project, m=f"select id::varchar as id, 1.5 as n from {SOURCE}", other=None).run()
    assert (result.status, result.exit_code) == ("refused", 1)
    assert {(refusal.subject, refusal.reason) for refusal in result.release.refusals} == {
        ("main.m.id", "was INTEGER in release 1, and is VARCHAR"),
        ("main.m.name", "is gone, and release 1 has it"),
        ("main.m.n", "was BIGINT in release 1, and is DECIMAL(2,1)"),
        ("main.other", "is gone, and release 1 has it"),
    }
    assert all(refusal.remedy == "smoll run --allow-breaking" for refusal in result.release.refusals)
    assert reopen(project).release().manifest.number == 1
    assert reopen(project).run().release.status == "refused", "again, and no less"
    result = reopen(project).run(allow_breaking=True)
    assert result.release.status == "published" and result.select == "--allow-breaking"
    manifest = json.loads((project.config.root / ".smoll/releases/2/manifest.json").read_text())
    assert "main.other is gone, and release 1 has it" in manifest["breaking"] and len(manifest["breaking"]) == 4
    assert reopen(project).release().manifest.breaking == tuple(manifest["breaking"])
    assert reopen(project).run().release.status == "unchanged"


def test_what_does_no_harm(make_project: MakeProject) -> None:
    """More tables, more columns, another order, wider numbers."""
    project = released(make_project)
    more = f"select 1 as more, name, id::bigint as id, id::hugeint as n from {SOURCE}"
    assert change(project, m=more, new="select 1 as a").run().release.status == "published"
    assert reopen(project).release().manifest.breaking == ()


def test_it_is_the_release_of_the_readers_that_counts(make_project: MakeProject) -> None:
    """After a rollback a column that the newer release has is no promise."""
    project = released(make_project)
    assert change(project, m=f"select id::integer as id, name, id as n, 1 as x from {SOURCE}").run().release.number == 2
    project.rollback()
    result = change(project, m=f"select id::integer as id, name, id as n, 2 as y from {SOURCE}").run()
    assert result.release.status == "staged"


@pytest.mark.parametrize(
    ("old", "new", "yes"),
    [
        ("INTEGER", "BIGINT", True), ("BIGINT", "INTEGER", True), ("UINTEGER", "BIGINT", True),
        ("INTEGER", "UBIGINT", True), ("UBIGINT", "BIGINT", True),
        ("FLOAT", "DOUBLE", True), ("DOUBLE", "FLOAT", False),
        ("DECIMAL(10,2)", "DECIMAL(12,2)", True), ("DECIMAL(10,2)", "DECIMAL(12,4)", True),
        ("DECIMAL(10,2)", "DECIMAL(10,4)", True), ("DECIMAL(10,2)", "DECIMAL(12,1)", False),
        ("INTEGER", "DECIMAL(10,0)", True), ("INTEGER", "DECIMAL(12,2)", False), ("INTEGER", "DECIMAL(9,0)", False),
        ("INTEGER", "DOUBLE", False), ("VARCHAR", "VARCHAR", True), ("INTEGER", "VARCHAR", False),
        ("DATE", "TIMESTAMP", False), ("STRUCT(a INTEGER)", "STRUCT(a INTEGER, b INTEGER)", False),
    ],
)  # fmt: skip
def test_types(old: str, new: str, yes: bool) -> None:
    assert holds(new, old) is yes
