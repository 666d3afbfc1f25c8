"""What is unusual about a profile beside the profiles before it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from smoll.model import TableRef
from smoll.profiles import METRICS, ColumnProfile, Metric, TableProfile, anomalies, robust_score

REF = TableRef("main", "t")
NUMBERS = st.floats(-1e9, 1e9)
ANYTHING = st.none() | st.floats()


def table(rows: int, **column: object) -> TableProfile:
    return TableProfile(REF, rows, (ColumnProfile("a", "DOUBLE", **column),))  # type: ignore[arg-type]


def found(profile: TableProfile, history: list[TableProfile], **options: object) -> set[tuple[str, Metric]]:
    return {(one.column, one.metric) for one in anomalies(profile, history, **options)}  # type: ignore[arg-type]


def test_what_is_far_from_usual() -> None:
    usual = [table(rows, null_rate=0.01, distinct=100, mean=20.0, stddev=4.0) for rows in (1000, 1020, 990, 1010, 1005)]
    assert not anomalies(table(1030, null_rate=0.012, distinct=101, mean=20.1, stddev=4.0), usual)
    (few,) = anomalies(table(300, null_rate=0.01, distinct=100, mean=20.0, stddev=4.0), usual)
    assert (few.column, few.metric, few.usual, few.known) == ("", "count", 1005.0, 5) and few.score < -3.5
    assert str(few).startswith("rows 300, usually 1,005 (score -")
    assert found(table(1000, null_rate=0.5, distinct=3, mean=90.0, stddev=4.0), usual) == {
        ("a", "null_rate"),
        ("a", "distinct"),
        ("a", "mean"),
    }
    assert found(table(1000, mean=20.0, null_rate=0.01, distinct=100, stddev=40.0), usual, metrics=["stddev"]) == {
        ("a", "stddev")
    }


def test_nothing_before_there_is_enough_history() -> None:
    usual = [table(1000)] * 4
    assert not anomalies(table(0), usual)
    assert anomalies(table(0), usual, min_history=4)
    assert not anomalies(table(0), [], min_history=0)
    new = TableProfile(REF, 1000, (ColumnProfile("new", "DOUBLE", null_rate=1.0),))
    assert not anomalies(new, usual, min_history=4), "a column that was not there"


def test_what_never_changed_may_change_a_little() -> None:
    usual = [table(1000, null_rate=0.0, distinct=50, mean=10.0, stddev=2.0)] * 8
    assert not anomalies(table(1010, null_rate=0.002, distinct=51, mean=10.05, stddev=2.0), usual)
    assert not anomalies(table(3), [table(2)] * 8), "two more rows, or one"
    assert found(table(1010, null_rate=0.1, distinct=50, mean=10.0, stddev=2.0), usual) == {("a", "null_rate")}
    assert anomalies(table(1000, mean=1.0, stddev=0.0), [table(1000, mean=0.0, stddev=0.0)] * 8)


def test_steady_growth_is_usual() -> None:
    for step in (1, 10, 1000):
        history = [table(10_000 + step * each) for each in range(60)]
        assert not anomalies(table(10_000 + step * 60), history)
        assert anomalies(table(10_000 + step * 1000), history)


@given(NUMBERS, NUMBERS, st.lists(NUMBERS, min_size=1), st.floats(0, 1e6))
def test_farther_scores_higher(one: float, other: float, before: list[float], floor: float) -> None:
    usual, first = robust_score(one, before, floor)
    _, second = robust_score(other, before, floor)
    near, far = sorted([(abs(one - usual), abs(first)), (abs(other - usual), abs(second))])
    assert near[1] <= far[1]
    assert (first > 0) == (one > usual) or first == 0
    assert abs(first) <= 1e6


@given(
    st.floats(-1e6, 1e6),
    st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=9),
    st.floats(0.125, 1e3),
    st.integers(-8, 8),
)
def test_the_unit_of_a_column_plays_no_part(value: float, before: list[float], spread: float, power: int) -> None:
    def scores(unit: float) -> list[float]:
        history = [table(100, mean=each * unit, stddev=spread * unit) for each in before]
        now = table(100, mean=value * unit, stddev=spread * unit)
        return [one.score for one in anomalies(now, history, metrics=["mean", "stddev"])]

    assert scores(2.0**power) == scores(1.0)


@given(ANYTHING, st.lists(ANYTHING, max_size=12), st.integers(0, 10**12))
def test_no_number_breaks_it(value: float | None, before: list[float | None], rows: int) -> None:
    history = [table(rows, mean=each, stddev=each, distinct=None, null_rate=0.0) for each in before]
    for one in anomalies(table(rows, mean=value, stddev=value), history, metrics=METRICS, min_history=1):
        assert math.isfinite(one.score) and str(one)
