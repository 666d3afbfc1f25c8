"""A project in which names, descriptions, values and Markdown try to get out of their place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Program

import smoll
from portal.visiting import visiting
from smoll.model import literal, quote
from support import write_project

EVIL = """</script></style><img src=x onerror="window.pwned=1;alert(1)"><svg onload=alert(2)>'"`&lt;\\u003c<!--"""
"""Ends a script, a style, an attribute and a text, and begins a comment."""
RTL, EMOJI = "مبيعات", "🛩️ naïve"
ALIAS = "</script><b>✈️'"
SQL = f"""
{{{{ config(alias={ALIAS!r}) }}}}
select
    range as n,
    {literal(EVIL)} || range % 3 as {quote(EVIL)},
    {literal(RTL)} as {quote(RTL)},
    case range when 0 then 'a' || chr(8238) || 'b' when 1 then chr(65534) else 'c' end as {quote(EMOJI)},
    null as nothing
from range(50)
"""
PROPERTIES = {
    "models": [
        {
            "name": "evil",
            "description": f"{EVIL} [link](javascript:alert(3)) {RTL}",
            "config": {"tags": [EVIL], "meta": {"owner": EVIL}},
            "columns": [
                {"name": "n", "description": EVIL, "data_tests": ["unique"]},
                {"name": EVIL, "quote": True, "description": f"{EMOJI} {EVIL}"},
                {"name": RTL, "quote": True, "data_tests": ["not_null"]},
            ],
        }
    ]
}
DASHBOARD = f"""---
title: {json.dumps(EVIL)}
description: {json.dumps(f"{RTL} {EVIL}", ensure_ascii=False)}
---

# {EMOJI} {EVIL}

<script>alert(4)</script> <img src=x onerror=alert(5)> [a](javascript:alert(6)) {{{{ rows.{quote(EVIL)} }}}}

```sql rows
select n, {quote(EVIL)}, {quote(RTL)}, '{RTL}' || n as label from main.{quote(ALIAS)} order by n
```

```vega-lite
title: {json.dumps(EVIL)}
description: {json.dumps(EVIL)}
data: {{name: rows}}
params:
  - name: pick
    value: ""
    bind: {{input: select, name: {json.dumps(EVIL)}, options: {{query: rows, column: {json.dumps(EVIL)}}}}}
mark: {{type: bar, tooltip: true}}
encoding:
  x: {{field: n, type: quantitative, title: {json.dumps(EVIL)}}}
  y: {{field: label, type: nominal, title: {json.dumps(RTL, ensure_ascii=False)}}}
```

```table
query: rows
columns: {{n: {{label: {json.dumps(EVIL)}}}, {json.dumps(EVIL)}: {{label: {json.dumps(RTL, ensure_ascii=False)}}}}}
```

```value
{{query: rows, column: {json.dumps(EVIL)}, label: {json.dumps(EVIL)}}}
```

:::: tabs
::: tab {EVIL.replace("`", "")}
one
:::
::: tab {RTL}
two
:::
::::
"""


@pytest.fixture
def portal(tmp_path: Path) -> Path:
    root = tmp_path / "it's <hostile>"
    root.mkdir()
    files = {
        f"dashboards/{RTL} <b>.md": DASHBOARD,
        "data/in.csv": f'id,"{EVIL.replace(chr(34), chr(34) * 2)}"\n1,"{EVIL.replace(chr(34), chr(34) * 2)}"\n',
    }
    models = {"evil": SQL, "evil.yml": json.dumps(PROPERTIES, ensure_ascii=False)}
    smoll_yml = "sources: {s: {kind: files, streams: {stream: data/in.csv}}}\nrelease: {select: '*'}\n"
    write_project(root, smoll_yml, files, models, {})
    result = smoll.open_project(root).run()
    assert result.release.number == 1, result
    return root / ".smoll" / "releases" / "1" / "portal"


def test_nothing_hostile_gets_out_of_its_place(program: Program, portal: Path) -> None:
    texts = ""
    with visiting(program, portal) as visit:
        for path in sorted(portal.rglob("*.html")):
            if path.parent.name == "dbt":
                continue
            tab = visit.open(path.relative_to(portal).as_posix().replace("%", "%25"))
            texts += tab.inner_text("body")
            assert tab.locator("img[src=x], [onerror], svg[onload], main script, a[href^='javascript']").count() == 0
            for summary in tab.locator("summary:visible").all():
                summary.click()
            assert tab.evaluate("window.pwned") is None
        tab = visit.open("index.html")
        tab.get_by_role("combobox", name="Search").first.fill("onerror")
        tab.get_by_role("option").first.wait_for()
        assert tab.locator("img").count() == 0
        assert visit.faults == []
    assert EVIL in texts  # as a text, whole
    assert RTL in texts
    assert EMOJI in texts
