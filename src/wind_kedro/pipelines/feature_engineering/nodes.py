"""As-of features: for every issue time, only what could be read by then.

Weather comes from the newest run that was available (`winds`, `weather_runs`), production from the last observations that had
arrived (`production`); fits use what was known at the beginning of the issue's month (`other_farms`). Only `available_at` decides
what was known. Features are computed by day of issue, and again only where what the day reads has changed (`inputs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Calendar, Fleet, Steps
from wind_kedro.cards.dated import FAR_FUTURE, FAR_PAST, spans, total
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers, map_farms
from wind_kedro.contracts.features import Features
from wind_kedro.contracts.observations import Observations
from wind_kedro.datasets.derived import Derived, days_of, frame_of
from wind_kedro.errors import WindKedroError
from wind_kedro.failures import Failure, failures_table
from wind_kedro.storage.fingerprints import Numbers, Recipe, mixed, overlapping

from .arrays import MINUTE, FloatArray, TimeArray, from_minutes, quiet
from .inputs import (
    DAY,
    KEY,
    Entity,
    Inputs,
    Schedule,
    asked_spans,
    at_points,
    enough,
    first_arrival,
    first_reason,
    wanted_of,
)  # fmt: skip
from .other_farms import MonthFit, at_best_point, best_of_months, best_points, errors_by_interval, expected_share, month_of
from .production import known_production
from .settings import ALWAYS, FAMILIES, Family, FeatureParameters, family_of
from .weather_runs import Runs
from .winds import SPEED, SPEED_10M, Grid, U, V, mean_speed, neighbour, speed_at_point, weather_features, wind_at_point

__all__ = ["FAMILIES", "FeatureParameters", "NoWeatherError", "build_features", "features_of_entity"]

#: Increase it if the result for the same input changes.
FEATURES_VERSION = 1


class NoWeatherError(WindKedroError):
    """No weather run reaches an issue time that is to be forecast."""


#: Values of rows by the name of their column.
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Neighbours:
    """The other farms that issues use.

    Attributes:
        since: first issue time, UTC without zone.
        until: end of these, exclusive.
        farms: the farms, nearest first.
        fits: by beginning of a month, the best of their points and the own one, and the power curve of its wind.
    """

    since: np.datetime64
    until: np.datetime64
    farms: list[str]
    fits: dict[np.datetime64, MonthFit]

    def of(self, grid: Grid) -> NDArray[np.bool_]:
        """Which issues use them."""
        return np.asarray((grid.issued_at >= self.since) & (grid.issued_at < self.until))


@dataclass(frozen=True)
class Known:
    """What the features of an entity are made from.

    Attributes:
        capacity: installed capacity of each of its farms by time, kW.
        weather: runs of its farms by farm and weather model.
        neighbours: the other farms used, by time of the issue.
        winds: wind at the points of the other farms on the intervals of the issues.
        observations: contract `Observations`, of the entity and one granularity.
        past: issues whose forecasts give the errors that are known, with those of ``grid`` among them.
        past_shown: which of their intervals they cover.
        past_speeds: wind speed at the points of its farms and the others on these; empty: no errors are wanted.
    """

    capacity: dict[str, Steps]
    weather: Mapping[str, Mapping[str, Runs]]
    neighbours: list[Neighbours]
    winds: dict[str, dict[str, FloatArray]]
    observations: pd.DataFrame
    past: Grid
    past_shown: np.ndarray
    past_speeds: dict[str, FloatArray]


def build_features(
    observations: Derived | pd.DataFrame,
    weather: Derived | pd.DataFrame,
    feature_fits: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    features: FeatureParameters,
    workers: Workers,
) -> Recipe:
    """One row per product, entity, issue time and interval: everything known at the issue time, as numbers.

    Issue times run from the first weather run to ``clock.as_of``; intervals from the first whose gate is open to the horizon.
    Winds are m/s in the middle of the interval, the newest run available of each weather model at its leading point, in its
    newest version by then, averaged over models, and over the farms of a group by their capacity at the interval. Shares are
    of available capacity. Missing means not known at issue. The columns follow from the product's families.

    Raises:
        NoWeatherError: if no entity has any weather for any issue time.
        CardError: if the settings name a product that no card describes.
    """
    inputs = Inputs.of(observations, weather, fleet, clock, features)
    schedules = inputs.schedules()
    fits = days_of(feature_fits, KEY, "fitted_at")
    wanted = wanted_of(_days_wanted(inputs, schedule, fits) for schedule in schedules.values())
    if wanted.empty:
        raise NoWeatherError(f"no features as of {clock.as_of:%Y-%m-%d %H:%M} UTC: the weather is empty")
    recipe = Recipe(wanted, lambda part: _features(part, inputs, schedules, feature_fits, workers, recipe.faults))
    return recipe


def _days_wanted(inputs: Inputs, schedule: Schedule, fits: pd.DataFrame) -> pd.DataFrame:
    """Days of issues, with what their features are made from."""
    days, first, issues = np.unique(schedule.day, return_index=True, return_counts=True)
    if not len(days):
        return pd.DataFrame()
    days = days.astype("datetime64[us]")
    entities, back = schedule.entities, _look_back(schedule, inputs.parameters)
    weather = _weather_numbers(inputs, entities, days, back)
    observed = inputs.observed_numbers(entities, days, _memory(schedule, inputs.parameters))
    fitted = _fit_numbers(fits, schedule, days, back)
    cards = inputs.card_numbers(schedule, days, back, FEATURES_VERSION)
    # Of what became available later than the last issue of the day nothing is read.
    last_issue = schedule.issued_at[first + issues - 1]
    fingerprint = mixed(weather, observed, fitted, cards, last_issue)
    begun = last_issue >= np.array([inputs.first_at(entity).to_datetime64() for entity in entities])[:, None]
    leads = schedule.product.horizon_minutes // schedule.product.granularity_minutes
    wanted: pd.DataFrame = pd.DataFrame(
        {
            "product_id": schedule.product.id,
            "entity_id": np.repeat(np.array([entity.id for entity in entities], dtype=object), len(days)),
            "day": np.tile(days, len(entities)),
            "rows": np.tile(issues * leads, len(entities)),
            "fingerprint": fingerprint.ravel(),
        }
    )
    return wanted.loc[pd.Series(begun.ravel())]


def _weather_numbers(inputs: Inputs, entities: Sequence[Entity], days: TimeArray, back: np.timedelta64) -> Numbers:
    """The weather that issues of each day and of the days before it use, shape (entities, days)."""
    farms = list(dict.fromkeys(farm_id for entity in entities for farm_id in entity.farms))
    by_farm = inputs.farm_numbers(farms, days, back)
    found = np.zeros((len(entities), len(days)), dtype=np.uint64)
    for place, entity in enumerate(entities):
        for farm_id in entity.capacity:
            found[place] += by_farm[farm_id]
        for since, until, used in spans(entity.neighbours):
            there = (days + DAY > since) & (days - back < until)
            for farm_id in used:
                found[place, there] += by_farm[farm_id][there]
    return found


def _fit_numbers(fits: pd.DataFrame, schedule: Schedule, days: TimeArray, back: np.timedelta64) -> Numbers:
    """The fits that issues of each day and of the days before it use, shape (entities, days)."""
    own = fits[fits["product_id"] == schedule.product.id]
    ends = own["day"] + pd.offsets.MonthBegin() - pd.Timedelta(microseconds=1)
    spans = pd.DataFrame(
        {"entity_id": own["entity_id"], "first": own["day"], "last": ends, "number": mixed(own["digest"], own["day"])}
    )
    names = [entity.id for entity in schedule.entities]
    asked = asked_spans("entity_id", names, days - back, days)
    return overlapping(spans, asked, "entity_id").reshape(len(names), -1)


def _look_back(schedule: Schedule, parameters: FeatureParameters) -> np.timedelta64:
    """How many days before it the issues are whose forecasts an issue's features use: those of the errors that are known."""
    if "errors" not in schedule.families:
        return np.timedelta64(0, "D")
    return np.timedelta64(_memory(schedule, parameters) + schedule.reach, "D")


def _memory(schedule: Schedule, parameters: FeatureParameters) -> np.timedelta64:
    """How many days before it the observations are that an issue's features use."""
    hours = [parameters.production_memory_hours]
    hours += parameters.production_mean_hours if "production" in schedule.families else []
    hours += parameters.error_mean_hours if "errors" in schedule.families else []
    return np.timedelta64(-(-max(hours) // 24), "D")


def _features(
    part: pd.DataFrame,
    inputs: Inputs,
    schedules: Mapping[str, Schedule],
    feature_fits: Derived | pd.DataFrame,
    workers: Workers,
    faults: dict[tuple[str, ...], str],
) -> pd.DataFrame:
    """Rows of `Features` for some days of issues."""
    parts: list[Columns] = []
    for product_id, schedule in schedules.items():
        rows = part[part["product_id"] == product_id]
        if rows.empty:
            continue
        entities = [entity for entity in schedule.entities if entity.id in set(rows["entity_id"])]
        asked = np.unique(rows["day"].to_numpy("datetime64[D]"))
        first, last = asked.min(), asked.max()
        issued_at = schedule.issued_at[np.isin(schedule.day, asked)]
        back = _look_back(schedule, inputs.parameters)
        grid, shown = schedule.grid(issued_at)
        past, past_shown = schedule.grid(schedule.between(first - back, last))
        weather = inputs.weather_of(schedule, {farm_id for entity in entities for farm_id in entity.farms}, past.issued_at)
        beside = sorted({farm_id for entity in entities for farm_id in entity.beside})
        winds = at_points(wind_at_point, {farm_id: weather[farm_id] for farm_id in beside}, grid, inputs.parameters, workers)
        speeds = at_points(speed_at_point, weather if back else {}, past, inputs.parameters, workers)
        observations = inputs.observations_of(schedule, first - _memory(schedule, inputs.parameters), last)
        months = month_of(np.array([past.issued_at.min(), past.issued_at.max()]))
        fits = frame_of(feature_fits, first=pd.Timestamp(months[0]), last=pd.Timestamp(months[1]))
        by_entity = dict(iter(fits[fits["product_id"] == product_id].groupby("entity_id")))
        tasks = {}
        for entity in entities:
            reason = first_reason(winds, entity) or first_reason(speeds, entity)
            if reason:
                faults[product_id, entity.id] = reason
                continue
            own = by_entity.get(entity.id, fits.iloc[:0])
            given = Known(
                capacity=entity.capacity,
                weather={farm_id: weather[farm_id] for farm_id in entity.capacity},
                neighbours=[Neighbours(*span, best_of_months(own, span[2])) for span in spans(entity.neighbours)],
                winds={farm_id: winds.results[farm_id] for farm_id in entity.beside},
                observations=observations[entity.id],
                past=past,
                past_shown=past_shown,
                past_speeds={farm_id: speeds.results[farm_id] for farm_id in entity.farms if back},
            )
            begun = _has_begun(inputs, schedule, entity, given.weather, issued_at)
            tasks[product_id, entity.id] = (schedule.calendar, entity.id, given, grid, shown & begun[:, None], inputs.parameters)
        mapped = map_farms(features_of_entity, tasks, workers=enough(workers, shown.size * len(tasks)), label="features")
        faults |= {(*key,): reason for key, reason in mapped.failures.items()}
        parts += mapped.results.values()
    # The same columns whatever days and entities are computed together.
    columns = list(dict.fromkeys(name for schedule in schedules.values() for name in _columns(schedule, inputs)))
    return _table([part for part in parts if len(part["valid_at"])], columns)


def _table(parts: Sequence[Columns], names: Sequence[str]) -> pd.DataFrame:
    """Rows of `Features` of several entities, in columns of these names; a column that an entity does not have is missing."""
    if not parts:
        return Features.table([]).reindex(columns=list(names))

    def column(name: str) -> Any:
        joined = np.concatenate([part[name] if name in part else np.full(len(part["valid_at"]), np.nan) for part in parts])
        if joined.dtype.kind == "M":
            return pd.DatetimeIndex(joined).tz_localize("UTC")
        return pd.array(joined, dtype="str") if joined.dtype == object else joined

    return pd.DataFrame({name: column(name) for name in names})


def _columns(schedule: Schedule, inputs: Inputs) -> Iterator[str]:
    """Columns of the features of a product, in the order in which they appear; some more than once."""
    most = -1
    for entity in inputs.entities_of(schedule.product):
        number = max(len(used) for _, used in entity.neighbours)
        if number > most:
            most = number
            # What raises here raises for the entities too, and is their fault then.
            with suppress(Exception):
                yield from _without_inputs(schedule, number, inputs.parameters)


def _without_inputs(schedule: Schedule, neighbours: int, parameters: FeatureParameters) -> Columns:
    """Features of an issue at which nothing is known."""
    # An issue of the product where there is any: at other times it may cover no interval.
    issued_at = schedule.issued_at if len(schedule.issued_at) else np.array(["2000-01-01"], dtype="datetime64[us]")
    grid, shown = schedule.grid(issued_at[:1])
    farms = [str(place) for place in range(neighbours)]
    known = Known(
        capacity={"": Steps(np.array([FAR_PAST]), np.array([1.0]))},
        weather={"": {}},
        neighbours=[Neighbours(FAR_PAST, FAR_FUTURE, farms, {})],
        winds={farm_id: wind_at_point({}, grid, parameters) for farm_id in farms},
        observations=Observations.table([]),
        past=grid,
        past_shown=shown,
        past_speeds={},
    )
    return features_of_entity(schedule.calendar, "", known, grid, shown, parameters)


def _has_begun(
    inputs: Inputs, schedule: Schedule, entity: Entity, weather: Mapping[str, Mapping[str, Runs]], issued_at: TimeArray
) -> np.ndarray:
    """Which issues are not before the first weather run of an entity."""
    first = first_arrival(weather, entity)
    if first is None or first > issued_at.min():
        # No run that still reaches these issues had arrived: either none ever had, or the newest ended.
        first = inputs.first_run(schedule, entity)
    return np.zeros(len(issued_at), dtype=bool) if first is None else np.asarray(issued_at >= first.to_datetime64())


def features_of_entity(
    calendar: Calendar, entity_id: str, known: Known, grid: Grid, shown: np.ndarray, parameters: FeatureParameters
) -> Columns:
    """The features of one product and entity by column, a value a row; see `build_features`. Times are UTC without zone.

    Args:
        calendar: of the product.
        entity_id: the farm or group.
        known: what they are made from.
        grid: the issues and their intervals.
        shown: which of these intervals have a row, shape (issues, leads).
        parameters: the settings.
    """
    product = calendar.product
    families = parameters.families_of(product.id)
    # There is nothing to forecast before the first turbine stands.
    shown = shown & (total(known.capacity.values(), grid.valid_at) > 0)
    columns = weather_features(grid, known.capacity, known.weather, families, parameters)
    newest_run = columns.pop("newest_run")
    columns |= _beside(grid, columns, known, families, parameters)
    production = known_production(
        grid.issued_at,
        known.observations,
        _expected(known),
        known.capacity,
        families,
        parameters,
    )
    columns |= {name: np.repeat(values[:, None], shown.shape[1], axis=1) for name, values in production.items()}
    if "calendar" in families:
        columns["hour_of_day"] = (grid.valid_at - grid.valid_at.astype("datetime64[D]")) / np.timedelta64(1, "h")
    shown_columns = [name for name in columns if name in ALWAYS or family_of(name) in families]
    issued_at = np.broadcast_to(grid.issued_at[:, None], shown.shape)
    rows = int(shown.sum())
    return {
        "product_id": np.full(rows, product.id, dtype=object),
        "entity_id": np.full(rows, entity_id, dtype=object),
        "issued_at": issued_at[shown],
        "valid_at": grid.valid_at[shown],
        "lead_minutes": ((grid.valid_at - issued_at) // MINUTE)[shown],
        "weather_run_at": from_minutes(newest_run)[shown],
        **{name: columns[name][shown] for name in shown_columns},
    }


def _expected(known: Known) -> tuple[TimeArray, FloatArray]:
    """Power by the curve of the best point's wind of each interval, see `errors_by_interval`."""
    expected = np.full(known.past.valid_at.shape, np.nan)
    if known.past_speeds:
        own = mean_speed(known.past_speeds, known.past, known.capacity)
        for used in known.neighbours:
            issues = used.of(known.past)
            speeds = np.stack([own, *(known.past_speeds[farm_id] for farm_id in used.farms)])
            expected[issues] = expected_share(speeds, known.past, used.fits)[issues]
    return errors_by_interval(np.where(known.past_shown, expected, np.nan), known.past)


def _beside(
    grid: Grid, own: dict[str, FloatArray], known: Known, families: frozenset[Family], parameters: FeatureParameters
) -> dict[str, FloatArray]:
    """Wind at other farms' points and at the best point."""
    found: dict[str, FloatArray] = {}
    for used in known.neighbours:
        issues = used.of(grid)
        if issues.any():
            others = {farm_id: known.winds[farm_id] for farm_id in used.farms}
            for name, values in _beside_these(grid, own, others, used.fits, families, parameters).items():
                found.setdefault(name, np.full(values.shape, np.nan))[issues] = values[issues]
    return found


def _beside_these(
    grid: Grid,
    own: dict[str, FloatArray],
    others: dict[str, dict[str, FloatArray]],
    fits: Mapping[np.datetime64, MonthFit],
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
    if others and "best_point" in families:
        at_best = at_best_point(own, others, best_points(grid.issued_at, fits))
        found |= {f"best_point_{name}": values for name, values in at_best.items()}
    return found


def note_features_failures(features: Derived, feature_fit_sums: Derived, fleet: Fleet, clock: Clock) -> pd.DataFrame:
    """One row per product and entity without features, or without those that are fitted monthly.

    Raises:
        NoWeatherError: if nobody has features.
    """
    rows = features.days.groupby(KEY)["rows"].sum()
    if not rows.sum():
        reasons = "; ".join(f"{key[1]}: {reason}" for key, reason in _faults(features).items()) or "the weather is empty"
        raise NoWeatherError(f"no features as of {clock.as_of:%Y-%m-%d %H:%M} UTC: {reasons}")
    nothing_read = "no weather run was available at any issue time"
    keys = [(product.id, entity_id) for product in fleet.products for entity_id in fleet.modelled(product)]
    failed = {key: nothing_read for key in keys if not rows.get(key, 0)} | _faults(feature_fit_sums) | _faults(features)
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
    return failures_table(failures, clock.as_of)


def _faults(table: Derived) -> dict[tuple[str, str], str]:
    """Why shards of a product and entity could not be computed; of several the newest."""
    failed = table.days[table.days["fault"] != ""].sort_values("day")
    return {(row["product_id"], row["entity_id"]): row["fault"] for row in failed.to_dict("records")}
