"""Explain a forecast or why it was not issued: inputs, outcome and likely causes of a miss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.errors import WindKedroError
from wind_kedro.pipelines.forecasting.audit_records import issue_hashes
from wind_kedro.pipelines.monitoring.outliers import examine, later_wind
from wind_kedro.pipelines.monitoring.regimes import losses
from wind_kedro.pipelines.monitoring.settings import Monitoring

_MADE_FROM = (
    "data_sha256", "features_sha256", "configuration_sha256", "git_commit", "lock_sha256", "python", "platform",
)  # fmt: skip
_AUDIT = ("sequence", "recorded_at", "as_of", "model_version", "rung", "fallback", "forecast_sha256", "sha256")
#: So much of the mean absolute error that is of one sign in recent issues makes it a bias.
_BIASED_SHARE = 0.6
#: Number of recent issues examined for a bias.
_RECENT = 30


class UnknownIssueError(WindKedroError):
    """The audit has no record of the issue."""


@dataclass(frozen=True)
class Evidence:
    """Tables of the catalog that an explanation reads."""

    audit: pd.DataFrame
    forecasts: pd.DataFrame
    backtest_forecasts: pd.DataFrame
    observations: pd.DataFrame
    features: pd.DataFrame
    attributions: pd.DataFrame
    promotions: pd.DataFrame
    clock_calibration: pd.DataFrame
    failures: pd.DataFrame
    fleet: Fleet
    clock: Clock
    monitoring: Monitoring


def explanation(evidence: Evidence, product_id: str, entity_id: str, issued_at: pd.Timestamp) -> dict[str, Any]:
    """Collect everything known about an issue, serialisable as JSON.

    Of an issue that was due and not made, ``not_issued`` has the reason and what to do, and there is no model and no outcome;
    ``failures`` are those that its run noted of the entity and its farms, in either case.

    Raises:
        UnknownIssueError: if the audit has no record of it; it names the issues nearest to it.
    """
    records = _records(evidence.audit, product_id, entity_id, issued_at)
    record = records[-1]
    found = {
        "product_id": product_id,
        "entity_id": entity_id,
        "issued_at": issued_at.isoformat(),
        "revises": _revises(record),
        "made_from": {name: record[name] for name in _MADE_FROM}
        | {"libraries": json.loads(record["libraries"]), "features_now": _features_now(evidence, record)},
        "weather_runs": json.loads(record["weather_runs"]),
        "weather_runs_missing": json.loads(record["weather_runs_missing"]),
        "failures": _failures(evidence, record),
        "audit": _fields(pd.DataFrame(records), *_AUDIT),
    }
    if record["failure_code"] and pd.notna(record["failure_code"]):
        return found | {"not_issued": {name: record[f"failure_{name}"] for name in ("code", "message", "action")}}
    outcome = _outcome(evidence, record)
    promotions = _own(evidence.promotions, record).sort_values("promoted_at")
    since = promotions["promoted_at"] > issued_at
    mine = promotions[~since & (promotions["model_version"] == record["model_version"])].tail(1)
    model = {name: record[name] for name in ("model", "model_version", "run_id", "rung", "fallback")}
    for promoted in _fields(mine, "promoted_at", "trained_through", "score", "reason"):
        model |= promoted
    return found | {
        "model": model,
        "attributions": _attributions(_own(evidence.attributions, record, "issued_at")),
        "promotions_since": _fields(promotions[since], "promoted_at", "model", "model_version", "reason"),
        "outcome": outcome,
        "causes": _causes(evidence, record, outcome),
    }


def _revises(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The issue that a record revises, and the number of the revision; none: it is the issue itself."""
    if not record["revision"] > 0:  # null in records of earlier versions
        return None
    return {"issued_at": record["revised_issue_at"].isoformat(), "revision": int(record["revision"])}


def _own(table: pd.DataFrame, record: Mapping[str, Any], *more: str) -> pd.DataFrame:
    """Rows of the product and entity of a record, and with the same value in other columns."""
    for name in ("product_id", "entity_id", *more):
        table = table[table[name] == record[name]]
    return table


def _fields(rows: pd.DataFrame, *names: str) -> list[dict[str, Any]]:
    """Columns of rows, serialisable as JSON."""
    return [{name: _plain(row[name]) for name in names} for row in rows.to_dict("records")]


def _records(audit: pd.DataFrame, product_id: str, entity_id: str, issued_at: pd.Timestamp) -> list[dict[str, Any]]:
    own = _own(audit, {"product_id": product_id, "entity_id": entity_id})
    found = own[own["issued_at"] == issued_at].sort_values("sequence")
    if own.empty:
        raise UnknownIssueError(f"no forecast of {product_id}/{entity_id} is in the audit: kedro run --pipeline forecasting")
    if found.empty:
        near = own.iloc[(own["issued_at"] - issued_at).abs().argsort(kind="stable")[:3]]["issued_at"].sort_values()
        raise UnknownIssueError(
            f"{product_id}/{entity_id} has no issue at {issued_at:%Y-%m-%dT%H:%M}; the nearest are "
            + ", ".join(f"{time:%Y-%m-%dT%H:%M}" for time in near.unique())
        )
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def _failures(evidence: Evidence, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Failures of the entity, one of its farms or the whole product: of this issue, or of the run that recorded it."""
    table = evidence.failures
    farms = [farm.id for farm in evidence.fleet.farms_of(record["entity_id"])]
    of_issue = table["issued_at"] == record["issued_at"]
    own = table[
        (table["entity_id"].isin([record["entity_id"], *farms]) | ((table["entity_id"] == "") & of_issue))
        & table["product_id"].isin([record["product_id"], ""])
        & (of_issue | (table["issued_at"].isna() & (table["raised_at"] == record["as_of"])))
    ]
    columns = ["stage", "code", "severity", "entity_id", "message", "action"]
    return _fields(own.drop_duplicates(columns), *columns)


def _features_now(evidence: Evidence, record: dict[str, Any]) -> str:
    """Whether the features of the issue still are what the model saw."""
    rows = _own(evidence.features, record, "issued_at")
    if rows.empty:
        return "not in the table of features any more"
    ((_, now),) = issue_hashes(rows, None)
    return "as then" if now == record["features_sha256"] else "changed since: later data, code or settings give others"


def _attributions(own: pd.DataFrame) -> list[dict[str, Any]]:
    moved = own.assign(absolute=own["contribution_kw"].abs()).groupby("feature_group")
    by = moved.agg(mean_kw=("contribution_kw", "mean"), mean_absolute_kw=("absolute", "mean"))
    ordered = by.sort_values("mean_absolute_kw", ascending=False).round(1).reset_index()
    return _fields(ordered, *ordered.columns)


def _outcome(evidence: Evidence, record: dict[str, Any]) -> dict[str, Any]:
    """Scores of the issue against the observed power with the cause of each hour; ``intervals`` is 0 without observations."""
    entity_id, issued_at = record["entity_id"], record["issued_at"]
    product = evidence.fleet.product(record["product_id"])
    mine = evidence.forecasts[evidence.forecasts["entity_id"] == entity_id]
    market = evidence.fleet.market(product.market)
    known = (evidence.observations, evidence.features, product, market, evidence.clock)
    every = losses(mine.assign(fallback=""), *known)
    live = every[every["issued_at"] == issued_at]
    if live.empty:
        return {"intervals": 0}
    found: dict[str, Any] = {
        "intervals": len(live),
        "loss": _round(live["loss"].mean()),
        "deciding_score": product.deciding_score,
        "mean_error_share": _round(live["error_share"].mean()),
        "mean_absolute_error_share": _round(live["error_share"].abs().mean()),
    }
    recent = every[every["issued_at"] <= issued_at]
    recent = recent[recent["issued_at"].isin(np.sort(recent["issued_at"].unique())[-_RECENT:])]
    found["recent_bias_share"] = _round(recent["error_share"].mean())
    found["recent_absolute_share"] = _round(recent["error_share"].abs().mean())
    model = live["model"].iloc[0]
    backtested = evidence.backtest_forecasts
    backtested = backtested[(backtested["entity_id"] == entity_id) & (backtested["model"] == model)]
    backtest = losses(backtested, *known)
    if len(backtest) < evidence.monitoring.min_intervals:
        return found
    later = later_wind(evidence.features[evidence.features["product_id"] == product.id], evidence.clock)
    examined = examine(
        live.merge(later, on=["entity_id", "valid_at"], how="left"), backtest, evidence.monitoring.outliers, every=True
    )
    usual = float(np.quantile(backtest["loss"], 0.9))
    usual_issue = backtest.groupby("issued_at")["loss"].mean().quantile(0.9)
    found["expected_loss"] = _round(examined["expected_loss"].mean())
    found["missed"] = bool(live["loss"].mean() > usual_issue or (examined["loss"] > usual).mean() > 0.5)  # noqa: PLR2004
    missed = examined[examined["loss"] > examined["expected_loss"].fillna(usual)].sort_values("loss", ascending=False)
    by = missed.assign(excess=missed["loss"] - missed["expected_loss"].fillna(0)).groupby("verdict")
    found["hours_by_cause"] = [
        {
            "cause": str(cause),
            "hours": len(rows),
            "excess_loss": _round(rows["excess"].sum() / len(live)),
            "worst_at": rows["valid_at"].iloc[0].isoformat(),
            "evidence": rows["evidence"].iloc[0],
        }
        for cause, rows in sorted(by, key=lambda group: -group[1]["excess"].sum())
    ]
    return found


def _causes(evidence: Evidence, record: dict[str, Any], outcome: dict[str, Any]) -> list[dict[str, str]]:
    """Likely causes of a miss with their evidence, most likely first."""
    if outcome["intervals"] == 0:
        return [{"cause": "unknown", "evidence": "the observed power is not known yet"}]
    causes: list[tuple[str, str]] = []
    if not outcome.get("missed", True):
        causes.append(("none", "no miss: one issue in ten of the backtest did as badly; its worst hours are"))
    if record["fallback"]:
        causes.append(("fallback", f"'{record['fallback']}' replaced the champion"))
    if clock := _clock_fault(evidence, record):
        causes.append(("clock", clock))
    by_hour = outcome.get("hours_by_cause", [])
    for row in by_hour:
        cause, shown = row["cause"], f"{row['hours']} hours, worst {row['worst_at'][:16]}: {row['evidence']}"
        bias, absolute = outcome["recent_bias_share"], outcome["recent_absolute_share"]
        if cause == "model" and abs(bias) > _BIASED_SHARE * absolute:
            cause, shown = "bias", f"recent issues err by {bias:+.1%} on average, of {absolute:.1%} in all; {shown}"
        causes.append((cause, shown))
    if late := json.loads(record["weather_runs_missing"]):
        first = next(iter(late))
        missing = f"{sum(map(len, late.values()))} weather runs were due and not there, such as {first} of {late[first][-1]}"
        # A missing run is the first cause only if the weather forecast was wrong.
        causes.insert(0 if by_hour and by_hour[0]["cause"] == "weather" else len(causes), ("late_weather", missing))
    if age := _data_age(evidence, record):
        causes.append(("late_data", age))
    causes = causes or [("unknown", "no hour is extreme, and nothing was missing")]
    return [{"cause": cause, "evidence": shown} for cause, shown in causes]


def _clock_fault(evidence: Evidence, record: dict[str, Any]) -> str:
    """Fault of the clock of one of the farms by the newest calibration before the issue; empty if none."""
    for farm in evidence.fleet.farms_of(record["entity_id"]):
        fits = evidence.clock_calibration
        own = fits[fits["farm_id"] == farm.id].sort_values("fitted_at")
        for row in own.tail(1).to_dict("records"):
            if row["shifted"] or pd.notna(row["jumped_at"]):
                when = f", jumped at {row['jumped_at']:%Y-%m-%d}" if pd.notna(row["jumped_at"]) else ""
                return f"the clock of {farm.id} is off by {row['offset_minutes']:.0f} minutes{when}"
    return ""


def _data_age(evidence: Evidence, record: dict[str, Any]) -> str:
    """Evidence if the newest power known at the issue was older than in 95 % of the issues; else empty."""
    if "last_power_age_minutes" not in evidence.features:
        return ""
    ages = _own(evidence.features, record).groupby("issued_at")["last_power_age_minutes"].min().dropna()
    age = ages.get(record["issued_at"])
    usual = ages.quantile(0.95)
    if age is None or not age > usual:
        return ""
    return f"the newest power known was {age:.0f} minutes old; in 95 of 100 issues it is at most {usual:.0f}"


def _round(value: float) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 6)


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value
