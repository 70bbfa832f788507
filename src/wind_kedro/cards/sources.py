"""Where the signals and the weather of a farm are read from, and how."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from wind_kedro.cards.base import Card, Identifier, Minutes, _file_path, refuse
from wind_kedro.cards.dated import Dated
from wind_kedro.cards.units import LEAD_UNITS, SIGNAL_UNITS, UNIT_CONVERSIONS, WEATHER_UNITS, WIND_HEIGHTS_M


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
    footer_rows: int = Field(0, ge=0, description="lines at the end that are no rows, such as a sum; blank ones do not count")
    comment: str | None = Field(None, min_length=1, description="a line that begins with this is no row")
    stamp_format: str | None = Field(
        None,
        description="format of the stamps, as strptime's ('%d.%m.%Y %H:%M'), or excel, epoch_seconds, "
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
#: Value of `received_at` where the arrival is in the name of a feed's folder and in no column.
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
    quality: str | None = Field(None, description="long: the column of quality flags")
    good_quality: list[str] = Field(
        default_factory=list, description="long: the flags of good values; values with other flags are missing"
    )
    received_at: str | None = Field(
        None, description="the column of arrival times, or landed_at for a feed's folders; without it, stamp plus latency"
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
        "UTC, or strip it and read the farm's time zone. The pipeline checks it against the weather and reports a disagreement",
    )
    sentinels: dict[str, list[float]] = Field(default_factory=dict, description="values that mean 'missing', per signal")

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
        long, by_turbine = self.layout == "long", self.named_by_turbine
        incomplete = long and (self.signal is None or self.value is None)
        unnamed = self.layout == "wide" and not all(TURBINE in column.name for column in self.columns.values())
        ways = sum([self.turbine is not None, self.turbine_in_file is not None, by_turbine])
        refuse(
            (incomplete, "layout: long needs `signal` and `value`, the columns of names and of values"),
            (not long and (self.signal or self.value or self.quality), "signal, value, quality: only of a long layout"),
            ((self.quality is None) != (not self.good_quality), "quality: give with it good_quality, the flags of good values"),
            (unnamed, "columns: in a wide layout every name holds {turbine}, such as '{turbine}_ActivePower'"),
            (self.layout == "table" and by_turbine, "columns: {turbine} in a name needs layout: wide or long"),
            (TURBINE not in (self.turbine_in_file or TURBINE), "turbine_in_file: needs {turbine}, such as 'WTG_{turbine}_*.csv'"),
            (ways > 1, "turbine: give one of turbine, turbine_in_file, and {turbine} in the names of columns"),
        )
        off_grid = self.clock_ahead_minutes * 60 % self.cadence_seconds
        refuse((off_grid, f"clock_ahead_minutes: not a multiple of the {self.cadence_seconds} seconds between rows"))
        _check_columns(self.columns, SIGNAL_UNITS)
        unknown = next((name for name in self.sentinels if name not in SIGNAL_UNITS), None)
        refuse(
            ("power_kw" not in self.columns, "columns: power_kw is needed: without it there is nothing to forecast"),
            (unknown is not None, f"sentinels.{unknown}: unknown; known are {', '.join(SIGNAL_UNITS)}"),
        )
        return self


class WeatherColumn(SourceColumn):
    """One variable of a weather source: a column of a table, or a variable of a grid and, there, its level."""

    level: float | None = Field(None, gt=0, description="grids: height above ground of the level to read, m")


#: Formats whose files hold fields on a grid, of which the points of farms are read.
GRID_FORMATS = ("grib", "netcdf", "zarr")


class WeatherSource(Source, Dated):
    """Weather of one model at one point: one row per run and valid time, or per valid time if it is an analysis.

    With a period, it gives the runs that begin in it.
    """

    model: Identifier = Field(description="name of the weather model")
    point: Identifier = Field("site", description="name of the point; several points of one model are several sources")
    latitude_deg: float | None = Field(None, ge=-90, le=90, description="of the point; without it, the farm's")
    longitude_deg: float | None = Field(None, ge=-180, le=180, description="of the point; without it, the farm's")
    format: Literal["csv", "parquet", "excel", "grib", "netcdf", "zarr"] = "csv"  # type: ignore[assignment] # tables and grids
    kind: Literal["forecast", "analysis"] = Field(
        description="'analysis' enters as pseudo-runs and every score made from it is labelled 'perfect weather'"
    )
    valid_at: str | None = Field(
        None, description="the column of valid times; a grid's coordinate of them, where conventions do not identify it"
    )
    run_at: str | None = Field(
        None, description="the column of run times; a grid's coordinate of them, where conventions do not identify it"
    )
    lead: SourceColumn | None = Field(
        None, description="a table with run times that gives lead times in place of valid times: their column and its unit"
    )
    available_at: str | None = Field(
        None,
        description="the column (of a grid: coordinate) of the time when the row could be read, or landed_at for a feed's "
        "folders; without it, delay_minutes does",
    )
    first_step_minutes: int | None = Field(
        None,
        ge=0,
        description="a table without run times that is stitched together of runs: how far after its initialisation a run's "
        "first row is valid; the next run takes over run_every_minutes later",
    )
    delay_minutes: Minutes = Field(description="from a run's initialisation until it can be read")
    run_every_minutes: int = Field(1440, gt=0, description="how often the model runs (pseudo-runs too), counted from 00 UTC")
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
        stitched, grids = self.first_step_minutes is not None, ", ".join(GRID_FORMATS)
        no_runs = self.kind == "forecast" and not self.is_grid and (self.run_at is None) == (not stitched)
        of_grids = self.member is not None or any(column.level is not None for column in self.columns.values())
        windless = not any(self._has_wind(height) for height in WIND_HEIGHTS_M)
        winds = "wind_speed_100m_ms, or both wind_u_100m_ms and wind_v_100m_ms"
        refuse(
            ((self.latitude_deg is None) != (self.longitude_deg is None), "latitude_deg, longitude_deg: give both or none"),
            (
                not self.is_grid and self.valid_at is None and self.lead is None,
                "valid_at: a table needs the column of its valid times",
            ),
            (
                self.lead and (self.is_grid or self.valid_at or not self.run_at),
                "lead: only of tables with run_at, in place of valid_at",
            ),
            (self.lead and self.lead.unit not in LEAD_UNITS, f"lead.unit: must be one of {', '.join(LEAD_UNITS)}"),
            (no_runs, "run_at: a forecast needs the column of its run times or, without one, first_step_minutes"),
            (not self.is_grid and of_grids, f"member, columns.level: only of grids ({grids})"),
            (self.is_grid and (self.where or stitched), f"where, first_step_minutes: only of tables, not of grids ({grids})"),
            (self.kind == "analysis" and stitched, "first_step_minutes: only of forecasts; an analysis enters as pseudo-runs"),
            (windless, f"columns: give {winds}, or the same at another height: {', '.join(map(str, WIND_HEIGHTS_M))}"),
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
            known = ", ".join(source for source, target in UNIT_CONVERSIONS if target == units[name])
            raise ValueError(f"columns.{name}.unit: '{column.unit}' is not a unit of it; known are {known}")
