"""`smoll check` says when schedules tick next, and what is wrong with what they and the sensors select and look at."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import smoll
from support import MakeProject, write

MODEL = "select * from {{ source('s', 't') }}"
PROJECT = """\
sources: {s: {kind: files, streams: {t: t.csv}}}
schedules:
  hourly: "0 * * * *"
  bad: {cron: "0 3 * * *", timezone: Europe/Amsterdam, select: "tag:nothing"}
  odd: {cron: "0 3 * * *", select: "wrong_method:x"}
  good: {cron: "0 3 * * *", select: "source:s+", exclude: "tag:slow"}
sensors:
  arrivals: {files: s}
  upstream: {release: ../other, every: 1 minute}
  nowhere: {release: ../nowhere}
  itself: {release: .}
"""


def found(project: smoll.Project) -> dict[str, list[tuple[str, str, str]]]:
    lines: dict[str, list[tuple[str, str, str]]] = {}
    for each in project.check():
        lines.setdefault(each.topic, []).append((each.level, each.message, each.hint))
    return lines


def test_schedules_and_sensors(make_project: MakeProject) -> None:
    project = make_project(PROJECT, {"t.csv": "x\n1\n"}, {"m": MODEL})
    other = project.config.root.parent / "other"
    write(other, {"smoll.yml": "name: other\nsources: {s: {kind: files, streams: {t: t.csv}}}\n", "t.csv": "x\n1\n"})
    write(other, {"transform/models/m.sql": MODEL})
    write(other, {"transform/dbt_project.yml": (project.config.root / "transform/dbt_project.yml").read_text()})

    told = found(project)

    (((level, message, hint)),) = told["schedule hourly"]
    next_hour = (datetime.now(UTC) + timedelta(hours=1)).strftime("%H:00")
    assert level == "ok" and re.fullmatch(r"0 \* \* \* \*, next on \w{3} \d{4}-\d\d-\d\d at \d\d:00 UTC", message)
    assert next_hour in message or datetime.now(UTC).minute == 0
    assert [level for level, _, _ in told["schedule good"]] == ["ok"]
    right, wrong = sorted(told["schedule bad"], reverse=True)
    assert right[1].endswith("at 03:00 Europe/Amsterdam")
    assert wrong == (
        "error",
        "its selection names nothing in the dbt project.",
        "Mend `select` on smoll.yml:5.",
    )
    assert any(level == "error" and "wrong_method" in message for level, message, _ in told["schedule odd"])
    assert told["sensor arrivals"] == [("ok", "looks at the files of s, every 30 seconds", "")]
    assert told["sensor upstream"] == [
        ("ok", f"looks at {other}, which has no release yet, every 1 minute", ""),
    ]
    ((level, message, hint),) = told["sensor nowhere"]
    assert (level, hint) == ("error", "Mend `release` on smoll.yml:11.")
    assert message.endswith("nowhere is no project of smoll: there is no smoll.yml.")
    assert told["sensor itself"][0][:2] == ("error", "A project that waits for its own releases would run without end.")

    assert smoll.open_project(other).run().release.number == 1
    assert ("ok", f"looks at {other}, whose release is 1 now, every 1 minute", "") in found(project)["sensor upstream"]
    assert not Path(project.config.root, ".smoll/warehouse.duckdb").exists()
