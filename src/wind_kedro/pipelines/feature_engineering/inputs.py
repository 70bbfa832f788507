"""What features are made from: which issues, which shards of weather and observations they read, and the rows of these.

A shard of weather is read by the issues from the day on which its first row arrived to the last day that it reaches; a shard of
observations from its own day on, for as long as production is remembered.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Calendar, Fleet, Product, Steps
from wind_kedro.cards.dated import FAR_FUTURE, spans
from wind_kedro.cards.farms import at_leading_points
from wind_kedro.clock import Clock
from wind_kedro.compute import Mapped, Workers, map_farms
from wind_kedro.datasets.derived import Derived, days_of, frame_of
from wind_kedro.pipelines.feature_engineering.arrays import TimeArray
from wind_kedro.pipelines.feature_engineering.other_farms import other_farms
from wind_kedro.pipelines.feature_engineering.settings import Family, FeatureParameters
from wind_kedro.pipelines.feature_engineering.weather_runs import Runs, runs_of
from wind_kedro.pipelines.feature_engineering.winds import VALUES, Grid
from wind_kedro.storage.fingerprints import NO_DAY, Numbers, mixed, number_of, overlapping

ResultT = TypeVar("ResultT")

#: Columns of a shard beside its day.
KEY = ["product_id", "entity_id"]
DAY = np.timedelta64(1, "D")
#: With fewer intervals at once, starting processes would cost more than they save.
_WORTH_PROCESSES = 2_000_000
#: Families that read the weather of other farms.
BESIDE: frozenset[Family] = frozenset(
    {"other_farms", "other_farm_components", "other_farm_neighbours", "fleet", "best_point", "errors"}
)
#: Families that read the history of an entity's power.
LOOK_BACK: frozenset[Family] = frozenset({"best_point", "errors"})
#: Columns of weather that are read beside those of the contract that name its source.
_WEATHER = ["farm_id", "weather_model", "weather_point", "run_at", "available_at", "valid_at", *VALUES]
#: What of a market decides which intervals an issue covers.
_GATES = {"time_zone", "gate_closure_minutes", "gate_closure_day"}
#: A holiday moves gates of so many days of delivery after it.
_LONGEST_GATE_DAYS = 45
#: What of a product does.
_SOLD: dict[str, Any] = dict.fromkeys(
    ["granularity_minutes", "horizon_minutes", "delivery_days", "issue_times", "time_zone", "weather_models"], True
) | {"revisions": {"every_minutes", "times", "last_minutes"}}


@dataclass(frozen=True)
class Entity:
    """An entity of a product, as features see it.

    Attributes:
        id: of the farm or group.
        capacity: installed capacity of each of its farms by time, kW.
        neighbours: the other farms used, nearest first: from which issue time on, UTC without zone, and which.
    """

    id: str
    capacity: dict[str, Steps]
    neighbours: list[tuple[np.datetime64, list[str]]]

    @property
    def beside(self) -> list[str]:
        """All other farms that are used at any time."""
        return list(dict.fromkeys(farm_id for _, used in self.neighbours for farm_id in used))

    @property
    def farms(self) -> list[str]:
        """All farms whose weather is read."""
        return list(dict.fromkeys([*self.capacity, *self.beside]))


@dataclass(frozen=True)
class Schedule:
    """The issues of a product up to ``as_of``, and what it takes to make their features.

    Attributes:
        calendar: of the product.
        families: of its features.
        entities: those that models are fitted for.
        issued_at: issue times since the first weather of any of them, rising.
    """

    calendar: Calendar
    families: frozenset[Family]
    entities: list[Entity]
    issued_at: TimeArray

    @property
    def product(self) -> Product:
        """The product."""
        return self.calendar.product

    @cached_property
    def day(self) -> TimeArray:
        """Day of each issue."""
        days = self.issued_at.astype("datetime64[D]")
        return days

    @property
    def reach(self) -> np.timedelta64:
        """From an issue to the end of its last interval, in whole days, rounded up."""
        return np.timedelta64(math.ceil((self.product.horizon_minutes + self.product.granularity_minutes) / 1440), "D")

    def between(self, first: np.datetime64, last: np.datetime64) -> TimeArray:
        """The issues of the days from ``first`` to ``last``."""
        found: TimeArray = self.issued_at[
            (self.day >= first.astype("datetime64[D]")) & (self.day <= last.astype("datetime64[D]"))
        ]
        return found

    def grid(self, issued_at: TimeArray) -> tuple[Grid, NDArray[np.bool_]]:
        """Intervals of some issues, and which of them an issue covers, shape (issues, leads)."""
        leads, shown = self.calendar.intervals(issued_at)
        return Grid(issued_at, issued_at[:, None] + leads.astype("timedelta64[m]"), self.product.granularity_minutes), shown


@dataclass(frozen=True)
class Inputs:
    """Weather and observations, and the spans of days in which each shard of them is read.

    Attributes:
        weather_spans: one row per shard of weather: ``farm_id``, ``day``, ``first`` and ``last`` day of issues that may read it,
            ``first_at``, ``number``.
        observed: one row per shard of observations: ``entity_id``, ``day``, ``first_at``, ``last_at``, ``number``.
    """

    weather: Derived | pd.DataFrame
    observations: Derived | pd.DataFrame
    weather_spans: pd.DataFrame
    observed: pd.DataFrame
    fleet: Fleet
    as_of: pd.Timestamp
    parameters: FeatureParameters

    @classmethod
    def of(
        cls,
        observations: Derived | pd.DataFrame,
        weather: Derived | pd.DataFrame,
        fleet: Fleet,
        clock: Clock,
        parameters: FeatureParameters,
    ) -> Inputs:
        """Those that were available by ``clock.as_of``.

        Raises:
            CardError: if the settings name a product that no card describes.
        """
        parameters.check(fleet)
        as_of = pd.Timestamp(clock.as_of).tz_localize(None).as_unit("us")
        weather_days, observed = _shards(weather, "farm_id", "run_at"), _shards(observations, "entity_id", "valid_at")
        spans = weather_days.assign(first=weather_days["first_at"].dt.floor("D"), last=weather_days["last_valid_at"])
        return cls(
            weather,
            observations,
            spans[spans["first_at"] <= as_of],
            observed[observed["first_at"] <= as_of],
            fleet,
            as_of,
            parameters,
        )

    def schedules(self, having: frozenset[Family] | None = None) -> dict[str, Schedule]:
        """By product: issues and entities; entities whose farms have no weather yet are left out.

        Args:
            having: only of products with any of these families; none: of all.
        """
        products = self.fleet.products
        if having is not None:
            products = [product for product in products if not self.parameters.families_of(product.id).isdisjoint(having)]
        return {product.id: self._schedule(product) for product in products}

    def _schedule(self, product: Product) -> Schedule:
        families = self.parameters.families_of(product.id)
        arrived = set(self.weather_spans["farm_id"])
        entities = [entity for entity in self.entities_of(product) if not arrived.isdisjoint(entity.capacity)]
        calendar = self.fleet.calendar(product.id)
        issues: list[dt.datetime] = []
        if entities:
            first = min(self.first_at(entity) for entity in entities)
            since = first.tz_localize("UTC").to_pydatetime() - dt.timedelta(microseconds=1)
            issues = calendar.issues_between(since, self.as_of.tz_localize("UTC").to_pydatetime())
        issued_at = np.array([issue.replace(tzinfo=None) for issue in issues], dtype="datetime64[us]")
        return Schedule(calendar, families, entities, issued_at)

    def entities_of(self, product: Product) -> list[Entity]:
        """All entities of a product that models are fitted for."""
        looks_beside = not self.parameters.families_of(product.id).isdisjoint(BESIDE)
        number = self.parameters.other_farms if looks_beside else 0
        return [
            Entity(entity_id, self.fleet.capacities(entity_id), other_farms(entity_id, self.fleet, number))
            for entity_id in self.fleet.modelled(product)
        ]

    def first_at(self, entity: Entity) -> pd.Timestamp:
        """When the first weather of an entity of a schedule arrived, of whatever model and point."""
        return min(self._first_of_farms[farm_id] for farm_id in entity.capacity if farm_id in self._first_of_farms)

    @cached_property
    def _first_of_farms(self) -> dict[str, pd.Timestamp]:
        return {str(farm_id): first for farm_id, first in self.weather_spans.groupby("farm_id")["first_at"].min().items()}

    # --- what a day reads, as numbers -----------------------------------------------------------------------------------

    def farm_numbers(self, farms: Sequence[str], days: TimeArray, before: np.timedelta64) -> dict[str, Numbers]:
        """What the issues of each day and of the days ``before`` it read of the weather of each farm; 0: nothing."""
        asked = asked_spans("farm_id", farms, days - before, days)
        points = [
            (farm.id, since, until, [since, version.leading_points])
            for farm in map(self.fleet.farm, farms)
            for since, until, version in spans(farm.versions)
        ]
        read, leading = (
            overlapping(self.weather_spans, asked, "farm_id"),
            overlapping(_numbered(points, "farm_id"), asked, "farm_id"),
        )
        named = np.repeat(np.array([number_of(farm_id) for farm_id in farms], dtype=np.uint64), len(days))
        numbers = np.where(read == 0, np.uint64(0), mixed(read, leading, named)).reshape(len(farms), -1)
        return dict(zip(farms, numbers, strict=True))

    def observed_numbers(self, entities: Sequence[Entity], days: TimeArray, memory: np.timedelta64) -> Numbers:
        """What the issues of each day read of observations, as far back as ``memory``, shape (entities, days)."""
        read = self.observed.assign(
            first=self.observed[["day", "first_at"]].max(axis=1).dt.floor("D"), last=self.observed["day"] + pd.Timedelta(memory)
        )
        names = [entity.id for entity in entities]
        return overlapping(read, asked_spans("entity_id", names, days, days), "entity_id").reshape(len(names), -1)

    def card_numbers(self, schedule: Schedule, days: TimeArray, before: np.timedelta64, *common: object) -> Numbers:
        """What the issues of each day, and of the days ``before`` it, read of cards and settings, shape (entities, days).

        Of what is dated, only that which applies then.
        """
        market, reach = schedule.calendar.market, schedule.reach
        longest = np.timedelta64(_LONGEST_GATE_DAYS, "D")
        for_all = [(since, until, [since, rules.model_dump(include=_GATES)]) for since, until, rules in spans(market.versions)]
        holidays = [np.datetime64(day, "us") for day in market.holidays]
        for_all += [(day - longest, day + DAY, ["holiday", day]) for day in holidays]
        dated = []
        for entity in schedule.entities:
            own = [(since, until, [since, used]) for since, until, used in spans(entity.neighbours)]
            for farm_id, capacity in entity.capacity.items():
                steps = list(zip(capacity.since, capacity.values.tolist(), strict=True))
                own += [(since, until, [farm_id, since, value]) for since, until, value in spans(steps)]
            dated += [(entity.id, *span) for span in (*for_all, *own)]
        asked = asked_spans("entity_id", [entity.id for entity in schedule.entities], days - before, days + DAY + reach)
        settings = [
            schedule.product.model_dump(include=_SOLD),
            self.parameters.model_dump(exclude={"families", "products"}),
            schedule.families,
            common,
        ]
        numbers = mixed(overlapping(_numbered(dated, "entity_id"), asked, "entity_id"), np.uint64(number_of(settings)))
        return numbers.reshape(len(schedule.entities), -1)

    # --- rows -------------------------------------------------------------------------------------------------------------

    def weather_of(self, schedule: Schedule, farms: Collection[str], issued_at: TimeArray) -> dict[str, dict[str, Runs]]:
        """Weather that some issues may read, by farm and model: of the leading point of each model that the product uses."""
        begin, end = issued_at.min().astype("datetime64[D]"), issued_at.max()
        spans = self.weather_spans
        read = spans[spans["farm_id"].isin(list(farms)) & (spans["first"] <= end) & (spans["last"] >= begin)]
        first, last = (read["day"].min(), read["day"].max()) if len(read) else (NO_DAY, NO_DAY)
        if isinstance(self.weather, pd.DataFrame):
            table = self.weather
        else:
            table = self.weather.frame(_WEATHER, first=first, last=last, ordered=False)
        table = table[table["farm_id"].isin(list(farms)) & (table["available_at"] <= pd.Timestamp(end, tz="UTC"))]
        by_farm = runs_of(self._usable(table, schedule), VALUES)
        return {farm_id: by_farm.get(farm_id, {}) for farm_id in farms}

    def first_run(self, schedule: Schedule, entity: Entity) -> pd.Timestamp | None:
        """When the first run of an entity arrived that its product may use; none: no run did. This looks at all history."""
        farms, columns = (
            list(entity.capacity),
            ["farm_id", "weather_model", "weather_point", "run_at", "available_at", "valid_at"],
        )
        if isinstance(self.weather, pd.DataFrame):
            table = self.weather.loc[self.weather["farm_id"].isin(farms), columns]
        else:
            rows = self.weather.table()
            table = rows.filter(rows["farm_id"].isin(farms)).select(columns).to_pandas()
        usable = self._usable(table.assign(**{name: pd.to_datetime(table[name], utc=True) for name in columns[3:]}), schedule)
        return first_arrival(runs_of(usable), entity)

    def _usable(self, weather: pd.DataFrame, schedule: Schedule) -> pd.DataFrame:
        allowed = schedule.product.weather_models
        usable = weather if allowed is None else weather[weather["weather_model"].isin(allowed)]
        return at_leading_points(usable, self.fleet.farms)

    def observations_of(self, schedule: Schedule, first: np.datetime64, last: np.datetime64) -> dict[str, pd.DataFrame]:
        """Observations of the days from ``first`` to ``last`` in the product's granularity, by entity."""
        table = frame_of(self.observations, first=pd.Timestamp(first).floor("D"), last=pd.Timestamp(last))
        table = table[table["granularity_minutes"] == schedule.product.granularity_minutes]
        table = table[table["available_at"] <= self.as_of.tz_localize("UTC")]
        found = {str(entity_id): rows for entity_id, rows in table.groupby("entity_id")}
        return {entity.id: found.get(entity.id, table.iloc[:0]) for entity in schedule.entities}


def first_arrival(weather: Mapping[str, Mapping[str, Runs]], entity: Entity) -> pd.Timestamp | None:
    """When the first run arrived that reaches into the time in which its farm has capacity, without zone; none: no run does.

    Args:
        weather: by farm and model.
        entity: whose farms' capacity counts.
    """
    found = []
    for farm_id, of_models in weather.items():
        for runs in of_models.values():
            there = entity.capacity[farm_id].at(runs.valid_at) > 0
            found.append(runs.available_at[there])
    times = np.concatenate(found) if found else np.zeros(0)
    return pd.Timestamp(times.min()) if len(times) else None


def _shards(table: Derived | pd.DataFrame, name: str, time: str) -> pd.DataFrame:
    """One row per shard with rows: ``name``, ``day``, ``first_at``, ``last_at``, ``last_valid_at`` (naive), ``number``."""
    days = days_of(table, [name], time)
    if isinstance(table, pd.DataFrame):
        rows = table.assign(day=table[time].dt.tz_localize(None).dt.floor("D").astype("datetime64[us]"))
        aggregates = {
            "first_at": ("available_at", "min"),
            "last_at": ("available_at", "max"),
            "last_valid_at": ("valid_at", "max"),
        }
        days = days.merge(rows.groupby([name, "day"], as_index=False).agg(**aggregates), on=[name, "day"])
    days = days[days["rows"] > 0]
    times = {column: _naive(days[column]) for column in ("first_at", "last_at", "last_valid_at") if column in days}
    found: pd.DataFrame = days[[name, "day"]].assign(**times, number=mixed(days["digest"], days["day"]))
    return found


def _naive(times: pd.Series) -> pd.Series:
    return pd.to_datetime(times, utc=True).dt.tz_localize(None).astype("datetime64[us]")


def asked_spans(key: str, names: Sequence[str], first: TimeArray, last: TimeArray) -> pd.DataFrame:
    """Spans of time of each name, name by name; see `overlapping`."""
    return pd.DataFrame(
        {
            key: np.repeat(np.array(names, dtype=object), len(first)),
            "first": np.tile(first.astype("datetime64[us]"), len(names)),
            "last": np.tile(last.astype("datetime64[us]"), len(names)),
        }
    )


def _numbered(named: Sequence[tuple[str, np.datetime64, np.datetime64, object]], key: str) -> pd.DataFrame:
    """Spans with a number each: name, begin, exclusive end, and what the number identifies."""
    rows = [
        (name, since, min(until, FAR_FUTURE) - np.timedelta64(1, "us"), number_of(value)) for name, since, until, value in named
    ]
    names, first, last, numbers = zip(*rows, strict=True) if rows else ((), (), (), ())
    times = {"first": np.array(first, dtype="datetime64[us]"), "last": np.array(last, dtype="datetime64[us]")}
    return pd.DataFrame({key: np.array(names, dtype=object), **times, "number": np.array(numbers, dtype=np.uint64)})


# --- work by farm and by entity -----------------------------------------------------------------------------------------


def at_points(
    read: Callable[[Mapping[str, Runs], Grid, FeatureParameters], ResultT],
    weather: Mapping[str, Mapping[str, Runs]],
    grid: Grid,
    parameters: FeatureParameters,
    workers: Workers,
) -> Mapped[str, ResultT]:
    """What ``read`` gives at the point of each farm: once a farm, not once per entity that looks at it."""
    tasks = {farm_id: (of_models, grid, parameters) for farm_id, of_models in weather.items()}
    return map_farms(read, tasks, workers=enough(workers, grid.valid_at.size * len(tasks)), label="wind at farms")


def enough(workers: Workers, intervals: int) -> Workers:
    """The workers, or one where so few intervals are computed that starting processes would cost more than they save."""
    return workers if intervals >= _WORTH_PROCESSES else workers.inline()


def first_reason(mapped: Mapped[str, ResultT], entity: Entity) -> str:
    """Why a farm that an entity looks at could not be read; empty: all could."""
    return next((mapped.failures[farm_id] for farm_id in entity.farms if farm_id in mapped.failures), "")


def wanted_of(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The shards of several tables: `KEY`, ``day``, ``rows`` and ``fingerprint``."""
    types = dict.fromkeys(KEY, "str") | {"day": "datetime64[us]", "rows": "int64", "fingerprint": "uint64"}
    return rows_of(tables).reindex(columns=list(types)).astype(types)


def rows_of(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tables; an empty table of none."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
