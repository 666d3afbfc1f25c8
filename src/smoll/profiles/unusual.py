"""What is unusual about a profile beside those before. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

from smoll.model import TableRef
from smoll.profiles.profile import TableProfile

Metric = Literal["count", "null_rate", "mean", "distinct", "stddev"]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True)
class Anomaly:
    """One number that is far from what it was before. ``column`` is "" for the table as a whole.

    ``usual`` is the median of ``known`` earlier profiles, ``score`` the robust z-score, with its sign.
    """

    ref: TableRef
    column: str
    metric: Metric
    value: float
    usual: float
    score: float
    known: int

    def __str__(self) -> str:
        what = {"count": "rows", "null_rate": "NULLs", "distinct": "different values", "stddev": "standard deviation"}
        name = what.get(self.metric, self.metric)
        value, usual = (_shown(self.metric, number) for number in (self.value, self.usual))
        where = f"{self.column}: " if self.column else ""
        return f"{where}{name} {value}, usually {usual} (score {self.score:+.1f}, {self.known} profiles)"


def _shown(metric: Metric, number: float) -> str:
    if metric == "null_rate":
        return f"{number:.1%}"
    return f"{number:,.0f}" if metric in ("count", "distinct") else f"{number:,.6g}"


def anomalies(
    profile: TableProfile,
    history: Sequence[TableProfile],
    *,
    metrics: Iterable[Metric] = ("count", "null_rate", "mean", "distinct"),
    sensitivity: float = 3.5,
    min_history: int = 5,
) -> tuple[Anomaly, ...]:
    """Say what is far from the profiles before, the farthest first; nothing before there are `min_history` of them.

    The score is ``0.6745 * (x - median) / MAD``, where MAD is the median of the distances from the median. A MAD that
    is next to nothing (always the same, till now) counts as one percent of what is usual, or one row, so that small
    changes are no anomalies.

    Parameters
    ----------
    sensitivity
        From which score on, of either sign, a number is an anomaly.
    """
    found = []
    wanted = frozenset(metrics)
    for column, metric in _numbers(profile, wanted):
        value = _number(profile, column, metric)
        if value is None:
            continue
        seen = [(number, past) for past in history if (number := _number(past, column, metric)) is not None]
        if len(seen) < max(min_history, 1):
            continue
        before = [number for number, _ in seen]
        floor = _floor(metric, median(before), profile, [past for _, past in seen], column)
        usual, score = robust_score(value, before, floor)
        if abs(score) >= sensitivity and score:
            found.append(Anomaly(profile.ref, column, metric, value, usual, round(score, 2), len(seen)))
    return tuple(sorted(found, key=lambda one: -abs(one.score)))


def _floor(metric: Metric, usual: float, profile: TableProfile, history: Sequence[TableProfile], column: str) -> float:
    """The least spread that is taken for granted: one row, one percent, what chance does to a mean."""
    rows = max(profile.rows, 1)
    now = profile.column(column)
    if metric == "count":
        return max(1.0, abs(usual) / 100)
    if metric == "distinct":  # it is an estimate
        return max(1.0, abs(usual) / 50)
    if metric == "null_rate" or (now and now.type == "BOOLEAN"):
        return max(0.005, 1 / rows)
    if metric == "stddev":
        return abs(usual) / 20
    past = [each for one in history if (each := _number(one, column, "stddev")) is not None]
    spread = max(_number(profile, column, "stddev") or 0.0, median(past) if past else 0.0)
    return max(abs(usual) / 100, spread * max(0.01, 1 / math.sqrt(rows)))


def robust_score(value: float, before: Sequence[float], floor: float = 0.0) -> tuple[float, float]:
    """The median of the numbers before, and how far `value` is from it in robust standard deviations, 1e6 at most."""
    usual = median(before)
    distance = value - usual
    spread = max(median(abs(number - usual) for number in before), floor)
    if not distance:
        return usual, 0.0
    score = 0.6745 * distance / spread if spread else math.inf
    return usual, math.copysign(min(abs(score), 1e6), distance)


def _numbers(profile: TableProfile, metrics: Set[Metric]) -> Iterator[tuple[str, Metric]]:
    if "count" in metrics:
        yield "", "count"
    for column in profile.columns:
        for metric in METRICS[1:]:
            if metric in metrics:
                yield column.name, metric


def _number(profile: TableProfile, name: str, metric: Metric) -> float | None:
    if metric == "count":
        return float(profile.rows)
    value: float | None = getattr(profile.column(name), metric, None)
    if value is None or not math.isfinite(value) or (metric == "null_rate" and not profile.rows):
        return None
    return float(value)
