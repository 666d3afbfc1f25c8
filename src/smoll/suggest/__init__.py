"""``smoll suggest``: dbt tests that the data of all known releases pass, for a person to choose from."""

from smoll.suggest.find import Suggestion, suggest_tests
from smoll.suggest.write import Change, apply_changes, plan_changes, render

__all__ = ["Change", "Suggestion", "apply_changes", "plan_changes", "render", "suggest_tests"]
