"""``smoll backup``: a copy of everything, for the day the disk dies."""

from __future__ import annotations

import click

from smoll.cli.context import Invocation, json_option, no_wait_option, pass_invocation


@click.command(epilog="Example: smoll backup /mnt/backups/")
@click.argument("target")
@no_wait_option
@json_option
@pass_invocation
def command(invocation: Invocation, target: str, no_wait: bool, as_json: bool) -> int:
    """Write a consistent copy of the project and its state to TARGET, while readers read and runs wait.

    TARGET is a folder, a file, or s3://bucket/prefix/ (gs, az). In a folder the name says project and time. If the
    variable SMOLL_BACKUP_PASSPHRASE is set, the copy is encrypted, and holds .env, too.
    """
    from smoll.cli.copying import showing
    from smoll.cli.output import console, duration, print_json, size, table

    project = invocation.open()
    with showing("Backup") as listen:
        made = project.backup(target, wait=not no_wait, on_event=listen)
    if as_json:
        print_json(made)
        return 0
    rows = ((part.name, f"{part.files:,}", size(part.bytes)) for part in made.parts)
    console().print(table(("what", "files", "size"), rows, right=("files", "size")))
    for line in made.notes:
        click.echo(f"Note: {line}.", err=True)
    how = "encrypted" if made.encrypted else "not encrypted"
    click.echo(f"Wrote {made.place}: {size(made.bytes)} in {duration(made.seconds)}, {how}.", err=True)
    return 0
