"""What the commands share while one of them runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from smoll.api import Project
    from smoll.events import Event


@dataclass
class Invocation:
    """One call of ``smoll``: the folder it was told, and the project once it is open."""

    path: Path | None = None
    project: Project | None = None

    def open(self) -> Project:
        """Open the project. Raises UsageError (no project here) and ConfigError."""
        import smoll

        self.project = smoll.open_project(self.path)
        return self.project

    def root(self) -> Path | None:
        """Find the project's folder without reading anything in it; None where there is none.

        For what must work when the configuration, or smoll itself, is broken: doctor and crash logs.
        """
        start = (self.path or Path.cwd()).absolute()
        candidates = [start] if self.path else [start, *start.parents]
        return next((folder for folder in candidates if (folder / "smoll.yml").is_file()), None)


pass_invocation = click.make_pass_decorator(Invocation)


def json_option(function: Any) -> Any:
    """``--json``, the same on every command that reports."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
    )(function)  # fmt: skip


def no_wait_option(function: Any) -> Any:
    """``--wait`` (the default) and ``--no-wait``, the same on every command that takes the project's lock."""
    return click.option(
        "--no-wait/--wait", default=False,
        help="Fail at once when a run holds the project, or wait for its end (the default).",
    )(function)  # fmt: skip


def tell(event: Event) -> None:
    """Say on stderr what happens, for commands without progress bars: that another run is waited for."""
    from smoll.cli.progress import describe

    click.echo(describe(event), err=True)
