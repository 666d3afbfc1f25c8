"""Sources of kind `dlt`, and what they share with those of kind `rest`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from smoll.project.common import EVERY, Mode, SourceBase, Stream, refuse_one_table
from smoll.project.fields import TEXT_OR_TEXTS, Name, Names, Passthrough, ShortForm, Table, complaint
from smoll.project.sql import streams_by_name

Nested = Literal["json", "struct", "tables"]


class DltStream(Stream):
    """One resource of a dlt source. What is left out is taken from the resource itself."""

    _names_key = False

    mode: Mode | None = Field(  # type: ignore[assignment]  # a plan always has one
        default=None,
        description="How rows reach the table: `replace`, `append`, `merge` or `scd2`. Default: what the resource's "
        "`write_disposition` says.",
        examples=["merge"],
    )
    key: Names = Field(
        default=(),
        description="Column or columns that tell rows apart, for `merge` and `scd2`. Default: the resource's "
        "`primary_key`.",
        examples=["id", ["order_id", "line"]],
    )
    cursor: Name | None = Field(
        default=None,
        description="With `mode: merge`: of rows with the same `key`, the one with the highest value wins. What is "
        "read is decided by the resource's own `incremental`.",
        examples=["updated_at"],
    )
    nested: Nested | None = Field(
        default=None,
        description="As `nested` of the source, for this stream.",
        examples=["tables"],
    )

    @field_validator("cursor")
    @classmethod
    def _cursor_fits_mode(cls, cursor: str | None, info: ValidationInfo) -> str | None:
        mode = info.data.get("mode")
        if cursor is not None and mode in ("replace", "append"):
            raise complaint(f"cursor is not used with mode {mode}", "set mode: merge, or remove cursor")
        return cursor

    @field_validator("nested")
    @classmethod
    def _versions_have_no_children(cls, nested: str | None, info: ValidationInfo) -> str | None:
        if nested == "tables" and info.data.get("mode") == "scd2":
            raise complaint("nested: tables is not used with mode scd2", "set nested: json or struct")
        return nested


class DltBase(SourceBase):
    """What the sources have in common that dlt extracts."""

    naming: Literal["keep", "snake_case"] = Field(
        default="snake_case",
        description="`snake_case`: `orderId` becomes `order_id`. `keep`: names of columns and tables stay as the "
        "source has them.",
        examples=["keep"],
    )
    nested: Nested = Field(
        default="json",
        description="What becomes of objects and lists inside of a record. `json`: a column of type JSON. `struct`: a "
        "column of type STRUCT or LIST. `tables`: a list becomes the table `<table>__<field>`, an object columns "
        "`<object>__<field>`.",
        examples=["tables"],
    )


def _check_reference(reference: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", reference):
        raise complaint(
            f"expected the import path of a function, got {reference!r}", "module.function, for example my_sources.crm"
        )
    return reference


Streams = Annotated[
    Table[Annotated[DltStream, ShortForm({"type": "null"})]],
    AfterValidator(refuse_one_table),
    BeforeValidator(streams_by_name),
    ShortForm(TEXT_OR_TEXTS),
]
"""Options of streams by name, or only names."""


class DltSource(DltBase):
    """Any dlt source or resource: a Python function, of the project or of a package."""

    kind: Literal["dlt"] = Field(description="The kind of the source.", examples=["dlt"])
    source: Annotated[str, AfterValidator(_check_reference)] = Field(
        description="Import path of the function that makes the dlt source or resource; modules in the project folder "
        "are found.",
        examples=["my_sources.hubspot"],
    )
    config: Passthrough = Field(
        default={},
        repr=False,
        description="The arguments of the function. Write secrets as `${VAR}`.",
        examples=[{"api_key": "${HUBSPOT_KEY}", "pages": 5}],
    )
    streams: Streams = Field(
        default={EVERY: DltStream()},
        json_schema_extra={"default": {EVERY: {}}},
        min_length=1,
        description='The resources to load: a list of names, or a mapping from name to options. `"*"` (the default) '
        "means every resource that the source selects; one that is named beside it has its own options.",
        examples=[["contacts", "deals"], {EVERY: {}, "deals": {"mode": "merge", "key": "id"}}],
    )
