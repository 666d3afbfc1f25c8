"""Real connectors from the index: what they send arrives, is gone on from, and survives kills. Needs the network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from programs import run
from support import MakeProject, Postgres, raw, reopen, types

pytestmark = pytest.mark.index


def yml(**sources: Any) -> str:
    return f"sources: {json.dumps(sources)}\n"


def test_a_tap_of_meltano(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute(
        """CREATE TABLE sale (id int PRIMARY KEY, total numeric(10, 2), big numeric, at timestamptz, tags text[],
            note text, about jsonb, day date);
        INSERT INTO sale VALUES (1, 1.50, 123456789012345678901234567890.5, '2024-01-01 10:00+02', '{a,b}', '',
            '{"a": 1}', '2024-02-29'), (2, 2, NULL, NULL, NULL, NULL, NULL, NULL);
        CREATE TABLE other (name text); INSERT INTO other VALUES ('x')"""
    )
    url = f"postgresql://postgres:none@socket/{postgres.database}?host={postgres.data}"  # the tap wants a host, too
    tap = {
        "kind": "singer",
        "tap": "meltanolabs-tap-postgres==0.10.0",
        "config": {"sqlalchemy_url": url, "filter_schemas": ["public"]},
        "streams": {"*": {}, "public-sale": {"cursor": "id", "table": "sale"}},
        "exclude": ["public-sale.note"],
    }
    project = make_project(yml(s=tap))
    streams = run(project)
    assert (streams["public-sale"].mode, streams["public-other"].mode) == ("merge", "replace")
    columns = types(project, "raw_s.sale")
    assert "note" not in columns
    assert (columns["id"], columns["at"], columns["day"]) == ("BIGINT", "TIMESTAMP WITH TIME ZONE", "DATE")
    first = raw(project, 'select id, total::varchar, "at"::varchar, about, day::varchar from raw_s.sale order by id')[0]
    assert (first[0], float(first[1]), first[2], first[4]) == (1, 1.5, "2024-01-01 08:00:00+00", "2024-02-29")
    postgres.execute("INSERT INTO sale (id, total) VALUES (3, 3); INSERT INTO other VALUES ('y')")
    streams = run(reopen(project))
    assert (streams["public-sale"].total, streams["public-other"].total) == (3, 2)
    assert streams["public-sale"].read <= 2  # the bookmark is inclusive
    assert [row[0] for row in raw(project, "select id from raw_s.sale order by 1")] == [1, 2, 3]


def test_the_faker_of_airbyte_is_killed_and_goes_on(make_project: MakeProject, tmp_path: Path) -> None:
    faker = {"kind": "airbyte", "connector": "airbyte-source-faker==7.2.1", "config": {"count": 6000, "seed": 1}}
    project = make_project(yml(s=faker))
    root = project.config.root
    subprocess.run([sys.executable, "-m", "smoll", "--project", str(root), "connectors", "install"], check=True)
    for seconds in (4.0, 6.0, 8.0):
        child = subprocess.Popen(
            [sys.executable, "-m", "smoll", "--project", str(root), "run"], stderr=subprocess.DEVNULL
        )
        time.sleep(seconds)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    streams = run(reopen(project))
    assert {name: stream.total for name, stream in streams.items()} == {
        "users": 6000,
        "products": 100,
        "purchases": 6000,
    }
    for table in streams:
        assert raw(project, f"select count(*), count(distinct id) from raw_s.{table}") == [(streams[table].total,) * 2]
    assert types(project, "raw_s.users")["created_at"] == "TIMESTAMP WITH TIME ZONE"
    again = run(reopen(project))
    assert {name: stream.total for name, stream in again.items()} == {name: s.total for name, s in streams.items()}
