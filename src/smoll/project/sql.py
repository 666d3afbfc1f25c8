"""Sources of kind `sql`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from smoll.project.common import EVERY, CursorStream, SourceBase
from smoll.project.fields import TEXT_OR_TEXTS, Name, ShortForm, Table, complaint

_POSTGRES = ("postgresql", "postgres")


class SqlStream(CursorStream):
    """One table of a database."""

    cursor: Name | None = Field(
        default=None,
        validate_default=True,
        description="Column whose value only grows. Only rows beyond the highest value loaded are read. "
        "Needed for `mode: append`, possible for `merge` and `scd2`.",
        examples=["last_update"],
    )

    @field_validator("cursor")
    @classmethod
    def _cursor_fits_mode(cls, cursor: str | None, info: ValidationInfo) -> str | None:
        mode = info.data.get("mode")
        if mode == "append" and cursor is None:
            raise complaint("mode append needs a cursor", "cursor: a column whose value only grows")
        if mode == "replace" and cursor is not None:
            raise complaint("cursor is not used with mode replace", "set mode: append or merge, or remove cursor")
        if mode == "append" and info.data.get("deletes") not in (None, "ignore"):
            raise complaint("deletes needs a key, and mode append has none", "set mode: merge, or remove deletes")
        if cursor is None and info.data.get("lag") is not None:
            raise complaint("lag needs a cursor", "cursor: a column whose value only grows; or remove lag")
        return cursor


def _check_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    scheme, separator, rest = text.partition("://")
    hint = "postgresql://user:password@host/database, or sqlite:///file.db"
    if scheme == "sqlite" and separator:
        if not rest.startswith("/") or not rest.strip("/"):
            raise complaint("an SQLite URL needs three slashes and a file", "sqlite:///file.db, or sqlite:////absolute")
        return url
    if scheme not in _POSTGRES or not separator:
        # The scheme is the text before the first colon: where there is none, it may be a secret.
        what = f"databases of kind {scheme!r}" if re.fullmatch("[a-z][a-z0-9+]*", scheme) and separator else "this URL"
        raise complaint(f"{what} cannot be read", hint)
    try:
        urlsplit(text).port  # noqa: B018  (it parses when asked)
    except ValueError:
        raise complaint("the URL has a broken host or port", f"{hint}; escape @ : / in a password with %") from None
    parts = urlsplit(text)
    if re.search(r"\s", text) or "@" in parts.path + parts.query + parts.fragment:
        raise complaint(
            "the URL holds a character that must be escaped", "write %20 for a blank, %2F %3F %23 for / ? #"
        )
    return url


def streams_by_name(streams: Any) -> Any:
    """Turn a name, or a list of names, into a mapping of names to options."""
    names = [streams] if isinstance(streams, str) else streams
    if isinstance(names, list):
        return {name: {} for name in _only_names(names)}
    if isinstance(names, dict):
        return {name: {} if options is None else options for name, options in names.items()}
    return names


def _only_names(names: list[Any]) -> list[str]:
    if not all(isinstance(name, str) for name in names):
        raise complaint("a list of streams holds names only", "for options, write a mapping: name: {mode: merge, ...}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise complaint(f"a stream is named twice: {', '.join(twice)}")
    return names


def _check_sql_streams(streams: Mapping[str, SqlStream]) -> Mapping[str, SqlStream]:
    if EVERY in streams and streams[EVERY].table is not None:
        raise complaint('table cannot be set for "*": all tables would become one', "name the stream")
    return streams


class SqlSource(SourceBase):
    """Tables of a database: Postgres or SQLite."""

    kind: Literal["sql"] = Field(description="The kind of the source.", examples=["sql"])
    url: Annotated[SecretStr, AfterValidator(_check_url)] = Field(
        description="Where the database is: `postgresql://user:password@host:5432/database`, "
        "`sqlite:///relative.db` or `sqlite:////absolute.db`. Never printed; keep it in `.env`.",
        examples=["${SHOP_URL}"],
    )
    source_schema: Name = Field(
        default="public",
        description="Postgres only: the schema of the database that is read.",
        examples=["sales"],
    )
    streams: Annotated[
        Table[Annotated[SqlStream, ShortForm({"type": "null"})]],
        AfterValidator(_check_sql_streams),
        BeforeValidator(streams_by_name),
        ShortForm(TEXT_OR_TEXTS),
    ] = Field(
        min_length=1,
        description='The tables to read: a list of names, or a mapping from name to options. `"*"` means '
        "every table; a table that is named beside it has its own options.",
        examples=[["customer", "rental"], {EVERY: {}, "rental": {"mode": "merge", "key": "rental_id"}}],
    )

    @field_validator("source_schema")
    @classmethod
    def _only_postgres(cls, schema: str, info: ValidationInfo) -> str:
        url = info.data.get("url")
        if url is not None and not url.get_secret_value().startswith(_POSTGRES):
            raise complaint("source_schema is for Postgres; SQLite has no schemas", "remove source_schema")
        return schema
