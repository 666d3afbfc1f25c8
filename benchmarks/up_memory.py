"""(j) What `smoll up` takes while nothing happens, with all parts and with the portal alone, beside `dagster dev`."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]

from common import (
    CACHE,
    MB,
    PYTHON,
    BenchmarkError,
    clean_environment,
    end_service,
    fresh_folder,
    process_memory,
    run_quietly,
    say,
    smoll_command,
    table,
    verdict,
)

TITLE = "(j) `smoll up` while nothing happens"
_FOLDER = CACHE / "up"
_PORT = 3777
_IDLE_SECONDS, _WATCHED_SECONDS, _START_SECONDS = 60, 30, 180
_ALL = "smoll up, somebody has opened Dagster and an app"
_SMOLL, _ASLEEP = "smoll up, nobody has opened an app yet", "smoll up, nobody has called for a while"
_PORTAL, _DAGSTER = "smoll up --only portal", "dagster dev"
_MOST_MORE, _MOST_ALONE = 150, 25
_PARTS = {
    "up.front": "front",
    "up.apps": "apps",
    "api grpc": "definitions",
    "code_server": "code server",
    "code-server": "code server",
    "webserver": "webserver",
    "_daemon": "daemon",
}
_REST = "the rest"
_SOON_ASLEEP = """
import smoll, sys
from smoll.up.service import up
up(smoll.open_project(sys.argv[1]).config, port=int(sys.argv[2]), sleep_after=15)
"""


@dataclass(frozen=True)
class _Idle:
    """Bytes of each part, seconds until the page answered, and processor time per hour of idling."""

    parts: Mapping[str, int]
    start: float
    cpu: float
    processes: int

    @property
    def memory(self) -> int:
        return sum(self.parts.values())


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    project = _FOLDER / "project"
    fresh_folder(_FOLDER)
    run_quietly(smoll_command("init", str(project), "--template", "flights"), _FOLDER, {})
    run_quietly(smoll_command("--project", str(project), "run"), _FOLDER, {})
    home = _FOLDER / "dagster-home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    dev = [str(PYTHON.with_name("dagster")), "dev", "-m", "smoll.dagster.default", "-p", str(_PORT)]
    # Whoever comes first would pay for dbt's first look at the project.
    run_quietly([str(PYTHON), "-m", "smoll.dagster.default"], project, {"SMOLL_PROJECT": str(project)})
    up = smoll_command("--project", str(project), "up", "--port", str(_PORT))
    contenders: dict[str, tuple[Sequence[str], Mapping[str, str], Sequence[str]]] = {
        _ALL: (up, {}, ("/dagster/server_info", "/apps/")),
        _SMOLL: (up, {}, ("/dagster/server_info",)),
        _ASLEEP: ([str(PYTHON), "-c", _SOON_ASLEEP, str(project), str(_PORT)], {}, ("/dagster/server_info",)),
        _PORTAL: ([*up, "--only", "portal"], {}, ("/",)),
        _DAGSTER: (dev, {"SMOLL_PROJECT": str(project), "DAGSTER_HOME": str(home)}, ("/server_info",)),
    }
    taken: dict[str, list[_Idle]] = {name: [] for name in contenders}
    for turn in range(repeat):
        for name, (command, environment, pages) in contenders.items():
            idle = _measure(command, environment, project, pages)
            taken[name].append(idle)
            say(f"{turn + 1}/{repeat} {name}: {idle.memory // MB} MB, up after {idle.start:.1f} s")
    medians = {name: _median(all_of_it) for name, all_of_it in taken.items()}
    dev_memory = medians[_DAGSTER].memory
    more, alone = (medians[_ALL].memory - dev_memory) / MB, medians[_PORTAL].memory / MB
    ratios = ", ".join(f"{medians[name].memory / dev_memory:.2f}" for name in (_ALL, _SMOLL, _ASLEEP))
    rows = [
        [name, f"{idle.memory / MB:.0f} MB", f"{idle.processes}", f"{idle.start:.1f} s", f"{idle.cpu:.0f} s"]
        for name, idle in medians.items()
    ]
    return "\n\n".join(
        [
            f"The demo project, with the same definitions. Memory after {_IDLE_SECONDS} s without a visitor or a run. "
            "What `smoll up` serves sleeps after 10 minutes without a visitor; here after 15 s. Streamlit is counted "
            "once its server has started; sessions that look at tables take 100 MB more.",
            table(["", "memory", "processes", "page answers after", "processor time per hour"], rows),
            "By process: the definitions are served by the code server, and the rest supervises the others.",
            _parts_table(medians),
            verdict(
                more <= _MOST_MORE,
                f"with all parts {more:+.0f} MB beside `dagster dev` (aim: at most +{_MOST_MORE} MB).",
            ),
            verdict(alone < _MOST_ALONE, f"the portal alone takes {alone:.0f} MB (aim: under {_MOST_ALONE} MB)."),
            f"`smoll up` takes {ratios} of the memory of `dagster dev`.",
        ]
    )


def _parts_table(medians: Mapping[str, _Idle]) -> str:
    names = [*dict.fromkeys(_PARTS.values()), _REST]
    rows = [
        [contender, *(f"{idle.parts[name] / MB:.0f} MB" if name in idle.parts else "" for name in names)]
        for contender, idle in medians.items()
    ]
    return table(["", *names], rows)


def _measure(command: Sequence[str], environment: Mapping[str, str], folder: Path, pages: Sequence[str]) -> _Idle:
    log = CACHE / "last.log"
    with log.open("w", encoding="utf-8") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for_page(process, log, pages[0])
            start = time.perf_counter() - begun
            for page in pages[1:]:
                _wait_for_page(process, log, page)
            time.sleep(_IDLE_SECONDS)
            before = _cpu(process.pid)
            time.sleep(_WATCHED_SECONDS)
            cpu = (_cpu(process.pid) - before) / _WATCHED_SECONDS * 3600
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            return _Idle(_parts(tree), start, cpu, len(tree))
        finally:
            end_service(process)


def _wait_for_page(process: subprocess.Popen[bytes], log: Path, page: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{_PORT}{page}", timeout=60):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
    raise BenchmarkError(f"{' '.join(process.args)}: no page\n{tail}")  # type: ignore[arg-type]


def _parts(tree: Sequence[psutil.Process]) -> dict[str, int]:
    found: dict[str, int] = {}
    for process in tree:
        command = " ".join(process.cmdline()[:5])  # what comes after may name the others
        name = next((name for words, name in _PARTS.items() if words in command), _REST)
        found[name] = found.get(name, 0) + process_memory(process)
    return found


def _cpu(pid: int) -> float:
    root = psutil.Process(pid)
    used = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
            used += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return used


def _median(taken: Sequence[_Idle]) -> _Idle:
    return _Idle(
        {name: round(statistics.median(idle.parts.get(name, 0) for idle in taken)) for name in taken[0].parts},
        statistics.median(idle.start for idle in taken),
        statistics.median(idle.cpu for idle in taken),
        round(statistics.median(idle.processes for idle in taken)),
    )
