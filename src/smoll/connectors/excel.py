"""Workbooks (``.xlsx``, ``.xlsm``, ``.xlsb``, ``.xls``, ``.ods``), written as NDJSON for DuckDB by ``python-calamine``.

A cell keeps its kind: text stays text also where it looks like a number, a number is a number, a date a date. A
column whose cells are of several kinds becomes text.
"""

from __future__ import annotations

import datetime
import json
import re
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from smoll.connectors.data_file import refuse_twins, stream_error
from smoll.connectors.fetch import Desk
from smoll.errors import LoadError

_EXACT = 1 << 53  # a spreadsheet's number is a double: whole numbers are exact up to here
_BLOCK = 1 << 20
_LONGEST_CELL = 1 << 12
_ERROR = re.compile(rb"<c\s[^>]*\bt=\"e\"")
_UNKNOWN = re.compile(rb"<c\b(?![^>]*\bt=)[^>]*><f(?:\s[^>]*)?(?:/>|>[^<]*</f>)(?:<v\s*/>|<v></v>)?</c>")
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


@dataclass(frozen=True)
class Sheet:
    """A sheet as NDJSON: its file, its name for `DataFile`, and for each record the row of the sheet, from 1."""

    path: Path
    name: str
    lines: Sequence[int]


def convert(desk: Desk, name: str, path: Path) -> list[Sheet]:
    """Write the wanted sheets of a workbook as NDJSON.

    Raises
    ------
    LoadError
        The workbook cannot be read, has no such sheet, or a sheet has two columns of one name or no header.
    """
    with _opened(desk, name, path) as book:
        wanted = _wanted(desk, name, book)
        every = desk.plan.options.sheet == "*"
        sheets = []
        for title in wanted:
            place = f"{name}#{title}" if every else name
            sheet = _read(desk, place, book, title)
            written = _write(desk, place, sheet, may_be_empty=every)
            if written is not None:
                sheets.append(written)
                _note_lost(desk, place, path, title)
    if not sheets:
        raise stream_error(desk.plan, f"{name} has no sheet with a header.")
    return sheets


def list_sheets(desk: Desk, name: str, path: Path) -> list[str]:
    """The names of the wanted sheets. Raises LoadError where the workbook cannot be read or has no such sheet."""
    with _opened(desk, name, path) as book:
        return _wanted(desk, name, book)


def _opened(desk: Desk, name: str, path: Path) -> Any:
    try:
        from python_calamine import CalamineError, CalamineWorkbook, PasswordError
    except ImportError as error:
        message = f"{name}: workbooks need a package that is not installed."
        raise stream_error(desk.plan, message, "pip install 'smoll[excel]'") from error
    try:
        return CalamineWorkbook.from_path(path)
    except PasswordError as error:
        raise stream_error(desk.plan, f"{name} is encrypted.", "Save it without a password.") from error
    except (CalamineError, OSError) as error:
        raise _unreadable(desk, name, error) from error


def _unreadable(desk: Desk, name: str, error: Exception) -> LoadError:
    return stream_error(desk.plan, f"{name} is no readable workbook: {error}.", "Save it anew as .xlsx.")


def _wanted(desk: Desk, name: str, book: Any) -> list[str]:
    """The sheets that the stream's option names: a name is one before it is a number."""
    titles = [meta.name for meta in book.sheets_metadata if str(meta.typ).endswith("WorkSheet")]  # others are charts
    wanted = desk.plan.options.sheet
    if wanted == "*":
        return titles
    if wanted is None and titles:
        return titles[:1]
    if wanted in titles:
        return [wanted]
    if wanted is not None and wanted.isdecimal() and 1 <= int(wanted) <= len(titles):
        return [titles[int(wanted) - 1]]
    listed = ", ".join(repr(title) for title in titles) or "none"
    raise stream_error(desk.plan, f"{name} has no sheet {wanted!r}.", f"Its sheets: {listed}.")


def _read(desk: Desk, place: str, book: Any, title: str) -> Any:
    from python_calamine import CalamineError

    try:
        return book.get_sheet_by_name(title)
    except CalamineError as error:
        raise _unreadable(desk, place, error) from error


def _rows(sheet: Any, header_row: int) -> Iterator[tuple[int, list[Any]]]:
    """The rows below the header that hold a value, each with its number, from 1."""
    for number, row in enumerate(sheet.iter_rows(), start=1):
        if number > header_row and any(value != "" for value in row):
            yield number, row


def _write(desk: Desk, place: str, sheet: Any, *, may_be_empty: bool) -> Sheet | None:
    header_row = desk.plan.options.header_row
    kinds: list[set[str]] = []
    for count, (_, row) in enumerate(_rows(sheet, header_row)):
        if count % 10_000 == 0:
            desk.check_stopped()
        kinds += [set() for _ in range(len(row) - len(kinds))]
        for index, value in enumerate(row):
            if value != "":
                kinds[index].add(_kind(value))
    names = _names(desk, place, sheet, header_row, kinds)
    if not any(names):
        if may_be_empty:
            return None
        what = f"row {header_row} of the sheet is empty" if header_row else "the sheet is empty"
        raise stream_error(desk.plan, f"{place}: {what}.", "Set `sheet`, or `header_row`, on the stream.")
    target, lines = desk.new_file(), array("q")
    columns = [(index, name, kinds[index]) for index, name in enumerate(names) if name]
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for count, (number, row) in enumerate(_rows(sheet, header_row)):
            if count % 10_000 == 0:
                desk.check_stopped()
            record = {name: _value(row[index], found) if index < len(row) else None for index, name, found in columns}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.append(number)
        if not lines:  # the columns are to be known all the same; `DataFile.lines` says that there is no row
            file.write(json.dumps(dict.fromkeys((name for _, name, _ in columns)), ensure_ascii=False) + "\n")
    return Sheet(target, place, lines)


def _names(desk: Desk, place: str, sheet: Any, header_row: int, kinds: list[set[str]]) -> list[str]:
    """A name for each column; empty for one that has neither a name nor a value."""
    if header_row == 0:
        return [f"column{index}" if found else "" for index, found in enumerate(kinds)]
    header: list[Any] = next((row for n, row in enumerate(sheet.iter_rows(), 1) if n == header_row), [])
    kinds += [set() for _ in range(len(header) - len(kinds))]
    header = header + [""] * (len(kinds) - len(header))
    names = [str(_value(value, {"text", "other"}) or "").strip() for value in header]
    if any(names):
        names = [name or (f"column{i}" if kinds[i] else "") for i, name in enumerate(names)]
    elif any(kinds):
        raise stream_error(desk.plan, f"{place}: row {header_row} is empty.", "Set `header_row` on the stream.")
    refuse_twins(desk.plan, place, "columns", [name for name in names if name])
    return names


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, datetime.datetime):
        return "timestamp"
    return "date" if isinstance(value, datetime.date) else "time"


def _value(value: Any, found: set[str]) -> Any:
    """A cell as JSON has it. In a column of several kinds everything is text, but a day among timestamps is one."""
    if value == "" and isinstance(value, str):
        return None
    if isinstance(value, bool):
        return value if found == {"boolean"} else str(value).lower()
    if isinstance(value, (int, float)):
        number = int(value) if abs(value) <= _EXACT and value == int(value) else value
        return number if found == {"number"} else str(number)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date):
        return f"{value.isoformat()} 00:00:00" if found == {"date", "timestamp"} else value.isoformat()
    if isinstance(value, datetime.timedelta):
        seconds, fraction = divmod(value.total_seconds(), 1)
        clock = f"{int(seconds // 3600):02}:{int(seconds // 60 % 60):02}:{int(seconds % 60):02}"
        return clock + (f"{fraction:.6f}"[1:] if fraction else "")
    return str(value)


def _note_lost(desk: Desk, place: str, path: Path, title: str) -> None:
    """Say how many cells hold no value, but an error, or a formula that nobody computed: calamine gives nothing.

    Only ``.xlsx`` and ``.xlsm`` can be asked.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        member = _sheet_file(archive, title)
        if member is None:
            return
        errors = formulas = 0
        with archive.open(member) as file:
            rest = b""
            while block := file.read(_BLOCK):
                desk.check_stopped()
                text = rest + block
                end = max(text.rfind(b"</c>"), text.rfind(b"</row>"))
                end = len(text) - _LONGEST_CELL if end < 0 and len(text) > _LONGEST_CELL else max(end, 0) + 4
                errors += len(_ERROR.findall(text[:end]))
                formulas += len(_UNKNOWN.findall(text[:end]))
                rest = text[end:]
    if errors:
        desk.notes.append(f"{place}: {errors} cells hold an error such as #N/A; they are NULL")
    if formulas:
        desk.notes.append(f"{place}: {formulas} cells hold a formula that was never computed; they are NULL")


def _sheet_file(archive: zipfile.ZipFile, title: str) -> str | None:
    """The member of the workbook that holds a sheet; None where it is none of ``.xlsx``."""
    try:
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))  # noqa: S314  (expat refuses entity bombs)
        links = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    except (KeyError, ElementTree.ParseError):
        return None
    id = next(
        (tag.get(_RELATION) for tag in book.iter() if tag.tag.endswith("}sheet") and tag.get("name") == title), ""
    )
    target = next((tag.get("Target", "") for tag in links if tag.get("Id") == id), "")
    member = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    return member if member in archive.namelist() else None
