"""How far a stream is, how fast it goes and how long it will take. Pure functions over progress events."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from smoll.cli.output import count, duration, size
from smoll.events import StreamProgress

# So many seconds of the past weigh most in a speed: a stall shows soon, a hiccup does not.
_MEMORY_SECONDS = 5.0
# The first moments would only show how long a connection takes to open.
_FIRST_SECONDS = 1.0
_LEAST_PATIENCE_SECONDS = 2.0
_MILLION = 1_000_000


@dataclass(frozen=True)
class Pace:
    """What is known of a stream's speed after some of its progress events.

    ``unit`` is what is counted: bytes while it is fetched, then the fraction of the scan. ``speed`` is in units a
    second, smoothed; None as long as nothing has moved. All times are in seconds after the stream began: ``since``
    when this counting began, ``moved`` when it last moved, ``step`` how long that took, ``now`` that of the event.
    """

    unit: str = ""
    since: float = 0.0
    moved: float = 0.0
    step: float = 0.0
    now: float = 0.0
    done: float = 0.0
    speed: float | None = None


def follow(pace: Pace, progress: StreamProgress) -> Pace:
    """Take one more event into account. A scan that begins again, and one that follows a fetch, counts from there.

    DuckDB tells of a scan in steps, of a wide one every ten seconds: it is from step to step that a speed is taken.
    """
    unit, done = _done(progress)
    if unit != pace.unit or done < pace.done:
        return Pace(unit, progress.seconds, progress.seconds, 0.0, progress.seconds, done)
    step = progress.seconds - pace.moved
    if done == pace.done or step <= 0:
        return replace(pace, now=max(pace.now, progress.seconds))
    found = (done - pace.done) / step
    if pace.speed is not None:
        found = pace.speed + (1 - math.exp(-step / _MEMORY_SECONDS)) * (found - pace.speed)
    return Pace(unit, pace.since, progress.seconds, step, progress.seconds, done, found)


def _done(progress: StreamProgress) -> tuple[str, float]:
    if progress.bytes_done is not None:
        return "bytes", float(progress.bytes_done)
    if progress.fraction is not None:
        return "scan", progress.fraction
    return "", 0.0


def seconds_left(pace: Pace, progress: StreamProgress) -> float | None:
    """Seconds until the fetch, or the scan, is at its end; None where unknown, and at first. Never negative."""
    total = progress.bytes_total if pace.unit == "bytes" else 1.0
    speed = _speed_now(pace)
    if total is None or speed is None or pace.done >= total:
        return None
    return max(0.0, (total - pace.done) / speed - min(pace.now - pace.moved, _patience(pace)))


def _speed_now(pace: Pace) -> float | None:
    """The speed, less where the next step is overdue; None where it is not known, and in the first second."""
    if not pace.speed or pace.now - pace.since < _FIRST_SECONDS:
        return None
    return pace.speed * min(1.0, _patience(pace) / max(pace.now - pace.moved, 1e-9)) or None


def _patience(pace: Pace) -> float:
    """So many seconds without a move are nothing unusual."""
    return max(2 * pace.step, _LEAST_PATIENCE_SECONDS)


def words(pace: Pace, progress: StreamProgress) -> tuple[str, str, str, str]:
    """Say how much, what share of it, how fast and how long yet; each is empty where unknown.

    ``("336,776 rows", "42%", "1.2 M rows/s", "8 s left")``, ``("12 MB of 80 MB", "15%", "4 MB/s", "17 s left")``.
    """
    left = seconds_left(pace, progress)
    return (*_amount(progress), _speed(pace, progress), "" if left is None else f"{_whole(left)} left")


def _whole(seconds: float) -> str:
    """Nobody foretells tenths, and they flicker."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else duration(whole)


def _amount(progress: StreamProgress) -> tuple[str, str]:
    if progress.bytes_done is not None:
        done, total = progress.bytes_done, progress.bytes_total
        # A server that announced too little, or nothing, has no share of it.
        if not total or done > total:
            return size(done), ""
        return f"{size(done)} of {size(total)}", f"{done / total:.0%}"
    rows = "" if progress.rows is None else count(progress.rows, "row")
    return rows, "" if progress.fraction is None else f"{progress.fraction:.0%}"


def _speed(pace: Pace, progress: StreamProgress) -> str:
    speed = _speed_now(pace)
    if speed is None:
        return ""
    if pace.unit == "bytes":
        return f"{size(round(speed))}/s"
    if not progress.rows or not progress.fraction:
        return ""
    rows = speed * progress.rows / progress.fraction
    return f"{rows / _MILLION:.1f} M rows/s" if rows >= _MILLION else f"{rows:,.0f} rows/s"
