"""What all sections of the project file share: their base, their field types, their way to complain."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    WithJsonSchema,
    WrapSerializer,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from smoll.project.document import Plain
from smoll.project.shape import fields_of

V = TypeVar("V")

# Any scalar is text, as written: `null_values: [-1, NA, NULL]`.
_SCALAR = {"type": ["string", "number", "boolean", "null"]}
TEXT_OR_TEXTS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": _SCALAR}]}


def complaint(message: str, hint: str = "", key: str = "") -> PydanticCustomError:
    """Make the exception that a validator raises; `message` and `hint` reach the user as they are.

    A validator of a whole section says by `key` which of its keys it is about.
    """
    return PydanticCustomError("smoll", "{message}", {"message": message, "hint": hint, "key": key})


class Section(BaseModel):
    """A mapping of the project file with a fixed set of keys. A key without a value counts as left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise complaint("expected a mapping (key: value)" + but_got(data))
        known = fields_of(cls)
        return {key: value for key, value in data.items() if value is not None or key not in known}


def but_got(value: Any) -> str:
    """Say what stands in the file instead of what was expected. Not yet redacted."""
    if value is None or value == "":
        return ", got nothing"
    if isinstance(value, str):
        return f", got {value!r}"
    return ", got a list" if isinstance(value, (list, tuple)) else ", got a mapping"


def near(word: str, known: Collection[str]) -> str:
    """Suggest the one of `known` that `word` looks like, or name them all."""
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}" if known else ""


@dataclass(frozen=True, eq=False)
class ShortForm:
    """Annotation: the JSON Schema of a field allows `schema` beside its long form."""

    schema: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Called by pydantic."""
        return {"anyOf": [*self.schema.get("anyOf", [dict(self.schema)]), handler(core)]}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_bool(value: Any) -> Any:
    written = {"true": True, "false": False}
    if not isinstance(value, str) or value.lower() not in written:
        raise complaint("expected true or false" + but_got(value))
    return written[value.lower()]


def _check_name(value: str) -> str:
    if not value.strip():
        raise complaint("a name cannot be empty")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise complaint("a name cannot hold control characters")
    return value


def _check_text(value: str) -> str:
    if not value.strip():
        raise complaint("expected text, got nothing")
    return value


_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) *([A-Za-z]+)")


def _as_bytes(value: Any) -> Any:
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or found[2].upper() not in _UNITS:
        raise complaint("expected an amount of memory" + but_got(value), "for example 1GB, 512MB or 1.5GiB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


@dataclass(frozen=True)
class Amount:
    """A number of rows, or a share of all rows in percent."""

    number: float
    percent: bool = False

    def of(self, rows: int) -> float:
        """How many rows that is, of so many."""
        return rows * self.number / 100 if self.percent else self.number

    def __str__(self) -> str:
        return f"{self.number:g}%" if self.percent else f"{self.number:g} rows"


_AMOUNT = re.compile(r"([0-9]{1,12})|([0-9]{1,3}(?:\.[0-9]{1,6})?) *%")
_LAG = re.compile(r"([0-9]{1,12}) *(?:(second|minute|hour|day|week)s?)?")


def _as_amount(value: Any) -> Any:
    if isinstance(value, Amount):
        return value
    found = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or (found[2] and float(found[2]) > 100):
        raise complaint("expected a number of rows, or a share of them" + but_got(value), 'for example 100 or "1%"')
    return Amount(float(found[1])) if found[1] else Amount(float(found[2]), percent=True)


def _as_lag(value: Any) -> Any:
    found = _LAG.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise complaint(
            "expected a length of time, or a number" + but_got(value), "for example 2 days, 3 hours or 1000"
        )
    return f"{found[1]} {found[2]}s" if found[2] else found[1]


_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


def _as_duration(value: Any) -> Any:
    if isinstance(value, str) and value.strip().isdigit():
        raise complaint("a length of time needs a unit", "for example 30 seconds, 5 minutes or 2 hours")
    found = _LAG.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise complaint("expected a length of time" + but_got(value), "for example 30 seconds, 5 minutes or 2 hours")
    return f"{found[1]} {found[2]}{'' if found[1] == '1' else 's'}"


def seconds_of(duration: str) -> int:
    """Return a `Duration` in seconds."""
    number, unit = duration.split()
    return int(number) * _SECONDS[unit.removesuffix("s")]


def _as_day(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value.strip(), re.ASCII):
        with suppress(ValueError):
            return date.fromisoformat(value.strip())
    raise complaint("expected a day" + but_got(value), "year, month and day, for example 2024-01-31")


_NULL = re.compile("~|null|Null|NULL|")
_TRUTH = re.compile("(true|True|TRUE)|false|False|FALSE")
_WHOLE = re.compile("[-+]?[0-9]{1,4000}")
_BASED = re.compile("0o[0-7]+|0x[0-9a-fA-F]+")
_FRACTION = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ENDLESS = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def as_written(value: Any) -> Any:
    """Give every scalar without quotes the type that YAML 1.2's core schema gives it."""
    if isinstance(value, Mapping):
        return {str(key): as_written(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_written(item) for item in value]
    if not isinstance(value, Plain):
        return value
    if _NULL.fullmatch(value):
        return None
    if truth := _TRUTH.fullmatch(value):
        return truth[1] is not None
    if _WHOLE.fullmatch(value):
        return int(value)
    if _BASED.fullmatch(value):
        return int(value, 0)
    if _FRACTION.fullmatch(value) or _ENDLESS.fullmatch(value):
        return float(value.replace(".i", "i").replace(".I", "I").replace(".n", "n").replace(".N", "N"))
    return str(value)


def freeze(value: Mapping[str, V]) -> Mapping[str, V]:
    """Return a read-only copy."""
    return MappingProxyType(dict(value))


Text = Annotated[str, AfterValidator(_check_text)]
"""Text that is not empty."""

Name = Annotated[str, AfterValidator(_check_name)]
"""The name of a table, a column or the like: anything that can be quoted in SQL."""

Flag = Annotated[bool, BeforeValidator(_as_bool)]
"""``true`` or ``false``; YAML 1.1's ``yes`` and ``on`` are refused."""

Texts = Annotated[tuple[str, ...], BeforeValidator(_as_list), WithJsonSchema(TEXT_OR_TEXTS)]
"""One text or a list of them; empty ones are allowed."""

Names = Annotated[tuple[Name, ...], BeforeValidator(_as_list), WithJsonSchema(TEXT_OR_TEXTS)]
"""One name or a list of them."""

Bytes = Annotated[
    int,
    BeforeValidator(_as_bytes),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *([MGTmgt][Ii]?[Bb])$"}),
]
"""A size in bytes, written with a unit: ``1GB`` is 10**9, ``1GiB`` is 2**30."""

Rows = Annotated[
    Amount,
    BeforeValidator(_as_amount),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ *%?$"}]}),
]
"""A number of rows, or a share of them: ``100`` or ``1%``."""

Lag = Annotated[
    str,
    BeforeValidator(_as_lag),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+ *[a-z]*$"}]}),
]
"""A length of time (``2 days``) or, for a cursor of numbers, a number."""

Day = Annotated[
    date,
    BeforeValidator(_as_day),
    WithJsonSchema({"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}),
]
"""A day: ``2024-01-31``."""

Duration = Annotated[
    str,
    BeforeValidator(_as_duration),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+ *(second|minute|hour|day|week)s?$"}),
]
"""A length of time with its unit: ``30 seconds``. `seconds_of` counts them."""

Table = Annotated[
    Mapping[Name, V], AfterValidator(freeze), WrapSerializer(lambda value, serialize: serialize(dict(value)))
]
"""A mapping from names that the user chooses; read-only."""

Passthrough = Annotated[
    Mapping[str, Any],
    BeforeValidator(lambda value: as_written(value) if isinstance(value, Mapping) else value),
    AfterValidator(freeze),
    WithJsonSchema({"type": "object"}),
]
"""The configuration of another tool, as it stands: any keys, and values of the types that YAML gives them.

What stands in quotes, or holds a ``${VAR}``, is text.
"""
