"""What a text means as a value of a DuckDB type, by Python alone. None of smoll's rules are imported here."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?([0-9]+([.][0-9]+)?|[.][0-9]+)([eE][+-]?[0-9]+)?")
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_BITS = {
    "TINYINT": 8,
    "SMALLINT": 16,
    "INTEGER": 32,
    "BIGINT": 64,
    "HUGEINT": 128,
}
_UNSIGNED = {"UTINYINT": 8, "USMALLINT": 16, "UINTEGER": 32, "UBIGINT": 64, "UHUGEINT": 128}
_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_MOMENT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:[.](\d{1,6}))?)?)?"
    r"(?: ?(Z|UTC|[+-]\d{2}(?::?\d{2})?))?"
)
_EPOCH = datetime(1970, 1, 1)


class Misfit(Exception):
    """The text is no value of the type."""


def value_of(text: str | None, kind: str) -> Any:
    """The value that the text has as this type, as `selected` makes DuckDB give it. Raises Misfit.

    An empty text is NULL in every type but text.
    """
    if text is None or (text == "" and kind != "VARCHAR"):
        return None
    if kind == "VARCHAR":
        return str(text)
    if kind in _BITS or kind in _UNSIGNED:
        return _whole(text, kind)
    if kind == "DOUBLE":
        return _double(text)
    if found := _DECIMAL.fullmatch(kind):
        return _decimal(text, int(found[1]), int(found[2]))
    if kind == "BOOLEAN":
        if text.lower() not in ("true", "false"):
            raise Misfit
        return text.lower() == "true"
    if kind == "DATE":
        return _date(text)
    if kind in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        return _moment(text, zone=kind != "TIMESTAMP")
    raise AssertionError(f"no oracle for {kind}")


def selected(name: str, kind: str) -> str:
    """SQL that selects a column (its quoted name) so that nothing is lost on the way to Python."""
    if kind in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        return f"epoch_us({name})"
    if kind == "DATE":
        return f"CAST({name} AS VARCHAR)"
    return name


def comparable(value: Any) -> Any:
    """The value such that equal means the same: a double by its digits and sign, a boolean unlike a number.

    But for zero: beside 0.0 DuckDB stores -0.0 as 0.0.
    """
    if isinstance(value, float):
        return ("double", repr(value + 0.0))
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, Decimal):
        with localcontext(prec=80):
            return ("number", value + 0)
    return ("number", Decimal(value)) if isinstance(value, int) else value


def _whole(text: str, kind: str) -> int:
    if not _WHOLE.fullmatch(text) or text == "-0":
        raise Misfit
    bits = _BITS.get(kind)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if bits else (0, 2 ** _UNSIGNED[kind] - 1)
    if not low <= int(text) <= high:
        raise Misfit
    return int(text)


def _plain(text: str) -> bool:
    """A number as numbers are written: no zeros in front, no plus, no blank. `007` may be a house or a spy."""
    return bool(_NUMBER.fullmatch(text)) and not re.match(r"-?0[0-9]", text)


_NOT_FINITE = ("NaN", "nan", "Infinity", "-Infinity", "Inf", "-Inf", "inf", "-inf")


def _double(text: str) -> float:
    if text in _NOT_FINITE:
        return float(text)
    if not _plain(text):
        raise Misfit
    value = float(text)
    with localcontext(prec=400, Emax=10**6, Emin=-(10**6)):
        digits = Decimal(text)
        if value in (float("inf"), float("-inf")) or digits not in (Decimal(repr(value)), Decimal(f"{value:.17g}")):
            raise Misfit
    return value


def _decimal(text: str, width: int, scale: int) -> Decimal:
    if not _plain(text) or "e" in text.lower():
        raise Misfit
    with localcontext(prec=400):
        value = Decimal(text)
        if value != round(value, scale) or abs(value) >= Decimal(10) ** (width - scale):
            raise Misfit
        return value


def _date(text: str) -> str:
    found = _DAY.fullmatch(text)
    try:
        return date(*map(int, found.groups())).isoformat() if found else _misfit()
    except ValueError:
        raise Misfit from None


def _moment(text: str, *, zone: bool) -> int:
    """Microseconds since 1970 (UTC where there is a zone)."""
    found = _MOMENT.fullmatch(text)
    if not found or bool(found[8]) != zone or (zone and not found[4]):
        raise Misfit
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        whole = datetime(year, month, day, hour, minute, second)
    except ValueError:
        raise Misfit from None
    micros = int((found[7] or "0").ljust(6, "0"))
    since = (whole - _EPOCH) // timedelta(microseconds=1) + micros
    return since - _offset(found[8]) * 1_000_000 if zone else since


def _offset(zone: str) -> int:
    """Seconds east of Greenwich."""
    if zone in ("Z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:] or 0) * 60
    return -seconds if zone[0] == "-" else seconds


def _misfit() -> str:
    raise Misfit


def micros(moment: datetime) -> int:
    """Microseconds since 1970, of a moment with or without a zone."""
    offset = moment.utcoffset() or timedelta()
    return (moment.replace(tzinfo=None) - _EPOCH - offset) // timedelta(microseconds=1)
