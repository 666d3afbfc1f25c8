"""Explore: a table of the current release, filtered, drawn, pivoted, asked in SQL, and taken away as a file.

This page only shows and chooses. The SQL is that of `questions`. Every question is bounded in rows and seconds, and in
memory by the connection.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import duckdb
import streamlit as st

import smoll.streamlit
from smoll.apps.questions import (
    AGGREGATES,
    BUCKETS,
    COUNT,
    Axis,
    Column,
    Filter,
    Measure,
    Question,
    Rows,
    chart_of,
    ends_of,
    page_of,
    pivot_of,
    points_of,
    projected,
    top_values,
)
from smoll.errors import SmollError
from smoll.model import TableRef
from smoll.streamlit import Connection

_SECONDS, _FILE_SECONDS = 30.0, 300.0
_ROWS, _GROUPS, _POINTS, _VALUES = 1_000, 5_000, 5_000, 200
_BARS, _COLOURS, _ACROSS, _STEPS, _COLUMNS = 30, 8, 20, 30, 50
_FILE_BYTES = 200_000_000
_WHOLE_IN_A_BROWSER = 2**53
_DAYS_OF = {"year": 7_300, "quarter": 3_650, "month": 730, "week": 370, "day": 14}
"""From how many days on a time is cut down to years, quarters and so on, unless somebody chooses."""
_UNITS = {
    "year": "year",
    "quarter": "yearquarter",
    "month": "yearmonth",
    "week": "yearmonthdate",
    "day": "yearmonthdate",
    "hour": "yearmonthdatehours",
}
_KINDS = {"Bars": "bar", "Line": "line", "Area": "area", "Points": "point"}
_TABLES = """SELECT schema_name, table_name, comment, estimated_size FROM duckdb_tables()
WHERE database_name = 'release' AND NOT internal ORDER BY schema_name, table_name"""
_COLUMNS_OF = """SELECT column_name, data_type, comment FROM duckdb_columns()
WHERE database_name = 'release' AND schema_name = ? AND table_name = ? ORDER BY column_index"""


def explore() -> None:
    """The page."""
    try:
        release = smoll.streamlit.connection()
    except SmollError as error:
        st.title("Explore")
        st.info(str(error))
        return
    with _explained():
        _page(release)


def _page(release: Connection) -> None:
    tables = {TableRef(row[0], row[1]): row for row in _rows(release, Question(_TABLES))}
    if not tables:
        st.info("The release has no tables.")
        return
    names = {str(table): table for table in tables}
    if st.session_state.get("table") not in names:  # at first, or when another release lacks it
        asked = st.query_params.get("table")
        st.session_state["table"] = asked if asked in names else next(iter(names))
    head, view = st.columns([3, 2], vertical_alignment="bottom")
    name = head.selectbox("Table", list(names), key="table")
    shown = view.segmented_control(
        "View", ["Rows", "Chart", "Pivot", "Columns", "SQL"], default="Rows", required=True, width="stretch"
    )
    st.query_params["table"] = name
    table = names[name]
    _, _, description, rows = tables[table]
    st.caption(f"{_plain(description)}  \nRelease {release.release} · {_counted(rows)}")
    columns = [Column(*row) for row in _rows(release, Question(_COLUMNS_OF, (table.schema, table.name)))]
    if shown == "SQL":
        _sql(release, table)
    elif shown == "Columns":
        _describe(columns)
    else:
        chosen = Rows(table.sql, _filters(release, Rows(table.sql), columns, name))
        {"Rows": _browse, "Chart": _chart, "Pivot": _pivot}[str(shown)](release, chosen, columns, name)


def _filters(release: Connection, rows: Rows, columns: Sequence[Column], name: str) -> tuple[Filter, ...]:
    """A widget for each column that is to be filtered."""
    by_name = {column.name: column for column in columns}
    wanted = st.multiselect("Filter by", list(by_name), key=f"{name} filters", placeholder="All rows")
    places = st.columns(min(3, len(wanted))) if wanted else []
    found = []
    for number, each in enumerate(wanted):
        with places[number % 3]:
            found.append(_filter(release, rows, by_name[each], f"{name} filter {each}"))
    return tuple(found)


def _filter(release: Connection, rows: Rows, column: Column, key: str) -> Filter:
    if column.kind in ("number", "time"):
        low, high = (_value(column, text) for text in _rows(release, ends_of(rows, column))[0])
        if low is not None and high is not None and low < high:
            return _range(column, low, high, key)
    top = [row[0] for row in _rows(release, top_values(rows, column, _VALUES))]
    among = st.multiselect(_plain(column.name), top, format_func=_label, key=f"{key} values", placeholder="Any value")
    contains = ""
    if column.kind != "flag":
        contains = st.text_input(f"{_plain(column.name)} contains", key=f"{key} contains")
    return Filter(column, among=tuple(among), contains=contains)


def _range(column: Column, low: Any, high: Any, key: str) -> Filter:
    label = _plain(column.name)
    if column.kind == "time":
        chosen: Any = st.date_input(label, (low, high), min_value=low, max_value=high, key=key)
    else:
        chosen = st.slider(label, low, high, (low, high), key=key)
    ends = tuple(chosen)
    return Filter(
        column,
        low=ends[0] if ends and ends[0] > low else None,
        high=ends[1] if len(ends) > 1 and ends[1] < high else None,
    )


def _value(column: Column, text: str | None) -> Any:
    """A number or day that a slider can take; None where it cannot."""
    if text is None:
        return None
    try:
        if column.kind == "time":
            return date.fromisoformat(text[:10])
        value = int(text) if "INT" in column.type else float(text)
    except ValueError:  # a year beyond 9999, or before Christ
        return None
    return value if abs(value) < _WHOLE_IN_A_BROWSER else None


def _browse(release: Connection, rows: Rows, columns: Sequence[Column], name: str) -> None:
    by_name = {column.name: column for column in columns}
    wide, narrow, narrower = st.columns([3, 2, 1], vertical_alignment="bottom")
    shown = wide.multiselect(
        "Columns",
        list(by_name),
        key=f"{name} columns",
        placeholder=f"The first {_COLUMNS}" if len(columns) > _COLUMNS else "All",
    )
    sort = narrow.selectbox("Sort by", list(by_name), index=None, key=f"{name} sort", placeholder="As they are")
    down = narrower.toggle("Descending", key=f"{name} down")
    wanted = [by_name[each] for each in shown] or list(columns[:_COLUMNS])
    count = _rows(release, rows.select("count(*)"))[0][0]
    question = page_of(rows, wanted, _ROWS, by_name[sort] if sort else None, down)
    st.dataframe(_table(release, question), hide_index=True)
    st.caption(_counted(count) + (f", of which these are the first {_ROWS:,}." if count > _ROWS else "."))
    names = ", ".join(column.sql for column in (wanted if shown else columns))
    order = f" ORDER BY {by_name[sort].sql} {'DESC' if down else 'ASC'} NULLS LAST" if sort else ""
    _downloads(release, rows.select(names, order), name)


def _measure(columns: Sequence[Column], key: str) -> Measure:
    left, right = st.columns(2)
    aggregate = left.selectbox("Value", [COUNT, *AGGREGATES], key=f"{key} aggregate")
    if aggregate == COUNT:
        return Measure()
    numbers = [column for column in columns if column.kind == "number" or aggregate == "different values"]
    chosen = right.selectbox("Of", numbers, format_func=_name, key=f"{key} of {aggregate}")
    return Measure(chosen, aggregate) if chosen else Measure()


def _chart(release: Connection, rows: Rows, columns: Sequence[Column], name: str) -> None:
    first, second, third = st.columns(3)
    kind = first.selectbox("Chart", list(_KINDS), key=f"{name} kind")
    numbers = [column for column in columns if column.kind == "number"]
    is_points = kind == "Points"
    x = second.selectbox("Across", numbers if is_points else columns, format_func=_name, key=f"{name} x {is_points}")
    colour = third.selectbox("Colour", columns, index=None, format_func=_name, key=f"{name} colour", placeholder="None")
    if x is None:
        st.info("Points need columns of numbers.")
        return
    if is_points:
        y = st.selectbox("Up", numbers, format_func=_name, key=f"{name} y")
        assert y
        answer = _table(release, points_of(rows, x, y, colour, _POINTS))
        across: dict[str, Any] = {"type": "quantitative", "title": x.name}
        title, adds_up = y.name, True
        note = f"{_POINTS:,} rows, chosen at random." if answer.num_rows == _POINTS else ""
    else:
        measure = _measure(columns, f"{name} chart")
        axis = _axis(release, rows, x, name)
        answer = _table(release, chart_of(rows, axis, measure, colour, _BARS, _COLOURS, _GROUPS))
        across, title, adds_up = _across(axis), measure.title, measure.adds_up
        note = f"The first {_GROUPS:,} groups." if answer.num_rows == _GROUPS else ""
        if axis.is_text and len(answer["x"].unique()) >= _BARS:
            note = f"The {_BARS} largest."
    st.vega_lite_chart(answer, _spec(_KINDS[str(kind)], across, title, colour, adds_up), height=460)
    if note:
        st.caption(note)


def _axis(release: Connection, rows: Rows, x: Column, name: str) -> Axis:
    """How finely a time or a number is grouped: as it fits, or as somebody chooses."""
    if x.kind not in ("time", "number"):
        return Axis(x)
    low, high = (_value(x, text) for text in _rows(release, ends_of(rows, x))[0])
    if x.kind == "time":
        days = (high - low).days if low and high else 0
        fitting = next((bucket for bucket, least in _DAYS_OF.items() if days >= least), "hour")
        fitting = "day" if x.type == "DATE" and fitting == "hour" else fitting
        return Axis(x, bucket=_bucket(fitting, f"{name} bucket {x.name}"))
    if low is None or high is None or (isinstance(low, int) and high - low <= _STEPS):
        return Axis(x)
    return Axis(x, step=max((high - low) / _STEPS, 1 if isinstance(low, int) else 0.0))


def _bucket(fitting: str, key: str) -> str:
    return str(st.segmented_control("By", BUCKETS, default=fitting, required=True, key=key))


def _across(axis: Axis) -> dict[str, Any]:
    """The axis in Vega-Lite: bars are as wide as what they stand for."""
    if axis.is_text:
        return {"type": "nominal", "title": axis.column.name, "sort": "-y"}
    if axis.bucket:
        return {"type": "temporal", "title": f"{axis.column.name} by {axis.bucket}", "timeUnit": _UNITS[axis.bucket]}
    if axis.step:
        return {"type": "quantitative", "title": axis.column.name, "bin": {"binned": True, "step": axis.step}}
    return {"type": "ordinal", "title": axis.column.name}


def _spec(mark: str, across: dict[str, Any], title: str, colour: Column | None, adds_up: bool) -> dict[str, Any]:
    """The chart in Vega-Lite. Its fields have plain names: dots and brackets in those of columns mean something."""
    encoding: dict[str, Any] = {
        "x": {"field": "x", "axis": {"labelLimit": 160}, **across},
        "y": {"field": "y", "type": "quantitative", "title": title, "stack": "zero" if adds_up else None},
        "tooltip": [
            {"field": "x", **{key: value for key, value in across.items() if key not in ("sort", "bin")}},
            {"field": "y", "type": "quantitative", "title": title, "format": ",.6~g"},
        ],
    }
    if mark in ("point", "line"):
        del encoding["y"]["stack"]
    if colour:
        encoding["color"] = {"field": "colour", "type": "nominal", "title": colour.name}
        encoding["tooltip"].append({"field": "colour", "type": "nominal", "title": colour.name})
        if mark == "bar" and not adds_up and across["type"] in ("nominal", "ordinal"):
            encoding["xOffset"] = {"field": "colour"}
    return {"mark": {"type": mark}, "encoding": encoding}


def _pivot(release: Connection, rows: Rows, columns: Sequence[Column], name: str) -> None:
    left, right = st.columns(2)
    down = left.multiselect("Rows", columns, format_func=_name, key=f"{name} down by", max_selections=4)
    across = right.selectbox(
        "Columns", columns, index=None, format_func=_name, key=f"{name} across by", placeholder="None"
    )
    measure = _measure(columns, f"{name} pivot")
    over = [row[0] for row in _rows(release, top_values(rows, across, _ACROSS + 1))] if across else []
    if not down and not across:
        st.info("Choose what stands in the rows.")
        return
    question = pivot_of(rows, down, across, over[:_ACROSS], measure, _ROWS)
    answer = _table(release, question)
    st.dataframe(answer, hide_index=True)
    notes = (
        [f"The {_ACROSS} most frequent values of {across.name} have columns."] if across and len(over) > _ACROSS else []
    )
    notes += [f"These are the first {_ROWS:,} rows."] if answer.num_rows == _ROWS else []
    if notes:
        st.caption(" ".join(notes))
    _downloads(release, question, f"{name} pivot")


def _describe(columns: Sequence[Column]) -> None:
    st.dataframe(
        [{"column": column.name, "type": column.type, "description": column.description} for column in columns],
        hide_index=True,
    )


def _sql(release: Connection, table: TableRef) -> None:
    with st.form("sql", border=False):
        text = st.text_area("SQL", f"SELECT *\nFROM {table.sql}\nLIMIT 100", height=180, key=f"{table} sql")
        st.form_submit_button("Run", type="primary", shortcut="Ctrl+Enter")
    question = Question((text or "").strip().removesuffix(";"))
    columns = _columns_of(release, question)
    answer = _table(release, _limited(projected(question, columns, "shown"), _ROWS + 1))
    st.dataframe(answer.slice(0, _ROWS), hide_index=True)
    more = answer.num_rows > _ROWS
    st.caption(f"The first {_ROWS:,} rows; a file has all of them." if more else f"{_counted(answer.num_rows)}.")
    _downloads(release, question, "answer")


def _limited(question: Question, rows: int) -> Question:
    return Question(f"FROM ({question.sql}) LIMIT {rows}", question.values)


def _downloads(release: Connection, question: Question, name: str) -> None:
    left, right, _ = st.columns([1, 1, 4])
    for place, kind, mime in ((left, "csv", "text/csv"), (right, "parquet", "application/vnd.apache.parquet")):
        place.download_button(
            kind.upper() if kind == "csv" else "Parquet",
            _file_maker(release, question, kind),
            file_name=f"{name}.{kind}",
            mime=mime,
            icon=":material/download:",
            key=f"{name} {kind}",
            on_click="ignore",
            width="stretch",
        )


def _file_maker(release: Connection, question: Question, kind: str) -> Callable[[], bytes]:
    return lambda: make_file(release, question, kind)


def make_file(release: Connection, question: Question, kind: str, most_bytes: int = _FILE_BYTES) -> bytes:
    """The whole answer as ``csv`` or ``parquet``.

    Raises
    ------
    SmollError
        The file would be too large, or takes too long.
    """
    import pyarrow.csv
    import pyarrow.parquet

    columns = _columns_of(release, question)
    asked = projected(question, columns, f"in_{kind}")
    sink = io.BytesIO()
    with release.reading(asked.sql, asked.values, timeout=_FILE_SECONDS) as relation:
        reader = relation.fetch_arrow_reader(10_000)
        new: Any = pyarrow.csv.CSVWriter if kind == "csv" else pyarrow.parquet.ParquetWriter
        with new(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                if sink.tell() > most_bytes:
                    raise SmollError(
                        f"The file would be larger than {most_bytes // 10**6} MB.",
                        hint="Filter the rows, or open the release itself: .smoll/releases/current/warehouse.duckdb",
                    )
    return sink.getvalue()


def _columns_of(release: Connection, question: Question) -> list[Column]:
    with release.reading(question.sql, question.values, timeout=_SECONDS) as relation:
        return [Column(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]


def _table(release: Connection, question: Question) -> Any:
    return _answer(release, release.file, question)


def _rows(release: Connection, question: Question) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in _table(release, question).to_pylist()]


@st.cache_data(max_entries=100, show_spinner=False)
def _answer(_release: Connection, of: Any, question: Question) -> Any:
    """The answer as a table of Arrow; that of a release never changes."""
    return _release.arrow(question.sql, question.values, timeout=_SECONDS)


@contextmanager
def _explained() -> Iterator[None]:
    """Say on the page what DuckDB or smoll could not do."""
    try:
        yield
    except (duckdb.Error, SmollError) as error:
        st.error(_plain(str(error)), icon=":material/error:")
    except MemoryError:
        st.error("This needs more memory than the apps may have.", icon=":material/error:")


def _counted(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def _name(column: Column) -> str:
    return column.name


def _label(value: str | None) -> str:
    return "(empty)" if value is None else value


def _plain(text: str | None) -> str:
    """A text as it is: what Markdown would make of it is escaped."""
    return "".join(f"\\{char}" if char in _MARKDOWN else char for char in (text or "").strip())


_MARKDOWN = set("\\`*_{}[]<>()#+-!|~$:^=&")
