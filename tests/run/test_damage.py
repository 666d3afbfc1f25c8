"""Damaged state, a read-only and a full disk: one clear error, readers unharmed, and the next run sound."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smoll
from run.shop import MODELS, SOURCES, edit, make_shop, published
from smoll.errors import StateError
from support import MakeProject, released, write_project

COUNT = "select count(*) from main.orders"
ROWS = 100_000
ORDERS = "id,customer_id,amount\n" + "".join(f"{n},1,{n * 7919 % 1000003}\n" for n in range(ROWS))


@pytest.mark.parametrize("file", ["ledger.sqlite", "warehouse.duckdb"])
@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_damaged_state_file_is_named_with_what_to_do_and_that_helps(
    make_project: MakeProject, file: str, damage: str
) -> None:
    shop = make_shop(make_project)
    published(shop.run())
    path = shop.config.root / ".smoll" / file
    path.write_bytes(b"garbage" * 1000 if damage == "garbage" else path.read_bytes()[:5000])
    with pytest.raises(StateError) as caught:
        shop.run()
    assert file in caught.value.message
    assert f"mv '{path}' '{path}.damaged'" in caught.value.hint
    assert released(shop, COUNT) == [(2,)]
    path.replace(f"{path}.damaged")
    result = shop.run()
    assert (result.status, result.release.status) == ("ok", "unchanged")


def _mount(folder: Path, options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"a file system of its own needs the right to mount one: {done.stderr.decode().strip()}")


@contextlib.contextmanager
def _disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    _mount(folder, options)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MB."""
    with _disk(tmp_path / "disk", "size=40m") as folder:
        yield folder


def test_a_read_only_disk_is_told_and_still_read(disk: Path) -> None:
    write_project(disk, SOURCES, {"data/customers.csv": "id,name\n1,Ada\n", "data/orders.csv": ORDERS}, MODELS, {})
    shop = smoll.open_project(disk)
    published(shop.run())
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(StateError) as caught:
        shop.run()
    assert "Cannot write" in caught.value.message
    assert "writable" in caught.value.hint
    assert released(shop, COUNT) == [(ROWS,)]
    assert shop.status().current is not None
    assert [run.run for run in shop.runs()] == [1]
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert shop.run().status == "ok"


def _leave(disk: Path, free: int) -> Path:
    """Fill the disk up to `free` bytes."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    size = shutil.disk_usage(disk).free - free
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return filler


def test_a_full_disk_fails_the_run_in_every_step_and_the_next_one_is_sound(disk: Path) -> None:
    write_project(
        disk,
        SOURCES,
        {"data/customers.csv": "id,name\n1,Ada\n", "data/orders.csv": "id,customer_id,amount\n1,1,1\n"},
        MODELS,
        {},
    )
    shop = smoll.open_project(disk)
    published(shop.run())
    before = released(shop, COUNT)
    (disk / "data" / "orders.csv").write_text(ORDERS)
    failed = []
    for free in (0, 50_000, 400_000, 1_000_000, 2_000_000, 3_500_000, 5_000_000, 7_000_000, 9_000_000):
        filler = _leave(disk, free)
        try:
            result = shop.run()
            said = result.error + " ".join(stream.error for stream in result.streams)
            said += " ".join(node.message for node in result.nodes)
        except StateError as error:
            said = str(error)
        else:
            if result.status == "ok":
                break
            assert result.status == "failed"
        failed.append(said)
        assert said, f"with {free} bytes left"
        assert released(shop, COUNT) == before
        filler.unlink()
    assert len(failed) > 3, failed
    (disk / "filler").unlink(missing_ok=True)
    assert shop.run().status == "ok"
    assert released(shop, COUNT) == [(ROWS,)]


def test_a_limit_on_the_size_of_files_is_told_as_a_full_disk_is(make_project: MakeProject) -> None:
    """Needs no right to mount anything: RLIMIT_FSIZE makes every longer write fail."""
    shop = make_shop(make_project)
    published(shop.run())
    edit(shop, "data/orders.csv", ORDERS)
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1500000, 1500000))\n"
    script = f"{limit}from smoll.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "--project", str(shop.config.root), "run"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "space" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert released(shop, COUNT) == [(2,)]
    assert published(shop.run()) == 2
    assert released(shop, COUNT) == [(ROWS,)]
