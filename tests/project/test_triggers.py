"""Schedules, sensors and Dagster's own options: what they become, and what is refused where."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfoNotFoundError

import pytest

from project.helpers import lines, load, problems
from project.test_load import WHOLE
from smoll.project.cron import check_cron, next_tick

SOURCES = """\
name: x
sources:
  nyc: {kind: files, streams: {planes: p.csv}}
  shop: {kind: sql, url: "sqlite:///a.db", streams: [a]}
"""


def test_every_key(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE, environ={"PW": "pass-word"})
    hourly, nightly = config.schedules["hourly"], config.schedules["nightly"]
    assert (hourly.cron, hourly.timezone, hourly.select, hourly.retries) == ("0 * * * *", "UTC", None, 0)
    assert (nightly.cron, nightly.timezone) == ("0 3 * * *", "Europe/Amsterdam")
    assert (nightly.select, nightly.exclude, nightly.retries) == ("source:nyc+", "tag:slow", 2)
    arrivals, upstream = config.sensors["arrivals"], config.sensors["upstream"]
    assert (arrivals.files, arrivals.release, arrivals.every_seconds) == ("nyc", None, 60)
    assert (arrivals.selection, arrivals.retries, arrivals.release_root(config.root)) == ("source:nyc+", 1, None)
    assert (upstream.files, upstream.release, upstream.every_seconds) == (None, "../other", 30)
    assert upstream.selection == "tag:shop"
    assert upstream.release_root(config.root) == (tmp_path.parent / "other").resolve()
    assert config.dagster.storage is not None
    assert config.dagster.storage.get_secret_value() == "postgresql://u:pass-word@h/dagster"
    assert (config.dagster.port, config.dagster.keep_days) == (3100, 30)
    with pytest.raises(TypeError):
        config.schedules["x"] = hourly  # type: ignore[index]


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, SOURCES + 'sensors: {a: {release: /b}}\ndagster: {storage: "${NONE:-}"}\n')
    assert (config.schedules, config.sensors["a"].selection) == ({}, "")
    assert config.sensors["a"].release_root(config.root) == Path("/b")
    assert (config.dagster.storage, config.dagster.port, config.dagster.keep_days) == (None, 3000, 90)


def test_next_tick(tmp_path: Path) -> None:
    """At three in Amsterdam, whatever the clock of summer says in UTC."""
    nightly = load(tmp_path, WHOLE, environ={"PW": "pass-word"}).schedules["nightly"]
    assert nightly.next_tick(datetime(2026, 1, 5, 2, tzinfo=UTC)).isoformat() == "2026-01-06T03:00:00+01:00"
    assert nightly.next_tick(datetime(2026, 7, 5, 0, tzinfo=UTC)).isoformat() == "2026-07-05T03:00:00+02:00"


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("0 3 * *", "cron has five fields, got '0 3 * *' (minute, hour, day, month, day of the week: '0 3 * * *')"),
        ("0 0 3 * * *", "cron has five fields, got '0 0 3 * * *'"),
        ("'@daily'", "cron has five fields, got '@daily' (write '0 0 * * *')"),
        ("60 * * * *", "the minute '60' is not cron's (0 to 59; also *, */5, 1-5, 1-9/2 and 1,15)"),
        ("0 24 * * *", "the hour '24' is not cron's (0 to 23;"),
        ("0 3 0 * *", "the day of the month '0' is not cron's (1 to 31;"),
        ("0 3 * 13 *", "the month '13' is not cron's (1 to 12 or JAN to DEC;"),
        ("0 3 * * MO", "the day of the week 'MO' is not cron's (0 to 7 (0 and 7 are Sunday) or SUN to SAT;"),
        ("0 3 * * 5L", "the day of the week '5L'"),
        ("0 3 * * 1#2", "the day of the week '1#2'"),
        ("0 3 L * *", "the day of the month 'L'"),
        ("'*/0 3 * * *'", "the minute '*/0'"),
        ("*/5 * * * *", "an unquoted * stands for an alias (quote it"),
        ("'*/90 3 * * *'", "the minute '*/90'"),
        ("{cron: */5 * * * *}", "an unquoted * stands for an alias (quote it"),
        ("5/10 3 * * *", "the minute '5/10'"),
        ("0 5-3 * * *", "the hour '5-3'"),
        ("0 3-3 * * *", "the hour '3-3'"),
        ("0 3 * * MON-5", "the day of the week 'MON-5'"),
        ("0 ٣ * * *", "the hour '٣'"),
        ("0 3 31 2,APR *", "no month 2,APR has a day 31 (the schedule would never tick)"),
        ("0 3 30 2 MON", "no month 2 has a day 30"),
        ("0 3 */2 * MON", "the days '*/2' and 'MON' together mean one thing to cron and another to Dagster"),
        ("{cron: 0 3 * * *, timezone: Europe/Amsterdm}", "no time zone 'Europe/Amsterdm' (did you mean 'Europe/Amst"),
        ("{cron: 0 3 * * *, timezone: europe/amsterdam}", "(did you mean 'Europe/Amsterdam'?)"),
        ("{cron: 0 3 * * *, timezone: Europe}", "there is no time zone 'Europe'"),
        ("{cron: 0 3 * * *, timezone: ../../etc/passwd}", "there is no time zone '../../etc/passwd'"),
        ("{timezone: UTC}", "the key 'cron' is missing"),
        ("{cron: }", "the key 'cron' is missing"),
        ("", "expected a mapping (key: value), got nothing"),
        ("{cron: 0 3 * * *, retries: -1}", "must be at least 0, got '-1'"),
        ("{cron: 0 3 * * *, retries: some}", "expected a whole number, got 'some'"),
        ("{cron: 0 3 * * *, selct: a}", "unknown key 'selct' (did you mean 'select'?)"),
    ],
)
def test_bad_schedule(tmp_path: Path, schedule: str, expected: str) -> None:
    found = problems(tmp_path, f"name: x\nschedules:\n  nightly: {schedule}\n")
    assert len(found) == 1 and found[0].line == 3
    assert expected in str(found[0])


@pytest.mark.parametrize(
    ("sensor", "expected"),
    [
        ("{}", "a sensor looks at `files` or at a `release`, this one at neither (write one of the two)"),
        ("{files: nyc, release: ../a}", "this one at both"),
        ("{files: nyk}", "there is no source 'nyk' (did you mean 'nyc'?)"),
        ("{files: elsewhere}", "there is no source 'elsewhere' (known: nyc)"),
        ("{files: shop}", "the source 'shop' is not of kind files (known: nyc)"),
        ("{files: nyc, every: 9 seconds}", "every must be at least 10 seconds, got 9 seconds"),
        ("{files: nyc, every: 30}", "a length of time needs a unit (for example 30 seconds"),
        ("{files: nyc, every: often}", "expected a length of time, got 'often'"),
        ("{release: ''}", "expected text, got nothing"),
        ("{file: nyc}", "unknown key 'file' (did you mean 'files'?)"),
    ],
)
def test_bad_sensor(tmp_path: Path, sensor: str, expected: str) -> None:
    found = problems(tmp_path, f"{SOURCES}sensors:\n  arrivals: {sensor}\n")
    assert found[0].line == 6
    assert expected in str(found[0])


@pytest.mark.parametrize("name", ["a-b", "a b", "ä", "for", "config", "smoll", "smoll_history"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    found = problems(tmp_path, f"{SOURCES}schedules:\n  {name}: 0 3 * * *\nsensors:\n  {name}1-: {{files: nyc}}\n")
    assert [each.line for each in found] == [6, 8] and "schedule or sensor" in str(found[0])


def test_a_schedule_and_a_sensor_of_one_name(tmp_path: Path) -> None:
    """Told beside everything else that is wrong."""
    text = f"{SOURCES}schedules: {{nightly: 0 3 * *}}\nsensors:\n  nightly: {{files: nyk}}\n"
    assert lines(problems(tmp_path, text)) == [
        "smoll.yml:5:13: cron has five fields, got '0 3 * *' (minute, hour, day, month, day of the week: '0 3 * * *')",
        "smoll.yml:7:3: the schedule on line 5 is named 'nightly', too (both become jobs: rename one)",
        "smoll.yml:7:20: there is no source 'nyk' (did you mean 'nyc'?)",
    ]


def test_the_job_of_the_whole_project_is_taken(tmp_path: Path) -> None:
    text = "name: my shop.\nschedules: {my_shop: 0 3 * * *}\n"
    assert lines(problems(tmp_path, text)) == [
        "smoll.yml:2:13: 'my_shop' is the job that runs all of the project (rename it)"
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{port: 0}", "a port is a number from 1 to 65535, got 0"),
        ("{port: 65536}", "a port is a number from 1 to 65535, got 65536"),
        ("{keep_days: 0}", "must be at least 1, got '0'"),
        ("{storage: hunter22}", "this is no URL of a Postgres database (postgresql://user"),
        ("{storage: 'mysql://u:hunter22@h/d'}", "this is no URL of a Postgres database"),
    ],
)
def test_bad_dagster_options(tmp_path: Path, options: str, expected: str) -> None:
    found = problems(tmp_path, f"name: x\ndagster: {options}\n")
    assert len(found) == 1 and expected in str(found[0]) and "hunter22" not in str(found[0])


def test_storage_is_a_secret(tmp_path: Path) -> None:
    text = "name: x\ndagster: {storage: '${DAGSTER_STORAGE}'}\n"
    url = "postgresql://h/d?sslkey=hunter22"
    config = load(tmp_path, text, environ={"DAGSTER_STORAGE": url})
    assert config.redact(f"cannot reach {url}") == "cannot reach ***" and "hunter22" not in repr(config)


def test_a_machine_without_time_zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr("smoll.project.orchestrate.ZoneInfo", missing)
    monkeypatch.setattr("smoll.project.orchestrate.available_timezones", lambda: set())
    text = "name: x\nschedules: {a: 0 3 * * *, b: {cron: 0 3 * * *, timezone: Europe/Amsterdam}}\n"
    (problem,) = problems(tmp_path, text)
    assert "this machine has no data of time zones (install it: `apt install tzdata`" in str(problem)


def _random_field(random: random.Random, low: int, high: int, names: list[str]) -> str:
    def one() -> str:
        return random.choice(names) if names and random.random() < 0.3 else str(random.randint(low, high + 1))

    text = random.choice(["*", "*", one(), f"{one()}-{one()}"])
    text += f"/{random.randint(0, 12)}" if random.random() < 0.3 else ""
    return f"{text},{_random_field(random, low, high, names)}" if random.random() < 0.15 else text


@pytest.mark.filterwarnings("ignore:Found a cron schedule with an interval")
def test_what_is_accepted_means_the_same_to_dagster() -> None:
    pytest.importorskip("dagster")
    from dagster import ScheduleDefinition
    from dagster._utils.schedules import cron_string_iterator
    from pydantic_core import PydanticCustomError

    months, days = ["jan", "JUN", "DEC"], ["SUN", "mon", "FRI", "SAT"]
    fields: list[tuple[int, int, list[str]]] = [(0, 59, []), (0, 23, []), (1, 31, []), (1, 12, months), (0, 7, days)]
    chance = random.Random(5)
    accepted = 0
    for _ in range(4000):
        line = " ".join(_random_field(chance, *field) for field in fields)
        try:
            cron = check_cron(line)
        except PydanticCustomError:
            continue
        accepted += 1
        if accepted % 5 == 0:
            ScheduleDefinition(cron_schedule=cron, job_name="a", execution_timezone="UTC")
        begin = datetime(2026, 2, 27, 5, 7, 30, tzinfo=UTC)
        theirs = cron_string_iterator(begin.timestamp(), cron, "UTC")
        ours = begin
        for _ in range(4):
            ours = next_tick(cron, "UTC", ours)
            assert next(theirs) == ours, cron
    assert accepted > 300
