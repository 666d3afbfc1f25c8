"""One project with a source of every kind: it runs, is interrupted, goes on, and reports each stream."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import smoll
from api_server import Answer, Asked, serving
from programs import INTEGER, TEXT, catalog, has_received, journals, record, schema, script, source, state
from support import MakeProject, Postgres, raw, reopen, write

PROPERTIES = {"id": INTEGER, "name": TEXT}
CODE = """
import dlt

@dlt.resource(primary_key="id", write_disposition="merge")
def people(updated=dlt.sources.incremental("updated", initial_value=0)):
    yield from ({"id": n, "updated": n} for n in range(1, 4))
"""


def web(asked: Asked) -> Answer:
    return Answer([{"id": 1, "title": "one"}, {"id": 2, "title": "two"}])


def played(protocol: str, waits: bool) -> str:
    """The script of a connector that stops in the middle for longer than anybody waits."""
    lines = [schema(PROPERTIES, key=["id"])] if protocol == "singer" else []
    for number in range(1, 5):
        lines += [record(protocol, {"id": number, "name": f"n{number}"}), state(protocol, {"id": number})]
        lines += ["#sleep 60"] if waits and number == 2 else []
    return script(lines)


def connector_files(protocol: str, *, waits: bool) -> dict[str, str]:
    about = {"properties": PROPERTIES, "key": ["id"], "full": False}
    return {f"play/{protocol}": played(protocol, waits), f"play/{protocol}.catalog": catalog(protocol, {"t": about})}


def sources(url: str, postgres: Postgres) -> dict[str, Any]:
    quarantine = {"path": "data/*.csv", "on_bad_row": "quarantine", "columns": {"n": "BIGINT"}}
    return {
        "shop": {"kind": "sql", "url": postgres.url, "streams": {"sale": {"mode": "append", "cursor": "id"}}},
        "tap": source("singer", "singer"),
        "air": source("airbyte", "airbyte"),
        "web": {"kind": "rest", "config": {"client": {"base_url": url}, "resources": ["items"]}},
        "csv": {"kind": "files", "streams": {"lines": quarantine}},
        "code": {"kind": "dlt", "source": "my_code.people"},
    }


def test_every_kind_in_one_project(make_project: MakeProject, postgres: Postgres) -> None:
    postgres.execute("CREATE TABLE sale (id int PRIMARY KEY, total numeric); INSERT INTO sale VALUES (1, 1.50), (2, 2)")
    player = (Path(__file__).parents[1] / "programs" / "player.py").read_text(encoding="utf-8")
    files = {"my_code.py": CODE, "data/a.csv": "n,t\n1,a\nx,b\n", "tools/player.py": player}
    for protocol in ("singer", "airbyte"):
        files |= connector_files(protocol, waits=True)
    with serving(web) as api:
        project = make_project(f"sources: {json.dumps(sources(api.url, postgres))}\n", files)
        root = project.config.root
        child = subprocess.Popen(
            [sys.executable, "-m", "smoll", "--project", str(root), "run"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 60
        while not all(has_received(root, name) for name in ("tap", "air")):
            assert time.monotonic() < end and child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
        interrupted = reopen(project).runs(1)[0]
        assert interrupted.status == "interrupted"
        for protocol in ("singer", "airbyte"):
            write(root, connector_files(protocol, waits=False))
        result = smoll.open_project(root).run()
        again = smoll.open_project(root).run()
    assert result.status == "ok", [result.error, *(stream.error for stream in result.streams)]
    streams = {str(stream.ref): stream for stream in result.streams}
    assert {name: stream.total for name, stream in streams.items()} == {
        "shop.sale": 2, "tap.t": 4, "air.t": 4, "web.items": 2, "csv.lines": 1, "code.people": 3,
    }  # fmt: skip
    assert streams["csv.lines"].rejected + sum(s.rejected for s in interrupted.streams) == 1
    assert next(stream.status for stream in again.streams if str(stream.ref) == "code.people") == "unchanged"
    for streams_of_one in (result.streams, again.streams):
        assert {str(stream.ref): stream.cursor for stream in streams_of_one if stream.cursor} == {
            "shop.sale": "id = 2", "tap.t": '{"id": 4}', "air.t": '{"id": 4}', "code.people": "updated = 3",
        }  # fmt: skip
    assert all(stream.seconds > 0 and stream.rate >= 0 for stream in result.streams)
    assert journals(project) == []
    for name in ("tap.t", "air.t"):
        assert "went on from what an earlier run had received" in streams[name].notes
    assert [str(row[0]) for row in raw(project, "select total from raw_shop.sale order by id")] == ["1.50", "2.00"]
    both = [raw(project, f"select id, name from raw_{name}.t order by id") for name in ("tap", "air")]
    assert both[0] == both[1] == [(number, f"n{number}") for number in range(1, 5)]
