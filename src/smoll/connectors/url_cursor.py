"""URLs that ask a server for new rows only: ``{cursor}`` in them is filled with the highest value loaded."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from urllib.parse import quote

from smoll.connector import Reading, StreamPlan
from smoll.connectors.data_file import DataFile, stream_error
from smoll.connectors.web import encode

_LARGEST_BLANK = 1 << 16
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)([+-]\d\d(?::?\d\d)?(?::\d\d)?|Z)?)?")


@dataclass(frozen=True)
class Bound:
    """The range that a server is asked for. ``first``: nothing is loaded yet, so `since` is the stream's ``start``."""

    since: str
    until: str
    first: bool


def bound(plan: StreamPlan, reading: Reading) -> Bound:
    """What to fill in now: the range that the user asks for, or what lies beyond the last load less the ``lag``.

    A range without a beginning begins at ``start``: its rows are taken out of the table, so all must be read again.

    Raises LoadError where the ``lag`` cannot be taken from the cursor.
    """
    is_number = re.fullmatch(r"-?[0-9.]+", plan.options.start) is not None
    until = reading.until or ("9223372036854775807" if is_number else "9999-12-31T23:59:59")
    cursor = reading.state.get("cursor")
    if reading.since is not None or reading.until is not None:
        return Bound(reading.since or plan.options.start, until, first=False)
    if cursor is None:
        return Bound(plan.options.start, until, first=True)
    return Bound(_less_lag(plan, str(cursor)), until, first=False)


def fill(template: str, since: str, until: str) -> str:
    """Put the range into a URL, and encode what a URL cannot hold as it is."""
    marked = template.replace("{cursor}", "\x00").replace("{until}", "\x01")
    return (
        "".join(part if part in ("\x00", "\x01") else encode(part) for part in re.split("([\x00\x01])", marked))
        .replace("\x00", quote(_iso(since), safe=""))
        .replace("\x01", quote(_iso(until), safe=""))
    )


def is_blank(file: DataFile) -> bool:
    """Whether an answer of text holds nothing: some servers say so by a line end, or an empty list."""
    if file.size > _LARGEST_BLANK or file.format not in ("csv", "tsv", "json", "ndjson"):
        return False
    if file.path.suffix:  # packed
        return False
    return re.sub(rb"\s", b"", file.path.read_bytes().removeprefix(b"\xef\xbb\xbf")) in (b"", b"[]")


def _less_lag(plan: StreamPlan, cursor: str) -> str:
    lag = plan.options.lag
    if lag is None:
        return cursor
    number, _, unit = lag.partition(" ")
    moment = _MOMENT.fullmatch(cursor)
    try:
        if not unit:
            return str(Decimal(cursor) - Decimal(number))
        if moment:
            then = _parse(cursor) - datetime.timedelta(**{unit: int(number)})
            return then.isoformat(" ") if moment[2] else then.date().isoformat()
    except (InvalidOperation, OverflowError):
        pass
    raise stream_error(
        plan,
        f"the lag {lag!r} cannot be taken from the cursor, which is {cursor!r}.",
        "For a number write a number; for a date or timestamp a length of time, such as 2 days.",
    )


def _parse(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _iso(text: str) -> str:
    """A timestamp as ISO 8601, one with a zone in UTC; anything else as it is."""
    moment = _MOMENT.fullmatch(text.strip())
    if not moment or not moment[2]:
        return text
    if not moment[3]:
        return f"{moment[1]}T{moment[2]}"
    try:
        return _parse(text.strip()).astimezone(datetime.UTC).isoformat()
    except (ValueError, OverflowError):
        return text
