"""What connectors do beside the rules: no row is lost by it, none doubled, and no secret told."""

from __future__ import annotations

import pytest

from programs import (
    INTEGER,
    PROTOCOLS,
    TEXT,
    calls,
    change,
    failure,
    files,
    one,
    record,
    run,
    state,
    yml,
)
from support import MakeProject, raw, reopen, rows

FIELDS = {"id": INTEGER, "v": TEXT}


def test_talk_that_quotes_a_message_is_none(make_project: MakeProject) -> None:
    quoted = f"#part DEBUG {record('singer', {'id': 2})}"
    project = make_project(one("singer"), files("singer", FIELDS, [{"id": 1}, quoted, "#end"]))
    assert "no whole message: DEBUG" in failure(project)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stream_that_has_another_key_now_is_loaded_anew(make_project: MakeProject, protocol: str) -> None:
    """Its table has lost rows that the former key took for the same."""
    sent = [{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]
    end = [state(protocol, {"c": 1})]
    project = make_project(yml(protocol), files(protocol, FIELDS, sent, key=["id"], full=False, end=end))
    run(project)
    assert rows(project) == [(1, "b")]
    change(project, files(protocol, FIELDS, sent, key=["id", "v"], full=False, end=end))
    assert "another key or mode now" in failure(project)
    assert rows(project) == [(1, "b")]
    run(project)
    assert rows(project) == [(1, "a"), (1, "b")]
    assert "state" not in calls(project)[-1]


@pytest.mark.parametrize("deletes", ["detect", "soft"])
def test_the_mark_of_a_deleted_row_is_seen_whatever_is_selected(make_project: MakeProject, deletes: str) -> None:
    fields = {**FIELDS, "_sdc_deleted_at": {"type": ["null", "string"], "format": "date-time"}}
    options = {"mode": "merge", "key": "id", "deletes": deletes}
    project = make_project(
        one("singer", {"select": ["t.id", "t.v"]}, **options),
        files("singer", fields, [{"id": 1}, {"id": 2}], full=False),
    )
    run(project)
    change(project, files("singer", fields, [{"id": 1, "_sdc_deleted_at": "2024-01-01T00:00:00Z"}], full=False))
    run(project)
    living = "_sdc_deleted_at IS NULL" if deletes == "soft" else "true"
    assert raw(project, f"SELECT id FROM raw_s.t WHERE {living}") == [(2,)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_comes_again_is_not_kept_beside_it(make_project: MakeProject, protocol: str) -> None:
    """A load fails after records that no state follows: the connector sends them to the next run, too."""
    bad = '{"id": 2, "v": "a", "v": "b"}'
    project = make_project(one(protocol, mode="append"), files(protocol, FIELDS, [{"id": 1}, bad]))
    assert "duplicate key" in failure(project)
    project = reopen(project, one(protocol, mode="append", on_bad_row="quarantine"))
    run(project)
    assert rows(project) == [(1, None)]
