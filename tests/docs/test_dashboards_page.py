"""The example of the page on dashboards is a dashboard, and its formats are as it says."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

from dashboards.pages import make
from docs.markdown import ROOT, section

PAGE = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
ORDERS = """
create table fct_orders as select i as id, date '2026-01-01' + (i % 90)::int as ordered_at, i % 7 = 0 as is_late,
  ['NL', 'BE', 'DE'][1 + i % 3] as country, 'Customer ' || (i % 40) as customer, (i * 1.25)::decimal(12, 2) as amount
from range(1, 1001) t(i)
"""


def test_the_example_is_a_dashboard(tmp_path: Path) -> None:
    text = dedent(section(PAGE, "example")).strip() + "\n"
    built = make(tmp_path, {"sales.md": text}, ORDERS, before=ORDERS.replace("1001", "901"))
    assert (built.said, built.warned) == ([], [])
    page = built.pages["sales"]
    assert (page.title, page.reads) == ("Sales", ("main.fct_orders",))
    assert '<bdi>625,625</bdi></dd><dd class="value-change good">' in page.html
    assert "<p><bdi>14%</bdi> of all orders came late.</p>" in page.html
    chart = page.data["charts"]["b2"]["spec"]["params"][0]["bind"]["country"]
    assert chart["labels"] == ["All", "BE", "DE", "NL"] and chart["options"] == [None, "BE", "DE", "NL"]
    assert '<th scope="col" dir="auto">Customer</th>' in page.html and "20 of 120 rows" in page.html


def test_the_formats_are_as_the_page_says(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", section(PAGE, "formats"), re.MULTILINE)
    assert len(rows) == 9
    kinds = {10: "date", 19: "timestamp"}
    values = [
        f"'{value}'::{kinds.get(len(value), 'double') if ':' in value or '-' in value else 'double'}"
        for _, value, _ in rows
    ]
    columns = ", ".join(f"{value} as c{n}" for n, value in enumerate(values))
    shown = "\n\n".join(f"{{{{ q.c{n} | {format} }}}}" for n, (format, _, _) in enumerate(rows))
    built = make(tmp_path, {"p.md": f"```sql q\nselect {columns}\n```\n\n{shown}\n"})
    assert built.said == []
    assert re.findall(r"<p><bdi>(.*?)</bdi></p>", built.pages["p"].html) == [said for _, _, said in rows]
