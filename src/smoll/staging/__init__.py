"""``smoll generate staging``: a first staging model, with docs and tests, for every loaded stream of a source."""

from smoll.staging.generate import StagingResult, generate_staging

__all__ = ["StagingResult", "generate_staging"]
