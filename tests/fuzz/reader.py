"""Readers of CSV and NDJSON for the tests: strict, slow, and written without a look at how smoll reads.

CSV is RFC 4180, with the freedoms that `docs/loading.md` takes: any of ``\\n``, ``\\r\\n`` and ``\\r`` ends a record,
an empty line is nothing unless the file has one column, blanks around quotes are nothing, a quote inside a value that
does not begin with one is part of it, and one empty value more than the header has names is no value. Where quotes are
wrong, one line is lost, and the next one begins a record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

INVALID = tuple(chr(code) for code in range(0xDC80, 0xDD00))
"""How a byte that is no UTF-8 looks after decoding with ``surrogateescape``."""


NEARLY = "nearly"
"""The problem of a record that is no JSON to a strict reader, and is to a lenient one. Either will do."""


@dataclass(frozen=True)
class Record:
    """A record: the line it begins on (from 1), its text without the line end, and its values.

    A value in quotes is a `Quoted`. ``problem`` is empty where the record is well-formed by itself.
    """

    line: int
    text: str
    values: tuple[str, ...]
    problem: str = ""


class Quoted(str):
    """A value that stood in quotes."""

    __slots__ = ()


@dataclass(frozen=True)
class Csv:
    """A file: the names of its columns and its records after the header.

    ``torn`` is the line of the first record whose quotes are wrong. None: there is no such record.
    """

    header: Record | None
    records: tuple[Record, ...]
    torn: int | None

    @property
    def names(self) -> tuple[str, ...]:
        return self.header.values if self.header else ()


def read_csv(data: bytes, delimiter: str, *, width: int | None = None) -> Csv:
    """Read a file with a header. `width`: how many columns it has, where that is not the header's to say."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    records = _records(text, delimiter)
    torn = next((record.line for record in records if record.problem == "quote"), None)
    if not records:
        return Csv(None, (), None)
    header, *rest = records
    width = width or len(header.values)
    kept = [_judged(record, width) for record in rest if record.text or width == 1]
    return Csv(header, tuple(kept), torn)


def _judged(record: Record, width: int) -> Record:
    if record.problem:
        return record
    values, problem = record.values, ""
    if len(values) == width + 1 and values[-1] == "" and not isinstance(values[-1], Quoted):
        values = values[:-1]
    if any(char in record.text for char in INVALID):
        problem = "encoding"
    elif len(values) != width:
        problem = "count"
    return Record(record.line, record.text, values, problem)


def _records(text: str, delimiter: str) -> list[Record]:
    """Split into records. After wrong quotes the next record begins on the next line."""
    found: list[Record] = []
    position, line = 0, 1
    while position < len(text):
        end, values, problem = _one(text, position, delimiter)
        if problem:
            end, values = _line_end(text, position), []
        raw = text[position:end]
        found.append(Record(line, raw, tuple(values), problem))
        after = end + (2 if text.startswith("\r\n", end) else 1)
        line += _lines(text[position:after])
        position = after
    return found


def _lines(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _line_end(text: str, position: int) -> int:
    ends = [found for char in "\r\n" if (found := text.find(char, position)) >= 0]
    return min(ends, default=len(text))


def _one(text: str, position: int, delimiter: str) -> tuple[int, list[str], str]:
    """One record from `position`: where it ends (at the line end), its values, and "quote" where quotes are wrong."""
    values: list[str] = []
    while True:
        opening = _after_blanks(text, position)
        if text.startswith('"', opening):
            end, value = _quoted(text, opening)
            if end < 0:
                return position, values, "quote"
            values.append(Quoted(value))
            position = _after_blanks(text, end)
            if position < len(text) and text[position] not in (delimiter, "\r", "\n"):
                return position, values, "quote"
        else:
            stops = [found for char in (delimiter, "\r", "\n") if (found := text.find(char, position)) >= 0]
            end = min(stops, default=len(text))
            values.append(text[position:end])
            position = end
        if position >= len(text) or text[position] != delimiter:
            return position, values, ""
        position += 1


def _after_blanks(text: str, position: int) -> int:
    while text.startswith(" ", position):
        position += 1
    return position


def _quoted(text: str, position: int) -> tuple[int, str]:
    """The value in the quotes that open at `position`, and where it is over; -1 where they are not closed."""
    start, search = position + 1, position + 1
    while True:
        end = text.find('"', search)
        if end < 0:
            return -1, ""
        if not text.startswith('""', end):
            return end + 1, text[start:end].replace('""', '"')
        search = end + 2


def read_ndjson(data: bytes) -> list[Record]:
    """Read a file line by line. A record's one value is the line; ``problem`` says why it is no object."""
    found = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        text = line.decode("utf-8", "surrogateescape").rstrip("\r")
        if text.strip(" \t\r"):
            found.append(Record(number, text, (text,), _json_problem(text)))
    return found


def _json_problem(text: str) -> str:
    if any(char in text for char in INVALID):
        return "encoding"
    try:
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        return NEARLY if _is_nearly_json(text) else str(error)[:60] or "malformed"
    return "" if isinstance(value, dict) else "no object"


def _is_nearly_json(text: str) -> bool:
    try:
        return isinstance(parse_nearly_json(text), dict)
    except (ValueError, RecursionError):
        return False


def parse_nearly_json(text: str) -> Any:
    """What lenient readers take for JSON: a comma too many, and NaN and infinity, which become texts here."""
    return parse_json(re.sub(r",(\s*[}\]])", r"\1", text), constant=str)


class Fraction(float):
    """A number with a fraction, or an exponent, and how it is written."""

    text: str

    def __new__(cls, text: str) -> Fraction:
        value = super().__new__(cls, text)
        value.text = text
        return value


def parse_json(text: str, constant: Callable[[str], Any] | None = None) -> Any:
    """Strict JSON: no key twice, no NaN, no lone surrogates."""
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=constant or _refuse, parse_float=Fraction)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
