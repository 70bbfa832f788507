"""What the reporting room takes and gives: typed parameters, the summary for machines, the checks of its documents."""

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
    # Kedro resolves the hints of a node when a run starts, so the names must exist; importing Plotly and Ibis for them would
    # cost every command.
    Figure = Table = Any

# --- the summary ------------------------------------------------------------------------------------------------------


class Fact(Strict):
    """What all facts of the summary share."""


Weather = Literal["perfect weather", "forecast weather"]
Severity = Literal["error", "warning", "info"]
Share = Annotated[float, Field(ge=0, le=1)]


class Warned(Fact):
    """One thing that somebody should know."""

    raised_at: dt.datetime = Field(description="as of which time it was found last")
    opened_at: dt.datetime | None = Field(None, description="since when it is open; null: not a matter of monitoring")
    severity: Severity
    kind: str = Field(description="a code: see docs/glossary.md")
    entity_id: str
    product_id: str = Field(description="'' where no product is concerned")
    message: str
    evidence: str = Field("", description="what shows it, or ''")
    action: str = Field(description="what to do, or ''")


class ClockFacts(Fact):
    """How a farm's time stamps are meant, found by comparing its wind with the weather's."""

    fitted_at: dt.datetime
    reading: str = Field(description="the reading that fits the weather best, and that was used")
    assumed: str = Field(description="the reading that the farm's card states")
    agrees: bool
    offset_minutes: float = Field(description="misalignment left; positive: signals are late")
    correlation: float | None = Field(description="of the farm's wind with the weather's, as read")
    hours_compared: int


class CheckFacts(Fact):
    """One check of data quality."""

    source_table: str
    check: str = Field(description="a code: see docs/glossary.md")
    signal: str = Field(description="the column it concerns, or 'row'")
    count: int = Field(ge=0)
    of: int = Field(ge=0)
    severity: Severity
    message: str


class ReadinessFacts(Fact):
    """Which model a farm may have, and why."""

    assessed_at: dt.datetime
    tier: Literal["none", "physical", "global", "blended", "local"]
    reason: str
    learnable_days: float = Field(ge=0, description="hours with both power and weather, in days")
    wrong_point: bool = Field(description="another farm's weather explains its power clearly better")


class FarmFacts(Fact):
    """One farm."""

    farm_id: str
    name: str
    latitude_deg: float | None
    longitude_deg: float | None
    capacity_kw: float
    turbines: int
    hub_height_m: float
    time_zone: str
    weather: Weather
    attribution: str | None
    observed_from: dt.datetime | None
    observed_to: dt.datetime | None = Field(description="end of the last interval observed")
    mean_power_share: float | None = Field(description="mean power as a share of capacity, over all that was observed")
    readings_share: Share | None = Field(
        description="share of the expected turbine readings that arrived and were usable"
    )
    clock: ClockFacts | None
    readiness: ReadinessFacts | None = Field(description="null: not assessed yet")
    data_quality: list[CheckFacts]
    set_aside_rows: dict[str, int] = Field(description="rows in quarantine, by reason")


class EnergyFacts(Fact):
    """Energy expected over a stretch of time, with its range."""

    kind: Literal["day", "horizon"] = Field(description="a calendar day of the market, or all that was forecast")
    start: dt.datetime
    end: dt.datetime = Field(description="exclusive")
    expected_mwh: float = Field(description="sum of the medians")
    low_mwh: float
    high_mwh: float
    nominal_share: Share = Field(description="how often the energy shall lie between low and high")
    full_load_share: float = Field(description="expected energy as a share of what full power would give")
    past_issues: int = Field(
        description="past issues whose outcome corrected the range; 0: sums of the hourly limits, too wide"
    )


class ForecastFacts(Fact):
    """The newest forecast of a member."""

    issued_at: dt.datetime
    first_valid_at: dt.datetime
    last_valid_at: dt.datetime
    model: str
    model_version: str
    fallback: str = Field(description="'' or the model that stood in for the champion; of a portfolio, what it lacks")
    energy: EnergyFacts


class ScoreFacts(Fact):
    """One model's scores over all lead times, means weighted by the number of intervals."""

    model: str
    weather: Weather
    intervals: int
    nmae_share: float | None
    pinball_share: float | None
    bias_share: float | None
    coverage_share: float | None = Field(description="how often the truth lay in the band of `band_share`")


class ModelFacts(Fact):
    """The model that forecasts now, and where it came from."""

    model: str
    model_version: str
    run_id: str
    promoted_at: dt.datetime
    trained_through: dt.datetime
    deciding_score: str
    score: float | None = Field(description="of the backtest, out of sample")
    champion_score: float | None = Field(description="of the model it had to beat, on the same issues")
    reason: str


class MemberFacts(Fact):
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
    portfolio_of: list[str] = Field(
        description="farms whose forecasts its own is made from; empty: it has a model of its own"
    )
    forecast: ForecastFacts | None
    model: ModelFacts | None
    backtest: list[ScoreFacts]
    live: list[ScoreFacts]


class OutlierFacts(Fact):
    """One hour that was forecast worse than the backtest nearly ever did, with its weather."""

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


class FailureFacts(Fact):
    """One thing that failed, at one or several issues, in the newest run of its stage."""

    stage: str = Field(description="of the run: see docs/glossary.md")
    code: str = Field(description="what failed: see docs/glossary.md")
    severity: Literal["error", "warning"]
    product_id: str = Field(description="'': all products")
    entity_id: str = Field(description="farm or group; '': none in particular")
    issues: int = Field(ge=0, description="how many issue times it concerns; 0: none in particular")
    first_issue: dt.datetime | None
    last_issue: dt.datetime | None
    raised_at: dt.datetime = Field(description="as_of of the run")
    message: str
    action: str = Field(description="what a person can do about it")


class Summary(Fact):
    """The report's facts for a machine: one document per run, as of one time. Times are UTC, ISO 8601."""

    schema_version: Literal["1"] = "1"
    as_of: dt.datetime
    weather: Weather = Field(
        description="'perfect weather' if any number was made from weather that never was a forecast"
    )
    band_share: Share = Field(description="nominal coverage of every band in this document")
    monitored_at: dt.datetime | None = Field(description="of the newest run of monitoring; null: it has not run")
    inputs: dict[Literal["observations", "forecasts", "weather_run", "readiness"], dt.datetime | None] = Field(
        description="how new the newest row of each input is; null: there is none"
    )
    warnings: list[Warned] = Field(description="what is open as of `monitored_at`, and what these tables show")
    failures: list[FailureFacts] = Field(
        description="what failed in the newest run of each stage that monitoring has seen, errors first"
    )
    farms: list[FarmFacts]
    members: list[MemberFacts]
    outliers: list[OutlierFacts] = Field(description="the worst hours of what was issued, worst first")
    attributions: list[str] = Field(description="what must be said wherever the data is shown")


class SummaryDocument:
    """The validator of ``summary``: the document obeys its schema."""

    def validate(self, data: Any) -> Any:
        """Return ``data``; raise `pydantic.ValidationError` where it breaks the schema."""
        Summary.model_validate(data)
        return data


def summary_schema() -> str:
    """The JSON Schema of the summary, as committed in ``docs/summary.schema.json``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Summary.model_json_schema(
        mode="serialization"
    )
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def weather_label(perfect: bool) -> Weather:
    """The label that everything made from such weather carries."""
    return PERFECT_WEATHER if perfect else FORECAST_WEATHER  # type: ignore[return-value]
