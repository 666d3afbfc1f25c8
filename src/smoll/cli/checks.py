"""``smoll checks``: what every check said last, and on which rows it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.model import FailingRows, KnownCheck


@click.command(epilog="Example: smoll checks completeness_fct_flights_dep_time")
@click.argument("name", required=False)
@json_option
@pass_invocation
def command(invocation: Invocation, name: str | None, as_json: bool) -> int:
    """List the checks with what they said last; with NAME, the rows on which one failed.

    Those of smoll and the tests of dbt. Runs nothing: `smoll run` does. `smoll check` looks at the configuration.
    """
    from smoll.cli.output import console, print_json, table

    project = invocation.open()
    if name is not None:
        known = project.check_record(name)
        if as_json:
            print_json(known)
        else:
            console().print(_one(known))
        return 0
    checks = project.checks()
    if as_json:
        print_json(checks)
    elif not checks:
        click.echo("No checks yet: write some into smoll.yml (`checks:`), or dbt tests.", err=True)
    else:
        headers = ("", "check", "table", "severity", "run", "failures")
        console().print(table(headers, map(_row, checks), right=("run", "failures")))
    return 0


def _row(check: KnownCheck) -> tuple[RenderableType, ...]:
    from smoll.cli.output import mark

    run = str(check.run) if check.run else ""
    failures = f"{check.failures:,}" if check.failures else ""
    return mark(check.status or "none"), check.name, check.table, check.severity, run, failures


def _one(check: KnownCheck) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from smoll.cli.output import labelled, mark, visible

    said = f"{check.status} in run {check.run}" if check.run else "has not run since it could change"
    about = [("table", check.table), ("severity", check.severity), ("is", check.description), ("at", check.path)]
    parts: list[RenderableType] = [
        Text.assemble(mark(check.status or "none"), " ", (check.name, "bold"), f"  {said}"),
        *([visible(check.message)] if check.message else []),
        Text(),
        labelled((label, visible(text)) for label, text in about if text),
    ]
    if check.failing is not None:
        parts += [Text(), _rows(check.failing)]
    return Group(*parts)


def _rows(failing: FailingRows) -> RenderableType:
    from rich.text import Text

    from smoll.cli.output import table, visible

    if not failing.rows:
        return Text(failing.note or "No rows.", "dim")
    cells = ([Text("NULL", "dim italic") if cell is None else visible(cell) for cell in row] for row in failing.rows)
    return table([visible(name).plain for name in failing.columns], cells)
