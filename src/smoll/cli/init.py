"""``smoll init``: make a project."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from smoll.cli.context import json_option


@click.command(epilog="Example: smoll init flights --template flights")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=".")
@click.option(
    "--template", default="blank", show_default=True, metavar="NAME",
    help="blank: an empty project, or smoll.yml for the dbt project found in DIR. flights: the demo.",
)  # fmt: skip
@click.option("--name", help="The project's name. Default: the folder's name.")
@json_option
def command(directory: Path, template: str, name: str | None, as_json: bool) -> int:
    """Make a project in DIR (default: here).

    No file that exists is overwritten.
    """
    import smoll
    from smoll.cli.output import print_json

    result = smoll.init_project(directory, template=template, name=name)
    if as_json:
        print_json(result)
    else:
        click.echo(f"Made {result.root} from the template {result.template} ({len(result.files)} files).")
        click.echo("\nNext")
        if result.root != Path.cwd():
            near = os.path.relpath(result.root)
            click.echo(f"  cd {shlex.quote(str(result.root) if near.startswith('..') else near)}")
        click.echo("  smoll run")
    return 0
