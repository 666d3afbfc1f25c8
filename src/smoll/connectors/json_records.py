"""NDJSON read with care, line by line: where DuckDB's reader stops, this one says which lines are wrong, and why."""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, cast

from smoll.connectors.csv_records import DAMAGE, begin_counting, is_text, open_text, readable, size_of
from smoll.connectors.json_numbers import loses_digits

_CHUNK, _BLANKS = 1 << 17, b" \t\r"
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")

Record = tuple[int, str, str]
"""The line of a record (from 1), its text without the line end, and what is wrong with it or ""."""


Judge = Callable[[str], bool]
"""Says whether DuckDB takes a text for JSON: it allows a comma after the last member, and NaN."""


def read_records(path: Path, takes: Judge) -> Iterator[Record]:
    """Yield every line that is not blank. Raises one of `csv_records.DAMAGE` where the file breaks off."""
    with open_text(path, "utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            text = line.rstrip("\r\n")
            if text.strip(" \t\r"):  # Python would strip more, but JSON knows no other blanks
                yield number, text, problem_of(text, takes)


def find_records(path: Path, numbers: Sequence[int], takes: Judge) -> Iterator[tuple[int, str]]:
    """Yield line and text of records by their numbers among the good ones, from 1 and ascending."""
    wanted = set(numbers)
    good = ((line, text) for line, text, problem in read_records(path, takes) if not problem)
    for number, (line, text) in enumerate(good, 1):
        if number in wanted:
            yield line, readable(text)


def begin_line_count(paths: Sequence[Path]) -> Callable[[], int]:
    """Begin to count the lines that are not blank, beside whatever else goes on. Returns what waits for the answer.

    The answer is -1 where a file breaks off, or where its checksum is wrong.
    """
    return begin_counting(_count_lines, paths)


def _count_lines(path: Path) -> int:
    count, rest = 0, b""  # the beginning of a line that goes on in the next chunk; b"" where it is blank so far
    try:
        with open_text(path, "utf-8") as text:
            file = cast(io.BufferedIOBase, text.buffer)
            while chunk := file.read(_CHUNK):
                if _BLANK_LINE.search(chunk) or (not rest and chunk[0] in b"\n" + _BLANKS):
                    *lines, last = (rest + chunk).split(b"\n")
                    count += sum(1 for line in lines if line.strip(_BLANKS))
                    rest = last.strip(_BLANKS)[:1]
                else:  # every line has something
                    count += len(chunk) - len(chunk.replace(b"\n", b""))
                    end = chunk.rfind(b"\n") + 1
                    rest = (b"" if end else rest) + chunk[end:].strip(_BLANKS)[:1]
    except (ValueError, *DAMAGE):
        return -1
    return count + bool(rest)


LARGE = 15_000_000
"""Bytes of a record that DuckDB may not read: its limit is 16 MB, and quotes around numbers add to it."""
_LARGEST = 32 * 1024**2
"""Bytes of the largest record that may fit DuckDB's buffer. What it reads is never refused: it need not come here."""
_MANY = 2_000_000
"""Values of a larger record: Python takes about 100 bytes for each."""
_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


def problem_of(text: str, takes: Judge) -> str:
    """What is wrong with a record; "" where it is well."""
    if len(text) > _LARGEST and text.count(",") > _MANY and _TEXT.sub("", text).count(",") > _MANY:
        return f"more than {_MANY:,} values in one record"
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_float=Number)
    except json.JSONDecodeError as error:
        if size_of(text) < LARGE and is_text(text) and takes(text):
            return ""
        return f"malformed JSON at character {error.pos + 1}: {error.msg}"
    except RecursionError:
        return "nested too deeply"
    except _Wrong as error:
        return str(error)
    except ValueError as error:  # an integer of more digits than Python converts
        return "" if "digits" in str(error) else str(error)
    if not isinstance(value, dict):
        return "the record is no object"
    if any(_has_long_fraction(item) for item in value.values() if isinstance(item, (dict, list))):
        return "a nested number has more digits than a double holds; write it in quotes"
    if not is_text(text):
        return "not utf-8"
    return "an escape that stands for half a character (a lone surrogate)" if _has_surrogate(value) else ""


class _Wrong(ValueError):
    """JSON that says one thing twice, or what is no JSON."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Wrong(f"duplicate key {json.dumps(next(key for key in keys if keys.count(key) > 1))}")
    return result


class Number(str):
    """A number as it is written."""

    @property
    def is_long(self) -> bool:
        """True where a double, which DuckDB's JSON reader makes of every fraction, does not hold it."""
        # An exponent makes a short one too small, too.
        return bool(set(self) & set("eE" if len(self) <= 15 else ".eE")) and loses_digits(self)


def find_long_fraction(text: str) -> str:
    """The first number of a JSON text that DuckDB's reader would shorten; "" where there is none."""
    try:
        value = json.loads(text, parse_float=Number)
    except (ValueError, RecursionError):
        return ""
    return next((item for item in _scalars(value) if isinstance(item, Number) and item.is_long), "")


def long_fractions(text: str) -> list[str]:
    """The keys of a record whose numbers have more digits than DuckDB's JSON reader keeps."""
    try:
        record = json.loads(text, parse_float=Number)
    except (ValueError, RecursionError):
        return []
    values = record.items() if isinstance(record, dict) else ()
    return [key for key, value in values if isinstance(value, Number) and value.is_long]


def split_objects(path: Path) -> Iterator[str]:
    """Yield the objects of an array, or one after another, each as a text of one line.

    Raises json.JSONDecodeError where something else stands, and one of `csv_records.DAMAGE` where the file breaks off.
    """
    decoder, blanks = json.JSONDecoder(), re.compile(r"[\s,\[\]]*")
    with open_text(path, "utf-8") as file:
        text, end = "", False
        while not end:
            piece = file.read(max(_CHUNK, len(text)))  # as much again: a long object is looked at few times
            text, end, start = text + piece, not piece, 0
            while (start := cast(re.Match[str], blanks.match(text, start)).end()) < len(text):
                try:
                    _, stop = decoder.raw_decode(text, start)
                except json.JSONDecodeError:
                    if end:
                        raise
                    break
                yield text[start:stop].replace("\n", " ").replace("\r", " ")
                start = stop
            text = text[start:]


def quote_numbers(text: str, keys: Set[str]) -> str:
    """A record with the numbers of some keys written as texts."""
    try:
        record = json.loads(text, parse_float=Number, parse_int=Number)
    except ValueError:  # what only DuckDB takes for JSON
        return text
    quoted = {key: value for key, value in record.items() if key in keys and isinstance(value, Number)}
    if not quoted:
        return text
    return json_text({key: str(value) if key in quoted else value for key, value in record.items()})


def json_text(value: Any) -> str:
    """A value with `Number` in it as JSON, every number as it was written."""
    return _MARKED.sub(r"\1", json.dumps(_mark(value), ensure_ascii=False, separators=(",", ":")))


_MARK = secrets.token_hex(8)
"""Begins a number among texts. No text has it, as nobody knows it."""
_MARKED = re.compile(rf'"{_MARK}([^"]*)"')


def _mark(value: Any) -> Any:
    """The value with its numbers as texts that `_MARKED` finds again."""
    if isinstance(value, Number):
        return f"{_MARK}{value}"
    if isinstance(value, dict):
        return {key: _mark(item) for key, item in value.items()}
    return [_mark(item) for item in value] if isinstance(value, list) else value


def _has_long_fraction(value: Any) -> bool:
    return any(isinstance(item, Number) and item.is_long for item in _scalars(value))


def _has_surrogate(value: Any) -> bool:
    """True where a decoded text holds half of a pair."""
    texts = (item for item in _scalars(value) if isinstance(item, str) and not item.isascii())
    return any("\ud800" <= character <= "\udfff" for text in texts for character in text)


def _scalars(value: Any) -> Iterator[Any]:
    """Every key and plain value inside a value; deep without recursion."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            rest += [*item, *item.values()]
        elif isinstance(item, list):
            rest += item
        else:
            yield item
