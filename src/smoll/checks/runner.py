"""Runs smoll's own checks: those over one table in one scan, as far as they can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from smoll.checks import measures
from smoll.checks.measures import Known, Measure, Table
from smoll.checks.rows import NOTHING_TO_SHOW, fetch_rows, rows_of_query
from smoll.errors import UsageError
from smoll.events import CheckFinished, Listener, NodeStarted
from smoll.model import CheckResult, CheckStatus, FailingRows, TableRef, literal
from smoll.profiles import TableProfile, profile_table
from smoll.project import (
    AnomalyCheck,
    Check,
    CompletenessCheck,
    DistributionCheck,
    FreshnessCheck,
    RangeCheck,
    ReconciliationCheck,
    ReferencesCheck,
    RowsCheck,
    SqlCheck,
    UniquenessCheck,
)
from smoll.state.ledger import table_key
from smoll.transform.declared import OwnCheck
from smoll.transform.graph import Graph, GraphNode
from smoll.transform.personal import without_values
from smoll.warehouse import INTERNAL_SCHEMA, columns_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.model import StreamState


@dataclass(frozen=True)
class Surroundings:
    """What checks must know of the project.

    ``run`` is the number of this one. ``streams`` are those that were ever loaded. ``rows_released`` gives the rows of
    a node's table in the last releases, the newest first; ``profiles`` what is kept of a table's profiles, and
    ``ignored`` the columns that no profile of a node has.
    """

    graph: Graph
    run: int
    streams: Sequence[StreamState]
    rows_released: Callable[[str, int], Sequence[int]]
    profiles: Callable[[TableRef], Sequence[TableProfile]]
    ignored: Callable[[GraphNode], Set[str]]
    redact: Callable[[str], str]


def run_checks(
    connection: DuckDBPyConnection, checks: Sequence[OwnCheck], around: Surroundings, emit: Listener
) -> Iterator[tuple[CheckResult, FailingRows | None]]:
    """Run checks of smoll's own, and tell of each. Gives what each said, and some of the rows on which it failed.

    What cannot be computed is a result, too, of status ``error``.
    """
    groups: dict[str, list[OwnCheck]] = {}
    for check in checks:
        alone = isinstance(check.options, (SqlCheck, AnomalyCheck))
        groups.setdefault(check.node.id if alone else str(check.tables[0].table).lower(), []).append(check)
    for group in groups.values():
        for check in group:
            emit(NodeStarted(check.node.id, check.node.name, check.node.kind))
        for result, rows in _run_group(connection, group, around):
            emit(CheckFinished(result))
            yield result, rows


def skipped(check: OwnCheck) -> CheckResult:
    """The result of a check whose table was not built."""
    return _result(check, "skipped", "")


def _run_group(
    connection: DuckDBPyConnection, group: Sequence[OwnCheck], around: Surroundings
) -> Iterator[tuple[CheckResult, FailingRows | None]]:
    import duckdb

    begun = time.monotonic()
    measured: dict[str, Measure | str] = {}
    for check in group:
        try:
            measured[check.node.id] = _measure(connection, check, around)
        except UsageError as error:
            measured[check.node.id] = error.message
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            measured[check.node.id] = _said(around.graph, check, error)
    shared = [one for one in measured.values() if isinstance(one, Measure) and one.figures and not one.query]
    scanned = _scan(connection, group[0], shared)
    each = (time.monotonic() - begun) / len(group)
    for check in group:
        begun = time.monotonic()
        measure = measured[check.node.id]
        rows: FailingRows | None = None
        if isinstance(measure, str):
            result = _result(check, "error", f"{check.node.path}: {measure}")
        else:
            try:
                found = scanned.get(id(measure))
                if found is None:
                    found = _ask(connection, check, measure)
                verdict = measure.judge(found)
                result = _result(check, "pass", verdict.message)
                if not verdict.passed:
                    status: CheckStatus = "warn" if check.node.severity == "warn" else "fail"
                    result = replace(result, status=status, failures=verdict.failures)
                    rows = _rows(connection, check, measure, around)
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                result = _result(check, "error", _said(around.graph, check, error))
        yield replace(result, seconds=round(each + time.monotonic() - begun, 3)), rows


def _result(check: OwnCheck, status: CheckStatus, message: str) -> CheckResult:
    node = check.node
    return CheckResult(node.id, node.name, status, node.severity, message=message, nodes=node.parents)


def _said(graph: Graph, check: OwnCheck, error: Exception) -> str:
    """What DuckDB says, without values where some of them may be personal."""
    text = str(error).splitlines()[0]
    return without_values(text) if _personal(graph, check) else text


def _personal(graph: Graph, check: OwnCheck) -> frozenset[str]:
    """The columns of which nothing may be shown; of a check that names no table, those of all."""
    return graph.personal(check.node.parents or graph.nodes)


def _scan(connection: DuckDBPyConnection, check: OwnCheck, shared: Sequence[Measure]) -> dict[int, Sequence[Any]]:
    """Compute the figures of several checks in one scan; {} where that fails, so that each is computed by itself."""
    import duckdb

    if len(shared) < 2:
        return {}
    table = check.tables[0].table
    assert table is not None
    try:
        figures = ", ".join(figure for measure in shared for figure in measure.figures)
        row = list(connection.execute(f"SELECT {figures} FROM {table.sql}").fetchone() or ())
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        return {}
    found: dict[int, Sequence[Any]] = {}
    for measure in shared:
        found[id(measure)], row = row[: len(measure.figures)], row[len(measure.figures) :]
    return found


def _ask(connection: DuckDBPyConnection, check: OwnCheck, measure: Measure) -> Sequence[Any]:
    if not measure.figures:
        return ()
    source = measure.query
    if not source:
        table = check.tables[0].table
        assert table is not None
        source = f"FROM {table.sql}"
    return connection.execute(f"SELECT {', '.join(measure.figures)} {source}").fetchone() or ()


def _rows(
    connection: DuckDBPyConnection, check: OwnCheck, measure: Measure, around: Surroundings
) -> FailingRows | None:
    import duckdb

    if isinstance(check.options, SqlCheck):
        return rows_of_query(connection, measure.rows, around.graph, around.run, around.redact)
    if not measure.rows:
        return None
    try:
        return fetch_rows(connection, measure.rows, around.run, around.redact)
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        return FailingRows(around.run, note=NOTHING_TO_SHOW)


def _measure(connection: DuckDBPyConnection, check: OwnCheck, around: Surroundings) -> Measure:
    options = check.options
    _parse_written(connection, options)
    if isinstance(options, SqlCheck):
        return measures.own_sql(options)
    table = _table(connection, check, check.tables[0], around)
    match options:
        case CompletenessCheck():
            return measures.completeness(options, table)
        case UniquenessCheck():
            return measures.uniqueness(options, table)
        case RangeCheck():
            return measures.in_range(options, table)
        case DistributionCheck():
            return measures.distribution(options, table)
        case RowsCheck():
            return measures.rows(options, table, _known(connection, check, around))
        case FreshnessCheck():
            return measures.freshness(options, table, _known(connection, check, around))
        case ReferencesCheck():
            return measures.references(options, table, _table(connection, check, check.tables[1], around))
        case AnomalyCheck():
            node = check.tables[0]
            ignored = around.ignored(node)
            if options.columns:
                named = {table.column(name).name.lower() for name in options.columns}
                ignored |= {column.name.lower() for column in table.columns} - named
            now = profile_table(connection, table.ref, ignored=ignored, pii=table.personal)
            return measures.anomaly(options, now, around.profiles(table.ref))
        case ReconciliationCheck() if options.to is not None:
            return measures.reconciliation(options, table, _table(connection, check, check.tables[1], around))
        case ReconciliationCheck():
            assert check.stream is not None
            return measures.load_reconciliation(table, check.stream.source, check.stream.stream)


def _parse_written(connection: DuckDBPyConnection, options: Check) -> None:
    """Raise duckdb.Error where SQL that a person wrote is none by itself.

    It will stand between parentheses; one that closes them could go on with statements that change what is released.
    """
    where = getattr(options, "where", None)
    if isinstance(options, SqlCheck):
        connection.extract_statements(options.sql)
    elif where is not None:
        connection.extract_statements(f"SELECT {where}")


def _table(connection: DuckDBPyConnection, check: OwnCheck, node: GraphNode, around: Surroundings) -> Table:
    assert node.table is not None
    columns = columns_of(connection, node.table)
    if not columns:
        raise UsageError(f"{node.table} is not there; it was never {'loaded' if node.kind == 'source' else 'built'}")
    return Table(node.table, columns, _personal(around.graph, check))


def _known(connection: DuckDBPyConnection, check: OwnCheck, around: Surroundings) -> Known:
    node = check.tables[0]
    graph = around.graph
    loaded = {table_key(state.table): state for state in around.streams}
    behind = [graph.nodes[id] for id in graph.ancestors([node.id])]
    sources = {table_key(one.table) for one in behind if one.kind == "source" and one.table is not None}
    moments = {str(loaded[key].ref): loaded[key].loaded for key in sorted(sources) if key in loaded}
    if check.stream is not None and not moments:
        moments = {str(check.stream): None}

    def rows_before(number: int) -> Sequence[int]:
        assert node.table is not None
        if check.stream is None:
            return around.rows_released(node.id, number)
        return _rows_of_loads(connection, node.table, around.run, number)

    return Known(datetime.now(UTC), moments, rows_before)


def _rows_of_loads(connection: DuckDBPyConnection, table: TableRef, run: int, number: int) -> Sequence[int]:
    found = connection.execute(
        f"""SELECT arg_max(rows_total, finished) FROM {INTERNAL_SCHEMA}.loads
        WHERE schema_name = {literal(table.schema)} AND table_name = {literal(table.name)} AND run < {run:d}
        GROUP BY run ORDER BY run DESC LIMIT {number:d}"""
    ).fetchall()
    return [int(row[0]) for row in found]
