"""The programs of ``singer`` and ``airbyte`` sources: each package in an environment of its own, made from a lock file.

``connectors/<source>.lock`` in the project says what is installed, to the hash; the project commits it. The environment
lies in ``.smoll/connectors/<package>-<hash of the lock>/`` and is made anew from the lock wherever it is missing, or
its Python is gone. It is made beside its place and renamed last, so it is there whole or not at all, and it holds no
path of its own, so a project can be moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from smoll.connectors import uv
from smoll.errors import LoadError
from smoll.project import AirbyteSource, ProgramBase, SingerSource
from smoll.state.layout import Layout, write_atomically
from smoll.state.lock import project_lock

MANIFEST_RUNNER = "airbyte-cdk"
"""The package that runs low-code manifests, by its console script ``source-declarative-manifest``."""

_HEAD = """\
# What is installed for the source {name}, to the hash. smoll wrote this file: commit it, and do not edit it.
# Newer versions: smoll connectors install {name} --upgrade
# requirement: {requirement}
# python: {python}
"""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_URL = re.compile(r"[a-z+]+://", re.IGNORECASE)
_LOGIN = re.compile(r"https?://[^/\s]*@", re.IGNORECASE)
_RECORD = "smoll.json"  # written last: an environment without it is none
_UNFINISHED = ".making-"
_LOCK = "lock"


@dataclass(frozen=True)
class Program:
    """A connector that can be started.

    Parameters
    ----------
    command
        What its command line begins with.
    identity
        Changes with everything that may change what the program does.
    label
        For people: ``tap-github 1.2.3``, ``./taps/my_tap.py``.
    cache
        A folder of its own, where what it says of itself may be kept.
    manifest
        A low-code manifest of Airbyte's that the program runs: ``source-declarative-manifest`` takes it as
        ``--manifest-path`` with ``check``, ``discover`` and ``read``. To ``spec`` it gives an answer that holds for all
        manifests; the one of this manifest stands in its own ``spec.connection_specification``.
    """

    command: tuple[str, ...]
    identity: str
    label: str
    cache: Path
    manifest: Path | None = None


@dataclass(frozen=True)
class Installation:
    """What is known of a source's connector without starting anything.

    ``version`` is the one that is locked, empty where none is; ``bytes`` is what the environment takes on the disk.
    ``requirement`` is empty for a program of the project's own, which needs no installation.
    """

    name: str
    kind: str
    connector: str
    requirement: str
    version: str
    installed: bool
    bytes: int = 0
    path: Path | None = None


@dataclass(frozen=True)
class _Wanted:
    """What a source's environment is made from, and for which Python: its interpreter, and its version."""

    requirement: str
    interpreter: str
    version: str

    @property
    def package(self) -> str:
        return _normal(_named(self.requirement))


@dataclass(frozen=True)
class Lock:
    """A lock file: what it was made from, the oldest Python it holds for, and what uv wrote."""

    requirement: str
    python: str
    body: str

    def fits(self, wanted: _Wanted) -> bool:
        """Whether it says what is to be installed for this."""
        return self.requirement == wanted.requirement and _numbers(self.python) <= _numbers(wanted.version)

    def version(self, package: str) -> str:
        """The version of a package: that of an index, or the first digits of a commit; empty where it is not there."""
        found = re.search(
            rf"^{re.escape(package)}(?:\[[^]]*\])?\s*(?:==\s*([^\s;\\]+)|@\s*\S*@([^\s;#]+))", self.body, re.M
        )
        return (found[1] or found[2][:12]) if found else ""


def find_program(
    name: str, source: ProgramBase, root: Path, tell: Callable[[str], None] = lambda line: None
) -> Program:
    """The program of a source, installed if it is not.

    Parameters
    ----------
    name
        The name of the source.
    root
        The project's folder.
    tell
        Gets one line for people where something takes time.

    Raises
    ------
    LoadError
        The program is not there, cannot be installed, or it is not clear which one it is.
    StateError
        The project's folder cannot be written.
    """
    text, path = connector_of(source), _path(source, root)
    if path is not None and not _is_manifest(source):
        return _own_program(name, text, path, Layout(root))
    manifest = path
    if manifest is not None and not manifest.is_file():
        raise LoadError(f"{name}: there is no file {text}.", hint="The path is relative to the project's folder.")
    place = install(name, source, root, tell)
    record = _record(place)
    assert record is not None
    script = _script(name, source, record, place)
    identity, label = place.name, f"{record['package']} {record['version']}"
    if manifest is not None:
        identity, label = f"{identity} {_stamp(manifest)}", text
    return Program(
        # By the environment's own Python: the first line of a script, which names one, may be too long for the kernel.
        command=(str(place / "venv" / "bin" / "python"), str(place / "venv" / "bin" / script)),
        identity=f"{identity} {script}",
        label=label,
        cache=_cache(place),
        manifest=manifest,
    )


def install(
    name: str,
    source: ProgramBase,
    root: Path,
    tell: Callable[[str], None] = lambda line: None,
    *,
    upgrade: bool = False,
) -> Path:
    """Make the environment of a source that needs one, and its lock file where that does not fit; return its folder.

    Without `upgrade` what is locked stays, and what is installed is not looked at again.

    Raises
    ------
    LoadError
        It cannot be resolved or installed.
    StateError
        The project's folder cannot be written.
    """
    wanted, layout = _wanted(name, source), Layout(root)
    lock = parse_lock(lock_file(name, layout))
    if lock is not None and lock.fits(wanted) and not upgrade:
        place = _place(layout, wanted, lock.body)
        if _record(place) is not None:
            return place
    try:
        layout.connectors.mkdir(parents=True, exist_ok=True)
        with project_lock(
            layout.connectors / _LOCK,
            f"smoll connectors install {name}",
            on_wait=lambda holder: tell(f"{name}: waiting for another installation: {holder}"),
        ):
            return _install(name, wanted, layout, tell, upgrade=upgrade)
    except OSError as error:
        raise LoadError(
            f"{name}: {wanted.requirement} cannot be installed: {error.strerror or error}: {error.filename}.",
            hint="Free some space, or make the project's folder writable.",
        ) from error


def installation(name: str, source: ProgramBase, root: Path) -> Installation:
    """What is known of a source's connector. Starts and changes nothing.

    Raises
    ------
    LoadError
        What the source says its connector is can be none.
    """
    text, path = connector_of(source), _path(source, root)
    kind = "singer" if isinstance(source, SingerSource) else "airbyte"
    if path is not None and not _is_manifest(source):
        return Installation(name, kind, text, "", "", path.is_file())
    wanted, layout = _wanted(name, source), Layout(root)
    lock = parse_lock(lock_file(name, layout))
    if lock is None or not lock.fits(wanted):
        return Installation(name, kind, text, wanted.requirement, "", installed=False)
    place = _place(layout, wanted, lock.body)
    installed = _record(place) is not None
    size = _size(place) if installed else 0
    return Installation(name, kind, text, wanted.requirement, lock.version(wanted.package), installed, size, place)


def unused(sources: Mapping[str, object], root: Path) -> tuple[Path, ...]:
    """The environments, and the caches of the project's own programs, that none of these sources uses."""
    layout, used = Layout(root), set[Path]()
    for name, source in sources.items():
        if not isinstance(source, ProgramBase):
            continue
        path = _path(source, root)
        if path is not None and not _is_manifest(source):
            used.add(_own_place(layout, path))
        elif (found := installation(name, source, root)).path is not None:
            used.add(found.path)
    if not layout.connectors.is_dir():
        return ()
    there = (place for place in layout.connectors.iterdir() if place.is_dir() and not place.name.startswith("."))
    return tuple(sorted(place for place in there if place not in used))


def remove(places: Iterable[Path]) -> None:
    """Remove environments. A run that uses one of them would fail."""
    for place in places:
        gone = place.with_name(f"{_UNFINISHED}{place.name}")
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def is_broken(place: Path) -> bool:
    """Whether the environment of this folder, which should be whole, is not: its next use makes it anew."""
    return (place / "venv").exists() and _record(place) is None


def needs_environment(source: ProgramBase) -> bool:
    """False for a program of the project's own."""
    return _path(source, Path()) is None or _is_manifest(source)


def connector_of(source: ProgramBase) -> str:
    """What the source says its connector is: ``tap`` or ``connector``."""
    assert isinstance(source, (SingerSource, AirbyteSource))
    return (source.tap if isinstance(source, SingerSource) else source.connector).strip()


def lock_file(name: str, layout: Layout) -> Path:
    """The lock file of a source."""
    return layout.connector_locks / f"{name}.lock"


def parse_lock(file: Path) -> Lock | None:
    """What a lock file says. None where there is none, or it is not one of smoll's."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    lines = text.splitlines()
    said = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# ") and ": " in line)
    body = "\n".join(line for line in lines if not line.startswith("#")).strip()
    if not body or "requirement" not in said or not re.fullmatch(r"[0-9.]+", said.get("python", "")):
        return None
    return Lock(said["requirement"], said["python"], f"{body}\n")


# --- what a source names --------------------------------------------------------------------------------------------


def _path(source: ProgramBase, root: Path) -> Path | None:
    """The path that the source names, or None where it is a requirement."""
    text = connector_of(source)
    is_url = " @ " in text or _URL.search(text)
    return root / text if "/" in text and not is_url else None


def _is_manifest(source: ProgramBase) -> bool:
    path = _path(source, Path())
    return isinstance(source, AirbyteSource) and path is not None and path.suffix in (".yaml", ".yml")


def _wanted(name: str, source: ProgramBase) -> _Wanted:
    text = MANIFEST_RUNNER if _is_manifest(source) else " ".join(connector_of(source).split())
    if not _NAME.match(text) or _URL.match(text) or text.endswith((".py", ".yaml", ".yml")):
        raise LoadError(
            f"{name}: {_hide(text)} is no package.",
            hint="Write its name, with or without a version, or NAME @ URL. A path has a /: ./my_tap.py.",
        )
    if _LOGIN.search(text):
        raise LoadError(
            f"{name}: the URL of {_named(text)} holds a login, which would go into the lock file.",
            hint="Remove it, and let git find it (a credential helper or ssh), or a .netrc file.",
        )
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    version = source.python or own
    is_own = version in (own, platform.python_version())
    return _Wanted(text, sys.executable if is_own else version, version)


def _named(requirement: str) -> str:
    found = _NAME.match(requirement)
    return found[0] if found else requirement


def _hide(text: str) -> str:
    return re.sub(r"://[^/\s]*@", "://***@", text)


def _normal(name: str) -> str:
    """The name of a package as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def _own_program(name: str, text: str, path: Path, layout: Layout) -> Program:
    """A program of the project's own: an executable file, or a Python file."""
    if not path.is_file():
        raise LoadError(f"{name}: there is no file {text}.", hint="The path is relative to the project's folder.")
    with path.open("rb") as file:
        is_script = file.read(2) == b"#!"
    if os.access(path, os.X_OK) and (is_script or path.suffix != ".py"):
        command: tuple[str, ...] = (str(path),)
    elif path.suffix == ".py":
        command = (sys.executable, str(path))
    else:
        raise LoadError(
            f"{name}: {text} is no program.",
            hint="It has to be executable (chmod +x), or a .py file; for kind airbyte also a manifest (.yaml).",
        )
    return Program(command, f"{path} {_stamp(path)}", text, _cache(_own_place(layout, path)))


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _cache(place: Path) -> Path:
    cache = place / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


# --- environments ---------------------------------------------------------------------------------------------------


def _place(layout: Layout, wanted: _Wanted, body: str) -> Path:
    """The folder of the environment. A project that was copied to another machine gets another one."""
    parts = (body, wanted.version, sys.platform, platform.machine(), platform.libc_ver()[0])
    return layout.connectors / f"{wanted.package}-{_hash(*parts)}"


def _own_place(layout: Layout, path: Path) -> Path:
    return (
        layout.connectors / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', path.name)}-{_hash(os.path.relpath(path, layout.root))}"
    )


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _record(place: Path) -> dict[str, object] | None:
    """What an environment was noted to hold; None where it is not whole."""
    try:
        record: dict[str, object] = json.loads((place / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if (place / "venv" / "bin" / "python").exists() else None


def _install(name: str, wanted: _Wanted, layout: Layout, tell: Callable[[str], None], *, upgrade: bool) -> Path:
    """While the lock is held: nobody else makes or removes an environment."""
    for leftover in layout.connectors.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    lock = parse_lock(lock_file(name, layout))
    with _scratch(layout) as scratch:
        body = lock.body if lock else ""
        if lock is None or not lock.fits(wanted) or upgrade:
            tell(f"{name}: {_why(lock, wanted, lock_file(name, layout).relative_to(layout.root), upgrade=upgrade)}")
            body = _resolve(name, wanted, scratch / "lock.txt", body, upgrade=upgrade)
        place = _place(layout, wanted, body)
        if _record(place) is None:
            tell(f"{name}: installing {wanted.requirement} into an environment of its own")
            _make(name, wanted, scratch, body)
            shutil.rmtree(place, ignore_errors=True)
            os.sync()  # a power cut must not leave a whole environment of empty files
            scratch.rename(place)
    # Last: a lock that cannot be installed is not kept.
    if lock is None or lock.requirement != wanted.requirement or lock.body != body or not lock.fits(wanted):
        head = _HEAD.format(name=name, requirement=wanted.requirement, python=wanted.version)
        layout.connector_locks.mkdir(exist_ok=True)
        write_atomically(lock_file(name, layout), head + body)
    return place


def _why(lock: Lock | None, wanted: _Wanted, file: Path, *, upgrade: bool) -> str:
    if lock is None or upgrade:
        return f"resolving {wanted.requirement}"
    if lock.requirement != wanted.requirement:
        return f"{file} was made from {lock.requirement}; resolving {wanted.requirement}"
    return f"{file} was made for Python {lock.python} and newer; resolving {wanted.requirement} for {wanted.version}"


@contextmanager
def _scratch(layout: Layout) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=layout.connectors))
    folder.chmod(0o755)  # whoever may read the project's folder may run its connectors
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _resolve(name: str, wanted: _Wanted, file: Path, known: str, *, upgrade: bool) -> str:
    file.write_text(known, encoding="utf-8")
    try:
        uv.resolve(wanted.requirement, (wanted.interpreter, wanted.version), file, upgrade=upgrade)
    except RuntimeError as error:
        raise LoadError(
            f"{name}: {wanted.requirement} cannot be resolved: {error}.",
            hint=_python_hint(wanted, error)
            or "Is the name of the package right, is the index in reach, and does the package support this Python "
            f"({wanted.version}; the key `python` chooses another)?",
        ) from None
    return f"{file.read_text(encoding='utf-8').strip()}\n"


def _make(name: str, wanted: _Wanted, scratch: Path, body: str) -> None:
    file = scratch / "lock.txt"
    file.write_text(body, encoding="utf-8")
    try:
        uv.make_environment(scratch / "venv", wanted.interpreter, file)
    except RuntimeError as error:
        raise LoadError(
            f"{name}: {wanted.requirement} cannot be installed with Python {wanted.version}: {error}.",
            hint=_python_hint(wanted, error)
            or "Is the index in reach? `smoll connectors install --upgrade` looks for newer versions.",
        ) from None
    record = {"package": wanted.package, **_contents(scratch / "venv", wanted.package)}
    (scratch / _RECORD).write_text(json.dumps(record), encoding="utf-8")


def _python_hint(wanted: _Wanted, error: RuntimeError) -> str:
    if "interpreter" not in str(error):
        return ""
    return f"Install Python {wanted.version}, or set UV_PYTHON_DOWNLOADS=automatic to let uv download it."


def _contents(venv: Path, package: str) -> dict[str, object]:
    """The version and the programs of a package, without those of what it needs."""
    paths = [str(path) for path in venv.glob("lib/python*/site-packages")]
    found = next(iter(metadata.distributions(name=package, path=paths)), None)
    if found is None:
        return {"version": "", "scripts": []}
    scripts = {entry.name for entry in found.entry_points if entry.group == "console_scripts"}
    scripts |= {file.name for file in found.files or () if file.parent.name == "bin" and ".." in file.parts}
    return {"version": found.version, "scripts": sorted(scripts)}


def _script(name: str, source: ProgramBase, record: Mapping[str, object], place: Path) -> str:
    """Which of the package's programs is the connector."""
    package, scripts = str(record["package"]), list(record["scripts"])  # type: ignore[call-overload]
    wished = "source-declarative-manifest" if _is_manifest(source) else source.executable
    if wished is not None:
        if (place / "venv" / "bin" / wished).is_file() and "/" not in wished:
            return wished
        raise LoadError(f"{name}: {package} has no program {wished!r}.", hint=_choice(scripts))
    prefixed = [script for script in scripts if script.startswith(("tap-", "source-"))]
    for among in ([script for script in scripts if _normal(script) == package], scripts, prefixed):
        if len(among) == 1:
            return str(among[0])
    what = "several programs" if scripts else "no program"
    raise LoadError(f"{name}: {package} has {what}, so it is not clear which is the connector.", hint=_choice(scripts))


def _choice(scripts: list[str]) -> str:
    if not scripts:
        return "It may be a library, or have its program in another package: name that one."
    return f"Set `executable` to one of {', '.join(scripts)}."


def _size(place: Path) -> int:
    """What the files take on the disk. Those that uv shares with its cache count here, too."""
    found = 0
    for folder, _, files in os.walk(place):
        for file in files:
            try:
                found += os.lstat(os.path.join(folder, file)).st_blocks * 512  # noqa: PTH118
            except OSError:
                continue
    return found
