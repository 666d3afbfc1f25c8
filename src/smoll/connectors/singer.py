"""Sources of kind ``singer``: any Singer tap, as a process that writes messages (https://hub.meltano.com/singer/spec).

The tap's catalog says which streams there are; it is asked for at every load, and what it said last stands in for it
where only the streams' names are needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connector import Extract, Reading, StreamPlan
from smoll.connectors.environment import Program, find_program
from smoll.connectors.messages import Config, kept, plain, read_kept, scratch, write_json
from smoll.connectors.process import answer
from smoll.connectors.singer_reader import SingerReader
from smoll.connectors.sync import (
    FRESH,
    Session,
    Slices,
    attach,
    chooses,
    hidden_fields,
    planned,
    require_key,
    still_there,
    sync,
)
from smoll.errors import LoadError
from smoll.model import StreamRef
from smoll.project import EVERY, SingerSource, SingerStream

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["attach", "check", "discover", "extract_all", "read_about", "read_catalog"]

_OPTIONS = ("--catalog", "--properties", "--state", "--discover", "--about")
_USUAL = ("--catalog", "--state", "--discover")
_HELP_SECONDS = 120
_METHODS = ("FULL_TABLE", "INCREMENTAL", "LOG_BASED")


# --- what the tap says of itself ------------------------------------------------------------------------------------


def read_catalog(name: str, source: SingerSource, root: Path) -> dict[str, Any]:
    """Ask the tap for its catalog, or read the file that the source names. What it says is kept for `discover`.

    Raises
    ------
    LoadError
        The tap failed, or what it wrote is no catalog.
    """
    program = find_program(name, source, root)
    if source.catalog is not None:
        found = _catalog_file(name, root / source.catalog)
    elif "--discover" not in _options(name, program, root):
        raise LoadError(
            f"{name}: {program.label} cannot be asked for its streams.",
            hint="Name them under `streams` in smoll.yml, or name a file with its `catalog`.",
        )
    else:
        with scratch(root) as folder:
            config = Config(name, source.config, root, folder)
            command = [*program.command, "--config", str(config.path), "--discover"]
            code, lines, words = answer(command, root, name, timeout=source.timeout_seconds)
            config.keep()
        if code != 0:
            raise LoadError(
                f"{name}: {program.label} could not say which streams it has (exit code {code}).{words}",
                hint="Check `config` of the source; `smoll connectors spec` shows what the tap takes.",
            )
        found = _parsed(name, program, b"\n".join(lines))
    write_json(kept(program, "catalog", [plain(source.config), source.catalog]), found)
    return found


def read_about(name: str, source: SingerSource, root: Path) -> dict[str, Any] | None:
    """What the tap says of its settings; None where it is none of the taps that can say it (Meltano's SDK can)."""
    program = find_program(name, source, root)
    if "--about" not in _options(name, program, root):
        return None
    code, lines, _ = answer([*program.command, "--about", "--format=json"], root, name, timeout=_HELP_SECONDS)
    try:
        found = json.loads(b"\n".join(lines)) if code == 0 else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _options(name: str, program: Program, root: Path) -> Sequence[str]:
    """The options that the tap's help names. Taps that have no help are taken for usual ones."""
    path = kept(program, "help", None)
    found = read_kept(path)
    if not isinstance(found, list):
        code, lines, words = answer([*program.command, "--help"], root, name, timeout=_HELP_SECONDS)
        text = b" ".join(lines).decode("utf-8", "replace") + words
        found = [option for option in _OPTIONS if option in text] if code == 0 else []
        write_json(path, found)
    return found or _USUAL


def _parsed(name: str, program: Program, text: bytes) -> dict[str, Any]:
    """The catalog in what a tap wrote; some write a line of talk before it."""
    for start in [0, text.find(b"\n{") + 1]:
        try:
            found = json.loads(text[start:])
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("streams"), list):
            return found
    raise LoadError(
        f"{name}: what {program.label} wrote is no catalog: {text[:200].decode('utf-8', 'replace')!r}.",
        hint="Name a file with its catalog: catalog: catalog.json.",
    )


def _catalog_file(name: str, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{name}: cannot read the catalog {path.name}: {error}.", hint="Check `catalog`.") from error
    if not isinstance(found, dict) or not isinstance(found.get("streams"), list):
        raise LoadError(f"{name}: {path.name} is no catalog: it has no list of streams.", hint="Check `catalog`.")
    return found


# --- the streams ----------------------------------------------------------------------------------------------------


def discover(
    name: str, source: SingerSource, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
) -> tuple[StreamPlan, ...]:
    """Return the chosen streams of the tap's catalog, as it said it last; asked for where it never did.

    Where the tap fails, the streams of earlier runs are taken: a run that loads nothing from it goes on, one that does
    says why it cannot.
    """
    try:
        program = find_program(name, source, root)
        catalog = read_kept(kept(program, "catalog", [plain(source.config), source.catalog]))
        return _plans(name, source, catalog or {**_catalog_or_names(name, source, root), FRESH: True})
    except LoadError:
        if not known:
            raise
        return tuple(_plan(name, source, {"tap_stream_id": stream}) for stream in known)


def _catalog_or_names(name: str, source: SingerSource, root: Path) -> dict[str, Any]:
    """The tap's catalog; of a tap that has none, the streams that the configuration names."""
    named = [stream for stream in source.streams if stream != EVERY]
    if source.catalog is None and named == list(source.streams):
        program = find_program(name, source, root)
        if "--discover" not in _options(name, program, root):
            return {"streams": [{"tap_stream_id": stream} for stream in named]}
    return read_catalog(name, source, root)


def _plans(name: str, source: SingerSource, catalog: Mapping[str, Any]) -> tuple[StreamPlan, ...]:
    entries = {_id(entry): entry for entry in catalog["streams"] if isinstance(entry, Mapping)}
    missing = [stream for stream in source.streams if stream != EVERY and stream not in entries]
    if missing:
        raise LoadError(
            f"{name}: the tap has no stream {missing[0]!r}.", hint=f"It has: {', '.join(entries) or 'none'}."
        )
    fresh = FRESH in catalog
    plans = tuple(_plan(name, source, entry, fresh) for stream, entry in entries.items() if chooses(source, stream))
    if not plans:
        raise LoadError(
            f"{name}: `streams`, `select` and `exclude` leave no stream.",
            hint=f"The tap has: {', '.join(entries) or 'none'}.",
        )
    return plans


def _id(entry: Mapping[str, Any]) -> str:
    return str(entry.get("tap_stream_id") or entry.get("stream") or "")


def _plan(name: str, source: SingerSource, entry: Mapping[str, Any], fresh: bool = False) -> StreamPlan:
    """The plan of a stream: its options, and for what they leave out what the catalog says."""
    stream = _id(entry)
    ref = StreamRef(name, stream)
    options = source.streams.get(stream) or source.streams.get(EVERY) or SingerStream()
    own = _metadata_of(entry)
    method = _method(options, entry, own)
    key = tuple(options.key) or tuple(
        entry.get("key_properties") or own.get("table-key-properties") or own.get("view-key-properties") or ()
    )
    mode = options.mode or ("replace" if method == "FULL_TABLE" else "merge" if key else "append")
    require_key(ref, mode, key, "tap")
    cursor = options.cursor or own.get("replication-key") or entry.get("replication_key")
    about = {"method": method, "cursor": cursor, "full": method == "FULL_TABLE", FRESH: fresh}
    about["kept"] = [*key, *([cursor] if cursor else [])]
    return planned(source, ref, options, mode, key, about)


def _method(options: SingerStream, entry: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """How the stream is replicated: as asked; else as the tap says; else all of it, which is never wrong."""
    if options.replication is not None:
        return options.replication.upper()
    said = own.get("forced-replication-method") or own.get("replication-method") or entry.get("replication_method")
    said = said.get("replication-method") if isinstance(said, Mapping) else said
    is_forced = bool(own.get("forced-replication-method"))
    if said in _METHODS and (is_forced or said != "FULL_TABLE" or not options.cursor):
        return str(said)
    if not entry.keys() & {"schema", "metadata"} and options.mode not in (None, "replace"):
        return "INCREMENTAL"  # nothing is known of the stream: the tap has no catalog, and goes on from its state
    cursor = options.cursor or own.get("replication-key") or entry.get("replication_key")
    return "INCREMENTAL" if cursor else "FULL_TABLE"


def _metadata_of(entry: Mapping[str, Any], path: Sequence[str] = ()) -> dict[str, Any]:
    """The metadata of a stream, or of what `path` leads to."""
    listed = entry.get("metadata")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, Mapping) and list(each.get("breadcrumb") or ()) == list(path):
            return dict(each.get("metadata") or {})
    return {}


def _selected(entry: Mapping[str, Any], plan: StreamPlan | None, source: SingerSource) -> dict[str, Any]:
    """A catalog entry with the choice of stream and fields, in all of the ways in which taps look for it."""
    chosen = deepcopy(dict(entry))
    metadata = {tuple(each.get("breadcrumb") or ()): dict(each.get("metadata") or {}) for each in _listed(chosen)}
    own = metadata.setdefault((), {})
    own["selected"] = chosen["selected"] = plan is not None
    schema = chosen.get("schema")
    if isinstance(schema, dict):
        schema["selected"] = plan is not None
    if plan is None:
        chosen["metadata"] = [{"breadcrumb": list(path), "metadata": each} for path, each in metadata.items()]
        return chosen
    method, cursor = plan.about["method"], plan.about["cursor"]
    own["replication-method"] = chosen["replication_method"] = method
    if cursor and method == "INCREMENTAL":
        own["replication-key"] = chosen["replication_key"] = cursor
    hides, left_out = hidden_fields(source, plan.ref.stream, plan.about["kept"]), set[tuple[str, ...]]()
    for path, spec in _fields(schema if isinstance(schema, Mapping) else {}):
        about = metadata.setdefault(path, {})
        selected = about.get("inclusion") == "automatic" or not (path[:-2] in left_out or hides(".".join(path[1::2])))
        left_out |= set() if selected else {path}
        about["selected"] = selected and about.get("inclusion") != "unsupported"
        spec["selected"] = about["selected"]
    chosen["metadata"] = [{"breadcrumb": list(path), "metadata": each} for path, each in metadata.items()]
    return chosen


def _listed(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = entry.get("metadata")
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []


def _fields(schema: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every field of a schema, and those inside of objects, by its breadcrumb."""
    properties = schema.get("properties")
    for name, spec in properties.items() if isinstance(properties, Mapping) else ():
        if isinstance(spec, dict):
            path = (*above, "properties", name)
            yield path, spec
            yield from _fields(spec, path)


# --- the connector --------------------------------------------------------------------------------------------------


def check(name: str, source: SingerSource, root: Path, connection: DuckDBPyConnection) -> str:
    """Ask the tap for its streams: for that it must understand its configuration, and most reach their source."""
    program = find_program(name, source, root)
    plans = _plans(name, source, _catalog_or_names(name, source, root))
    return f"{program.label}, {len(plans)} stream{'' if len(plans) == 1 else 's'}"


def extract_all(
    plans: Sequence[StreamPlan], source: SingerSource, readings: Mapping[StreamRef, Reading]
) -> dict[StreamRef, tuple[StreamPlan, Extract | LoadError]]:
    """Run the tap once for all the streams.

    Raises
    ------
    LoadError
        It failed, or hung, or wrote what is no message.
    Interrupted
        The run was stopped meanwhile.
    """
    name, first = plans[0].ref.source, readings[plans[0].ref]
    program = find_program(name, source, first.root, first.log)
    asked = kept(program, "catalog", [plain(source.config), source.catalog])
    earlier = read_kept(asked)
    catalog = (earlier if plans[0].about.get(FRESH) else None) or _catalog_or_names(name, source, first.root)
    now = {plan.ref: plan for plan in _plans(name, source, catalog)}
    plans, gone = still_there(plans, now)
    if not plans:
        return gone
    by_stream = {plan.ref.stream: plan for plan in plans}
    entries = [_selected(entry, by_stream.get(_id(entry)), source) for entry in catalog["streams"]]
    sent = {**catalog, "streams": entries}
    options = _options(name, program, first.root)
    config = Config(name, source.config, first.root, first.scratch)

    def command(state: Any) -> list[str]:
        words = [*program.command, "--config", str(config.path)]
        how = "--catalog" if "--catalog" in options else "--properties" if "--properties" in options else ""
        if how and any("schema" in entry for entry in entries):
            words += [how, str(write_json(first.scratch / "catalog.json", sent))]
        if state is not None and "--state" in options:
            words += ["--state", str(write_json(first.scratch / "state.json", state))]
        return words

    streams = [_id(entry) for entry in catalog["streams"]]
    versions = {
        ref.stream: (reading.state.get("bookmark") or {}).get("version")
        for ref, reading in readings.items()
        if isinstance(reading.state.get("bookmark"), dict)
    }
    session = Session(
        program=program,
        asked={"config": plain(source.config), "catalog": sent},
        command=command,
        reader=lambda journal, output: SingerReader(journal, output, _names(by_stream, catalog), versions),
        apart=lambda state: _apart(state, streams),
        together=_together,
        after=config.keep,
        new=[ref.stream for ref in now if earlier and ref.stream not in {_id(each) for each in earlier["streams"]}],
    )
    return sync(plans, source, readings, session) | gone


def _names(by_stream: Mapping[str, StreamPlan], catalog: Mapping[str, Any]) -> dict[str, str]:
    """The wanted streams by every name that messages may give them: their id, or the name of their table."""
    names: dict[str, list[str]] = {}
    for entry in catalog["streams"]:
        for name in {_id(entry), str(entry.get("stream") or _id(entry))}:
            names.setdefault(name, []).append(_id(entry))
    return {
        name: name if name in by_stream else ids[0]
        for name, ids in names.items()
        if name in by_stream or (len(ids) == 1 and ids[0] in by_stream)
    }


def _apart(state: Any, streams: Sequence[str]) -> Slices:
    """A state by streams. Which of them was being sent when it was written is left out: all are to be sent."""
    if not isinstance(state, dict):
        return Slices({}, state)
    rest = {key: value for key, value in state.items() if key != "currently_syncing"}
    bookmarks = rest.pop("bookmarks", None)
    if not isinstance(bookmarks, dict):
        return Slices({}, {**rest, **({"bookmarks": bookmarks} if bookmarks else {})})
    others = {key: value for key, value in bookmarks.items() if key not in streams}
    own = {stream: bookmarks[stream] for stream in streams if bookmarks.get(stream)}
    return Slices(own, {**rest, **({"bookmarks": others} if others else {})})


def _together(slices: Slices) -> Any:
    """A state for the tap; None where there is nothing to say."""
    if not slices.own and not slices.shared:
        return None
    shared = slices.shared if isinstance(slices.shared, dict) else {}
    if not slices.own:
        return slices.shared
    return {**shared, "bookmarks": {**(shared.get("bookmarks") or {}), **slices.own}}
