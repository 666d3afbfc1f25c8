"""``smoll up``: portal, Dagster and apps at one address."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from smoll.cli.context import Invocation, pass_invocation

if TYPE_CHECKING:
    from smoll.up.service import Ended, Ready, Started, Stopped


@click.command(epilog="Example: smoll up --only portal")
@click.option(
    "--only", "only", multiple=True, metavar="PART",
    help="Serve these alone: portal, dagster, apps; several with commas. Default: all that is installed. "
    "With the portal alone a small file server is all that runs.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="N",
    help="The port; it must be free. Default: that of smoll.yml, 3000, or the next free one.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document for each event, a line each.")
@pass_invocation
def command(invocation: Invocation, only: tuple[str, ...], port: int | None, as_json: bool) -> int:
    """Serve portal, Dagster and apps on this machine, and run what is scheduled.

    `/` is the portal of the current release, `/dagster/` is Dagster's page, with the daemon that runs schedules and
    sensors behind it, `/apps/` are Explore and the project's Streamlit apps. What dies is started again. Ctrl-C ends
    all. The URL goes to stdout, the rest to stderr.
    """
    parts = [part.strip() for each in only for part in each.split(",")]
    invocation.open().up(port, only=parts, on_event=_print_json if as_json else _print, tell=_tell)
    return 0


def _print(event: Ready | Started | Ended | Stopped) -> None:
    from smoll.up.service import Ended, Ready, Started

    if isinstance(event, Ready):
        click.echo(event.url)
        for part, url in event.urls.items():
            _tell(f"  {part:<8} {url}")
        if event.problem:
            _tell(_quoted("Dagster cannot load the definitions:", event.problem))
            _tell('  Mend them, then press "Reload" on the page Deployment.')
        _tell("Everything is up; Ctrl-C ends it.")
    elif isinstance(event, Started):
        _tell(f"The {event.name} is up (process {event.pid}).")
    elif isinstance(event, Ended):
        again = f"; it starts again in {event.restart_in:g} s." if event.restart_in is not None else "."
        _tell(_quoted(f"The {event.name} ended with {event.how}{again}", event.tail))
    else:
        _tell("Everything has ended.")


def _print_json(event: Ready | Started | Ended | Stopped) -> None:
    click.echo(json.dumps({"event": type(event).__name__.lower(), **_fields(event)}, ensure_ascii=False))


def _fields(event: Any) -> dict[str, Any]:
    from smoll.model import to_json

    fields: dict[str, Any] = to_json(event)
    return fields


def _quoted(said: str, lines: tuple[str, ...]) -> str:
    return "\n".join([said, *(f"  | {line}" for line in lines)])


def _tell(line: str) -> None:
    click.echo(line, err=True)
