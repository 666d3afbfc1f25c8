"""Vega-Lite specifications held against the columns of their queries, before any of them is drawn."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from smoll.errors import Problem

if TYPE_CHECKING:
    from smoll.dashboards.answers import Answer
    from smoll.dashboards.parse import Chart, Page

Path = tuple[str, ...]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VIEWS = ("layer", "concat", "hconcat", "vconcat")
_KEYS = _words("""
    $schema data datasets name title description params transform mark encoding layer concat hconcat vconcat
    facet repeat spec columns resolve width height view projection autosize padding background config align bounds
    center spacing""")
_MARKS = _words("arc area bar line point rect rule text tick trail circle square geoshape boxplot errorband errorbar")
_CHANNELS = _words("""
    x y x2 y2 xError xError2 yError yError2 xOffset yOffset theta theta2 radius radius2 longitude latitude
    longitude2 latitude2 color fill stroke opacity fillOpacity strokeOpacity size shape angle strokeWidth strokeDash
    text tooltip href description key detail order facet row column time""")
_TYPES = frozenset(("quantitative", "temporal", "ordinal", "nominal", "geojson"))
_NO_FIELDS = frozenset(("axis", "legend", "header", "scale", "format", "title", "value", "datum", "timeUnit"))
"""Parts of a channel that name no field of the data, or other things by the word ``datum``."""
_DATUM = re.compile(r"""\bdatum(?:\.([^\W\d][\w$]*)|\[\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*\])""")
_PART = re.compile(r"""((?:[^.\[\]'"\\]|\\.)+)|\[\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(\d+))\s*\]|\.""", re.S)


@dataclass(frozen=True)
class _Data:
    """The fields that the data of a view have. ``open``: they cannot be known. ``query`` is whose they are."""

    query: str = ""
    fields: frozenset[str] = frozenset()
    open: bool = False

    def with_fields(self, *names: str | None) -> _Data:
        return replace(self, fields=self.fields | {name for name in names if name})

    def only(self, *names: str | None) -> _Data:
        return replace(self, fields=frozenset(name for name in names if name))


_UNKNOWN = _Data(open=True)


@dataclass(frozen=True)
class _View:
    """What a view has from those around it."""

    data: _Data | None = None
    repeat: Mapping[str, tuple[str, ...]] | None = None
    encoding: Mapping[str, tuple[Path, Any]] | None = None


def chart_problems(page: Page, answers: Mapping[str, Answer]) -> Iterator[Problem]:
    """What is wrong with the charts of a page, as far as it can be seen without drawing them."""
    from smoll.dashboards.parse import Chart

    for chart in page.blocks:
        if isinstance(chart, Chart):
            seen: set[tuple[int, str]] = set()
            for path, message, hint in _Reading(chart, page, answers).look():
                place = (chart.line_of(path), message)
                if place not in seen:
                    seen.add(place)
                    yield Problem(page.file, place[0], 1, message, hint)


def queries_of(spec: Any) -> set[str]:
    """The names of data that a specification uses, with those of the options of its inputs."""
    found: set[str] = set()
    if isinstance(spec, Mapping):
        data, options = spec.get("data"), spec.get("options")
        if isinstance(data, Mapping) and isinstance(data.get("name"), str):
            found.add(data["name"])
        if isinstance(options, Mapping) and isinstance(options.get("query"), str):
            found.add(options["query"])
        spec = list(spec.values())
    if isinstance(spec, list):
        found = found.union(*map(queries_of, spec))
    return found


Found = Iterator[tuple[Path, str, str]]


class _Reading:
    """One specification, read from the outside to the inside."""

    def __init__(self, chart: Chart, page: Page, answers: Mapping[str, Answer]) -> None:
        self._spec = chart.spec
        self._names = {query.name for query in page.queries}
        self._answers = answers
        datasets = chart.spec.get("datasets")
        self._own = set(datasets) if isinstance(datasets, Mapping) else set()

    def look(self) -> Found:
        yield from self._view(self._spec, (), _View(encoding={}, repeat={}))

    def _view(self, spec: Any, path: Path, view: _View) -> Found:
        if not isinstance(spec, Mapping):
            yield path, "a view of a chart has keys and values", ""
            return
        for key in spec:
            if key not in _KEYS:
                yield (*path, key), f"Vega-Lite has no key `{key}` here", _close(key, _KEYS)
        data = view.data
        if spec.get("data") is not None:
            problems: list[tuple[Path, str, str]] = []
            data = self._data(spec["data"], (*path, "data"), problems)
            yield from problems
        yield from self._params(spec.get("params"), (*path, "params"), data or _UNKNOWN)
        data, problems = self._transforms(spec.get("transform"), (*path, "transform"), data)
        yield from problems
        encoding = dict(view.encoding or {})
        own = spec.get("encoding")
        for channel, definition in own.items() if isinstance(own, Mapping) else ():
            encoding[channel] = ((*path, "encoding", channel), definition)
        inner = _View(data, {**(view.repeat or {}), **_repeated(spec.get("repeat"))}, encoding)
        for key in _VIEWS:
            for n, each in enumerate(spec[key] if isinstance(spec.get(key), list) else ()):
                yield from self._view(each, (*path, key, str(n)), inner)
        if "facet" in spec:
            yield from self._fields(spec["facet"], (*path, "facet"), data or _UNKNOWN, inner)
        if "spec" in spec:
            yield from self._view(spec["spec"], (*path, "spec"), inner)
        if "mark" in spec:
            yield from self._mark(spec["mark"], (*path, "mark"))
            if data is None:
                yield path, "the chart has no data", "write `data: {name: QUERY}`"
            for channel, (where, definition) in encoding.items():
                yield from self._channel(channel, definition, where, data or _UNKNOWN, inner)

    def _mark(self, mark: Any, path: Path) -> Found:
        kind = mark.get("type") if isinstance(mark, Mapping) else mark
        if kind == "image":
            yield path, "a chart shows no images", "a page fetches nothing from elsewhere"
        elif kind not in _MARKS:
            yield path, f"Vega-Lite has no mark `{kind}`", _close(str(kind), _MARKS)

    def _data(self, data: Any, path: Path, problems: list[tuple[Path, str, str]]) -> _Data:
        if not isinstance(data, Mapping):
            problems.append((path, "`data` names a query", "write `data: {name: QUERY}`"))
        elif "url" in data:
            hint = "put it into a source or a seed, and query that: a page fetches nothing from elsewhere"
            problems.append(((*path, "url"), "a chart takes its data from a query, not from a URL", hint))
        elif "values" in data:
            return _inline(data["values"])
        elif isinstance(data.get("sequence"), Mapping):
            return _Data("sequence", frozenset((str(data["sequence"].get("as", "data")),)))
        elif "name" in data and (name := str(data["name"])) not in self._own:
            if name in self._answers:
                return _Data(name, frozenset(column.name for column in self._answers[name].columns))
            if name not in self._names:
                hint = _close(name, self._names)
                problems.append(((*path, "name"), f"there is no query `{name}` on this page", hint))
        elif not data.keys() & {"name", "graticule", "sphere"}:
            problems.append((path, "`data` names no query", "write `data: {name: QUERY}`"))
        return _UNKNOWN

    def _params(self, params: Any, path: Path, data: _Data) -> Found:
        for n, param in enumerate(params if isinstance(params, list) else ()):
            here = (*path, str(n))
            select = param.get("select") if isinstance(param, Mapping) else None
            if isinstance(select, Mapping):
                for field in select.get("fields") or ():
                    yield from self._field(field, (*here, "select", "fields"), data)
            yield from self._options(param, here)

    def _options(self, value: Any, path: Path) -> Found:
        """Inputs that take their options from a query."""
        if not isinstance(value, Mapping):
            return
        options = value.get("options")
        if isinstance(options, Mapping):
            where = (*path, "options")
            query, column = str(options.get("query", "")), str(options.get("column", ""))
            for key in options.keys() - {"query", "column", "all"}:
                yield (*where, key), f"unknown key `{key}`", "options have `query`, `column` and `all`"
            if not query or not column:
                yield where, "options name a query and a column", "write `options: {query: NAME, column: C}`"
            elif query not in self._names:
                yield where, f"there is no query `{query}` on this page", _close(query, self._names)
            elif query in self._answers and self._answers[query].position(column) is None:
                yield from self._field(_escaped(column), where, _of(query, self._answers))
        for key, each in value.items():
            yield from self._options(each, (*path, key))

    # --- fields

    def _channel(self, channel: str, definition: Any, path: Path, data: _Data, view: _View) -> Found:
        if channel == "url":
            yield path, "a chart shows no images", "a page fetches nothing from elsewhere"
        elif channel not in _CHANNELS:
            yield path, f"Vega-Lite has no channel `{channel}`", _close(channel, _CHANNELS)
        kind = definition.get("type") if isinstance(definition, Mapping) else None
        if kind is not None and kind not in _TYPES:
            yield (*path, "type"), f"Vega-Lite has no type `{kind}`", _close(str(kind), _TYPES)
        yield from self._fields(definition, path, data, view)

    def _fields(self, value: Any, path: Path, data: _Data, view: _View) -> Found:
        """Every field that a channel, a facet or a condition names, however deep."""
        if isinstance(value, list):
            for n, each in enumerate(value):
                yield from self._fields(each, (*path, str(n)), data, view)
        if not isinstance(value, Mapping):
            return
        for key, each in value.items():
            here = (*path, key)
            if key == "field":
                repeated = each.get("repeat") if isinstance(each, Mapping) else None
                names = (view.repeat or {}).get(str(repeated), ()) if repeated else (each,)
                for name in names:
                    yield from self._field(name, here, data)
            elif key == "aggregate" and isinstance(each, Mapping):
                for name in each.values():
                    yield from self._field(name, here, data)
            elif key in ("test", "filter", "calculate") and isinstance(each, str):
                yield from self._expression(each, here, data)
            elif key not in _NO_FIELDS:
                yield from self._fields(each, here, data, view)

    def _field(self, field: Any, path: Path, data: _Data) -> Found:
        if data.open or not isinstance(field, str) or field == "*" or field.startswith("__"):
            return
        parts = path_of(field)
        if not parts or parts[0] in data.fields:
            return
        columns = sorted(data.fields)
        if field in data.fields:
            hint = f"a dot and a bracket in a name are escaped: {_escaped(field)}"
        else:
            close = difflib.get_close_matches(parts[0], columns, 1)
            close = close or [name for name in columns if name.lower() == parts[0].lower()]
            hint = f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(columns[:12])}"
        yield path, f"the query `{data.query}` gives no column `{parts[0]}`", hint

    def _expression(self, text: str, path: Path, data: _Data) -> Found:
        for match in _DATUM.finditer(text):
            name = match[1] or re.sub(r"\\(.)", r"\1", match[2] or match[3] or "")
            yield from self._field(_escaped(name), path, data)

    # --- transforms

    def _transforms(
        self, transforms: Any, path: Path, data: _Data | None
    ) -> tuple[_Data | None, list[tuple[Path, str, str]]]:
        problems: list[tuple[Path, str, str]] = []
        if not isinstance(transforms, list):
            return data, problems
        known = data or _UNKNOWN
        for n, each in enumerate(transforms):
            here = (*path, str(n))
            kind = next((kind for kind in _TRANSFORMS if isinstance(each, Mapping) and kind in each), None)
            if kind is None:
                said = ", ".join(each) if isinstance(each, Mapping) else str(each)
                problems.append((here, f"Vega-Lite has no such transform: {said[:100]}", ""))
                continue
            for name, where in _TRANSFORMS[kind].reads(each):
                problems += self._field(name, (*here, where), known)
            for key in ("filter", "calculate"):
                if key in each:
                    only = each if isinstance(each[key], str) else {key: each[key]}
                    problems += self._fields(only, here, known, _View())
            if kind == "lookup":
                known = self._lookup(each, here, known, problems)
            else:
                known = _TRANSFORMS[kind].gives(each, known)
        return (known if data is not None else None), problems

    def _lookup(self, each: Mapping[str, Any], path: Path, data: _Data, problems: list[tuple[Path, str, str]]) -> _Data:
        source = each.get("from")
        names = _names(each.get("as"))
        if not isinstance(source, Mapping) or "data" not in source:
            return data.with_fields(*names) if names else replace(data, open=True)
        other = self._data(source["data"], (*path, "from", "data"), problems)
        fields = _names(source.get("fields"))
        for name in [*_names(source.get("key")), *fields]:
            problems += self._field(name, (*path, "from"), other)
        return data.with_fields(*(names or fields))


def _of(query: str, answers: Mapping[str, Answer]) -> _Data:
    return _Data(query, frozenset(column.name for column in answers[query].columns))


def _inline(values: Any) -> _Data:
    rows = values if isinstance(values, list) else []
    if rows and all(isinstance(row, Mapping) for row in rows):
        return _Data("values", frozenset(key for row in rows for key in row))
    return _UNKNOWN


def _repeated(repeat: Any) -> dict[str, tuple[str, ...]]:
    if isinstance(repeat, list):
        return {"repeat": tuple(repeat)}
    return {key: tuple(names) for key, names in repeat.items()} if isinstance(repeat, Mapping) else {}


def path_of(field: str) -> list[str]:
    r"""The parts of a field as Vega reads it: ``a.b`` is b in a, ``a\.b`` and ``['a.b']`` are one name."""
    parts: list[str] = []
    for match in _PART.finditer(field):
        if match[1] is not None:
            parts.append(re.sub(r"\\(.)", r"\1", match[1], flags=re.S))
        elif match[0] != ".":
            parts.append(re.sub(r"\\(.)", r"\1", match[2] or match[3] or match[4] or "", flags=re.S))
    return parts


def _escaped(name: str) -> str:
    return re.sub(r"([.\[\]'\"\\])", r"\\\1", name)


def _close(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, sorted(known), 1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"there are: {', '.join(sorted(known))}" if known and len(known) < 20 else ""


def _names(value: Any) -> list[str]:
    """A name or a list of names."""
    return [str(each) for each in value] if isinstance(value, list) else [str(value)] if value is not None else []


Reads = Callable[[Mapping[str, Any]], list[tuple[str, str]]]


@dataclass(frozen=True)
class _Transform:
    """Which fields a transform reads, each with the key where it stands, and what the data have afterwards."""

    reads: Reads
    gives: Callable[[Mapping[str, Any], _Data], _Data]


def _reads(*keys: str) -> Reads:
    """Fields that stand at these keys: a name, a list of names, or a list of mappings with ``field``."""

    def found(each: Mapping[str, Any]) -> list[tuple[str, str]]:
        named: list[tuple[str, str]] = []
        for key in keys:
            value = each.get(key)
            for one in value if isinstance(value, list) else [value]:
                name = one.get("field") if isinstance(one, Mapping) else one
                named += [(name, key)] if isinstance(name, str) else []
        return named

    return found


def _as(each: Mapping[str, Any], *default: str) -> list[str]:
    return _names(each.get("as")) or list(default)


def _ends(each: Mapping[str, Any], data: _Data) -> _Data:
    """A transform that gives a beginning and an end."""
    names = _as(each)
    return data.with_fields(*names, *(f"{name}_end" for name in names[:1]), *(f"{name}_range" for name in names[:1]))


def _items(each: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    value = each.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _made(each: Mapping[str, Any], key: str) -> list[str]:
    return [str(item.get("as") or f"{item.get('op')}_{item.get('field', '')}") for item in _items(each, key)]


_TRANSFORMS: dict[str, _Transform] = {
    "filter": _Transform(lambda each: [], lambda each, data: data),
    "calculate": _Transform(lambda each: [], lambda each, data: data.with_fields(*_as(each))),
    "lookup": _Transform(_reads("lookup"), lambda each, data: data),
    "joinaggregate": _Transform(
        _reads("joinaggregate", "groupby"), lambda each, data: data.with_fields(*_made(each, "joinaggregate"))
    ),
    "window": _Transform(
        _reads("window", "groupby", "sort"), lambda each, data: data.with_fields(*_made(each, "window"))
    ),
    "aggregate": _Transform(
        _reads("aggregate", "groupby"),
        lambda each, data: data.only(*_names(each.get("groupby")), *_made(each, "aggregate")),
    ),
    "bin": _Transform(_reads("field"), _ends),
    "timeUnit": _Transform(_reads("field"), _ends),
    "fold": _Transform(_reads("fold"), lambda each, data: data.with_fields(*_as(each, "key", "value"))),
    "flatten": _Transform(_reads("flatten"), lambda each, data: data.with_fields(*_as(each))),
    "pivot": _Transform(_reads("pivot", "value", "groupby"), lambda each, data: replace(data, open=True)),
    "stack": _Transform(_reads("stack", "groupby", "sort"), _ends),
    "impute": _Transform(_reads("impute", "key", "groupby"), lambda each, data: data),
    "density": _Transform(
        _reads("density", "groupby"),
        lambda each, data: data.only(*_names(each.get("groupby")), *_as(each, "value", "density")),
    ),
    "regression": _Transform(
        _reads("regression", "on", "groupby"),
        lambda each, data: data.only(
            *_names(each.get("groupby")),
            *_as(each, str(each.get("on")), str(each.get("regression"))),
            *(("coef", "rSquared") if each.get("params") else ()),
        ),
    ),
    "loess": _Transform(
        _reads("loess", "on", "groupby"),
        lambda each, data: data.only(
            *_names(each.get("groupby")), *_as(each, str(each.get("on")), str(each.get("loess")))
        ),
    ),
    "quantile": _Transform(
        _reads("quantile", "groupby"),
        lambda each, data: data.only(*_names(each.get("groupby")), *_as(each, "prob", "value")),
    ),
    "extent": _Transform(_reads("extent"), lambda each, data: data),
    "sample": _Transform(lambda each: [], lambda each, data: data),
}
