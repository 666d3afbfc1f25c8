"""Numbers in JSON that a double does not hold, found in blocks of text without reading the JSON.

DuckDB's JSON reader makes a double of every number with a fraction. A number of up to 15 digits always survives that,
so only longer runs of a number's characters are looked at. What stands in a text and looks like one is looked at as
well: the answer may be a wrong "maybe", never a wrong "no".
"""

from __future__ import annotations

import re
from decimal import Decimal

_LONG = 17
"""Characters of the shortest number that a double may not hold: 16 digits and a point, or an exponent."""
_CLASSES = bytes(48 if chr(code) in "0123456789.eE+-" else 32 for code in range(256))
_RUN = b"0" * _LONG
_FRACTION = set(b".eE")  # whole numbers keep every digit
_TINY = (re.compile(rb"e-[0-9]{3}"), re.compile(rb"E-[0-9]{3}"))


def may_lose_digits(block: bytes) -> bool:
    """True where the block may hold a fraction that a double changes. The block ends where a record ends."""
    runs = block.translate(_CLASSES)
    find, start = runs.find, runs.find(_RUN)  # far quicker than a pattern
    while start >= 0:
        end = find(b" ", start)
        if end < 0:
            end = len(runs)
        token = block[start:end]
        try:
            is_usual = repr(float(token)).encode() == token
        except ValueError:  # words with dots and dashes
            is_usual = True
        if not is_usual and set(token) & _FRACTION and loses_digits(token.decode("ascii")):
            return True
        start = find(_RUN, end)
    return any(tiny.search(block) for tiny in _TINY)


def loses_digits(text: str) -> bool:
    """True where a double does not hold the number, by any usual way of printing the double."""
    number = float(text)
    return number - number != 0 or Decimal(text) not in (Decimal(repr(number)), Decimal(f"{number:.17g}"))
