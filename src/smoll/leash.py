"""Processes that end with the one that started them, however that ends. Nothing may outlive its purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

_ISOLATED = (sys.executable, "-I", "-S", "-c")
_LEASH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"it cannot be started: {error.strerror}")
"""
"""Becomes the program, after it has asked Linux to end it with the process that started it, however that ends
(PR_SET_PDEATHSIG)."""
_PR_SET_PDEATHSIG = 1
_GUARDIAN = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""
"""Is told of groups of processes, and ends those that are left when whoever told it has gone."""


def leashed(command: Sequence[str]) -> list[str]:
    """Give the command that runs `command` on a leash: it is killed when the thread that starts it ends, or is killed.

    Linux only; elsewhere the command itself. The program's own children are not on the leash: see `Guardian`.
    """
    leash = [*_ISOLATED, _LEASH, str(os.getpid())] if sys.platform == "linux" else []
    return [*leash, *command]


def follow(parent: int) -> None:
    """Let this process, which `parent` has forked, be killed when that ends. Linux only; elsewhere nothing happens."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


class Guardian:
    """A small process that kills whole groups of processes when this process has gone without a word.

    The leash holds a program, but not what the program starts in turn, and exists on Linux only.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [*_ISOLATED, _GUARDIAN],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not reach it
            text=True,
            bufsize=1,
        )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """Kill this group of processes, too, when this process has gone."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Leave this group alone from now on: it has ended, and its number may be given to another."""
        self._tell(f"-{group}\n")

    def dismiss(self) -> None:
        """End it. What it watches is killed."""
        assert self._process.stdin
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        with suppress(OSError):  # somebody killed it: the leash is left
            self._process.stdin.write(line)
