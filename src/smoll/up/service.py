"""``smoll up``: which processes it runs, at which address, and what it says of them.

The front has the port. What it passes on, Dagster and the apps, listens on sockets in a folder that only this user can
enter. All sockets are made here and handed down, so they outlive the processes behind them, and calls wait. With the
portal alone this process becomes the front, and nothing else is there.

One code server holds the project's definitions for webserver and daemon, behind a socket that only this user can reach.
It is ``dagster code-server start`` rather than ``dagster api grpc``, which is one process less but ignores the button
"Reload definitions".
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import NoReturn

from smoll.errors import Interrupted, LockedError, ReleaseError, UsageError
from smoll.model import Holder
from smoll.project import ProjectConfig
from smoll.release import current_release
from smoll.state.layout import Layout
from smoll.state.lock import current_holder, project_lock
from smoll.up import health, instance
from smoll.up.apps import PATH as APPS_PATH
from smoll.up.runs import CANCEL_SECONDS
from smoll.up.supervisor import Ended, Program, Signals, Started, Supervisor
from smoll.up.visitors import SLEEP_AFTER
from smoll.up.webserver import PATH as DAGSTER_PATH

PORTAL, DAGSTER, APPS = PARTS = ("portal", "dagster", "apps")
_PATHS = {PORTAL: "/", DAGSTER: f"{DAGSTER_PATH}/", APPS: f"{APPS_PATH}/"}
FRONT, CODE_SERVER, WEBSERVER, DAEMON = "front", "code server", "webserver", "daemon"
APP_SERVER, HOUSEKEEPING = "app server", "housekeeping"
__all__ = ["PARTS", "Ended", "Listener", "Ready", "Started", "Stopped", "find_page", "up"]

_LOOPBACK = "127.0.0.1"
_NEXT_PORTS = 10
_BACKLOG = 128
_DAY = 86_400.0
_CODE_SERVER_GRACE, _WEBSERVER_GRACE, _DAEMON_GRACE, _FRONT_GRACE = 1.0, CANCEL_SECONDS + 4.0, 2.0, 1.0
"""Seconds to end themselves. The daemon goes first, so that nothing new is started; it may be killed at any time, as it
keeps nothing in memory. The webserver, which can reach runs and their records, cancels what runs."""
_OWN_DEFINITIONS, _DEFAULT_DEFINITIONS = "definitions.py", "smoll.dagster.default"
_PYTHON = (sys.executable, "-P")
"""Without the current folder in the path of modules: a file of the project must not stand in for one of Dagster's."""
_MODULES = {DAGSTER: ("dagster", "dagster_webserver"), APPS: ("streamlit",)}
_FRONT_VARIABLES = ("PATH", "PYTHONPATH", "LANG", "LC_ALL")
"""The front speaks to whoever calls. It has no secret."""
_ENVIRONMENT = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "MALLOC_ARENA_MAX": "2",  # glibc keeps an arena of memory for each of many threads otherwise
}


@dataclass(frozen=True)
class Ready:
    """Everything is up. ``urls``: of each part that is served, by its name.

    ``problem``: the end of the traceback where Dagster cannot load the definitions.
    """

    url: str
    urls: Mapping[str, str]
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
    only: Sequence[str] = (),
    on_event: Listener = lambda event: None,
    tell: Callable[[str], None] = lambda line: None,
    signals: Signals | None = None,
    sleep_after: float = SLEEP_AFTER,
) -> None:
    """Serve a project until Ctrl-C, SIGTERM, or `signals` say to stop. Heals what dies.

    Parameters
    ----------
    port
        On loopback; it must be free. Default: that of the configuration, or the next free one.
    only
        Of `PARTS`. Default: all that is installed. With the portal alone this process becomes a small file server, and
        the function does not return.
    on_event
        Called with `Ready` once, then with what happens.
    tell
        Gets lines for people.
    sleep_after
        Seconds without a call after which Dagster's webserver, and that of the apps, give their memory back.

    Raises
    ------
    UsageError
        A part is not known or not installed, or the port is taken.
    LockedError
        `smoll up` runs for this project already.
    UpError
        A process could not be started.
    StateError
        The project's folder cannot be written.
    Interrupted
        The wish to stop came before everything was up.
    """
    parts = _parts(config, only, tell)
    layout = Layout(config.root)
    layout.prepare()
    layout.dagster.mkdir(exist_ok=True)
    layout.dagster.chmod(0o700)  # what runs print is there as they print it
    signals = signals or Signals()
    with ExitStack() as opened:
        listener = opened.enter_context(closing(_listen(layout, port, config.dagster.port, tell)))
        url = f"http://{_LOOPBACK}:{_port(listener)}"
        lock = opened.enter_context(_only_one(_lock(layout), f"{url} with {', '.join(parts)}"))
        urls = {part: url + _PATHS[part] for part in parts}
        if parts == (PORTAL,):
            on_event(Ready(url, urls, {FRONT: os.getpid()}))
            _become_front(layout, listener, lock)
        opened.enter_context(signals.heeded())
        sockets = _Sockets(listener, opened.enter_context(_socket_folder(layout.dagster)), opened)
        environment = _environment(config, layout)
        chores = _Chores(config, layout, environment)
        plan = _Plan(config, layout, parts, sockets, environment, sleep_after)

        def happened(event: Started | Ended) -> None:
            chores.notice(event)
            on_event(event)

        with Supervisor(signals, happened, config.redact) as supervisor:
            if not supervisor.start(*plan.servers()) or (
                DAGSTER in parts and not _start_dagster(plan, chores, supervisor)
            ):
                raise Interrupted("Interrupted before everything was up.")
            problem = health.load_error(sockets.dagster) if DAGSTER in parts else None
            on_event(Ready(url, urls, supervisor.pids, problem or ()))
            supervisor.watch(lambda: chores.do(supervisor) if DAGSTER in parts else None)
    on_event(Stopped())


def find_page(config: ProjectConfig, part: str = PORTAL) -> str:
    """The URL of a part: where `smoll up` serves it now, or of the portal its file in the current release.

    Raises
    ------
    UsageError
        `smoll up` does not run, or without the part.
    ReleaseError
        Nothing has been released yet, or the release has no portal.
    """
    layout = Layout(config.root)
    holder = current_holder(_lock(layout))
    found = re.search(r"(http://\S+) with (.+)", holder.command) if holder else None
    if found and part in found[2].split(", "):
        return found[1] + _PATHS[part]
    if part != PORTAL:
        state = f"runs without {part}" if found else f"does not run for this project, and {part} needs it"
        raise UsageError(f"`smoll up` {state}.", hint="Start it with all that is installed: smoll up")
    if current_release(layout) is None:
        raise ReleaseError("Nothing has been released yet.", hint="`smoll run` makes the first release.")
    page = layout.current / "portal" / "index.html"
    if not page.is_file():
        raise ReleaseError("The current release has no portal.", hint="The next one will: smoll run")
    return page.as_uri()


def _parts(config: ProjectConfig, only: Sequence[str], tell: Callable[[str], None]) -> tuple[str, ...]:
    """What is to be served: what was asked for, or all that is installed."""
    for name in only:
        if name not in PARTS:
            raise UsageError(f"`smoll up` has no part {name!r}.", hint=f"The parts are: {', '.join(PARTS)}.")
    wanted = [part for part in PARTS if part in (only or PARTS)]
    for part in list(wanted):
        missing = _missing(config, part)
        if not missing:
            continue
        module, extra = missing
        if part in only:
            raise UsageError(
                f"`smoll up` needs {module} for {part}, which is not installed.",
                hint=f"Install it with: pip install 'smoll[{extra}]'",
            )
        tell(f"Without {part}: {module} is not installed; pip install 'smoll[{extra}]' adds it.")
        wanted.remove(part)
    if DAGSTER not in wanted and not only and (config.schedules or config.sensors):
        tell("What smoll.yml schedules does not begin by itself without Dagster.")
    return tuple(wanted)


def _missing(config: ProjectConfig, part: str) -> tuple[str, str] | None:
    """The package that a part lacks, and the extra that brings it."""
    needed = dict.fromkeys(_MODULES.get(part, ()), part)
    if part == DAGSTER and config.dagster.storage:
        needed["dagster_postgres"] = "dagster-postgres"
    lacking = [(module.replace("_", "-"), extra) for module, extra in needed.items() if find_spec(module) is None]
    return next(iter(lacking), None)


def _start_dagster(plan: _Plan, chores: _Chores, supervisor: Supervisor) -> bool:
    """Start Dagster's processes. Returns False if the wish to stop comes first."""
    code_server, *users = plan.dagster()
    return (
        chores.begin(supervisor)
        and supervisor.start(code_server)
        and supervisor.errands_done()
        and supervisor.start(*users)
    )


class _Sockets:
    """The sockets of what is served: the port, and behind it one for each server, in a folder of their own."""

    def __init__(self, listener: socket.socket, folder: Path, opened: ExitStack) -> None:
        self.listener, self.folder, self._opened = listener, folder, opened
        self.dagster, self.apps, self.code = (folder / name for name in ("dagster.sock", "apps.sock", "code.sock"))

    def listen(self, path: Path) -> int:
        """Listen on a socket for as long as `smoll up` lives. Returns its descriptor."""
        listener = self._opened.enter_context(closing(socket.socket(socket.AF_UNIX)))
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        return listener.fileno()


@dataclass(frozen=True)
class _Plan:
    """What runs."""

    config: ProjectConfig
    layout: Layout
    parts: tuple[str, ...]
    sockets: _Sockets
    environment: Mapping[str, str]
    sleep_after: float

    def servers(self) -> Iterator[Program]:
        """The front, and what serves the apps, which sleeps until somebody calls."""
        services = []
        if DAGSTER in self.parts:
            services += ["--service", DAGSTER_PATH, "Dagster", str(self.sockets.dagster)]
        if APPS in self.parts:
            services += ["--service", APPS_PATH, "Apps", str(self.sockets.apps)]
        descriptor, port = self.sockets.listener.fileno(), _port(self.sockets.listener)
        yield Program(
            FRONT,
            (*_front(self.layout if PORTAL in self.parts else None, descriptor), *services),
            _front_environment(),
            self.config.root,
            _log(self.layout, FRONT),
            lambda since: health.is_answering(port),
            (descriptor,),
            _FRONT_GRACE,
        )
        if APPS in self.parts:
            descriptor = self.sockets.listen(self.sockets.apps)
            words = ("--socket", str(descriptor), "--sleep-after", repr(self.sleep_after), "--asleep")
            command = (*_PYTHON, "-m", "smoll.up.apps", str(self.config.root), *words)
            yield self._program(APP_SERVER, command, lambda since: True, descriptor)

    def dagster(self) -> Iterator[Program]:
        """The code server, which the others need, webserver and daemon."""
        call, asked = self.sockets.code, self.sockets.dagster
        workspace = str(instance.write_workspace(self.layout.dagster, self.config.name, call))
        own = self.config.root / _OWN_DEFINITIONS
        where = ("--python-file", str(own)) if own.is_file() else ("--module-name", _DEFAULT_DEFINITIONS)
        code = (
            *(*_PYTHON, "-m", "smoll.up.code_server", "--socket", str(call), "--location-name", self.config.name),
            *("--inject-env-vars-from-instance", "--working-directory", str(self.config.root), *where),
        )
        descriptor = self.sockets.listen(asked)
        web = (
            *(*_PYTHON, "-m", "smoll.up.webserver", workspace, "--socket", str(descriptor)),
            *("--sleep-after", repr(self.sleep_after)),
        )
        daemon = (*_PYTHON, "-m", "dagster._daemon", "run", "--workspace", workspace)
        yield self._program(CODE_SERVER, code, lambda since: health.is_listening(call), grace=_CODE_SERVER_GRACE)
        yield self._program(WEBSERVER, web, lambda since: health.is_serving(asked), descriptor, grace=_WEBSERVER_GRACE)
        yield self._program(DAEMON, daemon, lambda since: health.is_beating(asked, since), grace=_DAEMON_GRACE)

    def _program(
        self,
        name: str,
        command: tuple[str, ...],
        answers: Callable[[float], bool],
        *descriptors: int,
        grace: float = _FRONT_GRACE,
    ) -> Program:
        log = _log(self.layout, name)
        return Program(name, command, self.environment, self.config.root, log, answers, descriptors, grace)


def _front(layout: Layout | None, descriptor: int) -> tuple[str, ...]:
    portal = ("--releases", str(layout.releases)) if layout else ()
    return (*_PYTHON, "-m", "smoll.up.front", "--socket", str(descriptor), *portal)


def _front_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _FRONT_VARIABLES if name in os.environ}


def _become_front(layout: Layout, listener: socket.socket, lock: int) -> NoReturn:
    """Become the file server: the same process, with nothing of smoll in it. It keeps the port, and the lock."""
    for descriptor in (listener.fileno(), lock):
        os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    command = _front(layout, listener.fileno())
    os.execve(command[0], command, _front_environment())  # noqa: S606, no shell is what is wanted


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


def _lock(layout: Layout) -> Path:
    return layout.dagster / "up.lock"


@contextmanager
def _only_one(path: Path, where: str) -> Iterator[int]:
    try:
        with project_lock(path, f"smoll up at {where}", wait=False) as handle:
            yield handle
    except LockedError as error:
        raise _taken(current_holder(path)) from error


def _taken(holder: Holder | None) -> LockedError:
    which = f": {holder}" if holder else ""
    how = f"`kill {holder.pid}` stops it." if holder else "Try again."
    return LockedError(f"`smoll up` runs for this project already{which}.", hint=how)


@contextmanager
def _socket_folder(home: Path) -> Iterator[Path]:
    folder = instance.socket_folder(home)
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def _listen(layout: Layout, asked: int | None, usual: int, tell: Callable[[str], None]) -> socket.socket:
    """Take a port of loopback for as long as `smoll up` lives, through every restart of the front."""
    if holder := current_holder(_lock(layout)):
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

    Calls that come while nobody is there wait in the backlog.
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
