"""CSV read with care, record by record: where DuckDB's fast reader stops, this one says what is wrong, and where.

It knows what DuckDB's reader in strict mode takes: records of RFC 4180 (https://www.rfc-editor.org/rfc/rfc4180), blanks
around a quoted value, one delimiter too many at the end of a line, and blank lines (which are records only where there
is one column). What it adds: any mix of line ends, the line of every record, and going on after a record that
cannot be read. Where a quote is never closed, or text follows one, only its line is lost: the next one begins a
record.
"""

from __future__ import annotations

import gzip
import io
import re
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backports import zstd

from smoll.errors import LoadError
from smoll.model import literal

DAMAGE = (OSError, EOFError, zlib.error, zstd.ZstdError)
"""What opening or reading a damaged file raises."""
PACKED = (".gz", ".zst", ".zstd")
"""The endings of files that are unpacked while they are read, by DuckDB and by `open_text`."""
LONGEST = 2_000_000
"""Bytes of the longest line that DuckDB reads unless it is told of longer ones."""
_MOST_QUOTED = 128 * 1024**2
"""Characters of the longest record; a quote that is not closed within so many never is."""
_CHUNK = 1 << 18
_TAIL = 1000


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written. ``skip`` counts the lines before the header; ``quote`` may be empty for none."""

    delimiter: str
    quote: str = '"'
    escape: str = '"'
    encoding: str = "utf-8"
    header: bool = True
    skip: int = 0


Record = tuple[int, str, str]
"""The line on which a record begins (from 1), its text without the line end, and what is wrong with it or ""."""


@dataclass(frozen=True)
class Survey:
    """What a look at every record of a file found.

    ``longest`` is in bytes, or more. ``lines_in_quotes``: a record has more than one line.
    """

    records: int
    bad: int
    longest: int
    mixed_ends: bool
    lines_in_quotes: bool

    @property
    def is_clean(self) -> bool:
        """True where a scan of the file itself gives all of its records."""
        return not self.bad and not self.mixed_ends


def is_packed(path: Path) -> bool:
    """True for a file that `open_text` unpacks."""
    return path.suffix.lower() in PACKED


def open_text(path: Path, encoding: str, newline: str = "") -> io.TextIOWrapper:
    """Open a file, unpacking ``.gz`` and ``.zst``. Line ends (by default of all kinds) stay as they are.

    Bytes that are no UTF-8 become lone surrogates.

    Raises one of `DAMAGE` where the file is damaged; often only while it is read.
    """
    suffix = path.suffix.lower()
    binary: Any
    if suffix == ".gz":
        binary = gzip.GzipFile(path)
    elif suffix in (".zst", ".zstd"):
        binary = zstd.open(path, "rb")
    else:
        binary = path.open("rb")
    name, errors = {"utf-8": ("utf-8-sig", "surrogateescape")}.get(encoding, (encoding, "strict"))
    return io.TextIOWrapper(binary, encoding=name, errors=errors, newline=newline)


def read_records(lines: Iterator[str], dialect: Dialect, width: int) -> Iterator[Record]:
    """Yield every record of a file but the header.

    Parameters
    ----------
    lines
        The lines of the file with their ends, from `open_text`.
    width
        How many values a record has.
    """
    measure = _Measure(dialect) if dialect.quote else None
    ahead: deque[str] = deque()
    number, first = 0, True
    while (line := ahead.popleft() if ahead else next(lines, None)) is not None:
        number += 1
        if number <= dialect.skip:
            continue
        body, problem, begun = line.rstrip("\r\n"), "", number
        if measure and dialect.quote in line:
            body, count, problem, taken = measure.record(line, lines, ahead)
            number += taken
        else:
            count = body.count(dialect.delimiter) + 1
        if first and dialect.header:
            first = False
            continue
        if not problem:
            if not body and width > 1:
                continue
            if count != width and not (count == width + 1 and body.endswith(dialect.delimiter)):
                problem = f"expected {width} values, found {count}"
            elif not body.isascii() and not is_text(body):
                problem = f"not {dialect.encoding}"
        yield begun, body, problem


def header_record(head: str, dialect: Dialect) -> tuple[str, str]:
    """The text of the first record of some lines, and what is wrong with it or ""."""
    lines = iter(io.StringIO(head, newline=""))
    line = next(lines, "")
    if not dialect.quote or dialect.quote not in line:
        return line.rstrip("\r\n"), ""
    text, _, problem, _ = _Measure(dialect).record(line, lines, deque())
    return text, problem


def size_of(text: str) -> int:
    """The length of a text in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogateescape"))


def is_text(text: str) -> bool:
    """False where the text holds bytes that are not in the encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Measure:
    """Finds the end of a record that has quotes, and counts its values."""

    def __init__(self, dialect: Dialect) -> None:
        quote, escape, end = (re.escape(text) for text in (dialect.quote, dialect.escape, dialect.delimiter))
        blanks = "" if dialect.delimiter == " " else " *"
        if dialect.escape == dialect.quote:
            inside = f"[^{quote}]*(?:{quote}{quote}[^{quote}]*)*{quote}(?!{quote})"
        else:
            inside = f"[^{quote}{escape}]*(?:{escape}.[^{quote}{escape}]*)*{quote}"
        self.dialect = dialect
        self.quoted = re.compile(f"{blanks}{quote}{inside}{blanks}", re.DOTALL)
        self.closing = re.compile(inside, re.DOTALL)
        self.opening = re.compile(f"{blanks}{quote}")
        self.plain = re.compile(f"[^{end}\r\n]*")

    def record(self, line: str, lines: Iterator[str], ahead: deque[str]) -> tuple[str, int, str, int]:
        """Return the record that begins with `line`: its text, its values, what is wrong, and how many lines more."""
        gathered, taken, text = io.StringIO(newline=""), 0, line
        gathered.write(line)
        while True:
            body = _without_end(text)
            count, problem = self._values(body)
            if problem != _OPEN:
                break
            further: str | None = ""
            while further is not None and not self.closing.match(further):
                further = ahead.popleft() if ahead else next(lines, None)
                if further is not None:
                    taken += 1
                    if gathered.write(further) and gathered.tell() > _MOST_QUOTED:
                        further = None
            if further is None:
                break
            text = gathered.getvalue()
        if not problem:
            return body, count, "", taken
        rest = list(io.StringIO(gathered.getvalue()[len(line) :], newline=""))
        ahead.extendleft(reversed(rest))
        return _without_end(line), 0, problem, 0

    def _values(self, text: str) -> tuple[int, str]:
        position, count = 0, 0
        while True:
            found = self.quoted.match(text, position)
            if found is None:
                if self.opening.match(text, position):
                    return 0, _OPEN
                found = self.plain.match(text, position)
            assert found
            count, position = count + 1, found.end()
            if position == len(text):
                return count, ""
            if text[position] != self.dialect.delimiter:
                return 0, "text follows a closing quote"
            position += 1


_OPEN = "a quote is not closed"


def _without_end(text: str) -> str:
    if text.endswith("\r\n"):
        return text[:-2]
    return text[:-1] if text.endswith(("\n", "\r")) else text


def survey(path: Path, dialect: Dialect, width: int) -> Survey:
    """Look at every record of a file. Raises what `open_text` does."""
    records = bad = longest = 0
    lines_in_quotes = False
    with open_text(path, dialect.encoding) as file:
        for _, text, problem in read_records(iter(file), dialect, width):
            records += 1
            bad += problem != ""
            lines_in_quotes = lines_in_quotes or "\n" in text or "\r" in text
            if len(text) > longest:
                longest = max(longest, size_of(text))
        ends = file.newlines
    return Survey(records, bad, longest, isinstance(ends, tuple), lines_in_quotes)


def copy_good(path: Path, dialect: Dialect, width: int, target: Path, reject: Callable[[int, str, str], None]) -> None:
    """Copy the records that can be read, as UTF-8 with plain line ends, and tell of the others.

    The copy has a header of its own: DuckDB takes the first line end that it meets, in quotes or not, for the file's.

    Parameters
    ----------
    reject
        Called with line, problem and text of every record that cannot be read.
    """
    with open_text(path, dialect.encoding) as file, target.open("w", encoding="utf-8", newline="") as output:
        output.write(dialect.delimiter.join(f"c{number}" for number in range(width)) + "\n")
        for line, text, problem in read_records(iter(file), dialect, width):
            if problem:
                reject(line, problem, readable(text))
            else:
                output.write(text + "\n")


def find_records(path: Path, dialect: Dialect, width: int, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield line and text of records by their numbers among those that can be read, from 1 and ascending."""
    wanted = iter(numbers)
    next_wanted = next(wanted, None)
    with open_text(path, dialect.encoding) as file:
        good = ((line, text) for line, text, problem in read_records(iter(file), dialect, width) if not problem)
        for number, (line, text) in enumerate(good, 1):
            if next_wanted is None:
                return
            if number == next_wanted:
                yield line, text
                next_wanted = next(wanted, None)


def readable(text: str) -> str:
    r"""The text with bytes that are no UTF-8 written as ``\xff``."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def begin_counting(count: Callable[[Path], int], paths: Sequence[Path]) -> Callable[[], int]:
    """Begin to count something of each file, beside whatever else goes on. Returns what waits for the sum.

    `count` gives -1 where a file breaks off, or where its checksum is wrong; then the sum is -1.
    """
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(map(count, paths)), name="count", daemon=True)
    thread.start()

    def wait() -> int:
        thread.join()
        return -1 if -1 in found or len(found) < len(paths) else sum(found)

    return wait


def begin_reading(paths: Sequence[Path]) -> Callable[[], bool]:
    """Begin to unpack files to their ends, which checks their checksums: DuckDB checks none of ``.gz``.

    Returns what waits for the answer: whether they are whole.
    """
    wait = begin_counting(_read_whole, paths)
    return lambda: wait() == 0


def _read_whole(path: Path) -> int:
    try:
        with open_text(path, "utf-8") as text:
            while text.buffer.read(_CHUNK):
                pass
    except (ValueError, *DAMAGE):
        return -1
    return 0


def begin_count(paths: Sequence[Path], dialect: Dialect, width: int) -> Callable[[], int]:
    """Begin to count the records of some files. Returns what waits for the answer.

    The answer is a witness and no judge: it takes every quote for one that opens or closes a value, so a file with
    other quotes, or other line ends, may be counted wrongly, and is then looked at with care.
    """
    return begin_counting(lambda path: _count(path, dialect, width), paths)


def _count(path: Path, dialect: Dialect, width: int) -> int:
    if dialect.encoding == "utf-16" or (dialect.quote and dialect.escape != dialect.quote):
        try:
            return survey(path, dialect, width).records
        except (ValueError, *DAMAGE):
            return -1
    quote, inside, count, tail = dialect.quote.encode(), False, 0, b""
    try:
        with open_text(path, dialect.encoding) as text:
            file = cast(io.BufferedIOBase, text.buffer)
            while chunk := file.read(_CHUNK):
                if quote and quote in chunk:
                    for number, segment in enumerate(chunk.split(quote)):
                        inside ^= number > 0
                        count += 0 if inside else segment.count(b"\n")
                elif not inside:
                    count += len(chunk) - len(chunk.replace(b"\n", b""))  # half the time of count()
                tail = (tail + chunk[-_TAIL:])[-_TAIL:]
    except (ValueError, *DAMAGE):
        return -1
    end = tail[len(tail.rstrip(b"\r\n")) :].count(b"\n")  # blank lines at the end are no records
    count += 1 if end == 0 else 1 - end if width > 1 else 0
    return count - dialect.skip - dialect.header


def rejected_sql(path: Path, longest: int) -> str:
    """A SELECT of the rejected records in a file of NDJSON, whose longest line has `longest` bytes."""
    return (
        f"SELECT file, line, CAST(NULL AS VARCHAR) AS column_name, reason, raw FROM read_json({literal(str(path))}, "
        f"format = 'newline_delimited', maximum_object_size = {max(longest + 1024, 16 * 1024**2)}, "
        "columns = {file: 'VARCHAR', line: 'BIGINT', reason: 'VARCHAR', raw: 'VARCHAR'})"
    )


def damaged(place: str, error: Exception) -> LoadError:
    """The error of a file that breaks off or was never what its name says."""
    return LoadError(f"{place} is damaged: {error}.", hint="Fetch or write it anew; no row was loaded.")
