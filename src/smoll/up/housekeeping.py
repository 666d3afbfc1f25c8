"""What Dagster leaves undone, in a short process now and then: ``python -m smoll.up.housekeeping``.

In a process of its own, since the supervisor has no Dagster, and a schedule would stand in the project's graph.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime, timedelta
from math import inf

from smoll.up.runs import close_lost_runs, purge_runs


def main() -> None:
    """Close the runs of code servers that died, and remove old runs, in the instance of DAGSTER_HOME.

    Before any code server runs, all that look as if they ran are such; no clock is asked, which may have been wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--served-since", type=float, default=inf, help="when the present code server was started")
    parser.add_argument("--keep-days", type=int, help="remove runs that ended more days ago")
    options = parser.parse_args()
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        print(f"Closed {close_lost_runs(instance, options.served_since)} runs whose processes had died.")
        if options.keep_days is None:
            return
        os.nice(10)  # the rest can wait
        count = purge_runs(instance, datetime.now(UTC) - timedelta(days=options.keep_days))
    print(f"Removed {count} runs that ended more than {options.keep_days} days ago.")


if __name__ == "__main__":
    main()
