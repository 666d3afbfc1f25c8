"""What somebody sees who opens Dagster's page: the graph, an asset, a run. Nothing of it comes from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from up.browser import SIZE, Browser, browsing, chromium, flights, picture_asset, picture_lineage
from up.launching import Page

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium; on Debian: apt-get install chromium")

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Demo:
    """The flights demo after a run, and a browser."""

    page: Page
    run: str
    browser: Browser


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with flights(tmp_path_factory.mktemp("browser")) as (page, run), browsing(page.url) as browser:
        yield Demo(page, run, browser)


@pytest.fixture(autouse=True)
def nothing_comes_from_elsewhere(demo: Demo) -> Iterator[None]:
    """No request leaves this page's own server, nothing is wrong, and nothing pops up."""
    yield
    assert demo.browser.hosts == {f"127.0.0.1:{demo.page.port}"}
    assert demo.browser.errors == []
    assert demo.browser.tab.get_by_role("dialog").count() == 0


def test_the_graph(demo: Demo) -> None:
    tab = demo.browser.open("/asset-groups")
    demo.browser.shows("nyc", "staging", "intermediate", "marts", "seeds", "snapshots", "flights", "dashboards")
    demo.browser.shows("Materialize all (24)")  # dashboards come with the release
    tab.keyboard.press("Alt+E")  # opens all groups
    demo.browser.shows("weather", "stg_nyc__flights", "fct_flights", "delays_by_carrier", "release", "routes")


def test_an_asset(demo: Demo) -> None:
    demo.browser.open("/assets/fct_flights")
    demo.browser.shows("One row per scheduled flight, cancelled ones included. Built incrementally, a month at a time.")
    demo.browser.shows("336,776", "flight_number", "Flight number; the same number flies most days.")
    demo.browser.open("/assets/fct_flights?view=checks")
    demo.browser.shows("Checks (23)", "only_differing_months_are_rebuilt", "Succeeded", "Passed")
    demo.browser.open("/assets/flights/release")
    demo.browser.shows("main.delays_by_carrier", "published")


def test_a_run(demo: Demo) -> None:
    tab = demo.browser.open("/runs")
    demo.browser.shows(demo.run[:8], "Success")
    tab.get_by_text(demo.run[:8]).first.click()
    demo.browser.shows("flights_load", "flights_build", "24 assets", "Release 1: published")


@pytest.mark.parametrize("draw", [picture_lineage, picture_asset])
def test_the_pictures_of_the_documentation(demo: Demo, tmp_path: Path, draw: Callable[[Browser, Path], None]) -> None:
    draw(demo.browser, tmp_path / "picture.png")
    picture = (tmp_path / "picture.png").read_bytes()
    assert picture.startswith(PNG) and len(picture) < 300_000
    assert (int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")) == tuple(SIZE.values())
