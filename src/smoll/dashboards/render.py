"""A page and its answers -> a fragment of HTML, readable without scripts, and the data that the scripts need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup

from smoll.dashboards.answers import Answer, Answers, Column
from smoll.dashboards.charts import queries_of
from smoll.dashboards.draw import Drawing
from smoll.dashboards.formats import formatted
from smoll.dashboards.parse import Chart, Choice, Page, Table, Value, Values, markdown

_COLUMNS = 100
"""Columns of one table in the page; a download has all."""
_LONGEST = 300
"""Characters of one cell in the page; a download has more."""
_ROWS_OF_A_CHART = 10
_ROWS_TO_DRAW = 50
_NOTHING = "–"  # noqa: RUF001
_SAFE = 2**53


@dataclass(frozen=True)
class Fragment:
    """One dashboard as it goes into the portal.

    ``html`` has no heading for the title. ``data`` is what ``json.dumps`` takes; the script finds it as
    ``window.smollData["dashboard-<slug>"]``.
    ``reads`` are the tables that its queries name, as ``schema.table``. ``pictures`` are to be copied beside the page,
    ``queries`` are the SQL of each by its name.
    """

    slug: str
    title: str
    description: str
    file: str
    html: str
    data: Mapping[str, Any]
    reads: tuple[str, ...]
    pictures: tuple[tuple[str, Path], ...]
    queries: Mapping[str, str]


def render(page: Page, answers: Answers) -> Fragment:
    """Write a page, whose problems are solved, with its answers."""
    parts = {block.id: _block(block, answers) for block in page.blocks}
    html = Markup('<div class="dashboard" data-dashboard="{}">\n{}{}</div>\n').format(
        page.slug, _markdown(page, answers, parts), _computed(page)
    )
    return Fragment(
        slug=page.slug,
        title=page.title,
        description=page.description,
        file=page.file,
        html=str(html),
        data=_data(page, answers),
        reads=answers.reads,
        pictures=page.pictures,
        queries={query.name: query.sql for query in page.queries},
    )


def drawings(page: Page, answers: Answers) -> Iterator[Drawing]:
    """The charts of a page with some of their rows; those alone whose queries all have an answer."""
    for chart in page.blocks:
        if isinstance(chart, Chart):
            names = sorted(queries_of(chart.spec))
            if all(name in answers.by_name or not _is_query(page, name) for name in names):
                found = {name: answers.by_name[name] for name in names if name in answers.by_name}
                data = {name: _objects(answer, _ROWS_TO_DRAW) for name, answer in found.items()}
                types = tuple((name, col.name, col.kind) for name, one in found.items() for col in one.columns)
                yield Drawing(page.file, chart.line, specification(chart, answers), data, types)


def _is_query(page: Page, name: str) -> bool:
    return any(query.name == name for query in page.queries)


# --- Markdown


def _markdown(page: Page, answers: Answers, parts: Mapping[str, Markup]) -> Markup:
    md = markdown()
    levels = sorted({token.tag for token in page.tokens if token.type == "heading_open"})

    def heading(tokens: Sequence[Any], index: int) -> str:
        level = min(levels.index(tokens[index].tag) + 2, 6)  # the page's own title is the only one of the first level
        return f"</h{level}>\n" if tokens[index].nesting < 0 else f"<h{level}>"

    def fence(tokens: Sequence[Any], index: int) -> str:
        meta = tokens[index].meta
        if "query" in meta:
            return ""
        if "block" in meta:
            return parts.get(meta["block"], Markup())
        return Markup("<pre><code>{}</code></pre>\n").format(tokens[index].content)

    def value(tokens: Sequence[Any], index: int) -> str:
        meta = tokens[index].meta
        if not meta:
            return Markup.escape(tokens[index].content)
        return _inline(Value(meta["query"], meta["column"], 0, format=meta["format"]), answers)

    def cell(tokens: Sequence[Any], index: int) -> str:
        is_right = "right" in str(tokens[index].attrs.get("style", ""))
        return f"<{tokens[index].tag}{' class=number' if is_right else ''}>"

    def link(tokens: Sequence[Any], index: int) -> str:
        return Markup('<a href="{}" rel="noreferrer">').format(tokens[index].attrs.get("href", ""))

    rules: dict[str, Callable[[Sequence[Any], int], str]] = {
        "heading_open": heading,
        "heading_close": heading,
        "fence": fence,
        "inline_value": value,
        "th_open": cell,
        "td_open": cell,
        "link_open": link,
        "container_grid_open": lambda tokens, n: f'<div class="grid cols-{tokens[n].meta["title"] or 2}">\n',
        "container_cell_open": lambda tokens, n: '<div class="cell">\n',
        "container_tabs_open": lambda tokens, n: '<div class="tabs">\n',
        "container_tab_open": _tab,
        "container_tab_close": lambda tokens, n: "</section>\n",
        **{f"container_{name}_close": lambda tokens, n: "</div>\n" for name in ("grid", "cell", "tabs")},
    }
    for name, rule in rules.items():
        md.add_render_rule(name, lambda self, tokens, index, options, env, rule=rule: str(rule(tokens, index)))
    return Markup(md.renderer.render(page.tokens, md.options, {}))  # noqa: S704 - each rule escapes what it writes


def _tab(tokens: Sequence[Any], index: int) -> str:
    title = tokens[index].meta["title"]
    return Markup('<section class="tab" data-title="{}">\n<p class="tab-title" dir="auto">{}</p>\n').format(
        title, title
    )


def _inline(value: Value, answers: Answers) -> Markup:
    return Markup("<bdi>{}</bdi>").format(_shown(value, answers.by_name.get(value.query)))


def _computed(page: Page) -> Markup:
    if not page.queries:
        return Markup()
    each = Markup("").join(
        Markup('<p><code>{}</code></p>\n<pre tabindex="0"><code class="language-sql">{}</code></pre>\n').format(
            query.name, query.sql.rstrip("\n")
        )
        for query in page.queries
    )
    return Markup('<details class="queries"><summary>How this is computed</summary>\n{}</details>\n').format(each)


# --- blocks


def _block(block: Chart | Table | Values, answers: Answers) -> Markup:
    if isinstance(block, Chart):
        return _chart(block, answers)
    if isinstance(block, Table):
        answer = answers.by_name.get(block.query)
        return _table(block, answer, block.query) if answer else Markup()
    shown = Markup("").join(_number(value, answers) for value in block.values)
    return Markup('<dl class="values">{}</dl>\n').format(shown)


def _chart(chart: Chart, answers: Answers) -> Markup:
    capped = _capped(chart, answers)
    title = _title(chart.spec)
    if capped:
        notice = (
            f"{title or 'This chart'} is not shown: its query {capped[0]} gives more than "
            f"{len(answers.by_name[capped[0]].rows):,} rows, and a part of them would mislead. "
            "Group or filter them in the query."
        )
        return Markup('<p class="notice" role="note">{}</p>\n').format(notice)
    data = Markup("").join(
        _table(Table(f"{chart.id}-{n}", name, 0, None, _ROWS_OF_A_CHART), answers.by_name[name], name)
        for n, name in enumerate(_queries_with_answers(chart, answers), 1)
    )
    details = Markup('<details class="chart-data"><summary>Data of this chart</summary>\n{}</details>').format(data)
    return Markup(
        '<figure class="chart" data-chart="{}"><div class="chart-view">'
        "<noscript>The chart needs scripts; its data are below.</noscript></div>\n{}</figure>\n"
    ).format(chart.id, details if data else "")


def _queries_with_answers(chart: Chart, answers: Answers) -> list[str]:
    return [name for name in sorted(queries_of(chart.spec)) if name in answers.by_name]


def _capped(chart: Chart, answers: Answers) -> list[str]:
    return [name for name in _queries_with_answers(chart, answers) if answers.by_name[name].capped]


def _title(spec: Mapping[str, Any]) -> str:
    title = spec.get("title")
    text = title.get("text") if isinstance(title, Mapping) else title
    return " ".join(map(str, text)) if isinstance(text, list) else str(text or "")


def specification(chart: Chart, answers: Answers) -> dict[str, Any]:
    """What is drawn: as wide as there is room, described for those who do not see it, inputs with their options."""
    spec = cast(dict[str, Any], _with_options(chart.spec, answers))
    spec.pop("usermeta", None)
    if not spec.keys() & {"facet", "concat", "hconcat", "vconcat", "repeat"} and not _is_faceted(spec):
        spec.setdefault("width", "container")
    title = _title(spec)
    spec.setdefault("description", title or "Chart")
    return spec


def _is_faceted(spec: Mapping[str, Any]) -> bool:
    encoding = spec.get("encoding")
    return isinstance(encoding, Mapping) and bool(encoding.keys() & {"row", "column", "facet"})


def _with_options(value: Any, answers: Answers) -> Any:
    """A copy of a specification in which the inputs have the values of their queries as options."""
    if isinstance(value, list):
        return [_with_options(each, answers) for each in value]
    if not isinstance(value, Mapping):
        return value
    options = value.get("options")
    result = {key: _with_options(each, answers) for key, each in value.items() if key != "options"}
    if "options" in value and not (isinstance(options, Mapping) and value.get("input")):
        result["options"] = options
    elif isinstance(options, Mapping):
        answer = answers.by_name.get(str(options.get("query")))
        position = answer.position(str(options.get("column"))) if answer else None
        if answer is None or position is None:
            return {**result, "options": []}
        column = answer.columns[position]
        texts = dict.fromkeys(row[position] for row in answer.rows if row[position] is not None)
        result["options"] = [to_json(text, column) for text in texts]
        if options.get("all") is not None:
            result["options"] = [None, *result["options"]]
            result["labels"] = [str(options["all"]), *texts]
    return result


def _table(table: Table, answer: Answer, name: str) -> Markup:
    shown = _shown_columns(table, answer)
    head = Markup("").join(
        Markup('<th scope="col"{} dir="auto">{}</th>').format(_class(column), choice.label or column.name)
        for _, column, choice in shown
    )
    body = Markup("").join(
        Markup("<tr>{}</tr>\n").format(Markup("").join(_cell(row[n], column, choice) for n, column, choice in shown))
        for row in answer.rows[: table.rows]
    )
    total = len(answer.rows)
    notices = []
    if answer.capped:
        notices.append(f"These are the first {total:,} rows; the query gives more.")
    if table.choices is None and len(answer.columns) > len(shown):
        notices.append(f"{len(shown)} of {len(answer.columns):,} columns are shown; the download has all.")
    foot = f"{min(total, table.rows):,} of {total:,} rows" if total > table.rows else f"{total:,} rows"
    return Markup(
        '<div class="table" data-table="{}">{}<div class="table-scroll" tabindex="0" role="group" aria-label="{}">'
        '<table class="data"><thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n'
        '<p class="table-foot">{}</p></div>\n'
    ).format(
        table.id,
        Markup("").join(Markup('<p class="notice" role="note">{}</p>').format(each) for each in notices),
        f"Table {name}",
        head,
        body or Markup('<tr><td colspan="{}" class="empty">No rows.</td></tr>').format(max(1, len(shown))),
        "No rows" if total == 0 else "1 row" if total == 1 else foot,
    )


def _shown_columns(table: Table, answer: Answer) -> list[tuple[int, Column, Choice]]:
    if table.choices is None:
        return [(n, column, Choice(column.name)) for n, column in enumerate(answer.columns[:_COLUMNS])]
    found = [(answer.position(choice.column), choice) for choice in table.choices]
    return [(n, answer.columns[n], choice) for n, choice in found if n is not None]


def _class(column: Column) -> Markup:
    return Markup(' class="number"') if column.kind == "number" else Markup()


def _cell(text: str | None, column: Column, choice: Choice) -> Markup:
    if text is None:
        return Markup(
            '<td class="null"><span aria-hidden="true">{}</span><span class="visually-hidden">no value</span></td>'
        ).format(_NOTHING)
    shown = formatted(text, choice.format, column.kind)
    shown = f"{shown[:_LONGEST]}…" if len(shown) > _LONGEST else shown
    return Markup('<td{} dir="auto">{}</td>').format(_class(column), shown)


def _shown(value: Value, answer: Answer | None) -> str:
    """A value of the first row, formatted."""
    found = answer.first(value.column) if answer else None
    if found is None or found[0] is None:
        return _NOTHING
    text = formatted(found[0], value.format, found[1].kind)
    return f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text


def _number(value: Value, answers: Answers) -> Markup:
    shown = _shown(value, answers.by_name.get(value.query))
    return Markup(
        '<div class="value"><dt dir="auto">{}</dt><dd class="value-number"><bdi>{}</bdi></dd>{}</div>\n'
    ).format(value.label or value.column, shown, _change(value, answers))


def _change(value: Value, answers: Answers) -> Markup:
    """What became of a number since the release that readers see now: in percent, of shares in points of percent."""
    now = _decimal(answers.by_name.get(value.query), value.column)
    then = _decimal(answers.before.get(value.query), value.column)
    if now is None or then is None:
        return Markup()
    if now == then:
        return Markup('<dd class="value-change">unchanged since the last release</dd>')
    if value.format.endswith("%"):
        points = abs(now - then) * 100
        by = f"{points:.1f} points" if points >= Decimal("0.05") else "less than 0.1 points"
    elif then:
        share = abs((now - then) / then)
        by = f"{share:.1%}" if share >= Decimal("0.0005") else "less than 0.1%"
    else:
        by = f"from {formatted(str(then), value.format, 'number')}"
    is_up = now > then
    judged = {"": "", "higher": "good" if is_up else "bad", "lower": "bad" if is_up else "good"}[value.better]
    arrow, word = ("▲", "up") if is_up else ("▼", "down")
    return Markup(
        '<dd class="value-change{}"><span aria-hidden="true">{}</span> <span class="visually-hidden">{}</span> '
        "{} since the last release</dd>"
    ).format(f" {judged}" if judged else "", arrow, word, by)


def _decimal(answer: Answer | None, name: str) -> Decimal | None:
    found = answer.first(name) if answer else None
    if found is None or found[0] is None or found[1].kind != "number":
        return None
    try:
        number = Decimal(found[0])
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


# --- data


def _data(page: Page, answers: Answers) -> dict[str, Any]:
    charts: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    used: set[str] = set()
    for block in page.blocks:
        if isinstance(block, Chart) and not _capped(block, answers):
            names = _queries_with_answers(block, answers)
            charts[block.id] = {"spec": specification(block, answers), "queries": names}
            for n, name in enumerate(names, 1):
                own = Table(f"{block.id}-{n}", name, 0, None, _ROWS_OF_A_CHART)
                tables[own.id] = _table_data(own, answers.by_name[name])
            used.update(names)
        elif isinstance(block, Table) and block.query in answers.by_name:
            tables[block.id] = _table_data(block, answers.by_name[block.query])
            used.add(block.query)
    return {
        "queries": {name: _query_data(answers.by_name[name]) for name in sorted(used)},
        "charts": charts,
        "tables": tables,
    }


def _table_data(table: Table, answer: Answer) -> dict[str, Any]:
    shown = _shown_columns(table, answer)
    columns = [{"at": n, "label": choice.label or column.name, "format": choice.format} for n, column, choice in shown]
    return {"query": table.query, "rows": table.rows, "columns": columns, "all": table.choices is None}


def _query_data(answer: Answer) -> dict[str, Any]:
    columns = [{"name": each.name, "kind": each.kind, "scale": each.scale} for each in answer.columns]
    rows = [[to_json(text, column) for text, column in zip(row, answer.columns, strict=True)] for row in answer.rows]
    return {"columns": columns, "rows": rows}


def to_json(text: str | None, column: Column) -> Any:
    """A value as JSON has it: a number only where JavaScript's numbers hold it exactly, else the text."""
    if text is None:
        return None
    if column.kind == "boolean":
        return text == "true"
    if column.kind != "number":
        return text
    if column.type in ("FLOAT", "DOUBLE"):
        number = float(text)
        return number if abs(number) < float("inf") else {"nan": "NaN", "inf": "Infinity"}.get(text, "-Infinity")
    exact = Decimal(text)
    if exact == exact.to_integral_value() and abs(exact) < _SAFE:
        return int(exact)
    short = len(exact.as_tuple().digits) <= 15
    return float(exact) if short and column.scale != 0 else format(exact, "f")


def _objects(answer: Answer, most: int) -> list[dict[str, Any]]:
    """Rows as Vega has them, for drawing a chart once."""
    return [
        {column.name: _drawn(text, column) for text, column in zip(row, answer.columns, strict=True)}
        for row in answer.rows[:most]
    ]


def _drawn(text: str | None, column: Column) -> Any:
    value = to_json(text, column)
    if column.kind == "number" and isinstance(value, str):
        return None if value in ("NaN", "Infinity", "-Infinity") else float(value)
    if column.kind == "json" and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
