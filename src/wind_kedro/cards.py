"""The cards: what is forecast, for whom, by which rules, from which data.

A card is a row of ``conf/<env>/farms.yml``, ``markets.yml`` or ``products.yml``. Together they are the `Fleet`, the one typed
parameter that nodes take. Everything is checked when it is read; a bad card stops the run before any data is touched, with
a `CardError` that names the file, the card and the field.

Units are in the names: ``_kw`` kilowatts, ``_m`` metres, ``_minutes``, ``_deg`` degrees, ``_share`` a share of capacity in 0..1.
Times are UTC; ``time_zone`` is the IANA name of the zone in which a local clock or calendar is read.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from wind_kedro.errors import WindKedroError, shown


class CardError(WindKedroError):
    """A card is wrong. The message is one line per fault: file, card, field, what is wrong."""


#: Most characters of an identifier: with what is added to it, it must fit into a file name.
MAX_IDENTIFIER = 100
#: Most bytes of a file name, on every file system that is in use.
MAX_FILE_NAME_BYTES = 255
#: Most characters of any text on a card; the longest of the cards that are known, a list of rows in `where`, has 60.
MAX_TEXT = 1000


def _identifier(value: str) -> str:
    # Identifiers become file names, MLflow tags and YAML keys: what is safe in all of them.
    if not re.fullmatch(rf"[a-z0-9][a-z0-9_]{{0,{MAX_IDENTIFIER - 1}}}", value):
        raise ValueError(
            f"'{shown(value)}' is not an identifier: use lower case letters, digits and underscores, at most {MAX_IDENTIFIER}"
        )
    return value


def _file_path(value: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", value):
        raise ValueError(f"'{shown(value)}' is on another machine: let a feed land it (docs/how-to/bring-data-in.md)")
    if value.startswith(("/", "~")):
        raise ValueError(f"'{shown(value)}' is absolute: write it relative to the raw folder, or put a link there")
    if not value.strip() or any(len(part.encode()) > MAX_FILE_NAME_BYTES for part in value.split("/")):
        raise ValueError(f"'{shown(value)}' is no path: give 1 to {MAX_FILE_NAME_BYTES} bytes between slashes")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    # A folder of the database (Europe) and a name that is too long are errors of the operating system.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"'{shown(value)}' is not an IANA time zone (for example Europe/Paris)") from error
    return value


def _each_once(values: list[str]) -> list[str]:
    # Twice would count a farm's capacity twice, or issue its forecast twice.
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"'{value}' appears twice")
    return values


Identifier = Annotated[str, AfterValidator(_identifier)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Minutes = Annotated[int, Field(ge=0)]


class Card(BaseModel):
    """What every card has in common: unknown fields are mistakes, and a card never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        if isinstance(value, str):
            if len(value) > MAX_TEXT:
                raise ValueError(f"'{shown(value)}' has {len(value):,} characters; at most {MAX_TEXT:,} are read")
            if not value.isprintable() and value != "\t":  # a separator
                raise ValueError(f"'{shown(value)}' has a character that cannot be printed, such as a line break")
        return value


# --- farms -----------------------------------------------------------------------------------------------------------


class Turbine(Card):
    """One wind turbine."""

    id: str
    rated_power_kw: Positive
    hub_height_m: Positive
    type: str | None = Field(None, description="its name in windpowerlib's library of power curves, such as MM92/2050")
    rotor_diameter_m: Positive | None = None
    latitude_deg: float | None = Field(None, ge=-90, le=90)
    longitude_deg: float | None = Field(None, ge=-180, le=180)


#: The signals a farm may send, with the unit in which the house keeps them.
SIGNAL_UNITS: Mapping[str, str] = {
    "power_kw": "kW",
    "wind_speed_ms": "m/s",
    "wind_direction_deg": "deg",
    "temperature_c": "degC",
    "pitch_deg": "deg",
}
#: Heights above ground at which a source may give wind, metres.
WIND_HEIGHTS_M = (10, 50, 80, 100, 120, 150, 200)
#: Mean radius of the Earth, km (IUGG).
EARTH_RADIUS_KM = 6371.0
#: What is known of the weather, at whatever height, with the unit in which the house keeps it.
QUANTITY_UNITS: Mapping[str, str] = {
    "wind_speed_ms": "m/s",
    "wind_direction_deg": "deg",
    "wind_u_ms": "m/s",
    "wind_v_ms": "m/s",
    "temperature_c": "degC",
    "pressure_pa": "Pa",
    "air_density_kgm3": "kg/m3",
}
#: The weather variables a run may carry, with the quantity that each is: wind at every height, the rest once.
WEATHER_QUANTITIES: Mapping[str, str] = {
    **{
        f"{stem}_{height}m_{unit}": f"{stem}_{unit}"
        for height in WIND_HEIGHTS_M
        for stem, unit in (("wind_speed", "ms"), ("wind_direction", "deg"), ("wind_u", "ms"), ("wind_v", "ms"))
    },
    "temperature_c": "temperature_c",
    "pressure_pa": "pressure_pa",
    "air_density_kgm3": "air_density_kgm3",
}
#: The weather variables a run may carry, with the unit in which the house keeps them.
WEATHER_UNITS: Mapping[str, str] = {name: QUANTITY_UNITS[quantity] for name, quantity in WEATHER_QUANTITIES.items()}
#: Unit of a signal that is given as a share of the rated power of its turbine (of a meter: of the farm's capacity).
SHARE = "share"
#: How many intervals an hour has.
_PER_HOUR = {"1min": 60, "5min": 12, "10min": 6, "15min": 4, "30min": 2, "h": 1}
#: Factor and offset that bring a source's unit to the house's: house = source * factor + offset.
UNIT_CONVERSIONS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("kW", "kW"): (1.0, 0.0),
    ("MW", "kW"): (1000.0, 0.0),
    ("W", "kW"): (0.001, 0.0),
    ("GW", "kW"): (1e6, 0.0),
    # Of rated power: a share times what is rated, turbine by turbine, which is not known here.
    (SHARE, "kW"): (1.0, 0.0),
    # Energy of one interval: its mean power.
    **{(f"kWh/{per}", "kW"): (float(count), 0.0) for per, count in _PER_HOUR.items()},
    **{(f"MWh/{per}", "kW"): (1000.0 * count, 0.0) for per, count in _PER_HOUR.items()},
    ("m/s", "m/s"): (1.0, 0.0),
    ("km/h", "m/s"): (1 / 3.6, 0.0),
    ("kn", "m/s"): (1852 / 3600, 0.0),
    ("mph", "m/s"): (0.44704, 0.0),
    ("deg", "deg"): (1.0, 0.0),
    ("rad", "deg"): (57.29577951308232, 0.0),
    ("degC", "degC"): (1.0, 0.0),
    ("K", "degC"): (1.0, -273.15),
    ("degF", "degC"): (5 / 9, -160 / 9),
    ("Pa", "Pa"): (1.0, 0.0),
    ("hPa", "Pa"): (100.0, 0.0),
    ("kg/m3", "kg/m3"): (1.0, 0.0),
}


class SourceColumn(Card):
    """One column of a source: its name there and its unit there."""

    name: str
    unit: str


class Source(Card):
    """Where a table comes from and how its columns are called there."""

    path: Annotated[str, AfterValidator(_file_path)] = Field(
        description="file or glob, relative to the raw folder of the environment"
    )
    format: Literal["csv", "parquet", "excel"] = "csv"
    separator: str = Field(",", min_length=1, max_length=1)
    encoding: Literal["utf-8", "latin-1", "cp1252", "cp1250", "utf-16"] = Field(
        "utf-8", description="a byte order mark is read with either UTF"
    )
    sheet: str | None = Field(None, description="excel: the sheet's name; without it, the first")
    decimal: Literal[".", ","] = Field(".", description="what stands before the decimals of a number")
    thousands: Literal[".", ",", " ", "'"] | None = Field(None, description="what groups the digits of a number")
    skip_rows: int = Field(0, ge=0, description="lines above the header, such as a title")
    units_rows: int = Field(0, ge=0, description="lines between the header and the first row, such as the units")
    footer_rows: int = Field(
        0, ge=0, description="lines at the end that are no rows, such as a sum; blank ones do not count"
    )
    comment: str | None = Field(None, min_length=1, description="a line that begins with this is no row")
    stamp_format: str | None = Field(
        None,
        description="how stamps are written, in the words of strptime ('%d.%m.%Y %H:%M'), or excel, epoch_seconds, "
        "epoch_milliseconds; without it: ISO 8601. A zone behind it (Z, +01:00, CET) is read as it stands",
    )
    where: dict[str, str] = Field(
        default_factory=dict,
        description="which rows are meant, of a file that holds those of several farms: columns, and what stands there",
    )

    @field_validator("where", mode="before")
    @classmethod
    def _as_text(cls, where: Any) -> Any:
        # YAML reads `ZONE: 1` as a number; in a file it is text like all else.
        if isinstance(where, Mapping):
            return {name: str(value) if isinstance(value, int) else value for name, value in where.items()}
        return where


#: In a name: stands for the turbine's identifier.
TURBINE = "{turbine}"
#: What `received_at` says where a feed's folder, and no column, knows when the rows came.
LANDED_AT = "landed_at"


class SignalSource(Source):
    """Turbine signals: a row per turbine and stamp (``table``), per stamp (``wide``), or per value (``long``)."""

    layout: Literal["table", "wide", "long"] = Field(
        "table",
        description="wide: a column per turbine and signal, `columns` name them with {turbine}; "
        "long: a row per value, `columns` name what stands in the column `signal`",
    )
    timestamp: str = Field(description="the column of time stamps; [Date, Time] where they are two columns")
    time_of_day: str | None = Field(None, description="the column of the time, where `timestamp` is that of the date")
    turbine: str | None = Field(
        None, description="the column of turbine identifiers; none: {turbine} is in another name, or there is but one"
    )
    turbine_in_file: str | None = Field(
        None, description="one file per turbine: its name with {turbine} and *, such as 'WTG_{turbine}_*.csv'"
    )
    signal: str | None = Field(None, description="long: the column of the names of signals")
    value: str | None = Field(None, description="long: the column of values")
    quality: str | None = Field(None, description="long: the column that says whether a value is good")
    good_quality: list[str] = Field(
        default_factory=list, description="long: what it says then; all others are no value"
    )
    received_at: str | None = Field(
        None,
        description="the column that says when a row arrived, or landed_at for a feed's folders; without it, latency does",
    )
    columns: dict[str, SourceColumn]
    cadence_seconds: int = Field(gt=0, le=86_400, description="from one row of a turbine to its next")
    stamps: Literal["interval_start", "interval_end"] = "interval_start"
    clock_ahead_minutes: int = Field(
        0, ge=-1440, le=1440, description="stamps are so far ahead of the time that they mean; negative: behind"
    )
    clock: Literal["as_stamped", "wall_clock_is_utc", "wall_clock_is_local"] = Field(
        "as_stamped",
        description="the assumption on how stamps are meant: honour their offset (none given: UTC), strip the offset and read "
        "UTC, or strip it and read the farm's time zone. The pipeline checks it against the weather and says if it is wrong",
    )
    sentinels: dict[str, list[float]] = Field(
        default_factory=dict, description="values that mean 'missing', per signal"
    )

    @property
    def cadence(self) -> dt.timedelta:
        """From one row of a turbine to its next, and the length of the interval a row is about."""
        return dt.timedelta(seconds=self.cadence_seconds)

    @property
    def one_turbine(self) -> bool:
        """Whether nothing in its rows or its files names a turbine: then they are all about the card's only one."""
        return self.turbine is None and self.turbine_in_file is None and not self.named_by_turbine

    @property
    def named_by_turbine(self) -> bool:
        """Whether the names of columns, or of signals, hold the turbine's identifier."""
        return any(TURBINE in column.name for column in self.columns.values())

    @model_validator(mode="before")
    @classmethod
    def _date_and_time(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("timestamp"), list | tuple):
            if len(data["timestamp"]) != 2:  # noqa: PLR2004 - a date and a time
                raise ValueError("timestamp: give one column, or two: that of the date and that of the time")
            date, time = data["timestamp"]
            return {**data, "timestamp": date, "time_of_day": time}
        return data

    @model_validator(mode="after")
    def _layout_is_complete(self) -> Self:
        if self.layout == "long" and (self.signal is None or self.value is None):
            raise ValueError("layout: long needs `signal` and `value`, the columns of names and of values")
        if self.layout != "long" and (self.signal or self.value or self.quality):
            raise ValueError("signal, value, quality: only of a long layout")
        if (self.quality is None) != (not self.good_quality):
            raise ValueError("quality: give with it good_quality, what the column says of a good value")
        if self.layout == "wide" and not all(TURBINE in column.name for column in self.columns.values()):
            raise ValueError("columns: in a wide layout every name holds {turbine}, such as '{turbine}_ActivePower'")
        if self.layout == "table" and self.named_by_turbine:
            raise ValueError("columns: {turbine} in a name needs layout: wide or long")
        if self.turbine_in_file is not None and TURBINE not in self.turbine_in_file:
            raise ValueError("turbine_in_file: needs {turbine}, such as 'WTG_{turbine}_*.csv'")
        if sum([self.turbine is not None, self.turbine_in_file is not None, self.named_by_turbine]) > 1:
            raise ValueError("turbine: give one of turbine, turbine_in_file, and {turbine} in the names of columns")
        return self

    @model_validator(mode="after")
    def _stays_on_the_grid(self) -> Self:
        if self.clock_ahead_minutes * 60 % self.cadence_seconds:
            raise ValueError(f"clock_ahead_minutes: not a multiple of the {self.cadence_seconds} seconds between rows")
        return self

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        _check_columns(self.columns, SIGNAL_UNITS)
        if "power_kw" not in self.columns:
            raise ValueError("columns: power_kw is needed: without it there is nothing to forecast")
        for name in self.sentinels:
            if name not in SIGNAL_UNITS:
                raise ValueError(f"sentinels.{name}: unknown; known are {', '.join(SIGNAL_UNITS)}")
        return self


class WeatherColumn(SourceColumn):
    """One variable of a weather source: a column of a table, or a variable of a grid and, there, its level."""

    level: float | None = Field(None, gt=0, description="grids: height above ground of the level to read, m")


#: Formats whose files hold fields on a grid, of which the points of farms are read.
GRID_FORMATS = ("grib", "netcdf", "zarr")


class WeatherSource(Source):
    """Weather of one model at one point: one row per run and valid time, or per valid time if it is an analysis."""

    model: Identifier = Field(description="name of the weather model")
    point: Identifier = Field("site", description="name of the point; several points of one model are several sources")
    latitude_deg: float | None = Field(None, ge=-90, le=90, description="of the point; without it, the farm's")
    longitude_deg: float | None = Field(None, ge=-180, le=180, description="of the point; without it, the farm's")
    format: Literal["csv", "parquet", "excel", "grib", "netcdf", "zarr"] = "csv"  # type: ignore[assignment] # tables and grids
    kind: Literal["forecast", "analysis"] = Field(
        description="'analysis' enters as pseudo-runs and every score made from it is labelled 'perfect weather'"
    )
    valid_at: str | None = Field(
        None, description="the column of valid times; a grid's coordinate of them, where conventions do not tell it"
    )
    run_at: str | None = Field(
        None, description="the column of run times; a grid's coordinate of them, where conventions do not tell it"
    )
    available_at: str | None = Field(
        None,
        description="the column (of a grid: coordinate) that says when the row could be read, or landed_at for a feed's "
        "folders; without it, delay_minutes does",
    )
    first_step_minutes: int | None = Field(
        None,
        ge=0,
        description="a table without run times that is stitched together of runs: how far after its initialisation a run's "
        "first row is valid; the next run takes over run_every_minutes later",
    )
    delay_minutes: Minutes = Field(description="from a run's initialisation until it can be read")
    run_every_minutes: int = Field(
        1440, gt=0, description="how often the model runs (pseudo-runs too), counted from 00 UTC"
    )
    length_hours: int = Field(gt=0, description="how far ahead a run reaches")
    granularity_minutes: int = Field(60, gt=0)
    interpolation: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="grids: from the four nodes around the point, or its nearest node"
    )
    member: int | None = Field(None, ge=0, description="grids: the member of an ensemble to read")
    columns: dict[str, WeatherColumn]

    @property
    def is_grid(self) -> bool:
        """Whether its files hold fields on a grid."""
        return self.format in GRID_FORMATS

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        _check_columns(self.columns, WEATHER_UNITS)
        if (self.latitude_deg is None) != (self.longitude_deg is None):
            raise ValueError("latitude_deg, longitude_deg: give both or none")
        if not self.is_grid:
            if self.valid_at is None:
                raise ValueError("valid_at: a table needs the column of its valid times")
            if self.kind == "forecast" and (self.run_at is None) == (self.first_step_minutes is None):
                raise ValueError(
                    "run_at: a forecast needs the column of its run times or, without one, first_step_minutes"
                )
            if self.member is not None or any(column.level is not None for column in self.columns.values()):
                raise ValueError(f"member, columns.level: only of grids ({', '.join(GRID_FORMATS)})")
        elif self.where or self.first_step_minutes is not None:
            raise ValueError(f"where, first_step_minutes: only of tables, not of grids ({', '.join(GRID_FORMATS)})")
        if self.kind == "analysis" and self.first_step_minutes is not None:
            raise ValueError("first_step_minutes: only of forecasts; an analysis enters as pseudo-runs")
        if not any(self._has_wind(height) for height in WIND_HEIGHTS_M):
            raise ValueError(
                "columns: give wind_speed_100m_ms, or both wind_u_100m_ms and wind_v_100m_ms, or the same at another height: "
                + ", ".join(map(str, WIND_HEIGHTS_M))
            )
        return self

    def _has_wind(self, height: int) -> bool:
        components = {f"wind_u_{height}m_ms", f"wind_v_{height}m_ms"}
        return f"wind_speed_{height}m_ms" in self.columns or components <= set(self.columns)


def _check_columns(columns: Mapping[str, SourceColumn], units: Mapping[str, str]) -> None:
    for name, column in columns.items():
        if name not in units:
            raise ValueError(f"columns.{name}: unknown; known are {', '.join(units)}")
        if (column.unit, units[name]) not in UNIT_CONVERSIONS:
            known = ", ".join(source for source, house in UNIT_CONVERSIONS if house == units[name])
            raise ValueError(f"columns.{name}.unit: '{column.unit}' is not a unit of it; known are {known}")


class Farm(Card):
    """One wind farm: what it is, and where its signals and weather come from."""

    id: Identifier
    name: str
    latitude_deg: float | None = Field(None, ge=-90, le=90, description="none: where it stands is not published")
    longitude_deg: float | None = Field(None, ge=-180, le=180)
    time_zone: TimeZone
    capacity_kw: Positive
    turbines: list[Turbine] = Field(min_length=1)
    attribution: str | None = Field(None, description="what must be said wherever the data is shown")
    latency_minutes: Minutes = Field(description="from the end of an interval until its signals can be read")
    signals: SignalSource
    weather: list[WeatherSource] = Field(
        description="none ([]): the farm's data can be looked at, its clock is not checked, and it cannot be forecast by weather"
    )

    @model_validator(mode="after")
    def _capacity_is_the_turbines(self) -> Self:
        rated = sum(turbine.rated_power_kw for turbine in self.turbines)
        # One per cent: nameplates are rounded; more is a missing turbine or a wrong unit.
        if abs(rated - self.capacity_kw) > 0.01 * rated:
            raise ValueError(f"capacity_kw: {self.capacity_kw:g} kW, but its turbines add up to {rated:g} kW")
        if len({turbine.id for turbine in self.turbines}) < len(self.turbines):
            raise ValueError("turbines: an id appears twice")
        if (self.latitude_deg is None) != (self.longitude_deg is None):
            raise ValueError("latitude_deg, longitude_deg: give both or none")
        if self.place is None and any(source.is_grid and source.latitude_deg is None for source in self.weather):
            raise ValueError("latitude_deg, longitude_deg: needed to read a grid, here or in `weather`")
        if len({(source.model, source.point) for source in self.weather}) < len(self.weather):
            raise ValueError("weather: a model appears twice; give each of its points a name (`point`)")
        if self.signals.one_turbine and len(self.turbines) > 1:
            raise ValueError(
                "signals.turbine: its rows name no turbine, so the card may have only one, such as the farm's meter"
            )
        return self

    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude, degrees; none: not published."""
        if self.latitude_deg is None or self.longitude_deg is None:
            return None
        return self.latitude_deg, self.longitude_deg

    def distance_km(self, other: Farm) -> float | None:
        """Great-circle distance to another farm, kilometres (haversine); none where a place is not known."""
        if self.place is None or other.place is None:
            return None
        (from_north, from_east), (to_north, to_east) = (map(math.radians, place) for place in (self.place, other.place))
        half = math.sin((to_north - from_north) / 2) ** 2
        half += math.cos(from_north) * math.cos(to_north) * math.sin((to_east - from_east) / 2) ** 2
        return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(half, 1.0)))

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


# --- markets ---------------------------------------------------------------------------------------------------------


class Band(Card):
    """A step of a deviation charge: up to this share of available capacity, this rate (per MWh of deviation inside the step)."""

    up_to_share: float = Field(gt=0)
    rate_per_mwh: float = Field(ge=0)


class Penalty(Card):
    """What a deviation from the forecast costs, per MWh.

    ``imbalance``: a shortfall (produced less than sold) costs ``short_per_mwh``, a surplus ``long_per_mwh``.
    ``bands``: the absolute deviation as a share of available capacity is charged step by step (as India's deviation
    settlement does); the part beyond the last band pays the last band's rate.
    """

    kind: Literal["imbalance", "bands"]
    short_per_mwh: float = Field(0.0, ge=0)
    long_per_mwh: float = Field(0.0, ge=0)
    bands: list[Band] = Field(default_factory=list)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "bands":
            edges = [band.up_to_share for band in self.bands]
            if not edges or edges != sorted(set(edges)):
                raise ValueError("bands: give at least one, with up_to_share rising")
        elif self.bands:
            raise ValueError("bands: only for kind 'bands'")
        return self


class Market(Card):
    """Where power is sold: its clock, its units, and what an error costs."""

    id: Identifier
    name: str
    time_zone: TimeZone = Field(description="the calendar in which its days and gate closures are read")
    settlement_minutes: int = Field(gt=0, le=1440, description="length of an interval that is settled")
    gate_closure_minutes: Minutes = Field(description="how long before an interval starts its gate closes")
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    power_unit: Literal["kW", "MW"] = "MW"
    penalty: Penalty


# --- products --------------------------------------------------------------------------------------------------------

#: The quantile level that is the point forecast.
MEDIAN = 0.5
#: Scores that can decide; `scores.py` has a formula for each.
DecidingScore = Literal["pinball_share", "nmae_share", "nrmse_share", "crps_share", "money_per_mwh"]


class Goal(Card):
    """What the product is to reach: refined as evidence comes in, so it says since when."""

    target: Positive = Field(description="value of the deciding score to reach or stay below")
    since: dt.date


class Product(Card):
    """What is sold: a forecast of given members, granularity and horizon, issued at given times, judged by one score."""

    id: Identifier
    name: str
    market: Identifier
    granularity_minutes: int = Field(gt=0, le=1440)
    horizon_minutes: int = Field(gt=0, description="how far after the issue time the last interval starts, exclusive")
    issue_times: list[dt.time] = Field(min_length=1, description="UTC times of day")
    quantile_levels: list[float] = Field(min_length=1)
    deciding_score: DecidingScore
    goal: Goal
    promotion_margin_share: Share = Field(0.02, description="by how much a challenger must beat the champion")
    members: Annotated[list[Identifier], AfterValidator(_each_once)] = Field(
        min_length=1,
        description="farms or groups; a group whose farms are all members is forecast from them, another by a model of its own",
    )
    weather_models: Annotated[list[Identifier], AfterValidator(_each_once)] | None = Field(
        None, min_length=1, description="the weather models that it may be made from; none: all that its farms have"
    )

    @field_validator("quantile_levels")
    @classmethod
    def _levels(cls, levels: list[float]) -> list[float]:
        if levels != sorted(set(levels)) or not all(0 < level < 1 for level in levels):
            raise ValueError("must rise strictly between 0 and 1")
        if any(level != round(level, 3) for level in levels):
            raise ValueError("must be whole thousandths, such as 0.05 or 0.975")
        if MEDIAN not in levels:
            raise ValueError("0.5 is needed: the median is the point forecast")
        return levels

    @field_validator("issue_times", mode="before")
    @classmethod
    def _quoted(cls, times: Any) -> Any:
        if isinstance(times, list) and any(isinstance(time, int | float) for time in times):
            raise ValueError('put quotes around times of day ("18:00"): YAML reads 18:00 as the number 1080')
        return times

    @field_validator("issue_times")
    @classmethod
    def _in_utc(cls, times: list[dt.time]) -> list[dt.time]:
        if any(time.tzinfo is not None for time in times):
            raise ValueError("give times of day in UTC, without an offset")
        if len(set(times)) < len(times):
            raise ValueError("a time appears twice")
        return times

    @field_validator("granularity_minutes")
    @classmethod
    def _divides_the_day(cls, minutes: int) -> int:
        if 1440 % minutes:
            raise ValueError(f"{minutes} minutes do not divide a day")
        return minutes

    def issues_between(self, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        """Issue times in ``(start, end]``, UTC, in order."""
        start, end = start.astimezone(dt.UTC), end.astimezone(dt.UTC)
        days = (end.date() - start.date()).days
        stamps = (
            dt.datetime.combine(start.date() + dt.timedelta(days=day), time, dt.UTC)
            for day in range(days + 1)
            for time in sorted(self.issue_times)
        )
        return [stamp for stamp in stamps if start < stamp <= end]


# --- the fleet -------------------------------------------------------------------------------------------------------


class Fleet(Card):
    """All cards of an environment, checked against each other."""

    farms: list[Farm] = Field(min_length=1)
    groups: list[Group] = Field(default_factory=list)
    markets: list[Market] = Field(min_length=1)
    products: list[Product] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for kind in ("farms", "markets", "products"):
            _unique(kind, (card.id for card in getattr(self, kind)))
        _unique("farms and groups", self._entity_ids)
        farm_ids = {farm.id for farm in self.farms}
        for group in self.groups:
            _known(f"groups.{group.id}.farms", group.farms, farm_ids, "farm")
        markets = {market.id: market for market in self.markets}
        for product in self.products:
            _known(f"products.{product.id}.market", [product.market], set(markets), "market")
            _known(f"products.{product.id}.members", product.members, set(self._entity_ids), "farm or group")
            if product.weather_models is not None:
                models = {source.model for farm in self.farms for source in farm.weather}
                _known(f"products.{product.id}.weather_models", product.weather_models, models, "weather model")
            if product.granularity_minutes > markets[product.market].settlement_minutes:
                raise ValueError(
                    f"products.{product.id}.granularity_minutes: {product.granularity_minutes} is coarser than the "
                    f"{markets[product.market].settlement_minutes} minutes that market '{product.market}' settles"
                )
            if product.horizon_minutes <= markets[product.market].gate_closure_minutes:
                raise ValueError(
                    f"products.{product.id}.horizon_minutes: {product.horizon_minutes} is not beyond the gate of market "
                    f"'{product.market}', which closes {markets[product.market].gate_closure_minutes} minutes ahead"
                )
        return self

    @classmethod
    def from_config(
        cls, farms: Any, markets: Any, products: Any, groups: Any = None, *, files: Mapping[str, str] | None = None
    ) -> Fleet:
        """Read the cards as they stand in configuration.

        Args:
            farms: list of farm cards (``farms.yml``).
            markets: list of market cards (``markets.yml``).
            products: list of product cards (``products.yml``).
            groups: list of groups (``farms.yml``), or none.
            files: the file to name in messages, by kind of card; default: the bare file names.

        Raises:
            CardError: naming file, card and field of each fault.
        """
        raw = {"farms": farms, "groups": groups or [], "markets": markets, "products": products}
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise CardError("\n".join(_message(fault, raw, files or _FILES) for fault in error.errors())) from None

    @property
    def _entity_ids(self) -> list[str]:
        return [farm.id for farm in self.farms] + [group.id for group in self.groups]

    @cached_property
    def _by_id(self) -> dict[str, Farm | Group]:
        cards: list[Farm | Group] = [*self.farms, *self.groups]
        return {card.id: card for card in cards}

    def farm(self, farm_id: str) -> Farm:
        """The farm of that id; `CardError` if there is none."""
        card = self._by_id.get(farm_id)
        if not isinstance(card, Farm):
            raise CardError(f"no farm '{farm_id}'; the cards know {', '.join(farm.id for farm in self.farms)}")
        return card

    def market(self, market_id: str) -> Market:
        """The market of that id; `CardError` if there is none."""
        return _pick(self.markets, market_id, "market")

    def product(self, product_id: str) -> Product:
        """The product of that id; `CardError` if there is none."""
        return _pick(self.products, product_id, "product")

    def farms_of(self, entity_id: str) -> list[Farm]:
        """The farms behind an entity: a farm itself, or a group's members."""
        card = self._by_id.get(entity_id)
        if card is None:
            raise CardError(f"no farm or group '{shown(entity_id)}'; the cards know {', '.join(self._by_id)}")
        return [card] if isinstance(card, Farm) else [self.farm(farm_id) for farm_id in card.farms]

    def portfolios_of(self, product: Product) -> list[Group]:
        """The groups among a product's members whose farms are members too: their forecast is made of their farms'."""
        return [
            group for group in self.groups if group.id in product.members and set(group.farms) <= set(product.members)
        ]

    def modelled(self, product: Product) -> list[str]:
        """The members of a product that models are fitted for: all but its portfolios."""
        portfolios = {group.id for group in self.portfolios_of(product)}
        return [entity_id for entity_id in product.members if entity_id not in portfolios]

    def name_of(self, entity_id: str) -> str:
        """The name people know an entity by."""
        self.farms_of(entity_id)
        return self._by_id[entity_id].name

    def capacity_kw(self, entity_id: str) -> float:
        """Installed capacity of an entity, kW."""
        return sum(farm.capacity_kw for farm in self.farms_of(entity_id))

    def perfect_weather(self, entity_id: str) -> bool:
        """Whether any weather behind an entity is an analysis."""
        return any(farm.perfect_weather for farm in self.farms_of(entity_id))

    @property
    def granularities_minutes(self) -> list[int]:
        """The granularities that any product needs, rising."""
        return sorted({product.granularity_minutes for product in self.products})


CardT = TypeVar("CardT", Market, Product)


def _pick(cards: Iterable[CardT], card_id: str, kind: str) -> CardT:
    by_id = {card.id: card for card in cards}
    if card_id not in by_id:
        raise CardError(f"no {kind} '{shown(card_id)}'; the cards know {', '.join(by_id)}")
    return by_id[card_id]


def _unique(kind: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for card_id in ids:
        if card_id in seen:
            raise ValueError(f"{kind}: id '{card_id}' appears twice")
        seen.add(card_id)


def _known(field: str, wanted: Iterable[str], known: set[str], kind: str) -> None:
    for card_id in wanted:
        if card_id not in known:
            raise ValueError(f"{field}: unknown {kind} '{card_id}'; known are {', '.join(sorted(known))}")


_FILES = {"farms": "farms.yml", "groups": "farms.yml", "markets": "markets.yml", "products": "products.yml"}


def _message(fault: Any, raw: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """One line for one fault: file, card, field, what is wrong, what stands there."""
    return " ".join(_faults_words(fault, raw, files).split())


def _faults_words(fault: Any, raw: Mapping[str, Any], files: Mapping[str, str]) -> str:
    problem = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:  # a fault between cards names its own place: 'products.<id>.<field>: …'
        kind = re.match(r"\w+", problem)
        return f"{files.get(kind.group() if kind else '', files['farms'])}: {problem}"
    kind, *path = fault["loc"]
    card = ""
    if path and isinstance(path[0], int):
        entry = raw[kind][path[0]]
        card = entry.get("id", f"number {path[0] + 1}") if isinstance(entry, Mapping) else f"number {path[0] + 1}"
        card = f" {str(kind).removesuffix('s')} '{shown(card)}':"
        path = path[1:]
    # A fault of the list as a whole is named by its kind.
    field = ".".join(shown(part) for part in path) or ("" if card else str(kind))
    field += ": " if field else ""
    given = fault.get("input")
    # An unknown key may be a password, typed where it does not belong.
    quotable = path and fault["type"] != "extra_forbidden" and isinstance(given, str | int | float | bool)
    given = f" (given: {shown(repr(given))})" if quotable else ""
    return f"{files[str(kind)]}:{card} {field}{problem}{given}"
