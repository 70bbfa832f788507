"""Forecasts, attributions and scores."""

from __future__ import annotations

import pandera.pandas as pa
from pandera.typing import Series

from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER, RUNGS, quantile_column
from wind_kedro.contracts.base import Contract, Utc


class Forecasts(Contract, key=["product_id", "entity_id", "model", "issued_at", "valid_at"]):
    """One row per product, entity, model, issue time and interval: quantiles in kW, a column a level (`quantile_column`)."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str]
    model_version: Series[str] = pa.Field(description="version in the registry, or 'backtest'")
    issued_at: Series[Utc]
    valid_at: Series[Utc]
    lead_minutes: Series[int] = pa.Field(ge=0)
    capacity_kw: Series[float] = pa.Field(gt=0)
    revised_issue_at: Series[Utc] = pa.Field(description="the issue that it revises; issued_at of one that revises none")
    revision: Series[int] = pa.Field(ge=0, description="number of the revision; 0: the issue itself")
    weather_run_at: Series[Utc] = pa.Field(nullable=True, description="the newest run used; null: none")
    weather_run_age_minutes: Series[float] = pa.Field(nullable=True, description="from its initialisation to the issue")
    rung: Series[str] = pa.Field(
        isin=list(RUNGS),
        description="what forecast it: the champion (in a backtest the candidate), an older forecast at a deadline, a fallback "
        "of its version, or the climatology of the observations; of a portfolio the last of those of its farms",
    )
    fallback: Series[str] = pa.Field(description="'' or the model that stood in for the champion; of a portfolio, what it lacks")
    weather: Series[str] = pa.Field(isin=[PERFECT_WEATHER, FORECAST_WEATHER])
    point_kw: Series[float] = pa.Field(ge=0, description="the single number that is sold: `point` of the product")
    median: Series[float] = pa.Field(
        alias=quantile_column(0.5), ge=0, description="every product declares it: the point forecast"
    )
    quantiles: Series[float] = pa.Field(
        alias=r"^q\d{3}_kw$", regex=True, ge=0, nullable=True, description="null where the product does not declare the level"
    )


class BacktestForecasts(Forecasts):
    """One row per product, entity, candidate, issue time and interval of the backtest, by fold."""

    fold_begin: Series[Utc] = pa.Field(description="the candidate was fitted as of then")


class PortfolioSums(Forecasts):
    """One row per product, group, issue time and interval: the sum of its farms' forecasts as the models gave them."""

    made_from: Series[str] = pa.Field(description="number of what it was made from besides the forecasts of its issue")


class ShadowForecasts(Forecasts):
    """One row per product, entity, model, issue time and interval: a shadow's forecast, or what the champion issued beside it."""

    role: Series[str] = pa.Field(isin=["shadow", "champion"], description="only the champion's was sent")


class Attributions(Contract, key=["product_id", "entity_id", "issued_at", "valid_at", "feature_group"]):
    """One row per product, entity, issue time, interval and attribution: by how much it moved the median. They add up to it."""

    product_id: Series[str]
    entity_id: Series[str]
    issued_at: Series[Utc]
    valid_at: Series[Utc]
    model: Series[str]
    model_version: Series[str]
    feature_group: Series[str] = pa.Field(description="of parameters_attributions.yml, 'base' or 'corrections'")
    contribution_kw: Series[float] = pa.Field(description="of the median")
    feature: Series[str] = pa.Field(
        description="the feature of the group that moved it most; of 'base', the attributed members of a blend; else ''"
    )
    feature_value: Series[float] = pa.Field(nullable=True, description="its value, in its own unit; null: not known then")


class Scores(Contract):
    """One row per product, entity, model, period, bucket of lead time, metric and quantile level."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str]
    period: Series[str] = pa.Field(description="'all', or the month or day of issue")
    lead_from_minutes: Series[int] = pa.Field(ge=0)
    lead_to_minutes: Series[int] = pa.Field(gt=0, description="exclusive")
    metric: Series[str] = pa.Field(description="see docs/glossary.md")
    level: Series[float] = pa.Field(
        nullable=True, ge=0, le=1, description="quantile level or nominal coverage, where the metric has one"
    )
    value: Series[float] = pa.Field(nullable=True)
    n: Series[int] = pa.Field(ge=0, description="intervals behind the value")
    weather: Series[str] = pa.Field(isin=[PERFECT_WEATHER, FORECAST_WEATHER])


class LiveScores(Scores):
    """One row per product, entity, model, period (a day of issue, or all), bucket of lead time, metric and level."""

    scored_on: Series[Utc] = pa.Field(nullable=True, description="the day of issue (UTC); null: all days")
