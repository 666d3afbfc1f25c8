"""Sources of kind `files`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from smoll.project.common import EVERY, CursorStream, SourceBase
from smoll.project.fields import TEXT_OR_TEXTS, Flag, Name, ShortForm, Table, Text, Texts, complaint

CURSOR, UNTIL = "{cursor}", "{until}"
_WEB, _STORES = ("http", "https"), ("s3", "gs", "az")

# What YAML has as a number or a flag is text here, as it is written.
_TextOrNumber = Annotated[Text, WithJsonSchema({"type": ["string", "number"]})]
_SecretScalar = Annotated[SecretStr, WithJsonSchema({"type": ["string", "number", "boolean"]})]


def _check_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    if not paths:
        raise complaint("expected a path, got an empty list")
    for path in paths:
        if not path.strip():
            raise complaint("a path cannot be empty")
        if "://" in path:
            _check_url(path)
        elif CURSOR in path or UNTIL in path:
            raise complaint(f"{CURSOR} is for http and https URLs", "a file is known by its size and time")
    if len({CURSOR in path for path in paths}) > 1:
        raise complaint(f"some paths hold {CURSOR}, some do not", "make them two streams")
    return paths


def _check_url(url: str) -> None:
    """Say what is wrong with a URL, without quoting it: it may hold a password."""
    scheme, _, rest = url.partition("://")
    known = ", ".join(f"{name}://" for name in (*_WEB, *_STORES))
    if scheme not in _WEB + _STORES:
        what = f"{scheme}:// cannot be read" if re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*", scheme) else "no such URL"
        raise complaint(what, f"known are {known}; else download the file, or mount the storage")
    if scheme in _STORES:
        place, _, key = rest.partition("/")
        if not place or not key.strip("/"):
            raise complaint(f"a URL of {scheme}:// needs a bucket and a path", f"{scheme}://bucket/folder/*.csv")
        if CURSOR in url or UNTIL in url:
            raise complaint(f"{CURSOR} is for http and https URLs", "a file is known by its ETag")
        return
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (it parses when asked)
    except ValueError:
        raise complaint("the URL has a broken host or port", "https://host/file.csv; escape @ : / with %") from None
    if not parts.hostname:
        raise complaint("the URL has no host", "https://host/file.csv")
    archive, inside, _ = parts.path.lower().partition(".zip/")
    if "*" in archive + ("" if inside else parts.path):
        raise complaint("a web server has no listing, so * cannot be used", "name every URL, in a list")
    if UNTIL in url and CURSOR not in url:
        raise complaint(f"{UNTIL} needs {CURSOR}", f"...?where=updated>='{CURSOR}' and updated<'{UNTIL}'")


class FileStream(CursorStream):
    """One table read from files. Short form: only the path, or a list of paths."""

    path: Annotated[Texts, AfterValidator(_check_paths)] = Field(
        description="File, glob pattern or a list of them: relative to the project folder, absolute, or a URL "
        "(`https://`, `s3://`, `gs://`, `az://`). `.gz`, `.zst`, `.bz2` and `.zip` files are unpacked; `a.zip/*.csv` "
        "means files in an archive. `{cursor}` in a URL is filled with the highest value of `cursor`.",
        examples=["data/flights*.csv", ["data/2023/*.csv", "data/2024/*.csv"], "s3://bucket/year=*/*.parquet"],
    )
    format: Literal["csv", "tsv", "json", "ndjson", "parquet", "excel"] | None = Field(
        default=None,
        description="Format of the files. Default: by the extension of the path.",
        examples=["csv"],
    )
    incremental: Flag = Field(
        default=False,
        description="Only new and changed files are loaded, and a changed one replaces its rows: the same as "
        "`mode: append`, and possible with `merge`.",
        examples=[True],
    )
    cursor: Name | None = Field(
        default=None,
        validate_default=True,
        description="With `mode: merge`: of rows with the same `key`, the one with the highest value wins. "
        "With `{cursor}` in the path: the column whose highest value is filled in.",
        examples=["updated_at"],
    )
    start: _TextOrNumber | None = Field(
        default=None,
        validate_default=True,
        description="With `{cursor}` in the path: what is filled in the first time.",
        examples=["1970-01-01T00:00:00"],
    )
    delimiter: str | None = Field(
        default=None,
        description="CSV only: the character between two values. Default: found by looking at the header of the first "
        "file, and kept from then on.",
        examples=[";"],
    )
    quote: str = Field(
        default='"',
        description="CSV only: the character around values that hold delimiters or line ends; empty for none.",
        examples=["'"],
    )
    escape: str | None = Field(
        default=None,
        description="CSV only: the character before a quote that belongs to a value. Default: the quote, doubled.",
        examples=["\\"],
    )
    header: Flag = Field(
        default=True,
        description="CSV only: whether the first line holds the names of the columns.",
        examples=[False],
    )
    encoding: Literal["utf-8", "utf-16", "latin-1"] = Field(
        default="utf-8",
        description="CSV only: encoding of the text.",
        examples=["latin-1"],
    )
    null_values: Texts = Field(
        default=("",),
        description="CSV only: text or texts that mean NULL.",
        examples=[["", "NA"]],
    )

    sheet: _TextOrNumber | None = Field(
        default=None,
        description='Excel only: the sheet, by its name or its number (from 1); `"*"` means all. Default: the first.',
        examples=["Orders", 2, "*"],
    )
    header_row: int = Field(
        default=1,
        ge=0,
        description="Excel only: the row, counted from 1, that holds the names of the columns; 0 where none does.",
        examples=[3],
    )

    @property
    def by_cursor(self) -> bool:
        """Whether the paths are templates that the cursor's highest value is filled in."""
        return any(CURSOR in path for path in self.path)

    def _without_days(self) -> tuple[str, str] | None:
        if not self.by_cursor:
            return f"is for URLs with {CURSOR}: files are known by name, size and time", "remove daily_from"
        if self.start and re.fullmatch(r"-?[0-9.]+", self.start):
            return f"needs a cursor of dates or times, and {self.start} is a number", "remove daily_from"
        return super()._without_days()

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        if isinstance(data, (str, list)):
            return {"path": data}
        if isinstance(data, Mapping) and data.get("mode") is None and str(data.get("incremental")).lower() == "true":
            return {**data, "mode": "append"}
        return data

    @field_validator("incremental")
    @classmethod
    def _incremental_fits_mode(cls, incremental: bool, info: ValidationInfo) -> bool:
        mode = info.data.get("mode")
        if incremental and mode in ("replace", "scd2"):
            raise complaint(
                f"mode {mode} reads all files, incremental only new ones", "remove one of them, or set mode: append"
            )
        return incremental

    @field_validator("cursor")
    @classmethod
    def _cursor_fits_mode(cls, cursor: str | None, info: ValidationInfo) -> str | None:
        mode, paths = info.data.get("mode"), info.data.get("path", ())
        if any(CURSOR in path for path in paths):
            if mode in ("replace", "scd2"):
                raise complaint(f"{CURSOR} in the path reads only new rows, mode {mode} needs all", "set mode: append")
            if cursor is None:
                raise complaint(f"{CURSOR} in the path needs a cursor", "cursor: the column whose value is filled in")
        else:
            if cursor is not None and mode in ("replace", "append"):
                raise complaint(f"cursor is not used with mode {mode} of files", "set mode: merge, or remove cursor")
            if info.data.get("lag") is not None:
                raise complaint(f"lag is for URLs with {CURSOR}", "remove lag")
        return cursor

    @field_validator("start")
    @classmethod
    def _start_fits_path(cls, start: str | None, info: ValidationInfo) -> str | None:
        has_cursor = any(CURSOR in path for path in info.data.get("path", ()))
        if has_cursor and start is None:
            raise complaint(f"{CURSOR} in the path needs a start", 'start: "1970-01-01T00:00:00", or what comes first')
        if not has_cursor and start is not None:
            raise complaint(f"start is for URLs with {CURSOR}", "remove start")
        return start

    @field_validator("sheet", "header_row")
    @classmethod
    def _only_excel(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("format") not in (None, "excel"):
            raise complaint(f"{info.field_name} is for Excel files", f"remove {info.field_name} or the format")
        return value

    @field_validator("delimiter", "quote", "escape", "header", "encoding", "null_values")
    @classmethod
    def _only_csv(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("format") not in (None, "csv", "tsv"):
            raise complaint(f"{info.field_name} is for csv and tsv files", f"remove {info.field_name} or the format")
        return value

    @field_validator("null_values")
    @classmethod
    def _some_text(cls, null_values: tuple[str, ...]) -> tuple[str, ...]:
        if not null_values:
            raise complaint("expected a text, got an empty list", "leave it out: then an empty value is NULL")
        return null_values

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and len(delimiter) != 1:
            hint = r'a tab is "\t", in double quotes' if delimiter == r"\t" else 'for example ";"'
            raise complaint(f"the delimiter must be one character, got {delimiter!r}", hint)
        return delimiter

    @field_validator("quote", "escape")
    @classmethod
    def _at_most_one_character(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and (len(value) > 1 or value in ("\n", "\r") or value == info.data.get("delimiter")):
            raise complaint(f"the {info.field_name} must be one character, and not the delimiter, got {value!r}")
        if info.field_name == "escape" and value is not None and not (value and info.data.get("quote")):
            raise complaint("an escape needs a quote, and must be one character", "remove escape, or set quote")
        return value


def _check_file_streams(streams: Mapping[str, FileStream]) -> Mapping[str, FileStream]:
    if EVERY in streams:
        raise complaint('"*" is for databases; files have no tables to list', "name the stream")
    return streams


def _check_headers(headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise complaint(f"{name!r} is no name of an HTTP header")
        if re.search(r"[\r\n]", value.get_secret_value()) or not value.get_secret_value().isprintable():
            raise complaint(f"the value of the header {name} holds a control character")
    return headers


class FilesSource(SourceBase):
    """Files: CSV, TSV, JSON, newline-delimited JSON, Parquet, Excel; on this machine, on the web, in object stores."""

    kind: Literal["files"] = Field(description="The kind of the source.", examples=["files"])
    headers: Annotated[Table[SecretStr], AfterValidator(_check_headers)] = Field(
        default={},
        description="HTTP headers that go with every request to the servers that `path` names, and to no other that "
        "they send on to. The values are never printed; keep them in `.env`.",
        examples=[{"Authorization": "Bearer ${API_TOKEN}"}],
    )
    storage: Table[_SecretScalar] = Field(
        default={},
        description="How to reach the object store of `s3://`, `gs://` and `az://`: the keys of "
        "[object_store](https://developmentseed.org/obstore/latest/). Default: the environment (`AWS_*`, `GOOGLE_*`, "
        "`AZURE_*`) and, on a cloud machine, its role.",
        examples=[{"region": "eu-central-1", "secret_access_key": "${AWS_SECRET_ACCESS_KEY}"}],
    )
    streams: Annotated[Table[Annotated[FileStream, ShortForm(TEXT_OR_TEXTS)]], AfterValidator(_check_file_streams)] = (
        Field(
            min_length=1,
            description="The streams of the source, by name. Short form of a stream: only its path.",
            examples=[{"planes": "data/planes.parquet"}],
        )
    )
