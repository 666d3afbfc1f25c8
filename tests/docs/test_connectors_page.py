"""The example of the page about connectors runs, with the real connector that it names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from docs.markdown import ROOT
from docs.shell import Shell


@pytest.mark.index
def test_the_example_of_the_connectors_page(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shell = Shell(tmp_path, home)
    # Where the machine has its packages from is for the machine to say.
    shell.environment |= {name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_"))}
    page = (ROOT / "docs" / "connectors.md").read_text(encoding="utf-8")
    shell.read(page)
    written = (tmp_path / "shop/smoll.yml").read_text(encoding="utf-8")
    (shown,) = (block for block in page.split("```") if block.startswith("yaml\n"))
    assert shown.removeprefix("yaml\n") in written
