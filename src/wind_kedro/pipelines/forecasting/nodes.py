"""Forecasting: the champion promoted by the issue time issues the forecast, or the run refuses and says why."""

from __future__ import annotations

import datetime as dt
import logging

import pandas as pd

from wind_kedro.calibration import Calibration, calibrated
from wind_kedro.cards import Fleet, Group, Product
from wind_kedro.clock import Clock
from wind_kedro.columns import quantile_columns
from wind_kedro.datasets.registry import RegisteredModels
from wind_kedro.errors import WindKedroError
from wind_kedro.forecasts import KEYS, forecast_rows, model_table
from wind_kedro.portfolio import add_portfolios

logger = logging.getLogger(__name__)


class NoForecastError(WindKedroError):
    """Nothing could be issued."""


def issue_forecasts(
    features: pd.DataFrame, model_versions: RegisteredModels, promotions: pd.DataFrame, fleet: Fleet, clock: Clock
) -> pd.DataFrame:
    """One row per product, entity, issue time and interval: quantiles in kW, as the champion promoted by then gives them.

    They are kept beside what is issued, so that later ones can be corrected by their errors (`calibrate_forecasts`).

    A model is used at an issue time only if it was promoted and available by then. An entity without a champion at an issue
    time, or without features for it, is left out and logged; the others are issued.

    Raises:
        NoForecastError: if no entity of any product could be issued, with the reason of each.
    """
    parts: list[pd.DataFrame] = []
    refused: list[str] = []
    wanted = {product.id: clock.issues(product) for product in fleet.products}
    groups = dict(iter(features.groupby(["product_id", "entity_id"])))
    for product in fleet.products:
        issues = pd.DatetimeIndex(wanted[product.id])
        for entity_id in fleet.modelled(product):
            rows = groups.get((product.id, entity_id), features.iloc[:0])
            rows = rows[rows["issued_at"].isin(issues)]
            champions = _champions(promotions, product.id, entity_id, issues)
            for version, model_issues in champions.items():
                if version is None:
                    refused.append(_no_champion(promotions, product, entity_id, model_issues))
                    continue
                due = rows[rows["issued_at"].isin(model_issues)]
                windy = due[due.groupby("issued_at")["wind_speed_100m_ms"].transform("count") > 0]
                unknown = model_issues.difference(pd.DatetimeIndex(due["issued_at"]))
                weatherless = model_issues.difference(unknown).difference(pd.DatetimeIndex(windy["issued_at"]))
                if len(unknown):
                    as_of = f"{clock.as_of:%Y-%m-%dT%H:%M}"
                    refused.append(
                        f"{product.id}/{entity_id}: no features for {_span(unknown)}: run feature_engineering as of {as_of}"
                    )
                if len(weatherless):
                    refused.append(
                        f"{product.id}/{entity_id}: no weather reaches {_span(weatherless)}; choose an as_of inside the data"
                    )
                if windy.empty:
                    continue
                fleet_model = model_versions.version(version)
                member = fleet_model.members[product.id, entity_id]
                new_levels = set(product.quantile_levels) - set(member.forecaster.levels)
                if new_levels:
                    refused.append(
                        f"{product.id}/{entity_id}: version {version} was trained without quantile levels "
                        f"{sorted(new_levels)} of the product's card: run training"
                    )
                    continue
                predicted = fleet_model.predict(model_table(windy))
                shares = predicted[quantile_columns(product.quantile_levels, "share")].to_numpy()
                parts.append(forecast_rows(windy, shares, product, fleet, model=member.model, model_version=version))
    for reason in refused:
        logger.warning("not issued: %s", reason)
    if not parts:
        raise NoForecastError("nothing could be issued: " + "; ".join(refused))
    return pd.concat(parts, ignore_index=True)


def calibrate_forecasts(
    model_forecasts: pd.DataFrame,
    replay_model_forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    calibration: Calibration,
) -> pd.DataFrame:
    """One row per product, entity, issue time and interval: quantiles in kW as issued, portfolios included.

    Of the issues of this run. Each is corrected by the errors of issues before it whose outcome was known: those of the
    history, and, where a model is new or there is no history yet, those of its replay.
    """
    parts = []
    for product in fleet.products:
        of_product = model_forecasts[model_forecasts["product_id"] == product.id]
        replayed = replay_model_forecasts[replay_model_forecasts["product_id"] == product.id]
        now = of_product[of_product["issued_at"].isin(pd.DatetimeIndex(clock.issues(product)))]
        history = pd.concat([of_product, replayed]).drop_duplicates([*KEYS, "model"])
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
        logger.warning("not issued: %s/%s: too few of its farms at %s", product.id, group.id, _span(refused))
    for words, rows in issued[issued["fallback"] != ""].groupby("fallback"):
        at = _span(pd.DatetimeIndex(rows["issued_at"].unique()))
        logger.warning("%s/%s at %s: %s", product.id, group.id, at, words)


def _champions(
    promotions: pd.DataFrame, product_id: str, entity_id: str, issues: pd.DatetimeIndex
) -> dict[str | None, pd.DatetimeIndex]:
    """Issue times by the version that was champion at them; ``None``: there was none."""
    own = promotions[(promotions["product_id"] == product_id) & (promotions["entity_id"] == entity_id)]
    usable = own.assign(since=own[["promoted_at", "available_at"]].max(axis=1)).sort_values("since")
    at = pd.DataFrame({"issued_at": issues})
    if usable.empty:
        return {None: issues}
    merged = pd.merge_asof(at, usable[["since", "model_version"]], left_on="issued_at", right_on="since")
    versions = merged["model_version"].astype(object).where(merged["model_version"].notna(), None)
    return {
        version: issues[(versions == version).to_numpy() if version is not None else versions.isna().to_numpy()]
        for version in dict.fromkeys(versions)
    }


def _no_champion(promotions: pd.DataFrame, product: Product, entity_id: str, issues: pd.DatetimeIndex) -> str:
    own = promotions[(promotions["product_id"] == product.id) & (promotions["entity_id"] == entity_id)]
    first = (
        f"the first was promoted at {own['promoted_at'].min():%Y-%m-%dT%H:%M}" if len(own) else "none was ever promoted"
    )
    return f"{product.id}/{entity_id}: no champion at {_span(issues)} ({first}): run training as of an earlier time"


def _span(issues: pd.DatetimeIndex) -> str:
    def text(time: dt.datetime) -> str:
        return f"{time:%Y-%m-%dT%H:%M}"

    return text(issues[0]) if len(issues) == 1 else f"{len(issues)} issues from {text(issues[0])} to {text(issues[-1])}"
