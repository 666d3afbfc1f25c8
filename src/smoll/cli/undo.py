"""``smoll undo``: the working warehouse as it was before a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, no_wait_option, pass_invocation, tell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.model import Undo, UndoCopy

_SHOWN = 20
_KINDS = {"reflink": "shares blocks", "copy": "plain copy", "empty": "nothing was there"}


@click.command(epilog="Example: smoll undo 12 --yes")
@click.argument("run", metavar="[RUN]", type=click.IntRange(min=1), required=False)
@click.option("--list", "as_list", is_flag=True, help="List the copies that are kept.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@no_wait_option
@json_option
@pass_invocation
def command(
    invocation: Invocation, run: int | None, as_list: bool, yes: bool, no_wait: bool, as_json: bool
) -> int:  # fmt: skip
    """Let the working warehouse be as it was before RUN (default: the last one), whatever came after.

    Raw tables, models, snapshots, cursors and the answers of checks. Releases stay, and so does what readers see.
    It needs the copy that a run keeps of the warehouse when it begins (`undo` in smoll.yml).
    """
    from smoll.cli.output import console, print_json

    project = invocation.open()
    if as_list:
        return _list(project.undo_copies(), as_json)
    asks = not yes
    if asks and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("Nobody can be asked here. Say --yes to undo.")
    plan: Undo = project.undo(run, dry_run=asks, wait=not no_wait, on_event=tell)
    if asks:
        console().print(*_layout(plan))
        if not click.confirm("Undo?", default=False):
            click.echo("Nothing was changed.", err=True)
            return 1
        plan = project.undo(plan.copy.run, latest=plan.runs[0].run, wait=not no_wait, on_event=tell)
        click.echo("Done.")
    elif as_json:
        print_json(plan)
    else:
        console().print(*_layout(plan))
    return 0


def _list(copies: tuple[UndoCopy, ...], as_json: bool) -> int:
    from smoll.cli.output import console, print_json, size, table, when

    if as_json:
        print_json(copies)
    elif not copies:
        click.echo(
            "No copy is kept. Each run keeps one of the warehouse as it was before; see `undo` in smoll.yml.", err=True
        )
    else:
        rows = ((str(copy.run), when(copy.created), size(copy.bytes), _KINDS[copy.kind]) for copy in copies)
        console().print(table(("before run", "made", "size", ""), rows, right=("before run", "size")))
    return 0


def _layout(undo: Undo) -> list[RenderableType]:
    from rich.console import Group
    from rich.text import Text

    from smoll.cli.output import ago, count, labelled, visible

    copy = undo.copy
    head = f"The warehouse {'is' if undo.done else 'will be'} as it was before run {copy.run} ({ago(copy.created)})."
    facts: list[tuple[str, RenderableType]] = [
        ("Undone", Text(", ".join(f"run {record.run} ({record.status})" for record in reversed(undo.runs))))
    ]
    if undo.tables:
        lines = [f"{change.table}: {_rows(change.now)} → {_rows(change.then)}" for change in undo.tables[:_SHOWN]]
        rest = len(undo.tables) - _SHOWN
        lines += [f"and {count(rest, 'other')}"] if rest > 0 else []
        facts.append(("Rows", Group(*map(visible, lines))))
    else:
        facts.append(("Rows", Text("every table keeps its number of rows; what was changed in them is undone")))
    if undo.cursors:
        named = [f"{change.ref}: {change.now or 'none'} → {change.then or 'none'}" for change in undo.cursors[:_SHOWN]]
        facts.append(("Cursors", Group(*map(visible, named))))
    if undo.note:
        facts.append(("Note", Text(undo.note, "yellow")))
    return [head, labelled(facts), *_readers(undo)]


def _rows(number: int | None) -> str:
    from smoll.cli.output import count

    return "no such table" if number is None else count(number, "row")


def _readers(undo: Undo) -> list[str]:
    if undo.release is None:
        return []
    text = f"Readers still see release {undo.release}, which an undone run made"
    how = f"; `smoll rollback {undo.earlier}` shows them an earlier one" if undo.earlier else ""
    return [f"{text}{how}."]
