"""``smoll suggest``: tests that the data pass, and that nobody has written yet."""

from __future__ import annotations

import sys

import click

from smoll.cli.context import Invocation, json_option, pass_invocation


@click.command(epilog="Example: smoll suggest fct_flights dim_planes --write")
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@click.option("--write", is_flag=True, help="Write them into the dbt project, after showing what would change.")
@click.option("--yes", is_flag=True, help="With --write: do not ask.")
@json_option
@pass_invocation
def command(invocation: Invocation, tables: tuple[str, ...], write: bool, yes: bool, as_json: bool) -> int:
    """Suggest dbt tests for released models, from their data and their history.

    Each was verified in the current release, and says why it is suggested. Look at them as a person who knows the data:
    what has always been so need not be so for ever. Tests that the project has are left out.
    """
    from smoll.cli.output import count, print_json
    from smoll.suggest import render

    if yes and not write:
        raise click.UsageError("--yes goes with --write.")
    if write and not yes and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("Nobody can be asked here. Say --yes to write.")
    project = invocation.open()
    suggestions = project.suggest(*tables)
    if not write:
        if as_json:
            print_json(suggestions)
        elif suggestions:
            click.echo(render(suggestions), nl=False)
        else:
            click.echo("Nothing to suggest.", err=True)
        return 0
    changes = project.plan_suggestions(suggestions)
    if not changes:
        click.echo("Nothing to suggest.", err=True)
        return 0
    if not yes:
        for change in changes:
            click.echo(change.diff(project.config.root), nl=False)
        if not click.confirm(f"Write {count(len(suggestions), 'suggestion')}?", default=False, err=True):
            click.echo("Nothing was changed.", err=True)
            return 1
    project.write_suggestions(changes)
    if as_json:
        print_json(suggestions)
    else:
        for change in changes:
            click.echo(f"Wrote {change.name(project.config.root)}")
        click.echo("`smoll run` runs the new tests.", err=True)
    return 0
