"""``smoll check``: would a run work? Sources are reached and dbt parses; nothing is loaded, built or released."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from smoll.connectors import connector_for
from smoll.errors import SmollError
from smoll.model import Finding
from smoll.plan import find_jobs, open_transform
from smoll.state.layout import Layout
from smoll.warehouse import engine_settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from smoll.project import ProjectConfig


def examine_project(config: ProjectConfig) -> tuple[Finding, ...]:
    """Look at everything a run needs. Every finding stands for itself; one error does not hide the others."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        findings = [
            Finding(
                "smoll.yml",
                "ok",
                f"{config.name}: {len(config.sources)} source{'' if len(config.sources) == 1 else 's'}",
            ),
            *_sources(config, connection),
        ]
        if all(finding.level == "ok" for finding in findings):
            findings.append(_dbt(config, connection))
    return tuple(findings)


def _sources(config: ProjectConfig, connection: DuckDBPyConnection) -> Iterator[Finding]:
    for name, source in config.sources.items():
        topic = f"source {name}"
        try:
            said = connector_for(source.kind).check(name, source, config.root, connection)
            yield Finding(topic, "ok", said)
        except SmollError as error:
            yield Finding(topic, "error", config.redact(error.message), config.redact(error.hint))


def _dbt(config: ProjectConfig, connection: DuckDBPyConnection) -> Finding:
    if not (config.transform_dir / "dbt_project.yml").is_file():
        return Finding("dbt", "note", f"there is no dbt project in {config.transform}")
    layout = Layout(config.root)
    settings = engine_settings(config.resources.memory, config.resources.threads, layout.tmp)
    try:
        with tempfile.TemporaryDirectory(prefix="smoll-check-") as work:
            jobs = find_jobs(config, connection)
            dbt = open_transform(config, layout, settings, jobs, lambda line: None, lambda event: None, Path(work))
    except SmollError as error:
        return Finding("dbt", "error", config.redact(error.message), config.redact(error.hint))
    nodes = dbt.graph.nodes.values() if dbt else ()
    built = sum(node.is_built for node in nodes)
    return Finding("dbt", "ok", f"{built} models, seeds and snapshots, {sum(n.is_check for n in nodes)} checks")
