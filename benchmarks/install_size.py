"""(d) What the installed environment takes on disk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from common import CACHE, MB, PYTHON, ROOT, BenchmarkError, say, table, verdict
from peers import PEERS, described, environment, make_environment, pip

TITLE = "(d) The installed environment"
_AIM = 300 * MB
_SMOLL = "smoll"


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    bare = _size(_site_packages(_bare()))
    base = _site_packages(_base())
    sizes = {_SMOLL: _size(base) - bare}
    notes = []
    for name in PEERS:
        try:
            sizes[name] = _size(_site_packages(environment(name))) - bare
            notes.append(f"- {described(name)}")
        except BenchmarkError as error:
            say(f"{name}: {error}")
            notes.append(f"- {name} is not installed: {error}")
    rows = [[name, f"{size / MB:.0f} MB", f"{size / sizes[_SMOLL]:.2f}"] for name, size in sizes.items()]
    largest = sorted(((_size(path), path.name.split(".")[0]) for path in _brought(base)), reverse=True)[:6]
    return "\n\n".join(
        [
            "The files of `site-packages` with their compiled modules, less what pip brings to an empty environment. "
            "smoll is the base, `requirements/base.txt`, without extras.",
            "\n".join(notes),
            table(["", "size", f"{_SMOLL} = 1"], rows),
            f"The largest of smoll's: {', '.join(f'{name} {size / MB:.0f} MB' for size, name in largest)}.",
            verdict(sizes[_SMOLL] < _AIM, f"{sizes[_SMOLL] / MB:.0f} MB (aim under {_AIM / MB:.0f} MB)."),
        ]
    )


def _bare() -> Path:
    folder = CACHE / "venvs" / "bare"
    if not folder.is_dir():
        subprocess.run([PYTHON, "-m", "venv", folder], check=True)
    return folder


def _base() -> Path:
    """smoll as a user has it: the locked base, and smoll itself from a wheel built here."""
    shutil.rmtree(CACHE / "venvs" / "base", ignore_errors=True)
    wheels = CACHE / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    pip(PYTHON, ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)])
    locked = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(ROOT / "requirements" / "base.txt")]
    folder = make_environment("base", locked)
    pip(folder / "bin" / "python", ["install", "--quiet", "--no-deps", *map(str, wheels.glob("smoll-*.whl"))])
    return folder


def _site_packages(environment: Path) -> Path:
    return next((environment / "lib").glob("python*/site-packages"))


def _brought(packages: Path) -> list[Path]:
    """What stands in `site-packages`, without what every environment has."""
    names = {path.name for path in _site_packages(_bare()).iterdir()}
    return [path for path in packages.iterdir() if path.name not in names]


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())
