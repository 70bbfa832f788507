"""What an outage costs: the newest issue of each product, beside what its champions would have scored with all inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Fleet, Product
from wind_kedro.cards.columns import PERFECT_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.pipelines.monitoring.settings import CostRules

Severity = Literal["info", "warning", "error"]
#: Columns of an issue's rows that costs are made of.
_COLUMNS = [
    "entity_id", "issued_at", "valid_at", "lead_minutes", "capacity_kw", "model", "fallback", "weather_run_at",
    "weather",
]  # fmt: skip


@dataclass(frozen=True)
class Issue:
    """The newest issue of a product by ``as_of``: rows of its modelled entities, with the loss to expect of each.

    Attributes:
        product: whose.
        issued_at: when; null: none was issued.
        rows: `_COLUMNS` and ``beyond`` (no weather run that is known reaches the interval), ``older`` (made from a run that
            was late at the issue), ``usual`` and ``expected`` (loss in the deciding score: of the champion with its
            inputs in time, and as issued; missing where the backtest does not have it).
    """

    product: Product
    issued_at: pd.Timestamp | None
    rows: pd.DataFrame

    def share(self, of: Any) -> float:
        """Share of the issue in some of its rows, by capacity and interval."""
        weight = self.rows["capacity_kw"]
        return float(weight[of].sum() / weight.sum()) if len(weight) else 0.0

    def excess(self, of: Any) -> float:
        """By which share of its usual loss the issue is expected to score worse, for some of its rows; nan: not known."""
        known = self.rows[self.rows["usual"].notna()]
        usual = float((known["usual"] * known["capacity_kw"]).sum())
        rows = self.rows[of]
        if not usual or rows["expected"].isna().all():
            return np.nan if len(rows) else 0.0
        return float(((rows["expected"] - rows["usual"]) * rows["capacity_kw"]).sum() / usual)

    def severity(self, of: Any, rules: CostRules) -> Severity:
        """What an outage is worth that some rows of the issue show."""
        share, excess = self.share(of & (self.rows["fallback"] != "")), self.excess(of)
        if share >= rules.error_share or excess >= rules.error_excess:
            return "error"
        return "warning" if share >= rules.warning_share or excess >= rules.warning_excess else "info"

    def words(self, of: Any) -> str:
        """The cost of some rows of the issue as text."""
        by_fallback = of & (self.rows["fallback"] != "")
        parts = [
            f"{self.product.id}: {self.share(by_fallback):.0%} of the issue of {self.issued_at:%Y-%m-%d %H:%M} by a fallback"
        ]
        if older := self.share(of & ~by_fallback):
            parts.append(f"{older:.0%} from an older run")
        excess, intervals = self.excess(of), self.rows["valid_at"].nunique()
        if not np.isnan(excess):
            energy = ""
            if self.product.deciding_score.endswith("_share") and intervals:
                rows = self.rows[of]
                lost = ((rows["expected"] - rows["usual"]) * rows["capacity_kw"]).sum()
                energy = f" ({lost / intervals:+,.0f} kW in the mean of its intervals)"
            parts.append(f"expected {self.product.deciding_score} {excess:+.0%}{energy}")
        return ", ".join(parts)


def newest_issues(
    forecasts: pd.DataFrame, backtest_scores: pd.DataFrame, freshness: pd.DataFrame, fleet: Fleet, clock: Clock
) -> dict[str, Issue]:
    """The newest issue of each product, by its id.

    Rows of an entity whose weather is an analysis that is up to date are left out: its pseudo-runs end where the record ends.
    """
    issued = forecasts.loc[forecasts["issued_at"] <= pd.Timestamp(clock.as_of), ["product_id", *_COLUMNS]]
    weather = freshness[freshness["source"] == "weather"]
    weather = weather.assign(model=weather["subject"].str.split("/").str[0])
    issues = {}
    for product in fleet.products:
        rows = issued[(issued["product_id"] == product.id) & issued["entity_id"].isin(fleet.modelled(product))]
        newest = rows["issued_at"].max() if len(rows) else None
        rows = rows[rows["issued_at"] == newest].reset_index(drop=True)
        curves = _loss_curves(backtest_scores, product)
        used = weather if product.weather_models is None else weather[weather["model"].isin(product.weather_models)]
        parts = []
        for entity_id, own in rows.groupby("entity_id"):
            sources = used[used["farm_id"].isin([farm.id for farm in fleet.farms_of(str(entity_id))])]
            if not ((own["weather"] == PERFECT_WEATHER).all() and (sources["state"] == "fresh").all()):
                parts.append(_of_entity(own, sources, curves))
        found = pd.concat(parts, ignore_index=True) if parts else _of_entity(rows.iloc[:0], weather.iloc[:0], curves)
        issues[product.id] = Issue(product, newest, pd.DataFrame(found))
    return issues


def _of_entity(rows: pd.DataFrame, sources: pd.DataFrame, curves: Mapping[Any, Any]) -> pd.DataFrame:
    reach, allowed = sources["reach_at"].max(), sources["allowed_minutes"].min()
    age = (rows["issued_at"] - rows["weather_run_at"]).dt.total_seconds() / 60
    late = (age - allowed).clip(lower=0).fillna(0.0).to_numpy(float)
    lead = rows["lead_minutes"].to_numpy(float)
    usual, expected = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    kinds: Mapping[Any, Any] = rows.groupby(["entity_id", "model", "fallback"]).indices
    for (entity_id, model, fallback), places in kinds.items():
        usual[places] = _loss(curves.get((entity_id, model)), lead[places])
        # A late run is the run of a longer lead time.
        expected[places] = (
            _loss(curves.get((entity_id, fallback)), lead[places])
            if fallback
            else np.maximum(_loss(curves.get((entity_id, model)), lead[places] + late[places]), usual[places])
        )
    beyond = rows["valid_at"] > reach if not pd.isna(reach) else pd.Series(True, index=rows.index)
    return rows.assign(beyond=beyond, older=late > 0, usual=usual, expected=expected)


def _loss_curves(scores: pd.DataFrame, product: Product) -> dict[Any, tuple[Any, Any]]:
    """Of each entity and model the deciding score in the middle of each bucket of lead time."""
    own = scores[
        (scores["product_id"] == product.id)
        & (scores["metric"] == product.deciding_score)
        & scores["level"].isna()
        & (scores["period"] == "all")
        & scores["value"].notna()
    ]
    curves = {}
    for key, rows in own.groupby(["entity_id", "model"]):
        whole = (rows["lead_from_minutes"] == 0) & (rows["lead_to_minutes"] == product.horizon_minutes)
        buckets = (rows if whole.all() else rows[~whole]).sort_values("lead_from_minutes")
        middle = (buckets["lead_from_minutes"] + buckets["lead_to_minutes"]) / 2
        curves[key] = (middle.to_numpy(float), buckets["value"].to_numpy(float))
    return curves


def _loss(curve: tuple[Any, Any] | None, lead: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full(len(lead), np.nan) if curve is None else np.asarray(np.interp(lead, *curve), dtype=np.float64)
