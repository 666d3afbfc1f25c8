"""What each kind of check asks the warehouse, and what the answer means. Pure functions: nothing is asked here."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

from smoll.errors import UsageError
from smoll.model import Column, TableRef, literal, quote
from smoll.profiles import Metric, TableProfile, anomalies
from smoll.project import (
    AnomalyCheck,
    Bounds,
    CompletenessCheck,
    DistributionCheck,
    FreshnessCheck,
    RangeCheck,
    ReconciliationCheck,
    ReferencesCheck,
    RowsCheck,
    SqlCheck,
    UniquenessCheck,
)
from smoll.project.fields import Amount, seconds_of
from smoll.warehouse import INTERNAL_SCHEMA

_SLACK = 1e-9
"""Shares and sums of floating point numbers are not exact; so far they may be off."""
_FLOATS = ("FLOAT", "DOUBLE")
_NUMBERS = (*_FLOATS, "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL", "U")
_TIMES = ("DATE", "TIMESTAMP")
_ANOMALIES_SHOWN = 5
_END = re.compile(r";(\s|--[^\n]*)*\Z")


@dataclass(frozen=True)
class Verdict:
    """What came out: ``failures`` rows or figures miss what was asked."""

    passed: bool
    failures: int
    message: str


@dataclass(frozen=True)
class Measure:
    """What to ask, and what the answer means.

    ``figures`` are aggregates over the table, computed in one scan with those of other checks; with ``query`` they are
    the columns of the one row that it returns. ``rows`` is the SQL of the failing rows, complete.
    """

    judge: Callable[[Sequence[Any]], Verdict]
    figures: tuple[str, ...] = ()
    query: str = ""
    rows: str = ""


@dataclass(frozen=True)
class Table:
    """A table that is checked: its columns, and those of them that are personal (``pii``), in lower case."""

    ref: TableRef
    columns: tuple[Column, ...]
    personal: frozenset[str] = frozenset()

    def column(self, name: str) -> Column:
        """One of its columns. Raises UsageError where it has none of this name."""
        exact = [column for column in self.columns if column.name == name]
        found = exact or [column for column in self.columns if column.name.lower() == name.lower()]
        if not found:
            names = [column.name for column in self.columns]
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
            raise UsageError(f"{self.ref} has no column {name!r}; {hint}")
        return found[0]

    def is_personal(self, column: str) -> bool:
        return column.lower() in self.personal

    def select(self, condition: str) -> str:
        """SQL: the rows that fit a condition, without what is personal; "" where nothing is left."""
        shown = [quote(column.name) for column in self.columns if not self.is_personal(column.name)]
        return f"SELECT {', '.join(shown)} FROM {self.ref.sql} WHERE {condition}" if shown else ""


@dataclass(frozen=True)
class Known:
    """What is known beside the tables: the time, and when what the table is built from was loaded (None: never).

    ``rows_before`` are the rows of the table in the last releases or loads, the newest first.
    """

    now: datetime
    loaded: Mapping[str, datetime | None] = field(default_factory=dict)
    rows_before: Callable[[int], Sequence[int]] = lambda number: ()


# --- words


def number(value: float | Decimal) -> str:
    """A figure for people: ``1,204``, ``3.62``."""
    if isinstance(value, Decimal):
        return f"{value:,f}"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:,.6g}"


def share(part: float, whole: float) -> str:
    """``3.6%``; never 0% or 100% of what is not."""
    if not whole:
        return "0%"
    percent = 100 * part / whole
    for digits in (1, 2, 4):
        text = f"{percent:.{digits}f}"
        if (part == 0 or float(text) > 0) and (part == whole or float(text) < 100):
            return f"{text.rstrip('0').rstrip('.')}%"
    return "less than 0.0001%" if percent < 1 else "more than 99.9999%"


def _at_most(limit: Amount, of: str) -> str:
    if not limit.number:
        return "none may be"
    return f"at most {limit.number:g}% may be" if limit.percent else f"at most {number(limit.number)} {of} may be"


def _over(count: float, limit: Amount, whole: int) -> bool:
    return count > limit.of(whole) + _SLACK


# --- SQL


def _where(condition: str | None) -> str:
    """SQL: a condition that a person wrote, whatever it ends with."""
    return "true" if condition is None else f"(\n{condition}\n)"


def _count(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _is(kind: str, kinds: tuple[str, ...]) -> bool:
    return kind.startswith(kinds) and not kind.endswith("]") and not kind.startswith(("UNION", "UUID"))


# --- kinds


def completeness(check: CompletenessCheck, table: Table) -> Measure:
    """Count NULLs."""
    where, column = _where(check.where), quote(table.column(check.column).name)
    missing = f"{where} AND {column} IS NULL"

    def judge(found: Sequence[Any]) -> Verdict:
        rows, nulls = found
        said = f"{nulls:,} of {rows:,} values are NULL ({share(nulls, rows)}), {_at_most(check.max_nulls, 'of them')}"
        return Verdict(not _over(nulls, check.max_nulls, rows), nulls, said)

    return Measure(judge, (_count(where), _count(missing)), rows=table.select(missing))


def uniqueness(check: UniquenessCheck, table: Table) -> Measure:
    """Compare the different values with all of them."""
    columns = [quote(table.column(name).name) for name in check.columns]
    there = " AND ".join([_where(check.where), *(f"{column} IS NOT NULL" for column in columns)])
    listed = ", ".join(columns)
    groups = f"SELECT {listed}, count(*) AS __n FROM {table.ref.sql} WHERE {there} GROUP BY {listed}"
    twice = f"SELECT {listed} FROM ({groups}) WHERE __n > 1 LIMIT 1000"

    def judge(found: Sequence[Any]) -> Verdict:
        rows, different = (int(each) for each in found)
        again = rows - different
        said = f"{different:,} of {rows:,} values are different ({share(different, rows) if rows else '100%'})"
        said += f", at least {check.low.number:g}% must be"
        return Verdict(not again or different + _SLACK >= check.low.of(rows), again, said)

    return Measure(
        judge,
        ("coalesce(sum(__n), 0)", "count(*)"),
        f"FROM (SELECT count(*) AS __n FROM {table.ref.sql} WHERE {there} GROUP BY {listed})",
        table.select(f"{there} AND ({listed}) IN ({twice})"),
    )


def in_range(check: RangeCheck, table: Table) -> Measure:
    """Count the values outside."""
    found = table.column(check.column)
    name = column = quote(found.name)
    outside = []
    if found.type == "VARCHAR" and all(text is None or _is_number(text) for text in (check.low, check.high)):
        found, column = replace(found, type="DOUBLE"), f"TRY_CAST({name} AS DOUBLE)"  # '1000' < '500', as texts
        outside += [f"{name} IS NOT NULL AND {column} IS NULL"]
    low, high = (None if text is None else _bound(text, found) for text in (check.low, check.high))
    outside += [f"{column} < {low}"] * (low is not None) + [f"{column} > {high}"] * (high is not None)
    outside += [f"isnan({column})"] if found.type in _FLOATS else []
    where = _where(check.where)
    missed = f"{where} AND ({' OR '.join(outside)})"

    def judge(figures: Sequence[Any]) -> Verdict:
        values, misses = figures
        said = f"{misses:,} of {values:,} values are {_outside(check.low, check.high)} ({share(misses, values)})"
        passed = not _over(misses, check.max_misses, values)
        return Verdict(passed, misses, f"{said}, {_at_most(check.max_misses, 'of them')}")

    return Measure(judge, (_count(f"{where} AND {name} IS NOT NULL"), _count(missed)), rows=table.select(missed))


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _outside(low: object, high: object) -> str:
    if low is None or high is None:
        return f"below {low}" if high is None else f"above {high}"
    return f"not between {low} and {high}"


def _bound(text: str, column: Column) -> str:
    """SQL: a limit. Beside a number it stays a number, as a cast would round it."""
    if not _is(column.type, _NUMBERS):
        return f"CAST({literal(text)} AS {column.type})"
    if not _is_number(text):
        raise UsageError(f"{text!r} is no number, and the column {column.name!r} is {column.type}")
    value = Decimal(text)
    return f"{value:f}" if len(value.as_tuple().digits) <= 38 and abs(value.adjusted()) <= 37 else f"{value:e}"


def distribution(check: DistributionCheck, table: Table) -> Measure:
    """Compare figures of all values with their bounds. Where there is no value, it fails."""
    found = table.column(check.column)
    column, where = quote(found.name), _where(check.where)
    asked: list[tuple[str, Bounds, str]] = []
    if check.mean or check.stddev or check.quantiles:
        if not _is(found.type, _NUMBERS):
            raise UsageError(f"the column {found.name!r} is {found.type}; only numbers have mean, stddev or quantiles")
        value = f"CAST({column} AS DOUBLE)"
        there = f"FILTER (WHERE {where} AND isfinite({value}))"
        asked += [("mean", check.mean, f"avg({value}) {there}")] if check.mean else []
        asked += [("stddev", check.stddev, f"stddev_samp({value}) {there}")] if check.stddev else []
        for quantile, bounds in check.quantiles.items():
            asked.append((f"quantile {quantile}", bounds, f"approx_quantile({value}, {float(quantile)!r}) {there}"))
    values = [(value, f"{where} AND CAST({column} AS VARCHAR) = {literal(value)}") for value in check.shares]
    count = f"{where} AND {column} IS NOT NULL"
    quiet = table.is_personal(found.name)

    def judge(figures: Sequence[Any]) -> Verdict:
        rows, *rest = figures
        said, missed = [], 0
        for (name, bounds, _), figure in zip(asked, rest, strict=False):
            good = figure is not None and (bounds.low is None or figure >= bounds.low)
            good = good and (bounds.high is None or figure <= bounds.high)
            missed += not good
            if not good:
                is_now = "unknown" if figure is None else "outside" if quiet else number(figure)
                said.append(f"{name} is {is_now}, {_must(bounds.low, bounds.high)}")
        for (value, _), part in zip(values, rest[len(asked) :], strict=True):
            limits = check.shares[value]
            good = limits.low is None or part + _SLACK >= limits.low.of(rows)
            good = good and (limits.high is None or not _over(part, limits.high, rows)) and rows > 0
            missed += not good
            if not good:
                low, high = (f"{limit.number:g}%" if limit else None for limit in (limits.low, limits.high))
                said.append(f"{share(part, rows)} of the values are {value!r}, {_must(low, high)}")
        if not rows:
            return Verdict(False, missed, "there are no values")
        words = "; ".join(said) or f"{len(asked) + len(values)} figures of {rows:,} values are as they must be"
        return Verdict(not missed, missed, words)

    return Measure(judge, (_count(count), *(sql for *_, sql in asked), *(_count(sql) for _, sql in values)))


def _must(low: object, high: object) -> str:
    words = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
    return f"must be {' and '.join(words)}"


def rows(check: RowsCheck, table: Table, known: Known) -> Measure:
    """Compare the number of rows with bounds, and with what it was."""

    def judge(found: Sequence[Any]) -> Verdict:
        (count,) = found
        wrong = []
        if (check.low is not None and count < check.low) or (check.high is not None and count > check.high):
            low, high = (None if limit is None else f"{limit:,}" for limit in (check.low, check.high))
            wrong.append(_must(low, high))
        before = list(known.rows_before(check.over)) if check.max_change else []
        middle = statistics.median(before) if before else None
        far = 0 if middle is None else abs(count - middle)
        if check.max_change and middle is not None and far > middle * check.max_change.number / 100 + _SLACK:
            change = f"{share(far, middle) if middle else 'all'} {'more' if count > middle else 'less'}"
            change += f" than the median of the last {len(before)} ({number(middle)})"
            wrong.append(f"{change}, at most {check.max_change.number:g}% may be")
        nothing = ", and there is nothing yet to compare with" if check.max_change and middle is None else ""
        return Verdict(not wrong, len(wrong), f"{count:,} rows" + "".join(f", {each}" for each in wrong) + nothing)

    return Measure(judge, (_count(_where(check.where)),))


def freshness(check: FreshnessCheck, table: Table, known: Known) -> Measure:
    """Compare the newest moment with now."""
    limit, quiet = seconds_of(check.max_age), False
    figures: tuple[str, ...] = ()
    if check.column is not None:
        column = table.column(check.column)
        if not _is(column.type, _TIMES):
            raise UsageError(f"the column {column.name!r} is {column.type}; freshness needs days or times")
        quiet, name = table.is_personal(column.name), quote(column.name)
        there = f"{_where(check.where)} AND isfinite({name})"
        figures = (f"epoch(max(CAST({name} AS TIMESTAMPTZ)) FILTER (WHERE {there}))",)
        what = "its newest value"
    elif not known.loaded:
        raise UsageError("it is built from no stream, so no load can be fresh; name a column")
    else:
        never = [stream for stream, moment in known.loaded.items() if moment is None]
        if never:
            raise UsageError(f"{', '.join(never)} was never loaded")
        oldest = min((moment, stream) for stream, moment in known.loaded.items() if moment is not None)
        what = f"the last load of {oldest[1]}"

    def judge(found: Sequence[Any]) -> Verdict:
        moment = found[0] if found else oldest[0].timestamp()
        if moment is None:
            return Verdict(False, 1, "there is no value that could be fresh")
        age = known.now.timestamp() - moment
        good = age <= limit
        if age < 0 and not quiet:  # a clock was set back, or differs from another machine's
            return Verdict(True, 0, f"{what} is {_age(-age)} ahead of this machine's clock")
        is_now = ("young enough" if good else "too old") if quiet else f"{_age(age)} old"
        return Verdict(good, int(not good), f"{what} is {is_now}, at most {check.max_age} may it be")

    return Measure(judge, figures)


def _age(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:,.1f} {unit}s"
    return f"{seconds:,.0f} seconds"


def references(check: ReferencesCheck, table: Table, other: Table) -> Measure:
    """Count the rows that refer to nothing."""
    own = [quote(table.column(name).name) for name in check.columns]
    theirs = [quote(other.column(name).name) for name in check.to_columns or check.columns]
    there = " AND ".join([_where(check.where), *(f"{column} IS NOT NULL" for column in own)])
    equal = " AND ".join(f"a.{mine} = b.{their}" for mine, their in zip(own, theirs, strict=True))
    referring = f"(SELECT * FROM {table.ref.sql} WHERE {there}) a"
    orphans = f"NOT EXISTS (SELECT 1 FROM {other.ref.sql} b WHERE {equal})"

    def judge(found: Sequence[Any]) -> Verdict:
        all_rows, lost = found
        said = f"{lost:,} of {all_rows:,} rows that refer to {other.ref} find nothing there ({share(lost, all_rows)})"
        return Verdict(
            not _over(lost, check.max_orphans, all_rows), lost, f"{said}, {_at_most(check.max_orphans, 'of them')} so"
        )

    shown = [f"a.{quote(column.name)}" for column in table.columns if not table.is_personal(column.name)]
    return Measure(
        judge,
        ("sum(__n)", "coalesce(sum(__n) FILTER (WHERE __orphan), 0)"),
        f"FROM (SELECT count(*) AS __n, {orphans} AS __orphan FROM {referring} GROUP BY ALL UNION ALL SELECT 0, false)",
        f"SELECT {', '.join(shown)} FROM {referring} WHERE {orphans}" if shown else "",
    )


def reconciliation(check: ReconciliationCheck, table: Table, other: Table) -> Measure:
    """Compare rows and sums of two tables."""
    pairs = [(table.column(name), other.column(name)) for name in check.sums]
    wrong = [column for pair in pairs for column in pair if not _is(column.type, _NUMBERS)]
    if wrong:
        raise UsageError(f"the column {wrong[0].name!r} is {wrong[0].type}, which has no sum")
    queries = []
    for place, side in enumerate((table, other)):
        sums = [f"{_sum(pair[place])} AS s{number_}" for number_, pair in enumerate(pairs)]
        queries.append(f"(SELECT {', '.join(['count(*) AS n', *sums])} FROM {side.ref.sql})")
    figures = [f"{side}.{name}" for name in ["n", *(f"s{place}" for place in range(len(pairs)))] for side in "ab"]

    def judge(found: Sequence[Any]) -> Verdict:
        said = []
        if found[0] != found[1]:
            said.append(f"{table.ref} has {found[0]:,} rows, {other.ref} has {found[1]:,}")
        for place, (mine, theirs) in enumerate(pairs, 1):
            a, b = found[2 * place], found[2 * place + 1]
            inexact = any(column.type in _FLOATS for column in (mine, theirs))
            if _differ(a, b, check.tolerance, inexact=inexact):
                quiet = table.is_personal(mine.name) or other.is_personal(theirs.name)
                figures = "" if quiet else f" ({number(a)} and {number(b)})"
                said.append(f"the sums of {mine.name} differ{figures}")
        words = "; ".join(said) or f"{found[0]:,} rows on both sides" + (", and equal sums" if pairs else "")
        return Verdict(not said, len(said), words)

    return Measure(judge, tuple(figures), f"FROM {queries[0]} a, {queries[1]} b")


def _sum(column: Column) -> str:
    total = f"fsum({quote(column.name)})" if column.type in _FLOATS else f"sum({quote(column.name)})"
    return f"coalesce({total}, 0)"


def _differ(a: Any, b: Any, tolerance: Amount, *, inexact: bool) -> bool:
    """Exact numbers are compared exactly; of others, the last digits depend on the order of the rows."""
    if inexact:
        a, b = float(a), float(b)
        if math.isnan(a) or math.isnan(b) or math.isinf(a) or math.isinf(b):
            return not (a == b or (math.isnan(a) and math.isnan(b)))
    else:
        a, b = Decimal(a), Decimal(b)
    limit = abs(float(a)) * tolerance.number / 100 if tolerance.percent else tolerance.number
    slack = _SLACK * max(abs(a), abs(b)) if inexact else 0
    return bool(abs(a - b) > (Decimal(str(limit)) if not inexact else limit + slack))


def load_reconciliation(table: Table, source: str, stream: str) -> Measure:
    """Compare what the last load has read with what it wrote and rejected, and what it left with what is there."""
    last = f"""(SELECT rows_read, rows_written, coalesce(rows_rejected, 0) AS rejected, rows_total, run
        FROM {INTERNAL_SCHEMA}.loads WHERE source = {literal(source)} AND stream = {literal(stream)}
        ORDER BY run DESC, finished DESC LIMIT 1) l"""

    def judge(found: Sequence[Any]) -> Verdict:
        there, read, written, rejected, total, run = found
        if run is None:
            return Verdict(False, 1, "it was never loaded")
        lost = 0 if read is None else read - written - rejected
        about = [] if read is None else [f"run {run} read {read:,} records, wrote {written:,}, rejected {rejected:,}"]
        wrong = [f"{abs(lost):,} {'are missing' if lost > 0 else 'came from nowhere'}"] if lost else []
        if there != total:
            wrong.append(f"the load left {total:,} rows, and the table has {there:,} now")
        return Verdict(not wrong, abs(lost) + abs(there - total), "; ".join([*about, *wrong]) or f"{there:,} rows")

    figures = ("t.n", "l.rows_read", "l.rows_written", "l.rejected", "l.rows_total", "l.run")
    return Measure(judge, figures, f"FROM (SELECT count(*) AS n FROM {table.ref.sql}) t LEFT JOIN {last} ON true")


def anomaly(check: AnomalyCheck, now: TableProfile, before: Sequence[TableProfile]) -> Measure:
    """Compare the profile of a table with those before."""
    known = len(before)
    wanted: Sequence[Metric] = check.metrics
    found = anomalies(now, before, metrics=wanted, sensitivity=float(check.sensitivity), min_history=check.min_history)

    def judge(figures: Sequence[Any]) -> Verdict:
        if known < check.min_history:
            return Verdict(True, 0, f"not enough history ({known} of {check.min_history} releases)")
        said = "; ".join(map(str, found[:_ANOMALIES_SHOWN]))
        more = f"; and {len(found) - _ANOMALIES_SHOWN} more" if len(found) > _ANOMALIES_SHOWN else ""
        return Verdict(not found, len(found), f"{said}{more}" if found else f"as usual, by {known} profiles")

    return Measure(judge)


def own_sql(check: SqlCheck) -> Measure:
    """Count the rows of a query."""
    query = _END.sub("", check.sql)

    def judge(found: Sequence[Any]) -> Verdict:
        (count,) = found
        return Verdict(not count, count, f"the query returns {count:,} rows, and must return none")

    return Measure(judge, ("count(*)",), f"FROM (\n{query}\n)", query)
