"""``smoll open``: the portal in the browser."""

from __future__ import annotations

import webbrowser

import click

from smoll.cli.context import Invocation, pass_invocation


@click.command(epilog="Example: smoll open --apps")
@click.option("--dagster", "part", flag_value="dagster", help="Dagster's page, which `smoll up` serves.")
@click.option("--apps", "part", flag_value="apps", help="Explore and the project's apps, which `smoll up` serves.")
@click.option("--print", "only_print", is_flag=True, help="Print the URL, and open nothing.")
@pass_invocation
def command(invocation: Invocation, part: str | None, only_print: bool) -> int:
    """Open the portal in the browser: where `smoll up` serves it, or else the files of the current release.

    The URL goes to stdout.
    """
    url = invocation.open().page(part or "portal")
    click.echo(url)
    if not (only_print or webbrowser.open(url)):
        click.echo("There is no browser here that could be started.", err=True)
    return 0
