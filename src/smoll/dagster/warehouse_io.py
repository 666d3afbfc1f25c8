"""Data frames in and out: an IO manager over the project's warehouse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from smoll.model import TableRef


class WarehouseIOManager(dg.IOManager):
    """To be done."""

    def __init__(self, tables: Mapping[dg.AssetKey, TableRef]) -> None:
        self._tables = tables

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        raise NotImplementedError

    def load_input(self, context: dg.InputContext) -> Any:
        raise NotImplementedError
