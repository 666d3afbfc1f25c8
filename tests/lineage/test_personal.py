"""A personal column that is called otherwise further down stays personal: no value of it is kept beside the data."""

from __future__ import annotations

from pathlib import Path

from support import MakeProject, released, reopen, write

YML = """
sources: {s: {kind: files, streams: {people: data/people.csv}}}
checks: [{kind: range, table: mart, column: age, max: 50, severity: warn}]
"""
PEOPLE = {"data/people.csv": "id,email,age\n1,ann@secret.example,40\n2,ann@secret.example,60\n"}
MODELS = {
    "marts/mart": "{{ config(materialized='table') }} with a as (select *, lower(email) as contact from "
    "{{ source('s', 'people') }}) select id, contact, length(contact) as letters, age from a",
    "marts/whole": "{{ config(materialized='table') }} select p.id, to_json(p) as doc, p as rec, "
    "concat(p, id) as both, p.email.upper() || id as loud "
    "from {{ source('s', 'people') }} p",
    "marts/tall": "{{ config(materialized='table') }} select id, v as val "
    "from (unpivot {{ source('s', 'people') }} on email into name k value v)",
    "marts/placed": "{{ config(materialized='table') }} select #2 as what from "
    "(select * from {{ source('s', 'people') }})",
    "marts/sources.yml": "sources: [{name: s, schema: raw_s, tables: [{name: people, columns: "
    "[{name: email, config: {meta: {pii: true}}}]}]}]",
    "marts/schema.yml": "models: [{name: mart, columns: [{name: contact, data_tests: "
    "[{unique: {config: {severity: warn}}}]}, {name: age, data_tests: "
    "[{accepted_values: {arguments: {values: [40]}, config: {severity: warn}}}]}]}]",
}


def files_with(root: Path, text: str) -> list[str]:
    """The files of the project's state, but its data, that hold a text."""
    files = [path for path in (root / ".smoll").rglob("*") if path.is_file() and path.suffix != ".duckdb"]
    return [str(path.relative_to(root)) for path in files if text.encode() in path.read_bytes()]


def test_under_another_name(make_project: MakeProject) -> None:
    project = make_project(YML, PEOPLE, MODELS)
    result = project.run()
    assert result.release.status == "published"
    assert {check.status for check in result.checks} == {"warn"}  # rows were kept on which they have failed
    assert released(project, "select contact from main.mart limit 1") == [("ann@secret.example",)]
    assert files_with(project.config.root, "ann@secret") == []
    page = (project.config.root / ".smoll/releases/1/portal/catalog/main.mart.html").read_text()
    assert '<td dir="auto">18</td>' in page  # its length is shown: a number is not what it was made of

    unmarked = "sources: [{name: s, schema: raw_s, tables: [{name: people}]}]"
    more = PEOPLE["data/people.csv"] + "3,c,1\n"
    write(project.config.root, {"transform/models/marts/sources.yml": unmarked, "data/people.csv": more})
    assert reopen(project).run().release.number == 2
    assert ".smoll/releases/2/profile.json" in files_with(project.config.root, "ann@secret")  # as nobody marks it now
