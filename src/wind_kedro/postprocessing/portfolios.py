"""Portfolios: the forecast of a group of farms, made of its farms' own. What the backtest and live forecasting share.

Errors of farms offset each other, so that the quantiles of a group are not the sums of its farms' quantiles: with these,
97 % of the observations lay inside a band that promises 80 % (GEFCom2014, ten farms). Medians are added up, and the spread around
their sum is narrowed; by how much follows from the group's own errors, once there are some (`calibration`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, Group, Product
from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER, RUNGS, quantile_column, quantile_columns
from wind_kedro.failures import OnFailure, isolated
from wind_kedro.models.tables import weather_run_age_minutes, with_point
from wind_kedro.postprocessing.settings import Portfolios

#: What stands as the model of a portfolio that is issued: each of its farms may be forecast by another.
PORTFOLIO = "portfolio"


def add_portfolios(
    forecasts: pd.DataFrame, fleet: Fleet, portfolios: Portfolios, *, by_model: bool = False, on_failure: OnFailure | None = None
) -> pd.DataFrame:
    """Rows of `contracts.Forecasts`: those given, and behind them those of each group that is forecast from its farms.

    ``forecasts`` are of farms, kW. With ``by_model`` there is one portfolio a model, as in a backtest of candidates; otherwise
    one an issue, of whatever model forecasts each farm. ``on_failure`` takes what raises for one portfolio, which then has no
    rows; without it, it is raised.

    A row of a group has the sum of its farms' medians, and around it the spread of a sum of errors that correlate by
    ``error_correlation`` with each other. Farms that were not forecast are taken to do as the others do: the sum is scaled to
    the group's capacity, and ``fallback`` names them. Farms and capacities are those of the interval. Where fewer than
    ``min_capacity_share`` were forecast there is no row.
    """
    parts = [forecasts]
    for product in fleet.products:
        own = forecasts[forecasts["product_id"] == product.id]
        for group in fleet.portfolios_of(product):
            rows = _of_members(own, group, fleet)
            if rows.empty:
                continue
            with isolated(on_failure, product.id, group.id):
                of_group = _portfolio(rows, product, group, fleet, portfolios, by_model=by_model)
                # Of the same types: texts of two types become objects one by one.
                parts.append(of_group.astype(forecasts.dtypes[of_group.columns].to_dict()))
    return pd.concat(parts, ignore_index=True)[forecasts.columns] if len(parts) > 1 else forecasts


def _of_members(rows: pd.DataFrame, group: Group, fleet: Fleet) -> pd.DataFrame:
    """The rows of farms that belong to the group at the interval."""
    rows = rows[rows["entity_id"].isin(group.farm_ids)]
    if not group.dated:
        return rows
    valid_at = rows["valid_at"].dt.tz_localize(None).to_numpy()
    capacities = fleet.capacities(group.id)
    belongs = np.zeros(len(rows), dtype=bool)
    for farm_id, places in rows.groupby("entity_id").indices.items():
        belongs[places] = capacities[str(farm_id)].at(valid_at[places]) > 0
    return rows[belongs]


def _portfolio(
    rows: pd.DataFrame, product: Product, group: Group, fleet: Fleet, portfolios: Portfolios, *, by_model: bool
) -> pd.DataFrame:
    columns = quantile_columns(product.quantile_levels)
    keys = ["issued_at", "valid_at", *(["model"] if by_model else [])]
    rows = rows.sort_values([*keys, "entity_id"], kind="stable", ignore_index=True)
    median = rows[quantile_column(0.5)].to_numpy(float)
    away = rows[columns].to_numpy(float) - median[:, None]
    grouped = rows.groupby(keys, sort=True)
    number = grouped.ngroup().to_numpy()
    first = grouped.head(1).reset_index(drop=True)

    # Rows of a group follow each other, as they were sorted.
    starts = np.flatnonzero(np.diff(number, prepend=-1))

    def total(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, starts, axis=0)

    correlation = portfolios.error_correlation
    # The variance of a sum: each farm's own, and for every pair the product of both, times how they correlate.
    spread = np.sqrt((1 - correlation) * total(away**2) + correlation * total(away) ** 2)
    side = np.sign(np.asarray(product.quantile_levels) - 0.5)
    valid_at = first["valid_at"].dt.tz_localize(None).to_numpy()
    capacity, there = fleet.capacity_kw(group.id, valid_at), total(rows["capacity_kw"].to_numpy(float))
    scale = (capacity / there)[:, None]
    quantiles = np.clip(scale * (total(median)[:, None] + side * spread), 0.0, capacity[:, None])
    table = first[["product_id", "issued_at", "revised_issue_at", "revision", "valid_at", "lead_minutes"]].assign(
        entity_id=group.id,
        model=first["model"] if by_model else PORTFOLIO,
        model_version=_each_once(rows["model_version"], number).to_numpy(),
        weather_run_at=grouped["weather_run_at"].max().to_numpy(),
        capacity_kw=capacity,
        rung=np.take(RUNGS, np.maximum.reduceat(pd.Categorical(rows["rung"], RUNGS).codes, starts)),
        fallback=_fallbacks(rows, number, {farm_id: kw.at(valid_at) > 0 for farm_id, kw in fleet.capacities(group.id).items()}),
        weather=np.where(total((rows["weather"] == PERFECT_WEATHER).to_numpy()), PERFECT_WEATHER, FORECAST_WEATHER),
    )
    table["weather_run_at"] = table["weather_run_at"].astype(rows["weather_run_at"].dtype)
    table["weather_run_age_minutes"] = weather_run_age_minutes(table)
    table[columns] = quantiles
    table = with_point(table, product)
    return table[there >= portfolios.min_capacity_share * capacity]


def _each_once(names: pd.Series, number: np.ndarray) -> pd.Series:
    """What farms of a row have, each once: ``3``, or ``3+5`` where they differ."""
    each = pd.DataFrame({"number": number, "name": names.to_numpy()}).drop_duplicates()
    return each.sort_values(["number", "name"]).groupby("number")["name"].agg("+".join)


def _fallbacks(rows: pd.DataFrame, number: np.ndarray, expected: Mapping[str, np.ndarray]) -> list[str]:
    """What is not as it should be, of each row: farms that are expected and missing, farms forecast by a stand-in."""
    place = {farm_id: column for column, farm_id in enumerate(expected)}
    there = ~np.stack(list(expected.values()), axis=1)
    there[number, rows["entity_id"].map(place).to_numpy()] = True
    notes = [""] * len(there)
    for row in np.flatnonzero(~there.all(axis=1)):
        notes[row] = "without " + ", ".join(farm_id for farm_id in expected if not there[row, place[farm_id]])
    for row in np.flatnonzero((rows["fallback"] != "").to_numpy()):
        stand_in = f"{rows['entity_id'].iloc[int(row)]}: {rows['fallback'].iloc[int(row)]}"
        notes[number[row]] = "; ".join(filter(None, [notes[number[row]], stand_in]))
    return notes
