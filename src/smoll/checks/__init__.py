"""Smoll's own checks, measured in the warehouse; and some of the rows on which checks fail, dbt's tests too."""

from smoll.checks.rows import rows_of_query
from smoll.checks.runner import Surroundings, run_checks, skipped

__all__ = ["Surroundings", "rows_of_query", "run_checks", "skipped"]
