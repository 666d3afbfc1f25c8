"""Loading: streams into the working warehouse, each in one transaction with its state."""

from smoll.load.sources import Job, load_sources

__all__ = ["Job", "load_sources"]
