"""What every benchmark shares: measuring a command and all its children, taking turns, and a Markdown table."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "bench"
PROJECTS = ROOT / "benchmarks" / "projects"
PYTHON = Path(sys.executable)
MB = 1_000_000
_SAMPLE_SECONDS = 0.03


class BenchmarkError(Exception):
    """A contender cannot be installed, failed, or did not do its work."""


@dataclass(frozen=True)
class Contender:
    """A command to measure.

    ``prepare`` puts everything in place before each turn, and ``verify`` raises BenchmarkError where the command
    did not do its work; neither is measured.
    """

    name: str
    command: Sequence[str]
    folder: Path
    prepare: Callable[[], None] = lambda: None
    verify: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One process tree from start to end: wall seconds, seconds of processor time, and its peak memory in bytes."""

    wall: float
    cpu: float
    memory: int


def compare(contenders: Sequence[Contender], repeat: int) -> dict[str, Sample]:
    """Measure all contenders in turns (A B C, A B C, ...), so that a slow minute hits all; medians by name."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for turn in range(repeat):
        for contender in contenders:
            contender.prepare()
            sample = measure(contender)
            contender.verify()
            samples[contender.name].append(sample)
            say(f"{turn + 1}/{repeat} {contender.name}: {sample.wall:.2f} s, {sample.memory // MB} MB")
    return {name: _median(taken) for name, taken in samples.items()}


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(
        statistics.median(sample.wall for sample in samples),
        statistics.median(sample.cpu for sample in samples),
        round(statistics.median(sample.memory for sample in samples)),
    )


def end_service(process: subprocess.Popen[bytes]) -> None:
    """End what serves in a session of its own, as Ctrl-C does; surely, where that does not help."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(90)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def measure(contender: Contender) -> Sample:
    """Run the command in a session of its own. Raises BenchmarkError where its exit code is not 0."""
    log = CACHE / "last.log"
    with log.open("w", encoding="utf-8") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            contender.command,
            cwd=contender.folder,
            env=clean_environment(contender.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        watch = _MemoryWatch(process.pid)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    memory = watch.finish()
    _end_session(process.pid)
    if process.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise BenchmarkError(f"{contender.name}: exit code {process.returncode}\n{tail}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, memory)


class _MemoryWatch(threading.Thread):
    """Samples the memory of a process and all its descendants, and remembers the most."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._peak = 0
        self._over = threading.Event()

    def finish(self) -> int:
        self._over.set()
        self.join()
        return self._peak

    def run(self) -> None:
        pause = 0.0
        while not self._over.wait(pause):
            begun = time.perf_counter()
            self._peak = max(self._peak, tree_memory(self._pid))
            # Looking costs the kernel time too: at most a tenth of a core.
            pause = max(_SAMPLE_SECONDS, 10 * (time.perf_counter() - begun))


def tree_memory(pid: int) -> int:
    """The memory of a process and all its descendants now, in bytes; 0 where it has ended."""
    try:
        root = psutil.Process(pid)
        return sum(process_memory(process) for process in [root, *root.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def process_memory(process: psutil.Process) -> int:
    """PSS, which counts a page shared by two processes once; RSS where the system has no PSS."""
    try:
        return int(process.memory_full_info().pss if _HAS_PSS else process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


_HAS_PSS = Path("/proc/self/smaps_rollup").is_file()


def _end_session(pid: int) -> None:
    """End what the command left running, so that it does not disturb the next turn."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every contender: a home of its own, nobody's telemetry, and none of the caller's settings."""
    home = CACHE / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    quiet = {
        "DO_NOT_TRACK": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "NO_COLOR": "1",
    }
    return {**kept, **quiet, "HOME": str(home), **(more or {})}


def activated(environment: Path) -> dict[str, str]:
    """What activating a virtual environment sets, for commands that look for others on the PATH."""
    return {"VIRTUAL_ENV": str(environment), "PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}


def smoll_command(*arguments: str) -> list[str]:
    """The `smoll` command of this environment."""
    return [str(PYTHON.with_name("smoll")), *arguments]


def run_quietly(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Run a command that is no part of what is measured. Raises BenchmarkError where it fails."""
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(environment), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")


def fresh_folder(folder: Path, template: Path | None = None) -> None:
    """Make `folder` anew: a copy of `template`, or empty."""
    shutil.rmtree(folder, ignore_errors=True)
    if template:
        shutil.copytree(template, folder)
    else:
        folder.mkdir(parents=True)


def check_rows(database: Path, table: str, expected: int) -> None:
    """Raise BenchmarkError where the table of a DuckDB file has not the expected number of rows; 0: no table."""
    import duckdb

    with duckdb.connect(str(database), read_only=True) as connection:
        try:
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        except duckdb.CatalogException:
            row = (0,)
    found = row[0] if row else 0
    if found != expected:
        raise BenchmarkError(f"{database}: {table} has {found} rows, not {expected}")


def say(text: str) -> None:
    """Tell a person how far it is; stdout is for the tables."""
    print(text, file=sys.stderr, flush=True)


# --- The report


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def results_table(samples: Mapping[str, Sample], base: str) -> str:
    """Time, processor time and memory by contender, and each contender's time as a ratio to that of `base`."""
    rows = [
        [
            name,
            f"{sample.wall:.2f} s",
            f"{sample.cpu:.2f} s",
            f"{sample.memory / MB:.0f} MB",
            f"{sample.wall / samples[base].wall:.2f}",
        ]
        for name, sample in samples.items()
    ]
    return table(["", "time", "processor time", "peak memory", f"time, {base} = 1"], rows)


def verdict(met: bool, text: str) -> str:
    """One line: what was aimed at, and whether it was met."""
    return f"{'Met' if met else '**Not met**'}: {text}"


def machine() -> str:
    """The machine, in one line."""
    memory = psutil.virtual_memory().total / 1024**3
    load = os.getloadavg()[0]
    return (
        f"{_cpu_model()}, {len(psutil.Process().cpu_affinity())} cores, {memory:.0f} GiB of memory, "
        f"{platform.system()}, load {load:.1f} at the start"
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> str:
    """The versions that decide the numbers."""
    packages = ("smoll", "duckdb", "dbt-core", "dbt-duckdb")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def memory_measure() -> str:
    """How memory was measured, for the report."""
    kind = "PSS, a shared page counted once" if _HAS_PSS else "RSS, shared pages counted for each process"
    return f"the sum over the process tree, sampled about every {_SAMPLE_SECONDS * 1000:.0f} ms ({kind})"
