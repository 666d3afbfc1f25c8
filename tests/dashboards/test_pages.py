"""What a dashboard says, and what it shows."""

from __future__ import annotations

from pathlib import Path

from dashboards.pages import make

SQL = (
    "create schema s; create table s.flights as select i as id, chr(65 + (i % 3)::int) as carrier from range(100) t(i)"
)
PAGE = """\
---
title: Flights
description: How many
order: 2
---
# Today

There are **{{ total.n | ,d }}** flights, and `{{ total.n }}` is code.

```sql total
select count(*) * 1000 as n, 0.25 as share from s.flights
```

```sql carriers
select carrier, count(*) as n from s.flights group by 1 order by 1
```

```value
- {query: total, column: n, label: Flights, format: ",d", better: higher}
- {query: total, column: share, format: .1%}
```

```vega-lite
title: By carrier
data: {name: carriers}
mark: bar
encoding:
  x: {field: carrier, type: nominal}
  y: {field: n, type: quantitative}
```

```table
query: carriers
columns: {carrier: {label: Who}, n: {format: ",.1f"}}
```
"""


def test_a_page(tmp_path: Path) -> None:
    built = make(tmp_path, {"flights.md": PAGE}, SQL, before=SQL.replace("100", "80"))
    assert (built.said, built.warned) == ([], [])
    page = built.pages["flights"]
    assert (page.title, page.description, page.reads) == ("Flights", "How many", ("s.flights",))
    for part in [
        "<h2>Today</h2>",
        "There are <strong><bdi>100,000</bdi></strong> flights, and <code>{{ total.n }}</code> is code.",
        '<dt dir="auto">Flights</dt><dd class="value-number"><bdi>100,000</bdi></dd><dd class="value-change good">',
        "25.0% since the last release",
        '<bdi>25.0%</bdi></dd><dd class="value-change">unchanged',
        '<th scope="col" dir="auto">Who</th>',
        '<td class="number" dir="auto">34.0</td>',
        '<figure class="chart" data-chart="b2">',
        "select carrier, count(*) as n from s.flights group by 1 order by 1</code></pre>",
    ]:
        assert part in page.html, part
    assert page.data["queries"]["carriers"]["rows"] == [["A", 34], ["B", 33], ["C", 33]]
    assert page.data["charts"]["b2"]["spec"]["width"] == "container"
