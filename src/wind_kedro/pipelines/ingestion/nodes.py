"""The nodes of this room: which feeds are due, and the record of what landed."""

from __future__ import annotations

import pandas as pd

from wind_kedro.cards import CardError
from wind_kedro.contracts.raw import Landings
from wind_kedro.feeds import Feed, LandedFeeds
from wind_kedro.pipelines.ingestion.settings import IngestionParameters


def choose_feeds(feeds: dict[str, Feed], ingestion: IngestionParameters) -> dict[str, Feed]:
    """The feeds that this run is to fetch.

    Args:
        feeds: all of the environment, by id.
        ingestion: says which; none named: all.

    Returns:
        The feeds chosen, in the order of the configuration.

    Raises:
        CardError: if a feed is named that is not there.
    """
    unknown = [feed_id for feed_id in ingestion.only if feed_id not in feeds]
    if unknown:
        known = ", ".join(feeds) or "none: catalog_ingestion.yml of this environment names no feeds"
        raise CardError(f"only: no feed '{unknown[0]}'; known are {known}")
    return {feed_id: feed for feed_id, feed in feeds.items() if not ingestion.only or feed_id in ingestion.only}


def list_landings(landed: LandedFeeds, landings_before: pd.DataFrame) -> pd.DataFrame:
    """Record what landed since the newest record, whoever landed it, and what failed in this run.

    Args:
        landed: the landing folders, once this run's batches are in them.
        landings_before: the record so far (`Landings`).

    Returns:
        `Landings`: every row of the days to which this adds some; no rows if there is nothing to add.
    """
    known = landings_before.loc[landings_before["folder"] != "", "folder"].str.rpartition("/")
    newest = {str(into): str(name) for into, name in known.groupby(0)[2].max().items()} if len(known) else {}
    rows = [
        {
            "feed_id": batch.feed_id,
            "landed_at": batch.landed_at,
            "folder": folder,
            "files": len(batch.files),
            "bytes": batch.bytes,
            "rows": batch.rows,
            "fault": "; ".join(batch.faults),
        }
        for folder, batch in landed.after(newest)
    ] + [
        {
            "feed_id": failure.feed_id,
            "landed_at": failure.failed_at,
            "folder": "",
            "files": 0,
            "bytes": 0,
            "rows": None,
            "fault": failure.message,
        }
        for failure in landed.failures
    ]
    new = pd.DataFrame(rows, columns=list(Landings.to_schema().columns))
    new["landed_at"] = pd.to_datetime(new["landed_at"], utc=True)
    new["landed_on"] = new["landed_at"].dt.strftime("%Y-%m-%d")
    new = Landings.validate(new)
    # The history replaces whole days.
    same_days = landings_before[landings_before["landed_on"].isin(new["landed_on"])]
    both = pd.concat([same_days, new], ignore_index=True) if len(same_days) else new
    return both.sort_values(["landed_at", "feed_id"], ignore_index=True)
