"""Load the cases of the mutation fuzz by smoll, and say what is not as it must be.

What must be, whatever the file: no traceback; after a failure the table is as before; rows loaded and rows rejected
are the records of the file; what was loaded is what `fuzz.reader` reads; no good row is lost.
"""

from __future__ import annotations

import json
import re
import shutil
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from backports import zstd

import smoll
from fuzz.cases import Case
from fuzz.oracle import Misfit, comparable, selected, value_of
from fuzz.reader import (
    INVALID,
    NEARLY,
    Csv,
    Fraction,
    Quoted,
    Record,
    parse_json,
    parse_nearly_json,
    read_csv,
    read_ndjson,
)
from smoll.model import StreamResult, quote
from support import write

ODD_ERRORS = re.compile(
    r"Traceback|INTERNAL|Binder Error|Parser Error|Catalog Error|assert|__smoll|KeyError|IndexError"
)


@dataclass(frozen=True)
class Table:
    """A stream's table: its columns with their types, by file its rows, as `fuzz.oracle.selected` gives them, and
    the rejected rows: file, line, reason and raw text.
    """

    types: Mapping[str, str]
    rows: Mapping[str, list[tuple[Any, ...]]]
    rejected: tuple[tuple[str, int, str, str], ...]

    def of(self, file: str) -> Counter[tuple[Any, ...]]:
        """The rows of the file whose name ends so, comparable."""
        found = next((rows for name, rows in self.rows.items() if name.endswith(file)), [])
        return Counter(tuple(map(comparable, row)) for row in found)


def check_cases(cases: Sequence[Case], folder: Path) -> Iterator[tuple[Case, str]]:
    """Load all cases as streams of one project. Yields each case for which something is wrong, with what it is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    streams = {f"t{number}": {"path": f"d/{number}/*", **case.options} for number, case in enumerate(cases)}
    # JSON is YAML; two sources, since sources are loaded side by side
    halves = {f"s{part}": dict(list(streams.items())[part::2]) for part in (0, 1)}
    sources = {name: {"kind": "files", "schema": "raw", "streams": half} for name, half in halves.items() if half}
    write(folder, {"smoll.yml": json.dumps({"name": "fuzz", "sources": sources})})
    try:
        _run(folder, {f"d/{number}/1.{case.kind}": case.good for number, case in enumerate(cases)})
        before = [_table(folder, number) for number in range(len(cases))]
        results = _run(folder, {f"d/{number}/2.{case.kind}": case.bad for number, case in enumerate(cases)})
        after = [_table(folder, number) for number in range(len(cases))]
    except Exception:  # smoll must raise none: find the case that it raises for
        if len(cases) == 1:
            yield cases[0], traceback.format_exc()
            return
        for case in cases:
            yield from check_cases([case], folder / "alone")
        return
    for number, case in enumerate(cases):
        for wrong in _judge(case, results[f"t{number}"], before[number], after[number]):
            yield case, wrong


def _run(folder: Path, files: Mapping[str, bytes]) -> dict[str, StreamResult]:
    write(folder, files)
    result = smoll.open_project(folder).run()
    return {stream.ref.stream: stream for stream in result.streams}


def _table(folder: Path, number: int) -> Table:
    with smoll.open_project(folder).connect(raw=True) as connection:
        names = [row[0] for row in connection.execute("SHOW TABLES FROM raw").fetchall()]
        if f"t{number}" not in names:
            return Table({}, {}, ())
        described = connection.execute(f"DESCRIBE raw.t{number}").fetchall()
        types = {row[0]: row[1] for row in described if not row[0].startswith("_smoll_")}
        listed = ", ".join(["_smoll_file", *(selected(quote(name), kind) for name, kind in types.items())])
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for file, *row in connection.execute(f"SELECT {listed} FROM raw.t{number}").fetchall():
            rows.setdefault(file, []).append(tuple(row))
        rejects = f"t{number}__rejected"
        sql = f"SELECT _smoll_file, line, reason, raw FROM raw.{rejects} ORDER BY ALL"
        return Table(types, rows, tuple(connection.execute(sql).fetchall()) if rejects in names else ())


def _judge(case: Case, result: StreamResult, before: Table, after: Table) -> Iterator[str]:
    if ODD_ERRORS.search(result.error):
        yield f"an error that is not for people: {result.error}"
    if result.status == "failed":
        if after != before:
            yield f"the load failed ({result.error}) and changed the table: {before} to {after}"
        must = _must_load(case)
        if must:
            yield f"refused, although {must}: {result.error}"
        return
    whole = case.options["mode"] == "replace"
    loaded = sum(len(rows) for name, rows in after.rows.items() if whole or "/2." in name)
    added = len(after.rejected) - (0 if whole else len(before.rejected))
    if (result.read, result.rejected) != (loaded + added, added):
        yield f"said {result.read} read, {result.rejected} rejected; the tables have {loaded} and {added}"
    if case.kind != "parquet":
        yield from _compare(case, after)


def _content(case: Case, data: bytes) -> bytes | None:
    """The file unpacked, None where it cannot be."""
    if case.kind.endswith(".zst"):
        return _unpack_zst(data)
    if not case.kind.endswith(".gz"):
        return data
    unpacked = b""
    while data:
        inflate = zlib.decompressobj(31)
        try:
            unpacked += inflate.decompress(data)
        except zlib.error:
            return None
        if not inflate.eof:
            return None
        data = inflate.unused_data
    return unpacked


def _unpack_zst(data: bytes) -> bytes | None:
    try:
        return zstd.decompress(data)
    except zstd.ZstdError:
        return None


def _must_load(case: Case) -> str:
    """Why the damaged file must be loaded all the same; empty where it may be refused."""
    content = _content(case, case.bad)
    if not content or case.options["contract"] != "evolve" or case.kind in ("parquet", "json"):
        return ""
    quarantine = case.options["on_bad_row"] == "quarantine"
    if case.options.get("columns") and not quarantine:
        return ""
    if case.kind.startswith("ndjson"):
        records = read_ndjson(content)
        keys = {key for record in records if not record.problem for key in parse_json(record.text)}
        if not keys or len({key.lower() for key in keys}) < len(keys) or any(key.strip() == "" for key in keys):
            return ""
        return "" if any(record.problem for record in records) and not quarantine else "every record is good or bad"
    found, good = _csv(case, content), _csv(case, _content(case, case.good) or b"")
    if found.names != good.names or "\0" in str(found.names):
        return ""
    bad = [record for record in found.records if record.problem]
    return "" if bad and not quarantine else "the header is good, and every record good or bad"


def _csv(case: Case, content: bytes) -> Csv:
    return read_csv(content, case.options["delimiter"])


def _compare(case: Case, after: Table) -> Iterator[str]:
    good, bad = _content(case, case.good), _content(case, case.bad)
    assert good is not None
    if bad is None:
        yield "loaded, although the archive is damaged"
        return
    yield from _compare_file(case, good, "/1." + case.kind, after)
    yield from _compare_file(case, bad, "/2." + case.kind, after)


def _compare_file(case: Case, content: bytes, file: str, table: Table) -> Iterator[str]:
    """Compare what was loaded of a file with what the readers of the tests read."""
    if case.kind == "json":
        try:
            values = parse_nearly_json(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            yield f"loaded, although it is no JSON: {error}"
            return
        values = values if isinstance(values, list) else [values]
        records = [Record(number, json.dumps(value), (), "") for number, value in enumerate(values)]
        meant = [_json_row(record, table) for record in records]
    elif case.kind.startswith("ndjson"):
        records = read_ndjson(content)
        meant = [_json_row(record, table) for record in records]
    else:
        read = _csv(case, content)
        records = [_perhaps(record, read, table) for record in read.records]
        meant = [_csv_row(record, read, table) for record in records]
    loaded = table.of(file)
    rejects = [reject for reject in table.rejected if reject[0].endswith(file)]
    rejected = len(rejects)
    quarantine, contract = case.options["on_bad_row"] == "quarantine", case.options["contract"]
    good = Counter(row for record, row in _pairs(records, meant) if isinstance(row, tuple) and not record.problem)
    either = Counter(row for record, row in _pairs(records, meant) if isinstance(row, tuple) and record.problem)
    if odd := loaded - good - either:
        yield f"{file}: loaded what is not in the file, or changed: {_few(odd)}; of it: {_few(good - loaded)}"
    elif lost := good - loaded:
        yield f"{file}: lost good rows: {_few(lost)}"
    if len(records) != sum(loaded.values()) + rejected:
        yield f"{file}: {len(records)} records, {sum(loaded.values())} loaded, {rejected} rejected"
    misfits = [record for record, row in _pairs(records, meant) if row == "misfit"]
    if misfits and contract != "discard" and not case.options.get("columns"):
        yield f"{file}: values that fit no type of the table were not taken under {contract}: {misfits[0]}"
    if not quarantine and rejected:
        yield f"{file}: rejects without quarantine"
    if case.kind != "json":
        places = Counter((reject[1], reject[3]) for reject in rejects)
        wanted, allowed = (
            Counter((record.line, _shown(record.text)) for record, row in _pairs(records, meant) if chosen(record, row))
            for chosen in (lambda record, row: isinstance(row, str), lambda record, row: record.problem == NEARLY)
        )
        if wanted - places or places - wanted - allowed:
            yield f"{file}: rejected {_few(places - wanted)}, not {_few(wanted - places)}"


def _pairs(records: Sequence[Record], meant: Sequence[Any]) -> Iterator[tuple[Record, Any]]:
    return zip(records, meant, strict=True)


def _shown(text: str) -> str:
    """The raw text of a rejected row: bytes that are no UTF-8 are written as ``\\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _few(rows: Counter[Any]) -> str:
    return f"{sum(rows.values())} rows such as {list(rows)[:2]}"


def _names(read: Csv) -> list[str]:
    return [name.strip() or f"column{index}" for index, name in enumerate(read.names)]


def _perhaps(record: Record, read: Csv, table: Table) -> Record:
    """Bytes that are no text, in a column that is left out, are met only where all of the record is looked at."""
    kept = {name.lower() for name in table.types}
    odd = [
        name for name, text in zip(_names(read), record.values, strict=False) if any(char in text for char in INVALID)
    ]
    is_left_out = record.problem == "encoding" and odd and not any(name.lower() in kept for name in odd)
    return replace(record, problem=NEARLY) if is_left_out else record


def _csv_row(record: Record, read: Csv, table: Table) -> tuple[Any, ...] | str:
    """The record as the table has it; "bad" where it cannot be loaded, "misfit" where a value does not fit."""
    if record.problem not in ("", NEARLY):
        return "bad"
    names = _names(read)
    texts = {
        name.lower(): None if text == "" and not isinstance(text, Quoted) else text
        for name, text in zip(names, record.values, strict=True)
    }
    try:
        return tuple(comparable(value_of(texts.get(name.lower()), kind)) for name, kind in table.types.items())
    except Misfit:
        return "misfit"


def _json_row(record: Record, table: Table) -> tuple[Any, ...] | str:
    if record.problem not in ("", NEARLY):
        return "bad"
    value = parse_nearly_json(record.text) if record.problem else parse_json(record.text)
    if not isinstance(value, dict):
        return "bad"
    values = {key.lower(): item for key, item in value.items()}
    try:
        return tuple(json_value(values.get(name.lower()), kind) for name, kind in table.types.items())
    except Misfit:
        return "misfit"


def json_value(value: Any, kind: str) -> Any:
    """A value of JSON as a column of this type must have it, comparable. Raises Misfit."""
    if value is None:
        return None
    if kind == "JSON":
        return comparable_json(value)
    if isinstance(value, str):
        return comparable(value_of(value, kind))
    if isinstance(value, bool):
        return comparable(value_of(str(value).lower(), kind))
    if isinstance(value, Fraction):
        number = float(value)
        is_double = Decimal(value.text) in (Decimal(repr(number)), Decimal(f"{number:.17g}"))
        return comparable(value_of(repr(number) if is_double and kind == "VARCHAR" else value.text, kind))
    if isinstance(value, (int, float)):
        return comparable(value_of(str(value), kind))
    raise Misfit


def comparable_json(value: Any) -> str:
    """JSON such that equal means the same."""
    return json.dumps(value, sort_keys=True)
