"""``smoll state``: from where the next run of each stream goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, no_wait_option, pass_invocation, tell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.accounts import StoredState


@click.group(epilog="Example: smoll state show nyc")
def command() -> None:
    """Look at, set or forget from where the next run goes on."""


@command.command(epilog="Example: smoll state show shop.rental --json")
@click.argument("name", metavar="[SOURCE[.STREAM]]", required=False, default="")
@json_option
@pass_invocation
def show(invocation: Invocation, name: str, as_json: bool) -> int:
    """Show cursors, files and runs; with --json the whole state."""
    from smoll.cli.output import console, print_json, table

    states = invocation.open().states(name)
    if as_json:
        print_json(states)
    elif not states:
        click.echo("Nothing was loaded yet. `smoll run` loads.", err=True)
    else:
        headers = ("stream", "mode", "cursor", "files", "run")
        console().print(table(headers, map(_row, states), right=("files", "run")))
    return 0


def _row(stored: StoredState) -> tuple[RenderableType, ...]:
    from smoll.cli.output import visible
    from smoll.state.position import position

    files = f"{stored.files:,}" if stored.files else ""
    return (visible(str(stored.ref)), stored.mode, visible(position(stored.state)), files, str(stored.run))


@command.command("set", epilog="Example: smoll state set shop.rental --cursor '2026-01-01 00:00:00'")
@click.argument("stream", metavar="SOURCE.STREAM")
@click.option("--cursor", metavar="VALUE", help="The next run reads the rows at and beyond this value.")
@click.option("--json-state", metavar="JSON", help="The whole state, as `smoll state show --json` has it in `state`.")
@no_wait_option
@json_option
@pass_invocation
def set_(
    invocation: Invocation, stream: str, cursor: str | None, json_state: str | None, no_wait: bool, as_json: bool
) -> int:
    """Set from where the next run of a stream goes on.

    Rows at and beyond an earlier cursor that the table has already are not doubled. A later cursor leaves out the rows
    in between for good.
    """
    if (cursor is None) == (json_state is None):
        raise click.UsageError("Give one of --cursor and --json-state.")
    project = invocation.open()
    if cursor is not None:
        before, after = project.set_cursor(stream, cursor, wait=not no_wait, on_event=tell)
    else:
        before, after = project.set_state(stream, json_state or "", wait=not no_wait, on_event=tell)
    from smoll.cli.output import console, labelled, print_json

    if as_json:
        print_json({"before": before, "after": after})
    else:
        console().print(labelled([("Before", _words(before)), ("Now", _words(after))]))
    return 0


@command.command(epilog="Example: smoll state reset shop.rental")
@click.argument("name", metavar="SOURCE[.STREAM]")
@no_wait_option
@json_option
@pass_invocation
def reset(invocation: Invocation, name: str, no_wait: bool, as_json: bool) -> int:
    """Forget the state: the next run loads as if it were the first.

    The table stays as it is until then; the new one takes its place when it is whole.
    """
    from smoll.cli.output import console, labelled, print_json

    forgotten: Sequence[StoredState] = invocation.open().reset_state(name, wait=not no_wait, on_event=tell)
    if as_json:
        print_json(forgotten)
    else:
        console().print(labelled((f"Forgot {stored.ref}", _words(stored)) for stored in forgotten))
    return 0


def _words(stored: StoredState) -> RenderableType:
    from smoll.cli.output import visible
    from smoll.state.position import position

    files = f"{stored.files:,} file{'' if stored.files == 1 else 's'}" if stored.files else ""
    return visible(", ".join(filter(None, (position(stored.state), files))) or "no cursor and no files")
