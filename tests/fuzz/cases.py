"""Cases of the mutation fuzz: a good file, the same file damaged, and the options of the stream that reads both."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import duckdb
from backports import zstd

KINDS = ("csv", "csv", "csv", "csv", "csv.gz", "csv.zst", "ndjson", "ndjson", "ndjson", "ndjson.gz", "json", "parquet")
NASTY = (
    b'"', b'""', b"\n", b"\r", b"\r\n", b",", b";", b"\0", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"\\", b"'", b" ", b"\t", b"{", b"}", b"[", b"]", b":", b"null", b"NaN", b"1e999", b"007", b"+7", b"-0",
    b"\x1a", b"\x7f", b"9223372036854775808", b"9999-12-31", b"0000-00-00", b"true", b"\xf0\x9f\x98\x80", b"e",
    b"-", b".", b"#", b"\xc2\x85", b"\xe2\x80\xa8", b"1.5", b"x" * 300,
)  # fmt: skip
WORDS = (
    "Ann", "x", "two words", 'say "hi"', "a,b", "a;b", "line\nline", "cr\rlf\r\n", "é", "😀", "", " lead", "NULL",
    "7",
)  # fmt: skip
SWAPS = ((b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\n", b"\r"), (b'"', b""), (b"\n", b"\n\n"))
DELIMITERS = (",", ";", "\t", "|")
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": partial(gzip.compress, mtime=0), "zst": zstd.compress}


@dataclass(frozen=True)
class Case:
    """One case. ``kind`` is the suffix of the files, ``options`` are the stream's in smoll.yml."""

    kind: str
    good: bytes
    bad: bytes
    options: dict[str, Any]

    def to_json(self) -> str:
        encoded = {name: base64.b64encode(getattr(self, name)).decode() for name in ("good", "bad")}
        return json.dumps({**asdict(self), **encoded}, indent=1)

    @staticmethod
    def from_json(text: str) -> Case:
        fields = json.loads(text)
        return Case(**{**fields, **{name: base64.b64decode(fields[name]) for name in ("good", "bad")}})


def make_case(random: Random, folder: Path) -> Case:
    """A case from the random numbers; `folder` is for files that are written on the way."""
    kind = random.choice(KINDS)
    size = random.choice((1, 3, 10, 40, 40, 200, 20 if random.random() < 0.9 else random.choice((1500, 3000, 20_000))))
    records = [_record(random, number) for number in range(size)]
    options: dict[str, Any] = {
        "mode": random.choice(("append", "append", "append", "replace")),
        "on_bad_row": random.choice(("fail", "quarantine")),
        "contract": random.choice(("evolve", "evolve", "freeze", "discard")),
    }
    if random.random() < 0.15:
        options["columns"] = {"amount": "DECIMAL(12,2)", "code": "VARCHAR"}
    if kind.startswith("csv"):
        options["delimiter"] = random.choice(DELIMITERS)
        quoting = random.choice(("all", "minimal"))
        end = random.choice(("\n", "\n", "\r\n", "\r"))
        good = b"\xef\xbb\xbf" if random.random() < 0.1 else b""
        good += csv_bytes(records, options["delimiter"], quoting, end)
    elif kind.startswith("ndjson"):
        good = b"".join(json.dumps(record, ensure_ascii=random.random() < 0.5).encode() + b"\n" for record in records)
    elif kind == "json":
        good = json.dumps(records, indent=random.choice((None, 1))).encode()
    else:
        good = _parquet(records, folder / "made.parquet")
    bad = mutate(random, good)
    if pack := PACKERS.get(kind.split(".")[-1]):
        packed = pack(good)
        return Case(kind, packed, pack(bad) if random.random() < 0.5 else mutate(random, packed), options)
    return Case(kind, good, bad, options)


def _record(random: Random, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "amount": random.randrange(-(10**6), 10**6) / 100,
        "name": random.choice(WORDS),
        "day": f"20{random.randrange(10, 30)}-0{random.randrange(1, 10)}-1{random.randrange(10)}",
        "flag": random.random() < 0.5,
        "code": f"{random.randrange(10000):05}",
    }


def csv_bytes(records: list[dict[str, Any]], delimiter: str, quoting: str, end: str) -> bytes:
    """CSV of records with the same keys, with a header. ``quoting``: "all" or "minimal"; NULL is an empty value."""

    def shown(value: Any) -> str:
        text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        special = any(char in text for char in (delimiter, '"', "\n", "\r")) or text[:1] == " " or text[-1:] == " "
        quoted = (quoting == "all" and value is not None) or special or (isinstance(value, str) and text == "")
        return '"' + text.replace('"', '""') + '"' if quoted else text

    lines = [list(records[0]), *(list(record.values()) for record in records)]
    return "".join(delimiter.join(map(shown, line)) + end for line in lines).encode()


def _parquet(records: list[dict[str, Any]], path: Path) -> bytes:
    lines = path.with_suffix(".ndjson")
    lines.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM read_json('{lines}')) TO '{path}' (FORMAT parquet)")
    return path.read_bytes()


def mutate(random: Random, data: bytes) -> bytes:
    """Damage: one to four edits, most of them small. The header is spared half of the time."""
    spared = data.find(b"\n") + 1 if random.random() < 0.5 else 0
    head, body = bytearray(data[:spared]), bytearray(data[spared:])
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        _edit(random, body)
    return bytes(head + body)


def _edit(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data) + 1)
    match random.randrange(9):
        case 0 if at < len(data):
            data[at] = random.randrange(256)
        case 1 if at < len(data):
            data[at] ^= 1 << random.randrange(8)
        case 2:
            data[at:at] = random.choice(NASTY)
        case 3:
            del data[at : at + random.choice((1, 1, 2, 10, 100))]
        case 4:
            del data[at:]
        case 5:
            lines = data.split(b"\n")
            chosen = random.randrange(len(lines))
            lines[chosen : chosen + 1] = [lines[chosen]] * random.choice((0, 2, 3))
            data[:] = b"\n".join(lines)
        case 6:
            old, new = random.choice(SWAPS)
            data[at:] = bytes(data[at:]).replace(old, new, random.choice((1, -1)))
        case 7:
            data[at:at] = bytes(data[random.randrange(len(data) + 1) :][: random.choice((5, 50, 500))])
        case _:
            data[at : at + 1] = random.choice(NASTY)
