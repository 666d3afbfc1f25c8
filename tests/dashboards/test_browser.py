"""The script of dashboards in a real browser: charts have marks, tables sort, tabs turn, hostile data stay text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboards.pages import make
from smoll.dashboards import Fragment, script
from up.browser import Browser, browsing, chromium

needs_chromium = pytest.mark.skipif(
    chromium() is None, reason="there is no Chromium; on Debian: apt-get install chromium"
)

PAGE = """\
```sql days
select date '2013-12-29' + i::int as day, chr(65 + (i % 2)::int) as who, i * 1000000000000 as n,
       (90071992547409930 + i)::hugeint as big, if(i = 3, null, '=1+' || i) as code, i::decimal(9, 2) / 4 as part
from range(25) t(i)
```

:::: tabs
::: tab Chart
```vega-lite
title: Days
data: {name: days}
params:
  - name: one
    select: {type: point, fields: [who]}
    bind: {who: {input: select, options: {query: days, column: who, all: Everybody}}}
transform: [{filter: {param: one}}]
mark: bar
encoding:
  x: {field: day, type: temporal, timeUnit: yearmonthdate}
  y: {field: n, type: quantitative}
```

```vega-lite
data: {name: days}
transform: [{calculate: datum.part + 0.25, as: end}]
mark: bar
encoding:
  x: {field: part, bin: {binned: true, step: 0.25}}
  x2: {field: end}
  y: {field: n, type: quantitative}
```
:::
::: tab Table & more
```table
query: days
columns: {day: {format: "%d %b"}, n: {label: Number, format: ",.1f"}, big: , code: , part: {format: ".0%"}}
```
:::
::::
"""


@pytest.fixture(scope="module")
def vega(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vega") / "vega.js"
    write = "import sys, vl_convert; open(sys.argv[1], 'w').write(vl_convert.javascript_bundle())"
    subprocess.run([sys.executable, "-c", write, str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """In a zone west of Greenwich, where a day that is taken for midnight of UTC would be the day before."""
    with browsing("") as browser:
        program = browser.tab.context.browser
        assert program
        browser.tab = tab = program.new_page(timezone_id="America/Los_Angeles", viewport={"width": 1200, "height": 900})
        tab.on("request", lambda request: browser.asked(request.url))
        tab.on("console", lambda said: browser.errors.append(said.text) if said.type == "error" else None)
        tab.on("pageerror", lambda error: browser.errors.append(str(error)))
        yield browser


def open_page(browser: Browser, folder: Path, vega: Path, page: Fragment) -> None:
    """As the portal has it, with a policy under which no script that is in the page itself would run."""
    (folder / "dashboard.js").write_bytes(script())
    data = json.dumps(page.data, allow_nan=False)
    (folder / "data.js").write_text(f'(window.smollData ??= {{}})["dashboard-{page.slug}"] = {data};', "utf-8")
    policy = "default-src 'none'; script-src file:; style-src 'unsafe-inline'; img-src data:"
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>t</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"></head><body><main>{page.html}</main>'
        f'<script src="{vega.as_uri()}"></script><script src="data.js"></script><script src="dashboard.js"></script>'
        "</body></html>"
    )
    path = folder / "page.html"
    path.write_text(html, "utf-8")
    browser.errors.clear()
    browser.open(path.as_uri())
    browser.tab.wait_for_function("() => [...document.querySelectorAll('[data-chart]')].every((c) => c.dataset.state)")


@needs_chromium
def test_charts_tables_and_tabs(tmp_path: Path, browser: Browser, vega: Path) -> None:
    built = make(tmp_path, {"p.md": PAGE})
    assert (built.said, built.warned) == ([], [])
    tab = browser.tab
    open_page(browser, tmp_path, vega, built.pages["p"])
    assert tab.locator("figure[data-state=drawn]").count() == 2
    marks = tab.locator("figure").first.locator("path[aria-roledescription=bar]")
    assert marks.count() == 25
    box = tab.locator("svg").first.bounding_box()
    assert box and box["width"] > 800  # as wide as there is room
    assert (marks.first.get_attribute("aria-label") or "").startswith("day (year-month-date): Dec 29, 2013;")
    bin = tab.locator("figure").nth(1).locator("path[aria-roledescription=bar]").last.bounding_box()
    assert bin and bin["width"] > 20
    tab.select_option("select", label="B")
    tab.wait_for_function(
        "() => document.querySelectorAll('figure:first-of-type path[aria-roledescription=bar]').length === 12"
    )

    rows = tab.locator(".tab:nth-of-type(2) tbody tr")
    assert not rows.first.is_visible()
    tab.get_by_role("tab", name="Chart").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.get_by_role("tab", name="Table & more").get_attribute("aria-selected") == "true"
    assert rows.count() == 10 and rows.first.is_visible()

    def first() -> list[str]:
        return rows.first.locator("td").all_inner_texts()

    assert first() == ["29 Dec", "0.0", "90071992547409930", "=1+0", "0%"]
    big = tab.get_by_role("columnheader", name="big")
    big.get_by_role("button").click()
    assert (big.get_attribute("aria-sort"), first()[2]) == ("ascending", "90071992547409930")
    big.get_by_role("button").click()
    assert (big.get_attribute("aria-sort"), first()) == (
        "descending",
        ["22 Jan", "24,000,000,000,000.0", "90071992547409954", "=1+24", "600%"],
    )
    code = tab.get_by_role("columnheader", name="code").get_by_role("button")
    code.click()
    code.click()
    tab.get_by_role("button", name="Next").click()
    tab.get_by_role("button", name="Next").click()
    assert tab.get_by_text("21 to 25 of 25 rows").is_visible()
    assert rows.last.locator("td").nth(3).inner_text().endswith("no value")  # last, whichever way it is sorted
    tab.get_by_role("searchbox").fill("jan")
    assert tab.get_by_text("1 to 10 of 22 rows").is_visible()
    tab.get_by_role("searchbox").fill("=1+17")
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "days.csv"
    text = Path(download.value.path()).read_bytes().decode("utf-8-sig")
    assert text == "day,n,big,code,part\r\n2014-01-15,17000000000000,90071992547409947,'=1+17,4.25\r\n"
    assert browser.errors == []
    assert not browser.hosts
