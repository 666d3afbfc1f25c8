"""``smoll generate``: files that are yours once they are written."""

from __future__ import annotations

import click

from smoll.cli.context import Invocation, json_option, pass_invocation


@click.group(epilog="Example: smoll generate staging nyc")
def command() -> None:
    """Write dbt models for you to go on with."""


@command.command(epilog="Example: smoll generate staging nyc shop.rental")
@click.argument("names", metavar="SOURCE[.STREAM]...", nargs=-1, required=True)
@json_option
@pass_invocation
def staging(invocation: Invocation, names: tuple[str, ...], as_json: bool) -> int:
    """Write staging models, column docs and tests for loaded streams.

    They go to staging/SOURCE in the first model path of the dbt project: one stg_SOURCE__STREAM.sql per stream, and
    _SOURCE__models.yml. Tests say what was seen: keys, columns without NULL, the values of texts with few. No existing
    file is changed.
    """
    from smoll.cli.output import console, count, labelled, print_json

    result = invocation.open().generate_staging(*names)
    if as_json:
        print_json(result)
        return 0
    sections = (("Written", result.written), ("Kept", result.kept), ("Not loaded", result.not_loaded))
    console().print(labelled((label, "\n".join(lines)) for label, lines in sections if lines))
    if not result.written:
        click.echo(f"Nothing written: {count(len(result.kept), 'file is', 'files are')} there already.", err=True)
    return 0
