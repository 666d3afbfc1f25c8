"""``smoll sql``: ask the current release."""

from __future__ import annotations

import sys
from typing import TextIO

import click

from smoll.cli.context import Invocation, pass_invocation


@click.command(epilog='Example: smoll sql --format csv "SELECT * FROM marts.delays" > delays.csv')
@click.argument("query", required=False)
@click.option("-f", "--file", type=click.File(encoding="utf-8"), help="Read the query from a file.")
@click.option("--raw", is_flag=True, help="Ask the working warehouse: raw tables, and what is not released.")
@click.option(
    "--format", "style", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True,
    help="table shows the first 100 rows; csv and json give every row, with exact values.",
)  # fmt: skip
@pass_invocation
def command(invocation: Invocation, query: str | None, file: TextIO | None, raw: bool, style: str) -> int:
    """Answer QUERY from the release that readers see. `-` reads the query from stdin.

    Read-only, and without access to files or the network.
    """
    if (query is None) == (file is None):
        raise click.UsageError("Give one query: as the argument, with -f FILE, or - for stdin.")
    text = file.read() if file else sys.stdin.read() if query == "-" else query
    from smoll.cli import results

    with invocation.open().connect(raw=raw) as connection:
        results.answer(connection, text or "", style)
    return 0
