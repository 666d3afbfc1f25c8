"""When runs begin by themselves, and how Dagster keeps what it knows of them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from smoll.errors import Problem
from smoll.project.cron import check_cron, next_tick
from smoll.project.document import Document
from smoll.project.fields import Duration, Section, Text, complaint, near, seconds_of

LEAST_EVERY = 10
RESERVED_NAMES = {
    *("context", "conf", "config", "meta", "arg_dict", "dict", "input_arg_dict", "output_arg_dict"),
    *("int", "str", "float", "bool", "input", "output", "type"),
    *keyword.kwlist,
}
"""Names that Dagster refuses (dagster 1.13, ``_core/definitions/utils.py``)."""


def job_of(project: str) -> str:
    """The name of the job that runs all of a project: its name in letters, digits and underscores."""
    return re.sub(r"\W+", "_", project, flags=re.ASCII).strip("_") or "_"


def check_job_name(name: str) -> str:
    """Refuse what cannot name a job of Dagster, which every schedule and sensor becomes."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise complaint(f"a schedule or sensor cannot be named {name!r}", "letters, digits and _")
    if name in RESERVED_NAMES or name == "smoll" or name.startswith("smoll_"):
        raise complaint(f"the name {name!r} is taken", "choose another name for the schedule or sensor")
    return name


def _check_timezone(name: str) -> str:
    if name == "UTC":
        return name
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        if not known:
            raise complaint(
                f"the time zone {name!r} is not known: this machine has no data of time zones",
                "install it: `apt install tzdata`, or `pip install tzdata`",
            ) from None
        folded = {each.casefold(): each for each in known}
        close = get_close_matches(name.casefold(), folded, n=1)
        raise complaint(
            f"there is no time zone {name!r}",
            f"did you mean {folded[close[0]]!r}?" if close else "an IANA name, for example Europe/Amsterdam",
        ) from None
    return name


def _check_every(text: str) -> str:
    if seconds_of(text) < LEAST_EVERY:
        raise complaint(f"every must be at least {LEAST_EVERY} seconds, got {text}")
    return text


def _check_storage(url: SecretStr) -> SecretStr:
    if not re.match("postgres(ql)?://[^/]", url.get_secret_value()):
        raise complaint("this is no URL of a Postgres database", "postgresql://user:password@host:5432/database")
    return url


def _check_port(port: int) -> int:
    if not 1 <= port <= 65535:
        raise complaint(f"a port is a number from 1 to 65535, got {port}")
    return port


class Trigger(Section):
    """What schedules and sensors have in common: what is run, and how often it is tried."""

    select: Text | None = Field(
        default=None,
        description="What is loaded and built, in dbt's selection syntax. Default: everything; of a sensor of files, "
        "the source's streams and what depends on them.",
        examples=["source:nyc+"],
    )
    exclude: Text | None = Field(
        default=None,
        description="What of it is left out, in dbt's selection syntax.",
        examples=["tag:slow"],
    )
    retries: int = Field(
        default=0,
        ge=0,
        description="How often a run that failed is tried again. For a source that is often away, better use the "
        "`retries` of the source.",
        examples=[2],
    )

    @property
    def selection(self) -> str:
        """What is run, in dbt's selection syntax; empty for everything."""
        return self.select or ""


class Schedule(Trigger):
    """When the project runs by itself. Short form: only the line of cron."""

    cron: Annotated[Text, AfterValidator(check_cron)] = Field(
        description="Minute, hour, day of the month, month and day of the week, as in a crontab.",
        examples=["0 3 * * *", "*/15 8-18 * * MON-FRI"],
    )
    timezone: Annotated[Text, AfterValidator(_check_timezone)] = Field(
        default="UTC",
        description="The time zone in which `cron` is meant, by its IANA name.",
        examples=["Europe/Amsterdam"],
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"cron": data} if isinstance(data, str) else data

    def next_tick(self, after: datetime) -> datetime:
        """Return the first tick later than `after`, a time with a time zone, in the time zone of the schedule."""
        return next_tick(self.cron, self.timezone, after)


class Sensor(Trigger):
    """What makes the project run when it happens: files that are new or changed, or a release of another project."""

    files: Text | None = Field(
        default=None,
        description="The name of a source of kind `files`: a run begins when files of its streams are new or changed.",
        examples=["nyc"],
    )
    release: Text | None = Field(
        default=None,
        description="The folder of another project, absolute or relative to this one's: a run begins when it has a new "
        "release.",
        examples=["../shop"],
    )
    every: Annotated[Duration, AfterValidator(_check_every)] = Field(
        default="30 seconds",
        description=f"How often it is looked; a length of time, at least {LEAST_EVERY} seconds.",
        examples=["5 minutes"],
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Sensor:
        if (self.files is None) == (self.release is None):
            what = "neither" if self.files is None else "both"
            raise complaint(f"a sensor looks at `files` or at a `release`, this one at {what}", "write one of the two")
        return self

    @property
    def every_seconds(self) -> int:
        """`every` in seconds."""
        return seconds_of(self.every)

    @property
    def selection(self) -> str:
        """What is run, in dbt's selection syntax; empty for everything. dbt may know the source by another name."""
        return self.select or (f"source:{self.files}+" if self.files else "")

    def release_root(self, root: Path) -> Path | None:
        """Return the absolute folder of the other project, seen from the project folder `root`; None without one."""
        return (root / self.release).resolve() if self.release else None


class DagsterOptions(Section):
    """How `smoll up` serves Dagster, and where Dagster keeps runs and events."""

    storage: Annotated[
        Annotated[SecretStr, AfterValidator(_check_storage)] | None,
        BeforeValidator(lambda value: None if value == "" else value),  # ${DAGSTER_STORAGE:-}
    ] = Field(
        default=None,
        description="URL of a Postgres database for Dagster's runs, events and schedules. Never printed; keep it in "
        "`.env`. Default: SQLite files under `.smoll/dagster/`.",
        examples=["${DAGSTER_STORAGE}"],
    )
    port: Annotated[int, AfterValidator(_check_port)] = Field(
        default=3000,
        description="The port of `smoll up`, on this machine only.",
        examples=[3100],
    )
    keep_days: int = Field(
        default=90,
        ge=1,
        description="Runs older than so many days are removed, with their events. What is loaded and released stays.",
        examples=[30],
    )


def trigger_problems(data: Any, document: Document) -> Iterator[Problem]:
    """Find what schedules, sensors and sources say against each other.

    On the values as they are written: other problems must not hide it.
    """
    schedules, sensors, sources = (_mapping(data, key) for key in ("schedules", "sensors", "sources"))
    for name in sensors:
        if name in schedules:
            line = document.key_mark(("schedules", name))[0]
            yield Problem(
                document.file,
                *document.key_mark(("sensors", name)),
                f"the schedule on line {line} is named {name!r}, too",
                "both become jobs: rename one",
            )
    job = job_of(data["name"]) if isinstance(data, dict) and isinstance(data.get("name"), str) else ""
    for section, names in (("schedules", schedules), ("sensors", sensors)):
        if job in names:
            mark = document.key_mark((section, job))
            yield Problem(document.file, *mark, f"{job!r} is the job that runs all of the project", "rename it")
    for name, spec in sensors.items():
        source = spec.get("files") if isinstance(spec, dict) else None
        if isinstance(source, str) and source.strip():
            mark = document.value_mark(("sensors", name, "files"))
            yield from (Problem(document.file, *mark, *said) for said in _about_source(source, sources))


def _about_source(name: str, sources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    with_files = [each for each, spec in sources.items() if isinstance(spec, dict) and spec.get("kind") == "files"]
    if name not in sources:
        yield f"there is no source {name!r}", near(name, with_files)
    elif name not in with_files:
        yield f"the source {name!r} is not of kind files", near(name, with_files) or "for others, use a schedule"


def _mapping(data: Any, key: str) -> dict[str, Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}
