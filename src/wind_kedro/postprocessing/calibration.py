"""Calibration that holds live: forecasts are corrected, as of each issue, by what became of those issued before.

The quantiles that a model gives are kept as they are; what is issued is corrected by the last weeks' errors of the same
product, entity and model, as far as their outcome was known at the issue time. The backtest of candidates and live forecasting
call the same function, so that a backtest's forecasts are calibrated as they would have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from wind_kedro.cards import Fleet, Product
from wind_kedro.cards.columns import quantile_columns
from wind_kedro.failures import OnFailure
from wind_kedro.models.spread import spread_that_holds, stretched
from wind_kedro.postprocessing.portfolios import Portfolios
from wind_kedro.strict import Strict

Array = NDArray[np.float64]
Times = NDArray[np.int64]
#: ``spread`` stretches each quantile's distance from the median, ``shift`` moves each quantile, ``none`` leaves them.
Correction = Literal["none", "spread", "shift"]

#: What names a series of forecasts that is corrected by its own errors.
SERIES = ["product_id", "entity_id", "model"]
_KEY = [*SERIES, "issued_at", "valid_at"]
#: Later than any time there is: a version that no other has superseded.
_NEVER = np.iinfo(np.int64).max
#: Nanoseconds.
_DAY = 86_400 * 10**9


class Calibration(Strict):
    """How forecasts are corrected by their own past (`parameters_calibration.yml`)."""

    days: int = Field(gt=0, description="how far back the errors of earlier issues are looked at")
    min_days: int = Field(gt=0, description="with fewer days of which an outcome is known nothing is corrected")
    settle_days: int = Field(
        ge=0, description="a correction counts days known / (days known + this): half of it once so many are known"
    )
    lead_edges_minutes: list[int] = Field(
        default_factory=list,
        description="lead times between two of these are corrected apart, where of each enough days are known; none: together",
    )
    candidates: dict[str, Correction] = Field(
        default_factory=dict, description="how forecasts of a candidate are corrected; one that is not named is not"
    )
    products: dict[str, dict[str, Correction]] = Field(
        default_factory=dict, description="by product: candidates, instead of those above"
    )
    portfolios: Portfolios

    @field_validator("lead_edges_minutes")
    @classmethod
    def _rising(cls, edges: list[int]) -> list[int]:
        if edges != sorted(set(edges)) or len(edges) == 1:
            raise ValueError("give at least two, rising")
        return edges

    def correction_of(self, product: Product, entity_id: str, model: str, fleet: Fleet) -> Correction:
        """How a series is corrected. A portfolio always is: its spread is a guess until its own errors are known."""
        if entity_id in {group.id for group in fleet.portfolios_of(product)}:
            return "spread"
        return self.products.get(product.id, self.candidates).get(model, "none")


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
    for (product_id, entity_id, model), rows in forecasts.groupby(SERIES, sort=False):
        product = fleet.product(str(product_id))
        correction = calibration.correction_of(product, str(entity_id), str(model), fleet)
        if correction == "none":
            continue
        try:
            corrected = _corrected_series(rows, history, observations, product, correction, calibration)
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(product.id, str(entity_id), error)
            continue
        result.loc[rows.index, quantile_columns(product.quantile_levels)] = corrected
    return result


def _corrected_series(
    rows: pd.DataFrame,
    history: pd.DataFrame,
    observations: pd.DataFrame,
    product: Product,
    correction: Correction,
    calibration: Calibration,
) -> Array:
    """Quantiles in kW of the forecasts of one product, entity and model, each issue corrected by those before it."""
    first = rows.iloc[0]
    of_series = pd.Series(True, index=history.index)
    for name in SERIES:
        of_series &= history[name] == first[name]
    came = observations[
        (observations["entity_id"] == first["entity_id"]) & (observations["granularity_minutes"] == product.granularity_minutes)
    ]
    known = _Known.of(history[of_series], came, product)
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
    """Forecasts of one series with their outcomes, in order of issue: one row per version of an outcome. Times in nanoseconds.

    Attributes:
        issued: when it was forecast.
        available: since when this version of the outcome is known.
        superseded: until when, exclusive.
        lead: of the forecast, minutes.
        day: of the interval, UTC. Days are counted, not rows: hours of a day, and issues that forecast it, err alike.
        usable: whether this version was measured; an imputed one is not usable, but supersedes.
        actual: share of the capacity that was available.
        quantiles: shares of the capacity that they were issued for, a column a level.
    """

    issued: Times
    available: Times
    superseded: Times
    lead: Times
    day: Times
    usable: NDArray[np.bool_]
    actual: Array
    quantiles: Array

    @classmethod
    def of(cls, past: pd.DataFrame, came: pd.DataFrame, product: Product) -> _Known:
        columns = quantile_columns(product.quantile_levels)
        came = came.sort_values(["valid_at", "available_at"], kind="stable", ignore_index=True)
        available = _nanoseconds(came["available_at"])
        until = np.full(len(came), _NEVER)
        same = came["valid_at"].to_numpy()[1:] == came["valid_at"].to_numpy()[:-1]
        until[:-1][same] = available[1:][same]
        versions = pd.DataFrame(
            {
                "valid_at": came["valid_at"],
                "available": available,
                "superseded": until,
                "usable": came["imputed_share"] == 0,
                "actual": came["power_kw"] / came["available_capacity_kw"],
            }
        )
        rows = past[["issued_at", "valid_at", "lead_minutes", "capacity_kw", *columns]].dropna(subset=columns)
        rows = rows.merge(versions, on="valid_at").sort_values("issued_at", kind="stable")
        return cls(
            issued=_nanoseconds(rows["issued_at"]),
            available=rows["available"].to_numpy(np.int64),
            superseded=rows["superseded"].to_numpy(np.int64),
            lead=rows["lead_minutes"].to_numpy(np.int64),
            day=_nanoseconds(rows["valid_at"]) // _DAY,
            usable=rows["usable"].to_numpy(bool),
            actual=rows["actual"].to_numpy(float),
            quantiles=rows[columns].to_numpy(float) / rows["capacity_kw"].to_numpy(float)[:, None],
        )

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
    levels = product.quantile_levels
    past = known.as_of(time, calibration.days)
    if known.days_of(past) < calibration.min_days:
        return shares
    result = _applied(shares, past, known, levels, correction, calibration)
    for start, end in pairwise(calibration.lead_edges_minutes):
        here = (start <= lead) & (lead < end)
        alike = past[(start <= known.lead[past]) & (known.lead[past] < end)]
        if here.any() and known.days_of(alike) >= calibration.min_days:
            result[here] = _applied(shares[here], alike, known, levels, correction, calibration)
    return result


def _applied(
    shares: Array,
    past: NDArray[np.intp],
    known: _Known,
    levels: Sequence[float],
    correction: Correction,
    calibration: Calibration,
) -> Array:
    quantiles, actual = known.quantiles[past], known.actual[past]
    days = known.days_of(past)
    trust = days / (days + calibration.settle_days)
    if correction == "spread":
        return stretched(shares, 1 + trust * (spread_that_holds(quantiles, actual, levels) - 1), levels)
    missed = actual[:, None] - quantiles
    return shares + trust * np.array([np.quantile(missed[:, column], level) for column, level in enumerate(levels)])
