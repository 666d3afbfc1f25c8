"""The pages of `smoll up` in a real browser. As a program it draws pictures for the documentation: make screenshots."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser as Program
from playwright.sync_api import Page as Tab
from playwright.sync_api import sync_playwright

from smoll.scaffold import init_project
from up.launching import Page, page_of

SIZE = {"width": 1600, "height": 1000}
_WAIT = 30_000  # milliseconds
# One source, its models and the release: all of the demo is too much for letters that can be read.
_LINEAGE = '+key:"dim_carriers" or +key:"fct_flights"+'
_GROUPS = ("nyc", "staging", "marts", "flights", "dashboards")
# What the page's own buttons keep: the bar on the left is small, and nodes show only what is in use.
_SETTINGS = """
localStorage.setItem('dagster-nav-collapsed', 'true');
localStorage.setItem('asset-node-facets', '["checks", "latest-event", "status", "kind-tag"]');
"""
_GRAPH_ICONS = 60  # pixels at the right, over the graph


@dataclass
class Browser:
    """A tab, what it asked for, and what it complained of."""

    tab: Tab
    url: str
    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def asked(self, url: str) -> None:
        """Note the host of a request; what is within the page itself (``data:``) has none."""
        self.hosts |= {host for host in [urlsplit(url).netloc] if host}

    def open(self, path: str) -> Tab:
        self.tab.goto(self.url + path)
        return self.tab

    def shows(self, *texts: str) -> None:
        """Wait until all of the texts are on the page."""
        for text in texts:
            self.tab.get_by_text(text, exact=True).first.wait_for(state="attached")

    def settles(self) -> None:
        """Wait until the script of an app has ended: until then, what stands below may move away from a click."""
        self.tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def chromium() -> str | None:
    """The system's Chromium, if it has one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium_program() -> Iterator[Program]:
    """Chromium, which reaches this machine alone."""
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking"]
    if os.getuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield program
        program.close()


@contextmanager
def browsing(url: str) -> Iterator[Browser]:
    """A browser that can reach this machine alone, with a tab of the pictures' size."""
    with chromium_program() as program:
        tab = program.new_page(viewport={"width": SIZE["width"], "height": SIZE["height"]})
        tab.set_default_timeout(_WAIT)
        browser = Browser(tab, url)
        tab.on("request", lambda request: browser.asked(request.url))
        tab.on("websocket", lambda websocket: browser.asked(websocket.url))
        tab.on("console", lambda said: browser.errors.append(said.text) if said.type == "error" else None)
        tab.on("pageerror", lambda error: browser.errors.append(str(error)))
        yield browser


def picture_lineage(browser: Browser, path: Path) -> None:
    """The way from a source to the release, with every group open."""
    browser.tab.add_init_script(_SETTINGS)
    open_groups = ",".join(f"global@global:{group}" for group in _GROUPS)
    tab = browser.open(f"/asset-groups~{quote(_LINEAGE, safe='')}/?expanded={quote(open_groups)}")
    tab.get_by_role("button", name="Materialize all").first.wait_for()
    browser.shows("release", "routes")
    tab.get_by_role("button").filter(has=tab.get_by_label("panel_show_right")).click()  # close the list at the left
    corner = SIZE["width"] - 2 * _GRAPH_ICONS, SIZE["height"] - _GRAPH_ICONS
    tab.wait_for_timeout(1_000)
    tab.mouse.dblclick(*corner)  # fits the graph into the window
    tab.wait_for_timeout(1_500)
    tab.screenshot(path=path)


def picture_asset(browser: Browser, path: Path) -> None:
    """A table: how many rows, which columns, what it is."""
    browser.tab.add_init_script(_SETTINGS)
    tab = browser.open("/assets/fct_flights")
    browser.shows("Row count", "flight_id", "Jobs")
    tab.wait_for_timeout(1_500)
    tab.screenshot(path=path)


def picture_explore(browser: Browser, path: Path) -> None:
    """A chart that somebody has put together: delays by the hour, for each airport."""
    tab = browser.open("/apps/?table=main.fct_flights")
    tab.get_by_role("radio", name="Chart").click()
    choices = {"Chart": "Line", "Across": "scheduled_departure_hour", "Colour": "origin_airport_code"}
    for label, choice in {**choices, "Value": "average", "Of": "departure_delay_minutes"}.items():
        tab.get_by_role("combobox", name=label).fill(choice)
        tab.get_by_role("option", name=choice, exact=True).click()
        tab.wait_for_timeout(1_500)
    tab.mouse.move(0, 0)
    tab.wait_for_timeout(1_000)
    tab.screenshot(path=path)


@contextmanager
def flights(folder: Path) -> Iterator[tuple[Page, str]]:
    """The flights demo, served, after a run of the whole; and that run."""
    root = init_project(folder / "flights", template="flights").root
    with page_of(root) as page:
        page = Page(page.port, "flights")
        run = page.launch(job="flights")
        assert page.end_of(run, 180) == "SUCCESS", page.log(run)
        yield page, run


def main() -> None:
    images = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, flights(Path(folder)) as (page, _), browsing(page.url) as browser:
        picture_lineage(browser, images / "dagster-lineage.png")
        picture_asset(browser, images / "dagster-asset.png")
        browser.tab.set_viewport_size({"width": 1400, "height": 875})
        picture_explore(replace(browser, url=page.url.removesuffix("/dagster")), images / "apps-explore.png")


if __name__ == "__main__":
    main()
