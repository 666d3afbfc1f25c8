"""Lines of cron: the part of the language that cron itself, cronsim and Dagster read alike.

They disagree about ``9/3``, ``5-5``, ``L`` and ``#``, and about what ``*/2`` means in one of the two fields of days
while the other is limited. A schedule that uses none of these has one meaning, whatever runs it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from smoll.project.fields import complaint

_FIELDS = {  # what may stand there, and how many there are of it
    "minute": ("0 to 59", 60),
    "hour": ("0 to 23", 24),
    "day of the month": ("1 to 31", 31),
    "month": ("1 to 12 or JAN to DEC", 12),
    "day of the week": ("0 to 7 (0 and 7 are Sunday) or SUN to SAT", 7),
}
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_TERM = re.compile(r"\*(/[0-9]+)?|[0-9]+(-[0-9]+(/[0-9]+)?)?|[A-Z]{3}(-[A-Z]{3}(/[0-9]+)?)?", re.IGNORECASE)
_NO_RANGE = re.compile(r"(\w+)-\1(/|$)", re.IGNORECASE)
_ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)


def check_cron(line: str) -> str:
    """Return the line with one blank between its five fields. Raises a complaint that names the wrong field."""
    parts = line.split()
    if len(parts) != len(_FIELDS):
        nickname = _NICKNAMES.get(line.strip().lower())
        hint = f"write {nickname!r}" if nickname else "minute, hour, day, month, day of the week: '0 3 * * *'"
        raise complaint(f"cron has five fields, got {line!r}", hint)
    for place, field in enumerate(_FIELDS):
        _check_field(field, place, parts[place])
    day, weekday = parts[2], parts[4]
    if day != "*" and weekday != "*" and "*" in day + weekday:
        raise complaint(
            f"the days {day!r} and {weekday!r} together mean one thing to cron and another to Dagster",
            "write ranges for *, for example 1-31/2, or let one of the two be *",
        )
    if not _parses([*parts[:4], "*"]):
        raise complaint(f"no month {parts[3]} has a day {day}", "the schedule would never tick")
    return " ".join(parts)


def _check_field(field: str, place: int, text: str) -> None:
    allowed, count = _FIELDS[field]
    alone = ["*"] * len(_FIELDS)
    alone[place] = text
    if not all(_means_one_thing(term, count) for term in text.split(",")) or not _parses(alone):
        raise complaint(f"the {field} {text!r} is not cron's", f"{allowed}; also *, */5, 1-5, 1-9/2 and 1,15")


def _means_one_thing(term: str, count: int) -> bool:
    """``*/90`` minutes is no hour and a half: it is once an hour, and so refused."""
    step = term.partition("/")[2] or "1"
    return bool(_TERM.fullmatch(term)) and not _NO_RANGE.match(term) and int(step) < count


def _parses(parts: list[str]) -> bool:
    try:
        CronSim(" ".join(parts), _ANY_TIME)
    except CronSimError:
        return False
    return True


def next_tick(line: str, timezone: str, after: datetime) -> datetime:
    """Return when a checked line ticks next, strictly later than `after` (with a time zone), in `timezone`."""
    return next(CronSim(line, after.astimezone(ZoneInfo(timezone))))
