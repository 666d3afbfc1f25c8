"""Write a new source into the text of ``smoll.yml``. Every other character of it stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from smoll.errors import UsageError
from smoll.project.document import parse

_BY_HAND = "Add the source by hand, or write `sources` as a block: one line for each source, indented."


def insert_source(text: str, file: str, name: str, block: Sequence[str]) -> str:
    """Return `text` with one more source, as the last one under ``sources``.

    Parameters
    ----------
    text
        The whole project file.
    file
        How messages call it.
    name
        The name of the source.
    block
        The lines of the source: its name first, what belongs to it below, indented.

    Raises
    ------
    UsageError
        The file is no YAML, has a source of this name, or is written in a way that leaves no place for one.
    """
    known = parse(text, file)
    if known.problems and not _is_empty(text):
        raise UsageError(f"{known.problems[0]}.", hint="Mend the file first.")
    if isinstance(known.data, dict) and name in (known.data.get("sources") or ()):
        line = known.key_mark(("sources", name))[0]
        raise UsageError(f"{file}:{line}: there is a source {name!r} already.", hint="Choose another name.")
    ending = "\r\n" if "\r\n" in text else "\n"
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    changed = ending.join(_inserted(lines, _sources(text, file), file, block))
    if not _is_only_addition(known.data, parse(changed, file).data, name):
        raise UsageError(f"{file}: there is no place for another source that leaves the rest as it is.", hint=_BY_HAND)
    return changed


def _is_empty(text: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines())


def _sources(text: str, file: str) -> tuple[Node, Node] | None:
    """The key ``sources`` and its value; None where there is no such key."""
    try:
        yaml = YAML(pure=True)
        yaml.composer.warn_double_anchors = False
        root = yaml.compose(text)
    except YAMLError as error:
        raise UsageError(f"{file} is not valid YAML.", hint="`smoll check` says where.") from error
    if root is None:
        return None
    if not isinstance(root, MappingNode) or root.flow_style:
        raise UsageError(f"{file} is written as one {{...}}.", hint=_BY_HAND)
    return next(((key, value) for key, value in root.value if key.value == "sources"), None)


def _inserted(lines: list[str], sources: tuple[Node, Node] | None, file: str, block: Sequence[str]) -> list[str]:
    if sources is None:
        while lines and not lines[-1].strip():
            lines.pop()
        gap = [""] if lines else []
        return [*lines, *gap, "sources:", *_indented(block, 2), ""]
    key, value = sources
    number = int(key.start_mark.line)
    if isinstance(value, ScalarNode) or (isinstance(value, MappingNode) and not value.value):
        # Nothing there yet: `sources:` or `sources: {}`. What is commented out below it stays above the new one.
        lines[number] = _without_value(lines[number], file)
        end = _after_comments(lines, number + 1, int(key.start_mark.column) + 1)
        return [*lines[:end], *_indented(block, int(key.start_mark.column) + 2), *_rest(lines, end)]
    if not isinstance(value, MappingNode) or value.flow_style:
        raise UsageError(f"{file}:{number + 1}: `sources` is written in {{...}}.", hint=_BY_HAND)
    indent = int(value.value[0][0].start_mark.column)
    last = max(_last_lines(value, lines))
    end = _after_comments(lines, last + 1, indent)
    return [*lines[:end], "", *_indented(block, indent), *_rest(lines, end)]


def _without_value(line: str, file: str) -> str:
    found = re.fullmatch(r"""(\s*(?:sources|"sources"|'sources')\s*:)(?:\s*(?:\{\s*\}|~|null))?(\s*#.*|\s*)""", line)
    if found is None:
        raise UsageError(f"{file}: `sources` is written in a way that cannot be added to.", hint=_BY_HAND)
    return found[1] + found[2].rstrip()


def _rest(lines: list[str], end: int) -> list[str]:
    return lines[end:] or [""]


def _indented(block: Sequence[str], columns: int) -> list[str]:
    return [f"{' ' * columns}{line}".rstrip() for line in block]


def _last_lines(node: Node, lines: list[str]) -> Iterator[int]:
    """The last line of every key and value below a node, counted from 0."""
    if isinstance(node, ScalarNode) and not node.value and not node.style:
        return  # the parser puts a value that is not there on a later line; its key has been counted
    if isinstance(node, ScalarNode) or getattr(node, "flow_style", False):
        end = int(node.end_mark.line)
        if isinstance(node, ScalarNode) and node.style in ("|", ">"):
            end -= 1  # its mark is on the line after it, blank lines and all
            while end > node.start_mark.line and not lines[end].strip():
                end -= 1
        yield end
        return
    for item in node.value:
        for part in item if isinstance(item, tuple) else (item,):
            yield from _last_lines(part, lines)


def _after_comments(lines: list[str], start: int, indent: int) -> int:
    """Where the comments end that are indented as what is above them, and so belong to it."""
    end = start
    for number in range(start, len(lines)):
        line = lines[number]
        if not line.strip():
            continue
        if not line.lstrip().startswith("#") or len(line) - len(line.lstrip()) < indent:
            break
        end = number + 1
    return end


def _is_only_addition(before: object, after: object, name: str) -> bool:
    if not isinstance(after, dict) or not isinstance(after.get("sources"), dict):
        return False
    rest = {**after, "sources": {key: value for key, value in after["sources"].items() if key != name}}
    old = before if isinstance(before, dict) else {}
    return name in after["sources"] and rest == {**old, "sources": old.get("sources") or {}}
