"""What sources and streams of every kind have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from smoll.project.fields import (
    Amount,
    Day,
    Duration,
    Flag,
    Lag,
    Name,
    Names,
    Rows,
    Section,
    ShortForm,
    Table,
    Text,
    complaint,
    seconds_of,
)

Mode = Literal["replace", "append", "merge", "scd2"]
KEYED = ("merge", "scd2")
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

    deleted_at: Name = Field(
        default="_smoll_deleted_at",
        description="Column that holds when a row was found deleted in the source (`deletes: soft` only).",
        examples=["_deleted_at"],
    )
    valid_from: Name = Field(
        default="_smoll_valid_from",
        description="Column that holds since when a version of a row is valid (`mode: scd2` only).",
        examples=["valid_from"],
    )
    valid_to: Name = Field(
        default="_smoll_valid_to",
        description="Column that holds until when it was valid, NULL for the current one (`mode: scd2` only).",
        examples=["valid_to"],
    )
    current: Name = Field(
        default="_smoll_current",
        description="Column that says whether it is the current one (`mode: scd2` only).",
        examples=["is_current"],
    )

    @field_validator("loaded_at", "file", "deleted_at", "valid_from", "valid_to", "current")
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
        "`append`: new rows are added. `merge`: a row replaces the row with the same `key`. "
        "`scd2`: every version of a row is kept, with the time in which it was valid.",
        examples=["merge"],
    )
    key: Names = Field(
        default=(),
        validate_default=True,
        description="Column or columns that tell rows apart. Needed for, and only used by, `merge` and `scd2`.",
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

    contract: Literal["evolve", "freeze", "discard"] = Field(
        default="evolve",
        description="What happens when columns or types of the source change. `evolve`: the table follows, as far "
        "as every value stays exact. `freeze`: the load fails. `discard`: new columns are left out, and a value "
        "that does not fit makes a bad row.",
        examples=["freeze"],
    )
    on_bad_row: Literal["fail", "quarantine"] = Field(
        default="fail",
        description="What happens to a row that cannot be loaded. `fail`: the load fails. `quarantine`: the row goes "
        "to `<table>__rejected`, the others are loaded.",
        examples=["quarantine"],
    )
    max_rejects: Rows | None = Field(
        default=None,
        description="With `on_bad_row: quarantine`: the load fails where more rows than this are rejected; a number, "
        "or a share of the rows read. Default: no limit.",
        examples=[100, "1%"],
    )
    deletes: Literal["ignore", "soft", "detect"] | None = Field(
        default=None,
        description="What happens to rows that are gone in the source, with `append` of files, `merge` and `scd2`. "
        "`ignore`: they stay. `soft`: they stay, with the time in `_smoll_deleted_at`. `detect`: they are deleted; "
        "with `scd2` they are closed. Default: `detect` with `scd2`, else `ignore`.",
        examples=["detect"],
    )
    allow_empty: Flag = Field(
        default=False,
        description="Whether a load may empty, or nearly empty, a table that had rows.",
        examples=[True],
    )
    max_shrink: Rows = Field(
        default=Amount(90, percent=True),
        json_schema_extra={"default": "90%"},
        description="A load that would take away more rows of the table than this fails; a number of rows, or a "
        "share of those the table has. `allow_empty: true` switches the guard off.",
        examples=["50%"],
    )

    _names_key: ClassVar[bool] = True
    """Whether the options must name the key; else the source itself may."""

    @field_validator("key")
    @classmethod
    def _key_fits_mode(cls, key: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        mode = info.data.get("mode")
        if mode in KEYED and not key and cls._names_key:
            raise complaint(f"mode {mode} needs a key", "key: the column or columns that tell rows apart")
        if mode in ("replace", "append") and key:
            raise complaint(f"key is not used with mode {mode}", "set mode: merge or scd2, or remove key")
        return key

    @field_validator("max_rejects")
    @classmethod
    def _only_quarantine(cls, limit: Amount | None, info: ValidationInfo) -> Amount | None:
        if limit is not None and info.data.get("on_bad_row") == "fail":
            raise complaint("max_rejects is for on_bad_row: quarantine", "set on_bad_row: quarantine, or remove it")
        return limit

    @field_validator("deletes")
    @classmethod
    def _deletes_fit_mode(cls, deletes: str | None, info: ValidationInfo) -> str | None:
        mode = info.data.get("mode")
        if deletes not in (None, "ignore") and mode == "replace":
            raise complaint("deletes is not used with mode replace: what is gone is gone", "remove deletes")
        if deletes == "soft" and mode == "scd2":
            raise complaint("deletes: soft is not used with mode scd2", "detect closes the last version of the row")
        return deletes


def refuse_one_table(streams: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raise where all streams would load into one table."""
    if EVERY in streams and streams[EVERY].table is not None:
        raise complaint('table cannot be set for "*": all streams would load into one', "name the stream")
    return streams


class CursorStream(Stream):
    """What the streams have in common that are read by a cursor."""

    lag: Lag | None = Field(
        default=None,
        description="With `cursor`: read again what lies so far behind its highest value, for rows that come late. "
        "A length of time, or a number for a cursor of numbers. No row is doubled.",
        examples=["2 days", 1000],
    )
    daily_from: Day | None = Field(
        default=None,
        description="Offers each day since then as a partition in Dagster, so that days can be loaded again (a "
        "backfill). Needs a `cursor` of dates or times, and `mode: append` or `merge`. A day is one of UTC.",
        examples=["2013-01-01"],
    )

    @model_validator(mode="after")
    def _days_need_a_cursor(self) -> Self:
        why = self._without_days() if self.daily_from else None
        if why:
            raise complaint(f"daily_from {why[0]}", why[1], key="daily_from")
        return self

    def _without_days(self) -> tuple[str, str] | None:
        """Why single days of the stream cannot be loaded, and what to do; None where they can."""
        if self.mode not in ("append", "merge"):
            return f"is not used with mode {self.mode}, which reads all rows each time", "set mode: append or merge"
        return None


class Retries(Section):
    """How often the streams of a source that failed are loaded again, in one run. Short form: only the number."""

    LONGEST_SECONDS: ClassVar[int] = 600

    count: int = Field(
        ge=0,
        description="How often it is tried again.",
        examples=[3],
    )
    delay: Duration = Field(
        default="10 seconds",
        description="How long to wait before the first time. Each wait is twice as long as the one before, up to 10 "
        "minutes.",
        examples=["1 minute"],
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"count": data} if isinstance(data, str) else data

    def seconds_after(self, tried: int) -> int:
        """How long to wait once it was tried so often, and failed."""
        first = seconds_of(self.delay)
        return min(first << (tried - 1), max(first, self.LONGEST_SECONDS))


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
    retries: Annotated[Retries, ShortForm({"type": "integer", "minimum": 0})] = Field(
        default=Retries(count=0),
        json_schema_extra={"default": 0},
        description="How often streams that failed are loaded again in the same run, while the others go on: a number, "
        "or that and the first wait.",
        examples=[3, {"count": 5, "delay": "1 minute"}],
    )
    was: Name | None = Field(
        default=None,
        description="The name that the source had before: tables and state move to the new name with the next run.",
        examples=["old_name"],
    )
    metadata: Metadata = Field(
        default=Metadata(),
        description="Names of the columns that smoll adds to every row.",
        examples=[{"load_id": "_load_id"}],
    )
