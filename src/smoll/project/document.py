"""YAML text -> plain values, and where each of them stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from smoll.errors import Problem

KeyPath = tuple[str, ...]
Mark = tuple[int, int]

START: Mark = (1, 1)
# `NULL` and `Null` stay text, so that `null_values: [NULL]` says what it looks like.
NOTHING = {"", "~", "null"}
CORE_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")}
# Aliases of aliases grow exponentially ("billion laughs"); no honest project file comes near this.
MOST_VALUES = 100_000


class Plain(str):
    """A scalar that was written without quotes: where another tool's configuration is passed on, it may be a number."""

    __slots__ = ()


@dataclass(frozen=True)
class Document:
    """A parsed file.

    ``data`` holds dicts, lists, ``str`` and ``None`` only. Every scalar stays the text that was written
    (``NO``, ``1e3``, ``007``), as `Plain` where it has no quotes; the models know which key wants a number. ``None``
    is a key without a value, ``~`` or ``null``. ``keys`` and ``values`` give line and column, counted from 1; an item
    of a list has its index, as text, in the path.
    """

    file: str
    data: Any = None
    keys: Mapping[KeyPath, Mark] = field(default_factory=dict)
    values: Mapping[KeyPath, Mark] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def nearest(self, path: KeyPath) -> KeyPath:
        """Return `path` or its nearest ancestor that the file contains."""
        while path and path not in self.values:
            path = path[:-1]
        return path

    def key_mark(self, path: KeyPath) -> Mark:
        """Return where the key at `path`, or its nearest ancestor, is written."""
        return self.keys.get(self.nearest(path), START)

    def value_mark(self, path: KeyPath) -> Mark:
        """Return where the value at `path` is written; if it is not, where its nearest ancestor's key is."""
        return self.values[path] if path in self.values else self.key_mark(path)


@dataclass
class _Reading:
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    wrong: list[tuple[Mark, str, str]] = field(default_factory=list)
    count: int = 0


def parse(text: str, file: str) -> Document:
    """Parse YAML 1.2 `text`. Never raises: what is wrong is in ``problems``.

    Parameters
    ----------
    text
        The content of the file.
    file
        How problems call the file.
    """
    reading = _Reading()
    data = None
    try:
        yaml = YAML(pure=True)
        yaml.composer.warn_double_anchors = False  # YAML allows them
        node = yaml.compose(text)
        data = None if node is None else _value(node, (), (), reading)
        if data is None and not reading.wrong:
            reading.wrong.append((START, "the file is empty", "`smoll init` writes an example"))
    except RecursionError:
        reading.wrong.append((START, "the values are nested too deeply to read", ""))
    except YAMLError as error:
        reading.wrong.append(_syntax(error, text))
    except Exception:  # the parser has bugs of its own (IndexError, ValueError) on odd text
        reading.wrong.append((START, "not valid YAML", "check brackets, quotes and indentation"))
    problems = tuple(Problem(file, *mark, message, hint) for mark, message, hint in reading.wrong)
    return Document(file, data, reading.keys, reading.values, problems)


def mark_at(text: str, index: int) -> Mark:
    """Turn a character index into a line and a column, counted from 1."""
    before = text[:index]
    return before.count("\n") + 1, index - before.rfind("\n")


def _mark(node: Node) -> Mark:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _plain(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.style


def _value(node: Node, path: KeyPath, parents: tuple[int, ...], reading: _Reading) -> Any:
    reading.keys.setdefault(path, _mark(node))
    # The parser puts a value that is not there on the next line: point to its key instead.
    reading.values[path] = reading.keys[path] if node.value == "" and _plain(node) else _mark(node)
    reading.count += 1
    if id(node) in parents:
        reading.wrong.append((_mark(node), "this value contains itself", "remove the alias (*)"))
        return None
    if reading.count > MOST_VALUES:
        if reading.count == MOST_VALUES + 1:
            reading.wrong.append((_mark(node), f"more than {MOST_VALUES} values", "remove aliases (*)"))
        return None
    if node.tag not in CORE_TAGS:
        reading.wrong.append((_mark(node), "YAML tags (!name) are not supported", "remove the tag"))
        return None
    return _READERS[type(node)](node, path, (*parents, id(node)), reading)


def _scalar(node: Node, path: KeyPath, parents: tuple[int, ...], reading: _Reading) -> str | None:
    _check_characters(node, reading)
    return None if _plain(node) and node.value in NOTHING else _text(node)


def _text(node: Node) -> str:
    return Plain(node.value) if _plain(node) else str(node.value)


def _check_characters(node: Node, reading: _Reading) -> None:
    """Refuse what YAML can escape but no file name, database or UTF-8 output can hold."""
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in node.value):
        reading.wrong.append((_mark(node), "an escape that stands for no usable character", "remove it"))


def _list(node: Node, path: KeyPath, parents: tuple[int, ...], reading: _Reading) -> list[Any]:
    values = [_value(item, (*path, str(i)), parents, reading) for i, item in enumerate(node.value)]
    # An item of a list is there, so it is text: `null_values: [~, null]`.
    scalars = [isinstance(item, ScalarNode) for item in node.value]
    return [
        _text(item) if value is None and scalar else value
        for item, value, scalar in zip(node.value, values, scalars, strict=True)
    ]


def _mapping(node: Node, path: KeyPath, parents: tuple[int, ...], reading: _Reading) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            reading.wrong.append((_mark(key), "a key must be text", "quote a key that begins with [ or {"))
        elif key.tag == "tag:yaml.org,2002:merge":
            reading.wrong.append((_mark(key), "merge keys (<<) are not supported", "repeat the keys"))
        elif key.value in values:
            first = reading.keys[(*path, key.value)][0]
            reading.wrong.append((_mark(key), f"duplicate key {key.value!r}", f"first on line {first}"))
        else:
            _check_characters(key, reading)
            here = (*path, str(key.value))
            reading.keys[here] = _mark(key)
            values[here[-1]] = _value(value, here, parents, reading)
    return values


_ALIAS = re.compile(r"(^|[:-] ) *\*")  # also the line of cron */5 * * * *, about which the parser says odd things

_READERS: dict[type, Callable[[Node, KeyPath, tuple[int, ...], _Reading], Any]] = {
    ScalarNode: _scalar,
    SequenceNode: _list,
    MappingNode: _mapping,
}


def _syntax(error: YAMLError, text: str) -> tuple[Mark, str, str]:
    if not isinstance(error, MarkedYAMLError):
        # A ReaderError: a control character. It knows an index only.
        index = min(int(getattr(error, "position", 0) or 0), len(text))
        return mark_at(text, index), "not valid YAML: a control character", "remove or escape it"
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    what = str(error.problem or error.context or "cannot be read")
    return (line + 1, column + 1), *_in_plain_words(what, text.split("\n")[line : line + 1], column)


def _in_plain_words(what: str, lines: list[str], column: int) -> tuple[str, str]:
    line = lines[0] if lines else ""
    if "\\t" in what or "\t" in line[: column + 1]:
        return "not valid YAML: a tab cannot indent", "indent with spaces"
    if "alias" in what or _ALIAS.search(line[: column + 1]):
        return "not valid YAML: an unquoted * stands for an alias", 'quote it: "*"'
    if "${" in line and any(bracket in line for bracket in ("[", ": {", "- {")):
        return f"not valid YAML: {what}", 'inside {...} and [...] write "${VAR}" in quotes'
    if "mapping values are not allowed" in what:
        return "not valid YAML: unexpected ':'", "check the indentation, and quote text that contains ': '"
    return f"not valid YAML: {what}", "check brackets, quotes and indentation"
