"""(m) What the portal adds to a run, in time, memory and disk, beside dbt's own docs."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from common import (
    CACHE,
    MB,
    PYTHON,
    BenchmarkError,
    Contender,
    Sample,
    compare,
    fresh_folder,
    results_table,
    run_quietly,
    smoll_command,
    table,
    verdict,
)
from many_models import MODELS, SOURCES, STREAMS, write_project, write_smoll_yml

TITLE = "(m) The portal of a release"
_FOLDER = CACHE / "portal"
_COLUMNS, _ROWS = 30, 1_000
_FIRST, _WITH, _WITHOUT = "smoll run, the first of a project", "smoll run", "smoll run, its portal left out"
_DOCS = "dbt docs generate --static"
_WITHOUT_PORTAL = """
import sys
import smoll.publish
smoll.publish.write_portal = lambda *given, **named: None
from smoll.cli import main
sys.exit(main())
"""
_DEMO_SECONDS, _MANY_SECONDS, _MANY_BYTES, _PAGE_BYTES = 2.0, 60.0, 1_000 * MB, 300_000


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    demo, many = _FOLDER / "demo", _FOLDER / "many"
    fresh_folder(_FOLDER)
    run_quietly(smoll_command("init", str(demo), "--template", "flights"), _FOLDER, {})
    write_project(many, declares_sources=False, columns=_COLUMNS)
    write_smoll_yml(many, release="*")
    _fill(many)
    about = (
        f"The demo of `smoll init --template flights` with its dashboards, and {MODELS} models of {_COLUMNS} columns "
        f"over {SOURCES * STREAMS} streams of {_ROWS:,} rows, all released. Each run loads and builds all anew. Vega's "
        "script is made in the first run of a project, beside the load, and kept. `dbt docs` is dbt's own command in "
        "the same environment, over the warehouse that a run left: names, types and descriptions, without values, "
        "checks, lineage of columns or dashboards."
    )
    sections = [about]
    for name, project in (("The demo", demo), (f"{MODELS} models", many)):
        samples = _measure(project, repeat)
        added = samples[_WITH].wall - samples[_WITHOUT].wall
        largest = max(_pages(project), key=lambda path: path.stat().st_size)
        size = largest.stat().st_size
        aim, memory = (_DEMO_SECONDS if project == demo else _MANY_SECONDS), samples[_WITH].memory
        sections += [
            f"**{name}**:",
            results_table(samples, _WITHOUT),
            _sizes(project),
            verdict(added <= aim, f"the portal adds {added:.2f} s (aim {aim:.0f} s)."),
            verdict(
                memory <= _MANY_BYTES, f"peak memory of the run {memory / MB:.0f} MB (aim {_MANY_BYTES / MB:.0f} MB)."
            ),
            verdict(
                size <= _PAGE_BYTES,
                f"the largest page, {largest.relative_to(_portal(project))}, has {size / 1000:.0f} KB "
                f"(aim {_PAGE_BYTES / 1000:.0f} KB).",
            ),
        ]
    return "\n\n".join(sections)


def _measure(project: Path, repeat: int) -> Mapping[str, Sample]:
    options = ["--project", str(project), "run"]
    smoll = smoll_command(*options)
    without = [str(PYTHON), "-c", _WITHOUT_PORTAL, *options]
    docs = [str(PYTHON.with_name("dbt")), "docs", "generate", "--static", "--profiles-dir", str(project / ".smoll/dbt")]
    forget, has_portal = partial(_forget, project), partial(_verify, project)
    contenders = [
        Contender(_FIRST, smoll, project, partial(_forget, project, also_scripts=True), has_portal),
        Contender(_WITH, smoll, project, forget, has_portal),
        Contender(_DOCS, docs, project / "transform", lambda: None, partial(_docs_are_there, project)),
        Contender(_WITHOUT, without, project, forget, partial(_verify, project, is_there=False)),
    ]
    samples = compare(contenders, repeat)
    forget()
    run_quietly(smoll, project, {})
    return samples


def _forget(project: Path, *, also_scripts: bool = False) -> None:
    """Remove the project's state; what is made once in its life stays, unless `also_scripts`."""
    for path in (project / ".smoll").glob("*"):
        if path.name in ("portal", "charts.json") and not also_scripts:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _verify(project: Path, *, is_there: bool = True) -> None:
    if (_portal(project) / "index.html").is_file() != is_there:
        raise BenchmarkError(f"{project}: the release has {'no' if is_there else 'a'} portal")


def _docs_are_there(project: Path) -> None:
    page = project / "transform" / "target" / "static_index.html"
    if not page.is_file():
        raise BenchmarkError(f"{project}: dbt wrote no docs")
    shutil.rmtree(page.parent)


def _portal(project: Path) -> Path:
    return project / ".smoll" / "releases" / "current" / "portal"


def _pages(project: Path) -> list[Path]:
    return [path for path in _portal(project).rglob("*.html") if path.parent.name != "dbt"]


def _sizes(project: Path) -> str:
    folder, pages = _portal(project), _pages(project)
    parts = {
        f"{len(pages)} pages": pages,
        "scripts with their data": list(folder.glob("data/*")),
        "shared: Vega": list(folder.glob("assets/vega*.js")),
        "shared: the other scripts and the style": [
            path for path in folder.glob("assets/*") if not path.name.startswith(("vega", "dbt"))
        ],
        "dbt docs": [*folder.glob("dbt/*"), *folder.glob("assets/dbt*")],
    }
    sizes = {name: sum(path.stat().st_size for path in paths) for name, paths in parts.items()}
    return table(["in the portal", "size"], [[name, f"{size / 1000:,.0f} KB"] for name, size in sizes.items()])


def _fill(project: Path) -> None:
    """Give each stream rows of numbers, always the same ones."""
    chance = random.Random(1)
    for path in sorted((project / "data").rglob("*.csv")):
        header = path.read_text(encoding="utf-8").splitlines()[0]
        width = header.count(",")
        rows = [f"{n}," + ",".join(str(chance.randint(0, 999)) for _ in range(width)) for n in range(_ROWS)]
        path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
