"""Persistence: it stays as it is. The reference that is hard to beat in the first hours."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from wind_kedro.cards.tiers import Tier
from wind_kedro.models.base import Array, Forecaster, Parameters, numbers
from wind_kedro.models.climatology import Climatology, ClimatologyParameters, empirical_quantiles

MEDIAN = 0.5


class PersistenceParameters(Parameters):
    """Settings of `Persistence`."""

    lead_edges_minutes: list[int] = Field(
        [0, 60, 120, 180, 240, 360, 540, 720, 1080, 1440, 2160],
        min_length=1,
        description="lower edges of the buckets of lead time whose errors are pooled; fine where the error grows fast",
    )
    min_rows: int = Field(50, gt=0, description="a bucket, or an hour of the climatology, with fewer rows takes all")

    @field_validator("lead_edges_minutes")
    @classmethod
    def _rise(cls, edges: list[int]) -> list[int]:
        if edges != sorted(set(edges)):
            raise ValueError("must rise strictly")
        return edges


class Persistence(Forecaster, type_name="persistence"):
    """The last power known at issue, spread by the errors that it made at that lead time.

    Its median is the last power itself, the reference of IEA Wind Task 36's Recommended Practice for the Implementation
    of Renewable Energy Forecasting Solutions, part 3; quantiles around it are those of the errors. Where no last power
    is known, climatology stands in.
    """

    parameters_type: ClassVar[type[Parameters]] = PersistenceParameters
    parameters: PersistenceParameters
    min_tier: ClassVar[Tier] = "none"
    needed = ("last_power_share", "lead_minutes", "hour_of_day")
    learnt = ("_spread", "_when_unknown")

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        fallback = ClimatologyParameters(min_rows=self.parameters.min_rows)
        self._when_unknown = Climatology(self.levels, self.seed, fallback).fit(features, pd.Series(share))
        error = share - numbers(features, "last_power_share")
        known = ~np.isnan(error)
        buckets = len(self.parameters.lead_edges_minutes)
        self._spread = np.zeros((buckets, len(self.levels)))
        if not known.any():
            return
        bucket = self._bucket(features)
        self._spread[:] = self._around_median(error[known])
        for number in range(buckets):
            of_bucket = error[known & (bucket == number)]
            if len(of_bucket) >= self.parameters.min_rows:
                self._spread[number] = self._around_median(of_bucket)

    def _around_median(self, error: Array) -> Array:
        levels = np.asarray(self.levels)
        spread = empirical_quantiles(error, self.levels)
        return np.where(levels < MEDIAN, np.minimum(spread, 0), np.where(levels > MEDIAN, np.maximum(spread, 0), 0))

    def _bucket(self, features: pd.DataFrame) -> NDArray[np.intp]:
        lead = numbers(features, "lead_minutes")
        return np.maximum(np.searchsorted(self.parameters.lead_edges_minutes, lead, side="right") - 1, 0)

    def _predict(self, features: pd.DataFrame) -> Array:
        last = numbers(features, "last_power_share")
        quantiles = last[:, None] + self._spread[self._bucket(features)]
        return np.where(np.isnan(last)[:, None], self._when_unknown.predict(features), quantiles)
