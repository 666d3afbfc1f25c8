"""The examples of the page about `smoll sql` run."""

from __future__ import annotations

from pathlib import Path

from docs.markdown import ROOT
from docs.shell import Shell
from run.shop import FILES, MODELS, SOURCES
from smoll import open_project
from support import write_project


def test_the_examples_of_the_shell_page(tmp_path: Path) -> None:
    write_project(tmp_path, f"name: shop\n{SOURCES}", FILES, MODELS, {})
    assert open_project(tmp_path).run().release.number == 1
    page = (ROOT / "docs" / "shell.md").read_text(encoding="utf-8")
    Shell(tmp_path, tmp_path).read(page.partition("## The shell")[0])
    assert (tmp_path / "orders.parquet").read_bytes().startswith(b"PAR1")
