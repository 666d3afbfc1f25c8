"""``smoll check``: would a run get off the ground?"""

from __future__ import annotations

import click

from smoll.cli.context import Invocation, json_option, pass_invocation


@click.command(epilog="Example: smoll check && smoll run")
@json_option
@pass_invocation
def command(invocation: Invocation, as_json: bool) -> int:
    """Look at configuration, connections and the dbt project.

    Changes nothing. Exits with 2 when the configuration is wrong, with 1 when anything else is. What the checks of
    the data said last, `smoll checks` tells.
    """
    from smoll.cli.output import console, findings, print_json

    found = invocation.open().check()
    if as_json:
        print_json(found)
    else:
        console().print(findings(found))
    return int(any(finding.level == "error" for finding in found))
