"""How far a stream is, how fast it goes and how long it will take. Pure functions over progress events."""

from __future__ import annotations

import math
from dataclasses import dataclass

from smoll.cli.output import count, duration, size
from smoll.events import StreamProgress

# So many seconds of the past weigh most in a speed: a stall shows soon, a hiccup does not.
_MEMORY_SECONDS = 5.0
# The first moments would only show how long a connection takes to open.
_FIRST_SECONDS = 1.0
_MILLION = 1_000_000


@dataclass(frozen=True)
class Pace:
    """What is known of a stream's speed after some of its progress events.

    ``unit`` is what is counted: bytes while it is fetched, then the fraction of the scan. ``speed`` is in units a
    second, smoothed; None as long as nothing has moved. ``since`` is when this counting began.
    """

    unit: str = ""
    since: float = 0.0
    seconds: float = 0.0
    done: float = 0.0
    speed: float | None = None


def follow(pace: Pace, progress: StreamProgress) -> Pace:
    """Take one more event into account. A scan that begins again, and one that follows a fetch, counts from there."""
    unit, done = _done(progress)
    if unit != pace.unit or done < pace.done:
        return Pace(unit, progress.seconds, progress.seconds, done)
    passed = progress.seconds - pace.seconds
    if passed <= 0:
        return pace
    now = (done - pace.done) / passed
    if pace.speed is None:
        speed = now if now > 0 else None
    else:
        weight = 1 - math.exp(-passed / _MEMORY_SECONDS)
        speed = pace.speed + weight * (now - pace.speed)
    return Pace(unit, pace.since, progress.seconds, done, speed)


def _done(progress: StreamProgress) -> tuple[str, float]:
    if progress.bytes_done is not None:
        return "bytes", float(progress.bytes_done)
    if progress.fraction is not None:
        return "scan", progress.fraction
    return "", 0.0


def seconds_left(pace: Pace, progress: StreamProgress) -> float | None:
    """Seconds until the fetch, or the scan, is at its end; None where unknown, and at first. Never negative."""
    total = progress.bytes_total if pace.unit == "bytes" else 1.0
    if total is None or not _steady(pace) or pace.done >= total:
        return None
    return (total - pace.done) / pace.speed if pace.speed else None


def _steady(pace: Pace) -> bool:
    return pace.unit != "" and pace.seconds - pace.since >= _FIRST_SECONDS and (pace.speed or 0.0) > 0


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
    if not _steady(pace) or pace.speed is None:
        return ""
    if pace.unit == "bytes":
        return f"{size(round(pace.speed))}/s"
    if not progress.rows or not progress.fraction:
        return ""
    rows = pace.speed * progress.rows / progress.fraction
    return f"{rows / _MILLION:.1f} M rows/s" if rows >= _MILLION else f"{rows:,.0f} rows/s"
