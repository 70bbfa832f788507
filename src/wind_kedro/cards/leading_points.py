"""Which point's weather stands for a farm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from wind_kedro.cards import Farm

if TYPE_CHECKING:
    import pandas as pd


def at_leading_points(weather: pd.DataFrame, farms: Iterable[Farm]) -> pd.DataFrame:
    """The weather at one point of each model of each farm: the first on its card. What reads one point of a model uses it.

    Args:
        weather: contract `Weather`.
        farms: their cards. A model that is on none of them has no other point, and stays.

    Returns:
        The rows that remain, in their order.
    """
    import pandas as pd

    others = [
        (farm.id, source.model, source.point)
        for farm in farms
        for source in farm.weather
        if source.point != farm.leading_points[source.model]
    ]
    if not others:
        return weather
    found = pd.MultiIndex.from_frame(weather[["farm_id", "weather_model", "weather_point"]])
    return weather[~found.isin(others)]
