"""The example of the page about checks runs, every kind of check in it."""

from __future__ import annotations

import re
from pathlib import Path

import smoll
from docs.markdown import ROOT, blocks
from docs.shell import Shell
from smoll.project.config import ProjectConfig
from smoll.project.shape import kind_of, models_in

_FILE = re.compile(r"(?:#|--) file: (\S+)\n")
_DBT = "name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n"


def test_the_example_of_the_checks_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    for block in blocks(page):
        if file := _FILE.match(block.text):
            path = tmp_path / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text[file.end() :], encoding="utf-8")
    (tmp_path / "transform" / "dbt_project.yml").write_text(_DBT, encoding="utf-8")
    Shell(tmp_path, tmp_path).read(page)
    project = smoll.open_project(tmp_path)
    found = {check.name: check.status for check in project.checks()}
    assert [name for name, status in found.items() if status != "pass"] == ["nobody_pays_twice"]
    assert {"there_are_orders", "completeness_fct_orders_country"} <= set(found)
    kinds = {kind_of(model) for model in models_in(ProjectConfig.model_fields["checks"].annotation)} - {None}
    assert {check.kind for check in project.config.checks} == kinds
    failing = project.check_record("nobody_pays_twice").failing
    assert failing is not None and failing.rows[0][:2] == ("4", "2")
