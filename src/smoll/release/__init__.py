"""Releases: staged beside their final place, published by one atomic switch of ``current``."""

from smoll.release.breaking import breaking
from smoll.release.build import Candidate, Finisher, Profiler, build_release, hash_tables
from smoll.release.pins import read_pins
from smoll.release.retention import Expired, Retention, expired, pin, remove_expired, unpin
from smoll.release.store import (
    clean,
    current_release,
    entries,
    entry,
    is_current,
    newest_release,
    next_number,
    numbers,
    put_forward,
    read_hold,
    read_manifest,
    resume,
    rollback,
    rows_released,
)

__all__ = [
    "Candidate",
    "Expired",
    "Finisher",
    "Profiler",
    "Retention",
    "breaking",
    "build_release",
    "clean",
    "current_release",
    "entries",
    "entry",
    "expired",
    "hash_tables",
    "is_current",
    "newest_release",
    "next_number",
    "numbers",
    "pin",
    "put_forward",
    "read_hold",
    "read_manifest",
    "read_pins",
    "remove_expired",
    "resume",
    "rollback",
    "rows_released",
    "unpin",
]
