"""``smoll rollback``: readers go back to an earlier release."""

from __future__ import annotations

import click

from smoll.cli.context import Invocation, json_option, pass_invocation


@click.command(epilog="Example: smoll rollback 3")
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), required=False)
@json_option
@pass_invocation
def command(invocation: Invocation, number: int | None, as_json: bool) -> int:
    """Let readers see release N (default: the one before the current).

    Sets a hold: runs go on and build releases, but readers stay until `smoll release resume`.
    Raw data, cursors and the working warehouse stay as they are.
    """
    from smoll.cli.output import print_json

    release = invocation.open().rollback(number)
    if as_json:
        print_json(release)
    else:
        click.echo(f"Readers see release {release.manifest.number}: {release.path}")
        click.echo("They stay on it until `smoll release resume`.")
    return 0
