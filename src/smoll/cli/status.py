"""``smoll status``: how things stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.model import Status, StreamState


@click.command(epilog="Example: smoll status --json")
@json_option
@pass_invocation
def command(invocation: Invocation, as_json: bool) -> int:
    """Show what readers see, and what happened last.

    Also whether a run is going on, and how fresh each stream is.
    """
    from smoll.cli.output import console, print_json

    status = invocation.open().status()
    if as_json:
        print_json(status)
    else:
        console().print(*_layout(status))
    return 0


def _layout(status: Status) -> list[RenderableType]:
    from smoll.cli.output import labelled, table

    parts: list[RenderableType] = [labelled(_facts(status))]
    if status.streams:
        headers = ("stream", "table", "rows", "loaded", "status")
        parts += ["", table(headers, map(_stream, status.streams), right=("rows",))]
    return parts


def _facts(status: Status) -> list[tuple[str, RenderableType]]:
    from smoll.cli.output import ago, size

    facts: list[tuple[str, RenderableType]] = [("Project", f"{status.project}  {status.root}")]
    if status.current:
        release = status.current.manifest
        tables = f"{len(release.tables)} tables, {size(release.bytes)}, {ago(release.created)}"
        facts.append(("Readers see", f"release {release.number}: {tables}"))
    elif status.hold:
        facts.append(("Readers see", "nothing: .smoll/releases/current is gone; `smoll release resume` makes it anew"))
    else:
        facts.append(("Readers see", "nothing yet; `smoll run` makes the first release"))
    if status.hold:
        hold = f"{status.hold.reason} ({ago(status.hold.since)}); `smoll release resume` ends it"
        facts.append(("Hold", hold))
    if status.last_run:
        run = status.last_run
        undone = f", undone {ago(run.undone)}" if run.undone else ""
        facts.append(("Last run", f"{run.run} {run.status}, {ago(run.started)}{undone}; `smoll runs show {run.run}`"))
    if status.running:
        facts.append(("Running now", str(status.running)))
    return facts


def _stream(stream: StreamState) -> tuple[RenderableType, ...]:
    from rich.text import Text

    from smoll.cli.output import MARKS, ago

    loaded = ago(stream.loaded) if stream.loaded else "never"
    outcome = Text(stream.status, MARKS[stream.status][1])
    return str(stream.ref), str(stream.table), f"{stream.rows:,}", loaded, outcome
