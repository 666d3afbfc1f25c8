"""The commands on the page on profiles do what it says."""

from __future__ import annotations

import shlex

import pytest

from docs.markdown import ROOT, blocks
from smoll.cli import main
from support import MakeProject, reopen, write

YML = "sources: {nyc: {kind: files, streams: {flights: data/flights.csv, planes: data/planes.csv}}}"
MODELS = {
    "fct_flights": "select id, tail_number from {{ source('nyc', 'flights') }}",
    "dim_planes": "select tail_number, seats from {{ source('nyc', 'planes') }}",
}


def test_every_command_works(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    planes = "tail_number,seats\n" + "".join(f"N{each},{each}\n" for each in range(40))
    project = make_project(YML, {"data/planes.csv": planes, "data/flights.csv": "id,tail_number\n"}, MODELS)
    for release in (1, 2, 3):
        flights = "".join(f"{each},N{each % 40}\n" for each in range(100 * release))
        write(project.config.root, {"data/flights.csv": f"id,tail_number\n{flights}"})
        assert reopen(project).run().release.number == release
    page = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    commands = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    assert len(commands) == 7
    for line in commands:
        words = shlex.split(line, comments=True)[1:]
        answer = ["--yes"] if "--write" in words else []
        assert main([f"--project={project.config.root}", *words, *answer]) == 0
        said = capsys.readouterr().out
        if words[0] == "profile":
            assert "300" in said and ("200" in said) == ("--history" in words)
        else:
            assert "not_null" in said or "Wrote transform/models/_models__models.yml" in said
    written = (project.config.root / "transform/models/_models__models.yml").read_text(encoding="utf-8")
    assert "name: fct_flights" in written and "field: tail_number" in written
