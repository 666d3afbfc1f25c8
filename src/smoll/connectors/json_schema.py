"""What a connector's JSON schema says about the columns of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SCALARS = ("string", "integer", "number", "boolean")
_NESTED = ("object", "array")
_INSTANTS = "TIMESTAMP WITH TIME ZONE"


@dataclass(frozen=True)
class Declared:
    """A declared column.

    Parameters
    ----------
    types
        JSON types, ``null`` aside; none where the schema says nothing.
    among
        The DuckDB types that its values may get, the declared one first. () where they are JSON.
    """

    name: str
    types: frozenset[str]
    among: tuple[str, ...]

    @property
    def is_scalar(self) -> bool:
        """True where no value may be an object or a list."""
        return bool(self.types) and not self.types & set(_NESTED)

    @property
    def duckdb_type(self) -> str:
        """Its type as long as no value tells otherwise."""
        if not self.types:
            return "VARCHAR"
        first = self.among[0] if self.among else "JSON"
        return "DECIMAL(38,9)" if first == "DECIMAL" else first


def declared_columns(schema: Any) -> dict[str, Declared]:
    """The top-level properties of a JSON schema of records, in their order; {} where it has none.

    Every subset of JSON schema that taps and connectors use is understood: lists of types, ``anyOf``, ``oneOf``,
    ``allOf``, ``$ref`` into the schema itself. What is not understood counts as not declared.
    """
    properties = _properties(schema, schema if isinstance(schema, Mapping) else {})
    return {name: _column(name, spec, schema) for name, spec in properties.items()}


def inner_fields(schema: Any) -> Iterator[tuple[str, ...]]:
    """The fields inside of objects, each as its path from the record."""
    root = schema if isinstance(schema, Mapping) else {}

    def below(spec: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        found = [_properties(each, root) for each in _variants(spec, root)] if len(path) < 20 else []
        for name, inner in {name: inner for each in found for name, inner in each.items()}.items():
            yield (*path, name)
            yield from below(inner, (*path, name))

    for name, spec in _properties(schema, root).items():
        yield from below(spec, (name,))


def _properties(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    schema = _resolved(schema, root)
    found: dict[str, Any] = {}
    for each in schema.get("allOf") if isinstance(schema.get("allOf"), list) else ():
        found |= _properties(each, root)
    own = schema.get("properties")
    return {**found, **own} if isinstance(own, Mapping) else found


def _column(name: str, spec: Any, root: Mapping[str, Any]) -> Declared:
    variants = list(_variants(spec, root))
    types = frozenset(kind for each in variants for kind in _types(each)) - {"null"}
    if not types or not types <= {*_SCALARS, *_NESTED} or types & set(_NESTED):
        return Declared(name, types & {*_SCALARS, *_NESTED}, ())
    if types == {"string"}:
        return Declared(name, types, _texts([each for each in variants if "string" in _types(each)]))
    if types == {"boolean"}:
        return Declared(name, types, ("BOOLEAN", "VARCHAR"))
    if "string" in types or "boolean" in types:
        return Declared(name, types, ("VARCHAR",))
    if types == {"integer"} or all(each.get("airbyte_type") == "integer" for each in variants if _is_number(each)):
        return Declared(name, types, ("BIGINT", "DECIMAL", "DOUBLE", "VARCHAR"))
    exact = any(_is_decimal(each) for each in variants)
    return Declared(name, types, ("DECIMAL", "DOUBLE", "VARCHAR") if exact else ("DOUBLE", "DECIMAL", "VARCHAR"))


def _is_number(spec: Mapping[str, Any]) -> bool:
    return bool({"number", "integer"} & set(_types(spec)))


def _is_decimal(spec: Mapping[str, Any]) -> bool:
    """A number whose fraction has a fixed length: no double is meant."""
    step = spec.get("multipleOf")
    return (isinstance(step, (int, float)) and 0 < step < 1) or spec.get("format") == "decimal"


def _texts(variants: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What a text may become. Only what its format names: a postal code stays text, whatever it looks like."""
    formats = {str(each.get("airbyte_type") or each.get("format") or "") for each in variants}
    if len(formats) != 1:
        return ("VARCHAR",)
    return {
        "date-time": (_INSTANTS, "TIMESTAMP", "VARCHAR"),
        "timestamp_with_timezone": (_INSTANTS, "TIMESTAMP", "VARCHAR"),
        "timestamp_without_timezone": ("TIMESTAMP", _INSTANTS, "VARCHAR"),
        "date": ("DATE", "TIMESTAMP", _INSTANTS, "VARCHAR"),
        "time": ("TIME", "VARCHAR"),
        "time_without_timezone": ("TIME", "VARCHAR"),
        "singer.decimal": ("DECIMAL", "DOUBLE", "VARCHAR"),
        "big_integer": ("BIGINT", "DECIMAL", "VARCHAR"),
        "big_number": ("DECIMAL", "DOUBLE", "VARCHAR"),
    }.get(formats.pop(), ("VARCHAR",))


def _variants(spec: Any, root: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The alternatives that a property allows."""
    if not isinstance(spec, Mapping) or depth > 20:  # `true` allows anything; a reference may name itself
        return
    spec = _resolved(spec, root)
    choices = [each for key in ("anyOf", "oneOf", "allOf") for each in _listed(spec.get(key))]
    if not choices:
        yield spec
    for each in choices:
        beside = {key: value for key, value in spec.items() if key not in ("anyOf", "oneOf", "allOf")}
        yield from _variants({**beside, **each} if isinstance(each, Mapping) else each, root, depth + 1)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _types(spec: Mapping[str, Any]) -> list[str]:
    kind = spec.get("type")
    listed = [kind] if isinstance(kind, str) else [each for each in _listed(kind) if isinstance(each, str)]
    if not listed and "properties" in spec:
        return ["object"]
    return ["array"] if not listed and "items" in spec else listed


def _resolved(spec: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference into the schema itself; what leads nowhere says nothing."""
    for _ in range(20):
        reference = spec.get("$ref")
        if not isinstance(reference, str):
            return spec
        place: Any = root
        for part in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ():
            key = part.replace("~1", "/").replace("~0", "~")
            place = place.get(key) if isinstance(place, Mapping) else None
        if not isinstance(place, Mapping) or place is root:
            return {}
        spec = {**place, **{key: value for key, value in spec.items() if key != "$ref"}}
    return {}
