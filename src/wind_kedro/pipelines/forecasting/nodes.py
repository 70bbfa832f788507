"""Forecasting: the champion promoted by the issue time issues the forecast, or a row of failures states why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet, Group, Product
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, Sliced, frame_of
from wind_kedro.datasets.models import RegisteredModels
from wind_kedro.datasets.parts import empty_table
from wind_kedro.failures import NOT_ISSUED, Failure, OnFailure, failures_table, first_of, isolated, noting, reason
from wind_kedro.governance.champions import in_order, versions_at
from wind_kedro.models.ensembles.fleet_model import Member
from wind_kedro.models.tables import Shares, by_entity, forecasts_of
from wind_kedro.pipelines.forecasting.earlier import Earlier
from wind_kedro.pipelines.forecasting.fallbacks import Forecast, champion_of, model_of, predict_with_fallbacks
from wind_kedro.pipelines.forecasting.revisions import SENT, without_small_revisions
from wind_kedro.pipelines.forecasting.settings import Forecasting
from wind_kedro.pipelines.forecasting.slices import (
    days_of_run,
    features_of_run,
    forecasts_of_run,
    of_issues,
)
from wind_kedro.pipelines.forecasting.together import Together
from wind_kedro.postprocessing.calibration import calibrated
from wind_kedro.postprocessing.portfolios import add_portfolios
from wind_kedro.postprocessing.settings import Calibration

_DEFAULTS = Forecasting()
#: A message names so many farms of a portfolio.
_NAMED = 3


def issue_forecasts(
    features: Derived | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    model_versions: RegisteredModels,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    forecasting: Forecasting = _DEFAULTS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product, entity, issue time and interval: quantiles in kW, as the champion promoted by then gives them. And one
    row per failure: an issue that was not made, a fallback that was used, a model that could not be used.

    They are kept beside what is issued, so that later ones can be corrected by their errors (`calibrate_forecasts`).

    Where no weather reaches an interval or the champion fails, a fallback of the same version is used, and the row names it.
    Where the stored models cannot be used (a damaged file, a version or a log of promotions that is not what was signed), the
    climatology of the observations known at the issue is used (`observed_climatology`), which needs no stored file.

    A model is used at an issue time only if it was promoted and available by then. An entity without a champion at an issue
    time, without features for it, or for which anything raises is left out and noted; the others are issued. If nothing can
    be issued for anyone, the table of forecasts is empty.
    """
    tables: list[pd.DataFrame] = []
    failures: list[Failure] = []
    if model_versions.fault and not model_versions.refusal:
        action = "find out who changed the log of promotions; the entries before it hold (kedro wind keys adopt)"
        failures.append(Failure("forecasting", "model_unusable", model_versions.fault, action))
    features = features_of_run(features, fleet, clock)
    promotions = in_order(promotions)
    groups, promoted_to = by_entity(features), by_entity(promotions)
    for product in fleet.products:
        of_product = clock.issues(fleet.calendar(product.id))
        forecasts: list[Shares] = []
        champions = _champions(product, groups, promoted_to, model_versions, fleet, pd.DatetimeIndex(of_product))
        together = Together(champions, forecasting.model_limit_seconds)
        for entity_id in fleet.modelled(product):
            issues = pd.DatetimeIndex(fleet.issues_for(entity_id, product, of_product))
            rows = groups.get((product.id, entity_id), features.iloc[:0])
            rows = of_issues(rows, issues)
            promoted = promoted_to.get((product.id, entity_id), promotions.iloc[:0])
            try:
                issued, failed = _issue_entity(
                    rows, observations, model_versions, promoted, fleet, product, entity_id, issues, clock, together
                )
            except Exception as error:  # whatever it is, the other entities are issued all the same
                issued, failed = [], _not_issued(product, entity_id, issues, reason(error), _UNEXPECTED)
            forecasts += issued
            failures += failed
        tables.append(forecasts_of(forecasts, product, fleet))
    return _outputs(tables, failures, clock)


def _champions(
    product: Product,
    features: Mapping[tuple[str, str], pd.DataFrame],
    promoted_to: Mapping[tuple[str, str], pd.DataFrame],
    model_versions: RegisteredModels,
    fleet: Fleet,
    issues: pd.DatetimeIndex,
) -> Iterator[tuple[Member, pd.DataFrame]]:
    """The champion of each entity of a product and version, with the features that it is to predict from."""
    for entity_id in fleet.modelled(product):
        key = (product.id, entity_id)
        if key not in features or key not in promoted_to:
            continue
        for version, version_issues in versions_at(promoted_to[key], issues).items():
            with suppress(Exception):  # whatever it is, it is noted where the entity is issued
                member = None if version is None else model_versions.version(version).members.get(key)
                if member is not None:
                    yield member, of_issues(features[key], version_issues)


def _outputs(parts: list[pd.DataFrame], failures: list[Failure], clock: Clock) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecasts and failures as tables. A single issue that is not made may be a warning; without any forecast all are errors."""
    parts = [part for part in parts if len(part)]
    if not parts:
        failures = [failure._replace(severity="error") for failure in failures if failure.severity != "info"]
    table = pd.concat(parts, ignore_index=True) if parts else empty_table("wind_kedro.contracts.forecasts.Forecasts")
    return table, failures_table(failures, clock.as_of)


_UNEXPECTED = "see the log of the run; if the data and the cards are right, report it"


def _issue_entity(
    rows: pd.DataFrame,
    observations: Derived | pd.DataFrame,
    model_versions: RegisteredModels,
    promotions: pd.DataFrame,
    fleet: Fleet,
    product: Product,
    entity_id: str,
    issues: pd.DatetimeIndex,
    clock: Clock,
    together: Together,
) -> tuple[list[Shares], list[Failure]]:
    """The forecasts of one product and entity, one per model, and what failed."""
    found: list[Shares] = []
    failures: list[Failure] = []
    for version, model_issues in versions_at(promotions, issues).items():
        if version is None and not model_versions.refusal:
            failures += _no_champion(promotions, product, entity_id, model_issues)
            continue
        due = of_issues(rows, model_issues)
        unknown = model_issues.difference(pd.DatetimeIndex(due["issued_at"]))
        action = f"run feature_engineering as of {clock.as_of:%Y-%m-%dT%H:%M}; its failures state why an entity has no features"
        failures += _not_issued(product, entity_id, unknown, "no features", action)
        if due.empty:
            continue
        member = champion_of(model_versions, promotions, product, entity_id, version, failures)
        new_levels = set() if member is None else set(product.quantile_levels) - set(member.levels)
        if new_levels:
            why = f"version {version} was trained without quantile levels {sorted(new_levels)} of the product's card"
            failures += _not_issued(product, entity_id, pd.DatetimeIndex(due["issued_at"].unique()), why, "run training")
            continue
        fallbacks = model_versions.version(str(version)).beside("fallbacks", product.id, entity_id) if member else {}
        forecast = predict_with_fallbacks(member, fallbacks, due, observations, product, entity_id, version, failures, together)
        failures += _not_served(due, forecast, product, entity_id)
        model = member.model if member else model_of(promotions, product, entity_id, version)
        found += [Shares(served, shares, model, version or "", fallback) for fallback, (served, shares) in forecast.items()]
    return found, failures


def _not_issued(product: Product, entity_id: str, issues: pd.DatetimeIndex, why: str, action: str, **more: Any) -> list[Failure]:
    """An entry per issue that was not made."""
    message = f"{product.id}/{entity_id}: not issued: {why}"
    about = {"product_id": product.id, "entity_id": entity_id} | more
    return [Failure("forecasting", "forecast_not_issued", message, action, **about, issued_at=issue) for issue in issues]


def _not_served(due: pd.DataFrame, forecast: Forecast, product: Product, entity_id: str) -> list[Failure]:
    """Issues that have no forecast at all."""
    served = due["issued_at"].isin({time for rows, _ in forecast.values() for time in rows["issued_at"].unique()})
    if served.all():
        return []
    windless = due[~served].groupby("issued_at")["wind_speed_100m_ms"].count() == 0
    unreached, failed = (pd.DatetimeIndex(windless.index[which]) for which in (windless, ~windless))
    action = "see its weather's incidents, or choose an as_of inside the data"
    why = "the champion failed, and no fallback can be used"
    return [
        *_not_issued(product, entity_id, unreached, "no weather reaches it", action),
        *_not_issued(product, entity_id, failed, why, "see the failures of its model"),
    ]


def _no_champion(promotions: pd.DataFrame, product: Product, entity_id: str, issues: pd.DatetimeIndex) -> list[Failure]:
    """Issues before the first promotion: a warning, as nothing broke; an entity that may have no model yet is one of these."""
    own = promotions[(promotions["product_id"] == product.id) & (promotions["entity_id"] == entity_id)]
    first = f"the first was promoted at {own['promoted_at'].min():%Y-%m-%dT%H:%M}" if len(own) else "none was ever promoted"
    action = "run training as of an earlier time; the readiness page states why a farm may have no model"
    return _not_issued(product, entity_id, issues, f"no champion ({first})", action, severity="warning")


def calibrate_forecasts(
    model_forecasts: Sliced | pd.DataFrame,
    backtest_model_forecasts: Derived | pd.DataFrame,
    forecasts_before: Sliced | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    portfolio_sums_before: Sliced | pd.DataFrame,
    forecasting_failures: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    calibration: Calibration,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One row per product, entity, issue time and interval: quantiles in kW as issued, portfolios included. The sums that
    portfolios were corrected by, as far as they are new. And one row per failure: a forecast issued without calibration, a
    portfolio that was not issued or that lacks a farm; and per revision that changes too little to be sent
    (`without_small_revisions`).

    Of the issues of this run. Each is corrected by the errors of issues before it whose outcome was known: those of the
    history, and, where a model is new or there is no history yet, those of its backtest. What cannot be calibrated is issued
    as the models gave it.
    """
    parts: list[pd.DataFrame] = []
    failures: list[Failure] = []
    action = "look at the newest observations and forecasts of it; bands may be too narrow until it is mended"
    what = "issued as the models gave it, without calibration"
    not_calibrated = noting(failures, "calibration", "calibration_failed", what, action)
    back = pd.Timedelta(days=calibration.days)
    earlier = Earlier(model_forecasts, backtest_model_forecasts, portfolio_sums_before, fleet, clock, calibration)
    model_forecasts = forecasts_of_run(model_forecasts, fleet, clock)
    # Groups are always corrected, farms seldom.
    groups = {group.id for product in fleet.products for group in fleet.portfolios_of(product)}
    corrected = None if calibration.candidates or calibration.products else groups
    observations = days_of_run(observations, fleet, clock, before=back, entities=corrected)
    for product in fleet.products:
        issues = pd.DatetimeIndex(clock.issues(fleet.calendar(product.id)))
        now = model_forecasts[(model_forecasts["product_id"] == product.id) & model_forecasts["issued_at"].isin(issues)]
        issued = now
        with isolated(not_calibrated, product.id, ""):  # whatever it is, the other products are calibrated all the same
            issued = _calibrate_product(now, earlier, observations, product, failures, not_calibrated)
        for group in fleet.portfolios_of(product):
            due = pd.DatetimeIndex(fleet.issues_for(group.id, product, list(issues)))
            failures += _portfolio_failures(issued, product, group, due, forecasting_failures, failures)
        if product.revisions is not None and len(issued):
            before = frame_of(forecasts_before, SENT, first=issued["revised_issue_at"].min(), last=issued["issued_at"].max())
            issued, small = without_small_revisions(issued, before, product)
            failures += small
        parts.append(issued)
    table, failed = _outputs(parts, failures, clock)
    return table, earlier.table(), failed


def _calibrate_product(
    now: pd.DataFrame,
    earlier: Earlier,
    observations: pd.DataFrame,
    product: Product,
    failures: list[Failure],
    not_calibrated: OnFailure,
) -> pd.DataFrame:
    """The forecasts of one product as issued; ``failures`` takes the portfolios that could not be made."""
    parts: list[pd.DataFrame] = []

    def of_portfolio(product_id: str, group_id: str, error: Exception) -> None:
        failed[group_id] = reason(error)

    fleet, calibration = earlier.fleet, earlier.calibration
    # Which model forecasts whom changes with promotions: a portfolio looks back on those that forecast its farms now.
    pairs = now[["issued_at", "entity_id", "model"]].drop_duplicates()
    who = pairs.sort_values("entity_id").groupby("issued_at")[["entity_id", "model"]].agg(tuple)
    for _, issues in who.groupby(["entity_id", "model"], sort=False):
        rows = now[now["issued_at"].isin(issues.index)]
        models = dict(zip(*issues.iloc[0], strict=True))
        begin, end = issues.index.min() - pd.Timedelta(days=calibration.days), issues.index.max()
        failed: dict[str, str] = {}
        issued = add_portfolios(rows, fleet, calibration.portfolios, on_failure=of_portfolio)
        failures += [
            _portfolio_failure(product, group_id, issue, why) for group_id, why in failed.items() for issue in issues.index
        ]
        known = earlier.known(product, models, begin, end, not_calibrated)
        parts.append(calibrated(issued, known, observations, fleet, calibration, on_failure=not_calibrated))
    return pd.concat(parts, ignore_index=True) if parts else now


def _portfolio_failure(product: Product, group_id: str, issue: pd.Timestamp, why: str) -> Failure:
    message = f"{product.id}/{group_id}: not issued: {why}"
    return Failure(
        "calibration", "portfolio_not_issued", message, "see the failures of its farms", "error", product.id, group_id, issue
    )


def _portfolio_failures(
    issued: pd.DataFrame,
    product: Product,
    group: Group,
    issues: pd.DatetimeIndex,
    forecasting_failures: pd.DataFrame,
    known: list[Failure],
) -> list[Failure]:
    """Issues of a portfolio that were not made, with the reasons of its farms, and those that lack a farm or have a fallback."""
    own = issued[issued["entity_id"] == group.id]
    noted = {failure.issued_at for failure in known if (failure.product_id, failure.entity_id) == (product.id, group.id)}
    left = forecasting_failures[
        forecasting_failures["code"].isin(NOT_ISSUED)
        & (forecasting_failures["product_id"] == product.id)
        & forecasting_failures["entity_id"].isin(group.farm_ids)
    ]
    failures = []
    for issue in issues.difference(pd.DatetimeIndex(own["issued_at"])):
        if issue in noted:
            continue
        farms = left[left["issued_at"] == issue]
        why = f"too few of its farms are forecast: {first_of(farms['message'], _NAMED)}"
        broken = (farms["severity"] == "error").any() or farms.empty
        failures.append(_portfolio_failure(product, group.id, issue, why)._replace(severity="error" if broken else "warning"))
    for (lacks, at), _ in own[own["fallback"] != ""].groupby(["fallback", "issued_at"]):
        about = (product.id, group.id, pd.Timestamp(str(at)))
        message = f"{product.id}/{group.id}: {lacks}"
        failures.append(Failure("calibration", "fallback_used", message, "see the failures of its farms", "warning", *about))
    return failures
