"""Sources of kind `rest`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from smoll.project.common import EVERY
from smoll.project.dlt import DltBase, DltStream, Streams
from smoll.project.fields import Passthrough, complaint


def resources_of(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The resources of a declarative REST configuration by name, each with the defaults of all.

    Left out are those that are only there for others (``selected: false``).
    """
    defaults = config.get("resource_defaults")
    found: dict[str, Mapping[str, Any]] = {}
    for name, own in _named(config):
        merged = {**(defaults if isinstance(defaults, Mapping) else {}), **own}
        if merged.get("selected") is not False:
            found[name] = merged
    return found


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    listed = config.get("resources")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, str):
            yield each, {}
        elif isinstance(each, Mapping) and isinstance(each.get("name"), str):
            yield each["name"], each


def _check_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Only what the streams are is looked at here; the rest is dlt's, and checked by dlt before anything runs."""
    client = config.get("client")
    if not isinstance(client, Mapping) or not client.get("base_url"):
        raise complaint("config needs a client with a base_url", 'client: {base_url: "https://..."}')
    listed = config.get("resources")
    if not isinstance(listed, list) or not listed:
        raise complaint("config needs a list of resources", "resources: [...], see docs/rest.md")
    names = [name for name, _ in _named(config)]
    if len(names) < len(listed):
        raise complaint("every resource needs a name", "a text, or a mapping with the key name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise complaint(f"a resource is named twice: {', '.join(twice)}")
    if not resources_of(config):
        raise complaint("no resource is selected", "remove `selected: false` from one")
    return config


class RestSource(DltBase):
    """A web API with JSON answers, described by dlt's declarative REST configuration."""

    kind: Literal["rest"] = Field(description="The kind of the source.", examples=["rest"])
    config: Annotated[Passthrough, AfterValidator(_check_config)] = Field(
        repr=False,
        description="dlt's REST API configuration, unchanged: `client`, `resource_defaults`, `resources`. Each "
        "resource is a stream. Write secrets as `${VAR}`.",
        examples=[{"client": {"base_url": "https://api.example.com"}, "resources": ["posts"]}],
    )
    streams: Streams = Field(
        default={EVERY: DltStream()},
        json_schema_extra={"default": {EVERY: {}}},
        description='Options of streams, by the name of the resource; `"*"` stands for those that are not named.',
        examples=[{"posts": {"mode": "merge", "key": "id"}}],
    )

    @field_validator("streams")
    @classmethod
    def _streams_are_resources(cls, streams: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        known = resources_of(info.data.get("config") or {})
        wrong = [name for name in streams if name != EVERY and name not in known]
        if known and wrong:
            raise complaint(f"there is no resource {wrong[0]!r} in config", f"its resources: {', '.join(known)}")
        return streams
