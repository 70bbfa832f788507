"""Physical: the turbines' own power curves and the wind forecast. It has nothing to learn, so that it is there from day 0."""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from wind_kedro.cards import Farm
from wind_kedro.cards.tiers import Tier
from wind_kedro.models.base import Array, Forecaster, Parameters, numbers

#: Wind speeds, m/s, at which quantiles are worked out; between them they are read in straight lines.
_SPEEDS_MS = np.arange(0.0, 45.0, 0.1)
#: So many equally likely errors of the wind forecast are tried at each of them.
_ERRORS = 199
#: Where the usual curve ends: most of the library's turbines stop at 25 m/s.
USUAL_CUT_OUT_MS = 25.0
#: No turbine of the library stops below: where a curve ends earlier, it was measured no further (V90/2000: 16.5 m/s).
MIN_CUT_OUT_MS = 20.0
#: Height of the wind that every product has, metres.
_WIND_HEIGHT_M = 100.0


class Turbines(Parameters):
    """Turbines of one kind."""

    rated_power_kw: float = Field(gt=0, description="of one")
    hub_height_m: float = Field(gt=0)
    type: str | None = Field(None, description="its name in windpowerlib's library; none: the usual curve, the mean of all")
    count: int = Field(1, gt=0)


class PhysicalParameters(Parameters):
    """Settings of `Physical`."""

    turbines: list[Turbines] | None = Field(
        None, min_length=1, description="training takes them from the farm's card; none: one, with a hub at 100 m"
    )
    shear_exponent: float = Field(
        1 / 7, description="of the wind with height where none is forecast: open land, neutral air (IEC 61400-3)"
    )
    wind_error_ms: float = Field(1.5, ge=0, description="standard deviation of the wind's error that is the same at any speed")
    wind_error_share: float = Field(
        0.2,
        ge=0,
        description="and of that which grows with speed; both together had the least pinball loss (but for 0.1 %) and a band "
        "that holds 77 of 80 %, a day ahead on the ten zones of GEFCom2014, January to September 2012",
    )
    usual_wind_ms: float = Field(
        7.5, gt=0, description="where no wind is forecast: the yearly mean of IEC 61400-1 class III, Rayleigh-distributed"
    )


class Physical(Forecaster, type_name="physical"):
    """Quantiles of what the turbines make of a wind that may be wrong.

    The wind at 100 m is brought to the hubs' mean height by the power law, and to the reference density as IEC 61400-12-1
    does for pitch-controlled turbines. Around it lie equally likely winds, normally distributed; the power
    of each, by the manufacturer's curve or the usual one, gives the quantiles. Rows that are given to learn from change nothing.
    """

    parameters_type: ClassVar[type[Parameters]] = PhysicalParameters
    parameters: PhysicalParameters
    min_tier: ClassVar[Tier] = "none"
    needed = ("wind_speed_100m_ms",)
    learnt = ("_quantiles",)
    _quantiles: Array

    @classmethod
    def with_cards(cls, params: Mapping[str, Any], farms: Sequence[Farm]) -> dict[str, Any]:
        """See `Forecaster`: the turbines of the cards, where no others are set."""
        if params.get("turbines") is not None:
            return dict(params)
        kinds: dict[tuple[float, float, str | None], int] = {}
        for turbine in (turbine for farm in farms for turbine in farm.turbines):
            kind = (turbine.rated_power_kw, turbine.hub_height_m, turbine.type)
            kinds[kind] = kinds.get(kind, 0) + 1
        turbines = [
            {"rated_power_kw": power, "hub_height_m": height, "type": name, "count": count}
            for (power, height, name), count in kinds.items()
        ]
        return dict(params) | ({"turbines": turbines} if turbines else {})

    @property
    def needs_history(self) -> bool:
        """See `Forecaster`."""
        return False

    @property
    def _turbines(self) -> list[Turbines]:
        return self.parameters.turbines or [Turbines(rated_power_kw=1.0, hub_height_m=_WIND_HEIGHT_M)]

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        from scipy.stats import norm

        chances = (np.arange(_ERRORS) + 0.5) / _ERRORS
        spread = np.hypot(self.parameters.wind_error_ms, self.parameters.wind_error_share * _SPEEDS_MS)
        power = self._share(np.clip(_SPEEDS_MS[:, None] + spread[:, None] * norm.ppf(chances), 0, None))
        rayleigh = self.parameters.usual_wind_ms * np.sqrt(-4 / np.pi * np.log1p(-chances))
        # The last row is of a wind that is not known.
        power = np.sort(np.vstack([power, self._share(rayleigh)]), axis=1)
        self._quantiles = np.quantile(power, self.levels, axis=1).T

    def _share(self, wind_ms: Array) -> Array:
        """Power of all turbines at this wind, as a share of what they are rated."""
        turbines = self._turbines
        rated = np.array([kind.count * kind.rated_power_kw for kind in turbines])
        powers = np.stack([np.interp(wind_ms, *curve_of(kind.type), right=0.0) for kind in turbines])
        return np.asarray(np.tensordot(rated / rated.sum(), powers, axes=1), dtype=np.float64)

    def _hub_wind(self, features: pd.DataFrame) -> Array:
        speed = numbers(features, "wind_speed_100m_ms")
        turbines = self._turbines
        weights = [kind.count * kind.rated_power_kw for kind in turbines]
        height = float(np.average([kind.hub_height_m for kind in turbines], weights=weights))
        exponent = np.full(len(features), self.parameters.shear_exponent)
        if "wind_shear_exponent" in features:
            forecast = numbers(features, "wind_shear_exponent")
            exponent = np.where(np.isnan(forecast), exponent, forecast)
        dense = np.ones(len(features))
        if "wind_speed_density_ms" in features:
            ratio = numbers(features, "wind_speed_density_ms") / np.where(speed > 0, speed, np.nan)
            dense = np.where(np.isnan(ratio), 1.0, ratio)
        return np.asarray(speed * (height / _WIND_HEIGHT_M) ** exponent * dense, dtype=np.float64)

    def _predict(self, features: pd.DataFrame) -> Array:
        wind = self._hub_wind(features)
        known = np.column_stack([np.interp(wind, _SPEEDS_MS, column) for column in self._quantiles[:-1].T])
        return np.where(np.isnan(wind)[:, None], self._quantiles[-1], known)


@lru_cache(maxsize=1)
def library() -> dict[str, tuple[Array, Array]]:
    """Power curves by turbine type: wind speeds, m/s, and power as a share of the most.

    Of the file that windpowerlib brings (Open Energy Database); read as it lies, so that nothing of it that
    could fetch is even imported. A curve that ends below the least cut-out was not measured further, and is level up to 25 m/s.
    """
    file = importlib.resources.files("windpowerlib") / "oedb" / "power_curves.csv"
    with file.open("r", encoding="utf-8") as text:
        table = pd.read_csv(text, index_col="turbine_type")
    speeds = table.columns.to_numpy(np.float64)
    curves = {}
    for name, row in table.iterrows():
        power = row.to_numpy(np.float64)
        known = ~np.isnan(power)
        wind, share = speeds[known], power[known] / power[known].max()
        if wind[-1] < MIN_CUT_OUT_MS:
            wind, share = np.append(wind, USUAL_CUT_OUT_MS), np.append(share, share[-1])
        curves[str(name)] = (wind, share)
    return curves


def curve_of(name: str | None) -> tuple[Array, Array]:
    """The curve of a turbine type; of none: the mean of all, for a turbine of which no more is known, ending at 25 m/s.

    Raises:
        ValueError: if the library has no power curve of that name; the message lists similar names.
    """
    curves = library()
    if name is None:
        speeds = np.arange(0.0, USUAL_CUT_OUT_MS + 0.25, 0.5)
        # One that the library ends earlier stays level up to there.
        return speeds, np.asarray(np.mean([np.interp(speeds, *curve) for curve in curves.values()], axis=0))
    if name not in curves:
        near = difflib.get_close_matches(name, curves, n=3, cutoff=0.3)
        hint = f"near are {', '.join(near)}" if near else f"there are {', '.join(curves)}"
        raise ValueError(f"no power curve of turbine type '{name}' in windpowerlib; {hint}")
    return curves[name]
