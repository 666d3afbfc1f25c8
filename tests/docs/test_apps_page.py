"""The app of the page on apps runs, and shows what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from docs.markdown import ROOT, blocks
from support import MakeProject, write

FLIGHTS = "carrier,origin,delay\nAA,JFK,10\nAA,JFK,20\nB6,JFK,4\nB6,LGA,8\n"


def test_the_app_of_the_page(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(
        "sources: {nyc: {kind: files, streams: {flights: data/flights.csv}}}\n",
        {"data/flights.csv": FLIGHTS},
        {"marts/flights": "select carrier, origin, delay from {{ source('nyc', 'flights') }}"},
    )
    assert project.run().status == "ok"
    examples = [each.text for each in blocks((ROOT / "docs" / "apps.md").read_text()) if each.language == "python"]
    name = examples[0].splitlines()[0].removeprefix("# file: ")
    write(project.config.root, {name: f"{examples[0]}\n{examples[1]}\nst.write(float(minutes(release.file, 'AA')))\n"})
    monkeypatch.delenv("SMOLL_PROJECT", raising=False)
    app = AppTest.from_file(str(Path(project.config.root, name)), default_timeout=30).run()
    assert not app.exception
    assert app.selectbox[0].options == ["JFK", "LGA"]
    assert [each.value for each in app.caption] == ["Release 1"]
    assert [each.value for each in app.markdown] == ["`15.0`"]
    assert not app.selectbox[0].select("LGA").run().exception
