"""``smoll runs``: what happened, from the ledger."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.model import RunResult


@click.group(invoke_without_command=True, epilog="Example: smoll runs --limit 5")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@json_option
@click.pass_context
def command(ctx: click.Context, limit: int, as_json: bool) -> int:
    """List the runs, newest first."""
    if ctx.invoked_subcommand is not None:
        return 0
    from smoll.cli.output import console, print_json, table

    runs = ctx.ensure_object(Invocation).open().runs(limit=limit)
    if as_json:
        print_json(runs)
    elif not runs:
        click.echo("No run yet. `smoll run` makes the first.", err=True)
    else:
        headers = ("run", "started", "status", "took", "rows", "checks", "release")
        console().print(table(headers, map(_row, runs), right=("run", "took", "rows")))
    return 0


def _row(run: RunResult) -> tuple[RenderableType, ...]:
    from rich.text import Text

    from smoll.cli.output import MARKS, duration, when

    rows = sum(stream.rows for stream in run.streams)
    found = Counter({"error": "fail"}.get(check.status, check.status) for check in run.checks)
    words = {"fail": "failed", "warn": "warned", "skipped": "skipped", "pass": "ok"}
    checks = ", ".join(f"{found[status]} {said}" for status, said in words.items() if found[status])
    release = f"{run.release.number} {run.release.status}" if run.release.number else run.release.status
    return (
        str(run.run),
        when(run.started),
        Text(f"{run.status}, undone" if run.undone else run.status, MARKS[run.status][1]),
        duration(run.seconds),
        f"{rows:,}",
        checks,
        release,
    )


@command.command(epilog="Example: smoll runs show 12")
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@json_option
@pass_invocation
def show(invocation: Invocation, number: int, as_json: bool) -> int:
    """Show run N with every stream, model and check."""
    from smoll.cli.output import console, print_json
    from smoll.cli.summary import summary

    run = invocation.open().run_record(number)
    if as_json:
        print_json(run)
    else:
        console().print(summary(run, full=True))
    return 0
