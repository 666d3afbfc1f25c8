"""What a new release would take away from those who read the current one: tables, columns, types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from smoll.model import Refusal, ReleasedTable, ReleaseManifest

REMEDY = "smoll run --allow-breaking"
_DIGITS = {"TINYINT": 3, "UTINYINT": 3, "SMALLINT": 5, "USMALLINT": 5, "INTEGER": 10, "UINTEGER": 10, "BIGINT": 19}
_DIGITS |= {"UBIGINT": 20, "HUGEINT": 39}
"""The types of whole numbers. Readers see no difference between them, wider or narrower."""
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def breaking(current: ReleaseManifest, tables: Sequence[ReleasedTable]) -> Iterator[Refusal]:
    """Say what readers of the current release would miss.

    A table or column that is gone, and a type that reads otherwise. More columns, another order of them, and whole
    numbers or decimals of another width are no harm.
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
    """True where readers of the type `old` read the same as `new`: no digit behind the point may go."""
    if new == old or (old, new) == ("FLOAT", "DOUBLE") or (old in _DIGITS and new in _DIGITS):
        return True
    now, before = _DECIMAL.fullmatch(new), _DECIMAL.fullmatch(old)
    if old in _DIGITS and now:
        return int(now[1]) >= _DIGITS[old] and now[2] == "0"
    return bool(before and now) and int(now[2]) >= int(before[2])  # type: ignore[index]
