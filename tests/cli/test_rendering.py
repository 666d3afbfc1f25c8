"""What a run looks like: real events and results in, text out."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from smoll.cli import live, output
from smoll.cli.progress import listening, plain
from smoll.cli.summary import next_steps, steps, summary
from smoll.events import (
    CheckFinished,
    Event,
    LockWaiting,
    Message,
    NodeFinished,
    NodeStarted,
    Recovered,
    ReleaseFinished,
    ReleaseStarted,
    RunFinished,
    RunStarted,
    StreamFinished,
    StreamProgress,
    StreamStarted,
    TransformStarted,
)
from smoll.model import (
    CheckResult,
    Holder,
    NodeResult,
    Refusal,
    ReleaseOutcome,
    RunResult,
    StreamRef,
    StreamResult,
    TableRef,
)

FLIGHTS, PLANES = StreamRef("nyc", "flights"), StreamRef("nyc", "planes")
LOADED = StreamResult(
    FLIGHTS,
    TableRef("raw_nyc", "flights"),
    "loaded",
    rows=336_776,
    seconds=1.2,
    notes=("column gate is new",),
)
BROKEN = StreamResult(
    PLANES, TableRef("raw_nyc", "planes"), "failed", error="planes.csv line 7: 'x' is no year.\n  Mend it."
)
MODEL = NodeResult("model.p.stg", "stg_flights", "model", "success", 0.2, "OK")
BAD_MODEL = NodeResult("model.p.fct", "fct_flights", "model", "error", 0.1, 'Binder Error: "[red]" not found')
PASSED = CheckResult("test.p.a", "unique_a", "pass")
FAILED = CheckResult("test.p.b", "not_null_b", "fail", failures=3, message="Got 3 results")
PUBLISHED = ReleaseOutcome("published", 4, ".smoll/releases/4", ("main.fct", "main.a", "main.b", "main.c", "main.d"))
REFUSED = ReleaseOutcome(
    "refused",
    refusals=(Refusal("marts.fct", "check not_null_b failed", "smoll run --full-refresh --select fct"),),
)


def finished(outcome: ReleaseOutcome, **changes: object) -> RunResult:
    return RunResult(12, **{  # type: ignore[arg-type]
        "status": "ok", "started": datetime.now(UTC), "seconds": 8.4, "streams": (LOADED,), "nodes": (MODEL,),
        "checks": (PASSED,), "release": outcome, **changes,
    })  # fmt: skip


EVENTS: tuple[Event, ...] = (
    LockWaiting(Holder(42, "pi", "smoll run", "10:31")),
    RunStarted(12, "--select source:nyc+"),
    Recovered("run 11 was killed"),
    Message("dbt has\n2 deprecations", "warning"),
    StreamStarted(FLIGHTS),
    StreamProgress(FLIGHTS, 1_000, 0.1, 2.0),
    StreamProgress(FLIGHTS, 120_000, 0.5, 12.0),
    StreamProgress(FLIGHTS, 130_000, 0.6, 13.0),
    StreamFinished(LOADED),
    StreamFinished(BROKEN),
    TransformStarted(2, 2),
    NodeStarted("model.p.stg", "stg_flights", "model"),
    NodeFinished(MODEL),
    NodeStarted("test.p.a", "unique_a", "test"),
    CheckFinished(PASSED),
    CheckFinished(FAILED),
    NodeFinished(BAD_MODEL),
    ReleaseStarted(5),
    ReleaseFinished(PUBLISHED),
    ReleaseFinished(REFUSED),
    RunFinished(finished(PUBLISHED)),
)


def rendered(renderable: RenderableType, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False, highlight=False).print(renderable)
    return file.getvalue()


def test_plain_lines() -> None:
    lines: list[str] = []
    listener = plain(lines.append)
    for event in EVENTS:
        listener(event)
    assert lines == [
        "waiting: pid 42 on pi (smoll run), since 10:31 holds the project",
        "run 12 --select source:nyc+",
        "recovered: run 11 was killed",
        "warning: dbt has 2 deprecations",
        "load nyc.flights: 120,000 rows, 50%, 9,600 rows/s, 12 s left",
        "loaded nyc.flights: 336,776 rows in 1.2 s; column gate is new",
        "FAILED nyc.planes: planes.csv line 7: 'x' is no year. Mend it.",
        "build 2 nodes, 2 checks",
        "built model stg_flights in 0.2 s",
        "FAILED check not_null_b: Got 3 results",
        'FAILED model fct_flights: Binder Error: "[red]" not found',
        "release 5 tables",
        "released 4: .smoll/releases/4",
        "REFUSED to release: marts.fct: check not_null_b failed",
    ]


def test_without_a_terminal_the_lines_are_plain() -> None:
    file = io.StringIO()
    with listening(Console(file=file)) as listener:
        listener(RunStarted(1, ""))
    assert file.getvalue() == "run 1\n"


def test_the_live_picture_grows_with_the_run() -> None:
    view = live.View()
    for event in (RunStarted(12, ""), StreamStarted(PLANES), *EVENTS[4:8]):
        live.update(view, event)
    picture = rendered(live.draw(view, 3.0))
    assert "Run 12" in picture
    assert "nyc.planes" in picture
    assert "130,000 rows" in picture
    assert "rows/s" in picture
    assert "s left" in picture
    assert "60%" in picture
    for event in EVENTS[8:18]:
        live.update(view, event)
    picture = rendered(live.draw(view, 4.0))
    assert "2 streams done, 336,776 rows, 1 failed" in picture
    assert "2/2" in picture
    assert "5 tables" in picture
    assert "nyc.flights" not in picture


def test_many_streams_leave_the_picture_small() -> None:
    view = live.View()
    for number in range(200):
        live.update(view, StreamStarted(StreamRef("s", f"t{number}")))
    assert len(rendered(live.draw(view, 1.0)).splitlines()) < 15


def test_the_live_picture_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, highlight=False)
    with listening(console) as listener:
        for event in EVENTS:
            listener(event)
    text = file.getvalue()
    assert "run 11 was killed" in text
    assert text.rstrip().endswith("\x1b[2K"), "the last thing written wipes the picture"


def test_summary_of_a_release() -> None:
    text = rendered(summary(finished(PUBLISHED)))
    for words in (
        "Run 12 ok",
        "336,776 rows",
        "column gate is new",
        "1 model",
        "1 passed",
        "release 4, 5 tables",
    ):
        assert words in text
    assert ".smoll/releases/4" in text
    assert [command.split()[1] for command, _ in next_steps(finished(PUBLISHED))] == ["open", "sql", "release", "runs"]


def test_summary_of_a_refusal_names_the_command_that_mends_it() -> None:
    run = finished(REFUSED, status="refused", checks=(PASSED, FAILED))
    text = rendered(summary(run)) + rendered(steps(next_steps(run)))
    for words in ("not_null_b", "Got 3 results", "marts.fct", "smoll run --full-refresh --select fct"):
        assert words in text
    assert "readers keep the release they have" in text
    assert "once the cause is mended" in text
    assert "smoll undo" not in text and "smoll undo" in rendered(steps(next_steps(run, can_undo=True)))
    gone = Refusal("main.fct.gate", "is gone, and release 3 has it", "smoll run --allow-breaking")
    text = rendered(steps(next_steps(finished(ReleaseOutcome("refused", refusals=(gone,)), status="refused"))))
    assert "--allow-breaking" in text and "if readers can do without it" in text


def test_summary_of_a_failure_shows_messages_as_they_are() -> None:
    run = finished(ReleaseOutcome("none"), status="failed", streams=(LOADED, BROKEN), nodes=(MODEL, BAD_MODEL))
    text = rendered(summary(run))
    assert "planes.csv line 7: 'x' is no year." in text
    assert 'Binder Error: "[red]" not found' in text


def test_summary_of_rows_that_were_rejected_or_known() -> None:
    odd = StreamResult(
        StreamRef("s", "it's t"), TableRef("raw_s", "t"), "loaded", rows=12, read=1_015, rejected=3, seconds=0.1
    )
    text = rendered(summary(finished(PUBLISHED, streams=(odd, LOADED))))
    assert "2 streams, 336,788 rows, 3 rejected" in text
    assert """12 rows of 1,015 read  0.1 s  3 rejected (smoll rejects 's.it'"'"'s t')""" in text
    lines: list[str] = []
    plain(lines.append)(StreamFinished(odd))
    assert lines == ["loaded s.it's t: 12 rows of 1,015 read, 3 rejected, in 0.1 s"]
    view = live.View()
    live.update(view, StreamFinished(odd))
    assert "1 stream done, 12 rows, 3 rejected" in rendered(live.draw(view, 1.0))
    wide = replace(odd, ref=StreamRef("s", "a_name_that_is_wider_than_the_line_above_it"), read=12, rejected=0)
    assert "a_name_that_is_wider_than_the_line_above_it  12 rows  0.1 s" in rendered(
        summary(finished(PUBLISHED, streams=(wide,)))
    )
    whole = replace(odd, read=15)
    assert "12 rows  0.1 s" in rendered(summary(finished(PUBLISHED, streams=(whole,))))


def test_the_full_summary_names_what_went_well() -> None:
    run = finished(PUBLISHED)
    assert "unique_a" not in rendered(summary(run))
    assert "unique_a" in rendered(summary(run, full=True))
    assert "stg_flights" in rendered(summary(run, full=True))


@pytest.mark.parametrize("status", ["published", "staged", "unchanged", "refused", "none"])
def test_every_outcome_has_words(status: str) -> None:
    run = finished(ReleaseOutcome(status, 4, tables=("main.fct",)))  # type: ignore[arg-type]
    assert rendered(summary(run)).strip()
    rendered(steps(next_steps(run)))


@pytest.mark.parametrize("status", ["ok", "failed", "refused", "interrupted", "running", "killed"])
def test_every_status_has_words(status: str) -> None:
    assert "Run 12" in rendered(summary(finished(ReleaseOutcome("none"), status=status)))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999 B"), (1_200, "1.2 kB"), (36_400_000, "36 MB"), (2e12, "2.0 TB")]
)
def test_size(number: int, text: str) -> None:
    assert output.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s ago"), (59, "59 s ago"), (300, "5 min ago"), (86_400, "24 h ago"), (200_000, "2 days ago")],
)
def test_ago(seconds: int, text: str) -> None:
    assert output.ago(datetime.now(UTC) - timedelta(seconds=seconds)) == text
