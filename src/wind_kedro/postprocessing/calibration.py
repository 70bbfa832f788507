"""Calibration that holds live: forecasts are corrected, as of each issue, by what became of those issued before.

The quantiles that a model gives are kept as they are; what is issued is corrected by the last weeks' errors of the same
product, entity and model, as far as their outcome was known at the issue time. The backtest of candidates and live forecasting
call the same function, so that a backtest's forecasts are calibrated as they would have been.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Fleet, Product
from wind_kedro.cards.columns import quantile_columns
from wind_kedro.failures import OnFailure, isolated
from wind_kedro.models.spread import spread_that_holds, stretched
from wind_kedro.postprocessing.settings import Calibration, Correction

Array = NDArray[np.float64]
Times = NDArray[np.int64]

#: What names a series of forecasts that is corrected by its own errors.
SERIES = ["product_id", "entity_id", "model"]
_KEY = [*SERIES, "issued_at", "valid_at"]
#: Later than any time there is: a version that no other has superseded.
_NEVER = np.iinfo(np.int64).max
#: Nanoseconds.
_DAY = 86_400 * 10**9


def calibrated(
    forecasts: pd.DataFrame,
    history: pd.DataFrame,
    observations: pd.DataFrame,
    fleet: Fleet,
    calibration: Calibration,
    on_failure: OnFailure | None = None,
) -> pd.DataFrame:
    """The forecasts, in their order, each corrected by what was known at its issue time of the errors of those before it.

    Conformalised quantile regression (Romano, Patterson and Candès, NeurIPS 2019), each quantile on its own so that both
    sides may differ, on a window that moves on with the issues, as errors change with season and model (Gibbs and Candès, NeurIPS
    2021, on what a shift of the distribution does to coverage). Quantiles still rise and lie between nothing and capacity.

    Args:
        forecasts: rows of `contracts.Forecasts`, as the models gave them.
        history: earlier forecasts, as the models gave them; may hold later ones, which nothing is learnt from.
        observations: every version: one counts from ``available_at`` until the next.
        fleet: the cards.
        calibration: the rules.
        on_failure: takes what raises for one series, whose forecasts then stay as they are; none: it is raised.
    """
    result = forecasts.copy()
    for product_id, own in forecasts.groupby("product_id", sort=False):
        product = fleet.product(str(product_id))
        columns = quantile_columns(product.quantile_levels)
        past = history[history["product_id"] == product_id]
        observed = observations[observations["granularity_minutes"] == product.granularity_minutes]
        known = _Known.by_series(past, observed, product)
        nothing = _Known.none(len(columns))
        for key, rows in own.groupby(SERIES[1:], sort=False):
            entity_id, model = map(str, key)
            correction = calibration.correction_of(product, entity_id, model, fleet)
            if correction == "none":
                continue
            with isolated(on_failure, product.id, entity_id):
                of_series = known.get(key, nothing)
                corrected = _corrected_series(rows, of_series, product, correction, calibration)
                result.loc[rows.index, columns] = corrected
                result.loc[rows.index, "point_kw"] = product.point_of(corrected)
    return result


def _corrected_series(
    rows: pd.DataFrame, known: _Known, product: Product, correction: Correction, calibration: Calibration
) -> Array:
    """Quantiles in kW of the forecasts of one product, entity and model, each issue corrected by those before it."""
    capacity = rows["capacity_kw"].to_numpy(float)[:, None]
    shares = rows[quantile_columns(product.quantile_levels)].to_numpy(float) / capacity
    issued, lead = _nanoseconds(rows["issued_at"]), rows["lead_minutes"].to_numpy()
    for time in np.unique(issued):
        at = issued == time
        shares[at] = _corrected(shares[at], lead[at], int(time), known, product, correction, calibration)
    result: Array = np.sort(np.clip(shares, 0.0, 1.0), axis=1) * capacity
    if np.isnan(result).any() and not np.isnan(rows[quantile_columns(product.quantile_levels)].to_numpy(float)).any():
        raise ValueError("the corrections give no number")
    return result


@dataclass(frozen=True)
class _Known:
    """Forecasts with their outcomes, in order of issue: one row per version of an outcome. Times in nanoseconds."""

    issued: Times  # when it was forecast
    available: Times  # since when this version of the outcome is known
    superseded: Times  # until when, exclusive
    lead: Times  # of the forecast, minutes
    day: Times  # of the interval, UTC. Days are counted, not rows: hours of a day, and issues that forecast it, err alike
    usable: NDArray[np.bool_]  # whether this version was measured; an imputed one is not usable, but supersedes
    actual: Array  # share of the capacity that was available
    quantiles: Array  # shares of the capacity that they were issued for, a column a level

    @classmethod
    def none(cls, levels: int) -> _Known:
        """No forecast."""
        times, no, numbers = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool), np.zeros(0)
        return cls(times, times, times, times, times, no, numbers, np.zeros((0, levels)))

    @classmethod
    def by_series(cls, past: pd.DataFrame, observed: pd.DataFrame, product: Product) -> dict[Any, _Known]:
        """By entity and model, of the forecasts of one product: joined once, as joins of each series take far longer."""
        columns = quantile_columns(product.quantile_levels)
        observed = observed.sort_values(["entity_id", "valid_at", "available_at"], kind="stable", ignore_index=True)
        available = _nanoseconds(observed["available_at"])
        until = np.full(len(observed), _NEVER)
        again = observed.duplicated(["entity_id", "valid_at"]).to_numpy()[1:]
        until[:-1][again] = available[1:][again]
        usable, actual = observed["imputed_share"] == 0, observed["power_kw"] / observed["available_capacity_kw"]
        keys = observed[["entity_id", "valid_at"]]
        versions = keys.assign(available=available, superseded=until, usable=usable, actual=actual)
        rows = past[[*SERIES[1:], "issued_at", "valid_at", "lead_minutes", "capacity_kw", *columns]].dropna(subset=columns)
        rows = rows.merge(versions, on=["entity_id", "valid_at"]).sort_values("issued_at", kind="stable", ignore_index=True)
        every = cls(
            issued=_nanoseconds(rows["issued_at"]),
            available=rows["available"].to_numpy(np.int64),
            superseded=rows["superseded"].to_numpy(np.int64),
            lead=rows["lead_minutes"].to_numpy(np.int64),
            day=_nanoseconds(rows["valid_at"]) // _DAY,
            usable=rows["usable"].to_numpy(bool),
            actual=rows["actual"].to_numpy(float),
            quantiles=rows[columns].to_numpy(float) / rows["capacity_kw"].to_numpy(float)[:, None],
        )
        places: dict[Any, Any] = rows.groupby(SERIES[1:], sort=False).indices
        return {key: every.of(own) for key, own in places.items()}

    def of(self, rows: NDArray[np.intp]) -> _Known:
        """Some of the rows."""
        return _Known(*(getattr(self, name.name)[rows] for name in fields(self)))

    def as_of(self, time: int, days: int) -> NDArray[np.intp]:
        """The rows issued in the ``days`` before a time whose outcome was known then, in the version known then."""
        first, end = np.searchsorted(self.issued, [time - days * _DAY, time])
        window = slice(int(first), int(end))
        known = (self.available[window] <= time) & (time < self.superseded[window]) & self.usable[window]
        return np.flatnonzero(known) + int(first)

    def days_of(self, rows: NDArray[np.intp]) -> int:
        """On how many days the outcomes of some rows were."""
        return len(np.unique(self.day[rows]))


def _nanoseconds(times: pd.Series) -> Times:
    found: Times = times.dt.tz_convert(None).to_numpy("datetime64[ns]").astype(np.int64)
    return found


def _corrected(
    shares: Array, lead: Times, time: int, known: _Known, product: Product, correction: Correction, calibration: Calibration
) -> Array:
    """Quantiles of one issue, corrected together or by lead time."""

    def applied(given: Array, past: NDArray[np.intp]) -> Array:
        levels, quantiles, actual = product.quantile_levels, known.quantiles[past], known.actual[past]
        days = known.days_of(past)
        trust = days / (days + calibration.settle_days)
        if correction == "spread":
            return stretched(given, 1 + trust * (spread_that_holds(quantiles, actual, levels) - 1), levels)
        missed = actual[:, None] - quantiles
        return given + trust * np.array([np.quantile(missed[:, column], level) for column, level in enumerate(levels)])

    past = known.as_of(time, calibration.days)
    if known.days_of(past) < calibration.min_days:
        return shares
    result = applied(shares, past)
    for start, end in pairwise(calibration.lead_edges_minutes):
        here = (start <= lead) & (lead < end)
        alike = past[(start <= known.lead[past]) & (known.lead[past] < end)]
        if here.any() and known.days_of(alike) >= calibration.min_days:
            result[here] = applied(shares[here], alike)
    return result
