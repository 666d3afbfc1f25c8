"""The process that reads a workbook: what a damaged one does to its reader (it may abort) ends this process only.

Takes a job as JSON on stdin, and answers with JSON on stdout. It imports nothing of smoll, so that it starts quickly.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
import zipfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

_EXACT = 1 << 53  # a spreadsheet's number is a double: whole numbers are exact up to here
_BLOCK = 1 << 20
_LONGEST_CELL = 1 << 12
_ERROR = re.compile(rb"<c\s[^>]*\bt=\"e\"")
_UNKNOWN = re.compile(rb"<c\b(?![^>]*\bt=)[^>]*><f(?:\s[^>]*)?(?:/>|>[^<]*</f>)(?:<v\s*/>|<v></v>)?</c>")
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


class Refused(Exception):
    """What is wrong with the workbook, and what to do about it."""


def main() -> None:
    """Do the job on stdin."""
    job = json.load(sys.stdin)
    try:
        answer = _work(job)
    except Refused as error:
        answer = {"error": list(error.args)}
    except BaseException as error:  # calamine panics on damaged files, which is no Exception
        answer = {"error": [f" is no readable workbook: {str(error)[:200]}.", "Save it anew as .xlsx."]}
    print(json.dumps(answer))


def _work(job: Mapping[str, Any]) -> dict[str, Any]:
    from python_calamine import CalamineWorkbook, PasswordError

    try:
        book = CalamineWorkbook.from_path(job["path"])
    except PasswordError as error:
        raise Refused(" is encrypted.", "Save it without a password.") from error
    wanted = _wanted(book, job["sheet"])
    if job["only_list"]:
        return {"sheets": [{"title": title} for title in wanted]}
    sheets = []
    for number, title in enumerate(wanted):
        target = Path(f"{job['target']}-{number}")
        written = _write(book.get_sheet_by_name(title), job["header_row"], target, may_be_empty=job["sheet"] == "*")
        if written is not None:
            errors, formulas = _count_lost(Path(job["path"]), title)
            sheets.append({"title": title, "file": str(target), "errors": errors, "formulas": formulas, **written})
    return {"sheets": sheets}


def _wanted(book: Any, wanted: str | None) -> list[str]:
    """The sheets that the stream's option names: a name is one before it is a number."""
    titles = [meta.name for meta in book.sheets_metadata if str(meta.typ).endswith("WorkSheet")]  # others are charts
    if wanted == "*":
        return titles
    if wanted is None and titles:
        return titles[:1]
    if wanted in titles:
        return [str(wanted)]
    if wanted is not None and wanted.isdecimal() and 1 <= int(wanted) <= len(titles):
        return [titles[int(wanted) - 1]]
    listed = ", ".join(repr(title) for title in titles) or "none"
    raise Refused(f" has no sheet{'' if wanted is None else f' {wanted!r}'}.", f"Its sheets: {listed}.")


def _rows(sheet: Any, header_row: int) -> Iterator[tuple[int, list[Any]]]:
    """The rows below the header that hold a value, each with its number, from 1."""
    for number, row in enumerate(sheet.iter_rows(), start=1):
        if number > header_row and any(value != "" for value in row):
            yield number, row


def _write(sheet: Any, header_row: int, target: Path, *, may_be_empty: bool) -> dict[str, Any] | None:
    """Write a sheet as NDJSON, and the numbers of its rows beside it. None for an empty one."""
    kinds: list[set[str]] = []
    for _, row in _rows(sheet, header_row):
        kinds += [set() for _ in range(len(row) - len(kinds))]
        for index, value in enumerate(row):
            if value != "":
                kinds[index].add(_kind(value))
    names = _names(sheet, header_row, kinds)
    if not any(names):
        if may_be_empty:
            return None
        what = f"row {header_row} of the sheet is empty" if header_row else "the sheet is empty"
        raise Refused(f": {what}.", "Set `sheet`, or `header_row`, on the stream.")
    lines = array("q")
    columns = [(index, name, kinds[index]) for index, name in enumerate(names) if name]
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for number, row in _rows(sheet, header_row):
            record = {name: _value(row[index], found) if index < len(row) else None for index, name, found in columns}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.append(number)
        if not lines:  # the columns are to be known all the same; that there is no line says that there is no row
            file.write(json.dumps(dict.fromkeys((name for _, name, _ in columns)), ensure_ascii=False) + "\n")
    with Path(f"{target}.lines").open("wb") as file_of_lines:
        lines.tofile(file_of_lines)
    return {"names": [name for name in names if name]}


def _names(sheet: Any, header_row: int, kinds: list[set[str]]) -> list[str]:
    """A name for each column; empty for one that has neither a name nor a value."""
    if header_row == 0:
        return [f"column{index}" if found else "" for index, found in enumerate(kinds)]
    header: list[Any] = next((row for n, row in enumerate(sheet.iter_rows(), 1) if n == header_row), [])
    kinds += [set() for _ in range(len(header) - len(kinds))]
    header = header + [""] * (len(kinds) - len(header))
    names = [str(_value(value, {"text", "other"}) or "").strip() for value in header]
    if any(names):
        return [name or (f"column{i}" if kinds[i] else "") for i, name in enumerate(names)]
    if any(kinds):
        raise Refused(f": row {header_row} is empty.", "Set `header_row` on the stream.")
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
        return number if found == {"number"} and abs(value) < float("inf") else str(number)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date):
        return f"{value.isoformat()} 00:00:00" if found == {"date", "timestamp"} else value.isoformat()
    if isinstance(value, datetime.timedelta):
        seconds, fraction = divmod(value.total_seconds(), 1)
        clock = f"{int(seconds // 3600):02}:{int(seconds // 60 % 60):02}:{int(seconds % 60):02}"
        return clock + (f"{fraction:.6f}"[1:] if fraction else "")
    return str(value)


def _count_lost(path: Path, title: str) -> tuple[int, int]:
    """How many cells hold an error, and how many a formula that was never computed: calamine gives nothing for them.

    Only ``.xlsx`` and ``.xlsm`` can be asked.
    """
    if not zipfile.is_zipfile(path):
        return 0, 0
    with zipfile.ZipFile(path) as archive:
        member = _sheet_file(archive, title)
        if member is None:
            return 0, 0
        errors = formulas = 0
        with archive.open(member) as file:
            rest = b""
            while block := file.read(_BLOCK):
                text = rest + block
                end = max(text.rfind(b"</c>"), text.rfind(b"</row>"))
                end = len(text) - _LONGEST_CELL if end < 0 and len(text) > _LONGEST_CELL else max(end, 0) + 4
                errors += len(_ERROR.findall(text[:end]))
                formulas += len(_UNKNOWN.findall(text[:end]))
                rest = text[end:]
    return errors, formulas


def _sheet_file(archive: zipfile.ZipFile, title: str) -> str | None:
    """The member of the workbook that holds a sheet; None where it is none of ``.xlsx``."""
    try:
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))  # noqa: S314  (expat refuses entity bombs)
        links = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    except (KeyError, ElementTree.ParseError):
        return None
    sheets = [tag for tag in book.iter() if tag.tag.endswith("}sheet") and tag.get("name") == title]
    id = sheets[0].get(_RELATION, "") if sheets else ""
    target = next((tag.get("Target", "") for tag in links if tag.get("Id") == id), "")
    member = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    return member if member in archive.namelist() else None


if __name__ == "__main__":
    main()
