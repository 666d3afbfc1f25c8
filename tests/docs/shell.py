"""Runs the ``sh`` blocks of a page as its reader would, and compares what they print with the blocks below them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from docs.markdown import blocks

_EXIT = re.compile(r"# exit code (\d+)")
_RATE = re.compile(r"\b[\d,]+/s\b")
_TIME = re.compile(r"\b\d+(\.\d+)? (ms|s|min)\b|\b\d+ min \d+ s\b")


@dataclass
class Shell:
    """A shell with a clean environment and an empty home; it remembers where it is."""

    folder: Path
    home: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        tools = Path(sys.executable).parent
        self.environment = {"HOME": str(self.home), "PATH": f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin"}

    def read(self, page: str) -> None:
        """Run every ``sh`` block in turn. Asserts its exit code, and the ``text`` block that follows, if one does."""
        output = ""
        for block in blocks(page):
            if block.language == "sh":
                output = self.run(block.text)
            elif block.language == "text":
                missing = first_missing(block.text, output)
                assert missing is None, f"line {block.line}: {missing!r} is not (or not there) in:\n{output}"

    def run(self, script: str) -> str:
        """Run one block; it must end as its last ``# exit code N`` says, else with 0. Returns its stdout."""
        where = self.folder / ".pwd"
        whole = f"set -e\ntrap 'pwd >\"$1\"' EXIT\n{script}"
        cwd = Path(where.read_text().strip()) if where.exists() else self.folder
        done = subprocess.run(
            ["bash", "-c", whole, "bash", str(where)],
            cwd=cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said = _EXIT.findall(script)
        assert done.returncode == int(said[-1] if said else 0), f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def first_missing(shown: str, output: str) -> str | None:
    """The first shown line that the output does not have in its place; None where it has them all.

    Shown lines follow each other in the output; ``...`` alone stands for any lines, inside a line for any text.
    Runs of blanks count as one, and so do all durations, and all rates.
    """
    lines = [_plain(line) for line in output.splitlines()]
    position, skipping = 0, False
    for line in shown.splitlines():
        if line.strip() == "...":
            skipping = True
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in _plain(line).split("...")))
        places = range(position, len(lines)) if skipping else range(position, min(position + 1, len(lines)))
        found = next((place for place in places if pattern.fullmatch(lines[place])), None)
        if found is None:
            return line
        position, skipping = found + 1, False
    if position < len(lines) and not skipping:
        return lines[position]
    return None


def _plain(line: str) -> str:
    return _RATE.sub("(rate)", _TIME.sub("(time)", " ".join(line.split())))
