"""What a new release would take away from those who read the current one: tables, columns, types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from smoll.model import Refusal, ReleasedTable, ReleaseManifest

REMEDY = "smoll run --allow-breaking"
_WHOLE = {"TINYINT": 1, "UTINYINT": 2, "SMALLINT": 3, "USMALLINT": 4, "INTEGER": 5, "UINTEGER": 6, "BIGINT": 7}
_WHOLE |= {"UBIGINT": 8, "HUGEINT": 9}
"""Whole numbers by what they hold; an unsigned one may become the next signed one, never the other way round."""
_DIGITS = {"TINYINT": 3, "UTINYINT": 3, "SMALLINT": 5, "USMALLINT": 5, "INTEGER": 10, "UINTEGER": 10, "BIGINT": 19}
_DIGITS |= {"UBIGINT": 20, "HUGEINT": 39}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def breaking(current: ReleaseManifest, tables: Sequence[ReleasedTable]) -> Iterator[Refusal]:
    """Say what readers of the current release would miss.

    A table or column that is gone, and a type that does not hold what the old one held. More columns, another order of
    them and a wider number are no harm.
    """
    new = {str(table.ref).lower(): table for table in tables}
    for old in current.tables:
        table = new.get(str(old.ref).lower())
        if table is None:
            yield Refusal(str(old.ref), f"is gone, and release {current.number} has it", REMEDY)
            continue
        types = {column.name.lower(): column.type for column in table.columns}
        for column in old.columns:
            now = types.get(column.name.lower())
            name = f"{old.ref}.{column.name}"
            if now is None:
                yield Refusal(name, f"is gone, and release {current.number} has it", REMEDY)
            elif not holds(now, column.type):
                yield Refusal(name, f"was {column.type} in release {current.number}, and is {now}", REMEDY)


def holds(new: str, old: str) -> bool:
    """True where a number, or anything else of the type `old`, reads the same as `new`."""
    if new == old or (old, new) == ("FLOAT", "DOUBLE"):
        return True
    if old in _WHOLE and new in _WHOLE:
        return _WHOLE[new] > _WHOLE[old] and (not new.startswith("U") or old.startswith("U"))
    wider = _DECIMAL.fullmatch(new)
    if old in _DIGITS and wider:
        return int(wider[1]) - int(wider[2]) >= _DIGITS[old] and wider[2] == "0"
    before = _DECIMAL.fullmatch(old)
    if before and wider:
        whole = int(wider[1]) - int(wider[2]) >= int(before[1]) - int(before[2])
        return whole and int(wider[2]) >= int(before[2])
    return False
