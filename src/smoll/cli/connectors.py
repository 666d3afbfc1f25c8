"""``smoll connectors``: the programs of singer and airbyte sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.connectors.environment import Installation
    from smoll.connectors.settings import Setting
    from smoll.programs import DiscoveredStream, InstalledConnector, InstallResult

# Of the names of fields in the table of streams; --json has all of them.
_FIELDS_SHOWN = 8


@click.group(epilog="Example: smoll connectors list")
def command() -> None:
    """Install Singer taps and Airbyte connectors, and ask them."""


@command.command("list", epilog="Example: smoll connectors list")
@json_option
@pass_invocation
def list_(invocation: Invocation, as_json: bool) -> int:
    """Show connectors, locked versions and what is installed."""
    from smoll.cli.output import console, print_json, table

    found = invocation.open().connectors()
    if as_json:
        print_json(found)
    elif not found:
        click.echo("No source has a connector. `smoll add singer` or `smoll add airbyte` makes one.", err=True)
    else:
        headers = ("source", "kind", "connector", "locked", "installed", "size")
        console().print(table(headers, map(_row, found), right=("size",)))
    return 0


def _row(found: Installation) -> tuple[RenderableType, ...]:
    from smoll.cli.output import size, visible

    if not found.requirement:
        there = "own" if found.installed else "not there"
        return (visible(found.name), found.kind, visible(found.connector), "", there, "")
    there, bytes_ = ("yes", size(found.bytes)) if found.installed else ("no", "")
    return (visible(found.name), found.kind, visible(found.connector), found.version or "no", there, bytes_)


@command.command(epilog="Example: smoll connectors install github --upgrade")
@click.argument("names", metavar="[SOURCE]...", nargs=-1)
@click.option("--upgrade", is_flag=True, help="Look for newer versions, within what smoll.yml asks for.")
@json_option
@pass_invocation
def install(invocation: Invocation, names: tuple[str, ...], upgrade: bool, as_json: bool) -> int:
    """Install connectors, each into an environment of its own.

    The versions are those of connectors/SOURCE.lock, which is written where it is missing, or smoll.yml asks for
    something else. Without a SOURCE all are installed, and what no source uses any more is removed.
    """
    from smoll.cli.output import console, labelled, print_json

    result: InstallResult = invocation.open().install_connectors(*names, upgrade=upgrade, tell=_tell)
    if as_json:
        print_json(result)
        return 0
    lines = [(each.name, _what(each)) for each in result.connectors]
    lines += [("Removed", path) for path in result.removed]
    if lines:
        console().print(labelled(lines))
    else:
        click.echo("No source has a connector, so there is nothing to install.", err=True)
    return 0


def _what(done: InstalledConnector) -> str:
    if done.status == "own":
        return f"{done.connector}: a program of the project's own"
    if done.status == "upgraded" and done.before != done.version:
        return f"{done.connector}: {done.before} -> {done.version}"
    words = {"upgraded": "with newer versions of what it needs", "unchanged": "unchanged", "installed": "installed"}
    return f"{done.connector}: {done.version}, {words[done.status]}"


@command.command(epilog="Example: smoll connectors discover github")
@click.argument("name", metavar="SOURCE")
@json_option
@pass_invocation
def discover(invocation: Invocation, name: str, as_json: bool) -> int:
    """Show the streams of a source, as smoll would load them.

    With --json the catalog as the connector gives it.
    """
    from smoll.cli.output import console, table

    found = invocation.open().discover(name, tell=_tell)
    if as_json:
        click.echo(json.dumps(found.catalog, indent=2, ensure_ascii=False))
    elif not found.streams:
        click.echo(f"The connector of {name} has no streams.", err=True)
    else:
        headers = ("stream", "table", "mode", "sync", "key", "cursor", "fields")
        console().print(table(headers, map(_stream, found.streams)))
        left_out = sum(not stream.mode for stream in found.streams)
        if left_out:
            click.echo(f"{left_out} of {len(found.streams)} streams are left out by smoll.yml.", err=True)
    return 0


def _stream(stream: DiscoveredStream) -> tuple[RenderableType, ...]:
    from smoll.cli.output import visible

    names = list(stream.fields)
    more = f", and {len(names) - _FIELDS_SHOWN} more" if len(names) > _FIELDS_SHOWN else ""
    fields = visible(", ".join(names[:_FIELDS_SHOWN]) + more)
    how = (stream.mode or "left out", stream.sync, ", ".join(stream.key), stream.cursor or "")
    return (*map(visible, (stream.name, stream.table, *how)), fields)


@command.command(epilog="Example: smoll connectors spec github")
@click.argument("name", metavar="SOURCE")
@json_option
@pass_invocation
def spec(invocation: Invocation, name: str, as_json: bool) -> int:
    """Show the settings of a source's connector.

    They belong into `config`. With --json their JSON schema, as the connector gives it.
    """
    from smoll.cli.output import console, table

    found = invocation.open().connector_spec(name, tell=_tell)
    if as_json:
        click.echo(json.dumps(found.schema, indent=2, ensure_ascii=False))
    elif not found.settings:
        click.echo(f"{found.connector} has no settings.", err=True)
    else:
        headers = ("setting", "type", "required", "default", "description")
        console().print(table(headers, map(_setting, found.settings)))
    return 0


def _setting(setting: Setting) -> Sequence[RenderableType]:
    from smoll.cli.output import visible

    kind = ", ".join(filter(None, (setting.type, "secret" if setting.secret else "", _choices(setting.choices))))
    default = "" if setting.default is None or setting.secret else json.dumps(setting.default, ensure_ascii=False)
    required = "yes" if setting.required else ""
    return (visible(setting.name), visible(kind), required, visible(default), visible(setting.description))


def _choices(choices: Sequence[Any]) -> str:
    return " | ".join(str(choice) for choice in choices)


def _tell(line: str) -> None:
    click.echo(line, err=True)
