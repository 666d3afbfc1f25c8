"""Smoll's own checks, beside dbt's tests: what each kind may be told. They stand in `smoll.yml`, or in dbt's `meta`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from smoll.project.fields import (
    TEXT_OR_TEXTS,
    Amount,
    Duration,
    Name,
    Names,
    Rows,
    Section,
    Table,
    Text,
    but_got,
    complaint,
)

_AMOUNT = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?) *(%?)")


def _as_number(value: Any) -> Any:
    try:
        number = Decimal(value) if isinstance(value, str) and not isinstance(value, bool) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise complaint("expected a number" + but_got(value), "for example 0, -1.5 or 1e6")
    return number


def _as_share(value: Any) -> Any:
    if isinstance(value, Amount):
        return value
    found = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or not found[2]:
        raise complaint("expected a share in percent" + but_got(value), "for example 5% or 99.5%")
    return Amount(float(found[1]), percent=True)


def _as_tolerance(value: Any) -> Any:
    if isinstance(value, Amount):
        return value
    found = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise complaint("expected a number, or a share in percent" + but_got(value), "for example 0.01 or 1%")
    return Amount(float(found[1]), percent=bool(found[2]))


def _as_names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_positive(number: Decimal) -> Decimal:
    if number <= 0:
        raise complaint(f"expected a number more than 0, got {number}")
    return number


Metric = Literal["count", "null_rate", "mean", "distinct", "stddev"]
Number = Annotated[Decimal, BeforeValidator(_as_number), WithJsonSchema({"type": "number"})]
Share = Annotated[
    Amount, BeforeValidator(_as_share), WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *%$"})
]  # fmt: skip
Tolerance = Annotated[
    Amount,
    BeforeValidator(_as_tolerance),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ *%?$"}]}),
]
Value = Annotated[Text, WithJsonSchema({"type": ["string", "number"]})]
_NO_ROWS = Amount(0)
_NONE_ALLOWED: dict[str, Any] = {"default": 0}


class Bounds(Section):
    """Between which numbers a figure must lie."""

    low: Number | None = Field(default=None, alias="min", description="It may not be less.", examples=[10])
    high: Number | None = Field(default=None, alias="max", description="It may not be more.", examples=[30])

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.low is None and self.high is None:
            raise complaint("neither min nor max is set", "min: 0")
        return self


class ShareBounds(Section):
    """Between which shares of all values one value must lie."""

    low: Share | None = Field(default=None, alias="min", description="No less of all values.", examples=["10%"])
    high: Share | None = Field(default=None, alias="max", description="No more of all values.", examples=["30%"])

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.low is None and self.high is None:
            raise complaint("neither min nor max is set", "min: 10%")
        return self


class CheckBase(Section):
    """What checks of every kind have in common."""

    name: Name | None = Field(
        default=None,
        description="How the check is called. Default: made of kind, table and column.",
        examples=["departures_are_known"],
    )
    severity: Literal["error", "warn"] = Field(
        default="error",
        description="`error`: a failure keeps the release back. `warn`: it is recorded and shown.",
        examples=["warn"],
    )
    description: Text | None = Field(
        default=None,
        description="What it is for, in words.",
        examples=["The board of departures shows this column."],
    )

    @property
    def tables_named(self) -> tuple[str, ...]:
        """The tables that it looks at, as they are written, the first the one that it belongs to."""
        named = (getattr(self, "table", None), getattr(self, "to", None))
        return tuple(name for name in named if name is not None)

    @property
    def columns_named(self) -> tuple[str, ...]:
        """The columns of its table that it looks at."""
        one: str | None = getattr(self, "column", None)
        several: tuple[str, ...] = getattr(self, "columns", None) or ()
        return several if one is None else (one,)

    @property
    def default_name(self) -> str:
        """Its name, or one made of what it looks at; letters, digits and ``_`` alone."""
        kind = str(self.kind)  # type: ignore[attr-defined]
        text = "_".join([kind, *self.tables_named, *self.columns_named])
        return self.name or re.sub(r"\W+", "_", text).strip("_")


class OneTable(CheckBase):
    """What checks of one table have in common."""

    table: Text = Field(
        description="A model, seed or snapshot by its name, a stream as `source.stream`, or any table that dbt knows "
        "as `schema.table`. In `meta` it is the one where the check stands.",
        examples=["fct_flights", "nyc.flights"],
    )


class SomeRows(OneTable):
    """What checks have in common that may look at a part of the rows."""

    where: Text | None = Field(
        default=None,
        description="Which rows it looks at: a condition in DuckDB's SQL. Default: all.",
        examples=["cancelled = false"],
    )


_COLUMN = "Column of the table. In the `meta` of a column it is that one."


class CompletenessCheck(SomeRows):
    """How many values of a column may be NULL."""

    kind: Literal["completeness"] = Field(description="The kind of the check.", examples=["completeness"])
    column: Name = Field(description=_COLUMN, examples=["dep_time"])
    max_nulls: Rows = Field(
        default=_NO_ROWS,
        json_schema_extra=_NONE_ALLOWED,
        description="So many may be NULL; a number of rows, or a share of them.",
        examples=[10, "5%"],
    )


class UniquenessCheck(SomeRows):
    """How many values differ from all others. Rows with a NULL among the columns do not count."""

    kind: Literal["uniqueness"] = Field(description="The kind of the check.", examples=["uniqueness"])
    columns: Names = Field(
        min_length=1,
        description="One column or several that are looked at together. In the `meta` of a column it is that one.",
        examples=["tailnum", ["carrier", "flight"]],
    )
    low: Share = Field(
        default=Amount(100, percent=True),
        alias="min",
        json_schema_extra={"default": "100%"},
        description="How many different values there must be, as a share of all values.",
        examples=["95%"],
    )


class RangeCheck(SomeRows):
    """Between which values a column must lie. NULL does not count; NaN lies in no range."""

    kind: Literal["range"] = Field(description="The kind of the check.", examples=["range"])
    column: Name = Field(description=_COLUMN, examples=["distance"])
    low: Value | None = Field(
        default=None, alias="min", description="No value may be less: a number, a day, a text.", examples=[0]
    )
    high: Value | None = Field(default=None, alias="max", description="No value may be more.", examples=["2099-12-31"])
    max_misses: Rows = Field(
        default=_NO_ROWS,
        json_schema_extra=_NONE_ALLOWED,
        description="So many values may lie outside; a number, or a share of the values.",
        examples=[10, "0.1%"],
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.low is None and self.high is None:
            raise complaint("a range needs min or max", "min: 0")
        return self


class DistributionCheck(SomeRows):
    """What the values of a column look like as a whole. NULL does not count."""

    kind: Literal["distribution"] = Field(description="The kind of the check.", examples=["distribution"])
    column: Name = Field(description=_COLUMN, examples=["arr_delay"])
    mean: Bounds | None = Field(
        default=None, description="Where the mean must lie.", examples=[{"min": -10, "max": 30}]
    )
    stddev: Bounds | None = Field(
        default=None, description="Where the standard deviation must lie.", examples=[{"max": 60}]
    )
    quantiles: Table[Bounds] = Field(
        default={},
        description="Where quantiles must lie, each by its number between 0 and 1; they are estimated (t-digest), so "
        "that memory stays flat.",
        examples=[{"0.5": {"min": -20, "max": 10}}],
    )
    shares: Table[ShareBounds] = Field(
        default={},
        description="How much of all values single ones may take, by the value.",
        examples=[{"UA": {"min": "10%", "max": "30%"}}],
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.mean or self.stddev or self.quantiles or self.shares):
            raise complaint(
                "a distribution needs mean, stddev, quantiles or shares", "mean: {min: 0, max: 10}", key="kind"
            )
        for quantile in self.quantiles:
            try:
                good = 0 <= float(quantile) <= 1
            except ValueError:
                good = False
            if not good:
                raise complaint(
                    f"{quantile!r} is no quantile", "a number from 0 to 1; 0.5 is the median", key="quantiles"
                )
        return self


class RowsCheck(SomeRows):
    """How many rows a table has, in itself and compared with before."""

    kind: Literal["rows"] = Field(description="The kind of the check.", examples=["rows"])
    low: int | None = Field(default=None, ge=0, alias="min", description="No less rows.", examples=[1])
    high: int | None = Field(default=None, ge=0, alias="max", description="No more rows.", examples=[1000000])
    max_change: Share | None = Field(
        default=None,
        description="How far the number of rows may be from the median of the last releases; of a stream, of its last "
        "loads.",
        examples=["20%"],
    )
    over: int = Field(default=5, ge=1, description="How many releases or loads those are.", examples=[10])

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.low is None and self.high is None and self.max_change is None:
            raise complaint("rows needs min, max or max_change", "min: 1", key="kind")
        if self.max_change is not None and self.where is not None:
            raise complaint("max_change is of all rows of the table", "remove where, or max_change", key="where")
        return self


class FreshnessCheck(SomeRows):
    """How old the newest value of a column may be, or the last load."""

    kind: Literal["freshness"] = Field(description="The kind of the check.", examples=["freshness"])
    column: Name | None = Field(
        default=None,
        description="Column of days or times (without a zone: in UTC), whose highest value counts. Default: when new "
        "rows were loaded last; of all streams that the table is built from, the oldest.",
        examples=["time_hour"],
    )
    max_age: Duration = Field(description="No older than this when it is checked.", examples=["2 days"])

    @model_validator(mode="after")
    def _where_needs_rows(self) -> Self:
        if self.where is not None and self.column is None:
            raise complaint("where needs a column: the time of a load has no rows", "column: ...", key="where")
        return self


class ReferencesCheck(SomeRows):
    """Rows must not refer to what is not there. Rows with a NULL among the columns refer to nothing."""

    kind: Literal["references"] = Field(description="The kind of the check.", examples=["references"])
    columns: Names = Field(
        min_length=1,
        description="Column or columns that refer to another table. In the `meta` of a column it is that one.",
        examples=["carrier"],
    )
    to: Text = Field(description="The other table, named as `table` is.", examples=["dim_carriers"])
    to_columns: Names = Field(
        default=(), description="The columns there. Default: of the same names.", examples=["code"]
    )
    max_orphans: Rows = Field(
        default=_NO_ROWS,
        json_schema_extra=_NONE_ALLOWED,
        description="So many rows may refer to nothing; a number, or a share of those that refer.",
        examples=["0.5%"],
    )

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if self.to_columns and len(self.to_columns) != len(self.columns):
            raise complaint("columns and to_columns are not as many", "name them in the same order", key="to_columns")
        return self


class ReconciliationCheck(OneTable):
    """Nothing got lost on the way: into a stream's table, or from one table to another."""

    kind: Literal["reconciliation"] = Field(description="The kind of the check.", examples=["reconciliation"])
    to: Text | None = Field(
        default=None,
        description="A table that must have as many rows, and the same sums. Default: `table` is a stream, and the "
        "records that its last load read must be the rows it wrote and rejected, and the table must hold what the load "
        "left in it.",
        examples=["fct_flights"],
    )
    sums: Names = Field(
        default=(), description="Columns whose sums must be equal in both tables.", examples=[["amount", "tax"]]
    )
    tolerance: Tolerance = Field(
        default=Amount(0),
        json_schema_extra=_NONE_ALLOWED,
        description="So far may the sums be apart: a number, or a share of that of `table`. Rows must be equal.",
        examples=[0.01, "0.1%"],
    )

    @model_validator(mode="after")
    def _two_tables(self) -> Self:
        for key in ("sums", "tolerance"):
            if self.to is None and key in self.model_fields_set:
                raise complaint(f"{key} needs a second table", "to: ...", key=key)
        return self


class AnomalyCheck(OneTable):
    """Figures of a table must not be far from what they were in the releases before."""

    kind: Literal["anomaly"] = Field(description="The kind of the check.", examples=["anomaly"])
    severity: Literal["error", "warn"] = Field(
        default="warn",
        description="`error`: a failure keeps the release back. `warn`: it is recorded and shown.",
        examples=["error"],
    )
    columns: Names = Field(
        default=(),
        description="Columns whose figures are compared. Default: all but load metadata. In the `meta` of a column it "
        "is that one.",
        examples=[["amount", "country"]],
    )
    metrics: Annotated[tuple[Metric, ...], BeforeValidator(_as_names), WithJsonSchema(TEXT_OR_TEXTS)] = Field(
        default=("count", "null_rate", "mean", "distinct"),
        min_length=1,
        description="What is compared: `count` (rows), `null_rate`, `mean`, `distinct` (different values), `stddev`.",
        examples=[["count", "null_rate"]],
    )
    sensitivity: Annotated[Number, AfterValidator(_check_positive)] = Field(
        default=Decimal("3.5"),
        json_schema_extra={"default": 3.5},
        description="From which robust z-score on a figure is an anomaly; a smaller one finds more.",
        examples=[5],
    )
    min_history: int = Field(
        default=7, ge=1, description="Until so many profiles of the table are known, it passes.", examples=[14]
    )


class SqlCheck(CheckBase):
    """A query of one's own that must return no rows."""

    kind: Literal["sql"] = Field(description="The kind of the check.", examples=["sql"])
    sql: Text = Field(
        description="A SELECT in DuckDB's SQL, over the tables of the warehouse as `schema.table`; each row that it "
        "returns is a failing one.",
        examples=["SELECT * FROM main.fct_flights WHERE arr_time IS NULL AND NOT cancelled"],
    )
    tables: Annotated[tuple[Text, ...], BeforeValidator(_as_names),
                      WithJsonSchema(TEXT_OR_TEXTS)] = Field(
        default=(),
        description="The tables that it looks at, named as `table` is: a release of any of them waits for it. Without "
        "any, every release does. In `meta` it is the one where the check stands.",
        examples=[["fct_flights", "nyc.planes"]],
    )  # fmt: skip

    @property
    def tables_named(self) -> tuple[str, ...]:
        return self.tables


Check = Annotated[
    CompletenessCheck
    | UniquenessCheck
    | RangeCheck
    | DistributionCheck
    | RowsCheck
    | FreshnessCheck
    | ReferencesCheck
    | ReconciliationCheck
    | AnomalyCheck
    | SqlCheck,
    Field(discriminator="kind"),
]
"""One of smoll's own checks; `kind` tells which."""


def _only_lists(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise complaint("expected a list of checks" + but_got(value), "- {kind: rows, table: fct_flights, min: 1}")
    return value


Checks = Annotated[tuple[Check, ...], BeforeValidator(_only_lists)]


def as_text(value: Any) -> Any:
    """Turn values that have YAML's types, as dbt gives them, into the text that the models of the project file take."""
    if isinstance(value, Mapping):
        return {str(key): as_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_text(item) for item in value]
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
