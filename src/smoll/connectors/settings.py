"""What a connector says of its own settings: a JSON schema, as both kinds of connectors give it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_WORDS = {"string": "text", "boolean": "true or false", "array": "list", "object": "mapping", "integer": "whole number"}
_LIMITS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}
_DEEPEST = 8


@dataclass(frozen=True)
class Setting:
    """One setting of a connector.

    Parameters
    ----------
    type
        For people: ``text``, ``whole number``, ``list of text``, ``one of OAuth, Token``.
    default
        None where there is none.
    choices
        The allowed values; one alone where the schema says ``const``.
    parts
        The settings of a mapping.
    variants
        Where one of several mappings is to be chosen: the title and the settings of each.
    """

    name: str
    type: str
    required: bool = False
    secret: bool = False
    default: Any = None
    description: str = ""
    choices: tuple[Any, ...] = ()
    examples: tuple[Any, ...] = ()
    parts: tuple[Setting, ...] = ()
    variants: tuple[tuple[str, tuple[Setting, ...]], ...] = ()

    def flat(self, prefix: str = "") -> Iterator[Setting]:
        """Give the setting and all below it, with dotted names; those of a variant say of which one they are."""
        name = f"{prefix}{self.name}"
        yield replace(self, name=name, parts=(), variants=())
        for part in self.parts:
            yield from part.flat(f"{name}.")
        for title, parts in self.variants:
            for part in parts:
                for each in part.flat(f"{name}."):
                    yield replace(each, description=f"{title}: {each.description}".rstrip(": "))


def read_settings(schema: Mapping[str, Any]) -> tuple[Setting, ...]:
    """The settings of a JSON schema: those that are required first, in the order that it gives them."""
    return _properties(schema, schema, 0)


def _properties(
    schema: Mapping[str, Any], root: Mapping[str, Any], depth: int, *, is_variant: bool = False
) -> tuple[Setting, ...]:
    found = schema.get("properties")
    required = schema.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    settings = []
    for name, spec in found.items() if isinstance(found, Mapping) else ():
        if isinstance(spec, Mapping):
            resolved = _resolved(spec, root)
            # A constant tells the variants apart: nobody chooses it, but it has to be there.
            here = name in needed or resolved.get("required") is True or (is_variant and "const" in resolved)
            settings.append((_order(resolved), _setting(str(name), resolved, root, required=here, depth=depth)))
    settings.sort(key=lambda each: (not each[1].required, each[0]))
    return tuple(setting for _, setting in settings)


def _order(spec: Mapping[str, Any]) -> float:
    order = spec.get("order")
    return order if isinstance(order, (int, float)) else float("inf")


def _setting(name: str, spec: Mapping[str, Any], root: Mapping[str, Any], *, required: bool, depth: int) -> Setting:
    variants = _variants(spec, root, depth)
    choices = (spec["const"],) if "const" in spec else _list(spec.get("enum"))
    title, said = _plain(spec.get("title")), _plain(spec.get("description"))
    return Setting(
        name=name,
        type=f"one of {', '.join(title for title, _ in variants)}" if variants else _type(spec, root),
        required=required,
        secret=any(spec.get(mark) is True for mark in ("airbyte_secret", "secret", "writeOnly"))
        or spec.get("format") == "password",
        default=spec.get("default"),
        description=said or title,
        choices=tuple(choice for choice in choices if choice is not None),
        examples=_list(spec.get("examples")),
        parts=_properties(spec, root, depth + 1) if depth < _DEEPEST and not variants else (),
        variants=variants,
    )


def _variants(
    spec: Mapping[str, Any], root: Mapping[str, Any], depth: int
) -> tuple[tuple[str, tuple[Setting, ...]], ...]:
    several = spec.get("oneOf") or spec.get("anyOf")
    options = (
        [_resolved(each, root) for each in several if isinstance(each, Mapping)] if isinstance(several, list) else []
    )
    options = [each for each in options if isinstance(each.get("properties"), Mapping)]
    if not options or depth >= _DEEPEST:
        return ()
    shared = _properties(spec, root, depth + 1)
    return tuple(
        (
            _plain(each.get("title")) or f"variant {number}",
            (*_properties(each, root, depth + 1, is_variant=True), *shared),
        )
        for number, each in enumerate(options, start=1)
    )


def _resolved(spec: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without references, and with the one alternative that is not null in place of ``anyOf``."""
    for _ in range(_DEEPEST):
        reference = spec.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            target: Any = root
            for part in reference[2:].split("/"):
                target = target.get(part) if isinstance(target, Mapping) else None
            spec = {**(target if isinstance(target, Mapping) else {}), **{k: v for k, v in spec.items() if k != "$ref"}}
            continue
        several: list[Any] = next(
            (spec[key] for key in ("anyOf", "oneOf", "allOf") if isinstance(spec.get(key), list)), []
        )
        real = [each for each in several if isinstance(each, Mapping) and each.get("type") != "null"]
        if len(real) != 1:
            break
        spec = {**real[0], **{key: value for key, value in spec.items() if key not in ("anyOf", "oneOf", "allOf")}}
    return spec


def _type(spec: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    declared = spec.get("type")
    several = spec.get("anyOf") or spec.get("oneOf")
    if declared is None and isinstance(several, list):
        words = [_type(_resolved(each, root), root) for each in several if isinstance(each, Mapping)]
        return " or ".join(dict.fromkeys(word for word in words if word))
    types = [kind for kind in (declared if isinstance(declared, list) else [declared]) if isinstance(kind, str)]
    words = [_WORDS.get(kind, kind) for kind in types if kind != "null"]
    items = spec.get("items")
    if words == ["list"] and isinstance(items, Mapping) and (of := _type(_resolved(items, root), root)):
        return f"list of {of}"
    if words == ["text"] and spec.get("format") in ("date", "date-time"):
        return "date" if spec["format"] == "date" else "date and time"
    limits = [f"{word} {spec[key]}" for key, word in _LIMITS.items() if isinstance(spec.get(key), (int, float))]
    return ", ".join([" or ".join(words), *limits] if words else limits)


def _list(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else ()


def _plain(text: Any) -> str:
    """One line without the HTML that some connectors write."""
    if not isinstance(text, str):
        return ""
    return " ".join(html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", text)).split())
