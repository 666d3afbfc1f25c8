"""Portal and apps in a real browser, at the one address of `smoll up`: what is asked, what is new, what dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

import smoll
from support import write, write_project
from up.browser import Browser, browsing, chromium
from up.running import Up, running, wait_until
from up.test_guard import send

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium; on Debian: apt-get install chromium")

YML = "sources: {shop: {kind: files, streams: {sales: data/sales.csv}}}\n"
SALES = "id,city\n1,Amsterdam\n2,Rotterdam\n3,Amsterdam\n"
MODELS = {"marts/sales": "select id, city from {{ source('shop', 'sales') }}"}
APP = """
import streamlit as st
import smoll.streamlit

release = smoll.streamlit.connection()
st.title("{title}")
st.write("Sold:", int(release.query("SELECT count(*) AS n FROM main.sales").n[0]))
st.button("Again")
"""


@dataclass(frozen=True)
class Shop:
    """A project with a release and an app, served, and a browser."""

    up: Up
    browser: Browser

    @property
    def root(self) -> Path:
        return self.up.root

    def open(self, path: str, *texts: str) -> Any:
        tab = self.browser.open(path)
        self.browser.shows(*texts)
        return tab


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("apps")
    root = folder / 'it\'s a "project"'
    root.mkdir()
    (folder / "home").mkdir()
    write_project(root, YML, {"data/sales.csv": SALES, "apps/1_sold.py": APP.format(title="Sold so far")}, MODELS, {})
    assert smoll.open_project(root).run().status == "ok"
    with running(root, "--only", "portal,apps", environment={"HOME": str(folder / "home")}) as up:
        with browsing(up.ready["url"]) as browser:
            yield Shop(up, browser)
        assert list((folder / "home").iterdir()) == []


@pytest.fixture(autouse=True)
def nothing_comes_from_elsewhere(shop: Shop) -> Iterator[None]:
    yield
    assert shop.browser.hosts <= {f"127.0.0.1:{shop.up.port}"}


def test_from_the_portal_to_explore_and_back(shop: Shop) -> None:
    tab = shop.open("/", "Overview")
    assert not shop.browser.errors
    tab.get_by_role("link", name="Apps", exact=True).click()
    shop.browser.shows("3 rows.")
    tab.get_by_role("link", name="Portal").click()
    tab.get_by_role("link", name="Catalog", exact=True).click()
    tab.get_by_role("link", name="sales").first.click()
    tab.get_by_role("link", name="Explore").click()
    shop.browser.shows("3 rows.")
    assert tab.url.endswith("/apps/?table=main.sales")


def test_explore_answers_a_query_and_gives_a_file(shop: Shop) -> None:
    tab = shop.open("/apps/", "3 rows.")
    tab.get_by_role("radio", name="SQL").click()
    tab.get_by_role("textbox", name="SQL").fill(
        "SELECT city, count(*) AS n FROM main.sales GROUP BY city ORDER BY city"
    )
    tab.get_by_role("button", name="Run").click()
    shop.browser.shows("2 rows.")
    shop.browser.settles()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="CSV", exact=True).click()
    assert Path(download.value.path()).read_text() == '"city","n"\n"Amsterdam",2\n"Rotterdam",1\n'
    tab.get_by_role("textbox", name="SQL").fill("DROP TABLE main.sales")
    tab.get_by_role("button", name="Run").click()
    tab.get_by_text("This is not one query").wait_for()
    tab.get_by_role("radio", name="Chart").click()
    tab.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").first.wait_for()
    assert not shop.browser.errors


def test_an_app_is_found_changed_and_sees_a_new_release(shop: Shop) -> None:
    tab = shop.open("/apps/sold", "Sold so far")
    tab.get_by_text("Sold: 3").wait_for()
    write(shop.root, {"data/sales.csv": SALES + "4,Delft\n"})
    assert smoll.open_project(shop.root).run().release.status == "published"
    tab.get_by_role("button", name="Again").click()
    tab.get_by_text("Sold: 4").wait_for()
    write(shop.root, {"apps/1_sold.py": APP.format(title="Sold until now"), "apps/2_more.py": APP.format(title="More")})
    shop.open("/apps/sold", "Sold until now")
    shop.open("/apps/more", "More")
    shop.browser.errors.clear()  # Streamlit looks for itself below a page first, and finds nothing


def test_pages_of_others_cannot_reach_the_apps(shop: Shop) -> None:
    port = shop.up.port
    evil, own = Origin("https://evil.example"), Origin(f"http://127.0.0.1:{port}")
    for headers in ({"Host": "evil.example"}, {"Origin": str(evil)}, {"Sec-Fetch-Site": "cross-site"}):
        assert send(port, "GET", "/apps/_stcore/health", headers).status == 403
    assert send(port, "PUT", "/apps/_stcore/upload_file/a/b", {"Origin": str(own)}).status in (400, 403)  # no token
    assert send(port, "GET", "/apps/").headers["X-Frame-Options"] == "SAMEORIGIN"
    stream = f"ws://127.0.0.1:{port}/apps/_stcore/stream"
    for origin in (evil, Origin("http://localhost:1")):
        with pytest.raises(InvalidStatus):
            connect(stream, origin=origin)
    connect(stream, origin=own).close()


@pytest.mark.parametrize("victim", ["app server", "front"])
def test_what_is_killed_comes_back_and_pages_work(shop: Shop, victim: str) -> None:
    shop.open("/apps/", "Explore")
    words = {"app server": "smoll.up.apps", "front": "smoll.up.front"}
    os.kill(shop.up.find(words[victim]).pid, signal.SIGKILL)
    assert "SIGKILL" in shop.up.wait_for("ended", victim)["how"]
    assert shop.up.wait_for("started", victim)["pid"] == shop.up.find(words[victim]).pid
    shop.open("/apps/", "Explore", "Filter by")
    shop.open("/", "Overview")
    shop.browser.errors.clear()  # the page that was open lost its connection


def test_the_apps_sleep_until_somebody_looks(shop: Shop) -> None:
    shop.browser.tab.goto("about:blank")
    process = shop.up.find("smoll.up.apps")
    awake = process.memory_info().rss
    os.kill(process.pid, signal.SIGKILL)
    shop.up.wait_for("started", "app server")
    asleep = shop.up.find("smoll.up.apps")
    wait_until(lambda: asleep.memory_info().rss < awake / 4)
    shop.open("/apps/", "Explore")
    assert asleep.memory_info().rss > awake / 2
