"""What is wrong with a dashboard is said with file and line, before it is published."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import duckdb
import pytest

import smoll
from dashboards.pages import make
from smoll.dashboards import build
from smoll.interrupts import interruptible
from smoll.model import Finding
from smoll.state.layout import Layout
from support import MakeProject, files_yml, reopen, write

Q = "```sql q\nselect 1 as a, 'x' as b, 'p' as \"c.d\"\n```\n"
"""Three lines, the query itself on the second."""
CHART = "```vega-lite\n{data: {name: q}, mark: bar, encoding: {x: {field: a, type: quantitative}}}\n```\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # front matter
        ("---\ntitle: [1]\n---\n", ["2 `title` is a text"]),
        ("---\ntitel: x\norder: a\n---\n", ["2 unknown key `titel` (did you mean `title`?)", "3 `order` is a whole"]),
        ("---\ntitle: x\n", ["1 the front matter has no end"]),
        ("---\na: [\n---\n", ["2 not valid YAML"]),
        (b"# ok\n\xff\xfe", ["2 not valid UTF-8"]),
        # queries
        (Q + "\n```sql Q\nselect 2\n```", ["5 there is a query `q` already (on line 1)"]),
        ("```sql a b\nselect 2\n```", ["1 `a b` is no name"]),
        ("```sql a\n\n```", ["1 the query `a` is empty"]),
        ("\n```sql a\nselect 1,\n  nope\nfrom t\n```", ["5 the query `a` fails: Table with name t does not exist!"]),
        ("```sql a\nselect 1,\n  nope\n```", ['3 the query `a` fails: Referenced column "nope" was']),
        ("```sql a\nselect 1,\n  +\n```", ["3 the query `a` cannot be read: syntax error at end of input"]),
        (
            "```sql a\nselect * from {{ ref('x') }}\n```",
            ["2 the query `a` cannot be read: syntax error", "dbt's {{ }}"],
        ),
        ("```sql a\nselect 1) as x; drop table t; --\n```", ["2 the query `a` cannot be read"]),
        ("```sql a\nselect 1; select 2\n```", ["1 the query `a` has 2 statements"]),
        ("```sql a\ncreate table x as select 1\n```", ["1 the query `a` is no SELECT"]),
        ("```sql a\nselect 'x'::date as d\n```", ["2 the query `a` fails: Conversion Error"]),
        # values and tables
        (Q + "{{ q.nope }}", ["4 the query `q` gives no column `nope` (it gives a, b, c.d)"]),
        (Q + "one\ntwo {{ no.a }}", ["5 there is no query `no` on this page"]),
        (Q + "{{ q.a | wat }}", ["4 `wat` is no format"]),
        (Q + "{{ what is this }}", ["4 {{ what is this }} is no value"]),
        (
            Q + "```value\n- {query: q, column: a, better: up}\n- {query: q}\n```",
            ["5 `better` is", "6 `column` is missing"],
        ),
        (Q + "```table\nquery: nope\n```", ["4 there is no query `nope` on this page (there are: q)"]),
        (Q + "```table\nquery: q\nrows: many\ncolum: x\n```", ["6 `rows` is a number", "7 unknown key `colum`"]),
        (Q + "```table\nquery: q\ncolumns: {A: }\n```", ["4 the query `q` gives no column `A` (did you mean `a`?)"]),
        (Q + "```table\n```", ["4 the block is empty"]),
        (Q + "```vegalite\n{}\n```", ["4 unknown block `vegalite` (did you mean `vega-lite`?)"]),
        # containers and pictures
        ("::: grid 2\ntext", ["1 `::: grid` is not closed (close it with a line :::)"]),
        ("text\n\n:::", ["3 these colons close nothing"]),
        ("::: griid\n:::", ["1 unknown container `griid` (did you mean `grid`?)"]),
        ("::: grid many\n:::", ["1 `grid many`: how many columns?"]),
        ("::: tab x\n:::", ["1 a tab stands in tabs"]),
        ("![x](https://example.com/x.png)", ["1 the picture https://example.com/x.png lies elsewhere"]),
        ("![x](../smoll.yml)", ["1 the picture ../smoll.yml lies outside of dashboards/"]),
        ("![x](nope.png)", ["1 there is no picture nope.png"]),
        # charts
        (Q + CHART.replace("field: a", "field: A"), ["5 the query `q` gives no column `A` (did you mean `a`?)"]),
        (Q + CHART.replace("field: a", "field: c.d"), ["5 the query `q` gives no column `c`", r"escaped: c\.d"]),
        (Q + CHART.replace("name: q", "name: qq"), ["5 there is no query `qq` on this page"]),
        (Q + CHART.replace("name: q", "url: http://x/y.json"), ["5 a chart takes its data from a query"]),
        (Q + CHART.replace("data: {name: q}, ", ""), ["5 the chart has no data"]),
        (Q + CHART.replace("mark: bar", "mark: bra"), ["5 Vega-Lite has no mark `bra` (did you mean `bar`?)"]),
        (Q + CHART.replace("mark: bar", "mark: image"), ["5 a chart shows no images"]),
        (Q + CHART.replace("encoding:", "encodng:"), ["5 Vega-Lite has no key `encodng` here"]),
        (Q + CHART.replace("x:", "xx:"), ["5 Vega-Lite has no channel `xx`"]),
        (Q + CHART.replace("type: quantitative", "type: number"), ["5 Vega-Lite has no type `number`"]),
        (Q + CHART.replace("mark: bar", "usermeta: {}, mark: bar"), ["5 Vega-Lite has no key `usermeta` here"]),
        (
            Q
            + CHART.replace("mark:", 'transform: [{filter: "datum.z > 1"}, {calculate: "datum[\'y\']", as: s}], mark:'),
            ["5 the query `q` gives no column `z`", "5 the query `q` gives no column `y`"],
        ),
        (
            Q + CHART.replace("mark:", "transform: [{aggregate: [{op: sum, field: a, as: s}], groupby: [b]}], mark:"),
            ["5 the query `q` gives no column `a` (there are: b, s)"],
        ),
        (
            Q
            + CHART.replace(
                "mark:", "params: [{name: p, bind: {input: select, options: {query: q, column: z}}}], mark:"
            ),
            ["5 the query `q` gives no column `z`"],
        ),
        # what only drawing it shows
        (
            Q + CHART.replace("{field", "{axis: {format: zzz}, field"),
            ["4 the chart cannot be drawn: invalid format: zzz"],
        ),
        (Q + CHART.replace("mark:", "transform: [{filter: nofunc(1)}], mark:"), ["4 the chart cannot be drawn: Unrec"]),
        (Q + CHART.replace("{field", '{title: "\\L", field'), ["4 the chart cannot be drawn: Expression parse error"]),
        (Q + CHART.replace("mark:", "transform: [{filter: nosignal}], mark:"), ["4 the chart cannot be drawn: Unrec"]),
    ],
)
def test_a_problem(tmp_path: Path, text: str | bytes, said: list[str]) -> None:
    found = make(tmp_path, {"p.md": text}).said
    assert found and all(each.startswith("p.md:") for each in found)
    lines = [each.removeprefix("p.md:") for each in found]
    numbered = [each for each in said if each[0].isdigit()]
    assert len(lines) == len(numbered), lines
    for each in said:
        assert any(each in line for line in lines), lines
    for each in numbered:
        assert any(line.startswith(each) for line in lines), lines


WELL = [
    "mark: bar, encoding: {x: {field: c\\.d}, y: {field: \"['c.d']\"}, tooltip: [{field: a}, {field: b}]}",
    "mark: {type: bar}, transform: [{calculate: datum.a * 2, as: twice}], encoding: {x: {field: twice}}",
    "transform: [{fold: [a, b]}, {filter: {field: key, equal: b}}], mark: point, encoding: {x: {field: value}}",
    "transform: [{pivot: b, value: a, groupby: [a]}], mark: point, encoding: {x: {field: whatever}}",
    "transform: [{bin: true, field: a, as: n}], mark: bar, encoding: {x: {field: n, bin: binned}, x2: {field: n_end}}",
    "transform: [{window: [{op: rank, as: r}], sort: [{field: a}]}], mark: text, encoding: {text: {field: r}}",
    "transform: [{lookup: b, from: {data: {name: q}, key: b, fields: [a]}, as: [other]}], mark: text, "
    "encoding: {text: {field: other}}",
    "repeat: [a, b], spec: {mark: bar, encoding: {x: {field: {repeat: repeat}}}}",
    "facet: {field: b}, spec: {layer: [{mark: bar}, {mark: text}], encoding: {x: {field: a}}}",
    "mark: bar, encoding: {x: {aggregate: count}, y: {field: b, sort: {field: a, op: mean}}}",
    "mark: rule, encoding: {x: {datum: 3}, color: {condition: {test: datum.a > 1, value: red}, value: blue}}",
]


def test_charts_that_are_well(tmp_path: Path) -> None:
    charts = [f"```vega-lite\n{{data: {{name: q}}, {chart}}}\n```\n" for chart in WELL]
    built = make(tmp_path, {"p.md": Q + "".join(charts)})
    assert (built.said, built.warned) == ([], [])
    assert len(built.pages["p"].data["charts"]) == len(WELL)


def test_semicolons_and_comments(tmp_path: Path) -> None:
    queries = [
        "-- ;\nselect 'ä;' as a ; -- done;",
        "select 'ä;' as a;;",
        "select 'ä;' as a -- ;",
        "/* ; */ select 'ä;' as a",
    ]
    text = "".join(f"```sql q{n}\n{sql}\n```\n{{{{ q{n}.a }}}}\n" for n, sql in enumerate(queries))
    built = make(tmp_path, {"p.md": text})
    assert built.said == [] and built.pages["p"].html.count("<bdi>ä;</bdi>") == len(queries)


def test_two_pages_of_one_name(tmp_path: Path) -> None:
    built = make(tmp_path, {"A b.md": "x", "a-b.md": "y", "c.md": "z"})
    assert built.said == [
        "a-b.md:1 dashboards/A b.md is a dashboard of the same name (rename one of them: both would be a-b.html)"
    ]


def test_what_is_over_the_cap(tmp_path: Path) -> None:
    query = "```sql q\nselect i as a from range(10_000_000) t(i)\n```\n"
    built = make(tmp_path, {"p.md": query + CHART + "```table\nquery: q\n```\n"})
    page = built.pages["p"]
    assert built.said == [] and built.warned[0].startswith("p.md:1 the query `q` gives more than 10,000 rows")
    assert "This chart is not shown: its query q gives more than 10,000 rows" in page.html
    assert "These are the first 10,000 rows; the query gives more." in page.html
    assert page.data["charts"] == {} and len(page.data["queries"]["q"]["rows"]) == 10_000


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select Email, id from p", "gives the personal column email"),
        ("select * from p", "gives the personal column email"),
        ("with q as (from p) select email as e from q", "makes something of the personal column email"),
        ("select upper(x.email) from p as x", "makes something of the personal column email"),
        ("select x from p as x", "makes something of the personal column x"),
        ("select to_json(p) as j from p", "makes something of the personal column p"),
        ("select 'x' as x union all select email from p", "makes something of the personal column email"),
        ("with c(a, b) as (select id, email from p) select b from c", "makes something of the personal column email"),
        ("select b from (select * from p) s(a, b)", "makes something of the personal column email"),
        ("select b from p as s(a, b)", "makes something of the personal column email"),
        ("select * rename (email as x) from p", "makes something of the personal column email"),
        ("select columns('em.*') || '' as x from p", "makes something of the personal column email"),
        ("select #2 as x from p", "makes something of the personal column email"),
        ("select v from p, (values (p.email)) t(v)", "makes something of the personal column email"),
        ("select v from p, unnest([p.email]) t(v)", "makes something of the personal column email"),
        ("select p.email.upper() as x from p", "makes something of the personal column email"),
        ("select v from (unpivot p on email into name k value v)", "makes something of the personal column email"),
        ("select min, max from (summarize p)", "makes something of the personal column email"),
        ("select x from other, query('select email as x from p')", "makes something of the personal column email"),
        ("select stats as s from pragma_storage_info('p')", "makes something of the personal column email"),
        ("select 'a' as a, count(*) as n from p union all select 'b', count(email) from p", ""),
        (
            "with c(a, n) as (select id, count(email) from p group by 1) select n from c, (values (1)) t(x)",
            "",
        ),
        ("from (pivot other on email in ('to all') using count(*))", ""),
        ("select id from p where email::int > 1", "Conversion Error (what it says is left out"),
        ("select count(distinct email) as people, count(*) filter (email is not null) as n from p", ""),
        ("select any_value(email) is null as e from p group by email", ""),
        ("select email from other", ""),
    ],
)
def test_personal_columns(tmp_path: Path, sql: str, said: str) -> None:
    tables = "create table p as select 1 as id, 'ann@x.org' as email; create table other as select 'to all' as email"
    built = make(tmp_path, {"p.md": f"```sql q\n{sql}\n```\n"}, tables, personal={"main.p": {"email"}})
    assert "ann@x.org" not in str(built)
    assert built.said == [] if not said else said in built.said[0]


def test_ctrl_c_ends_a_query_that_would_not_end(tmp_path: Path) -> None:
    write(tmp_path, {"dashboards/p.md": "```sql q\nselect count(*) as n from range(1_000_000_000_000_000)\n```\n"})
    with duckdb.connect() as warehouse, duckdb.connect() as release:
        timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            interruptible(warehouse, lambda: build(tmp_path, release, None, Layout(tmp_path), lambda page: None))


PAGES = {
    "dashboards/good.md": "```sql q\nselect id from main.m\n```\n{{ q.id }}\n",
    "dashboards/bad.md": "{{ q.nope }}\n```sql q\nselect id from main.m\n```\n```sql raw\nfrom raw_s.t\n```\n",
}


def test_smoll_check(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "id,email\n1,ann@x.org\n"}, {"m": "from {{ source('s', 't') }}"})
    root = project.config.root
    write(root, PAGES)
    said = {finding.message: finding.level for finding in dashboards(project)}
    assert any("raw_s.t" in message and level == "error" for message, level in said.items())
    waiting = "`q` read what is not built yet: main.m"
    assert [level for message, level in said.items() if waiting in message] == ["note", "note"]

    project = reopen(project)
    project.run()
    (error, raw, *rest) = dashboards(project)
    assert error.message == "dashboards/bad.md:1: the query `q` gives no column `nope`"
    assert (
        raw.message.startswith("dashboards/bad.md:6: the query `raw` fails: ") and raw.hint == "the release has main.m"
    )
    assert rest == []
    (root / "dashboards/bad.md").unlink()
    (well,) = dashboards(project)
    assert (well.level, well.message) == ("ok", "1 page")


def dashboards(project: smoll.Project) -> list[Finding]:
    return [finding for finding in project.check() if finding.topic == "dashboards"]
