"""Whatever stands in the files under `.smoll`: a clear line from every command, and no false release."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import duckdb
import pytest

import smoll
from run.shop import FILES, GOOD_ORDERS, MODELS, SOURCES
from smoll.cli import main
from smoll.errors import ReleaseError, SmollError
from support import write, write_project
from torture.damage import damage
from torture.mixed import content

TARGETS = (
    "releases/2/manifest.json",
    "releases/1/manifest.json",
    "releases/hold.json",
    "releases/pins.json",
    "releases/current",
    "releases/2/warehouse.duckdb",
    "ledger.sqlite",
    "warehouse.duckdb",
    "lock",
    "switch.lock",
    "description/description.json",
    "releases/2/profile.json",
    "undo/2/copy.json",
    "undo/2/warehouse.duckdb",
    "smoll.schema.json",
    "warehouse.duckdb.wal",
    "ledger.sqlite-wal",
    "dbt/target/partial_parse.msgpack",
    "dbt/target/manifest.json",
    "tmp",
    "logs",
    "releases/3",
    "releases/.staging-3",
)
LOOKS = (
    ["status"],
    ["status", "--json"],
    ["runs"],
    ["releases"],
    ["release", "show"],
    ["release", "show", "1", "--json"],
    ["sql", "select count(*) from main.orders"],
    ["sql", "--raw", "select count(*) from raw_shop.orders"],
    ["diff"],
    ["diff", "1", "2"],
    ["rejects"],
    ["state", "show"],
    ["gc", "--dry-run"],
    ["checks"],
    ["profile", "main.orders"],
    ["profile", "main.orders", "--json"],
    ["suggest"],
)
CHANGES = (
    ["release", "pin", "2"],
    ["release", "unpin", "2"],
    ["rollback"],
    ["release", "resume"],
    ["gc"],
    ["state", "reset", "shop"],
    ["undo"],
    ["backup", "copy.tar"],
)
LEFT_ALONE = ("releases/2/warehouse.duckdb", "releases/current", "releases/hold.json", "releases/pins.json")
"""A run that has nothing new to release, or that a hold keeps from it, mends nothing of these."""
RUN = ("releases/2/manifest.json", "releases/current", "warehouse.duckdb", "dbt/target/partial_parse.msgpack")
"""After one damage to each of these even the short form runs."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with two releases, of which one is pinned, and a hold."""
    root = tmp_path_factory.mktemp("damaged") / "shop"
    root.mkdir()
    write_project(root, SOURCES, FILES, MODELS, {})
    project = smoll.open_project(root)
    assert project.run().release.number == 1
    write(root, {"data/orders.csv": GOOD_ORDERS})
    assert project.run().release.number == 2
    project.pin(1, "for the report")
    project.check()
    project.checks()  # keeps the project's description
    project.rollback(2)
    return root


def _call(root: Path, *words: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.chdir(root.parent), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["--project", str(root), *words])
    return code, said.getvalue()


def _assert_calm(root: Path, what: str, *words: str) -> int:
    code, said = _call(root, *words)
    told = f"smoll {' '.join(words)}, {what}\n{said}"
    assert code in (0, 1, 2), told
    assert "A bug in smoll" not in said and "Traceback" not in said, told
    assert code == 0 or len(said) > 20, told
    return code


def _rows_seen(root: Path) -> int | None:
    """How many orders readers see; None where they cannot read them."""
    try:
        with smoll.open_project(root).connect() as readers:
            (count,) = readers.execute("select count(*) from main.orders").fetchone() or (0,)
            return int(count)
    except (SmollError, duckdb.Error):
        return None


def _some(number: int) -> list[list[str]]:
    """A third of what looks, and one that changes."""
    return [*LOOKS[number % 3 :: 3], CHANGES[number % len(CHANGES)]]


def _all(number: int) -> list[list[str]]:
    """Everything that looks, one that changes, and in turns what is slow."""
    slow = [[["run"], ["check"], ["run"], ["doctor"]][number % 4]]
    return [*LOOKS, CHANGES[number % len(CHANGES)], *slow]


def _damaged(shop: Path, target: str, number: int, commands: list[list[str]]) -> None:
    root = Path(shutil.copytree(shop, shop.with_name("copy"), symlinks=True))
    try:
        assert "/" not in target or (root / ".smoll" / target).parent.is_dir()
        what = damage(root / ".smoll" / target, number)
        for words in commands:
            code = _assert_calm(root, f"{target} {number}, {what}", *words)
            if words == ["run"] and code == 0:
                assert _rows_seen(root) in (2, 3, None), what
                assert target in LEFT_ALONE or content(root)["main.orders"][0] in (2, 3), what
    finally:
        shutil.rmtree(root)
        root.with_name("copy.tar").unlink(missing_ok=True)


@pytest.mark.parametrize("target", TARGETS)
def test_every_command_says_calmly_what_is_wrong(shop: Path, target: str) -> None:
    for number in (0, 1):
        run = [["run"]] if number == 0 and target in RUN else []
        _damaged(shop, target, number, [*_some(number), *run])


@pytest.mark.torture
@pytest.mark.parametrize("target", TARGETS)
def test_every_command_says_calmly_what_is_wrong_in_many_ways(shop: Path, target: str) -> None:
    for number in range(1000, 1000 + int(os.environ.get("DAMAGES", "60"))):
        _damaged(shop, target, number, _all(number))


def test_no_link_in_the_state_is_followed_when_room_is_counted_or_made(shop: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shop, tmp_path / "copy", symlinks=True))
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").write_text("x" * 1000)
    link = root / ".smoll/releases/.staging-9"
    link.symlink_to(other)
    (gone,) = [one for one in smoll.open_project(root).gc() if one.path.endswith(".staging-9")]
    assert gone.bytes < 1000
    assert (other / "precious").exists()
    assert not link.is_symlink()


def test_a_manifest_whose_values_are_of_other_types_is_called_damaged(shop: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shop, tmp_path / "copy", symlinks=True))
    path = root / ".smoll/releases/2/manifest.json"
    sound = json.loads(path.read_text())
    changes: list[dict[str, object]] = [{"bytes": {}}, {"created": "2026-01-01"}, {"tables": [1]}, {"run": 10**400}]
    for change in changes:
        path.write_text(json.dumps(sound | change))
        with pytest.raises(ReleaseError, match=r"releases/2/manifest.json is damaged"):
            smoll.open_project(root).release(2)
    path.write_text("[" * 200_000)
    with pytest.raises(ReleaseError, match=r"releases/2/manifest.json is damaged"):
        smoll.open_project(root).release(2)
