"""Monitoring: issued forecasts are scored as the backtest was, compared with what it promised, and people are told once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.tiers import assessed_by
from wind_kedro.clock import Clock
from wind_kedro.evaluation.scores import Scoring, score_forecasts
from wind_kedro.feeds import Feed
from wind_kedro.notifications import Channel, Ledger
from wind_kedro.notifications.deduplication import IDENTITY
from wind_kedro.pipelines.monitoring import missing_data
from wind_kedro.pipelines.monitoring.challengers import failed_challengers
from wind_kedro.pipelines.monitoring.costs import newest_issues
from wind_kedro.pipelines.monitoring.outliers import COLUMNS, examine, later_wind, worst
from wind_kedro.pipelines.monitoring.regimes import judge, losses, verdicts
from wind_kedro.pipelines.monitoring.settings import Monitoring


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


def judge_live(
    forecasts: pd.DataFrame,
    backtest_forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    features: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    monitoring: Monitoring,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was issued beside what its backtest promised in the same weather: the whole, and the worst hours.

    Returns:
        One row per product, entity and model that issued: its loss, what its backtest promised in that weather, and the verdict
        (`regimes`). One row per product, entity and interval that was forecast worse than its backtest nearly ever did, with its
        weather and verdict (`outliers`).
    """
    judged: list[dict[str, Any]] = []
    outliers = []
    for product in fleet.products:
        about = (observations, features, product, fleet.market(product.market), clock)
        live, backtest = losses(forecasts, *about), losses(backtest_forecasts, *about)
        later = later_wind(features[features["product_id"] == product.id], clock)
        past = dict(iter(backtest.groupby(["entity_id", "model"])))
        for (entity_id, model), own in live.groupby(["entity_id", "model"]):
            known = past.get((entity_id, model))
            key = {"product_id": product.id, "entity_id": entity_id, "model": model}
            judged.append({**key, **judge(own, known, product, monitoring)})
            if known is not None and len(known) >= monitoring.min_intervals and known["wind_speed_ms"].notna().any():
                hours = own.merge(later, on=["entity_id", "valid_at"], how="left")
                outliers.append(examine(hours, known, monitoring.outliers))
    table = pd.DataFrame(judged, columns=_JUDGEMENT)
    hours = pd.concat(outliers, ignore_index=True) if outliers else pd.DataFrame(columns=COLUMNS)
    return table.assign(verdict=verdicts(table, monitoring)), worst(hours, monitoring.outliers)


#: Columns of `contracts.LiveJudgements`.
_JUDGEMENT = [
    "product_id", "entity_id", "model", "issues", "intervals", "loss", "backtest_loss", "expected_loss", "excess_share",
    "p_value", "verdict",
]  # fmt: skip


def raise_incidents(
    data_quality: pd.DataFrame,
    live_judgements: pd.DataFrame,
    readiness: pd.DataFrame,
    decisions: pd.DataFrame,
    freshness: pd.DataFrame,
    forecasts: pd.DataFrame,
    backtest_scores: pd.DataFrame,
    observations: pd.DataFrame,
    feeds: dict[str, Feed],
    fleet: Fleet,
    clock: Clock,
    monitoring: Monitoring,
) -> pd.DataFrame:
    """One row per thing that somebody should know as of now: what, where, how much, the evidence, what to do; or `all_clear`.

    `all_clear` needs more than no finding: every source was checked for its age, and none is late, missing or unknown.
    """
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
    ]
    issues = newest_issues(forecasts, backtest_scores, freshness, fleet, clock)
    rows += missing_data.silent_weather(freshness, issues, fleet, monitoring)
    rows += missing_data.silent_signals(freshness, issues, fleet, monitoring)
    rows += missing_data.silent_feeds(freshness, feeds, fleet)
    rows += missing_data.unissued(issues, forecasts, fleet, clock, monitoring)
    rows += missing_data.unseen(readiness, decisions, forecasts, observations, fleet, clock, monitoring)
    rows += _unready(assessed_by(readiness, clock.as_of))
    rows += _behind_its_backtest(live_judgements, fleet)
    rows += failed_challengers(decisions, pd.Timestamp(clock.as_of), monitoring.decision_days)
    if not rows:
        # A row of its own, so that a rerun that finds nothing replaces what an earlier one found.
        checked = f"{len(freshness)} sources checked, none late; nothing that anybody needs to act on"
        rows = [{"kind": "all_clear", "severity": "info", "message": checked}]
    return _incidents(rows, clock)


_NOTHING_TOLD = {"entity_id": "", "product_id": "", "subject": "", "amount": np.nan, "evidence": "", "action": ""}


def _incidents(rows: list[dict[str, Any]], clock: Clock) -> pd.DataFrame:
    columns = [
        "entity_id", "product_id", "kind", "subject", "severity", "amount", "message", "evidence", "action",
    ]  # fmt: skip
    table = pd.DataFrame([_NOTHING_TOLD | row for row in rows], columns=columns)
    at = pd.Timestamp(clock.as_of)
    return table.assign(raised_at=at, state="open", opened_at=at)


def send_alarms(
    incidents_found: pd.DataFrame,
    incidents_before: pd.DataFrame,
    alarms_before: pd.DataFrame,
    alarm_channels: Mapping[str, Channel],
    clock: Clock,
    monitoring: Monitoring,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The incidents, open and resolved, with one more per channel that failed; and one row per incident and channel to send to.

    What goes out is real, so the wall clock counts here too: a run as of a moment long past alarms nobody outside.
    """
    now = dt.datetime.now(dt.UTC)
    at = pd.Timestamp(clock.as_of)
    ledger = Ledger(alarms_before, monitoring.worse_share)
    sent = alarms_before[(alarms_before["outcome"] == "sent") & (alarms_before["raised_at"] <= at)]
    of_channels = incidents_before["kind"] == "alarm_failed"
    incidents = continue_incidents(incidents_found, incidents_before[~of_channels], sent, at)
    told, failed = [], {}
    for name, channel in alarm_channels.items():
        rows, failure = ledger.tell(incidents, channel, clock.as_of, now)
        told.append(rows)
        if failure is not None:
            failed[name] = (failure, len(rows))
    faults = [_silent(name, *why) for name, why in failed.items()] if alarm_channels else [_NO_CHANNEL]
    silent = continue_incidents(_incidents(faults, clock), incidents_before[of_channels], sent, at)
    if len(silent):
        if (silent["state"] == "open").any():
            incidents = incidents[incidents["kind"] != "all_clear"]
        incidents = pd.concat([incidents, silent], ignore_index=True)
        # Over the channels that work, so that a dead one is not found out when it is needed.
        told += [
            ledger.tell(silent, channel, clock.as_of, now)[0]
            for name, channel in alarm_channels.items()
            if name not in failed
        ]
    # A rerun replaces its own part: what it told before stays in it.
    mine = alarms_before[alarms_before["raised_at"] == at]
    new = [rows for rows in told if len(rows)]
    if not new:
        return incidents, mine
    alarms = pd.concat([mine, *new], ignore_index=True) if len(mine) else pd.concat(new, ignore_index=True)
    key = ["channel", "incident", "state", "outcome"]
    return incidents, alarms.drop_duplicates(key, keep="last", ignore_index=True)


def continue_incidents(found: pd.DataFrame, before: pd.DataFrame, sent: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """The incidents found, with the time since when they are open; and as resolved those that were open and are not found.

    The same incident is one of the same `IDENTITY`. It is open from the first of an unbroken series of runs that find it, and
    resolved in the first run that does not, and again in later ones until every channel has sent that. News of one training
    (`challenger_…`) is neither: it is only shown for a while.

    Args:
        found: rows of this run.
        before: contract `Incidents`, of all runs; only what could be known at ``at`` counts.
        sent: contract `Alarms`, what the channels have sent.
        at: as of which time this run is; an earlier attempt of it counts as before, so that a rerun gives the same rows.
    """
    before = before[(before["raised_at"] <= at) & ~before["kind"].str.startswith(("challenger_", "all_clear"))]
    before = before.assign(
        opened_at=before["opened_at"].fillna(before["raised_at"]), state=before["state"].fillna("open")
    ).sort_values("raised_at", kind="stable")
    earlier, mine = before[before["raised_at"] < at], before[before["raised_at"] == at]
    last = earlier[(earlier["raised_at"] == earlier["raised_at"].max()) & (earlier["state"] == "open")]
    known = pd.concat([last, mine]).drop_duplicates(IDENTITY)
    opened = dict(zip(_identities(known), known["opened_at"], strict=True))
    now = set(_identities(found))
    found = pd.DataFrame(found).assign(opened_at=[opened.get(key, at) for key in _identities(found)])
    newest = sent.sort_values(["raised_at", "recorded_at"], kind="stable").drop_duplicates(
        ["channel", "incident"], keep="last"
    )
    unclosed = set(_identities(newest[newest["state"] == "open"]))
    owed = before[[key in unclosed for key in _identities(before)]].iloc[::-1]
    gone = pd.concat([known, owed]).drop_duplicates(IDENTITY)
    gone = gone[[key not in now for key in _identities(gone)]]
    if gone.empty:
        return found
    since = gone["opened_at"].dt.strftime("%Y-%m-%d %H:%M")
    resolved: pd.DataFrame = gone.assign(
        raised_at=at,
        state="resolved",
        message=gone["message"].str.removeprefix(_RESOLVED).radd(_RESOLVED),
        evidence=since.radd("open since ") + f", not found as of {at:%Y-%m-%d %H:%M}",
        action="",
    )
    return pd.concat([found, resolved[found.columns]], ignore_index=True)


def _identities(rows: pd.DataFrame) -> list[Any]:
    return list(rows[IDENTITY].itertuples(index=False, name=None))


_RESOLVED = "resolved: "


def _silent(channel_id: str, failure: Exception, untold: int) -> dict[str, Any]:
    return {
        "kind": "alarm_failed",
        "subject": channel_id,
        "severity": "warning",
        "message": f"{untold} incident{'s' if untold != 1 else ''} could not be told over channel '{channel_id}'",
        "evidence": str(failure),
        "action": "mend the channel's card or its credentials; the next run of monitoring tells them",
    }


_NO_CHANNEL = {
    "kind": "alarm_failed",
    "severity": "warning",
    "message": "no alarm channel is configured: incidents reach nobody",
    "evidence": "alarm_channels of catalog_monitoring.yml is empty",
    "action": "name a channel: docs/how-to/be-alarmed.md",
}

_DATA_ACTIONS = {
    "clock_disagrees_with_card": "set signals.clock in farms.yml to the reading found, or ask the sender to mend the stamps",
    "retimed": "nothing; signals.retimed marks the rows",
    "source_unreadable": "mend or fetch the file again; the farm has no new data until then",
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


def _behind_its_backtest(judgements: pd.DataFrame, fleet: Fleet) -> list[dict[str, Any]]:
    """Models that lost more than their backtest in the same weather; and, for the record, those whose weather was to blame."""
    rows = []
    for row in judgements.to_dict("records"):
        if row["verdict"] not in {"behind", "weather"}:
            continue
        score = fleet.product(row["product_id"]).deciding_score
        about = {
            "entity_id": row["entity_id"],
            "product_id": row["product_id"],
            "subject": row["model"],
            "amount": row["excess_share"],
            "evidence": f"loss {row['loss']:.4f} ({score}), its backtest {row['backtest_loss']:.4f}, in the same weather "
            f"{row['expected_loss']:.4f}; p = {row['p_value']:.2g}; {row['issues']} issues, {row['intervals']} intervals",
        }
        if row["verdict"] == "behind":
            rows.append(
                about
                | {
                    "kind": "behind_its_backtest",
                    "severity": "warning",
                    "message": f"'{row['model']}' is {row['excess_share']:.0%} worse than its backtest was in the same weather",
                    "action": "look at its worst hours (table outliers, kedro wind explain), then train again or roll back",
                }
            )
        else:
            rows.append(
                about
                | {
                    "kind": "hard_weather",
                    "severity": "info",
                    "message": f"'{row['model']}' scores {row['loss'] / row['backtest_loss'] - 1:.0%} worse than its backtest: "
                    f"the weather was harder",
                    "action": "nothing: its backtest lost as much in such weather",
                }
            )
    return rows
