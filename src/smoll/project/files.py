"""Sources of kind `files`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from smoll.project.common import EVERY, SourceBase, Stream
from smoll.project.fields import TEXT_OR_TEXTS, Flag, Name, ShortForm, Table, Texts, complaint


def _check_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    if not paths:
        raise complaint("expected a path, got an empty list")
    for path in paths:
        if not path.strip():
            raise complaint("a path cannot be empty")
        if "://" in path:
            raise complaint(f"only local files can be read, got {path!r}", "download the file, or mount the storage")
    return paths


class FileStream(Stream):
    """One table read from files. Short form: only the path, or a list of paths."""

    path: Annotated[Texts, AfterValidator(_check_paths)] = Field(
        description="File, glob pattern or a list of them, relative to the project folder or absolute. "
        "`.gz` and `.zst` files are unpacked while reading.",
        examples=["data/flights*.csv", ["data/2023/*.csv", "data/2024/*.csv"]],
    )
    format: Literal["csv", "tsv", "json", "ndjson", "parquet"] | None = Field(
        default=None,
        description="Format of the files. Default: by the extension of the path.",
        examples=["csv"],
    )
    cursor: Name | None = Field(
        default=None,
        validate_default=True,
        description="With `mode: merge`: of rows with the same `key`, the one with the highest value wins.",
        examples=["updated_at"],
    )
    delimiter: str | None = Field(
        default=None,
        description="CSV only: the character between two values. Default: found by looking at the file.",
        examples=[";"],
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

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"path": data} if isinstance(data, (str, list)) else data

    @field_validator("cursor")
    @classmethod
    def _cursor_fits_mode(cls, cursor: str | None, info: ValidationInfo) -> str | None:
        mode = info.data.get("mode")
        if cursor is not None and mode in ("replace", "append"):
            raise complaint(f"cursor is not used with mode {mode} of files", "set mode: merge, or remove cursor")
        return cursor

    @field_validator("delimiter", "header", "encoding", "null_values")
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


def _check_file_streams(streams: Mapping[str, FileStream]) -> Mapping[str, FileStream]:
    if EVERY in streams:
        raise complaint('"*" is for databases; files have no tables to list', "name the stream")
    return streams


class FilesSource(SourceBase):
    """Files on this machine: CSV, TSV, JSON, newline-delimited JSON, Parquet."""

    kind: Literal["files"] = Field(description="The kind of the source.", examples=["files"])
    streams: Annotated[Table[Annotated[FileStream, ShortForm(TEXT_OR_TEXTS)]], AfterValidator(_check_file_streams)] = (
        Field(
            min_length=1,
            description="The streams of the source, by name. Short form of a stream: only its path.",
            examples=[{"planes": "data/planes.parquet"}],
        )
    )
