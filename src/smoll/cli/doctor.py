"""``smoll doctor``: is this machine fit?"""

from __future__ import annotations

import click

from smoll.cli.context import Invocation, json_option, pass_invocation


@click.command(epilog="Example: smoll doctor")
@json_option
@pass_invocation
def command(invocation: Invocation, as_json: bool) -> int:
    """Look at Python, disk, memory, engines and extras.

    Needs no project. Says which command installs what is missing.
    """
    import smoll.doctor
    from smoll.cli.output import console, findings, print_json

    found = smoll.doctor.examine(invocation.root())
    if as_json:
        print_json(found)
    else:
        console().print(findings(found))
    return int(any(finding.level == "error" for finding in found))
