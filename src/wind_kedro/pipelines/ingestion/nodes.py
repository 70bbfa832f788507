"""The node of ingestion: fetches what feeds have, lands it in the raw folder, and records both."""

from __future__ import annotations

import datetime as dt
import logging
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wind_kedro.cards import CardError
from wind_kedro.clock import Clock
from wind_kedro.configuration import read_secrets
from wind_kedro.contracts.raw import Landings
from wind_kedro.datasets.parts import with_same_parts
from wind_kedro.failures import Failure, failures_table
from wind_kedro.feeds import Feed, FeedCards, FeedError, Landing, build_feeds, find_landed
from wind_kedro.pipelines.ingestion.settings import IngestionParameters

logger = logging.getLogger(__name__)


def fetch_feeds(
    landings_before: pd.DataFrame, feeds: FeedCards, ingestion: IngestionParameters, clock: Clock
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fetch what the feeds have and land it below the raw folder, one feed after the other.

    Each feed goes on from the checkpoint of its newest batch, under the lock of its folder. One that fails stops no other.

    Returns:
        `Landings`: every row of the days to which this adds some; no rows if there is nothing to add. `Failures`: the feeds that
        could not be fetched.
    """
    chosen = choose_feeds(build_feeds(feeds.with_secrets(read_secrets)), ingestion.only)
    failed = [row for feed in chosen.values() if (row := _fetch(feed, ingestion.raw_folder)) is not None]
    remedy = "correct the feed's card, its credentials or its server; the next run fetches from where this one stopped"
    failures = [Failure("ingestion", "feed_failed", row["fault"], remedy) for row in failed]
    return list_landings(ingestion.raw_folder, failed, landings_before), failures_table(failures, clock.as_of)


def choose_feeds(feeds: Mapping[str, Feed], only: Iterable[str]) -> dict[str, Feed]:
    """The feeds that a run is to fetch, in the order of the configuration; without ids in ``only`` all.

    Raises:
        CardError: if a feed is named that is not there.
    """
    wanted = set(only)
    for unknown in sorted(wanted - set(feeds)):
        known = ", ".join(feeds) or "none: parameters_ingestion.yml of this environment names no feeds"
        raise CardError(f"only: no feed '{unknown}'; known are {known}")
    return {feed_id: feed for feed_id, feed in feeds.items() if not wanted or feed_id in wanted}


def _fetch(feed: Feed, root: Path) -> dict[str, Any] | None:
    """Fetch and land what a feed has; the row of `Landings` with the reason if it failed."""
    try:
        batches = 0
        for landed in Landing(root, feed.into, feed.id).pull(feed.fetch, in_parts=feed.in_parts):
            batches += 1
            logger.info("feed '%s': %s, %d files, %d bytes", feed.id, landed.folder.name, len(landed.files), landed.bytes)
        if not batches:
            logger.info("feed '%s': nothing new", feed.id)
        return None
    except FeedError as error:
        fault = str(error)
    # An unexpected error of a library in one feed must not stop the others. Its stack is logged without secrets.
    except Exception as error:
        logger.debug("%s", feed.fault(traceback.format_exc()))
        fault = str(feed.fault(f"unexpected {type(error).__name__}: {error}"))
    return _row(feed.id, dt.datetime.now(dt.UTC), fault=fault)


def _row(
    feed_id: str, landed_at: dt.datetime, folder: str = "", files: int = 0, size: int = 0, rows: int | None = None, *, fault: str
) -> dict[str, Any]:
    return {
        "feed_id": feed_id, "landed_at": landed_at, "folder": folder, "files": files, "bytes": size, "rows": rows, "fault": fault
    }  # fmt: skip


def list_landings(root: Path, failed: list[dict[str, Any]], landings_before: pd.DataFrame) -> pd.DataFrame:
    """Record what landed since the newest record, in this run or by `kedro wind listen`, and what failed in this run.

    Args:
        root: the raw folder, once this run's batches are in it.
        failed: rows of the fetches of this run that failed.
        landings_before: the record so far (`Landings`).

    Returns:
        `Landings`: every row of the days to which this adds some; no rows if there is nothing to add.
    """
    known = landings_before.loc[landings_before["folder"] != "", "folder"].str.rpartition("/")
    newest = {str(into): str(name) for into, name in known.groupby(0)[2].max().items()} if len(known) else {}
    rows = [
        _row(one.feed_id, one.landed_at, folder, len(one.files), one.bytes, one.rows, fault="; ".join(one.faults))
        for folder, one in find_landed(root, newest)
    ] + failed
    new = pd.DataFrame(rows, columns=list(Landings.to_schema().columns))
    new["landed_at"] = pd.to_datetime(new["landed_at"], utc=True)
    new["landed_on"] = new["landed_at"].dt.strftime("%Y-%m-%d")
    new = Landings.validate(new)
    both = with_same_parts(new, landings_before, "landed_on")
    return both.sort_values(["landed_at", "feed_id"], ignore_index=True)
