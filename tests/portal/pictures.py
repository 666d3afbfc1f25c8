"""Draws the pictures of the portal for the documentation: make screenshots."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser as Program

import smoll
from portal.visiting import PHONE, Theme, visiting
from smoll.scaffold import init_project
from up.browser import chromium_program

SIZE = (1400, 875)
PICTURES: dict[str, tuple[str, tuple[int, int], Theme]] = {
    "overview": ("index.html", SIZE, "light"),
    "dashboard": ("dashboards/carriers.html", SIZE, "light"),
    "dashboard-dark": ("dashboards/delays.html", SIZE, "dark"),
    "catalog": ("catalog/main.fct_flights.html", SIZE, "light"),
    "lineage": ("lineage.html", SIZE, "light"),
    "phone": ("dashboards/delays.html", PHONE, "light"),
}


def draw(program: Program, portal: Path, images: Path) -> None:
    """One picture of each: the part of a page that is seen first."""
    for name, (path, size, theme) in PICTURES.items():
        with visiting(program, portal, size=size, theme=theme) as visit:
            tab = visit.open(path)
            if size == PHONE:
                tab.locator(".dashboard h2").first.evaluate("title => scrollTo(0, title.offsetTop - 130)")
            tab.wait_for_timeout(500)
            tab.screenshot(path=images / f"portal-{name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chromium_program() as program:
        root = init_project(Path(folder) / "flights", template="flights").root
        december = root / "data" / "flights" / "2013-12.csv"
        late = Path(folder) / december.name
        shutil.move(december, late)
        smoll.open_project(root).run()
        smoll.open_project(root).run(select="source:nyc.airlines")
        shutil.move(late, december)  # so that the second release, of the third run, has something to tell
        smoll.open_project(root).run()
        draw(program, root / ".smoll" / "releases" / "current" / "portal", Path(sys.argv[1]))


if __name__ == "__main__":
    main()
