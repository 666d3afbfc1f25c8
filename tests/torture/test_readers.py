"""Readers never meet a lock, a half release or no release, however often runs publish meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import smoll
from support import MakeProject, write
from torture import reader

HALF = "{{ config(materialized='table') }} select id, version from {{ source('s', 'numbers') }}"
ROWS = 20_000


def _numbers(version: int) -> str:
    return "id,version\n" + "".join(f"{number},{version}\n" for number in range(ROWS))


@pytest.fixture
def halves(make_project: MakeProject) -> smoll.Project:
    """Two released tables whose values must always agree, at version 0; few releases are kept."""
    config = "release: {keep: 3}\nsources:\n  s: {kind: files, streams: {numbers: data/numbers.csv}}\n"
    models = {"left_half": HALF, "right_half": HALF}
    project = make_project(config, {"data/numbers.csv": _numbers(0)}, models)
    assert project.run().release.status == "published"
    return project


@pytest.mark.parametrize(
    ("readers", "releases"), [(2, 8), pytest.param(4, 30, marks=pytest.mark.torture)], ids=["short", "long"]
)
def test_readers_of_current_see_no_error_and_no_torn_read_while_runs_release(
    halves: smoll.Project, tmp_path: Path, readers: int, releases: int
) -> None:
    end = tmp_path / "end"
    command = [sys.executable, str(Path(reader.__file__)), str(halves.config.root), str(end)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(readers)]
    try:
        for version in range(1, releases + 1):
            write(halves.config.root, {"data/numbers.csv": _numbers(version)})
            assert halves.run().release.number == version + 1
    finally:
        end.touch()
        reports = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    for report in reports:
        assert (report["errors"], report["torn"]) == ([], [])
        assert report["reads"] > 2 * releases, "it did read"
        assert len(report["seen"]) > releases // 3, "and saw the releases pass"
