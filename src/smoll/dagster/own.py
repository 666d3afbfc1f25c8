"""The user's own assets: every Python file in the project's ``assets/``."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import dagster as dg

from smoll.errors import ConfigError, Problem, UsageError
from smoll.model import TableRef

SCHEMA = "assets"
"""The schema of the tables of assets whose key has but one part."""


def load_own(root: Path) -> dg.Definitions:
    """What the files in ``assets/`` define: assets, checks, jobs, schedules, sensors, resources.

    Of a file with a `dagster.Definitions` that is what counts, of any other one all that stands in it.

    Raises
    ------
    ConfigError
        A file cannot be imported.
    """
    folder = root / "assets"
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py") if folder.is_dir() else []
    if not files:
        return dg.Definitions()
    if str(root) not in sys.path:  # so that they can import each other, and the project's other modules
        sys.path.append(str(root))
    plain, given = [], []
    for path in files:
        module = _import(path, root)
        found = [value for value in vars(module).values() if isinstance(value, dg.Definitions)]
        given += found
        plain += [] if found else [module]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.Definitions.merge(dg.load_definitions_from_modules(plain), *given)


def _import(path: Path, root: Path) -> ModuleType:
    """Import a file under a name that no other project's file has."""
    name = f"smoll_assets_{hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError([_problem(path, root, error)]) from error
    return module


def _problem(path: Path, root: Path, error: Exception) -> Problem:
    """Where it went wrong, in the last line of the file itself that was reached."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line, said = (lines[-1] if lines else 1) or 1, str(error)
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line, said = error.lineno or 1, error.msg
    return Problem(str(path.relative_to(root)), line, 1, f"{type(error).__name__}: {said}")


def table_of(key: dg.AssetKey) -> TableRef:
    """The table that an asset of the user's own is kept in: ``schema/name``, ``name`` in `SCHEMA`."""
    *schema, name = key.path
    return TableRef("_".join(schema) or SCHEMA, name)


def tables_of(own: dg.Definitions) -> dict[TableRef, dg.AssetKey]:
    """The tables of the assets, by which dbt's sources find them."""
    found = [asset for asset in own.assets or () if isinstance(asset, dg.AssetsDefinition)]
    return {table_of(key): key for asset in found for key in asset.keys}


def refuse_shared_tables(own: dg.Definitions, tables: Mapping[dg.AssetKey, TableRef], io_manager: str) -> None:
    """Refuse an asset whose table would be that of another one, or of a stream or a model.

    Parameters
    ----------
    tables
        Those of the project; a dbt source over an asset has the asset's key.
    io_manager
        Only assets count that it writes.

    Raises
    ------
    UsageError
        Two names are one in the warehouse.
    """
    owners = {str(table).lower(): key for key, table in tables.items()}
    found = [asset for asset in own.assets or () if isinstance(asset, dg.AssetsDefinition)]
    for key in sorted(key for asset in found for key in asset.keys if _writes(asset, key) == io_manager):
        owner = owners.setdefault(str(table_of(key)).lower(), key)
        if owner != key:
            raise UsageError(
                f"The asset {key.to_user_string()} would have the table {table_of(key)}, which is that of "
                f"{owner.to_user_string()}.",
                hint="Give it another key.",
            )


def _writes(asset: dg.AssetsDefinition, key: dg.AssetKey) -> str:
    return asset.get_io_manager_key_for_asset_key(key)
