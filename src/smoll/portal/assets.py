"""The files that all pages share: style, scripts, and Vega, which is made once and kept under ``.smoll/``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from smoll.dashboards import FOLDER, script
from smoll.errors import ReleaseError, disk_hint
from smoll.leash import leashed
from smoll.release import numbers
from smoll.state.layout import Layout, fsync_path

_BUNDLE = """
import os, sys, vl_convert
target = sys.argv[1]
staged = f"{target}.{os.getpid()}.tmp"
with open(staged, "w", encoding="utf-8") as file:
    file.write(vl_convert.javascript_bundle())
    file.flush()
    os.fsync(file.fileno())
os.chmod(staged, 0o444)
os.replace(staged, target)
"""
"""vl-convert runs a whole JavaScript engine to bundle Vega: 1.8 s and 150 MB, for a process that ends."""
FIRST_CHARTED = 3
"""So many runs have a history that is worth a chart."""
_started: dict[Path, subprocess.Popen[str]] = {}


def prepare_scripts(layout: Layout) -> None:
    """Begin to make what charts need, so that the first release with one need not wait for it.

    Where that fails, the release says so.
    """
    path = _vega(layout)
    is_needed = any((layout.root / FOLDER).glob("*.md")) or len(numbers(layout)) >= FIRST_CHARTED - 1
    if is_needed and not path.exists() and path not in _started:
        with suppress(OSError):
            _started[path] = _start(path)


def put_assets(layout: Layout, folder: Path, *, charts: bool) -> None:
    """Put the shared files into the site's folder ``assets/``; with `charts` Vega, too.

    Raises
    ------
    ReleaseError
        Vega cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in resources.files("smoll.portal").joinpath("static").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if charts:
        share(_made(layout), folder / "vega.js")


def write_script(path: Path) -> None:
    """Write what makes charts, tables and tabs of dashboards work."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(script())


def share(source: Path, target: Path) -> None:
    """Let a release have a file of ``.smoll/``, which never changes: as a hard link where the disk knows such."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def kept(layout: Layout, name: str) -> Path:
    """Where something is kept that all releases share."""
    return layout.state / "portal" / name


def keep(layout: Layout, name: str, text: str) -> Path:
    """Keep a file that all releases share, under a name that says its version; return where."""
    path = kept(layout, name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        staged = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        staged.write_text(text, encoding="utf-8")
        fsync_path(staged)
        staged.chmod(0o444)
        staged.replace(path)
    return path


def _clear(path: Path) -> None:
    """Remove what is kept for other versions, and what a killed process has left of this one."""
    for other in path.parent.glob(f"{path.name.rpartition('-')[0]}-*"):
        other.unlink(missing_ok=True)


def _vega(layout: Layout) -> Path:
    return kept(layout, f"vega-{version('vl-convert-python')}.js")


def _start(path: Path) -> subprocess.Popen[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    command = leashed([sys.executable, "-c", _BUNDLE, str(path)])
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _made(layout: Layout) -> Path:
    path = _vega(layout)
    process = _started.pop(path, None)
    if path.exists():
        return path
    try:
        process = process or _start(path)
        _, said = process.communicate()
        if not path.exists():  # the process may have been ended: once more, and wait for it
            _, said = _start(path).communicate()
    except OSError as error:
        raise ReleaseError(f"The scripts of the portal cannot be made: {error}", hint=disk_hint(error)) from error
    if not path.exists():
        why = (said.strip().splitlines() or ["no reason was given"])[-1]
        raise ReleaseError(
            f"The scripts of the portal cannot be made: {why}",
            hint=disk_hint(why) or "`pip install --force-reinstall vl-convert-python` brings them anew.",
        )
    return path
