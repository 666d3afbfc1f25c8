"""The project's own apps: ``apps/*.py``, and how they are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NUMBER = re.compile(r"^[0-9]+[_\- ]+(?=.)")
_TAKEN = {"explore", "static", "media", "component", "_stcore"}
"""Our own page, and what Streamlit has under these names."""


@dataclass(frozen=True)
class App:
    """An app: its file, its title, and its part of the URL."""

    path: Path
    title: str
    slug: str


def find_apps(folder: Path) -> tuple[App, ...]:
    """The apps of a folder in order of their names. What begins with ``_`` or ``.`` is none: other apps import it.

    A number in front orders them and is not shown, as in Streamlit's own ``pages/``. No two have one URL.
    """
    files = sorted(path for path in folder.glob("*.py") if path.is_file() and path.name[0] not in "._")
    taken = set(_TAKEN)
    found = []
    for path in files:
        words = re.sub(r"[_\s]+", " ", _NUMBER.sub("", path.stem)).strip() or path.stem
        slug = _free(re.sub(r"[^\w-]+", "-", words.lower()).strip("-_") or "app", taken)
        found.append(App(path, words[0].upper() + words[1:], slug))
    return tuple(found)


def _free(slug: str, taken: set[str]) -> str:
    number, found = 1, slug
    while found.casefold() in taken:
        number += 1
        found = f"{slug}-{number}"
    taken.add(found.casefold())
    return found
