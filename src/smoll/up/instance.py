"""Dagster's home of a project, ``.smoll/dagster``: its configuration, and the socket of the code server.

Both files are made anew from ``smoll.yml`` each time; there is no secret in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from smoll.errors import StateError
from smoll.state.layout import write_atomically

STORAGE_VARIABLE = "SMOLL_DAGSTER_STORAGE"
"""Gives Dagster's processes the URL of the storage; it is in no file, and in no command."""
_CONFIGURATION = """\
# Written by `smoll up`: what is changed here is lost at its next start.
# What can be set stands in smoll.yml, under `dagster`.
telemetry: {{enabled: false}}
nux: {{enabled: false}}
{storage}
# A run that is launched begins within two seconds. While the code server starts anew, a run waits for it.
run_queue: {{dequeue_interval_seconds: 2, max_user_code_failure_retries: 5, user_code_failure_retry_delay: 10}}
# All steps of a project share one pool, as its warehouse has one owner: a second run waits in the queue.
concurrency: {{pools: {{granularity: run, default_limit: 1}}}}
# max_retries of runs comes from their tags.
run_retries: {{enabled: true, max_retries: 0}}
run_monitoring: {{enabled: true, start_timeout_seconds: 300, cancel_timeout_seconds: 120, poll_interval_seconds: 20}}
code_servers: {{local_startup_timeout: 300, reload_timeout: 300}}
# Two threads each, so that a slow sensor does not stop the others.
schedules: {{use_threads: true, num_workers: 2}}
sensors: {{use_threads: true, num_workers: 2}}
# Of ticks, in days. `smoll up` removes the runs themselves.
retention:
  schedule: {{purge_after_days: {{started: {days}, skipped: {short}, success: {days}, failure: {days}}}}}
  sensor: {{purge_after_days: {{started: {days}, skipped: {short}, success: {days}, failure: {days}}}}}
  auto_materialize: {{purge_after_days: {{started: {days}, skipped: {short}, success: {days}, failure: {days}}}}}
"""
_SQLITE = """\
# Runs, events and schedules are kept in SQLite files beside this one.
storage: {{custom: {{module: smoll.up.storage, class: KeptSqliteStorage, config: {{base_dir: {home}}}}}}}
"""
_POSTGRES = f"storage: {{postgres: {{postgres_url: {{env: {STORAGE_VARIABLE}}}}}}}\n"
_SKIPPED_DAYS = 7  # a sensor that finds nothing says so every half minute
_WORKSPACE = """\
# Written by `smoll up`.
load_from:
  - grpc_server: {{socket: {socket}, location_name: {name}}}
"""
# sun_path holds 104 bytes on macOS and 108 on Linux, the last one a zero. gRPC reads the path as a URI.
_LONGEST_SOCKET, _LONGEST_NAME = 103, len("/abcdefghijkl")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")


def write_instance(home: Path, keep_days: int, in_postgres: bool) -> None:
    """Write ``dagster.yaml``, if it says anything new."""
    short = min(_SKIPPED_DAYS, keep_days)
    storage = _POSTGRES if in_postgres else _SQLITE.format(home=json.dumps(str(home)))
    _write(home / "dagster.yaml", _CONFIGURATION.format(storage=storage, days=keep_days, short=short))


def storage_url(url: str) -> str:
    """A Postgres URL for dagster-postgres: it needs psycopg2, which SQLAlchemy 2.1 no longer takes by itself."""
    return f"postgresql+psycopg2://{url.partition('://')[2]}"


def write_workspace(home: Path, name: str, socket: Path) -> Path:
    """Write ``workspace.yaml``: where webserver and daemon find the project `name`. Returns the file."""
    path = home / "workspace.yaml"
    _write(path, _WORKSPACE.format(socket=json.dumps(str(socket)), name=json.dumps(name)))
    return path


def socket_folder(home: Path) -> Path:
    """Make an empty folder for sockets, which nobody else can enter; whoever reaches them runs code as this user.

    It lies in `home`, or where that path is too long for a socket, or not plain, in the folder for temporary files.
    """
    folder = home / "run"
    if not _fits(folder):
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
        folder = Path(tempfile.gettempdir()) / f"smoll-{os.getuid()}-{digest}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)  # fails where somebody else has put something there
        _check_private(folder)
    except OSError as error:
        raise StateError(
            f"Cannot make the folder {folder} for the code server's socket: {error.strerror}.", hint="Remove it."
        ) from error
    return folder


def _fits(folder: Path) -> bool:
    path = os.fsencode(folder)
    return len(path) + _LONGEST_NAME <= _LONGEST_SOCKET and _PLAIN_PATH.fullmatch(str(folder)) is not None


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(13, "it is open to others")


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
