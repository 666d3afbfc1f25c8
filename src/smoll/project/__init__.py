"""The project file: `smoll.yml` and `.env` -> one frozen, typed `ProjectConfig`."""

from __future__ import annotations

from smoll.project.common import EVERY, Metadata, Mode, Retries
from smoll.project.config import FILE, ProjectConfig, Release, Resources
from smoll.project.dlt import DltBase, DltSource, DltStream
from smoll.project.files import FilesSource, FileStream
from smoll.project.load import find_root, load_config
from smoll.project.orchestrate import RESERVED_NAMES, DagsterOptions, Schedule, Sensor, Trigger
from smoll.project.programs import AirbyteSource, AirbyteStream, ProgramBase, ProgramStream, SingerSource, SingerStream
from smoll.project.rest import RestSource, resources_of
from smoll.project.sources import Source
from smoll.project.sql import SqlSource, SqlStream

__all__ = [
    "EVERY",
    "FILE",
    "RESERVED_NAMES",
    "AirbyteSource",
    "AirbyteStream",
    "DagsterOptions",
    "DltBase",
    "DltSource",
    "DltStream",
    "FileStream",
    "FilesSource",
    "Metadata",
    "Mode",
    "ProgramBase",
    "ProgramStream",
    "ProjectConfig",
    "Release",
    "Resources",
    "RestSource",
    "Retries",
    "Schedule",
    "Sensor",
    "SingerSource",
    "SingerStream",
    "Source",
    "SqlSource",
    "SqlStream",
    "Trigger",
    "find_root",
    "load_config",
    "resources_of",
]
