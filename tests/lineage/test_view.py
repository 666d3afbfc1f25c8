"""The lineage in a real browser, from the disk: it opens, is walked through, and takes data for text."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page as Tab

from support import MakeProject
from up.browser import Browser, browsing, chromium

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium; on Debian: apt-get install chromium")

YML = "sources: {s: {kind: files, streams: {orders: data/orders.csv, unread: data/unread.csv}}}\n"
FILES = {
    "data/orders.csv": "id,name,amount\n1,a,10\n2,b,20\n",
    "data/unread.csv": "a\n1\n",
    "dashboards/board.md": "---\ntitle: <b>The board</b>\n---\n"
    "```sql total\nselect who, sum(amount) as amount from main.mart group by all\n```\n\n{{ total.amount }}\n",
}
HOSTILE = "</script><img src=x onerror=alert(1)>"
MODELS = {
    "staging/stg": "select id, name, amount from {{ source('s', 'orders') }}",
    "staging/text": "{{ config(materialized='ephemeral') }} "
    "select id, upper(name) as who, amount from {{ ref('stg') }}",
    "marts/mart": "{{ config(materialized='table') }} select * from {{ ref('text') }}",
    "marts/odd": "{{ config(alias='größe 😀') }} "
    + f"""select id, who as "{HOSTILE}" from {{{{ ref('mart') }}}} -- {{{{ "x" * 500000 }}}}""",
    "marts/other": f"""select "{HOSTILE}" as "🛫" from {{{{ ref('odd') }}}}""",
    "marts/schema.yml": "models: [{name: mart, columns: [{name: id, data_tests: [unique]}]}]",
}


@pytest.fixture
def site(make_project: MakeProject) -> Path:
    project = make_project(YML, FILES, MODELS)
    assert project.run().release.status == "published"
    return project.config.root / ".smoll/releases/current/portal"


def cards(tab: Tab) -> set[str]:
    return set(tab.locator(".ln-card").evaluate_all("all => all.map(card => card.dataset.key)"))


def hash_of(tab: Tab) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(tab.url).fragment).items()}


def card(tab: Tab, key: str) -> str:
    return f'.ln-card[data-key="{key}"]'


ODD, OTHER = "main.größe 😀", "main.other"
EVERYTHING = {"raw_s.orders", "raw_s.unread", "main.stg", "main.mart", ODD, OTHER, "dashboard/board"}


def test_the_view(site: Path) -> None:
    with browsing(site.as_uri()) as browser:
        tab = browser.open("/lineage.html")
        assert cards(tab) == EVERYTHING
        assert tab.locator(f"{card(tab, 'main.mart')} .ln-meta").inner_text().split("\n")[0] == "2 rows"
        assert tab.locator(f"{card(tab, 'main.mart')} .ln-pass").count() == 1
        choose(tab)
        columns(tab)
        keyboard(tab)
        links(browser, site)
        assert browser.errors == []
        for path in ("/lineage.html#table=main.mart&column=who", "/catalog/main.mart.html"):
            assert serious(browser.open(path)) == []


def choose(tab: Tab) -> None:
    """The picker finds a table; then there is its neighbourhood, and more on demand; the address says so."""
    tab.get_by_role("combobox", name="Find a table or dashboard").fill("mar rel")
    tab.keyboard.press("Enter")
    assert hash_of(tab) == {"table": "main.mart"}
    near = {"main.stg", "main.mart", ODD, "dashboard/board"}
    assert cards(tab) == near
    tab.get_by_role("button", name="One step more upstream").click()
    assert cards(tab) == near | {"raw_s.orders"} and hash_of(tab)["up"] == "2"
    tab.get_by_role("button", name="One step less downstream").click()
    assert cards(tab) == {"raw_s.orders", "main.stg", "main.mart"}
    tab.locator(f"{card(tab, 'main.mart')} .ln-right").click()
    assert cards(tab) == near | {"raw_s.orders"}
    tab.get_by_role("button", name="All", exact=True).click()
    assert cards(tab) == EVERYTHING and hash_of(tab)["all"] == "1"
    tab.reload()
    assert cards(tab) == EVERYTHING and tab.locator(".ln-chosen").get_attribute("data-key") == "main.mart"
    tab.get_by_role("button", name="All", exact=True).click()
    assert cards(tab) == near


def columns(tab: Tab) -> None:
    """A column shows where it comes from and goes to, through models that are only text, into dashboards."""
    tab.locator(f"{card(tab, 'main.mart')} .ln-expand").click()
    tab.locator(f"{card(tab, 'main.stg')} .ln-expand").click()
    assert tab.locator(f"{card(tab, 'main.mart')} [data-column] .ln-name").all_inner_texts()[:3] == [
        "id",
        "who",
        "amount",
    ]
    tab.locator(f"{card(tab, 'main.mart')} [data-column='1']").hover()
    lit = tab.locator("[data-column].ln-lit .ln-name")
    assert lit.all_inner_texts() == ["name", "who"] and tab.locator(".ln-column-edge").count() > 0
    tab.mouse.move(1, 1)
    assert lit.count() == 0 == tab.locator(".ln-column-edge").count()
    tab.locator(f"{card(tab, 'main.mart')} [data-column='1']").click()
    assert hash_of(tab) == {"table": "main.mart", "column": "who"}
    assert sorted(lit.all_inner_texts()) == ["name", "name", "total.who", "who"]  # the source came along
    assert "raw_s.orders" in cards(tab)
    words = tab.locator(".ln-text").inner_text()
    assert "Made of\nstg name" in words and "The board</b> total.who" in words
    tab.keyboard.press("Escape")
    assert hash_of(tab) == {"table": "main.mart"} and tab.locator(".ln-pinned").count() == 0


def keyboard(tab: Tab) -> None:
    """Cards are links in the order of tabs; the arrows follow the edges."""
    focused = "document.activeElement.closest('.ln-card').dataset.key"
    tab.locator(f"{card(tab, 'main.mart')} a.ln-title").focus()
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(focused) == "main.stg"
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(focused) == "main.mart"
    tab.locator(f"{card(tab, 'main.mart')} [data-column='0']").focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(focused) == "main.stg" and tab.evaluate("document.activeElement.dataset.column") == "1"


def links(browser: Browser, site: Path) -> None:
    """What is hostile is text; what is not known is told; a card leads to the catalog, and back."""
    tab = browser.open("/lineage.html#table=" + ODD)
    assert "its SQL could not be read" in tab.locator(".ln-note").inner_text()
    tab.locator(f"{card(tab, ODD)} .ln-expand").click()
    assert HOSTILE in tab.locator(f"{card(tab, ODD)} .ln-name").all_inner_texts()
    assert tab.locator("img").count() == 0
    tab.locator(f"{card(tab, OTHER)} a.ln-title").click()
    assert tab.url.startswith(f"{site.as_uri()}/catalog/")
    tab.locator(".ln-card").first.wait_for()
    assert cards(tab) == {ODD, OTHER} and tab.locator(".ln-chosen").get_attribute("data-key") == OTHER
    tab.get_by_role("link", name="Open in full").click()
    assert hash_of(tab) == {"table": OTHER}
    tab.go_back()
    tab.go_back()
    tab.locator(".ln-card").first.wait_for()
    assert hash_of(tab) == {"table": ODD}


def serious(tab: Tab) -> list[str]:
    """What axe finds that keeps people out."""
    tab.locator(".ln-card").first.wait_for()
    found = Axe().run(tab, context=".lineage").response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found if each["impact"] in ("serious", "critical")
    ]
