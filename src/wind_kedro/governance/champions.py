"""Which model forecasts which entity, and since when, read from the log of promotions."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from wind_kedro.errors import WindKedroError


class RollbackError(WindKedroError):
    """There is nothing to go back to."""


def in_order(promotions: pd.DataFrame) -> pd.DataFrame:
    """The promotions with ``since``, from when each could be used; the last of an entity is the one that counts."""
    since = promotions[["promoted_at", "available_at"]].max(axis=1)
    return promotions.assign(since=since).sort_values(["since", "promotion"], kind="stable")


def champions_at(promotions: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """One row per product and entity that has a champion at ``at``: the promotion by which it has it."""
    ordered = in_order(promotions)
    return ordered[ordered["since"] <= at].drop_duplicates(["product_id", "entity_id"], keep="last")


def champion_models(promotions: pd.DataFrame, training_time: pd.Timestamp) -> dict[tuple[str, str], str]:
    """The candidate that each product and entity had before this training."""
    before = champions_at(promotions[promotions["promoted_at"] < training_time], training_time)
    return {(row["product_id"], row["entity_id"]): row["model"] for row in before.to_dict("records")}


def versions_at(ordered: pd.DataFrame, issues: pd.DatetimeIndex) -> dict[str | None, pd.DatetimeIndex]:
    """Issue times by the version that was champion at them; ``None``: there was none. Without issues it is empty.

    Args:
        ordered: the promotions of one product and entity, as `in_order` gives them.
        issues: issue times, UTC.
    """
    # Arrays, as a fleet asks for every farm.
    since = ordered["since"].dt.tz_localize(None).to_numpy("datetime64[us]")
    place = np.searchsorted(since, issues.tz_localize(None).to_numpy("datetime64[us]"), side="right") - 1
    versions = np.array([None, *ordered["model_version"]], dtype=object)[place + 1]
    return {version: issues[versions == version] for version in dict.fromkeys(versions)}


def newest_number(promotions: pd.DataFrame) -> int:
    """The number of the newest promotion; 0: there is none."""
    return 0 if promotions.empty else int(promotions["promotion"].max())


def version_in_force(promotions: pd.DataFrame) -> str | None:
    """The version of the promotion that counts last of all: the fleet's champion. A backtest of the past does not change it."""
    return None if promotions.empty else str(in_order(promotions)["model_version"].iloc[-1])


def version_before(promotions: pd.DataFrame) -> str:
    """The version that was in force before the present one.

    Raises:
        RollbackError: if there is none.
    """
    versions = in_order(promotions).drop_duplicates("promotion", keep="last")["model_version"].tolist()
    earlier = [version for version in versions if version != versions[-1]]
    if not earlier:
        raise RollbackError("there is no earlier version to go back to")
    return str(earlier[-1])


def rollback(promotions: pd.DataFrame, version: str, *, author: str, reason: str, at: dt.datetime) -> pd.DataFrame:
    """The promotion by which a version is in force again from ``at`` on, for every product and entity that it forecast.

    Nothing is taken away: what was promoted since stays in the log.

    Raises:
        RollbackError: if that version was never promoted, or the author or the reason is missing.
    """
    if not author.strip() or not reason.strip():
        raise RollbackError("rollback: give an author and a reason (--author, --reason)")
    rows = promotions[promotions["model_version"] == version]
    if rows.empty:
        known = ", ".join(dict.fromkeys(promotions["model_version"])) or "none"
        raise RollbackError(f"version {version} was never promoted; promoted were {known}")
    newest = newest_number(promotions)
    last = rows[rows["promotion"] == rows["promotion"].max()]
    entry: pd.DataFrame = last.assign(
        promotion=newest + 1,
        parent=newest,
        action="rollback",
        author=author.strip(),
        promoted_at=pd.Timestamp(at),
        available_at=pd.Timestamp(at),
        reason=reason.strip(),
        recorded_at=pd.Timestamp(dt.datetime.now(dt.UTC)),
    ).reset_index(drop=True)
    return entry
