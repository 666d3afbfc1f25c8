"""Readers never meet a lock, a half release or no release while runs publish, and see each release at once.

``READERS=8 RELEASES=50 make torture`` takes fewer releases.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import smoll
from support import MakeProject, write
from torture import reader

HALF = "{{ config(materialized='table') }} select id, version from {{ source('s', 'numbers') }}"
ROWS = 20_000
LONG = int(os.environ.get("READERS", "8")), int(os.environ.get("RELEASES", "200"))


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


def _stale(last: dict[str, float], published: list[float]) -> list[tuple[int, int]]:
    """The versions that were read when a newer one was published already, each with the newest one then."""
    pairs = [(int(version), bisect.bisect_left(published, begun) - 1) for version, begun in last.items()]
    return [(version, newest) for version, newest in pairs if version < newest]


@pytest.mark.parametrize(
    ("readers", "releases"), [(3, 8), pytest.param(*LONG, marks=pytest.mark.torture)], ids=["short", "long"]
)
def test_readers_see_no_error_no_torn_read_and_every_release_as_soon_as_it_is_published(
    halves: smoll.Project, tmp_path: Path, readers: int, releases: int
) -> None:
    end = tmp_path / "end"
    program, root = str(Path(reader.__file__)), str(halves.config.root)
    published = [time.monotonic()]  # of each version, once the run says so
    with ExitStack() as stack:
        processes = []
        for way in itertools.islice(itertools.cycle(reader.WAYS), readers):
            command = [sys.executable, program, root, way, str(end)]
            processes.append(stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
        stack.callback(end.touch)
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "reading\n"
        for version in range(1, releases + 1):
            write(halves.config.root, {"data/numbers.csv": _numbers(version)})
            assert halves.run().release.number == version + 1
            published.append(time.monotonic())
        end.touch()
        reports: list[dict[str, Any]] = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    for report in reports:
        assert (report["errors"], report["torn"]) == ([], [])
        assert _stale(report["last"], published) == [], report["way"]
        assert report["reads"] > 2 * releases, "it did read"
        assert len(report["last"]) > releases // 3, "and saw the releases pass"
    print(f"\n{readers} readers, {releases} releases: {sum(report['reads'] for report in reports)} reads")
