"""Tiers: which models a farm may have, and the readiness of an entity at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    import pandas as pd

    from wind_kedro.cards import Fleet

Tier = Literal["none", "physical", "global", "blended", "local"]
#: From the least to the most that a farm may have.
TIERS: tuple[Tier, ...] = ("none", "physical", "global", "blended", "local")


class Ready(NamedTuple):
    """What an entity may have, and why; ``new``: its weather is known, and nothing is missing but history."""

    tier: Tier
    reason: str
    new: bool = False


def reaches(tier: Tier, needed: Tier) -> bool:
    """Whether an entity of tier ``tier`` may have a model that needs tier ``needed``."""
    return TIERS.index(tier) >= TIERS.index(needed)


def assessed_by(readiness: pd.DataFrame, at: dt.datetime | pd.Timestamp) -> pd.DataFrame:
    """The newest row of each farm that was assessed by a time (contract `Readiness`)."""
    known = readiness[readiness["assessed_at"] <= at].sort_values("assessed_at", kind="stable")
    return known.drop_duplicates("farm_id", keep="last")


def ready_entities(readiness: pd.DataFrame, fleet: Fleet, at: dt.datetime | pd.Timestamp) -> Mapping[str, Ready]:
    """Tier and reason of every farm and group as assessed by a time; a group has the lowest tier of its members.

    A farm that was never assessed by then has tier ``none``.
    """
    never = Ready("none", f"not assessed by {at:%Y-%m-%d %H:%M} UTC: run data_engineering as of then")
    assessed = {
        row["farm_id"]: Ready(row["tier"], row["reason"], _is_new(row)) for row in assessed_by(readiness, at).to_dict("records")
    }
    found = {farm.id: assessed.get(farm.id, never) for farm in fleet.farms}
    for group in fleet.at(at).groups:
        members = group.farm_ids
        if not members:  # before its first farm joins
            found[group.id] = Ready("none", "it has no farm yet")
            continue
        least = min(members, key=lambda farm_id: TIERS.index(found[farm_id].tier))
        found[group.id] = Ready(found[least].tier, f"its farm '{least}': {found[least].reason}", found[least].new)
    return found


def _is_new(row: Mapping[Any, Any]) -> bool:
    """Tier none for want of history alone: a correlation is only known, and only judged, once there is some."""
    correlation = row.get("best_correlation")
    unjudged = correlation is None or correlation != correlation  # noqa: PLR0124 not-a-number
    return bool(row["tier"] == "none" and (row.get("weather_days") or 0) > 0 and unjudged)
