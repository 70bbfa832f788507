"""Farms, their turbines, and groups of farms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from wind_kedro.cards.base import Card, Identifier, Minutes, Positive, TimeZone, _each_once, refuse
from wind_kedro.cards.sources import SignalSource, WeatherSource
from wind_kedro.cards.units import great_circle_km

if TYPE_CHECKING:
    import pandas as pd


class Turbine(Card):
    """One wind turbine."""

    id: str
    rated_power_kw: Positive
    hub_height_m: Positive
    type: str | None = Field(None, description="its name in windpowerlib's library of power curves, such as MM92/2050")
    rotor_diameter_m: Positive | None = None
    latitude_deg: float | None = Field(None, ge=-90, le=90)
    longitude_deg: float | None = Field(None, ge=-180, le=180)


class Farm(Card):
    """One wind farm: what it is, and where its signals and weather come from."""

    id: Identifier
    name: str
    latitude_deg: float | None = Field(None, ge=-90, le=90, description="none: where it stands is not published")
    longitude_deg: float | None = Field(None, ge=-180, le=180)
    time_zone: TimeZone
    capacity_kw: Positive
    turbines: list[Turbine] = Field(min_length=1)
    attribution: str | None = Field(None, description="the credit that the data's licence asks for wherever it is shown")
    latency_minutes: Minutes = Field(description="from the end of an interval until its signals can be read")
    signals: SignalSource
    weather: list[WeatherSource] = Field(
        description="none ([]): the farm's data can be looked at, its clock is not checked, and it cannot be forecast by weather"
    )

    @model_validator(mode="after")
    def _capacity_is_the_turbines(self) -> Self:
        rated = sum(turbine.rated_power_kw for turbine in self.turbines)
        # One per cent: nameplates are rounded; more is a missing turbine or a wrong unit.
        wrong_capacity = abs(rated - self.capacity_kw) > 0.01 * rated
        unplaced = self.place is None and any(source.is_grid and source.latitude_deg is None for source in self.weather)
        points = {(source.model, source.point) for source in self.weather}
        many = self.signals.one_turbine and len(self.turbines) > 1
        refuse(
            (wrong_capacity, f"capacity_kw: {self.capacity_kw:g} kW, but its turbines add up to {rated:g} kW"),
            (len({turbine.id for turbine in self.turbines}) < len(self.turbines), "turbines: an id appears twice"),
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
        """Mean hub height of the turbines, metres."""
        return sum(turbine.hub_height_m for turbine in self.turbines) / len(self.turbines)

    @property
    def leading_points(self) -> dict[str, str]:
        """The point that stands for each weather model: the first on the card."""
        return {source.model: source.point for source in reversed(self.weather)}

    @property
    def perfect_weather(self) -> bool:
        """Whether any of its weather was never a forecast, so that scores made from it are an upper bound."""
        return any(source.kind == "analysis" for source in self.weather)


class Group(Card):
    """Several farms sold as one."""

    id: Identifier
    name: str
    farms: Annotated[list[Identifier], AfterValidator(_each_once)] = Field(min_length=1)


def at_leading_points(weather: pd.DataFrame, farms: Iterable[Farm]) -> pd.DataFrame:
    """The weather at one point of each model of each farm: the first on its card. What reads one point of a model uses it.

    Args:
        weather: contract `Weather`.
        farms: their cards. A model that is on none of them has no other point, and stays.

    Returns:
        The rows that remain, in their order.
    """
    import pandas as pd

    others = [
        (farm.id, source.model, source.point)
        for farm in farms
        for source in farm.weather
        if source.point != farm.leading_points[source.model]
    ]
    if not others:
        return weather
    found = pd.MultiIndex.from_frame(weather[["farm_id", "weather_model", "weather_point"]])
    return weather[~found.isin(others)]
