"""The profile of a table as a value, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from smoll.model import TableRef, known

Value = float | int | str
VERSION = 1
"""Of what is measured. A profile of another version is computed anew."""


@dataclass(frozen=True)
class ColumnProfile:
    """What the values of one column look like. None and empty: not known, or of no meaning for the type.

    Values of numbers are numbers (a decimal of many digits is text), all others are text, cut to 200 characters.
    ``nulls``, ``min``, ``max``, ``mean``, ``stddev`` and the lengths are exact; they leave NaN and infinity out, which
    ``nonfinite`` counts. ``distinct`` is how many different values there are, an estimate unless ``is_distinct_exact``.
    The mean of a boolean is the share of ``true``. ``quantiles`` (``"0.5"`` is the median), ``top`` (frequent values,
    and in how many rows) and ``histogram`` (from, to, rows) come from a sample where the table has many rows, and count
    as if it were the whole. Of ``pii`` columns only counts and lengths are known. ``note`` says what could not be
    computed.
    """

    name: str
    type: str
    nulls: int = 0
    null_rate: float = 0.0
    distinct: int | None = None
    is_distinct_exact: bool = False
    min: Value | None = None
    max: Value | None = None
    mean: float | None = None
    stddev: float | None = None
    nonfinite: int = 0
    min_length: int | None = None
    mean_length: float | None = None
    max_length: int | None = None
    quantiles: Mapping[str, Value] = field(default_factory=dict)
    top: tuple[tuple[Value, int], ...] = ()
    histogram: tuple[tuple[Value, Value, int], ...] = ()
    pii: bool = False
    note: str = ""


@dataclass(frozen=True)
class TableProfile:
    """What one table looks like. ``sampled`` is the number of rows that quantiles and the like come from."""

    ref: TableRef
    rows: int
    columns: tuple[ColumnProfile, ...] = ()
    sampled: int = 0

    def column(self, name: str) -> ColumnProfile | None:
        """The column of this name, whatever its case; None where there is none."""
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)


@dataclass(frozen=True)
class PastProfile:
    """A profile of a table as it was first released in ``release``; without quantiles, histograms and many values."""

    release: int
    created: datetime
    hash: str
    profile: TableProfile


def profile_from_json(data: Mapping[str, Any]) -> TableProfile:
    """Read back what `to_json` made of a profile; keys of a newer smoll are ignored.

    Raises
    ------
    ValueError
        It is no profile.
    """
    try:
        columns = [
            ColumnProfile(
                **known(ColumnProfile, column)
                | {key: tuple(tuple(item) for item in column.get(key, ())) for key in ("top", "histogram")}
            )
            for column in data["columns"]
        ]
        ref = TableRef(*data["ref"].split(".", 1))
        return TableProfile(ref, int(data["rows"]), tuple(columns), int(data.get("sampled", 0)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no profile: {error}") from error


def profiles_from_json(data: Mapping[str, Any]) -> tuple[TableProfile, ...]:
    """Read what stands in a release's ``profile.json``; nothing where another version of smoll measured otherwise.

    Raises
    ------
    ValueError
        It is no such file.
    """
    if data.get("version") != VERSION:
        return ()
    return tuple(profile_from_json(each) for each in data.get("tables", ()))


def without_values(profile: TableProfile, pii: Iterable[str]) -> TableProfile:
    """The profile without any value of these columns."""
    personal = {name.lower() for name in pii}
    bare: dict[str, Any] = {"min": None, "max": None, "mean": None, "stddev": None, "nonfinite": 0}
    bare |= {"quantiles": {}, "top": (), "histogram": (), "note": "", "pii": True}
    columns = [replace(one, **bare) if one.name.lower() in personal else one for one in profile.columns]
    return replace(profile, columns=tuple(columns))
