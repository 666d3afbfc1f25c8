"""smoll: a complete data platform on one small machine. Sources in, audited releases out.

>>> import smoll
>>> project = smoll.open_project("flights")          # doctest: +SKIP
>>> project.run().release.number                     # doctest: +SKIP
1
>>> smoll.connect("flights").sql("FROM marts.fct_flights")   # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from smoll import doctor
    from smoll.adding import add_source
    from smoll.api import Project, connect, open_project
    from smoll.model import RunResult
    from smoll.restoring import restore
    from smoll.scaffold import init_project

_PUBLIC = {
    "Project": "smoll.api",
    "RunResult": "smoll.model",
    "add_source": "smoll.adding",
    "connect": "smoll.api",
    "init_project": "smoll.scaffold",
    "open_project": "smoll.api",
    "restore": "smoll.restoring",
}
__all__ = [
    "Project",
    "RunResult",
    "__version__",
    "add_source",
    "connect",
    "doctor",
    "init_project",
    "open_project",
    "restore",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import smoll`` is quick."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name == "doctor":
        return import_module("smoll.doctor")
    raise AttributeError(f"module 'smoll' has no attribute {name!r}")
