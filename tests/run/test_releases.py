"""What a release holds, when there is none, and how readers are moved back and on."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

import smoll
from run.shop import FILES, GOOD_ORDERS, MODELS, SOURCES, current, edit, make_shop, published
from smoll.errors import ReleaseError, UsageError
from smoll.model import ReleaseManifest
from support import MakeProject, age, released, reopen


@pytest.fixture
def shop(make_project: MakeProject) -> smoll.Project:
    """A shop with release 1."""
    project = make_shop(make_project)
    assert published(project.run()) == 1
    return project


def _orders(count: int) -> str:
    return "id,customer_id,amount\n" + "".join(f"{n},1,{n}\n" for n in range(1, count + 1))


def _release(project: smoll.Project, orders: int) -> int:
    edit(project, "data/orders.csv", _orders(orders))
    return published(project.run())


def _folder(project: smoll.Project, name: object) -> Path:
    return project.config.root / ".smoll" / "releases" / str(name)


def _tables(project: smoll.Project) -> list[str]:
    return [str(table.ref) for table in project.release().manifest.tables]


# --- what is in it


def test_by_default_the_marts_are_released(shop: smoll.Project) -> None:
    assert _tables(shop) == ["main.customers", "main.orders"]


def test_without_a_marts_folder_every_model_is_released_but_ephemeral_ones(make_project: MakeProject) -> None:
    models = {
        "a": "{{ config(materialized='ephemeral') }} select 1 as x",
        "b": "{{ config(materialized='view') }} select x from {{ ref('a') }}",
        "deep/c": "{{ config(materialized='table', schema='other', alias='see') }} select x from {{ ref('b') }}",
    }
    project = make_project("", {}, models)
    published(project.run())
    assert _tables(project) == ["main.b", "main_other.see"]
    with duckdb.connect(str(_folder(project, "current") / "warehouse.duckdb"), read_only=True) as connection:
        kinds = connection.execute("select table_name, table_type from information_schema.tables order by 1").fetchall()
    assert kinds == [("b", "BASE TABLE"), ("see", "BASE TABLE")], "a view is released as a table"


def test_what_is_released_is_selected_in_dbts_syntax_raw_tables_seeds_and_snapshots_included(
    make_project: MakeProject,
) -> None:
    snapshot = """\
snapshots:
  - name: customers_history
    relation: ref('customers')
    config: {unique_key: id, strategy: check, check_cols: [name]}
"""
    config = f'release: {{select: "orders source:shop.orders customers_history codes"}}\n{SOURCES}'
    files = FILES | {"transform/seeds/codes.csv": "code\na\n", "transform/snapshots/customers_history.yml": snapshot}
    project = make_project(config, files, MODELS)
    published(project.run())
    assert _tables(project) == ["main.orders", "main.codes", "main.customers_history", "raw_shop.orders"]
    assert project.run().release.status == "unchanged"
    # The same rows, loaded and looked at anew: clocks and load ids differ, the release does not.
    (project.config.root / ".smoll" / "warehouse.duckdb").unlink()
    assert project.run().release.status == "unchanged"
    age(project.config.root / "data" / "orders.csv")
    assert project.run(reload=["shop"]).release.status == "unchanged"
    edit(project, "data/customers.csv", "id,name\n1,Ada\n2,Bobby\n")
    published(project.run())
    after = released(project, "select name, dbt_valid_to is null from main.customers_history order by dbt_valid_from")
    assert after[2:] == [("Bobby", True)]
    assert ("Bob", False) in after


def test_a_selection_that_names_nothing_releases_nothing_and_says_so(shop: smoll.Project) -> None:
    result = reopen(shop, f'release: {{select: "tag:none"}}\n{SOURCES}').run()
    assert (result.status, result.release.status) == ("ok", "none")
    assert "release.select" in result.release.message
    assert current(shop) == 1


def test_the_file_is_read_only_and_opens_with_a_driver_of_duckdb_1_0(shop: smoll.Project) -> None:
    path = _folder(shop, "current") / "warehouse.duckdb"
    assert path.stat().st_mode & 0o222 == 0
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("select sum(amount) from main.orders").fetchall() == [(30,)]
        (tags,) = (
            connection.execute("select tags from duckdb_databases() where database_name = 'warehouse'").fetchone() or ()
        )
    assert tags["storage_version"].startswith("v1.0.0")


def test_descriptions_of_the_project_are_in_the_file(make_project: MakeProject) -> None:
    yml = "models: [{name: m, description: It's a model, columns: [{name: x, description: A column}]}]"
    project = make_project("", {}, {"m": "select 1 as x", "m.yml": yml})
    published(project.run())
    assert released(project, "select comment from duckdb_tables()") == [("It's a model",)]
    assert released(project, "select comment from duckdb_columns() where column_name = 'x'") == [("A column",)]


# --- its manifest


def _git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *identity, "-C", str(root), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_manifest_says_what_it_is_made_of(make_project: MakeProject) -> None:
    streams = "{orders: {mode: merge, key: id, cursor: id}}"
    config = f"sources:\n  shop: {{kind: sql, url: 'sqlite:///shop.db', streams: {streams}}}\n"
    models = {"orders": "select * exclude (_smoll_load_id, _smoll_loaded_at) from {{ source('shop', 'orders') }}"}
    project = make_project(config, {".gitignore": ".smoll\n_smoll_sources.yml\nshop.db\n"}, models)
    root = project.config.root
    import sqlite3

    with sqlite3.connect(root / "shop.db") as db:
        db.execute("create table orders (id integer primary key, amount integer)")
        db.execute("insert into orders values (1, 10), (2, 20)")
    edit(project, "transform/tests/positive.sql", "select * from {{ ref('orders') }} where amount < 0")
    _git(root, "init", "-q")
    _git(root, "add", ".")
    _git(root, "commit", "-qm", "first")
    published(project.run())
    manifest = project.release().manifest
    assert (manifest.number, manifest.run, manifest.project) == (1, 1, "tests")
    assert (manifest.git_commit, manifest.git_dirty) == (_git(root, "rev-parse", "HEAD"), False)
    assert manifest.cursors == {"shop.orders": "2"}
    assert [(check.name, check.status) for check in manifest.checks] == [("positive", "pass")]
    assert set(manifest.versions) == {"python", "smoll", "duckdb", "dbt-core", "dbt-duckdb"}
    (table,) = manifest.tables
    assert (table.id, table.rows) == ("model.tests.orders", 2)
    assert [(column.name, column.type) for column in table.columns] == [("id", "BIGINT"), ("amount", "BIGINT")]
    assert manifest.bytes == (_folder(project, 1) / "warehouse.duckdb").stat().st_size
    text = json.loads((_folder(project, 1) / "manifest.json").read_text())
    assert text["number"] == 1
    edit(project, "transform/models/new.sql", "select 1 as x")
    published(project.run())
    assert project.release().manifest.git_dirty is True, "a new file makes it dirty"


def test_outside_git_the_manifest_says_nothing_of_it(shop: smoll.Project) -> None:
    manifest = shop.release().manifest
    assert (manifest.git_commit, manifest.git_dirty) == (None, None)


def _hash(manifest: ReleaseManifest, table: str) -> str:
    return next(item.hash for item in manifest.tables if str(item.ref) == table)


def test_the_hash_changes_with_a_value_and_with_a_doubled_row_but_not_with_the_order(shop: smoll.Project) -> None:
    first = _hash(shop.release().manifest, "main.orders")
    edit(shop, "data/orders.csv", "id,customer_id,amount\n2,2,20\n1,1,10\n")
    assert shop.run().release.status == "unchanged", "another order"
    edit(shop, "data/orders.csv", "id,customer_id,amount\n1,1,10\n2,2,21\n")
    published(shop.run())
    second = _hash(shop.release().manifest, "main.orders")
    edit(shop, "data/orders.csv", "id,customer_id,amount\n1,1,10\n2,2,21\n2,2,21\n")
    published(shop.run())
    assert len({first, second, _hash(shop.release().manifest, "main.orders")}) == 3


def test_nothing_changed_makes_no_release(shop: smoll.Project) -> None:
    result = shop.run()
    assert (result.status, result.release.status, result.release.number) == ("ok", "unchanged", 1)
    assert [entry.manifest.number for entry in shop.releases()] == [1]


def test_a_changed_column_type_is_a_change(shop: smoll.Project) -> None:
    sql = (
        "{{ config(materialized='table') }} select id, customer_id, amount::double amount from {{ ref('stg_orders') }}"
    )
    edit(shop, "transform/models/marts/orders.sql", sql)
    assert published(shop.run(allow_breaking=True)) == 2


# --- how many are kept, and which one readers see


def test_only_the_newest_are_kept(shop: smoll.Project) -> None:
    project = reopen(shop, f"release: {{keep: 2}}\n{SOURCES}")
    for orders in (3, 4, 5):
        _release(project, orders)
    assert [entry.manifest.number for entry in project.releases()] == [4, 3]
    assert sorted(path.name for path in _folder(project, "").iterdir()) == ["3", "4", "current"]


def test_rollback_holds_until_resume(shop: smoll.Project) -> None:
    project = reopen(shop, f"release: {{keep: 2}}\n{SOURCES}")
    _release(project, 3)
    entry = project.rollback()
    assert (entry.manifest.number, entry.current) == (1, True)
    assert released(project, "select count(*) from main.orders") == [(2,)]
    hold = project.status().hold
    assert hold is not None
    assert (hold.release, hold.reason) == (1, "rolled back from release 2 to 1")
    for number, orders in ((3, 4), (4, 5)):
        edit(project, "data/orders.csv", _orders(orders))
        result = project.run()
        assert (result.status, result.release.status, result.release.number) == ("ok", "staged", number)
        assert current(project) == 1, "current is never pruned"
    assert [(e.manifest.number, e.current, e.held) for e in project.releases()] == [
        (4, False, True),
        (3, False, True),
        (2, False, True),
        (1, True, False),
    ]
    assert project.run().release.status == "unchanged"
    assert current(project) == 1
    assert project.resume().manifest.number == 4
    assert (current(project), project.status().hold) == (4, None)
    assert _release(project, 6) == 5


def test_rollback_to_a_number_and_back_again(shop: smoll.Project) -> None:
    _release(shop, 3)
    _release(shop, 4)
    assert shop.rollback(1).manifest.number == 1
    assert shop.rollback(2).manifest.number == 2
    assert released(shop, "select count(*) from main.orders") == [(3,)]
    with pytest.raises(UsageError, match="no release 7"):
        shop.rollback(7)
    assert current(shop) == 2


def test_rollback_without_anything_to_go_back_to(make_project: MakeProject) -> None:
    project = make_shop(make_project)
    for number in (None, 1):
        with pytest.raises(UsageError):
            project.rollback(number)
    with pytest.raises(UsageError):
        project.resume()
    published(project.run())
    with pytest.raises(UsageError, match="earlier"):
        project.rollback()
    assert project.status().hold is None


def test_a_release_that_is_current_no_more_and_not_the_newest_is_published_again_by_its_number(
    shop: smoll.Project,
) -> None:
    _release(shop, 3)
    shop.rollback()
    shop.resume()
    assert current(shop) == 2


# --- where it is damaged or moved


def test_a_dangling_current_is_told_and_mended_by_rollback_or_by_the_next_run(shop: smoll.Project) -> None:
    _release(shop, 3)
    shutil.rmtree(_folder(shop, 2))
    for ask in (shop.status, shop.connect):
        with pytest.raises(ReleaseError, match="leads to 2") as caught:
            ask()
        assert "smoll rollback N" in caught.value.hint
    assert [entry.manifest.number for entry in shop.releases()] == [1], "the list answers, so that N can be chosen"
    assert shop.rollback().manifest.number == 1
    shop.resume()
    _folder(shop, "current").unlink()
    _folder(shop, "current").symlink_to("2")
    assert shop.run().release.number == 3, "a number that readers may have open is not given again"
    assert current(shop) == 3


def test_a_damaged_manifest_is_told_with_what_to_do_and_the_next_run_is_sound(shop: smoll.Project) -> None:
    path = _folder(shop, 1) / "manifest.json"
    path.write_text('{"number": 1, "tab')
    result = shop.run()
    assert (result.status, result.exit_code) == ("failed", 1)
    assert "manifest.json is damaged" in result.error
    assert f"mv '{path.parent}'" in result.error
    assert released(shop, "select count(*) from main.orders") == [(2,)], "readers still read"
    path.parent.rename(shop.config.root / ".smoll" / "damaged-1")
    assert published(shop.run()) == 2


def test_a_damaged_hold_lets_nothing_switch_until_resume(shop: smoll.Project) -> None:
    (_folder(shop, "hold.json")).write_text("{")
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    result = shop.run()
    assert (result.status, current_link(shop)) == ("failed", "1")
    assert "hold.json is damaged" in result.error
    assert "smoll release resume" in result.error
    assert shop.resume().manifest.number == 2
    assert shop.run().status == "ok"


def current_link(project: smoll.Project) -> str:
    """What the link says, without asking smoll."""
    return str(_folder(project, "current").readlink())


@pytest.mark.parametrize("follow", [False, True], ids=["moved", "copied with links followed"])
def test_a_project_that_moved_neither_doubles_nor_loses(shop: smoll.Project, follow: bool) -> None:
    root = shop.config.root
    there = root.with_name("elsewhere")
    if follow:
        shutil.copytree(root, there, symlinks=False, copy_function=shutil.copyfile)  # no times, as `cp -rL`
        shutil.rmtree(root)
    else:
        root.rename(there)
    project = smoll.open_project(there)
    assert current(project) == 1
    assert released(project, "select count(*) from main.orders") == [(2,)]
    result = project.run()
    assert (result.status, result.release.status) == ("ok", "unchanged")
    edit(project, "data/orders.csv", GOOD_ORDERS)
    assert published(project.run()) == 2
    assert released(project, "select count(*), sum(amount) from main.orders") == [(3, 60)]
    assert _folder(project, "current").is_symlink()


def test_state_holds_no_absolute_path(shop: smoll.Project) -> None:
    _release(shop, 3)
    shop.rollback()
    state = shop.config.root / ".smoll"
    told = str(shop.config.root).encode()
    files = [
        path for path in state.rglob("*") if path.is_file() and path.relative_to(state).parts[0] not in ("dbt", "logs")
    ]
    assert {"warehouse.duckdb", "ledger.sqlite", "manifest.json", "hold.json"} <= {path.name for path in files}
    assert [path.name for path in files if told in path.read_bytes()] == [], "dbt/ is written anew by every run"


# --- readers


def test_a_connection_stays_on_its_release_and_a_new_one_sees_the_next(shop: smoll.Project) -> None:
    count = "select count(*) from main.orders"
    with shop.connect() as early, smoll.connect(shop.config.root) as second:
        _release(shop, 3)
        assert early.execute(count).fetchall() == second.execute(count).fetchall() == [(2,)]
        with shop.connect() as late:
            assert late.execute(count).fetchall() == [(3,)]
            assert early.execute(count).fetchall() == [(2,)]


def test_reading_before_the_first_release_says_what_to_do(make_project: MakeProject) -> None:
    project = make_shop(make_project)
    with pytest.raises(ReleaseError) as caught:
        project.connect()
    assert "smoll run" in caught.value.hint
    with pytest.raises(ReleaseError):
        project.connect(raw=True)


@pytest.mark.parametrize("raw", [False, True], ids=["release", "warehouse"])
def test_a_reader_reaches_nothing_but_the_tables(shop: smoll.Project, tmp_path: Path, raw: bool) -> None:
    (tmp_path / "secret.csv").write_text("password\nhunter2\n")
    secret, target = tmp_path / "secret.csv", tmp_path / "out"
    attacks = [
        f"select * from read_text('{secret}')",
        f"select * from read_csv('{secret}')",
        f"select * from '{secret}'",
        "select * from glob('/*')",
        f"copy main.orders to '{target}.csv'",
        f"export database '{target}'",
        f"attach '{target}.duckdb'",
        f"attach '{shop.config.root.as_posix().replace(chr(39), chr(39) * 2)}/.smoll/warehouse.duckdb' as w",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "set memory_limit = '1TB'",
        "pragma temp_directory = '/tmp'",
        "create table main.mine as select 1",
        "drop table main.orders",
        "delete from main.orders",
        "update main.orders set amount = 0",
        "alter table main.orders add column x int",
    ]
    with shop.connect(raw) as connection:
        for attack in attacks:
            with pytest.raises(duckdb.Error):
                connection.execute(attack)
        assert connection.execute("select sum(amount) from main.orders").fetchall() == [(30,)]
    assert list(tmp_path.glob("out*")) == []


def test_a_column_named_like_the_metadata_of_another_source_counts(make_project: MakeProject) -> None:
    other = "  log: {kind: files, metadata: {loaded_at: amount}, streams: {lines: data/lines.csv}}\n"
    project = make_project(SOURCES + other, FILES | {"data/lines.csv": "line\na\n"}, MODELS)
    published(project.run())
    edit(project, "data/orders.csv", FILES["data/orders.csv"].replace("2,2,20", "2,2,21"))
    assert published(project.run()) == 2


def test_a_sound_release_is_shown_though_current_leads_nowhere(shop: smoll.Project) -> None:
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    published(shop.run())
    shutil.rmtree(_folder(shop, 2))
    (_folder(shop, 1).parent / "01").mkdir()
    assert shop.release(1).manifest.number == 1
    assert [entry.manifest.number for entry in shop.releases()] == [1]


def test_a_clone_of_a_project_gets_the_schema_for_editors_with_its_first_run(shop: smoll.Project) -> None:
    shutil.rmtree(shop.config.root / ".smoll")
    published(shop.run())
    schema = json.loads((shop.config.root / ".smoll/smoll.schema.json").read_text(encoding="utf-8"))
    assert "sources" in schema["properties"]
