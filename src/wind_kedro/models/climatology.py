"""Climatology: what this farm usually makes at this time of day. The reference that knows no weather."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from wind_kedro.cards.tiers import Tier
from wind_kedro.models.base import Array, Forecaster, Parameters, numbers

HOURS_OF_DAY = 24
#: How a quantile between two observations is read: type 8 of Hyndman and Fan, The American Statistician 50, 1996.
QUANTILE_METHOD: Literal["median_unbiased"] = "median_unbiased"


def empirical_quantiles(values: Array, levels: Sequence[float]) -> Array:
    """Quantiles of the values at hand."""
    return np.asarray(np.quantile(values, np.asarray(levels), method=QUANTILE_METHOD), dtype=np.float64)


class ClimatologyParameters(Parameters):
    """Settings of `Climatology`."""

    min_rows: int = Field(
        50, gt=0, description="an hour of the day with fewer rows takes the quantiles of all: tails need dozens"
    )


class Climatology(Forecaster, type_name="climatology"):
    """Empirical quantiles of power per hour of the day (UTC); of all rows where the hour is unknown or rare."""

    parameters_type: ClassVar[type[Parameters]] = ClimatologyParameters
    parameters: ClimatologyParameters
    min_tier: ClassVar[Tier] = "none"
    needed = ("hour_of_day",)
    learnt = ("_quantiles",)

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        hours = _hours(features)
        overall = empirical_quantiles(share, self.levels)
        # One row an hour of the day, and a last one for hours that are not known.
        self._quantiles = np.tile(overall, (HOURS_OF_DAY + 1, 1))
        for hour in range(HOURS_OF_DAY):
            of_hour = share[hours == hour]
            if len(of_hour) >= self.parameters.min_rows:
                self._quantiles[hour] = empirical_quantiles(of_hour, self.levels)

    def _predict(self, features: pd.DataFrame) -> Array:
        return self._quantiles[_hours(features)]


def _hours(features: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Hour of the day 0..23 of each row; `HOURS_OF_DAY` where it is not known."""
    hours = numbers(features, "hour_of_day")
    return np.where(np.isnan(hours), HOURS_OF_DAY, np.floor(np.nan_to_num(hours)) % HOURS_OF_DAY).astype(np.intp)
