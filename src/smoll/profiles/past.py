"""The profiles of earlier releases, in the ledger: they stay when the releases go."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from smoll.model import TableRef, to_json
from smoll.profiles.profile import PastProfile, TableProfile, profile_from_json, without_values

if TYPE_CHECKING:
    from smoll.state.ledger import Ledger


def remember(ledger: Ledger, release: int, created: datetime, profiles: Iterable[tuple[TableProfile, str]]) -> None:
    """Write profiles, each with the hash of its table, into the history. Twice is as good as once."""
    entries = [(str(each.ref), hash, json.dumps(to_json(_slim(each)))) for each, hash in profiles]
    ledger.record_profiles(release, moment_of(created), entries)


def moment_of(created: datetime) -> str:
    """When a release was made, as the history has it."""
    return created.astimezone(UTC).isoformat(timespec="milliseconds")


def _slim(profile: TableProfile) -> TableProfile:
    """What later releases are compared with. Values are kept where they are few."""
    columns = [
        replace(
            column,
            quantiles={},
            histogram=(),
            top=column.top if (column.distinct or 0) <= len(column.top) else (),
        )
        for column in profile.columns
    ]
    return replace(profile, columns=tuple(columns))


def forget_values(ledger: Ledger, table: TableRef, pii: Iterable[str]) -> None:
    """Remove from the history what it knows of the values of columns that were marked as personal since."""
    personal = frozenset(pii)
    newest = history(ledger, table, 1) if personal else ()
    if all(without_values(past.profile, personal) == past.profile for past in newest):
        return
    changed = [
        (past.release, json.dumps(to_json(without_values(past.profile, personal))))
        for past in history(ledger, table, limit=10_000)
    ]
    ledger.replace_profiles(str(table), changed)


def history(ledger: Ledger, table: TableRef, limit: int = 50) -> tuple[PastProfile, ...]:
    """The last profiles of a table, the oldest first. A release in which it did not change adds none."""
    found = []
    for release, created, hash, text in ledger.profiles(str(table), limit):
        try:
            found.append(
                PastProfile(release, datetime.fromisoformat(created), hash, profile_from_json(json.loads(text)))
            )
        except ValueError:
            continue  # of another version of smoll
    return tuple(found)
