"""Explore and the project's apps, as Streamlit runs them: what is chosen, and what is shown then."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet
import pytest
from streamlit.testing.v1 import AppTest

import smoll.streamlit
from smoll.apps.explore import make_file
from smoll.apps.pages import find_apps
from smoll.apps.questions import Question
from smoll.errors import SmollError
from support import write, write_project

MAIN = Path(smoll.__file__).parent / "apps" / "main.py"
SALES = "id,city,sold,amount\n" + "".join(
    f"{n},{'Ams,' if n % 3 else 'Rot'}{'' if n % 3 else 'x'},2026-0{1 + n % 6}-01,{n}.5\n" for n in range(60)
)
MODELS = {
    "marts/sales": """select id, city as "a ""city"" [x]", sold, amount from {{ source('shop', 'sales') }}""",
    "marts/empty": "select 1 as a where false",
}
APP = """
import streamlit as st
import smoll.streamlit
from _words import WORD

release = smoll.streamlit.connection()
st.title(WORD)
st.metric("Release", release.release)
st.metric("Rows", int(release.query("SELECT count(*) AS n FROM main.sales").n[0]))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explore") / 'it\'s a "project"'
    root.mkdir()
    sales = SALES.replace("Ams,", "Amsterdam")
    yml = "sources: {shop: {kind: files, streams: {sales: data/sales.csv}}}\n"
    write_project(
        root, yml, {"data/sales.csv": sales, "apps/sales.py": APP, "apps/_words.py": "WORD = 'Sold'\n"}, MODELS, {}
    )
    assert smoll.open_project(root).run().status == "ok"
    return root


@pytest.fixture
def app(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.setenv("SMOLL_PROJECT", str(root))
    monkeypatch.syspath_prepend(str(root / "apps"))
    app = AppTest.from_file(str(MAIN), default_timeout=30)
    app.query_params["table"] = "main.sales"
    yield app.run()
    assert not app.exception


def choose(app: AppTest, label: str, value: Any) -> AppTest:
    """Choose in the one widget with this label."""
    widget: Any
    (widget,) = [each for each in [*app.selectbox, *app.multiselect, *app.text_input] if each.label == label]
    widget.set_value(value)
    return app.run()


def show(app: AppTest, view: str) -> AppTest:
    return app.segmented_control[0].set_value(view).run()


def says(app: AppTest) -> str:
    return "\n".join(each.value for each in [*app.caption, *app.error, *app.info])


def test_rows_are_filtered_by_what_the_columns_hold(app: AppTest) -> None:
    assert "60 rows" in says(app)
    name = 'a "city" [x]'
    choose(app, "Filter by", [name, "amount", "sold"])
    (city,) = [each for each in app.multiselect if "city" in each.label and each.label != "Filter by"]
    assert city.options == ["Amsterdam", "Rotx"]
    city.set_value(["Rotx"]).run()
    assert "20 rows." in says(app)
    assert set(app.dataframe[0].value[name]) == {"Rotx"}
    (amount,) = app.slider
    assert amount.value == (0.5, 59.5)
    amount.set_value((30.0, 59.5)).run()
    assert "10 rows." in says(app) and app.dataframe[0].value["amount"].min() >= 30
    assert not app.error


def test_charts_and_pivots_are_computed_in_the_release(app: AppTest) -> None:
    show(app, "Chart")
    for kind in ("Bars", "Line", "Area"):
        choose(app, "Chart", kind)
        for across in app.selectbox[2].options:
            assert not choose(app, "Across", across).error, (kind, across)
    choose(app, "Chart", "Points")
    assert app.get("vega_lite_chart") and not app.error
    show(app, "Pivot")
    choose(app, "Rows", ["sold"])
    choose(app, "Columns", 'a "city" [x]')
    pivot = app.dataframe[0].value
    assert pivot.columns.tolist() == ["sold", "Amsterdam", "Rotx", "total"]
    assert pivot["total"].sum() == 60
    show(app, "Columns")
    assert app.dataframe[0].value["type"].tolist() == ["BIGINT", "VARCHAR", "DATE", "DOUBLE"]


def ask(app: AppTest, sql: str) -> AppTest:
    app.text_area[0].set_value(sql)
    return app.button[0].click().run()


def test_sql_is_answered_and_what_is_wrong_is_said(app: AppTest, root: Path) -> None:
    show(app, "SQL")
    assert len(app.dataframe[0].value) == 60
    ask(app, "SELECT 1 AS a, 2 AS a, 'x' AS b; ")
    assert app.dataframe[0].value.values.tolist() == [[1, 2, "x"]]
    ask(app, "FROM range(5000)")
    assert len(app.dataframe[0].value) == 1_000 and "The first 1,000 rows" in says(app)
    for sql, words in (
        ("SELECT nothing FROM main.sales", "not found"),
        ("DROP TABLE main.sales", "not one query"),
        ("SELECT 1); DROP TABLE main.sales; SELECT (1", "several queries"),
        (f"FROM read_text('{root.name[:2]}')", "disabled"),
        ("", "not one query"),
    ):
        assert words in says(ask(app, sql)).replace("\\", "") and app.error, sql
    ask(app, "SELECT count(*) AS n FROM main.sales")
    assert app.dataframe[0].value["n"].tolist() == [60]


def test_a_table_without_rows(app: AppTest) -> None:
    for table, rows in (("main.empty", "0 rows"), ("main.sales", "60 rows"), ("main.empty", "0 rows")):
        assert rows in says(choose(app, "Table", table))
        assert app.query_params["table"] in (table, [table])
    choose(app, "Filter by", ["a"])
    assert not show(app, "Chart").error
    assert not choose(show(app, "Pivot"), "Rows", ["a"]).error


def test_files_hold_all_rows_and_not_too_many(app: AppTest) -> None:
    release = smoll.streamlit.connection()
    question = Question("""SELECT id, 'a"b,' || chr(10) AS t, NULL AS n, INTERVAL 1 DAY AS i FROM main.sales""")
    for kind, read in (("csv", _csv), ("parquet", pyarrow.parquet.read_table)):
        table = read(io.BytesIO(make_file(release, question, kind)))
        assert table.num_rows == 60 and table["t"][0].as_py() == 'a"b,\n' and table["i"][0].as_py() == "1 day"
    with pytest.raises(SmollError, match="larger than"):
        make_file(release, Question("FROM range(10_000_000)"), "csv", most_bytes=10_000)


def _csv(file: io.BytesIO) -> Any:
    return pyarrow.csv.read_csv(file, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))


def test_an_app_of_the_project_sees_a_new_release_at_its_next_run(app: AppTest, root: Path) -> None:
    """The file is given to the test as it is, since AppTest opens no page of st.navigation."""
    own = AppTest.from_file(str(root / "apps" / "sales.py"), default_timeout=30).run()
    assert (own.title[0].value, [each.value for each in own.metric]) == ("Sold", ["1", "60"])
    sales = (root / "data" / "sales.csv").read_text()
    write(root, {"data/sales.csv": sales + "99,Delft,2026-07-01,1.0\n"})
    assert smoll.open_project(root).run().release.number == 2
    own.run()
    assert [each.value for each in own.metric] == ["2", "61"]
    assert "Release 2" in says(app.run())
    write(root, {"data/sales.csv": sales})


def test_the_names_of_apps(tmp_path: Path) -> None:
    assert find_apps(tmp_path / "apps") == ()
    files = (
        "02_late carriers.py", "1_sales.py", "Late-Carriers.py", "explore.py", "_words.py", ".hidden.py", "été ☃.py",
        "☃.py", "42.py", "static.py", "%2e%2e.py", "a'b\"<i>.py", "notes.txt", "folder.py/x",
    )  # fmt: skip
    write(tmp_path, {f"apps/{name}": "" for name in files})
    apps = find_apps(tmp_path / "apps")
    assert {app.path.name: (app.title, app.slug) for app in apps} == {
        "%2e%2e.py": ("%2e%2e", "2e-2e"),
        "02_late carriers.py": ("Late carriers", "late-carriers"),
        "1_sales.py": ("Sales", "sales"),
        "42.py": ("42", "42"),
        "Late-Carriers.py": ("Late-Carriers", "late-carriers-2"),
        "a'b\"<i>.py": ("A'b\"<i>", "a-b-i"),
        "explore.py": ("Explore", "explore-2"),
        "static.py": ("Static", "static-2"),
        "été ☃.py": ("Été ☃", "été"),
        "☃.py": ("☃", "app"),
    }
