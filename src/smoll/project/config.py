"""The project file as one frozen value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, WithJsonSchema

from smoll.project.checks import Checks
from smoll.project.document import Document
from smoll.project.fields import Bytes, Section, ShortForm, Text, complaint, freeze
from smoll.project.orchestrate import DagsterOptions, Schedule, Sensor, check_job_name
from smoll.project.sources import Source

FILE = "smoll.yml"
LEAST_MEMORY = 400_000_000  # Python and dbt take 200 MB; DuckDB needs the rest to work at all


def _check_project_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_ .-]*", name):
        raise complaint(
            f"a project cannot be named {name!r}",
            "letters, digits, _ - . and spaces; the first a letter, digit or _",
        )
    return name


def _check_source_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise complaint(f"a source cannot be named {name!r}", "letters, digits and _; the first a letter")
    return name


def _check_memory(memory: int) -> int:
    if memory < LEAST_MEMORY:
        raise complaint("memory must be at least 400MB", "Python and dbt alone take about 200 MB")
    return memory


def _short_warehouse(value: Any) -> Any:
    return value.get("kind", "") if isinstance(value, dict) and set(value) <= {"kind"} else value


def _with_schemas(sources: Any) -> Any:
    """Give every source that names no schema its own, ``raw_<source>``."""
    if not isinstance(sources, dict):
        return sources
    return {
        name: {**spec, "schema": schema_of(name, spec)} if isinstance(spec, dict) else spec
        for name, spec in sources.items()
    }


def schema_of(source: str, spec: Mapping[str, Any]) -> Any:
    """Return the schema that a source as written in the file loads into."""
    return f"raw_{source}" if spec.get("schema") is None else spec["schema"]


class Release(Section):
    """What is released, and how many releases are kept."""

    select: Text | None = Field(
        default=None,
        description="What is released, in dbt's selection syntax. Default: the models under "
        "`models/marts/`, or every model where there is no such folder.",
        examples=["path:models/marts"],
    )
    keep: int = Field(
        default=10,
        ge=1,
        description="How many releases stay on disk, the current one included. Pinned ones do not count.",
        examples=[30],
    )
    keep_days: int | None = Field(
        default=None,
        ge=1,
        description="How old releases may be that stay, in days. Default: any age.",
        examples=[90],
    )
    keep_bytes: Bytes | None = Field(
        default=None,
        description="How much all releases together may take. Default: a quarter of the disk.",
        examples=["20GB"],
    )


class Resources(Section):
    """How much of the machine a run may use."""

    memory: Annotated[Bytes, AfterValidator(_check_memory)] | None = Field(
        default=None,
        description="Memory for the whole run, Python and dbt included; at least 400MB. Default: by what the "
        "machine has.",
        examples=["1GB"],
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="How many threads compute at the same time. Default: one per processor core.",
        examples=[2],
    )


class Undo(Section):
    """How many copies of the working warehouse are kept for `smoll undo`."""

    keep: int = Field(
        default=3,
        ge=0,
        description="How many copies of the working warehouse stay, one from before each of the last runs. `0`: none.",
        examples=[10],
    )
    copy_up_to: Bytes = Field(
        default=256_000_000,
        json_schema_extra={"default": "256MB"},
        description="Where the file system has no reflinks (ext4 for example), a copy is written out: only of a "
        "warehouse of at most this size.",
        examples=["2GB"],
    )


def _check_former_names(sources: Mapping[str, Source]) -> Mapping[str, Source]:
    for name, source in sources.items():
        if source.was in sources:
            raise complaint(f"{name} was {source.was}, and there is a source {source.was}", "remove one, or `was`")
    return sources


@dataclass(frozen=True)
class Origin:
    """Where a configuration comes from, and what of it must never be shown."""

    root: Path
    dotenv: Mapping[str, str]
    document: Document
    redact: Callable[[str], str]
    hash: str = ""


class ProjectConfig(Section):
    """The content of `smoll.yml`, checked, and of `.env`. Made by `load_config`; immutable.

    ``resources.memory`` is in bytes. The ``url`` of a source and ``dagster.storage`` are a ``SecretStr``; everything
    that is shown or stored goes through `redact`.
    """

    name: Annotated[str, AfterValidator(_check_project_name)] = Field(
        description="Name of the project: letters, digits, `_`, `-`, `.` and spaces.",
        examples=["flights"],
    )
    warehouse: Annotated[
        Literal["duckdb"],
        BeforeValidator(_short_warehouse),
        WithJsonSchema(
            {
                "anyOf": [
                    {"const": "duckdb"},
                    {
                        "type": "object",
                        "properties": {"kind": {"const": "duckdb", "description": "The engine."}},
                        "required": ["kind"],
                        "additionalProperties": False,
                    },
                ]
            }
        ),
    ] = Field(
        default="duckdb",
        description="The engine that stores and computes. Also written `{kind: duckdb}`.",
        examples=["duckdb"],
    )
    sources: Annotated[
        Mapping[Annotated[str, AfterValidator(_check_source_name)], Source],
        AfterValidator(_check_former_names),
        AfterValidator(freeze),
        BeforeValidator(_with_schemas),
    ] = Field(
        default={},
        description="Where data comes from, by name (letters, digits and `_`).",
        examples=[{"nyc": {"kind": "files", "streams": {"planes": "data/planes.parquet"}}}],
    )
    transform: Text = Field(
        default="transform",
        description="Folder of the dbt project, relative to the project folder or absolute.",
        examples=["dbt"],
    )
    release: Release = Field(
        default=Release(),
        description="What a release holds, and how many of them are kept.",
        examples=[{"keep": 30}],
    )
    undo: Undo = Field(
        default=Undo(),
        description="What `smoll undo` can go back to.",
        examples=[{"keep": 10}, {"keep": 3, "copy_up_to": "2GB"}],
    )
    checks: Checks = Field(
        default=(),
        description="What must hold before anything is released, beside dbt's tests; a list. Checks may also stand in "
        "dbt's `meta`. See [checks](checks.md).",
        examples=[[{"kind": "rows", "table": "fct_flights", "min": 1}]],
    )
    resources: Resources = Field(
        default=Resources(),
        description="How much memory and how many threads a run may use.",
        examples=[{"memory": "1GB"}],
    )
    schedules: Annotated[
        Mapping[Annotated[str, AfterValidator(check_job_name)], Annotated[Schedule, ShortForm({"type": "string"})]],
        AfterValidator(freeze),
    ] = Field(
        default={},
        description="When the project runs by itself, by name (letters, digits and `_`), as long as `smoll up` runs.",
        examples=[{"hourly": "0 * * * *", "nightly": {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"}}],
    )
    sensors: Annotated[
        Mapping[Annotated[str, AfterValidator(check_job_name)], Sensor],
        AfterValidator(freeze),
    ] = Field(
        default={},
        description="What makes the project run when it happens, by name (letters, digits and `_`), as long as "
        "`smoll up` runs.",
        examples=[{"arrivals": {"files": "nyc"}, "upstream": {"release": "../shop", "every": "1 minute"}}],
    )
    dagster: DagsterOptions = Field(
        default=DagsterOptions(),
        description="Dagster, which `smoll up` starts: its port, and where and how long it keeps its runs.",
        examples=[{"port": 3100, "keep_days": 30}],
    )

    _origin: Origin = PrivateAttr()

    @classmethod
    def from_file(cls, data: Any, origin: Origin) -> ProjectConfig:
        """Check `data`, the values of `smoll.yml`. Raises ``pydantic.ValidationError``."""
        config = cls.model_validate(data)
        config._origin = origin
        return config

    @property
    def root(self) -> Path:
        """The project folder, absolute."""
        return self._origin.root

    @property
    def transform_dir(self) -> Path:
        """The folder of the dbt project, absolute. It need not exist."""
        return self.root / self.transform

    @property
    def dotenv(self) -> Mapping[str, str]:
        """The values of `.env`, read-only. The environment of the process wins over them."""
        return self._origin.dotenv

    @property
    def hash(self) -> str:
        """The SHA-256 of ``smoll.yml`` as it was read; variables in it are not filled in."""
        return self._origin.hash

    def redact(self, text: str) -> str:
        """Replace every secret in `text` by ``***``. Secrets shorter than 4 characters are not found."""
        return self._origin.redact(text)

    def locate(self, *path: str) -> str:
        """Return file and line of a key, like ``smoll.yml:7``.

        Where the key is not written, it is the line of its nearest ancestor. Items of a list are named by
        their index: ``locate("sources", "shop", "streams", "0")``.
        """
        return f"{FILE}:{self._origin.document.key_mark(path)[0]}"
