"""``dashboards/*.md`` -> pages: front matter, queries, blocks, and where each of them stands. Reads no database."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from smoll.dashboards.formats import format_problem
from smoll.errors import Problem
from smoll.project.document import Document, parse
from smoll.project.fields import as_written

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

T = TypeVar("T")

FOLDER = "dashboards"
MOST_BYTES = 1_000_000
"""Of one page; nobody writes more by hand."""
MOST_ROWS_SHOWN = 200
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg")
_NAME = re.compile(r"[^\W\d_][\w-]*")
_OTHERS = {"vega": "vega-lite", "vegalite": "vega-lite", "vega_lite": "vega-lite", "values": "value", "tables": "table"}
_INLINE = re.compile(r"""\{\{\s*([^\W\d_][\w-]*)\s*\.\s*("(?:[^"]|"")+"|[^\s|{}"]+)\s*(?:\|\s*([^{}]*?)\s*)?\}\}""")
_FENCE_OF_COLONS = re.compile(r":{3,}")


@dataclass(frozen=True)
class Query:
    """One ``sql`` block. ``line`` is that of its fence; its SQL begins on the next one."""

    name: str
    sql: str
    line: int


@dataclass(frozen=True)
class Chart:
    """One ``vega-lite`` block. ``line_of`` gives the line of the file for a path of keys in the specification."""

    id: str
    spec: Mapping[str, Any]
    line: int
    document: Document | None = field(default=None, repr=False, compare=False)

    def line_of(self, path: tuple[str, ...]) -> int:
        return self.line + (self.document.key_mark(path)[0] if self.document else 0)


@dataclass(frozen=True)
class Choice:
    """How a table shows one column."""

    column: str
    label: str = ""
    format: str = ""


@dataclass(frozen=True)
class Table:
    """One ``table`` block. ``choices`` are the columns to show; None: all as they are. ``rows``: of one page."""

    id: str
    query: str
    line: int
    choices: tuple[Choice, ...] | None = None
    rows: int = 10


@dataclass(frozen=True)
class Value:
    """One number of a ``value`` block, or one inline value. ``better`` says what a change for the better is."""

    query: str
    column: str
    line: int
    label: str = ""
    format: str = ""
    better: str = ""


@dataclass(frozen=True)
class Values:
    """One ``value`` block: numbers that stand side by side."""

    id: str
    values: tuple[Value, ...]
    line: int


Block = Chart | Table | Values


@dataclass(frozen=True)
class Page:
    """One dashboard. ``file`` is its path in the project, ``blocks`` are in the order of the page.

    ``pictures`` are the local images that it shows, as they are written, with their files.
    """

    file: str
    slug: str
    title: str
    description: str = ""
    order: int = 0
    queries: tuple[Query, ...] = ()
    blocks: tuple[Block, ...] = ()
    inline: tuple[Value, ...] = ()
    pictures: tuple[tuple[str, Path], ...] = ()
    tokens: Sequence[Token] = field(default=(), repr=False, compare=False)


def read_pages(root: Path) -> tuple[tuple[Page, ...], tuple[Problem, ...]]:
    """Read every dashboard of a project, in the order in which they are to be listed.

    A page with problems is among the pages, too, as far as it could be read.

    Parameters
    ----------
    root
        The project's folder.
    """
    pages: list[Page] = []
    problems: list[Problem] = []
    for path in sorted((root / FOLDER).glob("*.md")):
        if path.name.startswith("."):
            continue
        reading = _Reading(f"{FOLDER}/{path.name}")
        page = _read_page(path, reading)
        problems += reading.problems
        twin = next((each for each in pages if page and each.slug == page.slug), None)
        if page and twin:
            hint = f"rename one of them: both would be {page.slug}.html"
            problems.append(Problem(page.file, 1, 1, f"{twin.file} is a dashboard of the same name", hint))
        elif page:
            pages.append(page)
    return tuple(sorted(pages, key=lambda page: (page.order, page.title.casefold(), page.slug))), tuple(problems)


@dataclass
class _Reading:
    """What is found while one page is read."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    queries: dict[str, Query] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    inline: list[Value] = field(default_factory=list)
    pictures: dict[str, Path] = field(default_factory=dict)

    def wrong(self, line: int, message: str, hint: str = "", column: int = 1) -> None:
        self.problems.append(Problem(self.file, line, column, message, hint))


def _read_page(path: Path, reading: _Reading) -> Page | None:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        reading.wrong(1, f"cannot be read: {error.strerror or error}")
        return None
    if len(content) > MOST_BYTES:
        reading.wrong(1, f"the page has more than {MOST_BYTES // 1000} KB", "keep data in tables, and query them")
        return None
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        reading.wrong(content[: error.start].count(b"\n") + 1, "not valid UTF-8", "save the file as UTF-8")
        return None
    front, body = _front_matter(text, reading)
    lines = body.split("\n")
    tokens = markdown(path.parent).parse(body, {})
    _read_tokens(tokens, lines, path.parent, reading)
    _names_that_are_not_there(reading)
    return Page(
        file=reading.file,
        slug=slug_of(path.stem),
        title=front.get("title") or _title_of(path.stem),
        description=front.get("description") or "",
        order=front.get("order", 0),
        queries=tuple(reading.queries.values()),
        blocks=tuple(reading.blocks),
        inline=tuple(reading.inline),
        pictures=tuple(reading.pictures.items()),
        tokens=tokens,
    )


def slug_of(stem: str) -> str:
    """The name of a page in links: lower case, letters and digits of any script, hyphens. Never empty."""
    text = unicodedata.normalize("NFKC", stem).casefold()
    slug = re.sub(r"[\W_]+", "-", text).strip("-")[:100]
    if slug == "index":  # of the list of them
        return "index-page"
    return slug or "page-" + hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _title_of(stem: str) -> str:
    words = re.sub(r"[-_\s]+", " ", stem.encode("utf-8", "replace").decode()).strip() or stem
    return words[:1].upper() + words[1:]


def _front_matter(text: str, reading: _Reading) -> tuple[dict[str, Any], str]:
    """What stands between the lines ``---``, and the page with as many blank lines in its place."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return {}, text
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        reading.wrong(1, "the front matter has no end", "close it with a line of three hyphens: ---")
        return {}, "\n" * len(lines)
    body = "\n" * end + "\n".join(["", *lines[end + 1 :]])
    found = _mapping("\n".join(lines[1:end]), 1, reading, {"title", "description", "order"}, empty=True)
    if found is None:
        return {}, body
    data, document = found
    front: dict[str, Any] = {}
    for key in ("title", "description"):
        if key in data and data[key] is not None:
            if isinstance(data[key], (dict, list)):
                reading.wrong(1 + document.key_mark((key,))[0], f"`{key}` is a text")
            else:
                front[key] = str(document.data[key]).strip()
    if "order" in data:
        if isinstance(data["order"], int) and not isinstance(data["order"], bool):
            front["order"] = data["order"]
        else:
            reading.wrong(1 + document.key_mark(("order",))[0], "`order` is a whole number")
    return front, body


def _mapping(
    text: str, line: int, reading: _Reading, keys: set[str] | None = None, *, empty: bool = False
) -> tuple[dict[str, Any], Document] | None:
    """Parse YAML or JSON that must be a mapping; `line` is the one before its first. None where it is none."""
    if not text.strip():
        if not empty:
            reading.wrong(line, "the block is empty")
        return ({}, Document(reading.file, {})) if empty else None
    data, document = _load(text, reading)
    for problem in document.problems:
        reading.wrong(line + problem.line, problem.message, problem.hint, problem.column)
    if document.problems:
        return None
    if not isinstance(data, dict):
        reading.wrong(line + 1, "expected keys and values", "write `key: value`")
        return None
    for key in data if keys else ():
        if keys and key not in keys:
            reading.wrong(line + document.key_mark((key,))[0], f"unknown key `{key}`", _did_you_mean(key, keys))
    return data, document


def _load(text: str, reading: _Reading) -> tuple[Any, Document]:
    """Read YAML. JSON is nearly a part of it: but for tabs, and for letters that take two escapes."""
    document = parse(text, reading.file)
    if document.problems and text.lstrip().startswith(("{", "[")):
        with suppress(ValueError, RecursionError):
            data = json.loads(text)
            json.dumps(data, ensure_ascii=False).encode()  # half a letter cannot be written
            return data, Document(reading.file, data)
    return as_written(document.data), document


def _did_you_mean(word: str, known: Sequence[str] | set[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, sorted(known), 1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"there are: {', '.join(sorted(known))}" if known else ""


# --- Markdown


def markdown(folder: Path | None = None) -> MarkdownIt:
    """The reader of pages: CommonMark with tables, struck out text, containers and inline values; no HTML."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.container import container_plugin

    md = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    for name in ("grid", "cell", "tabs", "tab"):
        container_plugin(md, name, validate=_is_named(name))
    md.inline.ruler.before("link", "inline_value", _inline_value)
    return md


def _is_named(name: str) -> Callable[[str, str], bool]:
    return lambda params, markup: params.split()[:1] == [name]


def _inline_value(state: StateInline, silent: bool) -> bool:
    """``{{ query.column | format }}`` as a token of its own; never a change of the Markdown around it."""
    if not state.src.startswith("{{", state.pos):
        return False
    match = _INLINE.match(state.src, state.pos)
    end = match.end() if match else state.src.find("}}", state.pos) + 2
    if end < 2:
        return False
    if not silent:
        token = state.push("inline_value", "", 0)
        token.content = state.src[state.pos : end]
        if match:
            column = match[2]
            column = column[1:-1].replace('""', '"') if column.startswith('"') else column
            token.meta = {"query": match[1], "column": column, "format": match[3] or ""}
    state.pos = end
    return True


def _read_tokens(tokens: Sequence[Token], lines: Sequence[str], folder: Path, reading: _Reading) -> None:
    open_containers: list[tuple[str, int]] = []
    line = 1
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        if token.type.startswith("container_"):
            _container(token, line, lines, open_containers, reading)
        elif token.type == "fence":
            _fence(token, line, reading)
        elif token.type == "inline":
            if _FENCE_OF_COLONS.match(token.content):
                _stray_colons(token.content, line, reading)
            _read_inline(token.children or (), line, folder, reading)


def _container(token: Token, line: int, lines: Sequence[str], around: list[tuple[str, int]], reading: _Reading) -> None:
    name = token.type.split("_")[1]
    if token.nesting < 0:
        around.pop()
        return
    words = token.info.strip().removeprefix(name).strip()
    token.meta = {"title": words}
    outside = around[-1][0] if around else ""
    around.append((name, line))
    end = lines[token.map[1]] if token.map and token.map[1] < len(lines) else ""
    if not re.fullmatch(rf"[\s>]*:{{{len(token.markup)},}}\s*", end):
        reading.wrong(line, f"`{token.markup} {name}` is not closed", f"close it with a line {token.markup}")
    if name == "grid" and not re.fullmatch(r"[1-6]?", words):
        reading.wrong(line, f"`grid {words}`: how many columns?", "write `grid 2`; 1 to 6 are possible")
    if name == "tab" and outside != "tabs":
        reading.wrong(line, "a tab stands in tabs", "put `:::: tabs` around it, with more colons")
    if name == "tab" and not words:
        reading.wrong(line, "a tab has a title", "write `::: tab Title`")
    if name == "cell" and outside != "grid":
        reading.wrong(line, "a cell stands in a grid", "put `:::: grid 2` around it, with more colons")
    if name in ("tabs", "cell") and words:
        reading.wrong(line, f"`{name}` takes no more words")


def _stray_colons(content: str, line: int, reading: _Reading) -> None:
    words = content.split("\n")[0].strip(": ").split()
    if not words:
        reading.wrong(line, "these colons close nothing", "the outer one of two containers has more colons")
    else:
        known = ("grid", "cell", "tabs", "tab")
        reading.wrong(line, f"unknown container `{words[0]}`", _did_you_mean(words[0], known))


def _read_inline(children: Sequence[Token], line: int, folder: Path, reading: _Reading) -> None:
    for token in children:
        if token.type in ("softbreak", "hardbreak"):
            line += 1
        elif token.type == "inline_value":
            _inline_values(token, line, reading)
        elif token.type == "image":
            _picture(token, line, folder, reading)
            _read_inline(token.children or (), line, folder, reading)


def _inline_values(token: Token, line: int, reading: _Reading) -> None:
    if not token.meta:
        hint = "write {{ query.column }} or {{ query.column | ,.1f }}; in `code` it stays as it is"
        reading.wrong(line, f"{token.content} is no value", hint)
        return
    value = Value(token.meta["query"], token.meta["column"], line, format=token.meta["format"])
    if said := format_problem(value.format):
        reading.wrong(line, said[0], said[1])
    reading.inline.append(value)


def _picture(token: Token, line: int, folder: Path, reading: _Reading) -> None:
    written = str(token.attrs.get("src", ""))
    parts = urlsplit(written)
    if parts.scheme or parts.netloc or written.startswith(("/", "\\")):
        hint = f"put the picture into {FOLDER}/: a page fetches nothing from elsewhere"
        reading.wrong(line, f"the picture {written[:200]} lies elsewhere", hint)
        return
    name = unquote(parts.path)
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve()) and "\0" not in name
        is_file = inside and path.is_file()
    except (OSError, ValueError):
        inside, is_file = False, False
    if not inside:
        reading.wrong(line, f"the picture {written[:200]} lies outside of {FOLDER}/", f"put it into {FOLDER}/")
    elif path.suffix.lower() not in _PICTURES:
        reading.wrong(line, f"{written[:200]} is no picture", f"these are: {', '.join(_PICTURES)}")
    elif not is_file:
        reading.wrong(line, f"there is no picture {written[:200]}", f"names are relative to {FOLDER}/")
    else:
        reading.pictures[name] = path


# --- blocks


def _fence(token: Token, line: int, reading: _Reading) -> None:
    words = token.info.split()
    kind = words[0] if words else ""
    if kind in _OTHERS:
        reading.wrong(line, f"unknown block `{kind}`", f"did you mean `{_OTHERS[kind]}`?")
    if kind == "sql" and len(words) > 1:
        token.meta = {"query": " ".join(words[1:])}
        _query(token, words[1:], line, reading)
        return
    readers = {"vega-lite": _chart, "table": _table, "value": _values}
    if kind not in readers:
        return
    if len(words) > 1:
        reading.wrong(line, f"`{kind}` takes no more words", "everything else stands in the block")
    block = readers[kind](f"b{len(reading.blocks) + 1}", token.content, line, reading)
    token.meta = {"block": block.id if block else ""}
    if block:
        reading.blocks.append(block)


def _query(token: Token, words: Sequence[str], line: int, reading: _Reading) -> None:
    name = words[0]
    if len(words) > 1 or not _NAME.fullmatch(name):
        reading.wrong(line, f"`{' '.join(words)}` is no name of a query", "letters, digits, _ and -, a letter first")
        return
    twin = next((each for each in reading.queries.values() if each.name.casefold() == name.casefold()), None)
    if twin:
        reading.wrong(line, f"there is a query `{twin.name}` already", f"on line {twin.line}")
    elif not token.content.strip():
        reading.wrong(line, f"the query `{name}` is empty")
    else:
        reading.queries[name] = Query(name, token.content, line)


def _chart(id: str, text: str, line: int, reading: _Reading) -> Chart | None:
    found = _mapping(text, line, reading)
    if found is None:
        return None
    spec, document = found
    try:
        json.dumps(spec, allow_nan=False)
    except ValueError:
        reading.wrong(line, "a chart has no number that is endless or none", "remove .inf and .nan")
        return None
    return Chart(id, spec, line, document)


def _table(id: str, text: str, line: int, reading: _Reading) -> Table | None:
    found = _mapping(text, line, reading, {"query", "columns", "rows"})
    if found is None:
        return None
    data, document = found
    query = _text(data, "query", line, reading)
    rows = data.get("rows", 10)
    if isinstance(rows, bool) or not isinstance(rows, int) or not 1 <= rows <= MOST_ROWS_SHOWN:
        where = line + document.key_mark(("rows",))[0]
        reading.wrong(where, f"`rows` is a number from 1 to {MOST_ROWS_SHOWN}", "the rows of one page")
        rows = 10
    choices = None
    if data.get("columns") is not None:
        choices = tuple(_choices(data["columns"], document, line, reading))
    return Table(id, query, line, choices, rows) if query else None


def _choices(columns: Any, document: Document, line: int, reading: _Reading) -> Iterator[Choice]:
    if isinstance(columns, list) and all(isinstance(name, str) for name in columns):
        yield from (Choice(name) for name in columns)
        return
    if not isinstance(columns, dict):
        where = line + document.key_mark(("columns",))[0]
        reading.wrong(where, "`columns` are names, or names with `label` and `format`")
        return
    for name, options in columns.items():
        where = line + document.key_mark(("columns", name))[0]
        if options is not None and not isinstance(options, dict):
            reading.wrong(where, f"`{name}` takes `label` and `format`", f'for example: {name}: {{label: "{name}"}}')
            continue
        for key in options or {}:
            if key not in ("label", "format"):
                reading.wrong(where, f"unknown key `{key}`", _did_you_mean(key, ("label", "format")))
        texts = {key: _plain(options or {}, key) for key in ("label", "format")}
        if said := format_problem(texts["format"]):
            reading.wrong(where, *said)
        yield Choice(name, texts["label"], texts["format"])


_VALUE_KEYS = {"query", "column", "label", "format", "better"}


def _values(id: str, text: str, line: int, reading: _Reading) -> Values | None:
    data, document = _load(text, reading)
    if isinstance(data, list) and not document.problems:
        items = [(item, line + document.value_mark((str(n),))[0]) for n, item in enumerate(data)]
    else:
        found = _mapping(text, line, reading)
        items = [(found[0], line + 1)] if found else []
    values = [value for item, where in items if (value := _one_value(item, where, reading))]
    return Values(id, tuple(values), line) if values else None


def _one_value(item: Any, line: int, reading: _Reading) -> Value | None:
    if not isinstance(item, dict):
        reading.wrong(line, "a value has `query` and `column`", "{query: NAME, column: COLUMN}")
        return None
    for key in item:
        if key not in _VALUE_KEYS:
            reading.wrong(line, f"unknown key `{key}`", _did_you_mean(key, _VALUE_KEYS))
    query, column = _text(item, "query", line, reading), _text(item, "column", line, reading)
    better, format = _plain(item, "better"), _plain(item, "format")
    if better not in ("", "higher", "lower"):
        reading.wrong(line, "`better` is higher or lower")
    if said := format_problem(format):
        reading.wrong(line, *said)
    return Value(query, column, line, _plain(item, "label"), format, better) if query and column else None


def _text(data: Mapping[str, Any], key: str, line: int, reading: _Reading) -> str:
    text = _plain(data, key)
    if not text:
        reading.wrong(line, f"`{key}` is missing")
    return text


def _plain(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return "" if value is None or isinstance(value, (dict, list)) else str(value)


def _names_that_are_not_there(reading: _Reading) -> None:
    """Tables and values whose query the page does not have. Charts are looked at by `smoll.dashboards.charts`."""
    named: list[tuple[str, int]] = [(value.query, value.line) for value in reading.inline]
    for block in reading.blocks:
        if isinstance(block, Table):
            named.append((block.query, block.line))
        elif isinstance(block, Values):
            named += [(value.query, value.line) for value in block.values]
    for query, line in named:
        _known(query, line, reading)


def _known(query: str, line: int, reading: _Reading) -> None:
    if query not in reading.queries:
        reading.wrong(line, f"there is no query `{query}` on this page", _did_you_mean(query, reading.queries))
