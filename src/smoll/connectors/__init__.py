"""The kinds of source. One module for each, one line here."""

from __future__ import annotations

from typing import cast

from smoll.connector import Connector
from smoll.connectors import airbyte, dlt, files, rest, singer, sql

_REGISTRY = {"airbyte": airbyte, "dlt": dlt, "files": files, "rest": rest, "singer": singer, "sql": sql}


def connector_for(kind: str) -> Connector:
    """Return the connector of a source's ``kind``. The configuration admits no other kinds."""
    return cast(Connector, _REGISTRY[kind])
