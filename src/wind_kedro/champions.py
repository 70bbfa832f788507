"""Which model forecasts whom, and since when: the one reading of the log of promotions."""

from __future__ import annotations

import pandas as pd


def in_order(promotions: pd.DataFrame) -> pd.DataFrame:
    """The promotions with ``since``, from when each could be used; the last of an entity is the one that counts."""
    since = promotions[["promoted_at", "available_at"]].max(axis=1)
    return promotions.assign(since=since).sort_values(["since", "promotion"], kind="stable")


def champions_at(promotions: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """One row per product and entity that has a champion at ``at``: the promotion by which it has it."""
    ordered = in_order(promotions)
    return ordered[ordered["since"] <= at].drop_duplicates(["product_id", "entity_id"], keep="last")


def newest_number(promotions: pd.DataFrame) -> int:
    """The number of the newest promotion; 0: there is none."""
    return 0 if promotions.empty else int(promotions["promotion"].max())


def version_in_force(promotions: pd.DataFrame) -> str | None:
    """The version of the promotion that counts last of all: the fleet's champion. A replay of the past does not change it."""
    return None if promotions.empty else str(in_order(promotions)["model_version"].iloc[-1])
