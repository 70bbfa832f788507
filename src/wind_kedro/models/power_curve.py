"""Power curve: wind in, power out. The physical reference, which knows the weather forecast but nothing else."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from wind_kedro.cards.tiers import Tier
from wind_kedro.models.base import Array, Forecaster, Parameters, numbers
from wind_kedro.models.climatology import Climatology, empirical_quantiles


class PowerCurveParameters(Parameters):
    """Settings of `PowerCurveModel`."""

    wind_speed_columns: list[str] = Field(
        ["wind_speed_density_ms", "wind_speed_100m_ms"],
        min_length=1,
        description="the first known value counts; only the first column must be there. That one is brought to the "
        "reference density, as IEC 61400-12-1 does for pitch-controlled turbines: speed · (density / 1.225)^(1/3)",
    )
    bin_width_ms: float = Field(0.5, gt=0, description="width of a bin, the method of bins of IEC 61400-12-1")
    cut_out_ms: float = Field(25.0, gt=0, description="up to it more wind is never less power; beyond it turbines stop")
    min_rows: int = Field(30, gt=0, description="a bin with fewer rows is bridged by its neighbours: quantiles need dozens")


class PowerCurveModel(Forecaster, type_name="power_curve"):
    """Quantiles of power per bin of wind speed, rising with it up to cut-out, in straight lines between bins.

    The method of bins of IEC 61400-12-1 (bins of 0.5 m/s, each at its mean speed), with the quantiles in each bin
    instead of its mean, made monotone by isotonic regression. Where no wind is known, climatology stands in.
    """

    parameters_type: ClassVar[type[Parameters]] = PowerCurveParameters
    parameters: PowerCurveParameters
    min_tier: ClassVar[Tier] = "physical"
    learnt = ("_speeds", "_quantiles", "_when_unknown")

    @property
    def needed_columns(self) -> list[str]:
        """See `Forecaster`."""
        return [self.parameters.wind_speed_columns[0], "hour_of_day"]

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        from sklearn.isotonic import isotonic_regression

        self._when_unknown = Climatology(self.levels, self.seed).fit(features, pd.Series(share))
        speed = self._speed(features)
        known = ~np.isnan(speed)
        speed, share = speed[known], share[known]
        number = np.floor(speed / self.parameters.bin_width_ms).astype(np.intp)
        order = np.argsort(number, kind="stable")
        _, starts = np.unique(number[order], return_index=True)
        bins = [rows for rows in np.split(order, starts[1:]) if len(rows) >= self.parameters.min_rows]
        self._speeds = np.array([speed[rows].mean() for rows in bins])
        self._quantiles = np.array([empirical_quantiles(share[rows], self.levels) for rows in bins])
        self._quantiles = self._quantiles.reshape(len(bins), len(self.levels))
        running = self._speeds <= self.parameters.cut_out_ms
        weights = np.array([len(rows) for rows in bins], dtype=np.float64)[running]
        for column in range(len(self.levels)) if running.any() else ():
            self._quantiles[running, column] = isotonic_regression(self._quantiles[running, column], sample_weight=weights)

    def _speed(self, features: pd.DataFrame) -> Array:
        first, *others = self.parameters.wind_speed_columns
        speed = numbers(features, first)
        for column in others:
            if column in features:
                speed = np.where(np.isnan(speed), numbers(features, column), speed)
        return speed

    def _predict(self, features: pd.DataFrame) -> Array:
        unknown = self._when_unknown.predict(features)
        if not len(self._speeds):  # no bin had rows enough
            return unknown
        speed = self._speed(features)
        quantiles = np.column_stack([np.interp(speed, self._speeds, column) for column in self._quantiles.T])
        return np.where(np.isnan(speed)[:, None], unknown, quantiles)
