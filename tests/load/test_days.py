"""A day loaded again (`daily_from`, a backfill): exactly that day of UTC, as often as one likes; the cursor stays."""

from __future__ import annotations

import datetime

import pytest

import smoll
from support import MakeProject, Postgres, load, raw, reopen, sql_yml

KINDS = ("date", "timestamp", "timestamptz")


def made(make_project: MakeProject, postgres: Postgres, kind: str, mode: str) -> smoll.Project:
    """A table with four rows a day, of which one is the first of the day and one, where that is possible, the last."""
    postgres.execute(
        f"""ALTER DATABASE {postgres.database} SET timezone = 'America/New_York';
        CREATE TABLE t (id serial PRIMARY KEY, moment {kind}, v text);
        INSERT INTO t (moment, v)
        SELECT ((day || ' ' || clock || '+00')::timestamptz AT TIME ZONE 'UTC')
          {"AT TIME ZONE 'UTC'" if kind == "timestamptz" else "::" + kind}, 'old'
        FROM generate_series(date '2013-01-01', date '2013-01-09', interval '1 day') d,
          LATERAL (SELECT d::date::text AS day) t,
          (VALUES ('00:00:00'), ('04:59:59'), ('12:00:00'), ('23:59:59.999999')) c(clock);"""
    )
    options = {"mode": mode, "cursor": "moment", "daily_from": "2013-01-01"}
    return make_project(sql_yml(postgres.url, {"t": options}))


def days(project: smoll.Project) -> dict[str, tuple[int, int]]:
    """Rows of each day of UTC, and how many of them are new."""
    sql = """SELECT strftime(CAST(moment AS TIMESTAMP), '%Y-%m-%d') AS day, count(*), count(*) FILTER (v = 'new')
      FROM raw_s.t GROUP BY day ORDER BY day"""
    return {day: (count, new) for day, count, new in raw(project, sql)}


def cursor_of(project: smoll.Project) -> str:
    (found,) = raw(project, "SELECT state->>'cursor' FROM _smoll.state")
    return str(found[0])


@pytest.mark.parametrize("mode", ["append", "merge"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_day_is_loaded_again(make_project: MakeProject, postgres: Postgres, kind: str, mode: str) -> None:
    project = made(make_project, postgres, kind, mode)
    (plan,) = project.config.sources["s"].streams.values()
    assert plan.daily_from == datetime.date(2013, 1, 1)  # type: ignore[union-attr]
    load(project)
    whole = {f"2013-01-0{day}": (4, 0) for day in range(1, 10)}
    assert days(project) == whole
    cursor = cursor_of(project)
    # Every row is another one now, one of the day is gone and one has come, and the source has a tenth day.
    begin = "'2013-01-05 07:00:00+00'" if kind == "timestamptz" else "'2013-01-05 07:00:00'"
    postgres.execute(
        f"""UPDATE t SET v = 'new'; DELETE FROM t WHERE id = 4 * 4 + 2;
        INSERT INTO t (moment, v) VALUES ({begin}, 'new'), ('2013-01-10', 'new');"""
    )

    for _ in range(3):
        stream = load(reopen(project), reload=["s.t"], since="2013-01-05", until="2013-01-06")
        assert (stream.status, stream.rows) == ("loaded", 4)
        assert days(project) == whole | {"2013-01-05": (4, 4)}
        assert cursor_of(project) == cursor

    load(reopen(project))  # goes on where it was: at the last day, and not at the one that was loaded again
    last = days(project)
    assert last.pop("2013-01-10") == (1, 1)
    if mode == "append" and kind == "date":  # of equal cursors the changed rows are others, which append adds
        assert last.pop("2013-01-09") == (8, 4)
    elif mode == "append":
        assert last.pop("2013-01-09") == (5, 1)
    else:
        assert last.pop("2013-01-09") == ((4, 4) if kind == "date" else (4, 1))
    assert last == {day: (4, 4 if day == "2013-01-05" else 0) for day in last}
    assert raw(project, "SELECT count(*) FROM raw_s.t WHERE v = 'new' GROUP BY id HAVING count(*) > 1") == []


@pytest.mark.parametrize("kind", KINDS)
def test_many_days_one_after_the_other(make_project: MakeProject, postgres: Postgres, kind: str) -> None:
    """A backfill of all days, before the first run and after it, comes to what one load does."""
    project = made(make_project, postgres, kind, "append")
    for day in range(1, 10):
        stream = load(reopen(project), reload=["s.t"], since=f"2013-01-0{day}", until=f"2013-01-{day + 1:02}")
        assert stream.rows == 4
    whole = {f"2013-01-0{day}": (4, 0) for day in range(1, 10)}
    assert days(project) == whole
    load(reopen(project))
    assert days(project) == whole
    assert raw(project, "SELECT count(DISTINCT id) FROM raw_s.t") == [(36,)]
    postgres.execute("INSERT INTO t (moment, v) VALUES ('2013-01-10', 'new')")
    assert load(reopen(project)).rows == 1
