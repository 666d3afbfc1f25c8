"""``smoll rejects``: rows that were not loaded, and why."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.accounts import Reject, RejectCount

# Of a raw text, where no terminal says how much there is room for.
_RAW_SHOWN = 100
_WIDEST_TERMINAL = 1000
_LONGEST_RAW = _WIDEST_TERMINAL + 1


@click.command(epilog="Example: smoll rejects nyc.flights --limit 100 --format csv > rejects.csv")
@click.argument("name", metavar="[SOURCE[.STREAM]]", required=False, default="")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many rows at most; 0 for all.",
)  # fmt: skip
@click.option("--load", metavar="RUN", type=click.IntRange(min=1), help="Only those that this run rejected.")
@click.option(
    "--format", "style", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True,
    help="table shortens the raw text; csv and json give it whole.",
)  # fmt: skip
@json_option
@pass_invocation
def command(invocation: Invocation, name: str, limit: int, load: int | None, style: str, as_json: bool) -> int:
    """Show rows that were rejected, and why.

    With SOURCE.STREAM its rows, of the newest load first; else one line for each stream that has any. They are in
    the table TABLE__rejected beside the stream's own (`on_bad_row: quarantine`).
    """
    style = "json" if as_json else style
    project = invocation.open()
    if "." in name:
        longest = _LONGEST_RAW if style == "table" else None
        rejects = project.rejects(name, limit + 1 if limit else None, load, longest=longest)
        shown = rejects[:limit] if limit else rejects
        _print(shown, style, lambda width: _rows(shown, width))
        if len(rejects) > len(shown):
            click.echo(f"These are the first {limit} rows; --limit 0 gives all.", err=True)
    elif load is not None:
        raise click.UsageError("--load is for the rows of a stream: smoll rejects SOURCE.STREAM --load RUN.")
    else:
        counts = project.reject_counts(name)
        _print(counts, style, lambda width: _counts(counts))
    return 0


def _print(found: Sequence[Any], style: str, draw: Callable[[int], RenderableType]) -> None:
    from smoll.cli.output import console, print_json

    if style == "json":
        print_json(found)
    elif style == "csv":
        _print_csv(found)
    elif not found:
        click.echo("No rejected rows.", err=True)
    else:
        output = console()
        output.print(draw(output.width))


def _print_csv(found: Sequence[Any]) -> None:
    """Quote as RFC 4180 has it, with plain line ends; nothing at all where nothing was found."""
    from smoll.model import to_json

    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, item in enumerate(found):
        values = to_json(item)
        if number == 0:
            writer.writerow(values)
        writer.writerow(values.values())


def _counts(counts: Sequence[RejectCount]) -> RenderableType:
    from smoll.cli.output import table, visible

    rows = ((str(c.ref), f"{c.rows:,}", str(c.load), visible(c.reason)) for c in counts)
    return table(("stream", "rejected", "newest load", "most often"), rows, right=("rejected", "newest load"))


def _rows(rejects: Sequence[Reject], width: int) -> RenderableType:
    from smoll.cli.output import table, visible

    files = any(reject.file for reject in rejects)
    headers = ("load", *(("file",) if files else ()), "line", "column", "reason", "raw")
    result = table(headers, (), right=("load", "line"))
    result.columns[-1].overflow, result.columns[-1].no_wrap = "ellipsis", True
    room = min(width, _RAW_SHOWN) if width > _WIDEST_TERMINAL else width
    for reject in rejects:
        line = "" if reject.line is None else str(reject.line)
        file = (visible(reject.file),) if files else ()
        why = (visible(reject.column or ""), visible(reject.reason or ""), visible(_shorten(reject.raw or "", room)))
        result.add_row(str(reject.load), *file, line, *why)
    return result


def _shorten(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
