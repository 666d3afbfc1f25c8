"""From an error to an exit code and a few calm lines. Nobody but a bug report sees a traceback."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
import traceback
from datetime import datetime
from pathlib import Path

import click

from smoll.cli.context import Invocation
from smoll.errors import Interrupted, SmollError, disk_error

# What a shell reports of a program that SIGPIPE ended: the reader of stdout had enough.
BROKEN_PIPE = 141
BUG = 3


def report(error: BaseException, invocation: Invocation, *, as_json: bool) -> int:
    """Say what went wrong: text on stderr, or with `as_json` one JSON document on stdout.

    Returns the exit code. Writes a log file only for a bug, that is for an exception that nobody
    raised on purpose.
    """
    if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ENOSPC):
        _abandon_stdout()
        if error.errno == errno.EPIPE:
            return BROKEN_PIPE
    message, hint, code = _explain(error, invocation)
    if as_json:
        click.echo(json.dumps({"error": {"message": message, "hint": hint, "exit_code": code}}))
    elif isinstance(error, click.ClickException):
        error.show()
    else:
        click.echo(f"Error: {message}" + (f"\n  {hint}" if hint else ""), err=True)
    return code


def _explain(error: BaseException, invocation: Invocation) -> tuple[str, str, int]:
    if isinstance(error, SmollError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"Try '{context.command_path} --help'." if context else ""
        return error.format_message(), hint, error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "Interrupted.", "", Interrupted.exit_code
    if disk := disk_error(error):
        return disk.message, disk.hint, disk.exit_code
    what = _redact("".join(traceback.format_exception_only(error)).strip(), invocation)
    log = write_log(_redact("".join(traceback.format_exception(error)), invocation), invocation.root())
    return f"A bug in smoll: {what.splitlines()[0]}", f"Please report it with the log: {log}", BUG


def _redact(text: str, invocation: Invocation) -> str:
    """Foreign exceptions like to quote a connection URL, password included."""
    return invocation.project.config.redact(text) if invocation.project else text


def write_log(text: str, root: Path | None) -> Path:
    """Keep a traceback under the project's ``.smoll/logs/``, or in a temporary file where that fails.

    Returns
    -------
    Path
        The new file. It holds the versions and the command's words too.
    """
    from smoll.doctor import versions

    lines = [f"{name} {version}" for name, version in versions().items()]
    content = "\n".join([f"Python {sys.version}", f"platform {sys.platform}", *lines, "", text])
    name = f"bug-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    try:
        if root is None:
            raise FileNotFoundError("no project")
        path = root / ".smoll" / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", errors="backslashreplace")
    except OSError:
        handle, temporary = tempfile.mkstemp(prefix="smoll-", suffix=".log")
        path = Path(temporary)
        os.close(handle)
        path.write_text(content, encoding="utf-8", errors="backslashreplace")
    return path


def _abandon_stdout() -> None:
    """Keep the interpreter from meeting the same dead stdout again in its last flush."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
