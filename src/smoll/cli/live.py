"""The live picture of a run on a terminal: what is going on now, and how far it is."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from smoll.cli.output import count, duration
from smoll.cli.pace import Pace, follow, words
from smoll.events import (
    CheckFinished,
    Event,
    Listener,
    LockWaiting,
    Message,
    NodeFinished,
    NodeStarted,
    ParseStarted,
    PortalStarted,
    ProfileStarted,
    Recovered,
    ReleaseFinished,
    ReleaseStarted,
    RunStarted,
    StreamFinished,
    StreamProgress,
    StreamStarted,
    TransformStarted,
)
from smoll.model import StreamRef

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND = 8
_BAR_WIDTH = 24
# More streams than this at once would push the rest off a small terminal.
_STREAMS_SHOWN = 8


@dataclass
class View:
    """What the picture shows. Filled by `update` from events, drawn by `draw`."""

    title: str = "Starting"
    loading: dict[StreamRef, StreamProgress] = field(default_factory=dict)
    paces: dict[StreamRef, Pace] = field(default_factory=dict)
    loaded: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    rejected: int = 0
    nodes: int = 0
    checks: int = 0
    building: dict[str, str] = field(default_factory=dict)
    built: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    parsing: bool = False
    releasing: int | None = None
    profiling: str = ""


@contextmanager
def listening(console: Console) -> Iterator[Listener]:
    """Give a listener that keeps a picture at the bottom of `console` until the block ends."""
    view, lock, began = View(), threading.Lock(), time.monotonic()

    def picture() -> RenderableType:
        with lock:
            return draw(view, time.monotonic() - began)

    def listen(event: Event) -> None:
        with lock:
            update(view, event)
        if isinstance(event, (Message, Recovered)):
            console.print(event.text if isinstance(event, Message) else f"Recovered: {event.message}")

    with Live(get_renderable=picture, console=console, transient=True, refresh_per_second=_FRAMES_PER_SECOND):
        yield listen


def update(view: View, event: Event) -> None:
    """Take one event into the picture."""
    match event:
        case LockWaiting(holder):
            view.title = f"Waiting for {holder}"
        case RunStarted(run, _):
            view.title = f"Run {run}"
        case StreamStarted(ref):
            view.paces.pop(ref, None)  # it may have failed before
            view.loading[ref] = StreamProgress(ref, rows=None, fraction=None, seconds=0.0)
        case StreamProgress(ref):
            view.loading[ref] = event
            view.paces[ref] = follow(view.paces.get(ref, Pace()), event)
        case StreamFinished(stream):
            view.loading.pop(stream.ref, None)
            view.paces.pop(stream.ref, None)
            view.loaded[stream.status] += 1
            view.rows += stream.rows
            view.rejected += stream.rejected
        case ParseStarted():
            view.parsing = True
        case TransformStarted(nodes, checks):
            view.parsing = False
            view.nodes, view.checks = nodes, checks
        case NodeStarted(id_, name, kind):
            if kind not in ("test", "unit_test", "check"):
                view.building[id_] = name
        case NodeFinished(node):
            view.building.pop(node.id, None)
            view.built[node.status] += 1
        case CheckFinished(check):
            view.checked[check.status] += 1
        case ReleaseStarted(tables):
            view.releasing, view.profiling = tables, ""
        case ProfileStarted(table, rows):
            view.profiling = f", profiling {table}: {count(rows, 'row')}"
        case PortalStarted():
            view.profiling = ", writing its pages"
        case ReleaseFinished():
            view.releasing = None


def draw(view: View, seconds: float) -> RenderableType:
    """Lay out the picture `seconds` after the start."""
    frame = _FRAMES[int(seconds * _FRAMES_PER_SECOND) % len(_FRAMES)]
    title = Text.assemble((frame, "cyan"), " ", (view.title, "bold"), (f"  {duration(seconds)}", "dim"))
    body = Table.grid(padding=(0, 2, 0, 0))
    body.add_column(style="dim", no_wrap=True)
    body.add_column(no_wrap=True, overflow="ellipsis")
    if view.loading or view.loaded:
        body.add_row("  Load", _loads(view))
    if view.parsing:
        body.add_row("  Build", "dbt reads the project")
    if view.nodes:
        body.add_row("  Build", _bar(view.built, view.nodes, ", ".join(view.building.values())))
    if view.checks:
        body.add_row("  Check", _bar(view.checked, view.checks, ""))
    if view.releasing is not None:
        body.add_row("  Release", f"hashing and copying {count(view.releasing, 'table')}{view.profiling}")
    return Group(title, body)


def _loads(view: View) -> RenderableType:
    done = sum(view.loaded.values())
    head = Text(f"{count(done, 'stream')} done, {count(view.rows, 'row')}")
    if view.rejected:
        head.append(f", {view.rejected:,} rejected", "yellow")
    head.append_text(_failed(view.loaded))
    streams = Table.grid(padding=(0, 2, 0, 0))
    streams.add_column()
    for _ in range(4):
        streams.add_column(justify="right")
    for progress in list(view.loading.values())[:_STREAMS_SHOWN]:
        streams.add_row(str(progress.ref), *words(view.paces.get(progress.ref, Pace()), progress))
    return Group(head, streams) if streams.row_count else head


def _bar(done: Counter[str], total: int, running: str) -> RenderableType:
    finished = sum(done.values())
    line = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=max(total, 1), completed=finished, width=_BAR_WIDTH, finished_style="green")
    text = Text.assemble(f"{finished}/{total}", _failed(done), (f"  {running}" if running else "", "dim"))
    line.add_row(bar, text)
    return line


def _failed(statuses: Counter[str]) -> Text:
    parts = Text()
    failed = statuses["failed"] + statuses["fail"] + statuses["error"]
    if failed:
        parts.append(f", {failed} failed", "red")
    if statuses["warn"]:
        parts.append(f", {statuses['warn']} warned", "yellow")
    return parts
