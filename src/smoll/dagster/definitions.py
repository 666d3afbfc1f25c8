"""The definitions of a project: assets, checks, jobs, schedules and sensors, from its configuration alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from smoll.dagster.assets import (
    WAREHOUSE,
    build_assets,
    check_assets,
    dashboard_specs,
    exposure_specs,
    find_checks,
    load_assets,
    release_asset,
)
from smoll.dagster.history import history_sensor
from smoll.dagster.names import find_names
from smoll.dagster.own import load_own, refuse_shared_tables, tables_of
from smoll.dagster.session import RESOURCE, session_resource
from smoll.dagster.triggers import everything, triggers
from smoll.dagster.warehouse_io import warehouse_io_manager
from smoll.dashboards import read_pages
from smoll.describe import describe
from smoll.errors import SmollError
from smoll.project import ProjectConfig, find_root, load_config


def definitions(path: str | Path) -> dg.Definitions:
    """All of a project, for Dagster.

    Parameters
    ----------
    path
        The project's folder, or any file in it, such as ``__file__`` of its ``definitions.py``.

    Returns
    -------
    dagster.Definitions
        Merge it with your own by ``dagster.Definitions.merge``. Its executor runs the steps in one process, as the
        warehouse has one owner.

    Raises
    ------
    dagster.DagsterInvalidDefinitionError
        The project's files are wrong, a source that must be asked cannot be reached, or dbt cannot parse its project.
    """
    try:
        start = Path(path).resolve()
        config = load_config(find_root(start if start.is_dir() else start.parent))
        return _define(config)
    except SmollError as error:
        raise dg.DagsterInvalidDefinitionError(str(error)) from None


def _define(config: ProjectConfig) -> dg.Definitions:
    description = describe(config)
    own = load_own(config.root)
    pages, _ = read_pages(config.root)
    names = find_names(config.name, description, tables_of(own), [page.slug for page in pages])
    refuse_shared_tables(own, names.tables, WAREHOUSE)
    checks = find_checks(description, names)
    build, others = build_assets(config, description, names, checks)
    steps = [load_assets(config, description, names), build, release_asset(config, description, names)]
    assets = [asset for asset in steps if asset is not None]
    written = {key for asset in own.assets or () for key in _keys(asset)}
    every = written | {key for asset in assets for key in asset.keys}
    jobs, schedules, sensors = triggers(config, description, names, checks, every)
    project = dg.Definitions(
        assets=[
            *assets,
            *exposure_specs(description, names),
            *(dashboard_specs(config, pages, names) if description.released else ()),
            *(one for one in others if one.key not in written),
        ],
        asset_checks=check_assets(names, checks),
        jobs=[everything(config, names, every), *jobs],
        schedules=schedules,
        sensors=[*sensors, history_sensor(config, names, checks)],
        resources={RESOURCE: session_resource(config), WAREHOUSE: warehouse_io_manager(names.tables)},
        executor=dg.in_process_executor if own.executor is None else None,
    )
    return dg.Definitions.merge(project, own)


def _keys(asset: object) -> Iterator[dg.AssetKey]:
    if isinstance(asset, dg.AssetsDefinition):
        yield from asset.keys
    elif isinstance(asset, dg.AssetSpec):
        yield asset.key
