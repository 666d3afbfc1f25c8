"""Pydantic's errors -> problems in words that need no Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from smoll.errors import Problem
from smoll.project.config import ProjectConfig
from smoll.project.document import Document, KeyPath
from smoll.project.fields import but_got, near
from smoll.project.shape import fields_of, kind_of, models_in, section_at

_EXPECTED = {
    "bool": "true or false",
    "dict": "a mapping (key: value)",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "mapping": "a mapping (key: value)",
    "model": "a mapping (key: value)",
    "string": "text",
    "tuple": "text, or a list of texts",
}


def explain(error: ValidationError, document: Document) -> Iterator[Problem]:
    """Give a problem for each error at its place in `document`.

    Messages quote the text of the file and are not redacted.
    """
    for each in error.errors(include_url=False):
        details: dict[str, Any] = {"ctx": {}, **each}
        mark = document.key_mark if _is_about_key(details) else document.value_mark
        path = _path(details["loc"])
        if details["type"] == "smoll" and details["ctx"]["key"]:
            path = (*path, details["ctx"]["key"])
        yield Problem(document.file, *mark(path), *_words(details))


def in_words(error: ValidationError) -> str:
    """Say what is wrong with values that stand in no document: each key, what is wrong, what to do."""
    said = []
    for each in error.errors(include_url=False):
        message, hint = _words({"ctx": {}, **each})
        key = ".".join(_path(each["loc"])[2:])
        said.append((f"{key}: " if key else "") + message + (f" ({hint})" if hint else ""))
    return "; ".join(said)


def _path(loc: tuple[str | int, ...]) -> KeyPath:
    """Turn pydantic's location into a path of the file."""
    parts = [str(part) for part in loc if part != "[key]"]
    if parts[:1] in (["sources"], ["checks"]) and len(parts) > 2:
        del parts[2]  # the kind, by which pydantic says which class of the union it tried
    return tuple(parts)


def _is_about_key(details: dict[str, Any]) -> bool:
    return bool(details["type"] == "extra_forbidden" or details["loc"][-1:] == ("[key]",))


def _words(details: dict[str, Any]) -> tuple[str, str]:
    kind, context, last = details["type"], details["ctx"], str(details["loc"][-1]) if details["loc"] else ""
    if kind == "smoll":
        return context["message"], context["hint"]
    if kind == "extra_forbidden":
        section = section_at(ProjectConfig, details["loc"])
        return f"unknown key {last!r}", near(last, fields_of(section) if section else ())
    if kind == "missing":
        return f"the key {last!r} is missing", ""
    if kind == "union_tag_not_found":
        return "the key 'kind' is missing", f"one of {', '.join(_kinds(details['loc'][0]))}"
    if kind == "union_tag_invalid":
        return f"unknown kind {context['tag']!r}", near(context["tag"], _kinds(details["loc"][0]))
    if kind == "literal_error":
        return f"expected {context['expected']}" + but_got(details["input"]), _nearest_literal(details)
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}" + but_got(str(details["input"])), ""
    if kind == "too_short":
        return f"{last} cannot be empty", ""
    return f"expected {_EXPECTED.get(kind.split('_')[0], 'something else')}" + but_got(details["input"]), ""


def _nearest_literal(details: dict[str, Any]) -> str:
    close = get_close_matches(str(details["input"]), re.findall("'([^']*)'", details["ctx"]["expected"]), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _kinds(key: str | int) -> list[str]:
    """The kinds that there are of a top-level key's items."""
    kinds = map(kind_of, models_in(ProjectConfig.model_fields[str(key)].annotation))
    return sorted(kind for kind in kinds if kind)
