"""The example of the page about Airbyte connectors runs, against a small server."""

from __future__ import annotations

from pathlib import Path

import pytest

import smoll
from api_server import Answer, Asked, serving
from docs.markdown import ROOT
from docs.test_dlt_pages import write_files


def tracker(asked: Asked) -> Answer:
    if asked.headers.get("authorization") != "Bearer hunter22":
        return Answer("who?", 401)
    updated = "2024-02-01T00:00:00Z"
    return Answer({"items": [{"id": n, "title": f"issue {n}", "updated": updated, "labels": ["bug"]} for n in (1, 2)]})


@pytest.mark.index
def test_the_example_of_the_airbyte_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "connectors").mkdir()
    write_files((ROOT / "docs" / "airbyte.md").read_text(encoding="utf-8"), tmp_path)
    monkeypatch.setenv("TRACKER_TOKEN", "hunter22")
    with serving(tracker) as api:
        monkeypatch.setenv("TRACKER_URL", api.url)
        findings = {finding.topic: finding for finding in smoll.open_project(tmp_path).check()}
        assert findings["source tracker"].level == "ok", findings["source tracker"].message
        for _ in range(2):
            result = smoll.open_project(tmp_path).run()
            assert result.status == "ok", [stream.error for stream in result.streams]
        monkeypatch.setenv("TRACKER_TOKEN", "wrong-token")
        findings = {finding.topic: finding for finding in smoll.open_project(tmp_path).check()}
        assert findings["source tracker"].level == "error"
        assert "wrong-token" not in str(findings)
    with smoll.open_project(tmp_path).connect(raw=True) as connection:
        table = "select id, title, updated::varchar, labels from raw_tracker.issues order by id"
        assert connection.sql(table).fetchall() == [
            (1, "issue 1", "2024-02-01 00:00:00+00", '["bug"]'),
            (2, "issue 2", "2024-02-01 00:00:00+00", '["bug"]'),
        ]
