"""Find and read a project: the only place of smoll that reads YAML or the environment."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from smoll.errors import ConfigError, Problem, UsageError
from smoll.project.checks import Check, as_text
from smoll.project.common import EVERY
from smoll.project.config import FILE, Origin, ProjectConfig, schema_of
from smoll.project.document import Document, KeyPath, mark_at, parse
from smoll.project.environment import interpolate, parse_dotenv
from smoll.project.explain import explain, in_words
from smoll.project.orchestrate import trigger_problems
from smoll.project.redaction import find_secrets, redactor

DOTENV = ".env"
LONGEST_MESSAGE = 300


def find_root(start: Path | None = None) -> Path:
    """Return the nearest folder with a `smoll.yml`: `start` or one above it.

    Parameters
    ----------
    start
        Where to look first; the working directory if None.

    Raises
    ------
    UsageError
        If there is none.
    """
    try:
        folder = (start or Path.cwd()).resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError("The working directory is gone.", hint="Change to the project folder.") from error
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is not a folder.", hint="Give the project folder, the one with smoll.yml.")
    for candidate in (folder, *folder.parents):
        if os.path.isfile(candidate / FILE):
            return candidate
    raise UsageError(
        f"No {FILE} in {folder} or any folder above it.",
        hint="Change to a project folder, or make one with `smoll init`.",
    )


def load_config(root: Path, environ: Mapping[str, str] | None = None) -> ProjectConfig:
    """Read `smoll.yml` and `.env` of the project folder `root`.

    Parameters
    ----------
    root
        The folder that holds `smoll.yml`.
    environ
        The environment for ``${VAR}``; ``os.environ`` if None. It wins over `.env`.

    Raises
    ------
    ConfigError
        If anything in the two files is wrong; holds every problem, and no secret.
    UsageError
        If there is no `smoll.yml` in `root`.
    """
    root = root.resolve()
    if not os.path.lexists(root / FILE):
        raise UsageError(f"No {FILE} in {root}.", hint="Make a project with `smoll init`.")
    text, problems = _read(root / FILE)
    dotenv, dotenv_problems = _read_dotenv(root / DOTENV)
    variables = {**dotenv, **(os.environ if environ is None else environ)}

    document = Document(FILE) if problems else parse(text, FILE)
    data, unfilled = interpolate(document.data, variables)
    redact = redactor(find_secrets(text, document.data, data, dotenv, variables))
    origin = Origin(root, MappingProxyType(dotenv), document, redact, hashlib.sha256(text.encode()).hexdigest())

    problems += dotenv_problems
    problems += document.problems
    problems += [Problem(FILE, *document.value_mark(path), message) for path, message in unfilled.items()]
    config, wrong = _validate(data, origin)
    # A value that could not be read or filled in has had its say: what the models say of it is noise.
    told = {(each.line, each.column) for each in problems if each.file == FILE}
    problems += [each for each in wrong if (each.line, each.column) not in told]
    if config is None or problems:
        raise ConfigError(_presentable(problems, redact))
    return config


def read_check(data: Any) -> Check:
    """Check what dbt's ``meta`` says of one of smoll's own checks; its values have YAML's types.

    Raises
    ------
    UsageError
        It is none. The message has no secret in it.
    """
    try:
        (check,) = ProjectConfig.model_validate({"name": "meta", "checks": [as_text(data)]}).checks
    except ValidationError as error:
        raise UsageError(in_words(error)) from None
    return check


def _validate(data: Any, origin: Origin) -> tuple[ProjectConfig | None, list[Problem]]:
    if data is None:
        return None, []
    problems = [*_collisions(data, origin.document), *trigger_problems(data, origin.document)]
    try:
        return ProjectConfig.from_file(data, origin), problems
    except ValidationError as error:
        # The error goes no further, not even as a cause: it carries the values, secrets included.
        return None, problems + list(explain(error, origin.document))


def _read(path: Path) -> tuple[str, list[Problem]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        return "", [Problem(path.name, 1, 1, f"cannot be read: {error.strerror}")]
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        mark = mark_at(before, len(before))
        return "", [Problem(path.name, *mark, "not UTF-8 text", "save the file as UTF-8")]


def _read_dotenv(path: Path) -> tuple[dict[str, str], list[Problem]]:
    if not os.path.lexists(path):
        return {}, []
    text, problems = _read(path)
    values, wrong_lines = parse_dotenv(text, path.name)
    return values, problems + wrong_lines


def _collisions(data: Any, document: Document) -> Iterator[Problem]:
    """Find streams that load into one table. On the raw values: other problems must not hide it."""
    taken: dict[tuple[str, str], KeyPath] = {}
    for table, path in _targets(data):
        folded = (table[0].casefold(), table[1].casefold())
        if folded in taken:
            other = taken[folded]
            mark = document.key_mark(path)
            where = f"{other[1]}.{other[3]} on line {document.key_mark(other)[0]}"
            message = f"loads into {table[0]}.{table[1]}, and so does {where}"
            yield Problem(FILE, *mark, message, "set `table` or `schema` of one of them")
        taken.setdefault(folded, path)


def _targets(data: Any) -> Iterator[tuple[tuple[str, str], KeyPath]]:
    for source, spec in _items(_get(data, "sources")):
        schema = schema_of(source, spec) if isinstance(spec, dict) else None
        for stream, options in _items(_get(spec, "streams")):
            table = _get(options, "table") or stream
            if isinstance(schema, str) and isinstance(table, str) and stream != EVERY:
                yield (schema, table), ("sources", source, "streams", stream)


def _get(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def _items(data: Any) -> list[tuple[str, Any]]:
    if isinstance(data, list):
        return [(name, None) for name in dict.fromkeys(filter(lambda name: isinstance(name, str), data))]
    return list(data.items()) if isinstance(data, dict) else []


def _presentable(problems: list[Problem], redact: Callable[[str], str]) -> list[Problem]:
    clean = {
        Problem(each.file, each.line, each.column, _short(redact(each.message)), redact(each.hint)) for each in problems
    }
    return sorted(clean, key=lambda each: (each.file != FILE, each.file, each.line, each.column, each.message))


def _short(message: str) -> str:
    """Cut, and escape what would upset a terminal. After redaction: half a secret is a secret too."""
    cut = message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 3] + "..."
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)
