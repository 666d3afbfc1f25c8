"""(i) The demo through Dagster, beside `smoll run` and beside the same pipeline as plain Dagster, dlt and dbt."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from common import (
    CACHE,
    PROJECTS,
    PYTHON,
    BenchmarkError,
    Contender,
    Sample,
    activated,
    check_rows,
    clean_environment,
    compare,
    end_service,
    fresh_folder,
    results_table,
    run_quietly,
    say,
    smoll_command,
    table,
    verdict,
)
from peers import described, environment
from smoll.up.instance import write_instance

TITLE = "(i) The demo, run through Dagster"
_FOLDER = CACHE / "dagster"
_TEMPLATE = _FOLDER / "template"
_PEER = "Dagster + dlt + dagster-dbt"
_RUN, _JOB, _PLAIN, _AGAIN = "smoll run", "smoll, Dagster's job", "plain Dagster", ", nothing new"
_FLIGHTS, _AIM, _PORT = 336_776, 3.0, 3778
_START_SECONDS, _RUN_SECONDS = 180, 300
_REPOSITORIES = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
_LAUNCH = """mutation($location: String!, $repository: String!) { launchRun(executionParams: {selector: {
  repositoryLocationName: $location, repositoryName: $repository, jobName: "flights" }}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status startTime endTime } } }"


@dataclass(frozen=True)
class _Service:
    """Dagster with its page, its daemon and a project, which ``prepare`` makes anew."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    prepare: Callable[[], None]
    verify: Callable[[], None]


@dataclass(frozen=True)
class _Launch:
    """Seconds from the click to SUCCESS, and those of them within the run."""

    whole: float
    own: float


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    fresh_folder(_FOLDER)
    run_quietly(smoll_command("init", str(_TEMPLATE), "--template", "flights", "--name", "flights"), _FOLDER, {})
    contenders, services = [*_smoll(), *_job()], {"smoll up": _up()}
    try:
        installed = environment(_PEER)
        contenders += _plain(installed)
        services["dagster dev"] = _dev(installed)
        note = (
            f"{described(_PEER)}: `@dlt_assets` with DuckDB's reader and Arrow, of flights only new files; "
            "`@dbt_assets` over the same dbt project, its manifest made beforehand. It releases nothing."
        )
    except BenchmarkError as error:
        say(f"{_PEER}: {error}")
        note = f"{_PEER} is not installed: {error}"
    samples = compare(contenders, repeat)
    launches = _launch_all(services, repeat)
    return "\n\n".join(
        [
            f"{_FLIGHTS:,} flights and four more tables, 18 models and 61 dbt tests; a new project each time, and once "
            "again with what that left behind. The definitions are known already.",
            note,
            "**In one process**: `dagster job execute`, for plain Dagster `dagster asset materialize`.",
            results_table(samples, _RUN),
            "**Launched** from the page (by GraphQL), until it says SUCCESS. Plain Dagster has the configuration of "
            "`dagster dev`, which gives each step a process.",
            _launch_table(launches),
            *_verdicts(samples, launches),
        ]
    )


def _launch_table(launches: Mapping[str, tuple[_Launch, _Launch]]) -> str:
    rows = [
        [name, *(f"{seconds:.2f} s" for launch in both for seconds in (launch.whole, launch.own))]
        for name, both in launches.items()
    ]
    return table(["", "launch to SUCCESS", "within the run", f"launch{_AGAIN}", "within the run"], rows)


def _verdicts(samples: Mapping[str, Sample], launches: Mapping[str, tuple[_Launch, _Launch]]) -> Iterator[str]:
    first, again = samples[_RUN].wall, samples[_RUN + _AGAIN].wall
    up = launches["smoll up"]
    more = {
        "in one process, the first time": samples[_JOB].wall - first,
        f"in one process{_AGAIN}": samples[_JOB + _AGAIN].wall - again,
        "launched, the first time": up[0].whole - first,
        f"launched{_AGAIN}": up[1].whole - again,
    }
    for name, seconds in more.items():
        yield verdict(seconds < _AIM, f"{name} {seconds:.2f} s more than `smoll run` (aim under {_AIM:.0f}).")
    if "dagster dev" in launches:
        dev = launches["dagster dev"]
        plain, same = samples[_PLAIN].wall, samples[_PLAIN + _AGAIN].wall
        yield (
            f"Plain Dagster takes {plain / samples[_JOB].wall:.2f} times as long as smoll in one process, and "
            f"{same / samples[_JOB + _AGAIN].wall:.2f} times with nothing new; launched "
            f"{dev[0].whole / up[0].whole:.2f} and {dev[1].whole / up[1].whole:.2f} times. "
            f"It takes {plain / first:.2f} and {same / again:.2f} times as long as `smoll run`."
        )


# --- Projects


def _smoll() -> list[Contender]:
    folder = _FOLDER / "smoll"
    shared: dict[str, Any] = {"command": smoll_command("run"), "folder": folder, "verify": partial(_released, folder)}
    return [
        Contender(_RUN, prepare=partial(fresh_folder, folder, _TEMPLATE), **shared),
        Contender(_RUN + _AGAIN, **shared),
    ]


def _job() -> list[Contender]:
    folder = _FOLDER / "job"
    command = [str(PYTHON.with_name("dagster")), "job", "execute", "-m", "smoll.dagster.default", "-j", "flights"]
    home = str(folder / ".smoll" / "dagster")
    shared: dict[str, Any] = {
        "command": command,
        "folder": folder,
        "verify": partial(_released, folder),
        "environment": {"SMOLL_PROJECT": str(folder), "DAGSTER_HOME": home},
    }
    return [Contender(_JOB, prepare=partial(_known, folder), **shared), Contender(_JOB + _AGAIN, **shared)]


def _up() -> _Service:
    folder = _FOLDER / "up"
    command = smoll_command("up", "--port", str(_PORT))
    return _Service(command, folder, {}, partial(_known, folder), partial(_released, folder))


def _known(folder: Path) -> None:
    """A new project, whose definitions were loaded once."""
    fresh_folder(folder, _TEMPLATE)
    home = folder / ".smoll" / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    write_instance(home, 90, in_postgres=False)
    run_quietly([str(PYTHON), "-m", "smoll.dagster.default"], folder, {"SMOLL_PROJECT": str(folder)})


def _released(folder: Path) -> None:
    check_rows(folder / ".smoll" / "releases" / "current" / "warehouse.duckdb", "fct_flights", _FLIGHTS)


def _plain(installed: Path) -> list[Contender]:
    folder = _FOLDER / "plain"
    command = [str(installed / "bin" / "dagster"), "asset", "materialize", "--select", "*", "-f", "definitions.py"]
    shared: dict[str, Any] = {
        "command": command,
        "folder": folder,
        "verify": partial(check_rows, folder / "flights.duckdb", "fct_flights", _FLIGHTS),
        "environment": _plain_settings(folder, installed),
    }
    prepare = partial(_write_plain, folder, installed)
    return [Contender(_PLAIN, prepare=prepare, **shared), Contender(_PLAIN + _AGAIN, **shared)]


def _dev(installed: Path) -> _Service:
    folder = _FOLDER / "dev"
    command = [str(installed / "bin" / "dagster"), "dev", "-f", "definitions.py", "-p", str(_PORT)]
    verify = partial(check_rows, folder / "flights.duckdb", "fct_flights", _FLIGHTS)
    return _Service(
        command, folder, _plain_settings(folder, installed), partial(_write_plain, folder, installed), verify
    )


def _write_plain(folder: Path, installed: Path) -> None:
    """The same files and the same dbt project, with dlt's number of a load for smoll's."""
    fresh_folder(folder, PROJECTS / "flights_plain")
    shutil.copytree(_TEMPLATE / "data", folder / "data")
    shutil.copytree(_TEMPLATE / "transform", folder / "transform", dirs_exist_ok=True)
    flights = folder / "transform" / "models" / "staging" / "nyc" / "stg_nyc__flights.sql"
    ours, theirs = "\n        _smoll_load_id\n", "\n        cast(_dlt_load_id as double) as _smoll_load_id\n"
    flights.write_text(flights.read_text(encoding="utf-8").replace(ours, theirs), encoding="utf-8")
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    run_quietly([str(installed / "bin" / "dbt"), "parse"], folder / "transform", _plain_settings(folder, installed))


def _plain_settings(folder: Path, installed: Path) -> dict[str, str]:
    return {
        **activated(installed),
        "FLIGHTS_DATABASE": str(folder / "flights.duckdb"),
        "DAGSTER_HOME": str(folder / "home"),
        "DLT_DATA_DIR": str(folder / "dlt"),
        "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true",
    }


# --- Launching


def _launch_all(services: Mapping[str, _Service], repeat: int) -> dict[str, tuple[_Launch, _Launch]]:
    """Of each service the medians of a first launch and of the one after it."""
    taken: dict[str, list[list[_Launch]]] = {name: [] for name in services}
    for turn in range(repeat):
        for name, service in services.items():
            service.prepare()
            with _serving(service):
                both = [_launch(), _launch()]
            service.verify()
            taken[name].append(both)
            say(f"{turn + 1}/{repeat} {name}: {both[0].whole:.2f} s, then {both[1].whole:.2f} s")
    return {name: (_median([a for a, _ in both]), _median([b for _, b in both])) for name, both in taken.items()}


def _median(launches: Sequence[_Launch]) -> _Launch:
    return _Launch(
        statistics.median(launch.whole for launch in launches), statistics.median(launch.own for launch in launches)
    )


@contextmanager
def _serving(service: _Service) -> Iterator[None]:
    with (CACHE / "last.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            service.command,
            cwd=service.folder,
            env=clean_environment(service.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_loaded(process)
            time.sleep(10)  # the daemon begins, too
            yield
        finally:
            end_service(process)


def _wait_until_loaded(process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if _ask(_REPOSITORIES)["repositoriesOrError"]["nodes"]:
                return
        except (URLError, OSError, KeyError):
            pass
        time.sleep(0.2)
    raise BenchmarkError(f"{process.args!r} does not serve\n{(CACHE / 'last.log').read_text(encoding='utf-8')[-3000:]}")


def _launch() -> _Launch:
    repository = _ask(_REPOSITORIES)["repositoriesOrError"]["nodes"][0]
    begun = time.perf_counter()
    where = {"location": repository["location"]["name"], "repository": repository["name"]}
    answer = _ask(_LAUNCH, where)["launchRun"]
    if "run" not in answer:
        raise BenchmarkError(f"The run is not launched: {answer}")
    while time.perf_counter() - begun < _RUN_SECONDS:
        found = _ask(_STATUS, {"run": answer["run"]["runId"]})["runOrError"]
        if found["status"] == "SUCCESS":
            return _Launch(time.perf_counter() - begun, found["endTime"] - found["startTime"])
        if found["status"] in ("FAILURE", "CANCELED"):
            break
        time.sleep(0.1)
    raise BenchmarkError(f"The run has not succeeded: {found}")


def _ask(query: str, variables: Mapping[str, str] | None = None) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    asked = Request(f"http://127.0.0.1:{_PORT}/graphql", body, {"Content-Type": "application/json"})
    with urlopen(asked, timeout=60) as answer:
        return json.load(answer)["data"]
