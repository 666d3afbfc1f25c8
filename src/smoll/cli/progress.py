"""Progress of a run, on stderr: one live picture on a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from smoll.cli import live
from smoll.cli.output import count, duration
from smoll.cli.pace import Pace, follow, words
from smoll.cli.summary import written
from smoll.events import (
    CheckFinished,
    CopyProgress,
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
    RunFinished,
    RunStarted,
    StreamFinished,
    StreamProgress,
    StreamStarted,
    TransformStarted,
)
from smoll.model import CheckResult, NodeResult, ReleaseOutcome, StreamRef, StreamResult

# A log wants to know that a long load is alive, not every second of it.
_SECONDS_BETWEEN_PROGRESS_LINES = 10.0


@contextmanager
def listening(console: Console) -> Iterator[Listener]:
    """Give a listener that shows a run on `console`; a live picture is gone when the block ends."""
    if console.is_interactive:
        with live.listening(console) as listener:
            yield listener
    else:
        yield plain(lambda line: print(line, file=console.file, flush=True))


def plain(write: Callable[[str], None]) -> Listener:
    """Give a listener that writes one line per event, without its line end."""
    last_line_at: dict[StreamRef, float] = {}
    paces: dict[StreamRef, Pace] = {}

    def listen(event: Event) -> None:
        if isinstance(event, StreamStarted):  # it may have failed before
            last_line_at.pop(event.ref, None)
            paces.pop(event.ref, None)
        if isinstance(event, StreamProgress):
            pace = paces[event.ref] = follow(paces.get(event.ref, Pace()), event)
            if event.seconds - last_line_at.get(event.ref, 0.0) < _SECONDS_BETWEEN_PROGRESS_LINES:
                return
            last_line_at[event.ref] = event.seconds
            line = _progress(event, pace)
        else:
            line = describe(event)
        if line:
            # One line per event, so that grep and log collectors see whole messages.
            write(" ".join(line.split()))

    return listen


def describe(event: Event) -> str:
    """One event in words; empty for those that say nothing new (something begins, a check passed)."""
    match event:
        case LockWaiting(holder):
            return f"waiting: {holder} holds the project"
        case RunStarted(run, select):
            return f"run {run} {select}".rstrip()
        case Recovered(message):
            return f"recovered: {message}"
        case Message(text, level):
            return text if level == "info" else f"{level}: {text}"
        case StreamProgress():
            return _progress(event, Pace())
        case StreamFinished(stream):
            return _stream(stream)
        case TransformStarted(nodes, checks):
            return f"build {count(nodes, 'node')}, {count(checks, 'check')}"
        case NodeFinished(node):
            return _node(node)
        case CheckFinished(check):
            return _check(check)
        case ReleaseStarted(tables):
            return f"release {count(tables, 'table')}"
        case ReleaseFinished(outcome):
            return _release(outcome)
        case StreamStarted() | ParseStarted() | NodeStarted() | CopyProgress() | RunFinished():
            return ""
        case ProfileStarted() | PortalStarted():
            return ""


def _progress(progress: StreamProgress, pace: Pace) -> str:
    known = ", ".join(filter(None, words(pace, progress)))
    return f"load {progress.ref}: {known or f'{duration(progress.seconds)} so far'}"


def _stream(stream: StreamResult) -> str:
    if stream.status == "loaded":
        rejected = f", {stream.rejected:,} rejected," if stream.rejected else ""
        text = f"loaded {stream.ref}: {written(stream)}{rejected} in {duration(stream.seconds)}"
        return "; ".join([text, *stream.notes])
    word = "FAILED" if stream.status == "failed" else stream.status
    return f"{word} {stream.ref}" + (f": {stream.error}" if stream.error else "")


def _node(node: NodeResult) -> str:
    if node.status == "success":
        return f"built {node.kind} {node.name} in {duration(node.seconds)}"
    word = "FAILED" if node.status == "error" else "skipped"
    return f"{word} {node.kind} {node.name}" + (f": {node.message}" if node.message else "")


def _check(check: CheckResult) -> str:
    if check.status == "pass":
        return ""  # dozens of them; the summary has their number
    word = {"warn": "warning", "skipped": "skipped"}.get(check.status, "FAILED")
    return f"{word} check {check.name}" + (f": {check.message}" if check.message else "")


def _release(outcome: ReleaseOutcome) -> str:
    if outcome.status == "published":
        return f"released {outcome.number}: {outcome.path}"
    if outcome.status == "refused":
        reasons = "; ".join(f"{refusal.subject}: {refusal.reason}" for refusal in outcome.refusals)
        return f"REFUSED to release: {reasons}"
    word = {"staged": f"staged {outcome.number}, held", "unchanged": "nothing changed, no release"}
    return word.get(outcome.status, "nothing released") + (f": {outcome.message}" if outcome.message else "")
