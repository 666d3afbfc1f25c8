"""``smoll connectors``: what is installed for ``singer`` and ``airbyte`` sources, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from smoll.connectors import airbyte, connector_for, environment, singer
from smoll.connectors.settings import Setting, read_settings
from smoll.connectors.sync import hidden_fields
from smoll.errors import LoadError, UsageError
from smoll.project import AirbyteSource, SingerSource
from smoll.state.layout import Layout
from smoll.state.lock import current_holder

if TYPE_CHECKING:
    from smoll.connector import StreamPlan
    from smoll.project import ProjectConfig

Tell = Callable[[str], None]


@dataclass(frozen=True)
class InstalledConnector:
    """What became of one source's connector. ``before`` is the version that was locked, empty where none was."""

    name: str
    connector: str
    status: Literal["installed", "unchanged", "upgraded", "own"]
    version: str
    before: str = ""


@dataclass(frozen=True)
class InstallResult:
    """What `install_connectors` did. ``removed`` are environments and lock files that no source used any more."""

    connectors: tuple[InstalledConnector, ...]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiscoveredStream:
    """One stream as smoll would load it; without a mode where the configuration leaves it out.

    ``sync``: ``full`` where the connector sends all of it each time, or ``incremental``. ``fields`` are the names of
    its fields to their types, as the connector declares them.
    """

    name: str
    table: str = ""
    mode: str = ""
    sync: str = ""
    key: tuple[str, ...] = ()
    cursor: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Discovery:
    """The streams of a source, and its connector's catalog as it stands."""

    streams: tuple[DiscoveredStream, ...]
    catalog: Mapping[str, Any]


@dataclass(frozen=True)
class ConnectorSpec:
    """What a connector says of its settings: flat, with dotted names, and the JSON schema as it stands."""

    connector: str
    settings: tuple[Setting, ...]
    schema: Mapping[str, Any]


def list_connectors(config: ProjectConfig) -> tuple[environment.Installation, ...]:
    """The connectors of the project. Starts and changes nothing.

    Raises
    ------
    LoadError
        What a source says its connector is can be none.
    """
    return tuple(environment.installation(name, source, config.root) for name, source in _programs(config).items())


def install_connectors(
    config: ProjectConfig, names: Sequence[str] = (), *, upgrade: bool = False, tell: Tell = lambda line: None
) -> InstallResult:
    """Install the connectors of these sources, or of all; then what no source uses any more is removed.

    Parameters
    ----------
    upgrade
        Look for newer versions within what the sources ask for.
    tell
        Gets one line for people where something takes time.

    Raises
    ------
    UsageError
        A name is no source that a connector extracts.
    LoadError
        A connector cannot be resolved or installed. Those before it are.
    """
    chosen = {name: _program(config, name) for name in names} if names else _programs(config)
    done = []
    for name, source in chosen.items():
        before = environment.installation(name, source, config.root)
        if before.requirement:
            environment.install(name, source, config.root, tell, upgrade=upgrade)
        # Says which of its programs is the connector, too, so that it is not the next run that cannot.
        environment.find_program(name, source, config.root, tell)
        done.append(_compared(before, environment.installation(name, source, config.root)))
    return InstallResult(tuple(done), () if names else _clean(config, tell))


def discover_streams(config: ProjectConfig, name: str, tell: Tell = lambda line: None) -> Discovery:
    """Ask a source's connector for its streams.

    Raises
    ------
    UsageError
        The name is no source that a connector extracts.
    LoadError
        The connector cannot be installed, or fails.
    """
    import duckdb

    source = _program(config, name)
    environment.find_program(name, source, config.root, tell)
    if isinstance(source, SingerSource):
        catalog = singer.read_catalog(name, source, config.root)
    else:
        catalog = airbyte.read_catalog(name, source, config.root)
    plans: Sequence[StreamPlan] = ()
    try:
        with duckdb.connect(":memory:") as connection:
            plans = connector_for(source.kind).discover(name, source, config.root, connection)
    except LoadError as error:  # what the connector has is told all the same: it helps to mend the configuration
        tell(config.redact(str(error)))
    planned = {plan.ref.stream: plan for plan in plans}
    entries = [entry for entry in catalog["streams"] if isinstance(entry, Mapping)]
    return Discovery(tuple(_discovered(entry, planned, source) for entry in entries), catalog)


def _discovered(
    entry: Mapping[str, Any], plans: Mapping[str, StreamPlan], source: SingerSource | AirbyteSource
) -> DiscoveredStream:
    names = [entry[key] for key in ("tap_stream_id", "stream", "name") if entry.get(key)]
    plan = next((plans[name] for name in names if name in plans), None)
    schema = entry.get("json_schema") or entry.get("schema")
    settings = read_settings({**schema, "required": []}) if isinstance(schema, Mapping) else ()
    fields = {setting.name: setting.type for setting in settings}
    if plan is None:
        return DiscoveredStream(str(next(iter(names), "")), fields=fields)
    cursor = plan.cursor or plan.about.get("cursor")
    cursor = ".".join(cursor) if isinstance(cursor, (list, tuple)) else cursor
    hides = hidden_fields(source, plan.ref.stream, [*plan.key, *filter(None, [cursor])])
    shown = {name: kind for name, kind in fields.items() if not hides(name)}
    sync = "full" if plan.about.get("full") else "incremental"
    return DiscoveredStream(plan.ref.stream, str(plan.table), plan.mode, sync, plan.key, cursor or None, shown)


def read_connector_spec(config: ProjectConfig, name: str, tell: Tell = lambda line: None) -> ConnectorSpec:
    """Ask a source's connector for its settings.

    Raises
    ------
    UsageError
        The name is no source that a connector extracts.
    LoadError
        The connector cannot be installed, or does not say.
    """
    source = _program(config, name)
    program = environment.find_program(name, source, config.root, tell)
    if isinstance(source, SingerSource):
        about = singer.read_about(name, source, config.root)
        schema = about.get("settings") if about else None
        if not isinstance(schema, Mapping):
            raise LoadError(
                f"{name}: {program.label} does not say what its settings are (it has no --about).",
                hint="See the documentation of the tap for what belongs into `config`.",
            )
    else:
        schema = airbyte.read_spec(name, source, config.root)
    settings = tuple(flat for setting in read_settings(schema) for flat in setting.flat())
    return ConnectorSpec(program.label, settings, schema)


def _programs(config: ProjectConfig) -> dict[str, SingerSource | AirbyteSource]:
    return {
        name: source for name, source in config.sources.items() if isinstance(source, (SingerSource, AirbyteSource))
    }


def _program(config: ProjectConfig, name: str) -> SingerSource | AirbyteSource:
    source = config.sources.get(name)
    if isinstance(source, (SingerSource, AirbyteSource)):
        return source
    known = ", ".join(_programs(config)) or "none yet; `smoll add singer` or `smoll add airbyte` makes one"
    what = f"{name} is of kind {source.kind}" if source is not None else f"There is no source {name!r}"
    raise UsageError(f"{what}.", hint=f"Sources with a connector: {known}.")


def _compared(before: environment.Installation, after: environment.Installation) -> InstalledConnector:
    if not after.requirement:
        return InstalledConnector(after.name, after.connector, "own", "")
    if before.version and before.path != after.path:
        status: Literal["installed", "unchanged", "upgraded"] = "upgraded"
    else:
        status = "unchanged" if before.installed else "installed"
    return InstalledConnector(after.name, after.connector, status, after.version, before.version)


def _clean(config: ProjectConfig, tell: Tell) -> tuple[str, ...]:
    """Remove environments and lock files that belong to no source; not while a run may use them."""
    layout = Layout(config.root)
    places = environment.unused(config.sources, config.root)
    needed = {
        environment.lock_file(name, layout)
        for name, source in _programs(config).items()
        if environment.needs_environment(source)
    }
    locks = [file for file in sorted(layout.connector_locks.glob("*.lock")) if file not in needed]
    ours = [file for file in locks if environment.parse_lock(file) is not None]
    if places and (holder := current_holder(layout.lock)) is not None:
        tell(f"Environments that no source uses stay for now: {holder}")
        return ()
    environment.remove(places)
    for file in ours:
        file.unlink(missing_ok=True)
    return tuple(str(path.relative_to(config.root)) for path in (*places, *ours))
