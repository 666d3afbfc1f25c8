"""Every chart is drawn once before it is published, so that one that cannot be drawn is a problem, not a blank."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from smoll.dashboards import draw_worker
from smoll.errors import Problem
from smoll.leash import leashed
from smoll.model import NOT_AS_WRITTEN
from smoll.state.layout import Layout, write_atomically

_SECONDS = 120.0
_ENDED = "it takes too much time or memory"
"""Said anew each time: the machine may have had too much to do."""


@dataclass(frozen=True)
class Drawing:
    """A chart that is to be drawn: where it stands, what is drawn, and some rows of each of its queries."""

    file: str
    line: int
    spec: dict[str, Any]
    data: dict[str, list[dict[str, Any]]]
    types: tuple[tuple[str, str, str], ...]

    @property
    def key(self) -> str:
        """The same as long as neither the chart nor the types of its columns change."""
        said = json.dumps([self.spec, self.types, version("vl-convert-python")], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:32]


def draw(drawings: Sequence[Drawing], layout: Layout) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Draw the charts that were not drawn before, in one process. Returns problems and warnings.

    What was said of each is remembered in `Layout.charts`, so that a run with nothing new pays nothing.
    """
    known = _read(layout.charts)
    keys = [drawing.key for drawing in drawings]
    new = {key: drawing for key, drawing in zip(keys, drawings, strict=True) if key not in known}
    if new:
        known |= dict(zip(new, _ask_about_all(list(new.values())), strict=True))
        _remember(layout.charts, {key: known[key] for key in keys if known[key]["error"] != _ENDED})
    problems, warnings = [], []
    for key, drawing in zip(keys, drawings, strict=True):
        answer = known[key]
        if answer["error"]:
            message = f"the chart cannot be drawn: {answer['error']}"
            problems.append(Problem(drawing.file, drawing.line, 1, message, "see vega.github.io/vega-lite/docs"))
        warnings += [Problem(drawing.file, drawing.line, 1, f"Vega-Lite: {each}") for each in answer["warnings"]]
    return tuple(problems), tuple(warnings)


def _ask_about_all(drawings: Sequence[Drawing]) -> list[dict[str, Any]]:
    """What is said of each. One on which the process ends is blamed for it; another process goes on behind it."""
    said: list[dict[str, Any]] = []
    while len(said) < len(drawings):
        said += _ask(drawings[len(said) :])
        if len(said) < len(drawings):
            said.append({"error": _ENDED, "warnings": []})
    return said


def _ask(drawings: Sequence[Drawing]) -> list[dict[str, Any]]:
    """What is said of each; of that on which the process ended, and those after it, nothing."""
    lines = "".join(json.dumps({"spec": each.spec, "data": each.data}) + "\n" for each in drawings)
    command = leashed([sys.executable, "-I", str(Path(draw_worker.__file__))])
    try:
        done = subprocess.run(
            command, input=lines, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=_SECONDS
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode() if isinstance(error.stdout, bytes) else error.stdout or ""
    return [json.loads(line) for line in output.splitlines() if line.endswith("}")]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """What is remembered; nothing where the file is damaged: it is made anew."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): {"error": str(one["error"]), "warnings": list(one["warnings"])} for key, one in found.items()}
    except NOT_AS_WRITTEN:
        return {}


def _remember(path: Path, known: dict[str, dict[str, Any]]) -> None:
    """For the next time; where it cannot be written, the charts are drawn again."""
    with suppress(OSError):
        write_atomically(path, json.dumps(known) + "\n")
