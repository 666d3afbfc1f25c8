"""The file that a backup is: a tar in zstd, encrypted where there is a passphrase, on a disk or in an object store.

The tar begins with ``backup.json`` (what it is) and ends with ``index.json`` (a SHA-256 of each member before it), so
that one that was cut off is known as such. The project's files lie in ``project/``.

An encrypted one is a libsodium secretstream: `_MAGIC`, the salt and the costs of Argon2id, the stream's header, and
frames of `_FRAME` bytes of the rest, the last one tagged as such. It takes the memory of one frame, and for a moment
the 256 MB of Argon2id.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from backports import zstd

from smoll.connectors.stores import open_store, reason_of
from smoll.errors import BackupError, UsageError
from smoll.state.layout import fsync_path

SUFFIX, ENCRYPTED = ".smoll.tar.zst", ".enc"
PASSPHRASE = "SMOLL_BACKUP_PASSPHRASE"  # noqa: S105  # a name
FORMAT = 1
ABOUT, INDEX, ROOT = "backup.json", "index.json", "project/"
_BLOCK = 1 << 20
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAGIC = b"smoll backup, encrypted, 1\n"
_HEAD = struct.Struct("<16sII")  # Argon2id: salt, passes, MiB
_PASSES, _MEMORY = 3, 256  # libsodium's "moderate"
_MOST_PASSES, _MOST_MEMORY = 16, 1024  # who names more than this wants the reader to fall over
_FRAME = 1 << 16
_SCHEMES = ("s3", "gs", "az")
_PART, _PARTS_AT_ONCE = 16 << 20, 4
_MOST_PARTS = 9_000  # of the 10,000 that S3 allows


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object: ...


class Source(Protocol):
    """Where bytes come from: as many as asked for, and less only at the end."""

    def read(self, size: int, /) -> bytes: ...


# --- the tar


class Packer:
    """Writes the members of a backup, one after another, and at the end the index of them.

    Parameters
    ----------
    written
        Called with the number of bytes of the members' content, as they are written.
    """

    def __init__(self, sink: Sink, written: Callable[[int], None]) -> None:
        self._sink = sink
        self._written = written
        self._index: dict[str, str] = {}

    def add_text(self, name: str, text: str) -> None:
        data = text.encode()
        self._add(tarfile.TarInfo(name), io.BytesIO(data), len(data))

    def add_folder(self, name: str, path: Path) -> None:
        info = _info(name, path.lstat())
        info.type = tarfile.DIRTYPE
        self._sink.write(_header(info))

    def add_link(self, name: str, target: str) -> None:
        """A symbolic link."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._sink.write(_header(info))
        self._index[name] = f"-> {target}"

    def add_file(self, name: str, path: Path) -> int:
        """Add a file with the size that it has when it is opened. Returns its bytes.

        Raises
        ------
        FileNotFoundError
            It is gone; nothing was written.
        BackupError
            It cannot be read, or became shorter.
        """
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(path, error) from error
        with file:
            stat = os.fstat(file.fileno())
            try:
                self._add(_info(name, stat), file, stat.st_size)
            except OSError as error:
                raise _unreadable(path, error) from error
            except EOFError as error:
                raise BackupError(
                    f"{path} became shorter while it was copied.", hint="Make the backup again."
                ) from error
        return stat.st_size

    def _add(self, info: tarfile.TarInfo, file: IO[bytes], size: int) -> None:
        info.size = size
        self._sink.write(_header(info))
        digest, left = hashlib.sha256(), size
        while left:
            block = file.read(min(left, _BLOCK))
            if not block:
                raise EOFError
            digest.update(block)
            self._sink.write(block)
            self._written(len(block))
            left -= len(block)
        self._sink.write(b"\0" * (-size % tarfile.BLOCKSIZE))
        self._index[info.name] = digest.hexdigest()

    def finish(self) -> None:
        """Write the index and the end."""
        self.add_text(INDEX, json.dumps(self._index, indent=0))
        self._sink.write(b"\0" * 2 * tarfile.BLOCKSIZE)


def _info(name: str, stat: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = stat.st_mode & 0o777
    seconds, rest = divmod(stat.st_mtime_ns, 10**9)
    # Streams of files know theirs by size and time, to the nanosecond.
    info.mtime, info.pax_headers = seconds, {"mtime": f"{seconds}.{rest:09}"}
    return info


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def mtime_of(info: tarfile.TarInfo) -> int:
    """When a member was changed, in nanoseconds."""
    seconds, _, rest = str(info.pax_headers.get("mtime", int(info.mtime))).partition(".")
    return int(seconds) * 10**9 + int(rest[:9].ljust(9, "0"))


def _unreadable(path: Path, error: OSError) -> BackupError:
    return BackupError(f"Cannot read {path}: {error.strerror or error}.", hint="Make it readable, then try again.")


# --- compression


class Compressor:
    """Compresses what is written to it and writes that to `sink`. DuckDB's files lose four tenths to it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._zstd = zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})

    def write(self, data: bytes) -> None:
        self._sink.write(self._zstd.compress(data))

    def finish(self) -> None:
        """Write the end."""
        self._sink.write(self._zstd.flush())


class _Decompressor:
    """Reads what a `Compressor` has written."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._zstd = zstd.ZstdDecompressor()
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and not self._zstd.eof:
            block = self._source.read(_BLOCK) if self._zstd.needs_input else b""
            if self._zstd.needs_input and not block:
                raise damaged("it is cut off")
            try:
                self._ready += self._zstd.decompress(block, max_length=_BLOCK)
            except zstd.ZstdError as error:
                raise damaged("a part of it is not what was written") from error
        return _take(self._ready, size)


# --- encryption


class Encryptor:
    """Encrypts what is written to it and writes that to `sink`. Raises UsageError without PyNaCl."""

    def __init__(self, sink: Sink, passphrase: str) -> None:
        self._stream: Any = _library()
        self._sink = sink
        self._pending = bytearray()
        costs = _HEAD.pack(os.urandom(16), _PASSES, _MEMORY)
        self._head = _MAGIC + costs
        self._state = self._stream.crypto_secretstream_xchacha20poly1305_state()
        key = _key(passphrase, costs)
        sink.write(self._head + self._stream.crypto_secretstream_xchacha20poly1305_init_push(self._state, key))

    def write(self, data: bytes) -> None:
        self._pending += data
        end = (len(self._pending) - 1) // _FRAME * _FRAME  # something always stays for the last frame
        for place in range(0, end, _FRAME):
            self._push(bytes(self._pending[place : place + _FRAME]), 0)
        if end > 0:
            del self._pending[:end]

    def finish(self) -> None:
        """Write the last frame."""
        self._push(bytes(self._pending), self._stream.crypto_secretstream_xchacha20poly1305_TAG_FINAL)

    def _push(self, frame: bytes, tag: int) -> None:
        push = self._stream.crypto_secretstream_xchacha20poly1305_push
        self._sink.write(push(self._state, frame, self._head, tag))


class _Decryptor:
    """Reads what an `Encryptor` has written; `source` is behind the magic."""

    def __init__(self, source: Source, passphrase: str) -> None:
        self._stream: Any = _library()
        self._source = source
        self._ready = bytearray()
        self._is_first, self._is_last = True, False
        costs = source.read(_HEAD.size)
        header = source.read(self._stream.crypto_secretstream_xchacha20poly1305_HEADERBYTES)
        if len(header) != self._stream.crypto_secretstream_xchacha20poly1305_HEADERBYTES:
            raise damaged("it is cut off")
        self._head = _MAGIC + costs
        self._state = self._stream.crypto_secretstream_xchacha20poly1305_state()
        self._stream.crypto_secretstream_xchacha20poly1305_init_pull(self._state, header, _key(passphrase, costs))

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and not self._is_last:
            self._ready += self._pull()
        return _take(self._ready, size)

    def _pull(self) -> bytes:
        from nacl.exceptions import CryptoError

        frame = self._source.read(_FRAME + self._stream.crypto_secretstream_xchacha20poly1305_ABYTES)
        if not frame:
            raise damaged("it is cut off")
        try:
            pull = self._stream.crypto_secretstream_xchacha20poly1305_pull
            plain, tag = pull(self._state, frame, self._head)
        except (CryptoError, ValueError) as error:
            if self._is_first:
                raise BackupError(
                    f"The backup cannot be decrypted: {PASSPHRASE} is another one than it was made with, or the file "
                    "is damaged."
                ) from error
            raise damaged("a part of it is not what was written, or it is cut off") from error
        self._is_first = False
        self._is_last = tag == self._stream.crypto_secretstream_xchacha20poly1305_TAG_FINAL
        return bytes(plain)


def _key(passphrase: str, costs: bytes) -> bytes:
    from nacl import pwhash

    salt, passes, memory = _HEAD.unpack(costs)
    if not (1 <= passes <= _MOST_PASSES and 1 <= memory <= _MOST_MEMORY):
        raise damaged("its costs of decryption are out of bounds")
    return bytes(pwhash.argon2id.kdf(32, passphrase.encode(), salt, opslimit=passes, memlimit=memory << 20))


def _library() -> Any:
    try:
        from nacl import bindings
    except ImportError as error:
        raise UsageError(
            f"{PASSPHRASE} is set, and encryption needs a package that is not installed.",
            hint="Install it with: pip install 'smoll[backup]'",
        ) from error
    return bindings


def passphrase_of(dotenv: Mapping[str, str] | None) -> str | None:
    """The passphrase for backups, of the environment or else of a project's ``.env``; None without one."""
    return os.environ.get(PASSPHRASE) or (dotenv or {}).get(PASSPHRASE) or None


def unpacked(source: Source, passphrase: str | None) -> Source:
    """The tar in a backup, encrypted or not.

    Raises
    ------
    BackupError
        It is no backup, its passphrase is missing or wrong, or the file is cut off.
    """
    head = source.read(len(_MAGIC))
    if head.startswith(_ZSTD):
        return _Decompressor(_Again(head, source))
    if head != _MAGIC:
        raise BackupError("This is no backup of smoll.", hint="`smoll backup` makes one.")
    if not passphrase:
        raise BackupError(
            "The backup is encrypted.", hint=f"Give its passphrase in the environment variable {PASSPHRASE}."
        )
    return _Decompressor(_Decryptor(source, passphrase))


def _take(ready: bytearray, size: int) -> bytes:
    data = bytes(ready[:size])
    del ready[:size]
    return data


class _Again:
    """A source whose first bytes have been read."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head + self._source.read(size - len(head)) if len(head) < size else head


def damaged(reason: str) -> BackupError:
    """The error of a backup that is not as it was written."""
    return BackupError(f"The backup is damaged: {reason}.", hint="Restore another one.")


# --- places


def place_for(target: str, name: str) -> str:
    """Where the backup goes: the file or object of this name, or `name` in a folder.

    An object store's ``s3://bucket/prefix/`` is a folder, as its end says.

    Raises
    ------
    UsageError
        The folder is missing, or there is such a file already.
    """
    if "://" in target:
        bucket, key = _bucket_and_key(target)[1:]
        if not key or target.endswith("/"):
            return f"{target.rstrip('/')}/{name}" if key else f"{target.partition('://')[0]}://{bucket}/{name}"
        return target
    path = Path(target).absolute()
    if target.endswith("/") or path.is_dir():
        path = path / name
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.", hint="Make it, or mount its disk, then try again.")
    if path.exists():
        raise UsageError(f"{path} exists already.", hint="Name another file, or a folder.")
    return str(path)


@contextmanager
def creating(place: str, size: int, options: Mapping[str, str]) -> Iterator[Sink]:
    """Give a sink for a backup of about `size` bytes; at the end of the block it is at its place, whole, or not at all.

    Raises
    ------
    BackupError
        It cannot be written.
    UsageError
        The package for object stores is not installed, or there is such an object already.
    """
    make = _new_object(place, size, options) if "://" in place else _new_file(Path(place))
    with make as sink:
        yield sink


@contextmanager
def _new_file(path: Path) -> Iterator[Sink]:
    remove_abandoned(path.parent, f".*{SUFFIX}*.tmp")
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # alive; see `remove_abandoned`
        yield _FileSink(handle, path)
        try:
            os.fsync(handle)
            staged.rename(path)
            fsync_path(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from error
    except BaseException:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


class _FileSink:
    """A file, whose errors are errors of the backup."""

    def __init__(self, handle: int, path: Path) -> None:
        self._handle = handle
        self._path = path

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            raise _unwritable(self._path, error) from error


def remove_abandoned(folder: Path, pattern: str) -> list[Path]:
    """Remove files and folders that somebody was making who is dead: nobody holds a lock on them. Returns them."""
    gone = []
    for path in folder.glob(pattern):
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                gone.append(path)
            finally:
                os.close(handle)
    return gone


def _unwritable(path: Path, error: OSError) -> BackupError:
    return BackupError(
        f"Cannot write {path}: {error.strerror or error}.", hint="Free some space, or name another place."
    )


@contextmanager
def _new_object(place: str, size: int, options: Mapping[str, str]) -> Iterator[Sink]:
    """An object appears when its upload is completed; one that is not leaves nothing under its name."""
    store, key = _store(place, options)
    import obstore
    from obstore.exceptions import BaseError

    with suppress(BaseError, OSError):  # it is not there; or who writes may not look
        obstore.head(store, key)
        raise UsageError(f"{place} exists already.", hint="Name another object, or a prefix that ends with /.")
    part = max(_PART, size // _MOST_PARTS)
    sink = _ObjectSink(obstore.open_writer(store, key, buffer_size=part, max_concurrency=_PARTS_AT_ONCE), place)
    yield sink
    sink.close()


class _ObjectSink:
    """An object's upload, whose errors are errors of the backup."""

    def __init__(self, writer: Any, place: str) -> None:
        self._writer = writer
        self._place = place

    def write(self, data: bytes) -> None:
        self._try(self._writer.write, data)

    def close(self) -> None:
        self._try(self._writer.close)

    def _try(self, work: Callable[..., object], *arguments: object) -> None:
        from obstore.exceptions import BaseError

        try:
            work(*arguments)
        except (BaseError, OSError) as error:
            raise BackupError(
                f"{self._place} cannot be written: {reason_of(error)}", hint="Check the bucket, and the credentials."
            ) from error


@contextmanager
def reading(place: str) -> Iterator[tuple[Source, int]]:
    """Open a backup for reading; the second value is its size in bytes.

    Raises
    ------
    UsageError
        There is no such file, or the package for object stores is not installed.
    BackupError
        It cannot be read.
    """
    if "://" in place:
        yield _open_object(place)
        return
    path = Path(place)
    if path.is_dir():
        found = sorted(each.name for each in path.glob(f"*{SUFFIX}*"))
        raise UsageError(
            f"{path} is a folder.", hint=f"The last one in it is {found[-1]}." if found else "Name a file."
        )
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
    with file:
        yield file, os.fstat(file.fileno()).st_size


def _open_object(place: str) -> tuple[Source, int]:
    store, key = _store(place, {})
    import obstore
    from obstore.exceptions import BaseError

    try:
        answer = obstore.get(store, key)
        return _ObjectSource(place, iter(answer.stream(min_chunk_size=_BLOCK))), int(answer.meta["size"])
    except FileNotFoundError as error:
        raise UsageError(f"There is no object {place}.") from error
    except (BaseError, OSError) as error:
        raise _object_unreadable(place, error) from error


class _ObjectSource:
    """The blocks of an object as one stream."""

    def __init__(self, place: str, blocks: Iterator[Any]) -> None:
        self._place = place
        self._blocks = blocks
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        from obstore.exceptions import BaseError

        try:
            while len(self._ready) < size and (block := next(self._blocks, None)) is not None:
                self._ready += memoryview(block)
        except (BaseError, OSError) as error:
            raise _object_unreadable(self._place, error) from error
        return _take(self._ready, size)


def _object_unreadable(place: str, error: Exception) -> BackupError:
    return BackupError(f"{place} cannot be read: {reason_of(error)}", hint="Check the name, and the credentials.")


def _store(place: str, options: Mapping[str, str]) -> tuple[Any, str]:
    scheme, bucket, key = _bucket_and_key(place)
    try:
        return open_store(scheme, bucket, options), key
    except ImportError as error:
        raise UsageError(
            f"{scheme}:// needs a package that is not installed.", hint="Install it with: pip install 'smoll[cloud]'"
        ) from error
    except ValueError as error:
        raise BackupError(f"{scheme}://{bucket} cannot be reached: {error}") from error


def _bucket_and_key(place: str) -> tuple[str, str, str]:
    scheme, _, rest = place.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in _SCHEMES or not bucket:
        raise UsageError(f"{place} is no place for a backup.", hint="Name a folder, a file, or s3://bucket/prefix/.")
    return scheme, bucket, key
