"""`.env` files and `${VAR}`: the only way the environment gets into a project."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from smoll.errors import Problem
from smoll.project.document import KeyPath

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_QUOTED = re.compile(r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)")\s*(?:#.*)?""")
_ESCAPE = re.compile(r"\\(.)")
_VARIABLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


def parse_dotenv(text: str, file: str = ".env") -> tuple[dict[str, str], list[Problem]]:
    r"""Read ``KEY=VALUE`` lines.

    ``export`` before the key, blank lines and comments (``#`` after a space) are allowed. In double quotes
    ``\n``, ``\r`` and ``\t`` are escapes, and a backslash before any other character stands for that
    character; text in single quotes is taken as it is. ``${OTHER}`` is not replaced.

    Returns the values and the lines that could not be read. Problems never quote a line: it may
    hold a secret.
    """
    values: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip())
        value = _unquote(found[2]) if found else None
        if found is None or "\0" in line:
            problems.append(Problem(file, number, 1, "not a line of the form KEY=VALUE"))
        elif value is None:
            message = f"the quotes around the value of {found[1]} do not match"
            problems.append(Problem(file, number, found.start(2) + 1, message, "a value is one line"))
        else:
            values[found[1]] = value
    return values, problems


def interpolate(data: Any, variables: Mapping[str, str]) -> tuple[Any, dict[KeyPath, str]]:
    """Replace ``${VAR}`` and ``${VAR:-default}`` in every scalar of `data`; ``$${`` becomes ``${``.

    The default also stands in for an empty variable, as in a shell. Returns the new data and, by path,
    what could not be replaced (the text there is left as it is).
    """
    wrong: dict[KeyPath, str] = {}
    return _interpolate(data, variables, (), wrong), wrong


def variables_in(text: str) -> Iterator[tuple[str, str]]:
    """Give name and default (empty without one) of every variable that `text` asks for."""
    return ((found[1], found[2] or "") for found in _VARIABLE.finditer(text) if found[1])


def _unquote(value: str) -> str | None:
    if value[:1] not in ("'", '"'):
        return re.split(r"(?:^|\s+)#", value, maxsplit=1)[0]
    found = _QUOTED.fullmatch(value)
    if found is None:
        return None
    if found[1] is not None:
        return found[1]
    return _ESCAPE.sub(lambda escape: {"n": "\n", "r": "\r", "t": "\t"}.get(escape[1], escape[1]), found[2])


def _interpolate(data: Any, variables: Mapping[str, str], path: KeyPath, wrong: dict[KeyPath, str]) -> Any:
    if isinstance(data, dict):
        return {key: _interpolate(item, variables, (*path, key), wrong) for key, item in data.items()}
    if isinstance(data, list):
        return [_interpolate(item, variables, (*path, str(i)), wrong) for i, item in enumerate(data)]
    if isinstance(data, str) and "${" in data:
        return _fill(data, variables, path, wrong)
    return data


def _fill(text: str, variables: Mapping[str, str], path: KeyPath, wrong: dict[KeyPath, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if found[0] == "$${":
            return "${"
        if name is None:
            wrong[path] = "${ without a variable's name and }; write $${ for the characters themselves"
        elif default is not None:
            return variables.get(name) or default
        elif name not in variables:
            wrong[path] = f"the environment variable {name} is not set"
        return variables.get(name or "", found[0])

    return _VARIABLE.sub(value, text)
