"""Data, names and pages of somebody who means harm: nothing but text comes of them."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path

import pytest

from dashboards.pages import make
from dashboards.test_browser import browser, needs_chromium, open_page, vega
from smoll.model import literal, quote
from up.browser import Browser

__all__ = ["browser", "vega"]

EVIL = (
    '</script><script>window.hurt = 1</script><img src=x onerror="window.hurt = 1">\'"`${window.hurt = 1}`'
    "{{ q.n }}{% x %}\u2028\u2029\\ &amp; 🚀 \u202eשלום\u202c a.b[0]"  # noqa: RUF001
)
TITLE = EVIL.replace("\u2028\u2029", "")
"""Vega cannot read its own expression with these two in a title; that is a problem that is told, see test_problems."""
TAGS = set(
    """a bdi code dd details div dl dt em figure h2 noscript p pre section span strong summary table tbody td th thead
    tr""".split()  # noqa: SIM905
)
PAGE = f"""\
---
title: {json.dumps(EVIL, ensure_ascii=False)}
description: {json.dumps(EVIL, ensure_ascii=False)}
---
# {EVIL.replace("{{ q.n }}", "")}

<script>window.hurt = 1</script> <img src=x onerror="window.hurt = 1">

<div onclick="window.hurt = 1">

[click](javascript:window.hurt=1) [data](data:text/html,<script>window.hurt=1</script>) <javascript:alert(1)>
[ok](https://example.com/"onmouseover="window.hurt=1)

{{{{ q.text }}}} {{{{ שאלה.n }}}} **{{{{ q.{quote("N")[0]}{EVIL.replace('"', '""')}" }}}}**

```sql q
select n, text, text as {quote(EVIL)}, text as "__proto__", text as "constructor" from hostile
```

```sql שאלה
select 1 as n
```

:::: tabs
::: tab {EVIL.replace("{{ q.n }}", "")}
```vega-lite
{
    json.dumps(
        {
            "title": TITLE,
            "description": TITLE,
            "data": {"name": "q"},
            "mark": {"type": "bar", "tooltip": {"content": "data"}},
            "params": [
                {"name": "p", "bind": {"input": "select", "options": {"query": "q", "column": EVIL, "all": EVIL}}}
            ],
            "encoding": {
                "x": {"field": "n", "type": "ordinal"},
                "y": {"field": "n", "type": "quantitative", "title": TITLE},
                "color": {"field": "text", "type": "nominal"},
                "href": {"field": "text"},
            },
        }
    )
}
```

```vega-lite
{{data: {{name: שאלה}}, mark: point, encoding: {{x: {{field: n, type: quantitative}}}}}}
```
:::
::::

```table
{json.dumps({"query": "q", "columns": {EVIL: {"label": EVIL}, "n": {"format": ",d"}, "text": None}})}
```

```value
{json.dumps([{"query": "q", "column": EVIL, "label": EVIL}])}
```

```python
{EVIL}
```
"""


class Tags(html.parser.HTMLParser):
    """What a browser would find in a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


@needs_chromium
def test_hostile_texts_stay_text(tmp_path: Path, browser: Browser, vega: Path) -> None:
    built = make(tmp_path, {"🚀.md": PAGE}, f"create table hostile as select 3 as n, {literal(EVIL)} as text")
    assert built.said == []
    (page,) = built.pages.values()
    assert page.title == page.description == EVIL.strip() and page.slug.startswith("page-")
    tags = Tags()
    tags.feed(page.html)
    assert tags.tags <= TAGS, tags.tags - TAGS
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert all(link.startswith("https://example.com/") for link in tags.links), tags.links

    open_page(browser, tmp_path, vega, page)
    tab = browser.tab
    assert tab.locator("figure[data-state=drawn]").count() == 2
    bar = tab.locator("path[aria-roledescription=bar]").first
    assert EVIL in (bar.get_attribute("aria-label") or "") and TITLE in (tab.locator("svg").first.text_content() or "")
    bar.hover()
    tab.locator("#vg-tooltip-element.visible").wait_for()
    bar.click()
    cells = tab.locator("table.data tbody").last.locator("tr").first.locator("td")
    assert cells.all_text_contents() == [EVIL, "3", EVIL]
    tab.locator("details.chart-data summary").first.click()
    assert tab.locator("select option").all_text_contents()[0] == EVIL
    assert tab.evaluate("window.hurt") is None
    assert not browser.hosts
    assert [error for error in browser.errors if "fetches nothing" not in error] == []


@pytest.mark.parametrize(
    ("sql", "shown"), [("select 1 as a where false", "No rows."), ("select null as a", "no value")]
)
def test_nothing(tmp_path: Path, sql: str, shown: str) -> None:
    page = f"""```sql q
{sql}
```
{{{{ q.a | ,d }}}}
```value
{{query: q, column: a, format: .1%, better: higher}}
```
```table
query: q
```
```vega-lite
{{data: {{name: q}}, mark: bar, encoding: {{x: {{field: a, type: quantitative}}, y: {{aggregate: count}}}}}}
```
"""
    built = make(tmp_path, {"p.md": page}, before="")
    assert (built.said, built.warned) == ([], [])
    html = built.pages["p"].html
    assert shown in html and "<p><bdi>–</bdi></p>" in html  # noqa: RUF001
    assert '<dd class="value-number"><bdi>–</bdi></dd></div>' in html  # noqa: RUF001


def test_what_is_large(tmp_path: Path) -> None:
    """2,000 columns, and a text of 50 MB."""
    columns = ", ".join(f"i as {quote(f'column {n}')}" for n in range(2000))
    sql = f"create table wide as select {columns} from range(200) t(i); "
    sql += "create table long as select repeat('ä', 25_000_000) t"
    page = "```sql q\nfrom wide\n```\n```table\nquery: q\n```\n```sql r\nfrom long\n```\n```table\nquery: r\n```\n"
    built = make(tmp_path, {"p.md": page + "{{ r.t }}"}, sql)
    assert built.said == []
    assert [each for each in built.warned if "which are cut" in each] == built.warned
    page_made = built.pages["p"]
    assert "100 of 2,000 columns are shown; the download has all." in page_made.html
    assert len(page_made.html) < 100_000
    assert len(page_made.data["queries"]["q"]["columns"]) == 2000
    ((text,),) = page_made.data["queries"]["r"]["rows"]
    assert text == "ä" * 2000 + "…"


def test_values_are_exact(tmp_path: Path) -> None:
    sql = """select 9007199254740993 as big, 1.50::decimal(9, 2) as price, .5::decimal(3, 3) as part,
      'nan'::double as nan, '-inf'::double as inf, 0.1::float as small, 1e300 as huge, date '2013-01-01' as day,
      [1, null] as list, {'a': 'x"y'} as struct, 'a\\x00b'::blob as bytes, interval 3 month as span,
      '12345678901234567890.12'::decimal(38, 2) as long,
      timestamptz '2013-01-01 05:00:00.5+02:00' as moment, 2.0::double as two, true as yes"""
    built = make(tmp_path, {"p.md": f"```sql q\n{sql}\n```\n```table\nquery: q\n```\n"})
    (row,) = built.pages["p"].data["queries"]["q"]["rows"]
    names = [column["name"] for column in built.pages["p"].data["queries"]["q"]["columns"]]
    assert dict(zip(names, row, strict=True)) == {
        "big": "9007199254740993", "price": 1.5, "part": 0.5, "nan": "NaN", "inf": "-Infinity", "small": 0.1,
        "huge": 1e300, "day": "2013-01-01", "list": "[1,null]", "struct": '{"a":"x\\"y"}', "bytes": "a\\x00b",
        "span": "3 months", "long": "12345678901234567890.12", "moment": "2013-01-01 03:00:00.5+00",
        "two": 2, "yes": True,
    }  # fmt: skip
    html = built.pages["p"].html
    for shown in ["9007199254740993", "1.50", "0.500", "nan", "-inf", "0.1", "1e+300", "2", "[1,null]"]:
        assert f'dir="auto">{shown}</td>' in html, shown
