"""The user's own assets: every Python file in the project's ``assets/``."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import dagster as dg

from smoll.model import TableRef

SCHEMA = "assets"
"""The schema of the tables of assets whose key has but one part."""


def load_own(root: Path) -> dg.Definitions:
    """What the files in ``assets/`` define: assets, checks, jobs, schedules, sensors, resources."""
    folder = root / "assets"
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py") if folder.is_dir() else []
    if not files:
        return dg.Definitions()
    if str(root) not in sys.path:  # so that they can import each other, and the project's other modules
        sys.path.append(str(root))
    modules = [_import(path) for path in files]
    given = [value for module in modules for value in vars(module).values() if isinstance(value, dg.Definitions)]
    if given:
        return dg.Definitions.merge(*given)
    return dg.load_definitions_from_modules(modules)


def _import(path: Path) -> ModuleType:
    """Import a file under a name that no other project's file has."""
    name = f"smoll_assets_{hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def table_of(key: dg.AssetKey) -> TableRef:
    """The table that an asset of the user's own is kept in: ``schema/name``, ``name`` in `SCHEMA`."""
    *schema, name = key.path
    return TableRef("_".join(schema) or SCHEMA, name)


def tables_of(own: dg.Definitions) -> dict[TableRef, dg.AssetKey]:
    """The tables of the assets, by which dbt's sources find them."""
    found = [asset for asset in own.assets or () if isinstance(asset, dg.AssetsDefinition)]
    return {table_of(key): key for asset in found for key in asset.keys}
