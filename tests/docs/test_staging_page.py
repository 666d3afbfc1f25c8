"""The page on staging models shows what is written, to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.markdown import ROOT, blocks
from smoll.cli import main

_FILE = re.compile(r"(?:#|--) file: (\S+)\n")


def test_the_page_shows_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = list(blocks((ROOT / "docs" / "staging.md").read_text(encoding="utf-8")))
    files = {found[1]: block.text[found.end() :] for block in page if (found := _FILE.match(block.text))}
    shown = {name: text for name, text in files.items() if name.startswith("transform/")}
    assert len(shown) == 2
    for name in files.keys() - shown.keys():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(files[name], encoding="utf-8")
    (tmp_path / "transform").mkdir()
    (tmp_path / "transform/dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    project = f"--project={tmp_path}"
    assert main([project, "run"]) == 0
    capsys.readouterr()

    assert main([project, "generate", "staging", "shop"]) == 0

    assert capsys.readouterr().out in {block.text for block in page}
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in shown} == shown
    assert main([project, "run"]) == 0
