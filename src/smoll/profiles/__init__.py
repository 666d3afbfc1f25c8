"""What the rows of a table look like: its profile, its history, and what is unusual beside that."""

from smoll.profiles.compute import kind_of, profile_table
from smoll.profiles.past import forget_values, history, moment_of, remember
from smoll.profiles.profile import (
    VERSION,
    ColumnProfile,
    PastProfile,
    TableProfile,
    Value,
    profile_from_json,
    profiles_from_json,
    without_values,
)
from smoll.profiles.unusual import METRICS, Anomaly, Metric, anomalies, robust_score

__all__ = [
    "METRICS",
    "VERSION",
    "Anomaly",
    "ColumnProfile",
    "Metric",
    "PastProfile",
    "TableProfile",
    "Value",
    "anomalies",
    "forget_values",
    "history",
    "kind_of",
    "moment_of",
    "profile_from_json",
    "profile_table",
    "profiles_from_json",
    "remember",
    "robust_score",
    "without_values",
]
