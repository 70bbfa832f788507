"""The parameters of this room, typed. Values, units and sources stand in ``conf/base/parameters_data_engineering.yml``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wind_kedro.cards import QUANTITY_UNITS, SIGNAL_UNITS, Positive, Share
from wind_kedro.cards.tiers import Tier
from wind_kedro.strict import Strict

Range = Annotated[tuple[float, float], Field(description="lowest and highest value, inclusive")]

Odds = Annotated[float, Field(gt=0, lt=1)]

#: Signals that are judged for spikes. Directions turn, and blades are turned: their jumps are real.
Spiky = Literal["power_kw", "wind_speed_ms", "temperature_c"]


class Stuck(Strict):
    """When a sensor that repeats itself to the last digit is stuck, not calm."""

    minutes: dict[str, int] = Field(
        description="per signal: the value is taken as stuck when it repeats so long, minutes"
    )
    min_repetitions: int = Field(ge=3, description="and at least so often, however long the farm's intervals are")
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
        unknown = set(self.minutes) - set(SIGNAL_UNITS)
        if unknown:
            raise ValueError(
                f"minutes: unknown signal {', '.join(sorted(unknown))}; known are {', '.join(SIGNAL_UNITS)}"
            )
        return self


class Spike(Strict):
    """When one or two values that stand off their neighbours are no measurement."""

    least: dict[Spiky, Positive] = Field(
        description="per signal, in the house's unit (power_kw: share of rated power): it stands off both sides by so much"
    )
    sides_agree_share: Share = Field(
        gt=0, description="the sides differ by no more than this share of what it stands off"
    )
    power_per_ms: Share = Field(
        gt=0, description="power: what a step of the wind speed explains, share of rated power per m/s"
    )
    pitch_still_deg: Positive = Field(
        description="power: it fell, and the blades turned out of the wind by no more than this meanwhile, degrees"
    )
    power_still_share: Share = Field(
        gt=0, description="wind speed: power moved no more than this meanwhile, share of rated power"
    )
    max_cadence_minutes: Positive = Field(
        description="longer intervals are not judged: a short stop is one of them, minutes"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := {"power_kw", "wind_speed_ms", "temperature_c"} - set(self.least):
            raise ValueError(f"least: no threshold for {', '.join(sorted(missing))}")
        return self


class OperatingStates(Strict):
    """What a point off the power curve is, as far as its own turbine tells."""

    idle_share: Share = Field(description="a turbine makes nothing up to this share of rated power")
    expected_share: Share = Field(
        gt=0, description="where the curve gives at least this share, a turbine that can run, runs"
    )
    feathered_deg: Positive = Field(description="blades are turned out of the wind from this pitch on, degrees")
    feathered_expected_share: Share = Field(
        gt=0, description="and that is no waiting for wind where the curve gives at least this share"
    )
    stopped_minutes: Positive = Field(
        description="without pitch: making nothing for so long is standing still, minutes"
    )
    pitched_deg: Positive = Field(
        description="blades give wind away from this pitch on, degrees; below rated power nothing but an order does that"
    )
    full_share: Share = Field(gt=0, description="from this share of rated power on a turbine pitches to hold it")
    flat_minutes: Positive = Field(description="power that is held keeps its level for so long, minutes")
    flat_share: Share = Field(gt=0, description="within this share of rated power")
    derated_minutes: Positive = Field(description="a level kept for so long is the turbine's own limit, minutes")
    common_turbines: int = Field(
        gt=1, description="a farm of at least so many turbines that all stand still was told to"
    )
    iced_below_c: float = Field(description="ice grows below this temperature, °C")
    iced_minutes: Positive = Field(description="and it slows a turbine for at least so long, minutes")


class ClockSearch(Strict):
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
    weekly_noise_minutes: Positive = Field(description="offset of one week against the weather by chance, minutes")
    season_noise_minutes: Positive = Field(description="winter and summer differ by so much beside that, minutes")
    weather_noise_minutes: Positive = Field(
        description="offset of good clocks against the weather in the long run, minutes"
    )
    false_reading_odds: Odds = Field(description="how often the card says the wrong reading")
    shift_odds: Odds = Field(description="how often a clock is off by a constant")
    jump_odds: Odds = Field(description="how often a reading or a clock changes within the window, at a given week")
    shift_minutes: Positive = Field(
        description="a misalignment that stays with the best reading is reported from here on, minutes"
    )
    max_weather_gap_hours: Positive = Field(description="the weather is not interpolated across longer gaps, hours")


class Units(Strict):
    """When a turbine's values are in another unit than its card says."""

    evidence_days: int = Field(gt=0, description="so many days in a row that say the same make sure, days")
    alone_days: int = Field(
        gt=0, description="likewise of power, where there is no wind speed to compare it with, days"
    )
    baseline_days: int = Field(gt=0, description="from so many good days on a turbine is compared with itself, days")
    min_hours: Positive = Field(description="a day with less to judge says nothing, hours")
    min_correlation: float = Field(gt=0, lt=1, description="of the logarithms of wind speed and power within a day")
    max_scatter: Positive = Field(description="of the logarithm of wind speed around that of power, within a day")
    first_tolerance: Positive = Field(description="the logarithm of a day's wind speed is so near to that of a unit")
    tolerance: Positive = Field(description="likewise of a turbine that is compared with itself")
    power_coefficient: float = Field(
        gt=0, lt=16 / 27, description="of a turbine below rated power; Betz: at most 16/27"
    )
    air_density_kgm3: Positive
    specific_power_wm2: Positive = Field(description="of turbines whose rotor is not on the card, W/m2")


class Curve(Strict):
    """How the power curve of a farm is fitted, and what is off it."""

    bin_width_ms: Positive = Field(description="width of a bin of wind speed, m/s")
    min_bin_minutes: Positive = Field(description="a bin with less data is not used, minutes")
    shift_ms: Positive = Field(
        description="a point is off the curve if the curve reaches its power only so much earlier or later, m/s"
    )
    tolerance_share: Share = Field(description="and if it is off by more than this, share of rated power")


class Aggregation(Strict):
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
    max_gap_minutes: int = Field(
        ge=0,
        description="an interval below that may be filled in if one so shortly before was known, minutes; 0: never",
    )


class WindProfile(Strict):
    """How wind is carried beyond the levels that a weather model gives: the power law's exponent."""

    shear_exponent: float = Field(ge=0, le=1, description="where there is one level only")
    shear_exponents: Range = Field(description="what two levels say is held between these")


class DataEngineering(Strict):
    """All parameters of data_engineering."""

    max_age_days: Positive = Field(description="a run so long after the last row of every farm is a mistake, days")
    chunk_rows: int = Field(
        gt=0, description="more rows of signals than this are cleaned by turbines and days, so many at a time"
    )
    missing_values: list[str] = Field(description="texts that mean 'no value', in any case")
    signal_ranges: dict[str, Range] = Field(
        description="per signal, in the house's unit (power_kw: share of rated power): what is outside is no measurement"
    )
    weather_ranges: dict[str, Range] = Field(description="per weather quantity, at any height, likewise")
    wind_profile: WindProfile
    stuck: Stuck
    spike: Spike
    operating_states: OperatingStates
    clock_search: ClockSearch
    units: Units
    power_curve: Curve
    observations: Aggregation
    warning_share: Share = Field(
        description="data quality: what strikes at least this share of rows or values is a warning"
    )

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
    # A word of Python: the tier itself is called so.
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
        """Days that a tier needs; none needs none."""
        return 0.0 if tier == "none" else float(getattr(self, "global_" if tier == "global" else tier))


class WeatherFitting(Strict):
    """How weather points are compared with a farm's power."""

    window_days: Positive = Field(description="the newest stretch that is compared, days")
    max_lead_hours: Positive = Field(description="wind of the newest run at most so old, hours")
    max_gap_hours: Positive = Field(description="the wind is not interpolated across longer gaps, hours")
    min_hours: int = Field(gt=0, description="with fewer hours a correlation says nothing")
    min_correlation: float = Field(gt=0, lt=1, description="weather that explains less is not this farm's: tier none")
    margin: float = Field(gt=0, lt=1, description="by so much another farm's point must fit better")
    better_months_share: Share = Field(description="and in this share of months")
    others: int = Field(gt=0, description="how many points of other farms are kept for each farm, the best first")


class ReadinessSettings(Strict):
    """All thresholds of readiness (`parameters_readiness.yml`)."""

    tier_days: TierDays
    gap_hours: Positive = Field(description="a stretch without observations of at least this length is a gap, hours")
    latency_days: Positive = Field(description="latency is that of rows of the last days")
    weather_fit: WeatherFitting
    max_misalignment_minutes: Positive = Field(description="a clock so far off pairs power with another hour's weather")
    max_held_back_share: Share = Field(description="of rows stopped, curtailed, derated or iced")
    max_quarantined_share: Share = Field(description="of rows that could not be read")
