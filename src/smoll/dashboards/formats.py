"""How values are written: a part of Python's format specification that d3, and so Vega, reads in the same way."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

_NUMBER = re.compile(r"(\+?)(,?)(?:\.(\d{1,2}))?([df%s]?)")
_TIME = re.compile(r"(?:[^%]|%[aAbBdeHIjmMpSyY%])*%[aAbBdeHIjmMpSyY](?:[^%]|%[aAbBdeHIjmMpSyY%])*")
_SI = {8: "Y", 7: "Z", 6: "E", 5: "P", 4: "T", 3: "G", 2: "M", 1: "k", 0: "", -1: "m", -2: "µ", -3: "n"}
_EXACT = Context(prec=400, rounding=ROUND_HALF_UP)


def format_problem(format: str) -> tuple[str, str] | None:
    """What is wrong with a format, and what helps; None where it is well."""
    if not format or _NUMBER.fullmatch(format) or _TIME.fullmatch(format):
        return None
    hint = "for example ,d or ,.2f or .1% or .3s; of dates and times %Y-%m-%d or %d %b %Y"
    return f"`{format[:100]}` is no format that smoll knows", hint


def formatted(value: str, format: str, kind: str) -> str:
    """Write a value, given as DuckDB writes it. What the format does not fit (a text, NaN) stays as it is.

    Parameters
    ----------
    kind
        What sort of column it is of; see `smoll.dashboards.answers.Column`.
    """
    number = _NUMBER.fullmatch(format)
    if format and number and kind == "number":
        return _number(value, *number.groups())
    if format and not number and kind in ("date", "timestamp"):
        return _moment(value, format)
    return value


def _number(value: str, sign: str, comma: str, digits: str | None, kind: str) -> str:
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    if not number.is_finite() or abs(number.adjusted()) > 350:
        return value
    if kind == "s":
        return _si(number, sign, int(digits) if digits is not None else None)
    if kind == "%":
        number, places = number.scaleb(2, _EXACT), int(digits) if digits is not None else 6
    elif kind == "d":
        places = 0
    elif kind == "f" or digits is not None:
        places = int(digits) if digits is not None else 6
    else:
        return format(number, f"{sign}{comma}f")
    rounded = number.quantize(Decimal(1).scaleb(-places), context=_EXACT)
    if rounded == 0:
        rounded = abs(rounded)  # no "-0"
    return format(rounded, f"{sign}{comma}f") + ("%" if kind == "%" else "")


def _si(number: Decimal, sign: str, digits: int | None) -> str:
    """With a unit of thousands, so many significant digits: 1234567 as .3s is 1.23M."""
    digits = max(digits or 3, 1)
    if number == 0:
        return "0"
    number = number.normalize(Context(prec=digits, rounding=ROUND_HALF_UP))
    step = max(-3, min(8, number.adjusted() // 3))
    scaled = number.scaleb(-3 * step, _EXACT)
    places = max(0, digits - 1 - scaled.adjusted())
    return format(scaled, f"{sign}.{places}f") + _SI[step]


_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def _moment(value: str, format: str) -> str:
    """Names of months and days are English, as the charts have them, whatever this machine speaks."""
    try:
        at = datetime.fromisoformat(value.removesuffix("+00"))
    except ValueError:  # infinity, before Christ, after 9999
        return value
    month, day = _MONTHS[at.month - 1], _DAYS[at.weekday()]
    parts = {
        "%": "%", "a": day[:3], "A": day, "b": month[:3], "B": month, "d": f"{at.day:02}", "e": f"{at.day:2}",
        "H": f"{at.hour:02}", "I": f"{at.hour % 12 or 12:02}", "j": f"{at.timetuple().tm_yday:03}",
        "m": f"{at.month:02}", "M": f"{at.minute:02}", "p": "PM" if at.hour >= 12 else "AM", "S": f"{at.second:02}",
        "y": f"{at.year % 100:02}", "Y": f"{at.year:04}",
    }  # fmt: skip
    return re.sub("%(.)", lambda match: parts.get(match[1], match[0]), format)
