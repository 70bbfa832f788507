"""Fits by month: sums over forecast intervals whose outcome became known, and what follows from them for each month."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers, map_farms
from wind_kedro.contracts.features import FeatureFits, FeatureFitSums
from wind_kedro.datasets.derived import Derived, days_of, frame_of
from wind_kedro.storage.fingerprints import Recipe, mixed, number_of, overlapping

from .arrays import FloatArray
from .inputs import (
    DAY,
    KEY,
    LOOK_BACK,
    Entity,
    Inputs,
    Schedule,
    asked_spans,
    at_points,
    enough,
    first_reason,
    rows_of,
    wanted_of,
)
from .other_farms import OWN, Outcomes, first_outcomes, fit_months, outcome_sums
from .settings import FeatureParameters
from .winds import Grid, mean_speed, speed_at_point

#: Increase it if the result for the same input changes.
SUMS_VERSION = FITS_VERSION = 1


def sum_outcomes(
    observations: Derived | pd.DataFrame,
    weather: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    features: FeatureParameters,
    workers: Workers,
) -> Recipe:
    """`outcome_sums` of every product, entity and month that is over: of forecast intervals whose outcome became known in it."""
    inputs = Inputs.of(observations, weather, fleet, clock, features)
    schedules = inputs.schedules(having=LOOK_BACK)
    wanted = wanted_of(_months_wanted(inputs, schedule) for schedule in schedules.values())
    recipe = Recipe(wanted, lambda part: _sums(part, inputs, schedules, workers, recipe.faults))
    return recipe


def _months_wanted(inputs: Inputs, schedule: Schedule) -> pd.DataFrame:
    """Months in which outcomes became known, with what their sums are made from."""
    names = [entity.id for entity in schedule.entities]
    observed = inputs.observed[inputs.observed["entity_id"].isin(names)].reset_index(drop=True)
    if observed.empty:
        return pd.DataFrame()
    days = np.arange(observed["day"].min(), observed["day"].max() + pd.Timedelta(days=1), DAY).astype("datetime64[us]")
    farms = list(dict.fromkeys(farm_id for entity in schedule.entities for farm_id in entity.farms))
    by_farm = inputs.farm_numbers(farms, days, schedule.reach)
    weather = np.stack([np.sum([by_farm[farm_id] for farm_id in entity.farms], axis=0) for entity in schedule.entities])
    cards = inputs.card_numbers(schedule, days, schedule.reach, SUMS_VERSION)
    place = (pd.Index(names).get_indexer(pd.Index(observed["entity_id"])), pd.Index(days).get_indexer(pd.Index(observed["day"])))
    spans = observed.assign(
        number=mixed(observed["number"], weather[place], cards[place]), first=observed["first_at"], last=observed["last_at"]
    )
    first, end = (pd.Period(time, "M") for time in (observed["first_at"].min(), inputs.as_of))
    months = pd.period_range(first, end, freq="M")[:-1]
    begins, ends = months.start_time, (months + 1).start_time
    asked = asked_spans("entity_id", names, begins.to_numpy("datetime64[us]"), ends.to_numpy("datetime64[us]"))
    found = overlapping(spans, asked, "entity_id")
    intervals = int(schedule.product.horizon_minutes / schedule.product.granularity_minutes) * len(schedule.issued_at)
    wanted: pd.DataFrame = asked.rename(columns={"first": "day"}).assign(
        product_id=schedule.product.id, rows=intervals // max(len(months), 1), fingerprint=found
    )
    return wanted.loc[pd.Series(found != 0)]


def _sums(
    part: pd.DataFrame, inputs: Inputs, schedules: Mapping[str, Schedule], workers: Workers, faults: dict[tuple[str, ...], str]
) -> pd.DataFrame:
    """Rows of `FeatureFitSums` for some months."""
    tables: list[pd.DataFrame] = []
    for product_id, rows in part.groupby("product_id", sort=False):
        schedule = schedules[str(product_id)]
        entities = [entity for entity in schedule.entities if entity.id in set(rows["entity_id"])]
        begin, end = rows["day"].min(), rows["day"].max() + pd.offsets.MonthBegin()
        observed = inputs.observed[inputs.observed["entity_id"].isin([entity.id for entity in entities])]
        known = observed[(observed["first_at"] <= end) & (observed["last_at"] >= begin)]
        days = np.unique(known["day"].to_numpy("datetime64[D]"))
        covered = np.unique((days[:, None] - np.arange(schedule.reach.astype(int) + 1) * DAY).ravel())
        issued_at = schedule.issued_at[np.isin(schedule.day, covered) & (schedule.issued_at < end.to_datetime64())]
        if not len(issued_at):
            continue
        grid, shown = schedule.grid(issued_at)
        weather = inputs.weather_of(schedule, {farm_id for entity in entities for farm_id in entity.farms}, issued_at)
        speeds = at_points(speed_at_point, weather, grid, inputs.parameters, workers)
        outcomes = inputs.observations_of(schedule, days.min(), days.max())
        tasks = {}
        for entity in entities:
            key = (schedule.product.id, entity.id)
            if reason := first_reason(speeds, entity):
                faults[key] = reason
                continue
            own = {farm_id: speeds.results[farm_id] for farm_id in entity.farms}
            tasks[key] = (grid, shown, entity, own, outcomes[entity.id], inputs.parameters.best_point.bin_width_ms)
        mapped = map_farms(_sums_of_entity, tasks, workers=enough(workers, shown.size * len(tasks)), label="outcomes")
        faults |= {(*key,): reason for key, reason in mapped.failures.items()}
        found = [table.assign(product_id=key[0], entity_id=key[1]) for key, table in mapped.results.items()]
        tables += [table[table["month_begin"].isin(rows["day"])] for table in found]
    return FeatureFitSums.table(rows_of(tables))


def _sums_of_entity(
    grid: Grid,
    shown: np.ndarray,
    entity: Entity,
    speeds: Mapping[str, FloatArray],
    observations: pd.DataFrame,
    bin_width_ms: float,
) -> pd.DataFrame:
    outcomes = first_outcomes(grid, observations)
    outcomes = Outcomes(np.where(shown, outcomes.share, np.nan), outcomes.known_at)
    points = {OWN: mean_speed(speeds, grid, entity.capacity)} | {farm_id: speeds[farm_id] for farm_id in entity.beside}
    return outcome_sums(points, outcomes, bin_width_ms)


def fit_points(feature_fit_sums: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, features: FeatureParameters) -> Recipe:
    """`fit_months` of every product and entity, for each month after the first in which an outcome became known."""
    sums = days_of(feature_fit_sums, KEY, "month_begin")
    sums = sums[sums["rows"] > 0]
    as_of = pd.Timestamp(clock.as_of).tz_localize(None)
    steps = {product.id: product.granularity_minutes for product in fleet.products}
    found = []
    for (product_id, entity_id), own in sums.groupby(KEY):
        months = pd.period_range(pd.Period(own["day"].min(), "M") + 1, pd.Period(as_of, "M"), freq="M").start_time
        # What became known in all months before, from the first on.
        earlier = np.searchsorted(own["day"], months)
        numbers = np.cumsum(mixed(own["digest"], own["day"]), dtype=np.uint64)[earlier - 1]
        settings = number_of([steps[str(product_id)], features.best_point, FITS_VERSION])
        columns = {"day": months.astype("datetime64[us]"), "fingerprint": mixed(numbers, np.uint64(settings))}
        found.append(pd.DataFrame({"product_id": product_id, "entity_id": entity_id, "rows": 0} | columns))

    def work(part: pd.DataFrame) -> pd.DataFrame:
        table = frame_of(feature_fit_sums, last=part["day"].max() if len(part) else None)
        table = table.assign(month_begin=table["month_begin"].dt.tz_localize(None))
        tables = []
        for product_id, rows in part.groupby("product_id"):
            own = table[(table["product_id"] == product_id) & table["entity_id"].isin(rows["entity_id"])]
            fits = fit_months(own, set(rows["day"]), steps[str(product_id)], features.best_point)
            tables.append(fits.assign(product_id=product_id))
        return FeatureFits.table(rows_of(tables))

    return Recipe(wanted_of(found), work)
