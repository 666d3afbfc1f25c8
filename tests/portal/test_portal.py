"""The portal of a release, as files: what it says, and what it keeps to itself."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import smoll
from support import MakeProject, reopen, write

YML = "sources: {s: {kind: files, streams: {orders: data/orders.csv}}}\n"
MODELS = {
    "marts/sales": "select * from {{ source('s', 'orders') }}",
    "marts/schema.yml": """
models:
  - name: sales
    description: "What was **sold**, <b>all</b> of it."
    columns:
      - {name: id, description: Its number., data_tests: [unique]}
      - {name: amount, data_tests: [{not_null: {config: {severity: warn}}}]}
""",
}


def site(project: smoll.Project) -> Path:
    """The folder of the current portal."""
    return project.config.root / ".smoll/releases/current/portal"


def page(project: smoll.Project, path: str = "index.html") -> str:
    return (site(project) / path).read_text(encoding="utf-8")


def test_pages_of_a_release(make_project: MakeProject) -> None:
    """Overview, catalog and checks say what there is, and with the second release what changed."""
    project = make_project(YML, {"data/orders.csv": "id,amount\n1,10\n2,20\n"}, MODELS)
    assert project.run().release.status == "published"
    sales = page(project, "catalog/main.sales.html")
    assert "What was <strong>sold</strong>, &lt;b&gt;all&lt;/b&gt; of it." in sales
    assert "Its number." in sales and '<td dir="auto">20</td>' in sales
    assert 'href="../catalog/raw_s.orders.html"' in sales
    assert "This is the first release" in page(project)
    assert all((site(project) / "assets" / name).stat().st_size for name in ("portal.css", "portal.js"))

    write(project.config.root, {"data/orders.csv": "id,amount\n1,10\n2,20\n3,\n"})
    assert reopen(project).run().release.status == "published"
    overview = page(project)
    assert "Beside release 1" in overview and "+1</td>" in overview
    assert "newly failing" in overview and "not_null_sales_amount" in overview
    checks = page(project, "checks.html")
    assert "1 row on which it failed" in checks and '<td class="null">null</td>' in checks
    rows = [re.sub("<[^>]*>", " ", row).split() for row in re.findall("<tr>.*?</tr>", checks, re.DOTALL)]
    assert ["main.sales", "1", "1", "0"] in rows  # passed, warnings, failed
    assert [(row[0], row[-3:]) for row in rows if row[0] in "12"] == [("2", ["1", "1", "0"]), ("1", ["2", "0", "0"])]


BOARD = """---
title: Sold
---
```sql total
select sum(amount) as amount from main.sales
```
All together {{ total.amount }}.
"""


def test_dashboards_travel_with_the_release_and_refuse_it_where_they_are_wrong(make_project: MakeProject) -> None:
    project = make_project(YML, {"data/orders.csv": "id,amount\n1,10\n2,20\n", "dashboards/sold.md": BOARD}, MODELS)
    assert project.run().release.number == 1
    assert "All together <" in page(project, "dashboards/sold.html") and ">30<" in page(project, "dashboards/sold.html")
    assert 'href="dashboards/sold.html"' in page(project)
    assert reopen(project).run().release.status == "unchanged"

    write(project.config.root, {"dashboards/sold.md": BOARD.replace("All together", "Sold for")})
    assert reopen(project).run().release.number == 2  # though no table changed
    assert "Sold for" in page(project, "dashboards/sold.html")
    assert "No table changed" in page(project)

    write(project.config.root, {"dashboards/sold.md": BOARD.replace("sum(amount)", "sum(amuont)")})
    refused = reopen(project).run()
    assert (refused.status, refused.release.status) == ("refused", "refused")
    assert refused.release.refusals[0].subject == "dashboards/sold.md:5"
    assert "amuont" in refused.release.refusals[0].reason
    assert sorted(path.name for path in (project.config.root / ".smoll/releases").iterdir()) == ["1", "2", "current"]


def test_the_portal_shares_the_memory_of_the_project(make_project: MakeProject) -> None:
    """Working warehouse, new release and the one before are open at once; together they may use what one may."""
    board = "```sql it\nselect current_setting('memory_limit') as limit\n```\n{{ it.limit }}\n"
    yml = f"{YML}resources: {{memory: 1324MiB}}\n"  # less 300 for Python
    project = make_project(yml, {"data/orders.csv": "id,amount\n1,10\n", "dashboards/it.md": board}, MODELS)
    assert project.run().release.status == "published"
    assert ">512.0 MiB<" in page(project, "dashboards/it.html")


PII = """
models:
  - name: people
    columns: [{name: label, meta: {pii: true}}, {name: city}]
"""


def test_what_is_personal_is_on_no_page(make_project: MakeProject) -> None:
    """Under whatever name it has up to the source, in profiles, samples, failing rows and reasons of rejects."""
    models = {
        "marts/people": "select id, mail as label, city from {{ ref('stg') }}",
        "marts/schema.yml": PII,
        "stg": "select id, lower(e) as mail, city from {{ source('s', 'people') }}",
    }
    stream = "{path: data/p.csv, columns: {id: bigint}, on_bad_row: quarantine}"
    yml = f"sources: {{s: {{kind: files, streams: {{people: {stream}}}}}}}\n"
    rows = "id,e,city\n1,Ada@example.org,Paris\n2,Bob@example.org,Rome\nadamant,Cyd@example.org,Oslo\n"
    tests = {"no_bob": "{{ config(severity='warn') }} select * from {{ ref('people') }} where id > 1"}
    project = make_project(yml, {"data/p.csv": rows}, models, tests)
    assert project.run().release.status == "published"
    files = [file for file in site(project).rglob("*") if file.suffix in (".html", ".js")]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    assert any("Paris" in text for text in texts.values())
    assert [file for file, text in texts.items() if "example.org" in text.lower() or "adamant" in text] == []


def test_sql_is_shown_as_it_is_with_marks(make_project: MakeProject) -> None:
    written = """-- <b>all</b> of it
select *, '</script>' || 'it''s' as "a<b", {{ 1 + 1 }} as n -- {# not a note #}

/* and
   more */ from {{ source('s', 'orders') }} where id > 0.5"""
    project = make_project(YML, {"data/orders.csv": "id\n1\n"}, {"sales": written, "long": written + "\n--x" * 20_000})
    assert project.run().release.status == "published"
    for name in ("sales", "long"):
        _, shown = re.findall(
            '<pre class="code" tabindex="0"><code>(.*?)</code>', page(project, f"catalog/main.{name}.html"), re.DOTALL
        )
        assert (
            unescape(re.sub("</?span[^>]*>", "", shown))
            == (project.config.root / f"transform/models/{name}.sql").read_text()
        )
        assert ('<span class="sql-word">from</span>' in shown) == (name == "sales")
        assert "<b" not in shown and "</script" not in shown


def test_dbts_docs_are_a_part_of_it_and_track_nobody(make_project: MakeProject) -> None:
    project = make_project(YML, {"data/orders.csv": "id,amount\n1,10\n"}, MODELS)
    project.run()
    data = page(project, "data/dbt.js")
    found = json.loads(data.partition(" = ")[2].rstrip(";\n"))
    manifest, catalog = found["manifest"], found["catalog"]
    assert manifest["metadata"]["send_anonymous_usage_stats"] is False
    assert catalog["nodes"]["model.tests.sales"]["columns"]["amount"]["type"] == "BIGINT"
    assert str(project.config.root) not in data
    assert "cloudfront" not in page(project, "assets/dbt-docs.js")
    shown = page(project, "dbt/index.html")
    assert "INLINE DATA" not in shown and 'src="../data/dbt.js"' in shown
