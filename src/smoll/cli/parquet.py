"""A query's rows as a Parquet file, although the connection that answers may write no file.

The sandbox gives the rows as lines of CSV, through a pipe; a second DuckDB, which never sees the query, reads the pipe,
gives the values their types again and writes the file. Names of columns, types and values are all that crosses over.
Memory stays flat: Arrow would hand over a million rows at a time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from smoll.cli.answering import lacks_memory, out_of_memory
from smoll.errors import SmollError, disk_hint
from smoll.model import literal, quote

LINE_BEGINS = "x"
"""The first field of every line: a line of one NULL would be an empty one, and be passed over."""
_MEMORY = "128MiB"
_LONGEST_ROW = 16_000_000
"""Bytes of a row's text; the reader holds buffers of twice the size."""
_ROW_GROUP = "16MB"
_SAME = {
    *("boolean", "float", "double", "varchar", "blob", "uuid", "interval", "date", "time", "timestamp"),
    *("timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"),
    *(sign + size for sign in ("", "u") for size in ("tinyint", "smallint", "integer", "bigint")),
}


def write_parquet(columns: Sequence[tuple[str, Any]], batches: Iterable[Sequence[str]], target: str) -> int:
    """Write rows into a Parquet file.

    Parameters
    ----------
    columns
        Names and types, as a relation of DuckDB's has them.
    batches
        Lines of CSV: `LINE_BEGINS`, then a field for each column. NULL is nothing at all, an empty text is ``""``.
    target
        The file, or anything else that can be opened for writing.

    Returns
    -------
    int
        How many rows.

    Raises
    ------
    SmollError
        A value cannot be stored, or the file not be written; half of it may be there.
    """
    import duckdb

    rows = 0
    with (
        duckdb.connect(":memory:", config={"memory_limit": _MEMORY, "threads": "1"}) as connection,
        ThreadPoolExecutor(1, "parquet") as pool,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET preserve_insertion_order = false")  # one thread keeps the order; row groups stay small
        reader, writer = os.pipe()
        written = pool.submit(_copy, connection, _statement(columns, reader, target), reader)
        with suppress(BrokenPipeError), os.fdopen(writer, "w", encoding="utf-8", newline="\n") as lines:
            for batch in batches:
                lines.write("\n".join([*batch, ""]))
                rows += len(batch)
        try:
            written.result()
        except duckdb.Error as error:
            raise _explained(error) from error
    return rows


def _copy(connection: Any, statement: str, reader: int) -> None:
    try:
        connection.execute(statement)
    finally:
        os.close(reader)  # who still writes hears of it


def _statement(columns: Sequence[tuple[str, Any]], reader: int, target: str) -> str:
    fields = ", ".join(["'begins': 'VARCHAR'", *(f"'c{n}': 'VARCHAR'" for n, _ in enumerate(columns))])
    values = ", ".join(f"c{n}::{_stored(kind)} AS {quote(name)}" for n, (name, kind) in enumerate(columns))
    return f"""COPY (SELECT {values} FROM read_csv(
        '/dev/fd/{reader}', columns = {{{fields}}}, auto_detect = false, header = false, delim = ',', quote = '"',
        escape = '"', new_line = '\\n', allow_quoted_nulls = false, parallel = false,
        max_line_size = {_LONGEST_ROW}, buffer_size = {2 * _LONGEST_ROW}
    )) TO {literal(target)} (FORMAT parquet, ROW_GROUP_SIZE_BYTES {literal(_ROW_GROUP)}, USE_TMP_FILE false)"""


def _stored(kind: Any) -> str:
    """Which type holds the values of another in the file. Text is what Parquet would make worse.

    Whole numbers of 128 bits, such as sums, would become DOUBLE.
    """
    if str(kind) == "JSON":
        return "JSON"
    if kind.id in _SAME:
        return str(kind.id)
    if kind.id in ("hugeint", "uhugeint"):
        return "DECIMAL(38, 0)"
    if kind.id not in ("decimal", "list", "array", "map", "struct"):
        return "VARCHAR"
    parts = dict(kind.children)
    if kind.id == "decimal":
        return f"DECIMAL({parts['precision']}, {parts['scale']})"
    if kind.id in ("list", "array"):
        return f"{_stored(parts['child'])}[]"
    if kind.id == "map":
        return f"MAP({_stored(parts['key'])}, {_stored(parts['value'])})"
    if "" in parts:  # a struct without names
        return "VARCHAR"
    return f"STRUCT({', '.join(f'{quote(name)} {_stored(part)}' for name, part in parts.items())})"


def _explained(error: Exception) -> Exception:
    text = str(error)
    if lacks_memory(error):
        return out_of_memory()
    if "Broken pipe" in text:  # who read stdout has gone
        return BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    if "Maximum line size" in text:
        return SmollError(
            f"A row has more than {_LONGEST_ROW // 10**6} MB of text.", hint="--format csv or json has no such limit."
        )
    return SmollError(f"The Parquet file could not be written: {text.splitlines()[0]}", hint=disk_hint(text))
