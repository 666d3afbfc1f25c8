"""Sources of kind `sql`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from smoll.project.common import EVERY, CursorStream, SourceBase
from smoll.project.fields import TEXT_OR_TEXTS, Flag, Name, Names, ShortForm, Table, Text, complaint

_KINDS = {"postgresql": "postgres", "postgres": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}
_URL_HINT = (
    "postgresql://user:password@host/database, mysql://..., sqlite:///file.db, or for any other database the URL of "
    "SQLAlchemy: dialect+driver://..."
)


def is_pattern(name: str) -> bool:
    """True where the name of a stream may stand for several tables."""
    return any(character in name for character in "*?[")


class SqlStream(CursorStream):
    """One table of a database, every table whose name fits a pattern, or a query."""

    _names_key = False

    key: Names = Field(
        default=(),
        validate_default=True,
        description="Column or columns that tell rows apart, for `merge` and `scd2`. Default: the primary key of the "
        "table, from the database's catalog.",
        examples=["rental_id", ["order_id", "line"]],
    )

    cursor: Name | None = Field(
        default=None,
        validate_default=True,
        description="Column whose value only grows. Only rows beyond the highest value loaded are read. "
        "Needed for `mode: append`, possible for `merge` and `scd2`.",
        examples=["last_update"],
    )
    select: Names = Field(
        default=(),
        description="Columns to read, names or patterns such as `addr_*`. `key` and `cursor` are read in any case. "
        "Default: all.",
        examples=[["rental_id", "amount", "addr_*"]],
    )
    exclude: Names = Field(
        default=(),
        description="Columns not to read, names or patterns. `key` and `cursor` are read in any case.",
        examples=[["password", "*_raw"]],
    )
    where: Text | None = Field(
        default=None,
        description="Which rows to read: a condition in the SQL of the database, as it stands.",
        examples=["store_id = 1 AND NOT test"],
    )
    query: Text | None = Field(
        default=None,
        description="A SELECT in the SQL of the database, as it stands, whose rows are the stream. Default: the table.",
        examples=["SELECT r.*, c.country FROM rental r JOIN customer c USING (customer_id)"],
    )

    @field_validator("query")
    @classmethod
    def _query_has_a_key(cls, query: str | None, info: ValidationInfo) -> str | None:
        mode = info.data.get("mode")
        if query is not None and mode in ("merge", "scd2") and not info.data.get("key", True):
            raise complaint(
                f"mode {mode} of a query needs a key: a query has no primary key",
                "key: the column or columns that tell rows apart",
            )
        return query

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

    def _without_days(self) -> tuple[str, str] | None:
        needs = ("needs a cursor", "cursor: a column of dates or times") if self.cursor is None else None
        return super()._without_days() or needs


def _check_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    scheme, separator, rest = text.partition("://")
    kind = _KINDS.get(scheme)
    if kind == "sqlite" and separator:
        if not rest.startswith("/") or not rest.strip("/"):
            raise complaint("an SQLite URL needs three slashes and a file", "sqlite:///file.db, or sqlite:////absolute")
        return url
    if not separator or (kind is None and not re.fullmatch("[a-z][a-z0-9_]*[+][a-z0-9_]+", scheme)):
        # The scheme is the text before the first colon: where there is none, it may be a secret.
        what = f"databases of kind {scheme!r}" if re.fullmatch("[a-z][a-z0-9+]*", scheme) and separator else "this URL"
        raise complaint(f"{what} cannot be read", _URL_HINT)
    if kind is None:  # the rest is for SQLAlchemy and the driver to understand
        return url
    try:
        urlsplit(text).port  # noqa: B018  (it parses when asked)
    except ValueError:
        raise complaint(
            "the URL has a broken host or port", f"{_URL_HINT}; escape @ : / in a password with %"
        ) from None
    parts = urlsplit(text)
    if re.search(r"\s", text) or "@" in parts.path + parts.query + parts.fragment:
        raise complaint(
            "the URL holds a character that must be escaped", "write %20 for a blank, %2F %3F %23 for / ? #"
        )
    if kind == "mysql" and not parts.path.strip("/"):
        raise complaint("the URL names no database", "mysql://user:password@host/database")
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
    for name, options in streams.items():
        if not is_pattern(name):
            continue
        if options.table is not None:
            many = "all tables" if name == EVERY else "several tables"
            raise complaint(f'table cannot be set for "{name}": {many} would become one', "name the stream")
        if options.query is not None:
            raise complaint(f'query cannot be set for "{name}", which stands for tables', "name the stream")
    return streams


class SqlSource(SourceBase):
    """Tables and queries of a database: Postgres, MySQL, MariaDB, SQLite, or any other that SQLAlchemy reads."""

    kind: Literal["sql"] = Field(description="The kind of the source.", examples=["sql"])
    url: Annotated[SecretStr, AfterValidator(_check_url)] = Field(
        description="Where the database is: `postgresql://user:password@host:5432/database`, "
        "`mysql://user:password@host:3306/database` (or `mariadb://`), `sqlite:///relative.db`, "
        "`sqlite:////absolute.db`; any other database by the URL of SQLAlchemy, `dialect+driver://...`. Never printed; "
        "keep it in `.env`.",
        examples=["${SHOP_URL}"],
    )
    source_schema: Name = Field(
        default="public",
        description="The schema of the database that is read; not for MySQL and SQLite, which have none. With an URL "
        "of SQLAlchemy the default is the user's own.",
        examples=["sales"],
    )
    snapshot: Flag = Field(
        default=True,
        description="Whether all streams of a run are read from one consistent snapshot of the database, and "
        "committed together or not at all; only where the database has that. `false`: each stream by itself, several "
        "at once.",
        examples=[False],
    )
    exclude: Names = Field(
        default=(),
        description='Tables that neither `"*"` nor a pattern stands for; names or patterns.',
        examples=[["tmp_*", "audit"]],
    )
    streams: Annotated[
        Table[Annotated[SqlStream, ShortForm({"type": "null"})]],
        AfterValidator(_check_sql_streams),
        BeforeValidator(streams_by_name),
        ShortForm(TEXT_OR_TEXTS),
    ] = Field(
        min_length=1,
        description="The tables to read: a list of names, or a mapping from name to options. A pattern such as "
        '`"order_*"` means every table that fits, `"*"` every table. A table\'s own name goes before a pattern, and a '
        'pattern before `"*"`.',
        examples=[["customer", "order_*"], {EVERY: {}, "rental": {"mode": "merge", "key": "rental_id"}}],
    )

    @property
    def scanner(self) -> str | None:
        """The DuckDB extension that reads the database: ``postgres``, ``mysql`` or ``sqlite``; None without one."""
        return _KINDS.get(self.url.get_secret_value().partition("://")[0])

    def options_of(self, table: str) -> SqlStream | None:
        """The options of a table of the database; None where it is not read."""
        if table in self.streams:
            return self.streams[table]
        if any(fnmatchcase(table, each) for each in self.exclude):
            return None
        patterns = [name for name in self.streams if is_pattern(name) and name != EVERY]
        found = next((name for name in patterns if fnmatchcase(table, name)), EVERY)
        return self.streams.get(found)

    @field_validator("source_schema")
    @classmethod
    def _only_with_schemas(cls, schema: str, info: ValidationInfo) -> str:
        url = info.data.get("url")
        kind = _KINDS.get(url.get_secret_value().partition("://")[0]) if url is not None else None
        if kind == "sqlite":
            raise complaint("source_schema is for Postgres; SQLite has no schemas", "remove source_schema")
        if kind == "mysql":
            raise complaint("source_schema is not for MySQL, where the URL names the database", "remove source_schema")
        return schema

    @model_validator(mode="after")
    def _named_is_not_excluded(self) -> SqlSource:
        both = [name for name in self.streams if name in self.exclude]
        if both:
            raise complaint(f"the stream {both[0]!r} is named, and excluded", "remove it from one of the two")
        return self
