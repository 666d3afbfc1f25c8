"""Dashboards: Markdown pages with queries, charts, tables and numbers -> what the portal shows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.dashboards.answers import NOBODY, Answer, Answers, answer
from smoll.dashboards.draw import Drawing, draw
from smoll.dashboards.parse import FOLDER, Page, read_pages
from smoll.dashboards.render import Fragment, drawings, render
from smoll.errors import Problem
from smoll.interrupts import also_interrupted
from smoll.state.layout import Layout

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = [
    "FOLDER",
    "Answer",
    "Answers",
    "Fragment",
    "Page",
    "Problem",
    "answer",
    "build",
    "read_pages",
    "render",
    "script",
]


def build(
    root: Path,
    connection: DuckDBPyConnection,
    previous: DuckDBPyConnection | None,
    layout: Layout,
    write: Callable[[Fragment], None],
    *,
    personal: Mapping[str, Set[str]] = NOBODY,
    later: Set[str] = frozenset(),
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Make every dashboard of a project. Returns problems, of which one is enough to refuse a release, and warnings.

    Parameters
    ----------
    connection, previous
        To the release that the pages are made for, and to that which readers see now; read-only and sandboxed.
    write
        Gets each page as soon as it is made, so that the data of one page only are in memory. Pages with problems
        are left out.
    personal
        The columns of each table (``schema.table``) that no page may show; all in lower case.
    later
        Tables that are not built yet, as ``schema.table`` in lower case; see `answer`.
    """
    pages, found = read_pages(root)
    problems, warnings = list(found), list[Problem]()
    charts: list[Drawing] = []
    heard = [each for each in (connection, previous) if each is not None]
    for page in pages:
        with also_interrupted(*heard):
            answers, wrong = answer(page, connection, previous, personal=personal, later=later)
        problems += wrong
        warnings += answers.warnings
        if not any(problem.file == page.file for problem in problems):
            write(render(page, answers))
            charts += drawings(page, answers)
    undrawn, odd = draw(charts, layout)
    return _sorted([*problems, *undrawn]), _sorted([*warnings, *odd])


def _sorted(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column)))


def script() -> bytes:
    """``assets/dashboard.js``: what makes a page's charts, tables and tabs work."""
    return resources.files("smoll.dashboards").joinpath("static", "dashboard.js").read_bytes()
