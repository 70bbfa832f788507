"""Cleaned signals, observations, weather, and the assessment of data."""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER
from wind_kedro.cards.tiers import TIERS
from wind_kedro.contracts.base import Contract, Utc


class Signals(Contract):
    """One row per source row that counts: turbine, interval of its cadence, version as it arrived."""

    farm_id: Series[str]
    turbine_id: Series[str]
    valid_at: Series[Utc] = pa.Field(description="start of the interval, on the clock that was found")
    available_at: Series[Utc] = pa.Field(description="when the row could be used: arrived, and its clock calibrated")
    power_kw: Series[float] = pa.Field(nullable=True)
    wind_speed_ms: Series[float] = pa.Field(nullable=True, ge=0)
    wind_direction_deg: Series[float] = pa.Field(nullable=True, ge=0, le=360)
    temperature_c: Series[float] = pa.Field(nullable=True, ge=-60, le=60)
    pitch_deg: Series[float] = pa.Field(nullable=True)
    version: Series[int] = pa.Field(ge=0)
    status: Series[str] = pa.Field(isin=["kept", "superseded"])
    superseded_at: Series[Utc] = pa.Field(nullable=True, description="when a version with other values arrived")
    power_kw_spiked: Series[float] = pa.Field(nullable=True, description="a spike: the value, until it was found to be one")
    power_kw_spiked_at: Series[Utc] = pa.Field(nullable=True, description="when that was found")
    wind_speed_ms_spiked: Series[float] = pa.Field(nullable=True, description="likewise")
    wind_speed_ms_spiked_at: Series[Utc] = pa.Field(nullable=True, description="likewise")
    operating_state: Series[str] = pa.Field(
        isin=["", "stopped", "curtailed", "derated", "iced", "off_curve"],
        description="what a point off the power curve is, as known when it arrived: see docs/glossary.md",
    )
    retimed: Series[bool] = pa.Field(description="its stamp was proven wrong and put right")
    source_file: Series[str]
    source_row: Series[int]


class Quarantine(Contract):
    """One row per source row set aside, with the reason; nothing is lost."""

    farm_id: Series[str]
    source_table: Series[str] = pa.Field(isin=["signals", "weather"])
    valid_at: Series[Utc] = pa.Field(
        nullable=True, description="start of the interval; of weather, begin of the run, or the valid time of an analysis"
    )
    source_file: Series[str]
    source_row: Series[int]
    reason: Series[str] = pa.Field(description="a code: see docs/glossary.md")
    detail: Series[str]
    raw: Series[str] = pa.Field(description="the row as it was read, JSON")


class ClockCalibration(Contract):
    """One row per farm and calibration: which reading of the stamps fits the weather, fitted with what was known then."""

    farm_id: Series[str]
    fitted_at: Series[Utc]
    reading: Series[str] = pa.Field(isin=["as_stamped", "wall_clock_is_utc", "wall_clock_is_local"])
    assumed: Series[str] = pa.Field(isin=["as_stamped", "wall_clock_is_utc", "wall_clock_is_local"])
    agrees: Series[bool]
    offset_minutes: Series[float] = pa.Field(
        description="residual misalignment of the reading chosen; positive: signals are late"
    )
    noise_minutes: Series[float] = pa.Field(nullable=True, gt=0, description="standard error of offset_minutes")
    shifted: Series[bool] = pa.Field(description="the offset is large and sure: the clock is off by a constant")
    jumped_at: Series[Utc] = pa.Field(
        nullable=True, description="the week since which reading or offset are others; null: as long as can be seen"
    )
    correlation: Series[float] = pa.Field(nullable=True, ge=-1, le=1)
    evidence: Series[str] = pa.Field(description="misalignment and correlation of every reading, JSON")
    rows: Series[int] = pa.Field(ge=0, description="hours compared")


class SuspectedUnits(Contract):
    """One row per farm, turbine, signal and stretch of time whose values are in another unit than the card's."""

    farm_id: Series[str]
    turbine_id: Series[str]
    signal: Series[str]
    unit: Series[str] = pa.Field(description="the card's")
    suspected_unit: Series[str]
    since: Series[Utc] = pa.Field(nullable=True, description="null: from its first day on")
    found_at: Series[Utc] = pa.Field(description="the evidence of some days was there; found from what was there by then")
    until: Series[Utc] = pa.Field(nullable=True, description="null: it has not ended")
    evidence: Series[str] = pa.Field(description="statistics of the days by which it was found, JSON")


class CellCounts(Contract):
    """One row per farm, calibration and cell of wind speed and power: the change of the number of turbine rows in it."""

    farm_id: Series[str]
    fitted_at: Series[Utc] = pa.Field(description="the first calibration that includes the change")
    bin: Series[int] = pa.Field(ge=0, description="number of the bin of wind speed, from 0 m/s")
    step: Series[int] = pa.Field(description="number of the step of power, a two-hundredth of rated power, from 0 kW")
    count: Series[int] = pa.Field(description="rows that came, minus rows that were superseded or found to be a spike")


class PowerCurve(Contract):
    """One row per farm, calibration and bin of wind speed: power of a turbine as a share of its rated power."""

    farm_id: Series[str]
    fitted_at: Series[Utc]
    wind_speed_ms: Series[float] = pa.Field(ge=0, description="centre of the bin (IEC 61400-12-1: 0.5 m/s wide)")
    power_share: Series[float] = pa.Field(description="median of the bin")
    low_share: Series[float] = pa.Field(description="below it a point is off the curve")
    high_share: Series[float] = pa.Field(description="above it a point is off the curve")
    rows: Series[int] = pa.Field(ge=0)


class Observations(Contract, key=["entity_id", "granularity_minutes", "valid_at", "available_at"]):
    """One row per entity, granularity, interval and version: a revision is a new row with a later `available_at`."""

    entity_id: Series[str]
    granularity_minutes: Series[int] = pa.Field(gt=0)
    valid_at: Series[Utc]
    available_at: Series[Utc]
    power_kw: Series[float] = pa.Field(description="mean power of the turbines that reported and were available")
    available_capacity_kw: Series[float] = pa.Field(
        gt=0, description="rated power of the turbines that reported and were available"
    )
    metered_power_kw: Series[float] = pa.Field(description="mean power of all turbines that reported")
    wind_speed_ms: Series[float] = pa.Field(nullable=True, ge=0)
    coverage_share: Series[float] = pa.Field(gt=0, le=1, description="share of the expected turbine intervals behind it")
    turbines: Series[int] = pa.Field(gt=0, description="behind power_kw")
    stopped_share: Series[float] = pa.Field(ge=0, le=1, description="of the expected turbine intervals")
    curtailed_share: Series[float] = pa.Field(ge=0, le=1, description="of the expected turbine intervals: curtailed or derated")
    imputed_share: Series[float] = pa.Field(
        ge=0, lt=1, description="share of available_capacity_kw filled in from the other turbines: never an actual"
    )
    method: Series[str] = pa.Field(
        isin=["mean", "held"],
        description="mean of signal intervals, or their values held because the interval is shorter or cuts them",
    )


class Weather(Contract, key=["farm_id", "weather_model", "weather_point", "run_at", "valid_at", "available_at"]):
    """One row per farm, weather model, point, run, valid time and version: a revision is a row with a later `available_at`."""

    farm_id: Series[str]
    weather_model: Series[str]
    weather_point: Series[str]
    run_at: Series[Utc]
    available_at: Series[Utc]
    valid_at: Series[Utc]
    is_analysis: Series[bool] = pa.Field(description="never was a forecast: all that is made of it is 'perfect weather'")
    wind_speed_100m_ms: Series[float] = pa.Field(ge=0, le=100)
    wind_direction_100m_deg: Series[float] = pa.Field(nullable=True, ge=0, le=360)
    wind_u_100m_ms: Series[float] = pa.Field(nullable=True)
    wind_v_100m_ms: Series[float] = pa.Field(nullable=True)
    wind_u_10m_ms: Series[float] = pa.Field(nullable=True)
    wind_v_10m_ms: Series[float] = pa.Field(nullable=True)
    wind_speed_hub_ms: Series[float] = pa.Field(ge=0, description="at the mean height of the farm's hubs")
    wind_direction_hub_deg: Series[float] = pa.Field(nullable=True, ge=0, le=360)
    temperature_c: Series[float] = pa.Field(nullable=True)
    pressure_pa: Series[float] = pa.Field(nullable=True)
    air_density_kgm3: Series[float] = pa.Field(nullable=True)


class WeatherRuns(Contract, key=["farm_id", "weather_model", "weather_point", "run_at", "available_at"]):
    """One row per farm, weather model, point, run and arrival: a run that arrives in parts, or is revised, has several."""

    farm_id: Series[str]
    weather_model: Series[str]
    weather_point: Series[str]
    run_at: Series[Utc]
    available_at: Series[Utc]
    is_analysis: Series[bool]
    rows: Series[int] = pa.Field(gt=0, description="valid times that arrived then")
    first_valid_at: Series[Utc]
    last_valid_at: Series[Utc]


class DataQuality(Contract):
    """One row per farm, check and signal: how often it struck, and what that means."""

    farm_id: Series[str]
    source_table: Series[str] = pa.Field(isin=["signals", "weather"])
    check: Series[str] = pa.Field(description="a code: see docs/glossary.md")
    signal: Series[str] = pa.Field(description="the column it concerns, or 'row'")
    count: Series[int] = pa.Field(ge=0)
    of: Series[int] = pa.Field(ge=0, description="out of how many")
    severity: Series[str] = pa.Field(isin=["info", "warning", "error"])
    message: Series[str]


class Readiness(Contract, key=["farm_id", "assessed_at"]):
    """One row per farm and `assessed_at`: what was known of its data then, and which tier of model it may have."""

    farm_id: Series[str]
    assessed_at: Series[Utc] = pa.Field(
        description="as of which midnight, UTC: before the run, and before the training time if another"
    )
    tier: Series[str] = pa.Field(isin=TIERS)
    reason: Series[str] = pa.Field(description="a sentence with the number and the threshold")
    history_days: Series[float] = pa.Field(ge=0, description="from the first interval observed to the end of the last")
    learnable_days: Series[float] = pa.Field(ge=0, description="hours with both power and weather, in days")
    coverage_share: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="of what its turbines should have sent")
    gaps: Series[int] = pa.Field(ge=0)
    longest_gap_hours: Series[float] = pa.Field(nullable=True, ge=0)
    silent_hours: Series[float] = pa.Field(nullable=True, description="since the end of the last interval observed")
    latency_median_minutes: Series[float] = pa.Field(nullable=True, ge=0, description="null: no arrival times")
    latency_95_minutes: Series[float] = pa.Field(nullable=True, ge=0)
    reading: Series[str] = pa.Field(description="'': the clock was not calibrated yet")
    offset_minutes: Series[float] = pa.Field(nullable=True)
    agrees: Series[pd.BooleanDtype] = pa.Field(nullable=True)
    stopped_rows_share: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    curtailed_rows_share: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="curtailed or derated")
    iced_rows_share: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    quarantined_rows_share: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    unreadable_sources: Series[int] = pa.Field(ge=0)
    weather: Series[str] = pa.Field(isin=[PERFECT_WEATHER, FORECAST_WEATHER])
    weather_days: Series[float] = pa.Field(ge=0, description="how far back its weather reaches")
    missing_runs: Series[int] = pa.Field(ge=0, description="weather runs between its first and now that never arrived")
    best_point: Series[str] = pa.Field(description="model/point of its own that fits best, or ''")
    best_correlation: Series[float] = pa.Field(nullable=True, ge=-1, le=1)
    other_farm: Series[str] = pa.Field(description="the other farm whose weather fits best, or ''")
    other_correlation: Series[float] = pa.Field(nullable=True, ge=-1, le=1)
    wrong_point: Series[bool] = pa.Field(description="another farm's weather fits clearly better, month by month")


class WeatherFit(Contract, key=["farm_id", "assessed_at", "weather_model", "weather_point", "of_farm"]):
    """One row per farm, `assessed_at` and weather point compared: how well its wind explains the farm's power."""

    farm_id: Series[str]
    assessed_at: Series[Utc]
    weather_model: Series[str]
    weather_point: Series[str]
    of_farm: Series[str] = pa.Field(description="whose point it is")
    distance_km: Series[float] = pa.Field(nullable=True, ge=0, description="between the two farms; null: a place is not known")
    correlation: Series[float] = pa.Field(nullable=True, ge=-1, le=1, description="null: too few hours")
    hours: Series[int] = pa.Field(ge=0, description="hours compared")
    rank: Series[int] = pa.Field(gt=0, description="among all points of the fleet; 1 fits best, equals share theirs")
    better_months_share: Series[float] = pa.Field(
        nullable=True, ge=0, le=1, description="of months in which it fits better than the farm's best; null: its own"
    )
