"""The examples on the pages of the kinds ``rest`` and ``dlt`` run, and do what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import smoll
from api_server import Answer, Asked, serving
from docs.markdown import ROOT, blocks
from docs.shell import Shell

pytestmark = pytest.mark.connectors

_FILE = re.compile(r"# file: (\S+)\n")


def write_files(page: str, folder: Path) -> None:
    for block in blocks(page):
        if named := _FILE.match(block.text):
            (folder / named[1]).write_text(block.text[named.end() :], encoding="utf-8")


def test_the_example_of_the_dlt_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "dlt.md").read_text(encoding="utf-8")
    home, folder = tmp_path / "home", tmp_path / "shop"
    home.mkdir()
    folder.mkdir()
    write_files(page, folder)
    Shell(folder, home).read(page)
    assert list(home.iterdir()) == []


def tracker(asked: Asked) -> Answer:
    """A small issue tracker, of two pages."""
    if asked.headers.get("authorization") != "Bearer hunter22":
        return Answer("who?", 401)
    if asked.path == "/projects":
        return Answer([{"id": 1, "name": "smoll"}])
    if asked.path.endswith("/comments"):
        return Answer([{"id": int(asked.path.split("/")[2]) * 10, "text": "yes"}])
    number = int(asked.parameters["page"])
    updated = f"2024-02-0{number}T00:00:00Z"
    issue = {"id": number, "title": f"issue {number}", "updated": updated, "labels": ["bug"]}
    return Answer({"pages": 2, "items": [issue] if updated >= asked.parameters["since"] else []})


def test_the_example_of_the_rest_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files((ROOT / "docs" / "rest.md").read_text(encoding="utf-8"), tmp_path)
    monkeypatch.setenv("TRACKER_TOKEN", "hunter22")
    with serving(tracker) as api:
        monkeypatch.setenv("TRACKER_URL", api.url)
        for _ in range(2):
            result = smoll.open_project(tmp_path).run()
            assert result.status == "ok", [stream.error for stream in result.streams]
    modes = {stream.ref.stream: stream.mode for stream in result.streams}
    assert (modes["projects"], modes["issues"], modes["comments"]) == ("replace", "merge", "merge")
    with smoll.open_project(tmp_path).connect(raw=True) as connection:
        assert connection.sql("select id, title from raw_tracker.issues order by id").fetchall() == [
            (1, "issue 1"),
            (2, "issue 2"),
        ]
        assert connection.sql("select count(*) from raw_tracker.issues__labels").fetchall() == [(2,)]
        assert connection.sql("select id, _issues_id from raw_tracker.comments order by id").fetchall() == [
            (10, 1),
            (20, 2),
        ]
