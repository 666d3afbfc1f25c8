"""``smoll run``: load, build, check, release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, no_wait_option, pass_invocation

if TYPE_CHECKING:
    from smoll.model import RunResult

_LISTS = ("--select", "-s", "--exclude", "--reload")


def spread(args: list[str]) -> list[str]:
    """Repeat an option before each of its values: ``--select a b`` becomes ``--select a --select b``.

    dbt's users type lists so, and click takes one value per option.
    """
    result: list[str] = []
    option = ""
    for arg in args:
        if arg.startswith("-"):
            option = arg if arg in _LISTS else ""
        elif option and result[-1] != option:
            result.append(option)
        result.append(arg)
    return result


class _WithLists(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args))


@click.command(cls=_WithLists, epilog="Example: smoll run --select source:nyc+ --exclude tag:slow")
@click.option(
    "--select", "-s", multiple=True, metavar="SPEC...",
    help="Load and build only these, in dbt's syntax. source:nyc+ is the source nyc and all built on it.",
)  # fmt: skip
@click.option("--exclude", multiple=True, metavar="SPEC...", help="Leave these out, in dbt's syntax.")
@click.option("--full-refresh", is_flag=True, help="Rebuild incremental models and seeds (dbt's).")
@click.option(
    "--reload", multiple=True, metavar="SOURCE[.STREAM]...",
    help="Load these from nothing; the new table takes the old one's place when it is whole. "
    "The other streams are loaded as always, unless --select leaves them out.",
)  # fmt: skip
@click.option(
    "--from", "since", metavar="VALUE",
    help="With --reload: load only the rows again whose cursor is this or higher.",
)  # fmt: skip
@click.option("--to", "until", metavar="VALUE", help="With --reload: only those whose cursor is lower than this.")
@click.option(
    "--allow-breaking", is_flag=True,
    help="Release even where readers of the current release would miss a table or column, or find another type.",
)  # fmt: skip
@no_wait_option
@json_option
@pass_invocation
def command(
    invocation: Invocation,
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    full_refresh: bool,
    reload: tuple[str, ...],
    since: str | None,
    until: str | None,
    allow_breaking: bool,
    no_wait: bool,
    as_json: bool,
) -> int:
    """Load the sources, build the models, check them, release.

    A failing check, or any other failure, leaves readers on the release they have.
    Progress goes to stderr, the summary to stdout.
    """
    from smoll.cli.output import console, print_json
    from smoll.cli.progress import listening
    from smoll.cli.summary import next_steps, steps, summary

    project = invocation.open()
    with listening(console(stderr=True)) as listener:
        result: RunResult = project.run(
            select=" ".join(select),
            exclude=" ".join(exclude),
            full_refresh=full_refresh,
            reload=reload,
            since=since,
            until=until,
            allow_breaking=allow_breaking,
            wait=not no_wait,
            on_event=listener,
        )
    if as_json:
        print_json(result)
    else:
        can_undo = any(copy.run == result.run and copy.kind != "empty" for copy in project.undo_copies())
        console().print(summary(result), steps(next_steps(result, can_undo=can_undo)))
    return result.exit_code
