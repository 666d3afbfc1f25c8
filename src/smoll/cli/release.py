"""``smoll release``: one release, pins, and the end of a hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from smoll.cli.context import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from smoll.model import ReleaseEntry


@click.group(epilog="Example: smoll release show 4")
def command() -> None:
    """Look at a release, keep one for ever, or end a hold."""


@command.command(epilog="Example: smoll release show 4 --json")
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), required=False)
@json_option
@pass_invocation
def show(invocation: Invocation, number: int | None, as_json: bool) -> int:
    """Show release N (default: the one readers see): tables, rows, hashes, origin."""
    from smoll.cli.output import console, print_json

    release = invocation.open().release(number)
    if as_json:
        print_json(release)
    else:
        console().print(*_layout(release))
    return 0


@command.command(epilog="Example: smoll rollback && smoll release resume")
@json_option
@pass_invocation
def resume(invocation: Invocation, as_json: bool) -> int:
    """End the hold that a rollback set: readers see the newest release again."""
    from smoll.cli.output import print_json

    release = invocation.open().resume()
    if as_json:
        print_json(release)
    else:
        click.echo(f"Readers see release {release.manifest.number}: {release.path}")
    return 0


@command.command(epilog='Example: smoll release pin 4 --reason "the figures of the annual report"')
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), required=False)
@click.option("--reason", default="", help="Why; shown with the release.")
@json_option
@pass_invocation
def pin(invocation: Invocation, number: int | None, reason: str, as_json: bool) -> int:
    """Keep release N (default: the one readers see) for ever, whatever `release.keep` says."""
    return _told(invocation.open().pin(number, reason), "is kept for ever", as_json)


@command.command(epilog="Example: smoll release unpin 4")
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@json_option
@pass_invocation
def unpin(invocation: Invocation, number: int, as_json: bool) -> int:
    """Treat release N as any other again: it goes when it is one too many."""
    return _told(invocation.open().unpin(number), "is a release like any other", as_json)


def _told(release: ReleaseEntry, what: str, as_json: bool) -> int:
    from smoll.cli.output import print_json

    if as_json:
        print_json(release)
    else:
        click.echo(f"Release {release.manifest.number} {what}: {release.path}")
    return 0


def _layout(release: ReleaseEntry) -> tuple[RenderableType, ...]:
    from smoll.cli.output import labelled, marks_of, size, table, when

    manifest = release.manifest
    commit = (manifest.git_commit or "")[:12] + (" with local changes" if manifest.git_dirty else "")
    marks = marks_of(release)
    state = f" ({marks})" if marks else ""
    facts = (
        ("Release", f"{manifest.number}{state}"),
        ("Path", release.path),
        ("Created", f"{when(manifest.created)} by run {manifest.run}"),
        ("Size", size(manifest.bytes)),
        ("Commit", commit),
        ("Checks", f"{len(manifest.checks)} looked at these tables" if manifest.checks else ""),
        ("Versions", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())),
    )
    rows = ((str(t.ref), f"{t.rows:,}", str(len(t.columns)), t.hash) for t in manifest.tables)
    return (
        labelled(fact for fact in facts if fact[1]),
        "",
        table(("table", "rows", "columns", "hash"), rows, right=("rows", "columns")),
    )
