"""What the tests of the documentation need to know of Markdown: fenced blocks, headings, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of its first line in the page."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page that a reader of the repository meets."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    return sorted([*found, *(ROOT / "src" / "smoll" / "templates").rglob("*.md")])


def blocks(text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        yield Block(match[1], match[2], text.count("\n", 0, match.start()) + 2)


def prose(text: str) -> str:
    """The page without its fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors that a git host makes of the headings."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section(text: str, name: str) -> str:
    """The lines between ``<!-- name: begin -->`` and ``<!-- name: end -->``, after as many blank ones as precede it."""
    before, begun, rest = text.partition(f"<!-- {name}: begin -->\n")
    inside, ended, _ = rest.partition(f"<!-- {name}: end -->")
    assert begun and ended, f"the section {name} is not marked"
    return "\n" * (before + begun).count("\n") + inside
