"""Web APIs, described by dlt's declarative REST configuration. Only how its streams are found is its own."""

from __future__ import annotations

from smoll.connectors.dlt import attach, check, discover, extract, extract_all

__all__ = ["attach", "check", "discover", "extract", "extract_all"]
