"""The parameters of this room, typed. Values, units and sources stand in ``conf/base/parameters_data_engineering.yml``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wind_kedro.cards import SIGNAL_UNITS, WEATHER_UNITS, Positive, Share

Range = Annotated[tuple[float, float], Field(description="lowest and highest value, inclusive")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stuck(_Settings):
    """When a sensor that repeats itself to the last digit is stuck, not calm."""

    intervals: dict[str, int] = Field(description="per signal: the value is taken as stuck from this repetition on")
    wind_moves_ms: Positive = Field(
        description="the wind speed moved at least so much meanwhile, m/s: what follows it should have moved"
    )
    power_moves_share: Positive = Field(
        description="power moved at least so much meanwhile, share of rated power: the wind speed should have moved"
    )
    power_between_share: Range = Field(
        description="power is judged between these shares of rated power only: standing still and full load are steady"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = set(self.intervals) - set(SIGNAL_UNITS)
        if unknown:
            raise ValueError(
                f"intervals: unknown signal {', '.join(sorted(unknown))}; known are {', '.join(SIGNAL_UNITS)}"
            )
        if any(count < 2 for count in self.intervals.values()):  # noqa: PLR2004 - once is no repetition
            raise ValueError("intervals: a value must come at least twice to be repeated")
        return self


class ClockSearch(_Settings):
    """How the clock of a farm is found by comparing its wind speed with the weather's."""

    min_history_days: int = Field(
        gt=0, description="the first calibration is made when so many days of signals have arrived, days"
    )
    window_days: int = Field(
        gt=0, description="a calibration looks back so far, days; a year shows winter and summer time"
    )
    max_lag_minutes: int = Field(gt=0, description="misalignments are sought between minus and plus this, minutes")
    min_correlation: float = Field(
        gt=0, lt=1, description="below it the comparison says nothing, and the assumption in force stays"
    )
    margin_minutes: Positive = Field(
        description="a reading replaces the one in force only if it is better aligned by so much, minutes; less is a tie"
    )
    shift_minutes: Positive = Field(
        description="a misalignment that stays with the best reading is reported from here on, minutes"
    )
    max_weather_gap_hours: Positive = Field(description="the weather is not interpolated across longer gaps, hours")


class Retiming(_Settings):
    """When rows that a clock change stamped twice are put right."""

    min_probability: float = Field(gt=0.5, lt=1, description="the order of a pair of rows must be at least so sure")
    evidence_share: float = Field(
        gt=0, le=1, description="how much each witness counts: signals and turbines err together"
    )


class Curve(_Settings):
    """How the power curve of a farm is fitted, and what is off it."""

    bin_width_ms: Positive = Field(description="width of a bin of wind speed, m/s")
    min_bin_minutes: Positive = Field(description="a bin with less data is not used, minutes")
    shift_ms: Positive = Field(
        description="a point is off the curve if the curve reaches its power only so much earlier or later, m/s"
    )
    tolerance_share: Share = Field(description="and if it is off by more than this, share of rated power")


class Aggregation(_Settings):
    """How turbine signals become observations of an entity."""

    late_grace_minutes: int = Field(
        ge=0, description="an incomplete interval is given out so long after its end, minutes"
    )
    min_coverage_share: Share = Field(
        gt=0, description="no observation from less than this share of the expected turbine intervals"
    )
    min_turbine_coverage_share: Share = Field(
        gt=0, description="a turbine counts in an interval if it reported at least this share of it"
    )


class DataEngineering(_Settings):
    """All parameters of data_engineering."""

    max_age_days: Positive = Field(description="a run so long after the last row of every farm is a mistake, days")
    missing_values: list[str] = Field(description="texts that mean 'no value', in any case")
    signal_ranges: dict[str, Range] = Field(
        description="per signal, in the house's unit (power_kw: share of rated power): what is outside is no measurement"
    )
    weather_ranges: dict[str, Range] = Field(description="per weather variable, in the house's unit, likewise")
    stuck: Stuck
    clock_search: ClockSearch
    retiming: Retiming
    power_curve: Curve
    observations: Aggregation
    warning_share: Share = Field(
        description="data quality: what strikes at least this share of rows or values is a warning"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        for field, ranges, known in (
            ("signal_ranges", self.signal_ranges, SIGNAL_UNITS),
            ("weather_ranges", self.weather_ranges, WEATHER_UNITS),
        ):
            for name, (low, high) in ranges.items():
                if name not in known:
                    raise ValueError(f"{field}.{name}: unknown; known are {', '.join(known)}")
                if not low < high:
                    raise ValueError(f"{field}.{name}: {low:g} is not below {high:g}")
        return self
