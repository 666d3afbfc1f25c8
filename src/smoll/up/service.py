"""``smoll up``: which processes it runs, on which port, and what it says of them.

One code server holds the project's definitions for webserver and daemon, behind a socket that only this user can reach.
It is ``dagster code-server start`` rather than ``dagster api grpc``, which is one process less but ignores the button
"Reload definitions".
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from smoll.errors import Interrupted, LockedError, UsageError
from smoll.model import Holder
from smoll.project import ProjectConfig
from smoll.state.layout import Layout
from smoll.state.lock import current_holder, project_lock
from smoll.up import health, instance
from smoll.up.runs import CANCEL_SECONDS
from smoll.up.supervisor import Ended, Program, Signals, Started, Supervisor
from smoll.up.webserver import SLEEP_AFTER

CODE_SERVER, WEBSERVER, DAEMON, HOUSEKEEPING = "code server", "webserver", "daemon", "housekeeping"
__all__ = ["Ended", "Listener", "Ready", "Started", "Stopped", "up"]

_LOOPBACK = "127.0.0.1"
_NEXT_PORTS = 10
_BACKLOG = 128
_DAY = 86_400.0
_CODE_SERVER_GRACE, _WEBSERVER_GRACE, _DAEMON_GRACE = 1.0, CANCEL_SECONDS + 4.0, 2.0
"""Seconds to end themselves. The daemon goes first, so that nothing new is started; it may be killed at any time, as it
keeps nothing in memory. The webserver, which can reach runs and their records, cancels what runs."""
_OWN_DEFINITIONS, _DEFAULT_DEFINITIONS = "definitions.py", "smoll.dagster.default"
_PYTHON = (sys.executable, "-P")
"""Without the current folder in the path of modules: a file of the project must not stand in for one of Dagster's."""
_ENVIRONMENT = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "MALLOC_ARENA_MAX": "2",  # glibc keeps an arena of memory for each of many threads otherwise
}


@dataclass(frozen=True)
class Ready:
    """Everything is up. ``problem``: the end of the traceback where the definitions cannot be loaded."""

    url: str
    pids: Mapping[str, int]
    problem: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stopped:
    """Everything has ended."""


Listener = Callable[[Ready | Started | Ended | Stopped], None]


def up(
    config: ProjectConfig,
    *,
    port: int | None = None,
    on_event: Listener = lambda event: None,
    tell: Callable[[str], None] = lambda line: None,
    signals: Signals | None = None,
    sleep_after: float = SLEEP_AFTER,
) -> None:
    """Run Dagster for a project until Ctrl-C, SIGTERM, or `signals` say to stop. Heals what dies.

    Parameters
    ----------
    port
        Of the web page, on loopback; it must be free. Default: that of the configuration, or the next free one.
    on_event
        Called with `Ready` once, then with what happens.
    tell
        Gets lines for people.
    sleep_after
        Seconds without a call after which the webserver gives its memory back.

    Raises
    ------
    UsageError
        Dagster is not installed, or the port is taken.
    LockedError
        `smoll up` runs for this project already.
    UpError
        A process could not be started.
    StateError
        The project's folder cannot be written.
    Interrupted
        The wish to stop came before everything was up.
    """
    _check_installed(config)
    layout = Layout(config.root)
    layout.prepare()
    layout.dagster.mkdir(exist_ok=True)
    layout.dagster.chmod(0o700)  # what runs print is there as they print it
    signals = signals or Signals()
    with closing(_listen(layout, port, config.dagster.port, tell)) as listener, signals.heeded():
        url = f"http://{_LOOPBACK}:{_port(listener)}"
        with _only_one(layout.dagster / "up.lock", url), _sockets(layout.dagster) as folder:
            environment = _environment(config, layout)
            code_server, *users = _programs(config, layout, listener, folder, environment, sleep_after)
            chores = _Chores(config, layout, environment)

            def happened(event: Started | Ended) -> None:
                chores.notice(event)
                on_event(event)

            with Supervisor(signals, happened, config.redact) as supervisor:
                if not (
                    chores.begin(supervisor)
                    and supervisor.start(code_server)
                    and supervisor.errands_done()
                    and supervisor.start(*users)
                ):
                    raise Interrupted("Interrupted before everything was up.")
                on_event(Ready(url, supervisor.pids, health.load_error(_port(listener)) or ()))
                supervisor.watch(lambda: chores.do(supervisor))
    on_event(Stopped())


def _programs(
    config: ProjectConfig,
    layout: Layout,
    listener: socket.socket,
    folder: Path,
    environment: Mapping[str, str],
    sleep_after: float,
) -> Iterator[Program]:
    """What runs: the code server, which the others need, webserver and daemon."""
    call, port = folder / "code.sock", _port(listener)
    workspace = str(instance.write_workspace(layout.dagster, config.name, call))
    own = config.root / _OWN_DEFINITIONS
    where = ("--python-file", str(own)) if own.is_file() else ("--module-name", _DEFAULT_DEFINITIONS)
    code = (
        *(*_PYTHON, "-m", "smoll.up.code_server", "--socket", str(call), "--location-name", config.name),
        *("--inject-env-vars-from-instance", "--working-directory", str(config.root), *where),
    )
    web = (
        *(*_PYTHON, "-m", "smoll.up.webserver", "--socket", str(listener.fileno()), "--workspace", workspace),
        *("--sleep-after", repr(sleep_after)),
    )
    daemon = (*_PYTHON, "-m", "dagster._daemon", "run", "--workspace", workspace)

    def program(
        name: str, command: tuple[str, ...], answers: Callable[[float], bool], *descriptors: int, grace: float
    ) -> Program:
        log = _log(layout, name)
        return Program(name, command, environment, config.root, log, answers, descriptors, grace)

    yield program(CODE_SERVER, code, lambda since: health.is_listening(call), grace=_CODE_SERVER_GRACE)
    yield program(WEBSERVER, web, lambda since: health.is_serving(port), listener.fileno(), grace=_WEBSERVER_GRACE)
    yield program(DAEMON, daemon, lambda since: health.is_beating(port, since), grace=_DAEMON_GRACE)


@dataclass
class _Chores:
    """Sends for housekeeping whenever a code server has been started, and once a day."""

    config: ProjectConfig
    layout: Layout
    environment: Mapping[str, str]
    served_since: float = 0.0
    due: float = 0.0  # of the monotonic clock

    def notice(self, event: Started | Ended) -> None:
        if isinstance(event, Started) and event.name == CODE_SERVER:
            self.served_since, self.due = event.since, time.monotonic()

    def begin(self, supervisor: Supervisor) -> bool:
        """Close what an earlier `smoll up` left running. Returns False if the wish to stop comes first.

        Two processes must not make a new storage at the same time: files are not asked as long as there are none, and a
        server is asked before anybody else does.
        """
        if self.config.dagster.storage is None and not (self.layout.dagster / "history").is_dir():
            return True
        supervisor.send(self.program())
        return self.config.dagster.storage is None or supervisor.errands_done()

    def do(self, supervisor: Supervisor) -> None:
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + _DAY
        days = str(self.config.dagster.keep_days)
        supervisor.send(self.program("--served-since", repr(self.served_since), "--keep-days", days))

    def program(self, *options: str) -> Program:
        """Housekeeping; without options it closes all runs that look as if they ran."""
        command = (*_PYTHON, "-m", "smoll.up.housekeeping", *options)
        log = _log(self.layout, HOUSEKEEPING)
        return Program(HOUSEKEEPING, command, self.environment, self.config.root, log, lambda since: True)


def _environment(config: ProjectConfig, layout: Layout) -> dict[str, str]:
    """The environment of all processes; the only place where the storage's password is."""
    storage = config.dagster.storage
    instance.write_instance(layout.dagster, config.dagster.keep_days, storage is not None)
    secret = {instance.STORAGE_VARIABLE: instance.storage_url(storage.get_secret_value())} if storage else {}
    own = {"DAGSTER_HOME": str(layout.dagster), "SMOLL_PROJECT": str(config.root), **_ENVIRONMENT}
    return {**os.environ, **own, **secret}


def _log(layout: Layout, name: str) -> Path:
    return layout.logs / f"up-{name.replace(' ', '-')}.log"


def _check_installed(config: ProjectConfig) -> None:
    needed = {"dagster": "dagster", "dagster_webserver": "dagster"}
    if config.dagster.storage:
        needed["dagster_postgres"] = "dagster-postgres"
    for module, extra in needed.items():
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"`smoll up` needs {module.replace('_', '-')}, which is not installed.",
                hint=f"Install it with: pip install 'smoll[{extra}]'",
            )


@contextmanager
def _only_one(path: Path, url: str) -> Iterator[None]:
    try:
        with project_lock(path, f"smoll up at {url}", wait=False):
            yield
    except LockedError as error:
        raise _taken(current_holder(path)) from error


def _taken(holder: Holder | None) -> LockedError:
    which = f": {holder}" if holder else ""
    how = f"`kill {holder.pid}` stops it." if holder else "Try again."
    return LockedError(f"`smoll up` runs for this project already{which}.", hint=how)


@contextmanager
def _sockets(home: Path) -> Iterator[Path]:
    folder = instance.socket_folder(home)
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def _listen(layout: Layout, asked: int | None, usual: int, tell: Callable[[str], None]) -> socket.socket:
    """Take a port of loopback for as long as `smoll up` lives, through every restart of the webserver."""
    if holder := current_holder(layout.dagster / "up.lock"):
        raise _taken(holder)  # before another port is taken and talked about
    if asked is not None:
        listener = _bind(asked)
        if listener is None:
            raise UsageError(f"Port {asked} is taken by another program.", hint="Name another, or none: --port.")
        return listener
    ports = [usual, *range(usual + 1, min(usual + _NEXT_PORTS, 65536)), 0]  # 0: any
    listener = next(found for found in map(_bind, ports) if found is not None)
    if _port(listener) != usual:
        tell(f"Port {usual} is taken by another program; this is port {_port(listener)}.")
    return listener


def _bind(port: int) -> socket.socket | None:
    """Listen on a port; None where it is taken.

    Calls that come while no webserver is there wait in the backlog.
    """
    listener = socket.socket(socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose calls have just ended is free
        listener.bind((_LOOPBACK, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise UsageError(f"Cannot listen on port {port}: {error.strerror}.", hint="Name another by --port.") from error
    return listener


def _port(listener: socket.socket) -> int:
    number: int = listener.getsockname()[1]
    return number
