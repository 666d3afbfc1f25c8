"""CSV and TSV for the ``files`` connector: every value as text, every row complete, or an error with its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from smoll.connector import FILE_COLUMN, Part, PartColumn, StreamPlan
from smoll.connectors.data_file import DataFile, file_name_sql, label, paths_sql, refuse_twins, stream_error
from smoll.errors import LoadError
from smoll.model import literal, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import FileStream

_DELIMITERS = (",", ";", "\t", "|")


def parts(plan: StreamPlan, kind: str, files: Sequence[DataFile], connection: DuckDBPyConnection) -> Iterator[Part]:
    """Group the files by their header: files of one group can be scanned by one SELECT.

    Raises
    ------
    LoadError
        A header cannot be read, names a column twice, or was not split by the delimiter.
    """
    options: FileStream = plan.options
    heads = [(file, _read_head(plan, file, connection)) for file in files]
    delimiter = options.delimiter or ("\t" if kind == "tsv" else _find_delimiter(heads[0][1]))
    named = [(tuple(_header(plan, file, head, delimiter)), file) for file, head in heads]
    for names, members in groupby(named, key=lambda pair: pair[0]):
        group = [file for _, file in members]
        scan = _csv_scan(options, group, names, delimiter)
        columns = ", ".join(quote(name) for name in names)
        sql = f"SELECT {columns}, {file_name_sql(group)} AS {quote(FILE_COLUMN)} FROM {scan}"
        yield Part(sql, tuple(PartColumn(name, None) for name in names), f"{plan.ref}: {label(group)}")


def _csv_scan(options: FileStream, files: Sequence[DataFile], names: Sequence[str], delimiter: str) -> str:
    # No `new_line`: given together with strict_mode, DuckDB 1.5 returns no rows at all, and no error, for a file
    # with other line ends. Without it a mix of line ends is an error.
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    nulls = ", ".join(literal(text) for text in options.null_values)
    return (
        f"read_csv({paths_sql(files)}, auto_detect = false, columns = {{{columns}}}, header = {options.header}, "
        f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', strict_mode = true, nullstr = [{nulls}], "
        f"allow_quoted_nulls = false, encoding = {literal(options.encoding)}, filename = '__smoll_path', "
        "hive_partitioning = false)"
    )


def _read_head(plan: StreamPlan, file: DataFile, connection: DuckDBPyConnection) -> str:
    """The first lines of a file as DuckDB decodes them, so that compression and encoding are handled once."""
    import duckdb

    options: FileStream = plan.options
    try:
        rows = connection.execute(
            f"""SELECT line FROM read_csv({paths_sql([file])}, auto_detect = false, header = false,
            columns = {{'line': 'VARCHAR'}}, delim = '\x1f', quote = '', escape = '',
            strict_mode = false, encoding = {literal(options.encoding)}) LIMIT 100"""
        ).fetchall()
    except duckdb.Error as error:
        raise explain(plan, file.name, error) from error
    lines = [str(row[0] or "") for row in rows]
    if not any(line.strip() for line in lines):
        raise stream_error(plan, f"{file.name} holds only blank lines.", "Remove it, or write it anew.")
    if not lines[0]:
        raise stream_error(plan, f"{file.name} begins with a blank line.", "Remove the line.")
    return "\n".join(lines)


def _find_delimiter(head: str) -> str:
    """The delimiter that splits the header most; the rows below it have no say, wherever they are odd."""
    return max(_DELIMITERS, key=lambda delimiter: len(_first_record(head, delimiter)))


def _first_record(head: str, delimiter: str) -> list[str]:
    return next(csv.reader(head.splitlines(keepends=True), delimiter=delimiter), [])


def _header(plan: StreamPlan, file: DataFile, head: str, delimiter: str) -> list[str]:
    names = _first_record(head, delimiter)
    if not plan.options.header:
        return [f"column{index}" for index in range(len(names))]
    names = [name.strip() or f"column{index}" for index, name in enumerate(names)]
    refuse_twins(plan, file.name, "columns", names)
    other = [d for d in _DELIMITERS if d != delimiter and d in names[0]]
    if len(names) == 1 and other:
        raise stream_error(
            plan,
            f"{file.name} has only one column with the delimiter {delimiter!r}, and its header holds {other[0]!r}.",
            f"Set `delimiter: {other[0]!r}` on the stream.",
        )
    return names


def explain(plan: StreamPlan, place: str, error: Exception) -> LoadError:
    """Say in plain words what DuckDB's CSV reader met, and where."""
    lines = str(error).splitlines()
    where = next((line.split("Line:")[1].strip() for line in lines if "CSV Error on Line:" in line), "")
    text = next((line.removeprefix("Original Line:").strip() for line in lines if "Original Line:" in line), "")
    place = f"{place}, line {where}" if where else place
    shown = f" The line begins: {text[:80]!r}." if text else ""
    whole = str(error)
    if "unicode" in whole or "not utf-8" in whole.lower():
        return stream_error(
            plan, f"{place}: the text is not {plan.options.encoding}.{shown}", "Set `encoding: latin-1`."
        )
    if "Expected Number of Columns" in whole:
        counts = next(line for line in lines if "Expected Number of Columns" in line)
        counts = counts.replace("Expected Number of Columns:", "expected").replace("Found:", "columns, found")
        return stream_error(plan, f"{place}: {counts}.{shown}", "Mend the line, or check `delimiter` and the quotes.")
    if "unterminated quote" in whole:
        return stream_error(plan, f"{place}: a quote is not closed, or text follows one.{shown}", "Mend the line.")
    if "invalid state" in whole:
        hint = "Write the file with one kind of line end (dos2unix does)."
        return stream_error(plan, f"{place}: the file mixes line ends (\\r\\n and \\n).", hint)
    return stream_error(plan, f"{place}: {lines[0]}{shown}")
