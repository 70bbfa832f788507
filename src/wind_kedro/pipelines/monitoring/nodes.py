"""Monitoring: issued forecasts are scored like the backtest and compared with it; problems become incidents and messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.tiers import assessed_by
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import FAILURE_CODES
from wind_kedro.datasets.derived import Derived, Sliced, frame_of
from wind_kedro.feeds import FeedCards
from wind_kedro.pipelines.monitoring import missing_data
from wind_kedro.pipelines.monitoring.challengers import failed_challengers
from wind_kedro.pipelines.monitoring.costs import newest_issues
from wind_kedro.pipelines.monitoring.failures import failure_incidents
from wind_kedro.pipelines.monitoring.outliers import COLUMNS, examine, later_wind, worst
from wind_kedro.pipelines.monitoring.regimes import judge, losses, verdicts, weather_columns
from wind_kedro.pipelines.monitoring.settings import Monitoring


def judge_live(
    forecasts: Sliced | pd.DataFrame,
    backtest_forecasts: Derived | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    features: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    monitoring: Monitoring,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare what was issued with the backtest in the same weather: all of it, and the worst hours.

    Returns:
        One row per product, entity and model that issued: its loss, that of its backtest in that weather, and the verdict
        (`regimes`). One row per product, entity and interval that was forecast worse than its backtest nearly ever did, with its
        weather and verdict (`outliers`).
    """
    forecasts, observations = frame_of(forecasts), frame_of(observations)
    judged: list[dict[str, Any]] = []
    outliers = []
    features = frame_of(features, weather_columns(features))
    backtested = _of_series(backtest_forecasts, forecasts[_SERIES].drop_duplicates())
    for product in fleet.products:
        about = (observations, features, product, fleet.market(product.market), clock)
        live, backtest = losses(forecasts, *about), losses(backtested, *about)
        later = later_wind(features[features["product_id"] == product.id], clock)
        past = dict(iter(backtest.groupby(["entity_id", "model"])))
        later_of = {str(entity_id): rows for entity_id, rows in later.groupby("entity_id")}
        for (entity_id, model), own in live.groupby(["entity_id", "model"]):
            known = past.get((entity_id, model))
            key = {"product_id": product.id, "entity_id": entity_id, "model": model}
            judged.append({**key, **judge(own, known, product, monitoring)})
            if known is not None and len(known) >= monitoring.min_intervals and known["wind_speed_ms"].notna().any():
                hours = own.merge(later_of.get(str(entity_id), later.iloc[:0]), on=["entity_id", "valid_at"], how="left")
                outliers.append(examine(hours, known, monitoring.outliers))
    table = pd.DataFrame(judged, columns=_JUDGEMENT)
    hours = pd.concat(outliers, ignore_index=True) if outliers else pd.DataFrame(columns=COLUMNS)
    return table.assign(verdict=verdicts(table, monitoring)), worst(hours, monitoring.outliers)


_SERIES = ["product_id", "entity_id", "model"]


def _of_series(backtest: Derived | pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Backtest forecasts of some products, entities and models."""
    if isinstance(backtest, Derived):
        found: pd.DataFrame = backtest.shards(backtest.days[[*_SERIES, "day"]].merge(series)).to_pandas()
    else:
        found = backtest.merge(series)
    return found.sort_values([*_SERIES, "issued_at", "valid_at"], kind="stable", ignore_index=True)


#: Columns of `contracts.LiveJudgements`.
_JUDGEMENT = [
    "product_id", "entity_id", "model", "issues", "intervals", "loss", "backtest_loss", "expected_loss", "excess_share",
    "p_value", "verdict",
]  # fmt: skip


def raise_incidents(
    open_failures: pd.DataFrame,
    data_quality: pd.DataFrame,
    live_judgements: pd.DataFrame,
    readiness: Derived | pd.DataFrame,
    decisions: pd.DataFrame,
    freshness: pd.DataFrame,
    forecasts: Sliced | pd.DataFrame,
    backtest_scores: pd.DataFrame,
    observations: Derived | pd.DataFrame,
    feeds: FeedCards,
    fleet: Fleet,
    clock: Clock,
    monitoring: Monitoring,
) -> pd.DataFrame:
    """One row per incident found as of now: what, where, how much, the evidence, what to do; or `all_clear`.

    `all_clear` needs more than no finding: every source was checked for its age, and none is late, missing or unknown.
    """
    forecasts, observations, readiness = frame_of(forecasts), frame_of(observations), frame_of(readiness)
    rows = [
        {
            "entity_id": row["farm_id"],
            "product_id": "",
            "kind": row["check"],
            "subject": f"{row['source_table']}.{row['signal']}",
            "severity": row["severity"],
            "amount": row["count"] / row["of"] if row["of"] else np.nan,
            "message": row["message"],
            "evidence": f"{row['count']} of {row['of']} in data_quality",
            "action": _DATA_ACTIONS.get(row["check"], "look at the farm's page in the report, and at quarantine"),
        }
        for row in data_quality[data_quality["severity"] != "info"].to_dict("records")
        if not (row["severity"] == "error" and row["check"] in FAILURE_CODES)  # a row of failures
    ]
    rows += failure_incidents(open_failures)
    issues = newest_issues(forecasts, backtest_scores, freshness, fleet, clock)
    rows += missing_data.silent_weather(freshness, issues, fleet, monitoring)
    rows += missing_data.silent_signals(freshness, issues, fleet, clock, monitoring)
    rows += missing_data.silent_feeds(freshness, feeds, fleet)
    rows += missing_data.unissued(issues, forecasts, open_failures, fleet, clock, monitoring)
    rows += missing_data.unseen(readiness, decisions, forecasts, observations, fleet, clock, monitoring)
    rows += _unready(assessed_by(readiness, clock.as_of))
    rows += _behind_its_backtest(live_judgements, fleet)
    rows += failed_challengers(decisions, pd.Timestamp(clock.as_of), monitoring.decision_days)
    if not rows:
        # A row of its own, so that a rerun that finds nothing replaces what an earlier one found.
        checked = f"{len(freshness)} sources checked, none late; nothing that anybody needs to act on"
        rows = [{"kind": "all_clear", "severity": "info", "message": checked}]
    return incidents_table(rows, clock)


_NO_DETAILS = {"entity_id": "", "product_id": "", "subject": "", "amount": np.nan, "evidence": "", "action": ""}


def incidents_table(rows: list[dict[str, Any]], clock: Clock) -> pd.DataFrame:
    """Rows of `Incidents`, found and open as of now."""
    columns = [
        "entity_id", "product_id", "kind", "subject", "severity", "amount", "message", "evidence", "action",
    ]  # fmt: skip
    table = pd.DataFrame([_NO_DETAILS | row for row in rows], columns=columns)
    at = pd.Timestamp(clock.as_of)
    return table.assign(raised_at=at, state="open", opened_at=at)


_DATA_ACTIONS = {
    "clock_disagrees_with_card": "set signals.clock in farms.yml to the reading found, or ask the sender to mend the stamps",
    "retimed": "nothing; signals.retimed marks the rows",
}


def _unready(readiness: pd.DataFrame) -> list[dict[str, Any]]:
    """Farms that may have no model, and farms whose weather is perhaps another's."""
    rows = []
    for row in readiness.to_dict("records"):
        about = {"entity_id": row["farm_id"], "severity": "warning", "message": row["reason"]}
        about["evidence"] = f"tier '{row['tier']}' in readiness, assessed {row['assessed_at']:%Y-%m-%d %H:%M}"
        if row["tier"] == "none":
            rows.append({"kind": "not_ready", "action": "see the readiness page; the other farms are trained"} | about)
        if row["wrong_point"]:
            rows.append({"kind": "wrong_point", "action": "check the weather's files and points in farms.yml"} | about)
    return rows


def _behind_its_backtest(judgements: pd.DataFrame, fleet: Fleet) -> Iterable[dict[str, Any]]:
    """Models that lost more than their backtest in the same weather; and, for the record, those whose weather was harder."""
    for row in judgements[judgements["verdict"].isin(["behind", "weather"])].to_dict("records"):
        model, score = row["model"], fleet.product(row["product_id"]).deciding_score
        if row["verdict"] == "behind":
            kind, severity = "behind_its_backtest", "warning"
            message = f"'{model}' is {row['excess_share']:.0%} worse than its backtest was in the same weather"
            action = "look at its worst hours (table outliers, kedro wind explain), then train again or roll back"
        else:
            kind, severity = "hard_weather", "info"
            worse = row["loss"] / row["backtest_loss"] - 1
            message = f"'{model}' scores {worse:.0%} worse than its backtest: the weather was harder"
            action = "nothing: its backtest lost as much in such weather"
        yield {
            "kind": kind, "severity": severity, "entity_id": row["entity_id"], "product_id": row["product_id"], "subject": model,
            "amount": row["excess_share"],
            "message": message,
            "evidence": f"loss {row['loss']:.4f} ({score}), its backtest {row['backtest_loss']:.4f}, in the same weather "
            f"{row['expected_loss']:.4f}; p = {row['p_value']:.2g}; {row['issues']} issues, {row['intervals']} intervals",
            "action": action,
        }  # fmt: skip
