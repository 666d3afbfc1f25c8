"""``smoll gc``: make room."""

from __future__ import annotations

import click

from smoll.cli.context import Invocation, json_option, no_wait_option, pass_invocation, tell


@click.command(epilog="Example: smoll gc --dry-run")
@click.option("--dry-run", is_flag=True, help="Remove nothing, only say what would go.")
@no_wait_option
@json_option
@pass_invocation
def command(invocation: Invocation, dry_run: bool, no_wait: bool, as_json: bool) -> int:
    """Remove releases that need not stay (`release.keep` and its kin), and what killed runs and removed sources left.

    Never the release that readers see, a newer one, or one that is pinned.
    """
    from smoll.cli.output import console, count, print_json, size, table

    gone = invocation.open().gc(dry_run=dry_run, wait=not no_wait, on_event=tell)
    if as_json:
        print_json(gone)
        return 0
    if gone:
        rows = ((one.path, size(one.bytes), one.reason) for one in gone)
        console().print(table(("path", "size", "why"), rows, right=("size",)))
    total = size(sum(one.bytes for one in gone))
    words = f"{count(len(gone), 'thing')}, {total}"
    click.echo(
        f"{'Would remove' if dry_run else 'Removed'} {words}." if gone else "There is nothing to remove.", err=True
    )
    return 0
