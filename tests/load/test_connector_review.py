"""What connectors do beside the rules: no row is lost by it, none doubled, and no secret told."""

from __future__ import annotations

import pytest

from programs import (
    INTEGER,
    PROTOCOLS,
    TEXT,
    failure,
    files,
    one,
    run,
)
from support import MakeProject, reopen, rows

FIELDS = {"id": INTEGER, "v": TEXT}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_comes_again_is_not_kept_beside_it(make_project: MakeProject, protocol: str) -> None:
    """A load fails after records that no state follows: the connector sends them to the next run, too."""
    bad = '{"id": 2, "v": "a", "v": "b"}'
    project = make_project(one(protocol, mode="append"), files(protocol, FIELDS, [{"id": 1}, bad]))
    assert "duplicate key" in failure(project)
    project = reopen(project, one(protocol, mode="append", on_bad_row="quarantine"))
    run(project)
    assert rows(project) == [(1, None)]
