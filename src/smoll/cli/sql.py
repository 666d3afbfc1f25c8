"""``smoll sql``: ask a release, once or in a shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import click

from smoll.cli.context import Invocation, pass_invocation
from smoll.errors import StateError, UsageError, disk_hint

_STYLES = ("table", "csv", "json", "parquet")


@click.command(epilog='Example: smoll sql --format csv "SELECT * FROM marts.delays" > delays.csv')
@click.argument("query", required=False)
@click.option("-f", "--file", type=click.File(encoding="utf-8"), help="Read the query from a file.")
@click.option("--release", metavar="N", type=int, help="Ask release N, not the current one.")
@click.option("--raw", is_flag=True, help="Ask the working warehouse: raw tables, and what is not released.")
@click.option(
    "--format", "style", type=click.Choice(_STYLES), show_default="by the name of --output, else table",
    help="table shows the first 100 rows; the others give every row, with exact values.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Write into FILE, which is replaced when all is written.",
)  # fmt: skip
@pass_invocation
def command(
    invocation: Invocation,
    query: str | None,
    file: TextIO | None,
    release: int | None,
    raw: bool,
    style: str | None,
    output: Path | None,
) -> int:
    """Answer QUERY from the release that readers see. `-` reads the query from stdin.

    Without a query it is a shell with completion and history; where stdin is no terminal, the query is read from it.

    Read-only, without access to files or the network, and within `resources.memory`.
    """
    if query is not None and file is not None:
        raise click.UsageError("Give one query: as the argument, with -f FILE, or - for stdin.")
    if raw and release is not None:
        raise click.UsageError("--raw asks the working warehouse, --release a release: give one of both.")
    style = style or _style_of(output)
    if style == "table" and output is not None:
        raise click.UsageError("A table is for the screen: write csv, json or parquet into a file.")
    from smoll.cli.answering import Answerer, Place

    project = invocation.open()
    place = Place(raw, release)
    if query is None and file is None and sys.stdin.isatty():
        if output is not None or not sys.stdout.isatty():
            raise click.UsageError("Give a query: as the argument, with -f FILE, or - for stdin.")
        from smoll.cli.shell import run_shell

        return run_shell(project, place, style)
    if style == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing to look at: write it into a file with -o FILE.")
    text = file.read() if file else sys.stdin.read() if query in (None, "-") else query
    with _whole(output) as staged, closing(Answerer(project)) as answerer:
        answered = answerer.answer(place, text or "", style, staged)
        if output is not None and answered.rows is None:
            raise UsageError("The query gives no rows, so there is nothing to write.")
    return 0


def _style_of(output: Path | None) -> str:
    if output is None:
        return "table"
    style = output.suffix.removeprefix(".").lower()
    if style not in _STYLES:
        raise click.UsageError(f"What to write into {output}? Say --format csv, json or parquet.")
    return style


@contextmanager
def _whole(output: Path | None) -> Iterator[Path | None]:
    """Give the name to write under: beside the file, which takes its place at the end. What is no file is opened."""
    if output is None or (output.exists() and not output.is_file()):
        yield output
        return
    from smoll.state.layout import fsync_path

    target = output.resolve()  # of a link, what it leads to
    staged = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        staged.touch(target.stat().st_mode & 0o777 if target.exists() else 0o666)
        yield staged
        fsync_path(staged)
        staged.replace(target)
        fsync_path(target.parent)
    except OSError as error:
        raise StateError(f"Cannot write {output}: {error.strerror}.", hint=disk_hint(error)) from error
    finally:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
