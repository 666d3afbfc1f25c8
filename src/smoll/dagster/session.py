"""The project, held for the length of a Dagster run: one lock, one number in the ledger, one log.

With Dagster's in-process executor the resource is made once for a run, and so is the run in smoll's ledger. With an
executor that gives each step a process of its own, each step is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from smoll.errors import LoadError, SmollError
from smoll.events import (
    CheckFinished,
    Event,
    LockWaiting,
    Message,
    NodeFinished,
    Recovered,
    ReleaseFinished,
    RunStarted,
    StreamFinished,
)
from smoll.plan import brings_tables
from smoll.project import ProjectConfig
from smoll.run import Run, open_run
from smoll.warehouse import open_warehouse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.load import Job
    from smoll.transform import Dbt

RESOURCE = "smoll"
"""The resource that holds the project."""
ORIGIN = "dagster:"


@dataclass
class Session:
    """A run of smoll inside of one of Dagster's. It begins with the first step that asks for it.

    The warehouse has one owner at a time in a process, too: `warehouse` keeps it open for assets that read from it
    lazily, `release_warehouse` gives it back.
    """

    config: ProjectConfig
    run_id: str
    what: str
    tell: Callable[[Event], None]
    _run: Run | None = None
    _jobs: list[Job] | None = None
    _dbt: Dbt | None = None
    _parsed: bool = False
    _parsing: Future[Dbt | None] | None = None
    _held: ExitStack = field(default_factory=ExitStack)
    _open: ExitStack = field(default_factory=ExitStack)
    _connection: DuckDBPyConnection | None = None

    @property
    def run(self) -> Run:
        """The run of smoll: from now on the project's lock is held. Raises `dagster.Failure` where that cannot be."""
        if self._run is None:
            command = f"Dagster run {self.run_id[:8]}{f' ({self.what})' if self.what else ''}"
            opened = open_run(self.config, command, command, wait=True, on_event=self.tell, origin=ORIGIN + self.run_id)
            try:
                self._run = self._held.enter_context(opened)
            except SmollError as error:
                raise failure(self.config, error) from None
        return self._run

    def fail_with(self, steps: Sequence[str]) -> None:
        """Take note that steps have failed, if it is not known: an asset of the user's own may have."""
        if steps and self._run is not None and self._run.status == "ok":
            self._run.error = LoadError(f"Of Dagster's run failed: {', '.join(steps)}.")

    def close(self) -> None:
        """End the run of smoll, and give the project back."""
        self.release_warehouse()
        if self._parsing:
            wait([self._parsing])
        self._held.close()

    def jobs(self, warehouse: DuckDBPyConnection) -> list[Job]:
        """The streams of every source; asked for once."""
        if self._jobs is None:
            self._jobs = self.run.find_jobs(warehouse)
        return self._jobs

    def dbt(self) -> Dbt | None:
        """The dbt project, parsed once; None where there is none."""
        if not self._parsed:
            if self._jobs is None:
                with open_warehouse(self.run.layout.warehouse, self.run.settings) as warehouse:
                    self.jobs(warehouse)
            parsing, self._parsing = self._parsing, None
            self._dbt = parsing.result() if parsing else self.run.parse(self._jobs or ())
            self._parsed = True
        return self._dbt

    def parse_ahead(self, jobs: Sequence[Job]) -> None:
        """Let dbt be imported and parse (seconds of Python) while DuckDB loads, for the steps that come after it."""
        if self._parsed or self._parsing or any(brings_tables(job) for job in jobs):
            return
        pool = ThreadPoolExecutor(1, "parse")
        self._parsing = pool.submit(self.run.parse, jobs)
        pool.shutdown(wait=False)

    def warehouse(self) -> DuckDBPyConnection:
        """The open warehouse, until it is given back."""
        if self._connection is None:
            opened = open_warehouse(self.run.layout.warehouse, self.run.settings)
            self._connection = self._open.enter_context(opened)
        return self._connection

    def keep(self, opened: Any) -> Any:
        """Close it before the warehouse: what still reads from it would keep the file from its next owner."""
        return self._open.enter_context(closing(opened))

    def release_warehouse(self) -> None:
        """Close the warehouse. What was read lazily from it cannot be read any more."""
        self._open.close()
        self._connection = None

    def step(self, work: Callable[[Run], None]) -> None:
        """Do a step of the run.

        Raises
        ------
        dagster.DagsterExecutionInterruptedError
            Somebody ended the run.
        dagster.Failure
            It failed as a whole; a stream, model or check that failed is in the run.
        """
        self.release_warehouse()
        self.run.attempt(work, take_over=True)
        error = self.run.error
        if self.run.status == "interrupted":
            raise dg.DagsterExecutionInterruptedError from error
        if isinstance(error, SmollError):
            raise failure(self.config, error) from None


def failure(config: ProjectConfig, error: SmollError) -> dg.Failure:
    """An error as Dagster shows it, with what to do and without a secret."""
    return dg.Failure(config.redact("\n".join(filter(None, [error.message, error.hint]))))


def session_resource(config: ProjectConfig) -> dg.ResourceDefinition:
    """The resource that takes the project's lock, and waits for it where another run has it."""

    @dg.resource(description=f"Holds the smoll project {config.name} while something runs in it.")
    def smoll(context: dg.InitResourceContext) -> Iterator[Session]:
        session = Session(config, context.run_id or "", _name_of(context.run), _tell(context.log))
        try:
            yield session
        finally:
            session.fail_with(_failed_steps(context))
            session.close()

    return smoll


def _failed_steps(context: dg.InitResourceContext) -> list[str]:
    if context.instance is None or not context.run_id:
        return []
    logs = context.instance.all_logs(context.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return [str(record.step_key) for record in logs]


def _name_of(run: dg.DagsterRun | None) -> str:
    """The job, or for what is chosen in the UI the number of assets."""
    if run is None:
        return ""
    if not run.job_name.startswith("__"):
        return run.job_name
    chosen = len(run.asset_selection or ())
    return f"{chosen} asset{'' if chosen == 1 else 's'}" if chosen else ""


def _tell(log: Any) -> Callable[[Event], None]:
    """Put what a person should read into the run's log in Dagster."""

    def tell(event: Event) -> None:
        text, level = _words(event)
        if text:
            getattr(log, level)(text)

    return tell


def _words(event: Event) -> tuple[str, str]:
    """What to say of an event, and how loudly; "" for nothing."""
    if isinstance(event, LockWaiting):
        return f"Waiting for the project: {event.holder}", "warning"
    if isinstance(event, RunStarted):
        return f"This is run {event.run} of the project.", "info"
    if isinstance(event, (Recovered, Message)):
        text = event.message if isinstance(event, Recovered) else event.text
        return text, "warning" if isinstance(event, Recovered) or event.level == "warning" else "info"
    if isinstance(event, StreamFinished):
        stream = event.result
        if stream.status == "failed":
            return f"{stream.ref} failed: {stream.error}", "error"
        notes = "".join(f"; {note}" for note in stream.notes)
        return f"{stream.ref}: {stream.status}, {stream.rows:,} rows in {stream.seconds:.1f} s{notes}", "info"
    if isinstance(event, NodeFinished):
        node = event.result
        said = f": {node.message}" if node.message else ""
        return f"{node.name}: {node.status} in {node.seconds:.1f} s{said}", "error" if said else "info"
    if isinstance(event, CheckFinished) and event.result.status not in ("pass", "skipped"):
        check = event.result
        return f"{check.name}: {check.status}: {check.message}", "warning" if check.status == "warn" else "error"
    if isinstance(event, ReleaseFinished) and event.outcome.number is not None:
        return f"Release {event.outcome.number}: {event.outcome.status}", "info"
    return "", "info"
