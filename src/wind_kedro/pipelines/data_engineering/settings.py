"""Parameters of the pipeline data_engineering.

Values, units and sources are in ``conf/base/parameters_data_engineering.yml``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wind_kedro.cards import QUANTITY_UNITS, SIGNAL_UNITS, Positive, Share
from wind_kedro.cards.tiers import Tier
from wind_kedro.strict import Strict

Range = Annotated[tuple[float, float], Field(description="lowest and highest value, inclusive")]

Odds = Annotated[float, Field(gt=0, lt=1)]

#: Signals checked for spikes. Jumps of directions and pitch are real.
Spiky = Literal["power_kw", "wind_speed_ms", "temperature_c"]


class Stuck(Strict):
    """When a sensor that repeats the same value is stuck."""

    minutes: dict[str, int] = Field(description="per signal: minimum duration of repetition, minutes")
    min_repetitions: int = Field(ge=3, description="minimum number of repetitions, whatever the farm's cadence")
    wind_moves_ms: Positive = Field(description="signals other than wind speed: minimum range of the wind speed meanwhile, m/s")
    power_moves_share: Positive = Field(description="wind speed: minimum range of power meanwhile, share of rated power")
    power_between_share: Range = Field(description="power is checked between these shares of rated power only")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := set(self.minutes) - set(SIGNAL_UNITS):
            raise ValueError(f"minutes: unknown signal {', '.join(sorted(unknown))}; known are {', '.join(SIGNAL_UNITS)}")
        return self


class Spike(Strict):
    """When one or two values that deviate from their neighbours are a spike."""

    min_deviation: dict[Spiky, Positive] = Field(
        description="per signal: minimum deviation from both sides; power: share of rated"
    )
    sides_agree_share: Share = Field(gt=0, description="maximum difference between the two sides, share of the deviation")
    power_per_ms: Share = Field(gt=0, description="power: change explained by the wind, share of rated per m/s")
    pitch_still_deg: Positive = Field(description="power: maximum pitch towards feather in a spike, degrees")
    power_still_share: Share = Field(gt=0, description="wind speed: maximum change of power meanwhile, share of rated power")
    max_cadence_minutes: Positive = Field(description="longer intervals are not checked, as a short stop may fill one, minutes")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := {"power_kw", "wind_speed_ms", "temperature_c"} - set(self.min_deviation):
            raise ValueError(f"min_deviation: no threshold for {', '.join(sorted(missing))}")
        return self


class OperatingStates(Strict):
    """Thresholds of the operating states of points off the power curve."""

    idle_share: Share = Field(description="a turbine is idle up to this share of rated power")
    expected_share: Share = Field(gt=0, description="minimum share of rated on the curve where a turbine runs")
    feathered_deg: Positive = Field(description="minimum pitch of feathered blades, degrees")
    feathered_expected_share: Share = Field(gt=0, description="the same of a stop with feathered blades")
    stopped_minutes: Positive = Field(description="without pitch: minimum duration of idling of a stop, minutes")
    pitched_deg: Positive = Field(description="minimum pitch that spills wind, degrees: below rated, a curtailment")
    full_share: Share = Field(gt=0, description="turbines pitch to hold rated power from this share of it on")
    flat_minutes: Positive = Field(description="minimum duration of the level power of a curtailment, minutes")
    flat_share: Share = Field(gt=0, description="maximum range of level power, share of rated power")
    derated_minutes: Positive = Field(description="minimum duration of the level power of a derating, minutes")
    common_turbines: int = Field(gt=1, description="minimum number of turbines of a farm that is curtailed when all are idle")
    iced_below_c: float = Field(description="icing occurs below this temperature, °C")
    iced_minutes: Positive = Field(description="minimum duration of icing, minutes")


class ClockSearch(Strict):
    """How the clock of a farm is found by comparing its wind speed with that of the weather."""

    min_history_days: int = Field(gt=0, description="days of signals needed for the first calibration")
    window_days: int = Field(gt=0, description="window of a calibration, days; a year has winter and summer time")
    max_lag_minutes: int = Field(gt=0, description="largest misalignment searched in either direction, minutes")
    min_correlation: float = Field(gt=0, lt=1, description="below, the reading in force is kept")
    weekly_noise_minutes: Positive = Field(description="standard deviation of the offset of one week from the weather, minutes")
    season_noise_minutes: Positive = Field(description="additional standard deviation between winter and summer time, minutes")
    weather_noise_minutes: Positive = Field(description="standard deviation of the weather's own offset, minutes")
    false_reading_odds: Odds = Field(description="prior probability that the card has the wrong reading")
    shift_odds: Odds = Field(description="prior probability that a clock is off by a constant")
    jump_odds: Odds = Field(description="prior probability that a reading or a clock changes at a given week")
    shift_minutes: Positive = Field(description="minimum misalignment that is reported under the best reading, minutes")
    max_weather_gap_hours: Positive = Field(description="the weather is not interpolated across longer gaps, hours")


class Units(Strict):
    """When a turbine's values are suspected to be in another unit than its card declares."""

    evidence_days: int = Field(gt=0, description="consecutive days that agree on a unit, needed to suspect it")
    alone_days: int = Field(gt=0, description="likewise for power without wind speed to compare it with, days")
    baseline_days: int = Field(gt=0, description="valid days after which a turbine is compared with its own mean")
    min_hours: Positive = Field(description="days with fewer hours to compare give no evidence, hours")
    min_correlation: float = Field(gt=0, lt=1, description="of the logarithms of wind speed and power within a day")
    max_scatter: Positive = Field(description="of the logarithm of wind speed around that of power, within a day")
    first_tolerance: Positive = Field(description="maximum distance of the logarithm of a day's wind speed from that of a unit")
    tolerance: Positive = Field(description="likewise for a turbine that is compared with its own mean")
    power_coefficient: float = Field(gt=0, lt=16 / 27, description="of a turbine below rated power; at most 16/27 (Betz limit)")
    air_density_kgm3: Positive
    specific_power_wm2: Positive = Field(description="of turbines whose rotor is not on the card, W/m2")


class Curve(Strict):
    """How the power curve of a farm is fitted, and when a point is off it."""

    bin_width_ms: Positive = Field(description="width of a bin of wind speed, m/s")
    min_bin_minutes: Positive = Field(description="a bin with less data is not used, minutes")
    shift_ms: Positive = Field(description="a point off the curve is beyond the curve shifted by this, m/s")
    tolerance_share: Share = Field(description="and by more than this tolerance, share of rated power")


class Aggregation(Strict):
    """How turbine signals become observations of an entity."""

    late_grace_minutes: int = Field(ge=0, description="an incomplete interval is aggregated this long after its end, minutes")
    min_coverage_share: Share = Field(gt=0, description="minimum share of the expected turbine intervals in an observation")
    min_turbine_coverage_share: Share = Field(gt=0, description="minimum share of an interval that a turbine reported")
    max_gap_minutes: int = Field(ge=0, description="intervals are filled in this long after a known one, minutes")


class WindProfile(Strict):
    """Exponent of the power law that extrapolates wind beyond the levels of a weather model."""

    shear_exponent: float = Field(ge=0, le=1, description="used where there is one level only")
    shear_exponents: Range = Field(description="bounds of an exponent computed from two levels")


class DataEngineering(Strict):
    """Parameters of data_engineering."""

    max_age_days: Positive = Field(description="a run is refused this long after the last row of every farm, days")
    missing_values: list[str] = Field(description="texts that mean 'no value', in any case")
    signal_ranges: dict[str, Range] = Field(description="per signal: valid range; power_kw: share of rated")
    weather_ranges: dict[str, Range] = Field(description="per weather quantity, at any height, likewise")
    wind_profile: WindProfile
    stuck: Stuck
    spike: Spike
    operating_states: OperatingStates
    clock_search: ClockSearch
    units: Units
    power_curve: Curve
    observations: Aggregation
    warning_share: Share = Field(description="findings on at least this share of rows are warnings")

    @model_validator(mode="after")
    def _known(self) -> Self:
        for field, ranges, known in (
            ("signal_ranges", self.signal_ranges, SIGNAL_UNITS),
            ("weather_ranges", self.weather_ranges, QUANTITY_UNITS),
        ):
            for name, (low, high) in ranges.items():
                if name not in known:
                    raise ValueError(f"{field}.{name}: unknown; known are {', '.join(known)}")
                if not low < high:
                    raise ValueError(f"{field}.{name}: {low:g} is not below {high:g}")
        return self


class TierDays(Strict):
    """Days of hours with power and weather that each tier needs."""

    physical: Positive
    # `global` is a keyword of Python.
    global_: Positive = Field(alias="global")
    blended: Positive
    local: Positive

    @model_validator(mode="after")
    def _rising(self) -> Self:
        days = [self.physical, self.global_, self.blended, self.local]
        if days != sorted(days):
            raise ValueError("must not fall from physical over global and blended to local")
        return self

    def of(self, tier: Tier) -> float:
        """Days that a tier needs; 0 for the tier none."""
        return 0.0 if tier == "none" else float(getattr(self, "global_" if tier == "global" else tier))


class WeatherFitting(Strict):
    """How weather points are compared with a farm's power."""

    window_days: Positive = Field(description="length of the window compared, up to now, days")
    max_lead_hours: Positive = Field(description="maximum lead time of the weather runs used, hours")
    max_gap_hours: Positive = Field(description="the wind is not interpolated across longer gaps, hours")
    min_hours: int = Field(gt=0, description="minimum number of hours of a correlation")
    min_correlation: float = Field(gt=0, lt=1, description="a farm with a lower correlation gets tier none")
    margin: float = Field(gt=0, lt=1, description="by how much the point of another farm must correlate better")
    better_months_share: Share = Field(description="and in which share of months")
    others: int = Field(gt=0, description="number of points of other farms kept for each farm, best first")


class ReadinessSettings(Strict):
    """All thresholds of readiness (`parameters_readiness.yml`)."""

    tier_days: TierDays
    gap_hours: Positive = Field(description="minimum length of a gap in observations, hours")
    latency_days: Positive = Field(description="latency is measured over this many days")
    weather_fit: WeatherFitting
    max_misalignment_minutes: Positive = Field(description="maximum clock error of a learned model, minutes")
    max_not_available_share: Share = Field(description="maximum share of rows stopped, curtailed, derated or iced")
    max_quarantined_share: Share = Field(description="maximum share of rows in quarantine")
