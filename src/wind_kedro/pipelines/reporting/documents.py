"""Schema of the summary, a machine-readable document of the report, and its validator."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER
from wind_kedro.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from plotly import graph_objects as go

    Figure: TypeAlias = go.Figure
    Table: TypeAlias = ir.Table
else:
    # Kedro resolves the type hints of nodes when a run starts, so the names must exist; importing Plotly and Ibis here would
    # slow down every command.
    Figure = Table = Any

# --- the summary ------------------------------------------------------------------------------------------------------


Weather = Literal["perfect weather", "forecast weather"]
Severity = Literal["error", "warning", "info"]
Share = Annotated[float, Field(ge=0, le=1)]


class Warned(Strict):
    """A warning: an open incident, or a problem found in the report's tables."""

    raised_at: dt.datetime = Field(description="as_of of the run that found it last")
    opened_at: dt.datetime | None = Field(None, description="when it was opened; null: not raised by monitoring")
    severity: Severity
    kind: str = Field(description="a code: see docs/glossary.md")
    entity_id: str
    product_id: str = Field(description="'' if it concerns no product")
    message: str
    evidence: str = Field("", description="numbers that support it, or ''")
    action: str = Field(description="action to take, or ''")


class ClockFacts(Strict):
    """Calibration of a farm's clock, from comparing its wind with that of the weather."""

    fitted_at: dt.datetime
    reading: str = Field(description="the reading of time stamps that fits the weather best, which is used")
    assumed: str = Field(description="the reading on the farm's card")
    agrees: bool
    offset_minutes: float = Field(description="remaining misalignment; positive: signals are late")
    correlation: float | None = Field(description="of the farm's wind with that of the weather under this reading")
    hours_compared: int


class CheckFacts(Strict):
    """One check of data quality."""

    source_table: str
    check: str = Field(description="a code: see docs/glossary.md")
    signal: str = Field(description="the column it concerns, or 'row'")
    count: int = Field(ge=0)
    of: int = Field(ge=0)
    severity: Severity
    message: str


class ReadinessFacts(Strict):
    """Tier of model that a farm's data allows, with the reason."""

    assessed_at: dt.datetime
    tier: Literal["none", "physical", "global", "blended", "local"]
    reason: str
    learnable_days: float = Field(ge=0, description="hours with both power and weather, in days")
    wrong_point: bool = Field(description="another farm's weather explains its power clearly better")


class FarmFacts(Strict):
    """One farm."""

    farm_id: str
    name: str
    latitude_deg: float | None
    longitude_deg: float | None
    capacity_kw: float
    turbines: int
    hub_height_m: float | None
    time_zone: str
    weather: Weather
    attribution: str | None
    observed_from: dt.datetime | None
    observed_to: dt.datetime | None = Field(description="end of the last interval observed")
    mean_power_share: float | None = Field(description="mean power as a share of capacity, over all observations")
    readings_share: Share | None = Field(description="share of the expected turbine readings that arrived and were usable")
    clock: ClockFacts | None
    readiness: ReadinessFacts | None = Field(description="null: not assessed yet")
    data_quality: list[CheckFacts]
    set_aside_rows: dict[str, int] = Field(description="rows in quarantine, by reason")


class EnergyFacts(Strict):
    """Energy expected over a period, with its range."""

    kind: Literal["day", "horizon"] = Field(description="a calendar day of the market, or the whole forecast")
    start: dt.datetime
    end: dt.datetime = Field(description="exclusive")
    expected_mwh: float = Field(description="sum of the medians")
    low_mwh: float
    high_mwh: float
    nominal_share: Share = Field(description="nominal coverage of the range from low to high")
    full_load_share: float = Field(description="expected energy as a share of that at full power")
    past_issues: int = Field(description="past issues used to calibrate the range; 0: sums of the hourly limits, too wide")


class ForecastFacts(Strict):
    """The newest forecast of a member."""

    issued_at: dt.datetime
    revision: int = Field(description="number of the revision; 0: the issue itself")
    revised_issue_at: dt.datetime = Field(description="the issue that it revises; its own time if it revises none")
    rung: str = Field(description="of its first interval: champion, fallback or climatology")
    first_valid_at: dt.datetime
    last_valid_at: dt.datetime
    model: str
    model_version: str
    fallback: str = Field(description="'' or the model used instead of the champion; of a portfolio, what is missing")
    energy: EnergyFacts


class ScoreFacts(Strict):
    """One model's scores over all lead times, means weighted by the number of intervals."""

    model: str
    weather: Weather
    intervals: int
    nmae_share: float | None
    pinball_share: float | None
    bias_share: float | None
    coverage_share: float | None = Field(description="share of actuals within the band of `band_share`")


class ModelFacts(Strict):
    """The model in operation, and its promotion."""

    model: str
    model_version: str
    run_id: str
    promoted_at: dt.datetime
    trained_through: dt.datetime
    deciding_score: str
    score: float | None = Field(description="in the backtest, out of sample")
    champion_score: float | None = Field(description="of the previous champion, on the same issues")
    reason: str


class MemberFacts(Strict):
    """One member of a product: a farm or a group, as sold."""

    product_id: str
    product_name: str
    entity_id: str
    entity_name: str
    market: str
    capacity_kw: float
    granularity_minutes: int
    horizon_minutes: int
    deciding_score: str
    goal: float
    goal_since: dt.date
    weather: Weather
    headline: str
    portfolio_of: list[str] = Field(description="farms whose forecasts are combined to its own; empty: it has its own model")
    forecast: ForecastFacts | None
    model: ModelFacts | None
    backtest: list[ScoreFacts]
    live: list[ScoreFacts]


class OutlierFacts(Strict):
    """An hour with an error that is extreme compared with the backtest, with its weather."""

    product_id: str
    entity_id: str
    issued_at: dt.datetime
    valid_at: dt.datetime
    median_share: float = Field(description="forecast, of capacity")
    actual_share: float = Field(description="of the capacity available")
    wind_speed_ms: float | None = Field(description="at 100 m, as forecast at the issue")
    wind_rank: float | None = Field(description="share of the backtest's intervals with less wind")
    ramp_ms: float | None = Field(description="steepest change of wind to a neighbouring interval")
    verdict: Literal["data", "availability", "storm", "weather", "model"]
    evidence: str


class FailureFacts(Strict):
    """A failure at one or several issues, in the newest run of its stage."""

    stage: str = Field(description="of the run: see docs/glossary.md")
    code: str = Field(description="what failed: see docs/glossary.md")
    severity: Literal["error", "warning"]
    product_id: str = Field(description="'': all products")
    entity_id: str = Field(description="farm or group; '': none in particular")
    issues: int = Field(ge=0, description="number of issue times affected; 0: none in particular")
    first_issue: dt.datetime | None
    last_issue: dt.datetime | None
    raised_at: dt.datetime = Field(description="as_of of the run")
    message: str
    action: str = Field(description="action to take")


class Summary(Strict):
    """Machine-readable facts of the report: one document per run, as of one time. Times are UTC, ISO 8601."""

    schema_version: Literal["1"] = "1"
    as_of: dt.datetime
    weather: Weather = Field(description="'perfect weather' if any number is based on weather that was not a forecast")
    band_share: Share = Field(description="nominal coverage of every band in this document")
    monitored_at: dt.datetime | None = Field(description="of the newest run of monitoring; null: it has not run")
    inputs: dict[Literal["observations", "forecasts", "weather_run", "readiness"], dt.datetime | None] = Field(
        description="time of the newest row of each input; null: there is none"
    )
    warnings: list[Warned] = Field(description="incidents open as of `monitored_at`, and problems found in the report's tables")
    failures: list[FailureFacts] = Field(description="failures in the newest run of each stage known to monitoring, errors first")
    farms: list[FarmFacts]
    members: list[MemberFacts]
    outliers: list[OutlierFacts] = Field(description="the worst hours of issued forecasts, worst first")
    attributions: list[str] = Field(description="attributions required wherever the data is shown")


class SummaryDocument:
    """Validator of ``summary`` against its schema."""

    def validate(self, data: Any) -> Any:
        """Return ``data``; raise `pydantic.ValidationError` if it violates the schema."""
        Summary.model_validate(data)
        return data


def summary_schema() -> str:
    """The JSON Schema of the summary, as committed in ``docs/summary.schema.json``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Summary.model_json_schema(mode="serialization")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def weather_label(perfect: bool) -> Weather:
    """Label of results based on such weather."""
    return PERFECT_WEATHER if perfect else FORECAST_WEATHER  # type: ignore[return-value]
