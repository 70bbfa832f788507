"""The tables that models meet: features in, forecasts out. What training and forecasting share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Fleet, Product
from wind_kedro.cards.columns import FORECAST_WEATHER, OBSERVED_CLIMATOLOGY, PERFECT_WEATHER, Rung, quantile_columns

#: What names a forecast row, beside its model.
KEYS = ["product_id", "entity_id", "issued_at", "valid_at"]
#: Columns of `Features` and `ModelInput` that no model may see: keys, and the outcome with what belongs to it.
NOT_FEATURES = [*KEYS, "weather_run_at", "power_share", "available_capacity_kw", "target_available_at"]


def in_card_order(table: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    """Rows by product and entity in the order of the cards, within these as they are; what no card names is last."""
    keys = [(product.id, entity_id) for product in fleet.products for entity_id in product.members]
    place = pd.MultiIndex.from_tuples(keys).get_indexer(pd.MultiIndex.from_frame(table[KEYS[:2]]))
    order = np.argsort(np.where(place < 0, len(keys), place), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def known_at(table: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """The rows of `contracts.ModelInput` that could be learnt from at a time: issued before it, and their outcome had come."""
    return table[is_known(table, at)]


def is_known(table: pd.DataFrame, at: pd.Timestamp) -> pd.Series:
    """Which rows of `contracts.ModelInput` could be learnt from at a time."""
    known: pd.Series = (table["target_available_at"] <= at) & (table["issued_at"] < at)
    return known


def by_entity(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Rows by product and entity, in order of their names."""
    places: dict[Any, Any] = table.groupby(KEYS[:2]).indices
    return {(str(key[0]), str(key[1])): rows_at(table, own) for key, own in sorted(places.items())}


def rows_at(table: pd.DataFrame, places: NDArray[np.intp]) -> pd.DataFrame:
    """Rows at rising places, at least one; those that follow each other, as stored ones of an entity do, are not copied."""
    first, last = places[0], places[-1]
    return table.iloc[slice(first, last + 1) if last - first + 1 == len(places) else places]


def feature_matrix(table: pd.DataFrame) -> pd.DataFrame:
    """The feature columns of a table, all numbers."""
    return table.drop(columns=NOT_FEATURES, errors="ignore")


def model_table(table: pd.DataFrame) -> pd.DataFrame:
    """What `FleetModel.predict` reads: product, entity and the feature columns, all as 64-bit floats."""
    return pd.concat([table[["product_id", "entity_id"]], feature_matrix(table).astype(float)], axis=1)


class Shares(NamedTuple):
    """What a model gives: rows of features, quantiles as shares of capacity (rows, levels), and which model it is."""

    rows: pd.DataFrame
    shares: NDArray[np.float64]
    model: str
    model_version: str
    fallback: str = ""


def forecasts_of(found: Sequence[Shares], product: Product, fleet: Fleet) -> pd.DataFrame:
    """Rows of `contracts.Forecasts` of one product, of all its entities and models at once (see `forecast_rows`); an empty table
    without columns if there are none.
    """
    if not found:
        return pd.DataFrame()
    counts = [len(one.rows) for one in found]
    rows = pd.concat([one.rows[[*KEYS, "lead_minutes", "weather_run_at"]] for one in found], ignore_index=True)
    about: dict[str, NDArray[np.object_]] = {
        name: np.repeat(np.array([getattr(one, name) for one in found], dtype=object), counts)
        for name in ("model", "model_version", "fallback")
    }
    return forecast_rows(rows, np.concatenate([one.shares for one in found]), product, fleet, **about)


def forecast_rows(
    rows: pd.DataFrame,
    shares: NDArray[np.float64],
    product: Product,
    fleet: Fleet,
    *,
    model: str | NDArray[np.object_],
    model_version: str | NDArray[np.object_],
    fallback: str | NDArray[np.object_] = "",
) -> pd.DataFrame:
    """Rows of `contracts.Forecasts`, quantiles in kW, of forecasts of one product.

    ``rows`` have the keys, ``lead_minutes`` and ``weather_run_at``; ``shares`` are quantiles as shares of the capacity installed
    at the interval, shape (rows, levels). ``model_version`` is that of the registry, or ``backtest``; ``fallback`` the model
    that was used instead. The last three are one for all rows, or one a row.
    """
    table = rows[[*KEYS, "lead_minutes", "weather_run_at"]].reset_index(drop=True)
    capacity, perfect = np.zeros(len(table)), np.zeros(len(table), dtype=bool)
    valid_at = table["valid_at"].dt.tz_localize(None).to_numpy()
    revised, number = fleet.calendar(product.id).revisions(
        table["issued_at"].dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    )
    for entity_id, places in table.groupby("entity_id").indices.items():
        capacity[places] = fleet.capacity_kw(str(entity_id), valid_at[places])
        perfect[places] = fleet.perfect_weather(str(entity_id), valid_at[places])
    fallbacks = pd.Series(fallback, index=table.index, dtype="str")
    table = table.assign(
        model=model,
        model_version=model_version,
        capacity_kw=capacity,
        revised_issue_at=pd.DatetimeIndex(revised).tz_localize("UTC"),
        revision=number,
        weather_run_age_minutes=weather_run_age_minutes(table),
        rung=fallbacks.map(_rung_of),
        fallback=fallbacks,
        weather=np.where(perfect, PERFECT_WEATHER, FORECAST_WEATHER),
    )
    quantiles = pd.DataFrame(shares, columns=quantile_columns(product.quantile_levels))
    return with_point(pd.concat([table, quantiles.mul(capacity, axis=0)], axis=1), product)


def with_point(table: pd.DataFrame, product: Product) -> pd.DataFrame:
    """Rows of `contracts.Forecasts` of one product with ``point_kw``, the single number that follows from their quantiles."""
    return table.assign(point_kw=product.point_of(table[quantile_columns(product.quantile_levels)].to_numpy(float)))


def weather_run_age_minutes(table: pd.DataFrame) -> pd.Series:
    """Minutes from the initialisation of the weather run to the issue; not a number without a run."""
    return (table["issued_at"] - table["weather_run_at"]).dt.total_seconds() / 60


def _rung_of(fallback: str) -> Rung:
    if not fallback:
        return "champion"
    return "climatology" if fallback == OBSERVED_CLIMATOLOGY else "fallback"
