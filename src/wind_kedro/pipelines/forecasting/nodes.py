"""Forecasting: the champion promoted by the issue time issues the forecast, or the run refuses and says why."""

from __future__ import annotations

import logging

import pandas as pd

from wind_kedro.cards import Fleet, Group, Product
from wind_kedro.clock import Clock
from wind_kedro.datasets.models import RegisteredModels
from wind_kedro.errors import WindKedroError
from wind_kedro.governance.champions import versions_at
from wind_kedro.models.tables import KEYS, forecast_rows
from wind_kedro.pipelines.forecasting.fallbacks import Failures, Forecast, model_of, predict_with_fallbacks, span
from wind_kedro.postprocessing.calibration import Calibration, calibrated
from wind_kedro.postprocessing.portfolios import add_portfolios

logger = logging.getLogger(__name__)


class NoForecastError(WindKedroError):
    """Nothing could be issued."""


def issue_forecasts(
    features: pd.DataFrame,
    observations: pd.DataFrame,
    model_versions: RegisteredModels,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product, entity, issue time and interval: quantiles in kW, as the champion promoted by then gives them. And one
    row per stored model that could not be used where it was needed.

    They are kept beside what is issued, so that later ones can be corrected by their errors (`calibrate_forecasts`).

    Where no weather reaches an interval or the champion fails, a fallback of the same version stands in, and the row names it.
    Where the stored models cannot be used (a damaged file, a version or a log of promotions that is not what was signed), the
    climatology of the observations known at the issue stands in (`observed_climatology`), which needs no stored file.

    A model is used at an issue time only if it was promoted and available by then. An entity without a champion at an issue
    time, or without features for it, is left out and logged; the others are issued.

    Raises:
        NoForecastError: if no entity of any product could be issued, with the reason of each.
    """
    parts: list[pd.DataFrame] = []
    refused: list[str] = []
    failures = Failures(clock)
    if model_versions.fault and not model_versions.refusal:
        failures.add_promotions(model_versions.fault)
    groups = dict(iter(features.groupby(["product_id", "entity_id"])))
    for product in fleet.products:
        issues = pd.DatetimeIndex(clock.issues(product))
        for entity_id in fleet.modelled(product):
            rows = groups.get((product.id, entity_id), features.iloc[:0])
            rows = rows[rows["issued_at"].isin(issues)]
            champions = versions_at(promotions, product.id, entity_id, issues)
            for version, model_issues in champions.items():
                if version is None and not model_versions.refusal:
                    refused.append(_no_champion(promotions, product, entity_id, model_issues))
                    continue
                due = rows[rows["issued_at"].isin(model_issues)]
                unknown = model_issues.difference(pd.DatetimeIndex(due["issued_at"]))
                if len(unknown):
                    as_of = f"{clock.as_of:%Y-%m-%dT%H:%M}"
                    refused.append(
                        f"{product.id}/{entity_id}: no features for {span(unknown)}: run feature_engineering as of {as_of}"
                    )
                if due.empty:
                    continue
                member = failures.member(model_versions, promotions, product, entity_id, version)
                new_levels = set() if member is None else set(product.quantile_levels) - set(member.levels)
                if new_levels:
                    refused.append(
                        f"{product.id}/{entity_id}: version {version} was trained without quantile levels "
                        f"{sorted(new_levels)} of the product's card: run training"
                    )
                    continue
                fleet_model = None if member is None else model_versions.version(str(version))
                forecast = predict_with_fallbacks(fleet_model, due, observations, product, entity_id, version, failures)
                refused += [f"{product.id}/{entity_id}: {why}" for why in _not_served(due, forecast)]
                for fallback, (served, shares) in forecast.items():
                    parts.append(
                        forecast_rows(
                            served,
                            shares,
                            product,
                            fleet,
                            model=member.model if member else model_of(promotions, product, entity_id, version),
                            model_version=version or "",
                            fallback=fallback,
                        )
                    )
    for reason in refused:
        logger.warning("not issued: %s", reason)
    if not parts:
        raise NoForecastError("nothing could be issued: " + "; ".join([*refused, *failures.messages()]))
    return pd.concat(parts, ignore_index=True), failures.table()


def calibrate_forecasts(
    model_forecasts: pd.DataFrame,
    backtest_model_forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    calibration: Calibration,
) -> pd.DataFrame:
    """One row per product, entity, issue time and interval: quantiles in kW as issued, portfolios included.

    Of the issues of this run. Each is corrected by the errors of issues before it whose outcome was known: those of the
    history, and, where a model is new or there is no history yet, those of its backtest.
    """
    parts = []
    for product in fleet.products:
        of_product = model_forecasts[model_forecasts["product_id"] == product.id]
        backtested = backtest_model_forecasts[backtest_model_forecasts["product_id"] == product.id]
        now = of_product[of_product["issued_at"].isin(pd.DatetimeIndex(clock.issues(product)))]
        history = pd.concat([of_product, backtested]).drop_duplicates([*KEYS, "model"])
        # Which model forecasts whom changes with promotions: a portfolio looks back on those that forecast its farms now.
        pairs = now[["issued_at", "entity_id", "model"]].drop_duplicates()
        who = pairs.sort_values("entity_id").groupby("issued_at")[["entity_id", "model"]].agg(tuple)
        for _, issues in who.groupby(["entity_id", "model"], sort=False):
            rows = now[now["issued_at"].isin(issues.index)]
            models = dict(zip(*issues.iloc[0], strict=True))
            begin = issues.index.min() - pd.Timedelta(days=calibration.days)
            past = history[history["issued_at"] >= begin]
            past = past.assign(present=past["model"] == past["entity_id"].map(models))
            past = past.sort_values("present", ascending=False, kind="stable").drop(columns="present")
            sums = add_portfolios(past.drop_duplicates(KEYS), fleet, calibration.portfolios)
            known = pd.concat([past, sums[~sums["entity_id"].isin(past["entity_id"])]])
            issued = add_portfolios(rows, fleet, calibration.portfolios)
            for group in fleet.portfolios_of(product):
                _tell(issued[issued["entity_id"] == group.id], product, group, pd.DatetimeIndex(issues.index))
            parts.append(calibrated(issued, known, observations, fleet, calibration))
    return pd.concat(parts, ignore_index=True)


def _tell(issued: pd.DataFrame, product: Product, group: Group, issues: pd.DatetimeIndex) -> None:
    """Log what a portfolio lacks."""
    refused = issues.difference(pd.DatetimeIndex(issued["issued_at"]))
    if len(refused):
        logger.warning("not issued: %s/%s: too few of its farms at %s", product.id, group.id, span(refused))
    for words, rows in issued[issued["fallback"] != ""].groupby("fallback"):
        at = span(pd.DatetimeIndex(rows["issued_at"].unique()))
        logger.warning("%s/%s at %s: %s", product.id, group.id, at, words)


def _not_served(due: pd.DataFrame, forecast: Forecast) -> list[str]:
    """Why issues have no forecast at all."""
    served = pd.DatetimeIndex([time for rows, _ in forecast.values() for time in rows["issued_at"]])
    silent = due[~due["issued_at"].isin(served)]
    windless = silent.groupby("issued_at")["wind_speed_100m_ms"].count() == 0
    reasons = (
        (windless.index[windless], "no weather reaches {}; choose an as_of inside the data"),
        (windless.index[~windless], "the champion failed at {}, and nothing stands in"),
    )
    return [why.format(span(pd.DatetimeIndex(issues))) for issues, why in reasons if len(issues)]


def _no_champion(promotions: pd.DataFrame, product: Product, entity_id: str, issues: pd.DatetimeIndex) -> str:
    own = promotions[(promotions["product_id"] == product.id) & (promotions["entity_id"] == entity_id)]
    first = (
        f"the first was promoted at {own['promoted_at'].min():%Y-%m-%dT%H:%M}" if len(own) else "none was ever promoted"
    )
    return f"{product.id}/{entity_id}: no champion at {span(issues)} ({first}): run training as of an earlier time"
