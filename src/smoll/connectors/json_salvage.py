"""NDJSON that DuckDB cannot scan: which lines are bad, and the good ones as copies that it can."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from smoll.connector import Damage, Part, PartColumn, StreamPlan
from smoll.connectors.csv_records import DAMAGE, damaged, readable, rejected_sql, size_of
from smoll.connectors.data_file import DataFile, label, refuse_twins, stream_error
from smoll.connectors.json_kinds import NUMBER_KINDS, columns_of, merge_kinds
from smoll.connectors.json_large import kinds_of, scan_sql, write_values
from smoll.connectors.json_records import (
    LARGE,
    Judge,
    find_records,
    long_fractions,
    quote_numbers,
    read_records,
    split_objects,
)
from smoll.errors import LoadError

Describe = Callable[[Sequence[DataFile], Set[str], Mapping[str, Set[str]]], Part]
"""Makes a part of copies of good records: given the keys whose numbers were made texts, and the kinds of the values in
other records of the stream."""


def salvage(plan: StreamPlan, files: Sequence[DataFile], takes: Judge, describe: Describe, scratch: Path) -> Damage:
    """Look at every line of the files; scan the good ones, and say which are bad.

    A record too large for DuckDB's reader goes into a file of CSV beside the copy of the others.
    """
    quoted, kinds = _survey(plan, files, takes)
    rejected = scratch / "damaged.ndjson"
    small: list[DataFile] = []
    large: list[DataFile] = []
    numbers: dict[str, list[int]] = {file.name: [] for file in files}  # of the large records among the good ones
    first: LoadError | None = None
    records = bad = longest = 0
    with rejected.open("w", encoding="utf-8") as output:
        for number, file in enumerate(files):
            copy, others = scratch / f"{number:06}.ndjson", scratch / f"{number:06}.large"
            good = 0
            with (
                _explained(plan, file),
                copy.open("w", encoding="utf-8", newline="") as target,
                others.open("w", encoding="utf-8", newline="") as aside,
            ):
                for line, text, problem in read_records(file.path, takes):
                    records += 1
                    if not problem:
                        good += 1
                        kept = quote_numbers(text, quoted) if quoted else text
                        if size_of(kept) < LARGE:
                            target.write(kept + "\n")
                        else:
                            aside.write(kept + "\n")
                            numbers[file.name].append(good)
                        continue
                    bad += 1
                    shown = readable(text)
                    row = {"file": file.name, "line": line, "reason": problem, "raw": shown}
                    longest = max(longest, output.write(json.dumps(row) + "\n"))
                    first = first or stream_error(
                        plan,
                        f"{file.name}, line {line}: {problem}. The line begins: {shown[:80]!r}.",
                        "Mend the line, or set `on_bad_row: quarantine`.",
                    )
            if good > len(numbers[file.name]):
                small.append(replace(file, path=copy, size=copy.stat().st_size))
            if numbers[file.name]:
                large.append(replace(file, path=others, size=others.stat().st_size))
    paths = {file.name: file.path for file in files}

    def locate(is_large: bool, name: str, wanted: Sequence[int]) -> Iterator[tuple[int, str]]:
        return find_records(paths[name], _among_all(wanted, numbers[name], is_large), takes)

    parts: list[Part] = []
    if small:
        part = describe(small, quoted, kinds)
        parts.append(replace(part, locate=partial(locate, False)))
        columns = part.columns
    else:
        refuse_twins(plan, label(files), "keys", list(kinds))
        columns = columns_of(kinds, quoted)
    if large:
        parts.append(replace(_large_part(plan, large, columns, quoted), locate=partial(locate, True)))
    return Damage(parts, records, rejected_sql(rejected, longest), bad, first)


@contextmanager
def _explained(plan: StreamPlan, file: DataFile) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise stream_error(plan, f"{file.name}: a record is nested too deeply.", "Take it out.") from error
    except DAMAGE as error:
        raise damaged(f"{plan.ref}: {file.name}", error) from error


def _survey(plan: StreamPlan, files: Sequence[DataFile], takes: Judge) -> tuple[set[str], dict[str, Set[str]]]:
    """The keys with numbers that DuckDB's reader would shorten, and the kinds of the values in large records."""
    quoted: set[str] = set()
    kinds: dict[str, Set[str]] = {}
    for file in files:
        with _explained(plan, file):
            for _, text, problem in read_records(file.path, takes):
                if not problem:
                    quoted.update(long_fractions(text))
                    if size_of(text) > LARGE // 2:  # with its numbers in quotes it may be larger
                        kinds = merge_kinds(kinds, kinds_of(text))
    return quoted, {
        key: {"VARCHAR"} if key in quoted and found <= NUMBER_KINDS else found for key, found in kinds.items()
    }


def _among_all(wanted: Sequence[int], large: Sequence[int], is_large: bool) -> list[int]:
    """Numbers of records among the large ones, or the others, as their numbers among all; both from 1 and ascending."""
    if is_large:
        return [large[number - 1] for number in wanted]
    found, passed = [], 0
    for number in wanted:
        while passed < len(large) and large[passed] <= number + passed:
            passed += 1
        found.append(number + passed)
    return found


def _large_part(plan: StreamPlan, files: Sequence[DataFile], columns: tuple[PartColumn, ...], quoted: Set[str]) -> Part:
    copies, longest = [], 0
    for file in files:
        copy = file.path.with_suffix(".csv")
        with _explained(plan, file), file.path.open(encoding="utf-8", newline="\n") as lines:
            longest = max(longest, write_values(lines, columns, copy))
        file.path.unlink()
        copies.append(replace(file, path=copy))
    names = tuple(file.name for file in files)
    return Part(scan_sql(copies, columns, quoted, longest), columns, f"{plan.ref}: {label(files)}", names)


def salvage_objects(
    plan: StreamPlan, files: Sequence[DataFile], takes: Judge, describe: Describe, scratch: Path
) -> Damage:
    """Split files with one array, or with objects one after another, into lines, and look at those."""
    found = []
    for number, file in enumerate(files):
        copy = scratch / f"{number:06}.lines.ndjson"
        try:
            with _explained(plan, file), copy.open("w", encoding="utf-8", newline="") as target:
                target.writelines(text + "\n" for text in split_objects(file.path))
        except json.JSONDecodeError as error:
            raise stream_error(plan, f"{file.name}: malformed JSON: {error.msg}.", "Mend the file.") from error
        found.append(replace(file, path=copy, size=copy.stat().st_size))
    return salvage(plan, found, takes, describe, scratch)
