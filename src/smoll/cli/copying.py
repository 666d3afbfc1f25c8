"""How far a backup or a restore is, in one line on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from smoll.cli.output import console
from smoll.cli.progress import describe
from smoll.events import CopyProgress, Event, Listener


@contextmanager
def showing(title: str) -> Iterator[Listener]:
    """Give a listener that keeps a bar on stderr until the block ends; elsewhere it only says who is waited for."""
    err = console(stderr=True)
    columns = (TextColumn(title), BarColumn(24), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=None, visible=False)

        def listen(event: Event) -> None:
            if isinstance(event, CopyProgress):
                bar.update(task, completed=event.done, total=event.total, visible=True)
            elif err.is_terminal:
                bar.print(describe(event))
            else:
                click.echo(describe(event), err=True)

        yield listen
