"""``smoll releases``: what was released."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from smoll.model import ReleaseEntry


@click.command(epilog="Example: smoll releases --json")
@json_option
@pass_invocation
def command(invocation: Invocation, as_json: bool) -> int:
    """List the releases that are kept, and which one readers see."""
    from smoll.cli.output import console, print_json, table

    releases = invocation.open().releases()
    if as_json:
        print_json(releases)
    elif not releases:
        click.echo("No release yet. `smoll run` makes the first.", err=True)
    else:
        headers = ("release", "created", "run", "tables", "rows", "size", "")
        console().print(table(headers, map(_row, releases), right=headers[:1] + headers[2:6]))
    return 0


def _row(release: ReleaseEntry) -> tuple[str, ...]:
    from smoll.cli.output import marks_of, size, when

    manifest = release.manifest
    return (
        str(manifest.number),
        when(manifest.created),
        str(manifest.run),
        str(len(manifest.tables)),
        f"{sum(table.rows for table in manifest.tables):,}",
        size(manifest.bytes),
        marks_of(release),
    )
