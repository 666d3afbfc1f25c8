"""Object stores: finding and fetching objects of S3, Google Cloud Storage and Azure, by ``obstore``."""

from __future__ import annotations

import asyncio
import glob
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connectors.data_file import stream_error
from smoll.connectors.fetch import Desk, disk_error
from smoll.connectors.places import Place, empty_file, path_regex, split_archive
from smoll.errors import LoadError

if TYPE_CHECKING:
    from smoll.project import FilesSource

_AT_ONCE = 8
_BLOCK = 1 << 20
_CLIENT = (  # keys of obstore's ClientConfig that a project may set; the rest belongs to the store itself
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "http1_only",
    "http2_only",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "read_timeout",
    "root_certificate",
    "timeout",
    "user_agent",
)


def find(desk: Desk, source: FilesSource, pattern: str) -> list[Place]:
    """List the objects that a URL or pattern leads to. Raises LoadError where there are none, or no way to ask."""
    scheme, _, rest = pattern.partition("://")
    bucket, _, whole = rest.partition("/")
    store = _store(desk, source, scheme, bucket)
    base = f"{scheme}://{bucket}/"
    members = ""
    found = _ask(desk, base + whole, _matching(store, whole))
    if not found:
        archive, members = split_archive(whole)
        found = _ask(desk, base + archive, _matching(store, archive)) if members else []
    if not found:
        what = "No object matches" if glob.has_magic(whole) else "There is no object"
        raise stream_error(desk.plan, f"{what} {pattern}.", "Check `path` in smoll.yml, and what `storage` may list.")
    empty = [meta["path"] for meta in found if meta["size"] == 0]
    if empty:
        raise empty_file(desk.plan, base + empty[0])
    return [
        Place(base + meta["path"], base + meta["path"], _fingerprint(meta), members, int(meta["size"]))
        for meta in found
    ]


async def _matching(store: Any, key: str) -> list[Mapping[str, Any]]:
    import obstore

    if glob.has_magic(key):
        prefix = re.split(r"[*?\[]", key, maxsplit=1)[0].rpartition("/")[0]
        wanted, found = path_regex(key), []
        async for batch in obstore.list(store, prefix=prefix or None, chunk_size=1000):
            found += [meta for meta in batch if wanted.fullmatch(meta["path"])]
        # A folder that somebody made by hand in a web console is an object without bytes.
        folders = {meta["path"].rpartition("/")[0] for meta in found}
        found = [meta for meta in found if meta["size"] or meta["path"] not in folders]
        if found:
            return sorted(found, key=lambda meta: str(meta["path"]))
    try:
        return [await obstore.head_async(store, key)]
    except FileNotFoundError:
        return []


def _fingerprint(meta: Mapping[str, Any]) -> list[Any]:
    return [meta["e_tag"] or meta["last_modified"].isoformat(), int(meta["size"])]


def fetch(desk: Desk, source: FilesSource, places: Sequence[Place]) -> dict[str, tuple[Path, list[Any]]]:
    """Fetch objects, several at a time. Returns for each name its copy, and the fingerprint of what was fetched."""
    stores: dict[str, Any] = {}
    jobs = []
    for place in places:
        scheme, _, rest = str(place.where).partition("://")
        bucket, _, key = rest.partition("/")
        base = f"{scheme}://{bucket}"
        if base not in stores:
            stores[base] = _store(desk, source, scheme, bucket)
        jobs.append((place.name, stores[base], key, desk.new_file()))

    async def all_of_them() -> list[list[Any]]:
        gate = asyncio.Semaphore(_AT_ONCE)
        tasks = [asyncio.ensure_future(_fetch_one(desk, gate, *job)) for job in jobs]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    fingerprints = desk.in_loop(all_of_them())
    return {job[0]: (job[3], fingerprint) for job, fingerprint in zip(jobs, fingerprints, strict=True)}


async def _fetch_one(desk: Desk, gate: asyncio.Semaphore, name: str, store: Any, key: str, target: Path) -> list[Any]:
    import obstore
    from obstore.exceptions import BaseError

    async with gate:
        try:
            answer = await obstore.get_async(store, key)
            with target.open("wb") as file:
                async for block in answer.stream(min_chunk_size=_BLOCK):
                    file.write(block)
                    desk.fetched(len(block))
        except (BaseError, FileNotFoundError, PermissionError) as error:
            raise _explain(desk, name, error) from error
        except OSError as error:
            raise disk_error(desk.plan, name, error) from error
        meta = answer.meta
        if target.stat().st_size != meta["size"]:
            raise stream_error(
                desk.plan, f"{name} has {meta['size']} bytes, but {target.stat().st_size} came.", "Run again."
            )
        return _fingerprint(meta)


def _ask(desk: Desk, name: str, work: Any) -> list[Mapping[str, Any]]:
    from obstore.exceptions import BaseError

    try:
        return list(desk.in_loop(work))
    except (BaseError, OSError) as error:
        raise _explain(desk, name, error) from error


def _store(desk: Desk, source: FilesSource, scheme: str, bucket: str) -> Any:
    options = {name: value.get_secret_value() for name, value in source.storage.items()}
    try:
        return open_store(scheme, bucket, options)
    except ImportError as error:
        message = f"{scheme}:// needs a package that is not installed."
        raise stream_error(desk.plan, message, "pip install 'smoll[cloud]'") from error
    except ValueError as error:
        message = f"{scheme}://{bucket} cannot be reached with this `storage`: {error}"
        raise stream_error(desk.plan, message, "Its keys: https://developmentseed.org/obstore/latest/") from error


def open_store(scheme: str, bucket: str, options: Mapping[str, str]) -> Any:
    """A bucket (``s3``, ``gs``) or container (``az``), by obstore. What the options do not say, the environment does.

    Raises ImportError without obstore, and ValueError where the options are wrong.
    """
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    options = {name.lower(): value for name, value in options.items()}
    client: dict[str, Any] = {"connect_timeout": "10 s", "read_timeout": "60 s"}
    client["timeout"] = "7 days"  # of a whole object; the default of 30 seconds would end every large one
    client["allow_http"] = "true"  # stores are asked by https, unless somebody names an endpoint of http
    client |= {name: value for name, value in options.items() if name in _CLIENT}
    config = {name: value for name, value in options.items() if name not in _CLIENT}
    kind: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
    retries = {"max_retries": 5, "retry_timeout": timedelta(minutes=2)}
    try:
        return kind(bucket, config=config, client_options=client, retry_config=retries)
    except (BaseError, ValueError, TypeError) as error:
        raise ValueError(reason_of(error)) from error


def _explain(desk: Desk, name: str, error: Exception) -> LoadError:
    hint = "Check `path`, and the credentials in `storage` or the environment."
    if "empty path segment" in str(error):
        hint = "A key with two slashes in a row cannot be listed: rename the object, or name another folder in `path`."
    if isinstance(error, FileNotFoundError):
        return stream_error(desk.plan, f"There is no object {name}.", "Check `path` in smoll.yml.")
    return stream_error(desk.plan, f"{name} cannot be read: {reason_of(error)}", hint)


def reason_of(error: Exception) -> str:
    """What the store said, in one line, without the query of a URL: it may be signed."""
    text = str(error)
    code, message = (re.search(f"<{tag}>([^<]*)</{tag}>", text) for tag in ("Code", "Message"))
    if code:
        return f"{code[1]}: {message[1] if message else ''}".rstrip(" :.") + "."
    return re.sub(r"\?\S+", "", text.splitlines()[0] if text else type(error).__name__)[:300]
