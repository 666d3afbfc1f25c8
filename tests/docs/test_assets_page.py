"""The example of the page on assets: its files are written as they stand there, run by Dagster, and do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import smoll
from docs.markdown import ROOT, blocks
from docs.shell import Shell, first_missing
from graph_support import define, failures, metadata, run

PAGE = (ROOT / "docs" / "assets.md").read_text(encoding="utf-8")
_FILE = re.compile(r"(?:#|--) file: (\S+)\n")


def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shell = Shell(tmp_path, home)
    shell.environment["DAGSTER_DISABLE_TELEMETRY"] = "1"
    output = ""
    for block in blocks(PAGE):
        if named := _FILE.match(block.text):
            path = tmp_path / "flights" / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text[named.end() :], encoding="utf-8")
        elif block.language == "sh":
            script = "\n".join(line for line in block.text.splitlines() if not line.startswith("pip "))
            output = shell.run(script)
        elif block.language == "text":
            assert first_missing(block.text, output) is None, output

    project = smoll.open_project(tmp_path / "flights")
    assert [run.status for run in project.runs(5)] == ["ok"]  # one run, one lock
    assert len(project.release().manifest.tables) == 10
    assets = ["predictions", "risky_departures", "delays_by_distance", "far_airports", "carriers_in_chunks"]
    result = run(define(project), [*assets, "flights/release"])
    assert result.success, failures(result)
    facts = metadata(result, "predictions")
    assert f"an AUC of {facts['auc']:.2f} over" in PAGE
    assert f"{facts['late, as predicted']:.0%}".replace("%", " % late flights") in PAGE
    assert f"there were {facts['late, as it was']:.0%}".replace("%", " %") in PAGE
    assert facts["flights to learn from"] < 50_000
    assert metadata(result, "flights/release")["smoll/status"] == "unchanged"  # the same model, to the last digit
    with project.connect(raw=True) as connection:
        count = "SELECT count(*) FROM assets."
        carriers = connection.execute(f"{count}carriers_in_chunks").fetchall()
        assert carriers == connection.execute("SELECT count(*) FROM main.dim_carriers").fetchall()
        assert connection.execute(f"{count}far_airports").fetchall() > [(5,)]
        assert connection.execute("SELECT sum(flights) FROM assets.delays_by_distance").fetchall() == [(336_776,)]
