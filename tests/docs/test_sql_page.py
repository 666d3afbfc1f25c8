"""The example on the page of the kind ``sql`` runs, and does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

import smoll
from docs.markdown import ROOT, blocks
from support import Postgres, rows


def test_the_example_of_the_sql_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres) -> None:
    page = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
    first = next(block for block in blocks(page) if block.text.startswith("# file: smoll.yml"))
    (tmp_path / "smoll.yml").write_text(first.text, encoding="utf-8")
    monkeypatch.setenv("SHOP_URL", postgres.url)
    postgres.execute(
        """CREATE TABLE customer (id int, name text); INSERT INTO customer VALUES (1, 'Ann');
        CREATE TABLE tmp_import (id int); CREATE TABLE log_login (at timestamptz, who text);
        INSERT INTO log_login VALUES ('2024-01-01 10:00+00', 'ann');
        CREATE TABLE rental (rental_id int PRIMARY KEY, customer_id int, store_id int, amount numeric(8,2),
          last_update timestamptz, secret_note text);
        INSERT INTO rental VALUES (1, 1, 1, 2.50, '2024-01-01', 'x'), (2, 1, 1, 3, '2024-01-02', 'x'),
          (3, 2, 2, 9, '2024-01-03', 'x');"""
    )
    project = smoll.open_project(tmp_path)
    told = next(each for each in project.check() if each.topic == "source shop")
    assert (told.level, "rental is merged by rental_id" in told.message) == ("ok", True)
    assert project.run().status == "ok"
    postgres.execute(
        """UPDATE rental SET amount = 4, last_update = '2024-01-04' WHERE rental_id = 1;
        INSERT INTO log_login VALUES ('2024-01-01 09:30+00', 'late'), ('2024-01-01 08:00+00', 'too late');"""
    )

    result = project.run()

    assert result.status == "ok", result.streams
    assert {stream.ref.stream: (stream.mode, stream.total) for stream in result.streams} == {
        "customer": ("replace", 1),
        "log_login": ("append", 2),
        "rental": ("merge", 2),
        "per_customer": ("replace", 2),
    }
    assert [(row[0], str(row[3])) for row in rows(project, "raw_shop.rental")] == [(1, "4.00"), (2, "3.00")]
    assert "secret_note" not in {
        row[0] for row in project.connect(raw=True).execute("DESCRIBE raw_shop.rental").fetchall()
    }
