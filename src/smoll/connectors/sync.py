"""One sync of a connector, whatever protocol it speaks: choose streams, run it, keep its records, hand them on.

`singer` and `airbyte` say how to start the connector and how to read what it writes. State, journal and what becomes of
a connector that fails are the same for both, and lie here.
"""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from smoll.connector import Extract, Reading, StreamPlan, apply_naming, plan_stream
from smoll.connectors.environment import Program
from smoll.connectors.journal import Journal, open_journal
from smoll.connectors.process import Output, running
from smoll.connectors.records import empty_part, parts_of
from smoll.errors import LoadError
from smoll.model import StreamRef, quote
from smoll.project import EVERY, ProgramBase, ProgramStream
from smoll.project.common import KEYED
from smoll.state.layout import Layout
from smoll.warehouse import columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SECONDS_BETWEEN_NEWS = 0.3
_WRITTEN_AT_ONCE = 1 << 19
_DELETED = ("_sdc_deleted_at", "_ab_cdc_deleted_at")
"""The fields by which Singer's taps and Airbyte's connectors mark a row that was deleted."""

FRESH = "fresh"
"""Marks a catalog, and the plans made from it, that was asked for in this run: it need not be asked for again."""

Hides = Callable[[str], bool]
"""Tells the fields of a stream that are left out."""


@dataclass(frozen=True)
class Slices:
    """A connector's state, taken apart: what belongs to one stream, and what is for all of them."""

    own: Mapping[str, Any] = field(default_factory=dict)
    shared: Any = None


class Reader(Protocol):
    """Reads what a connector writes, and puts its records and states into the journal."""

    sent: set[str]
    """The streams that the connector has begun to send."""

    def feed(self, lines: Sequence[bytes]) -> None:
        """Take lines of its output. Raises LoadError where they are no messages of the protocol."""
        ...

    def failed(self) -> Mapping[str, LoadError]:
        """The streams that failed by themselves, by the connector's own words."""
        ...

    def is_done(self, stream: str) -> bool:
        """True where the connector said that the stream is read whole."""
        ...

    def failure(self) -> str:
        """What the connector itself said of its failure; "" where it said nothing."""
        ...

    def notes(self, stream: str) -> Sequence[str]:
        """What people should know of a stream."""
        ...

    def expected(self, stream: str, rows: int, size: int) -> int | None:
        """How many bytes the stream will have, where so much came already; None where nobody knows."""
        ...

    def is_complete(self, stream: str) -> bool:
        """True where the records of this sync are everything that the stream has."""
        ...


@dataclass(frozen=True)
class Session:
    """How one connector is spoken to.

    Parameters
    ----------
    asked
        What it is asked for beside the state, as JSON: configuration and catalog.
    command
        Its command line, given a state, or None for none.
    reader
        Makes the reader of its output.
    apart, together
        Take its state apart, and put it together again.
    hide
        Takes secrets out of what it says.
    after
        Called when it has ended, however it did.
    new
        Streams that it has, and had not when it was asked before.
    shares
        What the state shares says how far every stream has come, and not only what belongs to none.
    """

    program: Program
    asked: Mapping[str, Any]
    command: Callable[[Any], Sequence[str]]
    reader: Callable[[Journal, Output], Reader]
    apart: Callable[[Any], Slices]
    together: Callable[[Slices], Any]
    hide: Callable[[str], str] = lambda text: text
    after: Callable[[], None] = lambda: None
    new: Sequence[str] = ()
    shares: bool = False


@contextmanager
def attach(name: str, source: ProgramBase, root: Path, connection: DuckDBPyConnection) -> Iterator[None]:
    """Nothing has to be attached: a connector connects by itself."""
    yield


# --- which streams and fields ---------------------------------------------------------------------------------------


def chooses(source: ProgramBase, stream: str) -> bool:
    """True where `streams`, `select` and `exclude` of the source choose the stream."""
    named = stream in source.streams or EVERY in source.streams  # type: ignore[attr-defined]
    wished = {each[:place] for each in source.select for place, sign in enumerate(each) if sign == "."}  # stream.field
    selected = any(fnmatchcase(stream, each) for each in (*source.select, *wished))
    left_out = any(fnmatchcase(stream, each) or each == f"{stream}.*" for each in source.exclude)
    return named and selected and not left_out


def hidden_fields(source: ProgramBase, stream: str, kept: Sequence[str]) -> Hides:
    """Tells which fields of a stream `select` and `exclude` leave out. Those in `kept` never are.

    A field inside of an object is named by its path: ``address.city``.
    """
    whole = any(fnmatchcase(stream, each) for each in source.select)

    def hides(path: str) -> bool:
        if path in kept:
            return False
        name = f"{stream}.{path}"
        if any(fnmatchcase(name, each) and not fnmatchcase(stream, each) for each in source.exclude):
            return True
        inside = any(each.startswith(f"{name}.") for each in source.select)
        above = [name, *(f"{stream}.{path[:place]}" for place, sign in enumerate(path) if sign == ".")]
        return not (whole or inside or any(fnmatchcase(one, each) for one in above for each in source.select))

    return hides


def require_key(ref: StreamRef, mode: str, key: Sequence[str], program: str) -> None:
    """Raise LoadError where rows are to be told apart, and neither the options nor the program say by what."""
    if mode in KEYED and not key:
        raise LoadError(
            f"{ref}: mode {mode} needs a key, and the {program} names none.",
            hint=f"Set it in smoll.yml: streams: {{{ref.stream}: {{key: ...}}}}, or mode: append.",
        )


def planned(
    source: ProgramBase,
    ref: StreamRef,
    options: ProgramStream,
    mode: str,
    key: tuple[str, ...],
    about: Mapping[str, Any],
) -> StreamPlan:
    """The plan of a stream: its options, filled with what they leave out."""
    keyed = mode in KEYED
    filled = {
        "mode": mode,
        "key": key if keyed else (),
        "table": options.table or apply_naming(source, ref.stream),
        "cursor": options.cursor if keyed else None,
    }
    return replace(plan_stream(source, ref, options.model_copy(update=filled)), about=about)


def still_there(
    plans: Sequence[StreamPlan], now: Mapping[StreamRef, StreamPlan]
) -> tuple[list[StreamPlan], dict[StreamRef, tuple[StreamPlan, Extract | LoadError]]]:
    """The plans by the catalog as it is `now`, and those of streams that are others there, or gone, with the error.

    The state to go on from was looked up for the streams as they were planned.
    """
    there: list[StreamPlan] = []
    failed: dict[StreamRef, tuple[StreamPlan, Extract | LoadError]] = {}
    for plan in plans:
        found = now.get(plan.ref)
        if found is None:
            names = ", ".join(ref.stream for ref in now)
            error = LoadError(f"{plan.ref}: the connector has this stream no more.", hint=f"It has: {names}.")
            failed[plan.ref] = plan, error
        elif (found.mode, found.key, found.table) != (plan.mode, plan.key, plan.table):
            error = LoadError(
                f"{plan.ref}: by its catalog the connector sends it otherwise than it was planned "
                f"(mode {found.mode}, key {', '.join(found.key) or 'none'}).",
                hint="The next run loads it so. To keep it as it was, set `mode` and `key` of the stream.",
            )
            failed[plan.ref] = plan, error
        else:
            there.append(found)
    return there, failed


# --- the sync -------------------------------------------------------------------------------------------------------


def sync(
    plans: Sequence[StreamPlan],
    source: ProgramBase,
    readings: Mapping[StreamRef, Reading],
    session: Session,
) -> dict[StreamRef, tuple[StreamPlan, Extract | LoadError]]:
    """Run a connector once, and return what it sent of each stream, with the state to store beside it.

    Raises
    ------
    LoadError
        It failed. What came before its last checkpoint is kept for the next run.
    Interrupted
        The run was stopped meanwhile.
    """
    first = readings[plans[0].ref]
    stored = {plan.ref.stream: readings[plan.ref].state if plan.ref in readings else {} for plan in plans}
    begun = _stored_slices(plans, stored, shares=session.shares)
    asked = {
        "program": session.program.identity,
        "asked": session.asked,
        "modes": {plan.ref.stream: [plan.mode, list(plan.key), str(plan.table)] for plan in plans},
        "stored": stored,
    }
    options = _digest([repr(plan.options) for plan in plans])
    journal, lost = open_journal(Layout(first.root).journals / plans[0].ref.source, _digest(asked), options)
    notes = [f"new streams, which the next run loads: {', '.join(session.new)}"] if session.new else []
    notes += ["went on from what an earlier run had received"] if journal.resumed else []
    if lost and lost not in {state.get("sync") for state in stored.values()}:
        notes.append("what an earlier run had received was dropped: source, configuration or state are others now")
    initial = _initial(source, session, [plan for plan in plans if not columns_of(first.connection, plan.table)], first)
    begun = Slices({**initial.own, **begun.own}, begun.shared or initial.shared)
    state = _resumed(journal, session, begun, plans) if journal.resumed else session.together(begun)
    reader, failed = _run(journal, source, session, state, plans, readings)
    slices = session.apart(journal.state)
    results: dict[StreamRef, tuple[StreamPlan, Extract | LoadError]] = {}
    for plan in plans:
        name = plan.ref.stream
        if name in failed:
            results[plan.ref] = plan, failed[name]
            continue
        keeps = {"sync": journal.id}
        keeps |= {"shared": slices.shared} if slices.shared else {}
        keeps |= {"bookmark": slices.own[name]} if slices.own.get(name) else {}
        extract = _extract(plan, source, readings.get(plan.ref, first), journal, reader)
        whole = not journal.resumed and name not in begun.own and bool(plan.about.get("full"))
        results[plan.ref] = (
            plan,
            replace(
                extract,
                state=keeps,
                complete=whole or reader.is_complete(name),
                notes=(*notes, *extract.notes, *reader.notes(name)),
                committed=journal.remove,
                refused=lambda: journal.refuse(options),
            ),
        )
        notes = []
    return results


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _goes_on(plan: StreamPlan) -> bool:
    """False where the stream is sent, or wanted, whole each time: no state may make the connector leave out rows."""
    return plan.mode != "replace" and not plan.about.get("full")


def _stored_slices(plans: Sequence[StreamPlan], stored: Mapping[str, Mapping[str, Any]], *, shares: bool) -> Slices:
    """The state that the streams go on from, put together from what is stored with each.

    Where the streams share a part of it, one that was left out of a later load is behind that part: what came in
    between it would never get, so it has none of its own, and the connector sends it anew.

    Raises LoadError where a stream begins anew, or is behind, and the connector has but one state for all.
    """
    own, shared, newest = {}, None, -1
    anew = [plan for plan in plans if not stored[plan.ref.stream] or not _goes_on(plan)]
    for plan in plans:
        state = stored[plan.ref.stream]
        if "bookmark" in state and _goes_on(plan):
            own[plan.ref.stream] = state["bookmark"]
        if state.get("run", -1) > newest:
            shared, newest = state.get("shared"), state["run"]
    if len(anew) == len(plans):
        return Slices()
    behind = {plan.ref.stream for plan in plans if plan not in anew and stored[plan.ref.stream].get("shared") != shared}
    if shares:
        own = {name: bookmark for name, bookmark in own.items() if name not in behind}
    anew += [plan for plan in plans if plan.ref.stream in behind]
    if shared and not own and anew:
        raise LoadError(
            f"{anew[0].ref} would begin anew, and the connector has one state for all streams; others go on from it.",
            hint=f"Load all of them anew: smoll run --reload {anew[0].ref.source}. Or give it a source of its own.",
        )
    return Slices(own, shared)


def _initial(source: ProgramBase, session: Session, plans: Sequence[StreamPlan], reading: Reading) -> Slices:
    """The state that another tool has stored, if the source names one, for those streams that were never loaded."""
    if source.state is None or not plans:
        return Slices()
    try:
        state = json.loads((reading.root / source.state).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(
            f"{source.state}: cannot read the state: {error}.", hint="Check `state` in smoll.yml."
        ) from error
    slices = session.apart(state)
    names = {plan.ref.stream for plan in plans if _goes_on(plan)}
    return Slices({name: own for name, own in slices.own.items() if name in names}, slices.shared if names else None)


def _resumed(journal: Journal, session: Session, begun: Slices, plans: Sequence[StreamPlan]) -> Any:
    """The state to go on from. Streams that are replaced come from their beginning again: nobody knows what of them the
    connector would leave out, or send twice.
    """
    slices = session.apart(journal.state)
    again = {plan.ref.stream for plan in plans if plan.mode == "replace"}
    if again and slices.shared and not slices.own:  # whose progress it is, nobody knows
        journal.drop({plan.ref.stream for plan in plans})
        return session.together(begun)
    journal.drop(again)
    return session.together(Slices({name: own for name, own in slices.own.items() if name not in again}, slices.shared))


def _run(
    journal: Journal,
    source: ProgramBase,
    session: Session,
    state: Any,
    plans: Sequence[StreamPlan],
    readings: Mapping[StreamRef, Reading],
) -> tuple[Reader, Mapping[str, LoadError]]:
    """Run the connector, and put what it sends into the journal. Returns its reader, and the streams that failed."""
    name, first = plans[0].ref.source, readings[plans[0].ref]
    journal.state = state
    try:
        with running(
            session.command(state),
            first.root,
            name,
            timeout=source.timeout_seconds,
            stopped=first.stopped,
            log=lambda line: first.log(session.hide(line)),
        ) as output:
            reader = session.reader(journal, output)
            told, unwritten = time.monotonic(), 0
            for lines in output.blocks():
                reader.feed(lines)
                unwritten += sum(map(len, lines))
                is_news = time.monotonic() - told > _SECONDS_BETWEEN_NEWS
                if is_news or unwritten > _WRITTEN_AT_ONCE:
                    journal.flush()
                    unwritten = 0
                if is_news:
                    told = time.monotonic()
                    _tell_progress(journal, reader, readings)
            failed = {stream: LoadError(session.hide(str(error))) for stream, error in reader.failed().items()}
            if failed and session.apart(journal.state).shared:  # it is ahead of the rows that did not come
                journal.forget()
                error = next(iter(failed.values()))
                alone = f"{error.message}; the connector has one state for all streams, so none was loaded."
                raise LoadError(alone if output.code == 0 else _ending(name, session, output, reader))
            others = [plan.ref.stream for plan in plans if plan.ref.stream not in failed]
            if output.code != 0 and not (failed and others and all(map(reader.is_done, others))):
                raise LoadError(_ending(name, session, output, reader))
    except LoadError as error:
        hint = " ".join(filter(None, [session.hide(error.hint), _kept(journal)]))
        raise LoadError(session.hide(error.message), hint=hint) from error
    finally:
        session.after()
    journal.finish()
    return reader, failed


def _tell_progress(journal: Journal, reader: Reader, readings: Mapping[StreamRef, Reading]) -> None:
    for ref, reading in readings.items():
        own = [segment for segment in journal.segments if segment.stream == ref.stream]
        if size := sum(segment.size for segment in own):
            rows = sum(segment.rows or 0 for segment in own)
            reading.progress(size, reader.expected(ref.stream, rows, size))


def _ending(name: str, session: Session, output: Output, reader: Reader) -> str:
    """How a connector ended that should not have ended so."""
    code = output.code
    if code is None:
        how = "closed its output and did not end"
    elif code < 0:
        how = f"was ended by the signal {signal.Signals(-code).name}"
        how += " (the machine may have run out of memory)" if code == -signal.SIGKILL else ""
    else:
        how = f"failed with exit code {code}"
    said = reader.failure()
    return f"{name}: {session.program.label} {how}{': ' if said else '.'}{said}{output.last_words()}"


def _kept(journal: Journal) -> str:
    rows = sum(journal.saved.get(segment.number) or 0 for segment in journal.segments)
    return (
        f"What came before its last state ({rows:,} records) is kept; the next run goes on from there." if rows else ""
    )


def _extract(plan: StreamPlan, source: ProgramBase, reading: Reading, journal: Journal, reader: Reader) -> Extract:
    """What was sent of a stream. One that nothing was said of stays as it is."""
    name = plan.ref.stream
    segments = journal.records_of(name)

    def explain(error: Exception) -> LoadError:
        return LoadError(f"{plan.ref}: {str(error).splitlines()[0]}")

    if name not in reader.sent and not segments and not (_goes_on(plan) and reading.state):
        return Extract((), explain, notes=("the connector sent nothing about this stream, not even that it is empty",))
    marks = () if plan.deletes == "ignore" else _DELETED  # without its mark a deleted row would be a living one
    hides = hidden_fields(source, name, (*plan.about.get("kept", ()), *marks))
    filled = [segment for segment in segments if segment.size]
    parts = parts_of(plan, source, filled, hides, reading.connection, reading.scratch)
    return Extract(
        parts=parts or [empty_part(plan, segments[-1].declared["schema"] if segments else {}, hides)],
        explain=explain,
        verify=lambda: _follow_marks(plan, source, reading),
        size=sum(segment.rows or 0 for segment in filled),
    )


def _follow_marks(plan: StreamPlan, source: ProgramBase, reading: Reading) -> None:
    """Rows that the connector marks as deleted go the way that ``deletes`` says."""
    if plan.mode != "merge" or plan.deletes == "ignore":
        return
    there = {column.name for column in columns_of(reading.connection, plan.table)}
    for mark in _DELETED:
        column = apply_naming(source, mark)
        if column in there and plan.deletes == "detect":
            reading.connection.execute(f"DELETE FROM {plan.table.sql} WHERE {quote(column)} IS NOT NULL")
        elif column in there:
            deleted_at = quote(source.metadata.deleted_at)
            reading.connection.execute(
                f"UPDATE {plan.table.sql} SET {deleted_at} = now() AT TIME ZONE 'UTC' "
                f"WHERE {quote(column)} IS NOT NULL AND {deleted_at} IS NULL"
            )
