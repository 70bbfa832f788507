"""What comes from outside, as datasets: the feeds of an environment, and what they landed."""

from __future__ import annotations

import datetime as dt
import logging
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from wind_kedro.feeds import Failure, Feed, FeedError, LandedFeeds, Landing, build_feeds

logger = logging.getLogger(__name__)


class Feeds(AbstractDataset[NoReturn, dict[str, Feed]]):
    """Read-only: the feeds that an environment names, as `Feed` by id. Loading checks their cards and connects to nothing.

    Kedro puts the secrets in place of ``credentials: <key>`` before they get here, from ``credentials.yml``.

    Example of a catalog entry::

        feeds:
          type: wind_kedro.datasets.Feeds
          feeds:
            coast_scada:
              kind: drop_folder
              url: sftp://sftp.example.org/export
              into: coast/scada
              credentials: coast_scada
    """

    def __init__(
        self, *, feeds: Mapping[str, Mapping[str, Any]] | None, metadata: dict[str, Any] | None = None
    ) -> None:
        """Say which feeds there are.

        Args:
            feeds: cards by id; `wind_kedro.feeds.FEEDS` has their kinds.
            metadata: ignored by Kedro, read by Kedro-Viz.
        """
        self._feeds = feeds or {}
        self.metadata = metadata

    def load(self) -> dict[str, Feed]:
        """The feeds; `CardError` with one line a fault if a card is wrong."""
        return build_feeds(self._feeds)

    def save(self, data: NoReturn) -> NoReturn:
        """Feeds are configuration."""
        raise DatasetError("feeds are read from the configuration, never written")

    def _init_config(self) -> dict[str, Any]:
        # Kedro keeps what a dataset was made with, and can write it out. Secrets are not for that.
        config: dict[str, Any] = super()._init_config()
        feeds = {
            feed_id: {name: value for name, value in card.items() if name != "credentials"}
            for feed_id, card in self._feeds.items()
        }
        return config | {"feeds": feeds}

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"feeds": {feed_id: card.get("kind") for feed_id, card in self._feeds.items()}}


class Landings(AbstractDataset[Mapping[str, Feed], LandedFeeds]):
    """The landing folders below the raw folder: saving feeds fetches and lands what each has, loading tells what landed.

    One feed at a time, each under the lock of its folder, from the checkpoint that stands there: a feed that fails is a
    `Failure`, what landed before that stays, and the next feed goes on.
    """

    def __init__(self, *, root: str, metadata: dict[str, Any] | None = None) -> None:
        """``root`` is the raw folder of the environment."""
        self._root = Path(root)
        self._failures: list[Failure] = []
        self.metadata = metadata

    def save(self, data: Mapping[str, Feed]) -> None:
        """Fetch and land what the feeds have."""
        self._failures = []
        for feed in data.values():
            try:
                self._pull(feed)
            except FeedError as error:
                self._fail(feed, error)
            # A library's surprise in one feed must not cost the others theirs. Its stack is told without secrets, to who asks.
            except Exception as error:
                logger.debug("%s", feed.fault(traceback.format_exc()))
                self._fail(feed, feed.fault(f"unexpected {type(error).__name__}: {error}"))

    def load(self) -> LandedFeeds:
        """What landed, ever, and what failed in this run."""
        return LandedFeeds(self._root, list(self._failures))

    def _pull(self, feed: Feed) -> None:
        batches = files = size = 0
        for landed in Landing(self._root, feed.into, feed.id).pull(feed.fetch, in_parts=feed.in_parts):
            batches, files, size = batches + 1, files + len(landed.files), size + landed.bytes
            logger.info(
                "feed '%s': %s, %d files, %d bytes", feed.id, landed.folder.name, len(landed.files), landed.bytes
            )
        if not batches:
            logger.info("feed '%s': nothing new", feed.id)

    def _fail(self, feed: Feed, error: FeedError) -> None:
        logger.warning("%s", error)
        self._failures.append(Failure(feed.id, dt.datetime.now(dt.UTC), str(error)))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"root": str(self._root)}
