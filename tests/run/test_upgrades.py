"""State of an older smoll is brought forward after a copy of it was made; state of a newer one is refused."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

import smoll
from run.shop import GOOD_ORDERS, edit, make_shop, published
from smoll.connectors.journal import open_journal
from smoll.errors import StateError
from smoll.events import Event, Recovered
from smoll.state.ledger import VERSION, open_ledger
from smoll.warehouse import VERSION as WAREHOUSE_VERSION
from support import MakeProject, raw

OLD_LEDGER = (Path(__file__).parents[1] / "data" / "ledger_v1.sql").read_text()
OLD_WAREHOUSE = "a758732e024349d2a5e7ad36cb0d449b"  # as that ledger names it


def old_shop(make_project: MakeProject) -> smoll.Project:
    """A shop as the first smoll left it after two runs and one release."""
    shop = make_shop(make_project)
    published(shop.run())
    state = shop.config.root / ".smoll"
    write_old_ledger(state / "ledger.sqlite")
    with duckdb.connect(str(state / "warehouse.duckdb")) as warehouse:
        warehouse.execute(
            f"CREATE OR REPLACE TABLE _smoll.warehouse AS SELECT '{OLD_WAREHOUSE}' AS id, 2::BIGINT AS run"
        )
        for column in ("rows_read", "rows_rejected"):
            warehouse.execute(f"ALTER TABLE _smoll.loads DROP COLUMN {column}")
    return shop


def write_old_ledger(path: Path) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OLD_LEDGER)


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def test_older_state_is_read_as_it_is_and_brought_forward_by_a_run(make_project: MakeProject) -> None:
    shop = old_shop(make_project)
    ledger, backups = shop.config.root / ".smoll/ledger.sqlite", shop.config.root / ".smoll/backups"
    before = dump(ledger)

    assert shop.status().last_run == shop.runs()[0]  # who only reads changes nothing
    with open_ledger(ledger) as reader:
        assert reader is not None
        assert {record.moment for record in reader.checks().values()} == {2}
        assert len(reader.nodes()) == 5
    assert dump(ledger) == before and not backups.exists()

    events: list[Event] = []
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    # Only one model is built: what the old ledger knew of the others must still hold, or the release is refused.
    result = shop.run("source:shop.orders+", on_event=events.append)
    assert published(result) == 2 and result.run == 3
    told = [event.message for event in events if isinstance(event, Recovered)]
    copies = {path.name.split("-")[0]: path for path in backups.iterdir()}
    assert sorted(copies) == ["ledger", "warehouse"] and len(told) == 2
    assert str(copies["ledger"]) in told[0] and str(copies["warehouse"]) in told[1]
    assert dump(copies["ledger"]) == before
    with duckdb.connect(str(copies["warehouse"]), read_only=True) as copy:
        assert copy.execute("SELECT * FROM warehouse").fetchall() == [(OLD_WAREHOUSE, 2)]
        assert copy.execute("SELECT count(*), count(COLUMNS('rows_.*')) FROM loads").fetchall()[0][0] == 2
    assert raw(shop, "SELECT id, run, version FROM _smoll.warehouse") == [(OLD_WAREHOUSE, 3, WAREHOUSE_VERSION)]
    assert [run.run for run in shop.runs()] == [3, 2, 1]

    assert published_nothing(shop)
    assert len(list(backups.iterdir())) == 2


def published_nothing(shop: smoll.Project) -> bool:
    events: list[Event] = []
    result = shop.run(on_event=events.append)
    return result.release.status == "unchanged" and not any(isinstance(event, Recovered) for event in events)


KILLED = """\
import os, shutil, signal, sqlite3, sys
from pathlib import Path
from smoll.state.ledger import open_ledger

folder, old = Path(sys.argv[1]), Path(sys.argv[2])

def dies_at(statement):
    seen = 0
    def count(sql):
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)
    connect = sqlite3.connect
    def traced(*arguments, **named):
        db = connect(*arguments, **named)
        db.set_trace_callback(count)
        return db
    sqlite3.connect = traced

for statement in range(1, 100):
    state = folder / str(statement)
    state.mkdir()
    shutil.copy(old, state / "ledger.sqlite")
    if (child := os.fork()) == 0:
        dies_at(statement)
        with open_ledger(state / "ledger.sqlite", create=True):
            os._exit(0)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        break
"""


def test_killed_at_any_statement_of_an_upgrade_the_ledger_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    old, states = tmp_path / "old.sqlite", tmp_path / "states"
    write_old_ledger(old)
    states.mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED, str(states), str(old)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folders = sorted(states.iterdir(), key=lambda path: int(path.name))
    new = dump(folders[-1] / "ledger.sqlite")  # the one that nobody killed
    found = [dump(folder / "ledger.sqlite") for folder in folders]
    assert all(each in (dump(old), new) for each in found) and len(found) > 10
    assert found.count(dump(old)) > 5
    for folder in folders:
        with open_ledger(folder / "ledger.sqlite", create=True) as ledger:
            assert ledger is not None
            assert [run.run for run in ledger.runs(9)] == [2, 1]
        assert dump(folder / "ledger.sqlite") == new


def test_the_newest_copies_of_a_ledger_stay(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    for version, day in ((1, 4), (9, 2), (10, 3), (1, 1)):
        (backups / f"ledger-v{version}-2020010{day}T000000Z.sqlite").touch()
    write_old_ledger(tmp_path / "ledger.sqlite")
    with open_ledger(tmp_path / "ledger.sqlite", create=True) as ledger:
        assert ledger is not None
    names = sorted(path.name for path in backups.iterdir())
    assert names[:2] == ["ledger-v1-20200104T000000Z.sqlite", names[1]] and len(names) == 3
    assert "ledger-v10-20200103T000000Z.sqlite" in names


def test_without_room_for_the_copy_the_ledger_stays_as_it_is(tmp_path: Path) -> None:
    write_old_ledger(tmp_path / "ledger.sqlite")
    before = dump(tmp_path / "ledger.sqlite")
    (tmp_path / "backups").touch()  # no folder can be made here
    with pytest.raises(StateError, match="cannot be copied"), open_ledger(tmp_path / "ledger.sqlite", create=True):
        pass
    assert dump(tmp_path / "ledger.sqlite") == before


def smoll_says(shop: smoll.Project, *words: str) -> str:
    command = [sys.executable, "-m", "smoll", "--project", str(shop.config.root), *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def test_newer_state_is_refused_by_every_command_in_one_clear_line(make_project: MakeProject) -> None:
    shop = make_shop(make_project)
    published(shop.run())
    ledger = shop.config.root / ".smoll/ledger.sqlite"
    with closing(sqlite3.connect(ledger)) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'version'", (str(VERSION + 1),))
        db.commit()
    before = dump(ledger)
    wanted = f"Error: {ledger} was written by a newer smoll.\n  Upgrade smoll, then run it again.\n"
    for words in (["run"], ["status"], ["sql", "SELECT 1"], ["gc"], ["rollback"]):
        assert smoll_says(shop, *words) == wanted
    with pytest.raises(StateError, match="newer smoll"):
        shop.run()
    with pytest.raises(StateError, match="newer smoll"):
        shop.status()
    with pytest.raises(StateError, match="newer smoll"):
        smoll.connect(shop.config.root)
    assert dump(ledger) == before

    ledger.unlink()  # and the warehouse alone
    with duckdb.connect(str(shop.config.root / ".smoll/warehouse.duckdb")) as warehouse:
        warehouse.execute("UPDATE _smoll.warehouse SET version = version + 1")
    with pytest.raises(StateError, match=r"warehouse\.duckdb was written by a newer smoll"):
        shop.run()
    assert raw(shop, "SELECT run FROM _smoll.warehouse") == [(1,)]


def test_what_a_newer_smoll_adds_to_other_files_is_no_harm(make_project: MakeProject) -> None:
    shop = make_shop(make_project)
    published(shop.run())
    edit(shop, "data/orders.csv", GOOD_ORDERS)
    published(shop.run())
    shop.pin(1)
    shop.rollback()
    state = shop.config.root / ".smoll"
    before = shop.status(), shop.releases(), shop.runs()

    def add(path: Path) -> None:
        found = json.loads(path.read_text())
        for each in found if isinstance(found, list) else [found]:
            each["invented"] = {"a": [1]}
            for name in ("tables", "checks"):
                for item in each.get(name, ()):
                    item["invented"] = 1
        path.write_text(json.dumps(found))

    for name in ("hold.json", "pins.json", "1/manifest.json", "2/manifest.json"):
        add(state / "releases" / name)
    with closing(sqlite3.connect(state / "ledger.sqlite")) as db:
        for number, text in db.execute("SELECT run, result FROM runs").fetchall():
            result = json.loads(text)
            for item in [result, result["release"], *result["streams"], *result["nodes"], *result["checks"]]:
                item["invented"] = 1
            db.execute("UPDATE runs SET result = ? WHERE run = ?", (json.dumps(result), number))
        db.commit()
    assert (shop.status(), shop.releases(), shop.runs()) == before
    assert shop.resume().manifest.number == 2
    assert shop.unpin(1).pinned is False
    assert published_nothing(shop)


def test_a_journal_that_is_written_otherwise_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    first, _ = open_journal(folder, "began", "options")
    first.save({"at": 1}, force=True)
    log = folder / "log.ndjson"
    known = log.read_text()
    log.write_text(known.replace('"sizes": {}', '"sizes": {}, "invented": 1') + '{"invented": {}}\n')
    assert open_journal(folder, "began", "options")[0].resumed
    log.write_text(known.replace('"sizes"', '"extents"'))
    again, _ = open_journal(folder, "began", "options")
    assert not again.resumed and again.state is None
