"""``smoll restore``: a project from a backup."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from smoll.cli.context import json_option


@click.command(epilog="Example: smoll restore /mnt/backups/flights-20260101T030000Z.smoll.tar.zst flights")
@click.argument("source")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@json_option
def command(source: str, directory: Path | None, as_json: bool) -> int:
    """Bring a project back from the backup SOURCE, a file or s3://bucket/key, to DIRECTORY.

    DIRECTORY must be empty, or not there yet; by default it is the project's name, in this folder. All checksums are
    verified. An encrypted backup needs its passphrase in the variable SMOLL_BACKUP_PASSPHRASE.
    """
    import smoll
    from smoll.cli.copying import showing
    from smoll.cli.output import count, duration, print_json, size, visible, when

    with showing("Restore") as listen:
        found = smoll.restore(source, directory, on_event=listen)
    if as_json:
        print_json(found)
        return 0
    for line in found.notes:
        click.echo(str(visible(f"Note: {line}.")), err=True)
    what = f"{count(found.files, 'file')}, {size(found.bytes)}, as of {when(found.created)}"
    click.echo(f"Restored {found.root}: {what}, in {duration(found.seconds)}.", err=True)
    click.echo(f"Next: smoll --project {shlex.quote(str(found.root))} status", err=True)
    return 0
