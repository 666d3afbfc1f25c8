"""Sources that dlt extracts: any dlt source (kind ``dlt``), and its declarative REST source (kind ``rest``).

dlt runs in a process of its own (`dlt_worker`), in a scratch folder that goes with the load. The state it goes on from
(cursors of ``incremental``, whatever a source keeps) comes from the warehouse and is committed there with the rows: a
run that is killed at any time has either committed both or nothing.

The state of a stream is complete in itself: what its resource keeps, and the resources that feed it, and what the
source keeps for all of them. So each stream can be selected or reloaded without taking anything from another.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoll.connector import SCALARS, Extract, Part, PartColumn, Reading, StreamPlan, apply_naming, plan_stream
from smoll.connectors import line_reader, nested
from smoll.connectors.data_file import refuse_twins
from smoll.errors import Interrupted, LoadError
from smoll.model import StreamRef, TableRef, literal, quote
from smoll.project import EVERY, DltStream, RestSource, resources_of
from smoll.state.layout import SCRATCH, Layout
from smoll.warehouse import INTERNAL_SCHEMA, columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import DltSource

_WORKER = Path(__file__).with_name("dlt_worker.py")
_POLL_SECONDS = 0.2
_HINTED = {
    "bigint": "BIGINT",
    "bool": "BOOLEAN",
    "date": "DATE",
    "decimal": "DECIMAL",
    "double": "DOUBLE",
    "time": "TIME",
    "wei": "DECIMAL",
}
_MODES = {
    ("append", None): "append",
    ("replace", None): "replace",
    ("merge", None): "merge",
    ("merge", "delete-insert"): "merge",
    ("merge", "upsert"): "merge",
    ("merge", "scd2"): "scd2",
}


def discover(
    name: str, source: DltSource | RestSource, root: Path, connection: DuckDBPyConnection, known: Sequence[str] = ()
) -> tuple[StreamPlan, ...]:
    """Return the source's streams; what their options leave out is what dlt would do.

    A REST source names them in its configuration. The code of any other has to be asked; where it fails, the streams
    of earlier runs are taken: a run that loads nothing from it goes on, one that does says why it cannot.
    """
    if isinstance(source, RestSource):
        return tuple(
            _plan(name, source, resource, _rest_defaults(spec, source.config.get("resource_defaults")))
            for resource, spec in resources_of(source.config).items()
        )
    chosen = [stream for stream in source.streams if stream != EVERY]
    if chosen == list(source.streams) and all(_is_complete(source.streams[stream]) for stream in chosen):
        return tuple(_plan(name, source, stream, {}) for stream in chosen)
    try:
        described = {each["name"]: each for each in _ask(name, source, root)}
    except LoadError:
        if not known:
            raise
        described = {stream: {"write_disposition": "append"} for stream in known if "__" not in stream}
    missing = [stream for stream in chosen if stream not in described]
    if missing and not known:
        raise LoadError(
            f"{name}: there is no resource {missing[0]!r} in {source.source}.",
            hint=f"It has: {', '.join(described)}.",
        )
    names = described if EVERY in source.streams else [stream for stream in chosen if stream in described]
    return tuple(_plan(name, source, stream, described[stream]) for stream in names)


def _is_complete(options: DltStream) -> bool:
    """True where nothing of the resource's own hints is needed to plan the stream."""
    return options.mode in ("append", "replace") or bool(options.mode and options.key)


def _rest_defaults(spec: Mapping[str, Any], defaults: Any) -> dict[str, Any]:
    """What a resource of a REST configuration says about writing.

    Where it says nothing, dlt would append what it reads, all of it at every run; without an ``incremental`` it is the
    whole table each time, so it replaces.
    """
    disposition, key = spec.get("write_disposition"), spec.get("primary_key") or []
    keys = [key] if isinstance(key, str) else [each for each in key if isinstance(each, str)]
    if disposition is None:
        endpoints = [spec.get("endpoint"), defaults.get("endpoint") if isinstance(defaults, Mapping) else None]
        disposition = ("merge" if keys else "append") if _is_incremental(endpoints) else "replace"
    strategy = disposition.get("strategy") if isinstance(disposition, Mapping) else None
    disposition = disposition.get("disposition") if isinstance(disposition, Mapping) else disposition
    table = spec.get("table_name")
    return {
        "write_disposition": disposition,
        "merge_strategy": strategy,
        "primary_key": keys,
        "table": table if isinstance(table, str) and "{" not in table else None,
    }


def _is_incremental(value: Any) -> bool:
    """True where an endpoint of a REST configuration has a cursor, in any of the ways to write one."""
    if isinstance(value, Mapping):
        return (
            bool(value.get("incremental")) or value.get("type") == "incremental" or _is_incremental([*value.values()])
        )
    if isinstance(value, (list, tuple)):
        return any(map(_is_incremental, value))
    return isinstance(value, str) and "{incremental." in value


def _plan(name: str, source: DltSource | RestSource, stream: str, defaults: Mapping[str, Any]) -> StreamPlan:
    """The plan of a stream: its options, and for what they leave out the hints of its resource."""
    options = source.streams.get(stream) or source.streams.get(EVERY) or DltStream()
    ref = StreamRef(name, stream)
    strategy = defaults.get("merge_strategy")
    mode = options.mode or _MODES.get((defaults.get("write_disposition", "append"), strategy))
    if mode is None:
        what = " with the strategy ".join(filter(None, [defaults.get("write_disposition"), strategy]))
        raise LoadError(
            f"{ref}: smoll cannot write as dlt's write_disposition {what} says.",
            hint=f"Choose a mode: streams: {{{stream}: {{mode: merge, key: ...}}}}.",
        )
    key = tuple(options.key) or tuple(defaults.get("primary_key") or ()) if mode in ("merge", "scd2") else ()
    if mode in ("merge", "scd2") and not key:
        raise LoadError(
            f"{ref}: mode {mode} needs a key, and the resource has no primary_key.",
            hint=f"Set it in smoll.yml: streams: {{{stream}: {{key: ...}}}}, or mode: append.",
        )
    inner = options.nested or source.nested
    if mode == "scd2" and inner == "tables":
        raise LoadError(f"{ref}: nested: tables is not used with mode scd2.", hint="Set nested: json for the stream.")
    table = options.table or apply_naming(source, defaults.get("table") or stream)
    filled = options.model_copy(update={"mode": mode, "key": key, "nested": inner, "table": table})
    return plan_stream(source, ref, filled)


@contextmanager
def attach(name: str, source: DltSource | RestSource, root: Path, connection: DuckDBPyConnection) -> Iterator[None]:
    """Nothing has to be attached: dlt connects by itself."""
    yield


def check(name: str, source: DltSource | RestSource, root: Path, connection: DuckDBPyConnection) -> str:
    """Have dlt make the source and check its configuration; nothing is requested."""
    found = _ask(name, source, root)
    return f"{len(found)} resources, {len(discover(name, source, root, connection))} streams"


def extract(plan: StreamPlan, source: DltSource | RestSource, reading: Reading) -> Extract:
    """Extract one stream alone."""
    return extract_all([plan], source, {plan.ref: reading})[plan.ref][1]


def extract_all(
    plans: Sequence[StreamPlan], source: DltSource | RestSource, readings: Mapping[StreamRef, Reading]
) -> dict[StreamRef, tuple[StreamPlan, Extract]]:
    """Have dlt extract the streams, in one process, and return what it wrote and the state to go on from.

    Raises
    ------
    LoadError
        The source cannot be made, or a resource failed.
    Interrupted
        The run was stopped meanwhile.
    """
    first = readings[plans[0].ref]
    ranged = [plan.ref for plan in plans if readings[plan.ref].since or readings[plan.ref].until]
    if ranged:
        raise LoadError(
            f"{ranged[0]}: a range cannot be asked of a source that dlt extracts.",
            hint=f"Load the stream anew: smoll run --reload {ranged[0]}",
        )
    states = {plan.ref.stream: dict(readings[plan.ref].state.get("dlt", {})) for plan in plans}
    job = {
        **_job("extract", plans[0].ref.source, source, first.root, first.scratch),
        "states": states,
        "nested": {plan.ref.stream: plan.options.nested for plan in plans},
    }

    def listen(news: Mapping[str, Any]) -> None:
        for plan in plans:
            if size := news.get("fetched", {}).get(plan.ref.stream):
                readings[plan.ref].progress(size, None)

    answer = _work(job, first.stopped, listen)
    results: dict[StreamRef, tuple[StreamPlan, Extract]] = {}
    for plan in plans:
        own = _results(plan, source, readings[plan.ref], answer["streams"][plan.ref.stream])
        if twice := sorted(set(results) & set(own), key=str):
            raise LoadError(
                f"{twice[0]} is a stream, and the further table of another one too.",
                hint="Set nested: json for that one, or leave this one out under `streams`.",
            )
        results |= own
    _refuse_shared_tables(results)
    return results


def _refuse_shared_tables(results: Mapping[StreamRef, tuple[StreamPlan, Extract]]) -> None:
    taken: dict[str, StreamRef] = {}
    for ref, (plan, _) in results.items():
        other = taken.setdefault(str(plan.table).lower(), ref)
        if other != ref:
            raise LoadError(
                f"{other} and {ref} would both load into {plan.table}.",
                hint="Set another `table` for one of the streams, or nested: json.",
            )


# --- what dlt wrote -------------------------------------------------------------------------------------------------


Place = tuple[str, str]
"""Which table of a stream: the one that the resource chose ("" for the stream's own), and the nested list in it."""


def _results(
    plan: StreamPlan, source: DltSource | RestSource, reading: Reading, answer: Mapping[str, Any]
) -> dict[StreamRef, tuple[StreamPlan, Extract]]:
    """The extract of a stream, and one for each further table that it has now or had before."""
    tables: dict[Place, list[Mapping[str, Any]]] = {place: [] for place in (("", ""), *_earlier(plan, reading))}
    for table in answer["tables"]:
        chosen = "" if table["name"] in answer["own"] else table["name"]
        tables.setdefault((chosen, table["below"]), []).append(table)
    results: dict[StreamRef, tuple[StreamPlan, Extract]] = {}
    for chosen, below in sorted(tables):
        parent = _chosen(plan, source, chosen, anew=not reading.state) if chosen else plan
        own = _nested(parent, source, below, anew=not reading.state) if below else parent
        if own is plan:
            filled, extract = _stream(plan, source, reading, tables[chosen, below], answer)
        else:
            state = {"parent": plan.ref.stream, "chosen": chosen, "below": below}
            filled, extract = own, _further(own, parent, source, reading, tables[chosen, below], state)
        if filled.ref in results:
            raise LoadError(f"{filled.ref}: two further tables have this name.", hint="Set nested: json.")
        results[filled.ref] = (filled, extract)
    return results


def _earlier(plan: StreamPlan, reading: Reading) -> list[Place]:
    """The further tables that earlier loads of the stream made."""
    rows = reading.connection.execute(
        f"""SELECT DISTINCT json_extract_string(state, '$.chosen'), json_extract_string(state, '$.below')
        FROM {INTERNAL_SCHEMA}.state
        WHERE source = ? AND schema_name = ? AND starts_with(table_name, ?)
        AND json_extract_string(state, '$.parent') = ?""",
        [plan.ref.source, plan.table.schema, f"{plan.table.name}__", plan.ref.stream],
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def _chosen(plan: StreamPlan, source: DltSource | RestSource, name: str, *, anew: bool) -> StreamPlan:
    """The plan of a table that the resource chose by itself: as that of the stream. Loaded anew with it, too."""
    table = TableRef(plan.table.schema, f"{plan.table.name}__{apply_naming(source, name)}")
    mode = "replace" if anew and plan.mode == "append" else plan.mode
    return replace(plan, ref=StreamRef(plan.ref.source, f"{plan.ref.stream}__{name}"), table=table, mode=mode)


def _nested(parent: StreamPlan, source: DltSource | RestSource, below: str, *, anew: bool) -> StreamPlan:
    """The plan of a nested list's table: its rows come and go with those of its parent."""
    mode = "replace" if parent.mode == "replace" or anew else "append"
    table = TableRef(parent.table.schema, f"{parent.table.name}__{apply_naming(source, below)}")
    options: dict[str, Any] = {
        "mode": mode,
        "key": (),
        "columns": {},
        "table": table.name,
        "cursor": None,
        "allow_empty": True,
    }
    return replace(
        parent,
        ref=StreamRef(parent.ref.source, f"{parent.ref.stream}__{below}"),
        table=table,
        mode=mode,
        key=(),
        cursor=None,
        columns={},
        options=parent.options.model_copy(update=options),
        deletes="ignore",
    )


def _stream(
    plan: StreamPlan,
    source: DltSource | RestSource,
    reading: Reading,
    tables: Sequence[Mapping[str, Any]],
    answer: Mapping[str, Any],
) -> tuple[StreamPlan, Extract]:
    """The extract of the stream's own table; its plan gets the types of nested columns that have grown."""
    known, structures = dict(reading.state.get("structures", {})), dict[str, Any]()
    parts = [_part(plan, reading, table, known, structures) for table in tables]
    state: dict[str, Any] = {"dlt": answer["state"]}
    if known or structures:
        state["structures"] = {**known, **structures}
    follows = answer["complete"] and plan.deletes != "ignore"
    if not parts and (plan.mode == "replace" or follows or reading.state.get("dlt") != answer["state"]):
        parts = [_no_rows(plan, source, reading)]
    extract = Extract(
        parts=tuple(parts),
        explain=lambda error: _explain(plan, error),
        state=state,
        complete=bool(answer["complete"]),
        size=sum(max(table["rows"], 0) for table in tables),
    )
    return _with_structs(plan, reading, known, structures), extract


def _further(
    plan: StreamPlan,
    parent: StreamPlan,
    source: DltSource | RestSource,
    reading: Reading,
    tables: Sequence[Mapping[str, Any]],
    state: Mapping[str, Any],
) -> Extract:
    """The extract of a further table. The rows of a nested list go where their row in the parent was replaced."""
    parts = [_part(plan, reading, table, {}, {}) for table in tables]
    follows = plan is not parent and parent.mode == "merge"
    if not parts and (plan.mode == "replace" or follows):
        parts = [_no_rows(plan, source, reading)]

    def drop_orphans() -> None:
        """Every loaded row has an id of its own, so a row that was replaced leaves its children behind."""
        link, id = quote(apply_naming(source, "_dlt_root_id")), quote(apply_naming(source, "_dlt_id"))
        kept = f"SELECT 1 FROM {parent.table.sql} p WHERE p.{id} = c.{link}"
        reading.connection.execute(f"DELETE FROM {plan.table.sql} c WHERE NOT EXISTS ({kept})")

    return Extract(
        parts=tuple(parts),
        explain=lambda error: _explain(plan, error),
        state=state,
        verify=drop_orphans if follows and (tables or columns_of(reading.connection, plan.table)) else lambda: None,
        size=sum(max(table["rows"], 0) for table in tables),
    )


def _explain(plan: StreamPlan, error: Exception) -> LoadError:
    return LoadError(f"{plan.ref}: {str(error).splitlines()[0]}")


def _no_rows(plan: StreamPlan, source: DltSource | RestSource, reading: Reading) -> Part:
    """A part without a row, with the columns that the table has, and those that the options name.

    So nothing looks as if a column had gone. A table without rows binds no type.
    """
    names = source.metadata.model_dump().values()
    found = columns_of(reading.connection, plan.table)
    there = {column.name: column.type for column in found if column.name not in names}
    wanted = {apply_naming(source, name): name for name in (*plan.key, *plan.columns, *filter(None, [plan.cursor]))}
    columns = [PartColumn(wanted.get(name, name), kind) for name, kind in there.items()]
    columns += [PartColumn(name, "VARCHAR") for target, name in wanted.items() if target not in there]
    listed = ", ".join(f"CAST(NULL AS {column.type}) AS {quote(column.name)}" for column in columns)
    return Part(f"SELECT {listed or 'NULL'} WHERE false", tuple(columns), str(plan.ref))


def _part(
    plan: StreamPlan,
    reading: Reading,
    table: Mapping[str, Any],
    known: Mapping[str, Any],
    structures: dict[str, Any],
) -> Part:
    """The part of one file. Structures of nested columns are added to `structures`."""
    if "columns" not in table:
        return _parquet_part(plan, reading, table)
    kinds: Mapping[str, list[str]] = table["columns"]
    refuse_twins(plan, "the data", "keys", list(kinds))
    hints = {name: str((table["hints"].get(name) or {}).get("data_type") or "") for name in kinds}
    described = [
        line_reader.column(name, found, (_HINTED[hints[name]],) if hints[name] in _HINTED else (), hint=hints[name])
        for name, found in kinds.items()
    ]
    scan = line_reader.scan(table["path"], int(table["longest"]), described)
    columns, selected = [], []
    for column in described:
        name, found = column.name, kinds[column.name]
        value = line_reader.value(column)
        if column.type == "JSON" and plan.options.nested == "struct" and set(found) == {"nested"}:
            structure = _structure(plan, reading, scan, name, known.get(name))
            structures[name] = structure
            exact = nested.plain(structure)
            column, value = PartColumn(name, nested.type_of(reading.connection, exact)), nested.cast(name, exact)
        columns.append(column)
        selected.append(f"{value} AS {quote(name)}" if value != quote(name) else value)
    return Part(f"SELECT {', '.join(selected)} FROM ({scan})", tuple(columns), str(plan.ref), records=_counted(table))


def _counted(table: Mapping[str, Any]) -> Callable[[], Callable[[], int]] | None:
    """What dlt itself counted when it handed over the rows, if it did."""
    return (lambda: lambda: int(table["rows"])) if table["rows"] >= 0 else None


def _structure(plan: StreamPlan, reading: Reading, scan: str, name: str, known: Any) -> Any:
    structure = nested.merge(known, nested.structure_of(reading.connection, scan, name))
    number = nested.inexact_number(reading.connection, scan, name, nested.plain(structure))
    if number:
        raise LoadError(
            f"{plan.ref}: {number} in column {name!r} has more digits than the type of its field holds.",
            hint="Set nested: json for the stream: JSON keeps every digit.",
        )
    return structure


def _with_structs(
    plan: StreamPlan, reading: Reading, known: Mapping[str, Any], structures: Mapping[str, Any]
) -> StreamPlan:
    """Let nested columns of the table grow with their fields: the new type holds what the old one did."""
    if plan.options.contract != "evolve" or plan.mode == "replace":
        return plan
    grown = {
        name: nested.type_of(reading.connection, nested.plain(structure))
        for name, structure in structures.items()
        if name in known and nested.plain(structure) != nested.plain(known[name]) and name not in plan.columns
    }
    return replace(plan, columns={**plan.columns, **grown}) if grown else plan


def _parquet_part(plan: StreamPlan, reading: Reading, table: Mapping[str, Any]) -> Part:
    """Arrow tables and data frames, which dlt writes as Parquet: their types are their own."""
    scan = f"read_parquet({literal(table['path'])}, hive_partitioning = false)"
    columns, selected = [], []
    for row in reading.connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall():
        name, kind = row[0], row[1]
        is_nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))
        if is_nested and plan.options.nested == "tables":
            raise LoadError(
                f"{plan.ref}: column {name!r} is a {kind.split('(')[0]} of Arrow, which cannot become a table.",
                hint="Set nested: struct or nested: json for the stream.",
            )
        as_json = is_nested and plan.options.nested == "json"
        columns.append(PartColumn(name, "JSON" if as_json else kind, SCALARS))
        selected.append(f"to_json({quote(name)}) AS {quote(name)}" if as_json else quote(name))
    refuse_twins(plan, "the data", "columns", [column.name for column in columns])
    return Part(f"SELECT {', '.join(selected)} FROM {scan}", tuple(columns), str(plan.ref), records=_counted(table))


# --- the process that runs dlt --------------------------------------------------------------------------------------


def _job(action: str, name: str, source: DltSource | RestSource, root: Path, work: Path) -> dict[str, Any]:
    return {
        "action": action,
        "name": name,
        "kind": source.kind,
        "source": "" if isinstance(source, RestSource) else source.source,
        "config": dict(source.config),
        "root": str(root),
        "work": str(work),
        "keep_names": source.naming == "keep",
    }


def _ask(name: str, source: DltSource | RestSource, root: Path) -> list[dict[str, Any]]:
    """Have the source made, and return its resources."""
    tmp = Layout(root).tmp
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=tmp if tmp.is_dir() else None) as work:
        answer = _work(_job("describe", name, source, root, Path(work)), lambda: False, lambda news: None)
    found: list[dict[str, Any]] = answer["streams"]
    return found


def _work(
    job: Mapping[str, Any], stopped: Callable[[], bool], listen: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Start the worker, give it the job, and wait for its answer. It never outlives the call, nor this process."""
    command = [sys.executable, "-P", str(_WORKER)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=job["root"], start_new_session=True
    )
    assert process.stdin and process.stdout
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()  # and it stays open: its end tells the worker that this process is gone
        for line in _lines(process.stdout.fileno(), stopped):
            news = json.loads(line)
            if "result" in news:
                result: dict[str, Any] = news["result"]
                return result
            if "error" in news:
                message, hint, stream = news["error"]
                raise LoadError(f"{job['name']}{'.' if stream else ''}{stream}: {message}", hint=hint)
            listen(news)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close()
    if stopped():
        raise Interrupted(f"{job['name']}: interrupted; its tables are as they were before.")
    last = _last_line(Path(job["work"]) / "log.txt")
    raise LoadError(
        f"{job['name']}: the process that runs dlt ended without an answer{': ' if last else ''}{last}.",
        hint="Where the machine has run out of memory, the source should yield its rows in smaller pieces.",
    )


def _lines(pipe: int, stopped: Callable[[], bool]) -> Iterator[bytes]:
    """The lines that come through the pipe, until it ends or the run is stopped."""
    pending = b""
    while not stopped():
        if not select.select([pipe], [], [], _POLL_SECONDS)[0]:
            continue
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        yield from lines


def _last_line(log: Path) -> str:
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    return next((line[:200] for line in reversed(lines) if line), "")
