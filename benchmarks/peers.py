"""The other tools, each installed by pip into an environment of its own. Pinned, so that a run can be repeated."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from common import CACHE, PYTHON, ROOT, BenchmarkError, say

_DBT = tuple(f"{name}=={version(name)}" for name in ("dbt-core", "dbt-duckdb", "duckdb"))
_DAGSTER = ("dagster==1.13.27", "dagster-dbt==0.29.27", *_DBT)
PEERS: dict[str, tuple[str, ...]] = {
    "SQLMesh": ("sqlmesh==0.236.4", f"duckdb=={version('duckdb')}"),
    "Dango": ("getdango==1.0.13",),
    "Dagster + dagster-dbt": _DAGSTER,
    "Dagster + dlt + dagster-dbt": (
        *_DAGSTER,
        "dagster-webserver==1.13.27",
        "dagster-dlt==0.29.27",
        "dlt[duckdb,filesystem]==1.31.0",
        "pyarrow==26.0.1",
    ),
    "dlt": ("dlt[duckdb]==1.31.0", "pyarrow==26.0.1", f"duckdb=={version('duckdb')}"),
    "pandas": ("pandas==2.3.3", "pyarrow==26.0.1", f"duckdb=={version('duckdb')}"),
    "tap-postgres": ("meltanolabs-tap-postgres==0.10.0",),
    "target-duckdb": ("target-duckdb==0.8.0", f"duckdb=={version('duckdb')}"),
    "dlt sql_database": (
        "dlt[duckdb,sql-database]==1.31.0",
        "psycopg2-binary==2.9.11",
        "pyarrow==26.0.1",
        f"duckdb=={version('duckdb')}",
    ),
    "pandas read_sql": (
        "pandas==2.3.3",
        "sqlalchemy==2.0.44",
        "psycopg2-binary==2.9.11",
        f"duckdb=={version('duckdb')}",
    ),
    "create-dagster": ("create-dagster==1.13.27", "dagster-dg-cli==1.13.27", *_DAGSTER),
}


def described(name: str) -> str:
    """The peer with the versions that were asked for, for the report."""
    return f"{name} ({', '.join(PEERS[name])})"


@cache
def environment(name: str) -> Path:
    """The folder of the peer's virtual environment, made where it is not there or was made for other versions.

    Raises
    ------
    BenchmarkError
        pip cannot install it; the message is its last lines.
    """
    return make_environment(name.lower().replace(" + ", "-").replace(" ", "-"), list(PEERS[name]))


def make_environment(name: str, arguments: list[str]) -> Path:
    """A virtual environment made by pip with these arguments. Raises BenchmarkError where pip fails."""
    folder = CACHE / "venvs" / name
    done = folder / "installed.txt"
    wanted = "\n".join(arguments)
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return folder
    say(f"Installing {name}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([PYTHON, "-m", "venv", folder], check=True)
    pip(folder / "bin" / "python", ["install", "--quiet", "--prefer-binary", *arguments])
    done.write_text(wanted, encoding="utf-8")
    return folder


def pip(python: Path, arguments: list[str]) -> None:
    """Run pip with the caller's settings. Raises BenchmarkError where it fails or takes more than 15 minutes."""
    environment = {"PIP_CACHE_DIR": str(ROOT / ".cache" / "pip"), **os.environ}
    try:
        done = subprocess.run(
            [python, "-m", "pip", *arguments], env=environment, capture_output=True, text=True, timeout=900, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError("pip did not finish in 15 minutes.") from error
    if done.returncode != 0:
        raise BenchmarkError("\n".join(done.stderr.strip().splitlines()[-3:]))
