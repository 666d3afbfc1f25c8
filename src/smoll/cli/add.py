"""``smoll add``: a new source."""

from __future__ import annotations

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

_KINDS = ("files", "sql", "rest", "dlt", "singer", "airbyte")


@click.command(epilog="Example: smoll add airbyte people --connector airbyte-source-faker")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("name")
@click.option("--path", "paths", multiple=True, metavar="PATH", help="files: a file, pattern or URL; repeatable.")
@click.option("--url", help="sql: the database, which goes to .env. rest: the base URL.")
@click.option("--source", metavar="FUNCTION", help="dlt: the function, as module.function.")
@click.option("--tap", help="singer: a package, with or without a version, or ./a/path.")
@click.option("--connector", help="airbyte: a package, with or without a version, or ./a/path.")
@click.option("--executable", metavar="NAME", help="singer, airbyte: the program, where the package has several.")
@click.option("--python", metavar="VERSION", help="singer, airbyte: the Python to run it with, for example 3.11.")
@json_option
@pass_invocation
def command(
    invocation: Invocation, /, kind: str, name: str, paths: tuple[str, ...], as_json: bool, **options: str | None
) -> int:
    """Write a commented block for a new source into smoll.yml.

    The rest of the file stays as it is. A tap or connector is installed and asked for its settings: those it requires
    are written, the others commented out; secrets become ${VARIABLES}.
    """
    import smoll
    from smoll.cli.output import print_json

    added = smoll.add_source(kind, name, invocation.path, paths=paths, tell=_tell, **options)
    if as_json:
        print_json(added)
        return 0
    last = added.line + added.block.count("\n")
    click.echo(f"Added {added.name} to {added.file.name}, lines {added.line} to {last}.")
    click.echo("\nNext")
    for variable in added.missing:
        click.echo(f"  put {variable}=... into .env")
    click.echo(f"  look at the lines of {added.name} in {added.file.name}")
    click.echo("  smoll check")
    click.echo("  smoll run")
    return 0


def _tell(line: str) -> None:
    click.echo(line, err=True)
