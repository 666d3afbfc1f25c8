"""From a file as it lies somewhere to files that DuckDB reads: compression, archives, workbooks.

What DuckDB unpacks itself (gzip, Zstandard) is left packed. Everything is written under numbers into the scratch
folder, so no name in an archive leads anywhere else, and in blocks, so memory stays bounded.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from smoll.connectors import excel
from smoll.connectors.csv_records import PACKED
from smoll.connectors.data_file import DataFile, refuse_twins, stream_error
from smoll.connectors.fetch import Desk, disk_error
from smoll.connectors.places import path_regex
from smoll.errors import LoadError

_FORMATS = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xlsb": "excel",
    ".xls": "excel",
    ".ods": "excel",
}
_COMPRESSIONS = (*PACKED, ".bz2")
_TEXTS = ("csv", "tsv", "json", "ndjson")
_BLOCK = 1 << 20
_SPARE_BYTES = 50_000_000


def format_of(name: str, given: str | None = None) -> str | None:
    """The format of a file by its name; None where the name does not tell it.

    Of a URL it is the path that tells; its last step may be the name of a format (``/exports/parquet?limit=-1``).
    """
    if given:
        return given
    path = unquote(urlsplit(name).path) if "://" in name else name
    last = path.rpartition("/")[2].lower()
    suffixes = [f".{part}" for part in last.split(".")[1:]]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    if not suffixes and "://" in name:
        suffixes = [f".{last}"]
    return _FORMATS.get(suffixes[-1]) if suffixes else None


def is_archive(name: str) -> bool:
    """Whether the name is one of an archive."""
    return (urlsplit(name).path if "://" in name else name).lower().endswith(".zip")


def unpack(
    desk: Desk,
    name: str,
    path: Path,
    fingerprint: Sequence[Any],
    *,
    title: str = "",
    members: str = "",
    origin: Path | None = None,
    packed: bool = False,
) -> list[DataFile]:
    """Make readable files of one: itself, what it is unpacked to, the members of an archive, the sheets of a workbook.

    Parameters
    ----------
    title
        What tells the format, where it is not the whole `name`: the name of a member in its archive.
    members
        As `Place.members`.
    origin
        The file on this machine, where `path` is that file itself and no copy.
    packed
        A server packed the copy with gzip for the way.

    Raises
    ------
    LoadError
        The file is damaged, encrypted, or of a format that cannot be told.
    """
    options, is_member = desk.plan.options, bool(title)
    title = title or name
    if packed and _begins(path, name, desk) and _is_packed_twice(path, format_of(title, options.format)):
        path = _copy(desk, name, gzip.open, path)
    kind = _compression(path, title, fetched=origin is None)
    if kind == "bz2":
        path = _copy(desk, name, bz2.open, path)
        kind = _by_magic(path)
    found = format_of(title, options.format)
    if kind == "zip" and found != "excel":
        if is_member:
            raise stream_error(desk.plan, f"{name} is an archive in an archive.", "Unpack the outer one.")
        return _members(desk, name, path, fingerprint, members, origin)
    if is_archive(title) and not options.format:
        raise stream_error(desk.plan, f"{name} is no readable zip archive.")
    if found is None:
        hint = "Set `format: csv` on the stream."
        raise stream_error(desk.plan, f"{name}: the format cannot be told from the name.", hint)
    if kind == "gz" and found not in _TEXTS and origin is None:
        path = _copy(desk, name, gzip.open, path)
    elif kind in ("gz", "zst") and origin is None:
        path = path.rename(path.with_name(f"{path.name[:6]}.{kind}"))  # DuckDB goes by the suffix
    if found == "excel":
        return [
            DataFile(sheet.path, sheet.name, sheet.path.stat().st_size, fingerprint, "excel", origin, sheet.lines)
            for sheet in excel.convert(desk, name, path)
        ]
    return [DataFile(path, name, path.stat().st_size, fingerprint, found, origin)]


def list_members(desk: Desk, name: str, path: Path, members: str = "") -> list[str]:
    """The names of the files in an archive that are wanted. Raises LoadError where there is none, or it is damaged."""
    with _opened(desk, name, path) as archive:
        return [info.filename for info in _wanted(desk, name, archive, members)]


def _members(
    desk: Desk, name: str, path: Path, fingerprint: Sequence[Any], members: str, origin: Path | None
) -> list[DataFile]:
    files: list[DataFile] = []
    with _opened(desk, name, path) as archive:
        wanted = _wanted(desk, name, archive, members)
        _check_room(desk, name, sum(info.file_size for info in wanted))
        for info in wanted:
            member = f"{name}/{info.filename}"
            if info.flag_bits & 1:
                raise stream_error(desk.plan, f"{member} is encrypted.", "Unpack the archive, and name its files.")
            if info.file_size == 0:
                raise stream_error(desk.plan, f"{member} is empty: 0 bytes, not even a header.")
            copy = _copy(desk, member, archive.open, info)
            files += unpack(desk, member, copy, fingerprint, title=info.filename)
    if origin is None:
        path.unlink()
    else:  # what was unpacked is only right if the archive did not change meanwhile
        files = [replace(file, origin=origin) for file in files]
    return files


@contextmanager
def _opened(desk: Desk, name: str, path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:  # also of names that are none
        raise stream_error(desk.plan, f"{name} is no readable zip archive: {error}.") from error
    with archive:
        yield archive


def _wanted(desk: Desk, name: str, archive: zipfile.ZipFile, members: str) -> list[zipfile.ZipInfo]:
    pattern = path_regex(members) if members else None
    found = []
    for info in archive.infolist():
        steps = info.filename.replace("\\", "/").split("/")
        if ".." in steps or info.filename.startswith(("/", "\\")) or re.match("[A-Za-z]:", info.filename):
            message = f"{name} holds {info.filename!r}, a name that leads out of the archive."
            raise stream_error(desk.plan, message, "Do not trust it; have it made anew.")
        if info.is_dir():
            continue
        hidden = steps[0] == "__MACOSX" or steps[-1].startswith(".")
        readable = format_of(info.filename, desk.plan.options.format) is not None
        if pattern.fullmatch(info.filename) if pattern else readable and not hidden:
            found.append(info)
    if not found:
        what = f"No file in {name} matches {members}" if members else f"{name} holds no file of a known format"
        holds = ", ".join(archive.namelist()[:10]) or "nothing"
        raise stream_error(desk.plan, f"{what}.", f"It holds {holds}. Name files: {name.rpartition('/')[2]}/*.csv")
    refuse_twins(desk.plan, name, "files", [info.filename for info in found])
    return sorted(found, key=lambda info: info.filename)


def _check_room(desk: Desk, name: str, size: int) -> None:
    free = shutil.disk_usage(desk.folder).free
    if size + _SPARE_BYTES > free:
        message = f"{name} needs {size:,} bytes unpacked, and the warehouse's disk has {free:,} left."
        raise stream_error(desk.plan, message, "Free some space, then run again.")


def _begins(path: Path, name: str, desk: Desk) -> bool:
    if _by_magic(path) == "gz":
        return True
    raise stream_error(desk.plan, f"{name}: the server says that it packed the file with gzip, and did not.")


def _is_packed_twice(path: Path, found: str | None) -> bool:
    """Whether what is in the gzip file must come out of it: DuckDB reads text from it, and nothing else."""
    with gzip.open(path) as file:
        return found not in _TEXTS or bool(_kind_of(file.read(16)))


def _by_magic(path: Path) -> str:
    with path.open("rb") as file:
        return _kind_of(file.read(16))


def _kind_of(head: bytes) -> str:
    if head.startswith(b"\x1f\x8b\x08"):
        return "gz"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zst"
    if re.match(rb"BZh[1-9]1AY&SY", head):
        return "bz2"
    return "zip" if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) else ""


def _compression(path: Path, name: str, *, fetched: bool) -> str:
    """How a file is packed. The name of a fetched one says little: servers unpack files on the way."""
    if fetched:
        return _by_magic(path)
    suffix = Path(name).suffix.lower()
    return {".gz": "gz", ".zst": "zst", ".zstd": "zst", ".bz2": "bz2", ".zip": "zip"}.get(suffix, "")


def _copy(desk: Desk, name: str, opener: Any, packed_file: Any) -> Path:
    """Write what comes out of a packed file into the scratch folder. `opener` opens it."""
    target = desk.new_file()
    try:
        with opener(packed_file) as packed:
            _write(desk, name, packed, target)
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise _damaged(desk, name, error) from error
    except (NotImplementedError, RuntimeError) as error:
        raise stream_error(desk.plan, f"{name} is packed in a way that cannot be read: {error}.") from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # a damaged archive leads to places that are not in the file
            raise _damaged(desk, name, error) from error
        raise disk_error(desk.plan, name, error) from error
    return target


def _write(desk: Desk, name: str, packed: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        size = 0
        while block := packed.read(_BLOCK):
            desk.check_stopped()
            file.write(block)
            size += len(block)
    if size == 0:
        raise stream_error(desk.plan, f"{name} is empty: 0 bytes, not even a header.")


def _damaged(desk: Desk, name: str, error: Exception) -> LoadError:
    return stream_error(desk.plan, f"{name} is damaged: {error}.", "Fetch or write it anew; no row was loaded.")
