"""Make project folders for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from smoll.errors import ConfigError, Problem
from smoll.project import ProjectConfig, load_config


def write(root: Path, text: str | bytes, dotenv: str | bytes | None = None) -> Path:
    root.joinpath("smoll.yml").write_bytes(text.encode() if isinstance(text, str) else text)
    if dotenv is not None:
        root.joinpath(".env").write_bytes(dotenv.encode() if isinstance(dotenv, str) else dotenv)
    return root


def load(
    root: Path, text: str | bytes, dotenv: str | bytes | None = None, environ: Mapping[str, str] | None = None
) -> ProjectConfig:
    return load_config(write(root, text, dotenv), environ or {})


def problems(
    root: Path, text: str | bytes, dotenv: str | bytes | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(root, text, dotenv, environ)
    assert caught.value.exit_code == 2
    assert caught.value.__cause__ is None and caught.value.__context__ is None  # they would carry values
    return caught.value.problems


def lines(found: tuple[Problem, ...]) -> list[str]:
    return [str(problem) for problem in found]
