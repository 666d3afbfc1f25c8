"""What the shell knows of SQL while it is typed: where a statement ends, and what may come next."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from smoll.model import quote

_TOKEN = re.compile(
    r"""(?P<comment> --[^\n]* | /\*.*?\*/ )
      | (?P<text> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$ )
      | (?P<name> "(?:[^"]|"")*" | (?![eE]')[^\W\d]\w* )
      | (?P<open> (?: [eE]?' | " | /\* | \$(?:[^\W\d]\w*)?\$ ) .* )
      | (?P<number> \d[\w.]* )
      | (?P<sign> \S )""",
    re.VERBOSE | re.DOTALL,
)
_WITHOUT_END = re.compile(r"\s*(\.|(describe|desc|show|help|exit|quit)\b(?!.*\n))", re.IGNORECASE | re.DOTALL)
_BEFORE_TABLE = {"from", "join", "into", "update", "table", "describe", "desc", "summarize"}
_AFTER_TABLE = {
    *("where", "on", "using", "join", "inner", "left", "right", "full", "outer", "cross", "natural", "asof", "semi"),
    *("anti", "positional", "lateral", "group", "order", "having", "qualify", "window", "limit", "offset", "union"),
    *("intersect", "except", "select", "set", "values", "tablesample", "pivot", "unpivot", "as", "and", "or"),
}
_PLAIN = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Names:
    """What a query may speak of.

    ``tables``: schema ("" for the one that need not be named) and table, to columns. ``keywords``: to whether a name
    like it must be quoted.
    """

    tables: Mapping[tuple[str, str], Sequence[str]]
    functions: Sequence[str]
    keywords: Mapping[str, bool]

    def written(self, name: str) -> str:
        """Write a name as SQL has it: quoted where it must be."""
        return name if _PLAIN.fullmatch(name) and not self.keywords.get(name.lower()) else quote(name)


NOTHING_KNOWN = Names({}, (), {})


@dataclass(frozen=True)
class Suggestion:
    """What may stand in place of what is typed, and what it is."""

    text: str
    kind: str


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def word(self) -> str:
        """A name in lower case, without quotes; "" of anything else."""
        return _bare(self.text).lower() if self.kind == "name" else ""

    @property
    def keyword(self) -> str:
        return "" if self.text.startswith('"') else self.word


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup if match.lastgroup != "tag" else "text"
        yield _Token(kind or "", match[0], match.start())


def is_complete(text: str) -> bool:
    """Whether Enter means "go": every statement has its `;`, or what is typed needs none."""
    if not text.strip() or _WITHOUT_END.match(text):
        return True
    tokens = [token for token in _tokens(text) if token.kind != "comment"]
    return not tokens or tokens[-1].text == ";"


def statements(text: str) -> list[tuple[int, str]]:
    """Split at each `;`. Gives each statement with the number of line ends before it."""
    found = []
    start: int | None = None
    for token in _tokens(text):
        if token.text == ";" and token.kind == "sign":
            if start is not None:
                found.append((text.count("\n", 0, start), text[start : token.start]))
            start = None
        elif start is None and token.kind != "comment":
            start = token.start
    if start is not None:
        found.append((text.count("\n", 0, start), text[start:]))
    return found


def suggestions(text: str, cursor: int, names: Names) -> tuple[int, list[Suggestion]]:
    """Give what may stand at the cursor: how many characters before it are replaced, and by what.

    After ``FROM`` and its like tables; after ``alias.`` the columns of that table; else columns of the tables that the
    statement names, keywords and functions.
    """
    word, is_code = _word(text[:cursor])
    if not is_code:
        return 0, []
    before = _statement(text[: cursor - len(word)])
    all_tokens = [*before, *itertools.takewhile(lambda token: token.text != ";", _tokens(text[cursor:]))]
    path = _path(before)
    tables, is_next = _tables(before)
    if path:
        found = _below(path, tables + _tables(all_tokens)[0], names)
    elif is_next:
        found = [*_relations(names), *(Suggestion(name, "query") for name in _queries(all_tokens))]
    else:
        found = _words(_tables(all_tokens)[0], names, word)
    return len(word), _fitting(found, word)


def _word(text: str) -> tuple[str, bool]:
    """The name, or the beginning of one in quotes, with which `text` ends; False at the end of a text or a comment."""
    last = None
    for token in _tokens(text):
        last = token
    if last is None or last.start + len(last.text) != len(text):
        return "", True
    if last.kind == "name" or (last.kind == "open" and last.text.startswith('"')):
        return last.text, True
    return "", last.kind != "open" and not last.text.startswith("--")


def _statement(text: str) -> list[_Token]:
    """The tokens of the last statement."""
    tokens: list[_Token] = []
    for token in _tokens(text):
        if token.text == ";":
            tokens = []
        elif token.kind != "comment":
            tokens.append(token)
    return tokens


def _path(tokens: Sequence[_Token]) -> list[str]:
    """The names that lead to the cursor: ``main.orders.`` is main and orders."""
    path: list[str] = []
    rest = list(tokens)
    while len(rest) >= 2 and rest[-1].text == "." and rest[-2].kind == "name":
        path.insert(0, rest[-2].word)
        rest = rest[:-2]
    return path


def _tables(tokens: Sequence[_Token]) -> tuple[list[tuple[str, list[str]]], bool]:
    """The tables that tokens read from, each by the name it has there; and whether they end where one is due."""
    found: list[tuple[str, list[str]]] = []
    rest = list(tokens)
    while rest:
        if rest.pop(0).keyword not in _BEFORE_TABLE:
            continue
        while True:
            path = []
            while rest and rest[0].kind == "name" and rest[0].keyword not in _AFTER_TABLE:
                path.append(rest.pop(0).word)
                if not rest or rest[0].text != ".":
                    break
                rest.pop(0)
            if not path:
                break
            if rest and rest[0].keyword == "as":
                rest.pop(0)
            named = rest and rest[0].kind == "name" and rest[0].keyword not in _AFTER_TABLE
            found.append((rest.pop(0).word if named else path[-1], path))
            if not rest or rest[0].text != ",":
                break
            rest.pop(0)
        if not rest and not path:
            return found, True
    return found, False


def _queries(tokens: Sequence[_Token]) -> list[str]:
    """The names that a ``WITH`` gives to queries."""
    triples = zip(tokens, tokens[1:], tokens[2:], strict=False)
    return [_bare(a.text) for a, b, c in triples if a.kind == "name" and b.keyword == "as" and c.text == "("]


def _relations(names: Names) -> list[Suggestion]:
    return [
        Suggestion(f"{names.written(schema)}.{names.written(table)}" if schema else names.written(table), "table")
        for schema, table in names.tables
    ]


def _below(path: Sequence[str], tables: Sequence[tuple[str, list[str]]], names: Names) -> list[Suggestion]:
    """What stands behind a dot: columns of an alias or a table, tables of a schema."""
    for alias, full in tables:
        if [alias] == path and (columns := _columns(full, names)):
            return columns
    inside = [table for schema, table in names.tables if schema.lower() == path[-1]]
    return [Suggestion(names.written(table), "table") for table in inside] or _columns(path, names)


def _columns(path: Sequence[str], names: Names) -> list[Suggestion]:
    same = [key for key in names.tables if key[1].lower() == path[-1]]
    exact = [key for key in same if key[0].lower() == (path[-2] if len(path) > 1 else "")]
    for key in [*exact, *same][:1]:
        return [Suggestion(names.written(column), f"column of {key[1]}") for column in names.tables[key]]
    return []


def _words(tables: Sequence[tuple[str, list[str]]], names: Names, word: str) -> list[Suggestion]:
    columns = [column for _, path in tables for column in _columns(path, names)]
    aliases = [Suggestion(names.written(alias), "table") for alias, _ in tables]
    if word.startswith('"'):
        return [*columns, *aliases]
    upper = word.isupper()
    keywords = [Suggestion(keyword.upper() if upper else keyword, "keyword") for keyword in names.keywords]
    return [*columns, *aliases, *keywords, *(Suggestion(f"{name}(", "function") for name in names.functions)]


def _fitting(found: Sequence[Suggestion], word: str) -> list[Suggestion]:
    """Those that begin with what is typed, or whose name behind a schema does; each once."""
    start = word.lower().lstrip('"')

    def fits(text: str) -> bool:
        plain = text.lower().replace('"', "")
        return plain.startswith(start) or (bool(start) and plain.partition(".")[2].startswith(start))

    return list({each.text: each for each in reversed(found) if fits(each.text) and each.text != word}.values())[::-1]
