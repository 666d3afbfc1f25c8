"""The command line. Everything it does, the Python API does too.

A command lives in the module of its name. It parses, calls one function of the API, prints, and
returns its exit code; errors become exit codes in `smoll.cli.failure` alone.
"""

from __future__ import annotations

import difflib
import importlib
import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from smoll.cli import failure
from smoll.cli.context import Invocation

# In the order in which a newcomer meets them.
COMMANDS = (
    *("init", "add", "run", "sql", "status", "generate", "rejects", "state", "check", "connectors"),
    *("runs", "checks", "releases", "release", "diff", "profile", "suggest", "rollback", "undo", "gc"),
    *("backup", "restore", "up", "open", "doctor"),
)


class _Lazy(click.Group):
    """A group that imports a command's module only when the command is named (or help lists it)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"smoll.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if near and near[0] != args[0]:
            raise click.UsageError(f"No such command '{args[0]}'. Did you mean '{near[0]}'?", ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import smoll

        click.echo(f"smoll {smoll.__version__}")
        ctx.exit()


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: smoll init flights --template flights && smoll --project flights run",
)
@click.option(
    "--project",
    "path",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The project's folder. Default: the nearest folder upwards that has a smoll.yml.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Print the version and leave.",
)  # fmt: skip
@click.pass_context
def group(ctx: click.Context, path: Path | None) -> None:
    """Run a data platform in one folder: sources in, audited releases out."""
    ctx.ensure_object(Invocation).path = path


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    args
        The words after ``smoll``. Default: those of this process.

    Returns
    -------
    int
        The exit code: 0 well, 1 a step or check failed, 2 wrong usage or configuration, 3 a bug,
        130 interrupted, 141 the reader of stdout went away.
    """
    words = list(sys.argv[1:] if args is None else args)
    invocation = Invocation()
    _prepare_process()
    try:
        with group.make_context("smoll", list(words), obj=invocation) as ctx:
            code = group.invoke(ctx)
        sys.stdout.flush()  # here, where a closed pipe or a full disk is still handled
    except click.exceptions.Exit as done:
        return done.exit_code
    except (Exception, KeyboardInterrupt) as error:
        return failure.report(error, invocation, as_json="--json" in words)
    return int(code or 0)


def _prepare_process() -> None:
    # A service manager stops a run as a person does; both take the same, tested way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The same bytes under cron (no locale) as on a terminal; a file name that is no UTF-8 is shown escaped.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
