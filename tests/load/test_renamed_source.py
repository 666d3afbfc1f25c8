"""A source that is told its former name goes on where it was."""

from __future__ import annotations

import smoll
from smoll.events import Event, Message
from smoll.project.config import Resources
from support import MakeProject, load, raw, reopen, write


def yml(name: str, **source: str) -> str:
    rest = "".join(f", {key}: {value}" for key, value in source.items())
    return (
        f"sources: {{{name}: {{kind: files{rest}, streams: "
        "{t: {path: 'data/*.csv', incremental: true, on_bad_row: quarantine}}}}\n"
    )


FILES = {"data/1.csv": "id,x\n1,a\n2\n", "data/2.csv": "id,x\n3,c\n"}


def test_tables_and_state_move_to_the_new_name(make_project: MakeProject) -> None:
    project = make_project(yml("old"), FILES)
    load(project)
    write(project.config.root, {"data/3.csv": "id,x\n4,d\n"})
    said: list[Event] = []

    project = reopen(project, yml("new", was="old"))
    stream = load(project, on_event=said.append)

    assert (stream.rows, stream.total) == (1, 3)  # only the new file was read
    assert raw(project, "SELECT id FROM raw_new.t ORDER BY id") == [(1,), (3,), (4,)]
    assert raw(project, "SELECT line FROM raw_new.t__rejected") == [(3,)]
    assert raw(project, "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'raw_old'") == [(0,)]
    told = [event.text for event in said if isinstance(event, Message)]
    assert told[0].startswith("The source old is new now: t moved with its state.")
    assert load(project).status == "unchanged"  # `was` may stay


def test_with_its_schema_kept_only_the_state_moves(make_project: MakeProject) -> None:
    project = make_project(yml("old", schema="shop"), FILES)
    load(project)

    stream = load(reopen(project, yml("new", was="old", schema="shop")))

    assert (stream.status, stream.total) == ("unchanged", 2)


def test_a_table_of_the_new_name_is_not_overwritten(make_project: MakeProject) -> None:
    project = make_project(yml("old"), FILES)
    load(project)
    with smoll.warehouse.open_warehouse(
        project.config.root / ".smoll/warehouse.duckdb",
        smoll.warehouse.engine_settings(Resources(), project.config.root / ".smoll/tmp"),
    ) as warehouse:
        warehouse.execute("CREATE SCHEMA raw_new; CREATE TABLE raw_new.t AS SELECT 1 AS mine")

    result = reopen(project, yml("new", was="old")).run()

    assert result.status == "failed" and "raw_new.t is there already" in result.error
    assert raw(project, "SELECT count(*) FROM raw_old.t") == [(2,)]
