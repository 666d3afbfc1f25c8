"""The project file: `smoll.yml` and `.env` -> one frozen, typed `ProjectConfig`."""

from __future__ import annotations

from smoll.project.checks import (
    AnomalyCheck,
    Bounds,
    Check,
    CompletenessCheck,
    DistributionCheck,
    FreshnessCheck,
    RangeCheck,
    ReconciliationCheck,
    ReferencesCheck,
    RowsCheck,
    ShareBounds,
    SqlCheck,
    UniquenessCheck,
)
from smoll.project.common import EVERY, Metadata, Mode, Retries
from smoll.project.config import FILE, ProjectConfig, Release, Resources
from smoll.project.dlt import DltBase, DltSource, DltStream
from smoll.project.files import FilesSource, FileStream
from smoll.project.load import find_root, load_config, read_check
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
    "AnomalyCheck",
    "Bounds",
    "Check",
    "CompletenessCheck",
    "DagsterOptions",
    "DistributionCheck",
    "DltBase",
    "DltSource",
    "DltStream",
    "FileStream",
    "FilesSource",
    "FreshnessCheck",
    "Metadata",
    "Mode",
    "ProgramBase",
    "ProgramStream",
    "ProjectConfig",
    "RangeCheck",
    "ReconciliationCheck",
    "ReferencesCheck",
    "Release",
    "Resources",
    "RestSource",
    "Retries",
    "RowsCheck",
    "Schedule",
    "Sensor",
    "ShareBounds",
    "SingerSource",
    "SingerStream",
    "Source",
    "SqlCheck",
    "SqlSource",
    "SqlStream",
    "Trigger",
    "UniquenessCheck",
    "find_root",
    "load_config",
    "read_check",
    "resources_of",
]
