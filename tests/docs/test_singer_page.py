"""The example of the page about Singer taps runs, and does what the page says."""

from __future__ import annotations

from pathlib import Path

from docs.markdown import ROOT
from docs.shell import Shell
from docs.test_dlt_pages import write_files


def test_the_example_of_the_singer_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "singer.md").read_text(encoding="utf-8")
    home, folder = tmp_path / "home", tmp_path / "shop"
    home.mkdir()
    (folder / "taps").mkdir(parents=True)
    write_files(page, folder)
    Shell(folder, home).read(page)
    assert list(home.iterdir()) == []
