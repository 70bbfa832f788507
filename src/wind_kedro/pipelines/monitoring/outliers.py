"""The worst hours with their weather, so that a storm is not mistaken for a bad model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.clock import Clock
from wind_kedro.pipelines.monitoring.regimes import Array, Regimes
from wind_kedro.pipelines.monitoring.settings import Outliers

#: Columns of `contracts.Outliers`.
COLUMNS = [
    "product_id", "entity_id", "model", "model_version", "issued_at", "valid_at", "lead_minutes", "loss", "expected_loss",
    "median_share", "actual_share", "wind_speed_ms", "wind_rank", "ramp_ms", "ramp_rank", "spread_ms", "spread_rank",
    "later_wind_speed_ms", "measured_wind_speed_ms", "coverage_share", "stopped_share", "curtailed_share", "verdict",
    "evidence",
]  # fmt: skip
#: Width of a class of wind on a curve, and the fewest intervals for a median.
_CURVE_CLASS_MS, _CURVE_INTERVALS = 1.0, 5


def worst(table: pd.DataFrame, rules: Outliers) -> pd.DataFrame:
    """Of an interval the worst issue counts; of an entity the worst `Outliers.per_entity` are kept."""
    ordered = table.sort_values("loss", ascending=False, kind="stable")
    once = ordered.drop_duplicates(["product_id", "entity_id", "valid_at"])
    kept = once.groupby(["product_id", "entity_id"], sort=False).head(rules.per_entity)
    return kept.sort_values(["product_id", "entity_id", "valid_at"], ignore_index=True)[COLUMNS]


def examine(live: pd.DataFrame, backtest: pd.DataFrame, rules: Outliers, *, every: bool = False) -> pd.DataFrame:
    """The rows that lost more than the backtest nearly ever did (or ``every`` row), with ranks, verdict and evidence.

    Ranks are shares of the backtest's intervals that had less. Verdicts, the first that fits: ``data`` (too few turbines
    reported, or no weather was there), ``availability`` (turbines stopped, curtailed, or below what their own wind gives),
    ``storm`` (rare wind, ramp or disagreement of the weather models), ``weather`` (a later run or the wind
    measured explains the error), ``model``.
    """
    least = np.quantile(backtest["loss"], 1 - rules.rare_share)
    rows = live if every else live[live["loss"] > least]
    rows = rows.assign(
        expected_loss=Regimes.of(backtest[backtest["wind_speed_ms"].notna()]).loss_in(rows),
        wind_rank=_rank(rows["wind_speed_ms"], backtest["wind_speed_ms"]),
        ramp_rank=_rank(rows["ramp_ms"], backtest["ramp_ms"]),
        spread_rank=_rank(rows["spread_ms"], backtest["spread_ms"]),
    )
    forecast, measured = Curve.of(backtest, "wind_speed_ms"), Curve.of(backtest, "measured_wind_speed_ms")
    found = [next(_causes(row, forecast, measured, rules)) for row in rows.to_dict("records")]
    return rows.assign(verdict=[name for name, _ in found], evidence=[evidence for _, evidence in found])


def later_wind(features: pd.DataFrame, clock: Clock) -> pd.DataFrame:
    """Wind of each entity and interval by the last run before it, which is nearest to the actual weather."""
    known = features[(features["issued_at"] <= pd.Timestamp(clock.as_of)) & features["wind_speed_100m_ms"].notna()]
    newest = known.sort_values("issued_at", kind="stable").drop_duplicates(["entity_id", "valid_at"], keep="last")
    return newest[["entity_id", "valid_at"]].assign(
        later_wind_speed_ms=newest["wind_speed_100m_ms"].astype(float), later_run_at=newest["weather_run_at"]
    )


def _rank(values: pd.Series, among: pd.Series) -> Array:
    known = np.sort(among.dropna().to_numpy(float))
    if not len(known):
        return np.full(len(values), np.nan)
    rank = np.searchsorted(known, values.to_numpy(float), side="left") / len(known)
    return np.where(values.notna(), rank, np.nan)


@dataclass(frozen=True)
class Curve:
    """Power by wind: the median of each m/s, where there are enough intervals."""

    wind_ms: Array
    share: Array

    @classmethod
    def of(cls, rows: pd.DataFrame, column: str) -> Curve:
        """The curve of a table's actuals over one of its winds."""
        known = rows.dropna(subset=[column])
        found = known.groupby((known[column] / _CURVE_CLASS_MS).round())["actual_share"].agg(["median", "size"])
        found = found[found["size"] >= _CURVE_INTERVALS]
        return cls(found.index.to_numpy(float) * _CURVE_CLASS_MS, found["median"].to_numpy(float))

    def at(self, wind_ms: float) -> float:
        """Power there; not a number where the curve does not reach."""
        if not len(self.wind_ms) or not self.wind_ms[0] - 1 <= wind_ms <= self.wind_ms[-1] + 1:
            return float("nan")
        return float(np.interp(wind_ms, self.wind_ms, self.share))


def _causes(row: Mapping[Any, Any], forecast: Curve, measured: Curve, rules: Outliers) -> Iterator[tuple[str, str]]:
    """Possible causes of a miss with their evidence, in the order in which they are considered.

    The curves are of power by the wind that was forecast, and by the wind that the turbines measured.
    """
    wind, actual, rare = row["wind_speed_ms"], row["actual_share"], 1 - rules.rare_share
    error = row["median_share"] - actual

    def explains(part: float) -> bool:
        """Whether a part of the error has its sign and is most of it; false where it is not known."""
        return bool(part * error > 0 and abs(part) >= rules.explained_share * abs(error))

    if np.isnan(wind):
        yield "data", "no weather was there at the issue"
    if row["coverage_share"] < rules.min_coverage_share:
        yield "data", f"only {row['coverage_share']:.0%} of the turbine intervals were reported"
    if row["stopped_share"] + row["curtailed_share"] >= rules.unavailable_share:
        yield "availability", f"{row['stopped_share']:.0%} stopped, {row['curtailed_share']:.0%} curtailed"
    at_turbines = f"{row['measured_wind_speed_ms']:.1f} m/s"
    usual = measured.at(row["measured_wind_speed_ms"])
    if usual > actual and explains(usual - actual):
        yield (
            "availability",
            (
                f"the wind measured, {at_turbines}, else gives {usual:.0%} of capacity; {actual:.0%} was produced: "
                f"turbines held back, iced or not available"
            ),
        )
    if row["wind_rank"] >= rare and wind >= rules.storm_wind_ms:
        yield "storm", f"wind of {wind:.1f} m/s: more than in {row['wind_rank']:.1%} of the backtest"
    if row["ramp_rank"] >= rare:
        yield "storm", f"wind changing by {row['ramp_ms']:.1f} m/s: more than in {row['ramp_rank']:.1%} of the backtest"
    if row["spread_rank"] >= rare:
        yield "storm", f"weather models {row['spread_ms']:.1f} m/s apart: more than in {row['spread_rank']:.1%} of the backtest"
    issued, later = forecast.at(wind), forecast.at(row["later_wind_speed_ms"])
    if explains(issued - later):
        yield (
            "weather",
            (
                f"{wind:.1f} m/s at the issue, {row['later_wind_speed_ms']:.1f} m/s in the run of "
                f"{row['later_run_at']:%Y-%m-%d %H:%M}: worth {issued - later:+.0%} of capacity of an error of {error:+.0%}"
            ),
        )
    if explains(issued - usual):
        yield (
            "weather",
            (
                f"{at_turbines} was measured, which gives {usual:.0%} of capacity; the wind forecast, {wind:.1f} m/s, "
                f"gives {issued:.0%}"
            ),
        )
    yield "model", f"wind of {wind:.1f} m/s, as usual; neither a later run nor the wind measured explains {error:+.0%}"
