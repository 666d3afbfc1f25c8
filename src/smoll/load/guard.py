"""The guard of tables that had rows: a source that is suddenly empty does not empty them."""

from __future__ import annotations

from smoll.connector import StreamPlan
from smoll.errors import LoadError


def refuse_shrink(plan: StreamPlan, before: int, after: int, rejected: int = 0) -> None:
    """Refuse a load that takes away more rows than ``max_shrink`` allows, unless ``allow_empty`` says it may.

    Parameters
    ----------
    before, after
        Rows of the table (or its rows that are not marked as deleted or closed) before and after the load.
    rejected
        Rows that the load rejected: most often they are why.

    Raises
    ------
    LoadError
        The table had rows, and none or too few are left.
    """
    options = plan.options
    if options.allow_empty or before == 0 or after >= before:
        return
    if after > 0 and before - after <= options.max_shrink.of(before):
        return
    had = f"{before:,} row{'' if before == 1 else 's'}"
    left = "no row" if after == 0 else f"only {after:,} row{'' if after == 1 else 's'}"
    why = f", as it rejects {rejected:,}" if rejected else ""
    first = "`on_bad_row: fail` names the first bad row. " if rejected else ""
    raise LoadError(
        f"{plan.ref}: the table has {had} and this load would leave {left}{why}; nothing was changed.",
        hint=f"{first}Look at the source. If it is right: smoll run --reload {plan.ref}; to allow it always, "
        "`allow_empty: true` (or another `max_shrink`) in smoll.yml.",
    )
