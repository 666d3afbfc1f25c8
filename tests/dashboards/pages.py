"""What the tests of dashboards share: pages in a folder, over a database in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from smoll.dashboards import Fragment, Problem, build
from smoll.state.layout import Layout


@dataclass(frozen=True)
class Built:
    """What became of the pages. ``said`` are problems, and ``warned`` warnings, as ``file:line message (hint)``."""

    pages: dict[str, Fragment]
    said: list[str]
    warned: list[str]


def make(
    root: Path,
    pages: dict[str, str | bytes],
    sql: str = "",
    before: str | None = None,
    personal: Mapping[str, set[str]] | None = None,
) -> Built:
    """Build pages (file name to text) over what `sql` makes; `before` makes what readers see now."""
    for name, text in pages.items():
        path = root / "dashboards" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    found: dict[str, Fragment] = {}
    with duckdb.connect() as now, duckdb.connect() as then:
        now.execute(sql)
        then.execute(before or "")
        previous = then if before is not None else None
        problems, warnings = build(
            root, now, previous, Layout(root), lambda page: found.update({page.slug: page}), personal=personal or {}
        )
    return Built(found, [_said(each) for each in problems], [_said(each) for each in warnings])


def _said(problem: Problem) -> str:
    name = problem.file.removeprefix("dashboards/")
    return f"{name}:{problem.line} {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
