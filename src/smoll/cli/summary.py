"""What one run did, for people: at the end of ``smoll run`` and in ``smoll runs show``."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from smoll.cli.output import MARKS, ago, count, duration, labelled, mark
from smoll.model import (
    CheckResult,
    CheckStatus,
    NodeResult,
    Refusal,
    ReleaseOutcome,
    RunResult,
    StreamResult,
    StreamStatus,
)

_VERDICT = {
    "ok": "ok",
    "failed": "failed",
    "refused": "refused: nothing was released",
    "interrupted": "interrupted",
    "running": "still running",
    "killed": "killed",
}
_TELLING_ROWS = 10_000
_WAITING_SHOWN = 5
_REMEDIES_SHOWN = 2
_CHECK_WORDS: dict[CheckStatus, str] = {
    "pass": "passed",
    "fail": "failed",
    "error": "could not run",
    "warn": "warned",
    "skipped": "skipped",
}


def summary(result: RunResult, *, full: bool = False) -> RenderableType:
    """Lay out a run.

    Parameters
    ----------
    result
        The run.
    full
        Name every model and check, not only those that need a look.
    """
    sections: list[tuple[str, RenderableType]] = []
    if result.streams:
        sections.append(("Loaded", _loaded(result.streams, full)))
    if result.nodes:
        sections.append(("Built", _built(result.nodes, full)))
    if result.checks:
        sections.append(("Checked", _checked(result.checks, full)))
    sections.append(_released(result.release))
    if result.error:
        sections.append(("Error", Text(result.error, "red")))
    return Group(_title(result), Text(), labelled(sections))


def _title(result: RunResult) -> Text:
    line = Text.assemble(mark(result.status), " ", (f"Run {result.run}", "bold"), " ")
    line.append(_VERDICT[result.status], MARKS[result.status][1])
    line.append(f"  {duration(result.seconds)}", "dim")
    if result.select:
        line.append(f"  {result.select}", "dim")
    if result.undone:
        line.append(f"  undone {ago(result.undone)}", "yellow")
    return line


def _loaded(streams: Sequence[StreamResult], full: bool) -> RenderableType:
    by_status = Counter(stream.status for stream in streams)
    rows = sum(stream.rows for stream in streams if stream.status == "loaded")
    parts = [f"{count(by_status['loaded'], 'stream')}, {count(rows, 'row')}"] if by_status["loaded"] else []
    rejected = sum(stream.rejected for stream in streams)
    parts += [f"{rejected:,} rejected"] if rejected else []
    others: tuple[StreamStatus, ...] = ("unchanged", "failed", "skipped")
    parts += [f"{by_status[status]} {status}" for status in others if by_status[status]]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column()
    shown = [stream for stream in streams if stream.status == "loaded" or (full and stream.status == "unchanged")]
    rates, cursors = any(map(_rate, shown)), any(stream.cursor for stream in shown)
    # A column without a character would take the width of another.
    for _ in range(3 if rates else 2):
        grid.add_column(justify="right")
    if rejected:
        grid.add_column()
    if cursors:
        grid.add_column(overflow="ellipsis", no_wrap=True)
    for stream in shown:
        name = Text.assemble(mark(stream.status), " ", str(stream.ref))
        cells = [Text(_rate(stream), "dim")] if rates else []
        cells += [Text(duration(stream.seconds), "dim"), *([_rejected(stream)] if rejected else [])]
        cells += [Text(stream.cursor, "dim")] if cursors else []
        grid.add_row(name, written(stream), *cells)
    lines: list[RenderableType] = [Text(", ".join(parts))]
    lines += [grid] if grid.row_count else []
    for stream in streams:
        lines += [Text(f"! {stream.ref}: {note}", "yellow") for note in stream.notes]
        if stream.status in ("failed", "skipped"):
            lines.append(_item(stream.status, str(stream.ref), stream.error))
    return Group(*lines)


def written(stream: StreamResult) -> str:
    """``336,776 rows``, or ``12 rows of 1,000 read`` where a stream gave more than was new."""
    if stream.status != "loaded":
        return stream.status
    more = f" of {stream.read:,} read" if stream.read > stream.rows + stream.rejected else ""
    return count(stream.rows, "row") + more


def _rate(stream: StreamResult) -> str:
    """How fast it was read; of a few rows it says nothing."""
    return f"{stream.rate:,.0f}/s" if stream.read >= _TELLING_ROWS else ""


def _rejected(stream: StreamResult) -> Text:
    command = f"smoll rejects {shlex.quote(str(stream.ref))}"
    return Text(f"{stream.rejected:,} rejected ({command})", "yellow") if stream.rejected else Text()


def _built(nodes: Sequence[NodeResult], full: bool) -> RenderableType:
    kinds = Counter(node.kind for node in nodes if node.status == "success")
    parts = [count(number, kind) for kind, number in kinds.items()] or ["nothing"]
    skipped = sum(node.status == "skipped" for node in nodes)
    parts += [f"{skipped} skipped"] if skipped else []
    shown = [node for node in nodes if full or node.status == "error"]
    return Group(Text(", ".join(parts)), *(_node(node) for node in shown))


def _node(node: NodeResult) -> RenderableType:
    # dbt's message of a good model ("OK", "SELECT 3") says nothing that its mark does not.
    message = "" if node.status == "success" else node.message
    return _item(node.status, node.name, message, node.seconds)


def _checked(checks: Sequence[CheckResult], full: bool) -> RenderableType:
    by_status = Counter(check.status for check in checks)
    parts = [f"{by_status[status]} {word}" for status, word in _CHECK_WORDS.items() if by_status[status]]
    shown = [check for check in checks if full or check.status in ("fail", "error", "warn")]
    return Group(Text(", ".join(parts)), *(_item(c.status, c.name, c.message, c.seconds) for c in shown))


def _item(status: str, name: str, message: str, seconds: float = 0.0) -> RenderableType:
    """One line with its mark, and what it has to say under it."""
    line = Text.assemble(mark(status), " ", name)
    if seconds >= 0.05:
        line.append(f"  {duration(seconds)}", "dim")
    if not message.strip():
        return line
    return Group(line, Padding(Text(message.strip(), "dim" if status == "skipped" else ""), (0, 0, 0, 2)))


def _released(outcome: ReleaseOutcome) -> tuple[str, RenderableType]:
    note = [Text(outcome.message, "dim")] if outcome.message else []
    if outcome.status == "published":
        line = Text(f"release {outcome.number}", "bold green")
        line.append(f", {count(len(outcome.tables), 'table')}", "none")
        return "Released", Group(line, Text(outcome.path, "dim"), *note)
    if outcome.status == "staged":
        line = Text(f"release {outcome.number} is built; a hold keeps readers on the one they have", "yellow")
        return "Staged", Group(line, Text(outcome.path, "dim"), *note)
    if outcome.status == "unchanged":
        return "Released", Text(outcome.message or "Nothing changed, so no new release.")
    if outcome.status == "refused":
        head = Text("nothing; readers keep the release they have", "red")
        return "Released", Group(head, *_refusals(outcome.refusals), *note)
    return "Released", Group(Text("nothing"), *note)


def _refusals(refusals: Sequence[Refusal]) -> Iterable[RenderableType]:
    """Show what is wrong; of what only waits for it, the number."""
    wrong = [refusal for refusal in refusals if not refusal.stale]
    waiting = [refusal for refusal in refusals if refusal.stale]
    for refusal in wrong or waiting[:_WAITING_SHOWN]:
        yield _item("refused", refusal.subject, refusal.reason)
    rest = len(waiting) if wrong else len(waiting) - _WAITING_SHOWN
    if rest > 0:
        yield Text(f"· and {count(rest, 'model or check', 'models and checks')} not built or run since", "dim")


def next_steps(result: RunResult, *, can_undo: bool = False) -> tuple[tuple[str, str], ...]:
    """Name the commands worth typing after a run, each with what it is for.

    Parameters
    ----------
    can_undo
        A copy of the warehouse from before this run is kept.
    """
    undo = (("smoll undo", "or take back what this run did to the warehouse"),) if can_undo else ()
    record = (f"smoll runs show {result.run}", "every model and check of this run")
    release = result.release
    if result.status == "interrupted":
        return (("smoll run", "goes on; what was loaded stays loaded"),)
    failed = _failed_check(result)
    if release.status == "refused":
        remedies = ((remedy, _why(remedy)) for remedy in _remedies(release.refusals))
        return (*failed, *remedies, *undo, record)
    if result.status != "ok":
        return (*failed, record, ("smoll check", "looks at configuration, connections and dbt"))
    if release.status == "published":
        return (
            ("smoll open", "the release's portal: dashboards, catalog, lineage, checks"),
            (f'smoll sql "FROM {release.tables[0]} LIMIT 10"', "what readers see now"),
            (f"smoll release show {release.number}", "its tables, rows and hashes"),
            record,
        )
    if release.status == "staged":
        return (("smoll release resume", "lets readers see it"),)
    return ()


def _why(remedy: str) -> str:
    return "if readers can do without it" if "--allow-breaking" in remedy else "once the cause is mended"


def _failed_check(result: RunResult) -> tuple[tuple[str, str], ...]:
    """The command that shows the rows on which a check failed."""
    failed = [check.name for check in result.checks if check.status in ("fail", "error")]
    if not failed:
        return ()
    if len(failed) > 1:
        return (("smoll checks", "what each check said; with a name, the rows on which it failed"),)
    return ((f"smoll checks {shlex.quote(failed[0])}", "the rows on which it failed"),)


def _remedies(refusals: Sequence[Refusal]) -> list[str]:
    """The commands that mend what is wrong; where they are many, the one that does everything."""
    causes = [refusal for refusal in refusals if not refusal.stale] or refusals
    found = list(dict.fromkeys(refusal.remedy for refusal in causes if refusal.remedy))
    if len(found) <= _REMEDIES_SHOWN:
        return found
    return ["smoll run --full-refresh" if any("--full-refresh" in remedy for remedy in found) else "smoll run"]


def steps(pairs: Iterable[tuple[str, str]]) -> RenderableType:
    """Lay out the next steps; nothing where there are none."""
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="cyan", overflow="fold")
    grid.add_column(style="dim")
    for command, purpose in pairs:
        grid.add_row(command, purpose)
    return Group(Text(), labelled([("Next", grid)])) if grid.row_count else Group()
