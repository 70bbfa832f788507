"""As-of features: for every issue time, only what could be read by then.

Weather comes from the newest run that was available (`winds`, `weather_runs`), production from the last observations that had
arrived (`production`); fits use what was known at the beginning of the issue's month (`other_farms`). Only `available_at` decides
what was known.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wind_kedro.cards import Calendar, Fleet, Steps
from wind_kedro.cards.dated import FAR_PAST, spans, total
from wind_kedro.cards.farms import at_leading_points
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers, map_farms
from wind_kedro.datasets.derived import Derived, frame_of
from wind_kedro.errors import WindKedroError
from wind_kedro.failures import Failure, failures_table
from wind_kedro.pipelines.feature_engineering.other_farms import (
    Outcomes,
    at_best_point,
    best_points,
    errors_by_interval,
    expected_share,
    first_outcomes,
    other_farms,
)

from .arrays import FloatArray, from_minutes, naive, quiet
from .production import known_production
from .settings import ALWAYS, FAMILIES, Family, FeatureParameters, family_of
from .winds import SPEED, SPEED_10M, U_10M, V_10M, Grid, U, V, neighbour, weather_features, wind_at_point

__all__ = ["FAMILIES", "EntityWeather", "FeatureParameters", "NoWeatherError", "build_features", "features_of_entity"]

#: Families that read the weather of other farms.
_BESIDE_FAMILIES: frozenset[Family] = frozenset(
    {"other_farms", "other_farm_components", "other_farm_neighbours", "fleet", "best_point", "errors"}
)
#: Families that read the history of an entity's power.
_LOOK_BACK: frozenset[Family] = frozenset({"best_point", "errors"})


class NoWeatherError(WindKedroError):
    """No weather run reaches an issue time that is to be forecast."""


@dataclass(frozen=True)
class EntityWeather:
    """The weather of an entity: rows of contract `Weather`, by farm.

    Attributes:
        own: of its farms.
        others: of all other farms used at any time.
        neighbours: the other farms used, nearest first: from which issue time on, UTC without zone, and which.
        capacity: installed capacity of each of its farms by time, kW.
    """

    own: dict[str, pd.DataFrame]
    others: dict[str, pd.DataFrame]
    neighbours: list[tuple[np.datetime64, list[str]]]
    capacity: dict[str, Steps]


def build_features(
    observations: pd.DataFrame,
    weather: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    features: FeatureParameters,
    workers: Workers,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product, entity, issue time and interval: everything known at the issue time, as numbers. And one row per
    product and entity that has no features.

    Issue times run from the first weather run to ``clock.as_of``; intervals from the first whose gate is open to the horizon.
    Winds are m/s in the middle of the interval, the newest run available of each weather model at its leading point, in its
    newest version by then, averaged over models, and over the farms of a group by their capacity at the interval. Shares are
    of available capacity. Missing means not known at issue. The columns follow from the product's families.

    Raises:
        NoWeatherError: if no entity has any weather for any issue time.
        CardError: if the settings name a product that no card describes.
    """
    features.check(fleet)
    weather = frame_of(weather)
    weather = at_leading_points(weather[weather["available_at"] <= clock.as_of], fleet.farms)
    observations = observations[observations["available_at"] <= clock.as_of]
    by_entity = dict(iter(observations.groupby(["entity_id", "granularity_minutes"])))
    tasks = {}
    for product in fleet.products:
        calendar, allowed = fleet.calendar(product.id), product.weather_models
        usable = weather if allowed is None else weather[weather["weather_model"].isin(allowed)]
        by_farm = {str(farm_id): table for farm_id, table in usable.groupby("farm_id")}
        families = features.families_of(product.id)
        looks_beside = not families.isdisjoint(_BESIDE_FAMILIES)
        # Selected once per farm, not once per farm that uses it.
        seen_by_others = {farm_id: table[_BESIDE] for farm_id, table in by_farm.items()} if looks_beside else {}
        nothing = weather.iloc[:0][_BESIDE]
        for entity_id in fleet.modelled(product):
            capacity = fleet.capacities(entity_id)
            beside = other_farms(entity_id, fleet, features.other_farms) if looks_beside else [(FAR_PAST, [])]
            found = EntityWeather(
                own={farm_id: by_farm[farm_id] for farm_id in capacity if farm_id in by_farm},
                others={farm_id: seen_by_others.get(farm_id, nothing) for _, used in beside for farm_id in used},
                neighbours=beside,
                capacity=capacity,
            )
            known = by_entity.get((entity_id, product.granularity_minutes), observations.iloc[:0])
            tasks[product.id, entity_id] = (calendar, entity_id, found, known, clock.as_of, features)
    mapped = map_farms(features_of_entity, tasks, workers=workers, label="features")
    tables = [table for table in mapped.results.values() if not table.empty]
    nothing_read = "no weather run was available at any issue time"
    failed = mapped.failures | {key: nothing_read for key, table in mapped.results.items() if table.empty}
    if not tables:
        reasons = "; ".join(f"{key[1]}: {reason}" for key, reason in mapped.failures.items()) or "the weather is empty"
        raise NoWeatherError(f"no features as of {clock.as_of:%Y-%m-%d %H:%M} UTC: {reasons}")
    failures = [
        Failure(
            "features",
            "features_not_made",
            f"{product_id}/{entity_id}: no features: {reason}",
            "see the findings of its data (data_quality) and the incidents of its weather, then run feature_engineering",
            product_id=product_id,
            entity_id=entity_id,
        )
        for (product_id, entity_id), reason in failed.items()
    ]
    return pd.concat(tables, ignore_index=True), failures_table(failures, clock.as_of)


#: Columns of other farms' weather that are sent to a worker.
_BESIDE = ["weather_model", "run_at", "available_at", "valid_at", SPEED, U, V, U_10M, V_10M]


def features_of_entity(
    calendar: Calendar,
    entity_id: str,
    weather: EntityWeather,
    observations: pd.DataFrame,
    as_of: dt.datetime,
    parameters: FeatureParameters,
) -> pd.DataFrame:
    """The features of one product and entity; see `build_features`."""
    if not weather.own:
        return pd.DataFrame()
    first_runs = pd.Series([_first_run(table, weather.capacity[farm_id]) for farm_id, table in weather.own.items()]).dropna()
    if first_runs.empty:
        return pd.DataFrame()
    first_run, product = first_runs.min(), calendar.product
    issues = calendar.issues_between(first_run.to_pydatetime() - dt.timedelta(microseconds=1), as_of)
    if not issues:
        return pd.DataFrame()
    issued_at = pd.DatetimeIndex(issues).tz_localize(None).to_numpy().astype("datetime64[us]")
    leads, shown = calendar.intervals(issued_at)
    grid = Grid(issued_at, issued_at[:, None] + leads.astype("timedelta64[m]"), product.granularity_minutes)

    # There is nothing to forecast before the first turbine stands.
    shown &= total(weather.capacity.values(), grid.valid_at) > 0
    families = parameters.families_of(product.id)
    columns = weather_features(grid, weather.capacity, weather.own, families, parameters)
    newest_run = columns.pop("newest_run")
    columns |= _beside(grid, columns, weather, observations, families, parameters)
    expected = columns.pop("expected_share", None)
    known = known_production(
        issued_at,
        observations,
        errors_by_interval(np.full(leads.shape, np.nan) if expected is None else expected, grid),
        weather.capacity,
        families,
        parameters,
    )
    columns |= {name: np.repeat(values[:, None], leads.shape[1], axis=1) for name, values in known.items()}
    if "calendar" in families:
        columns["hour_of_day"] = (grid.valid_at - grid.valid_at.astype("datetime64[D]")) / np.timedelta64(1, "h")
    shown_columns = [name for name in columns if name in ALWAYS or family_of(name) in families]
    return pd.DataFrame(
        {
            "product_id": product.id,
            "entity_id": entity_id,
            "issued_at": pd.DatetimeIndex(np.broadcast_to(issued_at[:, None], leads.shape)[shown]).tz_localize("UTC"),
            "valid_at": pd.DatetimeIndex(grid.valid_at[shown]).tz_localize("UTC"),
            "lead_minutes": leads[shown],
            "weather_run_at": pd.DatetimeIndex(from_minutes(newest_run)[shown]).tz_localize("UTC"),
            **{name: columns[name][shown] for name in shown_columns},
        }
    )


def _first_run(weather: pd.DataFrame, capacity: Steps) -> pd.Timestamp:
    """When the first run of a farm arrived that reaches into the time in which the farm has capacity; NaT: none does."""
    there = capacity.at(naive(weather["valid_at"])) > 0
    first: pd.Timestamp = weather["available_at"][there].min()
    return first


def _beside(
    grid: Grid,
    own: dict[str, FloatArray],
    weather: EntityWeather,
    observations: pd.DataFrame,
    families: frozenset[Family],
    parameters: FeatureParameters,
) -> dict[str, FloatArray]:
    """Wind at other farms' points and at the best point; ``expected_share``: power by the curve of the best point's wind."""
    winds = {farm_id: wind_at_point(table, grid, parameters) for farm_id, table in weather.others.items()}
    outcomes = None if families.isdisjoint(_LOOK_BACK) else first_outcomes(grid, observations)
    found: dict[str, FloatArray] = {}
    for since, until, used in spans(weather.neighbours):
        issues = (grid.issued_at >= since) & (grid.issued_at < until)
        if issues.any():
            # Of all issues, as fits of a month look back on those before the farms changed.
            columns = _beside_these(grid, own, {farm_id: winds[farm_id] for farm_id in used}, outcomes, families, parameters)
            for name, values in columns.items():
                found.setdefault(name, np.full(values.shape, np.nan))[issues] = values[issues]
    return found


def _beside_these(
    grid: Grid,
    own: dict[str, FloatArray],
    others: dict[str, dict[str, FloatArray]],
    outcomes: Outcomes | None,
    families: frozenset[Family],
    parameters: FeatureParameters,
) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    # By rank, not by name: with a name each, a fleet's table would be as wide as the fleet.
    for rank, other in enumerate(others.values(), start=1):
        given = [*((SPEED, SPEED_10M) if "other_farms" in families else ())]
        given += [*((U, V) if "other_farm_components" in families else ())]
        if "other_farm_neighbours" in families:
            given += [neighbour(SPEED, shift) for shift in parameters.other_farm_minutes]
        found |= {f"other_{rank}_{name}": other[name] for name in given}
    # Alone, a farm's own point is the best and the mean: the same columns again would be redundant.
    if others and "fleet" in families:
        for name in (SPEED, U, V):
            found[f"fleet_{name}"] = quiet(np.nanmean, np.stack([own[name], *(other[name] for other in others.values())]))
        found["fleet_spread_ms"] = quiet(np.nanstd, np.stack([own[SPEED], *(other[SPEED] for other in others.values())]))
    if outcomes is None:
        return found
    speeds = {farm_id: other[SPEED] for farm_id, other in others.items()}
    best = best_points(own[SPEED], speeds, outcomes, grid, parameters.best_point)
    at_best = at_best_point(own, others, best)
    if others and "best_point" in families:
        found |= {f"best_point_{name}": values for name, values in at_best.items()}
    if "errors" in families:
        found["expected_share"] = expected_share(own[SPEED], speeds, best, outcomes, grid, parameters.best_point)
    return found
