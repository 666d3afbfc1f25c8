"""Errors without the values that they quote: a table may hold personal ones."""

from __future__ import annotations

import re

_DBTS = re.compile(r"\s*(\w+) Error in \w+ \S+ \([^()\n]*\)\s*")
_KIND = re.compile(r"((?:[A-Za-z]+ ){0,4})\w*Error\b")
_OF_ROWS = {"Runtime", "Database"}
"""What dbt calls errors of what it runs; others are of the project's text."""
_ABOUT_NAMES = {"Binder ", "Catalog ", "Parser ", "Not implemented "}
"""What DuckDB says of names, and of the query itself, quotes no row."""


def without_values(message: str) -> str:
    """Cut an error behind what it is called, unless it speaks of names: DuckDB and Python quote values of rows."""
    head = _DBTS.match(message)
    start = head.end() if head else 0
    kind = _KIND.match(message, start)
    if kind and kind[1] in _ABOUT_NAMES:
        return message
    if not kind and (head is None or head[1] not in _OF_ROWS):
        return message
    called = message[: kind.end() if kind else start].strip()
    return f"{called} (what it says is left out: values of columns marked pii may be in it)"
