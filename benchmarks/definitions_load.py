"""(h) What Dagster waits for before it shows a project: loading the definitions of 200 models."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from common import (
    CACHE,
    PROJECTS,
    PYTHON,
    BenchmarkError,
    Contender,
    activated,
    compare,
    fresh_folder,
    results_table,
    run_quietly,
    say,
    verdict,
)
from many_models import MODELS, SOURCES, STREAMS, TESTS, write_project, write_smoll_yml
from peers import described, environment

TITLE = "(h) The definitions of a large project"
_FOLDER = CACHE / "definitions"
_PEER = "Dagster + dagster-dbt"
_ALONE, _WARM, _COLD = "import dagster", "smoll, known already", "smoll, for the first time"
_TIMES, _MORE = 1.5, 1.0


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    smoll = _FOLDER / "smoll"
    fresh_folder(_FOLDER)
    write_project(smoll, declares_sources=False)
    write_smoll_yml(smoll)
    shutil.copytree(PROJECTS / "many_smoll", smoll, dirs_exist_ok=True)
    contenders = [
        Contender(_ALONE, [str(PYTHON), "-c", "import dagster"], smoll),
        Contender(_COLD, _load(PYTHON), smoll, partial(shutil.rmtree, smoll / ".smoll", ignore_errors=True)),
        Contender(_WARM, _load(PYTHON), smoll),
    ]
    try:
        contenders += _peers(environment(_PEER))
        note = f"{described(_PEER)}: `@dbt_assets` over the same dbt project, its sources declared by hand."
    except BenchmarkError as error:
        say(f"{_PEER}: {error}")
        note = f"{_PEER} is not installed: {error}"
    samples = compare(contenders, repeat)
    limit = _TIMES * samples[_ALONE].wall + _MORE
    return "\n\n".join(
        [
            f"{MODELS} models with {TESTS} tests and eight described columns each, over {SOURCES * STREAMS} streams; a "
            "process that loads `definitions.py` to the end, as Dagster's code server does, and its memory.",
            note,
            results_table(samples, _ALONE),
            verdict(
                samples[_WARM].wall < limit,
                f"{samples[_WARM].wall:.2f} s (aim: under {_TIMES} times `import dagster` and {_MORE:.0f} s more, "
                f"{limit:.2f} s).",
            ),
        ]
    )


def _peers(installed: Path) -> list[Contender]:
    folder = _FOLDER / "dagster"
    write_project(folder, declares_sources=True)
    shutil.copytree(PROJECTS / "many_dagster", folder, dirs_exist_ok=True)
    run_quietly([str(installed / "bin" / "dbt"), "parse"], folder / "transform", activated(installed))
    fresh = partial(shutil.rmtree, folder / "transform" / "target", ignore_errors=True)
    command, dev = _load(installed / "bin" / "python"), {"DAGSTER_IS_DEV_CLI": "1"}
    return [
        Contender("dagster-dbt, manifest made beforehand", command, folder, environment=activated(installed)),
        Contender("dagster-dbt, prepare_if_dev", command, folder, environment={**activated(installed), **dev}),
        Contender(
            "dagster-dbt, prepare_if_dev for the first time",
            command,
            folder,
            fresh,
            environment={**activated(installed), **dev},
        ),
    ]


def _load(python: Path) -> list[str]:
    return [str(python), str(PROJECTS / "load_definitions.py"), str(MODELS), str(TESTS)]
