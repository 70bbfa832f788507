"""Farms, their turbines, and groups of farms."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import BeforeValidator, Field, field_validator, model_validator

from wind_kedro.cards.base import Card, Identifier, Minutes, Positive, TimeZone, _each_once, refuse
from wind_kedro.cards.dated import FAR_FUTURE, FAR_PAST, Dated, Steps, spans, utc
from wind_kedro.cards.sources import SignalSource, WeatherSource
from wind_kedro.cards.units import great_circle_km

if TYPE_CHECKING:
    import pandas as pd


class Turbine(Dated):
    """One wind turbine; with a period, it stands only in it."""

    id: str
    named: str | None = Field(None, description="its name in the data; none: its id. For one that takes over the name of another")
    rated_power_kw: Positive
    hub_height_m: Positive
    type: str | None = Field(None, description="its name in windpowerlib's library of power curves, such as MM92/2050")
    rotor_diameter_m: Positive | None = None
    latitude_deg: float | None = Field(None, ge=-90, le=90)
    longitude_deg: float | None = Field(None, ge=-180, le=180)

    @property
    def name_in_data(self) -> str:
        """Its name in signals."""
        return self.id if self.named is None else self.named


class Farm(Dated):
    """One wind farm: what it is, and where its signals and weather come from.

    Its own period is that in which features of other farms use its weather; its observations and forecasts follow from its
    turbines.
    """

    id: Identifier
    name: str
    latitude_deg: float | None = Field(None, ge=-90, le=90, description="none: where it stands is not published")
    longitude_deg: float | None = Field(None, ge=-180, le=180)
    time_zone: TimeZone
    capacity_kw: Positive = Field(description="of the turbines that stand at first; turbines that come or go later change it")
    turbines: list[Turbine] = Field(min_length=1)
    attribution: str | None = Field(None, description="the credit that the data's licence asks for wherever it is shown")
    latency_minutes: Minutes = Field(description="from the end of an interval until its signals can be read")
    signals: SignalSource
    weather: list[WeatherSource] = Field(
        description="none ([]): the farm's data can be looked at, its clock is not checked, and it cannot be forecast by weather"
    )

    @model_validator(mode="after")
    def _capacity_is_the_turbines(self) -> Self:
        rated = _rated_kw(self._first_turbines)
        # One per cent: nameplates are rounded; more is a missing turbine or a wrong unit.
        wrong_capacity = abs(rated - self.capacity_kw) > 0.01 * rated
        names = {turbine.name_in_data for turbine in self.turbines}
        # Few farms have a name twice, and a farm may have hundreds of turbines.
        namesakes = len(names) < len(self.turbines) and any(
            one.name_in_data == other.name_in_data and self._overlap(one, other) for one, other in combinations(self.turbines, 2)
        )
        first = " of the first day" if any(turbine.dated for turbine in self.turbines) else ""
        unplaced = self.place is None and any(source.is_grid and source.latitude_deg is None for source in self.weather)
        points = {(source.model, source.point) for source in self.weather}
        many = self.signals.one_turbine and len(names) > 1
        refuse(
            (wrong_capacity, f"capacity_kw: {self.capacity_kw:g} kW, but its turbines{first} add up to {rated:g} kW"),
            (len({turbine.id for turbine in self.turbines}) < len(self.turbines), "turbines: an id appears twice"),
            (namesakes, "turbines: two have the same name in the data at the same time; give valid_from and valid_until"),
            ((self.latitude_deg is None) != (self.longitude_deg is None), "latitude_deg, longitude_deg: give both or none"),
            (unplaced, "latitude_deg, longitude_deg: needed to read a grid, here or in `weather`"),
            (len(points) < len(self.weather), "weather: a model appears twice; give each of its points a name (`point`)"),
            (many, "signals.turbine: its rows name no turbine, so the card may have only one, such as the farm's meter"),
        )
        return self

    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude, degrees; none: not published."""
        if self.latitude_deg is None or self.longitude_deg is None:
            return None
        return self.latitude_deg, self.longitude_deg

    def distance_km(self, other: Farm) -> float | None:
        """Great-circle distance to another farm, kilometres; none where a place is not known."""
        if self.place is None or other.place is None:
            return None
        return float(great_circle_km(*self.place, *other.place))

    @property
    def hub_height_m(self) -> float:
        """Mean hub height of the turbines, metres; NaN of none."""
        return sum(turbine.hub_height_m for turbine in self.turbines) / len(self.turbines) if self.turbines else np.nan

    @property
    def changes_at(self) -> list[np.datetime64]:
        """Times, UTC without zone, at which a turbine or a weather source comes or goes; rising."""
        parts: list[Dated] = [*self.turbines, *self.weather]
        times = {time for part in parts if part.dated for time in part.period(self.time_zone)}
        return sorted(times - {FAR_PAST, FAR_FUTURE})

    @property
    def versions(self) -> list[tuple[np.datetime64, Farm]]:
        """The farm as its turbines and weather sources make it: from when on, UTC, each without dates of these.

        The first applies from the beginning of time. A version may have no turbines; its capacity is 0 kW then.
        """
        times = self.changes_at
        return [(time, self._at(time)) for time in (FAR_PAST, *times)] if times else [(FAR_PAST, self)]

    @property
    def hub_heights(self) -> Steps:
        """Mean hub height of the turbines by time, metres; while none stand, that of those before, or of the first ones."""
        versions = self.versions
        heights = np.array([farm.hub_height_m for _, farm in versions])
        known = np.flatnonzero(~np.isnan(heights))
        newest = np.maximum(np.searchsorted(known, np.arange(len(heights)), side="right") - 1, 0)
        return Steps(np.array([since for since, _ in versions]), heights[known[newest]])

    def at(self, time: dt.datetime) -> Farm:
        """The farm at a time: the turbines that stand and their capacity, the weather sources in use."""
        return self._at(utc(time)) if self.changes_at else self

    def _at(self, time: np.datetime64) -> Farm:
        turbines = self._standing(time)
        # The nameplate of a farm may differ from the sum of its turbines by rounding.
        added_kw = _rated_kw(turbines) - _rated_kw(self._first_turbines)
        undated = {"valid_from": None, "valid_until": None}
        return self.model_copy(
            update={
                "capacity_kw": self.capacity_kw + added_kw if turbines else 0.0,
                "turbines": [turbine.model_copy(update=undated) for turbine in turbines],
                "weather": [source.model_copy(update=undated) for source in self.weather if self._applies(source, time)],
            }
        )

    def _applies(self, part: Dated, time: np.datetime64) -> bool:
        begin, end = part.period(self.time_zone)
        return bool(begin <= time < end)

    def _overlap(self, one: Dated, other: Dated) -> bool:
        (begin, end), (other_begin, other_end) = one.period(self.time_zone), other.period(self.time_zone)
        return bool(begin < other_end and other_begin < end)

    def _standing(self, time: np.datetime64) -> list[Turbine]:
        return [turbine for turbine in self.turbines if self._applies(turbine, time)]

    @property
    def _first_turbines(self) -> list[Turbine]:
        """The turbines that stand when there first are any."""
        return self._standing(min(turbine.period(self.time_zone)[0] for turbine in self.turbines))

    @property
    def leading_points(self) -> dict[str, str]:
        """The point that stands for each weather model: the first on the card."""
        return {source.model: source.point for source in reversed(self.weather)}

    @property
    def perfect_weather(self) -> bool:
        """Whether any of its weather was never a forecast, so that scores made from it are an upper bound."""
        return any(source.kind == "analysis" for source in self.weather)


def _rated_kw(turbines: Iterable[Turbine]) -> float:
    return sum(turbine.rated_power_kw for turbine in turbines)


class GroupFarm(Dated):
    """A farm of a group; with a period, it belongs to the group only in it."""

    farm: Identifier


def _as_group_farm(given: Any) -> Any:
    return {"farm": given} if isinstance(given, str) else given


class Group(Card):
    """Several farms sold as one."""

    id: Identifier
    name: str
    farms: list[Annotated[GroupFarm, BeforeValidator(_as_group_farm)]] = Field(
        min_length=1, description="identifiers, or {farm, valid_from, valid_until} of a farm that joins or leaves"
    )

    @field_validator("farms")
    @classmethod
    def _once(cls, farms: list[GroupFarm]) -> list[GroupFarm]:
        _each_once([member.farm for member in farms])
        return farms

    @property
    def dated(self) -> bool:
        """Whether any of its farms joins or leaves."""
        return any(member.dated for member in self.farms)

    @property
    def farm_ids(self) -> list[str]:
        """Identifiers of all farms that belong to it at any time."""
        return [member.farm for member in self.farms]


def at_leading_points(weather: pd.DataFrame, farms: Iterable[Farm]) -> pd.DataFrame:
    """The weather at one point of each model of each farm: the first on its card. What reads one point of a model uses it.

    Args:
        weather: contract `Weather`.
        farms: their cards. A model that is on none of them has no other point, and stays.

    Returns:
        The rows that remain, in their order.
    """
    import pandas as pd

    others: dict[tuple[np.datetime64, np.datetime64], list[tuple[str, str, str]]] = {}
    for farm in farms:
        for since, until, version in spans(farm.versions):
            leading = version.leading_points
            later = [(farm.id, source.model, source.point) for source in version.weather if source.point != leading[source.model]]
            if later:
                others.setdefault((since, until), []).extend(later)
    if not others:
        return weather
    found = pd.MultiIndex.from_frame(weather[["farm_id", "weather_model", "weather_point"]])
    run_at = weather["run_at"].dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    drop = np.zeros(len(weather), dtype=bool)
    for (since, until), keys in others.items():
        drop |= found.isin(keys) & (run_at >= since) & (run_at < until)
    return weather[~drop]
