"""Hostile names and data, and tables of odd shapes: pages stay pages, and stay small."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import smoll
from support import MakeProject

EVIL = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
ALIAS = "a/b ..\\ \U0001f600 <b>"
YML = "sources: {s: {kind: files, streams: {t: data/t.csv}}}\n"


class _Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.pictures: list[str | None] = []
        self.handlers: list[str] = []
        self.inline = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "script":
            self.scripts.append(found.get("src"))
        if tag == "img":
            self.pictures.append(found.get("src"))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        self.handlers += [name for name in found if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.inline += data.strip()


def site(project: smoll.Project) -> Path:
    return project.config.root / ".smoll/releases/current/portal"


def read(path: Path) -> _Tags:
    tags = _Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    return tags


def test_hostile_names_and_data_stay_text(make_project: MakeProject) -> None:
    """In data, columns, descriptions, names of tables, tags and owners; and every link leads to a page."""
    table = io.StringIO()
    csv.writer(table).writerows([[EVIL, "מחיר 😀", "a/b"], [EVIL, "x", "1"], ["'; drop table t; --", "{{ 1 }}", "2"]])
    models = {
        "marts/one": "{{ config(alias='" + ALIAS + "') }} select * from {{ source('s', 't') }}",
        "marts/two": "{{ config(alias='A-B') }} select 1 as x",
        "marts/three": "{{ config(alias='a b') }} select 2 as x",
        "marts/schema.yml": f"""
models:
  - name: one
    description: {json_text(EVIL + " [x](javascript:alert(3)) ![y](http://example.org/p.png)")}
    config: {{tags: [{json_text(EVIL)}], meta: {{owner: {json_text(EVIL)}}}}}
    columns: [{{name: x, description: {json_text(EVIL)}}}]
""",
    }
    project = make_project(YML, {"data/t.csv": table.getvalue()}, models)
    assert project.run().release.status == "published"
    pages = sorted(site(project).rglob("*.html"))
    assert len({path.name.lower() for path in (site(project) / "catalog").iterdir()}) == 5  # a list and four tables
    assert all(path.name.isascii() for path in pages)
    for path in pages:
        tags = read(path)
        assert (tags.pictures, tags.handlers, tags.inline) == ([], [], "") or path.parent.name == "dbt"
        assert all(script and ":" not in script for script in tags.scripts)
        for link in tags.links:
            target = (path.parent / link.partition("#")[0]).resolve() if not link.startswith("#") else path
            assert target.is_file(), (path, link)


def json_text(text: str) -> str:
    return json.dumps(text)


def test_tables_without_rows_of_nulls_wide_and_with_a_huge_cell(make_project: MakeProject) -> None:
    wide = ", ".join(f"{n} as column_number_{n}" for n in range(2000))
    models = {
        "marts/wide": f"select {wide}",
        "marts/empty": "select 1 as a where false",
        "marts/nulls": "select null::integer as a, null::varchar as b from range(10)",
        "marts/huge": "select repeat('x', 50000000) as cell, repeat('y', 50000000)::blob as bytes",
    }
    project = make_project("", {}, models)
    assert project.run().release.status == "published"
    sizes = {path.name: path.stat().st_size for path in site(project).rglob("*.html")}
    assert {name for name, size in sizes.items() if size > 300_000} <= {"index.html"}  # dbt's own
    assert max(size for name, size in sizes.items() if name != "index.html") < 300_000
    catalog = site(project) / "catalog"
    assert "column_number_1999" in (catalog / "main.wide.html").read_text()
    assert "The table has no rows." in (catalog / "main.empty.html").read_text()
    assert "100%" in (catalog / "main.nulls.html").read_text()
    assert len((catalog / "main.huge.html").read_text()) < 20_000
