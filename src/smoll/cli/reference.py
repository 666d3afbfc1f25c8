"""Writes docs/cli.md from the commands themselves: ``python -m smoll.cli.reference > docs/cli.md``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from smoll.cli import group

_WIDTH = 96
_HEAD = """\
# Command line

<!-- Written by `python -m smoll.cli.reference > docs/cli.md`; a test fails when it is stale. -->

`smoll [--project DIR] COMMAND`. stdout is data, stderr is talk: a result can be piped, and progress
and errors never get into it. No command ever asks a question, so every one works in a script. With
`--json` an error is a JSON document on stdout too:
`{"error": {"message": ..., "hint": ..., "exit_code": ...}}`.

| exit code | meaning |
| --- | --- |
| 0 | all well |
| 1 | a step or a check failed; nothing was released, unless no released table has to do with it (`Released` says) |
| 2 | wrong usage or configuration; nothing was changed |
| 3 | a bug in smoll; the message names a log file with the details |
| 130 | interrupted, by Ctrl-C or by SIGTERM; what was committed stays |
| 141 | whoever read stdout had enough (`smoll sql ... \\| head`) |

Colours follow the terminal; `NO_COLOR=1` turns them off.
"""


def render() -> str:
    """Write the whole page."""
    return _HEAD + "".join(_section(path, context) for path, context in commands())


def commands() -> Iterator[tuple[str, click.Context]]:
    """Every command that can be typed, as ``("smoll runs show", its context)``, the group itself first."""
    yield from _walk(click.Context(group, info_name="smoll", terminal_width=_WIDTH, help_option_names=["-h", "--help"]))


def _walk(context: click.Context) -> Iterator[tuple[str, click.Context]]:
    yield context.command_path, context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None, name
            yield from _walk(click.Context(command, parent=context, info_name=name, terminal_width=_WIDTH))


def _section(path: str, context: click.Context) -> str:
    return f"\n## {path}\n\n```text\n{context.get_help()}\n```\n"


if __name__ == "__main__":
    print(render(), end="")
