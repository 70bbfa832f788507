"""Feeds: what brings signals and weather into the house from where they are. One kind a file, behind one interface."""

from .landing import Landed, Landing
from .protocol import Batch, Checkpoint, Feed, FeedError

__all__ = ["Batch", "Checkpoint", "Feed", "FeedError", "Landed", "Landing"]
