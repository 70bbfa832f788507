"""The worst hours with their weather, so that a storm is not mistaken for a bad model."""

from __future__ import annotations

from collections.abc import Mapping
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
_CURVE_CLASS_MS = 1.0


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
    curves = Curves(Curve.of(backtest, "wind_speed_ms"), Curve.of(backtest, "measured_wind_speed_ms"))
    found = [_verdict(row, curves, rules) for row in rows.to_dict("records")]
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
        by = (known[column] / _CURVE_CLASS_MS).round()
        found = known.groupby(by)["actual_share"].agg(["median", "size"])
        found = found[found["size"] >= 5]  # noqa: PLR2004 fewer have no median worth the name
        return cls(found.index.to_numpy(float) * _CURVE_CLASS_MS, found["median"].to_numpy(float))

    def at(self, wind_ms: float) -> float:
        """Power there; not a number where the curve does not reach."""
        if not len(self.wind_ms) or not self.wind_ms[0] - 1 <= wind_ms <= self.wind_ms[-1] + 1:
            return float("nan")
        return float(np.interp(wind_ms, self.wind_ms, self.share))


@dataclass(frozen=True)
class Curves:
    """Of the wind that is forecast, and of that which the turbines measure."""

    forecast: Curve
    measured: Curve


def _verdict(row: Mapping[Any, Any], curves: Curves, rules: Outliers) -> tuple[str, str]:
    """What made the miss, and what shows it: the first cause that has evidence."""
    causes = {"data": _of_data, "availability": _of_availability, "storm": _of_storm, "weather": _of_weather}
    for name, cause in causes.items():
        evidence = cause(row, curves, rules)
        if evidence:
            return name, evidence
    error = row["median_share"] - row["actual_share"]
    return (
        "model",
        f"wind of {row['wind_speed_ms']:.1f} m/s, as usual; neither a later run nor the wind measured explains {error:+.0%}",
    )


def _of_data(row: Mapping[Any, Any], _: Curves, rules: Outliers) -> str:
    if np.isnan(row["wind_speed_ms"]):
        return "no weather was there at the issue"
    if row["coverage_share"] < rules.min_coverage_share:
        return f"only {row['coverage_share']:.0%} of the turbine intervals were reported"
    return ""


def _of_availability(row: Mapping[Any, Any], curves: Curves, rules: Outliers) -> str:
    if row["stopped_share"] + row["curtailed_share"] >= rules.unavailable_share:
        return f"{row['stopped_share']:.0%} stopped, {row['curtailed_share']:.0%} curtailed"
    usual = curves.measured.at(row["measured_wind_speed_ms"])
    if _explains(usual - row["actual_share"], row["median_share"] - row["actual_share"], rules) and (usual > row["actual_share"]):
        return (
            f"the wind measured, {row['measured_wind_speed_ms']:.1f} m/s, else gives {usual:.0%} of capacity; "
            f"{row['actual_share']:.0%} came: turbines held back, iced or not available"
        )
    return ""


def _of_storm(row: Mapping[Any, Any], _: Curves, rules: Outliers) -> str:
    rare = 1 - rules.rare_share
    if row["wind_rank"] >= rare and row["wind_speed_ms"] >= rules.storm_wind_ms:
        return f"wind of {row['wind_speed_ms']:.1f} m/s: more than in {row['wind_rank']:.1%} of the backtest"
    if row["ramp_rank"] >= rare:
        return f"wind changing by {row['ramp_ms']:.1f} m/s: more than in {row['ramp_rank']:.1%} of the backtest"
    if row["spread_rank"] >= rare:
        return f"weather models {row['spread_ms']:.1f} m/s apart: more than in {row['spread_rank']:.1%} of the backtest"
    return ""


def _of_weather(row: Mapping[Any, Any], curves: Curves, rules: Outliers) -> str:
    error = row["median_share"] - row["actual_share"]
    issued = curves.forecast.at(row["wind_speed_ms"])
    later = curves.forecast.at(row["later_wind_speed_ms"])
    if _explains(issued - later, error, rules):
        return (
            f"{row['wind_speed_ms']:.1f} m/s at the issue, {row['later_wind_speed_ms']:.1f} m/s in the run of "
            f"{row['later_run_at']:%Y-%m-%d %H:%M}: worth {issued - later:+.0%} of capacity of an error of {error:+.0%}"
        )
    measured = curves.measured.at(row["measured_wind_speed_ms"])
    if _explains(issued - measured, error, rules):
        return (
            f"{row['measured_wind_speed_ms']:.1f} m/s was measured, which gives {measured:.0%} of capacity; the wind "
            f"forecast, {row['wind_speed_ms']:.1f} m/s, gives {issued:.0%}"
        )
    return ""


def _explains(part: float, error: float, rules: Outliers) -> bool:
    """Whether a part of an error has its sign and is most of it; false where it is not known."""
    return bool(part * error > 0 and abs(part) >= rules.explained_share * abs(error))
