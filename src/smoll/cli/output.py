"""How things look in text: numbers, times, tables. stdout is data, stderr is talk."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, Any, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from smoll.model import Finding, ReleaseEntry, to_json

# Of every status that model.py knows: a mark and a colour. The mark alone says it, for those without colour.
MARKS = {
    **dict.fromkeys(("ok", "pass", "success", "loaded", "published"), ("✓", "green")),
    **dict.fromkeys(("failed", "fail", "error", "refused", "killed"), ("✗", "red")),
    **dict.fromkeys(("warn", "note", "interrupted", "staged"), ("!", "yellow")),
    **dict.fromkeys(("unchanged", "skipped", "none", "running"), ("·", "dim")),
}
# Data must not drive the terminal: control characters but the line end become pictures (U+2400 and on).
VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) != "\n"} | {127: 0x2421}
# A file or a pipe has no width; nothing is folded there.
_ENDLESS = 10_000


def console(*, stderr: bool = False) -> Console:
    """Make a console that prints text as it is: no markup, emoji codes or guessed colours in data."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(file=stream, markup=False, emoji=False, highlight=False)
    return Console(file=cast(IO[str], _Trimmed(stream)), width=_ENDLESS, markup=False, emoji=False, highlight=False)


class _Trimmed(io.TextIOBase):
    """A stream without the blanks that a table leaves at the ends of its lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(r" +(?=\n)", "", text))

    def flush(self) -> None:
        self._stream.flush()


def print_json(value: Any) -> None:
    """Print one value of `smoll.model` (or a sequence of them) as one JSON document."""
    print(json.dumps(to_json(value), indent=2, ensure_ascii=False))


def mark(status: str) -> Text:
    """Give the mark of a status, coloured."""
    sign, style = MARKS[status]
    return Text(sign, style)


def marks_of(release: ReleaseEntry) -> str:
    """What sets a release apart: ``current, pinned``."""
    return ", ".join(name for name in ("current", "held", "pinned") if getattr(release, name))


def visible(text: str) -> Text:
    """Text from a source as one line in which nothing is hidden."""
    return Text(text.translate(VISIBLE | {ord("\n"): 0x240A}))


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 row``, ``336,776 rows``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """``0.4 s``, ``41 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(number: int) -> str:
    """Bytes for people, in powers of ten as disks are sold: ``36 kB``, ``1.2 GB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def when(moment: datetime) -> str:
    """Show a moment in local time, to the minute."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def ago(moment: datetime) -> str:
    """How long ago a moment was: ``4 min ago``. A moment without a zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = max(0, round((datetime.now(UTC) - aware).total_seconds()))
    for limit, unit, noun in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit} {noun} ago"
    return f"{seconds // 86_400} days ago"


def table(headers: Sequence[str], rows: Iterable[Sequence[RenderableType]], right: Sequence[str] = ()) -> Table:
    """Make a table without lines; the columns named in `right` are numbers."""
    result = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for header in headers:
        result.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


def labelled(pairs: Iterable[tuple[str, RenderableType]]) -> Table:
    """Two columns: a quiet label and what it stands for."""
    result = Table.grid(padding=(0, 3, 0, 0))
    result.add_column(style="dim", no_wrap=True)
    result.add_column(overflow="fold")
    for label, value in pairs:
        result.add_row(label, value)
    return result


def findings(items: Iterable[Finding]) -> Table:
    """Lay out the findings of ``check`` and ``doctor``, each with its hint under it."""
    result = Table.grid(padding=(0, 2, 0, 0))
    for item in items:
        lines = [Text(item.message)] + ([Text(item.hint, "dim")] if item.hint else [])
        result.add_row(mark(item.level), item.topic, Group(*lines))
    return result
