"""`smoll sql` for many queries, each in a process of its own that is forked from a prepared one.

Arguments: the project's folder, and options of `smoll sql`. Reads a JSON list of queries from stdin; prints for each
its exit code, its output and the most memory that it had, in bytes, one JSON list a line.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CPU_SECONDS = 40


@dataclass(frozen=True)
class Answer:
    """How one query ended. ``code`` is below 0 where a signal ended it."""

    code: int
    output: str
    memory: int


def ask(root: Path, queries: Sequence[str], *options: str, env: Mapping[str, str] | None = None) -> list[Answer]:
    """Ask every query by itself."""
    command = [sys.executable, __file__, str(root), *options]
    environ = {**os.environ, **(env or {})}
    text = json.dumps(list(queries))
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=900, env=environ)
    assert done.returncode == 0, done.stderr
    return [Answer(*json.loads(line)) for line in done.stdout.splitlines()]


def _answer(words: Sequence[str], into: IO[bytes]) -> tuple[int, int]:
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        for number in (1, 2):
            os.dup2(into.fileno(), number)
        code = importlib.import_module("smoll.cli").main(words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024


def _main(root: str, *options: str) -> None:
    queries = json.load(sys.stdin)
    for name in ("duckdb", "smoll.api", "smoll.cli.sql", "smoll.cli.results"):
        importlib.import_module(name)
    importlib.import_module("smoll").open_project(root)
    for query in queries:
        with tempfile.TemporaryFile() as into:
            code, memory = _answer(["--project", root, "sql", "--format", "csv", *options, query], into)
            into.seek(0)
            print(json.dumps([code, into.read().decode("utf-8", "replace"), memory]), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
