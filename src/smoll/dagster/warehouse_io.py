"""Data frames from and to the project's warehouse: the IO manager of the user's own assets.

A file in ``assets/``::

    @dg.asset(io_manager_key="warehouse")
    def predictions(fct_flights: pandas.DataFrame) -> pandas.DataFrame: ...

An input may be any stream, model, seed or snapshot, and any asset that was written so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from smoll.dagster.frames_in import READ, RELATION, kind_of, read
from smoll.dagster.frames_out import write
from smoll.dagster.own import table_of
from smoll.dagster.session import RESOURCE, Session, failure
from smoll.errors import Interrupted, LoadError, SmollError
from smoll.load.table import count_rows
from smoll.model import Column, StreamRef, StreamResult, TableRef
from smoll.warehouse import INTERNAL_SCHEMA, columns_of

SOURCE = "dagster"
"""The source of an asset's table, where runs and ``smoll status`` name it as they do streams."""


def warehouse_io_manager(tables: Mapping[dg.AssetKey, TableRef]) -> dg.IOManagerDefinition:
    """The IO manager over the project's warehouse.

    Parameters
    ----------
    tables
        The table behind each stream, model and dbt source.
    """

    @dg.io_manager(required_resource_keys={RESOURCE}, description="Data frames from and to the project's warehouse.")
    def warehouse(context: dg.InitResourceContext) -> WarehouseIOManager:
        return WarehouseIOManager(context.resources.smoll, tables)

    return warehouse


class WarehouseIOManager(dg.IOManager):
    """Gives tables as what inputs are annotated with, and makes what an asset returns its table."""

    def __init__(self, session: Session, tables: Mapping[dg.AssetKey, TableRef]) -> None:
        self._session = session
        self._tables = tables
        self._owners = {str(table).lower(): key for key, table in tables.items()}

    def load_input(self, context: dg.InputContext) -> Any:
        """The table, as what the input is annotated with; a DuckDB relation without. Raises `dagster.Failure`."""
        key, wanted = context.asset_key, context.dagster_type
        only = (context.definition_metadata or {}).get("columns")
        try:
            kind = RELATION if wanted.is_any else kind_of(_class_of(wanted))
            if kind is None:
                known = ", ".join(f"{package}.{name}" for package, name in READ)
                raise LoadError(
                    f"An input cannot be a {wanted.display_name}.", hint=f"Annotate it with one of: {known}."
                )
            table = self._tables.get(key) or table_of(key)
            columns = columns_of(self._session.warehouse(), table)
            if not columns:
                raise LoadError(f"The warehouse has no table {table} yet.", hint="Materialize the asset first.")
            return read(self._session, table, _chosen(columns, only), kind)
        except SmollError as error:
            raise self._failure(f"Input {key.to_user_string()}", error) from None

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Replace the asset's table; None leaves it alone. Raises `dagster.Failure`."""
        if obj is None:
            return
        import duckdb

        key, run, begun = context.asset_key, self._session.run, time.monotonic()
        table = table_of(key)
        result = StreamResult(StreamRef(SOURCE, key.to_user_string()), table, "failed")
        run.streams = tuple(one for one in run.streams if one.ref != result.ref)  # Dagster may try again
        try:
            self._refuse(key, table, partitioned=context.has_asset_partitions)
            warehouse = self._session.warehouse()
            write(warehouse, table, obj, lambda: run.ledger.begin_load(run.number, table))
            columns = columns_of(warehouse, table)
            rows = count_rows(warehouse, table)
        except (SmollError, duckdb.Error) as error:
            run.note(replace(result, error=str(error), seconds=time.monotonic() - begun))
            raise self._failure(f"Asset {key.to_user_string()}", error) from None
        except Exception as error:  # of the user's own, in an iterator
            run.note(replace(result, error=f"{type(error).__name__}: {error}", seconds=time.monotonic() - begun))
            raise
        except BaseException:
            run.error = Interrupted("The run was interrupted.")
            raise
        seconds = time.monotonic() - begun
        run.note(replace(result, status="loaded", rows=rows, total=rows, read=rows, seconds=seconds))
        found = [dg.TableColumn(column.name, column.type) for column in columns]
        context.add_output_metadata(
            {
                "dagster/row_count": rows,
                "dagster/column_schema": dg.TableSchema(columns=found),
                "dagster/table_name": str(table),
                "smoll/run": run.number,
                "smoll/seconds": round(seconds, 3),
            }
        )

    def _refuse(self, key: dg.AssetKey, table: TableRef, *, partitioned: bool) -> None:
        """Refuse what would overwrite something else."""
        owner = self._owners.get(str(table).lower(), key)
        if owner != key:
            raise LoadError(
                f"Its table would be {table}, which is that of {owner.to_user_string()}.", hint="Give it another key."
            )
        if table.schema.lower() == INTERNAL_SCHEMA:
            raise LoadError(f"The schema {INTERNAL_SCHEMA} is smoll's own.", hint="Give it another key.")
        if partitioned:
            raise LoadError(
                "It has partitions, and its table would hold the last one alone.",
                hint="Write all days at once, or keep the partitions elsewhere.",
            )

    def _failure(self, what: str, error: Exception) -> dg.Failure:
        known = error if isinstance(error, SmollError) else LoadError(str(error))
        return failure(self._session.run.config, LoadError(f"{what}: {known.message}", hint=known.hint))


def _class_of(wanted: dg.DagsterType) -> type:
    found = wanted.typing_type
    return found if isinstance(found, type) else object


def _chosen(columns: Sequence[Column], only: Sequence[str] | None) -> Sequence[Column]:
    """The columns, or those that the input's metadata names."""
    if only is None:
        return columns
    known = {column.name.lower(): column for column in columns}
    unknown = [name for name in only if name.lower() not in known]
    if unknown or not only:
        raise LoadError(
            f"There is no column {', '.join(unknown)}." if unknown else "No column is chosen.",
            hint=f"There are: {', '.join(column.name for column in columns)}.",
        )
    return [known[name.lower()] for name in only]
