"""The example on the page of schedules and days runs, and does what the page says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from docs.markdown import ROOT, blocks
from docs.shell import Shell
from smoll.project import load_config

SALES = ["2026-01-04", "2026-01-04", "2026-01-05", "2026-01-05", "2026-01-05", "2026-01-06"]


def test_the_example_of_the_schedules_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")
    home, folder, other = tmp_path / "home", tmp_path / "flights", tmp_path / "weather"
    for each in (home, folder, other, folder / "data"):
        each.mkdir()
    text = next(block.text for block in blocks(page) if block.text.startswith("# file: smoll.yml"))
    (folder / "smoll.yml").write_text(text, encoding="utf-8")
    (folder / "data" / "planes.csv").write_text("tailnum\nN10156\n")
    (other / "smoll.yml").write_text("name: weather\n")
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        shop.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, sold_on DATE)")
        shop.executemany("INSERT INTO sales (sold_on) VALUES (?)", [(day,) for day in SALES])
        shop.commit()

    Shell(folder, home).read(page)

    config = load_config(folder)
    assert config.schedules["nightly"].next_tick(datetime(2026, 7, 1, tzinfo=UTC)).hour == 3
    assert list(home.iterdir()) == []
