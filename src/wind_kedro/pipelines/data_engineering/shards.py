"""Shards of farms and days: which of them a step is to compute, and the rows that belong to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.clock import Clock
from wind_kedro.pipelines.data_engineering.tables import Table, ibis, microseconds
from wind_kedro.storage.fingerprints import DAY, MAX_GAP, NO_DAY


def with_neighbours(days: pd.DataFrame, key: str = "farm_id") -> pd.DataFrame:
    """Add empty shards for the days before and after each day, and for gaps of up to `MAX_GAP`.

    Rows may move to a neighbouring day. Without gaps, farms are computed together for many days (`chunks`).

    Args:
        days: ``key``, ``day``, ``digest``, ``rows``, and other columns, which are null for the shards added.
        key: column of farms or entities.
    """
    dated = days.loc[days["day"] != NO_DAY, [key, "day"]]
    near = pd.concat([dated.assign(day=dated["day"] + offset * DAY) for offset in (-1, 0, 1)])
    near = near.drop_duplicates().sort_values([key, "day"], ignore_index=True)
    gap = near.groupby(key, observed=True)["day"].diff(-1).abs()
    count = gap.where(gap <= MAX_GAP, DAY).dt.days.to_numpy()
    every = near.loc[near.index.repeat(count)]
    every = every.assign(day=every["day"] + every.groupby(level=0).cumcount() * DAY)
    every = every[every["day"] != NO_DAY]
    added = every.merge(days[[key, "day"]].drop_duplicates(), on=[key, "day"], how="left", indicator="found")
    added = added[added.pop("found") == "left_only"].assign(digest=np.uint64(0), rows=0)
    return pd.concat([days, added.astype({"digest": "uint64"})], ignore_index=True)


def known_until(days: pd.DataFrame, clock: Clock) -> pd.Series:
    """``as_of``, but at most the last change of a shard (``last_at``), as nothing changes after it."""
    as_of = pd.Timestamp(clock.as_of).tz_localize(None).as_unit("us")
    last_at = days["last_at"] if "last_at" in days else pd.Series(as_of, index=days.index)
    return last_at.mask(last_at > as_of, as_of)


def of_shards(rows: pd.DataFrame, part: pd.DataFrame, time: str, key: str = "farm_id") -> pd.DataFrame:
    """Rows of these shards, of a table in memory all rows of which have a time.

    Args:
        rows: the table.
        part: ``key`` and ``day``.
        time: column of the time, UTC.
        key: column of farms or entities.
    """
    shards = pd.MultiIndex.from_arrays([rows[key], rows[time].dt.tz_localize(None).dt.floor("D")])
    return rows[shards.isin(pd.MultiIndex.from_frame(part[[key, "day"]]))]


def inside(rows: Table, part: pd.DataFrame, time: str) -> Table:
    """Rows of these farms and days.

    Args:
        rows: a table of the engine.
        part: ``farm_id`` and ``day``; `NO_DAY` is the day of rows without a time.
        time: column of the time, UTC.
    """
    # Days since 1970, that of `NO_DAY`: to truncate times with a zone takes DuckDB much longer.
    day: Any = (microseconds(rows, time) // (DAY // pd.Timedelta(microseconds=1))).fill_null(0)
    wanted = ibis.memtable(part[["farm_id"]].assign(day_of_shard=(part["day"] - NO_DAY) // DAY))
    return rows.mutate(day_of_shard=day).semi_join(wanted, ["farm_id", "day_of_shard"]).drop("day_of_shard")
