"""Incidents of what did not come: weather, signals, feeds, forecasts, scores, trainings. Severity follows from the cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.dated import utc
from wind_kedro.clock import Clock
from wind_kedro.evaluation.scores import latest_versions
from wind_kedro.failures import NOT_ISSUED
from wind_kedro.feeds import FeedCards
from wind_kedro.notifications.channel import SEVERITIES
from wind_kedro.pipelines.monitoring.costs import Issue
from wind_kedro.pipelines.monitoring.freshness import products_of
from wind_kedro.pipelines.monitoring.settings import Monitoring

#: A message names so many; the table `freshness` has all.
_NAMED = 10
#: The model that forecasts from the newest production alone.
_FROM_PRODUCTION = "persistence"


def silent_weather(
    freshness: pd.DataFrame, issues: Mapping[str, Issue], fleet: Fleet, monitoring: Monitoring
) -> Iterable[dict[str, Any]]:
    """One incident per weather model and state, whatever number of farms it feeds.

    ``weather_missing`` is a warning at least where a product relies on the model; ``weather_late`` costs what the older runs
    do; a source that no product is made from is worth an ``info``.
    """
    weather = freshness[freshness["source"] == "weather"]
    weather = weather.assign(model=weather["subject"].str.split("/").str[0])
    for (model, state), rows in weather[weather["state"] != "fresh"].groupby(["model", "state"]):
        farms = sorted(set(rows.loc[rows["relied_on"], "farm_id"])) or sorted(set(rows["farm_id"]))
        severity, costs = "info", []
        for product_id in sorted({name for farm_id in farms for name in products_of(fleet, farm_id, str(model))}):
            issue = issues[product_id]
            touched = [name for name in issue.product.members if any(farm.id in farms for farm in fleet.farms_of(name))]
            of = issue.rows["entity_id"].isin(touched) & (
                issue.rows["older"] | (issue.rows["beyond"] & (issue.rows["fallback"] != ""))
            )
            severity = _worst(severity, issue.severity(of, monitoring.cost), "info" if state == "late" else "warning")
            costs += [issue.words(of)] if of.any() else []
        newest = rows["newest_at"].max()
        since = "no run is known" if pd.isna(newest) else f"newest run {newest:%Y-%m-%d %H:%M}"
        fed = weather.loc[weather["model"] == model, "farm_id"].nunique()
        oldest = rows.sort_values("newest_at", na_position="first").iloc[0]
        yield {
            "kind": f"weather_{state}", "subject": str(model), "severity": severity, "amount": len(farms) / fed,
            "message": f"weather '{model}' is {_STATES[str(state)]} for {len(farms)} of {fed} farms ({_list(farms)}): {since}",
            "evidence": "; ".join(
                [f"allowed age {oldest['allowed_minutes'] / 60:.1f} h", *filter(None, [oldest["detail"]]), *costs]
            ),
            "action": _ACTIONS[str(state)],
        }  # fmt: skip


_STATES = {"late": "late", "missing": "missing", "constant": "no forecast (equal values)"}
_ACTIONS = {
    "late": "ask the supplier; if its runs always take so long, raise delay_minutes on the card",
    "missing": "ask the supplier, look at ingestion (table landings); until then older runs or fallbacks are issued",
    "constant": "ask the supplier: files arrive, but their wind does not change",
}


def silent_signals(
    freshness: pd.DataFrame, issues: Mapping[str, Issue], fleet: Fleet, clock: Clock, monitoring: Monitoring
) -> Iterable[dict[str, Any]]:
    """One incident per farm of which no turbine sends usable power, or of which some have sent none for long.

    A farm that sends nothing is an error where products are issued from its newest production alone, else a warning; turbines
    are a warning by their share of the farm's capacity.
    """
    signals = freshness[freshness["source"] == "signals"]
    for farm in fleet.farms:
        own = signals[signals["farm_id"] == farm.id]
        if (own["state"] == "fresh").all():
            continue
        newest = own["newest_at"].max()
        about = {"kind": "signals_silent", "entity_id": farm.id}
        allowed = f"allowed age {own['allowed_minutes'].max() / 60:.1f} h"
        if (own["state"] != "fresh").all():
            severity = "warning" if own["relied_on"].any() else "info"
            costs = []
            for name in products_of(fleet, farm.id):
                rows = issues[name].rows
                issued = rows["fallback"].where(rows["fallback"] != "", rows["model"])
                mine = rows["entity_id"].isin(
                    [member for member in issues[name].product.members if farm in fleet.farms_of(member)]
                )
                share = issues[name].share(mine & (issued == _FROM_PRODUCTION))
                if share:
                    costs.append(f"{name}: {share:.0%} of the newest issue is made from its last production")
                severity = "error" if share >= monitoring.cost.error_share else severity
            details = sorted({detail for detail in own["detail"] if detail})[:1]
            yield about | {
                "severity": severity, "amount": 1.0,
                "message": "no turbine has sent usable power "
                + ("at all" if pd.isna(newest) else f"since {newest:%Y-%m-%d %H:%M}"),
                "evidence": "; ".join([allowed, *details, *costs]),
                "action": "look at the SCADA connection and ingestion (table landings), and at quarantine if rows do arrive",
            }  # fmt: skip
            continue
        long = own["newest_at"].isna() | (own["age_minutes"] > own["allowed_minutes"] + monitoring.freshness.turbine_hours * 60)
        missing = own.loc[long & (own["state"] != "fresh"), "subject"].tolist()
        if missing:
            standing = farm.at(clock.as_of)
            share = sum(unit.rated_power_kw for unit in standing.turbines if unit.id in missing) / standing.capacity_kw
            yield about | {
                "subject": "turbines",
                "severity": "warning" if share >= monitoring.cost.turbine_share and own["relied_on"].any() else "info",
                "amount": share,
                "message": f"{len(missing)} of {len(own)} turbines ({_list(missing)}) have sent no usable power for more than "
                f"{monitoring.freshness.turbine_hours:g} h",
                "evidence": f"{allowed}; {share:.0%} of the farm's capacity; table freshness",
                "action": "ask whether they are out of service; if not, look at their connection",
            }


def silent_feeds(freshness: pd.DataFrame, feeds: FeedCards, fleet: Fleet) -> Iterable[dict[str, Any]]:
    """One incident per feed that has landed nothing for longer than it usually does; what that costs shows at its sources."""
    late = freshness[(freshness["source"] == "feed") & freshness["state"].isin(["late", "missing"])]
    for row in late.to_dict("records"):
        into = f"{feeds.root[row['subject']].get('into', '')}/"
        fed = [
            farm.id
            for farm in fleet.farms
            if any(path.startswith(into) for path in (farm.signals.path, *(source.path for source in farm.weather)))
        ]
        when = "ever" if pd.isna(row["newest_at"]) else f"since {row['newest_at']:%Y-%m-%d %H:%M}"
        yield {
            "kind": "feed_silent", "subject": row["subject"], "severity": "warning",
            "message": f"feed '{row['subject']}' has landed nothing {when}"
            + (f"; it feeds {len(fed)} farms ({_list(fed)})" if fed else ""),
            "evidence": "; ".join(filter(None, [f"allowed gap {row['allowed_minutes'] / 60:.1f} h", row["detail"]])),
            "action": "kedro run --pipeline ingestion shows why; ask the sender if it does fetch",
        }  # fmt: skip


def unissued(
    issues: Mapping[str, Issue],
    forecasts: pd.DataFrame,
    open_failures: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    monitoring: Monitoring,
) -> Iterable[dict[str, Any]]:
    """Products whose newest issue is due and not there though nothing is noted as failed, and those with a part by a fallback."""
    noted = open_failures[open_failures["code"].isin(NOT_ISSUED)]
    grace = pd.Timedelta(minutes=monitoring.freshness.issue_grace_minutes)
    due_by = clock.model_copy(update={"as_of": (pd.Timestamp(clock.as_of) - grace).to_pydatetime()})
    for product in fleet.products:
        due = pd.Timestamp(due_by.newest_issue(fleet.calendar(product.id)))
        there = forecasts[
            (forecasts["product_id"] == product.id)
            & (forecasts["issued_at"] >= due)
            & (forecasts["issued_at"] <= pd.Timestamp(clock.as_of))
        ]
        failed = noted[(noted["product_id"] == product.id) & (noted["issued_at"] >= due)]
        known = {*there["entity_id"], *failed["entity_id"]}
        lacking = [name for name in product.members if name not in known and fleet.issues_for(name, product, [due])]
        if lacking:
            moment = np.array(utc(due))
            capacity = {name: float(fleet.capacity_kw(name, moment)) for name in product.members}
            share = sum(capacity[name] for name in lacking) / sum(capacity.values())
            yield {
                "kind": "forecast_overdue", "product_id": product.id,
                "severity": "error" if share >= monitoring.cost.error_share else "warning", "amount": share,
                "message": f"the issue of {due:%Y-%m-%d %H:%M} is not there for {len(lacking)} of {len(product.members)} members "
                f"({_list(lacking)})",
                "evidence": f"{share:.0%} of the product's capacity; due after {monitoring.freshness.issue_grace_minutes:g} min",
                "action": "run feature_engineering and forecasting: the issue was not tried",
            }  # fmt: skip
        issue = issues[product.id]
        by_fallback = issue.rows["fallback"] != ""
        if by_fallback.any():
            rows = issue.rows[by_fallback]
            names = sorted(set(rows["fallback"]))
            entities = sorted(set(rows["entity_id"]))
            yield {
                "kind": "fallback_used", "product_id": product.id, "severity": issue.severity(by_fallback, monitoring.cost),
                "amount": issue.share(by_fallback),
                "message": f"{issue.share(by_fallback):.0%} of the newest issue comes from {' and '.join(names)} instead of the "
                f"champions, for {len(entities)} entities ({_list(entities)})",
                "evidence": f"{issue.words(by_fallback)}; no weather run reaches "
                f"{issue.share(by_fallback & issue.rows['beyond']):.0%} of it",
                "action": "see the weather's incidents, and the failures of the models (table open_failures)",
            }  # fmt: skip


def unseen(
    readiness: pd.DataFrame,
    decisions: pd.DataFrame,
    forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    monitoring: Monitoring,
) -> Iterable[dict[str, Any]]:
    """What makes this very monitoring blind: old inputs, no training for long, forecasts that nothing was there to score."""
    at, rules = pd.Timestamp(clock.as_of), monitoring.freshness
    # Farms are assessed as of midnights.
    assessed = readiness["assessed_at"].max()
    if pd.isna(assessed) or at.floor("D") - assessed > pd.Timedelta(hours=rules.stale_hours):
        yield {
            "kind": "inputs_stale", "severity": "warning",
            "message": "data_engineering has not run"
            + (" yet" if pd.isna(assessed) else f" since {assessed:%Y-%m-%d %H:%M}, as of its own clock"),
            "evidence": f"newest row of readiness; allowed age {rules.stale_hours:g} h",
            "action": "run data_engineering; until then nothing newer can be judged",
        }  # fmt: skip
    scored = latest_versions(observations, clock.as_of)[["entity_id", "granularity_minutes", "valid_at"]]
    until = at - pd.Timedelta(hours=rules.scored_delay_hours)
    for product in fleet.products:
        own = decisions[(decisions["product_id"] == product.id) & (decisions["decided_at"] <= at)]
        trained = own["decided_at"].max()
        if pd.isna(trained) or at - trained > pd.Timedelta(days=rules.training_days):
            yield {
                "kind": "training_stale", "product_id": product.id, "severity": "warning",
                "message": "no training is on record" if pd.isna(trained) else f"the last training was as of {trained:%Y-%m-%d}",
                "evidence": f"table decisions; allowed age {rules.training_days:g} days",
                "action": "run feature_engineering and training",
            }  # fmt: skip
        ended = forecasts["valid_at"] + pd.Timedelta(minutes=product.granularity_minutes)
        due = forecasts.loc[
            (forecasts["product_id"] == product.id) & (ended <= until) & (ended > until - pd.Timedelta(days=rules.scored_days)),
            ["entity_id", "valid_at"],
        ].drop_duplicates()
        there = scored[scored["granularity_minutes"] == product.granularity_minutes]
        found = due.merge(there, on=["entity_id", "valid_at"], how="left", indicator=True)
        shares = (found["_merge"] == "both").groupby(found["entity_id"]).mean()
        blind = sorted(shares[shares < rules.min_scored_share].index)
        if blind:
            yield {
                "kind": "not_scored", "product_id": product.id, "severity": "warning", "amount": len(blind) / len(shares),
                "message": f"forecasts of {len(blind)} of {len(shares)} entities ({_list(blind)}) could hardly be scored in "
                f"the last {rules.scored_days:g} days: drift would go unseen",
                "evidence": f"{shares[blind].min():.0%} to {shares[blind].max():.0%} of their intervals have an observation",
                "action": "see the incidents of the farms' signals",
            }  # fmt: skip


def _worst(*severities: str) -> str:
    return max(severities, key=SEVERITIES.index)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
