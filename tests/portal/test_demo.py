"""The portal of the flights demo, as its readers meet it in a browser."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser as Program
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect

from portal.serving import serving
from portal.visiting import PHONE, Theme, visiting

MOST_BYTES = 300_000
"""Of one page, without data and what all pages share."""
CHARTS = {
    "index.html": 2,
    "dashboards/delays.html": 6,
    "dashboards/carriers.html": 4,
    "dashboards/routes.html": 4,
    "dashboards/fleet.html": 5,  # two of them in tabs that are not open
}
PAGES = [
    *CHARTS,
    "catalog/index.html",
    "catalog/main.fct_flights.html",
    "catalog/raw_nyc.flights.html",
    "lineage.html",
    "checks.html",
]
"""One of each kind; the others of the catalog are opened once, too."""


def own_pages(demo: Path) -> list[str]:
    """Every page but dbt's own."""
    found = (path.relative_to(demo).as_posix() for path in demo.rglob("*.html"))
    return sorted(path for path in found if not path.startswith("dbt/"))


def test_every_page_is_there_and_small(demo: Path) -> None:
    pages = own_pages(demo)
    assert set(PAGES) <= set(pages)
    assert {path: size for path in pages if (size := (demo / path).stat().st_size) > MOST_BYTES} == {}


def test_from_the_disk_every_page_opens_with_its_charts_and_no_fault(program: Program, demo: Path) -> None:
    with visiting(program, demo) as visit:
        marks = {}
        for path in own_pages(demo):
            visit.open(path)
            marks[path] = visit.marks()
            assert visit.faults == [], path
        assert {urlsplit(url).scheme for url in visit.asked} <= {"file", "data", "blob"}
    assert {path: len(counts) for path, counts in marks.items() if counts} == CHARTS
    # All charts have marks, or open() would have waited in vain; these have one for each row.
    months, hours, weekdays = 12, 19, 133
    assert marks["dashboards/delays.html"][:2] == [hours, weekdays]
    assert marks["dashboards/delays.html"][2] > months


def test_bars_of_binned_data_have_a_width(program: Program, demo: Path) -> None:
    with visiting(program, demo) as visit:
        bars = visit.open("dashboards/fleet.html").locator("figure.chart").last.locator("svg .role-mark > path")
        widths = [box["width"] for bar in bars.all() if (box := bar.bounding_box())]
        assert len(widths) == 20 and min(widths) > 5


def test_under_a_prefix_it_is_the_same_and_nothing_comes_from_elsewhere(
    program: Program, demo: Path, tmp_path: Path
) -> None:
    with serving(demo, tmp_path) as url, visiting(program, url) as visit:
        for path in PAGES:
            visit.open(path)
        visit.tab.goto(url)  # the folder itself
        visit.tab.get_by_role("link", name="Catalog").first.click()
        visit.tab.get_by_role("link", name="main.fct_flights", exact=True).first.click()
        assert visit.tab.url.startswith(f"{url}catalog/")
        assert visit.faults == []
        assert {other for other in visit.asked if not other.startswith((url, "data:", "blob:"))} == set()


def test_every_link_leads_somewhere(demo: Path) -> None:
    missing = set()
    for path in own_pages(demo):
        for href in re.findall(r'(?:href|src)="([^"]*)"', (demo / path).read_text(encoding="utf-8")):
            parts = urlsplit(href)
            if parts.scheme or not parts.path:
                continue
            target = (demo / path).parent / unquote(parts.path)
            if not target.is_file():
                missing.add((path, href))
    assert missing == set()


def test_search_finds_a_column_a_dashboard_and_nothing(program: Program, demo: Path) -> None:
    with visiting(program, demo) as visit:
        tab = visit.open("index.html")
        tab.keyboard.press("/")
        tab.keyboard.type("arrival_delay")
        found = tab.get_by_role("option")
        found.first.wait_for()
        assert any("fct_flights" in text for text in found.all_inner_texts())
        tab.get_by_role("combobox", name="Search").first.fill("who is on time zzz")
        tab.get_by_text("Nothing found").wait_for()
        tab.get_by_role("combobox", name="Search").first.fill("fleet")
        tab.get_by_role("option").first.wait_for()
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/dashboards/fleet.html*")
        assert visit.faults == []


def test_a_table_sorts_searches_and_downloads_all_of_its_rows(program: Program, demo: Path) -> None:
    with visiting(program, demo) as visit:
        tab = visit.open("dashboards/carriers.html")
        shown = tab.locator(".table:has(button:text('Download CSV'))")

        def column(place: int) -> list[str]:
            return shown.locator(f"tbody td:nth-child({place})").all_inner_texts()

        def downloaded() -> list[dict[str, str]]:
            with tab.expect_download() as download:
                shown.get_by_role("button", name="Download CSV").click()
            with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
                return list(csv.DictReader(file))

        head = shown.get_by_role("columnheader", name="Flights")
        for direction, first in (("ascending", 32), ("descending", 58_665)):
            head.get_by_role("button").click()
            assert head.get_attribute("aria-sort") == direction
            flights = [int(text.replace(",", "")) for text in column(3)]
            assert len(flights) == 10 and flights[0] == first
            assert flights == sorted(flights, reverse=direction == "descending")
        shown.get_by_role("columnheader", name="Carrier").get_by_role("button").click()
        assert column(1) == sorted(column(1))
        rows = downloaded()
        assert [row["carrier_name"] for row in rows[:10]] == column(1)
        assert (len(rows), sum(int(row["flights"]) for row in rows)) == (16, 336_776)
        shown.get_by_role("searchbox").fill("air lines")
        assert column(1) == ["Delta Air Lines Inc.", "United Air Lines Inc."]
        assert [row["carrier_code"] for row in downloaded()] == ["DL", "UA"]
        assert visit.faults == []


def colours(tab: Tab) -> tuple[str, str, str]:
    """Of the page, of its text, and of the first bar of its first chart."""
    bar = tab.locator("figure.chart svg .role-mark > path").first.get_attribute("fill") or ""
    body = "getComputedStyle(document.body)"
    return (tab.evaluate(f"{body}.backgroundColor"), tab.evaluate(f"{body}.color"), bar)


def test_the_theme_follows_the_system_and_the_switch_and_is_remembered(program: Program, demo: Path) -> None:
    page = "dashboards/delays.html"
    with visiting(program, demo) as visit:
        light = colours(visit.open(page))
        visit.tab.get_by_role("button", name="Switch to dark").click()
        visit.until(f"getComputedStyle(document.body).backgroundColor != '{light[0]}'")
        visit.until(
            f"document.querySelector('figure.chart svg .role-mark > path')?.getAttribute('fill') != '{light[2]}'"
        )
        visit.drawn()
        dark = colours(visit.tab)
        assert all(one != other for one, other in zip(light, dark, strict=True))
        assert colours(visit.open(page)) == dark
        assert visit.faults == []
    with visiting(program, demo, theme="dark") as visit:
        assert colours(visit.open(page)) == dark


def test_tabs_work_by_keyboard(program: Program, demo: Path) -> None:
    with visiting(program, demo) as visit:
        tab = visit.open("dashboards/fleet.html")
        tabs = tab.get_by_role("tab")
        assert tabs.all_inner_texts() == ["By seats", "By age", "By maker"]
        tabs.first.focus()
        for number, bars in ((1, 6), (2, 6), (0, 4)):
            tab.keyboard.press("ArrowRight")
            assert tabs.nth(number).get_attribute("aria-selected") == "true"
            panel = tab.get_by_role("tabpanel")
            assert panel.count() == 1
            assert panel.locator("svg .role-mark > path").count() == bars
        assert visit.faults == []


def test_a_filter_of_a_chart_changes_what_is_drawn_and_survives_another_theme(program: Program, demo: Path) -> None:
    with visiting(program, demo) as visit:
        tab = visit.open("dashboards/delays.html")
        chart = tab.locator("figure.chart").filter(has=tab.locator("select"))
        line = chart.locator("svg .role-mark.mark-line > path, svg .mark-line.role-mark path").last
        before = line.get_attribute("d")
        assert chart.locator("select option").all_inner_texts() == ["All airports", "EWR", "JFK", "LGA"]
        chart.locator("select").select_option(label="LGA")
        tab.wait_for_timeout(200)
        after, light = line.get_attribute("d"), line.get_attribute("stroke")
        assert after != before
        tab.get_by_role("button", name="Switch to dark").click()
        expect(line).not_to_have_attribute("stroke", light or "")
        expect(line).to_have_attribute("d", after or "")
        assert chart.locator("select").evaluate("select => select.selectedOptions[0].label") == "LGA"
        assert visit.faults == []


def test_lineage_follows_a_column_and_leads_to_the_catalog(program: Program, demo: Path) -> None:
    with visiting(program, demo) as visit:
        tab = visit.open("lineage.html")
        tab.get_by_role("combobox", name="Find a table or dashboard").fill("delays_by_carrier")
        tab.keyboard.press("Enter")
        cards = tab.locator(".ln-card .ln-name")
        around = {"delays_by_carrier", "fct_flights", "dim_carriers", "Carriers"}
        assert around <= set(tab.locator(".ln-card .ln-title .ln-name").all_inner_texts())
        chosen = tab.locator(".ln-card.ln-chosen")
        chosen.get_by_role("button", name=re.compile("10 col")).click()
        chosen.get_by_role("button", name="late_share").click()
        for column in ("arrival_delay_minutes", "arr_delay"):  # of staging, and of the source
            cards.get_by_text(column, exact=True).first.wait_for()
        assert tab.locator(".ln-column-edge").count() >= 3
        tab.locator(".ln-card").get_by_role("link", name=re.compile("^fct_flights")).click()
        tab.wait_for_url("**/catalog/*fct_flights*.html")
        assert visit.faults == []


def overflowing(tab: Tab) -> int:
    """By how many pixels the page is wider than its window."""
    return int(tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_on_a_phone_no_page_is_wider_than_the_screen(program: Program, demo: Path) -> None:
    with visiting(program, demo, size=PHONE) as visit:
        assert {path: wide for path in PAGES if (wide := overflowing(visit.open(path))) > 0} == {}
        assert visit.faults == []


def test_axe_finds_no_serious_fault(program: Program, demo: Path) -> None:
    """In the dark only colours are other ones."""
    found: dict[tuple[str, str], str] = {}
    ways: list[tuple[Theme, dict[str, Any]]] = [
        ("light", {"resultTypes": ["violations"]}),
        ("dark", {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}),
    ]
    for theme, options in ways:
        with visiting(program, demo, theme=theme) as visit:
            for path in PAGES if theme == "light" else PAGES[::2]:
                violations = Axe().run(visit.open(path), options=options).response["violations"]
                serious = [each for each in violations if each["impact"] in ("serious", "critical")]
                found |= {(path, each["id"]): each["nodes"][0]["html"] for each in serious}
    assert found == {}


def test_a_page_prints_with_its_charts(program: Program, demo: Path) -> None:
    with visiting(program, demo, theme="dark") as visit:
        tab = visit.open("dashboards/delays.html")
        tab.emulate_media(media="print")
        visit.drawn()
        assert not tab.get_by_role("combobox", name="Search").is_visible()
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") in (
            "rgb(255, 255, 255)",
            "rgba(0, 0, 0, 0)",
        )
        assert len(tab.pdf()) > 50_000
