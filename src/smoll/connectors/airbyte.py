"""Sources of kind ``airbyte``: any Airbyte connector that is a Python program, and low-code manifests; no server.

A connector says by its spec what its configuration must be, and by its catalog which streams there are. Both are kept;
the catalog is asked for anew at every load, and what it was last stands in where only the streams' names are needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connector import Extract, Reading, StreamPlan
from smoll.connectors.airbyte_reader import AirbyteReader, StreamKey, stream_key, stream_of
from smoll.connectors.environment import Program, find_program
from smoll.connectors.messages import Config, kept, plain, read_kept, scratch, write_json
from smoll.connectors.process import answer
from smoll.connectors.sync import FRESH, Session, Slices, attach, chooses, planned, require_key, still_there, sync
from smoll.errors import LoadError
from smoll.model import StreamRef
from smoll.project import EVERY, AirbyteSource, AirbyteStream
from smoll.project.redaction import redactor

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["attach", "check", "check_config", "discover", "extract_all", "read_catalog", "read_spec"]

_SHORTEST_TIMEOUT = 120
_PROBLEMS_SHOWN = 5


# --- what the connector says of itself ------------------------------------------------------------------------------


def read_spec(name: str, source: AirbyteSource, root: Path) -> dict[str, Any]:
    """The JSON schema of the connector's configuration (its ``connectionSpecification``).

    Raises
    ------
    LoadError
        The connector failed, or said nothing of the kind.
    """
    program = find_program(name, source, root)
    path = kept(program, "spec", None)
    found = read_kept(path)
    if not isinstance(found, dict):
        if program.manifest is not None:
            found = _manifest_spec(name, program.manifest)
        else:
            message = _ask(name, program, ["spec"], root, "SPEC", source, lambda text: text)
            found = (message.get("spec") or {}).get("connectionSpecification") or {}
        write_json(path, found)
    return dict(found)


def _manifest_spec(name: str, path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        manifest = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError) as error:
        text = " ".join(str(error).split())
        raise LoadError(f"{name}: cannot read the manifest {path.name}: {text}", hint="Mend the file.") from error
    spec = manifest.get("spec") if isinstance(manifest, dict) else None
    found = (spec or {}).get("connection_specification")
    return plain(found) if isinstance(found, dict) else {"type": "object"}


def check_config(name: str, source: AirbyteSource, root: Path) -> Callable[[str], str]:
    """Hold the configuration against the connector's own spec. Returns what takes its secrets out of a text.

    Raises
    ------
    LoadError
        It does not fit; all that is wrong is named, and no secret.
    """
    from jsonschema import Draft7Validator

    spec, config = read_spec(name, source, root), _config_of(name, source, root)
    secret = frozenset(_secret_names(spec))
    hide = redactor(_values_of(config, secret))
    problems = []
    errors = Draft7Validator(spec).iter_errors(config)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        path = [str(part) for part in error.absolute_path]
        text = "is not as the connector wants it" if set(path) & secret else hide(error.message)
        problems.append(f"{'.'.join(['config', *path])}: {text}")
    if problems:
        more = f" And {len(problems) - _PROBLEMS_SHOWN} more." if len(problems) > _PROBLEMS_SHOWN else ""
        raise LoadError(
            f"{name}: the configuration does not fit the connector: {'; '.join(problems[:_PROBLEMS_SHOWN])}.{more}",
            hint=f"`smoll connectors spec {name}` shows what it takes.",
        )
    return hide


def _config_of(name: str, source: AirbyteSource, root: Path) -> dict[str, Any]:
    """The configuration, with the spec's defaults for what it leaves out: connectors rely on them being there."""
    return _with_defaults(read_spec(name, source, root), plain(source.config))


def _with_defaults(spec: Any, config: dict[str, Any]) -> dict[str, Any]:
    properties = spec.get("properties") if isinstance(spec, dict) else None
    for key, about in properties.items() if isinstance(properties, dict) else ():
        if not isinstance(about, dict):
            continue
        if key not in config and "default" in about:
            config[key] = about["default"]
        elif isinstance(config.get(key), dict):
            config[key] = _with_defaults(about, config[key])
    return config


def _secret_names(spec: Any) -> Iterator[str]:
    """The names of all settings that the spec calls secret, wherever they stand."""
    if isinstance(spec, list):
        for each in spec:
            yield from _secret_names(each)
    for key, value in spec.items() if isinstance(spec, dict) else ():
        if key == "properties" and isinstance(value, dict):
            yield from (key for key, about in value.items() if isinstance(about, dict) and about.get("airbyte_secret"))
        yield from _secret_names(value)


def _values_of(config: Any, names: frozenset[str], *, inside: bool = False) -> Iterator[str]:
    """The texts in the settings of these names."""
    if isinstance(config, (dict, list)):
        for key, value in config.items() if isinstance(config, dict) else enumerate(config):
            yield from _values_of(value, names, inside=inside or key in names)
    elif inside and config is not None:
        yield str(config)


def read_catalog(name: str, source: AirbyteSource, root: Path) -> dict[str, Any]:
    """Ask the connector for its catalog (an ``AirbyteCatalog``). What it says is kept for `discover`.

    Raises
    ------
    LoadError
        The configuration does not fit, or the connector failed.
    """
    program = find_program(name, source, root)
    hide = check_config(name, source, root)
    with scratch(root) as folder:
        config = Config(name, _config_of(name, source, root), root, folder)
        words = ["discover", "--config", str(config.path)]
        message = _ask(name, program, words, root, "CATALOG", source, hide, config)
    found = message.get("catalog")
    if not isinstance(found, dict) or not isinstance(found.get("streams"), list):
        raise LoadError(f"{name}: what {program.label} said of its streams is no catalog.")
    write_json(kept(program, "catalog", plain(source.config)), found)
    return found


def _ask(
    name: str,
    program: Program,
    words: Sequence[str],
    root: Path,
    kind: str,
    source: AirbyteSource,
    hide: Callable[[str], str],
    config: Config | None = None,
) -> dict[str, Any]:
    """Run a command of the connector and return its message of that kind."""
    timeout = max(source.timeout_seconds, _SHORTEST_TIMEOUT)
    code, lines, words_on_error = answer(_command(program, words), root, name, timeout=timeout, hide=hide)
    found: dict[str, Any] | None = None
    said = []
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if not isinstance(message, dict):
            continue
        if message.get("type") == kind:
            found = message
        elif message.get("type") == "TRACE" and (error := (message.get("trace") or {}).get("error")):
            said.append(str(error.get("message") or error.get("internal_message")))
        elif message.get("type") == "CONTROL" and config is not None:
            config.keep(((message.get("control") or {}).get("connectorConfig") or {}).get("config"))
    if found is None:
        told = f": {hide('; '.join(said))}" if said else "."
        raise LoadError(
            f"{name}: {program.label} failed at `{words[0]}` (exit code {code}){told}{words_on_error}",
            hint=f"Check `config` of the source; `smoll connectors spec {name}` shows what it takes.",
        )
    return found


def _command(program: Program, words: Sequence[str]) -> list[str]:
    manifest = ["--manifest-path", str(program.manifest)] if program.manifest else []
    return [*program.command, *words, *manifest]


# --- the streams ----------------------------------------------------------------------------------------------------


def discover(
    name: str, source: AirbyteSource, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
) -> tuple[StreamPlan, ...]:
    """Return the chosen streams of the connector's catalog, as it was last; asked for where it never was.

    Where the connector fails, the streams of earlier runs are taken: a run that loads nothing from it goes on, one that
    does says why it cannot.
    """
    try:
        program = find_program(name, source, root)
        catalog = read_kept(kept(program, "catalog", plain(source.config)))
        return _plans(name, source, catalog or {**read_catalog(name, source, root), FRESH: True})
    except LoadError:
        if not known:
            raise
        return tuple(_plan(name, source, stream, {}) for stream in known)


def _plans(name: str, source: AirbyteSource, catalog: Mapping[str, Any]) -> tuple[StreamPlan, ...]:
    streams = _by_name(catalog)
    missing = [stream for stream in source.streams if stream != EVERY and stream not in streams]
    if missing:
        raise LoadError(
            f"{name}: the connector has no stream {missing[0]!r}.", hint=f"It has: {', '.join(streams) or 'none'}."
        )
    plans = tuple(
        _plan(name, source, stream, about, fresh=FRESH in catalog)
        for stream, about in streams.items()
        if chooses(source, stream)
    )
    if not plans:
        raise LoadError(
            f"{name}: `streams`, `select` and `exclude` leave no stream.",
            hint=f"The connector has: {', '.join(streams) or 'none'}.",
        )
    return plans


def _by_name(catalog: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The streams of a catalog; of one name in several namespaces, each with its namespace."""
    streams = [each for each in catalog["streams"] if isinstance(each, Mapping)]
    names = [str(each.get("name")) for each in streams]
    return {
        name if names.count(name) == 1 else f"{each.get('namespace')}.{name}": each
        for name, each in zip(names, streams, strict=True)
    }


def _plan(
    name: str, source: AirbyteSource, stream: str, about: Mapping[str, Any], *, fresh: bool = False
) -> StreamPlan:
    """The plan of a stream: its options, and for what they leave out what the catalog says."""
    ref = StreamRef(name, stream)
    options = source.streams.get(stream) or source.streams.get(EVERY) or AirbyteStream()
    modes = about.get("supported_sync_modes") or ["full_refresh"]
    cursor = [options.cursor] if options.cursor else list(about.get("default_cursor_field") or [])
    by_cursor = "incremental" in modes and bool(about.get("source_defined_cursor") or cursor)
    chosen = options.sync_mode or ("incremental" if by_cursor and options.mode != "replace" else "full_refresh")
    if about and chosen not in modes:
        raise LoadError(
            f"{ref}: the connector cannot send it as {chosen}.", hint=f"It can: {', '.join(modes)}. Set `sync_mode`."
        )
    paths = about.get("source_defined_primary_key") or []
    own = tuple(path[0] for path in paths) if all(len(path) == 1 for path in paths) else ()
    key = tuple(options.key) or own
    mode = options.mode or ("replace" if chosen == "full_refresh" else "merge" if key else "append")
    if about:
        require_key(ref, mode, key, "connector")
    told = {"stream": about, "sync_mode": chosen, "cursor": cursor, "full": chosen == "full_refresh", FRESH: fresh}
    told["kept"] = [*key, *cursor[:1]]
    return planned(source, ref, options, mode, key, told)


# --- the connector --------------------------------------------------------------------------------------------------


def check(name: str, source: AirbyteSource, root: Path, connection: DuckDBPyConnection) -> str:
    """Hold the configuration against the spec, then have the connector check its connection."""
    program = find_program(name, source, root)
    hide = check_config(name, source, root)
    with scratch(root) as folder:
        config = Config(name, _config_of(name, source, root), root, folder)
        words = ["check", "--config", str(config.path)]
        message = _ask(name, program, words, root, "CONNECTION_STATUS", source, hide, config)
    status = message.get("connectionStatus") or {}
    if status.get("status") != "SUCCEEDED":
        raise LoadError(
            f"{name}: {program.label} cannot connect: {hide(str(status.get('message') or 'it did not say why'))}",
            hint="Check `config` of the source.",
        )
    plans = _plans(name, source, read_catalog(name, source, root))
    return f"{program.label}, {len(plans)} stream{'' if len(plans) == 1 else 's'}"


def extract_all(
    plans: Sequence[StreamPlan], source: AirbyteSource, readings: Mapping[StreamRef, Reading]
) -> dict[StreamRef, tuple[StreamPlan, Extract | LoadError]]:
    """Run the connector once for all the streams.

    Raises
    ------
    LoadError
        The configuration does not fit, or the connector failed, hung, or wrote what is no message.
    Interrupted
        The run was stopped meanwhile.
    """
    name, first = plans[0].ref.source, readings[plans[0].ref]
    program = find_program(name, source, first.root, first.log)
    hide = check_config(name, source, first.root)
    earlier = read_kept(kept(program, "catalog", plain(source.config)))
    catalog = (earlier if plans[0].about.get(FRESH) else None) or read_catalog(name, source, first.root)
    now = {plan.ref: plan for plan in _plans(name, source, catalog)}
    plans, gone = still_there(plans, now)
    if not plans:
        return gone
    configured = {"streams": [_configured(plan) for plan in plans]}
    config = Config(name, _config_of(name, source, first.root), first.root, first.scratch)
    keys = {stream_key(plan.about["stream"]): plan.ref.stream for plan in plans}
    schemas = {plan.ref.stream: plan.about["stream"].get("json_schema") or {} for plan in plans}
    declared = {stream: {"schema": schema, "version": None} for stream, schema in schemas.items()}

    def command(state: Any) -> list[str]:
        catalog_path = write_json(first.scratch / "catalog.json", configured)
        words = ["read", "--config", str(config.path), "--catalog", str(catalog_path)]
        if state is not None:
            words += ["--state", str(write_json(first.scratch / "state.json", state))]
        return _command(program, words)

    session = Session(
        program=program,
        asked={"config": plain(source.config), "catalog": configured},
        command=command,
        reader=lambda journal, output: AirbyteReader(journal, output, keys, declared, config.keep),
        apart=lambda state: _apart(state, keys),
        together=lambda slices: _together(slices, keys),
        hide=hide,
        shares=True,
        new=[ref.stream for ref in now if earlier and ref.stream not in _by_name(earlier)],
    )
    return sync(plans, source, readings, session) | gone


def _configured(plan: StreamPlan) -> dict[str, Any]:
    """A stream of the configured catalog."""
    written = {"replace": "overwrite", "append": "append"}.get(plan.mode, "append_dedup")
    return {
        "stream": plan.about["stream"],
        "sync_mode": plan.about["sync_mode"],
        "destination_sync_mode": written,
        "cursor_field": plan.about["cursor"],
        "primary_key": [[name] for name in plan.key] or plan.about["stream"].get("source_defined_primary_key") or [],
        "generation_id": 0,
        "minimum_generation_id": 0,
        "sync_id": 0,
    }


def _apart(state: Any, keys: Mapping[StreamKey, str]) -> Slices:
    """A state by streams; what a GLOBAL one shares, or a LEGACY one as a whole, is for all of them."""
    if isinstance(state, dict):
        return Slices({}, {"legacy": state} if state else None)
    own: dict[str, Any] = {}
    shared: Any = None
    for each in state or ():
        if each.get("type") == "GLOBAL":
            whole = each.get("global") or {}
            shared = {"global": whole.get("shared_state")}
            listed = whole.get("stream_states") or []
        else:
            listed = [each.get("stream") or {}]
        for stream in listed:
            name = stream_of(stream_key(stream.get("stream_descriptor") or {}), keys)
            if name is not None:
                own[name] = stream
    return Slices(own, shared)


def _together(slices: Slices, keys: Mapping[StreamKey, str]) -> Any:
    """A state for the connector; None where there is nothing to say."""
    if isinstance(slices.shared, dict) and "legacy" in slices.shared:
        return slices.shared["legacy"]
    states = [slices.own[name] for name in keys.values() if name in slices.own]
    if isinstance(slices.shared, dict) and "global" in slices.shared:
        return [{"type": "GLOBAL", "global": {"shared_state": slices.shared["global"], "stream_states": states}}]
    return [{"type": "STREAM", "stream": state} for state in states] or None
