"""What Dagster leaves undone, in a short process now and then: ``python -m smoll.up.housekeeping``.

In a process of its own, since the supervisor has no Dagster, and a schedule would stand in the project's graph.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime, timedelta

from smoll.up.runs import close_lost_runs, purge_runs


def main() -> None:
    """Close the runs of code servers that died, and remove old runs, in the instance of DAGSTER_HOME."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--served-since", type=float, required=True, help="when the present code server was started")
    parser.add_argument("--keep-days", type=int, required=True)
    options = parser.parse_args()
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        print(f"Closed {close_lost_runs(instance, options.served_since)} runs whose processes had died.")
        os.nice(10)  # the rest can wait
        count = purge_runs(instance, datetime.now(UTC) - timedelta(days=options.keep_days))
    print(f"Removed {count} runs that ended more than {options.keep_days} days ago.")


if __name__ == "__main__":
    main()
