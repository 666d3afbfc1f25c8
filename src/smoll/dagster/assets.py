"""The three steps of a run as Dagster's assets: load, subsettable by stream; build, by model and check; release."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import dagster as dg

from smoll.dagster.lineage import column_lineage
from smoll.dagster.names import Names, exposure_key, group_of, owners_of, sayable, slug, tags_of
from smoll.dagster.session import RESOURCE, Session
from smoll.dashboards import Page
from smoll.describe import Description, StreamInfo
from smoll.errors import UsageError
from smoll.interrupts import stop_if
from smoll.lineage import find_lineage
from smoll.load.table import count_rows
from smoll.model import CheckResult, Column, NodeResult, ReleaseOutcome, StreamRef, StreamResult, TableRef, map_texts
from smoll.project import ProjectConfig
from smoll.publish import released_nodes
from smoll.run import Run, only
from smoll.transform import HOOK, Graph, GraphNode
from smoll.warehouse import columns_of, open_warehouse

WAREHOUSE = "warehouse"
"""The IO manager by which an asset of the user's own takes a stream or a model as its input."""
_FIRST, _THEN, _LAST = ({"dagster/priority": number} for number in ("10", "5", "-10"))
"""What links two steps may have been left out of a selection; their order stays."""
Facts = Mapping[str, Any]
Checks = Mapping[str, dg.AssetCheckSpec]
"""Checks by dbt id."""


def load_assets(config: ProjectConfig, description: Description, names: Names) -> dg.AssetsDefinition | None:
    """Every stream; None where there is none."""
    if not description.streams:
        return None
    by_key = {names.streams[stream.ref]: stream for stream in description.streams}
    known = [node for node in description.graph.nodes.values() if node.kind == "source"]
    sources = {str(node.table).lower(): node for node in known}
    first = min((stream.daily_from for stream in description.streams if stream.daily_from), default=None)
    # One for all that meet in a job. Today counts: the page's "latest" must not be a day behind.
    days = dg.DailyPartitionsDefinition(first.isoformat(), end_offset=1) if first else None

    @dg.multi_asset(
        name=f"{names.project}_load",
        specs=[
            _stream_spec(config, key, stream, sources.get(str(stream.table).lower()), days)
            for key, stream in by_key.items()
        ],
        op_tags=_FIRST,
        can_subset=True,
        required_resource_keys={RESOURCE},
        pool=names.project,
        backfill_policy=dg.BackfillPolicy.single_run(),
        config_schema={"reload": dg.Field(bool, default_value=False, description="Load everything anew.")},
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[Any]:
        """Load the chosen streams. With a partition: the rows of these days again."""
        session: Session = context.resources.smoll
        keys = {by_key[key].ref: key for key in context.selected_asset_keys}
        span, again = _days(context, [by_key[key] for key in context.selected_asset_keys])
        again = frozenset(keys) if context.op_execution_context.op_config["reload"] and span is None else again
        results: list[StreamResult] = []
        columns: dict[TableRef, tuple[Column, ...]] = {}

        def work(run: Run) -> None:
            with open_warehouse(run.layout.warehouse, run.settings) as warehouse:
                every = session.jobs(warehouse)
                if _goes_on(context, names):
                    session.parse_ahead(every)
                jobs = only(every, frozenset(keys))
                _refuse_gone(keys, {plan.ref for job in jobs for plan in job.plans})
                results.extend(map_texts(run.load(warehouse, jobs, again, span), config.redact))
                stop_if(run.interrupted)
                columns.update({one.table: columns_of(warehouse, one.table) for one in results})

        session.step(work)
        for result in results:
            key = keys.get(result.ref)
            if key is not None and result.status != "failed":
                yield dg.MaterializeResult(
                    asset_key=key, metadata=stream_facts(result, columns[result.table], session.run.number)
                )
        failed = [result for result in results if result.status == "failed"]
        if failed:
            raise dg.Failure("\n".join(f"{result.ref}: {result.error}" for result in failed))

    return load


def _goes_on(context: dg.AssetExecutionContext, names: Names) -> bool:
    """True where this process does other steps of the project, too: they want dbt."""
    step = context.get_step_execution_context()
    others = {*step.execution_plan.step_keys_to_execute} - {step.step.key}
    return any(key.startswith(f"{names.project}_") for key in others)


def _refuse_gone(wanted: Iterable[object], there: Container[object]) -> None:
    """Raise where the project is another one than Dagster knows."""
    gone = [str(one) for one in wanted if one not in there]
    if gone:
        raise UsageError(
            f"The project has changed: {', '.join(gone)} is not there any more.",
            hint="Reload the definitions, then run again.",
        )


def _stream_spec(
    config: ProjectConfig,
    key: dg.AssetKey,
    stream: StreamInfo,
    node: GraphNode | None,
    days: dg.DailyPartitionsDefinition | None,
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        description=(node.description if node else "") or f"Loaded by smoll ({stream.mode}).",
        group_name=slug(stream.ref.source),
        kinds={stream.kind, "duckdb"},
        owners=owners_of(node.owners) if node else None,
        tags=tags_of(node.tags) if node else None,
        partitions_def=days if stream.daily_from else None,
        freshness_policy=_freshness(node) if node else None,
        metadata={
            "dagster/table_name": str(stream.table),
            "smoll/mode": stream.mode,
            **({"smoll/key": ", ".join(stream.key)} if stream.key else {}),
            **({"smoll/cursor": stream.cursor} if stream.cursor else {}),
            "smoll/file": dg.MetadataValue.path(str(config.root / config.locate("sources", stream.ref.source))),
        },
    ).with_io_manager_key(WAREHOUSE)


def _freshness(node: GraphNode) -> dg.FreshnessPolicy | None:
    """What dbt's ``freshness`` of a source says; Dagster's windows are a minute at least."""
    warn, fail = (timedelta(seconds=seconds) if seconds else None for seconds in node.freshness)
    if fail is None:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn if warn and warn < fail else None)


def _days(
    context: dg.AssetExecutionContext, streams: Sequence[StreamInfo]
) -> tuple[tuple[str, str] | None, frozenset[StreamRef]]:
    """The range of days that the run is for, and the streams of which these days are loaded again."""
    if not context.has_partition_key and not context.has_partition_key_range:
        return None, frozenset()
    window = context.partition_time_window
    span = window.start.date().isoformat(), window.end.date().isoformat()
    return span, frozenset(stream.ref for stream in streams if stream.daily_from)


def stream_facts(result: StreamResult, columns: Sequence[Column], run: int) -> Facts:
    """What is known of a loaded stream, for its metadata."""
    return {
        "dagster/row_count": result.total,
        **_schema(columns, {}),
        "smoll/run": run,
        "smoll/status": result.status,
        "smoll/rows_written": result.rows,
        "smoll/rows_read": result.read,
        "smoll/rows_rejected": result.rejected,
        "smoll/seconds": round(result.seconds, 3),
        "smoll/rows_per_second": round(result.rate),
        **({"smoll/cursor": result.cursor} if result.cursor else {}),
        **({"smoll/notes": "\n".join(result.notes)} if result.notes else {}),
    }


def _schema(columns: Sequence[Column], descriptions: Mapping[str, str]) -> Facts:
    if not columns:
        return {}
    found = [dg.TableColumn(column.name, column.type, descriptions.get(column.name)) for column in columns]
    return {"dagster/column_schema": dg.TableSchema(columns=found)}


# --- build ----------------------------------------------------------------------------------------------------------


def build_assets(
    config: ProjectConfig, description: Description, names: Names, checks: Checks
) -> tuple[dg.AssetsDefinition | None, Sequence[dg.AssetSpec]]:
    """Every model, seed and snapshot, with their checks and those of the streams; and what dbt only knows of."""
    graph = description.graph
    built = {names.nodes[node.id]: node for node in graph.nodes.values() if _is_asset(node)}
    own = {spec.key: id for id, spec in checks.items() if spec.asset_key not in names.written}
    loaded = set(names.streams.values())
    others = [
        _node_spec(config, graph, names, node)
        for node in graph.nodes.values()
        if node.kind == "source" and node.id in names.nodes and names.nodes[node.id] not in loaded
    ]
    if not built and not own:
        return None, others

    @dg.multi_asset(
        name=f"{names.project}_build",
        specs=[_node_spec(config, graph, names, node) for node in built.values()],
        check_specs=[checks[id] for id in own.values()],
        op_tags=_THEN,
        can_subset=True,
        required_resource_keys={RESOURCE},
        pool=names.project,
        config_schema={
            "full_refresh": dg.Field(bool, default_value=False, description="As `dbt build --full-refresh`.")
        },
        allow_arbitrary_check_specs=True,  # tests of sources: another step loads those
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        """Build the chosen models with dbt, and run their checks."""
        session: Session = context.resources.smoll
        chosen = frozenset(built[key].id for key in context.selected_asset_keys)
        asked = frozenset(own[key] for key in context.selected_asset_check_keys)
        here = context.job_def.asset_layer.asset_graph.asset_check_keys
        everywhere = frozenset(id for id, spec in checks.items() if spec.key in here)
        results: list[NodeResult] = []
        said: list[CheckResult] = []
        facts: dict[str, Facts] = {}

        def work(run: Run) -> None:
            dbt = session.dbt()
            assert dbt is not None
            before = len(run.nodes), len(run.checks)
            _refuse_gone(chosen, dbt.graph.nodes)
            wanted = chosen | asked | _unasked(graph, chosen, checks, names, everywhere)
            run.build(dbt, wanted, full_refresh=context.op_execution_context.op_config["full_refresh"])
            stop_if(run.interrupted)
            results.extend(run.nodes[before[0] :])
            said.extend(run.checks[before[1] :])
            good = [dbt.graph.nodes[one.id] for one in results if one.status == "success"]
            facts.update(_facts(run, session, good, names))

        session.step(work)
        for result in results:  # in dbt's order, which Dagster wants: parents first
            if result.status == "success" and result.id in chosen:
                about = {**node_facts(result, session.run.number), **facts.get(result.id, {})}
                yield dg.MaterializeResult(asset_key=names.nodes[result.id], metadata=about)
        for check in said:
            if check.status == "skipped" or check.id not in checks:
                continue
            judged = check_result(check, checks[check.id], session.run.number)
            if check.id in asked:
                yield judged
            else:  # a test over two models, of which the other one has it
                context.instance.report_runless_asset_event(check_evaluation(judged))
        _fail_if_broken(results, said, chosen | asked)

    return build, others


def check_assets(names: Names, checks: Checks) -> list[dg.AssetChecksDefinition]:
    """The tests of what assets of the user's own write, a step for each: it comes between two builds, or after them."""
    found: dict[dg.AssetKey, dict[str, dg.AssetCheckSpec]] = {}
    for id, spec in checks.items():
        if spec.asset_key in names.written:
            found.setdefault(spec.asset_key, {})[id] = spec
    return [_checks_of(key, own, names) for key, own in found.items()]


def _checks_of(key: dg.AssetKey, checks: Checks, names: Names) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"{names.project}_check_{slug('_'.join(key.path))}",
        specs=[*checks.values()],
        can_subset=True,
        required_resource_keys={RESOURCE},
        pool=names.project,
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """Run the tests of an asset with dbt."""
        session: Session = context.resources.smoll
        asked = context.selected_asset_check_keys
        said: list[CheckResult] = []

        def work(run: Run) -> None:
            dbt = session.dbt()
            assert dbt is not None
            before = len(run.checks)
            run.build(dbt, frozenset(id for id, spec in checks.items() if spec.key in asked))
            stop_if(run.interrupted)
            said.extend(run.checks[before:])

        session.step(work)
        for one in said:
            if one.status != "skipped":
                yield check_result(one, checks[one.id], session.run.number)

    return check


def _is_asset(node: GraphNode) -> bool:
    return node.is_built and node.materialized != "ephemeral"


def _unasked(
    graph: Graph,
    chosen: frozenset[str],
    known: Checks,
    names: Names,
    asked: frozenset[str],
) -> frozenset[str]:
    """The checks that follow from what is built, as with ``dbt build``: without them nothing would be released.

    Where somebody left out a check of a chosen model, it is left out.

    Parameters
    ----------
    asked
        Checks of this run, in this step or another one.
    """
    if not chosen:
        return frozenset()
    follow = {check.id for check in graph.checks() if not check.parents or chosen & set(check.parents)}
    own = {names.nodes[id] for id in chosen}
    primary = {id for id in follow if id in known and known[id].asset_key in own}
    return frozenset(follow - primary - asked)


def _primary(check: GraphNode, graph: Graph, names: Names) -> str | None:
    """The node that a check belongs to: where it was declared, else the first model it looks at.

    Not one that has to wait for an asset of the user's own that the check looks at, if there is another one: that asset
    may wait for the node and its checks.
    """
    seen = [graph.nodes[id] for id in (check.attached, *check.parents) if id in graph.nodes]
    models = [node for node in seen if _is_asset(node)]
    found = [*models, *(node for node in seen if node.kind == "source")]
    free = [node for node in found if not _waits(check, node.id, graph, names)]
    return next((node.id for node in [*free, *found]), None)


def _waits(check: GraphNode, primary: str, graph: Graph, names: Names) -> bool:
    """True where what the check looks at comes of an asset of the user's own that its node does not come of."""
    above = graph.ancestors(check.parents) - graph.ancestors([primary])
    return any(names.nodes.get(id) in names.written for id in above)


def find_checks(description: Description, names: Names) -> Checks:
    """Every check, with the asset that it belongs to."""
    graph, found = description.graph, dict[str, dg.AssetCheckSpec]()
    taken: set[tuple[dg.AssetKey, str]] = set()
    for check in graph.checks():
        primary = _primary(check, graph, names) or next(iter(description.released), None)
        if primary is None or primary not in names.nodes:
            continue
        key = names.nodes[primary]
        name = sayable(check.name)
        name = name if (key, name) not in taken else sayable(check.id)
        taken.add((key, name))
        more = {names.nodes[id] for id in check.parents if id in names.nodes and _is_known(graph.nodes[id])} - {key}
        found[check.id] = dg.AssetCheckSpec(
            name,
            asset=key,
            description=check.description or None,
            additional_deps=sorted(more),
            blocking=check.severity == "error" and not _waits(check, primary, graph, names),
            metadata={"smoll/severity": check.severity, "smoll/file": check.path},
        )
    return found


def _is_known(node: GraphNode) -> bool:
    return _is_asset(node) or node.kind == "source"


def _node_spec(config: ProjectConfig, graph: Graph, names: Names, node: GraphNode) -> dg.AssetSpec:
    kinds = {"dbt", "duckdb", *({node.kind} if node.kind in ("seed", "snapshot") else ())}
    if node.materialized in ("table", "view", "incremental"):
        kinds.add(node.materialized)
    declared = [Column(name, "?") for name, _ in node.columns]
    return dg.AssetSpec(
        names.nodes[node.id],
        deps=sorted({names.nodes[id] for id in _upstream(graph, node)}),
        description=node.description or None,
        group_name=group_of(node) if node.is_built else slug(node.name.split(".")[0]),
        kinds=kinds if node.is_built else {"duckdb"},
        owners=owners_of(node.owners),
        tags=tags_of(node.tags),
        freshness_policy=_freshness(node),
        metadata={
            "dagster/table_name": str(node.table),
            **_schema(declared, dict(node.columns)),
            **({"smoll/materialized": node.materialized} if node.materialized else {}),
            **({"smoll/file": dg.MetadataValue.path(str(config.transform_dir / node.path))} if node.own else {}),
        },
    ).with_io_manager_key(WAREHOUSE)


def _upstream(graph: Graph, node: GraphNode) -> set[str]:
    """The assets that a node reads, through models that exist only as text."""
    found: set[str] = set()
    for id in node.parents:
        parent = graph.nodes.get(id)
        if parent is not None:
            found |= {id} if _is_known(parent) else _upstream(graph, parent)
    return found


def _facts(run: Run, session: Session, nodes: Sequence[GraphNode], names: Names) -> dict[str, Facts]:
    """Columns, lineage of columns and rows of what was built, as the warehouse has it now."""
    dbt = session.dbt()
    assert dbt is not None
    found: dict[str, Facts] = {}
    built = [node for node in nodes if node.table is not None and _is_asset(node)]
    compiled = {node.id: sql for node in built if (sql := dbt.compiled(node.id))}
    with open_warehouse(run.layout.warehouse, run.settings) as warehouse:
        lineage = find_lineage(run.layout.column_lineage, dbt.graph, warehouse, compiled)
        for node in built:
            assert node.table is not None
            columns = columns_of(warehouse, node.table)
            facts = dict(_schema(columns, dict(node.columns)))
            if columns and node.materialized != "view":  # a materialization of the user's own may leave none
                facts["dagster/row_count"] = count_rows(warehouse, node.table)
            found[node.id] = {**facts, **column_lineage(names, lineage.above.get(node.id))}
    return found


def node_facts(result: NodeResult, run: int) -> Facts:
    """What is known of a built node, for its metadata."""
    return {"smoll/run": run, "smoll/seconds": round(result.seconds, 3)}


def check_result(result: CheckResult, spec: dg.AssetCheckSpec, run: int) -> dg.AssetCheckResult:
    """What a check said."""
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=result.status == "pass",
        severity=dg.AssetCheckSeverity.WARN if _is_warning(result) else dg.AssetCheckSeverity.ERROR,
        description=result.message or None,
        metadata={"smoll/run": run, "smoll/failures": result.failures, "smoll/seconds": round(result.seconds, 3)},
    )


def _is_warning(result: CheckResult) -> bool:
    return result.status == "warn" or (result.severity == "warn" and result.status != "error")


def check_evaluation(result: dg.AssetCheckResult, more: Facts = MappingProxyType({})) -> dg.AssetCheckEvaluation:
    """The same as an event that belongs to no step."""
    assert result.asset_key is not None and result.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata={**(result.metadata or {}), **more},
    )


def _fail_if_broken(results: Iterable[NodeResult], said: Iterable[CheckResult], wanted: frozenset[str]) -> None:
    """Raise where a model failed or was left out, or a check has no answer; a check that failed says so itself."""
    broken = [f"{one.name}: {one.message}" for one in results if one.status == "error"]
    blocking = [one for one in said if one.id not in wanted and one.severity == "error"]
    broken += [f"{one.name}: {one.message}" for one in blocking if one.status in ("error", "fail")]
    hooks = [one for one in results if one.kind == HOOK and one.status == "error"]
    skipped = [one.name for one in results if one.status == "skipped"]
    if broken or hooks or skipped:
        left = f"Not built, as something above failed: {', '.join(skipped)}." if skipped else ""
        raise dg.Failure("\n".join(filter(None, [*broken, left])))


# --- release --------------------------------------------------------------------------------------------------------


def release_asset(config: ProjectConfig, description: Description, names: Names) -> dg.AssetsDefinition | None:
    """The release; None where nothing would be in it."""
    graph = description.graph
    below = {id for released in description.released for id in _sources_of(graph, graph.nodes[released])}
    if not description.released:
        return None

    @dg.asset(
        key=names.release,
        deps=sorted({names.nodes[id] for id in below}),
        group_name=names.project,
        kinds={"duckdb"},
        description=f"What readers see of {config.name}: complete, checked, and numbered.",
        required_resource_keys={RESOURCE},
        pool=names.project,
        metadata={"smoll/current": dg.MetadataValue.path(str(config.root / ".smoll/releases/current"))},
        op_tags=_LAST,
        config_schema={
            "allow_breaking": dg.Field(bool, default_value=False, description="As `smoll run --allow-breaking`.")
        },
    )
    def release(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """Publish what the warehouse holds, if every check allows it."""
        session: Session = context.resources.smoll

        def work(run: Run) -> None:
            dbt = session.dbt()
            assert dbt is not None
            allow = context.op_execution_context.op_config["allow_breaking"]
            run.publish(dbt, released_nodes(run.config, dbt), allow_breaking=allow)

        session.step(work)
        outcome = session.run.release
        if outcome.status == "refused":
            raise dg.Failure("The release is refused.\n" + "\n".join(_refusals(outcome)))
        for key, facts in dashboard_facts(names, outcome, session.run.number):
            context.instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=facts))  # of no step
        return dg.MaterializeResult(
            asset_key=names.release,
            metadata=release_facts(config, outcome, session.run.number),
            data_version=dg.DataVersion(str(outcome.number)) if outcome.number is not None else None,
        )

    return release


def _sources_of(graph: Graph, node: GraphNode) -> set[str]:
    return {node.id} if _is_known(node) else _upstream(graph, node)


def _refusals(outcome: ReleaseOutcome) -> Iterator[str]:
    for refusal in outcome.refusals:
        yield f"{refusal.subject} {refusal.reason}" + (f" ({refusal.remedy})" if refusal.remedy else "")


def release_facts(config: ProjectConfig, outcome: ReleaseOutcome, run: int) -> Facts:
    """What is known of a release, for its metadata."""
    folder = config.root / outcome.path if outcome.path else None
    tables = dg.MetadataValue.md("\n".join(f"- `{name}`" for name in outcome.tables))
    return {
        "smoll/run": run,
        "smoll/release": outcome.number if outcome.number is not None else "none",
        "smoll/status": outcome.status,
        **({"smoll/tables": tables} if outcome.tables else {}),
        **({"smoll/folder": dg.MetadataValue.path(str(folder))} if folder else {}),
        **({"smoll/message": outcome.message} if outcome.message else {}),
    }


def exposure_specs(description: Description, names: Names) -> list[dg.AssetSpec]:
    """Dbt's exposures: dashboards and whatever else is made of the tables."""
    return [
        dg.AssetSpec(
            exposure_key(exposure),
            deps=sorted(
                {
                    names.release if id in description.released else names.nodes[id]
                    for id in exposure.parents
                    if id in names.nodes
                }
            ),
            description=exposure.description or exposure.title or None,
            group_name="exposures",
            kinds={exposure.kind},
            owners=owners_of(exposure.owners),
            tags=tags_of(exposure.tags),
            metadata={"smoll/url": dg.MetadataValue.url(exposure.url)} if exposure.url else {},
        )
        for exposure in description.graph.exposures
    ]


def dashboard_specs(config: ProjectConfig, pages: Iterable[Page], names: Names) -> list[dg.AssetSpec]:
    """The dashboards, which are made with the release, so that what comes of what ends in what people look at."""
    return [
        dg.AssetSpec(
            names.dashboards[page.slug],
            deps=[names.release],
            description=f"{page.title}. {page.description}".removesuffix(" "),
            group_name="dashboards",
            kinds={"dashboard"},
            metadata={"smoll/file": dg.MetadataValue.path(str(config.root / page.file))},
        )
        for page in pages
    ]


def dashboard_facts(names: Names, outcome: ReleaseOutcome, run: int) -> Iterator[tuple[dg.AssetKey, Facts]]:
    """What is known of each dashboard of a new release; nothing where there is none."""
    if outcome.status in ("published", "staged") and outcome.number is not None:
        for key in names.dashboards.values():
            yield key, {"smoll/run": run, "smoll/release": outcome.number}
