"""Bad weather distinguished from a bad model: issued forecasts are compared with their backtest in the same weather.

A month of storms scores worse than a calm one, whatever the model. So the backtest gives the expected loss of an interval in each
regime of forecast wind and ramp; what was issued is held against the loss expected in the weather that it met, and only
the excess over that is the model's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Market, Product
from wind_kedro.cards.columns import quantile_column, quantile_columns
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived
from wind_kedro.evaluation.gate import adjusted, lags_of, long_run_variance, overlapping, wind_change
from wind_kedro.evaluation.scores import deciding_loss, latest_versions
from wind_kedro.models.tables import KEYS
from wind_kedro.pipelines.monitoring.settings import Monitoring

Array = NDArray[np.float64]

#: The weather that an interval was forecast in.
WEATHER = ["wind_speed_ms", "ramp_ms", "spread_ms"]
#: Wind is cut into so many classes of the backtest's intervals, each with as many.
_SPEED_CLASSES = 10
#: The steepest share of the backtest's intervals is a class of its own: there the wind's timing decides.
_STEEP_SHARE = 0.2
#: A class is believed like this many intervals: with fewer of its own it leans on its wind's.
_BELIEF = 50


def losses(
    forecasts: pd.DataFrame, observations: pd.DataFrame, features: pd.DataFrame, product: Product, market: Market, clock: Clock
) -> pd.DataFrame:
    """One row per forecast interval of a product that can be judged: loss, error and weather as forecast at the issue.

    The loss is `deciding_loss`, by which training chose the model. What a fallback issued is not the model's, and is left out.
    """
    newest = latest_versions(observations, clock.as_of)
    newest = newest[newest["granularity_minutes"] == product.granularity_minutes]
    issued = forecasts[
        (forecasts["product_id"] == product.id)
        & (forecasts["issued_at"] <= pd.Timestamp(clock.as_of))
        & (forecasts["fallback"] == "")
    ]
    weather = weather_of(features[features["product_id"] == product.id])
    rows = issued.merge(
        newest.drop(columns=["granularity_minutes", "available_at"]).rename(columns={"wind_speed_ms": "measured_wind_speed_ms"}),
        on=["entity_id", "valid_at"],
    ).merge(weather, on=KEYS, how="left")
    levels = quantile_columns(product.quantile_levels)
    # A level that nothing was issued for yet is no loss, nor is an interval without capacity.
    needed = rows.reindex(columns=[*levels, "power_kw"]).notna().all(axis=1) & (rows["available_capacity_kw"] > 0)
    rows = rows[needed].reset_index(drop=True)
    actual = rows["power_kw"] / rows["available_capacity_kw"]
    median = rows.reindex(columns=[quantile_column(0.5)]).iloc[:, 0] / rows["capacity_kw"]
    return rows.assign(
        loss=deciding_loss(rows, product, market), error_share=median - actual, actual_share=actual, median_share=median
    )


def weather_columns(features: Derived | pd.DataFrame) -> list[str]:
    """The columns of features that `weather_of` and `later_wind` read, of those that there are."""
    there = features.columns if isinstance(features, pd.DataFrame) else features.table().columns
    return [name for name in (*KEYS, "weather_run_at", "wind_speed_100m_ms", "weather_spread_ms") if name in there]


def weather_of(features: pd.DataFrame) -> pd.DataFrame:
    """Keys and `WEATHER` of features: wind, its steepest change to a neighbouring interval, spread of the weather models."""
    ordered = features.sort_values(KEYS, kind="stable")
    before = wind_change(ordered)
    after = before.groupby([ordered[name] for name in KEYS[:3]], sort=False).shift(-1)
    spread = ordered.get("weather_spread_ms", np.nan)
    return ordered[KEYS].assign(
        wind_speed_ms=ordered["wind_speed_100m_ms"].astype(float), ramp_ms=np.fmax(before, after), spread_ms=spread
    )


@dataclass(frozen=True)
class Regimes:
    """What a backtest lost in which weather."""

    speed_edges: Array
    steep_ms: float
    windiest_ms: float
    expected: Array

    @classmethod
    def of(cls, backtest: pd.DataFrame) -> Regimes:
        """The mean loss of each class of wind and ramp; a class of few intervals leans on all of its wind."""
        speed, ramp = backtest["wind_speed_ms"].to_numpy(float), backtest["ramp_ms"].to_numpy(float)
        edges = np.unique(np.nanquantile(speed, np.linspace(0, 1, _SPEED_CLASSES + 1)[1:-1]))
        steep = float(np.nanquantile(ramp, 1 - _STEEP_SHARE)) if np.isfinite(ramp).any() else math.inf
        found = cls(edges, steep, float(np.nanmax(speed)), np.zeros(0))
        place = found._place(speed, ramp)
        loss = backtest["loss"].to_numpy(float)
        classes = 2 * (len(edges) + 1)
        counts = np.bincount(place, minlength=classes)
        sums = np.bincount(place, weights=loss, minlength=classes)
        by_speed_count, by_speed_sum = (np.repeat(x.reshape(-1, 2).sum(axis=1), 2) for x in (counts, sums))
        prior = np.where(by_speed_count > 0, by_speed_sum / np.maximum(by_speed_count, 1), loss.mean())
        return cls(edges, steep, found.windiest_ms, (sums + _BELIEF * prior) / (counts + _BELIEF))

    def _place(self, speed: Array, ramp: Array) -> NDArray[np.int64]:
        steep = np.nan_to_num(ramp, nan=0.0) > self.steep_ms
        return np.asarray(2 * np.searchsorted(self.speed_edges, speed) + steep, dtype=np.int64)

    def loss_in(self, rows: pd.DataFrame) -> Array:
        """The loss expected in the weather of each row; not known without wind, and in more wind than the backtest ever met."""
        speed = rows["wind_speed_ms"].to_numpy(float)
        met = speed <= self.windiest_ms
        place = self._place(np.where(met, speed, 0.0), rows["ramp_ms"].to_numpy(float))
        return np.where(met, self.expected[place], np.nan)


def judge(live: pd.DataFrame, backtest: pd.DataFrame | None, product: Product, monitoring: Monitoring) -> Mapping[str, object]:
    """Compare the loss of a model of an entity with that of its backtest in the same weather; `verdicts` gives the verdict.

    The loss is that of the product's deciding score (`deciding_loss`). ``p_value`` is one-sided, of the excess of loss per
    issue over the expected, with standard errors that allow issues near in time to err together (`standard_error`).
    """
    nothing = {"backtest_loss": np.nan, "expected_loss": np.nan, "excess_share": np.nan, "p_value": np.nan}
    counted = {"issues": live["issued_at"].nunique(), "intervals": len(live), "loss": live["loss"].mean()}
    known = backtest[backtest["wind_speed_ms"].notna()] if backtest is not None else None
    if known is None or known["issued_at"].nunique() < monitoring.min_issues:
        return counted | nothing
    regimes = Regimes.of(known)
    ahead = live.assign(expected=regimes.loss_in(live)).dropna(subset=["expected"])
    excess = (ahead["loss"] - ahead["expected"]).groupby(ahead["issued_at"]).mean()
    if ahead.empty or len(ahead) < monitoring.min_intervals or len(excess) < monitoring.min_issues:
        return counted | nothing
    usual = (known["loss"] - regimes.loss_in(known)).groupby(known["issued_at"]).mean()
    expected = float(ahead["expected"].mean())
    error = math.hypot(standard_error(excess, product), standard_error(usual, product))
    mean = float(excess.mean() - usual.mean())
    return {
        "issues": len(excess),
        "intervals": len(ahead),
        "loss": float(ahead["loss"].mean()),
        "backtest_loss": float(known["loss"].mean()),
        "expected_loss": expected,
        "excess_share": mean / expected if expected > 0 else np.nan,
        # Of the normal distribution, beyond so many errors: SciPy's would cost every command two seconds of import.
        "p_value": math.erfc(mean / error / math.sqrt(2)) / 2 if error > 0 else float(mean <= 0),
    }


def standard_error(values: pd.Series, product: Product) -> float:
    """Of the mean of a series in time, by Newey and West; lags reach over the horizon, in which issues share their weather."""
    count = len(values)
    lags = lags_of(count, overlapping(pd.DatetimeIndex(values.index), product.horizon_minutes))
    # With few issues the estimate is too small: Student's correction for the lags spent.
    return math.sqrt(long_run_variance(values.to_numpy(float), lags) / max(count - 1 - lags, 1))


def verdicts(table: pd.DataFrame, monitoring: Monitoring) -> list[str]:
    """``behind``, ``weather``, ``as_promised`` or ``unknown``, row by row; they hold over all rows together (Holm)."""
    p_values, excess = table["p_value"].to_numpy(float), table["excess_share"].to_numpy(float)
    judged = np.isfinite(p_values)
    worse = np.zeros(len(table), dtype=bool)
    worse[judged] = adjusted(p_values[judged].tolist(), "holm") <= monitoring.significance
    tolerance = monitoring.tolerance_share
    raw = (table["loss"] / table["backtest_loss"].replace(0, np.nan) - 1).fillna(0.0).to_numpy(float)
    conditions = [~judged, worse & (excess > tolerance), (raw > tolerance) & (excess <= tolerance)]
    return list(np.select(conditions, ["unknown", "behind", "weather"], "as_promised"))
