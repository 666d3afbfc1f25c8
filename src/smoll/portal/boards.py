"""The project's dashboards, as pages of the portal."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.dashboards import FOLDER, Fragment, build
from smoll.errors import Problem, ReleaseError
from smoll.events import Message
from smoll.portal.assets import write_script
from smoll.portal.gather import Ingredients
from smoll.portal.site import Site
from smoll.release import current_release
from smoll.warehouse import connect_reader

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SCRIPT = "dashboard.js"


@dataclass(frozen=True)
class Board:
    """A dashboard as other pages name it: its queries, and what they read, as ``schema.table`` in lower case."""

    title: str
    description: str
    href: str
    reads: frozenset[str]
    slug: str
    queries: Mapping[str, str]


class DashboardProblems(Exception):
    """Dashboards are wrong: a release with them is refused."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


def has_dashboards(root: Path) -> bool:
    """Whether the project has any."""
    return any((root / FOLDER).glob("*.md"))


def dashboards_hash(root: Path) -> str:
    """Changes with the dashboards, and with what lies beside them (pictures)."""
    found = hashlib.sha256()
    for path in sorted(_files(root / FOLDER)):
        found.update(f"{path.relative_to(root).as_posix()}\0".encode("utf-8", "surrogateescape"))
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def write_dashboards(site: Site, of: Ingredients, personal: Mapping[str, Set[str]]) -> tuple[Board, ...]:
    """Write ``dashboards/``; nothing where the project has none.

    Parameters
    ----------
    personal
        The columns of each table (``schema.table``) that no page may show; all in lower case.

    Raises
    ------
    DashboardProblems
        A page cannot be shown as it is.
    """
    root = of.config.root
    if not has_dashboards(root):
        return ()
    boards: list[Board] = []

    def write(fragment: Fragment) -> None:
        boards.append(_write(site, fragment))

    with ExitStack() as stack:
        previous = stack.enter_context(before) if (before := _previous(of)) is not None else None
        problems, warnings = build(root, of.release, previous, of.layout, write, personal=personal)
    if problems:
        raise DashboardProblems(problems)
    for warning in warnings:
        of.emit(Message(str(warning), "warning"))
    write_script(site.folder / "assets" / SCRIPT)
    site.page("dashboards/index.html", "dashboards.html", title="Dashboards", section="dashboards", boards=boards)
    return tuple(boards)


def _previous(of: Ingredients) -> DuckDBPyConnection | None:
    """A connection to what readers see now; None where that is nothing, or cannot be read."""
    try:
        number = current_release(of.layout)
        return connect_reader(of.layout.tables_of(number), "release", of.settings) if number is not None else None
    except ReleaseError:
        return None


def _write(site: Site, fragment: Fragment) -> Board:
    href = f"{FOLDER}/{fragment.slug}.html"
    data = site.data(f"dashboard-{fragment.slug}", fragment.data)
    site.page(
        href,
        "dashboard.html",
        title=fragment.title,
        section="dashboards",
        scripts=[SCRIPT],
        data=[data],
        charts=bool(fragment.data.get("charts")),
        fragment=fragment,
    )
    for name, path in fragment.pictures:
        target = site.folder / FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    reads = frozenset(name.lower() for name in fragment.reads)
    return Board(fragment.title, fragment.description, href, reads, fragment.slug, fragment.queries)
