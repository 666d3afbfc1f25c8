"""What a profile knows of a table, its history, and what stands in the manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

import smoll
from run.shop import GOOD_ORDERS, SOURCES, edit, make_shop, published
from smoll.errors import ReleaseError, UsageError
from smoll.events import Event, Message, ProfileStarted
from smoll.model import RunResult, TableRef, to_json
from smoll.profiles import (
    ColumnProfile,
    TableProfile,
    Value,
    forget_values,
    history,
    profile_from_json,
    profile_table,
    remember,
)
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger
from support import MakeProject, reopen, write

PERSONAL = "models: [{name: customers, columns: [{name: name, config: {meta: {pii: true}}}]}]"
REF = TableRef("main", "t")
START = datetime(2026, 1, 1, tzinfo=UTC)


def profile(sql: str, **options: Any) -> TableProfile:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE t AS {sql}")
        found = profile_table(connection, REF, **options)
        assert not connection.execute("SELECT * FROM duckdb_tables() WHERE temporary").fetchall()
    assert profile_from_json(json.loads(json.dumps(to_json(found), allow_nan=False))) == found
    return found


def column(found: TableProfile, name: str) -> ColumnProfile:
    one = found.column(name)
    assert one is not None and not one.note, one
    return one


def test_numbers_texts_and_times() -> None:
    found = profile(
        """SELECT i AS "the ""id"" of", i % 4 AS few, i / 4 AS part, i * 1.25 AS price, 'name ' || i % 7 AS name,
        nullif(i % 3, 0) AS some, i % 2 = 0 AS even, DATE '2024-01-01' + i::INTEGER AS day,
        TIMESTAMP '2024-01-01' + i * INTERVAL 1 HOUR AS at FROM range(1000) r(i)"""
    )
    assert (found.rows, found.sampled) == (1000, 1000)
    number = column(found, 'the "id" of')
    assert (number.min, number.max, number.mean, number.distinct, number.top) == (0, 999, 499.5, 1000, ())
    assert number.stddev == pytest.approx(288.8194)
    assert number.quantiles["0.5"] == pytest.approx(500, abs=1)
    assert [bin[2] for bin in number.histogram] == [50] * 20
    assert column(found, "few").histogram == ((0, 0, 250), (1, 1, 250), (2, 2, 250), (3, 3, 250))
    assert column(found, "price").max == 1248.75
    text = column(found, "NAME")
    assert (text.min, text.max, text.distinct, text.is_distinct_exact) == ("name 0", "name 6", 7, True)
    assert text.top[0] == ("name 0", 143) and sum(n for _, n in text.top) == 1000
    assert (text.min_length, text.mean_length, text.max_length) == (6, 6.0, 6)
    assert (column(found, "some").nulls, column(found, "some").null_rate) == (334, 0.334)
    assert column(found, "even").mean == 0.5
    day = column(found, "day")
    assert (day.min, day.max, day.quantiles["0.5"]) == ("2024-01-01", "2026-09-26", "2025-05-14")
    assert day.histogram[0][0] == "2024-01-01" and sum(bin[2] for bin in day.histogram) == 1000
    assert column(found, "at").max == "2024-02-11 15:00:00"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("NULL::INTEGER", {"nulls": 2, "null_rate": 1.0, "distinct": 0}),
        ("'nan'::DOUBLE", {"nonfinite": 2, "min": None, "histogram": ()}),
        ("[1e300, -1e300][i]", {"max": 1e300, "stddev": None}),
        ("['infinity'::TIMESTAMP, '2020-01-01'::TIMESTAMP][i]", {"max": "2020-01-01 00:00:00", "nonfinite": 1}),
        ("['0044-03-15 (BC)'::DATE, '290000-01-01'::DATE][i]", {"max": "290000-01-01", "histogram": ()}),
        ("12345678901234567890.1234567891::DECIMAL(38,10)", {"max": "12345678901234567890.1234567891"}),
        ("170141183460469231731687303715884105727::HUGEINT", {"max": 2**127 - 1}),
        ("'2020-01-01 00:00:00+00'::TIMESTAMPTZ", {"min": "2020-01-01 00:00:00+00"}),
        ("'12:00:00+02'::TIMETZ", {"min": "12:00:00+02"}),
        ("'12:00'::TIME", {"min": "12:00:00"}),
        ("INTERVAL (i) DAY", {"min": "1 day", "max": "2 days"}),
        ("'00000000-0000-0000-0000-000000000001'::UUID", {"min": "00000000-0000-0000-0000-000000000001"}),
        ("['z', 'a'][i]::ENUM('z', 'a')", {"min": "z", "max": "a"}),
        ("'101'::BIT", {"distinct": 1}),
        ("{'a': i}", {"distinct": 2, "min": None}),
        ("MAP {'a': i}", {"distinct": 2}),
        ("range(i)", {"min_length": 1, "max_length": 2}),
        ("'abc'::BLOB", {"min_length": 3}),
        ("'{\"a\": 1}'::JSON", {"min_length": 8, "min": None}),
        ("repeat('x', 100000)", {"max_length": 100_000, "min": "x" * 200, "top": (("x" * 200, 2),)}),
    ],
)
def test_odd_types_and_values(sql: str, expected: dict[str, Value]) -> None:
    found = profile(f"SELECT {sql} AS odd FROM (VALUES (1), (2)) v(i)")
    one = found.columns[0]
    assert {name: getattr(one, name) for name in expected} == expected
    assert "not computed" not in one.note


def test_no_rows_no_columns_and_many_columns() -> None:
    empty = profile("SELECT 1 AS a, 'x' AS b, now() AS c WHERE false")
    assert [(one.nulls, one.null_rate, one.distinct, one.min) for one in empty.columns] == [(0, 0.0, 0, None)] * 3
    assert profile("SELECT 1 AS a", ignored={"a"}).columns == ()
    wide = profile(f"SELECT {', '.join(f'i + {n} AS c{n}' for n in range(120))} FROM range(3) r(i)")
    assert [one.max for one in wide.columns] == [n + 2 for n in range(120)]


def test_nothing_of_personal_columns_is_kept() -> None:
    found = profile("SELECT 'secret' AS Email, 'secret' AS other, 4711.25 AS pay", pii=["email", "PAY"])
    one, pay = column(found, "email"), column(found, "pay")
    assert (one.pii, one.distinct, one.max_length, one.min, one.top) == (True, 1, 6, None, ())
    assert (pay.min, pay.max, pay.mean, pay.stddev, pay.quantiles, pay.histogram) == (None, None, None, None, {}, ())
    assert "4711" not in json.dumps(to_json(found))


def test_large_tables_are_exact_where_it_matters() -> None:
    found = profile("SELECT i, i % 5 AS few, 'v' || i % 30_000 AS v FROM range(400_000) r(i)")
    assert 90_000 < found.sampled < 110_000
    number, few, text = (column(found, name) for name in ("i", "few", "v"))
    assert (number.min, number.max, number.mean) == (0, 399_999, 199_999.5)
    assert number.distinct == pytest.approx(400_000, rel=0.04) and not number.is_distinct_exact
    assert text.distinct == pytest.approx(30_000, rel=0.04)
    assert (few.distinct, few.is_distinct_exact) == (5, True)
    assert sum(n for _, n in few.top) == pytest.approx(400_000, rel=0.01)
    assert number.quantiles["0.5"] == pytest.approx(200_000, rel=0.02)


def test_history_keeps_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(rows: int) -> TableProfile:
        return profile(f"SELECT i, 'a' || i % 2 AS c, 'ada' AS name FROM range({rows}) r(i)")

    with open_ledger(tmp_path / "ledger.sqlite", create=True) as ledger:
        assert ledger is not None and ledger.profiled() == (0, "")
        for release, rows in ((1, 10), (2, 10), (3, 12), (3, 12), (4, 10)):
            remember(ledger, release, START + timedelta(days=release), [(make(rows), f"duckdb:{rows}")])
        assert [(past.release, past.profile.rows) for past in history(ledger, REF)] == [(1, 10), (3, 12), (4, 10)]
        assert [past.release for past in history(ledger, REF, 2)] == [3, 4]
        assert ledger.profiled() == (4, "2026-01-05T00:00:00.000+00:00")
        past = history(ledger, REF)[0].profile
        assert past.columns[0].histogram == () and past.columns[1].top == (("a0", 5), ("a1", 5))
        forget_values(ledger, REF, ["NAME"])
        name = history(ledger, REF)[0].profile.columns[2]
        assert (name.pii, name.min, name.top, name.nulls, name.max_length) == (True, None, (), 0, 3)
        assert history(ledger, REF)[0].profile.columns[1].top == past.columns[1].top
        monkeypatch.setattr("smoll.state.ledger._PROFILES", 3)
        for release in (5, 6, 1):  # numbers begin anew where somebody removed all releases
            remember(ledger, release, START + timedelta(days=10 + release), [(past, f"duckdb:{release}")])
        remember(ledger, 2, START + timedelta(days=20), [(past, "duckdb:2")])
        assert [past.release for past in history(ledger, REF)] == [5, 6, 2]


# --- in a release


def run(project: smoll.Project) -> tuple[RunResult, list[str], list[str]]:
    """Run anew; the tables that were profiled, and the warnings."""
    events: list[Event] = []
    result = reopen(project).run(on_event=events.append)
    profiled = [event.table for event in events if isinstance(event, ProfileStarted)]
    return result, profiled, [event.text for event in events if isinstance(event, Message) and event.level != "info"]


def manifest(project: smoll.Project, number: int) -> dict[str, Any]:
    path = project.config.root / f".smoll/releases/{number}/manifest.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def profiles_of(project: smoll.Project, number: int) -> dict[str, TableProfile]:
    data = json.loads((project.config.root / f".smoll/releases/{number}/profile.json").read_text())
    return {each["ref"]: profile_from_json(each) for each in data["tables"]}


def remembered(project: smoll.Project, name: str) -> list[tuple[int, int]]:
    with open_ledger(Layout(project.config.root).ledger) as ledger:
        assert ledger is not None
        return [(past.release, past.profile.rows) for past in history(ledger, TableRef("main", name))]


def test_a_release_has_profiles_of_what_changed(make_project: MakeProject) -> None:
    project = make_shop(make_project)
    root = project.config.root
    result, profiled, _ = run(project)
    assert published(result) == 1 and profiled == ["main.customers", "main.orders"]
    first, content = manifest(project, 1), (root / ".smoll/releases/1/profile.json").read_bytes()
    assert first["profile"] == {"file": "profile.json", "sha256": hashlib.sha256(content).hexdigest()}
    assert first["config_hash"] == hashlib.sha256((root / "smoll.yml").read_bytes()).hexdigest()
    assert all(0 < table["bytes"] <= first["bytes"] for table in first["tables"])
    orders = profiles_of(project, 1)["main.orders"]
    assert (orders.rows, column(orders, "amount").max) == (2, 20)

    edit(project, "data/orders.csv", GOOD_ORDERS)
    edit(project, "smoll.yml", f"name: tests\n{SOURCES}  # said more\n")
    result, profiled, _ = run(project)
    assert published(result) == 2 and profiled == ["main.orders"], "the others are as they were"
    second = manifest(project, 2)
    assert second["config_hash"] != first["config_hash"] and second["dbt_manifest_hash"] == first["dbt_manifest_hash"]
    assert profiles_of(project, 2)["main.customers"] == profiles_of(project, 1)["main.customers"]
    assert (remembered(project, "orders"), remembered(project, "customers")) == ([(1, 2), (2, 3)], [(1, 2)])

    # An older smoll wrote less into a manifest, a newer one more; neither makes a release of equal tables.
    path = root / ".smoll/releases/2/manifest.json"
    old = {key: value for key, value in second.items() if key not in ("profile", "config_hash", "dbt_manifest_hash")}
    tables = [{key: value for key, value in table.items() if key != "bytes"} | {"x": 1} for table in old["tables"]]
    path.write_text(json.dumps({**old, "tables": tables, "new": {"a": 1}}))
    assert run(project)[0].release.status == "unchanged"

    # Killed before the profiles were written into the history, with no profile to take over.
    with sqlite3.connect(root / ".smoll/ledger.sqlite") as db:
        db.execute("DELETE FROM profiles")
        db.execute("DELETE FROM meta WHERE key = 'profiled'")
    edit(
        project,
        "transform/models/marts/customers.sql",
        "select id, name, 1 as one from {{ source('shop', 'customers') }}",
    )
    result, profiled, _ = run(project)
    assert published(result) == 3 and profiled == ["main.customers", "main.orders"]
    assert manifest(project, 3)["dbt_manifest_hash"] != second["dbt_manifest_hash"]
    assert (remembered(project, "orders"), remembered(project, "customers")) == ([(1, 2), (3, 3)], [(1, 2), (3, 2)])

    # The same project elsewhere.
    elsewhere = root.with_name("elsewhere")
    shutil.copytree(root, elsewhere, ignore=shutil.ignore_patterns(".smoll"))
    other = smoll.open_project(elsewhere)
    assert published(run(other)[0]) == 1
    assert manifest(other, 1)["dbt_manifest_hash"] == manifest(project, 3)["dbt_manifest_hash"]


def test_personal_columns_and_profiles_that_fail(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_shop(make_project)
    assert published(run(project)[0]) == 1
    write(project.config.root, {"transform/models/marts/marts.yml": PERSONAL})
    assert published(run(project)[0]) == 2, "with pages that say nothing of her"
    with sqlite3.connect(project.config.root / ".smoll/ledger.sqlite") as db:
        assert "Ada" not in str(db.execute("SELECT profile FROM profiles").fetchall()), "not kept, once it is marked"
    edit(project, "data/orders.csv", GOOD_ORDERS)
    result, profiled, _ = run(project)
    assert published(result) == 3 and profiled == ["main.orders"]
    for number in (2, 3):
        assert "Ada" not in (project.config.root / f".smoll/releases/{number}/profile.json").read_text()

    def fail(*arguments: object, **options: object) -> TableProfile:
        raise duckdb.OutOfMemoryException("no memory")

    monkeypatch.setattr("smoll.publish.profile_table", fail)
    edit(project, "data/orders.csv", GOOD_ORDERS + "4,1,40\n")
    result, _, warnings = run(project)
    assert published(result) == 4 and warnings == ["main.orders could not be profiled: no memory"]
    assert list(profiles_of(project, 4)) == ["main.customers"]


def test_looking_at_profiles(make_project: MakeProject) -> None:
    project = make_shop(make_project)
    with pytest.raises(ReleaseError, match="Nothing has been released yet"):
        project.profile("orders")
    assert published(run(project)[0]) == 1
    edit(project, "data/orders.csv", GOOD_ORDERS)
    assert published(run(project)[0]) == 2

    def smoll_says(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "smoll", "--project", str(project.config.root), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    assert [project.profile("orders", number).rows for number in (None, 2, 1)] == [3, 3, 2]
    assert project.profile("MAIN.Orders") == project.profile("orders")
    (project.config.root / ".smoll/releases/1/profile.json").unlink()
    assert project.profile("orders", 1).rows == 2, "it is computed"
    raw = project.profile("raw_shop.orders", raw=True)
    assert (raw.rows, [one.name for one in raw.columns]) == (3, ["id", "customer_id", "amount"])
    with pytest.raises(UsageError, match=r"more than one table 'orders': main\.orders, raw_shop\.orders"):
        project.profile("orders", raw=True)
    with pytest.raises(UsageError) as caught:
        project.profile("orderz")
    assert caught.value.hint == "Did you mean main.orders?"
    assert [(past.release, past.profile.rows) for past in project.profile_history("orders")] == [(1, 2), (2, 3)]

    code, said = smoll_says("profile", "orders")
    assert code == 0 and "main.orders: 3 rows, 3 columns" in said and "amount" in said
    assert json.loads(smoll_says("profile", "orders", "--json")[1])["rows"] == 3
    code, said = smoll_says("profile", "orders", "--history")
    assert code == 0 and len(said.splitlines()) == 5
    assert smoll_says("profile", "orders", "--history", "--raw")[0] == 2
    assert smoll_says("profile", "nothing") == (
        2, "Error: There is no table 'nothing'.\n  There are: main.customers, main.orders.\n"
    )  # fmt: skip

    write(project.config.root, {"transform/models/marts/marts.yml": PERSONAL})
    (name,) = [one for one in reopen(project).profile("customers").columns if one.name == "name"]
    assert (name.pii, name.min, name.top, name.distinct) == (True, None, (), 2), "marked after the release"
    assert reopen(project).profile_history("customers")[0].profile.columns[1] == name
    said = smoll_says("profile", "customers")[1] + smoll_says("profile", "main.customers", "--raw")[1]
    assert "personal" in said and "Ada" not in said
