"""What sources and streams of every kind have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from smoll.project.fields import Name, Names, Section, Table, Text, complaint

Mode = Literal["replace", "append", "merge"]
EVERY = "*"  # the stream of a `sql` source that stands for every table
_OWN_SCHEMAS = {"_smoll", "information_schema", "pg_catalog"}


def _check_schema(schema: str) -> str:
    if schema.lower() in _OWN_SCHEMAS:
        raise complaint(f"the schema {schema!r} is taken", "choose another name")
    return schema


class Metadata(Section):
    """Names of the columns that every loaded row carries."""

    # The defaults count too: a chosen name may meet one of them.
    model_config = ConfigDict(validate_default=True)

    load_id: Name = Field(
        default="_smoll_load_id",
        description="Column that holds the number of the load which wrote the row.",
        examples=["_load_id"],
    )
    loaded_at: Name = Field(
        default="_smoll_loaded_at",
        description="Column that holds the time of that load, in UTC.",
        examples=["_loaded_at"],
    )
    file: Name = Field(
        default="_smoll_file",
        description="Column that holds the file a row comes from (kind `files` only).",
        examples=["_file"],
    )

    @field_validator("loaded_at", "file")
    @classmethod
    def _distinct(cls, name: str, info: ValidationInfo) -> str:
        for other, taken in info.data.items():
            if name.lower() == taken.lower():
                raise complaint(f"{info.field_name} and {other} have the same name, {name!r}")
        return name


class Stream(Section):
    """What the streams of every kind have in common."""

    mode: Mode = Field(
        default="replace",
        description="How rows reach the table. `replace`: the table becomes what the source holds. "
        "`append`: new rows are added. `merge`: a row replaces the row with the same `key`.",
        examples=["merge"],
    )
    key: Names = Field(
        default=(),
        validate_default=True,
        description="Column or columns that tell rows apart. Needed for, and only used by, `mode: merge`.",
        examples=["rental_id", ["order_id", "line"]],
    )
    table: Name | None = Field(
        default=None,
        description="Name of the table in the warehouse. Default: the name of the stream.",
        examples=["rentals"],
    )
    columns: Table[Text] = Field(
        default={},
        description="DuckDB types of columns, by name. Types of columns that are not named are inferred.",
        examples=[{"amount": "DECIMAL(18,2)"}],
    )

    @field_validator("key")
    @classmethod
    def _key_fits_mode(cls, key: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        mode = info.data.get("mode")
        if mode == "merge" and not key:
            raise complaint("mode merge needs a key", "key: the column or columns that tell rows apart")
        if mode in ("replace", "append") and key:
            raise complaint(f"key is not used with mode {mode}", "set mode: merge, or remove key")
        return key


class SourceBase(Section):
    """What sources of every kind have in common."""

    schema_name: Annotated[Name, AfterValidator(_check_schema)] = Field(
        default="",
        alias="schema",
        description="Schema of the warehouse that the source loads into. Default: `raw_<source>`.",
        examples=["shop"],
    )
    naming: Literal["keep", "snake_case"] = Field(
        default="keep",
        description="`keep`: names of columns and tables stay as the source has them. "
        "`snake_case`: `Order ID` becomes `order_id`.",
        examples=["snake_case"],
    )
    metadata: Metadata = Field(
        default=Metadata(),
        description="Names of the columns that smoll adds to every row.",
        examples=[{"load_id": "_load_id"}],
    )
