"""Suggestions as YAML: to look at, or written into the properties files of the dbt project, which stay as they are."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.describe import describe
from smoll.errors import SmollError, StateError, UsageError
from smoll.state.layout import write_atomically
from smoll.suggest.find import Suggestion
from smoll.transform.profile import read_yaml, yaml_scalar
from smoll.transform.sources_file import model_folders, yaml_files

if TYPE_CHECKING:
    from smoll.project import ProjectConfig

_BY_HAND = "Paste what `smoll suggest` prints by hand."
_CLEAN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Change:
    """A file of the dbt project as it is (``before``, "" where there is none) and as it would be."""

    path: Path
    before: str
    after: str

    def diff(self, root: Path) -> str:
        """The change as a unified diff; names are relative to `root`."""
        old = f"a/{self.name(root)}" if self.before else "/dev/null"
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        return "".join(difflib.unified_diff(before, after, old, f"b/{self.name(root)}"))

    def name(self, root: Path) -> str:
        """The file's name, relative to `root` where it lies there."""
        return self.path.relative_to(root).as_posix() if self.path.is_relative_to(root) else str(self.path)


def render(suggestions: Sequence[Suggestion]) -> str:
    """The suggestions as YAML that can be pasted into a properties file; each says why."""
    return _dump(_new([*suggestions]), 4, 2) if suggestions else ""


def plan_changes(config: ProjectConfig, suggestions: Sequence[Suggestion]) -> tuple[Change, ...]:
    """Say how the properties files of the dbt project would change. Nothing is written.

    A model that has an entry gets its tests there. Others go to the file that has most models of their folder, or to a
    new one.

    Raises
    ------
    UsageError
        A file is written in a way that cannot be added to without changing the rest.
    """
    folder = config.transform_dir
    files = [path for each in model_folders(folder) for path in each.rglob("*")]
    models = {path.stem: path for path in files if path.suffix in (".sql", ".py")}
    entries: dict[str, Path] = {}
    for file in yaml_files(folder):
        if b"models" in file.read_bytes():
            listed = read_yaml(file).get("models")
            for entry in listed if isinstance(listed, list) else ():
                if isinstance(entry, Mapping):
                    entries.setdefault(str(entry.get("name")), file)
    by_file: dict[Path, list[Suggestion]] = {}
    for one in suggestions:
        place = models[one.model].parent if one.model in models else model_folders(folder)[0]
        target = entries.get(one.model) or _neighbours(place, models, entries)
        by_file.setdefault(target, []).append(one)
    return tuple(_change(path, found) for path, found in sorted(by_file.items()))


def _neighbours(place: Path, models: Mapping[str, Path], entries: Mapping[str, Path]) -> Path:
    """The properties file of the models in a folder."""
    files = [file for name, file in entries.items() if name in models and models[name].parent == place]
    beside = [file for file in files if file.parent == place]
    return max(beside, key=beside.count) if beside else place / f"_{place.name}__models.yml"


def apply_changes(config: ProjectConfig, changes: Sequence[Change]) -> None:
    """Write the files, and let dbt read the project. Where it cannot, they are as they were.

    Raises
    ------
    UsageError
        A file has changed since the changes were planned.
    StateError
        A file cannot be written.
    TransformError
        dbt does not understand what was written.
    """
    done: list[Change] = []
    try:
        for change in changes:
            if _read(change.path) != change.before:
                raise UsageError(f"{change.path} has changed meanwhile. Nothing was written.", hint="Suggest again.")
        for change in changes:
            done.append(change)
            write_atomically(change.path, change.after)
        describe(config)
    except BaseException as error:
        for change in done:
            if change.before:
                write_atomically(change.path, change.before)
            else:
                change.path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StateError(
                f"Cannot write {error.filename or 'the suggestions'}: {error.strerror}. The files are as they were.",
                hint="Make the folder writable or free some space.",
            ) from error
        if isinstance(error, SmollError) and done:
            error.hint = f"The files are as they were. {_BY_HAND}"
        raise


def _read(path: Path) -> str:
    return path.read_bytes().decode() if path.exists() else ""


# --- into a file ----------------------------------------------------------------------------------------------------


def _change(path: Path, suggestions: Sequence[Suggestion]) -> Change:
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.util import load_yaml_guess_indent

    before = _read(path)
    if not before.strip():
        return Change(path, before, _dump(_new(suggestions), 4, 2))
    if "\r" in before:
        raise UsageError(f"{path} has line ends of Windows, which would be lost.", hint=_BY_HAND)
    try:
        _, indent, offset = load_yaml_guess_indent(before)
        yaml = _yaml(indent or 4, offset if indent else 2)
        data = yaml.load(before)
        _merge(data, suggestions)
        after = _with_blanks_behind(before, _written(yaml, data))
        old, new = (_yaml(4, 2, safe=True).load(text) for text in (before, after))
    except (YAMLError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} cannot be added to: {str(error).splitlines()[0]}", hint=_BY_HAND) from error
    if not _holds(new, old) or len(after.splitlines()) <= len(before.splitlines()):
        raise UsageError(f"{path} cannot be added to without changing the rest.", hint=_BY_HAND)
    return Change(path, before, after)


def _merge(data: Any, suggestions: Sequence[Suggestion]) -> None:
    listed = data["models"]
    for name, group in groupby(suggestions, key=lambda one: one.model):
        found = [entry for entry in listed if entry.get("name") == name]
        if found:
            _add(found[0], [*group])
        else:
            listed.append(_model(name, [*group]))


def _new(suggestions: Sequence[Suggestion]) -> Any:
    groups = groupby(suggestions, key=lambda one: one.model)
    return {"models": [_model(name, [*group]) for name, group in groups]}


def _model(name: str, suggestions: Sequence[Suggestion]) -> Any:
    from ruamel.yaml.comments import CommentedMap

    model = CommentedMap(name=yaml_scalar(name))
    _add(model, suggestions)
    return model


def _add(model: Any, suggestions: Sequence[Suggestion]) -> None:
    """Add the tests of one model to its entry."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    for name, group in groupby(suggestions, key=lambda one: one.column):
        found = [*group]
        if not name:
            _add_tests(model, found, before="columns")
            continue
        columns = model.setdefault("columns", CommentedSeq())
        column = next((each for each in columns if str(each.get("name", "")).lower() == name.lower()), None)
        if column is None:
            column = CommentedMap(name=yaml_scalar(name))
            if not _CLEAN.fullmatch(name):
                column["quote"] = True
            columns.append(column)
        _add_tests(column, [one for one in found if one.test != "range"])
        for one in found:
            if one.test == "range":
                _add_range(column, one)


def _add_tests(entry: Any, suggestions: Sequence[Suggestion], before: str = "") -> None:
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if not suggestions:
        return
    key = "tests" if "tests" in entry else "data_tests"  # dbt takes one of them
    if entry.get(key) is None:
        entry.pop(key, None)
        places = [place for place, name in enumerate(entry) if name == before]
        entry.insert(places[0] if places else len(entry), key, CommentedSeq())
    tests = entry[key]
    tests.fa.set_block_style()
    for one in suggestions:
        if one.arguments:
            test = CommentedMap({one.test: CommentedMap(arguments=_plain(one.arguments))})
            test.yaml_add_eol_comment(one.reason, key=one.test)
            tests.append(test)
        else:
            tests.append(one.test)
            tests.yaml_add_eol_comment(one.reason, key=len(tests) - 1)


def _add_range(column: Any, one: Suggestion) -> None:
    """A check of smoll's own stands in ``meta``, beside what is there."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    place = column if "meta" in column else column.setdefault("config", CommentedMap())
    for key in ("meta", "smoll"):
        place = place.setdefault(key, CommentedMap())
    checks = place.setdefault("checks", CommentedSeq())
    check = CommentedMap(kind="range", **one.arguments)
    check.yaml_add_eol_comment(one.reason, key="kind")
    checks.append(check)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):  # dbt puts values between quotes as they are
        return [yaml_scalar(item.replace("'", "''")) for item in value]
    return yaml_scalar(value) if isinstance(value, str) and not value.startswith("ref(") else value


def _yaml(indent: int, offset: int, *, safe: bool = False) -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True) if safe else YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # no line is folded
    yaml.indent(mapping=2, sequence=indent, offset=offset)
    return yaml


def _dump(data: Any, indent: int, offset: int) -> str:
    text = _written(_yaml(indent, offset), data)
    return re.sub(r"\n(?=  - name: )", "\n\n", text).replace("models:\n\n", "models:\n", 1)


def _written(yaml: Any, data: Any) -> str:
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()


def _with_blanks_behind(before: str, after: str) -> str:
    """Blank lines belong to what stands above them; added lines go between the two."""
    old, new = before.splitlines(), after.splitlines()
    found: list[str] = []
    for tag, _, _, start, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        lines = new[start:end]
        if tag == "insert" and lines and lines[-1].strip():
            blanks = 0
            while found and not found[-1].strip():
                found.pop()
                blanks += 1
            lines += [""] * blanks
        found += lines
    return "\n".join(found) + "\n"


def _holds(new: Any, old: Any) -> bool:
    """True where everything that was there is still there, in its order."""
    if isinstance(old, Mapping):
        return isinstance(new, Mapping) and all(key in new and _holds(new[key], old[key]) for key in old)
    if isinstance(old, list):
        return isinstance(new, list) and len(new) >= len(old) and all(map(_holds, new, old))
    return bool(new == old) or old is None
