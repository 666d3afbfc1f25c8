"""A browser that looks at a portal, and notes whatever it asks for and complains of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser as Program
from playwright.sync_api import Page as Tab

Theme = Literal["light", "dark"]
DESKTOP = (1280, 900)
PHONE = (390, 844)
_WAIT = 20_000  # milliseconds
_MARKS = """() => [...document.querySelectorAll('figure.chart')]
  .filter((chart) => chart.getClientRects().length > 0)
  .map((chart) => [...chart.querySelectorAll('svg .role-mark > *')]
    .filter((mark) => { const box = mark.getBBox(); return box.width > 0 || box.height > 0; }).length)"""


@dataclass
class Visit:
    """A tab at a portal: where that is, what it asked for, and what went wrong in it."""

    tab: Tab
    home: str
    asked: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def failed(self, url: str, why: str | None) -> None:
        """Note a request that failed; what is given up because the reader went on has not."""
        if why != "net::ERR_ABORTED":
            self.faults.append(f"{why}: {url}")

    def open(self, path: str) -> Tab:
        """Go to a page of the portal and wait until its charts are drawn."""
        self.tab.goto(self.home + path)
        self.drawn()
        return self.tab

    def drawn(self) -> None:
        """Wait until every chart in view of a reader has marks."""
        self.until(f"({_MARKS})().every((marks) => marks > 0)")

    def until(self, condition: str) -> None:
        """Wait for an expression; Playwright's own way to wait needs an eval, which the page's policy forbids."""
        end = time.monotonic() + _WAIT / 1000
        while not self.tab.evaluate(condition):
            assert time.monotonic() < end, f"{self.tab.url}: waited in vain for {condition}"
            self.tab.wait_for_timeout(20)

    def marks(self) -> list[int]:
        """How many marks each chart of the page has, those in hidden tabs left out."""
        return list(self.tab.evaluate(_MARKS))


@contextmanager
def visiting(
    program: Program,
    home: Path | str,
    *,
    size: tuple[int, int] = DESKTOP,
    theme: Theme = "light",
) -> Iterator[Visit]:
    """A tab of its own, with nothing remembered, west of Greenwich.

    Parameters
    ----------
    home
        The portal's folder or its address.
    """
    address = home if isinstance(home, str) else f"{home.resolve().as_uri()}/"
    context = program.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=theme,
        timezone_id="America/New_York",
        reduced_motion="reduce",
    )
    context.set_default_timeout(_WAIT)
    tab = context.new_page()
    visit = Visit(tab, address)
    tab.on("request", lambda request: visit.asked.append(request.url))
    tab.on("console", lambda said: visit.faults.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: visit.faults.append(str(error)))
    tab.on("requestfailed", lambda request: visit.failed(request.url, request.failure))

    def dialog(shown: object) -> None:
        visit.faults.append(f"dialog: {shown}")
        shown.dismiss()  # type: ignore[attr-defined]

    tab.on("dialog", dialog)
    yield visit
    context.close()
