"""Every table of the house: what one row is, its columns, its key.

Each class is attached to a dataset by the catalog's ``validator:`` key. A broken contract on a table of our own is a bug and
stops the run; what is wrong with data from outside is split off into `Quarantine` before it gets here.

Times are UTC with microseconds, intervals are named by their start. `docs/glossary.md` has every name once.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from wind_kedro.cards import WEATHER_UNITS
from wind_kedro.columns import FORECAST_WEATHER, PERFECT_WEATHER, quantile_column
from wind_kedro.gate import REASONS
from wind_kedro.interventions import KINDS
from wind_kedro.tiers import TIERS

Utc = Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Contract(pa.DataFrameModel):
    """What all contracts share: columns are brought to their type, unknown columns are refused."""

    class Config:
        """Pandera's settings."""

        strict = True
        coerce = True


# --- 01 raw: tables that DuckDB reads; they are checked by their columns, as the rows are not ours yet ------------------


class RawTable:
    """A source as it came: each value still text, each row with its file and number in it (row 1 is the first after the header).

    A `validator:` for Ibis tables: checks that the columns are there, without reading a row.
    """

    columns: frozenset[str] = frozenset({"farm_id", "source_file", "source_row", "fault"})

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it has the columns; raise `ValueError` otherwise."""
        missing = self.columns - set(data.columns)
        if missing:
            raise ValueError(f"{type(self).__name__}: no column {', '.join(sorted(missing))}")
        return data


class SignalsRaw(RawTable):
    """One row per row of a farm's signal files, columns renamed by its card, values as text."""

    columns = RawTable.columns | {
        "turbine_id", "timestamp", "received_at", "power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c", "pitch_deg",
    }  # fmt: skip


class WeatherRaw(RawTable):
    """One row per row of a farm's weather files, columns renamed by its card, values as text."""

    columns = RawTable.columns | {
        "weather_model",
        "weather_point",
        "run_at",
        "available_at",
        "valid_at",
        *WEATHER_UNITS,
    }


class Landings(Contract):
    """One row per batch that a feed landed, and per fetch that failed. Append-only."""

    feed_id: Series[str]
    landed_at: Series[Utc] = pa.Field(description="when the batch landed; of a failed fetch: when it failed")
    landed_on: Series[str] = pa.Field(description="the day of that, UTC", str_matches=r"^\d{4}-\d{2}-\d{2}$")
    folder: Series[str] = pa.Field(description="relative to the raw folder; '': nothing landed")
    files: Series[int] = pa.Field(ge=0)
    bytes: Series[int] = pa.Field(ge=0)
    rows: Series[pd.Int64Dtype] = pa.Field(nullable=True, ge=0, description="null: the feed does not know")
    fault: Series[str] = pa.Field(description="why the fetch failed, or what of the batch could not land; '': nothing")

    class Config:
        """The key."""

        unique = ["feed_id", "landed_at"]


class RawManifest(Contract):
    """One row per farm and raw file that its card names, as the newest run of data_engineering read it."""

    farm_id: Series[str]
    source_table: Series[str] = pa.Field(isin=["signals", "weather"])
    path: Series[str] = pa.Field(description="relative to the raw folder")
    bytes: Series[int] = pa.Field(ge=0)
    modified_ns: Series[int] = pa.Field(description="when the file was changed last, nanoseconds since 1970")
    sha256: Series[str] = pa.Field(str_length=64)

    class Config:
        """The key."""

        unique = ["farm_id", "source_table", "path"]


# --- 02 intermediate ---------------------------------------------------------------------------------------------------


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
    superseded_at: Series[Utc] = pa.Field(nullable=True, description="when a version with other values came")
    power_kw_spiked: Series[float] = pa.Field(
        nullable=True, description="a spike: the value, until it was found to be one"
    )
    power_kw_spiked_at: Series[Utc] = pa.Field(nullable=True, description="when that was found")
    wind_speed_ms_spiked: Series[float] = pa.Field(nullable=True, description="likewise")
    wind_speed_ms_spiked_at: Series[Utc] = pa.Field(nullable=True, description="likewise")
    label: Series[str] = pa.Field(
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
    source_file: Series[str]
    source_row: Series[int]
    reason: Series[str] = pa.Field(description="a code: see docs/glossary.md")
    detail: Series[str]
    raw: Series[str] = pa.Field(description="the row as it came, JSON")


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
    """One row per farm, turbine, signal and stretch of time whose values are in another unit than the card says."""

    farm_id: Series[str]
    turbine_id: Series[str]
    signal: Series[str]
    unit: Series[str] = pa.Field(description="the card's")
    suspected_unit: Series[str]
    since: Series[Utc] = pa.Field(nullable=True, description="null: from its first day on")
    found_at: Series[Utc] = pa.Field(
        description="the evidence of some days was there; found from what was there by then"
    )
    until: Series[Utc] = pa.Field(nullable=True, description="null: it has not ended")
    evidence: Series[str] = pa.Field(description="what the days say by which it was found, JSON")


class PowerCurve(Contract):
    """One row per farm, calibration and bin of wind speed: power of a turbine as a share of its rated power."""

    farm_id: Series[str]
    fitted_at: Series[Utc]
    wind_speed_ms: Series[float] = pa.Field(ge=0, description="centre of the bin (IEC 61400-12-1: 0.5 m/s wide)")
    power_share: Series[float] = pa.Field(description="median of the bin")
    low_share: Series[float] = pa.Field(description="below it a point is off the curve")
    high_share: Series[float] = pa.Field(description="above it a point is off the curve")
    rows: Series[int] = pa.Field(ge=0)


# --- 03 primary --------------------------------------------------------------------------------------------------------


class Observations(Contract):
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
    coverage_share: Series[float] = pa.Field(
        gt=0, le=1, description="share of the expected turbine intervals behind it"
    )
    turbines: Series[int] = pa.Field(gt=0, description="behind power_kw")
    stopped_share: Series[float] = pa.Field(ge=0, le=1, description="of the expected turbine intervals")
    curtailed_share: Series[float] = pa.Field(
        ge=0, le=1, description="of the expected turbine intervals: curtailed or derated"
    )
    imputed_share: Series[float] = pa.Field(
        ge=0, lt=1, description="share of available_capacity_kw filled in from the other turbines: never an actual"
    )

    class Config:
        """The key."""

        unique = ["entity_id", "granularity_minutes", "valid_at", "available_at"]


class Weather(Contract):
    """One row per farm, weather model, point, run, valid time and version: a revision is a row with a later `available_at`."""

    farm_id: Series[str]
    weather_model: Series[str]
    weather_point: Series[str]
    run_at: Series[Utc]
    available_at: Series[Utc]
    valid_at: Series[Utc]
    is_analysis: Series[bool] = pa.Field(
        description="never was a forecast: all that is made of it is 'perfect weather'"
    )
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

    class Config:
        """The key."""

        unique = ["farm_id", "weather_model", "weather_point", "run_at", "valid_at", "available_at"]


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


class Readiness(Contract):
    """One row per farm and `assessed_at`: what was known of its data then, and which tier of model it may have."""

    farm_id: Series[str]
    assessed_at: Series[Utc] = pa.Field(description="as of which time: the run's, and the training time if another")
    tier: Series[str] = pa.Field(isin=TIERS)
    reason: Series[str] = pa.Field(description="in words, with number and threshold")
    history_days: Series[float] = pa.Field(ge=0, description="from the first interval observed to the end of the last")
    learnable_days: Series[float] = pa.Field(ge=0, description="hours with both power and weather, in days")
    coverage_share: Series[float] = pa.Field(
        nullable=True, ge=0, le=1, description="of what its turbines should have sent"
    )
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
    missing_runs: Series[int] = pa.Field(ge=0, description="weather runs between its first and now that never came")
    best_point: Series[str] = pa.Field(description="model/point of its own that fits best, or ''")
    best_correlation: Series[float] = pa.Field(nullable=True, ge=-1, le=1)
    other_farm: Series[str] = pa.Field(description="the other farm whose weather fits best, or ''")
    other_correlation: Series[float] = pa.Field(nullable=True, ge=-1, le=1)
    wrong_point: Series[bool] = pa.Field(description="another farm's weather fits clearly better, month by month")

    class Config:
        """The key."""

        unique = ["farm_id", "assessed_at"]


class WeatherFit(Contract):
    """One row per farm, `assessed_at` and weather point compared: how well its wind explains the farm's power."""

    farm_id: Series[str]
    assessed_at: Series[Utc]
    weather_model: Series[str]
    weather_point: Series[str]
    of_farm: Series[str] = pa.Field(description="whose point it is")
    distance_km: Series[float] = pa.Field(
        nullable=True, ge=0, description="between the two farms; null: a place is not known"
    )
    correlation: Series[float] = pa.Field(nullable=True, ge=-1, le=1, description="null: too few hours")
    hours: Series[int] = pa.Field(ge=0, description="hours compared")
    rank: Series[int] = pa.Field(gt=0, description="among all points of the fleet; 1 fits best, equals share theirs")
    better_months_share: Series[float] = pa.Field(
        nullable=True, ge=0, le=1, description="of months in which it fits better than the farm's best; null: its own"
    )

    class Config:
        """The key."""

        unique = ["farm_id", "assessed_at", "weather_model", "weather_point", "of_farm"]


# --- 04 feature, 05 model input ------------------------------------------------------------------------------------------


class Features(pa.DataFrameModel):
    """One row per product, entity, issue time and interval: what was known at the issue time, all numbers.

    The feature columns follow from `parameters_features.yml`; the keys are fixed. A missing value means 'not known then'.
    """

    product_id: Series[str]
    entity_id: Series[str]
    issued_at: Series[Utc]
    valid_at: Series[Utc]
    lead_minutes: Series[int] = pa.Field(ge=0)
    weather_run_at: Series[Utc] = pa.Field(nullable=True, description="newest run behind the row")

    class Config:
        """The key; feature columns are free."""

        strict = False
        coerce = True
        unique = ["product_id", "entity_id", "issued_at", "valid_at"]


class ModelInput(Features):
    """One row of `Features` with what came, as known when training."""

    target_available_at: Series[Utc] = pa.Field(
        description="when that observation could be read: a fold may use it from then on"
    )
    power_share: Series[float] = pa.Field(description="power as a share of the capacity that was available")
    available_capacity_kw: Series[float] = pa.Field(gt=0)


# --- 06 models, 07 model output ------------------------------------------------------------------------------------------


class Admissions(Contract):
    """One row per product, entity and candidate: whether the entity's data allows it, as of the training time."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")
    needs: Series[str] = pa.Field(isin=TIERS, description="the least tier for it")
    tier: Series[str] = pa.Field(isin=TIERS, description="what the entity may have")
    admitted: Series[bool]
    needs_history: Series[bool] = pa.Field(description="whether the candidate needs a history of the entity's own")
    reason: Series[str] = pa.Field(description="why the entity has its tier")

    class Config:
        """The key."""

        unique = ["product_id", "entity_id", "model"]


class Trials(Contract):
    """One row per candidate and trial: settings, and the loss of what they would have forecast before what is judged."""

    model: Series[str] = pa.Field(description="name of the candidate")
    trial: Series[int] = pa.Field(ge=0, description="number of the trial in its search; 0: the settings as they are")
    settings: Series[str] = pa.Field(description="JSON")
    loss_share: Series[float] = pa.Field(
        nullable=True, ge=0, description="mean pinball loss; missing: the trial failed"
    )
    seconds: Series[float] = pa.Field(nullable=True, ge=0)
    fault: Series[str] = pa.Field(description="why it failed; '': it did not")

    class Config:
        """The key."""

        unique = ["model", "trial"]


class ReplayFolds(Contract):
    """One row per product, entity, candidate and fold of the replay: what it had learnt from."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")
    fold_begin: Series[Utc] = pa.Field(description="it was fitted as of then")
    fold_end: Series[Utc] = pa.Field(description="it forecast the issues before then")
    known_until: Series[Utc] = pa.Field(description="when the newest outcome that it learnt from became known")
    trained_through: Series[Utc] = pa.Field(description="the last interval that it has seen")
    rows: Series[int] = pa.Field(gt=0, description="learnt from")

    class Config:
        """The key."""

        unique = ["product_id", "entity_id", "model", "fold_begin"]


class Judgements(Contract):
    """One row per product, entity and challenger: what the gate finds beside the champion's candidate, issue by issue."""

    product_id: Series[str]
    entity_id: Series[str]
    decided_at: Series[Utc] = pa.Field(description="the training time")
    champion: Series[str] = pa.Field(description="the candidate that the entity has; '': none yet")
    challenger: Series[str]
    issues: Series[int] = pa.Field(ge=0, description="paired")
    champion_score: Series[float] = pa.Field(nullable=True, description="mean loss by issue")
    challenger_score: Series[float] = pa.Field(nullable=True)
    gain_share: Series[float] = pa.Field(nullable=True, description="1 - challenger / champion")
    p_value: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="of so large a gain by chance")
    p_adjusted: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="for all that is judged with it")
    bias_excess_share: Series[float] = pa.Field(nullable=True)
    coverage_excess_share: Series[float] = pa.Field(nullable=True)
    strong_wind_excess_share: Series[float] = pa.Field(nullable=True)
    change_excess_share: Series[float] = pa.Field(nullable=True)
    worst_excess_share: Series[float] = pa.Field(nullable=True)
    code: Series[str] = pa.Field(description="what decides: see docs/glossary.md")
    detail: Series[str]

    class Config:
        """The key."""

        unique = ["product_id", "entity_id", "challenger"]


class Decisions(Contract):
    """One row per product, entity, training and challenger: what was found, and what was decided. A history."""

    product_id: Series[str]
    entity_id: Series[str]
    decided_at: Series[Utc] = pa.Field(description="the training time")
    champion: Series[str] = pa.Field(description="the candidate that the entity had; '': none")
    challenger: Series[str] = pa.Field(description="a candidate; where the code is 'held', the champion itself")
    issues: Series[int] = pa.Field(ge=0, description="paired; 0: nothing was compared")
    champion_score: Series[float] = pa.Field(nullable=True)
    challenger_score: Series[float] = pa.Field(nullable=True)
    gain_share: Series[float] = pa.Field(nullable=True)
    p_value: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    p_adjusted: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    bias_excess_share: Series[float] = pa.Field(nullable=True)
    coverage_excess_share: Series[float] = pa.Field(nullable=True)
    strong_wind_excess_share: Series[float] = pa.Field(nullable=True)
    change_excess_share: Series[float] = pa.Field(nullable=True)
    worst_excess_share: Series[float] = pa.Field(nullable=True)
    promoted: Series[bool] = pa.Field(description="the entity gets this candidate")
    code: Series[str] = pa.Field(isin=sorted(REASONS), description="what decided: see docs/glossary.md")
    reason: Series[str] = pa.Field(description="in words")

    class Config:
        """The key."""

        unique = ["product_id", "entity_id", "decided_at", "challenger"]


class Accuracy(Contract):
    """One row per product and entity: the deciding score of its chosen model cross-validated, replayed, and as operated."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")
    deciding_score: Series[str]
    cross_validated: Series[float] = pa.Field(
        description="mean loss: learnt from before and after, weather always there"
    )
    replayed: Series[float] = pa.Field(description="of the same intervals: learnt and read as known then")
    operational: Series[float] = pa.Field(description="besides, fallbacks where no weather run reached an interval")
    gap_share: Series[float] = pa.Field(nullable=True, description="operational / cross_validated - 1")
    intervals: Series[int] = pa.Field(ge=0, description="behind the operational score")
    fallback_share: Series[float] = pa.Field(ge=0, le=1, description="of the intervals, those where a fallback spoke")

    class Config:
        """The key."""

        unique = ["product_id", "entity_id"]


class Interventions(Contract):
    """One row per thing that somebody decided about an entity's models. Append-only."""

    intervention: Series[int] = pa.Field(ge=1, description="its number")
    recorded_at: Series[Utc] = pa.Field(description="wall clock")
    effective_at: Series[Utc] = pa.Field(description="trainings as of then and later heed it")
    kind: Series[str] = pa.Field(isin=sorted(KINDS), description="see docs/glossary.md")
    product_id: Series[str] = pa.Field(description="'': all products")
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="the candidate it is about; '': none")
    begin: Series[Utc] = pa.Field(nullable=True, description="of the span that it is about")
    end: Series[Utc] = pa.Field(nullable=True, description="likewise, exclusive")
    author: Series[str] = pa.Field(str_length={"min_value": 1})
    reason: Series[str] = pa.Field(str_length={"min_value": 1})

    class Config:
        """The key."""

        unique = ["intervention"]


class Choices(Contract):
    """One row per product and entity: the candidate that is to forecast it, and why."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")
    deciding_score: Series[str]
    score: Series[float] = pa.Field(nullable=True, description="of the replay, out of sample; null: not replayed yet")
    champion_score: Series[float] = pa.Field(
        nullable=True, description="of the model it had to beat, on the same issues"
    )
    reason: Series[str]


class Promotions(Contract):
    """One row per promotion, product and entity: from `promoted_at` on, this version forecasts. Append-only, each whole."""

    promotion: Series[int] = pa.Field(ge=1, description="its number: of two that hold at a time, the greater counts")
    parent: Series[int] = pa.Field(ge=0, description="the newest promotion that it knew of; 0: there was none")
    action: Series[str] = pa.Field(isin=["train", "rollback"], description="what made it")
    author: Series[str] = pa.Field(description="who; '': nobody but the gate")
    product_id: Series[str]
    entity_id: Series[str]
    promoted_at: Series[Utc]
    model: Series[str] = pa.Field(description="name of the candidate")
    model_version: Series[str] = pa.Field(description="version in the model registry")
    run_id: Series[str] = pa.Field(description="MLflow run of the training that made the entity's model")
    trained_through: Series[Utc] = pa.Field(description="the last interval that model has seen")
    available_at: Series[Utc] = pa.Field(description="when it could first be used")
    deciding_score: Series[str]
    score: Series[float] = pa.Field(nullable=True, description="of the replay, out of sample; null: not replayed yet")
    champion_score: Series[float] = pa.Field(
        nullable=True, description="of the model it had to beat, on the same issues"
    )
    reason: Series[str]
    recorded_at: Series[Utc] = pa.Field(description="wall clock")
    manifest_sha256: Series[str] = pa.Field(
        description="digest of the version's manifest; '': not known, so it is refused"
    )
    # Made by the log when it writes the entry (`governance.promotions`).
    chain: Series[str] | None = pa.Field(description="id of the chain of promotions")
    previous_sha256: Series[str] | None = pa.Field(str_length=64, description="digest of the entry before")
    key_id: Series[str] | None = pa.Field(description="of the key that signed the entry")
    signature: Series[str] | None = pa.Field(str_length=128, description="Ed25519, of the entry and previous_sha256")

    class Config:
        """The key."""

        unique = ["promotion", "product_id", "entity_id"]


class ModelFailures(Contract):
    """One row per stored model that could not be used where the last run of forecasting needed it."""

    product_id: Series[str] = pa.Field(description="'': the log of promotions itself")
    entity_id: Series[str]
    model_version: Series[str] = pa.Field(description="version in the model registry; '': not known")
    model: Series[str] = pa.Field(description="name of the candidate")
    role: Series[str] = pa.Field(isin=["champion", "fallback", "promotions"], description="what it was needed as")
    message: Series[str] = pa.Field(description="product, entity, version and why")
    raised_at: Series[Utc] = pa.Field(description="as_of of the run")

    class Config:
        """The key."""

        unique = ["product_id", "entity_id", "model_version", "model", "role", "message"]


class Forecasts(pa.DataFrameModel):
    """One row per product, entity, model, issue time and interval: quantiles in kW, a column a level (`quantile_column`)."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str]
    model_version: Series[str] = pa.Field(description="version in the registry, or 'replay'")
    issued_at: Series[Utc]
    valid_at: Series[Utc]
    lead_minutes: Series[int] = pa.Field(ge=0)
    capacity_kw: Series[float] = pa.Field(gt=0)
    weather_run_at: Series[Utc] = pa.Field(nullable=True)
    fallback: Series[str] = pa.Field(
        description="'' or the model that stood in for the champion; of a portfolio, what it lacks"
    )
    weather: Series[str] = pa.Field(isin=[PERFECT_WEATHER, FORECAST_WEATHER])
    median: Series[float] = pa.Field(
        alias=quantile_column(0.5), ge=0, description="every product declares it: the point forecast"
    )
    quantiles: Series[float] = pa.Field(
        alias=r"^q\d{3}_kw$",
        regex=True,
        ge=0,
        nullable=True,
        description="null where the product does not declare the level",
    )

    class Config:
        """The key."""

        strict = True
        coerce = True
        unique = ["product_id", "entity_id", "model", "issued_at", "valid_at"]


class ShadowForecasts(Forecasts):
    """One row per product, entity, model, issue time and interval: a shadow's forecast, or what the champion issued beside it."""

    role: Series[str] = pa.Field(isin=["shadow", "champion"], description="only the champion's was sent")


class Drivers(Contract):
    """One row per product, entity, issue time, interval and driver: by how much it moved the median. They add up to it."""

    product_id: Series[str]
    entity_id: Series[str]
    issued_at: Series[Utc]
    valid_at: Series[Utc]
    model: Series[str]
    model_version: Series[str]
    driver: Series[str] = pa.Field(description="a group of features (parameters_drivers.yml), 'base' or 'corrections'")
    contribution_kw: Series[float] = pa.Field(description="of the median")
    feature: Series[str] = pa.Field(
        description="the feature of the group that moved it most; of 'base', who of a blend could say; '' where there is none"
    )
    feature_value: Series[float] = pa.Field(
        nullable=True, description="its value, in its own unit; null: not known then"
    )

    class Config:
        """The key."""

        unique = ["product_id", "entity_id", "issued_at", "valid_at", "driver"]


class Scores(Contract):
    """One row per product, entity, model, period, bucket of lead time, metric and quantile level."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str]
    period: Series[str] = pa.Field(description="'all', or the month or day of issue")
    lead_from_minutes: Series[int] = pa.Field(ge=0)
    lead_to_minutes: Series[int] = pa.Field(gt=0, description="exclusive")
    metric: Series[str] = pa.Field(description="see docs/glossary.md")
    level: Series[float] = pa.Field(
        nullable=True, ge=0, le=1, description="quantile level or nominal coverage, where the metric has one"
    )
    value: Series[float] = pa.Field(nullable=True)
    n: Series[int] = pa.Field(ge=0, description="intervals behind the value")
    weather: Series[str] = pa.Field(isin=[PERFECT_WEATHER, FORECAST_WEATHER])


class LiveJudgements(Contract):
    """One row per product, entity and model that issued: what it lost, what its replay lost in such weather, and the verdict."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str]
    issues: Series[int] = pa.Field(ge=0, description="issues compared")
    intervals: Series[int] = pa.Field(ge=0)
    loss: Series[float] = pa.Field(ge=0, description="error of the median for nMAE, else mean quantile loss; share")
    replay_loss: Series[float] = pa.Field(nullable=True, ge=0, description="of the whole replay; null: not comparable")
    expected_loss: Series[float] = pa.Field(
        nullable=True, ge=0, description="of the replay in the weather that was met"
    )
    excess_share: Series[float] = pa.Field(nullable=True, description="of the expected loss; positive: worse")
    p_value: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="one-sided, of the excess")
    verdict: Series[str] = pa.Field(isin=["as_promised", "behind", "weather", "unknown"])

    class Config:
        """The key."""

        unique = ["product_id", "entity_id", "model"]


class Outliers(Contract):
    """One row per product, entity and interval forecast worse than the replay nearly ever did: its weather, and the verdict."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str]
    model_version: Series[str]
    issued_at: Series[Utc]
    valid_at: Series[Utc]
    lead_minutes: Series[int] = pa.Field(ge=0)
    loss: Series[float] = pa.Field(ge=0, description="as in `LiveJudgements`")
    expected_loss: Series[float] = pa.Field(nullable=True, ge=0, description="null: weather the replay never met")
    median_share: Series[float] = pa.Field(description="forecast")
    actual_share: Series[float]
    wind_speed_ms: Series[float] = pa.Field(nullable=True, description="at 100 m, as forecast at the issue")
    wind_rank: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="share of the replay's that were less")
    ramp_ms: Series[float] = pa.Field(nullable=True, ge=0, description="steepest change to a neighbouring interval")
    ramp_rank: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    spread_ms: Series[float] = pa.Field(nullable=True, ge=0, description="of the weather models; null: there is one")
    spread_rank: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    later_wind_speed_ms: Series[float] = pa.Field(nullable=True, description="of the newest run known by now")
    measured_wind_speed_ms: Series[float] = pa.Field(nullable=True)
    coverage_share: Series[float] = pa.Field(gt=0, le=1)
    stopped_share: Series[float] = pa.Field(ge=0, le=1)
    curtailed_share: Series[float] = pa.Field(ge=0, le=1)
    verdict: Series[str] = pa.Field(isin=["data", "availability", "storm", "weather", "model"])
    evidence: Series[str]

    class Config:
        """The key."""

        unique = ["product_id", "entity_id", "valid_at"]


class Incidents(Contract):
    """One row per thing that somebody should know: what, where, how much, what shows it, and what to do."""

    raised_at: Series[Utc] = pa.Field(description="as of which time")
    entity_id: Series[str]
    product_id: Series[str] = pa.Field(description="'' where no product is concerned")
    kind: Series[str] = pa.Field(description="a code: see docs/glossary.md")
    subject: Series[str] = pa.Field(description="of a kind what it concerns: a signal, candidate or channel; or ''")
    severity: Series[str] = pa.Field(isin=["info", "warning", "error"])
    amount: Series[float] = pa.Field(nullable=True, description="how much, a share; null: not a matter of more or less")
    message: Series[str]
    evidence: Series[str]
    action: Series[str]


class Alarms(Contract):
    """One row per incident and channel that was to be told: whether it was. Append-only."""

    raised_at: Series[Utc] = pa.Field(description="of the incident")
    channel: Series[str]
    incident: Series[str] = pa.Field(description="names an incident across runs: of kind, entity, product and subject")
    kind: Series[str]
    entity_id: Series[str]
    product_id: Series[str]
    subject: Series[str]
    severity: Series[str] = pa.Field(isin=["info", "warning", "error"])
    amount: Series[float] = pa.Field(nullable=True)
    outcome: Series[str] = pa.Field(isin=["sent", "failed"])
    attempts: Series[int] = pa.Field(ge=0)
    fault: Series[str] = pa.Field(description="why it failed; '': it did not")
    recorded_at: Series[Utc] = pa.Field(description="wall clock")

    class Config:
        """The key."""

        unique = ["raised_at", "channel", "incident", "outcome"]


class Audit(Contract):
    """One row per product, entity and issue that a run made: everything that it was made from. A chain of hashes, append-only."""

    product_id: Series[str]
    entity_id: Series[str]
    issued_at: Series[Utc]
    model: Series[str]
    model_version: Series[str]
    run_id: Series[str] = pa.Field(description="MLflow run that fitted the model")
    fallback: Series[str]
    forecast_sha256: Series[str] = pa.Field(description="of the quantiles issued")
    features_sha256: Series[str] = pa.Field(description="of the features that the model saw")
    data_sha256: Series[str] = pa.Field(description="of the raw files of its farms")
    weather_runs: Series[str] = pa.Field(description="newest run that was there, by farm/model/point, JSON")
    weather_runs_missing: Series[str] = pa.Field(description="runs of the last day that were due and not there, JSON")
    as_of: Series[Utc] = pa.Field(description="of the run that issued it")
    recorded_at: Series[Utc] = pa.Field(description="wall clock")
    git_commit: Series[str]
    configuration_sha256: Series[str]
    lock_sha256: Series[str]
    python: Series[str]
    platform: Series[str]
    libraries: Series[str] = pa.Field(description="versions, JSON")
    sequence: Series[int] = pa.Field(gt=0, description="number of the record")
    supersedes: Series[int] = pa.Field(ge=0, description="number of the record about the same issue before; 0: none")
    previous_sha256: Series[str] = pa.Field(str_length=64)
    sha256: Series[str] = pa.Field(str_length=64, description="of the record with its number and previous_sha256")

    class Config:
        """The key."""

        unique = ["sequence"]


class AuditRecords:
    """Records on their way into the chain, which have no links yet, or out of it, with them."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` in the types of `Audit`; raise where it breaks the contract."""
        if "sequence" in data:
            return Audit.validate(data)
        links = {"sequence": range(1, len(data) + 1), "supersedes": 0, "previous_sha256": "0" * 64, "sha256": "0" * 64}
        return Audit.validate(data.assign(**links)).drop(columns=list(links))


# --- not tables: what else the catalog holds -------------------------------------------------------------------------------


class ModelsInRegistry:
    """The fleet's model on its way into the registry, or all versions on their way out."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it can be saved and loaded, or asked for versions; raise `TypeError` otherwise."""
        if not (hasattr(data, "save") and hasattr(data, "trained_through")) and not hasattr(data, "newest"):
            raise TypeError(f"a fleet model or its versions, not {type(data).__name__}")
        return data


class VersionNumber:
    """A version of a registered model: a whole number, as text."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it is one; raise `ValueError` otherwise."""
        if not (isinstance(data, str) and data.isdigit()):
            raise ValueError(f"a version number, not {data!r}")
        return data


class TrialStorage:
    """A storage of Optuna."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if studies can be kept in it; raise `TypeError` otherwise."""
        if not hasattr(data, "create_new_study"):
            raise TypeError(f"a storage of Optuna, not {type(data).__name__}")
        return data


class TunedSettings:
    """A block of `parameters_training.yml`: candidates by name, each with its type."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it is one; raise `ValueError` otherwise."""
        try:
            candidates = data["training"]["candidates"]
            whole = bool(candidates) and all("type" in candidate for candidate in candidates.values())
        except (KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise ValueError(f"a block of candidates, not {data!r}")
        return data


class TrainingMetrics:
    """Metrics of a training run: one finite number a name."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if all are finite; raise `ValueError` otherwise."""
        wrong = [name for name, point in data.items() if not math.isfinite(point["value"])]
        if wrong:
            raise ValueError(f"not a finite number: {', '.join(wrong)}")
        return data
