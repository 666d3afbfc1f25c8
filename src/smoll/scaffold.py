"""New projects from templates: ``smoll init``.

A template is a folder of plain files under ``templates/``, copied as it is but for a few placeholders.
Its SQL holds Jinja of dbt's, so no template engine touches it.
"""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from smoll import demo_data
from smoll.errors import SmollError, UsageError

TEMPLATES = {
    "blank": "an empty project, or smoll.yml for the dbt project that is already in the folder",
    "flights": "the demo: 336,776 flights from New York, models, tests, docs (needs smoll[demo])",
}
IGNORED = (".smoll/", ".env", "_smoll_sources.yml", "target/", "dbt_packages/", "logs/")
SCHEMA = ".smoll/smoll.schema.json"
MAY_EXIST = (".gitignore", SCHEMA)  # the one is appended to, the other is smoll's own
PROJECT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .-]*")


@dataclass(frozen=True)
class InitResult:
    """What `init_project` made. ``files`` are relative to `root`, with forward slashes, sorted."""

    root: Path
    template: str
    files: tuple[str, ...]


def templates() -> list[tuple[str, str]]:
    """List the templates as (name, description), the default one first."""
    return list(TEMPLATES.items())


def init_project(directory: Path, template: str = "blank", name: str | None = None) -> InitResult:
    """Make a project in `directory`, which is created where missing.

    No existing file is overwritten; ``.gitignore`` is appended to. All files are written beside their
    places first and moved there last, ``smoll.yml`` at the very end: a folder that has one is whole.

    Parameters
    ----------
    directory
        Folder of the new project. Where it, or ``transform/`` in it, already holds a dbt project, the
        template ``blank`` takes that one as it is.
    template
        One of `templates`.
    name
        Name of the project: letters, digits, ``_ - .`` and spaces. Default: made from the folder's name.

    Raises
    ------
    UsageError
        For an unknown template, an impossible name, files that are in the way (all are named and nothing
        is written) or missing demo data.
    SmollError
        When the disk refuses. What was written is taken away again.
    """
    root = Path(os.path.abspath(directory))
    if template not in TEMPLATES:
        raise UsageError(f"There is no template {template!r}.", hint=f"There are: {', '.join(TEMPLATES)}.")
    name = _project_name(root) if name is None else name
    if not PROJECT_NAME.fullmatch(name):
        raise UsageError(
            f"A project cannot be named {name!r}.",
            hint="Use letters, digits, _ - . and spaces; the first a letter, a digit or _.",
        )
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file.", hint="Name a folder, or one that does not exist yet.")
    try:
        with _staging(root) as staged:
            files = _stage(staged, root, template, name)
            _refuse_conflicts(root, files)
            _publish(staged, root, files)
    except OSError as error:
        raise SmollError(
            f"{root}: the project could not be written: {error.strerror or error}.",
            hint="Choose a folder that you may write to, on a disk with room, and run init again.",
        ) from error
    return InitResult(root, template, tuple(sorted(files)))


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _project_name(root: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", _ascii(root.name)).strip("-.") or "project"


def _dbt_name(name: str) -> str:
    """Turn a project's name into an identifier that dbt takes and that no package of dbt's own has."""
    slug = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
    if not slug or slug[0].isdigit() or slug.startswith("dbt"):
        slug = f"project_{slug}".rstrip("_")
    return slug


def _existing_transform(root: Path) -> str | None:
    places = (folder for folder in (".", "transform") if (root / folder / "dbt_project.yml").is_file())
    return next(places, None)


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Lend a folder on the same disk as `root`. When the project fails, no folder made for it remains."""
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".smoll-init-", dir=root) as staged:
            yield Path(staged)
    except BaseException:
        _remove_empty(made)
        raise


def _stage(staged: Path, root: Path, template: str, name: str) -> list[str]:
    """Write every new file under `staged`. Return their relative paths."""
    adopted = _existing_transform(root) if template == "blank" else None
    placeholders = {
        "__PROJECT_NAME__": name,
        "__DBT_NAME__": _dbt_name(name),
        "__TRANSFORM__": adopted or "transform",
    }
    package = resources.files("smoll")
    source = package / "templates" / template
    if adopted:
        _copy(source / "smoll.yml", staged / "smoll.yml", placeholders)
    else:
        _copy(source, staged, placeholders)
    _copy(package / "smoll.schema.json", staged / SCHEMA, {})
    if template == "flights":
        demo_data.write(staged / "data")
    _stage_gitignore(staged / ".gitignore", root / ".gitignore")
    return [path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file()]


def _copy(source: Traversable, target: Path, placeholders: dict[str, str]) -> None:
    if source.is_dir():
        for entry in source.iterdir():
            _copy(entry, target / entry.name, placeholders)
        return
    text = source.read_text(encoding="utf-8")
    for placeholder, value in placeholders.items():
        text = text.replace(placeholder, value)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8", newline="\n")


def _stage_gitignore(target: Path, existing: Path) -> None:
    """Write what is there already and the lines that are missing; nothing when none is."""
    before = existing.read_bytes() if existing.is_file() else b""
    present = {line.strip() for line in before.decode("utf-8", "replace").splitlines()}
    missing = [line for line in IGNORED if line not in present]
    if missing:
        gap = b"" if not before or before.endswith(b"\n") else b"\n"
        target.write_bytes(before + gap + "".join(f"{line}\n" for line in missing).encode())


def _refuse_conflicts(root: Path, files: list[str]) -> None:
    """Raise UsageError naming every path that a new file would replace or would need as a folder."""
    in_the_way = set()
    for file in files:
        path = root / file
        if os.path.lexists(path) and file not in MAY_EXIST:
            in_the_way.add(file)
        for parent in path.relative_to(root).parents:
            if (root / parent).exists() and not (root / parent).is_dir():
                in_the_way.add(parent.as_posix())
    if "smoll.yml" in in_the_way:
        raise UsageError(f"{root} already holds a smoll project (smoll.yml).", hint="Choose another folder.")
    if in_the_way:
        raise UsageError(
            f"{root}: these files are in the way, and init overwrites none: {', '.join(sorted(in_the_way))}.",
            hint="Move them, or choose another folder.",
        )


def _publish(staged: Path, root: Path, files: list[str]) -> None:
    """Move the staged files to their places; when that is cut short, take them back."""
    new = [root / file for file in files if not os.path.lexists(root / file)]
    folders = {parent for file in files for parent in (root / file).parents if not parent.exists()}
    before = {root / file: (root / file).read_bytes() for file in files if root / file not in new}
    try:
        for file in sorted(files, key="smoll.yml".__eq__):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (staged / file).replace(root / file)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        for path, content in before.items():
            path.write_bytes(content)
        _remove_empty(sorted(folders, reverse=True))
        raise


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
