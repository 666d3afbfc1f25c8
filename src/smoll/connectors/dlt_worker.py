"""The program that runs dlt, in a process of its own; `smoll.connectors.dlt` starts it by its path.

dlt keeps much in globals of the process (pipelines, secrets, log handlers, environment variables), a source is
code of the user's, and both may print, hang or leak. A process of its own makes two sources independent of each
other, sees edited source code at every run, can be stopped at any time and gives its memory back.

The job comes as one line of JSON on stdin, secrets included. Answers go as lines of JSON to what was stdout; all
that is printed goes to a log file. When stdin ends, the process that started this one is gone, and so is this one.

dlt extracts; its `normalize` step is not used. It would fit every value to the type that the column had first:
of the values "1.5" and 1 the order decides whether a text or a number is loaded, and "007" becomes 7 in a column of
integers. Instead every item is written as it is yielded, as a line of JSON, with the kinds of values that each
column had. `smoll.load` finds the types that hold all of them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import re
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoll.connectors import line_writer
else:  # by its path: this process has dlt and the user's code, and need not have smoll
    _spec = importlib.util.spec_from_file_location("smoll_line_writer", Path(__file__).with_name("line_writer.py"))
    line_writer = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(line_writer)

_SECONDS_BETWEEN_NEWS = 0.3
_LONGEST_MESSAGE = 600
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")


class Refused(Exception):
    """Something is wrong with the source; for people. ``stream`` is the one it happened in, if it is known."""

    def __init__(self, message: str, hint: str = "", stream: str = "") -> None:
        super().__init__(message)
        self.message, self.hint, self.stream = message, hint, stream


class WhileWriting(Exception):
    """Wraps what happened while a resource's items were written; names the resource as dlt's own exceptions do."""

    def __init__(self, pipe_name: str) -> None:
        super().__init__(pipe_name)
        self.pipe_name = pipe_name


# --- rows -----------------------------------------------------------------------------------------------------------


@dataclass
class Rows:
    """What is written for one table of dlt: the table itself, and below it those of its nested lists."""

    stream: str
    apart: bool
    open: Callable[[], line_writer.Table]
    keep: Callable[[str], bool]
    tables: dict[str, line_writer.Table] = field(default_factory=dict)
    ids: int = 0
    nonce: str = field(default_factory=lambda: secrets.token_hex(6))

    def write(self, item: Any) -> None:
        """Write one item that a resource yielded."""
        row = item if isinstance(item, Mapping) else _as_mapping(item)
        if not self.apart:
            self.table("").write(row)
            return
        self._unnest("", row, {"_dlt_id": self._next_id()}, None)

    def table(self, name: str) -> line_writer.Table:
        if name not in self.tables:
            self.tables[name] = self.open()
        return self.tables[name]

    def _next_id(self) -> str:
        self.ids += 1
        return f"{self.nonce}{self.ids:x}"

    def _unnest(self, name: str, row: Mapping[str, Any], ids: dict[str, Any], root: str | None) -> None:
        """Objects become columns, lists tables of their own, as dlt itself names and links them."""
        flat: dict[str, Any] = {}
        lists: list[tuple[str, Sequence[Any]]] = []
        self._flatten("", row, flat, lists)
        self.table(name).write({**flat, **ids})
        root = root or ids["_dlt_id"]
        for path, items in lists:
            below = f"{name}__{path}" if name else path
            for index, item in enumerate(items):
                inner = (
                    item
                    if isinstance(item, Mapping)
                    else {"list" if isinstance(item, (list, tuple)) else "value": item}
                )
                links = {
                    "_dlt_root_id": root,
                    "_dlt_parent_id": ids["_dlt_id"],
                    "_dlt_list_idx": index,
                    "_dlt_id": self._next_id(),
                }
                self._unnest(below, inner, links, root)

    def _flatten(
        self, prefix: str, row: Mapping[str, Any], flat: dict[str, Any], lists: list[tuple[str, Sequence[Any]]]
    ) -> None:
        for key, value in row.items():
            path = f"{prefix}__{key}" if prefix else str(key)
            if isinstance(value, Mapping) and not self.keep(path):
                self._flatten(path, value, flat, lists)
            elif isinstance(value, (list, tuple)) and not self.keep(path):
                lists.append((path, value))
            elif path in flat:
                raise Refused(
                    f"two fields of a record would become the column {path!r}", "set `nested: json`", self.stream
                )
            else:
                flat[path] = value


def _as_mapping(item: Any) -> Mapping[str, Any]:
    """An item that is no object: what knows how to be one is asked, anything else is the column ``value``."""
    if line_writer.KINDS.get(item.__class__) is None and isinstance(plain := line_writer.plain(item, _by_dlt), Mapping):
        return plain
    return {"value": item}


def _by_dlt(value: Any) -> Any:
    from dlt.common.json import custom_encode

    return custom_encode(value)


# --- the source -----------------------------------------------------------------------------------------------------


def build(job: Mapping[str, Any]) -> Any:
    """Make the dlt source of the job. Raises whatever the user's code raises."""
    import dlt
    from dlt.extract.source import DltSource

    if job["kind"] == "rest":
        from dlt.sources.rest_api import rest_api_source

        try:
            return rest_api_source(job["config"], name=job["name"])
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            raise Refused(" ".join(str(error).split()), _MEND_CONFIG) from error
    module, _, name = job["source"].rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            hint = (
                f"Put {error.name.split('.')[0]} into the project folder, or install it; check `source` in smoll.yml."
            )
            raise Refused(f"there is no module {error.name!r}", hint) from error
        hint = f"Install it beside smoll: pip install {error.name}"
        raise Refused(f"{module} needs the module {error.name!r}, which is not installed", hint) from error
    except AttributeError as error:
        raise Refused(f"{module} has no function {name!r}", "Check `source` in smoll.yml.") from error
    if callable(made) and not isinstance(made, DltSource):
        made = made(**job["config"])
    if isinstance(made, DltSource):
        return made
    resources = list(made) if isinstance(made, (list, tuple)) else [made]
    if not resources or not all(isinstance(each, dlt.sources.DltResource) for each in resources):
        what = f"{job['source']} gave a {type(made).__name__}, and no dlt source or resource"
        raise Refused(what, "Decorate the function with @dlt.source or @dlt.resource.")
    return dlt.source(lambda: resources, name=job["name"])()


def describe(job: Mapping[str, Any]) -> dict[str, Any]:
    """The resources that the source selects, with what dlt would do with them."""
    from dlt.extract.exceptions import DataItemRequiredForDynamicTableHints

    found = []
    for name, resource in build(job).resources.selected.items():
        try:
            schema = resource.compute_table_schema()
        except DataItemRequiredForDynamicTableHints:
            schema = {}
        disposition = schema.get("write_disposition") or "append"
        columns = schema.get("columns", {})
        found.append(
            {
                "name": name,
                "table": schema.get("name", name),
                "write_disposition": disposition if isinstance(disposition, str) else "append",
                "merge_strategy": schema.get("x-merge-strategy"),
                "primary_key": [key for key, column in columns.items() if column.get("primary_key")],
            }
        )
    return {"streams": found}


def parents(resource: Any) -> list[str]:
    """The names of a resource and of those that it is fed by."""
    names, pipe = [resource.name], resource._pipe.parent
    while pipe is not None:
        names.append(pipe.name)
        pipe = pipe.parent
    return names


@dataclass
class Group:
    """Resources that can be extracted together: they agree about the state they go on from."""

    shared: Mapping[str, Any]
    slices: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    names: list[str] = field(default_factory=list)

    def takes(self, state: Mapping[str, Any], names: Sequence[str]) -> bool:
        """True where nothing that the resource goes on from is another here."""
        slices = state.get("resources", {})
        same = all(self.slices.get(name) == slices.get(name) for name in names if name in self.used)
        return same and self.shared == state.get("shared", {})

    def add(self, name: str, state: Mapping[str, Any], names: Sequence[str]) -> None:
        self.names.append(name)
        self.used |= set(names)
        self.slices |= {each: part for each, part in state.get("resources", {}).items() if each in names}


def group(states: Mapping[str, Mapping[str, Any]], source: Any) -> list[Group]:
    """Put resources together that go on from the same state.

    The state of a stream holds the slices of the resources that feed it, too. They differ once a stream was loaded
    without another that is fed by the same resource: then that resource is read twice, from two places.
    """
    groups: list[Group] = []
    for name, state in states.items():
        names = parents(source.resources[name])
        fitting = next((each for each in groups if each.takes(state, names)), None)
        if fitting is None:
            fitting = Group(state.get("shared", {}))
            groups.append(fitting)
        fitting.add(name, state, names)
    return groups


def extract(job: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Extract the resources that the job names; returns for each its tables and its state."""
    source = build(job)
    missing = [name for name in job["states"] if name not in source.resources]
    if missing:
        known = ", ".join(source.resources)
        raise Refused(f"there is no resource {missing[0]!r}", f"The source has: {known}.", missing[0])
    results: dict[str, Any] = {}
    for number, each in enumerate(group(job["states"], source)):
        again = source if number == 0 else build(job)
        results |= _extract_group(job, again, each, Path(job["work"]) / f"group{number}", tell)
    return {"streams": results}


def _extract_group(
    job: Mapping[str, Any], source: Any, chosen: Group, work: Path, tell: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    import dlt
    from dlt.common.json import custom_pua_decode_nested
    from dlt.common.json import json as dlt_json

    work.mkdir(parents=True)
    fed_by = {name: parents(source.resources[name]) for name in chosen.names}
    source = source.with_resources(*chosen.names)
    pipeline = dlt.pipeline(f"smoll_{job['name']}", pipelines_dir=str(work / "pipelines"))
    with pipeline.managed_state() as state:
        sources = custom_pua_decode_nested(json.loads(json.dumps(dict(chosen.shared))))
        slices = custom_pua_decode_nested(json.loads(json.dumps(chosen.slices)))
        if slices:
            sources.setdefault(source.name, {})["resources"] = slices
        state["sources"] = sources
    with _writing(job, source, work, tell) as written:
        info = pipeline.extract(source)
    after = json.loads(dlt_json.typed_dumps(pipeline.state.get("sources", {})))
    slices = after.get(source.name, {}).pop("resources", {})
    shared = {key: part for key, part in after.items() if part}
    metrics = [metric for each in info.metrics.values() for metric in each]
    tables = _collect(source, written, metrics, info, Path(pipeline.working_dir))
    results = {}
    for name in chosen.names:
        own = {each: slices[each] for each in fed_by[name] if slices.get(each)}
        incremental = any(source.resources[each].incremental for each in fed_by[name] if each in source.resources)
        results[name] = {
            "tables": tables.get(name, []),
            "state": {**({"shared": shared} if shared else {}), **({"resources": own} if own else {})},
            "complete": not (own or shared or incremental),
            "own": _own_tables(source, name),
        }
    return results


def _own_tables(source: Any, name: str) -> list[str]:
    """What dlt may call the one table of a resource; of one that chooses its tables by itself, only its own name."""
    naming, resource = source.schema.naming, source.resources[name]
    names = [name] if callable(resource.table_name) else [name, resource.table_name]
    return [naming.normalize_table_identifier(each) for each in names]


def _collect(
    source: Any, written: Mapping[str, Rows], metrics: Sequence[Any], info: Any, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Everything that was extracted, by resource: tables of lines of JSON, and files of Parquet."""
    counted: dict[str, dict[str, int]] = {}
    for metric in metrics:
        for job, numbers in metric["job_metrics"].items():
            counted.setdefault(job.split(".")[0], {})[job.split(".")[1]] = numbers.items_count
    found: dict[str, list[dict[str, Any]]] = {}
    for table, rows in written.items():
        for name, each in rows.tables.items():
            each.file.close()
            found.setdefault(rows.stream, []).append(
                {
                    "name": table,
                    "below": name,
                    "path": str(each.path),
                    "rows": each.rows if name else None,
                    "columns": {key: sorted(kinds - {"null"}) for key, kinds in each.columns.items()},
                    "hints": {} if name else _hints(source, table, each.columns),
                    "longest": each.longest,
                }
            )
    for load_id in info.loads_ids:
        for path in sorted((folder / "normalize" / "extracted" / load_id / "new_jobs").iterdir()):
            table, kind = path.name.split(".")[0], path.suffix
            if table.startswith("_dlt") or kind == ".typed-jsonl":
                continue
            resource = source.schema.tables[table].get("resource", table)
            if kind != ".parquet":
                raise Refused(f"yields files of the kind {kind}, which cannot be read", "", resource)
            count = counted[table].pop(path.name.split(".")[1])
            # Of a file that a source imports it may not say how many rows it has.
            found.setdefault(resource, []).append({"name": table, "below": "", "path": str(path), "rows": count or -1})
    for tables in found.values():
        for one in tables:
            if one["rows"] is None:
                one["rows"] = sum(counted.get(one["name"], {}).values())
    return found


def _hints(source: Any, table: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the source declares about columns, by the name that the data have: dlt normalizes declared names."""
    declared, naming = source.schema.tables.get(table, {}).get("columns", {}), source.schema.naming
    found = {name: declared.get(name) or declared.get(naming.normalize_path(name or "_")) or {} for name in names}
    return {name: {"data_type": column["data_type"]} for name, column in found.items() if column.get("data_type")}


@contextlib.contextmanager
def _writing(
    job: Mapping[str, Any], source: Any, work: Path, tell: Callable[[Mapping[str, Any]], None]
) -> Iterator[dict[str, Rows]]:
    """Have dlt hand over items here, where it would write its own intermediate files."""
    from dlt.common.data_writers.writers import DataWriter, TypedJsonlListWriter

    written: dict[str, Rows] = {}
    news = {"at": 0.0}
    numbers = iter(range(1_000_000))

    def new() -> line_writer.Table:
        path = work / f"{next(numbers)}.ndjson"
        return line_writer.Table(path, path.open("wb"), other=_by_dlt)

    def rows_of(table: str) -> Rows:
        if table not in written:
            stream = source.schema.tables.get(table, {}).get("resource", table)
            written[table] = Rows(stream, job["nested"].get(stream) == "tables", new, _kept(source, table))
        return written[table]

    def write_data(writer: Any, items: Sequence[Any]) -> None:
        DataWriter.write_data(writer, items)
        rows: Rows | None = getattr(writer, "smoll_rows", None)
        if rows is None:
            rows = writer.smoll_rows = rows_of(Path(writer._f.name).name.split(".")[0])
        try:
            for item in items:
                rows.write(item)
        except Exception as error:
            raise WhileWriting(rows.stream) from error
        if time.monotonic() - news["at"] > _SECONDS_BETWEEN_NEWS:
            news["at"] = time.monotonic()
            sizes: dict[str, int] = {}
            for each in written.values():
                sizes[each.stream] = sizes.get(each.stream, 0) + sum(one.size for one in each.tables.values())
            tell({"fetched": sizes})

    before = TypedJsonlListWriter.write_data
    TypedJsonlListWriter.write_data = write_data
    try:
        yield written
    finally:
        TypedJsonlListWriter.write_data = before


def _kept(source: Any, table: str) -> Callable[[str], bool]:
    """Tells which fields the source itself declares as JSON."""
    columns = source.schema.tables.get(table, {}).get("columns", {})
    declared = {name for name, column in columns.items() if column.get("data_type") == "json"}
    return (lambda path: source.schema.naming.normalize_path(path) in declared) if declared else (lambda path: False)


# --- errors ---------------------------------------------------------------------------------------------------------


def explain(error: BaseException, root: Path) -> Refused:
    """Turn any exception of dlt or of the user's code into one that says what happened, and what to do."""
    chain = list(_chain(error))
    stream = next((str(each.pipe_name) for each in chain if hasattr(each, "pipe_name")), "")
    for each in reversed(chain):
        if isinstance(each, Refused):
            return Refused(each.message, each.hint, each.stream or stream)
        told = _known(each)
        if told:
            return Refused(*told, stream)
    deepest = _deepest(chain)
    text = " ".join(str(deepest).split()) or "without a message"
    where = _place(deepest, root)
    # Not from the user's code: the arguments did not fit its functions.
    hint = _MEND_CONFIG if isinstance(deepest, TypeError) and not where else ""
    return Refused(f"{type(deepest).__name__}: {text}{where}", hint, stream)


def _known(error: BaseException) -> tuple[str, str] | None:
    from dlt.common.configuration.exceptions import ConfigFieldMissingException, ConfigurationException
    from dlt.common.exceptions import DictValidationException
    from requests.exceptions import ConnectionError as Unreachable
    from requests.exceptions import HTTPError, Timeout

    if isinstance(error, line_writer.Unwritable):
        return str(error), ""
    if isinstance(error, HTTPError) and error.response is not None:
        code, reason = error.response.status_code, error.response.reason
        return f"HTTP {code} {reason} from {error.response.url}", _HTTP_HINTS.get(code, "")
    if isinstance(error, (Unreachable, Timeout)):
        url = str(error.request.url) if error.request is not None else "the server"
        what = "no answer in time from" if isinstance(error, Timeout) else "cannot connect to"
        return f"{what} {url}", "Check the address, and that the server is reachable from here; then run again."
    if isinstance(error, ConfigFieldMissingException):
        fields = ", ".join(error.fields)
        return f"dlt misses {fields}", "Set it under `config` in smoll.yml, or in .dlt/secrets.toml of the project."
    if isinstance(error, (DictValidationException, ConfigurationException)):
        return " ".join(str(error).split()), _MEND_CONFIG
    return None


_MEND_CONFIG = "Mend `config` of the source in smoll.yml."
_HTTP_HINTS = {
    401: "Check the credentials in `config`.",
    403: "Check that the credentials in `config` may read this.",
    404: "Check `base_url` and the path of the resource.",
    429: "The server wants fewer requests: wait, then run again.",
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _deepest(chain: Sequence[BaseException]) -> BaseException:
    """The cause that is neither dlt's own wrapping nor the end of a generator."""
    wrappers = ("PipelineStepFailed", "ResourceExtractionError", "WhileWriting")
    for each in chain:
        if type(each).__name__ not in wrappers:
            return each
    return chain[-1]


def _place(error: BaseException, root: Path) -> str:
    """Where in the project's own code it happened."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(root) and "site-packages" not in path.parts:
            return f" ({path.relative_to(root)}, line {frame.lineno})"
    return ""


def hide(text: str, root: Path) -> str:
    """Take out what the process that started this one cannot know to be secret: dlt's own secrets, URL parameters."""
    import tomllib

    text = _QUERY.sub(r"\1", text)
    try:
        known = tomllib.loads((root / ".dlt" / "secrets.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    for secret in sorted(set(_leaves(known)), key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 3] + "..."


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield str(value)


# --- the process ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the job, do it, answer."""
    job = json.loads(sys.stdin.buffer.readline())
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    root, work = Path(job["root"]), Path(job["work"])
    log = os.open(work / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(news: Mapping[str, Any]) -> None:
        answers.write(json.dumps(news) + "\n")
        answers.flush()

    try:
        _prepare(job, root, work)
        tell({"result": describe(job) if job["action"] == "describe" else extract(job, tell)})
    except BaseException as error:
        told = error if isinstance(error, Refused) else _explain_safely(error, root)
        tell({"error": [hide(told.message, root), hide(told.hint, root), told.stream]})
    answers.close()
    os._exit(0)  # threads that a source left behind do not count


def _explain_safely(error: BaseException, root: Path) -> Refused:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "dlt":
        return Refused("dlt is not installed", "Install it with: pip install 'smoll[dlt]'")
    try:
        return explain(error, root)
    except Exception:
        return Refused(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """Wait for the end of stdin: it comes when the process that started this one closes it, or dies."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def _prepare(job: Mapping[str, Any], root: Path, work: Path) -> None:
    """Point dlt to the project's settings and to the scratch folder, and to nothing else."""
    fixed = {
        "DLT_PROJECT_DIR": root,
        "DLT_DATA_DIR": work / "data",
        "DLT_LOCAL_DIR": work,
        "DLT_DISABLE_PLUGINS": "true",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "RESTORE_FROM_DESTINATION": "false",
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
        "DATA_WRITER__BUFFER_MAX_ITEMS": "1",  # what is yielded is written at once, however large it is
    }
    os.environ.update({name: str(value) for name, value in fixed.items()})
    if job["keep_names"]:
        os.environ["SCHEMA__NAMING"] = "direct"
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    from dlt.common.runtime import run_context

    # dlt would look for settings in the home folder, too, or as root in /var.
    run_context.global_dir = lambda: str(work / "home")


if __name__ == "__main__":
    main()
