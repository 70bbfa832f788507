"""Monitoring: issued forecasts are scored as the replay was, by the same function, and compared with what it promised."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from wind_kedro.cards import Fleet, Product
from wind_kedro.clock import Clock
from wind_kedro.scores import Scoring, deciding_scores, score_forecasts
from wind_kedro.tiers import assessed_by


class Monitoring(BaseModel):
    """When somebody is told (`parameters_monitoring.yml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance_share: float = Field(
        ge=0, description="how much worse than its replay a model may score before it is said"
    )
    least_intervals: int = Field(gt=0, description="fewer scored intervals than this say nothing")


def score_issued(
    forecasts: pd.DataFrame, observations: pd.DataFrame, fleet: Fleet, clock: Clock, scoring: Scoring
) -> pd.DataFrame:
    """One row per product, entity, model, period, bucket of lead time, metric and level, of what was issued by ``as_of``.

    Period ``all`` has every bucket of lead time; each day of issue has the whole horizon.
    """
    issued = forecasts[forecasts["issued_at"] <= clock.as_of]

    def scored(by: Literal["all", "day"]) -> pd.DataFrame:
        # Not paired: after a promotion another model issues, and the two share no issue.
        edges, rules = scoring.lead_edges_minutes, scoring.rules
        return score_forecasts(issued, observations, fleet, edges, by=by, as_of=clock.as_of, paired=False, rules=rules)

    overall, daily = scored("all"), scored("day")
    horizon = {product.id: product.horizon_minutes for product in fleet.products}
    whole = (daily["lead_from_minutes"] == 0) & (daily["lead_to_minutes"] == daily["product_id"].map(horizon))
    return pd.concat([overall, daily[whole]], ignore_index=True)


def raise_incidents(
    data_quality: pd.DataFrame,
    live_scores: pd.DataFrame,
    replay_scores: pd.DataFrame,
    readiness: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    monitoring: Monitoring,
) -> pd.DataFrame:
    """One row per thing that somebody should know as of now: what, where, how much, and what to do; or one ``all_clear``."""
    rows = [
        {
            "entity_id": row["farm_id"],
            "product_id": "",
            "kind": row["check"],
            "severity": row["severity"],
            "message": row["message"],
            "action": _DATA_ACTIONS.get(row["check"], "look at the farm's page in the report, and at quarantine"),
        }
        for row in data_quality[data_quality["severity"] != "info"].to_dict("records")
    ]
    rows += _unready(assessed_by(readiness, clock.as_of))
    for product in fleet.products:
        for entity_id in product.members:
            rows += _behind_its_replay(live_scores, replay_scores, product, entity_id, monitoring)
    if not rows:
        # A row of its own, so that a rerun that finds nothing replaces what an earlier one found.
        nothing = {
            "kind": "all_clear",
            "severity": "info",
            "message": "nothing that anybody needs to act on",
            "action": "",
        }
        rows = [{"entity_id": "", "product_id": "", **nothing}]
    columns = ["entity_id", "product_id", "kind", "severity", "message", "action"]
    return pd.DataFrame(rows, columns=columns).assign(raised_at=pd.Timestamp(clock.as_of))


_DATA_ACTIONS = {
    "clock_disagrees_with_card": "set signals.clock in farms.yml to the reading found, or ask the sender to mend the stamps",
    "retimed": "nothing; signals.retimed marks the rows, and those that could not be proven are in quarantine",
    "source_unreadable": "mend or fetch the file again; the farm has no new data until then",
}


def _unready(readiness: pd.DataFrame) -> list[dict[str, Any]]:
    """Farms that may have no model, and farms whose weather is perhaps another's."""
    rows = []
    for row in readiness.to_dict("records"):
        about = {"entity_id": row["farm_id"], "product_id": "", "severity": "warning", "message": row["reason"]}
        if row["tier"] == "none":
            rows.append({"kind": "not_ready", "action": "see the readiness page; the other farms are trained"} | about)
        if row["wrong_point"]:
            rows.append({"kind": "wrong_point", "action": "check the weather's files and points in farms.yml"} | about)
    return rows


def _behind_its_replay(
    live: pd.DataFrame, replay: pd.DataFrame, product: Product, entity_id: str, monitoring: Monitoring
) -> list[dict[str, Any]]:
    """Live score of each issued model against what its replay promised over the whole horizon."""
    rows = []
    promised = _of_entity(replay, product, entity_id).set_index("model")["value"]
    for model, score, n in _of_entity(live, product, entity_id)[["model", "value", "n"]].itertuples(index=False):
        if n < monitoring.least_intervals or model not in promised.index:
            continue
        excess = score / promised[model] - 1
        if excess > monitoring.tolerance_share:
            rows.append(
                {
                    "entity_id": entity_id,
                    "product_id": product.id,
                    "kind": "behind_its_replay",
                    "severity": "warning",
                    "message": f"'{model}' scores {score:.4f} ({product.deciding_score}) over {n} intervals issued live, "
                    f"its replay "
                    f"{promised[model]:.4f}: {excess:.0%} worse",
                    "action": "compare the weather of both periods before retraining: a stormy season scores worse too",
                }
            )
    return rows


def _of_entity(scores: pd.DataFrame, product: Product, entity_id: str) -> pd.DataFrame:
    return deciding_scores(scores[scores["entity_id"] == entity_id], product)
