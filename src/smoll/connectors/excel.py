"""Workbooks (``.xlsx``, ``.xlsm``, ``.xlsb``, ``.xls``, ``.ods``), written as NDJSON for DuckDB by ``python-calamine``.

A cell keeps its kind: text stays text also where it looks like a number, a number is a number, a date a date. A
column whose cells are of several kinds becomes text. The reading is done by a process of its own (`excel_worker`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smoll.connectors.data_file import refuse_twins, stream_error
from smoll.connectors.fetch import Desk

_WORKER = Path(__file__).with_name("excel_worker.py")
_POLL_SECONDS = 0.1


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
    Interrupted
        The run was interrupted.
    """
    sheets = []
    for found in _ask(desk, name, path, only_list=False):
        place = f"{name}#{found['title']}" if desk.plan.options.sheet == "*" else name
        refuse_twins(desk.plan, place, "columns", found["names"])
        if found["errors"]:
            desk.notes.append(f"{place}: {found['errors']} cells hold an error such as #N/A; they are NULL")
        if found["formulas"]:
            desk.notes.append(
                f"{place}: {found['formulas']} cells hold a formula that was never computed; they are NULL"
            )
        target, lines = desk.new_file(), array("q")
        written = Path(f"{found['file']}.lines")
        lines.frombytes(written.read_bytes())
        written.unlink()
        sheets.append(Sheet(Path(found["file"]).rename(target), place, lines))
    if not sheets:
        raise stream_error(desk.plan, f"{name} has no sheet with a header.")
    return sheets


def list_sheets(desk: Desk, name: str, path: Path) -> list[str]:
    """The names of the wanted sheets. Raises LoadError where the workbook cannot be read or has no such sheet."""
    return [str(found["title"]) for found in _ask(desk, name, path, only_list=True)]


def _ask(desk: Desk, name: str, path: Path, *, only_list: bool) -> list[dict[str, Any]]:
    """Have the worker read the workbook. It never outlives the call."""
    if find_spec("python_calamine") is None:
        message = f"{name}: workbooks need a package that is not installed."
        raise stream_error(desk.plan, message, "pip install 'smoll[excel]'")
    options = desk.plan.options
    job = {"path": str(path), "target": str(desk.new_file()), "only_list": only_list}
    job |= {"sheet": options.sheet, "header_row": options.header_row}
    text: str | None = json.dumps(job)
    with subprocess.Popen(
        [sys.executable, "-P", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a panic of the reader; the answer says what is wrong
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while True:
                try:
                    output, _ = process.communicate(text, timeout=_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    text = None  # it was given
                    desk.check_stopped()
        finally:
            process.kill()
    try:
        answer = json.loads(output)
    except ValueError as error:
        hint = "Save it anew as .xlsx. Where the machine has run out of memory, split it."
        raise stream_error(desk.plan, f"{name} is no readable workbook: its reader broke down.", hint) from error
    if "error" in answer:
        what, hint = answer["error"]
        raise stream_error(desk.plan, f"{name}{what}", hint)
    sheets: list[dict[str, Any]] = answer["sheets"]
    return sheets
