"""Every kind of source. A new kind is one module like `files`, and its class here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from smoll.project.dlt import DltSource
from smoll.project.files import FilesSource
from smoll.project.programs import AirbyteSource, SingerSource
from smoll.project.rest import RestSource
from smoll.project.sql import SqlSource

Source = Annotated[
    FilesSource | SqlSource | RestSource | DltSource | SingerSource | AirbyteSource, Field(discriminator="kind")
]
"""One source of the project; `kind` tells which."""
