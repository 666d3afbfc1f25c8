"""Workbooks: a cell keeps its kind and its value, and none is lost unsaid."""

from __future__ import annotations

import base64
import datetime
import io
import zipfile
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from support import MakeProject, files_yml, load, raw, refused, reopen, rows, types, write
from web_server import serve

pytestmark = pytest.mark.connectors

# A workbook of Excel 97 with one row, as xlwt wrote it: compressed, base 85.
XLS = (
    "c-rk)O=uHA6#iy+)BMn;Nln#O4547vnnH^QCD0~HwWpM-2Y*3RvzpQ-m9*f`L8~=KLGYw_Da3=9suzFIgWeQ`N<9dIkSKWZBq(@j"
    "v%Yz|DQQG#KnvCVmU;8uo0&In=gr^ln^}Kh`ax?ERp^C^lHo>Og-%d%mjxfF+%P0t&RvuY8><R#7X`A;fu{|xoic_p-bE<5ue~4&"
    "e57;?XD~39(L*bU-Rwg`NFREL3fv}*7cJ~n6VsDS*D$@uHJ>q!vE~}n9;#aqM=%>5=-6q^;zLRsmw6%WKH@g-S<{VXyp*%}(sg0h"
    "bzoO^I5E1)3W8ca@}PkB>lr;O<@LBjBZb3+&Un1DuP>BJMbhcW_;>*Uih3U3jS%pyyu6=>Z2ijW1xWv6sowb;y^Eq*t-qmYz$A<l"
    "yjpTJyMvm!q7S5WeWH6FVP4%b(Oe%+QfVfU)+sxi(leBu8cm$0d2~(%y1I6F<ZjQqgKx?1(7>yvo@f${%=>xm_{gjIyI<$xLxa)d"
    "teNB!!8|uMN$+6bvTQ+(y<DO&bx`VHejC#(Y;^<ktxN+{hw}EpW{cT7#dWT7X*>0^o$)rhxq{z9eD2G>$HCmE=vLxq`imC=Gw-6)"
    "Xrps1N$uq`g|G;VTQ?=1M9aCb_LvV$TYlMZT#C=~-LMYFMl8U?te>eV$<Yyul46aODXAo>i;_l?W?2?hmM<zE*7-RCvc6!;a^zGR"
    "OF>r2-&c`!`Hi1r4#h<pm3uZ@O4~=N<6fl+4|&jI73aDKHf-3iVZ(+E8#ewI2<sNE@(t9yi_1Hv)B3NoK&fQ^Ci!QvA7k`P(6{6s"
    "WGK(#d`<IbEgYh3ODwZZ`G29rLFzq=5e%^(BQ?)o`sxvt@3ZWNzCX8wYVE&Ni=ThF|DSt#*(m"
)


def book(sheets: dict[str, list[Any]], **cells: str) -> bytes:
    """A workbook of these sheets; `cells` of the first one get a kind of their own (``e``: an error)."""
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, lines in sheets.items():
        sheet = made.create_sheet(title)
        for line in lines:
            sheet.append(line)
    for name, kind in cells.items():
        made.worksheets[0][name].data_type = kind
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


def one(lines: list[Any], **cells: str) -> dict[str, str | bytes]:
    return {"data/t.xlsx": book({"Sheet1": lines}, **cells)}


def test_every_kind_of_cell_keeps_its_value(make_project: MakeProject) -> None:
    day, moment = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 13, 14, 15, 678000)
    values: dict[str, tuple[Any, str, Any]] = {
        "text": ("007", "VARCHAR", "007"),
        "number text": ("12", "VARCHAR", "12"),
        "date text": ("2024-02-30", "VARCHAR", "2024-02-30"),
        "whole": (1, "BIGINT", 1),
        "large": (2**53, "BIGINT", 2**53),
        "small": (-(2**53), "BIGINT", -(2**53)),
        "fraction": (0.1, "DOUBLE", 0.1),
        "huge": (1e300, "DOUBLE", 1e300),
        "tiny": (5e-324, "DOUBLE", 5e-324),
        "long fraction": (1 / 3, "DOUBLE", 1 / 3),
        "yes": (True, "BOOLEAN", True),
        "day": (day, "DATE", day),
        "moment": (moment, "TIMESTAMP", moment),
        "clock": (datetime.time(3, 4, 5), "VARCHAR", "03:04:05"),
        "long": (datetime.timedelta(hours=30, minutes=1), "VARCHAR", "30:01:00"),
        "lines": ('a\n"b",c', "VARCHAR", 'a\n"b",c'),
        "blank": (" x ", "VARCHAR", " x "),
        "emoji": ("😀", "VARCHAR", "😀"),
        "nothing": (None, "VARCHAR", None),
    }
    lines = [list(values), [cell for cell, _, _ in values.values()], ["x", None]]
    project = make_project(files_yml("data/t.xlsx"), one(lines))

    load(project)

    assert types(project) == {name: kind for name, (_, kind, _) in values.items()}
    expected = tuple(value for _, _, value in values.values())
    assert rows(project)[0] == expected
    assert rows(project)[1] == ("x", *[None] * (len(values) - 1))
    assert raw(project, "SELECT DISTINCT _smoll_file FROM raw_s.t") == [("data/t.xlsx",)]


def test_a_whole_number_beyond_what_a_double_holds_is_a_double(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/t.xlsx"), one([["n"], [2**53 + 2], [1]]))
    load(project)
    assert rows(project) == [(1.0,), (float(2**53 + 2),)]


@pytest.mark.parametrize("place", [1, 30, 2_500])
def test_a_column_of_several_kinds_is_text_wherever_the_odd_cell_stands(make_project: MakeProject, place: int) -> None:
    lines: list[list[Any]] = [["n"], *[[n] for n in range(2_500)]]
    lines[place] = ["n/a"]
    project = make_project(files_yml("data/t.xlsx"), one(lines))
    load(project)
    assert types(project) == {"n": "VARCHAR"}
    assert sorted(row[0] for row in rows(project)) == sorted(str(line[0]) for line in lines[1:])


def test_a_day_among_timestamps_is_one(make_project: MakeProject) -> None:
    moment = datetime.datetime(2024, 1, 2, 3, 4, 5)
    project = make_project(files_yml("data/t.xlsx"), one([["t"], [datetime.date(2024, 1, 1)], [moment]]))
    load(project)
    assert rows(project) == [(datetime.datetime(2024, 1, 1),), (moment,)]


def test_cells_without_a_value_are_counted(make_project: MakeProject) -> None:
    lines = [["a", "b", "c"], [1, "#N/A", "=1+1"], [2, "#DIV/0!", 3]]
    project = make_project(files_yml("data/t.xlsx"), one(lines, B2="e", B3="e"))

    result = load(project)

    assert result.notes == (
        "data/t.xlsx: 2 cells hold an error such as #N/A; they are NULL",
        "data/t.xlsx: 1 cells hold a formula that was never computed; they are NULL",
    )
    assert rows(project) == [(1, None, None), (2, None, 3)]


def test_the_sheet_is_chosen_by_name_or_number(make_project: MakeProject) -> None:
    sheets: dict[str, list[Any]] = {"First": [["a"], [1]], "Zweites Blatt": [["b"], [2]], "1": [["c"], [3]]}
    files: dict[str, str | bytes] = {"data/t.xlsx": book(sheets)}
    for sheet, expected in ((None, "a"), ("Zweites Blatt", "b"), (2, "b"), ("1", "c"), (3, "c")):
        options: dict[str, Any] = {"sheet": sheet} if sheet else {}
        project = make_project(files_yml("data/t.xlsx", **options), files)
        load(project)
        assert list(types(project)) == [expected]
    for sheet in ("4", "0", "Nope"):
        message = refused(make_project(files_yml("data/t.xlsx", sheet=sheet), files), f"no sheet '{sheet}'")
        assert "'First', 'Zweites Blatt', '1'" in message


def test_all_sheets_are_files_of_their_own(make_project: MakeProject) -> None:
    sheets: dict[str, list[Any]] = {"2023": [["id"], [1]], "2024": [["id", "x"], [2, "y"]], "Empty": []}
    options = {"sheet": "*", "incremental": True}
    project = make_project(files_yml("data/*.xlsx", None, **options), {"data/t.xlsx": book(sheets)})

    load(project)

    assert raw(project, "SELECT id, x, _smoll_file FROM raw_s.t ORDER BY id") == [
        (1, None, "data/t.xlsx#2023"),
        (2, "y", "data/t.xlsx#2024"),
    ]
    assert load(project).status == "unchanged"
    write(project.config.root, {"data/t.xlsx": book({"2023": [["id"], [7]], "2025": [["id"], [8]]})})
    result = load(project)
    assert result.rows == 2
    assert "data/t.xlsx#2024 is gone" in "".join(result.notes)
    assert [row[0] for row in rows(project)] == [2, 7, 8]


def test_the_header_may_stand_further_down(make_project: MakeProject) -> None:
    lines = [["Report of May"], [], ["id", "name"], [1, "a"], [], [2, None]]
    project = make_project(files_yml("data/t.xlsx", header_row=3), one(lines))
    load(project)
    assert rows(project) == [(1, "a"), (2, None)]
    project = reopen(project, files_yml("data/t.xlsx", header_row=0))
    load(project, reload=["s.t"])
    assert raw(project, "SELECT count(*), count(column0), count(column1) FROM raw_s.t") == [(4, 4, 2)]


def test_names_are_trimmed_and_empty_ones_numbered(make_project: MakeProject) -> None:
    lines = [[" id ", None, 2024, datetime.date(2024, 5, 1), None], [1, "x", 3, 4, None]]
    project = make_project(files_yml("data/t.xlsx"), one(lines))
    load(project)
    assert types(project) == {"id": "BIGINT", "column1": "VARCHAR", "2024": "BIGINT", "2024-05-01": "BIGINT"}


BAD: dict[str, tuple[list[list[Any]], dict[str, Any], str]] = {
    "twins": ([["a", "a"], [1, 2]], {}, "two columns named 'a'"),
    "twins by case": ([["a", "A"], [1, 2]], {}, "the columns 'a' and 'A'"),
    "empty header": ([[None, None], [1, 2]], {}, "row 1 is empty"),
    "no row so far down": ([["a"], [1]], {"header_row": 5}, "row 5"),
    "nothing": ([], {}, "row 1 of the sheet is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_sheet_without_a_sound_header_is_refused(make_project: MakeProject, case: str) -> None:
    lines, options, said = BAD[case]
    refused(make_project(files_yml("data/t.xlsx", **options), one(lines)), "data/t.xlsx", said)


@pytest.mark.parametrize("body", [b"no workbook", b"PK\x03\x04 broken", book({"a": [["x"], [1]]})[:-50]])
def test_a_file_that_is_no_workbook_is_refused(make_project: MakeProject, body: bytes) -> None:
    refused(make_project(files_yml("data/t.xlsx"), {"data/t.xlsx": body}), "data/t.xlsx is no readable workbook")


@pytest.mark.parametrize("keep", [600, 3_000, 5_000])
def test_a_workbook_that_breaks_its_reader_ends_no_run(make_project: MakeProject, keep: int) -> None:
    body = zlib.decompress(base64.b85decode(XLS))[:keep]  # calamine 0.37 panics on some of these
    refused(make_project(files_yml("data/t.xls"), {"data/t.xls": body}), "data/t.xls is no readable workbook")


def test_a_sheet_without_rows_is_a_table_without_rows(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/t.xlsx"), one([["id", "name"]]))
    load(project)
    assert list(types(project)) == ["id", "name"]
    assert rows(project) == []


def test_many_rows_and_the_types_of_later_workbooks(make_project: MakeProject) -> None:
    lines = [["n", "t"], *[[n, f"t{n}"] for n in range(20_000)]]
    project = make_project(files_yml("data/*.xlsx", incremental=True), {"data/1.xlsx": book({"a": lines})})
    assert load(project).rows == 20_000
    write(project.config.root, {"data/2.xlsx": book({"a": [["n", "t"], [0.5, 7]]})})
    load(project)
    assert types(project) == {"n": "DOUBLE", "t": "VARCHAR"}
    assert raw(project, "SELECT n, t FROM raw_s.t WHERE _smoll_file = 'data/2.xlsx'") == [(0.5, "7")]


def test_a_fixed_type_that_a_cell_misses_names_its_row(make_project: MakeProject) -> None:
    lines = [["Title"], ["n"], [1], [], ["x"]]
    project = make_project(files_yml("data/t.xlsx", header_row=2, columns={"n": "BIGINT"}), one(lines))
    message = refused(project, "data/t.xlsx", "'x'", "is no BIGINT")
    assert "line 5" in message or "record" in message


def test_decimals_may_be_asked_for(make_project: MakeProject) -> None:
    project = make_project(files_yml("data/t.xlsx", columns={"n": "DECIMAL(9,2)"}), one([["n"], [1.25], [2]]))
    load(project)
    assert rows(project) == [(Decimal("1.25"),), (Decimal("2.00"),)]


def test_old_and_free_formats_are_read(make_project: MakeProject) -> None:
    files: dict[str, str | bytes] = {"data/1.xls": zlib.decompress(base64.b85decode(XLS)), "data/2.ods": ods()}
    project = make_project(files_yml(["data/1.xls", "data/2.ods"]), files)
    load(project)
    moment = datetime.datetime(2024, 1, 2, 3, 4, 5)
    assert rows(project) == [(1, "007", moment, True, 1.5), (2, "008", moment, False, 2.5)]


def ods() -> bytes:
    """A spreadsheet of OpenDocument with one row, by hand: openpyxl writes none."""
    cells = [
        '<table:table-cell office:value-type="float" office:value="2"><text:p>2</text:p></table:table-cell>',
        '<table:table-cell office:value-type="string"><text:p>008</text:p></table:table-cell>',
        '<table:table-cell office:value-type="date" office:date-value="2024-01-02T03:04:05"/>',
        '<table:table-cell office:value-type="boolean" office:boolean-value="false"/>',
        '<table:table-cell office:value-type="float" office:value="2.5"><text:p>2.5</text:p></table:table-cell>',
    ]
    names = "".join(
        f'<table:table-cell office:value-type="string"><text:p>{name}</text:p></table:table-cell>'
        for name in ("id", "name", "when", "flag", "x")
    )
    space = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<?xml version="1.0"?><office:document-content xmlns:office="{space}:office:1.0" '
        f'xmlns:table="{space}:table:1.0" xmlns:text="{space}:text:1.0"><office:body><office:spreadsheet>'
        f'<table:table table:name="Sheet1"><table:table-row>{names}</table:table-row>'
        f"<table:table-row>{''.join(cells)}</table:table-row></table:table>"
        "</office:spreadsheet></office:body></office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    entry = f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
    manifest = f'<manifest:manifest xmlns:manifest="{space}:manifest:1.0">{entry}</manifest:manifest>'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", manifest)
    return buffer.getvalue()


def test_a_workbook_of_a_server_or_in_an_archive_is_read(make_project: MakeProject) -> None:
    body = book({"a": [["id"], [1]]})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("in/t.xlsx", body)
    with serve() as web:
        paths = ["data/a.zip", web.put("/exports/xlsx", body)]
        project = make_project(files_yml(paths, incremental=True), {"data/a.zip": buffer.getvalue()})
        load(project)
        assert raw(project, "SELECT id, _smoll_file FROM raw_s.t ORDER BY 2") == [
            (1, "data/a.zip/in/t.xlsx"),
            (1, f"{web.url}/exports/xlsx"),
        ]
        assert load(project).status == "unchanged"


def test_check_opens_the_workbook(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(files_yml("data/t.xlsx", sheet="b"), {"data/t.xlsx": book({"a": [["id"], [1]]})})
    assert any("no sheet 'b'" in str(result) for result in project.check())


def test_a_rejected_row_is_named_by_its_row_in_the_sheet(make_project: MakeProject) -> None:
    lines = [["Title"], [], ["n", "x"], [1, 1 / 3], [], ["?", 2], [3, None]]
    options: dict[str, Any] = {"header_row": 3, "columns": {"n": "BIGINT"}, "on_bad_row": "quarantine"}
    project = make_project(files_yml("data/t.xlsx", **options), one(lines))
    assert load(project).rejected == 1
    assert [row[0] for row in rows(project)] == [1, 3]
    assert raw(project, "SELECT _smoll_file, line, column_name FROM raw_s.t__rejected") == [("data/t.xlsx", 6, "n")]
