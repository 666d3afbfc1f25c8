"""``smoll profile``: what a table looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.profiles import ColumnProfile, PastProfile, TableProfile, Value

_BARS = "▁▂▃▄▅▆▇█"
_LONGEST = 20
_LONGEST_TYPE = 24
_TOP = 3
_NULLS_SHOWN = 8


@click.command(epilog="Example: smoll profile main.fct_flights --history")
@click.argument("table")
@click.option(
    "--release", "number", metavar="N", type=click.IntRange(min=1), help="Of release N; by default the current one.",
)  # fmt: skip
@click.option("--raw", is_flag=True, help="Of the working warehouse, as it is now; loaded tables too.")
@click.option("--history", is_flag=True, help="How its numbers changed from release to release.")
@json_option
@pass_invocation
def command(invocation: Invocation, table: str, number: int | None, raw: bool, history: bool, as_json: bool) -> int:
    """Show what TABLE looks like: NULLs, different values, ranges, frequent values, distributions.

    TABLE is schema.table, or only the name where one schema has it. Values of columns with `meta: {pii: true}` are
    never shown.
    """
    if history and (raw or number is not None):
        raise click.UsageError("--history is of all releases: leave --release and --raw out.")
    project = invocation.open()
    if history:
        past = project.profile_history(table)
        if as_json:
            _print_json(past)
        else:
            _show_history(past)
        return 0
    profile = project.profile(table, number, raw=raw)
    if as_json:
        _print_json(profile)
    else:
        _show(profile)
    return 0


def _print_json(value: object) -> None:
    from smoll.cli.output import print_json

    print_json(value)


def _show(profile: TableProfile) -> None:
    from smoll.cli.output import console, count, table

    out = console()
    sample = f"; median and values from {profile.sampled:,} of them" if profile.sampled < profile.rows else ""
    out.print(f"{profile.ref}: {count(profile.rows, 'row')}, {count(len(profile.columns), 'column')}{sample}\n")
    headers = ("column", "type", "NULL", "different", "min", "median", "mean", "max", "values")
    out.print(table(headers, (_row(one, profile.rows) for one in profile.columns), right=headers[2:8]))
    for column in profile.columns:
        if column.note:
            out.print(f"\n{column.name}: {column.note}")


def _row(column: ColumnProfile, rows: int) -> tuple[RenderableType, ...]:
    from smoll.cli.output import visible

    about = "" if column.is_distinct_exact or column.distinct is None else "~"
    return (
        visible(column.name),
        _short(column.type, _LONGEST_TYPE),
        _percent(column.nulls, rows),
        "" if column.distinct is None else f"{about}{column.distinct:,}",
        *(visible(_cell(value)) for value in (column.min, column.quantiles.get("0.5"))),
        "" if column.mean is None else _number(column.mean),
        visible(_cell(column.max)),
        visible(_values(column, rows)),
    )


def _values(column: ColumnProfile, rows: int) -> str:
    """A distribution as bars, frequent values with their shares, or what is known of the lengths."""
    if column.pii:
        return "personal"
    if len(column.histogram) > 1 and not (column.top and len(column.top) <= _TOP):
        most = max(n for _, _, n in column.histogram)
        return "".join(_bar(n, most) for _, _, n in column.histogram)
    if column.top:
        shown = ", ".join(f"{_cell(value)} {_percent(n, rows)}" for value, n in column.top[:_TOP])
        more = (column.distinct or 0) - len(column.top[:_TOP])
        return f"{shown}, {more:,} more" if more > 0 else shown
    if column.max_length is not None:
        return f"length {column.min_length:,} to {column.max_length:,}"
    return ""


def _bar(n: int, most: int) -> str:
    return _BARS[min(len(_BARS) - 1, n * len(_BARS) // most)] if n else " "


def _percent(part: int, whole: int) -> str:
    if not part or not whole:
        return ""
    share = part / whole
    if share < 0.001:
        return "<0.1%"
    return f"{share:.0%}" if share == 1 else f"{min(share, 0.999):.1%}"


def _cell(value: Value | None) -> str:
    if value is None:
        return ""
    return _short(value, _LONGEST) if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    if isinstance(value, int) or value == int(value):
        return str(int(value)) if abs(value) < 1e15 else f"{value:.6g}"
    return f"{value:.6g}"


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _show_history(past: Sequence[PastProfile]) -> None:
    from smoll.cli.output import console, table, when

    out = console()
    names = list(_with_nulls(past))
    shown = names[:_NULLS_SHOWN]
    headers = ("release", "created", "rows", *(f"NULL {name}" for name in shown))
    rows = []
    for each in past:
        columns = [each.profile.column(name) for name in shown]
        nulls = [_percent(one.nulls, each.profile.rows) or "0" if one else "" for one in columns]
        rows.append((str(each.release), when(each.created), f"{each.profile.rows:,}", *nulls))
    out.print(f"{past[-1].profile.ref}, in the releases that changed it\n")
    out.print(table(headers, rows, right=[header for header in headers if header != "created"]))
    if len(names) > len(shown):
        out.print(f"\n{len(names) - len(shown)} more columns have NULLs; --json has all of them.")


def _with_nulls(past: Sequence[PastProfile]) -> Iterator[str]:
    """The columns that had NULLs at any time; those whose share moved most come first."""
    rates: dict[str, list[float]] = {}
    for each in past:
        for column in each.profile.columns:
            rates.setdefault(column.name, []).append(column.null_rate)
    moved = sorted(rates, key=lambda name: min(rates[name]) - max(rates[name]))
    yield from (name for name in moved if max(rates[name]))
