"""uv, which resolves and installs connectors. The only place that starts it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from smoll.errors import LoadError

# Of the environment that smoll runs in nothing may reach the connector's: uv is told everything.
_NOT_FOR_UV = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_SYSTEM_PYTHON", "UV_REQUIRE_HASHES")
_PASSWORD = re.compile(r"://[^\s/@]+@")
_LABEL = re.compile(r"^\W*((error|cause|hint):\s*)?", re.IGNORECASE)
_FIRST_LINES, _LAST_LINES, _LONGEST = 2, 6, 900


def find_uv() -> str:
    """The uv to run: that of the extra ``connectors``, else the one on the PATH.

    Raises
    ------
    LoadError
        There is none.
    """
    try:
        from uv import find_uv_bin

        return os.fspath(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise LoadError(
            "uv is needed to install connectors, and is not there.",
            hint='pip install "smoll[connectors]", or install uv',
        )
    return found


def resolve(requirement: str, python: Sequence[str], lock: Path, *, upgrade: bool) -> None:
    """Write into `lock` the versions, with hashes, of what `requirement` needs, for every platform.

    Parameters
    ----------
    python
        The Python to resolve with, and the oldest version that the lock is to hold for.
    lock
        Where it holds versions already they are kept as far as they fit, but for `upgrade`.

    Raises
    ------
    LoadError
        There is no uv.
    RuntimeError
        uv failed; the text is what it said.
    """
    interpreter, version = python
    command = ["pip", "compile", "--universal", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", "--python", interpreter, "--python-version", version, "-o", str(lock), "-"]
    _uv([*command, *(["--upgrade"] if upgrade else [])], lock.parent, requirement)


def make_environment(place: Path, interpreter: str, lock: Path) -> None:
    """Make an environment in `place`, which may be moved afterwards, with what `lock` names and nothing else.

    Raises
    ------
    LoadError
        There is no uv.
    RuntimeError
        uv failed; the text is what it said.
    """
    _uv(["venv", "--no-project", "--relocatable", "--python", interpreter, str(place)], place.parent)
    command = ["pip", "install", "--python", str(place / "bin" / "python"), "--no-deps", "-r", str(lock)]
    # What comes from a version control system has no hash, and uv takes all of them or none.
    lines = [line for line in lock.read_text(encoding="utf-8").splitlines() if re.match(r"\S", line)]
    hashed = all(line.endswith("\\") for line in lines if not line.startswith("#"))
    _uv([*command, *(["--require-hashes"] if hashed else [])], place.parent)


def _uv(command: Sequence[str], folder: Path, text: str = "") -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_UV}
    environment = {"UV_PYTHON_DOWNLOADS": "never", **environment, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
    done = subprocess.run(
        [find_uv(), *command],
        input=text,
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise RuntimeError(_said(done.stderr) or f"uv ended with {done.returncode} and said nothing")


def _said(output: str) -> str:
    """What uv said was wrong, as one line without passwords: how it begins and how it ends."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip(" ^|\t")]
    start = next((number for number, line in enumerate(lines) if re.match(r"error:|\s*\u00d7", line)), 0)
    lines = lines[start:]
    if len(lines) > _FIRST_LINES + _LAST_LINES:
        lines = [*lines[:_FIRST_LINES], *lines[-_LAST_LINES:]]
    text = ": ".join(_LABEL.sub("", line).rstrip(":. ") for line in lines)
    return _PASSWORD.sub("://***@", text)[:_LONGEST]
