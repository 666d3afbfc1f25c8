"""What the search finds: one short list for each thing, as the script reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoll.portal.boards import Board
from smoll.portal.facts import Entry, Facts

_LONGEST = 160
_KINDS = {"table": "Table", "source": "Source", "model": "Model", "seed": "Seed", "snapshot": "Snapshot"}


def search_entries(facts: Facts, boards: Sequence[Board]) -> list[list[Any]]:
    """Of each dashboard and table: kind, name, page, description, and its columns with theirs."""
    entries = facts.of_kind("table", "source", "model", "seed", "snapshot")
    found = [["Dashboard", board.title, board.href, _short(board.description)] for board in boards]
    return found + [
        [_KINDS[entry.kind], entry.name, entry.href, _short(entry.description), *_columns(entry)] for entry in entries
    ]


def _columns(entry: Entry) -> list[Any]:
    return [[[column.name, _short(column.description)] for column in entry.columns]]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 1]}…"
