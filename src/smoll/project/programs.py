"""Sources of the kinds `singer` and `airbyte`: programs of others, each in an environment of its own."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from smoll.project.common import EVERY, Mode, SourceBase, Stream, refuse_one_table
from smoll.project.fields import (
    TEXT_OR_TEXTS,
    Duration,
    Name,
    Names,
    Passthrough,
    ShortForm,
    Table,
    Text,
    Texts,
    complaint,
    seconds_of,
)
from smoll.project.sql import streams_by_name


class ProgramStream(Stream):
    """One stream of a connector. What is left out is taken from the connector's catalog."""

    _names_key = False

    mode: Mode | None = Field(  # type: ignore[assignment]  # a plan always has one
        default=None,
        description="How rows reach the table: `replace`, `append`, `merge` or `scd2`. Default: `replace` where the "
        "connector sends the whole stream each time; else `merge` where it has a key, and `append` where it has none.",
        examples=["merge"],
    )
    key: Names = Field(
        default=(),
        description="Column or columns that tell rows apart, for `merge` and `scd2`. Default: the key of the "
        "connector's catalog.",
        examples=["id", ["order_id", "line"]],
    )
    cursor: Name | None = Field(
        default=None,
        description="Column by which the connector is to send only what is new, where it lets one choose. "
        "With `mode: merge`, of rows with the same `key` the one with its highest value wins.",
        examples=["updated_at"],
    )


class SingerStream(ProgramStream):
    """One stream of a Singer tap."""

    replication: Literal["full_table", "incremental", "log_based"] | None = Field(
        default=None,
        description="The replication method that the tap is asked for. Default: the tap's own; else `incremental` "
        "where `cursor` is set, and `full_table` where it is not.",
        examples=["log_based"],
    )


class AirbyteStream(ProgramStream):
    """One stream of an Airbyte connector."""

    sync_mode: Literal["full_refresh", "incremental"] | None = Field(
        default=None,
        description="The sync mode that the connector is asked for. Default: `incremental` where the stream has it and "
        "a cursor for it, except with `mode: replace`; else `full_refresh`.",
        examples=["full_refresh"],
    )


def _check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns or not all(pattern.strip() for pattern in patterns):
        raise complaint("expected names or patterns of streams", 'for example [issues, "pulls.*", "users.email"]')
    return patterns


def _check_python(version: str) -> str:
    if not re.fullmatch(r"3\.[0-9]{1,2}(\.[0-9]{1,2})?", version):
        raise complaint(f"expected a version of Python, got {version!r}", 'for example "3.11"')
    return version


Patterns = Annotated[Texts, AfterValidator(_check_patterns)]


class ProgramBase(SourceBase):
    """What the sources have in common that a program of its own extracts."""

    config: Passthrough = Field(
        default={},
        repr=False,
        description="The connector's configuration, as it documents it. Write secrets as `${VAR}`.",
        examples=[{"start_date": "2024-01-01", "api_key": "${API_KEY}"}],
    )
    select: Patterns = Field(
        default=("*",),
        description="Which streams and fields are loaded: names or patterns of streams, or `stream.field`. A stream "
        "for which only fields are named is loaded with those, its key and its cursor.",
        examples=[["issues", "users.id", "users.login"]],
    )
    exclude: Texts = Field(
        default=(),
        description="Which streams and fields are left out, written as in `select`.",
        examples=[["*.body", "events"]],
    )
    executable: Text | None = Field(
        default=None,
        description="The program's name in its package. Default: the only one there that can be it.",
        examples=["tap-postgres"],
    )
    python: Annotated[Text, AfterValidator(_check_python)] | None = Field(
        default=None,
        description="The version of Python for the connector's environment. Default: the one that runs smoll.",
        examples=["3.11"],
    )
    state: Text | None = Field(
        default=None,
        description="A file of JSON with the state to begin with, for streams that were never loaded: what another "
        "tool has stored.",
        examples=["state.json"],
    )
    timeout: Duration = Field(
        default="1 hour",
        description="How long the connector may stay silent before it counts as hanging and is stopped.",
        examples=["10 minutes"],
    )
    naming: Literal["keep", "snake_case"] = Field(
        default="snake_case",
        description="`snake_case`: `orderId` becomes `order_id`. `keep`: names of columns and tables stay as the "
        "source has them.",
        examples=["keep"],
    )

    @property
    def timeout_seconds(self) -> int:
        """`timeout` in seconds."""
        return seconds_of(self.timeout)


_CHOICE = (
    'The streams to load: a list of names, or a mapping from name to options. `"*"` (the default) means every stream '
    "that `select` and `exclude` leave; one that is named beside it has its own options."
)


class SingerSource(ProgramBase):
    """A Singer tap."""

    kind: Literal["singer"] = Field(description="The kind of the source.", examples=["singer"])
    tap: Text = Field(
        description="The tap: a package to install, with or without a version, or, with a `/`, the path of an "
        "executable or a Python file.",
        examples=["meltanolabs-tap-postgres==0.10.0", "./taps/my_tap.py"],
    )
    catalog: Text | None = Field(
        default=None,
        description="A file with the catalog to use, instead of asking the tap for it.",
        examples=["catalog.json"],
    )
    streams: Annotated[
        Table[Annotated[SingerStream, ShortForm({"type": "null"})]],
        AfterValidator(refuse_one_table),
        BeforeValidator(streams_by_name),
        ShortForm(TEXT_OR_TEXTS),
    ] = Field(
        default={EVERY: SingerStream()},
        json_schema_extra={"default": {EVERY: {}}},
        min_length=1,
        description=_CHOICE,
        examples=[["issues"], {EVERY: {}, "issues": {"mode": "append"}}],
    )


class AirbyteSource(ProgramBase):
    """An Airbyte connector that runs as a Python program."""

    kind: Literal["airbyte"] = Field(description="The kind of the source.", examples=["airbyte"])
    connector: Text = Field(
        description="The connector: a package to install, with or without a version, or, with a `/`, the path of an "
        "executable, a Python file or a low-code manifest (`.yaml`).",
        examples=["airbyte-source-faker==7.2.1", "./connectors/weather.yaml"],
    )
    streams: Annotated[
        Table[Annotated[AirbyteStream, ShortForm({"type": "null"})]],
        AfterValidator(refuse_one_table),
        BeforeValidator(streams_by_name),
        ShortForm(TEXT_OR_TEXTS),
    ] = Field(
        default={EVERY: AirbyteStream()},
        json_schema_extra={"default": {EVERY: {}}},
        min_length=1,
        description=_CHOICE,
        examples=[["users"], {EVERY: {}, "users": {"mode": "scd2", "key": "id"}}],
    )
