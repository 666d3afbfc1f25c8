"""Which staging models are to be written, what stands in them, and writing them, never over an existing file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connector import StreamPlan, apply_naming, snake_case
from smoll.connectors import connector_for
from smoll.errors import StateError, UsageError
from smoll.load.rejects import rejected_table
from smoll.model import StreamRef, TableRef
from smoll.staging.look import Seen, is_unique, look
from smoll.staging.render import Model, ModelColumn, Test, is_clean, render_sql, render_yaml, sql_name
from smoll.state.layout import Layout, write_atomically
from smoll.transform.profile import read_yaml
from smoll.transform.sources_file import declared_sources, generated_sources, model_folders, yaml_files
from smoll.warehouse import columns_of, engine_settings, reading

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig, Source

_KEY_TYPES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UUID", "VARCHAR")
_IDS = ("id", "key", "uuid", "guid")
_LONGEST_TYPE = 60
_LOADED_AT = "When smoll loaded the row, in UTC."
_HISTORY = {
    "valid_from": "Since when this version of the row is valid, in UTC.",
    "valid_to": "Until when this version of the row was valid, in UTC; NULL for the current one.",
    "current": "Whether this is the current version of the row.",
    "deleted_at": "When the row was found deleted in the source, in UTC; NULL while it is there.",
}


@dataclass(frozen=True)
class StagingResult:
    """What `generate_staging` did.

    ``written`` and ``kept`` (existing files, left alone) are relative to the project; ``not_loaded`` are streams
    without a table.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    not_loaded: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Folder:
    """The dbt project that is written to: where, and what it has already, by the names of models."""

    project: Path
    staging: Path
    models: Mapping[str, Path]
    documented: frozenset[str]
    sources: Mapping[TableRef, TableRef]


def generate_staging(config: ProjectConfig, names: Sequence[str]) -> StagingResult:
    """Write a staging model, docs and tests for loaded streams into the dbt project; no existing file is changed.

    Parameters
    ----------
    names
        ``SOURCE`` or ``SOURCE.STREAM``.

    Raises
    ------
    UsageError
        There is no dbt project, a name names nothing, nothing of it is loaded, or two streams would have one model.
    ReleaseError
        A run holds the warehouse.
    StateError
        The dbt project cannot be written. What was written is taken away again.
    """
    if not (config.transform_dir / "dbt_project.yml").is_file():
        raise UsageError(
            f"There is no dbt project in {config.transform}, so there is no place for staging models.",
            hint="`dbt init` makes one, or `smoll init` in a new folder; `transform` in smoll.yml says where it lies.",
        )
    layout = Layout(config.root)
    if not layout.warehouse.is_file():
        raise _nothing_loaded(names)
    settings = engine_settings(config.resources, layout.tmp)
    with reading(layout.warehouse, "warehouse", settings) as warehouse:
        plans = _chosen(config, names, _known(warehouse))
        plans += _children(plans, config.transform_dir)
        loaded = [plan for plan in plans if columns_of(warehouse, plan.table)]
        if not loaded:
            raise _nothing_loaded(names)
        _refuse_same_names(loaded)
        folder = _look_at(config.transform_dir)
        keywords = _keywords(warehouse)
        models = [
            (plan.ref.source, _model(warehouse, plan, config.sources[plan.ref.source], folder.sources, keywords))
            for plan in loaded
            if _model_name(plan) not in folder.models
        ]
    kept = [folder.models[_model_name(plan)] for plan in loaded if _model_name(plan) in folder.models]
    files = _files(folder, models, keywords)
    kept += [path for path in files if path.exists()]
    files = {path: text for path, text in files.items() if not path.exists()}
    _write(files)
    return StagingResult(
        tuple(sorted(_relative(path, config.root) for path in files)),
        tuple(sorted(_relative(path, config.root) for path in kept)),
        tuple(str(plan.ref) for plan in plans if plan not in loaded),
    )


def _nothing_loaded(names: Sequence[str]) -> UsageError:
    return UsageError(
        f"{', '.join(names)}: nothing of it is loaded yet, and staging models are made from what was loaded.",
        hint="`smoll run` first.",
    )


def _known(warehouse: DuckDBPyConnection) -> list[tuple[str, str]]:
    """Source and stream of everything that was ever loaded."""
    if not columns_of(warehouse, TableRef("_smoll", "loads")):
        return []
    return warehouse.execute("SELECT DISTINCT source, stream FROM _smoll.loads ORDER BY ALL").fetchall()


def _chosen(config: ProjectConfig, names: Sequence[str], known: Iterable[tuple[str, str]]) -> list[StreamPlan]:
    """The streams that `names` name, in the order of smoll.yml."""
    import duckdb

    asked = {name.partition(".")[0] for name in names}
    if unknown := asked - set(config.sources):
        raise UsageError(
            f"There is no source {sorted(unknown)[0]!r}.", hint=f"There are: {', '.join(config.sources) or 'none'}."
        )
    plans: list[StreamPlan] = []
    with duckdb.connect(":memory:") as connection:
        for name, source in config.sources.items():
            if name in asked:
                streams = [stream for owner, stream in known if owner == name]
                connector = connector_for(source.kind)
                plans += connector.discover(name, source, config.root, connection, streams)
    for name in names:
        if "." in name and name not in {str(plan.ref) for plan in plans}:
            raise UsageError(
                f"There is no stream {name!r}.", hint=f"There are: {', '.join(str(plan.ref) for plan in plans)}."
            )
    return [plan for plan in plans if plan.ref.source in names or str(plan.ref) in names]


def _look_at(project: Path) -> _Folder:
    folders = model_folders(project)
    models = {path.stem: path for folder in folders for path in folder.rglob("*") if path.suffix in (".sql", ".py")}
    documented = set()
    for file in yaml_files(project):
        if b"models" in file.read_bytes():
            entries = read_yaml(file).get("models")
            documented |= {
                str(entry.get("name")) for entry in (entries if isinstance(entries, list) else ()) if _is_map(entry)
            }
    return _Folder(project, folders[0] / "staging", models, frozenset(documented), declared_sources(project))


def _children(plans: Sequence[StreamPlan], project: Path) -> list[StreamPlan]:
    """Tables that come with a stream's own (nested data, one table each): dbt has been told of them as sources."""
    by_table = {_lower(plan.table): plan for plan in plans}
    found = []
    for table, named in generated_sources(project).items():
        parents = [
            plan
            for plan in plans
            if plan.ref.source == named.schema
            and plan.table.schema == table.schema
            and table.name.startswith(f"{plan.table.name}__")
        ]
        if parents and _lower(table) not in by_table and not _holds_rejects(table, parents):
            parent = max(parents, key=lambda plan: len(plan.table.name))
            ref = StreamRef(parent.ref.source, table.name)
            found.append(replace(parent, ref=ref, table=table, key=(), cursor=None))
    return found


def _holds_rejects(table: TableRef, plans: Sequence[StreamPlan]) -> bool:
    return any(table == rejected_table(plan.table) for plan in plans)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _model_name(plan: StreamPlan) -> str:
    return f"stg_{plan.ref.source}__{_clean(plan.ref.stream)}"


def _clean(name: str) -> str:
    return name if is_clean(name) else snake_case(name)


def _refuse_same_names(plans: Sequence[StreamPlan]) -> None:
    taken: dict[str, StreamPlan] = {}
    for plan in plans:
        other = taken.setdefault(_model_name(plan).lower(), plan)
        if other is not plan:
            raise UsageError(
                f"{other.ref} and {plan.ref} would both become the model {_model_name(plan)}.",
                hint="Name the streams that you want one by one, and write the other model by hand.",
            )


def _keywords(connection: DuckDBPyConnection) -> frozenset[str]:
    rows = connection.execute(
        "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
    ).fetchall()
    return frozenset(row[0] for row in rows)


def _model(
    connection: DuckDBPyConnection,
    plan: StreamPlan,
    source: Source,
    declared: Mapping[TableRef, TableRef],
    keywords: frozenset[str],
) -> Model:
    metadata = source.metadata.model_dump()
    kept, dropped = _history(plan, metadata), {str(name).lower() for name in metadata.values()}
    everything = columns_of(connection, plan.table)
    data = [column for column in everything if column.name.lower() not in dropped]
    rows, seen = look(connection, plan.table, data)
    names = _aliases([column.name for column in data], {name.lower() for name in (*kept, metadata["loaded_at"])})
    key = _key(connection, plan, source, rows, seen)
    own = [column for column in everything if column.name.lower() in {name.lower() for name in kept}]
    current = sql_name(metadata["current"], keywords) if plan.mode == "scd2" else ""
    columns = [_column(column, names[column.name], rows, key, current) for column in seen]
    columns += [ModelColumn(column.name, column.name, kept[column.name]) for column in own if column.name in kept]
    columns.append(ModelColumn(metadata["loaded_at"], metadata["loaded_at"], _LOADED_AT))
    aliases = [names[name] for name in key]
    per = f" One row per {'version of ' if current else ''}{', '.join(aliases)}." if key else ""
    return Model(
        name=_model_name(plan),
        source=declared.get(_lower(plan.table), TableRef(plan.ref.source, plan.table.name)),
        description=f"Stream {plan.ref}, as loaded into {plan.table}.{per}",
        columns=tuple(columns),
        tests=_key_tests(aliases, current, keywords) if len(key) > 1 else (),
    )


def _lower(table: TableRef) -> TableRef:
    return TableRef(table.schema.lower(), table.name.lower())


def _history(plan: StreamPlan, metadata: Mapping[str, str]) -> dict[str, str]:
    """The columns of smoll's that tell something about the row, with what they tell."""
    if plan.mode == "scd2":
        return {metadata[name]: _HISTORY[name] for name in ("valid_from", "valid_to", "current")}
    return {metadata["deleted_at"]: _HISTORY["deleted_at"]} if plan.deletes == "soft" else {}


def _aliases(names: Sequence[str], taken: set[str]) -> dict[str, str]:
    """The name of each column in the model: its own where that is snake_case, else made so, with a number if taken."""
    aliases = {name: name for name in names if is_clean(name) and name not in taken}
    used = taken | set(aliases)
    for name in names:
        if name in aliases:
            continue
        alias, number = snake_case(name), 1
        while alias in used:
            number += 1
            alias = f"{snake_case(name)}_{number}"
        aliases[name] = alias
        used.add(alias)
    return aliases


def _key(
    connection: DuckDBPyConnection, plan: StreamPlan, source: Source, rows: int, seen: Sequence[Seen]
) -> tuple[str, ...]:
    """The columns of the stream's key; without one, a column that looks like one in every row."""
    if plan.key:
        by_name = {column.name.lower(): column.name for column in seen}
        found = [by_name.get(apply_naming(source, name).lower()) for name in plan.key]
        return tuple(name for name in found if name) if all(found) else ()
    stream = _clean(plan.ref.stream)
    usual = {f"{prefix}{end}" for end in _IDS for prefix in ("", f"{stream}_", f"{stream.removesuffix('s')}_")}
    named = [column for column in seen if snake_case(column.name) in usual]
    for column in [*named, *seen[:1]]:
        full = column.filled == rows and rows > 1
        unique = column.different == rows if column.exact else column.different > rows / 2
        if column.type in _KEY_TYPES and full and unique and is_unique(connection, plan.table, column.name):
            return (column.name,)
    return ()


def _column(seen: Seen, name: str, rows: int, key: Sequence[str], current: str) -> ModelColumn:
    tests: list[Test] = []
    if (seen.name,) == tuple(key):
        tests.append({"unique": {"config": {"where": current}}} if current else "unique")
    if seen.name in key or (rows and seen.filled == rows):
        tests.append("not_null")
    if seen.values and name.rpartition("_")[2] not in _IDS:
        # dbt puts the values between quotes as they are.
        values = [value.replace("'", "''") for value in seen.values]
        tests.append({"accepted_values": {"arguments": {"values": values}}})
    return ModelColumn(seen.name, name, _describe(seen, name, rows), tuple(tests))


def _describe(seen: Seen, name: str, rows: int) -> str:
    kind = seen.type if len(seen.type) <= _LONGEST_TYPE else f"{seen.type[:_LONGEST_TYPE]}..."
    said = [f"{seen.name!r} in the source."] if name != seen.name else []
    said.append(f"{kind}.")
    if rows:
        about = "" if seen.exact else "about "
        values = f"{about}{seen.different:,} different value{'' if seen.different == 1 else 's'}"
        empty = "never NULL" if seen.filled == rows else f"NULL in {rows - seen.filled:,}"
        said.append(f"Seen in {rows:,} row{'' if rows == 1 else 's'}: {values}, {empty}.")
    return " ".join(said)


def _key_tests(key: Sequence[str], current: str, keywords: frozenset[str]) -> tuple[Test, ...]:
    """Dbt's own `unique` takes an expression, so that a key of several columns needs no package."""
    together = f"({', '.join(sql_name(name, keywords) for name in key)})"
    test: dict[str, Any] = {"arguments": {"column_name": together}}
    if current:
        test["config"] = {"where": current}
    return ({"unique": test},)


def _files(folder: _Folder, models: Sequence[tuple[str, Model]], keywords: frozenset[str]) -> dict[Path, str]:
    """Path to text. Docs of models that join others which are there already get files of their own."""
    files: dict[Path, str] = {}
    for source in dict.fromkeys(source for source, _ in models):
        place = folder.staging / source
        mine = [model for owner, model in models if owner == source]
        files |= {place / f"{model.name}.sql": render_sql(model, keywords) for model in mine}
        undocumented = [model for model in mine if model.name not in folder.documented]
        together = place / f"_{source}__models.yml"
        if together.exists():
            files |= {place / f"_{model.name}.yml": render_yaml([model], keywords) for model in undocumented}
        elif undocumented:
            files[together] = render_yaml(undocumented, keywords)
    return files


def _write(files: Mapping[Path, str]) -> None:
    """Write all files or none."""
    done: list[Path] = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
            done.append(path)
    except BaseException as error:
        for path in done:
            path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise StateError(
            f"Cannot write {error.filename or 'the staging models'}: {error.strerror}. Nothing was written.",
            hint="Make the folder writable or free some space.",
        ) from error


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
