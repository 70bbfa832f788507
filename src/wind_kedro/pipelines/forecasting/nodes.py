"""Forecasting: the champion promoted by the issue time issues the forecast, or the run refuses and says why."""

from __future__ import annotations

import datetime as dt
import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.calibration import Calibration, calibrated
from wind_kedro.cards import Fleet, Group, Product
from wind_kedro.champions import versions_at
from wind_kedro.clock import Clock
from wind_kedro.columns import quantile_columns
from wind_kedro.datasets.registry import RegisteredModels
from wind_kedro.errors import WindKedroError
from wind_kedro.forecasts import KEYS, forecast_rows, model_table
from wind_kedro.models.fleet_model import FleetModel
from wind_kedro.portfolio import add_portfolios

logger = logging.getLogger(__name__)


class NoForecastError(WindKedroError):
    """Nothing could be issued."""


def issue_forecasts(
    features: pd.DataFrame, model_versions: RegisteredModels, promotions: pd.DataFrame, fleet: Fleet, clock: Clock
) -> pd.DataFrame:
    """One row per product, entity, issue time and interval: quantiles in kW, as the champion promoted by then gives them.

    They are kept beside what is issued, so that later ones can be corrected by their errors (`calibrate_forecasts`).

    Where no weather reaches an interval or the champion fails, a fallback of the same version stands in, and the row says so.

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
            champions = versions_at(promotions, product.id, entity_id, issues)
            for version, model_issues in champions.items():
                if version is None:
                    refused.append(_no_champion(promotions, product, entity_id, model_issues))
                    continue
                due = rows[rows["issued_at"].isin(model_issues)]
                unknown = model_issues.difference(pd.DatetimeIndex(due["issued_at"]))
                if len(unknown):
                    as_of = f"{clock.as_of:%Y-%m-%dT%H:%M}"
                    refused.append(
                        f"{product.id}/{entity_id}: no features for {_span(unknown)}: run feature_engineering as of {as_of}"
                    )
                if due.empty:
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
                spoken = speak(fleet_model, due, product, entity_id)
                heard = pd.DatetimeIndex([time for told, _ in spoken.values() for time in told["issued_at"]])
                silent = due[~due["issued_at"].isin(heard)]
                windless = silent.groupby("issued_at")["wind_speed_100m_ms"].count() == 0
                for issues_lost, why in (
                    (windless.index[windless], "no weather reaches {}; choose an as_of inside the data"),
                    (windless.index[~windless], "the champion failed at {}, and nothing stands in"),
                ):
                    if len(issues_lost):
                        lost = _span(pd.DatetimeIndex(issues_lost))
                        refused.append(f"{product.id}/{entity_id}: {why.format(lost)}")
                for fallback, (told, shares) in spoken.items():
                    parts.append(
                        forecast_rows(
                            told, shares, product, fleet, model=member.model, model_version=version, fallback=fallback
                        )
                    )
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


Spoken = dict[str, tuple[pd.DataFrame, NDArray[np.float64]]]


def speak(fleet_model: FleetModel, due: pd.DataFrame, product: Product, entity_id: str) -> Spoken:
    """Rows that are due with their quantiles as shares, by who gave them: ``''`` the champion, else the fallback that stood in.

    Older weather runs stand in for newer ones in the features already. Where none reaches an interval, or the champion fails, the
    version's fallbacks are asked in their order; the first that gives a number for every level has the interval. Without any, the
    champion speaks wherever some weather reaches the issue.

    Args:
        fleet_model: the version in force.
        due: features of one product and entity, a row an interval.
        product: which.
        entity_id: whose.
    """
    columns = quantile_columns(product.quantile_levels, "share")
    fallbacks = fleet_model.fallbacks_of(product.id, entity_id)
    windy = due["wind_speed_100m_ms"].notna()
    if not fallbacks:
        windy = windy.groupby(due["issued_at"]).transform("any")
    spoken: Spoken = {}
    left = due
    if windy.any():
        try:
            spoken[""] = (due[windy], fleet_model.predict(model_table(due[windy]))[columns].to_numpy())
            left = due.loc[~windy]
        except Exception as error:  # whatever somebody's model does: a fallback or the others go on, and it is told
            logger.error("%s/%s: the champion failed: %s: %s", product.id, entity_id, type(error).__name__, error)
    for name, member in fallbacks.items():
        if left.empty or not member.speaks(product.quantile_levels):
            continue
        shares = member.shares(left, product.quantile_levels)
        known = np.asarray(np.isfinite(shares).all(axis=1), dtype=np.bool_)
        if known.any():
            spoken[name] = (left.iloc[np.flatnonzero(known)], shares[known])
            left = left.iloc[np.flatnonzero(~known)]
    for name, (rows, _) in spoken.items():
        if name:
            at_issues = _span(pd.DatetimeIndex(rows["issued_at"].unique()))
            logger.warning(
                "%s/%s: '%s' stands in at %s, %d intervals", product.id, entity_id, name, at_issues, len(rows)
            )
    return spoken


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
