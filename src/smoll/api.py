"""The Python interface: everything the command line does, as methods of a `Project`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smoll import release
from smoll.accounts import (
    Reject,
    RejectCount,
    StoredState,
    count_rejects,
    read_rejects,
    read_states,
    reset_state,
    set_cursor,
    set_state,
)
from smoll.adding import Added, add_source
from smoll.backup import back_up
from smoll.checklist import list_checks, read_check
from smoll.diff import diff_releases
from smoll.errors import ReleaseError, UsageError
from smoll.events import Listener
from smoll.examine import examine_project
from smoll.gc import collect_garbage
from smoll.model import Backup, Diff, Finding, KnownCheck, ReleaseEntry, Removal, RunResult, Status, Undo, UndoCopy
from smoll.observe import observe_history, observe_table
from smoll.profiles import PastProfile, TableProfile
from smoll.programs import (
    ConnectorSpec,
    Discovery,
    InstallResult,
    discover_streams,
    install_connectors,
    list_connectors,
    read_connector_spec,
)
from smoll.project import ProjectConfig, find_root, load_config
from smoll.restoring import restore
from smoll.run import Request, run_project
from smoll.staging import StagingResult, generate_staging
from smoll.state.layout import Layout
from smoll.state.ledger import open_ledger, refuse_newer
from smoll.state.lock import current_holder
from smoll.suggest import Change, Suggestion, apply_changes, plan_changes, suggest_tests
from smoll.undo import undo_copies, undo_run
from smoll.up.service import Listener as UpListener
from smoll.up.service import find_page, up
from smoll.warehouse import connect_reader, engine_settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.connectors.environment import Installation

__all__ = ["Project", "add_source", "connect", "open_project", "restore"]


def open_project(path: str | Path | None = None) -> Project:
    """Open the project in `path`; by default the nearest folder upwards that has a ``smoll.yml``.

    Raises
    ------
    UsageError
        There is no project.
    ConfigError
        ``smoll.yml`` or ``.env`` is wrong; all problems are named.
    StateError
        Its state was written by a newer smoll.
    """
    root = find_root(Path(path) if path is not None else None)
    refuse_newer(Layout(root).ledger)
    return Project(load_config(root))


def connect(path: str | Path | None = None) -> DuckDBPyConnection:
    """Connect to the current release of the project in `path`, read-only and sandboxed.

    The connection stays on the release that was current when it was made; connect again to see a newer one.

    Raises
    ------
    ReleaseError
        Nothing has been released yet.
    """
    return open_project(path).connect()


@dataclass(frozen=True)
class Project:
    """One project. Its methods are the commands of the same names."""

    config: ProjectConfig

    @property
    def _layout(self) -> Layout:
        return Layout(self.config.root)

    def run(
        self,
        select: str = "",
        exclude: str = "",
        *,
        full_refresh: bool = False,
        reload: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        allow_breaking: bool = False,
        wait: bool = True,
        on_event: Listener | None = None,
    ) -> RunResult:
        """Load, build, check and release.

        Parameters
        ----------
        select, exclude
            dbt's selection syntax; empty for everything.
        full_refresh
            Build incremental models and seeds from nothing.
        reload
            ``SOURCE`` or ``SOURCE.STREAM``: forget state and types and load anew.
        since, until
            With `reload`: load only a range of the cursor again, from `since` (inclusive) up to `until` (exclusive).
            The rows that the table has in this range go; its other rows and the state stay.
        allow_breaking
            Release also what takes tables, columns or types away from readers of the current release.
        wait
            Wait for another run, or raise LockedError.
        on_event
            Called with each of `smoll.events`, one at a time.

        Raises
        ------
        UsageError, LockedError, StateError
            Nothing was run. A failing load, model or check is in the result instead.
        """
        request = Request(select, exclude, full_refresh, tuple(reload), since, until, allow_breaking)
        return run_project(self.config, request, wait=wait, on_event=on_event)

    def check(self) -> tuple[Finding, ...]:
        """Reach every source and parse the dbt project; load, build and release nothing."""
        return examine_project(self.config)

    def checks(self) -> tuple[KnownCheck, ...]:
        """Every check of the project by name, dbt's tests too, and what it said last.

        Raises
        ------
        SmollError
            A source that must be asked does not answer, or dbt cannot parse the project.
        """
        return list_checks(self.config)

    def check_record(self, name: str) -> KnownCheck:
        """One check by its name or id, with some of the rows on which it failed.

        Raises
        ------
        UsageError
            There is none of this name, or several.
        """
        return read_check(self.config, name)

    def connectors(self) -> tuple[Installation, ...]:
        """The connectors of singer and airbyte sources: what is locked, and whether it is installed."""
        return list_connectors(self.config)

    def install_connectors(
        self, *names: str, upgrade: bool = False, tell: Callable[[str], None] = lambda line: None
    ) -> InstallResult:
        """Install the connectors of these sources; of all without a name, and then remove what no source uses any more.

        Parameters
        ----------
        upgrade
            Look for newer versions, within what ``smoll.yml`` asks for.
        tell
            Gets one line for people where something takes time.

        Raises
        ------
        UsageError
            A name is no source that a connector extracts.
        LoadError
            A connector cannot be resolved or installed.
        """
        return install_connectors(self.config, names, upgrade=upgrade, tell=tell)

    def discover(self, source: str, *, tell: Callable[[str], None] = lambda line: None) -> Discovery:
        """Ask the connector of a source for its streams.

        Raises
        ------
        UsageError
            The name is no source that a connector extracts.
        LoadError
            The connector cannot be installed, or fails.
        """
        return discover_streams(self.config, source, tell)

    def connector_spec(self, source: str, *, tell: Callable[[str], None] = lambda line: None) -> ConnectorSpec:
        """Ask the connector of a source for its settings.

        Raises
        ------
        UsageError
            The name is no source that a connector extracts.
        LoadError
            The connector cannot be installed, or does not say.
        """
        return read_connector_spec(self.config, source, tell)

    def add_source(
        self,
        kind: str,
        name: str,
        *,
        paths: Sequence[str] = (),
        tell: Callable[[str], None] = lambda line: None,
        **options: str | None,
    ) -> Added:
        """Write a commented block for a new source into ``smoll.yml``; open the project again to have it.

        Parameters are those of `smoll.add_source`, and so is what it raises.
        """
        return add_source(kind, name, self.config.root, paths=paths, tell=tell, **options)

    def generate_staging(self, *names: str) -> StagingResult:
        """Write staging models, docs and tests for loaded streams (SOURCE or SOURCE.STREAM) into the dbt project.

        No existing file is changed.

        Raises
        ------
        UsageError
            There is no dbt project, a name names nothing, or nothing of it is loaded.
        ReleaseError
            A run holds the working warehouse.
        StateError
            The dbt project cannot be written.
        """
        return generate_staging(self.config, names)

    def connect(self, raw: bool = False, release: int | None = None) -> DuckDBPyConnection:
        """Connect to the current release, or to another; with `raw` to the working warehouse. Read-only and sandboxed.

        Parameters
        ----------
        raw
            The working warehouse: raw tables, and what is not released.
        release
            The number of a release that is kept.

        Raises
        ------
        UsageError
            There is no release of this number (any more), or both `raw` and `release` are given.
        ReleaseError
            Nothing has been released (or, with `raw`, loaded) yet, or a run holds the working warehouse.
        """
        settings = engine_settings(self.config.resources, self._layout.tmp)
        if raw:
            if release is not None:
                raise UsageError("The working warehouse is no release.", hint="Ask for one of both.")
            return connect_reader(self._layout.warehouse, "warehouse", settings)
        number = self.current() if release is None else release
        if number is None:
            raise ReleaseError("Nothing has been released yet.", hint="`smoll run` makes the first release.")
        try:
            return connect_reader(self._layout.tables_of(number), "release", settings)
        except ReleaseError:
            if release is None and self.current() != number:
                return self.connect()  # another release took its place just now
            if not (self._layout.releases / str(number)).is_dir():
                raise UsageError(f"There is no release {number}.", hint="`smoll releases` lists them.") from None
            raise

    def current(self) -> int | None:
        """The number of the release that readers see; None before the first.

        Raises
        ------
        ReleaseError
            ``current`` leads nowhere.
        """
        return release.current_release(self._layout)

    def reject_counts(self, source: str = "") -> tuple[RejectCount, ...]:
        """The streams that have rejected rows; of one source where it is named.

        Raises
        ------
        UsageError
            Nothing of this name was ever loaded.
        ReleaseError
            A run holds the working warehouse.
        """
        return count_rejects(self.config, source)

    def rejects(
        self, stream: str, limit: int | None = None, load: int | None = None, *, longest: int | None = None
    ) -> tuple[Reject, ...]:
        """The rejected rows of SOURCE.STREAM, of the newest load first.

        Parameters
        ----------
        limit
            How many rows at most; None for all.
        load
            Only those that this run rejected.
        longest
            Cut raw texts to so many characters; None for whole ones.

        Raises
        ------
        UsageError
            Nothing of this name was ever loaded.
        ReleaseError
            A run holds the working warehouse.
        """
        return read_rejects(self.config, stream, limit, load, longest)

    def states(self, name: str = "") -> tuple[StoredState, ...]:
        """From where each stream (or SOURCE, or SOURCE.STREAM) goes on.

        Raises
        ------
        UsageError
            Nothing of this name has a state.
        ReleaseError
            A run holds the working warehouse.
        """
        return read_states(self.config, name)

    def set_cursor(
        self, stream: str, value: str, *, wait: bool = True, on_event: Listener | None = None
    ) -> tuple[StoredState, StoredState]:
        """Let the next run of SOURCE.STREAM read from this value of its cursor on. Returns the state before and after.

        Raises
        ------
        UsageError
            The stream has no state or no cursor, or the value is none of its type.
        LockedError
            A run holds the project and `wait` is False.
        """
        return set_cursor(self.config, stream, value, wait=wait, on_event=on_event)

    def set_state(
        self, stream: str, text: str, *, wait: bool = True, on_event: Listener | None = None
    ) -> tuple[StoredState, StoredState]:
        """Replace the whole state of SOURCE.STREAM by the JSON object in `text`. Returns the state before and after.

        Raises
        ------
        UsageError
            The text is no such state, or the stream has none.
        LockedError
            A run holds the project and `wait` is False.
        """
        return set_state(self.config, stream, text, wait=wait, on_event=on_event)

    def reset_state(self, name: str, *, wait: bool = True, on_event: Listener | None = None) -> tuple[StoredState, ...]:
        """Forget the state of SOURCE or SOURCE.STREAM: the next run loads it as if it were the first.

        Raises
        ------
        UsageError
            Nothing of this name has a state.
        LockedError
            A run holds the project and `wait` is False.
        """
        return reset_state(self.config, name, wait=wait, on_event=on_event)

    def runs(self, limit: int = 20) -> tuple[RunResult, ...]:
        """The newest runs first."""
        with open_ledger(self._layout.ledger) as ledger:
            return ledger.runs(limit) if ledger else ()

    def run_record(self, run: int) -> RunResult:
        """One run by its number. Raises UsageError where there is none."""
        with open_ledger(self._layout.ledger) as ledger:
            if ledger is None:
                raise UsageError(f"There is no run {run}.", hint="`smoll run` makes the first.")
            return ledger.run_record(run)

    def releases(self) -> tuple[ReleaseEntry, ...]:
        """All releases, the newest first."""
        return release.entries(self._layout)

    def release(self, number: int | None = None) -> ReleaseEntry:
        """One release, ``current`` by default. Raises UsageError where there is none."""
        number = release.current_release(self._layout) if number is None else number
        if number is None:
            raise UsageError("There is no release yet.", hint="`smoll run` makes the first.")
        return release.entry(self._layout, number)

    def diff(self, before: int | None = None, after: int | None = None, *, samples: int = 5) -> Diff:
        """Compare release `before` (the current one by default) with `after` (by default what the next would be).

        Parameters
        ----------
        samples
            So many rows at most are shown of each sort of difference of a table; columns marked ``pii`` never.

        Raises
        ------
        UsageError
            There is no such release.
        ReleaseError
            Nothing has been released, or a run holds the working warehouse.
        """
        return diff_releases(self.config, before, after, samples)

    def profile(self, table: str, release: int | None = None, *, raw: bool = False) -> TableProfile:
        """What a table looks like in a release, by default in the current one.

        Parameters
        ----------
        table
            ``schema.table``, or only the table's name where one schema has it.
        raw
            Profile the table of the working warehouse now; loaded tables have profiles, too.

        Raises
        ------
        UsageError
            There is no such release or table.
        ReleaseError
            Nothing has been released (or, with `raw`, loaded) yet, or a run holds the working warehouse.
        """
        return observe_table(self.config, table, release, raw=raw)

    def profile_history(self, table: str) -> tuple[PastProfile, ...]:
        """What is kept of earlier profiles of a table, the oldest first; releases that did not change it have none.

        Raises
        ------
        UsageError
            No table of this name was released.
        """
        return observe_history(self.config, table)

    def suggest(self, *tables: str) -> tuple[Suggestion, ...]:
        """Suggest tests for the models of the current release (all, or those named) that they would pass.

        Raises
        ------
        UsageError
            A name is no table of the release.
        ReleaseError
            Nothing has been released yet.
        """
        return suggest_tests(self.config, tables)

    def plan_suggestions(self, suggestions: Sequence[Suggestion]) -> tuple[Change, ...]:
        """Say how the files of the dbt project would change to have these tests. Nothing is written.

        Raises
        ------
        UsageError
            A file is written in a way that cannot be added to.
        """
        return plan_changes(self.config, suggestions)

    def write_suggestions(self, changes: Sequence[Change]) -> None:
        """Write planned changes. Where dbt does not understand them, the files are as they were.

        Raises
        ------
        UsageError
            A file has changed since.
        StateError
            A file cannot be written.
        TransformError
            dbt does not understand what was written.
        """
        apply_changes(self.config, changes)

    def pin(self, number: int | None = None, reason: str = "") -> ReleaseEntry:
        """Keep a release (``current`` by default) for ever. Raises UsageError where there is none of this number."""
        self._layout.prepare()
        entry = self.release(number)
        release.pin(self._layout, entry.manifest.number, reason)
        return self.release(entry.manifest.number)

    def unpin(self, number: int) -> ReleaseEntry:
        """Treat a pinned release as any other again. Raises UsageError where it is not pinned."""
        self._layout.prepare()
        release.unpin(self._layout, number)
        return self.release(number)

    def gc(self, *, dry_run: bool = False, wait: bool = True, on_event: Listener | None = None) -> tuple[Removal, ...]:
        """Remove releases that need not stay, and what killed runs and removed sources left; say what it was.

        Parameters
        ----------
        dry_run
            Only say what would go.

        Raises
        ------
        LockedError
            A run holds the project and `wait` is False.
        """
        return collect_garbage(self.config, dry_run=dry_run, wait=wait, on_event=on_event)

    def backup(self, target: str | Path, *, wait: bool = True, on_event: Listener | None = None) -> Backup:
        """Write a consistent copy of the project and its state; `smoll.restore` brings it back.

        It is encrypted if the variable SMOLL_BACKUP_PASSPHRASE is set, in the environment or in ``.env``. Without it
        the files that hold secrets (``.env`` and its kin) are left out; the result says so.

        Parameters
        ----------
        target
            A folder or a file, or ``s3://bucket/prefix/`` (``gs``, ``az``). In a folder the name says project and time.
        wait
            Wait for a run that holds the project, or raise LockedError.
        on_event
            Called with ``LockWaiting`` and ``CopyProgress`` of `smoll.events`.

        Raises
        ------
        UsageError
            The target is no place for a backup, or a package is not installed.
        LockedError
            A run holds the project and `wait` is False.
        StateError
            The warehouse or the ledger cannot be read.
        BackupError
            A file cannot be read, or the backup cannot be written. Nothing of it is left.
        """
        return back_up(self.config, str(target), wait=wait, on_event=on_event)

    def rollback(self, number: int | None = None) -> ReleaseEntry:
        """Publish an earlier release and hold it until `resume`. Runs go on building and staging meanwhile.

        Raises
        ------
        UsageError
            There is no such release.
        """
        self._layout.prepare()
        return self.release(release.rollback(self._layout, number))

    def resume(self) -> ReleaseEntry:
        """End the hold of a rollback and publish the newest release."""
        self._layout.prepare()
        return self.release(release.resume(self._layout))

    def undo(
        self,
        run: int | None = None,
        *,
        dry_run: bool = False,
        latest: int | None = None,
        wait: bool = True,
        on_event: Listener | None = None,
    ) -> Undo:
        """Let the working warehouse be as it was before `run` (by default the last one), whatever came after.

        Raw tables, models, snapshots, cursors and what is known of checks. Releases stay, and what readers see.

        Parameters
        ----------
        dry_run
            Only say what would happen.
        latest
            The last run that the caller knows of: nothing is undone where there is a newer one.
        wait
            Wait for a run that holds the project, or raise LockedError.

        Raises
        ------
        UsageError
            There is no such run, it is undone already, or no copy of the time before it was kept.
        LockedError
            A run holds the project and `wait` is False.
        StateError
            Another program has the working warehouse open, the copy is damaged, or the state cannot be written.
        """
        return undo_run(self.config, run, dry_run=dry_run, latest=latest, wait=wait, on_event=on_event)

    def undo_copies(self) -> tuple[UndoCopy, ...]:
        """The copies of the working warehouse that `undo` can go back to, the newest first."""
        return undo_copies(self.config)

    def status(self) -> Status:
        """What readers see, what happened last, and whether something is going on."""
        layout = self._layout
        current = release.current_release(layout)
        with open_ledger(layout.ledger) as ledger:
            runs = ledger.runs(1) if ledger else ()
            streams = ledger.streams() if ledger else ()
        return Status(
            project=self.config.name,
            root=self.config.root,
            current=self.release(current) if current is not None else None,
            hold=release.read_hold(layout),
            last_run=runs[0] if runs else None,
            running=current_holder(layout.lock),
            streams=streams,
        )

    def up(
        self,
        port: int | None = None,
        *,
        only: Sequence[str] = (),
        on_event: UpListener = lambda event: None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Serve portal, Dagster and apps until Ctrl-C or SIGTERM; restart what dies.

        Parameters
        ----------
        port
            On this machine only; it must be free. Default: that of ``smoll.yml``, or the next free one.
        only
            Of ``portal``, ``dagster`` and ``apps``; all that is installed by default. With the portal alone this
            process becomes a small file server, and the method does not return.
        on_event
            Called with each of `smoll.up.service`'s events: ``Ready`` once, ``Started`` and ``Ended`` for each process,
            ``Stopped`` at the end.
        tell
            Gets lines for people.

        Raises
        ------
        UsageError
            A part is not known or not installed, or the port is taken.
        LockedError
            It runs for this project already.
        UpError
            A process could not be started.
        """
        up(self.config, port=port, only=only, on_event=on_event, tell=tell)

    def page(self, part: str = "portal") -> str:
        """The URL of ``portal``, ``dagster`` or ``apps`` where `up` serves them now, or of the portal as a file.

        Raises
        ------
        UsageError
            `up` does not run, or without the part.
        ReleaseError
            Nothing has been released yet, or the release has no portal.
        """
        return find_page(self.config, part)
