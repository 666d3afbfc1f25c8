"""Rows written as lines of JSON, with the kinds of values that each column had; `line_reader` makes a scan of them.

Nothing but the standard library is imported: `dlt_worker` loads this file by its path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from datetime import time as clock
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

_EXACT_IN_DOUBLE = 2**53


class Unwritable(Exception):
    """A value that no line of JSON can hold; for people."""


@dataclass
class Table:
    """One table that is written: a line of JSON for each row.

    ``columns`` holds the kinds of values that each column had, in the order of appearance. ``other`` makes something
    that JSON has a form for of a value that neither JSON nor this module knows.
    """

    path: Path
    file: BinaryIO
    columns: dict[str, set[str]] = field(default_factory=dict)
    rows: int = 0
    size: int = 0
    longest: int = 0
    other: Callable[[Any], Any] = str

    def __post_init__(self) -> None:
        default = partial(plain, other=self.other)
        self._encode = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default
        ).encode

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one row. Raises Unwritable."""
        written: dict[str, Any] = {}
        for key, value in row.items():
            name = key if isinstance(key, str) else str(key)
            kinds = self.columns.get(name)
            if kinds is None:
                kinds = self.columns[name] = set()
            kind = KINDS.get(value.__class__) or _kind(value, self.other)
            if kind == "int" and not -_EXACT_IN_DOUBLE <= value <= _EXACT_IN_DOUBLE:
                kind = "big"
            kinds.add(kind)
            written[name] = value
        line = _line(written, self._encode)
        self.file.write(line)
        self.file.write(b"\n")
        self.rows += 1
        self.size += len(line) + 1
        self.longest = max(self.longest, len(line) + 1)


KINDS = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    dict: "nested",
    list: "nested",
    tuple: "nested",
    type(None): "null",
}


def _kind(value: Any, other: Callable[[Any], Any]) -> str:
    """The kind of a value whose class is none of JSON's own."""
    if isinstance(value, datetime):
        return "datetime"
    if isinstance(value, date):
        return "date"
    if isinstance(value, clock):
        return "time" if value.tzinfo is None else "text"
    if isinstance(value, Decimal):
        return "decimal"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes"
    for base, kind in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str")):
        if isinstance(value, base):
            return kind
    known = plain(value, other)
    return "text" if isinstance(known, str) else KINDS.get(known.__class__) or "nested"


def _line(row: Mapping[str, Any], encode: Callable[[Any], str]) -> bytes:
    """One line of JSON in which no value is changed: numbers in all their digits, NaN and infinity as text."""
    try:
        text = encode(row)
    except ValueError as error:
        if "Circular" in str(error):
            raise Unwritable("a record contains itself") from error
        text = encode(_without_nan(row))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unwritable(f"a record holds a text that is no valid Unicode: {text[:80]!a}") from error


def plain(value: Any, other: Callable[[Any], Any]) -> Any:
    """What JSON has no form for, as text or as something that JSON has a form for."""
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() and abs(value.adjusted()) < 400 else str(value)
    if isinstance(value, (datetime, date, clock)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        import base64

        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if callable(item := getattr(value, "item", None)):  # a scalar of numpy
        return item()
    if callable(dump := getattr(value, "model_dump", None)):
        return dump()
    return other(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
